//! Calls: INVITE with all that belongs to it (RFC 3261 §9, §13, §16, §17; RFC 6026).

use std::time::{Duration, Instant};

use crate::common::agent::{Agent, acknowledgement};
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::sip::Sip;
use crate::support::{
    DOMAIN, Dialog, LIMIT, PROMPT, SILENCE, Site, cancellation, drain, final_response, next_request,
    open_house, open_house_that_waits, open_house_with_t1, relay, uri,
};

/// An INVITE of alice's.
pub(crate) fn invitation(agent: &Agent, callee: &str) -> Sip {
    let invite = agent.request("INVITE", &uri(callee), &uri("alice"), &uri(callee));
    invite.body("application/sdp", "v=0\r\n")
}

/// A caller and `count` callees, all of them at contacts of the user bob with the same q value.
pub(crate) async fn fork(settings: Settings, protocol: Protocol, count: usize) -> (Site, Agent, Vec<Agent>) {
    let site = Site::open(settings, &[protocol]).await;
    let caller = site.connect(protocol).await;
    let mut callees = Vec::new();
    for _ in 0..count {
        callees.push(site.server(protocol, "bob").await);
    }
    (site, caller, callees)
}

/// Registers bob at `agent`, with this preference.
pub(crate) async fn bind_with_q(agent: &mut Agent, q: &str) {
    let bob = uri("bob");
    let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &bob, &bob);
    let register = register.set("Contact", format!("{};q={q}", agent.contact("bob")));
    assert_eq!(agent.exchange(&register).await.status(), 200);
}

/// The INVITE as each callee gets it.
pub(crate) async fn ring(callees: &mut [Agent]) -> Vec<Sip> {
    let mut invites = Vec::new();
    for callee in callees {
        let invite = callee.receive_request("INVITE").await;
        callee.answer(&invite, 180).await;
        invites.push(invite);
    }
    invites
}

/// The CANCEL of `invite` comes and is obeyed; the proxy acknowledges (RFC 3261 §17.1.1.3).
pub(crate) async fn is_cancelled(callee: &mut Agent, invite: &Sip) {
    let cancel = callee.receive_request("CANCEL").await;
    assert_eq!(cancel.all("Via"), [invite.values("Via")[0]], "the branch of its INVITE, alone:\n{cancel}");
    assert_eq!((cancel.uri(), cancel.need("To")), (invite.uri(), invite.need("To")));
    callee.answer(&cancel, 200).await;
    callee.answer(invite, 487).await;
    let ack = callee.receive_request("ACK").await;
    assert_eq!(ack.values("Via"), [invite.values("Via")[0]], "{ack}");
    assert_eq!(ack.need("To"), callee.response(invite, 487).need("To"));
}

#[test]
fn a_call_begins_and_ends_across_transports() {
    run(LIMIT, async {
        let all = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];
        let site = Site::open(open_house(), &all).await;
        for (from, to) in [
            (Protocol::Udp, Protocol::Udp),
            (Protocol::Udp, Protocol::Tcp),
            (Protocol::Tcp, Protocol::Tls),
            (Protocol::Tls, Protocol::Udp),
            (Protocol::Tcp, Protocol::Tcp),
        ] {
            let bob = format!("bob-{from:?}-{to:?}");
            let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
            call(&mut a, &mut b, &bob).await;
        }
    });
}

async fn call(a: &mut Agent, b: &mut Agent, bob: &str) {
    let invite = invitation(a, bob);
    a.send(&invite).await;
    assert_eq!(a.receive().await.status(), 100, "within 200 ms, before anything else");
    let arrived = b.receive_request("INVITE").await;
    assert_eq!(arrived.text(), "v=0\r\n");
    b.answer(&arrived, 180).await;
    a.receive_response(180).await;
    b.answer(&arrived, 200).await;
    let accepted = a.receive_response(200).await;
    let mut caller = Dialog::of_caller(&invite, &accepted);
    let mut callee = Dialog::of_callee(&arrived, &b.response(&arrived, 200));

    a.send(&caller.acknowledgement(a)).await;
    let ack = b.receive_request("ACK").await;
    assert_eq!((format!("<{}>", ack.uri()), ack.all("Route").len()), (b.contact("agent"), 0), "{ack}");

    let again = caller.request(a, "INVITE");
    let (renewed, _) = relay(&again, a, b, 200).await;
    a.send(&again_acknowledged(&caller, a, &again)).await;
    assert_eq!(b.receive_request("ACK").await.need("CSeq"), "2 ACK");
    assert_eq!(renewed.need("Call-ID"), arrived.need("Call-ID"));
    for method in ["INFO", "UPDATE", "REFER", "MESSAGE"] {
        let request = callee.request(b, method);
        relay(&request, b, a, 200).await;
    }
    let bye = callee.request(b, "BYE");
    let (ended, _) = relay(&bye, b, a, 200).await;
    assert_eq!(format!("<{}>", ended.uri()), a.contact("agent"));
}

/// The ACK to the 2xx of a later INVITE of a dialog.
fn again_acknowledged(dialog: &Dialog, agent: &Agent, invite: &Sip) -> Sip {
    let number = invite.need("CSeq").split(' ').next().unwrap_or_default();
    dialog.acknowledgement(agent).set("CSeq", format!("{number} ACK"))
}

#[test]
fn a_call_between_servers_with_passwords() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).usual_timers().account("uc-a", "secret a").account("uc-b", "secret b");
        let site = Site::open(settings, &[Protocol::Tcp, Protocol::Tls]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tls).await, site.connect(Protocol::Tcp).await);
        a.log_on(DOMAIN, "uc-a", "secret a").await;
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        call(&mut a, &mut b, "bob").await;
    });
}

