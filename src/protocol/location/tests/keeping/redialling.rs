//! The UC servers after a restart: logged on again, dialled until they are back, or given up.

use super::*;

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
