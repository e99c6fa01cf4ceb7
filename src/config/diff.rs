//! What is different between two configurations, key by key, for people.
//!
//! Each configuration becomes a list of rows, and rows of the same key are compared. Every struct is taken apart without
//! `..`: a field that is new and not here does not compile. Elements of lists go by their names, so that what has only
//! moved is no difference.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{
    Admin, Certificate, Config, Diagnostics, Dns, Federation, Interface, Limits, LogFormat, LogLevel,
    OpenFederation, Policy, PublicAddress, Registrar, Service, Side, Sip, StaticRoute, Stun, SwitchedOff,
    Tls, TlsVersion, Token, TrustedCas,
};
use crate::protocol::account::{Account, AccountKind, Secret};
use crate::protocol::federation::guard::GuardLimits;
use crate::protocol::identity::Profile;

/// What stands for a value that nobody may see.
const HIDDEN: &str = "***";

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key path: `sip.t1`, `static_routes.route[partner.example].port`, `lan.network_interface[tcp 127.0.0.1:5060]`.
    pub key: String,
    /// What has become of it.
    pub kind: ChangeKind,
    /// The value before, as the file writes it; `***` of secrets.
    pub old: Option<String>,
    /// The value now.
    pub new: Option<String>,
}

/// What has become of a key or of an element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It has another value.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What `new` changes in `old`, by key. Identifiers and places of elements are no difference.
pub fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (Rows::of(old), Rows::of(new));
    let mut changes = Vec::new();
    compare(&mut changes, "", &old.rows, &new.rows);
    let keys: std::collections::BTreeSet<&String> = old.elements.keys().chain(new.elements.keys()).collect();
    for key in keys {
        match (old.elements.get(key), new.elements.get(key)) {
            (Some(old), Some(new)) => compare(&mut changes, key, &old.rows, &new.rows),
            (old, new) => {
                let said = |element: &Element| element.said.clone();
                changes.extend(change(key.clone(), old.map(said), new.map(said)));
            }
        }
    }
    changes.sort_by(|one, other| one.key.cmp(&other.key));
    changes
}

type Section = BTreeMap<String, Value>;

/// All that a configuration says.
#[derive(Default)]
struct Rows {
    rows: Section,
    /// Elements of lists, by key path.
    elements: BTreeMap<String, Element>,
}

/// An element of a list.
struct Element {
    /// In one line.
    said: String,
    rows: Section,
}

/// A value: how it is shown, and what else it must be equal in.
#[derive(PartialEq, Eq)]
struct Value {
    shown: String,
    content: Option<[u8; 32]>,
}

impl<T: Display> From<T> for Value {
    fn from(value: T) -> Self {
        Self { shown: value.to_string(), content: None }
    }
}

