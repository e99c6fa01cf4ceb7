//! What becomes of a 3xx (RFC 3261 §16.7 step 4).

use crate::common::proxy::Protocol;
use crate::common::run;
use crate::support::{LIMIT, SILENCE, Site, open_house, uri};

#[test]
fn a_redirection_is_for_the_client_unless_the_proxy_is_to_follow_it() {
    run(LIMIT, async {
        for follows in [false, true] {
            let settings = open_house().key("sip", "follow_redirections", &follows.to_string());
            let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
            let (mut a, mut bob) =
                (site.connect(Protocol::Tcp).await, site.server(Protocol::Udp, "bob").await);
            let mut carol = site.server(Protocol::Tcp, "carol").await;
            for method in ["MESSAGE", "INVITE"] {
                let request = a.request(method, &uri("bob"), &uri("alice"), &uri("bob"));
                a.send(&request).await;
                let arrived = bob.receive_request(method).await;
                let away = ["<sip:bob@elsewhere.test>", &format!("<{}>;q=0.5", uri("carol"))];
                let moved = bob.response(&arrived, 302).with("Contact", away.join(", "));
                bob.send(&moved).await;
                if follows {
                    // What is followed is gone from the response (C9); the best of all goes back in the end.
                    let arrived = carol.receive_request(method).await;
                    assert_eq!(format!("<{}>", arrived.uri()), carol.contact("carol"));
                    carol.answer(&arrived, 486).await;
                    let answer = a.receive_response(302).await;
                    assert_eq!(answer.values("Contact"), [away[0]], "{answer}");
                } else {
                    let answer = a.receive_response(302).await;
                    assert_eq!(answer.values("Contact"), away, "{answer}");
                    carol.receive_nothing(SILENCE).await;
                }
                if method == "INVITE" {
                    bob.receive_request("ACK").await;
                    a.send(&crate::common::agent::acknowledgement(&request, &a.response(&request, 302)))
                        .await;
                }
            }
        }
    });
}

#[test]
fn who_a_redirection_leads_to_may_accept() {
    run(LIMIT, async {
        let settings = open_house().key("sip", "follow_redirections", "true");
        let site = Site::open(settings, &[Protocol::Udp]).await;
        let (mut a, mut bob) = (site.connect(Protocol::Udp).await, site.server(Protocol::Udp, "bob").await);
        let mut carol = site.server(Protocol::Udp, "carol").await;
        let request = a.message(&uri("alice"), &uri("bob"), "wherever you are");
        a.send(&request).await;
        let arrived = bob.receive_request("MESSAGE").await;
        // A numeric address of the LAN is as good as a user.
        let there = format!("<sip:anybody@{};x=1>", carol.local());
        let moved = bob.response(&arrived, 301).with("Contact", &there);
        bob.send(&moved).await;
        let arrived = carol.receive_request("MESSAGE").await;
        assert_eq!(format!("<{}>", arrived.uri()), there);
        carol.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}
