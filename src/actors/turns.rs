//! Fairness among the actors of one Arbiter.

use actix::fut::wrap_future;
use actix::{Actor, AsyncContext as _, Context};

/// Messages that an actor handles before others have a turn. A mailbox has no end of its own: actix goes on
/// until it is empty.
const MESSAGES_PER_TURN: u32 = 64;

/// Counts the messages of one turn.
#[derive(Debug, Default)]
pub struct Turns {
    handled: u32,
}

impl Turns {
    /// One message is being handled; after the last one of a turn the actor yields.
    pub fn count<A: Actor<Context = Context<A>>>(&mut self, ctx: &mut Context<A>) {
        self.handled += 1;
        if self.handled >= MESSAGES_PER_TURN {
            self.handled = 0;
            ctx.wait(wrap_future(tokio::task::yield_now()));
        }
    }
}
