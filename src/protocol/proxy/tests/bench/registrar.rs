//! The Registrar, by a script.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::super::network::{Peer, UCS};
use super::{Bench, binding};
use crate::protocol::account::AccountId;
use crate::protocol::digest::{NonceLedger, Spending};
use crate::protocol::flow::{Flow, host_of};
use crate::protocol::location::{
    Answer, Ask, Destination, Located, Penalty, Question, Server, Target, Verdict,
};
use crate::protocol::message::reply::Reply;

/// Whom it knows, and how it answers.
#[derive(Debug)]
pub(super) struct Registrar {
    bindings: HashMap<String, Vec<Target>>,
    /// GRUUs that lead to nobody, and the status that says so.
    unreachable: HashMap<String, u16>,
    pub(super) servers: Vec<Server>,
    pub(super) learned: HashMap<String, Flow>,
    ledger: NonceLedger,
    penalty: Penalty,
    pub(super) is_holding: bool,
    pub(super) held: VecDeque<Question>,
}

impl Registrar {
    pub(super) fn new(nonce_lifetime: Duration) -> Self {
        Self {
            bindings: HashMap::new(),
            unreachable: HashMap::new(),
            servers: Vec::new(),
            learned: HashMap::new(),
            ledger: NonceLedger::new(nonce_lifetime, 1000),
            penalty: Penalty::Wait(Duration::ZERO),
            is_holding: false,
            held: VecDeque::new(),
        }
    }

    fn locate(&self, destination: &Destination, asker: &Flow) -> Verdict {
        let user = &destination.name().to_string();
        let key = match destination {
            Destination::Instance(_, instance) => &format!("{user};gr={instance}"),
            Destination::User(_) | Destination::Temporary(_) => user,
        };
        if let Some(&status) = self.unreachable.get(key) {
            return Verdict::Unreachable(Reply::new(status));
        }
        if let Some(targets) = self.bindings.get(key) {
            return Verdict::Located(Located { targets: targets.clone(), ..Located::default() });
        }
        let mut servers: Vec<_> =
            self.servers.iter().filter(|server| server.flow != *asker).copied().collect();
        let learned = self.learned.get(user);
        servers.sort_by_key(|server| Some(&server.flow) != learned);
        let learned = servers.first().is_some_and(|first| Some(&first.flow) == learned);
        Verdict::Located(Located { targets: Vec::new(), servers, learned })
    }
}

impl Bench {
    /// Lets `peer` be logged on as `account`, and be asked for users.
    pub(in crate::protocol::proxy::tests) fn log_on(&mut self, peer: Peer, account: AccountId) {
        self.registrar.servers.push(Server { account, flow: peer.0 });
        self.proxy.handle_standing(&peer.0, Some(account));
    }

    /// Several at once, as [`UCS`].
    pub(in crate::protocol::proxy::tests) fn log_on_all(&mut self, peers: &[Peer]) {
        peers.iter().for_each(|&peer| self.log_on(peer, UCS));
    }

    /// Binds `user@a.test` to `peer`, behind its other bindings.
    pub(in crate::protocol::proxy::tests) fn bind(&mut self, user: &str, peer: Peer, q: u16) {
        self.bind_target(user, Target { q, ..binding(user, peer) });
    }

    pub(in crate::protocol::proxy::tests) fn bind_target(&mut self, user: &str, target: Target) {
        self.registrar.bindings.entry(format!("{user}@a.test")).or_default().push(target);
    }

    /// Binds the user agent that `sip:user@a.test;gr=instance` names, and nothing else.
    pub(in crate::protocol::proxy::tests) fn bind_instance(
        &mut self,
        user: &str,
        instance: &str,
        target: Target,
    ) {
        self.registrar.bindings.insert(format!("{user}@a.test;gr={instance}"), vec![target]);
    }

    /// From now on the user has no bindings, and none of its user agents has.
    pub(in crate::protocol::proxy::tests) fn forget(&mut self, user: &str) {
        self.registrar.bindings.retain(|name, _| !name.starts_with(user));
    }

    /// This user agent of a user is not there, or not any more.
    pub(in crate::protocol::proxy::tests) fn withdraw_instance(
        &mut self,
        user: &str,
        instance: &str,
        status: u16,
    ) {
        self.registrar.unreachable.insert(format!("{user}@a.test;gr={instance}"), status);
    }

    /// From now on a wrong answer to a challenge costs this.
    pub(in crate::protocol::proxy::tests) fn punish_with(&mut self, penalty: Penalty) {
        self.registrar.penalty = penalty;
    }

    /// The Registrar has banned the host of `peer`.
    pub(in crate::protocol::proxy::tests) fn ban(&mut self, peer: Peer, time: Duration) {
        self.proxy.handle_ban(self.now, host_of(peer.0.remote.ip()), self.now + time);
    }

    /// From now on the Registrar keeps its answers to itself, until [`Self::answer_held`].
    pub(in crate::protocol::proxy::tests) fn hold_answers(&mut self) {
        self.registrar.is_holding = true;
    }

    pub(in crate::protocol::proxy::tests) fn answer_held(&mut self) {
        self.registrar.is_holding = false;
        while let Some(question) = self.registrar.held.pop_front() {
            self.answer(question);
        }
        self.drain();
    }

    pub(super) fn answer(&mut self, question: Question) {
        let Question { context, flow, nonce_use, log_on, ask } = question;
        let millis = u64::try_from((self.now - self.start).as_millis()).unwrap();
        let ledger = &mut self.registrar.ledger;
        let is_used_up =
            nonce_use.is_some_and(|nonce_use| ledger.spend(nonce_use, millis) != Spending::Accepted);
        if let Some(account) = log_on.filter(|_| !is_used_up) {
            self.proxy.handle_standing(&flow, Some(account));
        }
        let verdict = match ask {
            _ if is_used_up => Verdict::Replayed,
            Ask::Nothing => Verdict::Admitted,
            Ask::Locate(destination) => self.registrar.locate(&destination, &flow),
            Ask::Register(_) => Verdict::Registered(Reply::new(200)),
            Ask::Punish => Verdict::Punished(self.registrar.penalty),
        };
        self.proxy.handle_answer(self.now, Answer { context, verdict });
    }
}
