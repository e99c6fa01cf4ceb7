//! Stun: finds out the public address and the type of the NAT, at the start and every `stun.interval`. Without servers it
//! waits until a reload names some.
//!
//! It shares a thread with a Router and hardly uses it: all that it does is wait. Names are looked up in a thread that
//! may block.
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
use crate::protocol::stun::nat::Verdict;

/// Between a question that nobody has answered and the next; doubled with each further one, up to `stun.interval`.
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);

/// What has been found. To the supervisor, after each question.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct NatDetermined {
    /// The address and the type.
    pub verdict: Verdict,
    /// Why one of them is missing; empty where there are both.
    pub reason: String,
}

/// From now on, this is the question: asked at once if it is another one, or has another interval. From the supervisor.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ApplyStun {
    /// Whom to ask; nobody where there are no servers.
    pub question: Question,
    /// `stun.interval`: what had to be waited for by another one is not waited for any more.
    pub interval: Duration,
}

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
}

/// Asks the servers of `stun.servers`.
pub struct Stun {
    question: Arc<Question>,
    interval: Duration,
    back_off: Duration,
    /// The latest type, or why there was none: what is the same again is not worth a line.
    told: Option<String>,
    /// The question under way, or the wait for the next.
    next: Option<SpawnHandle>,
    log: Logger,
    determined: Recipient<NatDetermined>,
}

impl Stun {
    /// A Stun that asks when it starts.
    pub fn new(settings: StunSettings) -> Self {
        let StunSettings { question, interval, log, determined } = settings;
        let (question, back_off) = (Arc::new(question), FIRST_BACK_OFF.min(interval));
        Self { question, interval, back_off, told: None, next: None, log, determined }
    }

    fn ask(&mut self, ctx: &mut Context<Self>) {
        if self.question.servers.is_empty() {
            return;
        }
        let question = Arc::clone(&self.question);
        let asked = async move { ask(&question).await }.into_actor(self);
        self.next = Some(ctx.spawn(asked.map(|finding, stun, ctx| stun.found(&finding, ctx))));
    }

    fn found(&mut self, finding: &Finding, ctx: &mut Context<Self>) {
        self.tell(finding);
        self.determined.do_send(NatDetermined { verdict: finding.verdict, reason: finding.reason() });
        let wait = if finding.verdict.public.is_some() {
            self.back_off = FIRST_BACK_OFF.min(self.interval);
            self.interval
        } else {
            let wait = self.back_off;
            self.back_off = (wait * 2).min(self.interval);
            wait
        };
        self.next = Some(ctx.run_later(wait, Self::ask));
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
}

impl Handler<ApplyStun> for Stun {
    type Result = ();

    fn handle(&mut self, ApplyStun { question, interval }: ApplyStun, ctx: &mut Context<Self>) {
        let is_same = (&question.servers, &question.local) == (&self.question.servers, &self.question.local);
        self.question = Arc::new(question);
        if std::mem::replace(&mut self.interval, interval) == interval && is_same {
            return;
        }
        if let Some(handle) = self.next.take() {
            ctx.cancel_future(handle);
        }
        self.back_off = FIRST_BACK_OFF.min(interval);
        if !is_same {
            self.told = None;
        }
        self.ask(ctx);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use tokio::time::Instant;

    use super::*;
    use crate::actors::testing::{log, probe};
    use crate::protocol::stun::{answer, nat::NatType};

    /// Answers requests, with an error where `answers` is false; at which second each question came, and what was found.
    async fn questions(answers: [bool; 6]) -> Vec<(u64, NatType, bool)> {
        tokio::time::pause();
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (determined, mut found) = probe();
        let settings = StunSettings {
            question: Question {
                servers: vec![server.local_addr().unwrap().to_string().parse().unwrap()],
                local: Vec::new(),
                look_up_time: Duration::from_secs(1),
            },
            interval: Duration::from_secs(60),
            log: log(),
            determined,
        };
        let start = Instant::now();
        Stun::new(settings).start();
        let mut questions = Vec::new();
        for is_answered in answers {
            let mut octets = [0; 100];
            let (length, source) = server.recv_from(&mut octets).await.unwrap();
            let at = start.elapsed().as_secs();
            let refusal = [&[1, 0x11, 0, 8][..], &octets[4..20], b"\0\x09\0\x04\0\0\x05\0"].concat();
            let answer = answer(&octets[..length], source).filter(|_| is_answered);
            server.send_to(&answer.unwrap_or(refusal), source).await.unwrap();
            let NatDetermined { verdict, .. } = found.next().await;
            questions.push((at, verdict.nat_type, verdict.public.is_some()));
        }
        questions
    }

    #[actix::test]
    async fn a_server_that_fails_is_asked_again_later_and_later_and_one_that_does_not_at_the_interval() {
        let found = questions([false, false, false, false, true, true]).await;
        let at: Vec<_> = found.iter().map(|(at, ..)| *at).collect();
        assert_eq!(at, [0, 10, 30, 70, 130, 190]);
        assert!(
            found.iter().all(|(at, nat_type, is_found)| {
                *nat_type == NatType::Unknown && *is_found == (*at >= 130)
            })
        );
    }
}
