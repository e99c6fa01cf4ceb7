//! One question, asked without the actor: for the command line.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use slog::Logger;
use tokio::time::timeout_at;

use super::name_servers::NameServers;
use crate::actors::state;
use crate::config::Dns;
use crate::protocol::interface::Interfaces;
use crate::protocol::next_hop::records::{Answer, Key, Records, Srv};
use crate::protocol::next_hop::resolver::{Output, Resolver};
use crate::protocol::next_hop::{Query, Resolution};

/// What has come of a question.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// The answer that a Router would get.
    pub resolution: Resolution,
    /// The look-ups that it took, in the order of their answers.
    pub looked_up: Vec<(Key, Answer)>,
}

impl Inquiry {
    /// The SRV records that were found, the best priority first.
    pub fn srv(&self) -> Vec<&Srv> {
        let records = self.looked_up.iter().filter_map(|(_, answer)| match answer {
            Ok(Records::Srv(srv)) => Some(srv),
            _ => None,
        });
        let mut all: Vec<&Srv> = records.flatten().collect();
        all.sort_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
        all
    }
}

/// Asks `query` of the name servers of `settings`. Servers that are `interfaces` of ours are left out.
pub async fn inquire(
    settings: &Dns,
    interfaces: Arc<Interfaces>,
    query: Query,
    log: &Logger,
) -> io::Result<Inquiry> {
    let mut core = Resolver::new(settings.timeout, interfaces, state::random()?);
    let name_servers = NameServers::new(settings, log);
    let (mut under_way, mut looked_up) = (FuturesUnordered::new(), Vec::new());
    core.handle_question(Instant::now(), (), query);
    loop {
        while let Some(output) = core.poll_output() {
            match output {
                Output::LookUp(key) => {
                    let answer = name_servers.look_up(key.clone());
                    under_way.push(async { (key, answer.await) });
                }
                Output::Resolved { resolution, .. } => return Ok(Inquiry { resolution, looked_up }),
                Output::Event(_) => {}
            }
        }
        let due = core.poll_timeout().expect("a question without an answer has a deadline");
        match timeout_at(due.into(), under_way.next()).await {
            Ok(Some((key, (answer, ttl)))) => {
                core.handle_answer(Instant::now(), &key, answer.clone(), ttl);
                looked_up.push((key, answer));
            }
            Ok(None) | Err(_) => core.handle_timeout(due),
        }
    }
}
