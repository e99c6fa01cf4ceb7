//! A registrar to hold the Registrar's answers against: bindings as RFC 3261 §10.3 has them, and who has logged on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::account::AccountId;
use sip_proxy::protocol::digest::{NonceId, NonceUse};
use sip_proxy::protocol::flow::{ConnectionId, Flow, Transport};
use sip_proxy::protocol::location::{
    AddressOfRecord, Answer, Ask, Change, Contact, Destination, Located, Question, Registration, Verdict,
};
use sip_proxy::protocol::message::reply::Reply;
use sip_proxy::protocol::message::uri::Uri;

use crate::setup::{
    self, BONN, DEFAULT_EXPIRES, DOMAIN, MAXIMUM_CONTACTS, MAXIMUM_EXPIRES, MINIMUM_EXPIRES, REMOTE,
};
use crate::text::{host_of, uri_of};

/// Accounts' own addresses-of-record, by which servers register themselves.
const OWN_NAMES: [&str; 3] = ["berlin", "bonn", "mutual"];

/// Longer intervals are never too brief, in seconds.
const NEVER_TOO_BRIEF: u64 = 3600;

/// A place where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    /// The new Request-URI; `None` leaves the one that is there.
    pub(crate) uri: Option<String>,
    /// Route values to put before the others (RFC 3327).
    pub(crate) path: Vec<String>,
    pub(crate) hop: Flow,
}

#[derive(Clone, Debug)]
struct Bound {
    contact: String,
    path: Vec<String>,
    q: u16,
    /// In milliseconds since the process began.
    expires: u64,
    flow: Flow,
    account: Option<AccountId>,
    call_id: Box<[u8]>,
    cseq: u32,
}

type Bindings = BTreeMap<String, Vec<Bound>>;

/// All that is bound at some time; its expiries are those of the wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot(Bindings);

/// What is asked of the Registrar, as far as it can be judged.
#[derive(Debug)]
pub(crate) struct Asked {
    flow: Flow,
    log_on: Option<AccountId>,
    nonce_use: Option<NonceUse>,
    what: What,
}

#[derive(Debug)]
enum What {
    Nothing,
    Punish,
    Locate(Destination),
    Register(Box<Registration>),
}

/// The registrar.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    began: Duration,
    bindings: Bindings,
    /// What the disk has.
    kept: Snapshot,
    /// Changes can be kept.
    pub(crate) has_room: bool,
    /// UC servers' flows.
    proven: BTreeMap<Flow, AccountId>,
    closed: BTreeSet<ConnectionId>,
    /// Nonces that were accepted, by whichever Registrar of the process.
    spent: BTreeSet<(NonceId, Option<u32>)>,
    /// A server has removed its own binding: who is logged on is no longer known for certain.
    is_vague: bool,
}

impl Registry {
    pub(crate) fn process_began(&mut self, now: Duration) {
        *self = Self { began: now, kept: std::mem::take(&mut self.kept), ..Self::default() };
    }

