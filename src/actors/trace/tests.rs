use futures_util::FutureExt as _;

use super::*;
use crate::protocol::flow::ConnectionId;

fn flow(remote: &str) -> Flow {
    Flow {
        interface: InterfaceId(3),
        transport: Transport::Tls,
        local: "192.0.2.1:5061".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: Some(ConnectionId(7)),
    }
}

fn message(start_line: &str, from: &str, call_id: &str) -> Bytes {
    Bytes::from(format!(
        "{start_line}\r\nFrom: <sip:{from}>;tag=1\r\nTo: <sip:bob@b.test>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\r\n"
    ))
}

fn request(from: &str, call_id: &str) -> Bytes {
    message("INVITE sip:bob@b.test SIP/2.0", from, call_id)
}

fn criteria(change: impl FnOnce(&mut Wanted)) -> Criteria {
    let mut wanted = Wanted::default();
    change(&mut wanted);
    Criteria::new(wanted).unwrap()
}

fn user(user: &str) -> Criteria {
    criteria(|wanted| wanted.user = Some(user.to_owned()))
}

fn everything() -> Criteria {
    criteria(|wanted| wanted.all = true)
}

/// What waits for the reader.
fn waiting(watch: &mut Watch) -> Vec<Passed> {
    std::iter::from_fn(|| watch.next().now_or_never()).collect()
}

#[test]
fn nobody_watches_until_somebody_does_and_again_once_that_has_ended() {
    let trace = Arc::new(Trace::default());
    assert!(!trace.is_active());
    let (first, second) = (trace.begin(everything()).unwrap(), trace.begin(everything()).unwrap());
    assert!(trace.is_active());
    drop(first);
    assert!(trace.is_active());
    drop(second);
    assert!(!trace.is_active() && trace.running.load().is_empty());
}

#[test]
fn each_of_a_few_traces_gets_what_it_wants_and_the_octets_are_not_copied() {
    let trace = Arc::new(Trace::default());
    let mut watches: Vec<_> = ["alice", "carol", "bob", "nobody"]
        .into_iter()
        .map(|name| trace.begin(user(name)).unwrap())
        .collect();
    assert!(trace.begin(everything()).is_none());
    let octets = request("alice@a.test", "1");
    trace.show(Direction::In, &flow("192.0.2.7:5061"), &[], &octets);
    trace.show(Direction::Out, &flow("192.0.2.8:5061"), &[], &request("carol@a.test", "2"));
    let seen: Vec<Vec<_>> = watches.iter_mut().map(waiting).collect();
    let calls = |seen: &[Passed]| seen.len();
    assert_eq!(seen.iter().map(|seen| calls(seen)).collect::<Vec<_>>(), [1, 1, 2, 0]);
    let (came, went) = (&seen[2][0], &seen[2][1]);
    assert_eq!(came.octets.as_ptr(), octets.as_ptr());
    let ends = |passed: &Passed| {
        (passed.direction, passed.source.to_string(), passed.destination.to_string(), passed.interface.0)
    };
    assert_eq!(ends(came), (Direction::In, "192.0.2.7:5061".to_owned(), "192.0.2.1:5061".to_owned(), 3));
    assert_eq!(ends(went), (Direction::Out, "192.0.2.1:5061".to_owned(), "192.0.2.8:5061".to_owned(), 3));
    assert!(came.time <= went.time);
    watches.pop();
    assert!(trace.begin(everything()).is_some());
}

#[test]
fn a_call_that_was_wanted_stays_wanted_on_every_leg_and_in_every_direction() {
    let trace = Arc::new(Trace::default());
    let mut watch = trace.begin(criteria(|wanted| wanted.peer = Some("192.0.2.7".to_owned()))).unwrap();
    let elsewhere = flow("192.0.2.8:5061");
    trace.show(Direction::In, &elsewhere, &[], &request("alice@a.test", "other"));
    trace.show(Direction::In, &flow("192.0.2.7:5061"), &[], &request("alice@a.test", "call"));
    trace.show(Direction::Out, &elsewhere, &[], &request("alice@a.test", "call"));
    trace.show(Direction::In, &elsewhere, &[], &message("SIP/2.0 200 OK", "alice@a.test", "call"));
    trace.show(Direction::In, &elsewhere, &[], &message("BYE sip:x@y SIP/2.0", "bob@b.test", "call"));
    trace.show(Direction::In, &elsewhere, &[], &message("SIP/2.0 200 OK", "alice@a.test", "other"));
    // Not open yet: one of the server's addresses is that of the peer.
    let addresses = ["192.0.2.9:5061".parse().unwrap(), "192.0.2.7:5061".parse().unwrap()];
    trace.show(Direction::Out, &flow("192.0.2.9:5061"), &addresses, &request("alice@a.test", "dialled"));
    let begins: Vec<_> = waiting(&mut watch)
        .iter()
        .map(|passed| String::from_utf8_lossy(&passed.octets[..7]).into_owned())
        .collect();
    assert_eq!(begins, ["INVITE ", "INVITE ", "SIP/2.0", "BYE sip", "INVITE "]);
}

#[test]
fn what_a_slow_reader_has_no_room_for_is_counted_and_told() {
    let trace = Arc::new(Trace::default());
    let (mut slow, mut quick) = (trace.begin(everything()).unwrap(), trace.begin(everything()).unwrap());
    for number in 0..MAXIMUM_MESSAGES + 3 {
        trace.show(Direction::In, &flow("192.0.2.7:5061"), &[], &request("a@b", &number.to_string()));
        assert_eq!(waiting(&mut quick).len(), 1);
    }
    let seen = waiting(&mut slow);
    assert_eq!((seen.len(), seen[0].missed, seen[1].missed), (MAXIMUM_MESSAGES, 3, 0));
    trace.show(Direction::In, &flow("192.0.2.7:5061"), &[], &request("a@b", "again"));
    assert_eq!(waiting(&mut slow)[0].missed, 0);
}

#[test]
fn octets_that_wait_are_bounded_and_the_largest_message_has_room_alone() {
    let trace = Arc::new(Trace::default());
    let mut watch = trace.begin(everything()).unwrap();
    let large = |octets| Bytes::from(vec![b'x'; octets]);
    let show = |octets| trace.show(Direction::In, &flow("192.0.2.7:5061"), &[], &large(octets));
    show(MAXIMUM_BYTES + 1);
    show(1);
    assert_eq!(waiting(&mut watch).iter().map(|passed| passed.missed).collect::<Vec<_>>(), [1]);
    (0..3).for_each(|_| show(MAXIMUM_BYTES / 2));
    assert_eq!(waiting(&mut watch).iter().map(|passed| passed.missed).collect::<Vec<_>>(), [1, 0]);
}
