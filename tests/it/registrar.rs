//! Registrations by the statements of `conformance.md` (J, H6 to H8): RFC 3261 §10.3, RFC 3327, 5626, 5627.
//!
//! Elsewhere: who may register whom (J2) and one REGISTER for a whole server (J10 a), in `log_on.rs`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::{Sip, parameter, uri_of};
use crate::log_on::{guarded, register};
use crate::support::{
    DOMAIN, Dialog, LIMIT, PROMPT, SILENCE, Site, Wire, final_response, open_house, relay, uri,
};

const PHONE: &str = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff";
const TABLET: &str = "urn:uuid:00000000-0000-1000-8000-aabbccddeeaa";

/// The same REGISTER with another branch and these values for what orders it.
fn ordered(request: Sip, agent: &Agent, call_id: &str, number: u32) -> Sip {
    request.set("Via", agent.via()).set("Call-ID", call_id).set("CSeq", format!("{number} REGISTER"))
}

/// The contact URIs that bob has.
async fn bound(agent: &mut Agent) -> Vec<String> {
    let query = register(agent, "bob").without("Contact").without("Expires");
    let listed = agent.exchange(&query).await;
    assert_eq!(listed.status(), 200, "{listed}");
    let mut uris: Vec<_> =
        listed.values("Contact").into_iter().map(|contact| uri_of(contact).to_owned()).collect();
    uris.sort();
    uris
}

/// A REGISTER of bob's user agent.
fn of_instance(agent: &Agent, instance: &str, more: &str) -> Sip {
    let contact = format!("{};+sip.instance=\"<{instance}>\"{more}", agent.contact("bob"));
    register(agent, "bob").set("Contact", contact).with("Supported", "path, outbound, gruu")
}

/// A flow of bob's user agent, over `agent`; the 200.
async fn flow(agent: &mut Agent, instance: &str, reg_id: u32) -> Sip {
    let granted = agent.exchange(&of_instance(agent, instance, &format!(";reg-id={reg_id}"))).await;
    assert_eq!(granted.status(), 200, "{granted}");
    granted
}

/// A GRUU that a 200 has for this instance.
fn gruu(granted: &Sip, name: &str, instance: &str) -> String {
    let contacts = granted.values("Contact");
    let of_instance = contacts.iter().find(|contact| contact.contains(instance));
    let value = of_instance.and_then(|contact| parameter(contact, name));
    value.unwrap_or_else(|| panic!("no {name} of {instance} in:\n{granted}")).trim_matches('"').to_owned()
}

fn hello(from: &Agent, to: &str) -> Sip {
    from.message(&uri("alice"), to, "hello")
}

#[test]
fn j1_an_address_of_record_is_one_however_a_register_writes_it() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        for (number, to) in
            ["sip:bob@example.org", "sip:%62ob@EXAMPLE.Org;x=y", "sips:bob@example.org;user=phone"]
                .into_iter()
                .enumerate()
        {
            let contact = format!("<sip:bob-{number}@{}>", agent.local());
            let request = register(&agent, "bob").set("To", format!("<{to}>")).set("Contact", contact);
            let granted = agent.exchange(&request).await;
            assert_eq!((granted.status(), granted.values("Contact").len()), (200, number + 1), "{granted}");
        }
        // The user has a case.
        let other = agent.exchange(&register(&agent, "Bob")).await;
        assert_eq!(other.values("Contact").len(), 1, "{other}");
    });
}

#[test]
fn j3_star_clears_all_and_is_alone_with_expires_0() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let two = format!("{}, {}", agent.contact("one"), agent.contact("two"));
        assert_eq!(agent.exchange(&register(&agent, "bob").set("Contact", two)).await.status(), 200);
        let star = register(&agent, "bob").set("Contact", "*");
        let with_another = star.clone().set("Expires", "0").with("Contact", agent.contact("one"));
        for bad in [star.clone().set("Expires", "60"), star.clone().without("Expires"), with_another] {
            let refused = agent.exchange(&bad.set("Via", agent.via())).await;
            assert_eq!(refused.status(), 400, "{refused}");
            assert_eq!(bound(&mut agent).await.len(), 2);
        }
        let cleared = agent.exchange(&star.set("Expires", "0").set("Via", agent.via())).await;
        assert_eq!((cleared.status(), cleared.all("Contact").len()), (200, 0), "{cleared}");
        assert!(bound(&mut agent).await.is_empty());
    });
}

