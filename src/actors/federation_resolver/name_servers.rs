//! Look-ups: one after the other, the name servers that the configuration or the system names.
//!
//! The library asks one server, over UDP and, where the answer is truncated, over TCP, and matches answers with
//! questions. Its own cache, hosts file and search list are not used: a domain means the same here as it does to
//! everybody else. Nor is its way of following CNAME records, which takes an SRV record for one.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slog::{Logger, error};
use tokio::time::timeout;
use trust_dns_resolver::config::{NameServerConfig, ResolverOpts};
use trust_dns_resolver::net::runtime::TokioRuntimeProvider;
use trust_dns_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use trust_dns_resolver::net::{DnsError, NetError, NoRecords};
use trust_dns_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query, ResponseCode};
use trust_dns_resolver::proto::rr::{self, Name, RData};
use trust_dns_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};

use crate::config::Dns;
use crate::protocol::next_hop::records::{Answer, Failure, Key, Naptr, RecordType, Records, Srv};

/// How long a name server that has not answered is asked last.
const REST: Duration = Duration::from_secs(30);

/// Look-ups by one TCP connection to a name server.
const PIPELINED: usize = 1024;

/// Aliases of aliases that are followed.
const MAXIMUM_ALIASES: usize = 8;

/// An answer, and for how long it holds.
type Held = (Answer, Option<Duration>);

/// The name servers, in the order of asking.
pub(super) struct NameServers {
    servers: Rc<[NameServer]>,
    budget: Duration,
}

struct NameServer {
    /// It alone.
    pool: NameServerPool<TokioRuntimeProvider>,
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
        let server = |address: SocketAddr| match pool(address, share) {
            Ok(pool) => Some(NameServer { pool, rests_until: Cell::new(None) }),
            Err(fault) => {
                error!(log, "name_server_unusable"; "address" => %address, "reason" => %fault);
                None
            }
        };
        Self { servers: addresses.into_iter().filter_map(server).collect(), budget: settings.timeout }
    }

    /// An answer within the budget, and how long it holds.
    pub(super) fn look_up(&self, key: Key) -> impl Future<Output = Held> + use<> {
        let (servers, budget) = (Rc::clone(&self.servers), self.budget);
        async move {
            if let Some(answer) = of_this_machine(&key) {
                return (answer, None);
            }
            let Ok(name) = Name::from_ascii(format!("{}.", key.name)) else {
                return (Err(Failure::NoSuchName), None);
            };
            let asked = ask_all(&servers, &name, key.kind, budget);
            timeout(budget, asked).await.unwrap_or((Err(Failure::Timeout), None))
        }
    }
}

/// The answer of the first server that has one: those that have not answered lately are asked last. A server that
/// fails, refuses, or only knows others to ask is as good as none.
async fn ask_all(servers: &[NameServer], name: &Name, kind: RecordType, budget: Duration) -> Held {
    let now = Instant::now();
    let mut order: Vec<&NameServer> = servers.iter().collect();
    order.sort_by_key(|server| server.rests_until.get().is_some_and(|end| now < end));
    let share = budget / u32::try_from(order.len().max(1)).unwrap_or(u32::MAX);
    let mut failure = Failure::ServerFailure;
    for server in order {
        let asked = timeout(share, server.follow(name.clone(), kind)).await;
        let (answer, ttl) = asked.unwrap_or((Err(Failure::Timeout), None));
        let has_answered = answer != Err(Failure::Timeout);
        server.rests_until.set((!has_answered).then(|| Instant::now() + REST));
        match answer {
            Err(cause @ (Failure::Timeout | Failure::ServerFailure)) => failure = cause,
            answer => return (answer, ttl),
        }
    }
    (Err(failure), None)
}

