//! Subscriptions and what goes on in them (RFC 6665, RFC 3856, RFC 3903).

use crate::common::agent::{Agent, unique};
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::sip::{Sip, parameter};
use crate::invite::fork;
use crate::support::{DOMAIN, Dialog, LIMIT, SILENCE, Site, Wire, answers_options, open_house, relay, uri};

/// Alice's SUBSCRIBE to a user's presence.
fn subscription(agent: &Agent, callee: &str) -> Sip {
    agent
        .request("SUBSCRIBE", &uri(callee), &uri("alice"), &uri(callee))
        .with("Event", "presence")
        .with("Expires", "600")
}

/// A NOTIFY in a subscription, of the end that was subscribed to.
fn notification(dialog: &mut Dialog, agent: &Agent) -> Sip {
    dialog.request(agent, "NOTIFY").with("Event", "presence").with("Subscription-State", "active;expires=600")
}

/// Begins a subscription; both ends' views of it, and the SUBSCRIBE as it has arrived.
async fn subscribe(a: &mut Agent, b: &mut Agent, callee: &str) -> (Dialog, Dialog, Sip) {
    let request = subscription(a, callee);
    a.send(&request).await;
    let arrived = b.receive_request("SUBSCRIBE").await;
    let accepted = b.response(&arrived, 200).with("Contact", b.contact(callee)).with("Expires", "600");
    b.send(&accepted).await;
    let caller = Dialog::of_caller(&request, &a.receive_response(200).await);
    (caller, Dialog::of_callee(&arrived, &accepted), arrived)
}

#[test]
fn every_notify_of_a_recorded_subscription_is_recorded() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        // One UDP socket has one URI, two sockets have one each (RFC 5658).
        for (from, to, expected) in [
            (Protocol::Udp, Protocol::Udp, 1),
            (Protocol::Tcp, Protocol::Tls, 2),
            (Protocol::Tls, Protocol::Udp, 2),
        ] {
            let bob = format!("bob-{}", unique());
            let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
            let (_, mut callee, arrived) = subscribe(&mut a, &mut b, &bob).await;
            assert_eq!(arrived.values("Record-Route").len(), expected, "{from:?} to {to:?}:\n{arrived}");
            for _ in 0..3 {
                // RFC 6665 §4.3.
                let (notified, _) = relay(&notification(&mut callee, &b), &mut b, &mut a, 200).await;
                assert_eq!(notified.values("Record-Route").len(), expected, "{notified}");
            }
        }
    });
}

#[test]
fn a_notify_of_a_subscription_that_went_another_way_is_not_recorded() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        // The SUBSCRIBE has been from one to the other, without the proxy.
        let request = subscription(&a, "bob");
        let accepted = b.response(&request, 200).with("Contact", b.contact("bob"));
        let mut callee = Dialog::of_callee(&request, &accepted);
        let own = format!("<sip:{};lr>", site.proxy.at(Protocol::Udp));
        for notify in [notification(&mut callee, &b), notification(&mut callee, &b).with("Route", own)] {
            let (notified, _) = relay(&notify, &mut b, &mut a, 200).await;
            assert!(notified.all("Record-Route").is_empty(), "RFC 6665 §4.3:\n{notified}");
        }
    });
}

#[test]
fn a_subscription_that_forks_is_a_dialog_with_each_that_notifies() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, mut callees) = fork(open_house(), protocol, 2).await;
            a.send(&subscription(&a, "bob")).await;
            let mut dialogs = Vec::new();
            for callee in &mut callees {
                let arrived = callee.receive_request("SUBSCRIBE").await;
                let accepted = callee.response(&arrived, 200).with("Contact", callee.contact("bob"));
                callee.send(&accepted).await;
                dialogs.push(Dialog::of_callee(&arrived, &accepted));
            }
            let accepted = a.receive_response(200).await;
            // One final response (RFC 3261 §16.7 step 5), and a dialog with each notifier (RFC 6665 §4.5.2).
            let mut tags = vec![];
            for (callee, dialog) in callees.iter_mut().zip(&mut dialogs) {
                let (notified, answered) = relay(&notification(dialog, callee), callee, &mut a, 200).await;
                tags.push(parameter(notified.need("From"), "tag").expect("a tag").to_owned());
                assert_eq!(notified.need("Call-ID"), accepted.need("Call-ID"));
                // The other way, by what the NOTIFY has recorded.
                let refresh = Dialog::of_callee(&notified, &answered).request(&a, "SUBSCRIBE");
                relay(&refresh.with("Event", "presence"), &mut a, callee, 200).await;
            }
            assert_ne!(tags[0], tags[1]);
            assert!(tags.iter().any(|tag| Some(&**tag) == parameter(accepted.need("To"), "tag")));
            a.receive_nothing(SILENCE).await;
        }
    });
}

