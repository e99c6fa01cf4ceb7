//! Requests as they come in: matched (RFC 3261 §17.2.3), validated (§16.3), admitted, and given a way.

use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use crate::protocol::account::AccountId;
use crate::protocol::admission::Admitted;
use crate::protocol::digest::NonceUse;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::PeerProof;
use crate::protocol::location::{Ask, Registration, check_extensions};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::rsip::capabilities;
use crate::protocol::message::uri::Host;
use crate::protocol::message::via::Via;
use crate::protocol::message::{Message, Method};
use crate::protocol::transaction::{LegacyKey, TransactionKey};

use super::authenticate::Refusal;
use super::border::Stranger;
use super::keep_alive;
use super::preprocess::preprocess;
use super::response_context::{Passage, Pending};
use super::route::{Routing, Way, route};
use super::table::{Alternate, ReplyPath, SentBy};
use super::validate::{
    MAXIMUM_BREADTH, MaxForwards, check_compression, check_max_breadth, check_max_forwards,
    check_proxy_require, check_syntax,
};
use super::{Direction, DropReason, Event, EventDetail, Load, Output, Proxy, is_unanswered};

/// The share of the transaction table, in percent, that new dialogs and messages may fill; the rest is for requests
/// in dialogs, so that overload ends conversations last.
const SHARE_OF_NEW_WORK: usize = 90;

/// Whose a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    /// The account; `None` for somebody from the outside.
    pub(super) account: Option<AccountId>,
    /// What it says of identities may be passed on (RFC 3325 §5).
    pub(super) is_trusted: bool,
}

impl Whose {
    /// Nobody's who has proven anything.
    pub(super) const NOBODY: Self = Self { account: None, is_trusted: false };
}

/// A request on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    /// As it is after preprocessing (§16.4).
    pub(super) request: Message,
    /// As it came, where that was something else.
    pub(super) received: Option<Message>,
    pub(super) method: Method,
    pub(super) arrived: Instant,
    pub(super) flow: Flow,
    pub(super) key: TransactionKey,
    pub(super) reply_path: ReplyPath,
}

/// Who has sent a request that goes on, and what is still to be seen of that.
pub(super) struct Author {
    pub(super) whose: Whose,
    /// The discovered peer that it is.
    pub(super) peer: Option<Arc<str>>,
    /// The account that the flow has proven by this very request.
    pub(super) log_on: Option<AccountId>,
    /// The use of a nonce that must not have been before.
    pub(super) nonce_use: Option<NonceUse>,
    /// The domain that its record must prove, and the certificate that it is held against.
    pub(super) claim: Option<(Arc<str>, Arc<PeerProof>)>,
}

/// What has become of a request that goes on.
pub(super) struct Accepted {
    pub(super) routing: Routing,
    pub(super) author: Author,
    pub(super) passage: Passage,
    pub(super) pending: Pending,
    pub(super) ask: Ask,
}