impl Value {
    /// One that stands for octets which are not shown.
    fn of(shown: String, octets: &[impl AsRef<[u8]>]) -> Self {
        let mut hash = Sha256::new();
        for part in octets {
            hash.update((part.as_ref().len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self { shown, content: Some(hash.finalize().into()) }
    }

    fn secret(octets: &[u8]) -> Self {
        Self::of(HIDDEN.to_owned(), &[octets])
    }
}

/// What is said of an element that may be switched off.
const fn unless_on(enabled: bool) -> &'static str {
    if enabled { "" } else { ", disabled" }
}

fn compare(changes: &mut Vec<Change>, path: &str, old: &Section, new: &Section) {
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let shown = |value: &Value| value.shown.clone();
        changes.extend(change(key, before.map(shown), after.map(shown)));
    }
}

fn change(key: String, old: Option<String>, new: Option<String>) -> Option<Change> {
    let kind = match (&old, &new) {
        (None, Some(_)) => ChangeKind::Added,
        (Some(_), Some(_)) => ChangeKind::Changed,
        (Some(_), None) => ChangeKind::Removed,
        (None, None) => return None,
    };
    Some(Change { key, kind, old, new })
}

impl Rows {
    fn of(config: &Config) -> Self {
        let Config {
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
            switched_off,
            // Where it was read from.
            file: _,
        } = config;
        let SwitchedOff { lan, static_routes: no_routes, interfaces: interfaces_off, routes: routes_off } =
            switched_off;
        let mut rows = Self::default();
        rows.service(service);
        rows.certificates(certificate.as_ref(), tls);
        rows.add("lan.enabled", !lan);
        interfaces.iter().for_each(|interface| rows.interface(true, interface));
        interfaces_off.iter().for_each(|interface| rows.interface(false, interface));
        rows.public_address(wan_public_address.as_ref());
        rows.add("lan.allowed_networks", list(lan_allowed_networks));
        accounts.list().iter().for_each(|account| rows.account(account));
        rows.federation(federation, federation_guard, open_federation);
        rows.add("static_routes.enabled", !no_routes);
        static_routes.iter().for_each(|route| rows.route(true, route));
        routes_off.iter().for_each(|route| rows.route(false, route));
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

    fn element(&mut self, key: String, said: String, rows: Vec<(&'static str, Value)>) {
        // Two interfaces with port 0 may be alike.
        let mut unique = key.clone();
        while self.elements.contains_key(&unique) {
            unique.push('\'');
        }
        let rows = rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.elements.insert(unique, Element { said, rows });
    }

    fn service(&mut self, service: &Service) {
        let Service { presence_domains, state_directory, control_socket, worker_threads } = service;
        self.add("service.presence_domains", list(presence_domains));
        self.add("service.state_directory", quoted(state_directory.display()));
        self.add("service.control_socket", quoted(control_socket.display()));
        self.add("service.worker_threads", worker_threads);
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
            chain,
            private_key,
            subject,
            issuer: _,
            names: _,
            not_before: _,
            not_after,
            file: _,
        } = certificate;
        let end = humantime::format_rfc3339_seconds(*not_after);
        self.add(
            &format!("certificate.{prefix}chain"),
            Value::of(format!("{subject}, valid until {end}"), chain),
        );
        self.add(&format!("certificate.{prefix}private_key"), Value::secret(private_key.secret_der()));
    }

    fn interface(&mut self, enabled: bool, interface: &Interface) {
        let Interface { id: _, side, ip_address, port, protocol, key } = interface;
        let said = format!("{protocol} {}", std::net::SocketAddr::new(*ip_address, *port));
        let list = key.split('[').next().unwrap_or_default();
        let facing = match side {
            Side::Lan => "LAN",
            Side::Wan => "WAN",
        };
        let rows = vec![("enabled", Value::from(enabled))];
        self.element(format!("{list}[{said}]"), format!("{said} ({facing}{})", unless_on(enabled)), rows);
    }

    fn public_address(&mut self, public: Option<&PublicAddress>) {
        let Some(PublicAddress { ip_address, port, host_name }) = public else { return };
        let address = ip_address.map_or_else(|| "auto".to_owned(), |ip| ip.to_string());
        self.add("wan.public_address.ip_address", quoted(address));
        self.add("wan.public_address.port", port);
        self.add("wan.public_address.host_name", quoted(host_name.as_deref().unwrap_or_default()));
    }

    fn account(&mut self, account: &Account) {
        let Account { user_name, secret, scope, kind } = account;
        let (list, kind) = match kind {
            AccountKind::UcServer => ("lan.account", "UC server"),
            AccountKind::Registrant => ("registrar.account", "registrant"),
        };
        let mut rows = vec![("users", Value::from(self::list(scope.patterns())))];
        rows.extend(proofs(secret));
        let key = format!("{list}[{user_name}]");
        let proof = rows[1..].iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
        let proof = if proof.is_empty() { "address".to_owned() } else { proof };
        self.element(key, format!("{kind}, proven by {proof}"), rows);
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

    fn route(&mut self, enabled: bool, route: &StaticRoute) {
        let StaticRoute {
            id: _,
            trusted,
            domain_name,
            access_server,
            port,
            transport_protocol,
            bind_to_ip_address,
            trusted_cas,
            key: _,
        } = route;
        let mut rows = vec![
            ("enabled", Value::from(enabled)),
            ("trusted", Value::from(trusted)),
            ("access_server", quoted(access_server).into()),
            ("port", port.into()),
            ("transport_protocol", quoted(transport_protocol).into()),
        ];
        rows.extend(bind_to_ip_address.map(|ip| ("bind_to_ip_address", quoted(ip).into())));
        rows.extend(trusted_cas.as_ref().map(|trusted| ("trusted_cas", authorities(trusted))));
        let said = format!("{transport_protocol} {access_server} port {port}{}", unless_on(enabled));
        self.element(format!("static_routes.route[{domain_name}]"), said, rows);
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

/// What proves an account, by key; nothing of what its address proves.
fn proofs(secret: &Secret) -> Vec<(&'static str, Value)> {
    match secret {
        Secret::Address => Vec::new(),
        Secret::Password(password) => vec![("password", Value::secret(password.as_bytes()))],
        Secret::Hashes { md5, sha256, sha512_256 } => {
            let all = [("ha1_md5", md5), ("ha1_sha256", sha256), ("ha1_sha512_256", sha512_256)];
            let given = all.into_iter().filter_map(|(key, hash)| Some((key, hash.as_ref()?)));
            given.map(|(key, hash)| (key, Value::secret(hash.as_bytes()))).collect()
        }
        Secret::Certificate(name) => vec![("certificate", quoted(name).into())],
    }
}

fn authorities(trusted: &TrustedCas) -> Value {
    match trusted {
        TrustedCas::System => quoted("system").into(),
        TrustedCas::File { path, certificates } => Value::of(quoted(path.display()), certificates),
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

fn quoted(value: impl Display) -> String {
    format!("{:?}", value.to_string())
}

fn time(duration: Duration) -> String {
    quoted(humantime::format_duration(duration))
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<_> = values.into_iter().map(quoted).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{Directory, config};

    /// Each difference in a line.
    fn told(old: &str, new: &str) -> Vec<String> {
        let line = |change: Change| {
            let [old, new] = [change.old, change.new].map(|value| value.unwrap_or_else(|| "-".to_owned()));
            format!("{} {}: {old} -> {new}", change.key, change.kind.as_str())
        };
        differences(&config(old), &config(new)).into_iter().map(line).collect()
    }

    #[test]
    fn equal_configurations_differ_in_nothing() {
        let sample = include_str!("../../etc/sip-proxy.toml");
        assert!(told(sample, sample).is_empty());
        // Two alike, and the same in another order.
        let port = "[[lan.network_interface]]\nport = 0\nprotocol = \"tcp\"\n";
        assert!(told(&[port, port].concat(), &[port, port].concat()).is_empty());
        assert_eq!(told(port, &[port, port].concat()).len(), 1);
        let account = |name: &str| format!("[[lan.account]]\nuser_name = \"{name}\"\npassword = \"p\"\n");
        assert!(
            told(&[account("a"), account("b")].concat(), &[account("b"), account("a")].concat()).is_empty()
        );
    }

    #[test]
    fn every_section_tells_what_is_different_as_the_file_writes_it() {
        let table = [
            (
                "[service]\npresence_domains = [\"a.test\"]",
                "service.presence_domains changed: [] -> [\"a.test\"]",
            ),
            ("[sip]\nt1 = \"50ms\"", "sip.t1 changed: \"500ms\" -> \"50ms\""),
            ("[sip]\nfollow_redirections = true", "sip.follow_redirections changed: false -> true"),
            ("[registrar]\nmaximum_contacts = 3", "registrar.maximum_contacts changed: 16 -> 3"),
            ("[registrar]\ndefault_expires = \"2h\"", "registrar.default_expires changed: \"1h\" -> \"2h\""),
            (
                "[registrar]\ndigest_algorithms = [\"MD5\"]",
                "registrar.digest_algorithms changed: [\"SHA-512-256\", \"SHA-256\", \"MD5\"] -> [\"MD5\"]",
            ),
            ("[limits]\nidle_timeout = \"1m\"", "limits.idle_timeout changed: \"10m\" -> \"1m\""),
            ("[dns]\nname_servers = [\"192.0.2.1\"]", "dns.name_servers changed: [] -> [\"192.0.2.1:53\"]"),
            ("[stun]\ninterval = \"1m\"", "stun.interval changed: \"10m\" -> \"1m\""),
            ("[federation]\npolicy = \"closed\"", "federation.policy changed: \"open\" -> \"closed\""),
            ("[federation_guard]\nusers = 3", "federation_guard.users changed: 1000 -> 3"),
            (
                "[open_federation]\nmessages_per_second = 3",
                "open_federation.messages_per_second changed: 20 -> 3",
            ),
            (
                "[static_routes]\nprobe_interval = \"0s\"",
                "static_routes.probe_interval changed: \"30s\" -> \"0s\"",
            ),
            (
                "[diagnostics]\nlog_level = { router = \"debug\" }",
                "diagnostics.log_level.router added: - -> \"debug\"",
            ),
            (
                "[certificate]\nminimum_tls_version = \"1.3\"",
                "certificate.minimum_tls_version changed: \"1.2\" -> \"1.3\"",
            ),
            ("[admin]\nlisten = \"127.0.0.1:0\"", "admin.listen added: - -> \"127.0.0.1:0\""),
        ];
        for (new, expected) in table {
            assert_eq!(told("", new), [expected]);
        }
        assert_eq!(told("[wan.public_address]\nenabled = true\nip_address = \"192.0.2.1\"", "").len(), 3);
    }

    #[test]
    fn elements_go_by_their_names_and_come_and_go_as_a_whole() {
        let route = |server: &str| {
            format!("[[static_routes.route]]\ndomain_name = \"b.test\"\naccess_server = \"{server}\"\n")
        };
        assert_eq!(
            told("", &route("sip.b.test")),
            ["static_routes.route[b.test] added: - -> mtls sip.b.test port 5061"]
        );
        assert_eq!(
            told(&route("192.0.2.1"), &route("sip.b.test")),
            ["static_routes.route[b.test].access_server changed: \"192.0.2.1\" -> \"sip.b.test\""]
        );
        assert_eq!(
            told("[lan]\nport = 5070", "[lan]\nport = 5071"),
            [
                "lan[tcp 127.0.0.1:5070] removed: tcp 127.0.0.1:5070 (LAN) -> -",
                "lan[tcp 127.0.0.1:5071] added: - -> tcp 127.0.0.1:5071 (LAN)"
            ]
        );
        assert_eq!(
            told("", "[[lan.account]]\nuser_name = \"a\"\npassword = \"p\""),
            ["lan.account[a] added: - -> UC server, proven by password"]
        );
    }

    #[test]
    fn no_secret_is_shown_and_each_is_compared() {
        let directory = Directory::new("diff");
        let (one, two) = (directory.write("one", "hunter2"), directory.write("two", "swordfish"));
        let account = |row: &str| format!("[[lan.account]]\nuser_name = \"a\"\n{row}\n");
        let file = |path: &str| account(&format!("password_file = {path:?}"));
        let hash = |digit: &str| account(&format!("ha1_md5 = \"{}\"", digit.repeat(32)));
        let token = |path: &str| format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = {path:?}\n");
        let table = [
            (
                account("password = \"hunter2\""),
                account("password = \"swordfish\""),
                "lan.account[a].password",
            ),
            (file(&one), file(&two), "lan.account[a].password"),
            (hash("1"), hash("2"), "lan.account[a].ha1_md5"),
            (token(&one), token(&two), "admin.token_file"),
        ];
        for (old, new, key) in table {
            assert_eq!(told(&old, &new), [format!("{key} changed: *** -> ***")]);
            assert!(told(&old, &old).is_empty());
        }
        // From the one kind to the other.
        assert_eq!(
            told(&account("password = \"hunter2\""), &account("certificate = \"a.test\"")),
            [
                "lan.account[a].certificate added: - -> \"a.test\"",
                "lan.account[a].password removed: *** -> -"
            ]
        );
    }

    #[test]
    fn certificates_are_compared_by_their_content_and_the_key_is_hidden() {
        let directory = Directory::new("diff-certificates");
        let pair = |name: &str| {
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["sip.a.test".to_owned()]).unwrap();
            let chain = directory.write(&format!("{name}.pem"), certificate.self_signed(&key).unwrap().pem());
            let key = directory.write(&format!("{name}.key"), key.serialize_pem());
            format!("[certificate]\nchain = {chain:?}\nprivate_key = {key:?}\ntrusted_cas = {chain:?}\n")
        };
        let (one, two) = (pair("one"), pair("two"));
        let told = told(&one, &two);
        let keys: Vec<_> = told.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(keys, ["certificate.chain", "certificate.private_key", "certificate.trusted_cas"]);
        assert!(told[1].ends_with("*** -> ***"));
    }
}