/// The lines of a message that belong to events, as they stand there.
fn event_lines(octets: &[u8]) -> Vec<String> {
    const NAMES: [&str; 5] = ["event", "o", "allow-events", "u", "subscription-state"];
    let end = octets.windows(4).position(|four| four == b"\r\n\r\n").expect("a header section");
    let text = String::from_utf8_lossy(&octets[..end]).into_owned();
    let is_one = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    text.split("\r\n").filter(is_one).map(str::to_owned).collect()
}

#[test]
fn what_belongs_to_an_event_package_is_not_touched() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut here, mut there) =
            (Wire::open(&site.proxy, Protocol::Tcp).await, Wire::open(&site.proxy, Protocol::Tcp).await);
        there.log_on("bob").await;
        for rows in [
            "o : x-Foo.winfo ;ID=a;P=\"q,r\"\r\nALLOW-EVENTS:x,  y ,presence.winfo\r\nu:z\r\n\
             Subscription-State:  ACTIVE ; expires=9;reason=\"x\"\r\n",
            "Event:vnd-microsoft-roaming-contacts\r\n",
            "",
        ] {
            for method in ["SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE"] {
                let number = unique();
                let request = format!(
                    "{method} {bob} SIP/2.0\r\nVia: SIP/2.0/TCP {local};branch=z9hG4bK-e{number}\r\n{rows}\
                     Max-Forwards: 70\r\nFrom: <{alice}>;tag=1\r\nTo: <{bob}>\r\nCall-ID: e{number}\r\n\
                     CSeq: 1 {method}\r\nContact: <sip:alice@{local};transport=tcp>\r\nContent-Length: 0\r\n\r\n",
                    bob = uri("bob"),
                    alice = uri("alice"),
                    local = here.local(),
                );
                here.send(request.as_bytes()).await;
                let arrived = there.receive().await;
                assert_eq!(event_lines(&arrived), event_lines(request.as_bytes()), "{method}");
                let parsed = Sip::parse(&arrived).expect("it is a message");
                let response = Sip::response(&parsed, 489, "Bad Event", "b").to_bytes();
                let response = String::from_utf8(response).expect("it is text");
                let response = response.replacen("\r\nFrom", &format!("\r\n{rows}From"), 1);
                there.send(response.as_bytes()).await;
                let answered = here.receive().await;
                assert_eq!(event_lines(&answered), event_lines(response.as_bytes()), "489 to {method}");
            }
        }
        // RFC 6665 §8.2.2: no list of its own, either.
        let mut asking = site.connect(Protocol::Tcp).await;
        answers_options(&mut asking).await;
        let proxy = format!("sip:{DOMAIN}");
        let answer = asking.exchange(&asking.request("OPTIONS", &proxy, &uri("alice"), &proxy)).await;
        assert_eq!(event_lines(&answer.to_bytes()), [""; 0], "{answer}");
    });
}

#[test]
fn documents_of_any_type_arrive_octet_for_octet() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let large: Vec<u8> = (0..60_000_u32).map(|number| (number * 31 % 251) as u8).collect();
        let related = [
            b"--b\r\nContent-Type: application/rlmi+xml\r\n\r\n<list/>\r\n--b\r\n\
              Content-Type: application/msrtc-event-categories+xml\r\nContent-ID: <1@x>\r\n\r\n"
                .as_slice(),
            &large,
            b"\r\n--b--\r\n",
        ]
        .concat();
        let presence = "<?xml version=\"1.0\"?>\n<presence xmlns='urn:ietf:params:xml:ns:pidf' entity=broken";
        for (from, to) in [(Protocol::Tcp, Protocol::Tls), (Protocol::Udp, Protocol::Tcp)] {
            let bob = format!("bob-{}", unique());
            let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
            let (_, mut callee, _) = subscribe(&mut a, &mut b, &bob).await;
            for (content_type, body) in [
                ("multipart/related;type=\"application/rlmi+xml\" ; boundary=b", &related[..]),
                ("application/msrtc-event-categories+xml", &large),
                ("application/pidf+xml; charset=\"UTF-8\"", presence.as_bytes()),
                ("x-unheard-of/ any ", b"\0\r\n\r\nSIP/2.0 200 OK\r\n"),
            ] {
                let notify = notification(&mut callee, &b).body(content_type, body);
                let (notified, _) = relay(&notify, &mut b, &mut a, 200).await;
                assert_eq!(notified.need("Content-Type"), content_type.trim());
                assert!(notified.body == body, "{content_type}: {} octets", notified.body.len());
            }
        }
    });
}