#[test]
fn j4_one_call_id_counts_in_the_order_of_its_cseq() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let first = ordered(register(&agent, "bob"), &agent, "one", 5);
        assert_eq!(agent.exchange(&first).await.status(), 200);
        for number in [5, 4] {
            for change in
                [first.clone().set("Expires", "0"), first.clone().set("Contact", "*").set("Expires", "0")]
            {
                let refused = agent.exchange(&ordered(change, &agent, "one", number)).await;
                assert_eq!(refused.status(), 500, "{refused}");
            }
        }
        assert_eq!(bound(&mut agent).await.len(), 1);
        let other = ordered(first.clone().set("Expires", "300"), &agent, "other", 1);
        let granted = agent.exchange(&other).await;
        assert_eq!(parameter(granted.need("Contact"), "expires"), Some("300"), "{granted}");
    });
}

#[test]
fn j5_j6_a_register_is_carried_out_whole_or_not_at_all() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        assert_eq!(agent.exchange(&register(&agent, "bob")).await.status(), 200);
        let before = bound(&mut agent).await;
        // The default minimum is a minute.
        let contacts = format!("{};expires=0, {};expires=59", agent.contact("agent"), agent.contact("other"));
        let refused = agent.exchange(&register(&agent, "bob").set("Contact", contacts)).await;
        assert_eq!((refused.status(), refused.need("Min-Expires")), (423, "60"), "{refused}");
        assert_eq!(bound(&mut agent).await, before);
        let brief = register(&agent, "carol").set("Expires", "1");
        assert_eq!(agent.exchange(&brief).await.status(), 423);
    });
}

#[test]
fn j7_a_200_lists_all_contacts_and_no_record_route() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let request = register(&b, "bob").with("Record-Route", "<sip:192.0.2.1;lr>");
        let contacts =
            [format!("{};q=0.4;audio", b.contact("one")), format!("{};expires=90", b.contact("two"))];
        let granted = b.exchange(&request.set("Contact", contacts.join(", "))).await;
        assert_eq!((granted.status(), granted.all("Record-Route").len()), (200, 0), "{granted}");
        let listed = granted.values("Contact");
        assert_eq!(listed.len(), 2);
        assert_eq!(
            listed.iter().map(|one| parameter(one, "expires")).collect::<Vec<_>>(),
            [Some("600"), Some("90")]
        );
        assert_eq!((parameter(listed[0], "q"), parameter(listed[0], "audio")), (Some("0.400"), Some("")));
        assert!(granted.need("Date").ends_with(" GMT"), "{granted}");
        assert_eq!(granted.values("Supported"), ["path", "outbound"]);
        // The binding of higher preference, without a detour.
        let (arrived, _) = relay(&hello(&a, &uri("bob")), &mut a, &mut b, 200).await;
        assert_eq!(format!("<{}>", arrived.uri()), b.contact("two"));
        assert!(arrived.all("Route").is_empty(), "{arrived}");
    });
}

#[test]
fn j8_path_is_kept_echoed_and_the_route_of_requests() {
    run(LIMIT, async {
        let path = ["<sip:p1.example.net;lr>", "<sip:p2.example.net;lr;x=y>"];
        for is_accepted in [false, true] {
            let settings =
                open_house().key("registrar", "accept_path_without_support", &is_accepted.to_string());
            let site = Site::open(settings, &[Protocol::Tcp]).await;
            let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
            let request = register(&b, "bob").with("Path", path[0]).with("Path", path[1]);
            let without_support = b.exchange(&request).await;
            if is_accepted {
                assert_eq!((without_support.status(), without_support.values("Path")), (200, path.to_vec()));
            } else {
                let named = without_support.header("Unsupported");
                assert_eq!((without_support.status(), named), (420, Some("path")), "{without_support}");
                assert!(bound(&mut b).await.is_empty());
            }
            let supported = ordered(request.with("Supported", "path"), &b, "supported", 1);
            let granted = b.exchange(&supported).await;
            assert_eq!((granted.status(), granted.values("Path")), (200, path.to_vec()), "{granted}");
            let (arrived, _) = relay(&hello(&a, &uri("bob")), &mut a, &mut b, 200).await;
            assert_eq!(arrived.values("Route"), path, "{arrived}");
            assert_eq!(arrived.uri(), uri_of(&b.contact("agent")));
        }
    });
}

