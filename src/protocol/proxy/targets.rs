//! The target set (RFC 3261 §16.5): who is asked, in which order, and who at the same time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::account::AccountId;
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::interface::Interfaces;
use crate::protocol::location::{Located, Target as Binding};
use crate::protocol::message::Method;
use crate::protocol::message::uri::{Host, Uri, are_equivalent};

use super::outward::{Beyond, Departure};
use super::route::flow_to_address;

/// Why somebody is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// An address that the user is bound to.
    Binding,
    /// A flow that it is bound to (RFC 5626).
    Flow,
    /// A UC server on which the user may live.
    Search,
    /// The one place that the request names itself.
    Direct,
    /// A server of another domain.
    Beyond,
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
    /// Whether nothing but `hop` will do, however long the request is.
    pub is_fixed: bool,
    /// Other ways to the same user agent, each for when the one before has failed; they have none of their own.
    pub alternatives: Vec<Self>,
    /// How many ways there are to the user agent, those that have been tried included.
    pub ways: u32,
    /// How a server of another domain is reached, where it has no connection yet.
    pub beyond: Option<Arc<Beyond>>,
    /// Whether it may know who has asked not to be known: it is ours, or a trusted route (RFC 3325 §7).
    pub is_trusted: bool,
    /// Where else to look for the far end of a dialog, once the flow that it has had is no more.
    pub fallback: Option<Arc<Departure>>,
}

impl Target {
    /// The place that the request itself names.
    pub const fn direct(hop: Flow) -> Self {
        Self {
            hop,
            request_uri: None,
            path: Vec::new(),
            kind: TargetKind::Direct,
            account: None,
            is_fixed: false,
            alternatives: Vec::new(),
            ways: 1,
            beyond: None,
            is_trusted: true,
            fallback: None,
        }
    }

    /// The next way to the same user agent, which has what then is left.
    pub fn next_way(&mut self) -> Option<Self> {
        let mut ways = std::mem::take(&mut self.alternatives).into_iter();
        let next = ways.next()?;
        Some(Self { alternatives: ways.collect(), ways: self.ways, ..next })
    }

    /// Whether both are the same place, asked the same way (§16.5).
    fn is_same(&self, other: &Self) -> bool {
        let uri = |target: &Self| target.request_uri.clone().unwrap_or_default();
        self.hop == other.hop && self.path == other.path && are_equivalent(&uri(self), &uri(other))
    }
}

/// Those that are asked at the same time.
pub type Group = SmallVec<[Target; 1]>;

/// The groups, asked one after the other.
pub type TargetSet = VecDeque<Group>;

/// The target set of one place to ask.
pub fn only(target: Target) -> TargetSet {
    TargetSet::from([Group::from_iter([target])])
}

