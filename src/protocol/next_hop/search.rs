//! From records to servers: which look-ups a question needs, and what follows from them (RFC 3263 §4.1, §4.2).
//!
//! A search runs over what is known. Where that is not enough it ends with the look-ups that are missing, and runs
//! anew when they have been made; so it has no states, and does not care who has asked for a record before.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::records::{Answer, Failure, Key, MAXIMUM_ADDRESSES, Naptr, RecordType, Records, Srv};
use super::{Query, Server, Unresolved, weights};
use crate::protocol::flow::Transport;
use crate::protocol::message::uri::Host;
use crate::protocol::random::Random;

/// Why a search ends without servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// Look-ups are missing.
    Missing,
    Failed(Unresolved),
}

type Searched<T> = Result<T, Stop>;

/// What a search has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The servers, in the order of trying.
    Servers(Vec<Server>),
    /// There is none.
    Unresolved(Unresolved),
    /// These look-ups first, in this order.
    Missing(Vec<Key>),
}

/// Searches in what `known` has.
pub(super) fn search(
    query: &Query,
    random: &mut Random,
    known: &mut dyn FnMut(&Key) -> Option<Arc<Answer>>,
) -> Found {
    let mut search = Search { random, known, missing: Vec::new() };
    match search.servers(query) {
        Ok(servers) => Found::Servers(servers),
        Err(Stop::Failed(cause)) => Found::Unresolved(cause),
        Err(Stop::Missing) => Found::Missing(search.missing),
    }
}

struct Search<'a> {
    random: &'a mut Random,
    known: &'a mut dyn FnMut(&Key) -> Option<Arc<Answer>>,
    missing: Vec<Key>,
}