impl Proxy {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        flow: &Flow,
        proof: Option<&Arc<PeerProof>>,
        request: Message,
    ) {
        let Some(method) = request.method() else { return };
        let has_standing =
            proof.is_some_and(|proof| proof.account.is_some()) || self.standing.account_of(flow).is_some();
        if !has_standing && self.guesses.is_banned(now, flow.remote.ip()) {
            return self.dropped(flow, DropReason::Banned);
        }
        if !has_standing && !self.source_rate.may_pass(now, flow.remote.ip()) {
            return self.dropped(flow, DropReason::SourceRate);
        }
        let Some(via) = request.top_via() else {
            return self.dropped(flow, DropReason::NoVia);
        };
        let key = self.server_key(&request, &via, request.method_token());
        let reply_path = reply_path(&via, flow);
        let mut incoming =
            Incoming { method, arrived: now, flow: *flow, key, reply_path, request, received: None };
        match method {
            Method::Ack => return self.handle_ack(now, proof, incoming),
            Method::Cancel => return self.handle_cancel(now, proof, incoming),
            _ => {}
        }
        if let Some(slot) = self.by_key.get(&key) {
            if let Some(server) = self.servers.get_mut(slot) {
                let actions = server.machine.handle_retransmission(now, &server.timers);
                self.perform_server(now, slot, actions);
            }
            return;
        }
        if self.repeat_answer(now, &incoming) {
            return;
        }
        match self.accept(now, proof, &mut incoming) {
            Ok(accepted) => self.begin(now, incoming, accepted),
            Err(Refusal::AtOnce(reply)) => self.refuse(&incoming, &reply),
            Err(Refusal::Guess(reply)) => self.refuse_guess(now, incoming, reply),
        }
    }

    /// §16.3 in its order, then the way of the request. The error is the refusal.
    fn accept(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        incoming: &mut Incoming,
    ) -> Result<Accepted, Refusal> {
        check_compression(&incoming.request)?;
        check_syntax(&incoming.request)?;
        let max_forwards = check_max_forwards(&incoming.request)?;
        let routing = self.route(incoming);
        let request = &incoming.request;
        if matches!(routing.way, Way::Ourselves) && incoming.method == Method::Options {
            // Whoever asks whether we are there may know (§11, and §16.3 step 3 for Max-Forwards 0).
            return Err(self.answer_options(request).into());
        }
        // A REGISTER has arrived: it goes no further (§10.3).
        let is_for_us = incoming.method == Method::Register && matches!(routing.way, Way::Location);
        let max_forwards = match max_forwards {
            MaxForwards::Forward(hops) => hops,
            MaxForwards::Exhausted if is_for_us => 0,
            MaxForwards::Exhausted => return Err(Reply::new(483).into()),
        };
        let loop_hash = if is_for_us { 0 } else { self.loop_hash(request) };
        if !is_for_us && self.is_loop(request, loop_hash) {
            return Err(Reply::new(482).into());
        }
        check_proxy_require(request, &self.settings.tolerated_proxy_require)?;
        let max_breadth = if is_for_us { MAXIMUM_BREADTH } else { check_max_breadth(request)? };
        let passage = Passage { max_forwards, max_breadth, loop_hash };
        let author = self.author(now, proof, incoming, &routing)?;
        let request = &incoming.request;
        self.check_load(request)?;
        let (pending, ask) = match &routing.way {
            Way::Location if incoming.method == Method::Register => {
                let mut registration = Registration::read(request, author.whose.account)?;
                // A GRUU leads here, or it is none (RFC 5627 §5.4).
                registration.supports.gruu &= self.settings.serves(&registration.address_of_record);
                (Pending::Registration, Ask::Register(Box::new(registration)))
            }
            way => self.way_on(request, &incoming.flow, way)?,
        };
        Ok(Accepted { routing, author, passage, pending, ask })
    }

    /// Who has sent a request, if they may send it.
    fn author(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        incoming: &Incoming,
        routing: &Routing,
    ) -> Result<Author, Refusal> {
        let request = &incoming.request;
        let stranger = match self.stranger(now, proof, &incoming.flow, request) {
            Ok(Some(stranger)) => self.judge(now, stranger, &routing.way, request).map(Some),
            other => other,
        };
        let stranger =
            stranger.inspect_err(|refusal| self.tell_refused_stranger(incoming, proof, refusal))?;
        if let Some(stranger) = stranger {
            let peer = stranger.is_guarded().then(|| Arc::clone(&stranger.domain));
            let Stranger { domain, is_trusted, is_claim } = stranger;
            let whose = Whose { account: None, is_trusted };
            let claim = proof.filter(|_| is_claim).map(|proof| (domain, Arc::clone(proof)));
            return Ok(Author { whose, peer, log_on: None, nonce_use: None, claim });
        }
        let dialog = routing.dialog_account.filter(|_| request.is_in_dialog());
        let Admitted { account, is_new_proof, nonce_use } = self.admit(now, proof, incoming, dialog)?;
        self.check_right(request, &incoming.flow, account, &routing.way)?;
        let whose = Whose { account: Some(account), is_trusted: self.is_uc_server(account) };
        Ok(Author { whose, peer: None, log_on: is_new_proof.then_some(account), nonce_use, claim: None })
    }

    /// §16.4, and where the request goes then. Its URIs have been validated.
    pub(super) fn route(&self, incoming: &mut Incoming) -> Routing {
        let (settings, interfaces, key) = (&self.settings, &self.interfaces, &self.token_key);
        if let Some(request) = preprocess(&incoming.request, &incoming.flow, settings, interfaces, key) {
            incoming.received = Some(std::mem::replace(&mut incoming.request, request));
        }
        route(&incoming.request, &incoming.flow, settings, interfaces, key)
    }

    /// The proxy as a user agent.
    fn answer_options(&self, request: &Message) -> Reply {
        match (check_extensions(request), &self.farewell) {
            (Err(refusal), _) => refusal,
            (Ok(()), Some(farewell)) => farewell.refusal(),
            (Ok(()), None) => capabilities(),
        }
    }

    /// New work is shed first: 503 without Retry-After, so that the sender goes on with others at once. None begins once
    /// the process is to end.
    pub(super) fn check_load(&self, request: &Message) -> Result<(), Reply> {
        let in_dialog = request.is_in_dialog();
        if let Some(farewell) = self.farewell.as_ref().filter(|_| !in_dialog) {
            return Err(farewell.refusal());
        }
        let maximum = self.settings.maximum_transactions;
        let limit = if in_dialog { maximum } else { maximum.saturating_mul(SHARE_OF_NEW_WORK) / 100 };
        // Contexts without a server transaction are those of requests that nobody answers; a search has many clients.
        let Load { servers, clients, contexts } = self.load();
        let held = servers.max(contexts).max(clients);
        if held < limit { Ok(()) } else { Err(Reply::with_reason(503, "Overloaded")) }
    }

    /// Answers without a transaction: the same request gets the same answer again.
    pub(super) fn refuse(&mut self, incoming: &Incoming, reply: &Reply) {
        if self.detail >= EventDetail::Faults && reply.status >= 300 {
            self.outputs.push_back(Output::Event(Event::Refused {
                method: part_of(&incoming.request, incoming.request.method_token()),
                call_id: part_of(&incoming.request, incoming.request.call_id()),
                flow: incoming.flow,
                status: reply.status,
                reason: reply.reason,
            }));
        }
        if is_unanswered(incoming.method) {
            return;
        }
        self.counts.answered(Direction::In, incoming.method, reply.status);
        let reply =
            keep_alive::promised(reply, &incoming.request, &incoming.flow, self.settings.keep_alive_timeout);
        let bytes = reply.write(&incoming.request, incoming.flow.remote, &self.to_tag(incoming.key));
        self.transmit(incoming.reply_path.flow, incoming.reply_path.alternate.clone(), bytes, None);
    }

    /// The To tag of our own responses to a transaction: the same each time, unknown to others beforehand.
    pub(super) fn to_tag(&self, key: TransactionKey) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_key(&self.loop_key);
        hasher.write_u128(key.0);
        let mut tag = [0; 16];
        for (digit, nibble) in tag.iter_mut().zip((0..16).rev()) {
            *digit = b"0123456789abcdef"[(hasher.finish() >> (nibble * 4) & 0xf) as usize];
        }
        tag
    }

    pub(super) fn server_key(&self, request: &Message, via: &Via<'_>, method: &[u8]) -> TransactionKey {
        self.hasher.server(via.branch, via.host_text, via.port, method, || LegacyKey {
            request_uri: request.request_uri(),
            to_tag: request.to().and_then(|to| to.tag()).unwrap_or_default(),
            from_tag: request.from().and_then(|from| from.tag()).unwrap_or_default(),
            call_id: request.call_id(),
            cseq_number: request.cseq().map_or(0, |cseq| cseq.number),
            top_via: via.text,
        })
    }
}

