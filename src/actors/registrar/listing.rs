//! What the Registrar tells administrators, a bounded piece in each turn.

use std::time::Instant;

use actix::prelude::*;

use super::Registrar;
use crate::protocol::location::{AddressOfRecord, Page, Place, ServerListed};

/// Which UC servers are logged on? From Control.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<ServerListed>")]
pub struct ListServers {
    /// So many at most.
    pub count: usize,
}

/// Who is registered? From Control; one question for each piece.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Page")]
pub enum ListRegistrations {
    /// One address-of-record.
    Of(AddressOfRecord),
    /// The next ones.
    From {
        /// Where they begin.
        place: Place,
        /// So many addresses-of-record at most.
        count: usize,
    },
}

impl Handler<ListServers> for Registrar {
    type Result = Vec<ServerListed>;

    fn handle(&mut self, ListServers { count }: ListServers, ctx: &mut Context<Self>) -> Self::Result {
        self.turns.count(ctx);
        self.core.list_servers(count)
    }
}

impl Handler<ListRegistrations> for Registrar {
    type Result = MessageResult<ListRegistrations>;

    fn handle(&mut self, question: ListRegistrations, ctx: &mut Context<Self>) -> Self::Result {
        self.turns.count(ctx);
        let now = Instant::now();
        MessageResult(match question {
            ListRegistrations::Of(name) => self.core.list(now, &name),
            ListRegistrations::From { place, count } => self.core.list_page(now, &place, count),
        })
    }
}