impl Search<'_> {
    fn servers(&mut self, query: &Query) -> Searched<Vec<Server>> {
        match query {
            Query::Federation(domain) => {
                let records = self.srv(federation_name(domain)).map_err(does_not_federate)?;
                self.at_targets(&records, Transport::Tls)
            }
            Query::Names(domain) => {
                let records = self.srv(federation_name(domain)).map_err(does_not_federate)?;
                let named = |srv: &&Srv| server(Transport::Tls, &srv.target, SmallVec::new());
                Ok(self.ordered(&records).iter().map(named).collect())
            }
            Query::Server { host, port, transport, is_secure } => {
                self.named(host, *port, *transport, *is_secure)
            }
        }
    }

    fn named(
        &mut self,
        host: &Arc<str>,
        port: Option<u16>,
        transport: Option<Transport>,
        is_secure: bool,
    ) -> Searched<Vec<Server>> {
        let transport = match (transport, is_secure) {
            // There is no TLS over UDP, and all else under `sips` is.
            (Some(Transport::Udp), true) => return Err(Stop::Failed(Unresolved::NoService)),
            (Some(Transport::Tcp), true) => Some(Transport::Tls),
            (transport, _) => transport,
        };
        let default = transport.unwrap_or(if is_secure { Transport::Tls } else { Transport::Udp });
        if let Some(Host::Address(ip)) = Host::parse(host.as_bytes()) {
            return Ok(vec![at(default, host, &[ip], port.unwrap_or(default.default_port()))]);
        }
        match (port, transport) {
            (Some(port), _) => self.at_host(host, default, port),
            (None, Some(transport)) => self.by_srv(host, transport),
            (None, None) => self.by_naptr(host, is_secure),
        }
    }

    /// The domain says which transport it likes best (RFC 3263 §4.1); of equal ones, and of those that lead nowhere,
    /// the next.
    fn by_naptr(&mut self, host: &Arc<str>, is_secure: bool) -> Searched<Vec<Server>> {
        let records = match self.look_up(host, RecordType::Naptr)? {
            Ok(answer) => answer,
            Err(Failure::NoSuchName | Failure::NoRecord) => return self.by_every_srv(host, is_secure),
            Err(failure) => return Err(failure.into()),
        };
        let Ok(Records::Naptr(naptr)) = &*records else { return self.by_every_srv(host, is_secure) };
        let mut usable: Vec<(&Naptr, Transport)> = naptr
            .iter()
            .filter_map(|naptr| Some((naptr, transport_of(naptr)?)))
            .filter(|(_, transport)| !is_secure || transport.is_secure())
            .collect();
        usable.sort_by_key(|(naptr, _)| (naptr.order, naptr.preference));
        let Some((_, preferred)) = usable.first().copied() else {
            return self.by_every_srv(host, is_secure);
        };
        let mut causes = Vec::new();
        for (naptr, transport) in usable {
            match self.srv(Arc::clone(&naptr.replacement)) {
                Ok(records) => return self.at_targets(&records, transport),
                Err(Stop::Failed(cause)) => causes.push(cause),
                Err(Stop::Missing) => return Err(Stop::Missing),
            }
        }
        self.without_srv(host, preferred, &causes)
    }

    /// Without NAPTR records, the transports that have SRV records are those that there are (RFC 3263 §4.1). Which of
    /// them to use is for us to say: the one that protects, else the one that delivers.
    fn by_every_srv(&mut self, host: &Arc<str>, is_secure: bool) -> Searched<Vec<Server>> {
        let candidates = [Transport::Tls, Transport::Tcp, Transport::Udp];
        let candidates = candidates.iter().filter(|transport| !is_secure || transport.is_secure());
        // All are asked at once.
        let answers: Vec<_> =
            candidates.map(|transport| (*transport, self.srv(srv_name(host, *transport)))).collect();
        if answers.iter().any(|(_, answer)| matches!(answer, Err(Stop::Missing))) {
            return Err(Stop::Missing);
        }
        let mut causes = Vec::new();
        for (transport, answer) in answers {
            match answer {
                Ok(records) => return self.at_targets(&records, transport),
                Err(Stop::Failed(cause)) => causes.push(cause),
                Err(Stop::Missing) => return Err(Stop::Missing),
            }
        }
        self.without_srv(host, if is_secure { Transport::Tls } else { Transport::Udp }, &causes)
    }

    fn by_srv(&mut self, host: &Arc<str>, transport: Transport) -> Searched<Vec<Server>> {
        if transport.is_web_socket() {
            // RFC 7118 has no SRV records.
            return self.at_host(host, transport, transport.default_port());
        }
        match self.srv(srv_name(host, transport)) {
            Ok(records) => self.at_targets(&records, transport),
            Err(Stop::Failed(cause)) => self.without_srv(host, transport, &[cause]),
            Err(Stop::Missing) => Err(Stop::Missing),
        }
    }

    /// Where there are no SRV records the host itself is the server (RFC 3263 §4.2). Where nobody knows whether there
    /// are, or the domain says that it has no such service, it is not.
    fn without_srv(
        &mut self,
        host: &Arc<str>,
        transport: Transport,
        causes: &[Unresolved],
    ) -> Searched<Vec<Server>> {
        let cause = causes.iter().copied().max_by_key(|cause| weight(*cause));
        match cause {
            Some(Unresolved::NoSuchName | Unresolved::NoRecord) | None => {
                self.at_host(host, transport, transport.default_port())
            }
            Some(cause) => Err(Stop::Failed(cause)),
        }
    }

    fn at_host(&mut self, host: &Arc<str>, transport: Transport, port: u16) -> Searched<Vec<Server>> {
        let addresses = self.addresses(host)?;
        Ok(vec![at(transport, host, &addresses, port)])
    }

    /// The servers that SRV records name, those that have an address.
    fn at_targets(&mut self, records: &[Srv], transport: Transport) -> Searched<Vec<Server>> {
        let looked_up: Vec<_> = records.iter().map(|srv| self.addresses(&srv.target)).collect();
        if looked_up.contains(&Err(Stop::Missing)) {
            return Err(Stop::Missing);
        }
        let mut servers: Vec<Server> = Vec::new();
        let mut room = MAXIMUM_ADDRESSES;
        let mut causes = Vec::new();
        for srv in self.ordered(records) {
            match self.addresses(&srv.target) {
                Ok(mut addresses) => {
                    addresses.truncate(room);
                    let found = at(transport, &srv.target, &addresses, srv.port);
                    if !addresses.is_empty()
                        && !servers.iter().any(|known| known.addresses == found.addresses)
                    {
                        room -= addresses.len();
                        servers.push(found);
                    }
                }
                Err(Stop::Failed(Unresolved::NoSuchName | Unresolved::NoRecord)) | Err(Stop::Missing) => {}
                Err(Stop::Failed(cause)) => causes.push(cause),
            }
        }
        if servers.is_empty() {
            let cause = causes.into_iter().max_by_key(|cause| weight(*cause));
            return Err(Stop::Failed(cause.unwrap_or(Unresolved::NoAddress)));
        }
        Ok(servers)
    }

    fn ordered<'r>(&mut self, records: &'r [Srv]) -> Vec<&'r Srv> {
        weights::order(records, self.random)
    }

    /// Both families are asked at once, and alternate, IPv6 first (RFC 8305 §3, §4).
    fn addresses(&mut self, host: &Arc<str>) -> Searched<Vec<IpAddr>> {
        let (v6, v4) = (self.look_up(host, RecordType::Aaaa), self.look_up(host, RecordType::A));
        let (v6, v4) = (v6?, v4?);
        let usable = |answer: &Result<Arc<Answer>, Failure>| match answer.as_deref() {
            Ok(Ok(Records::Addresses(addresses))) => {
                addresses.iter().map(IpAddr::to_canonical).filter(is_of_a_host).collect()
            }
            Ok(_) | Err(_) => Vec::new(),
        };
        let found = alternating(&usable(&v6), &usable(&v4));
        if !found.is_empty() {
            return Ok(found);
        }
        let causes = [v6, v4].map(|answer| answer.err().map_or(Unresolved::NoRecord, Unresolved::from));
        let cause = causes.into_iter().max_by_key(|cause| weight(*cause));
        Err(Stop::Failed(cause.unwrap_or(Unresolved::NoRecord)))
    }

    /// SRV records of which at least one names a host.
    fn srv(&mut self, name: impl Into<Arc<str>>) -> Searched<Vec<Srv>> {
        let answer = self.look_up(&name.into(), RecordType::Srv)??;
        let Ok(Records::Srv(records)) = &*answer else { return Err(Stop::Failed(Unresolved::NoRecord)) };
        let usable: Vec<Srv> =
            records.iter().filter(|srv| !srv.target.is_empty() && srv.port != 0).cloned().collect();
        if usable.is_empty() { Err(Stop::Failed(Unresolved::NoService)) } else { Ok(usable) }
    }

    /// Known records of a name, or why there are none.
    fn look_up(&mut self, name: &Arc<str>, kind: RecordType) -> Searched<Result<Arc<Answer>, Failure>> {
        let key = Key { name: Arc::clone(name), kind };
        match (self.known)(&key) {
            Some(answer) => Ok(match &*answer {
                Ok(_) => Ok(answer),
                Err(failure) => Err(*failure),
            }),
            None => {
                self.missing.push(key);
                Err(Stop::Missing)
            }
        }
    }
}

