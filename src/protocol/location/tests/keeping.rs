//! What is kept of bindings, and what comes back of it.

use std::collections::BTreeMap;

use super::*;
use crate::protocol::interface::{Interface, Interfaces, Side};

/// A time of the wall clock: milliseconds since the Unix epoch.
const UNIX: u64 = 1_800_000_000_000;

/// What somebody has who keeps all changes.
pub(super) type Store = BTreeMap<Vec<u8>, Vec<u8>>;

pub(super) fn interfaces() -> Interfaces {
    of([(Side::Lan, Transport::Udp, "10.0.0.1:5060"), (Side::Lan, Transport::Tls, "10.0.0.1:5061")])
}

fn of<const N: usize>(list: [(Side, Transport, &str); N]) -> Interfaces {
    let interface = |(id, (side, transport, bound)): (u16, (Side, Transport, &str))| Interface {
        id: InterfaceId(id),
        side,
        transport,
        bound: bound.parse().unwrap(),
        public: None,
    };
    Interfaces::new((0..).zip(list).map(interface).collect(), vec!["10.0.0.1".parse().unwrap()])
}

impl Fixture {
    pub(super) fn unix_millis(&self) -> u64 {
        UNIX + u64::try_from((self.now - self.epoch).as_millis()).unwrap()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, unix_millis: self.unix_millis() }
    }

    /// The addresses-of-record that have changed since the last call.
    fn changed(&mut self) -> Vec<String> {
        let changes = self.location.take_changes(self.moment());
        let name = |entry| String::from_utf8(Changes::split(entry).unwrap().0.to_vec()).unwrap();
        changes.entries().map(name).collect()
    }

    pub(super) fn keep(&mut self, store: &mut Store) {
        let changes = self.location.take_changes(self.moment());
        for entry in changes.entries() {
            match Changes::split(entry).unwrap() {
                (name, []) => store.remove(name),
                (name, value) => store.insert(name.to_vec(), value.to_vec()),
            };
        }
    }

    /// Everything, as it is told to a new segment.
    pub(super) fn everything(&mut self) -> Store {
        let (mut store, mut walk) = (Store::new(), self.location.walk());
        while let Some(rest) = walk {
            walk = self.location.repeat(rest, 3);
            self.keep(&mut store);
        }
        store
    }

    /// Another location service that begins with what is kept, after `away`.
    fn restarted(
        store: &Store,
        away: Duration,
        interfaces: &Interfaces,
        change: impl FnOnce(&mut LocationSettings),
    ) -> (Self, Restored) {
        let mut at = with(change);
        let unix_millis = UNIX + u64::try_from(away.as_millis()).unwrap();
        let restored = at.restore(store, unix_millis, interfaces, &|_| false);
        (at, restored)
    }

    pub(super) fn restore(
        &mut self,
        store: &Store,
        unix_millis: u64,
        interfaces: &Interfaces,
        is_open: &dyn Fn(ConnectionId) -> bool,
    ) -> Restored {
        let (mut restored, moment) = (Restored::default(), Moment { now: self.now, unix_millis });
        let around = Surroundings { interfaces, is_open };
        for (name, value) in store {
            self.location.restore(moment, name, value, &around, &mut restored);
        }
        self.location.flows.check(self.location.bindings.check());
        assert!(self.location.take_changes(moment).is_empty(), "what comes back is no change");
        restored
    }
}

/// What is kept of one user, whom `account` has registered over `flow` with this contact.
fn kept(account: AccountId, to: &str, flow: Flow, rows: &[&str]) -> Store {
    let (mut at, mut store) = (new(), Store::new());
    assert_eq!(at.register(flow, registration(account, to, "c", 7, rows)).status, 200);
    at.keep(&mut store);
    store
}

fn tls(id: u64) -> Flow {
    let local = "10.0.0.1:5061".parse().unwrap();
    Flow { interface: InterfaceId(1), transport: Transport::Tls, local, ..tcp(id) }
}

fn dialled(transport: Transport, remote: &str) -> Flow {
    let base = if transport == Transport::Tls { tls(1) } else { tcp(1) };
    Flow { connection: None, remote: remote.parse().unwrap(), ..base }
}

