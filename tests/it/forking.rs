//! Calls to several places at once (RFC 3261 §16.6, §16.7).

use std::time::{Duration, Instant};

use crate::common::agent::acknowledgement;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::parameter;
use crate::invite::{bind_with_q, fork, invitation, is_cancelled, ring};
use crate::support::{Dialog, LIMIT, PROMPT, SILENCE, Site, final_response, open_house};

#[test]
fn the_one_that_answers_first_has_the_call_and_the_other_is_cancelled() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, mut callees) = fork(open_house(), protocol, 2).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            let invites = ring(&mut callees).await;
            let branches: Vec<_> =
                invites.iter().map(|invite| parameter(invite.need("Via"), "branch")).collect();
            assert_ne!(branches[0], branches[1]);
            callees[1].answer(&invites[1], 200).await;
            is_cancelled(&mut callees[0], &invites[0]).await;
            let accepted = final_response(&mut a).await;
            assert_eq!(accepted.status(), 200);
            assert_eq!(accepted.need("To"), callees[1].response(&invites[1], 200).need("To"));
            a.send(&Dialog::of_caller(&invite, &accepted).acknowledgement(&a)).await;
            callees[1].receive_request("ACK").await;
            a.receive_nothing(SILENCE).await;
            callees[0].receive_nothing(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn each_2xx_is_passed_on() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let invites = ring(&mut callees).await;
        callees[0].answer(&invites[0], 200).await;
        let first = final_response(&mut a).await;
        // The CANCEL crosses the second 200.
        callees[1].receive_request("CANCEL").await;
        callees[1].answer(&invites[1], 200).await;
        let second = final_response(&mut a).await;
        assert_eq!((first.status(), second.status()), (200, 200));
        assert_ne!(first.need("To"), second.need("To"));
        for (accepted, callee) in [(&first, 0), (&second, 1)] {
            a.send(&Dialog::of_caller(&invite, accepted).acknowledgement(&a)).await;
            callees[callee].receive_request("ACK").await;
        }
        // The callee repeats what it thinks lost (§13.3.1.4), and each goes through; the INVITE does not again.
        callees[1].answer(&invites[1], 200).await;
        assert_eq!(final_response(&mut a).await.need("To"), second.need("To"));
        a.send(&invite).await;
        for callee in &mut callees {
            callee.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn the_best_response_is_chosen() {
    run(LIMIT, async {
        // RFC 3261 §16.7 step 6: 6xx, else the lowest class; 503 of one server is not ours.
        for (answers, best) in [
            ([404, 486], &[404, 486][..]),
            ([486, 404], &[404, 486]),
            ([500, 404], &[404]),
            ([404, 302], &[302]),
            ([486, 603], &[603]),
            ([486, 415], &[415]),
            ([415, 407], &[407]),
            ([503, 503], &[500]),
            ([503, 404], &[404]),
        ] {
            let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            for (callee, answer) in callees.iter_mut().zip(answers) {
                let arrived = callee.receive_request("INVITE").await;
                callee.answer(&arrived, answer).await;
                callee.receive_request("ACK").await;
            }
            let ended = final_response(&mut a).await;
            assert!(best.contains(&ended.status()), "{answers:?}:\n{ended}");
            a.send(&acknowledgement(&invite, &ended)).await;
        }
    });
}

#[test]
fn busy_at_one_server_outweighs_unknown_at_the_others() {
    run(LIMIT, async {
        for order in [[404, 486, 404], [486, 404, 480]] {
            let site = Site::open(open_house(), &[Protocol::Tcp]).await;
            let mut servers = site.servers(Protocol::Tcp, 3).await;
            let mut a = site.connect(Protocol::Tcp).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            for (server, status) in servers.iter_mut().zip(order) {
                let arrived = server.receive_request("INVITE").await;
                server.answer(&arrived, status).await;
                server.receive_request("ACK").await;
            }
            assert_eq!(final_response(&mut a).await.status(), 486, "{order:?}");
        }
    });
}

#[test]
fn a_decline_ends_the_call_everywhere() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
        a.send(&invitation(&a, "bob")).await;
        let invites = ring(&mut callees).await;
        callees[0].answer(&invites[0], 603).await;
        callees[0].receive_request("ACK").await;
        is_cancelled(&mut callees[1], &invites[1]).await;
        assert_eq!(final_response(&mut a).await.status(), 603);
    });
}

#[test]
fn a_lower_q_value_waits_its_turn() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b, mut c) = (
            site.connect(Protocol::Tcp).await,
            site.connect(Protocol::Tcp).await,
            site.connect(Protocol::Tcp).await,
        );
        for (agent, q) in [(&mut b, "0.3"), (&mut c, "0.9")] {
            bind_with_q(agent, q).await;
        }
        a.send(&invitation(&a, "bob")).await;
        let arrived = c.receive_request("INVITE").await;
        b.receive_nothing(SILENCE).await;
        c.answer(&arrived, 486).await;
        c.receive_request("ACK").await;
        let arrived = b.receive_request("INVITE").await;
        b.answer(&arrived, 200).await;
        assert_eq!(final_response(&mut a).await.status(), 200);
    });
}

#[test]
fn a_callee_that_vanishes_before_it_rings_is_not_waited_for() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
        a.send(&invitation(&a, "bob")).await;
        callees[0].receive_request("INVITE").await;
        callees[0].reset();
        let begun = Instant::now();
        let arrived = callees[1].receive_request("INVITE").await;
        callees[1].answer(&arrived, 486).await;
        assert!(matches!(final_response(&mut a).await.status(), 480 | 486));
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_callee_may_answer_over_another_connection() {
    run(LIMIT, async {
        let (site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
        a.send(&invitation(&a, "bob")).await;
        let invites = ring(&mut callees).await;
        a.receive_response(180).await;
        let accepted = callees[0].response(&invites[0], 200).with("Contact", callees[0].contact("bob"));
        callees[0].reset();
        // To the proxy's sent-by (RFC 3261 §18.2.2).
        let mut back = site.connect(Protocol::Tcp).await;
        back.send(&accepted).await;
        assert_eq!(final_response(&mut a).await.status(), 200);
    });
}

#[test]
fn challenges_of_all_branches_come_together() {
    run(LIMIT, async {
        let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
        a.send(&invitation(&a, "bob")).await;
        let challenges = [
            (
                "Proxy-Authenticate",
                407,
                &["Digest realm=\"x\", nonce=\"1\", algorithm=SHA-256", "Digest realm=\"x\", nonce=\"2\""][..],
            ),
            ("WWW-Authenticate", 401, &["Digest realm=\"y\", nonce=\"3\", algorithm=MD5"]),
        ];
        for (callee, (name, status, values)) in callees.iter_mut().zip(challenges) {
            let invite = callee.receive_request("INVITE").await;
            let response = callee.response(&invite, status);
            callee.send(&values.iter().fold(response, |response, value| response.with(name, *value))).await;
            callee.receive_request("ACK").await;
        }
        let challenged = final_response(&mut a).await;
        assert!(matches!(challenged.status(), 401 | 407), "{challenged}");
        for (name, _, values) in challenges {
            // RFC 3261 §16.7 step 7, RFC 8760 §2.5.
            assert_eq!(challenged.all(name), values, "each in its order:\n{challenged}");
        }
    });
}
