//! Bindings: what a REGISTER does to them, and what ends them (RFC 3261 §10.3).

use super::*;

#[test]
fn a_200_lists_all_contacts_with_what_is_left_of_them_and_echoes_path() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@10.0.0.9>;q=0.5", "Record-Route: <sip:rr.test;lr>"]);
    at.after(Duration::from_millis(10_500));
    let path = "Path: <sip:p1.test;lr>, <sip:p2.test;lr>";
    let reply = at.contact("b", 1, &["Contact: <sip:b@10.0.0.9>;expires=999999", path, "Supported: path"]);
    assert_eq!(reply.status, 200);
    let expected = ["<sip:a@10.0.0.9>;q=0.500;expires=3590", "<sip:b@10.0.0.9>;expires=86400"];
    assert_eq!(rows(&reply, "Contact"), expected);
    assert_eq!(rows(&reply, "Path"), ["<sip:p1.test;lr>, <sip:p2.test;lr>"]);
    assert!(rows(&reply, "Record-Route").is_empty());
    assert_eq!(rows(&reply, "Supported"), ["path, outbound"]);
    let query = at.contact("c", 1, &[]);
    assert_eq!(rows(&query, "Contact"), expected);
    let located = at.locate("sip:alice@a.test", tcp(9));
    let routes: Vec<_> = located.targets.iter().map(|target| (target.q, target.path.len())).collect();
    assert_eq!(routes, [(1000, 2), (500, 0)]);
    assert_eq!(located.targets[0].path, [&b"<sip:p1.test;lr>"[..], b"<sip:p2.test;lr>"]);
    assert_eq!((located.targets[0].flow, located.targets[0].account), (tcp(1), Some(SERVER)));
}

#[test]
fn every_form_of_an_address_of_record_finds_its_bindings() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@10.0.0.9>"]);
    for form in
        ["sip:%61lice@A.TEST;x=y", "sips:alice@a.test:5061", "sip:alice@a.test;opaque=user:epid:x;gruu"]
    {
        assert_eq!(at.targets(form), ["sip:a@10.0.0.9"], "{form}");
    }
    assert!(at.targets("sip:Alice@a.test").is_empty());
}

#[test]
fn one_call_id_counts_only_in_the_order_of_its_cseq() {
    let mut at = new();
    at.contact("a", 5, &["Contact: <sip:a@10.0.0.9>", "Expires: 600"]);
    for cseq in [5, 4] {
        let reply = at.contact("a", cseq, &["Contact: <sip:new@10.0.0.9>, <sip:a@10.0.0.9>;expires=0"]);
        assert_eq!(refusal(&reply), (500, "CSeq Not Above That Of The Binding"));
        let reply = at.contact("a", cseq, &["Contact: *", "Expires: 0"]);
        assert_eq!(reply.status, 500);
    }
    assert_eq!(rows(&at.contact("q", 1, &[]), "Contact"), ["<sip:a@10.0.0.9>;expires=600"]);
    let reply = at.contact("other", 1, &["Contact: <sip:a@10.0.0.9>", "Expires: 700"]);
    assert_eq!(rows(&reply, "Contact"), ["<sip:a@10.0.0.9>;expires=700"]);
    let reply = at.contact("other", 2, &["Contact: <sip:a@10.0.0.9>;expires=0"]);
    assert_eq!((reply.status, rows(&reply, "Contact").len()), (200, 0));
}

#[test]
fn a_request_with_one_bad_contact_changes_nothing() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@10.0.0.9>", "Expires: 600"]);
    let reply = at.contact("b", 1, &["Contact: <sip:a@10.0.0.9>;expires=0, <sip:b@10.0.0.9>;expires=59"]);
    assert_eq!(refusal(&reply), (423, "Interval Too Brief"));
    assert_eq!(rows(&reply, "Min-Expires"), ["60"]);
    assert_eq!(at.targets("sip:alice@a.test"), ["sip:a@10.0.0.9"]);
    assert_eq!(at.location.bindings(), 1);
}

