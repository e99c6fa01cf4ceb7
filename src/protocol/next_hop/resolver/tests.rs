//! What is asked of DNS, when, and what those get who wait.

use std::net::IpAddr;

use super::*;
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::{Interface, Side};
use crate::protocol::next_hop::records::{RecordType, Records, Srv};

const SECOND: Duration = Duration::from_secs(1);
const BUDGET: Duration = Duration::from_secs(4);

struct Bench {
    resolver: Resolver<u32>,
    now: Instant,
    resolved: Vec<(Vec<u32>, Resolution)>,
    events: Vec<Event>,
    /// Look-ups that nobody has answered yet.
    open: Vec<Key>,
}

impl Bench {
    fn new() -> Self {
        let bound = "192.0.2.99:5061".parse().unwrap();
        let (id, side, transport) = (InterfaceId(0), Side::Wan, Transport::Tls);
        let interface = Interface { id, side, transport, bound, public: None };
        let interfaces = Arc::new(Interfaces::new(vec![interface], Vec::new()));
        let resolver = Resolver::new(BUDGET, interfaces, [3; 16]);
        let (resolved, events, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { resolver, now: Instant::now(), resolved, events, open }
    }

    fn drain(&mut self) {
        while let Some(output) = self.resolver.poll_output() {
            match output {
                Output::LookUp(key) => self.open.push(key),
                Output::Resolved { askers, resolution } => self.resolved.push((askers, resolution)),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn ask(&mut self, asker: u32, domain: &str) {
        self.resolver.handle_question(self.now, asker, Query::Federation(domain.into()));
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.resolver.handle_timeout(self.now);
        self.drain();
    }

    /// Answers an open look-up.
    fn answer(&mut self, key: &Key, answer: Answer, ttl: u64) {
        let index = self.open.iter().position(|open| open == key).expect("it was asked for");
        self.open.remove(index);
        self.resolver.handle_answer(self.now, key, answer, Some(SECOND * u32::try_from(ttl).unwrap()));
        self.drain();
    }

    fn answer_srv(&mut self, domain: &str, targets: &[(u16, &str)], ttl: u64) {
        let srv = |(priority, target): &(u16, &str)| Srv {
            priority: *priority,
            weight: 0,
            port: 5061,
            target: (*target).into(),
        };
        self.answer(&srv_key(domain), Ok(Records::Srv(targets.iter().map(srv).collect())), ttl);
    }

    fn answer_host(&mut self, host: &str, address: &str, ttl: u64) {
        let ip: IpAddr = address.parse().unwrap();
        self.answer(&key(host, RecordType::Aaaa), Err(Failure::NoRecord), 60);
        self.answer(&key(host, RecordType::A), Ok(Records::Addresses(vec![ip])), ttl);
    }

    /// Asks, with `h.test` at this address.
    fn learn(&mut self, asker: u32, domain: &str, ttl: u64) {
        self.ask(asker, domain);
        self.answer_srv(domain, &[(0, "h.test")], ttl);
        if !self.open.is_empty() {
            self.answer_host("h.test", "192.0.2.1", 86_400);
        }
    }

    fn last(&self) -> &(Vec<u32>, Resolution) {
        self.resolved.last().expect("an answer")
    }

    fn hosts(&self) -> Vec<String> {
        let servers = self.last().1.as_ref().expect("servers");
        servers.iter().map(|server| server.host.to_string()).collect()
    }
}

fn key(name: &str, kind: RecordType) -> Key {
    Key { name: name.into(), kind }
}

fn srv_key(domain: &str) -> Key {
    key(&format!("_sipfederationtls._tcp.{domain}"), RecordType::Srv)
}

#[test]
fn what_is_known_is_answered_at_once_for_its_ttl() {
    let mut bench = Bench::new();
    bench.learn(1, "d.test", 10);
    assert_eq!((bench.last().0.as_slice(), bench.hosts()), (&[1][..], vec!["h.test".to_owned()]));
    bench.pass(10 * SECOND - Duration::from_millis(1));
    bench.ask(2, "d.test");
    assert_eq!((bench.resolved.len(), bench.open.len()), (2, 0));
    assert_eq!(bench.resolver.poll_timeout(), None, "nobody waits");
}

#[test]
fn a_ttl_of_0_counts_as_one_second_and_a_long_one_as_a_day() {
    for (ttl, seconds) in [(0, 1), (10_000_000, 86_400)] {
        let mut bench = Bench::new();
        bench.ask(1, "d.test");
        bench.answer_srv("d.test", &[], ttl);
        bench.pass(SECOND * seconds - Duration::from_millis(1));
        bench.ask(2, "d.test");
        assert!(bench.open.is_empty());
        bench.pass(Duration::from_millis(1));
        bench.ask(3, "d.test");
        assert_eq!((bench.open.len(), bench.resolved.len()), (1, 3), "stale, and asked for anew");
    }
}

#[test]
fn stale_records_serve_while_they_are_looked_up_anew() {
    let mut bench = Bench::new();
    bench.learn(1, "d.test", 10);
    bench.pass(11 * SECOND);
    for asker in 2..5 {
        bench.ask(asker, "d.test");
        assert_eq!((bench.last().0.as_slice(), bench.hosts()), (&[asker][..], vec!["h.test".to_owned()]));
    }
    assert_eq!(bench.open, [srv_key("d.test")], "once");
    bench.answer_srv("d.test", &[(0, "new.test")], 10);
    bench.ask(5, "d.test");
    bench.answer_host("new.test", "192.0.2.2", 10);
    assert_eq!(bench.hosts(), ["new.test"]);
}

#[test]
fn stale_records_serve_while_name_servers_fail_and_for_an_hour() {
    let mut bench = Bench::new();
    bench.learn(1, "d.test", 10);
    bench.pass(11 * SECOND);
    bench.ask(2, "d.test");
    bench.answer(&srv_key("d.test"), Err(Failure::Timeout), 0);
    bench.pass(4 * SECOND);
    bench.ask(3, "d.test");
    assert_eq!(
        (bench.resolved.len(), bench.open.len()),
        (3, 0),
        "the failure is remembered, and harms nobody"
    );
    bench.pass(SECOND);
    bench.ask(4, "d.test");
    assert_eq!(bench.hosts(), ["h.test"]);
    bench.answer(&srv_key("d.test"), Err(Failure::ServerFailure), 0);
    bench.pass(3600 * SECOND);
    bench.ask(5, "d.test");
    assert_eq!(bench.resolved.len(), 4, "too old");
    bench.answer(&srv_key("d.test"), Err(Failure::ServerFailure), 0);
    assert_eq!(*bench.last(), (vec![5], Err(Unresolved::ServerFailure)));
}

#[test]
fn that_there_are_no_records_any_more_is_believed_at_once() {
    let mut bench = Bench::new();
    bench.learn(1, "d.test", 10);
    bench.pass(11 * SECOND);
    bench.ask(2, "d.test");
    bench.answer(&srv_key("d.test"), Err(Failure::NoSuchName), 10);
    bench.ask(3, "d.test");
    assert_eq!(*bench.last(), (vec![3], Err(Unresolved::NoRecord)));
}

#[test]
fn absence_is_believed_for_a_minute_at_most_and_a_failure_for_five_seconds() {
    let cases = [
        (Failure::NoRecord, 20, 20, Unresolved::NoRecord),
        (Failure::NoSuchName, 3600, 60, Unresolved::NoRecord),
        (Failure::NoRecord, 0, 1, Unresolved::NoRecord),
        (Failure::ServerFailure, 3600, 5, Unresolved::ServerFailure),
        (Failure::Timeout, 0, 5, Unresolved::Timeout),
    ];
    for (failure, ttl, seconds, cause) in cases {
        let mut bench = Bench::new();
        bench.ask(1, "d.test");
        bench.answer(&srv_key("d.test"), Err(failure), ttl);
        bench.pass(SECOND * seconds - Duration::from_millis(1));
        bench.ask(2, "d.test");
        assert_eq!(*bench.last(), (vec![2], Err(cause)), "{failure:?}");
        bench.pass(Duration::from_millis(1));
        bench.ask(3, "d.test");
        assert_eq!((bench.resolved.len(), bench.open.len()), (2, 1), "{failure:?}");
    }
}

#[test]
fn one_question_is_asked_once_and_answered_to_all() {
    let mut bench = Bench::new();
    for asker in 0..5 {
        bench.ask(asker, "d.test");
    }
    assert_eq!(bench.open.len(), 1);
    bench.answer_srv("d.test", &[(0, "h.test")], 10);
    bench.answer_host("h.test", "192.0.2.1", 10);
    assert_eq!((bench.last().0.as_slice(), bench.resolved.len()), (&[0, 1, 2, 3, 4][..], 1));
}

#[test]
fn different_questions_share_look_ups() {
    let mut bench = Bench::new();
    bench.ask(1, "d.test");
    bench.resolver.handle_question(bench.now, 2, Query::Names("d.test".into()));
    bench.drain();
    assert_eq!(bench.open.len(), 1);
    bench.answer_srv("d.test", &[(0, "h.test")], 10);
    assert_eq!(bench.last().0, [2], "names need no addresses");
    bench.answer_host("h.test", "192.0.2.1", 10);
    assert_eq!(bench.last().0, [1]);
}

#[test]
fn the_waiting_list_of_one_question_is_bounded() {
    let mut bench = Bench::new();
    for asker in 0..=u32::try_from(MAXIMUM_ASKERS).unwrap() {
        bench.ask(asker, "d.test");
    }
    assert_eq!(bench.resolved, [(vec![u32::try_from(MAXIMUM_ASKERS).unwrap()], Err(Unresolved::Overload))]);
    bench.answer_srv("d.test", &[], 10);
    assert_eq!(bench.last().0.len(), MAXIMUM_ASKERS);
    assert_eq!((bench.resolver.askers, bench.resolver.questions.len()), (0, 0));
}

#[test]
fn the_list_of_questions_is_bounded_and_what_is_known_is_still_answered() {
    let mut bench = Bench::new();
    bench.learn(0, "known.test", 10);
    for number in 0..MAXIMUM_QUESTIONS {
        bench.ask(1, &format!("d{number}.test"));
    }
    assert_eq!(bench.open.len(), MAXIMUM_QUESTIONS);
    bench.ask(2, "further.test");
    assert_eq!(*bench.last(), (vec![2], Err(Unresolved::Overload)));
    bench.ask(3, "known.test");
    assert_eq!(bench.hosts(), ["h.test"]);
    bench.pass(BUDGET);
    assert_eq!(bench.resolver.questions.len(), 0);
    assert!(bench.resolver.by_query.is_empty() && bench.resolver.deadlines.is_empty());
}

#[test]
fn the_budget_is_for_all_look_ups_of_a_question() {
    let mut bench = Bench::new();
    bench.ask(1, "d.test");
    bench.pass(3 * SECOND);
    bench.answer_srv("d.test", &[(0, "h.test")], 10);
    assert_eq!(bench.resolver.poll_timeout(), Some(bench.now + SECOND));
    bench.pass(SECOND - Duration::from_millis(1));
    assert!(bench.resolved.is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.resolved, [(vec![1], Err(Unresolved::Timeout))]);
    // What comes late is there for the next.
    bench.answer_host("h.test", "192.0.2.1", 10);
    assert_eq!(bench.resolved.len(), 1);
    bench.ask(2, "d.test");
    assert_eq!(bench.hosts(), ["h.test"]);
}

#[test]
fn servers_that_are_known_when_the_time_is_up_are_servers() {
    let mut bench = Bench::new();
    bench.ask(1, "d.test");
    bench.answer_srv("d.test", &[(0, "hangs.test"), (1, "h.test")], 10);
    bench.answer_host("h.test", "192.0.2.1", 10);
    assert!(bench.resolved.is_empty());
    bench.pass(BUDGET);
    assert_eq!(bench.hosts(), ["h.test"]);
}

#[test]
fn a_domain_whose_look_ups_hang_keeps_nobody_else_waiting() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..50).map(|number| format!("t{number}.test")).collect();
    let targets: Vec<(u16, &str)> = names.iter().map(|name| (0, name.as_str())).collect();
    for number in 0..MAXIMUM_LOOK_UPS / LOOK_UPS_OF_A_QUESTION - 1 {
        let domain = format!("bad{number}.test");
        bench.ask(0, &domain);
        let own: Vec<String> = names.iter().map(|name| format!("{number}-{name}")).collect();
        let own: Vec<(u16, &str)> = own.iter().map(|name| (0, name.as_str())).collect();
        bench.answer_srv(&domain, &own, 10);
        assert_eq!(bench.open.len(), (number + 1) * LOOK_UPS_OF_A_QUESTION, "each has its share and no more");
    }
    bench.learn(1, "good.test", 10);
    assert_eq!(bench.last().0, [1]);
    assert_eq!(bench.hosts(), ["h.test"]);
    // A domain of as many targets is found all the same where its name servers answer.
    bench.ask(2, "large.test");
    bench.answer_srv("large.test", &targets, 10);
    while let Some(open) = bench.open.iter().find(|key| key.name.starts_with('t')).cloned() {
        let address = Ok(Records::Addresses(vec!["192.0.2.1".parse().unwrap()]));
        let answer = if open.kind == RecordType::A { address } else { Err(Failure::NoRecord) };
        bench.answer(&open, answer, 10);
    }
    assert_eq!((bench.last().0.as_slice(), bench.hosts().len()), (&[2][..], 1), "all have one address");
}

#[test]
fn without_room_for_a_look_up_there_is_no_waiting() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..50).map(|number| format!("t{number}.test")).collect();
    for number in 0..MAXIMUM_LOOK_UPS / LOOK_UPS_OF_A_QUESTION {
        let domain = format!("bad{number}.test");
        bench.ask(0, &domain);
        let own: Vec<String> = names.iter().map(|name| format!("{number}-{name}")).collect();
        let own: Vec<(u16, &str)> = own.iter().map(|name| (0, name.as_str())).collect();
        bench.answer_srv(&domain, &own, 10);
    }
    bench.ask(1, "further.test");
    assert_eq!(*bench.last(), (vec![1], Err(Unresolved::Overload)));
    assert_eq!(bench.resolver.look_ups.len(), MAXIMUM_LOOK_UPS);
}

