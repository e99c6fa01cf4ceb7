//! The search for the UC server on which a user lives (product rule).

use std::sync::Arc;

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer, kind, request, uri};
use crate::protocol::account::{Accounts, Scope};

const A: fn() -> Peer = || Peer::udp(5070);

/// `a` and these UC servers, logged on in this order.
fn bench(servers: &[Peer]) -> Bench {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    bench.log_on_all(servers);
    bench
}

fn servers(count: u16) -> Vec<Peer> {
    (0..count).map(|n| if n % 2 == 0 { Peer::udp(6000 + n) } else { Peer::tcp(6000 + n) }).collect()
}

#[test]
fn all_but_the_sender_are_asked_at_once_and_the_first_2xx_wins() {
    let servers = servers(3);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked: Vec<_> = servers.iter().map(|&server| bench.one(server, "MESSAGE")).collect();
    bench.nothing_more();
    assert_eq!(uri(&asked[0]), "sip:bob@a.test");
    // A 404 or 480 does not end it.
    bench.receive(servers[0], &answer(&asked[0], 404));
    bench.receive(servers[1], &answer(&asked[1], 480));
    bench.nothing_more();
    bench.receive(servers[2], &answer(&asked[2], 200));
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn nobody_else_is_told_of_a_2xx_that_comes_second() {
    let servers = servers(2);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    for &server in &servers {
        let asked = bench.one(server, "MESSAGE");
        bench.receive(server, &answer(&asked, 200));
    }
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn with_nobody_left_it_is_404_if_all_say_so_and_480_else() {
    let table: [(&[u16], u16); 9] = [
        (&[404, 404, 404], 404),
        (&[404, 480, 404], 480),
        (&[480, 404, 404], 480),
        (&[404, 403, 404], 403),
        (&[404, 486, 480], 486),
        (&[404, 500, 404], 404),
        (&[404, 407, 404], 407),
        (&[404, 603, 404], 603),
        (&[404, 482, 404], 404),
    ];
    for (answers, expected) in table {
        for method in ["MESSAGE", "INVITE", "SUBSCRIBE"] {
            let servers = servers(3);
            let mut bench = bench(&servers);
            bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
            for (&server, &status) in servers.iter().zip(answers) {
                if let Some(asked) = bench.take(server).first() {
                    bench.receive(server, &answer(asked, status));
                }
            }
            assert_eq!(bench.kinds(A()), [expected.to_string()], "{method} {answers:?}");
        }
    }
}

#[test]
fn nobody_to_ask_is_480_for_the_users_of_accounts_and_404_for_others() {
    let everybody = Bench::new();
    let carol_alone = Bench::with(|settings| {
        let mut accounts = settings.accounts.list().to_vec();
        accounts[0].scope = Scope::parse(&["alice@a.test"]).unwrap();
        settings.accounts = Arc::new(Accounts::new(accounts));
    });
    for (mut bench, bob) in [(everybody, "480"), (carol_alone, "404")] {
        bench.log_on(A(), UCS);
        for (uri, expected) in [("sip:bob@a.test", bob), ("sip:c%61rol@A.test", "480")] {
            bench.receive(A(), &request("MESSAGE", uri, A(), uri));
            bench.one(A(), expected);
        }
    }
}

#[test]
fn a_silent_server_makes_it_480_after_a_while() {
    let servers = servers(3);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    for &server in &servers[..2] {
        let asked = bench.one(server, "MESSAGE");
        bench.receive(server, &answer(&asked, 404));
    }
    bench.pass_millis(15_990);
    assert_eq!(bench.kinds(A()), ["100"]);
    bench.pass_millis(20);
    bench.one(A(), "480");
    // The Registrar hears of the silent datagram server.
    assert_eq!(bench.failed_flows, [servers[2].0]);
}

#[test]
fn a_server_that_has_said_it_is_at_work_is_waited_for() {
    let servers = servers(3);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    let asked: Vec<_> = servers.iter().map(|&server| bench.one(server, "MESSAGE")).collect();
    bench.receive(servers[0], &answer(&asked[0], 404));
    bench.receive(servers[1], &answer(&asked[1], 100));
    bench.pass_millis(20_000);
    assert_eq!(bench.kinds(A()), ["100"]);
    // With its 404 patience with the silent one is over, too.
    bench.receive(servers[1], &answer(&asked[1], 404));
    bench.one(A(), "480");
}

/// Of what it has said over UDP the ACK, or what has gone up, may have been lost.
#[test]
fn who_logs_off_after_the_final_response_may_repeat_it() {
    for (status, to_server, to_client) in [(404, vec!["ACK"], vec![]), (200, vec![], vec!["200"])] {
        let servers = [Peer::udp(6000), Peer::udp(6002)];
        let mut bench = bench(&servers);
        bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
        let asked = bench.one(servers[0], "INVITE");
        for is_logged_on in [true, false] {
            bench.receive(servers[0], &answer(&asked, status));
            assert_eq!(bench.kinds(servers[0]), to_server, "{status} {is_logged_on}");
            assert_eq!(bench.kinds(A()), to_client, "{status} {is_logged_on}");
            bench.log_off(servers[0]);
        }
    }
}

#[test]
fn silence_alone_is_answered_by_silence() {
    let servers = servers(2);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    bench.pass_millis(60_000);
    assert_eq!(bench.kinds(A()), ["100"]);
    assert_eq!(bench.failed_flows, [servers[0].0]);
}

#[test]
fn a_server_that_cannot_be_reached_or_logs_off_makes_it_480() {
    let servers = servers(4);
    let mut bench = bench(&servers);
    bench.cut_off(servers[0].0.transport, servers[0].0.remote);
    bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "c"));
    assert_eq!(bench.failed_flows, [servers[0].0]);
    let asked = bench.one(servers[2], "MESSAGE");
    bench.receive(servers[2], &answer(&asked, 404));
    bench.one(servers[1], "MESSAGE");
    bench.one(servers[3], "MESSAGE");
    bench.close(servers[1]);
    bench.nothing_more();
    bench.close(servers[3]);
    bench.one(A(), "480");
    bench.nothing_more();
}

