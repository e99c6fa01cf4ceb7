//! The response context (RFC 3261 §16.7): what has been asked for one request, and what came back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::message::edit::Edit;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Method, Name};
use crate::protocol::transaction::Timers;

use super::border::Claim;
use super::keep_alive;
use super::outward::Departure;
use super::redirect::Redirections;
use super::slots::{Slot, Tenant};
use super::targets::{Group, Target, TargetKind, TargetSet};

/// Responses with challenges that are gathered (§16.7 step 7): more realms than a client will have passwords for.
const CHALLENGES_KEPT: usize = 16;

/// What a context waits for before it can ask anybody.
#[derive(Debug)]
pub(super) enum Pending {
    /// The Registrar's word on where the user is; or, of a user agent that the request has a way to by its Route, on
    /// whether there is a better one.
    Location(Option<Box<Target>>),
    /// The Registrar's word that the nonce is good; then these targets.
    Spending(TargetSet),
    /// The Registrar's answer to a REGISTER.
    Registration,
    /// The Registrar's word on where the user is to whom a redirection has led.
    Redirection(Bytes),
    /// Nobody: the request leaves the presence domains, and nobody has been asked yet where to.
    Departure(Departure),
    /// Its turn among the requests for a discovered peer; then this.
    Turn(Box<Self>),
    /// The name servers' word on where the domain's servers are.
    Resolution(Departure),
    /// The name servers' word on whether the certificate of a stranger proves its domain.
    Identity(Box<Claim>),
    /// The time that a wrong answer to a challenge costs, or the Registrar's word on that; then this is the answer.
    Refusal(Box<Reply>),
    /// Nothing: the target set is there.
    Nothing,
}

/// What a request brings along that says how far it may still go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passage {
    /// What Max-Forwards becomes (§16.6 step 3).
    pub(super) max_forwards: u32,
    /// Incoming Max-Breadth: branches that may be at work at one time, here and behind (RFC 5393 §5.3.3).
    pub(super) max_breadth: u32,
    /// What its way depends on (RFC 5393 §4.2.1).
    pub(super) loop_hash: u64,
}

/// How a branch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchState {
    /// Nothing has come back.
    Silent,
    /// A provisional response has.
    Proceeding,
    /// It has ended, with this status: a response, or what stands for one (408, 503; §16.9).
    Ended(u16),
}

/// One branch: a target that was asked.
#[derive(Debug)]
pub(super) struct BranchRecord {
    pub(super) client: Slot,
    pub(super) target: Target,
    pub(super) state: BranchState,
    /// A provisional response other than 100 has come: the user is there.
    pub(super) has_rung: bool,
    /// CANCEL is to be sent, or has been.
    pub(super) is_cancelled: bool,
    /// Timer C, for INVITE (§16.6 step 11); when it was cancelled, the end of waiting for its final response. Of other
    /// methods, when a silent one is to make room for another way to the same user agent.
    pub(super) deadline: Option<Instant>,
    /// Its share of Max-Breadth, until it has ended.
    pub(super) breadth: u32,
    /// It went by a stream only because of its size, and may go as its target says if that fails (§18.1.1).
    pub(super) may_fall_back: bool,
}

impl BranchRecord {
    pub(super) const fn is_pending(&self) -> bool {
        !matches!(self.state, BranchState::Ended(_))
    }

    /// Who is asked in its place now that it has ended with `status`, by a response or else by what stands for one:
    /// the same by UDP where only its size has sent it by a stream; the next way to the same user agent, unless that
    /// has answered (RFC 5626 §7, RFC 5627 §6.1).
    pub(super) fn successor(&mut self, status: u16, is_response: bool) -> Option<Target> {
        if self.may_fall_back && status == 503 && !is_response {
            let alternatives = std::mem::take(&mut self.target.alternatives);
            return Some(Target { is_fixed: true, alternatives, ..self.target.clone() });
        }
        // RFC 3263 §4.3.
        let is_overloaded = status == 503 && self.target.kind == TargetKind::Beyond;
        if is_response && !matches!(status, 408 | 430) && !is_overloaded {
            return None;
        }
        self.target.next_way()
    }

    /// Whether nothing has come back from a UC server whose flow has no connection that would tell.
    pub(super) const fn is_failed_flow(&self) -> bool {
        matches!(self.state, BranchState::Silent)
            && matches!(self.target.kind, TargetKind::Search)
            && matches!(self.target.hop.transport, Transport::Udp)
    }

