//! What the children are told by the configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use slog::Logger;

use super::interfaces;
use crate::actors::connection::ConnectionSettings;
use crate::actors::directory::{ConnectionLimits, Directory};
use crate::actors::tls::{StreamTls, TlsFault, TlsParts, TlsSettings};
use crate::config::{Config, Host, Policy, Protocol, Side, StaticRoute, TrustedCas};
use crate::diagnostics::Diagnostics;
use crate::protocol::federation::guard::Guard;
use crate::protocol::federation::shaper::Shaper;
use crate::protocol::federation::{Federation, Route};
use crate::protocol::flow::InterfaceId;
use crate::protocol::message::MessageLimits;
use crate::protocol::proxy::settings::Settings;
use crate::protocol::transaction::Timers;

/// The part of the configuration that decides about messages.
pub(super) fn settings(config: &Config, cores: usize) -> Settings {
    Settings {
        presence_domains: config.service.presence_domains.clone(),
        realm: config.service.presence_domains.first().cloned().unwrap_or_else(|| "sip-proxy".to_owned()),
        accounts: Arc::new(config.accounts.clone()),
        lan_networks: config.lan_allowed_networks.clone(),
        digest_algorithms: config.registrar.digest_algorithms.clone(),
        nonce_lifetime: config.registrar.nonce_lifetime,
        accepts_digest_without_qop: config.registrar.accept_digest_without_qop,
        accepts_digest_for_other_uri: config.registrar.accept_digest_for_other_uri,
        counts_guesses: config.registrar.failed_log_ons > 0,
        federation: federation(config),
        dns_timeout: config.dns.timeout,
        tolerated_proxy_require: config.sip.tolerated_proxy_require.clone(),
        keep_alive_timeout: promised_silence(config),
        timers: Timers::new(config.sip.t1, config.sip.t2, config.sip.t4),
        timer_c: config.sip.timer_c,
        udp_mtu: config.sip.udp_mtu,
        follow_redirections: config.sip.follow_redirections,
        maximum_transactions: (config.limits.maximum_transactions / cores).max(1),
        // Call-IDs spread over the Routers, so each of them sees its share.
        requests_per_second_per_address: config.limits.requests_per_second_per_address.div_ceil(cores as u32),
    }
}

/// TLS as `config` has it.
pub(super) fn tls(config: &Config, logs: &Diagnostics) -> Result<TlsSettings, TlsFault> {
    let parts = TlsParts {
        certificate: config.certificate.as_ref(),
        tls: &config.tls,
        routes: &config.static_routes,
        profile: config.federation.identity,
    };
    TlsSettings::new(parts, &logs.logger("tls"))
}

/// Whether TLS is the same by both, so that sessions may go on. What the system trusts may always have changed.
pub(super) fn has_same_tls(old: &Config, new: &Config) -> bool {
    fn own(config: &Config) -> Vec<(&str, Option<&TrustedCas>)> {
        let routes = config.static_routes.iter();
        routes.map(|route| (route.domain_name.as_str(), route.trusted_cas.as_ref())).collect()
    }
    let is_fixed = matches!(new.tls.trusted_cas, TrustedCas::File { .. });
    is_fixed
        && (&old.certificate, &old.tls, old.federation.identity)
            == (&new.certificate, &new.tls, new.federation.identity)
        && own(old) == own(new)
}

/// How many connections there may be.
pub(super) const fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        total: config.limits.maximum_connections,
        per_address: config.limits.maximum_connections_per_address,
    }
}

/// How long peers are told that they may be silent: a keep-alive that is late by a tenth still comes in time.
pub(super) fn promised_silence(config: &Config) -> Duration {
    config.limits.idle_timeout * 9 / 10
}

/// The part of the configuration that decides about other domains.
pub(crate) fn federation(config: &Config) -> Federation {
    let route = |route: &StaticRoute| {
        let (host, address) = match &route.access_server {
            Host::Name(name) => (Some(Arc::from(name.as_str())), None),
            Host::Address(address) => (None, Some(*address)),
        };
        Arc::new(Route {
            id: route.id,
            domain: Arc::from(route.domain_name.as_str()),
            host,
            address,
            port: route.port,
            transport: route.transport_protocol.transport(),
            is_mutual: route.transport_protocol == Protocol::Mtls,
            is_trusted: route.trusted,
            bind_address: route.bind_to_ip_address,
        })
    };
    Federation {
        is_enabled: config.federation.enabled,
        is_open: config.open_federation.enabled,
        is_closed: config.federation.policy == Policy::Closed,
        profile: config.federation.identity,
        blocked: config.federation.blocked_domains.clone(),
        allowed: config.federation.allowed_domains.clone(),
        routes: config.static_routes.iter().map(route).collect(),
        guard: Arc::new(Guard::new(config.federation_guard)),
        shaper: Arc::new(Shaper::new(config.open_federation.messages_per_second)),
    }
}

/// What the connections of an interface have in common; `address` is where it listens.
pub(crate) fn connection_settings(
    config: &Config,
    tls: Option<StreamTls>,
    interface: InterfaceId,
    address: SocketAddr,
    directory: Arc<Directory>,
    log: impl Fn(&'static str) -> Logger,
) -> ConnectionSettings {
    ConnectionSettings {
        interface,
        side: config.interface(interface).map_or(Side::Wan, |known| known.side),
        bind_address: address,
        other_family: interfaces::other_family(&config.interfaces, interface),
        transport: stream_protocol(config, interface).transport(),
        tls,
        message_limits: message_limits(config),
        handshake_timeout: config.limits.handshake_timeout,
        message_timeout: config.limits.message_timeout,
        idle_timeout: config.limits.idle_timeout,
        answer_timeout: 64 * config.sip.t1,
        directory,
        log: log("connection"),
        security: log("security"),
        failures: Arc::default(),
    }
}

/// What streams of an interface speak. A UDP interface takes TCP on its port (RFC 3261 §18.2.1).
pub(crate) fn stream_protocol(config: &Config, interface: InterfaceId) -> Protocol {
    match config.interface(interface).map(|known| known.protocol) {
        Some(Protocol::Udp) | None => Protocol::Tcp,
        Some(protocol) => protocol,
    }
}

/// Sizes past which a message is refused.
pub(crate) fn message_limits(config: &Config) -> MessageLimits {
    MessageLimits {
        message_bytes: config.limits.maximum_message_bytes,
        header_bytes: config.limits.maximum_header_bytes,
    }
}
