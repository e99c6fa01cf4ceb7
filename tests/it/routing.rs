//! Where Route and Request-URI lead, strict routers and maddr included (RFC 3261 §16.4 to §16.6), and how widely a
//! request may fork (RFC 5393 §5).

use crate::common::agent::Agent;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::{Sip, uri_of};
use crate::support::{
    Dialog, LIMIT, SILENCE, Site, next_within, open_house, open_house_that_waits, relay, uri,
};

/// A subscription of `a` to `b`, both UC servers; the dialog as `a` sees it.
async fn subscribed(a: &mut Agent, b: &mut Agent) -> Dialog {
    let request = a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
    a.send(&request).await;
    let arrived = b.receive_request("SUBSCRIBE").await;
    let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob"));
    b.send(&accepted).await;
    Dialog::of_caller(&request, &a.receive_response(200).await)
}

/// The request as a strict router hands it on: the next route in the Request-URI, the target behind all routes
/// (RFC 3261 §16.12.1.2).
fn as_by_a_strict_router(request: &Sip) -> Sip {
    let mut strict = request.clone();
    let first = strict.pop_front("Route").expect("a dialog that the proxy has recorded");
    let target = format!("<{}>", request.uri());
    strict.start_line = format!("{} {} SIP/2.0", request.method(), uri_of(&first));
    strict.with("Route", target)
}

#[test]
fn what_a_strict_router_has_moved_is_put_back() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        for (here, there) in [(Protocol::Udp, Protocol::Udp), (Protocol::Tcp, Protocol::Udp)] {
            let (mut a, mut b) = (site.server(here, "alice").await, site.server(there, "bob").await);
            let mut dialog = subscribed(&mut a, &mut b).await;
            let refresh = dialog.request(&a, "SUBSCRIBE").with("Event", "presence");
            let (arrived, _) = relay(&as_by_a_strict_router(&refresh), &mut a, &mut b, 200).await;
            assert_eq!(format!("<{}>", arrived.uri()), b.contact("bob"), "{arrived}");
            assert_eq!(arrived.all("Route").len(), 0, "{arrived}");
            b.close().await;
        }
        // A route of somebody else stays where it is.
        let (mut a, mut b) =
            (site.server(Protocol::Udp, "alice").await, site.server(Protocol::Udp, "bob").await);
        let mut dialog = subscribed(&mut a, &mut b).await;
        let refresh = dialog.request(&a, "SUBSCRIBE").with("Event", "presence");
        let mut strict = as_by_a_strict_router(&refresh);
        strict.push_front("Route", "<sip:192.0.2.7;lr>");
        a.send(&strict).await;
        let arrived = b.receive_request("SUBSCRIBE").await;
        assert_eq!(format!("<{}>", arrived.uri()), b.contact("bob"), "{arrived}");
        assert_eq!(arrived.all("Route"), ["<sip:192.0.2.7;lr>"], "{arrived}");
    });
}

#[test]
fn a_strict_router_that_is_next_finds_itself_in_the_request_uri() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Udp, "bob").await);
        let strict = format!("sip:strict@{}", b.local());
        let request = a.message(&uri("alice"), &uri("carol"), "by way of the past");
        let request = request.with("Route", format!("<{strict}>, <sip:192.0.2.7;lr>"));
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!(arrived.uri(), strict, "{arrived}");
        assert_eq!(
            arrived.values("Route"),
            ["<sip:192.0.2.7;lr>", &format!("<{}>", uri("carol"))],
            "{arrived}"
        );
        // One that routes loosely is left where it is.
        let loose = format!("<sip:{};lr>", b.local());
        let request = a.message(&uri("alice"), &uri("carol"), "by way of today").with("Route", &loose);
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!((arrived.uri(), arrived.values("Route")), (&*uri("carol"), vec![&*loose]), "{arrived}");
        // The ACK to a refusal goes the INVITE's way (§17.1.1.3).
        let invite = a.request("INVITE", &uri("carol"), &uri("alice"), &uri("carol"));
        let invite = invite.with("Route", format!("<{strict}>"));
        relay(&invite, &mut a, &mut b, 486).await;
        let ack = b.receive_request("ACK").await;
        assert_eq!(
            (ack.uri(), ack.values("Route")),
            (&*strict, vec![&*format!("<{}>", uri("carol"))]),
            "{ack}"
        );
    });
}