    /// Whether the Registrar knows no other way to there than a connection that is still to be had.
    pub(super) const fn is_dialled_flow(&self) -> bool {
        matches!(self.state, BranchState::Silent)
            && matches!(self.target.kind, TargetKind::Search | TargetKind::Binding)
            && self.target.hop.is_dialled()
    }
}

/// A final response kept until all branches have ended.
#[derive(Debug)]
pub(super) struct Best {
    pub(super) status: u16,
    /// As received; `None` where the branch ended without one.
    pub(super) response: Option<Message>,
}

/// All about one request that is being answered.
#[derive(Debug)]
pub(super) struct ResponseContext {
    pub(super) generation: u32,
    /// The transaction to answer; `None` for what is never answered (ACK, BENOTIFY).
    pub(super) server: Option<Slot>,
    /// What the configuration said when it began: a reload does not change it.
    pub(super) timers: Timers,
    pub(super) timer_c: Duration,
    pub(super) follows_redirections: bool,
    /// The request is our own: nobody is to be answered.
    pub(super) is_probe: bool,
    pub(super) request: Message,
    pub(super) method: Method,
    /// When the request arrived.
    pub(super) begun: Instant,
    pub(super) source: Flow,
    pub(super) account: Option<AccountId>,
    /// The domain of the discovered peer that has sent it.
    pub(super) peer: Option<Arc<str>>,
    /// What it says of identities may be passed on (RFC 3325 §5).
    pub(super) is_trusted: bool,
    pub(super) own_routes: usize,
    pub(super) is_recorded: bool,
    pub(super) passage: Passage,
    pub(super) pending: Pending,
    pub(super) waiting: TargetSet,
    /// The first group of `waiting` is what Max-Breadth had no room for of the one before.
    pub(super) is_group_cut: bool,
    /// Where 3xx responses have led to.
    pub(super) redirections: Option<Box<Redirections>>,
    pub(super) branches: SmallVec<[BranchRecord; 1]>,
    pub(super) best: Option<Best>,
    /// Responses with challenges, whose rows the best of them carries as well (§16.7 step 7).
    pub(super) challenges: Vec<Message>,
    /// A final response has come from somebody.
    pub(super) has_word: bool,
    pub(super) is_cancelled: bool,
    pub(super) has_answered: bool,
    /// A 6xx has come: nobody else is asked.
    pub(super) is_declined: bool,
    /// When to stop waiting: for the Registrar, for who is silent before others are asked as well, or for the last
    /// silent ones.
    pub(super) patience: Option<Instant>,
    /// Patience has ended while somebody asked was at work.
    pub(super) is_impatient: bool,
    /// When a refusal goes back whoever is still at work, for its sender is about to give up; not of INVITE.
    pub(super) last_call: Option<Instant>,
    pub(super) armed: Option<Instant>,
}

impl Tenant for ResponseContext {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn next_timeout(&self) -> Option<Instant> {
        let branches =
            self.branches.iter().filter(|branch| branch.is_pending()).filter_map(|branch| branch.deadline);
        branches.chain(self.patience).min()
    }

    fn armed(&mut self) -> &mut Option<Instant> {
        &mut self.armed
    }
}

impl ResponseContext {
    pub(super) const fn is_invite(&self) -> bool {
        matches!(self.method, Method::Invite)
    }

    /// Whether somebody else may still be asked (§16.7 step 5).
    pub(super) const fn is_open(&self) -> bool {
        !self.is_cancelled && !self.is_declined && !self.has_answered
    }

    /// Those to ask next, each with its share of what Max-Breadth leaves: as many of a group as there is room for. Some
    /// is kept for those that are asked as well when the first are silent.
    pub(super) fn next_targets(&mut self) -> SmallVec<[(Target, u32); 1]> {
        let free = self.free_breadth();
        let Some(mut group) = self.waiting.pop_front().filter(|_| self.is_open()) else {
            return SmallVec::new();
        };
        let room = group.len().min(free as usize);
        let rest: Group = group.drain(room..).collect();
        self.is_group_cut = !rest.is_empty();
        if self.is_group_cut {
            self.waiting.push_front(rest);
        }
        let is_search = group.first().is_some_and(|target| target.kind == TargetKind::Search);
        let later =
            if is_search || !self.is_invite() { self.waiting.iter().map(Group::len).sum() } else { 0 };
        let shares = u32::try_from(group.len() + later).unwrap_or(u32::MAX).max(1);
        let (share, odd) = ((free / shares).max(1), if later == 0 { free % shares } else { 0 });
        let shared = group.into_iter().zip(0..);
        shared.map(|(target, at)| (target, share + u32::from(at < odd))).collect()
    }

