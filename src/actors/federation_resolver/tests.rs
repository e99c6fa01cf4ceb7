//! The resolver against a name server: records, failures, and what it says in time.

use std::net::IpAddr;
use std::time::Duration;

use actix::{Actor, Addr};

use super::*;
use crate::actors::testing::dns::{Mood, NameServer};
use crate::actors::testing::{World, log};
use crate::protocol::flow::InterfaceId;
use crate::protocol::interface::{Interface, Side};

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// More than any answer of loopback takes, less than a test waits.
const TIMEOUT: Duration = Duration::from_secs(4);

const RECORDS: &str = "
    _sipfederationtls._tcp.d.test 60 SRV 1 0 5061 a.d.test
    _sipfederationtls._tcp.d.test 60 SRV 2 0 5062 b.d.test
    a.d.test 60 A 192.0.2.1
    a.d.test 60 AAAA 2001:db8::1
    b.d.test 60 A 192.0.2.2
    n.test 60 NAPTR 50 50 \"s\" \"SIP+D2T\" \"\" _sip._tcp.n.test
    _sip._tcp.n.test 60 SRV 0 1 5070 a.d.test
    no.test 60 A 192.0.2.3
    _sipfederationtls._tcp.off.test 60 SRV 0 0 0 .
";

/// A FederationResolver and whom it answers.
struct Setup {
    server: NameServer,
    world: World,
    resolver: Addr<FederationResolver>,
}

impl Setup {
    async fn new(timeout: Duration) -> Self {
        let server = NameServer::start(LOCAL, RECORDS).await;
        let servers = vec![server.address()];
        Self::with(server, servers, timeout)
    }

    fn with(server: NameServer, name_servers: Vec<SocketAddr>, timeout: Duration) -> Self {
        let world = World::new(1);
        let settings = Dns { name_servers, timeout };
        let directory = Arc::clone(&world.directory);
        let resolver =
            FederationResolver::new(&settings, (&[], None), Arc::default(), [5; 16], directory, log())
                .start();
        Self { server, world, resolver }
    }

    fn send(&self, slot: u32, query: Query) {
        let context = ContextId { slot, generation: 1 };
        self.resolver.do_send(Resolve { router: 0, queries: vec![(context, query)] });
    }

    async fn next(&mut self) -> Vec<(u32, Resolution)> {
        let Resolved(answers) = self.world.routers[0].resolved.next().await;
        answers.into_iter().map(|(context, resolution)| (context.slot, resolution)).collect()
    }

    async fn ask(&mut self, query: Query) -> Result<String, Unresolved> {
        self.send(7, query);
        let mut answers = self.next().await;
        let (slot, resolution) = answers.remove(0);
        assert_eq!((slot, answers.len()), (7, 0));
        resolution.map(|servers| servers.iter().map(told).collect::<Vec<_>>().join(" "))
    }

    async fn federation(&mut self, domain: &str) -> Result<String, Unresolved> {
        self.ask(Query::Federation(domain.into())).await
    }
}

fn told(server: &crate::protocol::next_hop::Server) -> String {
    let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
    format!("{}/{}", server.host, addresses.join(","))
}

fn uri(host: &str, port: Option<u16>) -> Query {
    Query::Server { host: host.into(), port, transport: None, is_secure: false }
}

const FOUND: &str = "a.d.test/[2001:db8::1]:5061,192.0.2.1:5061 b.d.test/192.0.2.2:5062";

#[actix::test]
async fn domains_are_found_and_asked_for_once() {
    let mut setup = Setup::new(TIMEOUT).await;
    for _ in 0..3 {
        assert_eq!(setup.federation("d.test").await.as_deref(), Ok(FOUND));
    }
    assert_eq!(setup.server.count("_sipfederationtls._tcp.d.test", "SRV"), 1);
    assert_eq!(setup.server.asked().len(), 5, "the record, and two families of two targets");
    assert_eq!(setup.ask(Query::Names("d.test".into())).await.as_deref(), Ok("a.d.test/ b.d.test/"));
    assert_eq!(
        setup.ask(uri("n.test", None)).await.as_deref(),
        Ok("a.d.test/[2001:db8::1]:5070,192.0.2.1:5070")
    );
    assert_eq!(setup.ask(uri("no.test", Some(9))).await.as_deref(), Ok("no.test/192.0.2.3:9"));
    assert_eq!(setup.server.count("no.test", "NAPTR"), 0);
}

