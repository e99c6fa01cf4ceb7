//! Stun: finds out the public address and the type of the NAT, at the start and every `stun.interval`.
//!
//! It shares a thread with a Router, to which it does nothing: it waits for answers, and for names in a thread that may
//! block.
//!
//! # Restart
//! What is lost: a question under way, which the next one begins anew. The supervisor has what was found, and is told
//! again.

mod ask;

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, info, warn};

pub use self::ask::{Finding, Obstacle, Question, ask};
use super::supervisor::{ChildId, ChildStopped};
use crate::protocol::stun::nat::Verdict;

/// Between a question that nobody has answered and the next; doubled with each further one, up to `stun.interval`.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);

/// What has been found. To the supervisor, after each question.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct NatDetermined(pub Verdict);

/// What a [`Stun`] is given.
pub struct StunSettings {
    /// Whom to ask.
    pub question: Question,
    /// `stun.interval`.
    pub interval: Duration,
    /// Its logger.
    pub log: Logger,
    /// Who is told.
    pub determined: Recipient<NatDetermined>,
    /// The supervisor.
    pub stopped: Recipient<ChildStopped>,
}

/// Asks the servers of `stun.servers`.
pub struct Stun {
    question: Arc<Question>,
    interval: Duration,
    back_off: Duration,
    /// The latest type, or why there was none: what is the same again is not worth a line.
    told: Option<String>,
    log: Logger,
    determined: Recipient<NatDetermined>,
    stopped: Recipient<ChildStopped>,
}

impl Stun {
    /// A Stun that asks when it starts.
    pub fn new(settings: StunSettings) -> Self {
        let StunSettings { question, interval, log, determined, stopped } = settings;
        let (question, back_off) = (Arc::new(question), FIRST_BACK_OFF.min(interval));
        Self { question, interval, back_off, told: None, log, determined, stopped }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        let question = Arc::clone(&self.question);
        let asked = async move { ask(&question).await }.into_actor(self);
        ctx.spawn(asked.map(|finding, stun, ctx| stun.found(&finding, ctx)));
    }

    fn found(&mut self, finding: &Finding, ctx: &mut Context<Self>) {
        self.tell(finding);
        self.determined.do_send(NatDetermined(finding.verdict));
        let wait = if finding.verdict.public.is_some() {
            self.back_off = FIRST_BACK_OFF.min(self.interval);
            self.interval
        } else {
            let wait = self.back_off;
            self.back_off = (wait * 2).min(self.interval);
            wait
        };
        ctx.run_later(wait, Self::ask);
    }

    fn tell(&mut self, finding: &Finding) {
        for (server, obstacle) in &finding.failures {
            debug!(self.log, "stun_server_failed"; "server" => %server, "reason" => %obstacle);
        }
        let Verdict { public, nat_type, .. } = finding.verdict;
        let reason = finding.reason();
        let said = format!("{nat_type} {reason}");
        if self.told.replace(said) == self.told {
            return;
        }
        match (public, &finding.server) {
            (Some(public), Some(server)) => {
                info!(self.log, "nat_determined"; "nat_type" => %nat_type, "public_address" => %public.ip(),
                    "server" => %server, "reason" => reason);
            }
            _ => warn!(self.log, "public_address_unknown"; "nat_type" => %nat_type, "reason" => reason,
                "remedy" => "let UDP out to the servers of stun.servers, or name others; `sip-proxy stun` asks them"),
        }
    }
}

impl Actor for Stun {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.ask(ctx);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.stopped.do_send(ChildStopped { child: ChildId::Stun, panicked: std::thread::panicking() });
    }
}
