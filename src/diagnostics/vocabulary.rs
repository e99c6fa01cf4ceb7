//! The words of the log: every event with its levels, its file and its meaning, and every field.
//!
//! The one place that decides which line goes to which file. A test holds the source to these tables, and the tables of
//! `docs/operations.md` to them.

use crate::config::LogLevel;
use LogLevel::{Debug, Error, Info, Warning};

/// A log, and the file that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Log {
    /// Service, configuration, actors.
    Service,
    /// Transactions and messages.
    Sip,
    /// Who was refused, and why.
    Security,
}

impl Log {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Service, Self::Sip, Self::Security];

    /// The name of the file that grows.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Service => "sip-proxy.log",
            Self::Sip => "sip.log",
            Self::Security => "security.log",
        }
    }

    /// Where a line goes: by its event alone, so that those of one kind stand together.
    pub fn of(event: &str) -> Self {
        let found = EVENTS.binary_search_by(|kind| kind.name.cmp(event));
        found.map_or(Self::Service, |place| EVENTS[place].log)
    }
}

/// One kind of event.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its stable name.
    pub name: &'static str,
    /// The levels that it is logged at.
    pub levels: &'static [LogLevel],
    /// Where to.
    pub log: Log,
    /// What has happened.
    pub meaning: &'static str,
}

const fn kind(name: &'static str, log: Log, levels: &'static [LogLevel], meaning: &'static str) -> Kind {
    Kind { name, levels, log, meaning }
}

