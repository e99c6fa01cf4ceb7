//! A configuration as rows of keys and values, in the words of the file.

use std::collections::BTreeMap;

use super::elements::Element;
use super::value::{Value, authorities, list, quoted, time};
use crate::config::{
    Admin, Certificate, Config, Diagnostics, Dns, Durability, Federation, Limits, LogFormat, LogLevel,
    OpenFederation, Policy, PublicAddress, Registrar, Service, Sip, Stun, Tls, TlsVersion, Token,
};
use crate::protocol::federation::guard::GuardLimits;
use crate::protocol::identity::Profile;

pub(super) type Section = BTreeMap<String, Value>;

/// All that a configuration says.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) rows: Section,
    /// Elements of lists, by key path.
    pub(super) elements: BTreeMap<String, Element>,
}

impl Rows {
    pub(super) fn of(config: &Config) -> Self {
        let Config {
            file: _,
            // What is switched on or off comes or goes.
            switched_off: _,
            service,
            certificate,
            tls,
            interfaces,
            wan_public_address,
            lan_allowed_networks,
            accounts,
            federation,
            federation_guard,
            open_federation,
            static_routes,
            probe_interval,
            stun,
            dns,
            sip,
            registrar,
            limits,
            diagnostics,
            admin,
        } = config;
        let mut rows = Self::default();
        rows.service(service);
        rows.certificates(certificate.as_ref(), tls);
        interfaces.iter().for_each(|interface| rows.interface(interface));
        rows.public_address(wan_public_address.as_ref());
        rows.add("lan.allowed_networks", list(lan_allowed_networks));
        accounts.list().iter().for_each(|account| rows.account(account));
        rows.federation(federation, federation_guard, open_federation);
        static_routes.iter().for_each(|route| rows.route(route));
        rows.add("static_routes.probe_interval", time(probe_interval.unwrap_or_default()));
        rows.look_ups(stun, dns);
        rows.sip(sip);
        rows.registrar(registrar);
        rows.limits(limits);
        rows.diagnostics(diagnostics);
        rows.admin(admin.as_ref());
        rows
    }

    fn add(&mut self, key: &str, value: impl Into<Value>) {
        self.rows.insert(key.to_owned(), value.into());
    }

    fn service(&mut self, service: &Service) {
        let Service { presence_domains, state_directory, control_socket, worker_threads, drain_timeout } =
            service;
        self.add("service.presence_domains", list(presence_domains));
        self.add("service.state_directory", quoted(state_directory.display()));
        self.add("service.control_socket", quoted(control_socket.display()));
        self.add("service.worker_threads", worker_threads);
        self.add("service.drain_timeout", time(*drain_timeout));
    }

    fn certificates(&mut self, certificate: Option<&Certificate>, tls: &Tls) {
        let Tls { client_certificate, trusted_cas, revocation_lists, minimum_tls_version } = tls;
        self.certificate("", certificate);
        self.certificate("client_", client_certificate.as_ref());
        self.add("certificate.trusted_cas", authorities(trusted_cas));
        if !revocation_lists.is_empty() {
            let shown = format!("{} lists", revocation_lists.len());
            self.add("certificate.revocation_lists", Value::of(shown, revocation_lists));
        }
        let version = match minimum_tls_version {
            TlsVersion::V1_2 => "1.2",
            TlsVersion::V1_3 => "1.3",
        };
        self.add("certificate.minimum_tls_version", quoted(version));
    }

    fn certificate(&mut self, prefix: &str, certificate: Option<&Certificate>) {
        let Some(certificate) = certificate else { return };
        // What is left is read from the chain.
        let Certificate {
            file: _,
            chain,
            private_key,
            subject,
            issuer: _,
            names: _,
            not_before: _,
            not_after,
        } = certificate;
        let end = humantime::format_rfc3339_seconds(*not_after);
        self.add(
            &format!("certificate.{prefix}chain"),
            Value::of(format!("{subject}, valid until {end}"), chain),
        );
        self.add(&format!("certificate.{prefix}private_key"), Value::secret(private_key.secret_der()));
    }

    fn public_address(&mut self, public: Option<&PublicAddress>) {
        let Some(PublicAddress { ip_address, port, host_name }) = public else { return };
        let address = ip_address.map_or_else(|| "auto".to_owned(), |ip| ip.to_string());
        self.add("wan.public_address.ip_address", quoted(address));
        self.add("wan.public_address.port", port);
        self.add("wan.public_address.host_name", quoted(host_name.as_deref().unwrap_or_default()));
    }

    fn federation(&mut self, federation: &Federation, guard: &GuardLimits, open: &OpenFederation) {
        let Federation { enabled, identity, policy, blocked_domains, allowed_domains } = federation;
        self.add("federation.enabled", enabled);
        self.add(
            "federation.identity",
            quoted(match identity {
                Profile::Rfc5922 => "rfc5922",
                Profile::Federation => "federation",
            }),
        );
        self.add(
            "federation.policy",
            quoted(match policy {
                Policy::Open => "open",
                Policy::Closed => "closed",
            }),
        );
        self.add("federation.blocked_domains", list(blocked_domains));
        self.add("federation.allowed_domains", list(allowed_domains));
        let GuardLimits { window, requests, users, failures } = guard;
        self.add("federation_guard.window", time(*window));
        self.add("federation_guard.requests", requests);
        self.add("federation_guard.users", users);
        self.add("federation_guard.failures", failures);
        let OpenFederation { enabled, messages_per_second } = open;
        self.add("open_federation.enabled", enabled);
        self.add("open_federation.messages_per_second", messages_per_second);
    }

