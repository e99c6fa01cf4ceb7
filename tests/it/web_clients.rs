//! WebSocket clients (RFC 7118): how they log on, and where they are reached.

use std::time::Instant;

use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::common::agent::Agent;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::sip::{Sip, host_port_of, parameter, uri_of, user_of};
use crate::support::{DOMAIN, Dialog, LIMIT, PROMPT, SILENCE, Site, final_response, open_house, relay, uri};

#[test]
fn a_user_registers_with_digest_over_ws_and_wss() {
    run(LIMIT, async {
        let settings = Settings::new(DOMAIN).usual_timers().account("uc", "secret");
        let site = Site::open(settings, &[Protocol::Ws, Protocol::Wss, Protocol::Udp]).await;
        let mut other = site.connect(Protocol::Udp).await;
        other.register(DOMAIN, "other", "uc", "secret").await;
        for protocol in [Protocol::Ws, Protocol::Wss] {
            let user = format!("user-{protocol:?}");
            let mut a = site.connect(protocol).await;
            // Nobody is believed for where the page came from: every connection proves itself.
            let register = a.request("REGISTER", &format!("sip:{DOMAIN}"), &uri(&user), &uri(&user));
            assert_eq!(a.exchange(&register).await.status(), 401);
            let registered = a.register(DOMAIN, &user, "uc", "secret").await;
            assert!(registered.need("Contact").contains(".invalid;transport=ws>"), "{registered}");
            let via = registered.need("Via");
            assert_eq!(parameter(via, "received"), Some(&*a.local().ip().to_string()), "{via}");

            // Both ways between WebSocket and UDP.
            let request = a.message(&uri(&user), &uri("other"), "from the web");
            let (arrived, _) = relay(&request, &mut a, &mut other, 200).await;
            assert_eq!(arrived.text(), "from the web");
            let request = other.message(&uri("other"), &uri(&user), "to the web");
            let (arrived, _) = relay(&request, &mut other, &mut a, 200).await;
            assert_eq!(format!("<{}>", arrived.uri()), a.contact(&user), "the contact");
            let via = arrived.need("Via");
            assert!(
                via.starts_with(&format!("SIP/2.0/{} ", if protocol == Protocol::Ws { "WS" } else { "WSS" }))
            );
        }
    });
}

#[test]
fn requests_in_a_dialog_come_back_over_the_socket_that_is_recorded() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Wss, Protocol::Tcp]).await;
        for (from, to) in
            [(Protocol::Ws, Protocol::Tcp), (Protocol::Tcp, Protocol::Wss), (Protocol::Ws, Protocol::Wss)]
        {
            let bob = format!("bob-{from:?}-{to:?}");
            let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
            let (mut caller, mut callee, arrived) = call(&mut a, &mut b, &bob).await;
            let recorded = arrived.values("Record-Route");
            assert_eq!(recorded.len(), 2, "one for each side (RFC 5658):\n{arrived}");
            for (value, side) in recorded.into_iter().zip([to, from]) {
                let expected = if side == Protocol::Tcp { "tcp" } else { "ws" };
                assert_eq!(parameter(uri_of(value), "transport"), Some(expected), "{value}");
                assert_eq!(host_port_of(uri_of(value)), site.proxy.at(side).to_string(), "{value}");
                assert!(!user_of(uri_of(value)).is_empty(), "the flow's token: {value}");
            }
            relay(&caller.request(&a, "INFO"), &mut a, &mut b, 200).await;
            relay(&callee.request(&b, "UPDATE"), &mut b, &mut a, 200).await;
            let (ended, _) = relay(&callee.request(&b, "BYE"), &mut b, &mut a, 200).await;
            assert_eq!(format!("<{}>", ended.uri()), a.contact("agent"));
        }
    });
}

