//! What has happened in a run, as text that a reader can follow: the last events, or all of them.
//!
//! Events are kept as they are and written out only when somebody wants to read them, which is when a seed fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;

use crate::engine::Actor;
use crate::text::{Header, Text};

/// Events that are kept when not all are wanted.
const KEPT: usize = 60;

/// How much of a run is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The last events.
    Tail,
    /// All, one line each.
    Whole,
    /// All, with the messages octet for octet.
    Octets,
}

/// Shared between a run and whoever catches its panic.
#[derive(Debug)]
pub(crate) struct Trace {
    detail: Detail,
    events: RefCell<VecDeque<(Duration, What)>>,
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A peer sends, by datagram or stream.
    PeerSends { peer: usize, flow: Flow, bytes: Bytes },
    /// A peer has received.
    PeerReceives { peer: usize, bytes: Bytes },
    /// A Router has received.
    RouterReceives { router: usize, bytes: Bytes },
    /// A Router sends.
    RouterSends { router: usize, to: Flow, bytes: Bytes },
    /// One actor has received something else from another.
    Mail { to: Actor, what: &'static str, flow: Option<Flow> },
    /// A message is lost: why.
    Lost(&'static str, Bytes),
    /// Something else.
    Note(String),
}

impl Trace {
    pub(crate) const fn new(detail: Detail) -> Self {
        Self { detail, events: RefCell::new(VecDeque::new()) }
    }

    pub(crate) fn push(&self, at: Duration, what: What) {
        let mut events = self.events.borrow_mut();
        if self.detail == Detail::Tail && events.len() == KEPT {
            events.pop_front();
        }
        events.push_back((at, what));
    }

    pub(crate) fn note(&self, at: Duration, text: impl FnOnce() -> String) {
        self.push(at, What::Note(text()));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, what) in self.events.borrow().iter() {
            writeln!(f, "{:>12.6} {what}", at.as_secs_f64())?;
            if let (Detail::Octets, Some(bytes)) = (self.detail, what.bytes()) {
                String::from_utf8_lossy(bytes)
                    .lines()
                    .try_for_each(|line| writeln!(f, "{:13}| {line}", ""))?;
            }
        }
        Ok(())
    }
}

impl What {
    const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::PeerSends { bytes, .. } | Self::RouterReceives { bytes, .. } => Some(bytes),
            Self::RouterSends { bytes, .. } | Self::PeerReceives { bytes, .. } => Some(bytes),
            Self::Lost(_, bytes) => Some(bytes),
            Self::Mail { .. } | Self::Note(_) => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerSends { peer, flow, bytes } => {
                write!(f, "peer {peer} -> {}: {}", flow.transport, brief(bytes))
            }
            Self::PeerReceives { peer, bytes } => write!(f, "-> peer {peer}: {}", brief(bytes)),
            Self::RouterReceives { router, bytes } => write!(f, "-> router {router}: {}", brief(bytes)),
            Self::RouterSends { router, to, bytes } => write!(f, "router {router} -> {to}: {}", brief(bytes)),
            Self::Mail { to, what, flow: Some(flow) } => write!(f, "-> {to}: {what} {flow}"),
            Self::Mail { to, what, flow: None } => write!(f, "-> {to}: {what}"),
            Self::Lost(why, bytes) => write!(f, "lost ({why}): {}", brief(bytes)),
            Self::Note(text) => f.write_str(text),
        }
    }
}

/// A message in one line: what it is, whose it is, what it belongs to.
fn brief(bytes: &Bytes) -> String {
    let text = Text::read(bytes);
    let mark = |header, sign: &str| text.get(header).map(|mark| format!(" {sign}{mark}")).unwrap_or_default();
    format!(
        "{} cseq={:?} call={} branch={}{}{} length={}",
        text.start(),
        text.get(Header::CSeq).unwrap_or_default(),
        text.get(Header::CallId).unwrap_or_default(),
        text.branch(0).unwrap_or_default(),
        mark(Header::Request, "request="),
        mark(Header::Answer, "answer="),
        bytes.len(),
    )
}