#[actix::test]
async fn each_fault_of_a_domain_has_its_name() {
    let mut setup = Setup::new(TIMEOUT).await;
    setup.server.add(
        "_sipfederationtls._tcp.empty.test 60 SRV 0 0 5061 nowhere.test
         _sipfederationtls._tcp.servfail.test 60 SRV 0 0 5061 a.d.test
         _sipfederationtls._tcp.refused.test 60 SRV 0 0 5061 a.d.test
         _sipfederationtls._tcp.lame.test 60 SRV 0 0 5061 a.d.test
         x.loop.test 60 CNAME y.loop.test
         y.loop.test 60 CNAME x.loop.test",
    );
    for (domain, mood) in [("servfail", Mood::Code(2)), ("refused", Mood::Code(5)), ("lame", Mood::Lame)] {
        setup.server.set_mood(&format!("_sipfederationtls._tcp.{domain}.test"), Some(mood));
    }
    for (domain, cause) in [
        ("no.test", Unresolved::NoRecord),
        ("none.test", Unresolved::NoRecord),
        ("off.test", Unresolved::NoService),
        ("empty.test", Unresolved::NoAddress),
        ("servfail.test", Unresolved::ServerFailure),
        ("refused.test", Unresolved::ServerFailure),
        ("lame.test", Unresolved::ServerFailure),
    ] {
        assert_eq!(setup.federation(domain).await, Err(cause), "{domain}");
    }
    assert_eq!(setup.ask(uri("none.test", Some(1))).await, Err(Unresolved::NoSuchName));
    let looped = setup.ask(uri("x.loop.test", Some(1))).await;
    assert_eq!(looped, Err(Unresolved::ServerFailure));
    // None of that has harmed anybody else.
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(FOUND));
}

#[actix::test]
async fn aliases_are_followed() {
    let mut setup = Setup::new(TIMEOUT).await;
    setup.server.add(
        "www.alias.test 60 CNAME mid.alias.test
         mid.alias.test 60 CNAME b.d.test
         _sipfederationtls._tcp.alias.test 60 CNAME _sipfederationtls._tcp.d.test",
    );
    assert_eq!(setup.ask(uri("www.alias.test", Some(5))).await.as_deref(), Ok("www.alias.test/192.0.2.2:5"));
    assert_eq!(setup.federation("alias.test").await.as_deref(), Ok(FOUND));
    let others =
        |asked: &crate::actors::testing::dns::Asked| asked.kind == "SRV" && asked.name.ends_with(".d.test");
    assert!(!setup.server.asked().iter().any(others), "the server has followed them itself");
    setup.server.add("_sipfederationtls._tcp.lazy.test 60 CNAME _sipfederationtls._tcp.d.test");
    setup.server.set_mood("_sipfederationtls._tcp.lazy.test", Some(Mood::Reluctant));
    assert_eq!(setup.federation("lazy.test").await.as_deref(), Ok(FOUND));
    assert!(setup.server.asked().iter().any(others));
    assert_eq!(setup.ask(uri("localhost", Some(1))).await.as_deref(), Ok("localhost/[::1]:1,127.0.0.1:1"));
    assert_eq!(setup.server.count("localhost", "A"), 0);
}

#[actix::test]
async fn large_and_truncated_answers_come_by_tcp() {
    let mut setup = Setup::new(TIMEOUT).await;
    setup.server.set_mood("_sipfederationtls._tcp.d.test", Some(Mood::Truncates));
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(FOUND));
    for number in 0..60 {
        setup.server.add(&format!(
            "_sipfederationtls._tcp.large.test 60 SRV {number} 0 5061 t{number}.large.test
             t{number}.large.test 60 A 192.0.2.{number}"
        ));
    }
    let found = setup.federation("large.test").await.unwrap();
    assert_eq!(found.split(' ').count(), 50);
    assert!(found.starts_with("t0.large.test/192.0.2.0:5061 t1.large.test/192.0.2.1:5061 "), "{found}");
    let by_tcp: Vec<_> = setup.server.asked().into_iter().filter(|asked| asked.by_tcp).collect();
    assert!(by_tcp.iter().any(|asked| asked.name.ends_with("large.test")), "{by_tcp:?}");
}

#[actix::test]
async fn a_silent_name_server_ends_the_wait_when_the_budget_does() {
    let budget = Duration::from_millis(600);
    let mut setup = Setup::new(budget).await;
    setup.server.set_mood("_sipfederationtls._tcp.d.test", Some(Mood::Silent));
    let start = Instant::now();
    assert_eq!(setup.federation("d.test").await, Err(Unresolved::Timeout));
    assert!(start.elapsed() >= budget - Duration::from_millis(50), "{:?}", start.elapsed());
    let again = Instant::now();
    assert_eq!(setup.federation("d.test").await, Err(Unresolved::Timeout));
    assert!(again.elapsed() < budget, "the failure is remembered: {:?}", again.elapsed());
}

#[actix::test]
async fn a_slow_domain_keeps_nobody_else_waiting() {
    let mut setup = Setup::new(TIMEOUT).await;
    let slow = Mood::Late(Duration::from_millis(700));
    setup.server.add("_sipfederationtls._tcp.slow.test 60 SRV 0 0 5061 b.d.test");
    setup.server.set_mood("_sipfederationtls._tcp.slow.test", Some(slow));
    for slot in 0..3 {
        setup.send(slot, Query::Federation("slow.test".into()));
    }
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(FOUND));
    let slots: Vec<u32> = setup.next().await.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [0, 1, 2], "one question, one batch");
}