    /// The Registrar is another one.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self {
            began: self.began,
            spent: std::mem::take(&mut self.spent),
            kept: std::mem::take(&mut self.kept),
            has_room: self.has_room,
            ..Self::default()
        };
    }

    /// The time in the clock of the process.
    pub(super) fn millis(&self, now: Duration) -> u64 {
        (now - self.began).as_millis() as u64
    }

    /// A question is about to be answered.
    pub(crate) fn question(question: &Question) -> Asked {
        Asked {
            flow: question.flow,
            log_on: question.log_on,
            nonce_use: question.nonce_use,
            what: match &question.ask {
                Ask::Nothing => What::Nothing,
                Ask::Punish => What::Punish,
                Ask::Locate(name) => What::Locate(name.clone()),
                Ask::Register(registration) => What::Register(registration.clone()),
            },
        }
    }

    /// It was answered. Whether that has changed something that is to be kept.
    pub(crate) fn verdict(&mut self, now: Duration, asked: Asked, answer: &Answer) -> bool {
        let Asked { flow, log_on, nonce_use, what } = asked;
        if matches!(answer.verdict, Verdict::Replayed) {
            assert!(nonce_use.is_some(), "a nonce is used up that was not there");
            return false;
        }
        if let Some(nonce_use) = nonce_use {
            assert!(self.spent.insert((nonce_use.id, nonce_use.count)), "a nonce is accepted twice");
        }
        if let Some(account) = log_on {
            self.logged_on(&flow, account);
        }
        match (what, &answer.verdict) {
            (What::Nothing, Verdict::Admitted) | (What::Punish, Verdict::Punished(_)) => {}
            (What::Locate(Destination::User(name)), Verdict::Located(located)) => {
                self.check_located(now, &name, &flow, located);
            }
            (What::Register(registration), Verdict::Registered(reply)) => {
                return self.check_registered(now, &registration, &flow, reply);
            }
            (what, verdict) => panic!("{verdict:?} to {what:?}"),
        }
        false
    }

    /// A flow has proven an account.
    pub(crate) fn logged_on(&mut self, flow: &Flow, account: AccountId) {
        let is_closed = flow.connection.is_some_and(|id| self.closed.contains(&id));
        if account != REMOTE && !is_closed {
            self.proven.insert(*flow, account);
        }
    }

    pub(crate) fn closed(&mut self, flow: &Flow) {
        self.closed.extend(flow.connection);
        self.proven.remove(flow);
        for list in self.bindings.values_mut() {
            list.retain(|bound| bound.flow.connection.is_none() || bound.flow.connection != flow.connection);
        }
    }

    /// No connection can be had by this flow.
    pub(crate) fn flow_failed(&mut self, flow: &Flow) {
        if flow.is_dialled() {
            self.bindings.values_mut().for_each(|list| list.retain(|bound| bound.flow != *flow));
        }
    }

    /// Nothing arrives over this flow of datagrams: what leads over it and no other way is gone.
    pub(crate) fn flow_ended(&mut self, flow: &Flow) {
        let is_at = |bound: &Bound| {
            let address = host_of(&bound.contact).parse::<std::net::SocketAddr>();
            address.is_ok_and(|address| address.ip() == flow.remote.ip())
        };
        for list in self.bindings.values_mut() {
            list.retain(|bound| bound.flow != *flow || !bound.path.is_empty() || is_at(bound));
        }
    }

    /// What is bound now.
    pub(crate) fn snapshot(&self, now: Duration, unix_millis: u64) -> Snapshot {
        let mut bindings = self.bindings.clone();
        for bound in bindings.values_mut().flatten() {
            bound.expires = (bound.expires + unix_millis).saturating_sub(self.millis(now));
        }
        Snapshot(bindings)
    }

    /// This is on the disk.
    pub(crate) fn kept(&mut self, snapshot: Snapshot) {
        self.kept = snapshot;
    }

    /// What the disk has comes back. How many bindings that are.
    pub(crate) fn restored(
        &mut self,
        now: Duration,
        unix_millis: u64,
        is_open: impl Fn(ConnectionId) -> bool,
    ) -> usize {
        let began = self.millis(now);
        self.bindings = self.kept.0.clone();
        for list in self.bindings.values_mut() {
            list.retain_mut(|bound| {
                let left = bound.expires.saturating_sub(unix_millis);
                bound.expires = began + left.min(MAXIMUM_EXPIRES * 1000);
                let way = way_now(bound, &is_open);
                bound.flow = way.unwrap_or(bound.flow);
                left > 0 && way.is_some()
            });
        }
        let back: Vec<_> = self
            .bindings
            .iter()
            .flat_map(|(name, list)| list.iter().map(move |b| (name.clone(), b.flow, b.account)))
            .collect();
        for (name, flow, account) in &back {
            if let Some(account) = account.filter(|_| !flow.is_dialled() || is_own(name)) {
                self.logged_on(flow, account);
            }
        }
        back.len()
    }

    fn check_located(&self, now: Duration, name: &AddressOfRecord, asking: &Flow, located: &Located) {
        let now = self.millis(now);
        let of_user = self.bindings.get(&name.to_string()).map_or(&[][..], |list| list);
        let mut live: Vec<_> = of_user.iter().filter(|bound| bound.expires > now).collect();
        live.reverse();
        live.sort_by_key(|bound| std::cmp::Reverse(bound.q));
        let expected: Vec<_> =
            live.iter().map(|b| (b.contact.clone(), b.path.clone(), b.q, b.flow)).collect();
        let found: Vec<_> =
            located.targets.iter().map(|t| (text_of(&t.uri), texts_of(&t.path), t.q, t.flow)).collect();
        assert_eq!(found, expected, "the bindings of {name}");
        if !live.is_empty() {
            assert!(located.servers.is_empty(), "a search for {name}, who is registered");
            return;
        }
        let mut seen = BTreeSet::new();
        for server in &located.servers {
            let is_there = |(flow, account): (&Flow, &AccountId)| {
                let is_it = if flow.connection.is_some() {
                    *flow == server.flow
                } else {
                    flow.interface == server.flow.interface && flow.remote.ip() == server.flow.remote.ip()
                };
                is_it && *account == server.account
            };
            assert!(self.proven.iter().any(is_there), "{} is asked and has not logged on", server.flow);
            assert!(server.flow != *asking, "{asking} is asked for whom it asks");
            assert!(seen.insert(server.flow), "{} is asked twice", server.flow);
            assert!(speaks_for(server.account, name), "{:?} does not speak for {name}", server.account);
        }
        let is_missing = |(flow, account): &(&Flow, &AccountId)| {
            flow.connection.is_some()
                && *flow != asking
                && speaks_for(**account, name)
                && !seen.contains(*flow)
        };
        let missing = self.proven.iter().find(is_missing).filter(|_| !self.is_vague);
        assert!(missing.is_none(), "{missing:?} is not asked for {name}");
    }

    fn check_registered(
        &mut self,
        now: Duration,
        registration: &Registration,
        flow: &Flow,
        reply: &Reply,
    ) -> bool {
        let now = self.millis(now);
        let name = registration.address_of_record.to_string();
        let list = self.bindings.entry(name.clone()).or_default();
        list.retain(|bound| bound.expires > now);
        let is_closed = flow.connection.is_some_and(|id| self.closed.contains(&id));
        let is_own = is_own(&name);
        let outcome = if is_closed { Err(430) } else { changed(list, registration, flow, now, is_own) };
        match outcome {
            Err(status) => {
                assert_eq!(reply.status, status, "to a REGISTER for {name}");
                false
            }
            Ok(Some(_)) if !self.has_room => {
                assert_eq!(reply.status, 503, "to a REGISTER for {name}, which nobody keeps");
                false
            }
            Ok(changed) => {
                assert_eq!(reply.status, 200, "to a REGISTER for {name}");
                let is_changed = changed.is_some();
                *list = changed.unwrap_or_else(|| list.clone());
                list.retain(|bound| !is_replaced(bound, registration, flow));
                let left = |bound: &Bound| (bound.expires - now).div_ceil(1000);
                let expected: Vec<_> =
                    list.iter().map(|b| (b.contact.clone(), left(b).to_string())).collect();
                assert_eq!(contacts(reply), expected, "the bindings of {name} in the 200");
                let adds = list.iter().any(|bound| bound.flow == *flow);
                if let Some(account) = registration.account.filter(|_| adds) {
                    self.logged_on(flow, account);
                }
                self.is_vague |= is_own && !adds;
                is_changed
            }
        }
    }

    /// Those who are or were registered.
    pub(crate) fn names(&self) -> Vec<AddressOfRecord> {
        let uri = |name: &String| format!("sip:{name}");
        let read = |uri: String| Uri::parse(uri.as_bytes()).map(|uri| AddressOfRecord::from_uri(&uri));
        self.bindings.keys().map(uri).filter_map(|uri| read(uri).ok()).collect()
    }
}

