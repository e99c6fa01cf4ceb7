//! UC servers: who is logged on, who is asked for a user, and whose requests pass.

use super::*;

#[test]
fn servers_are_asked_within_their_scope_and_never_the_asker() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.log_on(tcp(2), OTHER);
    at.log_on(udp("10.0.0.3:5060"), SERVER);
    at.log_on(tcp(4), PARTNER);
    assert_eq!(at.servers("sip:x@a.test"), [tcp(1), udp("10.0.0.3:5060")]);
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1), tcp(2), udp("10.0.0.3:5060")]);
    let located = at.locate("sip:x@b.test", tcp(1));
    assert_eq!(located.servers.len(), 2);
    assert_eq!(located.servers[0], Server { account: OTHER, flow: tcp(2) });
    assert!(!located.learned && located.targets.is_empty());
}

#[test]
fn a_user_with_bindings_is_searched_nowhere_else() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.contact("a", 1, &["Contact: <sip:a@h>"]);
    assert_eq!(at.locate("sip:alice@a.test", tcp(9)).servers, []);
}

#[test]
fn the_server_that_has_answered_is_asked_first_until_it_logs_off() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.log_on(tcp(2), SERVER);
    let user = name("sip:x@a.test");
    at.location.handle_learned(at.now, &user, &tcp(2));
    let located = at.locate("sip:x@a.test", tcp(9));
    let flows: Vec<_> = located.servers.iter().map(|server| server.flow).collect();
    assert_eq!((flows, located.learned), (vec![tcp(2), tcp(1)], true));
    let located = at.locate("sip:x@a.test", tcp(2));
    assert_eq!(
        (located.servers.len(), located.learned),
        (1, false),
        "the asker is not asked, learned or not"
    );
    at.location.handle_connection_closed(at.now, &tcp(2));
    let located = at.locate("sip:x@a.test", tcp(9));
    assert_eq!((located.servers[0].flow, located.learned), (tcp(1), false));
    at.location.handle_learned(at.now, &user, &tcp(77));
    assert!(!at.locate("sip:x@a.test", tcp(9)).learned, "nobody is logged on there");
}

#[test]
fn a_datagram_server_is_asked_at_its_contact_if_that_is_its_host() {
    let source = udp("10.0.0.3:33000");
    let table = [
        ("sip:ucserver@a.test", "<sip:10.0.0.3:5080>", "10.0.0.3:5080"),
        ("sip:a.test", "<sip:s@10.0.0.3>", "10.0.0.3:5060"),
        ("sip:ucserver@a.test", "<sip:10.0.0.4:5080>", "10.0.0.3:33000"),
        ("sip:ucserver@a.test", "<sip:10.0.0.3:5080;transport=tcp>", "10.0.0.3:33000"),
        ("sip:ucserver@a.test", "<sip:ucs.a.test>", "10.0.0.3:33000"),
        ("sip:alice@a.test", "<sip:10.0.0.3:5080>", "10.0.0.3:33000"),
    ];
    for (to, contact, asked) in table {
        let mut at = new();
        at.register(source, registration(SERVER, to, "c", 1, &[&format!("Contact: {contact}")]));
        assert_eq!(at.servers("sip:x@a.test"), [udp(asked)], "{to} {contact}");
        assert_eq!(at.locate("sip:x@a.test", udp(asked)).servers, [], "{to} {contact}");
        assert_eq!(at.locate("sip:x@a.test", source).servers, [], "{to} {contact}");
    }
}

#[test]
fn asking_for_its_bindings_changes_nothing_for_a_server() {
    let mut at = new();
    let source = udp("10.0.0.3:33000");
    let rows = ["Contact: <sip:10.0.0.3:5080>"];
    at.register(source, registration(SERVER, "sip:ucserver@a.test", "c", 1, &rows));
    for to in ["sip:ucserver@a.test", "sip:a.test"] {
        at.register(source, registration(SERVER, to, "c", 2, &[]));
        assert_eq!(at.servers("sip:x@a.test"), [udp("10.0.0.3:5080")]);
    }
}

#[test]
fn nobody_logs_off_a_server_of_another_account() {
    let mut at = new();
    at.register(tcp(1), registration(SERVER, "sip:b.test", "a", 1, &["Contact: <sip:10.0.0.2>"]));
    at.register(tcp(2), registration(OTHER, "sip:b.test", "b", 1, &["Contact: <sip:10.0.0.2>;expires=0"]));
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1)]);
}

#[test]
fn flows_that_lead_to_one_server_are_one_candidate() {
    let mut at = new();
    for port in [33_000, 33_001] {
        let contact = format!("Contact: <sip:10.0.0.3:5080;x={port}>");
        let flow = udp(&format!("10.0.0.3:{port}"));
        at.register(flow, registration(SERVER, "sip:ucserver@a.test", "c", port, &[&contact]));
    }
    assert_eq!(at.servers("sip:x@a.test"), [udp("10.0.0.3:5080")]);
}