#[actix::test]
async fn changes_are_seen_after_the_ttl_and_the_old_serves_until_then() {
    let mut setup = Setup::new(TIMEOUT).await;
    setup.server.add("_sipfederationtls._tcp.moves.test 1 SRV 0 0 5061 a.d.test");
    let old = Ok("a.d.test/[2001:db8::1]:5061,192.0.2.1:5061");
    assert_eq!(setup.federation("moves.test").await.as_deref(), old);
    setup.server.replace("_sipfederationtls._tcp.moves.test 1 SRV 0 0 5061 b.d.test");
    let end = Instant::now() + crate::actors::testing::PATIENCE;
    while setup.federation("moves.test").await.as_deref() == old {
        assert!(Instant::now() < end, "it is never looked up anew");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(setup.federation("moves.test").await.as_deref(), Ok("b.d.test/192.0.2.2:5061"));
    setup.server.set_mood("_sipfederationtls._tcp.moves.test", Some(Mood::Code(2)));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..2 {
        assert_eq!(setup.federation("moves.test").await.as_deref(), Ok("b.d.test/192.0.2.2:5061"));
    }
}

#[actix::test]
async fn name_servers_that_do_not_answer_or_fail_leave_it_to_the_next() {
    let good = NameServer::start(LOCAL, RECORDS).await;
    let failing = NameServer::start(LOCAL, RECORDS).await;
    failing.set_mood("*", Some(Mood::Code(2)));
    let silent = NameServer::start(LOCAL, RECORDS).await;
    silent.set_mood("*", Some(Mood::Silent));
    let gone = NameServer::start(LOCAL, RECORDS).await.address();
    let servers = vec![silent.address(), gone, failing.address(), good.address()];
    let mut setup = Setup::with(good, servers, Duration::from_secs(8));
    assert_eq!(setup.ask(uri("no.test", Some(1))).await.as_deref(), Ok("no.test/192.0.2.3:1"));
    // The silent one is asked last from then on.
    let before = silent.asked().len();
    assert_eq!(setup.ask(uri("b.d.test", Some(1))).await.as_deref(), Ok("b.d.test/192.0.2.2:1"));
    assert_eq!(silent.asked().len(), before);
}

#[actix::test]
async fn sick_servers_come_last_and_ourselves_never() {
    let mut setup = Setup::new(TIMEOUT).await;
    let health = |remote: &str, outcome| ServerHealth {
        transport: Transport::Tls,
        remote: remote.parse().unwrap(),
        outcome,
    };
    setup.resolver.do_send(health("[2001:db8::1]:5061", Outcome::Refused));
    let v4_first = "a.d.test/192.0.2.1:5061,[2001:db8::1]:5061 b.d.test/192.0.2.2:5062";
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(v4_first));
    setup.resolver.do_send(health("192.0.2.1:5061", Outcome::Refused));
    let b_first = "b.d.test/192.0.2.2:5062 a.d.test/[2001:db8::1]:5061,192.0.2.1:5061";
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(b_first));
    setup.resolver.do_send(health("[2001:db8::1]:5061", Outcome::Answered));
    setup.resolver.do_send(health("192.0.2.1:5061", Outcome::Answered));
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok(FOUND));

    let interface = |id, bound: &str| Interface {
        id: InterfaceId(id),
        side: Side::Wan,
        transport: Transport::Tls,
        bound: bound.parse().unwrap(),
        public: None,
    };
    let ours = vec![interface(0, "[2001:db8::1]:5061"), interface(1, "192.0.2.1:5061")];
    setup.resolver.do_send(InterfacesChanged(Arc::new(Interfaces::new(ours.clone(), Vec::new()))));
    assert_eq!(setup.federation("d.test").await.as_deref(), Ok("b.d.test/192.0.2.2:5062"));
    let all = ours.into_iter().chain([interface(2, "192.0.2.2:5062")]).collect();
    setup.resolver.do_send(InterfacesChanged(Arc::new(Interfaces::new(all, Vec::new()))));
    assert_eq!(setup.federation("d.test").await, Err(Unresolved::Ourselves));
}

#[actix::test]
async fn names_that_dns_cannot_have_do_not_exist() {
    let mut setup = Setup::new(TIMEOUT).await;
    for name in ["a..b.test".to_owned(), format!("{}.test", "x".repeat(64)), "y.".repeat(130)] {
        assert_eq!(setup.ask(uri(&name, Some(1))).await, Err(Unresolved::NoSuchName), "{name}");
    }
    assert!(setup.server.asked().is_empty());
}