/// Whether it is an account's own name.
fn is_own(name: &str) -> bool {
    name == DOMAIN || OWN_NAMES.iter().any(|own| name == format!("{own}@{DOMAIN}"))
}

/// Where a binding leads that has come back: a connection that is gone is gone, but a UC server's contact can be called
/// (docs/operations.md).
fn way_now(bound: &Bound, is_open: impl Fn(ConnectionId) -> bool) -> Option<Flow> {
    let is_server = bound.account.is_some_and(|account| account != REMOTE);
    match bound.flow.connection {
        Some(id) if is_open(id) => Some(bound.flow),
        Some(_) if is_server && bound.path.is_empty() => {
            let remote = host_of(&bound.contact).parse::<std::net::SocketAddr>().ok()?;
            let is_called = remote.ip() == bound.flow.remote.ip() && remote != bound.flow.remote;
            is_called.then_some(Flow { remote, connection: None, ..bound.flow })
        }
        Some(_) => None,
        None => (!bound.flow.is_dialled() || is_server).then_some(bound.flow),
    }
}

fn speaks_for(account: AccountId, name: &AddressOfRecord) -> bool {
    account != BONN || (0..setup::OF_BONN).any(|user| name.to_string() == format!("u{user}@{DOMAIN}"))
}

/// The contacts of a 200, with the seconds that each has left.
fn contacts(reply: &Reply) -> Vec<(String, String)> {
    let values = reply.rows.iter().filter(|(name, _)| *name == "Contact").map(|(_, value)| value);
    values
        .map(|value| {
            let expires = value.rsplit_once("expires=").map_or("", |(_, expires)| expires);
            (uri_of(value).to_owned(), expires.to_owned())
        })
        .collect()
}