#[test]
fn a_call_does_not_wait_for_a_server_that_has_gone_before_it_rang() {
    for (provisional, ends_at_once) in [(0, true), (100, true), (180, false)] {
        let servers = [Peer::udp(6000), Peer::tcp(6001)];
        let mut bench = bench(&servers);
        bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
        let asked = servers.map(|server| bench.one(server, "INVITE"));
        if provisional > 0 {
            bench.receive(servers[1], &answer(&asked[1], provisional));
        }
        bench.receive(servers[0], &answer(&asked[0], 404));
        bench.take(A());
        bench.close(servers[1]);
        let expected: &[&str] = if ends_at_once { &["480"] } else { &[] };
        assert_eq!(bench.kinds(A()), expected, "{provisional}");
        if !ends_at_once {
            // It may come back and answer (§18.2.2).
            bench.receive(Peer::tcp(6009), &answer(&asked[1], 200));
            bench.one(A(), "200");
        }
    }
}

#[test]
fn a_call_ends_in_480_if_some_do_not_have_the_user_and_in_408_if_nobody_speaks() {
    for (is_refused, expected) in [(true, "480"), (false, "408")] {
        let servers = servers(2);
        let mut bench = bench(&servers);
        bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "c"));
        let asked = bench.one(servers[0], "INVITE");
        if is_refused {
            bench.receive(servers[0], &answer(&asked, 404));
        }
        bench.pass_millis(32_010);
        let outcome = bench.kinds(A());
        assert_eq!(outcome.first().map(String::as_str), Some("100"));
        assert_eq!(outcome.get(1).map(String::as_str), Some(expected));
    }
}

#[test]
fn the_server_that_has_answered_is_asked_first_next_time() {
    for method in ["MESSAGE", "INVITE", "SUBSCRIBE"] {
        let servers = servers(3);
        let mut bench = bench(&servers);
        bench.receive(A(), &request("MESSAGE", "sip:bob@a.test", A(), "one"));
        for (&server, status) in servers.iter().zip([404, 404, 200]) {
            let asked = bench.one(server, "MESSAGE");
            bench.receive(server, &answer(&asked, status));
        }
        bench.one(A(), "200");
        // It alone, as long as it answers.
        bench.receive(A(), &request(method, "sip:%62ob@A.test", A(), "two"));
        let asked = bench.one(servers[2], method);
        bench.nothing_more();
        bench.receive(servers[2], &answer(&asked, 200));
        bench.one(A(), "200");
        // Then all others.
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "three"));
        let asked = bench.one(servers[2], method);
        bench.receive(servers[2], &answer(&asked, 404));
        bench.take(servers[2]);
        let asked = bench.one(servers[0], method);
        bench.receive(servers[0], &answer(&asked, 200));
        bench.take(servers[1]);
        bench.one(A(), "200");
    }
}

