//! Flows that user agents register (RFC 5626 §6, §7).

use super::*;

const PHONE: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";
const TABLET: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEAA>\"";
const SUPPORTED: &str = "Supported: path, outbound";

/// A Contact row of this instance and flow.
fn flow_row(uri: &str, instance: &str, reg_id: u32, more: &str) -> String {
    format!("Contact: <{uri}>;{instance};reg-id={reg_id}{more}")
}

impl Fixture {
    /// Registers alice over `flow`, as nobody's UC server.
    fn over(&mut self, flow: Flow, call_id: &str, cseq: u32, rows: &[&str]) -> Reply {
        let registration = registration(PARTNER, "sip:alice@partner.test", call_id, cseq, rows);
        self.register(flow, registration)
    }

    /// The flows by which alice is asked: the first, then its alternatives, for each target.
    fn ways(&mut self, uri: &str) -> Vec<Vec<Flow>> {
        let targets = self.locate(uri, tcp(99)).targets;
        let ways =
            |target: &Target| std::iter::once(target).chain(&target.alternatives).map(|t| t.flow).collect();
        targets.iter().map(ways).collect()
    }
}

const ALICE: &str = "sip:alice@partner.test";

#[test]
fn instance_and_flow_identify_a_binding_whatever_the_contact_is() {
    let mut at = new();
    let reply =
        at.over(tcp(1), "a", 1, &[&flow_row("sip:a@10.0.0.2:1", PHONE, 1, ";expires=600"), SUPPORTED]);
    assert_eq!(rows(&reply, "Contact"), [format!("<sip:a@10.0.0.2:1>;{PHONE};reg-id=1;expires=600")]);
    assert_eq!((rows(&reply, "Require"), rows(&reply, "Flow-Timer")), (vec!["outbound"], vec!["540"]));
    // After it has begun anew: another Call-ID, another connection, another contact.
    let lower = PHONE.to_ascii_lowercase();
    let reply = at.over(tcp(2), "b", 1, &[&flow_row("sip:a@10.0.0.2:2", &lower, 1, ""), SUPPORTED]);
    assert_eq!(rows(&reply, "Contact"), [format!("<sip:a@10.0.0.2:2>;{lower};reg-id=1;expires=3600")]);
    assert_eq!(at.ways(ALICE), [[tcp(2)]]);
    // Another flow of it and another user agent are others, and so is the same URI without a flow.
    at.over(tcp(3), "c", 1, &[&flow_row("sip:a@10.0.0.2:2", PHONE, 2, ""), SUPPORTED]);
    at.over(tcp(4), "d", 1, &[&flow_row("sip:a@10.0.0.2:2", TABLET, 1, ""), SUPPORTED]);
    assert_eq!(at.location.bindings(), 3);
    let reply = at.over(tcp(5), "e", 1, &["Contact: <sip:a@10.0.0.2:2>;expires=0"]);
    assert_eq!((reply.status, at.location.bindings()), (200, 3));
    // It removes its flow by naming it.
    at.over(tcp(3), "c", 2, &[&flow_row("sip:elsewhere@h", PHONE, 2, ";expires=0"), SUPPORTED]);
    assert_eq!(at.ways(ALICE), [[tcp(4)], [tcp(2)]]);
}

#[test]
fn a_flow_that_is_replaced_loses_its_standing() {
    let mut at = new();
    at.over(tcp(1), "a", 1, &[&flow_row("sip:a@h", PHONE, 1, ""), SUPPORTED]);
    at.events();
    at.over(tcp(2), "b", 1, &[&flow_row("sip:a@h", PHONE, 1, ""), SUPPORTED]);
    let expected = [
        LocationEvent::LoggedOn { flow: tcp(2), account: PARTNER, passes: true },
        LocationEvent::LoggedOff { flow: tcp(1), account: PARTNER, reason: LogOffReason::Unregistered },
    ];
    assert_eq!(at.events(), expected);
    at.location.handle_connection_closed(at.now, &tcp(1));
    assert_eq!(at.ways(ALICE), [[tcp(2)]]);
}

