//! Another organisation that runs Kamailio: found by its SRV record and joined by mutual TLS, with real clients at
//! both ends.

use std::net::SocketAddr;

use crate::clients::{Baresip, Client, Linphone, Subscriber, converse};
use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Names};
use crate::common::dns::NameServer;
use crate::common::proxy::{Proxy, Settings};
use crate::common::run;
use crate::common::scratch::{Directory, free_port, loopback};
use crate::kamailio::Kamailio;
use crate::real_clients::{REGISTER_LIMIT, TEST_LIMIT, protocol};
use crate::uc_server::{LogOn, Plan, Transport, UcServer};

const OURS: &str = "a.test";
const THEIRS: &str = "b.test";
const ALICE: &str = "sip:alice@a.test";
const BOB: &str = "sip:bob@b.test";
const ACCOUNT: (&str, &str) = ("berlin", "secret of berlin");

#[test]
fn linphone_here_and_baresip_at_kamailio() {
    run(TEST_LIMIT, across::<Linphone, Baresip>(Transport::Tcp, LogOn::Server));
}

#[test]
fn baresip_here_and_linphone_at_kamailio() {
    run(TEST_LIMIT, across::<Baresip, Linphone>(Transport::Udp, LogOn::Users));
}

#[test]
fn baresip_here_and_baresip_at_kamailio() {
    run(TEST_LIMIT, across::<Baresip, Baresip>(Transport::Tcp, LogOn::Users));
}

#[test]
fn kamailio_is_refused_what_it_may_not_send() {
    run(TEST_LIMIT, async {
        let organisations = Organisations::new(Transport::Tcp).await;
        let _server = organisations.uc_server(Transport::Tcp, LogOn::Server).await;
        let mut agent = Agent::udp(loopback(), organisations.kamailio.unchecked()).await;
        for (from, to, why) in [
            ("sip:carol@c.test", ALICE, "the certificate does not prove the domain"),
            (BOB, "sip:carol@c.test", "from outside to outside"),
            ("sip:bob@a.test", ALICE, "our own domain from outside"),
        ] {
            let request = agent.message(from, to, "let me in");
            let response = agent.exchange(&request).await;
            assert_eq!(response.status(), 403, "{why}:\n{response}");
        }
        // What it may send comes as far as the UC server, which does not know the user.
        let request = agent.message(BOB, ALICE, "let me in");
        assert_eq!(agent.exchange(&request).await.status(), 404);
    });
}

/// MESSAGE, presence and calls, each both ways, between a user here and one of Kamailio's.
async fn across<A: Client, B: Client>(transport: Transport, log_on: LogOn) {
    let organisations = Organisations::new(transport).await;
    let Organisations { proxy, names, kamailio, .. } = &organisations;
    let berlin = organisations.uc_server(transport, log_on).await;
    let mut alice: A = organisations.client("alice", OURS, BOB, (transport, berlin.ports().at(transport)));
    berlin.registers("alice", REGISTER_LIMIT).await;
    // Kamailio holds no REGISTER back: who registers there subscribes at once, and must find the other one.
    let mut bob: B = organisations.client("bob", THEIRS, ALICE, (Transport::Udp, kamailio.clients()));
    kamailio.registers("bob", REGISTER_LIMIT).await;
    berlin.confirm_registrations();

    converse((&mut alice, ALICE), (&mut bob, BOB)).await;
    assert!(names.count("_sipfederationtls._tcp.b.test", "SRV") > 0, "the SRV record was not asked for");
    assert!(!proxy.log().contains("panicked"), "an actor of the proxy has panicked");
}

/// The proxy with what surrounds it here, the name server, and the others' Kamailio.
struct Organisations {
    proxy: Proxy,
    kamailio: Kamailio,
    names: NameServer,
    authority: Authority,
    directory: Directory,
}

impl Organisations {
    async fn new(transport: Transport) -> Self {
        let (directory, authority) = (Directory::new("federation"), Authority::new("interoperability tests"));
        directory.write("authority.pem", authority.pem());
        let edge = SocketAddr::new(loopback(), 5061);
        let kamailio = Kamailio::start(THEIRS, &authority, edge, OURS).await;
        let records = format!(
            "_sipfederationtls._tcp.a.test 60 SRV 0 0 {} sip.a.test\nsip.a.test 60 A {}\n\
             _sipfederationtls._tcp.b.test 60 SRV 0 0 {} sip.b.test\nsip.b.test 60 A {}\n",
            edge.port(),
            edge.ip(),
            kamailio.federation().port(),
            kamailio.federation().ip()
        );
        let names = NameServer::start(loopback(), &records).await;
        let identity = authority.issue(&Names {
            common_name: OURS,
            hosts: vec!["sip.a.test".to_owned(), OURS.to_owned()],
            ..Names::default()
        });
        let proxy = Settings::new(OURS)
            .usual_timers()
            .account(ACCOUNT.0, ACCOUNT.1)
            .certificate(&identity, &authority)
            .listen(protocol(transport))
            .key("open_federation", "enabled", "true")
            .key("open_federation", "bind_to_ip_address", &format!("\"{}\"", edge.ip()))
            .key("open_federation", "port", &edge.port().to_string())
            .key("dns", "name_servers", &format!("[\"{}\"]", names.address()))
            .start()
            .await;
        Self { proxy, kamailio, names, authority, directory }
    }

    async fn uc_server(&self, transport: Transport, log_on: LogOn) -> UcServer {
        let ip = loopback();
        let identity = self.authority.server(&[&ip.to_string()]);
        UcServer::start(Plan {
            ip,
            domain: OURS,
            account: ACCOUNT.0,
            password: ACCOUNT.1,
            log_on,
            proxy: (transport, self.proxy.at(protocol(transport))),
            tls: (self.authority.server_config(&identity, false), self.authority.client_config(None)),
        })
        .await
    }

    fn client<C: Client>(&self, user: &str, domain: &str, buddy: &str, server: (Transport, SocketAddr)) -> C {
        let ip = loopback();
        C::start(&Subscriber {
            user,
            domain,
            local: SocketAddr::new(ip, free_port(ip)),
            server: server.1,
            transport: server.0,
            buddy,
            authority: &self.directory.path().join("authority.pem"),
            directory: self.directory.path(),
        })
    }
}