#[test]
fn cancel_ends_every_branch_at_once() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, mut callees) = fork(open_house_that_waits(), protocol, 2).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            let invites = ring(&mut callees).await;
            a.receive_response(180).await;
            a.receive_response(180).await;
            let cancel = cancellation(&invite);
            let begun = Instant::now();
            let answered = a.exchange(&cancel).await;
            assert_eq!((answered.status(), answered.method()), (200, "CANCEL"));
            assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
            // The same CANCEL again is answered again, and has no further effect (§9.2).
            assert_eq!(a.exchange(&cancel).await.status(), 200);
            for (callee, invite) in callees.iter_mut().zip(&invites) {
                is_cancelled(callee, invite).await;
            }
            let ended = a.receive_response(487).await;
            assert_eq!(ended.method(), "INVITE");
            a.send(&acknowledgement(&invite, &ended)).await;
            a.receive_nothing(SILENCE).await;
            for callee in &mut callees {
                callee.receive_nothing(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn no_cancel_leaves_before_the_first_provisional_response() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        assert_eq!(a.exchange(&cancellation(&invite)).await.status(), 200);
        b.receive_nothing(SILENCE).await;
        b.answer(&arrived, 100).await;
        is_cancelled(b, &arrived).await;
        assert_eq!(a.receive_response(487).await.method(), "INVITE");
    });
}

#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        b.answer(&arrived, 200).await;
        let accepted = a.receive_response(200).await;
        a.send(&Dialog::of_caller(&invite, &accepted).acknowledgement(&a)).await;
        b.receive_request("ACK").await;
        assert_eq!(a.exchange(&cancellation(&invite)).await.status(), 200);
        b.receive_nothing(SILENCE).await;
        a.receive_nothing(Duration::from_millis(1)).await;
    });
}

#[test]
fn a_cancel_of_a_message_has_no_effect() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        let b = &mut callees[0];
        let request = a.message(&uri("alice"), &uri("bob"), "hello");
        a.send(&request).await;
        let arrived = b.receive_request("MESSAGE").await;
        a.send(&cancellation(&request)).await;
        b.receive_nothing(SILENCE).await;
        b.answer(&arrived, 200).await;
        loop {
            let response = a.receive().await;
            if response.method() == "MESSAGE" {
                assert_eq!(response.status(), 200);
                break;
            }
        }
    });
}

#[test]
fn a_refusal_is_repeated_by_udp_until_it_is_acknowledged() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        b.answer(&arrived, 486).await;
        let first_ack = next_request(b, "ACK", &arrived).await;
        // The proxy has acknowledged; should that get lost, it does so again (§17.1.1.2).
        b.answer(&arrived, 486).await;
        assert_eq!(next_request(b, "ACK", &arrived).await, first_ack);
        let refused = final_response(&mut a).await;
        for _ in 0..2 {
            // Timer G.
            assert_eq!(final_response(&mut a).await, refused);
        }
        // What repeats the INVITE gets the refusal again and goes no further.
        a.send(&invite).await;
        assert_eq!(final_response(&mut a).await, refused);
        a.send(&acknowledgement(&invite, &refused)).await;
        drain(&mut a, &refused).await;
        a.receive_nothing(Duration::from_millis(450)).await;
        b.receive_nothing(Duration::from_millis(1)).await;
    });
}

#[test]
fn an_invite_is_repeated_by_udp_and_not_by_tcp() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Udp, 1).await;
        let b = &mut callees[0];
        a.send(&invitation(&a, "bob")).await;
        let first = b.receive_request("INVITE").await;
        let begun = Instant::now();
        // Timer A: T1, 2 T1, 4 T1 (§17.1.1.2).
        for earliest in [40, 140, 340] {
            assert_eq!(b.receive().await, first);
            assert!(begun.elapsed() >= Duration::from_millis(earliest), "{:?} is too early", begun.elapsed());
        }
        b.answer(&first, 180).await;
        a.receive_response(180).await;
        drain(b, &first).await;
        // Twice the last interval.
        b.receive_nothing(Duration::from_millis(900)).await;

        let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Tcp, 1).await;
        a.send(&invitation(&a, "bob")).await;
        callees[0].receive_request("INVITE").await;
        callees[0].receive_nothing(Duration::from_millis(400)).await;
    });
}

#[test]
fn an_invite_that_nobody_answers_is_408() {
    run(LIMIT, async {
        // Timer B: 64 × 10 ms.
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, _silent) = fork(open_house_with_t1(10), protocol, 1).await;
            let begun = Instant::now();
            a.send(&invitation(&a, "bob")).await;
            assert_eq!(a.receive().await.status(), 100);
            assert_eq!(final_response(&mut a).await.status(), 408);
            let taken = begun.elapsed();
            assert!((Duration::from_millis(600)..Duration::from_secs(8)).contains(&taken), "{taken:?}");
        }
    });
}

#[test]
fn timer_c_ends_what_rings_for_ever() {
    run(LIMIT, async {
        let settings = open_house_with_t1(15).key("sip", "timer_c", "\"5400ms\"");
        let (_site, mut a, mut callees) = fork(settings, Protocol::Tcp, 1).await;
        a.send(&invitation(&a, "bob")).await;
        let invites = ring(&mut callees).await;
        let begun = Instant::now();
        a.receive_response(180).await;
        is_cancelled(&mut callees[0], &invites[0]).await;
        assert!(begun.elapsed() >= Duration::from_millis(5200), "{:?}", begun.elapsed());
        assert!(matches!(final_response(&mut a).await.status(), 408 | 487));
    });
}
