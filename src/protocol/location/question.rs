//! What Routers ask the Registrar, and what it answers: questions out, answers in, nobody waits.

use bytes::Bytes;

use super::{Destination, Penalty, Registration};
use crate::protocol::account::AccountId;
use crate::protocol::digest::NonceUse;
use crate::protocol::flow::Flow;
use crate::protocol::message::reply::Reply;

/// A context of the asking Router: the slot in its table, and which use of the slot it is. An answer whose
/// generation is no longer the slot's is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId {
    /// Place in the table.
    pub slot: u32,
    /// Counts the uses of the place.
    pub generation: u32,
}

/// A question to the location service, on behalf of one request.
///
/// The parts take effect in the order of the fields: the nonce is spent, the flow is logged on, then what is
/// asked is done.
#[derive(Debug)]
pub struct Question {
    /// What the answer resumes.
    pub context: ContextId,
    /// The flow that the request came in on.
    pub flow: Flow,
    /// The use of a nonce that proved the sender; [`Verdict::Replayed`] unless it is the first.
    pub nonce_use: Option<NonceUse>,
    /// The account that the flow has just proven. Logs a UC server on; a registrant's standing comes with its
    /// registration alone.
    pub log_on: Option<AccountId>,
    /// What to do then.
    pub ask: Ask,
}

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// Nothing beyond the nonce and the log-on.
    Nothing,
    /// Where this user or user agent is to be reached (RFC 3261 §16.5, RFC 5627 §6.1).
    Locate(Destination),
    /// To carry out a REGISTER (RFC 3261 §10.3).
    Register(Box<Registration>),
    /// What it costs that the sender has answered a challenge wrongly.
    Punish,
}

/// The answer to a [`Question`], in the order of asking.
#[derive(Debug)]
pub struct Answer {
    /// The context of the question.
    pub context: ContextId,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a question.
#[derive(Debug)]
pub enum Verdict {
    /// The nonce was used up, or is too old to tell: nothing was done. A new challenge with `stale=true` lets an
    /// honest sender go on (RFC 7616 §3.3).
    Replayed,
    /// To [`Ask::Nothing`].
    Admitted,
    /// To [`Ask::Locate`].
    Located(Located),
    /// To [`Ask::Locate`] of a GRUU: nowhere, and no search would help (RFC 5627 §6.1). 404 where it is not valid any
    /// more, 480 where its user agent has no binding while others of the user have.
    Unreachable(Reply),
    /// To [`Ask::Register`]: the whole answer to the REGISTER, a 200 or a refusal.
    Registered(Reply),
    /// To [`Ask::Punish`].
    Punished(Penalty),
}

/// Where a user or user agent can be reached now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The bindings, the best q first, those refreshed last first among equals. Of a user agent with several only the
    /// one refreshed last is here, and the others are its alternatives.
    pub targets: Vec<Target>,
    /// Where there are no bindings: the UC servers that may have the user. Each once, without the asker, the
    /// learned one first, the others in the order of their log-ons.
    pub servers: Vec<Server>,
    /// Whether `servers[0]` has answered for the user before.
    pub learned: bool,
}

/// A binding, as a target of a request (RFC 3261 §16.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The contact: the new Request-URI.
    pub uri: Bytes,
    /// The values of the Route header to it, first hop first (RFC 3327 §5.4).
    pub path: Vec<Bytes>,
    /// Preference in thousandths; 1000 where the contact has none.
    pub q: u16,
    /// The flow that it was registered over.
    pub flow: Flow,
    /// The account that registered it.
    pub account: Option<AccountId>,
    /// Whether nothing but the flow leads there: it is bound itself (RFC 5626 §7), or a NAT lies between.
    pub is_flow: bool,
    /// Other ways to the same user agent, for when this one fails, in the order in which to try them (RFC 5626 §7,
    /// RFC 5627 §6.1). They have none of their own.
    pub alternatives: Vec<Self>,
}

/// A logged-on UC server, as a candidate for a user without bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// As whom it is logged on.
    pub account: AccountId,
    /// Where to send: a stream's connection. Of datagrams the contact address of its server binding if that is
    /// on the host that it sends from, else the address that it sends from.
    pub flow: Flow,
}
