//! linphone and baresip, each behind a UC server of its own, with the proxy between the two.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clients::{Baresip, Client, Linphone, Subscriber, converse};
use crate::common::certificates::Authority;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::run;
use crate::common::scratch::{Directory, free_port, loopback};
use crate::uc_server::{LogOn, Plan, Transport, UcServer};

const DOMAIN: &str = "example.org";
const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";
/// For a whole test: two programs start, and each of their steps waits for timers of their own.
pub(crate) const TEST_LIMIT: Duration = Duration::from_secs(150);
/// For a client to start and to register.
pub(crate) const REGISTER_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn linphone_and_baresip_over_udp() {
    run(TEST_LIMIT, between::<Linphone, Baresip>([Transport::Udp; 2], LogOn::Server));
}

#[test]
fn linphone_and_baresip_over_tcp() {
    run(TEST_LIMIT, between::<Linphone, Baresip>([Transport::Tcp; 2], LogOn::Users));
}

#[test]
fn linphone_and_baresip_over_tls() {
    run(TEST_LIMIT, between::<Linphone, Baresip>([Transport::Tls; 2], LogOn::Server));
}

#[test]
fn linphone_and_linphone_over_udp() {
    run(TEST_LIMIT, between::<Linphone, Linphone>([Transport::Udp; 2], LogOn::Users));
}

#[test]
fn linphone_and_linphone_over_tcp() {
    run(TEST_LIMIT, between::<Linphone, Linphone>([Transport::Tcp; 2], LogOn::Server));
}

#[test]
fn linphone_and_linphone_over_tls() {
    run(TEST_LIMIT, between::<Linphone, Linphone>([Transport::Tls; 2], LogOn::Users));
}

#[test]
fn baresip_and_baresip_over_tls() {
    run(TEST_LIMIT, between::<Baresip, Baresip>([Transport::Tls; 2], LogOn::Users));
}

#[test]
fn linphone_over_udp_and_baresip_over_tls() {
    run(TEST_LIMIT, between::<Linphone, Baresip>([Transport::Udp, Transport::Tls], LogOn::Server));
}

#[test]
fn baresip_over_udp_and_linphone_over_tcp() {
    run(TEST_LIMIT, between::<Baresip, Linphone>([Transport::Udp, Transport::Tcp], LogOn::Users));
}

/// MESSAGE, presence and calls, each both ways, between a user of one UC server and a user of the other. A UC server
/// speaks one transport, with its user and with the proxy.
async fn between<A: Client, B: Client>(transports: [Transport; 2], log_on: LogOn) {
    let [here, there] = transports;
    let site = Site::new().await;
    let berlin = site.uc_server(here, "berlin", "secret of berlin", log_on).await;
    let hamburg = site.uc_server(there, "hamburg", "secret of hamburg", log_on).await;
    let mut alice: A = site.client(here, "alice", BOB, &berlin);
    let mut bob: B = site.client(there, "bob", ALICE, &hamburg);
    berlin.registers("alice", REGISTER_LIMIT).await;
    hamburg.registers("bob", REGISTER_LIMIT).await;
    berlin.confirm_registrations();
    hamburg.confirm_registrations();

    converse((&mut alice, ALICE), (&mut bob, BOB)).await;
    assert!(!site.proxy.log().contains("panicked"), "an actor of the proxy has panicked");
}

/// The proxy and what its surroundings have in common.
struct Site {
    proxy: Proxy,
    authority: Authority,
    authority_file: PathBuf,
    directory: Directory,
}

impl Site {
    async fn new() -> Self {
        let (directory, authority) = (Directory::new("interop"), Authority::new("interoperability tests"));
        let authority_file = directory.write("authority.pem", authority.pem());
        let proxy = Settings::new(DOMAIN)
            .usual_timers()
            .account("berlin", "secret of berlin")
            .account("hamburg", "secret of hamburg")
            .tls(&authority)
            .listen(Protocol::Udp)
            .listen(Protocol::Tcp)
            .listen(Protocol::Tls)
            .start()
            .await;
        Self { proxy, authority, authority_file, directory }
    }

    async fn uc_server(
        &self,
        transport: Transport,
        account: &'static str,
        password: &'static str,
        log_on: LogOn,
    ) -> UcServer {
        let ip = loopback();
        let identity = self.authority.server(&[&ip.to_string()]);
        UcServer::start(Plan {
            ip,
            domain: DOMAIN,
            account,
            password,
            log_on,
            proxy: (transport, self.proxy.at(protocol(transport))),
            tls: (self.authority.server_config(&identity, false), self.authority.client_config(None)),
        })
        .await
    }

    fn client<C: Client>(&self, transport: Transport, user: &str, buddy: &str, server: &UcServer) -> C {
        let ip: IpAddr = loopback();
        C::start(&Subscriber {
            user,
            domain: DOMAIN,
            local: SocketAddr::new(ip, free_port(ip)),
            server: server.ports().at(transport),
            transport,
            buddy,
            authority: Path::new(&self.authority_file),
            directory: self.directory.path(),
        })
    }
}

pub(crate) fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
        Transport::Tls => Protocol::Tls,
    }
}