/// A call that is accepted: both ends of its dialog, and the INVITE as it arrived.
async fn call(a: &mut Agent, b: &mut Agent, bob: &str) -> (Dialog, Dialog, Sip) {
    let invite = a.request("INVITE", &uri(bob), &uri("alice"), &uri(bob)).body("application/sdp", "v=0\r\n");
    a.send(&invite).await;
    let arrived = b.receive_request("INVITE").await;
    b.answer(&arrived, 180).await;
    a.receive_response(180).await;
    b.answer(&arrived, 200).await;
    let accepted = a.receive_response(200).await;
    let caller = Dialog::of_caller(&invite, &accepted);
    let callee = Dialog::of_callee(&arrived, &b.response(&arrived, 200));
    a.send(&caller.acknowledgement(a)).await;
    assert_eq!(b.receive_request("ACK").await.all("Route").len(), 0);
    (caller, callee, arrived)
}

#[test]
fn a_client_that_has_gone_is_unreachable_at_once_and_never_dialled() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Tcp]).await;
        // Where its contact and its Via point, somebody listens.
        let trap = TcpListener::bind((site.proxy.ip(), 0)).await.expect("a TCP port of loopback");
        let address = trap.local_addr().expect("a bound socket has an address");
        let contact = format!("<sip:bob@{address};transport=ws>");
        let mut a = site.connect(Protocol::Tcp).await;
        let mut b = site.connect(Protocol::Ws).await;
        let register = b.request("REGISTER", &format!("sip:{DOMAIN}"), &uri("bob"), &uri("bob"));
        let register = register.set("Contact", &*contact).with("Expires", "600");
        assert_eq!(b.exchange(&register).await.status(), 200);
        let request = a.message(&uri("alice"), &uri("bob"), "over its own connection");
        relay(&request, &mut a, &mut b, 200).await;
        let (mut caller, _, _) = call(&mut a, &mut b, "bob").await;

        // Its own question, which is answered when it has gone.
        a.register(DOMAIN, "slow", "nobody", "nothing").await;
        let via = format!("SIP/2.0/WS {address};branch=z9hG4bK-gone");
        b.send(&b.message(&uri("bob"), &uri("slow"), "are you there?").set("Via", via)).await;
        let asked = a.receive_request("MESSAGE").await;
        b.close().await;
        a.answer(&asked, 200).await;

        let begun = Instant::now();
        let in_dialog = caller.request(&a, "INFO");
        for request in [in_dialog, a.message(&uri("alice"), &uri("bob"), "gone")] {
            let status = a.exchange(&request).await.status();
            assert!(matches!(status, 404 | 480), "{status}");
        }
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
        // Nor by the URI that it had.
        let request = a.message(&uri("alice"), uri_of(&contact), "directly");
        assert_eq!(a.exchange(&request).await.status(), 404);
        assert!(timeout(SILENCE, trap.accept()).await.is_err(), "a WebSocket client is dialled");
    });
}

#[test]
fn a_connection_that_breaks_ends_what_was_registered_over_it() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Ws, Protocol::Wss, Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        for protocol in [Protocol::Ws, Protocol::Wss] {
            let bob = format!("bob-{protocol:?}");
            let mut b = site.server(protocol, &bob).await;
            a.send(&a.message(&uri("alice"), &uri(&bob), "you will not answer")).await;
            b.receive_request("MESSAGE").await;
            let begun = Instant::now();
            b.reset();
            let status = final_response(&mut a).await.status();
            assert!(
                matches!(status, 404 | 480) && begun.elapsed() < PROMPT,
                "{status} {:?}",
                begun.elapsed()
            );
        }
    });
}

#[test]
fn a_dialog_whose_socket_did_not_survive_a_restart_is_answered_480() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Ws, Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Ws, "bob").await);
        let (mut caller, mut callee, _) = call(&mut a, &mut b, "bob").await;
        site.proxy.kill_and_restart().await;
        // The token is read as before; the connection that it names is no more.
        let status = a.exchange(&caller.request(&a, "INFO")).await.status();
        assert_eq!(status, 480);
        // The other way leads on: the caller's port is where it was.
        let mut again = site.connect(Protocol::Ws).await;
        let (arrived, _) = relay(&callee.request(&again, "BYE"), &mut again, &mut a, 200).await;
        assert_eq!(format!("<{}>", arrived.uri()), a.contact("agent"));
    });
}