/// The target set for what the Registrar knows of a user: bindings by falling q (§16.6), else a search of the UC
/// servers (product rule): all at once, but one after the other for SUBSCRIBE, which must end up at exactly one;
/// the one that has answered for the user before comes first.
pub fn target_set(located: Located, method: Method, interfaces: &Interfaces) -> TargetSet {
    if !located.targets.is_empty() {
        return binding_groups(located.targets, interfaces);
    }
    let is_learned = located.learned;
    let mut servers = located.servers.into_iter().map(|server| Target {
        kind: TargetKind::Search,
        account: Some(server.account),
        ..Target::direct(server.flow)
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

/// The target set for a request whose Route is a way already, and whose Request-URI names a user agent of ours
/// (RFC 5627 §6.1): its contact becomes the Request-URI. Where route values are left, they lead there, and Path does
/// not; else the binding does. Where nothing is known of the user agent the request goes on as it is, for others write
/// GRUUs, too.
pub fn target_set_beside(
    route: Target,
    has_further_routes: bool,
    located: Located,
    interfaces: &Interfaces,
) -> TargetSet {
    let found = binding_groups(located.targets, interfaces);
    let Some(first) = found.iter().flatten().next() else {
        return only(route);
    };
    if has_further_routes {
        let request_uri = first.request_uri.clone();
        return only(Target { request_uri, ..route });
    }
    found
}

fn binding_groups(bindings: Vec<Binding>, interfaces: &Interfaces) -> TargetSet {
    let mut groups = TargetSet::with_capacity(1);
    let mut last_q = None;
    for binding in bindings {
        let q = binding.q;
        let target = target_of(binding, interfaces);
        if groups.iter().flatten().any(|known: &Target| known.is_same(&target)) {
            continue;
        }
        match groups.back_mut() {
            Some(group) if last_q == Some(q) => group.push(target),
            _ => groups.push_back(Group::from_iter([target])),
        }
        last_q = Some(q);
    }
    groups
}

fn target_of(binding: Binding, interfaces: &Interfaces) -> Target {
    let (hop, is_fixed) = hop_of(&binding, interfaces);
    let Binding { uri, path, account, is_flow, alternatives, .. } = binding;
    let ways = 1 + u32::try_from(alternatives.len()).expect("a user has far fewer than 2^32 bindings");
    Target {
        hop,
        request_uri: Some(without_headers(uri)),
        path,
        kind: if is_flow { TargetKind::Flow } else { TargetKind::Binding },
        account,
        is_fixed,
        alternatives: alternatives.into_iter().map(|binding| target_of(binding, interfaces)).collect(),
        ways,
        beyond: None,
        is_trusted: true,
        fallback: None,
    }
}

/// A contact may have headers, a Request-URI may not (§19.1.1).
fn without_headers(uri: Bytes) -> Bytes {
    if memchr::memchr(b'?', &uri).is_none() {
        return uri;
    }
    let headers = Uri::parse(&uri).map_or(0, |uri| uri.headers.len());
    if headers == 0 { uri } else { uri.slice(..uri.len() - headers - 1) }
}

/// A binding made over a stream is reached over that stream, one with a path over the flow of its first hop, one of a
/// flow over that (RFC 5626 §7). Another one made by UDP is reached at its contact, unless the contact's address is
/// not the one that it registered from: then a NAT may lie between, and the flow is the way. With it, whether there is
/// no other.
fn hop_of(binding: &Binding, interfaces: &Interfaces) -> (Flow, bool) {
    let flow = binding.flow;
    if flow.transport != Transport::Udp || !binding.path.is_empty() || binding.is_flow {
        return (flow, binding.is_flow);
    }
    let contact = match Uri::parse(&binding.uri) {
        Ok(uri) => match uri.host {
            Host::Address(ip) if ip == flow.remote.ip() => {
                flow_to_address(&uri, ip, interfaces.side(flow.interface), interfaces)
            }
            Host::Address(_) | Host::Name(_) => None,
        },
        Err(_) => None,
    };
    match contact {
        // The interface that the peer knows us by.
        Some(to) if to.transport == Transport::Udp => (Flow { remote: to.remote, ..flow }, false),
        Some(to) => (to, false),
        None => (flow, true),
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::flow::{ConnectionId, InterfaceId};
    use crate::protocol::interface::{Interface, Side};
    use crate::protocol::location::Server;

    use super::*;

    fn interfaces() -> Interfaces {
        let interface = |id, transport, bound: &str| Interface {
            id: InterfaceId(id),
            side: Side::Lan,
            transport,
            bound: bound.parse().unwrap(),
            public: None,
        };
        let list = vec![
            interface(0, Transport::Udp, "127.0.0.1:5060"),
            interface(1, Transport::Udp, "127.0.0.1:5062"),
            interface(2, Transport::Tls, "127.0.0.1:5061"),
        ];
        Interfaces::new(list, Vec::new())
    }

    fn flow(transport: Transport, remote: &str) -> Flow {
        Flow {
            interface: InterfaceId(1),
            transport,
            local: "127.0.0.1:5062".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: transport.is_reliable().then_some(ConnectionId(7)),
        }
    }

    fn binding(uri: &'static str, q: u16, flow: Flow) -> Binding {
        let uri = Bytes::from_static(uri.as_bytes());
        Binding { uri, path: Vec::new(), q, flow, account: None, is_flow: false, alternatives: Vec::new() }
    }

    #[test]
    fn a_binding_is_reached_the_way_that_it_was_made() {
        let udp = || flow(Transport::Udp, "127.0.0.9:40000");
        let contact = Flow { remote: "127.0.0.9:5070".parse().unwrap(), ..udp() };
        let by_tcp = Flow {
            interface: InterfaceId(0),
            transport: Transport::Tcp,
            local: "127.0.0.1:5060".parse().unwrap(),
            ..contact
        };
        let table = [
            // The same host on another port: where it listens, by the interface that it knows.
            ("sip:bob@127.0.0.9:5070", udp(), contact, false),
            ("sip:bob@127.0.0.9:5070;transport=tcp", udp(), by_tcp, false),
            // Another address, or none: a NAT may be between.
            ("sip:bob@192.168.1.2:5070", udp(), udp(), true),
            ("sip:bob@phone.a.test", udp(), udp(), true),
            ("sip:bob@127.0.0.9;transport=sctp", udp(), udp(), true),
            (
                "sip:bob@127.0.0.9:5070",
                flow(Transport::Tls, "127.0.0.9:40000"),
                flow(Transport::Tls, "127.0.0.9:40000"),
                false,
            ),
        ];
        for (uri, made_over, expected, is_fixed) in table {
            let found = hop_of(&binding(uri, 1000, made_over), &interfaces());
            assert_eq!(found, (expected, is_fixed), "{uri}");
        }
        let behind_a_proxy =
            Binding { path: vec!["<sip:p;lr>".into()], ..binding("sip:bob@127.0.0.9:5070", 1000, udp()) };
        assert_eq!(hop_of(&behind_a_proxy, &interfaces()), (udp(), false));
        let a_flow =
            Binding { is_flow: true, ..binding("sip:bob@127.0.0.9:5070;transport=tcp", 1000, udp()) };
        assert_eq!(hop_of(&a_flow, &interfaces()), (udp(), true));
    }

    #[test]
    fn bindings_of_one_preference_are_one_group() {
        let udp = flow(Transport::Udp, "127.0.0.9:40000");
        let uris = ["sip:a@h", "sip:b@h?x=y", "sip:c@h", "sip:d@h"];
        let targets = uris.iter().zip([1000, 500, 500, 0]).map(|(uri, q)| binding(uri, q, udp)).collect();
        let located = Located { targets, ..Located::default() };
        let groups: Vec<Vec<_>> = target_set(located, Method::Invite, &interfaces())
            .into_iter()
            .map(|group| group.into_iter().map(|target| target.request_uri.unwrap()).collect())
            .collect();
        assert_eq!(groups, [vec!["sip:a@h"], vec!["sip:b@h", "sip:c@h"], vec!["sip:d@h"]]);
    }

    #[test]
    fn a_search_asks_all_at_once_but_for_subscribe_and_what_was_learned() {
        let table: [(Method, bool, &[usize]); 6] = [
            (Method::Message, false, &[3]),
            (Method::Message, true, &[1, 2]),
            (Method::Invite, false, &[3]),
            (Method::Other, true, &[1, 2]),
            (Method::Subscribe, false, &[1, 1, 1]),
            (Method::Subscribe, true, &[1, 1, 1]),
        ];
        let server = |n: u16| Server {
            account: AccountId(n),
            flow: flow(Transport::Udp, &format!("127.0.0.9:{}", 6000 + n)),
        };
        for (method, learned, sizes) in table {
            let located = Located { targets: Vec::new(), servers: (0..3).map(server).collect(), learned };
            let groups = target_set(located, method, &interfaces());
            assert_eq!(groups.iter().map(SmallVec::len).collect::<Vec<_>>(), sizes, "{method:?} {learned}");
            let accounts: Vec<_> = groups.iter().flatten().filter_map(|target| target.account).collect();
            assert_eq!(accounts, [AccountId(0), AccountId(1), AccountId(2)]);
            assert!(groups.iter().flatten().all(|target| target.request_uri.is_none()));
        }
        assert!(
            target_set(Located { learned: true, ..Located::default() }, Method::Invite, &interfaces())
                .is_empty()
        );
    }
}
