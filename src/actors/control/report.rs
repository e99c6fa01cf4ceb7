//! What the control socket and `[admin] listen` tell, as JSON: the resources that the command line and the status page
//! read. A field that is `null`, or an `Option` here, is not known or does not apply. No password, key or token is in
//! any of them. `docs/resources.md` says the same to those who read it; a test holds the two together.
//!
//! Times are RFC 3339 in UTC, durations whole seconds. Fields may join; names and meanings stand.

use serde::{Deserialize, Serialize};

/// `GET /status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Whether it works.
    pub state: State,
    /// Of the program.
    pub version: String,
    /// When the process began.
    pub started: String,
    /// Since then.
    pub uptime_seconds: u64,
    /// The file that the configuration was read from.
    pub configuration: String,
    /// When the configuration in force was read: at the start or by the last reload that changed something.
    pub configured: String,
    /// `service.presence_domains`.
    pub presence_domains: Vec<String>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// `static_routes.enabled`: the switch of all.
    pub static_routes_enabled: bool,
    /// Static routes, those that are switched off too.
    pub routes: Vec<Route>,
    /// UC servers that are logged on.
    pub servers: Vec<Server>,
    /// Federation peers with a connection.
    pub peers: Vec<Peer>,
    /// How many addresses-of-record have a binding, and how many bindings there are.
    pub registrations: RegistrationCount,
    /// `[open_federation]` and whether the DNS records of the presence domains fit.
    pub federation: Federation,
    /// NAT.
    pub nat: Nat,
    /// The server certificate; `null` where none is configured.
    pub certificate: Option<Certificate>,
    /// `[lan]` and `[diagnostics]` as they are in force.
    pub settings: Settings,
    /// The last 30 events, the latest last.
    pub events: Vec<Event>,
    /// Where the service is asked: the control socket, and `[admin] listen` where it is configured.
    pub endpoints: Vec<Endpoint>,
    /// Parts of the service that have not answered in time; what they would have told is empty.
    pub unanswered: Vec<String>,
}

/// One place at which the service is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `service.control_socket` or `admin.listen`.
    pub key: String,
    /// The path of the socket; address and port.
    pub address: String,
    /// `listening` or `not_listening`.
    pub status: String,
    /// Why it does not listen.
    pub reason: Option<String>,
}

/// What the service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Some interface has not reported yet.
    Starting,
    /// It works.
    Ready,
    /// It works, but an interface does not listen or a route's access server is not reached.
    Impaired,
    /// It lets no dialog begin, and ends.
    Draining,
}

/// `GET /interfaces`, an array: one network interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its place in the configuration: `lan`, `wan.network_interface[0]`, `open_federation`.
    pub key: String,
    /// `lan` or `wan`.
    pub side: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// As configured.
    pub ip_address: String,
    /// The port that it has, or that is configured where it does not listen.
    pub port: u16,
    /// `udp`, `tcp`, `tls`, `mtls`, `ws`, `wss`.
    pub protocol: String,
    /// `listening`, `not_listening`, `starting`, `disabled`.
    pub status: String,
    /// Why it does not listen.
    pub reason: Option<String>,
    /// Connections of it that are open; `null` of UDP, and where it is switched off.
    pub connections: Option<usize>,
}

/// `GET /routes`, an array: one static route.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Route {
    /// Its place in the configuration.
    pub key: String,
    /// Whether it is switched on, and the switch of all.
    pub enabled: bool,
    /// Whether what comes by it is believed.
    pub trusted: bool,
    /// The domain.
    pub domain_name: String,
    /// IP address or name.
    pub access_server: String,
    /// Port.
    pub port: u16,
    /// `udp`, `tcp`, `tls`, `mtls`.
    pub protocol: String,
    /// Where it leaves from; `null` for any.
    pub bind_to_ip_address: Option<String>,
    /// The addresses that the access server has now.
    pub addresses: Vec<String>,
    /// `well`, `ill`, `unknown` (nothing has been sent yet), `disabled`.
    pub health: String,
    /// Why it is ill.
    pub reason: Option<String>,
}

/// One UC server that is logged on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// `user_name` of its account.
    pub account: String,
    /// Its flow: `tcp:10.0.0.2:35220`.
    pub peer: String,
    /// The interface's key.
    pub interface: String,
    /// How it has logged on: `registration`, `digest`, `certificate`, `address`.
    pub by: String,
    /// Bindings that are reached by it.
    pub bindings: usize,
}

/// `GET /peers`, an array: one connection with somebody outside of the LAN.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its address: `tls:203.0.113.7:5061`.
    pub peer: String,
    /// `in` or `out`: who has connected.
    pub direction: String,
    /// The interface's key.
    pub interface: String,
    /// Domains that its certificate names; empty where it has shown none.
    pub names: Vec<String>,
    /// The static route that it belongs to.
    pub route: Option<String>,
    /// Since when it is open.
    pub connected_seconds: u64,
}

/// How much is registered.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct RegistrationCount {
    /// Addresses-of-record with at least one binding.
    pub addresses_of_record: usize,
    /// Bindings.
    pub bindings: usize,
}