#[test]
fn publications_pass_with_their_entity_tags() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        // There is no event state compositor in the proxy: RFC 3903 §14 between a client and the server behind it.
        for (tag, expires, status, answer) in [
            (None, "1800", 200, ("SIP-ETag", "dx200xyz")),
            (Some("dx200xyz"), "1800", 200, ("SIP-ETag", "kwj449x")),
            (Some("\"odd\""), "1", 412, ("Retry-After", "1")),
            (None, "1", 423, ("Min-Expires", "60")),
            (None, "60", 489, ("Allow-Events", "x")),
            (Some("kwj449x"), "0", 200, ("SIP-ETag", "qwi982ks")),
        ] {
            let publish = a.request("PUBLISH", &uri("bob"), &uri("bob"), &uri("bob"));
            let publish = publish.with("Event", "presence").with("Expires", expires);
            let publish = tag.into_iter().fold(publish, |publish, tag| publish.with("SIP-If-Match", tag));
            a.send(&publish).await;
            let arrived = b.receive_request("PUBLISH").await;
            assert_eq!(arrived.all("SIP-If-Match"), publish.all("SIP-If-Match"));
            assert_eq!((arrived.need("Event"), arrived.need("Expires")), ("presence", expires));
            assert!(arrived.all("Record-Route").is_empty(), "it forms no dialog:\n{arrived}");
            b.send(&b.response(&arrived, status).with(answer.0, answer.1)).await;
            assert_eq!(a.receive_response(status).await.need(answer.0), answer.1);
        }
    });
}

#[test]
fn a_subscription_over_streams_outlives_the_proxy() {
    run(LIMIT, async {
        let settings = ["a", "b", "c"].into_iter().fold(Settings::new(DOMAIN).usual_timers(), |all, name| {
            all.account(&format!("uc-{name}"), "secret")
        });
        let mut site = Site::open(settings, &[Protocol::Tcp, Protocol::Tls]).await;
        let (mut a, mut b) =
            (logged_on(&site, Protocol::Tcp, "uc-a").await, logged_on(&site, Protocol::Tls, "uc-b").await);
        let bob = uri("bob");
        b.register(DOMAIN, "bob", "uc-b", "secret").await;
        let (mut caller, mut callee, _) = subscribe(&mut a, &mut b, "bob").await;
        relay(&notification(&mut callee, &b), &mut b, &mut a, 200).await;

        site.proxy.kill_and_restart().await;
        assert!(a.is_closed_by_peer().await && b.is_closed_by_peer().await);
        // Back they come, among others, and over other connections than the dialog was recorded with.
        let mut c = logged_on(&site, Protocol::Tcp, "uc-c").await;
        (a, b) =
            (logged_on(&site, Protocol::Tcp, "uc-a").await, logged_on(&site, Protocol::Tls, "uc-b").await);
        for _ in 0..2 {
            let (notified, _) = relay(&notification(&mut callee, &b), &mut b, &mut a, 200).await;
            assert_eq!(notified.values("Record-Route").len(), 2);
            let refresh = caller.request(&a, "SUBSCRIBE").with("Event", "presence").with("Expires", "600");
            relay(&refresh, &mut a, &mut b, 200).await;
        }
        let end = caller.request(&a, "SUBSCRIBE").with("Event", "presence").with("Expires", "0");
        let (ended, _) = relay(&end, &mut a, &mut b, 200).await;
        assert_eq!(ended.need("To").split(';').next(), Some(&*format!("<{bob}>")));
        c.receive_nothing(SILENCE).await;
    });
}

async fn logged_on(site: &Site, protocol: Protocol, account: &str) -> Agent {
    let mut agent = site.connect(protocol).await;
    agent.log_on(DOMAIN, account, "secret").await;
    agent
}
