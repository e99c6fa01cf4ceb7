//! Responses on their way back (RFC 3261 §16.7): which are passed on, when, and as what; which are nobody's.

use std::time::{Duration, Instant};

use crate::common::agent::{Agent, acknowledgement};
use crate::common::proxy::{Protocol, Proxy};
use crate::common::sip::Sip;
use crate::common::{eventually, run};
use crate::invite::{fork, invitation, ring};
use crate::support::{
    DOMAIN, Dialog, LIMIT, SILENCE, Site, final_response, open_house, open_house_with_t1, uri,
};

#[test]
fn a_100_ends_at_the_proxy_and_other_provisional_responses_pass_at_once() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (_site, mut a, mut callees) = fork(open_house(), protocol, 2).await;
            a.send(&invitation(&a, "bob")).await;
            let mut invites = Vec::new();
            for callee in &mut callees {
                let invite = callee.receive_request("INVITE").await;
                callee.send(&callee.response(&invite, 100).with("X-From", "callee")).await;
                invites.push(invite);
            }
            let own = a.receive().await;
            assert_eq!((own.status(), own.header("X-From")), (100, None), "{own}");
            a.receive_nothing(SILENCE).await;
            for (round, status) in [180, 183, 182, 199, 183].into_iter().enumerate() {
                let (callee, invite) = (&mut callees[round % 2], &invites[round % 2]);
                let response = callee.response(invite, status).with("X-Round", round.to_string());
                callee.send(&response).await;
                let passed = a.receive().await;
                assert_eq!(
                    (passed.status(), passed.need("X-Round")),
                    (status, &*round.to_string()),
                    "{passed}"
                );
                assert_eq!(passed.need("To"), response.need("To"));
            }
            callees[1].answer(&invites[1], 200).await;
            a.receive_response(200).await;
        }
    });
}

#[test]
fn a_message_has_one_final_response_however_many_are_given() {
    run(LIMIT, async {
        for statuses in [[200, 200], [200, 486], [202, 603], [299, 200]] {
            let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 2).await;
            a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
            let mut arrived = Vec::new();
            for callee in &mut callees {
                arrived.push(callee.receive_request("MESSAGE").await);
            }
            callees[0].answer(&arrived[0], statuses[0]).await;
            let answered = final_response(&mut a).await;
            assert_eq!(answered.status(), statuses[0], "{answered}");
            callees[1].answer(&arrived[1], statuses[1]).await;
            a.receive_nothing(SILENCE).await;
            for callee in &mut callees {
                callee.receive_nothing(Duration::from_millis(1)).await;
            }
        }
    });
}

/// What the branches answer, and which of it may be the best.
type Choice = (&'static [u16], &'static [u16]);

const CHOICES: [Choice; 22] = [
    // §16.7 step 6: 6xx, else the lowest class.
    (&[404, 603], &[603]),
    (&[606, 302], &[606]),
    (&[500, 486, 604], &[604]),
    (&[302, 404], &[302]),
    (&[500, 301, 486], &[301]),
    (&[500, 486], &[486]),
    (&[513, 404, 500], &[404]),
    (&[501, 513], &[501, 513]),
    // In 4xx what says how to ask again.
    (&[404, 401], &[401]),
    (&[407, 486], &[407]),
    (&[415, 404], &[415]),
    (&[486, 420], &[420]),
    (&[484, 480], &[484]),
    (&[404, 486, 401], &[401]),
    (&[480, 407, 404], &[407]),
    (&[415, 486, 404], &[415]),
    (&[486, 404, 420], &[420]),
    (&[404, 484, 500], &[484]),
    // A 503 of somebody else is none of ours.
    (&[503, 503], &[500]),
    (&[503, 404], &[404]),
    (&[503], &[500]),
    (&[486, 503, 603], &[603]),
];

