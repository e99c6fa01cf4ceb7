//! Well-formed and still not wanted: loops, strangers, too much of it.

use std::time::{Duration, Instant};

use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::Sip;
use crate::support::{
    DOMAIN, Dialog, LIMIT, SILENCE, Site, answers_options, final_response, next_within, open_house, relay,
    uri,
};

#[test]
fn a_loop_ends() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.server(Protocol::Tcp, "seat").await;
        let mut a = site.connect(Protocol::Tcp).await;
        // A search, which changes no Request-URI.
        let request = a.message(&uri("alice"), &uri("bob"), "round and round");
        a.send(&request).await;
        let arrived = b.receive_request("MESSAGE").await;
        // Back it comes as it left, but for the hop between (RFC 3261 §16.3 step 4).
        let mut back = arrived.clone();
        back.push_front("Via", b.via());
        assert_eq!(b.exchange(&back).await.status(), 482);
        // With another Request-URI it is a spiral, and goes on.
        let spiral =
            Sip { start_line: format!("MESSAGE {} SIP/2.0", uri("carol")), ..back.set("Via", b.via()) };
        let mut carol = site.server(Protocol::Tcp, "carol").await;
        b.send(&spiral).await;
        let spiralled = carol.receive_request("MESSAGE").await;
        carol.answer(&spiralled, 200).await;
        b.receive_response(200).await;
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn two_users_registered_at_each_other_end_in_a_handful_of_messages() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        for (user, other) in [("ping", "pong"), ("pong", "ping")] {
            let own = uri(user);
            let register = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &own, &own);
            let contacts = format!("<{}>, <sip:{other}@{}>", uri(other), site.proxy.at(Protocol::Udp));
            let response = agent.exchange(&register.set("Contact", contacts)).await;
            assert_eq!(response.status(), 200, "{response}");
        }
        let begun = Instant::now();
        let mut a = site.connect(Protocol::Udp).await;
        a.send(&a.message(&uri("alice"), &uri("ping"), "hello")).await;
        // Whatever it ends with, it ends; the registering flow is where such contacts lead, if anywhere.
        let mut count = 0;
        while begun.elapsed() < Duration::from_secs(1) {
            if let Some(message) = next_within(&mut agent, Duration::from_millis(50)).await
                && message.is_request()
            {
                count += 1;
                agent.answer(&message, 480).await;
            }
        }
        assert!(count < 50, "{count} messages");
        let ended = final_response(&mut a).await.status();
        assert!(matches!(ended, 404 | 480 | 482 | 483 | 500), "{ended}");
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn domains_of_others_are_no_way_out() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        for (to, statuses) in [
            // Rule 5: no route to the domain, or policy. That bob is here, too, means nothing (RFC 3261 §16.5).
            ("sip:bob@nowhere.test", &[403, 404][..]),
            ("sip:bob@192.0.2.1", &[403, 404]),
            ("sip:bob@[2001:db8::1]:5070;transport=tcp", &[403, 404]),
        ] {
            let status = a.exchange(&a.message(&uri("alice"), to, "hello")).await.status();
            assert!(statuses.contains(&status), "{to}: {status}");
        }
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn who_is_not_authorised_is_told_so() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).usual_timers().account("uc-a", "secret a").account("uc-b", "secret b");
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.connect(Protocol::Tcp).await;
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let mut stranger = site.connect(Protocol::Udp).await;
        for method in ["MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "INVITE", "INFO", "FOO", "OPTIONS"] {
            let request = stranger.request(method, &uri("bob"), &uri("alice"), &uri("bob"));
            let refused = stranger.exchange(&request).await;
            assert_eq!(refused.status(), 407, "{method}:\n{refused}");
            assert!(refused.header("Proxy-Authenticate").is_some(), "{refused}");
            // A forged To tag opens nothing.
            let inside = request.set("To", format!("<{}>;tag=x", uri("bob"))).set("Via", stranger.via());
            assert_eq!(stranger.exchange(&inside).await.status(), 407, "{method} with a To tag");
        }
        b.receive_nothing(SILENCE).await;
    });
}

#[test]
fn overload_ends_new_work_first() {
    run(LIMIT, async {
        // One Router, so that its share is the whole.
        let settings =
            open_house().key("limits", "maximum_transactions", "20").key("service", "worker_threads", "1");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let request =
            a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
        let (arrived, accepted) = relay(&request, &mut a, &mut b, 200).await;
        let mut caller = Dialog::of_caller(&request, &accepted);
        assert_eq!(accepted.need("Call-ID"), arrived.need("Call-ID"));
        // Callers that nobody answers fill the table.
        let mut refused = None;
        let mut flood = site.connect(Protocol::Tcp).await;
        for _ in 0..40 {
            let message = flood.message(&uri("alice"), &uri("bob"), "and another");
            flood.send(&message).await;
            let answer = next_within(&mut flood, Duration::from_millis(40)).await;
            if let Some(answer) = answer {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("40 transactions do not fit into 20");
        assert_eq!(refused.status(), 503, "{refused}");
        assert!(
            refused.header("Retry-After").is_none(),
            "RFC 7339 §5.10.2: that would stop all of the sender"
        );
        // Who talks already is heard out.
        let refresh = caller.request(&a, "SUBSCRIBE").with("Event", "presence");
        a.send(&refresh).await;
        let refreshed = loop {
            let message = b.receive().await;
            if message.method() == "SUBSCRIBE" {
                break message;
            }
            b.answer(&message, 200).await;
        };
        b.answer(&refreshed, 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn strangers_have_a_rate() {
    run(LIMIT, async {
        let settings = Settings::new(DOMAIN)
            .usual_timers()
            .account("uc-a", "secret a")
            .key("limits", "requests_per_second_per_address", "5")
            .key("service", "worker_threads", "1");
        let site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let mut known = site.connect(Protocol::Tcp).await;
        known.log_on(DOMAIN, "uc-a", "secret a").await;
        let address = loopback();
        let mut stranger = site.connect_from(address, Protocol::Udp).await;
        let begun = Instant::now();
        for _ in 0..100 {
            stranger.send(&stranger.message(&uri("alice"), &uri("bob"), "hello")).await;
        }
        let mut answered = 0;
        while next_within(&mut stranger, SILENCE).await.is_some() {
            answered += 1;
        }
        let allowed = 5 * (begun.elapsed().as_secs() + 2);
        assert!((1..=allowed).contains(&answered), "{answered} of 100 within {:?}", begun.elapsed());
        // Who is logged on has none, and other addresses have one of their own.
        for _ in 0..20 {
            answers_options(&mut known).await;
        }
        let other = loopback();
        answers_options(&mut site.connect_from(other, Protocol::Udp).await).await;
    });
}
