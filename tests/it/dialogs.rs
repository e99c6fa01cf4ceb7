//! Record-Route, and requests in dialogs that come back by it (RFC 3261 §16.4, §16.6; RFC 6665 §4.3).

use std::net::{IpAddr, SocketAddr};

use crate::common::agent::{Agent, unique};
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::{Sip, parameter, uri_of};
use crate::invite::invitation;
use crate::support::{ALL, DOMAIN, Dialog, LIMIT, SILENCE, Site, answers_options, open_house, relay, uri};

#[test]
fn a_subscription_lives_on_every_pair_of_transports() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &ALL).await;
        for from in ALL {
            for to in ALL {
                let number = unique();
                let (alice, bob) = (format!("alice-{number}"), format!("bob-{number}"));
                let (mut a, mut b) = (site.server(from, &alice).await, site.server(to, &bob).await);
                subscription((&mut a, &uri(&alice)), (&mut b, &uri(&bob))).await;
            }
        }
    });
}

/// SUBSCRIBE, NOTIFY before and after its 200, a refresh, the end; every request by the recorded route.
async fn subscription((a, alice): (&mut Agent, &str), (b, bob): (&mut Agent, &str)) {
    let request = a.request("SUBSCRIBE", bob, alice, bob).with("Event", "presence").with("Expires", "600");
    a.send(&request).await;
    let arrived = b.receive_request("SUBSCRIBE").await;
    assert_recorded(&arrived);
    let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob")).with("Expires", "600");
    let mut callee = Dialog::of_callee(&arrived, &accepted);

    // RFC 6665 §4.4.1: a NOTIFY may overtake the 200.
    let notify = callee.request(b, "NOTIFY").with("Event", "presence").with("Subscription-State", "active");
    let (notified, _) = relay(&notify, b, a, 200).await;
    assert_recorded(&notified);
    assert_eq!(notified.all("Route").len(), 0, "all of the route is used up:\n{notified}");
    b.send(&accepted).await;
    let accepted = a.receive_response(200).await;
    let mut caller = Dialog::of_caller(&request, &accepted);

    let refresh = caller.request(a, "SUBSCRIBE").with("Event", "presence").with("Expires", "600");
    let (refreshed, _) = relay(&refresh, a, b, 200).await;
    assert_eq!(format!("<{}>", refreshed.uri()), b.contact("bob"), "the remote target:\n{refreshed}");
    assert_eq!(refreshed.all("Route").len(), 0, "{refreshed}");
    let notify =
        callee.request(b, "NOTIFY").with("Event", "presence").with("Subscription-State", "terminated");
    relay(&notify, b, a, 200).await;
}

/// Each recorded URI is a loose router's (RFC 3261 §16.6 step 4).
fn assert_recorded(message: &Sip) {
    let recorded = message.values("Record-Route");
    assert!(!recorded.is_empty(), "no Record-Route in:\n{message}");
    for value in recorded {
        assert_eq!(parameter(uri_of(value), "lr"), Some(""), "{value}");
    }
}

#[test]
fn a_dialog_between_servers_with_passwords_needs_no_more_than_they_have_shown() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).usual_timers().account("uc-a", "secret a").account("uc-b", "secret b");
        let site = Site::open(settings, &[Protocol::Tcp, Protocol::Tls]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tls).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        subscription((&mut a, &uri("alice")), (&mut b, &uri("bob"))).await;
    });
}

#[test]
fn nobody_gets_in_by_a_route_that_the_proxy_has_not_written() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).usual_timers().account("uc-a", "secret a").account("uc-b", "secret b");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let request =
            a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
        let (_, accepted) = relay(&request, &mut a, &mut b, 200).await;
        let mut stranger = site.connect(Protocol::Tcp).await;
        let notify = Dialog::of_caller(&request, &accepted).request(&stranger, "NOTIFY");
        assert_eq!(stranger.exchange(&notify).await.status(), 407, "a route that was overheard");
        b.receive_nothing(SILENCE).await;
        // One octet of the token changed, by somebody who is logged on and may send: it is no token, and does no harm.
        let mut forged = Dialog::of_caller(&request, &accepted).request(&a, "NOTIFY");
        for (_, value) in forged.headers.iter_mut().filter(|(name, _)| name == "Route") {
            let digit = value.find('@').expect("the token is the user part") - 1;
            let other = if value[digit..].starts_with('A') { "B" } else { "A" };
            value.replace_range(digit..=digit, other);
        }
        a.send(&forged).await;
        answers_options(&mut a).await;
    });
}

