//! Which UC server gets a request: bindings first, else a search of all of them, which learns (product.md, "Where a
//! request goes", rules 1 and 2).

use std::time::{Duration, Instant};

use crate::common::agent::Agent;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::sip::Sip;
use crate::support::{
    DOMAIN, LIMIT, PROMPT, SILENCE, Site, next_within, open_house, open_house_with_t1, relay, uri,
};

fn hello(from: &Agent) -> Sip {
    from.message(&uri("alice"), &uri("bob"), "hello")
}

/// Each of `servers` gets the request and answers with `status`.
async fn all_answer(servers: &mut [Agent], method: &str, status: u16) {
    for server in servers {
        let request = server.receive_request(method).await;
        server.answer(&request, status).await;
    }
}

async fn none_has_anything(servers: &mut [Agent]) {
    // What has come to the others meanwhile waits in their sockets.
    for (number, server) in servers.iter_mut().enumerate() {
        server.receive_nothing(if number == 0 { SILENCE } else { Duration::from_millis(1) }).await;
    }
}

#[test]
fn a_binding_is_asked_before_anybody_else() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut others = site.servers(Protocol::Tcp, 3).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let (arrived, _) = relay(&hello(&a), &mut a, &mut b, 200).await;
        assert_eq!(format!("<{}>", arrived.uri()), b.contact("bob"));
        // Its word counts, too: a user with bindings is not searched for.
        relay(&hello(&a), &mut a, &mut b, 404).await;
        none_has_anything(&mut others).await;
    });
}

#[test]
fn a_user_is_found_however_its_address_is_written() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut others = site.servers(Protocol::Tcp, 1).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        // RFC 3261 §10.3 step 5: parameters apart, escapes as what they stand for, the host without case.
        for to in ["sip:%62o%62@EXAMPLE.org;x=y", "sip:bob@example.org;gruu;opaque=user:epid:x"] {
            let request = a.message(&uri("alice"), to, "hello");
            let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
            assert_eq!(format!("<{}>", arrived.uri()), b.contact("bob"), "{to}");
        }
        // The user part has a case (§19.1.4).
        let request = a.message(&uri("alice"), &uri("Bob"), "hello");
        a.send(&request).await;
        assert_eq!(others[0].receive_request("MESSAGE").await.uri(), uri("Bob"));
    });
}

#[test]
fn a_user_without_binding_is_searched_among_fifty_servers() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 50).await;
        let request = hello(&servers[7]);
        servers[7].send(&request).await;
        for (number, server) in servers.iter_mut().enumerate().filter(|(number, _)| *number != 7) {
            let arrived = server.receive_request("MESSAGE").await;
            assert_eq!(arrived.uri(), uri("bob"), "a search changes no Request-URI");
            server.answer(&arrived, if number == 37 { 200 } else { 404 }).await;
        }
        assert_eq!(servers[7].receive_response(200).await.need("Call-ID"), request.need("Call-ID"));
        // Each was asked once, the sender not at all; what it has learned it asks alone.
        let request = hello(&servers[7]);
        servers[7].send(&request).await;
        let arrived = servers[37].receive_request("MESSAGE").await;
        servers[37].answer(&arrived, 200).await;
        servers[7].receive_response(200).await;
        none_has_anything(&mut servers).await;
    });
}

#[test]
fn a_search_asks_everybody_at_the_same_time() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 4).await;
        servers.push(site.server(Protocol::Udp, "seat-u").await);
        let mut a = site.connect(Protocol::Tcp).await;
        a.send(&hello(&a)).await;
        let mut arrived = Vec::new();
        for server in &mut servers {
            arrived.push(server.receive_request("MESSAGE").await);
        }
        // The first 2xx wins; what others say afterwards is not passed on.
        servers[2].answer(&arrived[2], 200).await;
        let answer = a.receive_response(200).await;
        assert_eq!(answer.need("To"), servers[2].response(&arrived[2], 200).need("To"));
        servers[3].answer(&arrived[3], 200).await;
        servers[0].answer(&arrived[0], 404).await;
        a.receive_nothing(SILENCE).await;
    });
}