const ALICE: &str = "sip:alice@a.test";

#[test]
fn whatever_changes_bindings_is_told_once_and_nothing_else_is() {
    let mut at = new();
    let other = |at: &mut Fixture, cseq, rows: &[&str]| {
        at.register(udp("10.0.0.3:5060"), registration(SERVER, "sip:bob@a.test", "b", cseq, rows)).status
    };
    at.contact("a", 1, &["Contact: <sip:a@h>"]);
    at.contact("a", 2, &["Contact: <sip:b@h>"]);
    other(&mut at, 1, &["Contact: <sip:b@h>;expires=60"]);
    assert_eq!(at.changed(), ["alice@a.test", "bob@a.test"]);
    assert_eq!(at.changed(), [""; 0]);

    at.contact("a", 3, &["Contact: <sip:a@h>"]);
    assert_eq!(at.changed(), ["alice@a.test"], "a refresh");
    at.contact("a", 3, &["Contact: <sip:a@h>"]);
    at.contact("q", 1, &[]);
    at.log_on(tcp(5), SERVER);
    at.locate(ALICE, tcp(9));
    assert_eq!(at.changed(), [""; 0], "a refusal, two questions, and a log-on");
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), ["bob@a.test"], "its time is over");
    at.contact("a", 4, &["Contact: <sip:a@h>;expires=0"]);
    assert_eq!(at.changed(), ["alice@a.test"], "a removal");
    at.location.handle_connection_closed(at.now, &tcp(1));
    assert_eq!(at.changed(), ["alice@a.test"], "a connection that closes");
    assert_eq!(at.everything(), Store::new());
}

#[test]
fn bindings_come_back_as_they_were() {
    let (mut before, mut store) = (new(), Store::new());
    let source = udp("10.0.0.3:33000");
    let path = "Path: <sip:p1.test;lr>, <sip:p2.test;lr>";
    before.after(Duration::from_millis(12_345));
    let to_bob = |cseq, rows: &[&str]| registration(OTHER, "sip:b%40b@b.test", "c\u{1}", cseq, rows);
    before.register(
        source,
        to_bob(
            7,
            &["Contact: <sip:1@10.0.0.3;x=y?a=b>;q=0.3, <sip:2@h>;expires=100", path, "Supported: path"],
        ),
    );
    before.keep(&mut store);

    let (mut at, restored) = Fixture::restarted(&store, Duration::from_millis(22_345), &interfaces(), |_| ());
    assert_eq!(restored, Restored { bindings: 2, ..Restored::default() });
    let targets = at.locate("sip:b%40b@b.test", tcp(9)).targets;
    assert_eq!(targets, before.locate("sip:b%40b@b.test", tcp(9)).targets);
    assert_eq!((targets.len(), targets[0].flow, targets[0].account), (2, source, Some(OTHER)));
    let query = at.register(source, registration(OTHER, "sip:b%40b@b.test", "q", 1, &[]));
    let expected = ["<sip:1@10.0.0.3;x=y?a=b>;q=0.300;expires=3590", "<sip:2@h>;expires=90"];
    assert_eq!(rows(&query, "Contact"), expected);
    // The order of requests counts on.
    assert_eq!(at.register(source, to_bob(7, &["Contact: <sip:2@h>"])).status, 500);
    assert_eq!(at.register(source, to_bob(8, &["Contact: <sip:2@h>"])).status, 200);
    at.after(Duration::from_secs(3590));
    assert_eq!(at.targets("sip:b%40b@b.test"), ["sip:2@h"]);
}

const SUPPORTED: &str = "Supported: gruu, outbound";
const PHONE: &str = "Contact: <sip:1@10.0.0.2:5080>;+sip.instance=\"<urn:uuid:1>\";mobility=\"fixed\"";

