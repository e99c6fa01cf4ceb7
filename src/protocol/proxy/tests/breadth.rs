//! Max-Breadth: how many branches may be at work at one time (RFC 5393 §5).

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer, request, value, with};

const A: fn() -> Peer = || Peer::udp(5070);

/// A MESSAGE to bob that brings this row.
fn message(row: Option<&str>) -> String {
    let text = request("MESSAGE", "sip:bob@a.test", A(), "c");
    row.map_or_else(|| text.clone(), |row| with(&text, row))
}

/// As many bindings of bob's with equal preference.
fn bindings(count: u16) -> (Bench, Vec<Peer>) {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers: Vec<_> = (0..count).map(|n| Peer::tcp(6000 + n)).collect();
    peers.iter().for_each(|&peer| bench.bind("bob", peer, 1000));
    (bench, peers)
}

/// As many UC servers that are asked for bob.
fn servers(count: u16) -> (Bench, Vec<Peer>) {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers: Vec<_> = (0..count).map(|n| Peer::tcp(6000 + n)).collect();
    bench.log_on_all(&peers);
    (bench, peers)
}

/// Those that have been asked since the last call, with the request and its Max-Breadth.
fn asked(bench: &mut Bench, peers: &[Peer]) -> Vec<(Peer, String, u32)> {
    let texts = peers.iter().flat_map(|&peer| bench.take(peer).into_iter().map(move |text| (peer, text)));
    texts
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(peer, text)| {
            let breadth = value(&text, "Max-Breadth").parse().unwrap();
            (peer, text, breadth)
        })
        .collect()
}

fn shares(asked: &[(Peer, String, u32)]) -> Vec<u32> {
    asked.iter().map(|(.., breadth)| *breadth).collect()
}

#[test]
fn what_may_be_at_work_is_divided_among_the_branches_and_never_grows() {
    let table: [(Option<&str>, u16, &[u32]); 9] = [
        (None, 1, &[60]),
        (None, 2, &[30, 30]),
        (None, 7, &[9, 9, 9, 9, 8, 8, 8]),
        (Some("Max-Breadth: 5"), 1, &[5]),
        (Some("Max-Breadth: 5"), 2, &[3, 2]),
        (Some("Max-Breadth: 1"), 1, &[1]),
        (Some("Max-Breadth: 61"), 1, &[60]),
        (Some("Max-Breadth: 99999999999"), 3, &[20, 20, 20]),
        (Some("max-breadth: 4"), 4, &[1, 1, 1, 1]),
    ];
    for (row, count, expected) in table {
        let (mut bench, peers) = bindings(count);
        bench.receive(A(), &message(row));
        let asked = asked(&mut bench, &peers);
        assert_eq!(shares(&asked), expected, "{row:?}");
        for (_, text, _) in &asked {
            assert_eq!(text.to_ascii_lowercase().matches("max-breadth").count(), 1, "{text}");
        }
        bench.receive(asked[0].0, &answer(&asked[0].1, 200));
        bench.one(A(), "200");
    }
}

#[test]
fn targets_beyond_it_have_their_turn_as_others_end() {
    let (mut bench, peers) = bindings(4);
    bench.receive(A(), &message(Some("Max-Breadth: 2")));
    let first = asked(&mut bench, &peers);
    assert_eq!(shares(&first), [1, 1]);
    bench.receive(first[1].0, &answer(&first[1].1, 486));
    let third = asked(&mut bench, &peers);
    assert_eq!(shares(&third), [1]);
    bench.receive(third[0].0, &answer(&third[0].1, 404));
    let fourth = asked(&mut bench, &peers);
    assert_eq!(shares(&fourth), [1]);
    bench.receive(fourth[0].0, &answer(&fourth[0].1, 480));
    bench.nothing_more();
    bench.receive(first[0].0, &answer(&first[0].1, 200));
    bench.one(A(), "200");
    bench.nothing_more();
}

#[test]
fn one_branch_at_a_time_is_a_serial_fork() {
    let (mut bench, peers) = bindings(3);
    bench.receive(A(), &message(Some("Max-Breadth: 1")));
    for n in 0..3 {
        let asked = asked(&mut bench, &peers);
        assert_eq!(shares(&asked), [1]);
        bench.receive(asked[0].0, &answer(&asked[0].1, if n == 2 { 200 } else { 404 }));
    }
    bench.one(A(), "200");
    bench.nothing_more();
}