#[test]
fn an_interval_of_an_hour_is_never_too_brief() {
    let mut at = with(|settings| settings.minimum_expires = Duration::from_secs(7200));
    for (asked, status) in [(1, 423), (3599, 423), (3600, 200), (7200, 200), (0, 200)] {
        let expires = format!("Expires: {asked}");
        let reply = at.contact(&asked.to_string(), 1, &["Contact: <sip:a@10.0.0.9>", &expires]);
        assert_eq!(reply.status, status, "{asked}");
    }
}

#[test]
fn star_with_zero_clears_all() {
    let mut at = new();
    at.contact("a", 9, &["Contact: <sip:a@10.0.0.9>"]);
    at.contact("b", 9, &["Contact: <sip:b@10.0.0.9>"]);
    let reply = at.contact("b", 10, &["Contact: *", "Expires: 0"]);
    assert_eq!((reply.status, rows(&reply, "Contact").len()), (200, 0));
    assert!(at.targets("sip:alice@a.test").is_empty());
    assert_eq!(at.location.bindings(), 0);
}

#[test]
fn contacts_are_the_same_by_the_rules_for_uris() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@H.test;transport=tcp;x=1>"]);
    let reply = at.contact("b", 1, &["Contact: <sip:%61@h.TEST;y=2;Transport=TCP>"]);
    assert_eq!(rows(&reply, "Contact"), ["<sip:%61@h.TEST;y=2;Transport=TCP>;expires=3600"]);
    let reply = at.contact("c", 1, &["Contact: <sip:a@h.test>, <sip:a@h.test>;q=0.1"]);
    let expected = ["<sip:%61@h.TEST;y=2;Transport=TCP>;expires=3600", "<sip:a@h.test>;q=0.100;expires=3600"];
    assert_eq!(rows(&reply, "Contact"), expected);
}

#[test]
fn a_contact_keeps_the_parameters_that_mean_nothing_here() {
    let mut at = new();
    let contact = "<sip:a@h>;audio;Q=0.5;methods=\"INVITE,\r\n BYE\";expires=60;+sip.rendering=\"no\";pub-gruu=\"sip:x\";x=";
    let reply = at.contact("a", 1, &[&format!("Contact: {contact}")]);
    let kept = "<sip:a@h>;q=0.500;audio;methods=\"INVITE,   BYE\";+sip.rendering=\"no\";x=;expires=60";
    assert_eq!(rows(&reply, "Contact"), [kept]);
    let reply = at.contact("a", 2, &["Contact: <sip:a@h>"]);
    assert_eq!(rows(&reply, "Contact"), ["<sip:a@h>;expires=3600"]);
}

#[test]
fn a_path_needs_a_user_agent_that_knows_of_it_unless_the_settings_say_otherwise() {
    for (accepts, supported, status) in
        [(false, "outbound, Path", 200), (false, "gruu", 420), (true, "gruu", 200)]
    {
        let mut at = with(|settings| settings.accepts_path_without_support = accepts);
        let supported = format!("Supported: {supported}");
        let reply = at.contact("a", 1, &["Contact: <sip:a@h>", "Path: <sip:p.test;lr>", &supported]);
        assert_eq!(reply.status, status, "{accepts} {supported}");
        let path = if status == 200 { vec!["<sip:p.test;lr>"] } else { vec![] };
        assert_eq!(rows(&reply, "Path"), path);
        assert_eq!(rows(&reply, "Unsupported").len(), usize::from(status == 420));
        assert_eq!(at.location.bindings(), usize::from(status == 200));
    }
}

