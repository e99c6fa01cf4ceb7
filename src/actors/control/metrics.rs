//! `GET /metrics`: what Routers have counted and what threads share, in the text format of OpenMetrics. Whoever asks for
//! the older one gets that (`exposition.rs`).

use std::fmt;
use std::time::Duration;

use actix::clock::timeout;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::actors::directory::Directory;
use crate::actors::router::{Count, Counted, MAILBOX};
use crate::diagnostics::metrics::{Metrics, PREFIX};
use crate::diagnostics::queues::Queue;
use crate::protocol::message::Method;
use crate::protocol::proxy::{Counts, Direction, Load, RESPONSE_TIME_BOUNDS};

/// What a Router may take to answer. One that is too busy for that is missing in the sums, and in
/// `sip_proxy_routers_counted`.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the caller knows that no counter does.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Since the start of the process.
    pub uptime: Duration,
    /// Addresses-of-record with a binding, where the Registrar has answered.
    pub addresses_of_record: Option<usize>,
    /// Bindings, likewise.
    pub bindings: Option<usize>,
    /// Interfaces that listen, and that are to listen.
    pub interfaces: (usize, usize),
    /// Log lines that were dropped.
    pub log_lines_dropped: u64,
    /// Until the certificate expires; negative afterwards.
    pub certificate_seconds: Option<i64>,
    /// Queues, but for those that the directory knows.
    pub queues: Vec<Queue>,
}

/// Asks all Routers, and writes what they and the process have counted.
pub async fn scrape(directory: &Directory, mut gauges: Gauges) -> String {
    gauges.queues.extend(queues(directory));
    let journal_backlog = directory.journal().as_deref().map(|journal| journal.backlog.octets());
    let mut snapshot = Snapshot { gauges, journal_backlog, ..Snapshot::default() };
    let routers = (0..directory.router_count()).filter_map(|index| directory.router(index).as_ref().cloned());
    let answers = routers.map(|router| async move { timeout(PATIENCE, router.count.send(Count)).await });
    for answer in futures_util::future::join_all(answers).await {
        if let Ok(Ok(counted)) = answer {
            snapshot.add(&counted);
        }
    }
    write(directory.metrics(), snapshot)
}

/// What can be told without asking anybody.
fn queues(directory: &Directory) -> [Queue; 3] {
    let routers = directory.router_count();
    let batches = (0..routers).filter_map(|index| Some(directory.router(index).as_deref()?.mailbox.get()));
    let metrics = directory.metrics();
    [
        Queue { name: "router_batches", length: batches.sum(), capacity: Some(routers * MAILBOX) },
        Queue {
            name: "datagrams",
            length: metrics.datagrams().get(),
            capacity: Some(metrics.datagram_room().get()),
        },
        Queue { name: "stream_messages", length: metrics.sending().get(), capacity: None },
    ]
}

fn write(metrics: &Metrics, snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    let written = encode_registry(&mut text, &registry)
        .and_then(|()| encode_registry(&mut text, metrics.registry()))
        .and_then(|()| encode_eof(&mut text));
    written.expect("a String takes any text");
    text
}

/// All Routers together.
#[derive(Debug, Default)]
struct Snapshot {
    gauges: Gauges,
    counts: Counts,
    routers: usize,
    load: Option<Load>,
    /// Octets that wait for the Journal, where it is there.
    journal_backlog: Option<usize>,
}

impl Snapshot {
    fn add(&mut self, counted: &Counted) {
        self.counts.merge(&counted.counts);
        self.routers += 1;
        let sum = self.load.unwrap_or(Load { servers: 0, clients: 0, contexts: 0 });
        self.load = Some(Load {
            servers: sum.servers + counted.load.servers,
            clients: sum.clients + counted.load.clients,
            contexts: sum.contexts + counted.load.contexts,
        });
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.messages(&mut families)?;
        self.transactions(&mut families)?;
        self.response_times(&mut families)?;
        self.service(&mut families)?;
        self.queues(&mut families)
    }
}