    /// What the pending branches leave of Max-Breadth.
    pub(super) fn free_breadth(&self) -> u32 {
        let pending = self.branches.iter().filter(|branch| branch.is_pending());
        let outgoing: u32 = pending.map(|branch| branch.breadth).sum();
        self.passage.max_breadth.saturating_sub(outgoing)
    }

    pub(super) fn has_pending_branch(&self) -> bool {
        self.branches.iter().any(BranchRecord::is_pending)
    }

    /// Whether UC servers are being searched for the user.
    pub(super) fn is_search(&self) -> bool {
        self.branches.iter().any(|branch| branch.target.kind == TargetKind::Search)
    }

    /// Whether servers of another domain have been asked.
    pub(super) fn is_outward(&self) -> bool {
        self.branches.iter().any(|branch| branch.target.kind == TargetKind::Beyond)
    }

    /// Whether there is a final response that could go back: a request other than INVITE has none of 408 (RFC 4320 §4.2).
    pub(super) fn has_refusal(&self) -> bool {
        self.best.as_ref().is_some_and(|best| self.is_invite() || best.status != 408)
    }

    /// Whether every branch that still waits has not said anything.
    pub(super) fn all_pending_are_silent(&self) -> bool {
        self.branches
            .iter()
            .filter(|branch| branch.is_pending())
            .all(|branch| branch.state == BranchState::Silent)
    }

    /// Notes a final response, and keeps it if it is better than the one kept (§16.7 steps 5, 6).
    pub(super) fn note_final(&mut self, status: u16, response: Option<Message>) {
        self.has_word |= response.is_some();
        let has_room = self.challenges.len() < CHALLENGES_KEPT;
        if let Some(message) = response.as_ref().filter(|_| has_room && matches!(status, 401 | 407)) {
            self.challenges.push(message.clone());
        }
        let is_better = self.best.as_ref().is_none_or(|best| self.rank(status) < self.rank(best.status));
        if is_better {
            self.best = Some(Best { status, response });
        }
    }

    /// The order of choice: 6xx, then the lowest class; within 4xx what tells the client how to do better. A
    /// search prefers any word about the user to "not here".
    fn rank(&self, status: u16) -> (u16, u16) {
        let within = match status {
            401 | 407 => 0,
            415 | 420 | 484 => 1,
            // Who sends it back to us does not have the user either.
            482 if self.is_search() => 7,
            404 if self.is_search() => 6,
            480 if self.is_search() => 5,
            408 | 430 => 4,
            503 => 4,
            _ => 3,
        };
        match status {
            600..=699 => (0, within),
            _ => (status / 100, within),
        }
    }

    /// What a response says of keep-alives is for this hop; who has asked us is told how long it may be silent.
    pub(super) fn promise_keep_alive(&self, edit: &mut Edit<'_, '_>, response: &Message, silence: Duration) {
        if keep_alive::is_asked(&self.request, &self.source) {
            response.row_spans(Name::MsKeepAlive).for_each(|span| edit.replace(span, |_| ()));
            edit.append_row(Name::MsKeepAlive, |out| {
                out.extend_from_slice(keep_alive::promise(silence).as_bytes());
            });
        }
    }