#[test]
fn a_user_agent_comes_back_with_its_flow_and_its_gruus() {
    let (mut before, mut store) = (new(), Store::new());
    let source = udp("10.0.0.2:40000");
    let mut register = |call_id: &str, cseq, rows: &[&str]| {
        before.register(source, registration(SERVER, ALICE, call_id, cseq, rows))
    };
    let flow = format!("{PHONE};reg-id=7");
    let reply = register("a", 1, &[&flow, SUPPORTED]);
    let contact = rows(&reply, "Contact").remove(0).to_owned();
    let temporary = contact.split_once(";temp-gruu=\"").unwrap().1.split_once('"').unwrap().0;
    before.keep(&mut store);

    let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |settings| {
        settings.seed = [4; 16];
    });
    for uri in [ALICE, "sip:alice@a.test;gr=urn:uuid:1", temporary] {
        let target = at.locate(uri, tcp(99)).targets.remove(0);
        assert!(target.is_flow && target.flow == source, "{uri}");
    }
    let query = at.register(source, registration(SERVER, ALICE, "q", 1, &[SUPPORTED]));
    let listed = rows(&query, "Contact").remove(0);
    let unchanging = |value: &str| value.split_once(";temp-gruu").unwrap().0.to_owned();
    assert_eq!(unchanging(listed), unchanging(&contact));
    // The next registration of the same flow takes its place.
    at.register(source, registration(SERVER, ALICE, "a", 2, &[&flow.replace("1@", "2@"), SUPPORTED]));
    assert_eq!(at.targets(ALICE), ["sip:2@10.0.0.2:5080"]);
    assert_eq!(at.targets(temporary), ["sip:2@10.0.0.2:5080"]);
    at.location.handle_flow_ended(at.now, &source);
    assert!(at.targets(ALICE).is_empty());
}

#[test]
fn a_flow_that_was_registered_as_such_is_gone_with_its_connection() {
    let contact = PHONE.replace(">;", ";transport=tcp>;");
    for (rows, restored) in [(format!("{contact};reg-id=7"), 0), (contact, 1)] {
        let store = kept(SERVER, ALICE, tcp(1), &[&rows, SUPPORTED]);
        let (_, back) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
        assert_eq!((back.bindings, back.dropped), (restored, 1 - restored), "{rows}");
    }
}

