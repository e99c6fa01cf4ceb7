//! What comes back of bindings: by which way, for how long, and what does not.

use super::*;

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