#[test]
fn flows_of_one_user_agent_are_alternatives_the_one_refreshed_last_first() {
    let mut at = new();
    at.over(tcp(1), "a", 1, &[&flow_row("sip:a@h", PHONE, 1, ";q=0.5"), SUPPORTED]);
    at.over(tcp(2), "b", 1, &[&flow_row("sip:a@h", PHONE, 2, ";q=0.9"), SUPPORTED]);
    at.over(tcp(3), "c", 1, &[&flow_row("sip:a@h", TABLET, 1, ";q=0.7"), SUPPORTED]);
    assert_eq!(at.ways(ALICE), [vec![tcp(2), tcp(1)], vec![tcp(3)]]);
    at.over(tcp(1), "a", 2, &[&flow_row("sip:a@h", PHONE, 1, ";q=0.5"), SUPPORTED]);
    assert_eq!(at.ways(ALICE), [vec![tcp(3)], vec![tcp(1), tcp(2)]]);
    assert!(at.locate(ALICE, tcp(9)).targets.iter().all(|target| target.is_flow));
    at.location.handle_connection_closed(at.now, &tcp(1));
    assert_eq!(at.ways(ALICE), [[tcp(2)], [tcp(3)]]);
    // Without flows: user agents that have begun anew at another address (RFC 5627 §6.1).
    for (cseq, port) in [(1, 1), (2, 2), (3, 1)] {
        let row = format!("Contact: <sip:b@10.0.0.2:{port}>;{TABLET}");
        at.register(tcp(7), registration(SERVER, "sip:bob@a.test", "b", cseq, &[&row]));
    }
    let targets = at.locate("sip:bob@a.test", tcp(9)).targets;
    assert_eq!((targets.len(), targets[0].alternatives.len()), (1, 1));
    assert_eq!((&targets[0].uri[..], targets[0].is_flow), (&b"sip:b@10.0.0.2:1"[..], false));
}

#[test]
fn reg_id_counts_by_the_rules() {
    const EDGE: &str = "Path: <sip:p2.test;lr>, <sip:edge.test;lr;ob>";
    const OTHER: &str = "Path: <sip:p2.test;lr;ob>, <sip:edge.test;lr>";
    const SECOND_VIA: &str = "Via: SIP/2.0/UDP edge;branch=z9hG4bK2";
    let flow = flow_row("sip:a@h", PHONE, 1, "");
    let no_instance = "Contact: <sip:a@h>;reg-id=1";
    let two = format!("{flow}, <sip:b@h>");
    let two_of_which_one_goes = format!("{flow}, <sip:b@h>;expires=0");
    // What is sent; the status; whether the binding is a flow, whether the 200 says so.
    let table: [(&[&str], u16, bool, bool); 12] = [
        (&[&flow, SUPPORTED], 200, true, true),
        (&[&flow, "Supported: path"], 200, true, false),
        (&[no_instance, SUPPORTED], 200, false, false),
        (&[&format!("Contact: <sip:a@h>;{PHONE}"), SUPPORTED], 200, false, false),
        (&[&two, SUPPORTED], 400, false, false),
        (&["Contact: <sip:a@h>;reg-id=1, <sip:b@h>", SUPPORTED], 200, false, false),
        (&[&two_of_which_one_goes, SUPPORTED], 200, true, true),
        // Behind another proxy, which must be one that keeps the flow.
        (&[&flow, SUPPORTED, SECOND_VIA, EDGE], 200, true, true),
        (&[&flow, SUPPORTED, SECOND_VIA, OTHER], 439, false, false),
        (&[&flow, SUPPORTED, SECOND_VIA], 439, false, false),
        (&[&flow, "Supported: path", SECOND_VIA], 200, false, false),
        (&[&format!("Contact: <sip:a@h>;{PHONE}"), SUPPORTED, SECOND_VIA], 200, false, false),
    ];
    for (sent, status, is_flow, is_said) in table {
        let mut at = new();
        let reply = match read(PARTNER, ALICE, "a", 1, sent) {
            Ok(registration) => at.register(tcp(1), registration),
            Err(refusal) => refusal,
        };
        assert_eq!(reply.status, status, "{sent:?}");
        let bound = at.locate(ALICE, tcp(9)).targets;
        assert_eq!(bound.iter().any(|target| target.is_flow), is_flow, "{sent:?}");
        assert_eq!(rows(&reply, "Require"), if is_said { vec!["outbound"] } else { vec![] }, "{sent:?}");
    }
}