impl NameServer {
    /// Asks for `name`, and for what it is an alias of (RFC 1034 §3.6.2), as far as the server has not done so itself.
    /// An answer holds as long as the shortest TTL on the way to it.
    async fn follow(&self, mut name: Name, kind: RecordType) -> Held {
        let mut ttl = u32::MAX;
        let mut aliases = 0;
        loop {
            let query = Query::query(name.clone(), type_of(kind));
            let response = self.pool.lookup(query, DnsRequestOptions::default()).first_answer().await;
            let response = match response {
                Ok(response) => response,
                Err(fault) => return absence(&fault),
            };
            let asked = name.clone();
            while let Some((target, alias_ttl)) = alias(&response, &name) {
                ttl = ttl.min(alias_ttl);
                name = target;
                aliases += 1;
                if aliases > MAXIMUM_ALIASES {
                    return (Err(Failure::ServerFailure), None);
                }
            }
            let (records, shortest) = records(kind, &response, &name);
            if !records.is_empty() {
                return (Ok(records), seconds(ttl.min(shortest)));
            }
            let negative = response.negative_ttl();
            match response.response_code {
                ResponseCode::NXDomain => return (Err(Failure::NoSuchName), negative.and_then(seconds)),
                ResponseCode::NoError if asked == name || negative.is_some() => {
                    return (Err(Failure::NoRecord), negative.and_then(seconds));
                }
                ResponseCode::NoError => {}
                _ => return (Err(Failure::ServerFailure), None),
            }
        }
    }
}

fn seconds(ttl: u32) -> Option<Duration> {
    Some(Duration::from_secs(ttl.into()))
}

/// What `name` is an alias of, and for how long.
fn alias(response: &DnsResponse, name: &Name) -> Option<(Name, u32)> {
    response.answers.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

/// The records of `name`, and the shortest of their TTLs.
fn records(kind: RecordType, response: &DnsResponse, name: &Name) -> (Records, u32) {
    let own = || {
        let of_type = |record: &&rr::Record| record.record_type() == type_of(kind);
        response.answers.iter().filter(|record| record.name == *name).filter(of_type)
    };
    let data = own().map(|record| &record.data);
    let records = match kind {
        RecordType::Naptr => Records::Naptr(data.filter_map(naptr).collect()),
        RecordType::Srv => Records::Srv(data.filter_map(srv).collect()),
        RecordType::A | RecordType::Aaaa => Records::Addresses(data.filter_map(address).collect()),
    };
    (records, own().map(|record| record.ttl).min().unwrap_or(u32::MAX))
}

/// Why a server has answered nothing, and for how long that holds.
fn absence(fault: &NetError) -> Held {
    match fault {
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            let ttl = none.negative_ttl.and_then(seconds);
            match none.response_code {
                ResponseCode::NXDomain => (Err(Failure::NoSuchName), ttl),
                ResponseCode::NoError if !is_referral(none) => (Err(Failure::NoRecord), ttl),
                _ => (Err(Failure::ServerFailure), None),
            }
        }
        NetError::Timeout => (Err(Failure::Timeout), None),
        _ => (Err(Failure::ServerFailure), None),
    }
}

/// Whether it only names other servers: it does not know this domain, and does not ask for us.
fn is_referral(none: &NoRecords) -> bool {
    none.soa.is_none() && none.ns.is_some()
}

/// What is answered without a question: names of this machine (RFC 6761 §6.3).
fn of_this_machine(key: &Key) -> Option<Answer> {
    if &*key.name != "localhost" && !key.name.ends_with(".localhost") {
        return None;
    }
    Some(match key.kind {
        RecordType::A => Ok(Records::Addresses(vec![Ipv4Addr::LOCALHOST.into()])),
        RecordType::Aaaa => Ok(Records::Addresses(vec![Ipv6Addr::LOCALHOST.into()])),
        RecordType::Naptr | RecordType::Srv => Err(Failure::NoRecord),
    })
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

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
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

/// One server, which has so long to answer.
fn pool(address: SocketAddr, patience: Duration) -> Result<NameServerPool<TokioRuntimeProvider>, NetError> {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    let mut options = ResolverOpts::default();
    options.timeout = patience;
    options.max_active_requests = PIPELINED;
    let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
    Ok(NameServerPool::from_config([server], context, TokioRuntimeProvider::default()))
}