impl Snapshot {
    fn messages(&self, families: &mut Families<'_>) -> fmt::Result {
        let requests = Direction::ALL.into_iter().flat_map(|direction| {
            Method::ALL.into_iter().map(move |method| {
                let labels =
                    vec![("method", method.name().to_owned()), ("direction", direction.name().to_owned())];
                (labels, self.counts.requests(direction, method))
            })
        });
        families.counters(
            "requests",
            "SIP requests by method and direction, repetitions included",
            requests,
        )?;
        let responses = Direction::ALL.into_iter().flat_map(|direction| {
            (1..=6).map(move |class| {
                let labels =
                    vec![("class", format!("{class}xx")), ("direction", direction.name().to_owned())];
                (labels, self.counts.responses(direction, class))
            })
        });
        families.counters(
            "responses",
            "SIP responses by class and direction, repetitions included",
            responses,
        )?;
        let drops = self.counts.drops();
        let drops = drops.map(|(reason, count)| (vec![("reason", reason.name().to_owned())], count));
        families.counters("messages_dropped", "SIP messages dropped without an answer, by reason", drops)
    }

    fn transactions(&self, families: &mut Families<'_>) -> fmt::Result {
        let ended = self.counts.transactions().map(|(direction, method, status, count)| {
            let labels = vec![
                ("method", method.name().to_owned()),
                ("status", status.to_string()),
                ("direction", direction.name().to_owned()),
            ];
            (labels, count)
        });
        families.counters(
            "transactions",
            "Transactions that have a final response, by method, status and direction; of outgoing ones 408 is also \
             silence and 503 also an unreachable peer",
            ended,
        )?;
        let Some(Load { servers, clients, contexts }) = self.load else { return Ok(()) };
        let held = [("server", servers), ("client", clients), ("response_context", contexts)];
        let held = held.map(|(kind, count)| (vec![("kind", kind.to_owned())], count as i64));
        families.gauges("transactions_held", "Transactions and response contexts in memory", held)
    }

    fn response_times(&self, families: &mut Families<'_>) -> fmt::Result {
        let mut family = families.0.encode_descriptor(
            "response_time",
            "From the arrival of a request to its final response, by method",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for method in Method::ALL {
            let times = self.counts.response_times(method);
            let bounds = RESPONSE_TIME_BOUNDS.into_iter().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(times.counts).collect();
            let count = times.counts.iter().sum();
            family.encode_family(&[("method", method.name())])?.encode_histogram::<NoLabelSet>(
                times.sum.as_secs_f64(),
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn service(&self, families: &mut Families<'_>) -> fmt::Result {
        let Gauges {
            uptime,
            addresses_of_record,
            bindings,
            interfaces,
            log_lines_dropped,
            certificate_seconds,
            queues: _,
        } = self.gauges;
        let none = Vec::new;
        families.gauges("uptime_seconds", "Since the start", [(none(), uptime.as_secs() as i64)])?;
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        families.gauges("build_info", "The program; always 1", [(version, 1)])?;
        families.gauges(
            "routers_counted",
            "Routers whose counts are in this answer",
            [(none(), self.routers as i64)],
        )?;
        let listening = [("listening", interfaces.0), ("configured", interfaces.1)];
        let listening = listening.map(|(state, count)| (vec![("state", state.to_owned())], count as i64));
        families.gauges("interfaces", "Network interfaces", listening)?;
        let lines = [(none(), log_lines_dropped)];
        families.counters("log_lines_dropped", "Log lines for which there was no room", lines)?;
        let optional = [
            (
                "registered_addresses",
                "Addresses-of-record with a binding",
                addresses_of_record.map(|it| it as i64),
            ),
            ("bindings", "Bindings", bindings.map(|it| it as i64)),
            (
                "journal_backlog_bytes",
                "Changes of registrations that wait for the disk",
                self.journal_backlog.map(|it| it as i64),
            ),
            ("certificate_expiry_seconds", "Until the server certificate expires", certificate_seconds),
        ];
        for (name, help, value) in optional {
            families.gauges(name, help, value.map(|value| (none(), value)))?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn queues(&self, families: &mut Families<'_>) -> fmt::Result {
        let labels = |queue: &Queue| vec![("queue", queue.name.to_owned())];
        let lengths = self.gauges.queues.iter().map(|queue| (labels(queue), queue.length as i64));
        families.gauges("queue_length", "What waits, by queue", lengths)?;
        let capacity = |queue: &Queue| Some((labels(queue), queue.capacity? as i64));
        let capacities = self.gauges.queues.iter().filter_map(capacity);
        families.gauges("queue_capacity", "What there is room for, by queue", capacities)
    }
}

/// Labels of one sample.
type Labels = Vec<(&'static str, String)>;

struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in samples {
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, i64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