#[test]
fn j9_a_binding_is_gone_when_it_expires_and_not_before() {
    run(LIMIT, async {
        let settings = open_house().key("registrar", "minimum_expires", "\"1s\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let sent = Instant::now();
        let granted = b.exchange(&register(&b, "bob").set("Expires", "3")).await;
        let begun = Instant::now();
        assert_eq!(granted.status(), 200, "{granted}");
        let contact = granted.need("Contact").to_owned();
        let expires = parameter(&contact, "expires").and_then(|seconds| seconds.parse().ok());
        assert_eq!(expires, Some(3), "{contact}");
        let (lifetime, second) = (Duration::from_secs(3), Duration::from_secs(1));
        // A second before its end it is there.
        tokio::time::sleep_until((sent + lifetime - second).into()).await;
        let (arrived, _) = relay(&hello(&a, &uri("bob")), &mut a, &mut b, 200).await;
        assert_eq!(arrived.uri(), uri_of(&b.contact("agent")), "after {:?}", sent.elapsed());
        while !bound(&mut a).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (longest, shortest) = (sent.elapsed(), begun.elapsed());
        assert!(longest >= lifetime, "gone {longest:?} after its registration");
        assert!(
            shortest < lifetime + Duration::from_millis(1500),
            "there {shortest:?} after its registration"
        );
        // A second after its end: by search, as it is written.
        tokio::time::sleep_until((begun + lifetime + second).into()).await;
        let (arrived, _) = relay(&hello(&a, &uri("bob")), &mut a, &mut b, 200).await;
        assert_eq!(arrived.uri(), uri("bob"));
    });
}

#[test]
fn j9_permuted_parameters_are_the_same_contact() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        for (contacts, count) in [
            ("<sip:bob@Host.example.org;transport=tcp;x=1>", 1),
            ("<sip:%62ob@hOST.example.org;x=1;TRANSPORT=TCP>", 1),
            ("<sip:bob@host.example.org;transport=tcp>", 1),
            ("<sip:bob@host.example.org>", 2),
            ("<sip:bob@host.example.org:5060;transport=tcp>", 3),
            ("<sips:bob@host.example.org>, <sip:Bob@host.example.org>", 5),
        ] {
            let granted = agent.exchange(&register(&agent, "bob").set("Contact", contacts)).await;
            assert_eq!(
                (granted.status(), granted.values("Contact").len()),
                (200, count),
                "{contacts}:\n{granted}"
            );
        }
    });
}

#[test]
fn b10_a_contact_that_is_there_by_two_paths_is_asked_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let contacts = ["<sip:bob@host.example.org;x=1;y=2>", "<sip:%62ob@HOST.example.org;y=2;x=1>"];
        // By its contact one binding, whatever the path; by what user agents call themselves, two more by one path.
        for (contact, path, more) in [
            (contacts[0], "<sip:p1.example.net;lr>", String::new()),
            (contacts[1], "<sip:p2.example.net;lr>", String::new()),
            (contacts[0], "<sip:p2.example.net;lr>", format!(";reg-id=1;+sip.instance=\"<{PHONE}>\"")),
            (contacts[1], "<sip:p2.example.net;lr>", format!(";reg-id=1;+sip.instance=\"<{TABLET}>\"")),
        ] {
            let request = register(&b, "bob").set("Contact", format!("{contact}{more}"));
            let request = request.with("Path", path).with("Supported", "path, outbound");
            let granted = b.exchange(&request).await;
            assert_eq!(granted.status(), 200, "{granted}");
            a.send(&hello(&a, &uri("bob"))).await;
            let arrived = b.receive_request("MESSAGE").await;
            b.receive_nothing(SILENCE).await;
            b.answer(&arrived, 200).await;
            a.receive_response(200).await;
        }
    });
}

#[test]
fn j10_ten_thousand_users_register_over_one_connection() {
    run(Duration::from_secs(120), async {
        const USERS: usize = 10_000;
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tls).await, site.connect(Protocol::Tls).await);
        let begun = Instant::now();
        for users in (0..USERS).collect::<Vec<_>>().chunks(200) {
            let requests = users.iter().map(|user| register(&b, &format!("user-{user}")).to_bytes());
            b.send_bytes(&requests.collect::<Vec<_>>().concat()).await;
            for _ in users {
                b.receive_response(200).await;
            }
        }
        let taken = begun.elapsed();
        assert!(taken < Duration::from_secs(60), "{taken:?}");
        for user in [0, 77, USERS - 1] {
            let (arrived, _) = relay(&hello(&a, &uri(&format!("user-{user}"))), &mut a, &mut b, 200).await;
            assert_eq!(arrived.uri(), uri_of(&b.contact("agent")));
        }
        // All of them go with their connection, and nobody is kept waiting meanwhile.
        b.close().await;
        site.is_well(Protocol::Tls).await;
    });
}