impl From<Failure> for Unresolved {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchName => Self::NoSuchName,
            Failure::NoRecord => Self::NoRecord,
            Failure::Timeout => Self::Timeout,
            Failure::ServerFailure => Self::ServerFailure,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

/// Of several causes the one is told that says most, and that may pass.
const fn weight(cause: Unresolved) -> u8 {
    match cause {
        Unresolved::NoSuchName => 0,
        Unresolved::NoRecord => 1,
        Unresolved::NoAddress => 2,
        Unresolved::NoService => 3,
        Unresolved::Ourselves => 4,
        Unresolved::ServerFailure => 5,
        Unresolved::Timeout => 6,
        Unresolved::Overload => 7,
    }
}

/// That the name of the service does not exist says nothing about the domain.
const fn does_not_federate(stop: Stop) -> Stop {
    match stop {
        Stop::Failed(Unresolved::NoSuchName) => Stop::Failed(Unresolved::NoRecord),
        stop => stop,
    }
}

fn federation_name(domain: &str) -> String {
    format!("_sipfederationtls._tcp.{domain}")
}

fn srv_name(host: &str, transport: Transport) -> String {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp | Transport::Ws => "_sip._tcp",
        Transport::Tls | Transport::Wss => "_sips._tcp",
    };
    format!("{service}.{host}")
}

/// What a NAPTR record's SRV record leads to, if that is anything of ours (RFC 3263 §4.1).
fn transport_of(naptr: &Naptr) -> Option<Transport> {
    if !naptr.flags.eq_ignore_ascii_case("s") || naptr.has_regexp || naptr.replacement.is_empty() {
        return None;
    }
    match naptr.service.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Transport::Udp),
        "SIP+D2T" => Some(Transport::Tcp),
        "SIPS+D2T" => Some(Transport::Tls),
        _ => None,
    }
}

/// Whether a host can have this address.
const fn is_of_a_host(address: &IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

fn alternating(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    let longest = first.len().max(second.len());
    let pairs = (0..longest).flat_map(|index| [first.get(index), second.get(index)]);
    pairs.flatten().copied().take(MAXIMUM_ADDRESSES).collect()
}

fn at(transport: Transport, host: &Arc<str>, addresses: &[IpAddr], port: u16) -> Server {
    server(transport, host, addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
}

fn server(transport: Transport, host: &Arc<str>, addresses: SmallVec<[SocketAddr; 2]>) -> Server {
    Server { transport, host: Arc::clone(host), addresses }
}

#[cfg(test)]
mod tests;
