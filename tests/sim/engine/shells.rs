//! What the shells of the Routers and of the Registrar do with their cores.

use std::sync::Arc;

use sip_proxy::protocol::identity::PeerProof;
use sip_proxy::protocol::location::{Ask, ContextId, LocationEvent, Question};
use sip_proxy::protocol::proxy::{Event, Output};

use super::{Actor, Mail, Registrar, Router};
use crate::coverage::Count;
use crate::model::Cause;
use crate::model::registry::Registry;
use crate::sabotage::Fault;
use crate::trace::What;
use crate::world::World;

impl World<'_> {
    pub(super) fn router_handles(&mut self, index: usize, mail: Mail) {
        let (now, at) = (self.instant(), self.now);
        let what = match &mail {
            Mail::Received { message, .. } => {
                What::RouterReceives { router: index, bytes: message.bytes().clone() }
            }
            mail => What::Mail { to: Actor::Router(index), what: mail.name(), flow: mail.flow() },
        };
        self.trace.push(at, what);
        let Some(Router { core, incarnation, .. }) = &mut self.engine.routers[index] else { return };
        self.model.begin_turn(*incarnation, Cause::Other);
        match mail {
            Mail::Received { flow, certificate, message } => {
                self.model.router_receives(at, core, &flow, message.bytes());
                let proof = |account| Arc::new(PeerProof { account: Some(account), ..PeerProof::default() });
                core.handle_message(now, &flow, certificate.map(proof).as_ref(), message);
            }
            Mail::Answer(answer) => {
                self.model.verdict_arrives(&answer);
                core.handle_answer(now, answer);
            }
            Mail::Standing { .. } if self.sabotage.strikes(Fault::StandingUnheard) => {}
            Mail::Standing { flow, account, is_gone: false } => core.handle_standing(&flow, account),
            Mail::Standing { flow, is_gone: true, .. } => {
                self.model.logged_off(at, &flow);
                core.handle_log_off(now, &flow);
            }
            Mail::Failed { branch, unreached } => {
                self.model.transmit_failed(at, &branch);
                core.handle_transmit_failure(now, &branch, unreached);
            }
            Mail::Closed(flow) => {
                self.model.connection_closed(at, &flow);
                if !self.sabotage.goes_on(Fault::CloseUnheardByRouters) {
                    core.handle_connection_closed(now, &flow);
                }
            }
            Mail::RegistrarRestarted => {
                core.forget_registrations();
                self.repeat_standings(index);
            }
            Mail::Banned(host, until) => core.handle_ban(now, host, until),
            Mail::Drain => drop(core.drain(now, 32)),
            other => unreachable!("{} is not for a Router", other.name()),
        }
        self.drain_router(index);
    }

    /// The order of a table must not decide about the run.
    fn repeat_standings(&mut self, index: usize) {
        let Some(router) = &self.engine.routers[index] else { return };
        let mut standings: Vec<_> = router.core.standings().collect();
        standings.sort_unstable();
        standings.retain(|(flow, _)| flow.connection.is_none_or(|id| self.network.is_known(id)));
        for (flow, account) in standings {
            let context = ContextId { slot: u32::MAX, generation: 0 };
            let question =
                Question { context, flow, nonce_use: None, log_on: Some(account), ask: Ask::Nothing };
            self.post(Actor::Registrar, Mail::Question(index, question));
        }
    }

    /// A timer of a core is due.
    pub(crate) fn timer_fires(&mut self, actor: Actor) {
        let now = self.instant();
        match actor {
            Actor::Router(index) => {
                let Some(router) = &mut self.engine.routers[index] else { return };
                self.model.begin_turn(router.incarnation, Cause::Timer);
                router.core.handle_timeout(now);
                let next = router.core.poll_timeout();
                assert!(next.is_none_or(|next| next > now), "a timer of router {index} does not advance");
                self.drain_router(index);
            }
            _ => {
                if let Some(registrar) = &mut self.engine.registrar {
                    registrar.core.handle_timeout(now);
                }
                self.tell_standings();
                self.keep();
            }
        }
    }

    /// Does all that the core wants done, as the shell of the Router does.
    fn drain_router(&mut self, index: usize) {
        let to = Actor::Registrar;
        loop {
            let Some(Router { core, .. }) = &mut self.engine.routers[index] else { return };
            let Some(output) = core.poll_output() else { break };
            match output {
                Output::Transmit { hop, alternate, bytes, branch, .. } => {
                    // Nobody is looked up here.
                    let alternate = alternate.map(|alternate| alternate.address);
                    for (hop, bytes) in self.sabotage.distort(hop, bytes) {
                        let what = What::RouterSends { router: index, to: hop, bytes: bytes.clone() };
                        self.trace.push(self.now, what);
                        self.model.router_sends(self.now, &hop, alternate, &bytes);
                        self.carry(hop, alternate, bytes, branch);
                    }
                }
                Output::Ask(question) => {
                    self.model.asked(self.now, question.context);
                    self.post(to, Mail::Question(index, question));
                }
                Output::Learned { user, flow } => {
                    self.count(Count::Learned);
                    self.post(to, Mail::Learned(user, flow));
                }
                Output::FlowFailed(flow) => {
                    self.count(Count::FlowsFailed);
                    self.post(to, Mail::FlowFailed(flow));
                }
                Output::FlowEnded(flow) => self.post(to, Mail::FlowEnded(flow)),
                Output::Event(Event::Dropped { reason, .. }) => self.model.dropped(reason),
                // The model has no other domains.
                Output::Resolve { .. } | Output::ServerHealth { .. } | Output::Event(_) => {}
            }
        }
        let Some(Router { core, .. }) = &self.engine.routers[index] else { return };
        self.model.end_turn(core);
    }

    pub(super) fn registrar_handles(&mut self, mail: Mail) {
        let (now, at) = (self.instant(), self.now);
        let what = What::Mail { to: Actor::Registrar, what: mail.name(), flow: mail.flow() };
        self.trace.push(at, what);
        let has_room = self.engine.journal.is_there();
        let Some(Registrar { core, outbox, .. }) = &mut self.engine.registrar else { return };
        match mail {
            Mail::Question(router, question) => {
                let asked = Registry::question(&question);
                core.set_room(has_room);
                let changes = core.changes();
                let answer = core.handle_question(now, question);
                let is_kept = core.changes() > changes;
                let is_change = self.model.registry.verdict(at, asked, &answer);
                assert!(is_kept || !is_change, "what nobody keeps is promised");
                if is_kept {
                    outbox.push(router, answer);
                } else {
                    self.tell_standings();
                    self.post(Actor::Router(router), Mail::Answer(answer));
                }
            }
            Mail::TellAll => self.tell_all(),
            Mail::Learned(user, flow) => core.handle_learned(now, &user, &flow),
            Mail::FlowFailed(flow) => {
                self.model.registry.flow_failed(&flow);
                core.handle_flow_failed(now, &flow);
            }
            Mail::FlowEnded(flow) => {
                self.model.registry.flow_ended(&flow);
                core.handle_flow_ended(now, &flow);
            }
            Mail::LogOn(flow, account) => {
                self.model.registry.logged_on(&flow, account);
                core.handle_log_on(now, &flow, account);
            }
            Mail::Closed(flow) => {
                self.model.registry.closed(&flow);
                if !self.sabotage.strikes(Fault::CloseUnheardByRegistrar) {
                    core.handle_connection_closed(now, &flow);
                }
            }
            Mail::RouterRestarted(router) => {
                let mut standings: Vec<_> = core.standings().collect();
                standings.sort_unstable();
                let bans: Vec<_> = core.bans(now).collect();
                for (flow, account) in standings {
                    let standing = Mail::Standing { flow, account: Some(account), is_gone: false };
                    self.post(Actor::Router(router), standing);
                }
                for (host, until) in bans {
                    self.post(Actor::Router(router), Mail::Banned(host, until));
                }
            }
            other => unreachable!("{} is not for the Registrar", other.name()),
        }
        self.tell_standings();
        self.keep();
    }

    /// What has changed is told to every Router, before the answer that follows from it.
    pub(super) fn tell_standings(&mut self) {
        loop {
            let Some(Registrar { core, .. }) = &mut self.engine.registrar else { return };
            let Some(event) = core.poll_event() else { return };
            if matches!(event, LocationEvent::Banned { .. }) {
                self.count(Count::Bans);
            }
            for index in 0..self.engine.routers.len() {
                let mail = match event {
                    LocationEvent::LoggedOn { flow, account, passes } => {
                        Mail::Standing { flow, account: passes.then_some(account), is_gone: false }
                    }
                    LocationEvent::LoggedOff { flow, .. } => {
                        Mail::Standing { flow, account: None, is_gone: true }
                    }
                    LocationEvent::Banned { host, until } => Mail::Banned(host, until),
                    LocationEvent::BindingAdded { .. } | LocationEvent::BindingRemoved { .. } => break,
                };
                self.post(Actor::Router(index), mail);
            }
        }
    }
}