#[test]
fn j11_a_gruu_leads_to_its_instance_alone() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let (mut phone, mut tablet) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Udp).await);
        let granted = phone.exchange(&of_instance(&phone, PHONE, "")).await;
        assert!(granted.all("Require").is_empty(), "{granted}");
        assert_eq!(gruu(&granted, "pub-gruu", PHONE), format!("{};gr={PHONE}", uri("bob")));
        let granted = tablet.exchange(&of_instance(&tablet, TABLET, "")).await;
        let temporary = gruu(&granted, "temp-gruu", TABLET);
        assert!(!temporary.contains("bob") && temporary.ends_with("@example.org;gr"), "{temporary}");
        for request_uri in [gruu(&granted, "pub-gruu", TABLET), temporary.clone()] {
            let (arrived, _) = relay(&hello(&a, &request_uri), &mut a, &mut tablet, 200).await;
            assert_eq!(arrived.uri(), uri_of(&tablet.contact("bob")), "{request_uri}");
            phone.receive_nothing(SILENCE).await;
        }
        // The user as a whole is at both, and what Microsoft's peers call a GRUU is the user.
        for request_uri in [uri("bob"), format!("{};gruu;opaque=user:epid:x", uri("bob"))] {
            a.send(&hello(&a, &request_uri)).await;
            for agent in [&mut phone, &mut tablet] {
                let arrived = agent.receive_request("MESSAGE").await;
                agent.answer(&arrived, 200).await;
            }
            a.receive_response(200).await;
        }
        let unknown = a.exchange(&hello(&a, &format!("{};gr=urn:x:nobody", uri("bob")))).await;
        assert_eq!(unknown.status(), 480, "{unknown}");
        // A new Call-ID voids what was given before (RFC 5627 §5.1).
        let granted = tablet.exchange(&of_instance(&tablet, TABLET, "")).await;
        assert_ne!(gruu(&granted, "temp-gruu", TABLET), temporary);
        assert_eq!(a.exchange(&hello(&a, &temporary)).await.status(), 404);
    });
}

#[test]
fn j11_a_gruu_of_a_user_without_bindings_is_searched_for() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut server) =
            (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "seat").await);
        for request_uri in ["sip:bob@example.org;gr=urn:x:1", "sip:tgruu.of-the-server@example.org;gr"] {
            let (arrived, _) = relay(&hello(&a, request_uri), &mut a, &mut server, 200).await;
            assert_eq!(arrived.uri(), request_uri);
        }
    });
}

#[test]
fn j11_a_contact_that_is_its_own_gruu_is_forbidden() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let granted = agent.exchange(&of_instance(&agent, PHONE, "")).await;
        for contact in [uri("bob"), gruu(&granted, "pub-gruu", PHONE), gruu(&granted, "temp-gruu", PHONE)] {
            let request =
                register(&agent, "bob").set("Contact", format!("<{contact}>;+sip.instance=\"<{PHONE}>\""));
            assert_eq!(agent.exchange(&request).await.status(), 403, "{contact}");
        }
        assert_eq!(bound(&mut agent).await.len(), 1);
    });
}