/// Every event, by name; one row each.
#[rustfmt::skip]
pub const EVENTS: &[Kind] = &[
    kind("accept_failed", Log::Service, &[Warning], "a connection could not be accepted; mostly for want of descriptors"),
    kind("access_server_moved", Log::Service, &[Info], "the name of a route's access server leads to other addresses"),
    kind("actor_failed", Log::Service, &[Error], "a part of the service has panicked; it is rebuilt"),
    kind("actor_recovered", Log::Service, &[Info], "an actor that did not answer does so again"),
    kind("actor_restarted", Log::Service, &[Info], "it works again"),
    kind("actor_stuck", Log::Service, &[Error], "an actor that carries SIP does not answer; the process ends, or the service manager acts"),
    kind("address_banned", Log::Security, &[Warning], "too many failed log-ons from there; nobody logs on from there for a while"),
    kind("admin_listening", Log::Service, &[Info], "`[admin] listen` is up"),
    kind("admin_not_listening", Log::Service, &[Error], "it is not; it is tried again"),
    kind("admin_refused", Log::Security, &[Warning], "somebody has no token, a wrong one, is a web page of another site, or comes when too many connections are open"),
    kind("answered", Log::Sip, &[Info], "a transaction has its final response"),
    kind("binding_added", Log::Sip, &[Debug], "a Contact was registered"),
    kind("binding_removed", Log::Sip, &[Debug], "a Contact was removed, or has expired"),
    kind("configuration_changed", Log::Service, &[Info], "one difference that a reload has put in force"),
    kind("configuration_doubtful", Log::Service, &[Warning], "a setting is allowed and probably not meant"),
    kind("configuration_faulty", Log::Service, &[Error], "one fault because of which a reload has changed nothing"),
    kind("connect_failed", Log::Service, &[Warning], "nobody was reached at the address of a peer"),
    kind("connection_ended", Log::Service, &[Debug], "a connection is closed"),
    kind("connection_opened", Log::Service, &[Debug], "a connection is open"),
    kind("connection_outdated", Log::Service, &[Info], "a connection ends or is left alone because of a reload"),
    kind("connection_panicked", Log::Service, &[Error], "a connection has met a fault of the program and is closed"),
    kind("control_listening", Log::Service, &[Info], "the control socket is up"),
    kind("control_not_listening", Log::Service, &[Error], "it is not; it is tried again"),
    kind("descriptors_not_raised", Log::Service, &[Warning], "the system refuses the descriptors that the limits need"),
    kind("descriptors_short", Log::Service, &[Warning], "there are fewer descriptors than the limits need"),
    kind("disk_slow", Log::Service, &[Warning], "the disk took more than a second for registrations"),
    kind("drain_incomplete", Log::Service, &[Warning], "the time for the end is over, and so much was left"),
    kind("draining", Log::Service, &[Info], "how much is left to be answered before the process ends"),
    kind("dropped", Log::Sip, &[Info, Debug], "what was not carried: at info in sum every ten seconds, by reason; at debug each message"),
    kind("end_asked_for", Log::Service, &[Info], "`stop` or `drain` was asked for at the control socket or the status page"),
    kind("giving_up", Log::Service, &[Error], "too many failures; the process ends with 70"),
    kind("leads_to_ourselves", Log::Service, &[Warning], "DNS names this proxy as a server of a domain that it does not serve"),
    kind("library_logs_lost", Log::Service, &[Warning], "what libraries say is not logged"),
    kind("lines_dropped", Log::Service, &[Warning], "more lines came than could be written; so many are missing"),
    kind("listening", Log::Service, &[Info], "an interface is up"),
    kind("log_failed", Log::Service, &[Error], "a log file cannot be written; its lines are lost and counted until it can"),
    kind("log_files_deleted", Log::Service, &[Info], "a day has ended, and so many files of it were deleted"),
    kind("log_files_not_deleted", Log::Service, &[Warning], "they should have been"),
    kind("log_level_changed", Log::Service, &[Info], "a log level was set until the next start"),
    kind("log_on_refused", Log::Security, &[Warning], "wrong credentials"),
    kind("log_resumed", Log::Service, &[Warning], "a log file can be written again; so many lines are missing before this one, which stands in that file"),
    kind("logged_off", Log::Service, &[Info], "a UC server, or a user agent, is gone"),
    kind("logged_on", Log::Service, &[Info], "a UC server, or a user agent, has proven who it is"),
    kind("looked_up", Log::Service, &[Debug], "a DNS look-up has ended"),
    kind("message", Log::Service, &[Error, Warning, Info, Debug], "what a library says"),
    kind("message_received", Log::Sip, &[Debug], "a SIP message came in"),
    kind("message_sent", Log::Sip, &[Debug], "a SIP message went out"),
    kind("name_server_unusable", Log::Service, &[Error], "a name server of the configuration cannot be asked"),
    kind("nat_determined", Log::Service, &[Info], "public address and NAT type are known"),
    kind("no_name_servers", Log::Service, &[Error], "there is nobody to ask for names"),
    kind("no_trusted_authorities", Log::Service, &[Warning], "no certificate of a peer can be proven"),
    kind("not_listening", Log::Service, &[Warning], "an interface is not up"),
    kind("panicked", Log::Service, &[Error], "a fault of the program, with its place; `actor_failed` says what it has met"),
    kind("peer_queue_full", Log::Security, &[Warning], "more requests for a discovered peer than it may get; some were refused"),
    kind("peer_refused", Log::Security, &[Warning], "somebody from outside is not who it says, or may not send that"),
    kind("peer_released", Log::Security, &[Info], "a watched peer keeps within the limits again"),
    kind("peer_watched", Log::Security, &[Warning], "a discovered peer has exceeded a limit and gets one request per second"),
    kind("public_address_changed", Log::Service, &[Warning], "the address on the Internet is another one"),
    kind("public_address_unknown", Log::Service, &[Warning], "no STUN server has told it"),
    kind("ready", Log::Service, &[Info], "every interface listens or has said why not"),
    kind("record_not_looked_up", Log::Service, &[Debug], "the DNS record of a presence domain could not be looked up for the status"),
    kind("refused", Log::Sip, &[Info, Debug], "a request was refused before it was forwarded; challenges and what the limit leaves out at debug alone"),
    kind("registrations_damaged", Log::Service, &[Warning], "stored registrations could not be read"),
    kind("registrations_kept", Log::Service, &[Info, Debug], "the store works again, or has begun a new file"),
    kind("registrations_lost", Log::Service, &[Warning], "the store did not answer in time; registrations begin empty"),
    kind("registrations_not_kept", Log::Service, &[Warning, Error], "the store cannot be written; REGISTERs are answered from memory"),
    kind("registrations_restored", Log::Service, &[Info], "stored registrations are back"),
    kind("reload_refused", Log::Service, &[Error], "a reload has changed nothing; `configuration_faulty` says why"),
    kind("reloaded", Log::Service, &[Info], "a reload is done"),
    kind("request_failed", Log::Service, &[Error], "a request to the control socket or the status page has met a fault of the program"),
    kind("resolved", Log::Service, &[Debug], "the servers of a domain were found"),
    kind("route_failed", Log::Service, &[Warning], "the access server of a static route does not answer"),
    kind("route_recovered", Log::Service, &[Info], "it does again"),
    kind("service_manager_not_told", Log::Service, &[Warning], "the socket in NOTIFY_SOCKET cannot be used"),
    kind("start_failed", Log::Service, &[Error], "the process ends before it is ready"),
    kind("state_not_kept", Log::Service, &[Warning], "dialogs will not outlive a restart"),
    kind("stopping", Log::Service, &[Info, Warning], "the process ends once transactions are over"),
    kind("stun_server_failed", Log::Service, &[Debug], "a STUN server was asked in vain"),
    kind("tls_failed", Log::Security, &[Warning], "a TLS connection was refused, by us or by the peer"),
    kind("trace_begun", Log::Service, &[Info], "somebody sees SIP messages"),
    kind("trace_ended", Log::Service, &[Info], "and does not any more"),
    kind("unresolved", Log::Service, &[Info], "a domain leads nowhere"),
    kind("websocket_failed", Log::Service, &[Info], "somebody has asked for something else than SIP over WebSocket"),
];

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What its value is.
    pub meaning: &'static str,
}