/// Where the answers to a request go (§18.2.2, RFC 3581 §4).
fn reply_path(via: &Via<'_>, flow: &Flow) -> ReplyPath {
    let sent_by_port = via.port.unwrap_or(flow.transport.default_port());
    if flow.transport == Transport::Udp {
        let port = if via.has_rport { flow.remote.port() } else { sent_by_port };
        let remote = SocketAddr::new(flow.remote.ip(), port);
        return ReplyPath { flow: Flow { remote, ..*flow }, alternate: None };
    }
    // What `received` says, which is also what sent-by says where there is none. Nobody listens there for WebSocket.
    let alternate = flow.transport.is_dialled().then(|| Alternate {
        address: SocketAddr::new(flow.remote.ip(), sent_by_port),
        sent_by: sent_by(via),
    });
    ReplyPath { flow: *flow, alternate }
}

/// The host of sent-by, where that is a name.
fn sent_by(via: &Via<'_>) -> Option<Arc<SentBy>> {
    let Host::Name(_) = via.host else { return None };
    let host = String::from_utf8(via.host.to_lowercase().into_vec()).ok()?;
    Some(Arc::new(SentBy { host: host.into(), port: via.port }))
}

/// A part of a message that keeps its buffer alive, without a copy.
pub(super) fn part_of(message: &Message, part: &[u8]) -> Bytes {
    message.bytes().slice_ref(part)
}
