//! The location service from outside, in the order of its users' lives.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::protocol::account::{Account, Accounts, Scope, Secret};
use crate::protocol::digest::{NonceUse, NonceVerdict, Nonces};
use crate::protocol::flow::{ConnectionId, InterfaceId, Transport};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Carriage, Message, MessageLimits};

/// A UC server for everybody; one for `*@b.test`; somebody who registers for `*@partner.test`.
const SERVER: AccountId = AccountId(0);
const OTHER: AccountId = AccountId(1);
const PARTNER: AccountId = AccountId(2);

struct Fixture {
    location: Location,
    epoch: Instant,
    now: Instant,
}

fn accounts() -> Accounts {
    let account = |name: &str, users: &str, kind| Account {
        user_name: name.to_owned(),
        secret: Secret::Password("x".to_owned()),
        scope: Scope::parse(&[users]).unwrap(),
        kind,
    };
    Accounts(vec![
        account("ucserver", "*", AccountKind::UcServer),
        account("other", "*@b.test", AccountKind::UcServer),
        account("partner", "*@partner.test", AccountKind::Registrant),
    ])
}

fn with(change: impl FnOnce(&mut LocationSettings)) -> Fixture {
    let epoch = Instant::now();
    let mut settings = LocationSettings {
        minimum_expires: Duration::from_secs(60),
        default_expires: Duration::from_secs(3600),
        maximum_expires: Duration::from_secs(86_400),
        maximum_contacts: 3,
        nonce_lifetime: Duration::from_secs(300),
        accounts: Arc::new(accounts()),
        succeeded: None,
        epoch,
        hash_key: [1; 16],
        limits: LocationLimits::default(),
    };
    change(&mut settings);
    Fixture { location: Location::new(settings), epoch, now: epoch }
}

fn new() -> Fixture {
    with(|_| ())
}