#[test]
fn a_registrants_flow_proves_after_a_restart_what_it_proved_before() {
    let source = udp("10.0.0.3:5060");
    for (is_direct, standings) in [(true, 1), (false, 0)] {
        let (mut before, mut store) = (new(), Store::new());
        let contact = ["Contact: <sip:p@10.0.0.3>"];
        let registration = registration(PARTNER, "sip:p@partner.test", "c", 1, &contact);
        before.register(source, Registration { is_direct, ..registration });
        before.keep(&mut store);
        let (at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
        assert_eq!(
            (before.location.standings().count(), at.location.standings().count()),
            (standings, standings)
        );
    }
}

#[test]
fn what_has_expired_meanwhile_does_not_come_back_and_no_clock_prolongs_anything() {
    let store = kept(SERVER, ALICE, udp("10.0.0.3:5060"), &["Contact: <sip:1@h>;expires=100, <sip:2@h>"]);
    for (away, expected) in [(99_999, 2), (100_000, 1), (3_599_999, 1), (3_600_000, 0), (u64::MAX / 2, 0)] {
        let (mut at, restored) =
            Fixture::restarted(&store, Duration::from_millis(away), &interfaces(), |_| ());
        assert_eq!((restored.bindings, restored.expired), (expected, 2 - expected), "{away}");
        assert_eq!(at.targets(ALICE).len(), expected);
    }
    // The wall clock was set back by years: no binding lives longer than a new one could.
    let mut at = new();
    at.restore(&store, UNIX / 2, &interfaces(), &|_| false);
    assert_eq!(at.location.next_timeout(), Some(at.epoch + Duration::from_secs(86_400)));
}

#[test]
fn each_binding_comes_back_by_the_way_that_is_left_of_its_own() {
    let udp_source = udp("10.0.0.3:33000");
    let by = |transport, remote| Some(dialled(transport, remote));
    let table = [
        (SERVER, ALICE, udp_source, "sip:alice@10.0.0.3", Some(udp_source)),
        (PARTNER, "sip:p@partner.test", udp_source, "sip:p@10.0.0.3", Some(udp_source)),
        // Streams: those of UC servers that can be connected to. Theirs come from 10.0.0.2:40000.
        (SERVER, ALICE, tcp(1), "sip:alice@10.0.0.2:5080;transport=tcp", by(Transport::Tcp, "10.0.0.2:5080")),
        (SERVER, ALICE, tcp(1), "sip:alice@10.0.0.2", by(Transport::Tcp, "10.0.0.2:5060")),
        (SERVER, ALICE, tls(1), "sip:alice@10.0.0.2;transport=tls", by(Transport::Tls, "10.0.0.2:5061")),
        (
            SERVER,
            ALICE,
            tls(1),
            "sips:alice@10.0.0.2:5080;transport=tcp",
            by(Transport::Tls, "10.0.0.2:5080"),
        ),
        (SERVER, ALICE, tcp(1), "sip:alice@10.0.0.2:40000;transport=tcp", None),
        (SERVER, ALICE, tcp(1), "sip:alice@10.0.0.3:5060;transport=tcp", None),
        (SERVER, ALICE, tcp(1), "sip:alice@uc.test;transport=tcp", None),
        (SERVER, ALICE, tcp(1), "sip:alice@10.0.0.2:5080;transport=udp", None),
        (SERVER, ALICE, tcp(1), "sips:alice@10.0.0.2:5080", None),
        (PARTNER, "sip:p@partner.test", tcp(1), "sip:p@10.0.0.2:5080;transport=tcp", None),
    ];
    for (account, to, made_over, contact, expected) in table {
        let store = kept(account, to, made_over, &[&format!("Contact: <{contact}>")]);
        let (mut at, restored) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
        let found: Vec<_> = at.locate(to, tcp(99)).targets.iter().map(|target| target.flow).collect();
        assert_eq!(found, Vec::from_iter(expected), "{contact} over {made_over}");
        assert_eq!((restored.bindings, restored.dropped), (found.len(), 1 - found.len()));
        // What is to be dialled still is after another restart.
        let (mut at, _) = Fixture::restarted(&at.everything(), Duration::ZERO, &interfaces(), |_| ());
        let again: Vec<_> = at.locate(to, tcp(99)).targets.iter().map(|target| target.flow).collect();
        assert_eq!(again, found);
        // While the connection lives, it is the way.
        let mut at = new();
        at.restore(&store, UNIX, &interfaces(), &|id| Some(id) == made_over.connection);
        assert_eq!(at.locate(to, tcp(99)).targets[0].flow, made_over);
    }
    let contact = "Contact: <sip:alice@10.0.0.2:5080;transport=tcp>";
    let path = [contact, "Path: <sip:10.0.0.2:5080;lr>", "Supported: path"];
    let (_, restored) =
        Fixture::restarted(&kept(SERVER, ALICE, tcp(1), &path), Duration::ZERO, &interfaces(), |_| ());
    assert_eq!(restored.dropped, 1, "the connection was that of the path");
}

#[test]
fn interfaces_are_found_by_their_addresses_and_accounts_by_their_names() {
    let source = udp("10.0.0.3:5060");
    let store = kept(OTHER, "sip:bob@b.test", source, &["Contact: <sip:bob@10.0.0.3>"]);
    let (lan, wan) = (Side::Lan, Side::Wan);
    let (u, t) = (Transport::Udp, Transport::Tcp);
    let table = [
        (of([(wan, t, "10.0.0.1:5070"), (lan, u, "10.0.0.1:5060")]), Some(1)),
        (of([(lan, u, "0.0.0.0:5060")]), Some(0)),
        (of([(lan, u, "10.0.0.1:5062")]), None),
        (of([(lan, t, "10.0.0.1:5060")]), None),
        // UC servers are not to be had on the other side.
        (of([(wan, u, "10.0.0.1:5060")]), None),
        (of([]), None),
    ];
    for (interfaces, expected) in table {
        let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces, |_| ());
        let targets = at.locate("sip:bob@b.test", tcp(99)).targets;
        let found = targets.first().map(|target| target.flow.interface.0);
        assert_eq!(found, expected, "{interfaces:?}");
    }
    let partner = kept(PARTNER, "sip:p@partner.test", source, &["Contact: <sip:p@10.0.0.3>"]);
    let (_, restored) =
        Fixture::restarted(&partner, Duration::ZERO, &of([(wan, u, "10.0.0.1:5060")]), |_| ());
    assert_eq!(restored.bindings, 1, "others are");

    let changed = |change: fn(&mut Vec<Account>)| {
        let mut accounts = accounts().list().to_vec();
        change(&mut accounts);
        let settings =
            move |settings: &mut LocationSettings| settings.accounts = Arc::new(Accounts::new(accounts));
        let (mut at, restored) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), settings);
        let account = at.locate("sip:bob@b.test", tcp(99)).targets.first().and_then(|target| target.account);
        assert_eq!(restored.dropped, usize::from(account.is_none()));
        account
    };
    assert_eq!(changed(|accounts| accounts.swap(0, 1)), Some(AccountId(0)));
    assert_eq!(changed(|accounts| accounts[1].user_name.push('x')), None);
    assert_eq!(changed(|accounts| accounts[1].scope = Scope::parse(&["carol@b.test"]).unwrap()), None);
}