    fn look_ups(&mut self, stun: &Stun, dns: &Dns) {
        let Stun { servers, interval } = stun;
        self.add("stun.servers", list(servers));
        self.add("stun.interval", time(*interval));
        let Dns { name_servers, timeout } = dns;
        self.add("dns.name_servers", list(name_servers));
        self.add("dns.timeout", time(*timeout));
    }

    fn sip(&mut self, sip: &Sip) {
        let Sip { t1, t2, t4, timer_c, udp_mtu, follow_redirections, tolerated_proxy_require } = sip;
        for (key, value) in [("t1", t1), ("t2", t2), ("t4", t4), ("timer_c", timer_c)] {
            self.add(&format!("sip.{key}"), time(*value));
        }
        self.add("sip.udp_mtu", udp_mtu);
        self.add("sip.follow_redirections", follow_redirections);
        self.add("sip.tolerated_proxy_require", list(tolerated_proxy_require));
    }

    fn registrar(&mut self, registrar: &Registrar) {
        let Registrar {
            minimum_expires,
            default_expires,
            maximum_expires,
            maximum_contacts,
            durability,
            accept_path_without_support,
            digest_algorithms,
            nonce_lifetime,
            accept_digest_without_qop,
            accept_digest_for_other_uri,
            failed_log_ons,
            ban_time,
        } = registrar;
        self.add("registrar.minimum_expires", time(*minimum_expires));
        self.add("registrar.default_expires", time(*default_expires));
        self.add("registrar.maximum_expires", time(*maximum_expires));
        self.add("registrar.maximum_contacts", maximum_contacts);
        self.add(
            "registrar.durability",
            quoted(match durability {
                Durability::Process => "process",
                Durability::Disk => "disk",
            }),
        );
        self.add("registrar.accept_path_without_support", accept_path_without_support);
        self.add(
            "registrar.digest_algorithms",
            list(digest_algorithms.iter().map(|algorithm| algorithm.token())),
        );
        self.add("registrar.nonce_lifetime", time(*nonce_lifetime));
        self.add("registrar.accept_digest_without_qop", accept_digest_without_qop);
        self.add("registrar.accept_digest_for_other_uri", accept_digest_for_other_uri);
        self.add("registrar.failed_log_ons", failed_log_ons);
        self.add("registrar.ban_time", time(*ban_time));
    }

    fn limits(&mut self, limits: &Limits) {
        let Limits {
            maximum_message_bytes,
            maximum_header_bytes,
            maximum_connections,
            maximum_connections_per_address,
            maximum_transactions,
            handshake_timeout,
            message_timeout,
            idle_timeout,
            requests_per_second_per_address,
        } = limits;
        self.add("limits.maximum_message_bytes", maximum_message_bytes);
        self.add("limits.maximum_header_bytes", maximum_header_bytes);
        self.add("limits.maximum_connections", maximum_connections);
        self.add("limits.maximum_connections_per_address", maximum_connections_per_address);
        self.add("limits.maximum_transactions", maximum_transactions);
        self.add("limits.handshake_timeout", time(*handshake_timeout));
        self.add("limits.message_timeout", time(*message_timeout));
        self.add("limits.idle_timeout", time(*idle_timeout));
        self.add("limits.requests_per_second_per_address", requests_per_second_per_address);
    }

    fn diagnostics(&mut self, diagnostics: &Diagnostics) {
        let Diagnostics {
            log_level,
            module_log_levels,
            log_file_directory,
            maximum_log_file_size_mb,
            kept_log_files,
            delete_log_files_daily,
            format,
        } = diagnostics;
        self.add("diagnostics.log_level", quoted(level_name(*log_level)));
        for (module, level) in module_log_levels {
            self.add(&format!("diagnostics.log_level.{module}"), quoted(level_name(*level)));
        }
        let directory = log_file_directory.as_ref().map(|path| path.display().to_string());
        self.add("diagnostics.log_file_directory", quoted(directory.unwrap_or_default()));
        self.add("diagnostics.maximum_log_file_size_mb", maximum_log_file_size_mb);
        self.add("diagnostics.kept_log_files", kept_log_files);
        self.add("diagnostics.delete_log_files_daily", delete_log_files_daily);
        self.add(
            "diagnostics.format",
            quoted(match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            }),
        );
    }

    fn admin(&mut self, admin: Option<&Admin>) {
        let Some(Admin { listen, token }) = admin else { return };
        self.add("admin.listen", quoted(listen));
        if let Some(Token(token)) = token {
            self.add("admin.token_file", Value::secret(token.as_bytes()));
        }
    }
}

const fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warning => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
