//! Loops, and the branches that they are known by (RFC 5393).

use std::time::Duration;

use crate::common::agent::{Agent, acknowledgement};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::sip::{Sip, parameter};
use crate::invite::{invitation, is_cancelled};
use crate::support::{
    DOMAIN, LIMIT, Site, cancellation, final_response, next_within, open_house, relay, uri,
};

/// A UC server that knows nobody: as a proxy does, it sends requests to whom their domain names, which is where they
/// came from, and responses to whom they belong. Returns the number of requests once nothing comes any more.
async fn reflect(mirror: &mut Agent) -> usize {
    let mut requests = 0;
    while let Some(mut message) = next_within(mirror, Duration::from_secs(1)).await {
        // These go from one hop to the next and no further.
        if message.status() == 100 || message.is_request() && message.method() == "ACK" {
            continue;
        }
        if message.is_request() {
            requests += 1;
            assert!(requests < 200, "no end of it:\n{message}");
            let hops: u32 = message.need("Max-Forwards").parse().expect("it is a number");
            message = message.set("Max-Forwards", (hops - 1).to_string());
            message.push_front("Via", mirror.via());
        } else {
            message.pop_front("Via").expect("the mirror's own Via");
        }
        mirror.send(&message).await;
    }
    requests
}

#[test]
fn two_users_registered_at_each_other_end_in_482() {
    run(LIMIT, async {
        // The first fork is to the request's own target, too; in the second nothing ever looks as it did before.
        for (contacts, expected) in
            [(["ping@{}", "pong@{}"], 4), (["{other}@{};x=1", "{other}@{};x=2"], 2 + 4 + 8 + 8 + 8)]
        {
            let site = Site::open(open_house(), &[Protocol::Tcp]).await;
            let (mut a, mut mirror) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
            for (user, other) in [("ping", "pong"), ("pong", "ping")] {
                let own = uri(user);
                let register = mirror.request("REGISTER", &format!("sip:{DOMAIN}"), &own, &own);
                let contacts = contacts.map(|contact| {
                    format!("<sip:{}>", contact.replace("{other}", other).replace("{}", DOMAIN))
                });
                let register = register.set("Contact", contacts.join(", "));
                assert_eq!(mirror.exchange(&register).await.status(), 200);
            }
            for request in [a.message(&uri("alice"), &uri("ping"), "hello"), invitation(&a, "ping")] {
                a.send(&request).await;
                let requests = reflect(&mut mirror).await;
                assert_eq!(requests, expected, "{} with {contacts:?}", request.method());
                let ended = final_response(&mut a).await;
                assert_eq!(ended.status(), 482, "{ended}");
                if request.method() == "INVITE" {
                    a.send(&acknowledgement(&request, &ended)).await;
                }
            }
            site.is_well(Protocol::Tcp).await;
        }
    });
}

/// The two parts of the branch in the proxy's Via.
fn branch(message: &Sip) -> (&str, &str) {
    let branch = parameter(message.values("Via")[0], "branch").expect("the proxy's branch");
    branch.split_once('.').unwrap_or_else(|| panic!("one part alone in {branch}"))
}

#[test]
fn the_second_part_of_a_branch_says_what_the_way_depends_on() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        b.register(DOMAIN, "carol", "nobody", "nothing").await;
        let message = a.message(&uri("alice"), &uri("bob"), "hello");
        let again = |method: &str, callee: &str| {
            Sip { start_line: format!("{method} {} SIP/2.0", uri(callee)), ..message.clone() }
                .set("Via", a.via())
                .set("CSeq", format!("1 {method}"))
        };
        let own = format!("<sip:{};lr>", site.proxy.at(Protocol::Udp));
        let requests = [
            again("MESSAGE", "bob"),
            again("SUBSCRIBE", "bob").with("Event", "presence"),
            again("MESSAGE", "carol"),
            again("MESSAGE", "bob").with("Route", own),
        ];
        let mut branches = Vec::new();
        for request in &requests {
            let (arrived, _) = relay(request, &mut a, &mut b, 200).await;
            let (first, second) = branch(&arrived);
            branches.push((first.to_owned(), second.to_owned()));
        }
        let [message, subscribe, other_uri, other_route] = &branches[..] else {
            unreachable!("four were sent")
        };
        // RFC 5393 §4.2.1: the method has no part in it.
        assert_eq!(message.1, subscribe.1);
        assert_ne!(message.0, subscribe.0);
        assert!(other_uri.1 != message.1 && other_route.1 != message.1, "{branches:?}");
    });
}

#[test]
fn cancel_and_ack_have_the_branch_of_their_invite() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let invite = invitation(&a, "bob");
        a.send(&invite).await;
        let arrived = b.receive_request("INVITE").await;
        b.answer(&arrived, 180).await;
        a.receive_response(180).await;
        assert_eq!(a.exchange(&cancellation(&invite)).await.status(), 200);
        assert_eq!(branch(&arrived).1.len(), 16);
        is_cancelled(&mut b, &arrived).await;
        a.receive_response(487).await;
    });
}