/// Whether a server that has come back by a connection is no longer to be called for this.
fn is_replaced(bound: &Bound, registration: &Registration, flow: &Flow) -> bool {
    flow.connection.is_some()
        && registration.change != Change::Nothing
        && bound.flow.is_dialled()
        && bound.flow.remote.ip() == flow.remote.ip()
        && bound.account == registration.account
}

/// What a REGISTER makes of the bindings, `None` if nothing; or the status that refuses it.
fn changed(
    list: &[Bound],
    registration: &Registration,
    flow: &Flow,
    now: u64,
    is_own: bool,
) -> Result<Option<Vec<Bound>>, u16> {
    let (mut changed, mut is_changed) = (list.to_vec(), false);
    let is_late = |bound: &Bound| bound.call_id == registration.call_id && bound.cseq >= registration.cseq;
    if !registration.path.is_empty() && !registration.supports.path {
        return Err(420);
    }
    let contacts = match &registration.change {
        Change::Nothing => return Ok(None),
        Change::RemoveAll if list.iter().any(is_late) => return Err(500),
        Change::RemoveAll => return Ok((!list.is_empty()).then(Vec::new)),
        Change::Contacts(contacts) => contacts,
    };
    for contact in contacts {
        let uri = text_of(&contact.uri);
        let seconds = granted(contact)?;
        let known = changed.iter().position(|bound| bound.contact == uri);
        is_changed |= known.is_some() || seconds > 0;
        if known.is_some_and(|at| is_late(&changed[at])) {
            return Err(500);
        }
        if seconds == 0 {
            changed.retain(|bound| bound.contact != uri);
            continue;
        }
        let bound = Bound {
            contact: uri,
            path: texts_of(&registration.path),
            q: contact.q,
            expires: now + seconds * 1000,
            flow: *flow,
            account: registration.account,
            call_id: registration.call_id.clone(),
            cseq: registration.cseq,
        };
        // Those that were refreshed stand behind the rest.
        known.map(|at| changed.remove(at));
        changed.push(bound);
    }
    if !is_own && changed.len() > MAXIMUM_CONTACTS && changed.len() > list.len() {
        Err(403)
    } else {
        Ok(is_changed.then_some(changed))
    }
}

fn granted(contact: &Contact) -> Result<u64, u16> {
    match contact.expires.map(u64::from) {
        None => Ok(DEFAULT_EXPIRES),
        Some(0) => Ok(0),
        Some(wanted) if wanted < MINIMUM_EXPIRES.min(NEVER_TOO_BRIEF) => Err(423),
        Some(wanted) => Ok(wanted.min(MAXIMUM_EXPIRES)),
    }
}

/// Where `located` sends a request of `method`: the groups in their order (docs/routing.md).
pub(super) fn goals(located: &Located, method: &str) -> Vec<Vec<Goal>> {
    let mut groups: Vec<Vec<Goal>> = Vec::new();
    let mut last_q = None;
    for target in &located.targets {
        let (uri, path) = (text_of(&target.uri), texts_of(&target.path));
        let hop = if path.is_empty() { hop_of(&uri, &target.flow) } else { target.flow };
        let goal = Goal { uri: Some(uri), path, hop };
        match groups.last_mut().filter(|_| last_q == Some(target.q)) {
            Some(group) => group.push(goal),
            None => groups.push(vec![goal]),
        }
        last_q = Some(target.q);
    }
    let mut servers =
        located.servers.iter().map(|server| Goal { uri: None, path: Vec::new(), hop: server.flow });
    if method == "SUBSCRIBE" {
        groups.extend(servers.map(|goal| vec![goal]));
        return groups;
    }
    if located.learned {
        groups.extend(servers.next().map(|goal| vec![goal]));
    }
    let rest: Vec<_> = servers.collect();
    groups.extend(Some(rest).filter(|rest| !rest.is_empty()));
    groups
}

fn text_of(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn texts_of(values: &[Bytes]) -> Vec<String> {
    values.iter().map(|value| text_of(value)).collect()
}

/// How a binding is reached: over its connection; by datagram at its contact, where that is on the host that it came
/// from, by what it says.
fn hop_of(contact: &str, flow: &Flow) -> Flow {
    let address = host_of(contact).parse::<std::net::SocketAddr>().ok();
    match address.filter(|to| flow.transport == Transport::Udp && to.ip() == flow.remote.ip()) {
        Some(remote) if contact.ends_with(";transport=tcp") => setup::lan_stream(remote),
        Some(remote) => Flow { remote, ..*flow },
        None => *flow,
    }
}
