//! GRUUs that the registrar gives, and where they lead (RFC 5627 §5, §6.1).

use super::*;

const PHONE: &str = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff";
const TABLET: &str = "urn:uuid:00000000-0000-1000-8000-aabbccddeeaa";
const SUPPORTED: &str = "Supported: gruu";
const ALICE: &str = "sip:alice@a.test";

fn contact(uri: &str, instance: &str) -> String {
    format!("Contact: <{uri}>;+sip.instance=\"<{instance}>\"")
}

/// The GRUUs of the contact with this URI in a 200: public, temporary.
fn gruus(reply: &Reply, uri: &str) -> (Option<String>, Option<String>) {
    assert_eq!(reply.status, 200, "{}", reply.reason);
    let value =
        rows(reply, "Contact").into_iter().find(|value| value.starts_with(&format!("<{uri}>"))).unwrap();
    let parameter = |name: &str| {
        let (_, rest) = value.split_once(&format!(";{name}=\""))?;
        Some(rest.split('"').next().unwrap().to_owned())
    };
    (parameter("pub-gruu"), parameter("temp-gruu"))
}

impl Fixture {
    /// Where a Request-URI leads: contacts, or the status that says that it leads nowhere.
    fn led(&mut self, uri: &str) -> Result<Vec<String>, u16> {
        match self.ask(tcp(99), None, Ask::Locate(destination(uri))) {
            Verdict::Located(located) => {
                let uri = |target: &Target| String::from_utf8(target.uri.to_vec()).unwrap();
                Ok(located.targets.iter().map(uri).collect())
            }
            Verdict::Unreachable(reply) => Err(reply.status),
            other => panic!("{other:?}"),
        }
    }

    /// A temporary GRUU of alice's, from a REGISTER of this contact.
    fn temporary(&mut self, call_id: &str, cseq: u32, uri: &str, instance: &str) -> String {
        let reply = self.contact(call_id, cseq, &[&contact(uri, instance), SUPPORTED]);
        gruus(&reply, uri).1.unwrap()
    }
}

#[test]
fn contacts_with_an_instance_get_both_gruus_if_the_user_agent_knows_of_them() {
    let mut at = new();
    let phone = contact("sip:a@10.0.0.7", PHONE);
    let reply = at.contact("a", 1, &[&phone, "Supported: path"]);
    assert_eq!(gruus(&reply, "sip:a@10.0.0.7"), (None, None));
    assert_eq!(rows(&reply, "Contact"), [format!("{};expires=3600", &phone["Contact: ".len()..])]);
    let reply = at.contact("a", 2, &[&phone, "Contact: <sip:b@h>", SUPPORTED]);
    let (public, temporary) = gruus(&reply, "sip:a@10.0.0.7");
    assert_eq!(public.unwrap(), format!("{ALICE};gr={PHONE}"));
    assert!(temporary.unwrap().starts_with("sip:tgruu."));
    assert_eq!(gruus(&reply, "sip:b@h"), (None, None));
    assert!(rows(&reply, "Require").is_empty() && rows(&reply, "Supported") == ["path, outbound"]);
    // The scheme is that of To, and what the user agent proposes is not heard.
    let proposed = format!("{phone};pub-gruu=\"sip:x@a.test;gr=1\";temp-gruu=\"sip:y@a.test;gr\"");
    let registration = registration(SERVER, "sips:alice@a.test", "a", 3, &[&proposed, SUPPORTED]);
    let (public, temporary) = gruus(&at.register(tcp(1), registration), "sip:a@10.0.0.7");
    assert_eq!(public.unwrap(), format!("sips:alice@a.test;gr={PHONE}"));
    assert!(temporary.unwrap().starts_with("sips:tgruu."));
}

#[test]
fn a_domain_has_no_gruu() {
    let mut at = new();
    let registration =
        registration(SERVER, "sip:a.test", "a", 1, &[&contact("sip:10.0.0.2", PHONE), SUPPORTED]);
    assert_eq!(gruus(&at.register(tcp(1), registration), "sip:10.0.0.2"), (None, None));
}

#[test]
fn a_public_gruu_leads_to_its_instance_alone() {
    let mut at = new();
    at.contact("a", 1, &[&contact("sip:1@h", PHONE), SUPPORTED]);
    at.contact("b", 1, &[&contact("sip:2@h", TABLET), "Contact: <sip:3@h>", SUPPORTED]);
    assert_eq!(at.led(ALICE).unwrap().len(), 3);
    let upper = format!("sips:%61lice@A.TEST;x=y;GR={}", TABLET.to_ascii_uppercase());
    for (uri, led) in [
        (format!("{ALICE};gr={PHONE}"), Ok(vec!["sip:1@h".to_owned()])),
        (upper, Ok(vec!["sip:2@h".to_owned()])),
        (format!("{ALICE};gr=urn:uuid:other"), Err(480)),
        // A user without bindings is searched for: a UC server may have given that GRUU.
        (format!("sip:bob@a.test;gr={PHONE}"), Ok(Vec::new())),
    ] {
        assert_eq!(at.led(&uri), led, "{uri}");
    }
    for other in [";gr", ";gruu;opaque=user:epid:x", ";x=y"] {
        assert_eq!(at.led(&format!("{ALICE}{other}")).unwrap().len(), 3, "{other}");
    }
    at.contact("a", 2, &["Contact: <sip:1@h>;expires=0"]);
    assert_eq!(at.led(&format!("{ALICE};gr={PHONE}")), Err(480), "it stays a GRUU");
}

