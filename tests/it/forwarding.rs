//! Who gets a request, and what the proxy writes into it (RFC 3261 §16.3, §16.5, §16.6).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use crate::common::agent::Agent;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::sip::{Sip, parameter};
use crate::support::{DOMAIN, LIMIT, PROMPT, SILENCE, Site, Wire, open_house, relay, uri};

#[test]
fn a_scheme_that_nobody_knows_is_416() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            for (method, to) in [
                ("MESSAGE", "foo:bar"),
                ("SUBSCRIBE", "xmpp:bob@example.org"),
                ("FOO", "http://example.org/bob"),
                ("OPTIONS", "nobodyKnowsThisScheme:totallyopaquecontent"),
            ] {
                let refused = a.exchange(&a.request(method, to, &uri("alice"), &uri("bob"))).await;
                assert_eq!(refused.status(), 416, "{method} {to}:\n{refused}");
            }
        }
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn the_last_hop_is_483_and_goes_no_further() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        for method in ["MESSAGE", "SUBSCRIBE", "OPTIONS", "FOO"] {
            let request = a.request(method, &uri("bob"), &uri("alice"), &uri("bob")).set("Max-Forwards", "0");
            assert_eq!(a.exchange(&request).await.status(), 483, "{method}");
        }
        b.receive_nothing(SILENCE).await;
        // One hop is left: it is forwarded, and the next one ends it.
        let request = a.message(&uri("alice"), &uri("bob"), "just so").set("Max-Forwards", "1");
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!(arrived.need("Max-Forwards"), "0");
    });
}

#[test]
fn an_address_of_somebody_else_is_the_only_target() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut b = site.server(Protocol::Tcp, "bob").await;
        let mut c = Agent::udp(site.proxy.ip(), site.proxy.at(Protocol::Udp)).await;
        // That bob is registered here means nothing to an address, nor to another domain behind a route.
        let request = a.message(&uri("alice"), &format!("sip:bob@{};x=y", c.local()), "to an address");
        let (arrived, _) = relay(&request, &mut a, &mut c, 486).await;
        assert_eq!(arrived.uri(), request.uri());
        let request = a.message(&uri("alice"), "sip:bob@b.test", "by a route");
        let request = request.with("Route", format!("<sip:{};lr>", c.local()));
        let (arrived, _) = relay(&request, &mut a, &mut c, 404).await;
        assert_eq!((arrived.uri(), arrived.all("Route")), ("sip:bob@b.test", request.all("Route")));
        let nowhere = a.exchange(&a.message(&uri("alice"), "sip:bob@b.test", "without a route")).await;
        assert_eq!(nowhere.status(), 404, "{nowhere}");
        c.receive_nothing(SILENCE).await;
        b.receive_nothing(Duration::from_millis(1)).await;
    });
}

#[test]
fn a_user_that_nobody_knows_is_404_and_one_that_is_not_there_480() {
    run(LIMIT, async {
        let account = |name: &str, user: &str| {
            format!("user_name = \"{name}\"\npassword = \"secret\"\nusers = [\"{user}@{DOMAIN}\"]\n")
        };
        let settings = Settings::new(DOMAIN).account_rows(&account("uc-a", "alice"));
        let settings = settings.account_rows(&account("uc-b", "bob"));
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        a.register(DOMAIN, "alice", "uc-a", "secret").await;
        let ask = |a: &Agent, user: &str| a.message(&uri("alice"), &uri(user), "hello");
        for (user, status) in [("nobody", 404), ("bob", 480)] {
            assert_eq!(a.exchange(&ask(&a, user)).await.status(), status, "{user}, with nobody logged on");
        }
        b.register(DOMAIN, "bob", "uc-b", "secret").await;
        relay(&ask(&a, "bob"), &mut a, &mut b, 200).await;
        assert_eq!(a.exchange(&ask(&a, "nobody")).await.status(), 404, "and with a UC server logged on");
        b.close().await;
        assert_eq!(a.exchange(&ask(&a, "bob")).await.status(), 480, "whose UC server has gone");
    });
}

/// The branch that the proxy has given to a request, which is the first of its Vias.
fn branch(request: &Sip) -> String {
    let values = request.values("Via");
    let branch = parameter(values[0], "branch").expect("the proxy's Via has a branch");
    assert!(branch.starts_with("z9hG4bK"), "{branch}");
    branch.to_owned()
}