fn udp(remote: &str) -> Flow {
    Flow {
        interface: InterfaceId(0),
        transport: Transport::Udp,
        local: "10.0.0.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

fn tcp(id: u64) -> Flow {
    let connection = Some(ConnectionId(id));
    Flow { transport: Transport::Tcp, connection, ..udp("10.0.0.2:40000") }
}

fn name(text: &str) -> AddressOfRecord {
    AddressOfRecord::from_uri(&Uri::parse(text.as_bytes()).unwrap())
}

/// A REGISTER of `to` with these rows.
fn registration(account: AccountId, to: &str, call_id: &str, cseq: u32, rows: &[&str]) -> Registration {
    let rows = rows.iter().fold(String::new(), |mut all, row| {
        let _ = write!(all, "{row}\r\n");
        all
    });
    let text = format!(
        "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@a.test>;tag=1\r\n\
         To: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{rows}\r\n"
    );
    let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
    let message = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
    Registration::read(&message, Some(account)).unwrap()
}

impl Fixture {
    fn ask(&mut self, flow: Flow, log_on: Option<AccountId>, ask: Ask) -> Verdict {
        let context = ContextId { slot: 1, generation: 2 };
        let question = Question { context, flow, nonce_use: None, log_on, ask };
        let answer = self.location.handle_question(self.now, question);
        assert_eq!(answer.context, context);
        answer.verdict
    }

    fn log_on(&mut self, flow: Flow, account: AccountId) {
        assert!(matches!(self.ask(flow, Some(account), Ask::Nothing), Verdict::Admitted));
    }

    fn register(&mut self, flow: Flow, registration: Registration) -> Reply {
        match self.ask(flow, None, Ask::Register(Box::new(registration))) {
            Verdict::Registered(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// One contact of `sip:alice@a.test`, by the server's account over `tcp(1)`.
    fn contact(&mut self, call_id: &str, cseq: u32, rows: &[&str]) -> Reply {
        self.register(tcp(1), registration(SERVER, "sip:alice@a.test", call_id, cseq, rows))
    }

    fn locate(&mut self, text: &str, asking: Flow) -> Located {
        match self.ask(asking, None, Ask::Locate(name(text))) {
            Verdict::Located(located) => located,
            other => panic!("{other:?}"),
        }
    }

    fn targets(&mut self, text: &str) -> Vec<String> {
        let located = self.locate(text, tcp(99));
        located.targets.iter().map(|target| String::from_utf8(target.uri.to_vec()).unwrap()).collect()
    }

    fn servers(&mut self, text: &str) -> Vec<Flow> {
        self.locate(text, tcp(99)).servers.iter().map(|server| server.flow).collect()
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.location.handle_timeout(self.now);
        self
    }

    fn events(&mut self) -> Vec<LocationEvent> {
        std::iter::from_fn(|| self.location.poll_event()).collect()
    }
}

fn rows<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.rows.iter().filter(|(of, _)| *of == name).map(|(_, value)| value.as_str()).collect()
}

fn refusal(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.reason)
}

#[test]
fn a_200_lists_all_contacts_with_what_is_left_of_them_and_echoes_path() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:a@10.0.0.9>;q=0.5", "Record-Route: <sip:rr.test;lr>"]);
    at.after(Duration::from_millis(10_500));
    let path = "Path: <sip:p1.test;lr>, <sip:p2.test;lr>";
    let reply = at.contact("b", 1, &["Contact: <sip:b@10.0.0.9>;expires=999999", path]);
    assert_eq!(reply.status, 200);
    let expected = ["<sip:a@10.0.0.9>;q=0.500;expires=3590", "<sip:b@10.0.0.9>;expires=86400"];
    assert_eq!(rows(&reply, "Contact"), expected);
    assert_eq!(rows(&reply, "Path"), ["<sip:p1.test;lr>, <sip:p2.test;lr>"]);
    assert!(rows(&reply, "Record-Route").is_empty());
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
    assert_eq!((reply.status, reply.rows.len()), (200, 0));
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
    assert_eq!((reply.status, reply.rows.len()), (200, 0));
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
fn refreshing_moves_the_one_deadline_of_an_address_of_record() {
    let mut at = new();
    let epoch = at.epoch;
    for (cseq, expires) in [(1, 600), (2, 300), (3, 900), (4, 120), (5, 86_400)] {
        let expires_row = format!("Expires: {expires}");
        at.contact("a", cseq, &["Contact: <sip:a@h>", &expires_row]);
        assert_eq!(at.location.next_timeout(), Some(epoch + Duration::from_secs(expires)));
    }
    assert_eq!(at.events().len(), 2, "the log-on and one binding");
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
    let NonceVerdict::Valid(id) = nonces.check(nonces.mint(0, 1).as_bytes(), 0) else { panic!("fresh") };
    let question = |flow| Question {
        context: ContextId { slot: 0, generation: 0 },
        flow,
        nonce_use: Some(NonceUse { id, count: Some(1) }),
        log_on: Some(SERVER),
        ask: Ask::Locate(name("sip:x@a.test")),
    };
    let first = at.location.handle_question(at.now, question(tcp(1)));
    assert!(matches!(first.verdict, Verdict::Located(_)));
    at.events();
    let second = at.location.handle_question(at.now, question(tcp(2)));
    assert!(matches!(second.verdict, Verdict::Replayed));
    assert!(at.events().is_empty());
    assert_eq!(at.servers("sip:x@a.test"), [tcp(1)]);
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Happening {
    LogOn { flow: u64, account: u16 },
    Register { flow: u64, account: u16, user: u8, contact: u8, cseq: u32, expires: u32 },
    Clear { flow: u64, account: u16, user: u8 },
    Close { flow: u64 },
    Pass { seconds: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let (flow, account, user) = (0..6u64, 0..3u16, 0..4u8);
    prop_oneof![
        (flow.clone(), account.clone()).prop_map(|(flow, account)| Happening::LogOn { flow, account }),
        (flow.clone(), account.clone(), user.clone(), 0..4u8, 1..9u32, prop_oneof![Just(0), 50..4000u32])
            .prop_map(|(flow, account, user, contact, cseq, expires)| {
                Happening::Register { flow, account, user, contact, cseq, expires }
            }),
        (flow.clone(), account, user).prop_map(|(flow, account, user)| Happening::Clear {
            flow,
            account,
            user
        }),
        flow.prop_map(|flow| Happening::Close { flow }),
        (0..3000u64).prop_map(|seconds| Happening::Pass { seconds }),
    ]
}

impl Fixture {
    fn let_happen(&mut self, what: &Happening) {
        // Half of the flows are streams. A closed one never opens again, as in life.
        let flow = |number: u64| if number < 3 { tcp(number) } else { udp(&format!("10.0.0.3:{number}")) };
        let to = |user: u8| {
            ["sip:alice@a.test", "sip:bob@a.test", "sip:ucserver@a.test", "sip:a.test"][usize::from(user)]
        };
        match *what {
            Happening::LogOn { flow: number, account } => self.log_on(flow(number), AccountId(account)),
            Happening::Register { flow: number, account, user, contact, cseq, expires } => {
                let row = format!("Contact: <sip:{contact}@10.0.0.3>;expires={expires}");
                self.register(flow(number), registration(AccountId(account), to(user), "c", cseq, &[&row]));
            }
            Happening::Clear { flow: number, account, user } => {
                let rows = ["Contact: *", "Expires: 0"];
                self.register(flow(number), registration(AccountId(account), to(user), "d", 1, &rows));
            }
            Happening::Close { flow: number } => {
                self.location.handle_connection_closed(self.now, &flow(number));
            }
            Happening::Pass { seconds } => {
                self.after(Duration::from_secs(seconds));
            }
        }
    }
}

proptest! {
    #[test]
    fn indices_agree_and_events_tell_the_whole_story(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut at = new();
        let mut standing = std::collections::BTreeMap::new();
        let mut bound = 0;
        for what in &happenings {
            at.let_happen(what);
            at.location.flows.check(at.location.bindings.check());
            for event in at.events() {
                match event {
                    LocationEvent::LoggedOn { flow, account, passes } => {
                        let before = standing.insert(flow, (account, passes));
                        prop_assert!(before.is_none_or(|before| before == (account, !passes)), "{:?}", before);
                    }
                    LocationEvent::LoggedOff { flow, account, .. } => {
                        prop_assert_eq!(standing.remove(&flow).map(|(account, _)| account), Some(account));
                    }
                    LocationEvent::BindingAdded { .. } => bound += 1,
                    LocationEvent::BindingRemoved { .. } => bound -= 1,
                }
            }
            let passing = standing.iter().filter(|(_, (_, passes))| *passes);
            let passing: std::collections::BTreeSet<_> = passing.map(|(flow, (account, _))| (*flow, *account)).collect();
            prop_assert_eq!(at.location.standings().collect::<std::collections::BTreeSet<_>>(), passing);
            prop_assert_eq!(at.location.bindings(), bound);
            prop_assert!(at.location.next_timeout().is_none_or(|next| next > at.now));
        }
        at.after(Duration::from_secs(100_000));
        prop_assert_eq!(at.location.bindings(), 0);
        prop_assert_eq!(at.location.next_timeout(), None);
    }

    #[test]
    fn any_register_is_read_or_refused(contact in "[ -~]{0,40}", path in "[ -~]{0,20}", expires in "[ -~]{0,12}") {
        let text = format!(
            "REGISTER sip:a.test SIP/2.0\r\nTo: <sip:x@a.test>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\
             Contact: {contact}\r\nPath: {path}\r\nExpires: {expires}\r\n\r\n"
        );
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let message = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
        if let Err(reply) = Registration::read(&message, None) {
            prop_assert_eq!(reply.status, 400);
        }
    }
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