#[test]
fn a_maddr_that_has_led_here_is_taken_away_with_its_port_and_transport() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Udp, "seat").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut a = site.connect(protocol).await;
            let at = site.proxy.at(protocol);
            let transport = if protocol == Protocol::Tcp { ";transport=tcp" } else { "" };
            let to = format!("sip:bob@example.org:{};x=1{transport};maddr={}", at.port(), at.ip());
            let (arrived, _) = relay(&a.message(&uri("alice"), &to, "by maddr"), &mut a, &mut b, 200).await;
            assert_eq!(arrived.uri(), "sip:bob@example.org;x=1", "{arrived}");
        }
    });
}

#[test]
fn a_maddr_that_leads_elsewhere_is_the_only_target() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut bound = site.server(Protocol::Udp, "bob").await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "seat").await);
        let to = format!("sip:bob@example.org:{};maddr={}", b.local().port(), b.local().ip());
        let (arrived, _) = relay(&a.message(&uri("alice"), &to, "by maddr"), &mut a, &mut b, 200).await;
        assert_eq!(arrived.uri(), to, "{arrived}");
        bound.receive_nothing(SILENCE).await;
    });
}

/// Several contacts of one user with the same preference, on as many UDP ports.
async fn contacts(site: &Site, user: &str, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(site.server(Protocol::Udp, user).await);
    }
    agents
}

#[test]
fn branches_share_the_breadth_of_their_request() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut contacts) = (site.connect(Protocol::Udp).await, contacts(&site, "bob", 3).await);
        for (breadth, shares) in [(None, 60), (Some("7"), 7), (Some("3"), 3), (Some("999"), 60)] {
            let request = a.message(&uri("alice"), &uri("bob"), "to all of you");
            let request = breadth.map_or(request.clone(), |breadth| request.with("Max-Breadth", breadth));
            a.send(&request).await;
            let mut sum = 0;
            for contact in &mut contacts {
                let arrived = contact.receive_request("MESSAGE").await;
                assert_eq!(arrived.all("Max-Breadth").len(), 1, "{arrived}");
                sum += arrived.need("Max-Breadth").parse::<u32>().expect("a number");
                contact.answer(&arrived, 200).await;
            }
            assert_eq!(sum, shares, "{breadth:?}");
            a.receive_response(200).await;
        }
    });
}

#[test]
fn with_a_breadth_of_one_contacts_have_their_turn_one_after_the_other() {
    run(LIMIT, async {
        let site = Site::open(open_house_that_waits(), &[Protocol::Udp]).await;
        let (mut a, mut contacts) = (site.connect(Protocol::Udp).await, contacts(&site, "bob", 2).await);
        // Of equals the one that has registered last is the first.
        let (mut one, mut other) = (contacts.remove(1), contacts.remove(0));
        let request = a.message(&uri("alice"), &uri("bob"), "one by one").with("Max-Breadth", "1");
        a.send(&request).await;
        let first = one.receive_request("MESSAGE").await;
        other.receive_nothing(SILENCE).await;
        one.answer(&first, 486).await;
        let second = other.receive_request("MESSAGE").await;
        assert_eq!([&first, &second].map(|request| request.need("Max-Breadth")), ["1", "1"]);
        other.answer(&second, 200).await;
        a.receive_response(200).await;
        // None at all is too little even for that.
        let request = a.message(&uri("alice"), &uri("bob"), "nobody").with("Max-Breadth", "0");
        assert_eq!(a.exchange(&request).await.status(), 440);
        assert_eq!(next_within(&mut one, SILENCE).await, None);
    });
}

#[test]
fn a_search_whose_breadth_a_silent_server_uses_up_ends_with_440() {
    run(LIMIT, async {
        let site = Site::open(crate::support::open_house_with_t1(50), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 2).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let request = a.message(&uri("alice"), &uri("bob"), "anybody?").with("Max-Breadth", "1");
        a.send(&request).await;
        servers[0].receive_request("MESSAGE").await;
        a.receive_response(440).await;
        servers[1].receive_nothing(SILENCE).await;
    });
}
