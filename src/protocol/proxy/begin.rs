//! What a request that goes on begins with: its server transaction, its response context, and the first question.

use std::time::Instant;

use smallvec::SmallVec;

use crate::protocol::location::{Ask, ContextId, Question};
use crate::protocol::message::Method;
use crate::protocol::transaction::{ServerInvite, ServerNonInvite};

use super::forward::is_recorded;
use super::incoming::{Accepted, Incoming, Whose};
use super::response_context::{Passage, Pending, ResponseContext};
use super::route::Routing;
use super::slots::Slot;
use super::table::{ServerMachine, ServerTransaction};
use super::targets::TargetSet;
use super::{Output, Proxy, is_unanswered};

impl Proxy {
    /// Creates the server transaction and the response context, and asks the first question.
    pub(super) fn begin(&mut self, now: Instant, incoming: Incoming, accepted: Accepted) {
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
}