/// `GET /registrations` with `?aor=` (one address-of-record), `?limit=` (at most 10000, default 1000) and `?after=` (the
/// address-of-record that the page before ended with), an object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registrations {
    /// How many there are in all.
    pub count: RegistrationCount,
    /// This page, by address-of-record.
    pub registrations: Vec<Registration>,
    /// Give it as `after` to get the next page; `null` at the end.
    pub next: Option<String>,
}

/// One binding.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registration {
    /// The address-of-record: `sip:bob@example.org`.
    pub aor: String,
    /// The Contact.
    pub contact: String,
    /// Where it is reached.
    pub peer: String,
    /// Until it expires.
    pub expires_seconds: u64,
    /// Its q value, 0 to 1.
    pub q: f32,
}

/// Open federation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Federation {
    /// `federation.enabled`.
    pub enabled: bool,
    /// `open_federation.enabled`.
    pub open: bool,
    /// `open` or `closed`.
    pub policy: String,
    /// For each presence domain, what its SRV record says of us; empty until it has been looked up.
    pub records: Vec<ServiceRecord>,
}

/// What `_sipfederationtls._tcp` of one presence domain says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The presence domain.
    pub domain: String,
    /// *DNS host IP*: the address of the record that leads to us.
    pub host_ip: Option<String>,
    /// *DNS port*.
    pub port: Option<u16>,
    /// `ok`, `warning`, `failed`.
    pub grade: String,
    /// What was found, for people.
    pub text: String,
}

/// NAT.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Nat {
    /// Whether STUN servers are configured.
    pub enabled: bool,
    /// The address on the Internet.
    pub public_address: Option<String>,
    /// The type by the names of the manual: `Full Cone`, `Open Internet`.
    pub nat_type: Option<String>,
    /// Why there is no address or no type.
    pub reason: Option<String>,
    /// When it was found out last.
    pub determined: Option<String>,
    /// `wan.public_address`, where enabled: host and port that stand in messages.
    pub written: Option<String>,
}

/// `GET /certificate`: a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The file.
    pub file: String,
    /// Subject.
    pub subject: String,
    /// Its names, the FQDN first.
    pub names: Vec<String>,
    /// Issuer.
    pub issuer: String,
    /// Valid from.
    pub not_before: String,
    /// Valid to.
    pub not_after: String,
    /// Whole days left; negative once expired.
    pub days_left: i64,
}

/// Settings that the status page shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `lan.enabled`.
    pub lan_enabled: bool,
    /// `user_name` of the accounts of UC servers, with whether each has a password, a certificate, or neither.
    pub accounts: Vec<Account>,
    /// `diagnostics.log_level`, as it is now.
    pub log_level: String,
    /// Modules with a level of their own, as they are now.
    pub module_log_levels: std::collections::BTreeMap<String, String>,
    /// `diagnostics.log_file_directory`; `null` = standard error.
    pub log_file_directory: Option<String>,
    /// `diagnostics.maximum_log_file_size_mb`.
    pub maximum_log_file_size_mb: u64,
    /// `diagnostics.kept_log_files`.
    pub kept_log_files: usize,
    /// `diagnostics.delete_log_files_daily`.
    pub delete_log_files_daily: bool,
    /// Why log files cannot be written, while that is so.
    pub log_fault: Option<String>,
    /// Log lines that were dropped since the start.
    pub log_lines_dropped: u64,
}

/// One account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Account {
    /// `user_name`.
    pub user_name: String,
    /// `uc_server` or `registrar`.
    pub kind: String,
    /// `password`, `certificate` or `address`.
    pub proof: String,
}

/// `GET /events` with `?limit=` (default 30, at most 1000), an array: one event, the latest last.
///
/// With `?follow=true` the answer has no end: one JSON object each line, as events happen.
pub use crate::diagnostics::Event;

/// The answer to `POST /reload`. Status 200, or 422 where `faults` has any.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// What was changed; empty where the file says what is in force.
    pub changes: Vec<Change>,
    /// What is doubtful.
    pub warnings: Vec<Fault>,
    /// Why nothing was changed.
    pub faults: Vec<Fault>,
}

/// One difference of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Key path: `static_routes.route[partner.example].port`. Elements of lists go by name where they have one.
    pub key: String,
    /// `added`, `changed`, `removed`.
    pub kind: String,
    /// The value before, as the file writes it; `***` of secrets.
    pub old: Option<String>,
    /// The value now.
    pub new: Option<String>,
}

/// One fault or warning of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// File and line, or the variable of the environment.
    pub place: String,
    /// Key path.
    pub key: String,
    /// What is wrong, what is allowed.
    pub text: String,
}

/// The body of `PUT /log-level`; the answer is 204.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLevel {
    /// One of the modules; `null` for all that have no level of their own.
    #[serde(default)]
    pub module: Option<String>,
    /// `error`, `warning`, `info`, `debug`, `trace`.
    pub level: String,
}

/// The body of every answer with a status of 400 and above, but that of `/reload`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and what to do instead.
    pub error: String,
}

#[cfg(test)]
mod tests;