#[test]
fn a_route_to_the_proxy_itself_is_taken_away() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Udp, "bob").await);
        let own = format!("<sip:{};transport=tcp;lr>", site.proxy.at(Protocol::Tcp));
        let request = a.message(&uri("alice"), &uri("bob"), "by way of you").with("Route", &own);
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!(arrived.all("Route").len(), 0, "{arrived}");
        // What stands behind it is the next hop (RFC 3261 §16.4), and stays (§16.6 step 6).
        let next = format!("<sip:{};lr>", b.local());
        let request = a.message(&uri("alice"), &uri("carol"), "by way of both");
        let request = request.with("Route", format!("{own}, {next}"));
        let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
        assert_eq!((arrived.uri(), arrived.all("Route")), (&*uri("carol"), vec![&*next]), "{arrived}");
    });
}

#[test]
fn a_dialog_outlives_the_proxy() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut a = site.server(Protocol::Udp, "alice").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let bob = format!("bob-{protocol:?}");
            let mut b = site.server(protocol, &bob).await;
            let request =
                a.request("SUBSCRIBE", &uri(&bob), &uri("alice"), &uri(&bob)).with("Event", "presence");
            a.send(&request).await;
            let arrived = b.receive_request("SUBSCRIBE").await;
            let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob"));
            b.send(&accepted).await;
            let mut caller = Dialog::of_caller(&request, &a.receive_response(200).await);
            let mut callee = Dialog::of_callee(&arrived, &accepted);

            site.proxy.kill_and_restart().await;
            if protocol == Protocol::Tcp {
                assert!(b.is_closed_by_peer().await);
                b = site.server(protocol, &bob).await;
            }
            // The route is all that is left of the dialog in the proxy's world, and enough.
            let notify = callee.request(&b, "NOTIFY").with("Event", "presence");
            relay(&notify, &mut b, &mut a, 200).await;
            let refresh = caller.request(&a, "SUBSCRIBE").with("Event", "presence");
            relay(&refresh, &mut a, &mut b, 200).await;
        }
    });
}

/// The token that faces the callee was written before there was a connection with it.
#[test]
fn a_callee_that_was_dialled_sends_in_the_dialog_as_others_do() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).usual_timers().account("uc-a", "secret a").account("uc-b", "secret b");
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        let (mut phone, port) = (site.connect(Protocol::Udp).await, Port::tcp(site.proxy.ip()).await);
        let register = phone.request("REGISTER", &format!("sip:{DOMAIN}"), &uri("bob"), &uri("bob"));
        let register = register.set("Contact", format!("<sip:bob@{};transport=tcp>", port.local()));
        let registered = phone.authorised_exchange(&register, "uc-b", "secret b").await;
        assert_eq!(registered.status(), 200, "{registered}");

        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let mut b = port.accept().await;
        let arrived = b.receive_request("INVITE").await;
        let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob"));
        let mut callee = Dialog::of_callee(&arrived, &accepted);
        b.send(&accepted).await;
        let accepted = a.receive_response(200).await;
        a.send(&Dialog::of_caller(&invite, &accepted).acknowledgement(&a)).await;
        b.receive_request("ACK").await;

        let again = callee.request(&b, "INVITE");
        relay(&again, &mut b, &mut a, 200).await;
        let number = again.need("CSeq").replace("INVITE", "ACK");
        b.send(&callee.request(&b, "ACK").set("CSeq", number)).await;
        a.receive_request("ACK").await;
    });
}

/// On a wildcard each end knows the proxy by the address that it has written to (RFC 3581 §4, RFC 5626 §5).
#[test]
fn in_dialog_requests_leave_a_wildcard_from_the_address_that_their_receiver_knows() {
    run(LIMIT, async {
        let (anywhere, ours) = (IpAddr::from([0, 0, 0, 0]), loopback());
        let wildcard = SocketAddr::new(ours, free_port(anywhere));
        let interface = format!(
            "\n[[lan.network_interface]]\nip_address = \"{anywhere}\"\nport = {}\nprotocol = \"udp\"\n",
            wildcard.port()
        );
        let site = Site::open(open_house().text(&interface), &[Protocol::Tcp]).await;
        let mut a = Agent::udp(loopback(), wildcard).await;
        a.register(DOMAIN, "alice", "nobody", "nothing").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut b = match protocol {
                Protocol::Udp => Agent::udp(loopback(), wildcard).await,
                _ => site.connect(protocol).await,
            };
            let user = format!("bob-{}", unique());
            b.register(DOMAIN, &user, "nobody", "nothing").await;
            let invite = invitation(&a, &user);
            a.send(&invite).await;
            let arrived = b.receive_request("INVITE").await;
            let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob"));
            let mut callee = Dialog::of_callee(&arrived, &accepted);
            b.send(&accepted).await;
            a.receive_response(200).await;
            relay(&callee.request(&b, "INFO"), &mut b, &mut a, 200).await;
            b.send(&callee.request(&b, "BYE")).await;
            a.receive_request("BYE").await;
            assert_eq!(a.source(), wildcard, "{protocol:?}");
        }
    });
}