#[test]
fn datagram_servers_are_logged_on_again_as_long_as_their_registrations_last() {
    let (mut before, mut store) = (new(), Store::new());
    let (source, user) = (udp("10.0.0.3:33000"), udp("10.0.0.4:5060"));
    let own = ["Contact: <sip:10.0.0.3:5080>;expires=600"];
    before.register(source, registration(SERVER, "sip:ucserver@a.test", "c", 1, &own));
    before.register(user, registration(OTHER, "sip:bob@b.test", "d", 1, &["Contact: <sip:bob@10.0.0.4>"]));
    before.log_on(udp("10.0.0.5:5060"), SERVER);
    before.keep(&mut store);
    let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
    let mut events = at.events();
    events.sort_by_key(|event| format!("{event:?}"));
    let logged_on = |flow, account| LocationEvent::LoggedOn { flow, account, passes: true };
    assert_eq!(events, [logged_on(source, SERVER), logged_on(user, OTHER)]);
    assert_eq!(at.location.standings().count(), 2);
    let asked: std::collections::BTreeSet<_> = at.servers("sip:x@b.test").into_iter().collect();
    assert_eq!(asked, [udp("10.0.0.3:5080"), user].into(), "at their contacts; without a proof, not again");
    at.after(Duration::from_secs(600));
    assert_eq!(at.servers("sip:x@b.test"), [user]);
}

#[test]
fn a_server_that_is_not_back_is_dialled_for_its_users_and_asked_if_it_had_registered_itself() {
    let contact = ["Contact: <sip:uc@10.0.0.2:5080;transport=tcp>"];
    let by_dialling = dialled(Transport::Tcp, "10.0.0.2:5080");
    let (mut before, mut store) = (new(), Store::new());
    before.register(tcp(1), registration(SERVER, ALICE, "c", 1, &contact));
    before.keep(&mut store);
    let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
    assert!(at.events().is_empty());
    assert!(at.servers("sip:nobody@a.test").is_empty(), "for its users alone");

    before.register(tcp(1), registration(SERVER, "sip:a.test", "d", 1, &contact));
    before.keep(&mut store);
    let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
    let logged_on = LocationEvent::LoggedOn { flow: by_dialling, account: SERVER, passes: false };
    assert_eq!(at.events(), [logged_on], "nothing comes in by it");
    assert_eq!(at.location.standings().count(), 0);
    assert_eq!(at.servers("sip:nobody@a.test"), [by_dialling]);

    // It comes back: from then on it is asked over its own connection, and user by user reached by that.
    at.log_on(tcp(2), SERVER);
    assert_eq!(at.servers("sip:nobody@a.test"), [tcp(2)]);
    assert_eq!(at.locate(ALICE, tcp(9)).targets[0].flow, by_dialling);
    at.register(tcp(2), registration(SERVER, "sip:a.test", "e", 1, &contact));
    at.register(
        tcp(2),
        registration(SERVER, ALICE, "e", 2, &["Contact: <sip:uc@10.0.0.2:5080;transport=tcp;new>"]),
    );
    let targets = at.locate(ALICE, tcp(9)).targets;
    assert_eq!((targets.len(), targets[0].flow), (1, tcp(2)), "another contact takes its place, too");
    at.location.flows.check(at.location.bindings.check());
    at.events();
    at.location.handle_connection_closed(at.now, &tcp(2));
    assert!(at.targets(ALICE).is_empty() && at.servers("sip:nobody@a.test").is_empty());
    assert_eq!((at.location.bindings(), at.location.next_timeout()), (0, None));
}

