//! The proxy at the border: a WAN beside the LAN, open federation, and the servers of other domains.

use std::fmt::Write as _;

use rcgen::ExtendedKeyUsagePurpose as Usage;

use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Identity, Names};
use crate::common::dns::NameServer;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::scratch::loopback;
use crate::common::sip::Sip;
use crate::support::{DOMAIN, Site, open_house};

/// The name of the proxy on the WAN.
pub(crate) const OWN_NAME: &str = "sip.example.org";

/// A proxy between its LAN and the domains of others.
pub(crate) struct Border {
    pub(crate) site: Site,
    pub(crate) names: NameServer,
}

/// The server of another domain: a port where it waits, and the certificate that it shows there and as a client.
pub(crate) struct Foreign {
    pub(crate) port: Port,
    pub(crate) identity: Identity,
}

/// What a certificate for these hosts has, good for clients and servers.
pub(crate) fn named(hosts: &[&str]) -> Names<'static> {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    Names { hosts, usages: vec![Usage::ServerAuth, Usage::ClientAuth], ..Names::default() }
}

/// A table of `[[static_routes.route]]`.
pub(crate) fn route(domain: &str, protocol: &str, server: &str, port: u16, rows: &str) -> String {
    format!(
        "\n[[static_routes.route]]\ndomain_name = \"{domain}\"\ntransport_protocol = \"{protocol}\"\n\
         access_server = \"{server}\"\nport = {port}\n{rows}"
    )
}

impl Border {
    /// With open federation for any domain.
    pub(crate) async fn open() -> Self {
        Self::with(|settings, _| settings).await
    }

    /// As [`Border::open`], with settings changed.
    pub(crate) async fn with(change: impl FnOnce(Settings, &Authority) -> Settings) -> Self {
        let (authority, names) =
            (Authority::new("Authority Of Tests"), NameServer::start(loopback(), "").await);
        let settings = open_house()
            .listen(Protocol::Udp)
            .listen(Protocol::Tcp)
            .listen(Protocol::Tls)
            .listen_outside(Protocol::Mtls);
        let (lan, wan) = (settings.ip(), settings.outside_at(Protocol::Mtls));
        let own = authority.issue(&named(&[OWN_NAME, &lan.to_string(), &wan.ip().to_string()]));
        let settings = settings
            .certificate(&own, &authority)
            .key("lan", "allowed_networks", &format!("[\"{lan}/32\"]"))
            .key("dns", "name_servers", &format!("[\"{}\"]", names.address()))
            .key("open_federation", "enabled", "true")
            .key("open_federation", "bind_to_ip_address", &format!("\"{}\"", wan.ip()))
            .key("open_federation", "port", &wan.port().to_string());
        let settings = change(settings, &authority);
        Self { site: Site::start(settings, authority).await, names }
    }

    /// A UC server on the LAN, on which `user` lives.
    pub(crate) async fn server(&self, user: &str) -> Agent {
        self.site.server(Protocol::Tcp, user).await
    }

    /// The server of `domain`, called `host`, which the domain's record leads to.
    pub(crate) async fn foreign(&self, domain: &str, host: &str, names: &Names<'_>) -> Foreign {
        let identity = self.site.authority.issue(names);
        self.foreign_with(domain, host, identity).await
    }

    /// As [`Border::foreign`], with a certificate that is there.
    pub(crate) async fn foreign_with(&self, domain: &str, host: &str, identity: Identity) -> Foreign {
        let port = Port::tls(loopback(), self.site.authority.server_config(&identity, true)).await;
        self.publish(domain, host, port.local());
        Foreign { port, identity }
    }

    /// The usual: `sip.DOMAIN`, whose certificate names the domain.
    pub(crate) async fn usual(&self, domain: &str) -> Foreign {
        self.foreign(domain, &format!("sip.{domain}"), &named(&[domain])).await
    }

    /// Makes the record of `domain` lead to a server called `host`.
    pub(crate) fn publish(&self, domain: &str, host: &str, address: std::net::SocketAddr) {
        let mut records = String::new();
        writeln!(records, "_sipfederationtls._tcp.{domain} 60 SRV 0 0 {} {host}", address.port())
            .and_then(|()| writeln!(records, "{host} 60 A {}", address.ip()))
            .expect("writing to a string does not fail");
        self.names.add(&records);
    }

    /// A connection into the WAN interface, with this certificate.
    pub(crate) async fn enter(&self, identity: Option<&Identity>) -> Agent {
        let config = self.site.authority.client_config(identity);
        Agent::tls(loopback(), self.site.proxy.outside_at(Protocol::Mtls), config).await
    }
}

/// A MESSAGE from `from` to a user of ours.
pub(crate) fn message_in(agent: &Agent, from: &str, user: &str) -> Sip {
    agent.message(from, &format!("sip:{user}@{DOMAIN}"), "from abroad")
}