#[test]
fn malformed_names_of_instances_and_flows_are_refused() {
    let table = [
        ("+sip.instance=\"urn:x:y\"", "Malformed +sip.instance Of Contact"),
        ("+sip.instance", "Malformed +sip.instance Of Contact"),
        ("reg-id=0", "Malformed reg-id Of Contact"),
        ("reg-id=2147483648", "Malformed reg-id Of Contact"),
        ("reg-id", "Malformed reg-id Of Contact"),
    ];
    for (parameter, reason) in table {
        let refused =
            read(PARTNER, ALICE, "a", 1, &[&format!("Contact: <sip:a@h>;{parameter}")]).unwrap_err();
        assert_eq!(refusal(&refused), (400, reason), "{parameter}");
    }
}

#[test]
fn a_flow_of_datagrams_ends_with_the_networks_word_and_an_address_does_not() {
    let mut at = new();
    let (phone, other) = (udp("10.0.0.7:5060"), udp("10.0.0.8:5060"));
    at.over(phone, "a", 1, &[&flow_row("sip:a@10.0.0.7", PHONE, 1, ""), SUPPORTED]);
    at.over(phone, "b", 1, &["Contact: <sip:b@10.0.0.7>"]);
    at.over(other, "c", 1, &[&flow_row("sip:a@10.0.0.8", PHONE, 2, ""), SUPPORTED]);
    let again = registration(PARTNER, "sip:anna@partner.test", "d", 1, &[&flow_row("sip:a@h", PHONE, 1, "")]);
    let reply = at.register(phone, again);
    assert!(rows(&reply, "Flow-Timer").is_empty(), "datagrams are kept alive by STUN");
    at.events();
    at.location.handle_flow_ended(at.now, &phone);
    assert_eq!(at.ways(ALICE), [[other], [phone]]);
    assert_eq!(at.ways("sip:anna@partner.test").len(), 0);
    let reason = |event| match event {
        LocationEvent::BindingRemoved { reason, .. } => reason.as_str(),
        other => panic!("{other:?}"),
    };
    let reasons: Vec<_> = at.events().into_iter().map(reason).collect();
    assert_eq!(reasons, ["flow_ended", "flow_ended"], "the flow still stands for the address");
    at.location.handle_flow_ended(at.now, &other);
    let event = LocationEvent::LoggedOff { flow: other, account: PARTNER, reason: LogOffReason::FlowEnded };
    assert_eq!(at.events()[0], event);
    at.location.handle_flow_ended(at.now, &phone);
    assert_eq!(at.location.bindings(), 1);
}

/// A contact behind a NAT is reached over its flow alone, though it does not say that it is one.
#[test]
fn a_binding_whose_contact_is_behind_a_nat_ends_with_its_flow() {
    let table = [
        (udp("10.0.0.7:5060"), "Contact: <sip:a@192.168.1.2:5060>", true),
        (udp("10.0.0.7:5060"), "Contact: <sip:a@10.0.0.7:5070>", false),
        (udp("10.0.0.7:5060"), "Contact: <sip:a@phone.a.test>", false),
        (tcp(1), "Contact: <sip:a@192.168.1.2:5060>", false),
    ];
    for (flow, contact, is_of_flow) in table {
        let mut at = new();
        at.over(flow, "a", 1, &[contact]);
        assert!(at.locate(ALICE, tcp(9)).targets.iter().all(|target| target.is_flow == is_of_flow));
        at.location.handle_flow_ended(at.now, &flow);
        assert_eq!(at.location.bindings() == 0, is_of_flow, "{contact}");
    }
}