#[test]
fn the_least_recently_used_answer_makes_room() {
    let mut bench = Bench::new();
    for number in 0..=super::super::cache::MAXIMUM_ANSWERS {
        let domain = format!("d{number}.test");
        bench.ask(0, &domain);
        bench.answer(&srv_key(&domain), Err(Failure::NoRecord), 60);
    }
    bench.ask(1, "d1.test");
    assert!(bench.open.is_empty());
    bench.ask(2, "d0.test");
    assert_eq!(bench.open, [srv_key("d0.test")]);
}

#[test]
fn sick_servers_come_last_until_they_are_well() {
    let mut bench = Bench::new();
    bench.ask(1, "d.test");
    bench.answer_srv("d.test", &[(0, "a.test"), (1, "b.test")], 3600);
    bench.answer_host("a.test", "192.0.2.1", 3600);
    bench.answer_host("b.test", "192.0.2.2", 3600);
    assert_eq!(bench.hosts(), ["a.test", "b.test"]);
    let remote = "192.0.2.1:5061".parse().unwrap();
    bench.resolver.handle_outcome(bench.now, Transport::Tls, remote, Outcome::Refused);
    bench.ask(2, "d.test");
    assert_eq!(bench.hosts(), ["b.test", "a.test"]);
    bench.pass(30 * SECOND);
    bench.ask(3, "d.test");
    assert_eq!(bench.hosts(), ["a.test", "b.test"]);
    bench.resolver.handle_outcome(bench.now, Transport::Tls, remote, Outcome::Failed);
    bench.resolver.handle_outcome(bench.now, Transport::Tls, remote, Outcome::Answered);
    bench.ask(4, "d.test");
    assert_eq!(bench.hosts(), ["a.test", "b.test"]);
}