    /// The best response as it goes upstream: without our Via, and with the challenges of all branches.
    pub(super) fn write_best(&self, response: &Message, silence: Duration, scratch: &mut Vec<u8>) -> Bytes {
        let mut edit = Edit::new(response, scratch);
        edit.remove_first_values(Name::Via, 1);
        self.promise_keep_alive(&mut edit, response, silence);
        if self.source.transport.is_reliable() {
            edit.measure_body();
        }
        let others = self.challenges.iter().filter(|other| {
            matches!(response.status(), Some(401 | 407))
                && other.bytes().as_ptr() != response.bytes().as_ptr()
        });
        for other in others {
            for name in [Name::WwwAuthenticate, Name::ProxyAuthenticate] {
                for value in other.rows(name) {
                    edit.append_row(name, |out| out.extend_from_slice(value));
                }
            }
        }
        edit.write()
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::flow::{ConnectionId, InterfaceId};
    use crate::protocol::message::{Carriage, MessageLimits};

    use super::*;

    fn message(text: &str) -> Message {
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), Carriage::Datagram, limits).unwrap()
    }

    fn flow() -> Flow {
        Flow {
            interface: InterfaceId(0),
            transport: Transport::Tcp,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: "127.0.0.1:5070".parse().unwrap(),
            connection: Some(ConnectionId(1)),
        }
    }

    fn context(kind: TargetKind) -> ResponseContext {
        let branch = BranchRecord {
            has_rung: false,
            client: Slot { index: 0, generation: 0 },
            target: Target { kind, ..Target::direct(flow()) },
            state: BranchState::Silent,
            is_cancelled: false,
            deadline: None,
            breadth: 60,
            may_fall_back: false,
        };
        ResponseContext {
            has_word: false,
            timers: Timers::default(),
            timer_c: Duration::from_secs(185),
            follows_redirections: false,
            is_probe: false,
            generation: 0,
            server: None,
            request: message("MESSAGE sip:bob@a.test SIP/2.0\r\n\r\n"),
            method: Method::Message,
            begun: Instant::now(),
            source: flow(),
            account: None,
            peer: None,
            is_trusted: true,
            own_routes: 0,
            is_recorded: false,
            passage: Passage { max_forwards: 69, max_breadth: 60, loop_hash: 0 },
            pending: Pending::Nothing,
            waiting: TargetSet::new(),
            is_group_cut: false,
            redirections: None,
            branches: SmallVec::from_iter([branch]),
            best: None,
            challenges: Vec::new(),
            is_cancelled: false,
            has_answered: false,
            is_declined: false,
            patience: None,
            is_impatient: false,
            last_call: None,
            armed: None,
        }
    }

    /// Whichever comes first, the better one is kept; of equals, the first.
    #[test]
    fn better_responses_replace_worse_ones() {
        let table: [(TargetKind, &[&[u16]]); 2] = [
            (
                TargetKind::Binding,
                &[
                    &[600, 603],
                    &[302],
                    &[401, 407],
                    &[415, 420, 484],
                    &[404, 480, 482, 486],
                    &[408, 430],
                    &[500],
                    &[503],
                ],
            ),
            (
                TargetKind::Search,
                &[
                    &[603],
                    &[302],
                    &[401],
                    &[484],
                    &[403, 486],
                    &[408, 430],
                    &[480],
                    &[404],
                    &[482],
                    &[500],
                    &[503],
                ],
            ),
        ];
        let kept = |kind, statuses: &[u16]| {
            let mut context = context(kind);
            statuses.iter().for_each(|&status| context.note_final(status, None));
            context.best.unwrap().status
        };
        for (kind, ranks) in table {
            for (at, rank) in ranks.iter().enumerate() {
                for &better in *rank {
                    let equals = rank.iter().map(|&equal| (equal, false));
                    let worse =
                        ranks[at + 1..].iter().flat_map(|rank| rank.iter().map(|&worse| (worse, true)));
                    for (other, is_worse) in equals.chain(worse) {
                        assert_eq!(kept(kind, &[better, other]), better, "{kind:?} {better} {other}");
                        let last = if is_worse { better } else { other };
                        assert_eq!(kept(kind, &[other, better]), last, "{kind:?} {other} {better}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_context_wakes_for_the_first_of_its_pending_branches_or_its_patience() {
        let mut context = context(TargetKind::Binding);
        assert_eq!(context.next_timeout(), None);
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        context.patience = Some(later);
        context.branches[0].deadline = Some(now);
        assert_eq!(context.next_timeout(), Some(now));
        context.branches[0].state = BranchState::Ended(486);
        assert_eq!(context.next_timeout(), Some(later));
    }

    #[test]
    fn what_is_no_challenge_carries_none_of_the_others() {
        let response = |status: u16| {
            message(&format!(
                "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP us\r\nVia: SIP/2.0/UDP them\r\n\
                 WWW-Authenticate: Digest realm=\"{status}\"\r\n\r\nbody"
            ))
        };
        let mut context = context(TargetKind::Binding);
        context.note_final(401, Some(response(401)));
        context.note_final(603, Some(response(603)));
        let mut scratch = Vec::new();
        let best = context.best.as_ref().unwrap().response.clone().unwrap();
        assert_eq!(
            context.write_best(&best, Duration::ZERO, &mut scratch),
            "SIP/2.0 603 X\r\nVia: SIP/2.0/UDP them\r\nWWW-Authenticate: Digest realm=\"603\"\r\n\
             Content-Length: 4\r\n\r\nbody"
        );
    }
}