#[test]
fn j11_who_is_no_user_of_a_presence_domain_gets_no_gruu() {
    run(LIMIT, async {
        let partner = "\n[[registrar.account]]\nuser_name = \"partner\"\npassword = \"secret p\"\n\
                       users = [\"*@partner.example\"]\n";
        let site = Site::open(guarded().text(partner), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        let identity = "sip:p@partner.example";
        let request = of_instance(&agent, PHONE, ";reg-id=1").set("To", format!("<{identity}>"));
        let granted = agent.authorised_exchange(&request, "partner", "secret p").await;
        assert_eq!((granted.status(), granted.values("Require")), (200, vec!["outbound"]), "{granted}");
        let contact = granted.need("Contact");
        assert!(
            contact.contains(PHONE) && !contact.contains("gruu="),
            "requests would not come here:\n{granted}"
        );
    });
}

#[test]
fn j11_nobody_has_answers_sent_to_another_users_gruu() {
    run(LIMIT, async {
        let scoped = "user_name = \"uc-s\"\npassword = \"secret s\"\nusers = [\"alice@example.org\"]\n";
        let site = Site::open(guarded().account_rows(scoped), &[Protocol::Tcp]).await;
        let (mut s, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        b.register(DOMAIN, "bob", "uc-b", "secret b").await;
        s.register(DOMAIN, "alice", "uc-s", "secret s").await;
        for (user, is_own) in [("alice", true), ("bob", false)] {
            let contact = format!("<{};gr={PHONE}>", uri(user));
            let subscribe = s.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob"));
            s.send(&subscribe.set("Contact", contact).with("Event", "presence")).await;
            if is_own {
                let arrived = b.receive_request("SUBSCRIBE").await;
                b.answer(&arrived, 200).await;
                s.receive_response(200).await;
            } else {
                s.receive_response(403).await;
            }
        }
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn j11_in_a_dialog_a_phone_is_found_by_its_gruu_after_it_has_lost_its_connection() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut phone) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let granted = flow(&mut phone, PHONE, 1).await;
        let invite = a.request("INVITE", &uri("bob"), &uri("alice"), &uri("bob"));
        a.send(&invite).await;
        let arrived = phone.receive_request("INVITE").await;
        let contact = format!("<{}>", gruu(&granted, "pub-gruu", PHONE));
        phone.send(&phone.response(&arrived, 200).with("Contact", contact)).await;
        let mut dialog = Dialog::of_caller(&invite, &final_response(&mut a).await);
        a.send(&dialog.acknowledgement(&a)).await;
        assert_eq!(phone.receive_request("ACK").await.uri(), uri_of(&phone.contact("bob")));
        phone.reset();
        let mut phone = site.connect(Protocol::Tcp).await;
        flow(&mut phone, PHONE, 1).await;
        let bye = dialog.request(&a, "BYE");
        let (arrived, _) = relay(&bye, &mut a, &mut phone, 200).await;
        assert_eq!(arrived.uri(), uri_of(&phone.contact("bob")));
    });
}

#[test]
fn h6_a_dead_flow_is_480_at_once() {
    run(LIMIT, async {
        for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Udp] {
            let site = Site::open(open_house(), &[protocol]).await;
            let (mut a, mut b) = (site.connect(protocol).await, site.connect(protocol).await);
            flow(&mut b, PHONE, 1).await;
            relay(&hello(&a, &uri("bob")), &mut a, &mut b, 200).await;
            b.close().await;
            drop(b);
            let begun = Instant::now();
            let ended = a.exchange(&hello(&a, &uri("bob"))).await;
            assert_eq!(ended.status(), 480, "{protocol:?}:\n{ended}");
            assert!(begun.elapsed() < PROMPT, "{protocol:?} {:?}", begun.elapsed());
            assert!(bound(&mut a).await.is_empty(), "{protocol:?}");
        }
    });
}

#[test]
fn h6_the_next_flow_takes_the_place_of_a_dead_one() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let (mut a, mut first) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let (mut second, mut third) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        flow(&mut first, PHONE, 1).await;
        flow(&mut second, PHONE, 2).await;
        flow(&mut third, PHONE, 3).await;
        // Nothing listens any more where the last was, which the network says.
        third.close().await;
        drop(third);
        let begun = Instant::now();
        a.send(&hello(&a, &uri("bob"))).await;
        let arrived = second.receive_request("MESSAGE").await;
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        first.receive_nothing(SILENCE).await;
        // An edge proxy that has lost its flow says 430.
        let lost = Sip::response(&arrived, 430, "Flow Failed", "edge");
        second.send(&lost).await;
        let arrived = first.receive_request("MESSAGE").await;
        first.answer(&arrived, 430).await;
        let ended = a.receive_response(480).await;
        assert!(!ended.start_line.contains("430"), "{ended}");
        assert_eq!(bound(&mut a).await.len(), 2, "what 430 says is of that request alone");
    });
}

#[test]
fn h6_a_call_goes_on_by_the_next_flow_and_ends_with_the_first_answer() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut first) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let mut second = site.connect(Protocol::Tcp).await;
        flow(&mut second, PHONE, 2).await;
        flow(&mut first, PHONE, 1).await;
        a.send(&a.request("INVITE", &uri("bob"), &uri("alice"), &uri("bob"))).await;
        let arrived = first.receive_request("INVITE").await;
        first.answer(&arrived, 100).await;
        second.receive_nothing(SILENCE).await;
        first.reset();
        let arrived = second.receive_request("INVITE").await;
        second.answer(&arrived, 486).await;
        assert_eq!(final_response(&mut a).await.status(), 486);
    });
}

