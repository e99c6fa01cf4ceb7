//! What is remembered of requests, responses and branches.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::message::reply::Reply;

use super::proof::Proof;
use super::registry::Goal;
use crate::text::{Header, Text};

/// What is odd about a request: refusals that it may get and another may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Nothing,
    /// One of these is what it deserves.
    Deserves(&'static [u16]),
    /// The proxy itself is asked, and answers with this.
    ForProxy(u16),
    /// It has been at the proxy before, and nothing has changed since.
    Loops,
}

/// A request as a peer begins it.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) peer: usize,
    pub(crate) bytes: Bytes,
    pub(crate) odd: Odd,
    pub(crate) proof: Proof,
    /// Of a request in a dialog: its ends.
    pub(crate) ends: Option<Ends>,
}

/// The two ends of a dialog, as the one who sends sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The peer at the other end.
    pub(crate) other: usize,
    /// In which process the dialog was made.
    pub(crate) process: u32,
    /// The flows by which the request that has made the dialog came and went, where they are known.
    pub(crate) near: Option<Flow>,
    pub(crate) far: Option<Flow>,
}

/// A request of a peer's. An ACK to a 2xx is one; an ACK to a refusal and a CANCEL are not.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: usize,
    pub(super) method: String,
    pub(super) text: Text,
    pub(super) odd: Odd,
    pub(super) proof: Proof,
    pub(super) ends: Option<Ends>,
    /// The ACKs and CANCELs that have its branch.
    pub(super) follow_ups: Vec<Text>,
    /// One for each Router that has seen it.
    pub(super) lives: Vec<Life>,
}

impl Request {
    pub(super) fn new(begun: Begun) -> Self {
        let Begun { peer, bytes, odd, proof, ends } = begun;
        let text = Text::read(&bytes);
        let method = text.method().to_owned();
        let (follow_ups, lives) = (Vec::new(), Vec::new());
        Self { peer, method, text, odd, proof, ends, follow_ups, lives }
    }

    /// What the peer has sent of this method under this number.
    pub(super) fn as_sent<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Text> {
        std::iter::once(&self.text).chain(&self.follow_ups).filter(move |text| text.method() == method)
    }

    pub(super) fn life(&self, incarnation: u32) -> Option<&Life> {
        self.lives.iter().find(|life| life.incarnation == incarnation)
    }

    pub(super) fn life_mut(&mut self, incarnation: u32) -> Option<&mut Life> {
        self.lives.iter_mut().find(|life| life.incarnation == incarnation)
    }

    pub(super) fn is_register(&self) -> bool {
        self.method == "REGISTER"
    }

    pub(super) fn is_invite(&self) -> bool {
        self.method == "INVITE"
    }

    /// How many branches it may have at one time (RFC 5393 §5.3.3).
    pub(super) fn max_breadth(&self) -> u32 {
        self.text.get(Header::MaxBreadth).map_or(60, |value| value.parse().expect("a number"))
    }

    /// Whether its branches may have to wait for each other.
    pub(super) fn is_cramped(&self) -> bool {
        self.max_breadth() < 60
    }

    /// Nobody ever answers it.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(&*self.method, "ACK" | "BENOTIFY" | "CANCEL")
    }
}

/// A response that was sent and may be sent again.
#[derive(Clone, Debug)]
pub(super) struct Final {
    pub(super) bytes: Bytes,
    pub(super) at: Duration,
    /// When Timer G has repeated it last.
    pub(super) repeated: Duration,
    /// What Timer G waits next.
    pub(super) interval: Duration,
}

/// A request in the eyes of one Router.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) incarnation: u32,
    /// Where it came from.
    pub(super) source: Flow,
    pub(super) begun: Duration,
    pub(super) deliveries: u32,
    /// Counts what all Routers get, in its order.
    pub(super) order: u64,
    /// The flow that it came in on had logged on.
    pub(super) was_known: bool,
    /// What the Router held when it came.
    pub(super) held: usize,
    /// Refusals that left no transaction behind.
    pub(super) refusals: u32,
    pub(super) refused: Option<u16>,
    /// The one final response; of INVITE, one that is no 2xx.
    pub(super) answer: Option<Final>,
    /// 2xx to INVITE, by the number of the peer's response: how often, and when first.
    pub(super) accepted: BTreeMap<usize, u32>,
    pub(super) accepted_at: Option<Duration>,
    /// The last provisional response.
    pub(super) provisional: Option<Bytes>,
    pub(super) own_tag: Option<String>,
    pub(super) branches: Vec<usize>,
    /// Where the Registrar has said that it is to go: groups, one after the other.
    pub(super) goals: Option<Vec<Vec<Goal>>>,
    pub(super) is_search: bool,
    /// When a question was asked.
    pub(super) asked: Option<Duration>,
    /// The Registrar's answer to a REGISTER.
    pub(super) registered: Option<Reply>,
    pub(super) cancelled: Option<Duration>,
    pub(super) acknowledged: Option<Duration>,
    /// Its sender has guessed passwords, and is not answered any more.
    pub(super) is_banned: bool,
    /// Something has come so late that it may or may not count.
    pub(super) is_vague: bool,
}