#[test]
fn the_best_of_two_or_three_is_chosen() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut servers = site.servers(Protocol::Tcp, 3).await;
        for (number, (answers, best)) in CHOICES.into_iter().enumerate() {
            let user = format!("user-{number}");
            for server in &mut servers[..answers.len()] {
                server.register(DOMAIN, &user, "nobody", "nothing").await;
            }
            a.send(&a.message(&uri("alice"), &uri(&user), "hello")).await;
            for (server, answer) in servers.iter_mut().zip(answers) {
                let arrived = server.receive_request("MESSAGE").await;
                server.answer(&arrived, *answer).await;
            }
            let answered = final_response(&mut a).await;
            assert!(best.contains(&answered.status()), "{answers:?}:\n{answered}");
        }
    });
}

#[test]
fn a_target_that_is_out_of_service_is_passed_over() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let mut targets = Vec::new();
        for q in ["0.9", "0.5"] {
            let mut agent = site.connect(Protocol::Tcp).await;
            let bob = uri("bob");
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &bob, &bob);
            let register = register.set("Contact", format!("{};q={q}", agent.contact("bob")));
            assert_eq!(agent.exchange(&register).await.status(), 200);
            targets.push(agent);
        }
        for (second, upstream) in [(200, 200), (503, 500)] {
            for method in ["MESSAGE", "INVITE"] {
                let request = a.request(method, &uri("bob"), &uri("alice"), &uri("bob"));
                a.send(&request).await;
                for (target, status) in targets.iter_mut().zip([503, second]) {
                    let arrived = target.receive_request(method).await;
                    target.send(&target.response(&arrived, status).with("Retry-After", "60")).await;
                    if method == "INVITE" && status >= 300 {
                        target.receive_request("ACK").await;
                    }
                }
                let answered = final_response(&mut a).await;
                assert_eq!(answered.status(), upstream, "{answered}");
                if upstream == 500 {
                    assert_eq!(answered.header("Retry-After"), None, "that was one server's:\n{answered}");
                }
                if upstream == 500 && method == "INVITE" {
                    a.send(&acknowledgement(&request, &answered)).await;
                }
            }
        }
    });
}

#[test]
fn responses_to_invite_are_left_as_they_are() {
    run(LIMIT, async {
        for status in [200, 299, 302, 404, 486, 603] {
            let (_site, mut a, mut callees) = fork(open_house(), Protocol::Tcp, 1).await;
            let b = &mut callees[0];
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            let arrived = b.receive_request("INVITE").await;
            for status in [183, status] {
                let mut response =
                    b.response(&arrived, status).set("To", format!("{};TAG=\"x y\";z", uri("bob")));
                response.start_line = format!("SIP/2.0 {status} It's \"{status}\",  isn't it?");
                let response = response
                    .with("Warning", "399 b.test \"a, b\"")
                    .with("x-Unheard-Of", "1")
                    .with("m", "<sip:bob@192.168.1.2:9;x>;q=0.1, <tel:+1>")
                    .with("X-Unheard-of", "")
                    .with("Content-Length", "4")
                    .body("application/octet-stream", *b"\0\r\n\xff");
                b.send(&response).await;
                let mut passed = response;
                assert!(passed.pop_front("Via").is_some());
                assert_eq!(a.receive_response(status).await, passed);
            }
        }
    });
}