#[test]
fn h8_a_stun_binding_request_on_the_sip_port_is_answered_with_its_source() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], b"transaction1"].concat();
        wire.send(&request).await;
        let answer = wire.receive().await;
        assert_eq!((&answer[..4], &answer[4..20]), (&[1, 1, 0, 12][..], &request[4..]));
        // XOR-MAPPED-ADDRESS (RFC 8489 §14.2), IPv4.
        assert_eq!(answer[20..26], [0, 0x20, 0, 8, 0, 1]);
        let unmasked: Vec<u8> =
            answer[26..].iter().zip([0x21, 0x12, 0x21, 0x12, 0xa4, 0x42]).map(|(a, b)| a ^ b).collect();
        let SocketAddr::V4(local) = wire.local() else { panic!("an IPv4 address") };
        assert_eq!(unmasked, [&local.port().to_be_bytes()[..], &local.ip().octets()].concat());
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn h7_a_newer_registration_of_a_flow_replaces_the_older() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut old) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        let granted = flow(&mut old, PHONE, 1).await;
        assert_eq!(granted.values("Require"), ["outbound"], "{granted}");
        let seconds: u32 = granted.need("Flow-Timer").parse().expect("a number of seconds");
        assert!(seconds < 600, "connections without traffic are closed after ten minutes");
        let mut new = site.connect(Protocol::Tcp).await;
        let granted = flow(&mut new, PHONE, 1).await;
        let listed = granted.values("Contact");
        assert_eq!((listed.len(), uri_of(listed[0])), (1, uri_of(&new.contact("bob"))), "{granted}");
        assert_eq!(parameter(listed[0], "reg-id"), Some("1"));
        assert_eq!(parameter(listed[0], "+sip.instance"), Some(&*format!("\"<{PHONE}>\"")));
        relay(&hello(&a, &uri("bob")), &mut a, &mut new, 200).await;
        old.receive_nothing(SILENCE).await;
        // Without an instance, reg-id means nothing.
        let plain = register(&new, "bob").set("Contact", format!("{};reg-id=1", new.contact("bob")));
        let granted = new.exchange(&plain.with("Supported", "outbound")).await;
        assert_eq!((granted.values("Contact").len(), granted.all("Require").len()), (2, 0), "{granted}");
        let two =
            format!("{};+sip.instance=\"<{TABLET}>\";reg-id=1, {}", new.contact("one"), new.contact("two"));
        assert_eq!(new.exchange(&register(&new, "bob").set("Contact", two)).await.status(), 400);
    });
}

#[test]
fn h7_a_first_hop_that_keeps_no_flow_is_439() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut edge = site.connect(Protocol::Tcp).await;
        let behind = |agent: &Agent| {
            let via = "SIP/2.0/TCP phone.example.net;branch=z9hG4bK-phone";
            of_instance(agent, PHONE, ";reg-id=1").with("Via", via)
        };
        for (path, supported, status, is_outbound) in [
            (None, "path, outbound", 439, false),
            (Some("<sip:edge.example.net;lr>"), "path, outbound", 439, false),
            (Some("<sip:edge.example.net;lr;ob>"), "path, outbound", 200, true),
            (None, "path", 200, false),
        ] {
            let request = behind(&edge).set("Supported", supported);
            let request = path.into_iter().fold(request, |request, path| request.with("Path", path));
            let answer = edge.exchange(&request).await;
            assert_eq!(
                (answer.status(), answer.all("Require").len()),
                (status, usize::from(is_outbound)),
                "{answer}"
            );
        }
        let options =
            edge.request("OPTIONS", &format!("sip:{DOMAIN}"), &uri("alice"), &format!("sip:{DOMAIN}"));
        let capable = edge.exchange(&options.with("Require", "outbound")).await;
        assert_eq!((capable.status(), capable.values("Supported")), (200, vec!["path", "outbound", "gruu"]));
    });
}

#[test]
fn h7_a_large_request_stays_on_the_flow_of_a_phone() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut phone) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        flow(&mut phone, PHONE, 1).await;
        let text = "x".repeat(1400);
        let (arrived, _) =
            relay(&a.message(&uri("alice"), &uri("bob"), &text), &mut a, &mut phone, 200).await;
        assert_eq!(arrived.text(), text);
    });
}