#[test]
fn servers_that_are_ourselves_are_left_out_and_told() {
    let mut bench = Bench::new();
    bench.ask(1, "d.test");
    bench.answer_srv("d.test", &[(0, "we.test"), (1, "h.test")], 10);
    bench.answer_host("we.test", "192.0.2.99", 10);
    bench.answer_host("h.test", "192.0.2.1", 10);
    assert_eq!(bench.hosts(), ["h.test"]);
    let address = "192.0.2.99:5061".parse().unwrap();
    let query = Query::Federation("d.test".into());
    assert!(bench.events.contains(&Event::LeadsToOurselves { query, address }));

    bench.ask(2, "loop.test");
    bench.answer_srv("loop.test", &[(0, "we.test")], 10);
    assert_eq!(*bench.last(), (vec![2], Err(Unresolved::Ourselves)));
    bench.resolver.set_interfaces(Arc::default());
    bench.ask(3, "loop.test");
    assert_eq!(bench.hosts(), ["we.test"], "nobody listens there any more");
}

#[test]
fn an_answer_that_nobody_has_asked_for_changes_nothing() {
    let mut bench = Bench::new();
    let forged = Ok(Records::Addresses(vec!["192.0.2.66".parse().unwrap()]));
    bench.resolver.handle_answer(bench.now, &key("h.test", RecordType::A), forged, Some(3600 * SECOND));
    bench.learn(1, "d.test", 10);
    let servers = bench.last().1.as_ref().unwrap();
    assert_eq!(servers[0].addresses[0], "192.0.2.1:5061".parse().unwrap());
}