#[test]
fn removing_its_own_binding_logs_a_server_off() {
    for change in [&["Contact: <sip:10.0.0.2>;expires=0"][..], &["Contact: *", "Expires: 0"]] {
        let mut at = new();
        let own = |cseq, rows: &[&str]| registration(SERVER, "sip:ucserver@a.test", "c", cseq, rows);
        at.log_on(tcp(1), SERVER);
        at.log_on(tcp(2), SERVER);
        at.register(tcp(1), own(1, &["Contact: <sip:10.0.0.2>"]));
        at.events();
        at.register(tcp(1), own(2, change));
        assert_eq!(at.servers("sip:x@a.test"), [tcp(2)], "{change:?}");
        let reason = LogOffReason::Unregistered;
        assert_eq!(at.events()[0], LocationEvent::LoggedOff { flow: tcp(1), account: SERVER, reason });
        at.log_on(tcp(1), SERVER);
        assert_eq!(at.servers("sip:x@a.test"), [tcp(2), tcp(1)], "a new proof logs on again");
    }
}

#[test]
fn one_servers_star_does_not_log_off_those_that_share_its_account() {
    let mut at = new();
    let own =
        |call_id: &str, cseq, rows: &[&str]| registration(SERVER, "sip:ucserver@a.test", call_id, cseq, rows);
    at.register(tcp(1), own("a", 1, &["Contact: <sip:10.0.0.2>"]));
    at.register(tcp(2), own("b", 1, &["Contact: <sip:10.0.0.3>"]));
    at.register(tcp(1), own("a", 2, &["Contact: *", "Expires: 0"]));
    assert_eq!(at.servers("sip:x@a.test"), [tcp(2)]);
    at.register(tcp(1), own("a", 3, &["Contact: <sip:10.0.0.2>"]));
    at.register(tcp(3), own("c", 1, &["Contact: <sip:10.0.0.2>;expires=0"]));
    assert_eq!(at.servers("sip:x@a.test"), [tcp(2)], "by its contact a server is logged off from elsewhere");
}

#[test]
fn a_datagram_server_stands_until_its_last_proof_and_its_last_registration_are_over() {
    let mut at = new();
    let flow = udp("10.0.0.3:5060");
    at.log_on(flow, SERVER);
    at.after(Duration::from_secs(1800)).log_on(flow, SERVER);
    at.after(Duration::from_secs(3599));
    assert_eq!(at.servers("sip:x@a.test"), [flow]);
    at.events();
    at.after(Duration::from_secs(1));
    let gone = [LocationEvent::LoggedOff { flow, account: SERVER, reason: LogOffReason::Expired }];
    assert_eq!(at.events(), gone);
    assert!(at.servers("sip:x@a.test").is_empty());

    at.log_on(flow, SERVER);
    at.register(flow, registration(SERVER, "sip:alice@a.test", "c", 1, &["Contact: <sip:a@h>;expires=7200"]));
    at.after(Duration::from_secs(7199));
    assert_eq!(at.servers("sip:x@a.test"), [flow]);
    at.events();
    at.after(Duration::from_secs(1));
    assert_eq!(at.events()[0], gone[0]);
    assert_eq!(at.location.next_timeout(), None);
}

#[test]
fn a_stream_server_stands_until_its_connection_closes() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.after(Duration::from_secs(400_000));
    assert_eq!(at.servers("sip:x@a.test"), [tcp(1)]);
    assert_eq!(at.location.next_timeout(), None);
}

#[test]
fn a_registrant_stands_while_it_has_a_registration_and_is_never_asked() {
    let mut at = new();
    let flow = udp("10.0.0.7:5060");
    let register = |to: &str, cseq, expires: &str| {
        let contact = format!("Contact: <sip:p@10.0.0.7>;expires={expires}");
        registration(PARTNER, to, to, cseq, &[&contact])
    };
    at.log_on(flow, PARTNER);
    assert!(at.events().is_empty(), "a proof alone gives it nothing");
    at.register(flow, register("sip:p@partner.test", 1, "600"));
    at.register(flow, register("sip:q@partner.test", 1, "60"));
    assert!(at.servers("sip:x@partner.test").is_empty());
    let is_standing = |event: &LocationEvent| {
        matches!(event, LocationEvent::LoggedOn { .. } | LocationEvent::LoggedOff { .. })
    };
    let standing = |at: &mut Fixture| -> Vec<_> { at.events().into_iter().filter(is_standing).collect() };
    assert_eq!(standing(&mut at), [LocationEvent::LoggedOn { flow, account: PARTNER, passes: true }]);
    at.after(Duration::from_secs(60));
    assert_eq!(standing(&mut at), []);
    at.register(flow, register("sip:p@partner.test", 2, "0"));
    let reason = LogOffReason::Unregistered;
    assert_eq!(standing(&mut at), [LocationEvent::LoggedOff { flow, account: PARTNER, reason }]);
}