#[test]
fn temporary_gruus_are_good_together_while_the_instance_is_registered_under_its_call_id() {
    let mut at = new();
    let first = at.temporary("a", 1, "sip:1@h", PHONE);
    let second = at.temporary("a", 2, "sip:1@h", PHONE);
    let other = at.temporary("b", 1, "sip:2@h", TABLET);
    assert_ne!(first, second);
    for (gruu, led) in [(&first, "sip:1@h"), (&second, "sip:1@h"), (&other, "sip:2@h")] {
        assert_eq!(at.led(gruu), Ok(vec![led.to_owned()]));
    }
    // Without `gr` it is nobody's name.
    assert_eq!(at.led(first.strip_suffix(";gr").unwrap()), Ok(Vec::new()));
    // A refresh that does not ask for any changes nothing.
    at.contact("a", 3, &[&contact("sip:1@h", PHONE)]);
    assert_eq!(at.led(&first), Ok(vec!["sip:1@h".to_owned()]));
    let third = at.temporary("c", 1, "sip:1@h", PHONE);
    assert_eq!((at.led(&first), at.led(&second)), (Err(404), Err(404)), "another Call-ID");
    assert_eq!(at.led(&third), Ok(vec!["sip:1@h".to_owned()]));
    // With its last contact they end for good, also if it comes back under the same Call-ID.
    at.contact("c", 2, &["Contact: <sip:1@h>;expires=0"]);
    assert_eq!(at.led(&third), Err(404));
    let fourth = at.temporary("c", 3, "sip:1@h", PHONE);
    assert_eq!((at.led(&third), at.led(&fourth)), (Err(404), Ok(vec!["sip:1@h".to_owned()])));
    at.after(Duration::from_secs(3600));
    assert_eq!((at.led(&fourth), at.led(&other)), (Err(404), Err(404)));
}

#[test]
fn the_call_id_counts_for_each_flow_and_all_flows_share_their_gruus() {
    let mut at = new();
    let mut flow = |call_id: &str, cseq, reg_id: u32| {
        let row = format!("{};reg-id={reg_id}", contact(&format!("sip:{reg_id}@h"), PHONE));
        let reply = at.contact(call_id, cseq, &[&row, "Supported: gruu, outbound, path"]);
        let gruu = gruus(&reply, &format!("sip:{reg_id}@h")).1.unwrap();
        (gruu, at.location.bindings())
    };
    let (first, _) = flow("a", 1, 1);
    let (second, bound) = flow("b", 1, 2);
    assert_eq!(bound, 2);
    assert_eq!(at.led(&first), Ok(vec!["sip:2@h".to_owned()]), "a second flow voids nothing");
    let alternatives = at.locate(&first, tcp(9)).targets[0].alternatives.len();
    assert_eq!(alternatives, 1);
    // One flow ends, and they are still good.
    at.contact(
        "a",
        2,
        &[&format!("{};reg-id=1;expires=0", contact("sip:1@h", PHONE)), "Supported: outbound"],
    );
    assert_eq!(at.led(&first), Ok(vec!["sip:2@h".to_owned()]));
    let row = format!("{};reg-id=2", contact("sip:2@h", PHONE));
    at.contact("c", 1, &[&row, "Supported: outbound"]);
    assert_eq!((at.led(&first), at.led(&second)), (Err(404), Err(404)));
}

#[test]
fn a_contact_that_leads_back_is_forbidden() {
    let mut at = new();
    let temporary = at.temporary("a", 1, "sip:1@h", PHONE);
    let bobs = {
        let rows = [&*contact("sip:1@h", PHONE), SUPPORTED];
        gruus(&at.register(tcp(1), registration(SERVER, "sip:bob@a.test", "b", 1, &rows)), "sip:1@h")
            .1
            .unwrap()
    };
    let table = [
        ("sip:%61lice@A.test", 403),
        ("sips:alice@a.test", 403),
        ("sip:alice@a.test;gr=urn:x:y", 403),
        (&temporary, 403),
        (&bobs, 200),
        ("sip:bob@a.test;gr=urn:x:y", 200),
        ("sip:alice@a.test:5070", 200),
        ("sip:alice@a.test;transport=tcp", 200),
    ];
    for (cseq, (uri, status)) in (2..).zip(table) {
        let kept = at.location.bindings();
        let reply = at.contact("a", cseq, &[&contact(uri, PHONE)]);
        assert_eq!(reply.status, status, "{uri}");
        if status == 403 {
            assert_eq!(at.location.bindings(), kept);
            let removal = format!("{};expires=0", contact(uri, PHONE));
            assert_eq!(at.contact("x", cseq, &[&removal]).status, 200, "a removal leads nowhere: {uri}");
        } else {
            at.contact("x", cseq, &[&format!("{};expires=0", contact(uri, PHONE))]);
        }
    }
    // Who has not said which user agent it is gets what RFC 3261 has for it.
    assert_eq!(at.contact("y", 1, &["Contact: <sip:alice@a.test>"]).status, 200);
}

#[test]
fn a_temporary_gruu_outlives_a_restart_with_its_binding_only() {
    let mut at = new();
    let gruu = at.temporary("a", 1, "sip:1@h", PHONE);
    let mut later = with(|settings| settings.seed = [9; 16]);
    assert_eq!(later.led(&gruu), Err(404), "ours, and its binding is gone");
    let mut elsewhere = with(|settings| settings.gruu_key = GruuKey([9; 32]));
    assert_eq!(elsewhere.led(&gruu), Ok(Vec::new()), "another's, who may be asked for it");
}
