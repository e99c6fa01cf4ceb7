//! Reload: the configuration is read again while the proxy works, section by section, and nobody else is disturbed.

mod accounts;
mod certificates;
mod federation;
pub(crate) mod hanging;
mod interfaces;
mod keys;
mod limits;
mod operation;
mod registrar;
mod routes;
mod sip;
mod whole;

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::proxy::Proxy;
use crate::support::{Site, uri};

/// A row of a key, to be found and replaced.
fn interface(address: SocketAddr, protocol: &str) -> String {
    format!(
        "\n[[lan.network_interface]]\nip_address = \"{}\"\nport = {}\nprotocol = \"{protocol}\"\n",
        address.ip(),
        address.port()
    )
}

/// A static route by TCP whose requests are believed.
fn route(domain: &str, server: SocketAddr) -> String {
    route_by("tcp", domain, server, "trusted = true\n")
}

/// A static route by this protocol, with further rows.
fn route_by(protocol: &str, domain: &str, server: SocketAddr, rows: &str) -> String {
    format!(
        "\n[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{}\"\nport = {}\n\
         transport_protocol = \"{protocol}\"\n{rows}",
        server.ip(),
        server.port()
    )
}

/// The status of the first answer to a MESSAGE for somebody at `domain`.
async fn status_of_message(agent: &mut Agent, to: &str) -> u16 {
    let message = agent.message(&uri("alice"), to, "hello");
    agent.exchange(&message).await.status()
}

/// Waits until the log says for the so many-th time that somebody listens there.
async fn listens(site: &Site, protocol: &str, at: SocketAddr, times: usize) {
    is_logged(
        &site.proxy,
        &[" listening ", &format!("protocol={protocol}"), &format!("address={at} ")],
        times,
    )
    .await;
}

/// The same, whatever the protocol is.
async fn listens_anew(proxy: &Proxy, at: SocketAddr, times: usize) {
    is_logged(proxy, &[" listening ", &format!("address={at} ")], times).await;
}

async fn is_logged(proxy: &Proxy, parts: &[&str], times: usize) {
    let is_it = |line: &&str| parts.iter().all(|part| line.contains(part));
    while proxy.log().lines().filter(is_it).count() < times {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