impl Life {
    pub(super) fn new(incarnation: u32, source: Flow, begun: Duration) -> Self {
        Self {
            incarnation,
            source,
            begun,
            deliveries: 0,
            order: 0,
            was_known: false,
            held: 0,
            refusals: 0,
            refused: None,
            answer: None,
            accepted: BTreeMap::new(),
            accepted_at: None,
            provisional: None,
            own_tag: None,
            branches: Vec::new(),
            goals: None,
            is_search: false,
            asked: None,
            registered: None,
            cancelled: None,
            acknowledged: None,
            is_banned: false,
            is_vague: false,
        }
    }

    /// Whether a final response has gone out that is no mere refusal.
    pub(super) fn has_answered(&self) -> bool {
        self.answer.is_some() || self.accepted_at.is_some()
    }
}

/// Whose word a response of a peer's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The peer's own.
    Own,
    /// Another's, which it passes on.
    Relayed,
    /// Nobody's: it belongs to nothing that the peer was asked.
    Forged,
}

/// A response of a peer's.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) peer: usize,
    pub(super) text: Text,
    pub(super) origin: Origin,
    /// How often a Router has got it that waits for it, and on which branch.
    pub(super) deliveries: u32,
    pub(super) branch: Option<usize>,
}

impl Said {
    pub(super) const fn new(peer: usize, text: Text, origin: Origin) -> Self {
        Self { peer, text, origin, deliveries: 0, branch: None }
    }

    pub(super) fn status(&self) -> u16 {
        self.text.status().expect("it is a response")
    }
}

/// A place of the Registrar's: the group, and which of it.
pub(super) type Place = (usize, usize);

/// Why somebody is asked, as can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Binding,
    Search,
    Direct,
}

/// What a Router has sent to somebody, and what it has heard of it.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) request: usize,
    pub(super) incarnation: u32,
    pub(super) kind: Kind,
    /// Which place of the Registrar's: the group, and which of it.
    pub(super) goal: Option<Place>,
    /// It was begun in the place of one that had failed.
    pub(super) is_successor: bool,
    pub(super) hop: Flow,
    pub(super) text: Text,
    pub(super) begun: Duration,
    /// When it was sent last, and what the next interval is.
    pub(super) sent: Duration,
    pub(super) interval: Duration,
    /// When the first provisional response came, and the latest from 101 to 199.
    pub(super) provisional: Option<Duration>,
    pub(super) rung: Option<Duration>,
    /// The first final response: status, number, time.
    pub(super) end: Option<(u16, usize, Duration)>,
    /// It could not be sent, or waits for nobody any more.
    pub(super) failed: Option<Duration>,
    /// CANCEL is wanted, and was sent.
    pub(super) cancel_wanted: Option<Duration>,
    pub(super) cancel: Option<Bytes>,
    pub(super) cancel_sent: Duration,
    pub(super) cancel_interval: Duration,
    pub(super) is_cancel_answered: bool,
    /// Something has come so late that it may or may not count.
    pub(super) is_vague: bool,
}

impl Branch {
    pub(super) const fn new(
        request: usize,
        incarnation: u32,
        (kind, goal): (Kind, Option<Place>),
        hop: Flow,
        text: Text,
        begun: Duration,
        t1: Duration,
    ) -> Self {
        Self {
            request,
            incarnation,
            kind,
            goal,
            is_successor: false,
            hop,
            text,
            begun,
            sent: begun,
            interval: t1,
            provisional: None,
            rung: None,
            end: None,
            failed: None,
            cancel_wanted: None,
            cancel: None,
            cancel_sent: Duration::ZERO,
            cancel_interval: t1,
            is_cancel_answered: false,
            is_vague: false,
        }
    }

    pub(super) fn is_invite(&self) -> bool {
        self.text.method() == "INVITE"
    }

    /// A response to it has come.
    pub(super) fn hears(&mut self, now: Duration, status: u16, number: usize) {
        match status {
            100..=199 if self.end.is_none() => {
                self.provisional.get_or_insert(now);
                if status > 100 {
                    self.rung = Some(now);
                }
            }
            200..=699 => {
                self.end.get_or_insert((status, number, now));
            }
            _ => {}
        }
    }

    /// Whether it has left by a connection in the turn that heard of that one's end: the Router may wait for word of it.
    pub(super) fn is_untold(&self) -> bool {
        self.failed == Some(self.begun)
    }

    /// Whether nothing more is to come of it for certain.
    pub(super) const fn is_over(&self) -> bool {
        self.end.is_some() || self.failed.is_some()
    }
}