#[test]
fn the_same_contact_by_two_paths_is_one_target() {
    let mut at = new();
    for (cseq, contact, path) in
        [(1, "<sip:a@H.test;x=1;transport=tcp>", "p1"), (2, "<sip:%61@h.test;transport=TCP>", "p2")]
    {
        let (contact, path) = (format!("Contact: {contact}"), format!("Path: <sip:{path}.test;lr>"));
        at.contact("a", cseq, &[&contact, &path, "Supported: path"]);
    }
    let located = at.locate("sip:alice@a.test", tcp(9));
    assert_eq!(located.targets.len(), 1);
    assert_eq!(located.targets[0].path, [&b"<sip:p2.test;lr>"[..]]);
}

#[test]
fn those_refreshed_last_come_first_among_equals() {
    let mut at = new();
    for (cseq, contacts) in [(1, "<sip:1@h>, <sip:2@h>, <sip:3@h>"), (2, "<sip:1@h>"), (3, "<sip:2@h>;q=0.9")]
    {
        at.contact("a", cseq, &[&format!("Contact: {contacts}")]);
    }
    assert_eq!(at.targets("sip:alice@a.test"), ["sip:1@h", "sip:3@h", "sip:2@h"]);
}

#[test]
fn contacts_past_the_limit_are_forbidden_and_replacing_is_not() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:1@h>, <sip:2@h>"]);
    let reply = at.contact("b", 1, &["Contact: <sip:3@h>, <sip:4@h>"]);
    assert_eq!(refusal(&reply), (403, "Too Many Contacts"));
    let reply = at.contact("c", 1, &["Contact: <sip:1@h>;expires=0, <sip:3@h>, <sip:4@h>"]);
    assert_eq!((reply.status, rows(&reply, "Contact").len()), (200, 3));
    let many = "Contact: <sip:3@h>, <sip:3@h>, <sip:3@h>, <sip:3@h>, <sip:3@h>, <sip:3@h>, <sip:3@h>";
    assert_eq!(refusal(&at.contact("d", 1, &[many])), (403, "Too Many Contacts"));
}

#[test]
fn a_full_table_refuses_new_bindings_and_refreshes_old_ones() {
    let mut at = with(|settings| settings.limits.bindings = 2);
    at.contact("a", 1, &["Contact: <sip:1@h>, <sip:2@h>"]);
    let bob = |cseq| registration(SERVER, "sip:bob@a.test", "b", cseq, &["Contact: <sip:b@h>"]);
    assert_eq!(refusal(&at.register(tcp(1), bob(1))), (503, "Too Many Registrations"));
    assert_eq!(at.contact("a", 2, &["Contact: <sip:1@h>"]).status, 200);
    at.contact("a", 3, &["Contact: <sip:1@h>;expires=0"]);
    assert_eq!(at.register(tcp(1), bob(2)).status, 200);
}

#[test]
fn a_binding_may_not_be_larger_than_its_limit() {
    let mut at = new();
    let long = format!("Contact: <sip:{}@h>", "a".repeat(5000));
    assert_eq!(refusal(&at.contact("a", 1, &[&long])), (400, "Contact, Path And Call-ID Too Long"));
}

#[test]
fn a_binding_is_gone_when_it_expires() {
    let mut at = new();
    let epoch = at.epoch;
    at.contact("a", 1, &["Contact: <sip:a@h>;expires=60, <sip:b@h>;expires=120"]);
    assert_eq!(at.location.next_timeout(), Some(epoch + Duration::from_secs(60)));
    at.after(Duration::from_millis(59_999));
    assert_eq!(at.targets("sip:alice@a.test").len(), 2);
    // Before the timer has fired, too.
    at.now += Duration::from_millis(1);
    assert_eq!(at.targets("sip:alice@a.test"), ["sip:b@h"]);
    at.events();
    at.after(Duration::ZERO);
    let removed = LocationEvent::BindingRemoved {
        address_of_record: name("sip:alice@a.test"),
        contact: Bytes::from_static(b"sip:a@h"),
        reason: RemovalReason::Expired,
    };
    assert_eq!(at.events(), [removed]);
    assert_eq!(at.location.next_timeout(), Some(epoch + Duration::from_secs(120)));
    at.after(Duration::from_secs(3600));
    assert_eq!((at.location.bindings(), at.location.next_timeout()), (0, None));
}