#[test]
fn another_servers_registration_replaces_nothing_and_a_question_neither() {
    let contact = ["Contact: <sip:uc@10.0.0.2:5080;transport=tcp>"];
    let store = kept(SERVER, "sip:bob@b.test", tcp(1), &contact);
    let table: [(Flow, AccountId, &[&str]); 4] = [
        (
            Flow { remote: "10.0.0.9:40000".parse().unwrap(), ..tcp(2) },
            SERVER,
            &["Contact: <sip:x@10.0.0.9>"],
        ),
        (tcp(2), OTHER, &["Contact: <sip:x@10.0.0.2:7>"]),
        (udp("10.0.0.2:5060"), SERVER, &["Contact: <sip:x@10.0.0.2:7>"]),
        (tcp(2), SERVER, &[]),
    ];
    for (flow, account, rows) in table {
        let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
        at.register(flow, registration(account, "sip:bob@b.test", "d", 1, rows));
        let before = "sip:uc@10.0.0.2:5080;transport=tcp".to_owned();
        assert!(at.targets("sip:bob@b.test").contains(&before), "{flow} {rows:?}");
    }
}

#[test]
fn what_cannot_be_dialled_is_gone_at_once() {
    let (mut before, mut store) = (new(), Store::new());
    let flow = dialled(Transport::Tcp, "10.0.0.2:5080");
    for (number, to) in [ALICE, "sip:bob@a.test", "sip:ucserver@a.test"].into_iter().enumerate() {
        let contact = format!("Contact: <sip:{number}@10.0.0.2:5080;transport=tcp>");
        before.register(tcp(1), registration(SERVER, to, to, 1, &[&contact]));
    }
    before.register(
        tcp(1),
        registration(SERVER, "sip:carol@a.test", "c", 1, &["Contact: <sip:c@10.0.0.2:5090>"]),
    );
    before.keep(&mut store);
    let (mut at, _) = Fixture::restarted(&store, Duration::ZERO, &interfaces(), |_| ());
    at.events();
    at.location.handle_flow_failed(at.now, &Flow { remote: "10.0.0.2:5081".parse().unwrap(), ..flow });
    assert_eq!((at.location.bindings(), at.events().len()), (4, 0), "another address");
    at.location.handle_flow_failed(at.now, &flow);
    assert_eq!(at.location.bindings(), 1, "all that was to be reached there");
    assert_eq!(at.targets("sip:carol@a.test"), ["sip:c@10.0.0.2:5090"]);
    assert!(at.servers("sip:nobody@a.test").is_empty());
    let reason = LogOffReason::Unreachable;
    let events = at.events();
    assert!(events.contains(&LocationEvent::LoggedOff { flow, account: SERVER, reason }), "{events:?}");
    assert_eq!(at.changed(), ["alice@a.test", "bob@a.test", "ucserver@a.test"]);
    at.location.flows.check(at.location.bindings.check());
}

#[test]
fn while_there_is_no_room_nothing_is_changed_by_a_register() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@h>;expires=60"]);
    at.changed();
    at.location.set_room(false);
    let unchanged: [&[&str]; 3] =
        [&["Contact: <sip:b@h>"], &["Contact: <sip:a@h>"], &["Contact: *", "Expires: 0"]];
    for rows in unchanged {
        assert_eq!(refusal(&at.contact("b", 1, rows)), (503, "Registrations Wait To Be Kept"));
    }
    assert_eq!(at.contact("b", 1, &[]).status, 200);
    assert_eq!(at.changed(), [""; 0]);
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), ["alice@a.test"], "time does not ask for room");
    at.location.set_room(true);
    assert_eq!(at.contact("b", 2, &["Contact: <sip:b@h>"]).status, 200);
}

