//! Look-ups: one after the other, the name servers that the configuration or the system names.
//!
//! The library asks one server, over UDP and, where the answer is truncated, over TCP; follows CNAME records, up to
//! a depth; and matches answers with questions. It keeps nothing, reads no hosts file and has no search list: a domain
//! means the same here as it does to everybody else.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, error};
use tokio::time::timeout;
use trust_dns_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use trust_dns_resolver::net::runtime::TokioRuntimeProvider;
use trust_dns_resolver::net::{DnsError, NetError, NoRecords};
use trust_dns_resolver::proto::op::ResponseCode;
use trust_dns_resolver::proto::rr::{self, Name, RData, Record};
use trust_dns_resolver::{Resolver, TokioResolver, system_conf};

use crate::config::Dns;
use crate::protocol::next_hop::records::{Answer, Failure, Key, Naptr, RecordType, Records, Srv};

/// How long a name server that has not answered is asked last.
const REST: Duration = Duration::from_secs(30);

/// Look-ups by one TCP connection to a name server.
const PIPELINED: usize = 1024;

/// The name servers, in the order of asking.
pub(super) struct NameServers {
    servers: Rc<[NameServer]>,
    budget: Duration,
}

struct NameServer {
    resolver: TokioResolver,
    /// It has not answered lately.
    rests_until: Cell<Option<Instant>>,
}

impl NameServers {
    /// Those of `settings` or, where it has none, those of the system.
    pub(super) fn new(settings: &Dns, log: &Logger) -> Self {
        let addresses = match settings.name_servers.as_slice() {
            [] => of_the_system(log),
            given => given.to_vec(),
        };
        let share = settings.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let server = |address: SocketAddr| match resolver(address, share) {
            Ok(resolver) => Some(NameServer { resolver, rests_until: Cell::new(None) }),
            Err(fault) => {
                error!(log, "name_server_unusable"; "address" => %address, "reason" => %fault);
                None
            }
        };
        Self { servers: addresses.into_iter().filter_map(server).collect(), budget: settings.timeout }
    }

    /// An answer within the budget, and how long it holds.
    pub(super) fn look_up(&self, key: Key) -> impl Future<Output = (Answer, Option<Duration>)> + use<> {
        let (servers, budget) = (Rc::clone(&self.servers), self.budget);
        async move {
            let Ok(name) = Name::from_ascii(format!("{}.", key.name)) else {
                return (Err(Failure::NoSuchName), None);
            };
            let asked = ask_all(&servers, name, key.kind, budget);
            timeout(budget, asked).await.unwrap_or((Err(Failure::Timeout), None))
        }
    }
}

/// The answer of the first server that has one: those that have not answered lately are asked last. A server that
/// fails, refuses, or only knows others to ask is as good as none.
async fn ask_all(
    servers: &[NameServer],
    name: Name,
    kind: RecordType,
    budget: Duration,
) -> (Answer, Option<Duration>) {
    let now = Instant::now();
    let mut order: Vec<&NameServer> = servers.iter().collect();
    order.sort_by_key(|server| server.rests_until.get().is_some_and(|end| now < end));
    let share = budget / u32::try_from(order.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = Failure::ServerFailure;
    for server in order {
        let asked = timeout(share, server.resolver.lookup(name.clone(), type_of(kind))).await;
        let result = asked.unwrap_or(Err(NetError::Timeout)).map_err(|fault| absence(&fault));
        let has_answered = !matches!(result, Err((Failure::Timeout, _)));
        server.rests_until.set((!has_answered).then(|| Instant::now() + REST));
        match result {
            Ok(lookup) => return records(kind, lookup.answers()),
            Err((cause @ (Failure::NoSuchName | Failure::NoRecord), ttl)) => return (Err(cause), ttl),
            Err((cause, _)) => failure = cause,
        }
    }
    (Err(failure), None)
}

/// Why a look-up has brought nothing, and for how long that holds.
fn absence(fault: &NetError) -> (Failure, Option<Duration>) {
    match fault {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
            match none.response_code {
                ResponseCode::NXDomain => (Failure::NoSuchName, ttl),
                ResponseCode::NoError if !is_referral(none) => (Failure::NoRecord, ttl),
                _ => (Failure::ServerFailure, None),
            }
        }
        NetError::Timeout => (Failure::Timeout, None),
        _ => (Failure::ServerFailure, None),
    }
}

/// Whether it only names other servers: it does not know this domain, and does not ask for us.
fn is_referral(none: &NoRecords) -> bool {
    none.soa.is_none() && none.ns.is_some()
}

/// What of an answer is of the type that was asked for. It holds as long as the shortest TTL on the way to it does.
fn records(kind: RecordType, answers: &[Record]) -> (Answer, Option<Duration>) {
    let ttl = answers.iter().map(|record| record.ttl).min().map(|ttl| Duration::from_secs(ttl.into()));
    let data = answers.iter().map(|record| &record.data);
    let records = match kind {
        RecordType::Naptr => Records::Naptr(data.filter_map(naptr).collect()),
        RecordType::Srv => Records::Srv(data.filter_map(srv).collect()),
        RecordType::A | RecordType::Aaaa => {
            Records::Addresses(data.filter_map(|data| address(kind, data)).collect())
        }
    };
    if records.is_empty() { (Err(Failure::NoRecord), None) } else { (Ok(records), ttl) }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into();
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        service: text(&naptr.services),
        has_regexp: !naptr.regexp.is_empty(),
        replacement: host(&naptr.replacement),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
    Some(Srv { priority, weight, port, target: host(&srv.target) })
}

fn address(kind: RecordType, data: &RData) -> Option<IpAddr> {
    match (kind, data) {
        (RecordType::A, RData::A(a)) => Some(IpAddr::V4(a.0)),
        (RecordType::Aaaa, RData::AAAA(aaaa)) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// A name as the protocol has it: in lower case, without the dot of the root.
fn host(name: &Name) -> Arc<str> {
    name.to_lowercase().to_ascii().trim_end_matches('.').into()
}

const fn type_of(kind: RecordType) -> rr::RecordType {
    match kind {
        RecordType::Naptr => rr::RecordType::NAPTR,
        RecordType::Srv => rr::RecordType::SRV,
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
    }
}

/// What `/etc/resolv.conf` names. Its search list and options are for others.
fn of_the_system(log: &Logger) -> Vec<SocketAddr> {
    match system_conf::read_system_conf() {
        Ok((config, _)) => config.name_servers.iter().map(|server| SocketAddr::new(server.ip, 53)).collect(),
        Err(fault) => {
            error!(log, "no_name_servers"; "reason" => %fault,
                "remedy" => "name some in dns.name_servers; no domain is found until then");
            Vec::new()
        }
    }
}

/// Asks one server, and gives it so long.
fn resolver(address: SocketAddr, patience: Duration) -> Result<TokioResolver, NetError> {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = patience;
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = PIPELINED;
    let provider = TokioRuntimeProvider::default();
    Resolver::builder_with_config(config, provider).with_options(options).build()
}