/// A bench with two bindings of bob's, one preferred to the other.
fn preferences() -> (Bench, [Peer; 2]) {
    let mut bench = Bench::new();
    bench.log_on(A(), UCS);
    let peers = [Peer::tcp(6000), Peer::tcp(6001)];
    bench.bind("bob", peers[0], 1000);
    bench.bind("bob", peers[1], 500);
    (bench, peers)
}

/// An INVITE waits for the first; of others some is kept for the second, which is asked beside a silent one.
#[test]
fn preferences_one_after_the_other_have_all_that_is_free() {
    for (method, first_share) in [("INVITE", 60), ("MESSAGE", 30)] {
        let (mut bench, peers) = preferences();
        bench.receive(A(), &request(method, "sip:bob@a.test", A(), "c"));
        let first = asked(&mut bench, &peers);
        assert_eq!(shares(&first), [first_share]);
        bench.receive(first[0].0, &answer(&first[0].1, 480));
        bench.take(first[0].0);
        let second = asked(&mut bench, &peers);
        assert_eq!(shares(&second), [60]);
        bench.receive(second[0].0, &answer(&second[0].1, 200));
        bench.one(A(), "200");
    }
}

#[test]
fn without_room_for_the_second_preference_the_first_has_nearly_all_the_time() {
    for (is_late, expected) in [(true, "200"), (false, "440")] {
        let (mut bench, peers) = preferences();
        bench.receive(A(), &message(Some("Max-Breadth: 1")));
        let first = asked(&mut bench, &peers);
        assert_eq!(shares(&first), [1]);
        bench.pass_millis(27_990);
        assert_eq!(bench.kinds(A()), ["100"]);
        if is_late {
            bench.receive(first[0].0, &answer(&first[0].1, 200));
        } else {
            bench.pass_millis(20);
        }
        bench.one(A(), expected);
        bench.nothing_more();
    }
}

#[test]
fn a_search_of_more_servers_than_it_allows_goes_on_as_they_answer() {
    let (mut bench, peers) = servers(100);
    bench.receive(A(), &message(None));
    let mut first = asked(&mut bench, &peers);
    assert_eq!(shares(&first), [1; 60]);
    let mut count = first.len();
    while let Some((peer, text, _)) = first.pop() {
        bench.receive(peer, &answer(&text, 404));
        let next = asked(&mut bench, &peers);
        count += next.len();
        first.extend(next);
    }
    assert_eq!(count, 100);
    bench.one(A(), "404");
}

#[test]
fn a_silent_server_that_takes_all_of_it_ends_the_search_with_440() {
    let (mut bench, peers) = servers(2);
    bench.receive(A(), &message(Some("Max-Breadth: 1")));
    assert_eq!(shares(&asked(&mut bench, &peers)), [1]);
    bench.pass_millis(31_000);
    bench.one(A(), "440");
    assert!(asked(&mut bench, &peers).is_empty());
}

#[test]
fn what_is_learned_is_asked_first_and_leaves_room_for_the_others() {
    let (mut bench, peers) = servers(3);
    bench.receive(A(), &message(None));
    let first = asked(&mut bench, &peers);
    bench.receive(first[0].0, &answer(&first[0].1, 200));
    bench.one(A(), "200");
    let again = message(None).replace("-c-MESSAGE", "-d-MESSAGE");
    bench.receive(A(), &again);
    let learned = asked(&mut bench, &peers);
    assert_eq!(shares(&learned), [20]);
    // It says nothing, so the others are asked as well.
    bench.pass_millis(3000);
    let others = asked(&mut bench, &peers);
    assert_eq!(shares(&others), [20, 20]);
    bench.receive(others[0].0, &answer(&others[0].1, 200));
    bench.one(A(), "200");
}

#[test]
fn what_allows_no_branch_is_refused() {
    let table = [
        ("Max-Breadth: 0", "440"),
        ("Max-Breadth: -1", "400"),
        ("Max-Breadth: x", "400"),
        ("Max-Breadth:", "400"),
    ];
    for (row, status) in table {
        let (mut bench, _) = bindings(1);
        bench.receive(A(), &message(Some(row)));
        bench.one(A(), status);
        bench.nothing_more();
    }
}