#[test]
fn the_search_is_over_when_the_last_has_answered() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 3).await;
        let mut a = site.connect(Protocol::Tcp).await;
        for late in [404, 480, 486, 200] {
            a.send(&hello(&a)).await;
            let (last, first) = servers.split_last_mut().expect("there are three");
            all_answer(first, "MESSAGE", 404).await;
            let arrived = last.receive_request("MESSAGE").await;
            a.receive_nothing(SILENCE).await;
            last.answer(&arrived, late).await;
            assert_eq!(a.receive().await.status(), late, "404, 404 and then {late}");
            if late == 200 {
                // What was learned is asked first from now on, and the others only if it says no.
                a.send(&hello(&a)).await;
                let arrived = last.receive_request("MESSAGE").await;
                last.answer(&arrived, 404).await;
                all_answer(first, "MESSAGE", 404).await;
                a.receive_response(404).await;
            }
        }
    });
}

#[test]
fn nobody_left_is_404_or_480() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        // A sender alone: whether the user is known nobody can say.
        let mut a = site.server(Protocol::Tcp, "alice").await;
        let status = a.exchange(&hello(&a)).await.status();
        assert!(matches!(status, 404 | 480), "{status}");
        let mut servers = site.servers(Protocol::Tcp, 2).await;
        for (one, other, status) in [(404, 404, 404), (404, 480, 480), (480, 404, 480), (480, 480, 480)] {
            a.send(&hello(&a)).await;
            let (first, second) = servers.split_at_mut(1);
            all_answer(first, "MESSAGE", one).await;
            all_answer(second, "MESSAGE", other).await;
            assert_eq!(a.receive().await.status(), status, "{one} and {other}");
        }
    });
}

#[test]
fn the_silent_do_not_keep_a_search_from_its_end() {
    run(LIMIT, async {
        const T1: u32 = 60;
        let site = Site::open(open_house_with_t1(T1), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 2).await;
        let _silent =
            [site.server(Protocol::Tcp, "mute-1").await, site.server(Protocol::Udp, "mute-2").await];
        let mut a = site.connect(Protocol::Tcp).await;
        a.send(&hello(&a)).await;
        let begun = Instant::now();
        let (first, second) = servers.split_at_mut(1);
        all_answer(first, "MESSAGE", 404).await;
        all_answer(second, "MESSAGE", 404).await;
        let answer = loop {
            let answer = a.receive().await;
            if answer.status() != 100 {
                break answer;
            }
        };
        // Before the client's own Timer F, and not 404: the silent may know the user.
        assert_eq!(answer.status(), 480, "{answer}");
        assert!(begun.elapsed() < Duration::from_millis(1) * 64 * T1, "{:?}", begun.elapsed());

        a.send(&hello(&a)).await;
        all_answer(&mut servers[..1], "MESSAGE", 404).await;
        all_answer(&mut servers[1..], "MESSAGE", 200).await;
        a.receive_response(200).await;
    });
}

#[test]
fn a_server_that_logs_off_in_mid_search_is_not_waited_for() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Tls]).await;
        for (crashes, status) in [(false, 404), (true, 404), (false, 200), (true, 200)] {
            let protocol = if crashes { Protocol::Tcp } else { Protocol::Tls };
            let mut leaver = site.server(protocol, "leaver").await;
            let mut stayer = site.server(Protocol::Tcp, "stayer").await;
            let mut a = site.connect(Protocol::Tcp).await;
            a.send(&hello(&a)).await;
            leaver.receive_request("MESSAGE").await;
            let arrived = stayer.receive_request("MESSAGE").await;
            if crashes {
                leaver.reset();
            } else {
                leaver.close().await;
            }
            let begun = Instant::now();
            stayer.answer(&arrived, status).await;
            let answer = a.receive().await.status();
            // Who has gone may have known the user.
            let is_right = answer == status || (status == 404 && answer == 480);
            assert!(is_right, "{status} from the one that stays, {answer} to the sender");
            assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
            stayer.close().await;
            // It is no candidate any more once its connection has gone.
            a.close().await;
        }
    });
}

