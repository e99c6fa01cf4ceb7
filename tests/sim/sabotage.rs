//! Faults that are put into what the proxy does, to see that the oracle sees them: one that finds nothing wrong with
//! them would find nothing wrong with anything.

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;

use crate::text::{Header, Text};

/// A fault of the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    // In what it sends.
    FinalTwice,
    FinalOnceMore,
    FinalToOther,
    FinalLost,
    AcceptedLost,
    RingingToMessage,
    TimeoutToMessage,
    StatusChanged,
    AnswerBody,
    AnswerRow,
    AnswerVia,
    Body,
    Row,
    RowAdded,
    MaxForwards,
    RecordRouteLost,
    CredentialsKept,
    SentAgain,
    BranchReused,
    AckLost,
    AckOfOther,
    CancelLost,
    CancelVia,
    // In what its actors hear.
    CloseUnheardByRouters,
    CloseUnheardByRegistrar,
    StandingUnheard,
    TimersStopped,
}

/// All of them, with words of what the oracle says: first what it must say of some run, then what it may say of others.
pub(crate) const ALL: &[(Fault, &str)] = &[
    (
        Fault::FinalTwice,
        "refused more often|a final response is repeated|repeated without a reason|goes up more",
    ),
    (Fault::FinalOnceMore, "a second final response|two tags of our own|refused more often"),
    (Fault::FinalToOther, "the way back"),
    (Fault::FinalLost, "owed and not done|has no final response"),
    (Fault::AcceptedLost, "this goes up at once"),
    (Fault::RingingToMessage, "a 180 to it"),
    (Fault::TimeoutToMessage, "408 to it|nothing is the reason"),
    (Fault::StatusChanged, "another status line|is better"),
    (Fault::AnswerBody, "the body is changed"),
    (Fault::AnswerRow, "has become"),
    (Fault::AnswerVia, "the Vias are not those|to whom is this"),
    (Fault::Body, "the body is changed"),
    (Fault::Row, "has become"),
    (Fault::RowAdded, "has become|was added"),
    (Fault::MaxForwards, "Max-Forwards"),
    (Fault::RecordRouteLost, "Record-Route"),
    (Fault::CredentialsKept, "Authorization of others is changed, or ours is left"),
    (Fault::SentAgain, "is repeated"),
    (Fault::BranchReused, "one branch has two requests"),
    (Fault::AckLost, "the refusal is acknowledged"),
    (Fault::AckOfOther, "without the To of the response"),
    (Fault::CancelLost, "this is cancelled|this rings for ever"),
    (Fault::CancelVia, "another Via than the INVITE's|for which INVITE"),
    (Fault::CloseUnheardByRouters, "somebody else is asked, or this is answered|disagree"),
    (
        Fault::CloseUnheardByRegistrar,
        "a connection that is gone|disagree|the bindings of|is asked and has not logged on",
    ),
    (Fault::StandingUnheard, "disagree"),
    (Fault::TimersStopped, "left: Load|has no final response|this rings for ever"),
];

/// One fault, which happens at the first occasion.
#[derive(Debug)]
pub(crate) struct Sabotage {
    fault: Option<Fault>,
    has_happened: bool,
    /// The first branch that was seen.
    branch: Option<String>,
}

impl Sabotage {
    pub(crate) const fn new(fault: Option<Fault>) -> Self {
        Self { fault, has_happened: false, branch: None }
    }