#[test]
fn a_walk_misses_nothing_whatever_changes_on_the_way() {
    let mut at = new();
    let user = |number: u32| format!("sip:user{number}@a.test");
    let register = |at: &mut Fixture, number, expires: u32, call_id: &str| {
        let rows = [&*format!("Contact: <sip:x@h>;expires={expires}")];
        at.register(tcp(1), registration(SERVER, &user(number), call_id, 1, &rows));
    };
    (0..100).for_each(|number| register(&mut at, number, 1000 + number, "a"));
    at.changed();
    let (mut store, mut walk, mut turns) = (Store::new(), at.location.walk(), 0);
    while let Some(rest) = walk {
        walk = at.location.repeat(rest, 10);
        at.keep(&mut store);
        // One moves behind the walk, one ahead of it, one comes and one goes.
        register(&mut at, 99 - turns, 60, "b");
        register(&mut at, turns, 5000, "b");
        register(&mut at, 1000 + turns, 1050, "b");
        register(&mut at, 50 + turns, 0, "b");
        at.keep(&mut store);
        turns += 1;
        assert!(turns < 20, "it does not run after what moves ahead");
    }
    assert_eq!(store, at.everything());
    assert!(store.len() > 90);
}

#[test]
fn a_walk_misses_nobody_whose_deadline_moves_because_its_time_has_come() {
    let mut at = new();
    let users: Vec<_> = (0..10).map(|number| format!("sip:user{number}@a.test")).collect();
    for (cseq, expires) in [(1, 60), (2, 600)] {
        let rows = [&*format!("Contact: <sip:x@h>;expires={expires}")];
        for user in &users {
            at.register(tcp(1), registration(SERVER, user, "a", cseq, &rows));
        }
    }
    at.changed();
    let (mut store, walk) = (Store::new(), at.location.walk());
    let rest = at.location.repeat(walk.expect("there is something"), 3);
    at.keep(&mut store);
    at.after(Duration::from_secs(60));
    let mut walk = rest;
    while let Some(rest) = walk {
        walk = at.location.repeat(rest, 3);
    }
    at.keep(&mut store);
    assert_eq!(store.len(), 10);
    at.after(Duration::from_secs(540));
    assert_eq!(at.location.bindings(), 0);
    // When nobody walks, a deadline that moves is no change.
    at.changed();
    for (cseq, expires) in [(3, 60), (4, 600)] {
        at.register(
            tcp(1),
            registration(SERVER, &users[0], "a", cseq, &[&*format!("Contact: <sip:x@h>;expires={expires}")]),
        );
    }
    at.changed();
    at.after(Duration::from_secs(60));
    assert_eq!(at.changed(), [""; 0]);
}

#[test]
fn a_value_that_cannot_be_read_is_counted_and_costs_no_other() {
    let store = kept(SERVER, ALICE, udp("10.0.0.3:5060"), &["Contact: <sip:1@h>, <sip:2@h>"]);
    let value = &store[&b"alice@a.test"[..]];
    for length in 1..value.len() {
        let cut = Store::from([(b"alice@a.test".to_vec(), value[..length].to_vec())]);
        let (at, restored) = Fixture::restarted(&cut, Duration::ZERO, &interfaces(), |_| ());
        assert!(restored.unreadable == 1 || restored.bindings < 2, "{length} {restored:?}");
        assert_eq!(at.location.bindings(), restored.bindings);
    }
    let mut other_form = store.clone();
    other_form.values_mut().for_each(|value| value[0] += 1);
    other_form.insert(b"bob@a.test".to_vec(), value.clone());
    let (_, restored) = Fixture::restarted(&other_form, Duration::ZERO, &interfaces(), |_| ());
    assert_eq!(restored, Restored { bindings: 2, unreadable: 1, ..Restored::default() });
}
