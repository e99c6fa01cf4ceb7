//! Mail between the actors, and mailboxes that lose what their actor loses.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sip_proxy::protocol::account::AccountId;
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::location::{AddressOfRecord, Answer, Question};
use sip_proxy::protocol::message::Message;
use sip_proxy::protocol::transaction::Branch;

use super::Actor;
use crate::coverage::Count;
use crate::world::{Happening, World};

/// What actors say to each other.
#[derive(Debug)]
pub(crate) enum Mail {
    // To a Router.
    Received { flow: Flow, certificate: Option<AccountId>, message: Message },
    Answer(Answer),
    Standing { flow: Flow, account: Option<AccountId>, is_gone: bool },
    Failed { branch: Branch, unreached: Option<SocketAddr> },
    Banned(IpAddr, Instant),
    RegistrarRestarted,
    Drain,
    // To the Registrar.
    Question(usize, Question),
    Learned(AddressOfRecord, Flow),
    FlowFailed(Flow),
    FlowEnded(Flow),
    LogOn(Flow, AccountId),
    RouterRestarted(usize),
    TellAll,
    // To both.
    Closed(Flow),
}

impl Mail {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Received { .. } => "received",
            Self::Answer(_) => "answer",
            Self::Standing { account: Some(_), .. } => "has logged on",
            Self::Standing { is_gone: true, .. } => "has logged off",
            Self::Standing { .. } => "does not pass",
            Self::Failed { .. } => "transmit failed",
            Self::RegistrarRestarted => "registrar restarted",
            Self::Banned(..) => "banned",
            Self::Drain => "drain",
            Self::Question(..) => "question",
            Self::Learned(..) => "learned",
            Self::FlowFailed(_) => "flow failed",
            Self::FlowEnded(_) => "flow ended",
            Self::LogOn(..) => "log-on",
            Self::RouterRestarted(_) => "router restarted",
            Self::TellAll => "tell all",
            Self::Closed(_) => "connection closed",
        }
    }

    pub(super) const fn flow(&self) -> Option<Flow> {
        match self {
            Self::Standing { flow, .. } | Self::Received { flow, .. } => Some(*flow),
            Self::Closed(flow) | Self::FlowFailed(flow) | Self::FlowEnded(flow) => Some(*flow),
            Self::LogOn(flow, _) | Self::Learned(_, flow) => Some(*flow),
            Self::Question(_, question) => Some(question.flow),
            _ => None,
        }
    }
}

/// After what happens then.
fn later(at: Duration) -> Duration {
    at + Duration::from_nanos(1)
}

impl World<'_> {
    /// Sends mail, to whoever is there now.
    pub(crate) fn post(&mut self, to: Actor, mail: Mail) {
        let Some(incarnation) = self.engine.incarnation(to) else {
            return self.count(Count::MailLost);
        };
        let delay = match self.random.below(50) {
            0 => self.random.millis(0, 20),
            _ => self.random.millis(0, 1) / 8,
        };
        let latest = self.engine.mailboxes.entry(to).or_default();
        *latest = (*latest).max(self.now + delay);
        let wait = *latest - self.now;
        self.mail_under_way += 1;
        self.schedule(wait, Happening::Mail { to, incarnation, mail: Box::new(mail) });
    }

    /// Mail has come.
    pub(crate) fn mail_arrives(&mut self, sequence: u64, to: Actor, incarnation: u32, mail: Box<Mail>) {
        if self.engine.incarnation(to) != Some(incarnation) {
            self.mail_under_way -= 1;
            return self.count(Count::MailLost);
        }
        // One that is kept from working reads later; so does a Registrar that waits for its registrations.
        let until = match to {
            Actor::Router(index) => self.engine.routers[index].as_ref().map(|r| r.stalled_until),
            Actor::Registrar => self.engine.registrar.as_ref().and_then(|r| r.waits_until).map(later),
        };
        if let Some(until) = until.filter(|until| *until > self.now) {
            return self.put_off(until, sequence, Happening::Mail { to, incarnation, mail });
        }
        self.mail_under_way -= 1;
        match to {
            Actor::Router(index) => self.router_handles(index, *mail),
            _ => self.registrar_handles(*mail),
        }
    }
}