#[test]
fn an_address_of_record_has_one_deadline_which_refreshing_moves_when_it_has_come() {
    let mut at = new();
    let epoch = at.epoch;
    let deadline = |at: &Fixture| at.location.next_timeout().map(|due| (due - epoch).as_secs());
    for (cseq, expires, due) in [(1, 600, 600), (2, 300, 300), (3, 900, 300), (4, 120, 120), (5, 86_400, 120)]
    {
        let expires_row = format!("Expires: {expires}");
        at.contact("a", cseq, &["Contact: <sip:a@h>", &expires_row]);
        assert_eq!(deadline(&at), Some(due), "{expires}");
    }
    assert_eq!(at.events().len(), 2, "the log-on and one binding");
    at.after(Duration::from_secs(120));
    assert_eq!((deadline(&at), at.location.bindings()), (Some(86_400), 1));
    at.after(Duration::from_secs(86_279));
    assert_eq!(at.location.bindings(), 1);
    at.after(Duration::from_secs(1));
    assert_eq!((deadline(&at), at.location.bindings()), (None, 0));
}

#[test]
fn a_closed_connection_takes_its_bindings_and_its_log_on_with_it() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.contact("a", 1, &["Contact: <sip:a@h>"]);
    let alice =
        |flow, cseq| (flow, registration(SERVER, "sip:alice@a.test", "b", cseq, &["Contact: <sip:b@h>"]));
    let (flow, request) = alice(tcp(2), 1);
    at.register(flow, request);
    at.events();
    at.location.handle_connection_closed(at.now, &tcp(1));
    let alice_is_at_h = LocationEvent::BindingRemoved {
        address_of_record: name("sip:alice@a.test"),
        contact: Bytes::from_static(b"sip:a@h"),
        reason: RemovalReason::ConnectionClosed,
    };
    let reason = LogOffReason::ConnectionClosed;
    assert_eq!(
        at.events(),
        [LocationEvent::LoggedOff { flow: tcp(1), account: SERVER, reason }, alice_is_at_h]
    );
    assert_eq!(at.targets("sip:alice@a.test"), ["sip:b@h"]);
    assert_eq!(at.servers("sip:nobody@a.test"), [tcp(2)]);
    // What was still under way finds the door closed.
    at.log_on(tcp(1), SERVER);
    let (flow, request) = alice(tcp(1), 2);
    assert_eq!(at.register(flow, request).status, 430);
    assert_eq!(at.servers("sip:nobody@a.test"), [tcp(2)]);
    assert!(at.events().is_empty());
}

#[test]
fn ten_thousand_users_over_one_connection_come_and_go() {
    let mut at = new();
    let user = |number: u32| format!("sip:user{number}@a.test");
    for number in 0..10_000 {
        let rows = ["Contact: <sip:ucs@10.0.0.2:40000;transport=tcp>"];
        let reply = at.register(tcp(1), registration(SERVER, &user(number), "bulk", number + 1, &rows));
        assert_eq!(reply.status, 200);
    }
    assert_eq!(at.location.bindings(), 10_000);
    assert_eq!(at.events().len(), 10_001);
    assert_eq!(at.locate(&user(77), tcp(9)).targets[0].flow, tcp(1));
    at.register(tcp(1), registration(SERVER, &user(77), "x", 1, &["Contact: *", "Expires: 0"]));
    assert_eq!(at.servers("sip:nobody@a.test"), [tcp(1)], "a user's leaving is not the server's");
    at.location.handle_connection_closed(at.now, &tcp(1));
    assert_eq!((at.location.bindings(), at.location.next_timeout()), (0, None));
    assert_eq!(at.events().len(), 1 + 1 + 9_999);
}