#[test]
fn a_decline_waits_for_the_branches_that_it_cancels() {
    run(LIMIT, async {
        for second in [Some(200), Some(487), Some(486), None] {
            // 64 × T1 is how long a branch may take to end after its CANCEL.
            let (_site, mut a, mut callees) = fork(open_house_with_t1(50), Protocol::Tcp, 2).await;
            let invite = invitation(&a, "bob");
            a.send(&invite).await;
            let invites = ring(&mut callees).await;
            for _ in &invites {
                a.receive_response(180).await;
            }
            callees[0].answer(&invites[0], 603).await;
            callees[0].receive_request("ACK").await;
            let cancel = callees[1].receive_request("CANCEL").await;
            callees[1].answer(&cancel, 200).await;
            let begun = Instant::now();
            a.receive_nothing(2 * SILENCE).await;
            if let Some(status) = second {
                callees[1].answer(&invites[1], status).await;
            }
            let ended = final_response(&mut a).await;
            match second {
                Some(200) => {
                    // It has picked up all the same (§16.7 step 5), and after a 2xx nothing else is said.
                    assert_eq!(ended.need("To"), callees[1].response(&invites[1], 200).need("To"));
                    a.send(&Dialog::of_caller(&invite, &ended).acknowledgement(&a)).await;
                    callees[1].receive_request("ACK").await;
                    a.receive_nothing(SILENCE).await;
                }
                Some(_) => assert_eq!(ended.status(), 603, "{ended}"),
                None => {
                    assert_eq!(ended.status(), 603, "{ended}");
                    assert!(begun.elapsed() >= Duration::from_millis(64 * 50 - 500), "{:?}", begun.elapsed());
                }
            }
        }
    });
}

/// How many messages the proxy has dropped for this reason.
fn dropped(proxy: &Proxy, reason: &str) -> usize {
    let reason = format!("reason={reason}");
    proxy.log().lines().filter(|line| line.contains(" dropped ") && line.contains(&reason)).count()
}

/// Sends what must be dropped for this reason, and waits until it has been.
async fn is_dropped(site: &Site, agent: &mut Agent, response: &Sip, reason: &str) {
    let before = dropped(&site.proxy, reason);
    agent.send(response).await;
    let counted = || (dropped(&site.proxy, reason) == before + 1).then_some(());
    eventually(LIMIT, &format!("one more dropped for {reason}"), counted).await;
}

#[test]
fn a_response_with_the_via_of_somebody_else_is_dropped_and_counted() {
    run(LIMIT, async {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (site, mut a, mut callees) = fork(open_house(), protocol, 1).await;
            let b = &mut callees[0];
            a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
            let arrived = b.receive_request("MESSAGE").await;
            let via = arrived.values("Via")[0];
            let (address, own) = (site.proxy.at(protocol), format!("{}", site.proxy.at(protocol)));
            for foreign in [
                via.replace(&own, "192.0.2.1:5060"),
                via.replace(&own, &format!("{}:{}", address.ip(), address.port() ^ 1)),
                via.replace(&own, &format!("elsewhere.example.net:{}", address.port())),
                via.replace("branch=z9hG4bK", "branch=z9hG4bK-nobody"),
                via.replace("branch=z9hG4bK", "branch="),
            ] {
                assert_ne!(foreign, via);
                let mut response = b.response(&arrived, 200);
                response.pop_front("Via");
                response.push_front("Via", foreign);
                is_dropped(&site, b, &response, "foreign_response").await;
            }
            a.receive_nothing(SILENCE).await;
            b.answer(&arrived, 200).await;
            assert_eq!(final_response(&mut a).await.status(), 200);
        }
    });
}

#[test]
fn a_response_whose_transaction_is_over_is_dropped() {
    run(LIMIT, async {
        // 64 × 10 ms: Timer J, K, L and M are over then.
        let over = Duration::from_millis(64 * 10 + 100);
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let (site, mut a, mut callees) = fork(open_house_with_t1(10), protocol, 1).await;
            let b = &mut callees[0];
            let mut old = Vec::new();
            for method in ["INVITE", "MESSAGE"] {
                let request = a.request(method, &uri("bob"), &uri("alice"), &uri("bob"));
                a.send(&request).await;
                let arrived = b.receive_request(method).await;
                b.answer(&arrived, 200).await;
                let answered = final_response(&mut a).await;
                if method == "INVITE" {
                    a.send(&Dialog::of_caller(&request, &answered).acknowledgement(&a)).await;
                    b.receive_request("ACK").await;
                }
                old.push(b.response(&arrived, 200).with("Contact", b.contact("agent")));
            }
            tokio::time::sleep(over).await;
            for response in &old {
                is_dropped(&site, b, response, "stray_response").await;
            }
            a.receive_nothing(SILENCE).await;
        }
    });
}
