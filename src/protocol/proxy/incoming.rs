//! Requests as they come in: matched (RFC 3261 §17.2.3), validated (§16.3), admitted, and given a way.

use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::protocol::account::AccountId;
use crate::protocol::admission::Admitted;
use crate::protocol::digest::NonceUse;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::identity::PeerProof;
use crate::protocol::location::{Ask, ContextId, Question, Registration, check_extensions};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::rsip::capabilities;
use crate::protocol::message::uri::Host;
use crate::protocol::message::via::Via;
use crate::protocol::message::{Message, Method};
use crate::protocol::transaction::{LegacyKey, ServerInvite, ServerNonInvite, TransactionKey};

use super::authenticate::Refusal;
use super::border::Stranger;
use super::forward::is_recorded;
use super::keep_alive;
use super::preprocess::preprocess;
use super::response_context::{Passage, Pending, ResponseContext};
use super::route::{Routing, Way, route};
use super::slots::Slot;
use super::table::{Alternate, ReplyPath, SentBy, ServerMachine, ServerTransaction};
use super::targets::TargetSet;
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
struct Author {
    whose: Whose,
    /// The discovered peer that it is.
    peer: Option<Arc<str>>,
    /// The account that the flow has proven by this very request.
    log_on: Option<AccountId>,
    /// The use of a nonce that must not have been before.
    nonce_use: Option<NonceUse>,
    /// The domain that its record must prove, and the certificate that it is held against.
    claim: Option<(Arc<str>, Arc<PeerProof>)>,
}

/// What has become of a request that goes on.
struct Accepted {
    routing: Routing,
    author: Author,
    passage: Passage,
    pending: Pending,
    ask: Ask,
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

    /// Creates the server transaction and the response context, and asks the first question.
    fn begin(&mut self, now: Instant, incoming: Incoming, accepted: Accepted) {
        let Accepted { routing, author, passage, pending, ask } = accepted;
        let flow = incoming.flow;
        let server = (!is_unanswered(incoming.method)).then(|| self.insert_server(now, &incoming));
        let context = self.insert_context(incoming, server, author.whose, &routing, passage);
        if let Some(context) = self.contexts.get_mut(context) {
            context.peer = author.peer;
        }
        if let Some((domain, proof)) = author.claim {
            return self.ask_identity(now, context, domain, proof, (pending, ask));
        }
        let is_question =
            !matches!(ask, Ask::Nothing) || author.log_on.is_some() || author.nonce_use.is_some();
        if let Some(context) = self.contexts.get_mut(context) {
            context.pending = pending;
            // The Registrar answers within microseconds; if it has failed, somebody must.
            context.patience = is_question.then(|| now + self.settings.timers.f() / 4);
        }
        if is_question {
            self.arm_context(context);
            self.outputs.push_back(Output::Ask(Question {
                context: ContextId { slot: context.index, generation: context.generation },
                flow,
                log_on: author.log_on,
                nonce_use: author.nonce_use,
                ask,
            }));
        } else {
            self.go_on(now, context);
        }
    }

    pub(super) fn insert_server(&mut self, now: Instant, incoming: &Incoming) -> Slot {
        let timers = self.settings.timers;
        let reliable = incoming.flow.transport.is_reliable();
        let machine = if incoming.method == Method::Invite {
            ServerMachine::Invite(ServerInvite::start(now, &timers, reliable))
        } else {
            ServerMachine::NonInvite(ServerNonInvite::start(now, &timers, reliable))
        };
        let slot = self.servers.insert(ServerTransaction {
            key: incoming.key,
            generation: self.random.next() as u32,
            timers,
            machine,
            reply_path: incoming.reply_path.clone(),
            last_response: None,
            context: None,
            armed: None,
        });
        self.by_key.insert(incoming.key, slot);
        self.arm_server(slot);
        slot
    }

    pub(super) fn insert_context(
        &mut self,
        incoming: Incoming,
        server: Option<Slot>,
        whose: Whose,
        routing: &Routing,
        passage: Passage,
    ) -> Slot {
        let context = self.contexts.insert(ResponseContext {
            generation: self.random.next() as u32,
            server,
            timers: self.settings.timers,
            timer_c: self.settings.timer_c,
            follows_redirections: self.settings.follow_redirections,
            is_probe: false,
            is_recorded: is_recorded(&incoming.request, routing.has_token),
            request: incoming.request,
            method: incoming.method,
            begun: incoming.arrived,
            source: incoming.flow,
            account: whose.account,
            peer: None,
            is_trusted: whose.is_trusted,
            own_routes: routing.own_routes,
            passage,
            pending: Pending::Nothing,
            waiting: TargetSet::new(),
            is_group_cut: false,
            redirections: None,
            branches: SmallVec::new(),
            best: None,
            challenges: Vec::new(),
            has_word: false,
            is_cancelled: false,
            has_answered: false,
            is_declined: false,
            patience: None,
            is_impatient: false,
            last_call: None,
            armed: None,
        });
        if let Some(server) = server.and_then(|server| self.servers.get_mut(server)) {
            server.context = Some(context);
        }
        context
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