#[test]
fn a_learned_server_that_is_silent_is_not_waited_for_long() {
    let servers = servers(2);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("INVITE", "sip:bob@a.test", A(), "one"));
    for (&server, status) in servers.iter().zip([404, 200]) {
        let asked = bench.one(server, "INVITE");
        bench.receive(server, &answer(&asked, status));
        bench.take(server);
    }
    bench.one(A(), "200");
    for method in ["MESSAGE", "INVITE"] {
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), method));
        bench.one(servers[1], method);
        bench.pass_millis(1_990);
        bench.nothing_sent_to(servers[0]);
        bench.pass_millis(20);
        let asked = bench.one(servers[0], method);
        bench.receive(servers[0], &answer(&asked, 200));
        bench.take(A());
        // It has answered in the meantime: the next time it is first.
        bench.receive(A(), &request("OPTIONS", "sip:bob@a.test", A(), method));
        let asked = bench.one(servers[0], "OPTIONS");
        bench.receive(servers[0], &answer(&asked, 404));
        let asked = bench.one(servers[1], "OPTIONS");
        bench.receive(servers[1], &answer(&asked, 200));
        bench.take(A());
    }
}

#[test]
fn a_subscribe_is_tried_at_one_server_after_the_other() {
    let servers = servers(3);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("SUBSCRIBE", "sip:bob@a.test", A(), "c"));
    for (n, &server) in servers.iter().enumerate() {
        let asked = bench.one(server, "SUBSCRIBE");
        bench.nothing_more();
        bench.receive(server, &answer(&asked, if n < 2 { 404 } else { 200 }));
    }
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn a_subscribe_is_not_held_up_by_a_silent_server() {
    let servers = servers(3);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("SUBSCRIBE", "sip:bob@a.test", A(), "c"));
    bench.one(servers[0], "SUBSCRIBE");
    bench.pass_millis(1_990);
    bench.nothing_sent_to(servers[1]);
    bench.pass_millis(20);
    let asked = bench.one(servers[1], "SUBSCRIBE");
    bench.nothing_sent_to(servers[2]);
    bench.receive(servers[1], &answer(&asked, 404));
    // The first is still silent: nobody waits for it.
    bench.pass_millis(2_010);
    let asked = bench.one(servers[2], "SUBSCRIBE");
    bench.receive(servers[2], &answer(&asked, 200));
    assert_eq!(bench.kinds(A()).last().unwrap(), "200");
}

#[test]
fn a_subscribe_that_a_server_is_working_on_goes_to_no_other() {
    let servers = servers(2);
    let mut bench = bench(&servers);
    bench.receive(A(), &request("SUBSCRIBE", "sip:bob@a.test", A(), "c"));
    let asked = bench.one(servers[0], "SUBSCRIBE");
    bench.receive(servers[0], &answer(&asked, 100));
    bench.pass_millis(20_000);
    bench.nothing_sent_to(servers[1]);
    bench.receive(servers[0], &answer(&asked, 200));
    assert_eq!(bench.kinds(A()), ["100", "200"]);
}

#[test]
fn fifty_servers_are_all_asked_before_the_client_gives_up() {
    for (method, live) in [("MESSAGE", 49), ("SUBSCRIBE", 49), ("SUBSCRIBE", 0), ("INVITE", 17)] {
        let servers = servers(50);
        let mut bench = bench(&servers);
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        let mut waited = 0;
        let asked = loop {
            match bench.take(servers[live]).pop() {
                Some(asked) => break asked,
                None => bench.pass_millis(100),
            }
            waited += 100;
            assert!(waited < 16_000);
        };
        bench.receive(servers[live], &answer(&asked, 200));
        assert_eq!(bench.kinds(A()).last().unwrap(), "200", "{method}");
        bench.pass_millis(40_000);
        let mut later = bench.take(A());
        later.retain(|text| kind(text) != "100");
        assert_eq!(later, Vec::<String>::new());
    }
}

#[test]
fn fifty_servers_of_which_one_is_silent_end_in_480_in_time() {
    for method in ["MESSAGE", "SUBSCRIBE"] {
        let servers = servers(50);
        let mut bench = bench(&servers);
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        for _ in 0..320 {
            for &server in &servers[1..] {
                for asked in bench.take(server) {
                    bench.receive(server, &answer(&asked, 404));
                }
            }
            bench.pass_millis(100);
        }
        assert_eq!(bench.kinds(A()), ["100", "480"], "{method}");
    }
}
