//! The target set (RFC 3261 §16.5): who is asked, in which order, and who at the same time.

use std::collections::VecDeque;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{Located, Target as Binding};
use crate::protocol::message::Method;
use crate::protocol::message::uri::{Host, Uri};

use super::route::flow_to_address;

/// Why somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A binding of the user.
    Binding,
    /// A UC server on which the user may live.
    Search,
    /// The one place that the request names itself.
    Direct,
}

/// One place to which a request can be forwarded.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where the octets go.
    pub hop: Flow,
    /// The new Request-URI; `None` leaves the one that is there.
    pub request_uri: Option<Bytes>,
    /// Route values to put before those that are there (RFC 3327).
    pub path: Vec<Bytes>,
    /// Why.
    pub kind: TargetKind,
    /// The UC server there, if it is known.
    pub account: Option<AccountId>,
}

impl Target {
    /// The place that the request itself names.
    pub const fn direct(hop: Flow) -> Self {
        Self { hop, request_uri: None, path: Vec::new(), kind: TargetKind::Direct, account: None }
    }
}

/// Those that are asked at the same time.
pub type Group = SmallVec<[Target; 1]>;

/// The groups, asked one after the other.
pub type TargetSet = VecDeque<Group>;

/// The target set for what the Registrar knows of a user: bindings by falling q (§16.6), else a search of the UC
/// servers (product rule): all at once, but one after the other for SUBSCRIBE, which must end up at exactly one;
/// the one that has answered for the user before comes first.
pub fn target_set(located: Located, method: Method, interfaces: &Interfaces) -> TargetSet {
    if !located.targets.is_empty() {
        return binding_groups(located.targets, interfaces);
    }
    let is_learned = located.learned;
    let mut servers = located.servers.into_iter().map(|server| Target {
        hop: server.flow,
        request_uri: None,
        path: Vec::new(),
        kind: TargetKind::Search,
        account: Some(server.account),
    });
    if method == Method::Subscribe {
        return servers.map(|target| Group::from_iter([target])).collect();
    }
    let mut groups = TargetSet::new();
    if is_learned {
        groups.extend(servers.next().map(|target| Group::from_iter([target])));
    }
    let rest: Group = servers.collect();
    if !rest.is_empty() {
        groups.push_back(rest);
    }
    groups
}

fn binding_groups(bindings: Vec<Binding>, interfaces: &Interfaces) -> TargetSet {
    let mut groups = TargetSet::new();
    let mut last_q = None;
    for binding in bindings {
        let hop = hop_of(&binding, interfaces);
        let Binding { uri, path, q, account, .. } = binding;
        let target =
            Target { hop, request_uri: Some(without_headers(uri)), path, kind: TargetKind::Binding, account };
        match groups.back_mut() {
            Some(group) if last_q == Some(q) => group.push(target),
            _ => groups.push_back(Group::from_iter([target])),
        }
        last_q = Some(q);
    }
    groups
}

/// A contact may have headers, a Request-URI may not (§19.1.1).
fn without_headers(uri: Bytes) -> Bytes {
    let headers = Uri::parse(&uri).map_or(0, |uri| uri.headers.len());
    if headers == 0 { uri } else { uri.slice(..uri.len() - headers - 1) }
}

/// A binding made over a stream is reached over that stream, one with a path over the flow of its first hop. One
/// made by UDP is reached at its contact, unless the contact's address is not the one that it registered from:
/// then a NAT lies between, and the flow is the way.
fn hop_of(binding: &Binding, interfaces: &Interfaces) -> Flow {
    let flow = binding.flow;
    if flow.transport != Transport::Udp || !binding.path.is_empty() {
        return flow;
    }
    let contact = match Uri::parse(&binding.uri) {
        Ok(uri) => match uri.host {
            Host::Address(ip) if ip == flow.remote.ip() => flow_to_address(&uri, ip, interfaces),
            Host::Address(_) | Host::Name(_) => None,
        },
        Err(_) => None,
    };
    match contact {
        // The interface that the peer knows us by.
        Some(to) if to.transport == Transport::Udp => Flow { remote: to.remote, ..flow },
        Some(to) => to,
        None => flow,
    }
}