#[test]
fn a_server_that_has_logged_off_is_not_asked() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut a = site.server(Protocol::Tcp, "alice").await;
        let mut gone = site.connect(Protocol::Tcp).await;
        // Mode A, and its end: the server binding is removed (RFC 3261 §10.2.2).
        gone.log_on(DOMAIN, "uc", "").await;
        let mut stays = site.server(Protocol::Tcp, "stays").await;
        let own = uri("uc");
        let end = gone.request("REGISTER", &format!("sip:{DOMAIN}"), &own, &own);
        let end = end.set("Contact", gone.contact("uc")).set("CSeq", "9 REGISTER").with("Expires", "0");
        assert_eq!(gone.exchange(&end).await.status(), 200);
        relay(&hello(&a), &mut a, &mut stays, 404).await;
        gone.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_subscribe_is_at_one_server_at_a_time_and_ends_up_at_one() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 5).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let subscribe = |a: &Agent| {
            a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence")
        };
        a.send(&subscribe(&a)).await;
        let mut asked = Vec::new();
        let winner = loop {
            let (number, request) = who_is_asked(&mut servers).await;
            assert!(!asked.contains(&number), "server {number} is asked twice");
            asked.push(number);
            // Nobody else while this one thinks.
            none_has_anything(&mut servers).await;
            let is_third = asked.len() == 3;
            servers[number].answer(&request, if is_third { 200 } else { 404 }).await;
            if is_third {
                break number;
            }
        };
        a.receive_response(200).await;
        none_has_anything(&mut servers).await;
        // Learned: the same one at once.
        a.send(&subscribe(&a)).await;
        let (number, request) = who_is_asked(&mut servers).await;
        assert_eq!(number, winner);
        servers[number].answer(&request, 200).await;
        a.receive_response(200).await;
        none_has_anything(&mut servers).await;
    });
}

/// The one of the servers to which a request has come.
async fn who_is_asked(servers: &mut [Agent]) -> (usize, Sip) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        for (number, server) in servers.iter_mut().enumerate() {
            if let Some(request) = next_within(server, Duration::from_millis(5)).await {
                return (number, request);
            }
        }
    }
    panic!("none of {} servers is asked", servers.len());
}

#[test]
fn a_subscribe_that_nobody_takes_visits_everybody_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 4).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let request =
            a.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
        a.send(&request).await;
        all_answer(&mut servers, "SUBSCRIBE", 404).await;
        a.receive_response(404).await;
        none_has_anything(&mut servers).await;
    });
}

#[test]
fn a_server_is_asked_only_for_users_of_its_scope() {
    run(LIMIT, async {
        let account = |name: &str, users: &str| {
            format!("user_name = \"{name}\"\npassword = \"secret\"\nusers = {users}\n")
        };
        let settings = Settings::new(DOMAIN)
            .usual_timers()
            .account_rows(&account("uc-east", "[\"anna@example.org\", \"arno@example.org\"]"))
            .account_rows(&account("uc-west", "[\"bob@example.org\"]"))
            .account("uc-main", "secret");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut east = site.connect(Protocol::Tcp).await;
        let mut west = site.connect(Protocol::Tcp).await;
        let mut main = site.connect(Protocol::Tcp).await;
        for (agent, user) in [(&mut east, "uc-east"), (&mut west, "uc-west"), (&mut main, "uc-main")] {
            agent.log_on(DOMAIN, user, "secret").await;
        }
        let request = main.message(&uri("zoe"), &uri("bob"), "for the west");
        relay(&request, &mut main, &mut west, 404).await;
        east.receive_nothing(SILENCE).await;
        let request = main.message(&uri("zoe"), &uri("arno"), "for the east");
        relay(&request, &mut main, &mut east, 200).await;
        west.receive_nothing(SILENCE).await;
        // Of nobody's scope but the sender's: nobody is left.
        let status = main.exchange(&main.message(&uri("zoe"), &uri("carl"), "for nobody")).await.status();
        assert!(matches!(status, 404 | 480), "{status}");
    });
}

#[test]
fn invites_are_searched_for_as_well() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 3).await;
        let mut a = site.connect(Protocol::Tcp).await;
        let invite = a.request("INVITE", &uri("bob"), &uri("alice"), &uri("bob"));
        a.send(&invite).await;
        let (last, others) = servers.split_last_mut().expect("there are three");
        for server in others {
            let request = server.receive_request("INVITE").await;
            server.answer(&request, 404).await;
            server.receive_request("ACK").await;
        }
        let request = last.receive_request("INVITE").await;
        last.answer(&request, 180).await;
        last.answer(&request, 200).await;
        a.receive_response(180).await;
        a.receive_response(200).await;
    });
}
