//! What is counted for Prometheus beside SIP itself: what happens seldom enough for counters that threads share.
//!
//! What Routers carry, each counts by itself, at no cost for others ([`Counts`](crate::protocol::proxy::Counts)); both
//! are told together by [`scrape`](crate::actors::control::metrics::scrape).

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::queues::QueueLength;

/// Before every name.
pub const PREFIX: &str = "sip_proxy";

/// One label.
type Label = [(&'static str, &'static str); 1];
/// Two labels.
type Labels = [(&'static str, &'static str); 2];

/// Upper bounds of the classes of look-ups and commits, in seconds.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 4.0];

/// The counters and gauges of the process. They begin with it and outlive actors.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Family<Labels, Gauge>,
    connections_total: Family<Labels, Counter>,
    tls_handshakes: Family<Labels, Counter>,
    dns_lookups: Family<Labels, Counter>,
    dns_lookup_time: Histogram,
    journal_commit_time: Histogram,
    dropped: Family<Label, Counter>,
    actor_failures: Family<Label, Counter>,
    sending: QueueLength,
    datagrams: QueueLength,
    datagram_room: QueueLength,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let metrics = Self {
            connections: Family::default(),
            connections_total: Family::default(),
            tls_handshakes: Family::default(),
            dns_lookups: Family::default(),
            dns_lookup_time: Histogram::new(BOUNDS),
            journal_commit_time: Histogram::new(BOUNDS),
            dropped: Family::default(),
            actor_failures: Family::default(),
            sending: QueueLength::default(),
            datagrams: QueueLength::default(),
            datagram_room: QueueLength::default(),
            registry: Registry::default(),
        };
        registry.register(
            "connections",
            "Stream connections by transport and state (opening, open)",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_opened",
            "Stream connections that became open, by transport and direction",
            metrics.connections_total.clone(),
        );
        registry.register(
            "tls_handshakes",
            "TLS handshakes by direction and result: ok, or the cause of the failure",
            metrics.tls_handshakes.clone(),
        );
        registry.register(
            "dns_lookups",
            "Questions to name servers by record type and result",
            metrics.dns_lookups.clone(),
        );
        registry.register_with_unit(
            "dns_lookup",
            "Time of questions to name servers",
            Unit::Seconds,
            metrics.dns_lookup_time.clone(),
        );
        registry.register_with_unit(
            "journal_commit",
            "Time of writing registrations to the disk",
            Unit::Seconds,
            metrics.journal_commit_time.clone(),
        );
        registry.register(
            "dropped",
            "Datagrams, batches and connections that interfaces refused, by reason; told every ten seconds",
            metrics.dropped.clone(),
        );
        registry.register(
            "actor_failures",
            "Actors that failed and were begun anew, by kind",
            metrics.actor_failures.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// All that is registered here.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A connection is being opened; it counts until what is returned is dropped.
    pub fn connection(&self, transport: &'static str) -> ConnectionGauge {
        let gauge = self.connections.get_or_create_owned(&[("transport", transport), ("state", "opening")]);
        gauge.inc();
        ConnectionGauge { gauge, transport }
    }

    /// A TLS handshake has ended: `result` is `ok` or the cause.
    pub fn tls_handshake(&self, is_incoming: bool, result: &'static str) {
        let labels = [("direction", direction(is_incoming)), ("result", result)];
        self.tls_handshakes.get_or_create(&labels).inc();
    }

    /// A name server was asked.
    pub fn dns_lookup(&self, kind: &'static str, result: &'static str, time: Duration) {
        self.dns_lookups.get_or_create(&[("type", kind), ("result", result)]).inc();
        self.dns_lookup_time.observe(time.as_secs_f64());
    }

    /// Registrations were written to the disk.
    pub fn journal_commit(&self, time: Duration) {
        self.journal_commit_time.observe(time.as_secs_f64());
    }

    /// `count` more were dropped.
    pub fn dropped(&self, reason: &'static str, count: u64) {
        self.dropped.get_or_create(&[("reason", reason)]).inc_by(count);
    }

    /// Messages that wait for the peers of stream connections to read.
    pub const fn sending(&self) -> &QueueLength {
        &self.sending
    }

    /// Datagrams that wait for sockets to be writable.
    pub const fn datagrams(&self) -> &QueueLength {
        &self.datagrams
    }

    /// How many there may be, on all sockets together.
    pub const fn datagram_room(&self) -> &QueueLength {
        &self.datagram_room
    }

    /// An actor of this kind has failed.
    pub fn actor_failed(&self, kind: &'static str) {
        self.actor_failures.get_or_create(&[("actor", kind)]).inc();
    }
}

/// One connection among those that are counted.
#[derive(Debug)]
pub struct ConnectionGauge {
    gauge: Gauge,
    transport: &'static str,
}

impl ConnectionGauge {
    /// It is open now.
    pub fn opened(&mut self, metrics: &Metrics, is_incoming: bool) {
        self.gauge.dec();
        let labels = [("transport", self.transport), ("state", "open")];
        self.gauge = metrics.connections.get_or_create_owned(&labels);
        self.gauge.inc();
        let labels = [("transport", self.transport), ("direction", direction(is_incoming))];
        metrics.connections_total.get_or_create(&labels).inc();
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

const fn direction(is_incoming: bool) -> &'static str {
    if is_incoming { "in" } else { "out" }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_connection_counts_in_the_state_that_it_is_in_and_no_longer_than_it_lives() {
        let metrics = Metrics::default();
        let mut one = metrics.connection("tls");
        let two = metrics.connection("tls");
        one.opened(&metrics, true);
        let text = |metrics: &Metrics| {
            let mut text = String::new();
            encode(&mut text, metrics.registry()).unwrap();
            text
        };
        let told = text(&metrics);
        for line in [
            "sip_proxy_connections{transport=\"tls\",state=\"open\"} 1",
            "sip_proxy_connections{transport=\"tls\",state=\"opening\"} 1",
            "sip_proxy_connections_opened_total{transport=\"tls\",direction=\"in\"} 1",
        ] {
            assert!(told.lines().any(|known| known == line), "{line} in {told}");
        }
        drop((one, two));
        let told = text(&metrics);
        assert!(told.contains("state=\"open\"} 0") && told.contains("state=\"opening\"} 0"), "{told}");
    }
}