const fn field(name: &'static str, meaning: &'static str) -> Field {
    Field { name, meaning }
}

/// Every field, by key; one row each.
#[rustfmt::skip]
pub const FIELDS: &[Field] = &[
    field("access_server", "of a static route: host and port"),
    field("account", "`user_name` of the account"),
    field("actor", "the part of the service"),
    field("address", "IP address, mostly with port"),
    field("answer", "what DNS has answered"),
    field("answers", "final answers in the window of the guard"),
    field("aor", "the URI of To: whom a request is for; of bindings, the address-of-record"),
    field("asked", "what a trace shows"),
    field("bindings", "how many"),
    field("bodies", "whether with bodies"),
    field("branch", "the branch parameter of the topmost Via"),
    field("branches", "how many were asked"),
    field("bytes", "the length of the message"),
    field("call_id", "Call-ID"),
    field("cause", "what a reload was asked for by, or that files have changed"),
    field("changes", "how many differences"),
    field("connection", "the number of the connection, never used again"),
    field("connection_limit", "of `dropped`: connections past `limits.maximum_connections`"),
    field("connection_limit_per_address", "of `dropped`: connections past `limits.maximum_connections_per_address`"),
    field("contact", "the URI that was registered"),
    field("count", "how many"),
    field("detail", "the cause in the words of a library or of the system"),
    field("direction", "`in` or `out`: who has connected"),
    field("domain", "the domain of the peer"),
    field("drain", "whether what has begun is waited for"),
    field("dropped", "how many were left out"),
    field("expected", "the domain or name that a certificate was to prove"),
    field("expired", "how many had"),
    field("failures", "answers in the window of the guard that were 4xx"),
    field("failures_in_a_minute", "how many"),
    field("faults", "how many"),
    field("file", "the log"),
    field("flow", "transport and address of the peer's end"),
    field("from", "the URI of From: who has sent a request"),
    field("interface", "the key of the network interface"),
    field("interfaces", "how many listen"),
    field("issuer", "of the peer's certificate"),
    field("key", "key path in the configuration"),
    field("kind", "`added`, `changed` or `removed`"),
    field("left", "requests that are not answered yet"),
    field("limit", "what there is"),
    field("lost", "lines that are missing"),
    field("messages", "how many were shown"),
    field("method", "the method; of a response, that of its CSeq"),
    field("milliseconds", "how long it took"),
    field("name", "the name that was looked up"),
    field("names", "of the peer's certificate"),
    field("nat_type", "by the names of `sip-proxy stun`"),
    field("new", "the value now"),
    field("not_after", "when the peer's certificate ends"),
    field("not_listening", "of `dropped`: to leave by an interface that does not listen"),
    field("not_sip", "of `dropped`: datagrams that are no SIP"),
    field("of", "the module, or `default`"),
    field("old", "the value before"),
    field("panicked", "whether it was a panic"),
    field("passes", "whether requests on this flow need no more credentials"),
    field("path", "of the request"),
    field("peer", "the other end: transport and address, or the address"),
    field("phase", "how far TLS had come"),
    field("place", "file and line, or variable, of the configuration"),
    field("places", "how many"),
    field("protocol", "of the network interface"),
    field("public_address", "on the Internet"),
    field("query", "what was asked of DNS"),
    field("queue_full", "of `dropped`: the queue of a socket was full"),
    field("reason", "why"),
    field("remedy", "what to do"),
    field("repeated", "lines of this kind that were left out before this one"),
    field("requests", "in the window of the guard"),
    field("route", "the domain of the static route"),
    field("router_away", "of `dropped`: the Router was being rebuilt"),
    field("router_busy", "of `dropped`: the Router had too much to do; the peer sends it again"),
    field("routes", "how many are switched on"),
    field("seconds", "how long"),
    field("segment", "the number of the file of the store"),
    field("send_failed", "of `dropped`: the system refused to send"),
    field("server", "host and port"),
    field("servers", "how many"),
    field("sni", "the host name that the TLS client has asked for"),
    field("socket", "the file"),
    field("status", "status code; of a process, its exit status"),
    field("stun", "of `dropped`: STUN messages that are no Binding request"),
    field("subject", "of the peer's certificate"),
    field("text", "of `message`: what the library says"),
    field("thread", "the name of the thread"),
    field("to", "the new level"),
    field("ttl", "seconds that the answer holds"),
    field("type", "of the DNS record"),
    field("users", "different ones asked for in the window of the guard"),
    field("version", "of the program"),
    field("wanted", "what there should be"),
];

#[cfg(test)]
mod tests;