#[test]
fn a_flow_that_proves_another_account_changes_its_standing() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.events();
    at.log_on(tcp(1), SERVER);
    assert!(at.events().is_empty(), "the same proof again is no news");
    at.log_on(tcp(1), OTHER);
    let expected = [
        LocationEvent::LoggedOff { flow: tcp(1), account: SERVER, reason: LogOffReason::Superseded },
        LocationEvent::LoggedOn { flow: tcp(1), account: OTHER, passes: true },
    ];
    assert_eq!(at.events(), expected);
    assert!(at.servers("sip:x@a.test").is_empty());
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1)]);
}

#[test]
fn a_silent_datagram_server_is_not_asked_until_it_is_heard_from() {
    let mut at = new();
    let source = udp("10.0.0.3:33000");
    at.register(
        source,
        registration(SERVER, "sip:ucserver@a.test", "c", 1, &["Contact: <sip:10.0.0.3:5080>"]),
    );
    at.log_on(tcp(1), SERVER);
    at.location.handle_flow_failed(at.now, &udp("10.0.0.3:5080"));
    at.location.handle_flow_failed(at.now, &tcp(1));
    assert_eq!(at.servers("sip:x@a.test"), [tcp(1)], "a stream's failure is its closing");
    assert_eq!(at.locate("sip:y@a.test", source).servers.len(), 1);
    assert_eq!(at.servers("sip:x@a.test"), [udp("10.0.0.3:5080"), tcp(1)]);
}

#[test]
fn datagram_servers_past_the_limit_displace_the_oldest_proof() {
    let mut at = with(|settings| settings.limits.datagram_servers = 2);
    let flow = |port: u16| udp(&format!("10.0.0.3:{port}"));
    for port in [1, 2, 1, 3] {
        at.after(Duration::from_secs(1)).log_on(flow(port), SERVER);
    }
    assert_eq!(at.servers("sip:x@a.test"), [flow(1), flow(3)]);
    let reason = LogOffReason::Displaced;
    assert!(at.events().contains(&LocationEvent::LoggedOff { flow: flow(2), account: SERVER, reason }));
}

#[test]
fn a_replayed_nonce_does_nothing() {
    let mut at = new();
    let nonces = Nonces::new([3; 32], Duration::from_secs(300));
    let NonceVerdict::Valid(id) = nonces.check(nonces.mint(0, 0, 1).as_bytes(), 0) else { panic!("fresh") };
    let question = |flow| Question {
        context: ContextId { slot: 0, generation: 0 },
        flow,
        nonce_use: Some(NonceUse { id, count: Some(1) }),
        log_on: Some(SERVER),
        ask: Ask::Locate(destination("sip:x@a.test")),
    };
    let first = at.location.handle_question(at.now, question(tcp(1)));
    assert!(matches!(first.verdict, Verdict::Located(_)));
    at.events();
    let second = at.location.handle_question(at.now, question(tcp(2)));
    assert!(matches!(second.verdict, Verdict::Replayed));
    assert!(at.events().is_empty());
    assert_eq!(at.servers("sip:x@a.test"), [tcp(1)]);
}

#[test]
fn datagrams_pass_without_a_challenge_while_a_registration_stands() {
    let mut at = new();
    let source = udp("10.0.0.3:33000");
    let passes = |at: &mut Fixture| -> Vec<bool> {
        let events = at.events().into_iter();
        events
            .filter_map(
                |event| if let LocationEvent::LoggedOn { passes, .. } = event { Some(passes) } else { None },
            )
            .collect()
    };
    at.log_on(source, SERVER);
    assert_eq!((passes(&mut at), at.location.standings().count()), (vec![false], 0));
    at.register(source, registration(SERVER, "sip:alice@a.test", "c", 1, &["Contact: <sip:alice@10.0.0.3>"]));
    assert_eq!((passes(&mut at), at.location.standings().count()), (vec![true], 1));
    at.register(
        source,
        registration(SERVER, "sip:alice@a.test", "c", 2, &["Contact: <sip:alice@10.0.0.3>;expires=0"]),
    );
    assert_eq!((passes(&mut at), at.location.standings().count()), (vec![false], 0));
    assert_eq!(at.servers("sip:bob@a.test"), [source]);
    at.log_on(tcp(1), SERVER);
    assert_eq!((passes(&mut at), at.location.standings().count()), (vec![true], 1));
}

#[test]
fn servers_that_share_an_account_may_all_register_themselves() {
    let mut at = new();
    for server in 1..=50 {
        let contact = format!("Contact: <sip:ucserver@10.0.1.{server}>");
        let reply = at.register(
            tcp(server),
            registration(SERVER, "sip:ucserver@a.test", &server.to_string(), 1, &[&contact]),
        );
        assert_eq!(reply.status, 200, "{server}");
    }
    assert_eq!(at.servers("sip:x@a.test").len(), 50);
}
