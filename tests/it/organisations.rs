//! Other organisations: what they publish in DNS, their servers, and a proxy that federates with them.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Identity, Names};
use crate::common::dns::NameServer;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::Sip;
use crate::support::{next_within, uri};

/// What all organisations of a test have in common.
pub(crate) struct Abroad {
    pub(crate) authority: Authority,
    pub(crate) names: NameServer,
}

/// The organisation whose proxy is tested: UC servers over UDP and TCP need no password, and open federation has an
/// address of its own.
pub(crate) struct Home {
    pub(crate) proxy: Proxy,
    pub(crate) border: SocketAddr,
}

impl Abroad {
    pub(crate) async fn new() -> Self {
        Self { authority: Authority::new("everybody's"), names: NameServer::start(loopback(), "").await }
    }

    /// A certificate with these names.
    pub(crate) fn identity(&self, hosts: &[&str]) -> Identity {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        self.authority.issue(&Names { common_name: "a server", hosts, ..Names::default() })
    }

    /// TLS of a server that shows such a certificate and demands one.
    pub(crate) fn tls(&self, hosts: &[&str]) -> Arc<ServerConfig> {
        self.authority.server_config(&self.identity(hosts), true)
    }

    /// A server on an address of its own.
    pub(crate) async fn server(&self, hosts: &[&str]) -> Port {
        Port::tls(loopback(), self.tls(hosts)).await
    }

    /// A server of `domain`, called `sip.DOMAIN`, which the domain publishes.
    pub(crate) async fn published(&self, domain: &str) -> Port {
        let host = format!("sip.{domain}");
        let port = self.server(&[&host]).await;
        self.publish(domain, 10, &host, port.local());
        port
    }

    /// `domain` says that it has a server with this name and address.
    pub(crate) fn publish(&self, domain: &str, priority: u16, host: &str, at: SocketAddr) {
        let (ip, port) = (at.ip(), at.port());
        self.names.add(&format!(
            "_sipfederationtls._tcp.{domain} 60 SRV {priority} 1 {port} {host}\n{host} 60 A {ip}"
        ));
    }

    /// Somebody who connects to the border with such a certificate.
    pub(crate) async fn visitor(&self, home: &Home, hosts: &[&str]) -> Agent {
        let identity = self.identity(hosts);
        Agent::tls(loopback(), home.border, self.authority.client_config(Some(&identity))).await
    }

    /// Starts the proxy.
    pub(crate) async fn home(&self, settings: Settings) -> Home {
        let ip = loopback();
        let border = SocketAddr::new(ip, free_port(ip));
        let identity = self.identity(&["sip.example.org", &ip.to_string()]);
        let settings = settings
            .listen(Protocol::Udp)
            .certificate(&identity, &self.authority)
            .key("dns", "name_servers", &format!("[\"{}\"]", self.names.address()))
            .key("open_federation", "enabled", "true")
            .key("open_federation", "bind_to_ip_address", &format!("\"{ip}\""))
            .key("open_federation", "port", &border.port().to_string());
        Home { proxy: settings.start().await, border }
    }
}

impl Home {
    /// A UC server over UDP.
    pub(crate) async fn server(&self) -> Agent {
        Agent::udp(self.proxy.ip(), self.proxy.at(Protocol::Udp)).await
    }
}

/// A MESSAGE of one of our users to somebody of another domain.
pub(crate) fn message_to(agent: &Agent, domain: &str) -> Sip {
    agent.message(&uri("alice"), &format!("sip:bob@{domain}"), "hello")
}

/// Sends it, has the domain's server accept a connection and answer, and gives what came there, and the connection.
pub(crate) async fn delivered(agent: &mut Agent, request: &Sip, port: &Port) -> (Sip, Agent) {
    agent.send(request).await;
    let mut peer = port.accept().await;
    let arrived = peer.receive_request(request.method()).await;
    peer.answer(&arrived, 200).await;
    agent.receive_response(200).await;
    (arrived, peer)
}

/// Checks that nobody connects to `port` for a while.
pub(crate) async fn nobody_connects(port: &Port) {
    let connected = tokio::time::timeout(crate::support::SILENCE, port.accept()).await;
    assert!(connected.is_err(), "somebody connects to {}", port.local());
}

/// A table of a static route that is trusted.
pub(crate) fn static_route(domain: &str, server: &str, port: u16, protocol: &str) -> String {
    format!(
        "\n[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{server}\"\nport = {port}\n\
         transport_protocol = \"{protocol}\"\ntrusted = true\n"
    )
}

/// Accepts one connection and answers all that comes by it with 200; each request is told to `count`.
pub(crate) async fn answer_all(port: Port, count: impl Fn(&Sip)) {
    let patience = std::time::Duration::from_secs(4);
    let mut agent = loop {
        if let Ok(agent) = tokio::time::timeout(patience, port.accept()).await {
            break agent;
        }
    };
    loop {
        if let Some(request) = next_within(&mut agent, patience).await {
            count(&request);
            agent.answer(&request, 200).await;
        }
    }
}