    /// Whether this fault happens now.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.fault == Some(fault) && !self.has_happened;
        self.has_happened |= strikes;
        strikes
    }

    /// Whether this fault has happened, and goes on.
    pub(crate) fn goes_on(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// What really leaves in the place of a message.
    pub(crate) fn distort(&mut self, hop: Flow, bytes: Bytes) -> Vec<(Flow, Bytes)> {
        let Some(fault) = self.fault.filter(|_| !self.has_happened) else { return vec![(hop, bytes)] };
        let text = Text::read(&bytes);
        let distorted = match text.status() {
            Some(status) => distort_response(fault, hop, &text, status),
            None => self.distort_request(fault, hop, &text),
        };
        self.has_happened = distorted.is_some();
        distorted.unwrap_or_else(|| vec![(hop, bytes)])
    }

    fn distort_request(&mut self, fault: Fault, hop: Flow, text: &Text) -> Option<Vec<(Flow, Bytes)>> {
        let is_forwarded = text.values(Header::Via).nth(1).is_some();
        let once = |bytes| Some(vec![(hop, bytes)]);
        match (fault, text.method()) {
            (Fault::AckLost, "ACK") if !is_forwarded => Some(Vec::new()),
            (Fault::AckOfOther, "ACK") if !is_forwarded => once(replaced(text, ";tag=t", ";tag=o")?),
            (Fault::CancelLost, "CANCEL") if !is_forwarded => Some(Vec::new()),
            (Fault::CancelVia, "CANCEL") if !is_forwarded => once(replaced(text, "SIP/2.0/", "SIP/2.0/X")?),
            (_, "ACK" | "CANCEL" | "BENOTIFY") => None,
            (Fault::Body, _) if !text.body().is_empty() => once(replaced(text, "body", "BODY")?),
            (Fault::Row, _) => once(replaced(text, ":  spaces  kept", ": spaces kept")?),
            (Fault::RowAdded, _) => once(replaced(text, "X-Sim-Request", "X-Added: 1\r\nX-Sim-Request")?),
            (Fault::MaxForwards, _) => once(replaced(text, "Max-Forwards: 69", "Max-Forwards: 70")?),
            (Fault::RecordRouteLost, _) => once(replaced(text, "\r\nRecord-Route: ", "\r\nX-Route: ")?),
            (Fault::CredentialsKept, _) => once(replaced(text, "realm=\"elsewhere\"", "realm=\"a.test\"")?),
            (Fault::SentAgain, _) => Some(vec![(hop, text.bytes().clone()), (hop, text.bytes().clone())]),
            (Fault::BranchReused, _) => {
                let own = text.branch(0)?.to_owned();
                let first = self.branch.get_or_insert_with(|| own.clone()).clone();
                if first == own { None } else { once(replaced(text, &own, &first)?) }
            }
            _ => None,
        }
    }
}

fn distort_response(fault: Fault, hop: Flow, text: &Text, status: u16) -> Option<Vec<(Flow, Bytes)>> {
    let (is_invite, is_theirs) = (text.method() == "INVITE", text.answer_number().is_some());
    let is_final = status >= 200 && text.method() != "CANCEL";
    let bytes = text.bytes();
    let once = |bytes| Some(vec![(hop, bytes)]);
    match fault {
        Fault::FinalTwice if is_final => Some(vec![(hop, bytes.clone()), (hop, bytes.clone())]),
        Fault::FinalOnceMore if is_final && !is_theirs => {
            Some(vec![(hop, bytes.clone()), (hop, replaced(text, ";tag=", ";tag=x")?)])
        }
        Fault::FinalToOther if is_final => {
            let port = hop.remote.port() ^ 1;
            let remote = std::net::SocketAddr::new(hop.remote.ip(), port);
            Some(vec![(Flow { remote, ..hop }, bytes.clone())])
        }
        Fault::FinalLost if is_final && is_theirs && status >= 300 => Some(Vec::new()),
        Fault::AcceptedLost if is_invite && is_theirs && (200..300).contains(&status) => Some(Vec::new()),
        Fault::RingingToMessage if is_final && !is_invite => {
            once(replaced(text, &text.start()[..11], "SIP/2.0 180")?)
        }
        Fault::TimeoutToMessage if is_final && !is_invite && status >= 300 => {
            once(replaced(text, &text.start()[..11], "SIP/2.0 408")?)
        }
        Fault::StatusChanged if is_theirs && is_final => {
            once(replaced(text, &text.start()[..11], &format!("SIP/2.0 {}", status + 1))?)
        }
        Fault::AnswerBody if !text.body().is_empty() => once(replaced(text, "s=body", "s=BODY")?),
        Fault::AnswerRow if is_theirs => once(replaced(text, "x-odd : a", "x-odd: a")?),
        Fault::AnswerVia if is_theirs => once(replaced(text, "branch=z9hG4bK-s", "x=y;branch=z9hG4bK-s")?),
        _ => None,
    }
}

/// The message with its first `from` as `to`.
fn replaced(text: &Text, from: &str, to: &str) -> Option<Bytes> {
    let octets = text.bytes();
    let at = memchr::memmem::find(octets, from.as_bytes())?;
    let parts = [&octets[..at], to.as_bytes(), &octets[at + from.len()..]];
    Some(Bytes::from(parts.concat()))
}