#[test]
fn thousands_of_requests_have_thousands_of_branches() {
    run(LIMIT, async {
        const COUNT: usize = 3000;
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let sent_by = format!("SIP/2.0/TCP {}", site.proxy.at(Protocol::Tcp));
        let mut branches = HashSet::new();
        while branches.len() < COUNT {
            let requests: Vec<_> = (0..100).map(|_| a.message(&uri("alice"), &uri("bob"), "hello")).collect();
            a.send_bytes(&requests.iter().flat_map(Sip::to_bytes).collect::<Vec<_>>()).await;
            for request in &requests {
                let arrived = b.receive_request("MESSAGE").await;
                assert!(arrived.all("Via")[0].starts_with(&sent_by), "its own on top:\n{arrived}");
                assert_eq!(arrived.all("Via")[1..], request.all("Via"), "and the others below");
                assert!(branches.insert(branch(&arrived)), "a branch twice:\n{arrived}");
                b.answer(&arrived, 200).await;
            }
            for _ in &requests {
                a.receive_response(200).await;
            }
        }
    });
}

#[test]
fn each_target_has_a_branch_of_its_own() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut targets = Vec::new();
        for q in ["0.9", "0.9", "0.5", "0.1"] {
            let mut agent = site.connect(Protocol::Tcp).await;
            let bob = uri("bob");
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &bob, &bob);
            let register = register.set("Contact", format!("{};q={q}", agent.contact("bob")));
            assert_eq!(agent.exchange(&register).await.status(), 200);
            targets.push(agent);
        }
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        // Two at the same time, then one after the other.
        let mut branches = HashSet::new();
        for target in &mut targets {
            let arrived = target.receive_request("MESSAGE").await;
            branches.insert(branch(&arrived));
            target.answer(&arrived, 486).await;
        }
        a.receive_response(486).await;
        assert_eq!(branches.len(), targets.len(), "{branches:?}");
    });
}

#[test]
fn each_attempt_at_one_target_has_a_branch_of_its_own() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let listener = TcpListener::bind(b.local()).await.expect("the port is free for TCP");
        a.send(&a.message(&uri("alice"), &uri("bob"), &"x".repeat(1400))).await;
        let (stream, _) = listener.accept().await.expect("the proxy connects");
        let mut stream = Wire::over(stream);
        let by_tcp = Sip::parse(&stream.receive().await).expect("it is a message");
        // The connection is lost before there is an answer.
        drop(stream);
        let by_udp = b.receive_request("MESSAGE").await;
        assert!(
            by_tcp.need("Via").starts_with("SIP/2.0/TCP ") && by_udp.need("Via").starts_with("SIP/2.0/UDP ")
        );
        assert_ne!(branch(&by_tcp), branch(&by_udp));
        // The answer to the attempt that is over is nobody's (RFC 6026 §8).
        b.answer(&by_tcp, 486).await;
        a.receive_nothing(SILENCE).await;
        b.answer(&by_udp, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn contact_is_never_rewritten() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let odd = "\"A,  <b>\" <sip:alice@host.example.net:5071;x=%41;transport=UDP?y=z>;Q=0.5;+sip.instance=\"<urn:x>\" ,\
                   <tel:+49301234>";
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let bob = format!("bob-{protocol:?}");
            let (mut a, mut b) = (site.connect(protocol).await, site.server(protocol, &bob).await);
            let natted = "<sip:alice@192.168.7.7:5062;ob>;expires=60";
            for method in ["MESSAGE", "SUBSCRIBE", "NOTIFY", "INVITE", "FOO"] {
                for contact in [&a.contact("alice"), natted, odd] {
                    let request = a.request(method, &uri(&bob), &uri("alice"), &uri(&bob));
                    // Behind a NAT, Via has the private address, too.
                    let via = a.via().replace(&a.local().to_string(), "192.168.7.7:5062");
                    let request = request.set("Contact", contact).set("Via", via);
                    a.send(&request).await;
                    let arrived = b.receive_request(method).await;
                    assert_eq!(arrived.all("Contact"), [contact], "{method}:\n{arrived}");
                    b.send(&b.response(&arrived, 200).with("m", contact)).await;
                    let answered = a.receive_response(200).await;
                    assert_eq!(answered.all("Contact"), [contact], "200 to {method}:\n{answered}");
                }
            }
        }
    });
}

#[test]
fn a_call_or_a_message_to_nobody_fails_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut gone = Agent::udp(site.proxy.ip(), site.proxy.at(Protocol::Udp)).await;
        let (udp, tcp) = (gone.local(), Port::tcp(site.proxy.ip()).await.local());
        gone.close().await;
        for to in [format!("sip:bob@{udp}"), format!("sip:bob@{tcp};transport=tcp")] {
            for method in ["INVITE", "MESSAGE"] {
                let begun = Instant::now();
                let request = a.request(method, &to, &uri("alice"), &to);
                // ICMP and RST are transport errors (RFC 3261 §18.4), and those a 503 that is not the proxy's own.
                assert_eq!(a.exchange(&request).await.status(), 480, "{method} {to}");
                assert!(begun.elapsed() < PROMPT, "{method} {to}: {:?}", begun.elapsed());
            }
        }
    });
}
