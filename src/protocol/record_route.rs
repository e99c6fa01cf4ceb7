//! Record-Route with flow tokens (RFC 3261 §16.6 step 4, RFC 5626 §5, RFC 5658).
//!
//! The URI that we record carries, in its user part, the flow of the side that it faces. Requests in the dialog
//! bring it back in Route and leave over that flow. A keyed code over the token makes it ours: nobody else can
//! write one, and what it says needs no table, so it outlives the process.
//!
//! Where a message enters and leaves by different sockets, or by streams, two URIs are recorded, the inner one
//! on top (RFC 5658 §6): each side sees the one that it can reach. On one UDP socket a single URI holds both ends.

mod ends;

use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use siphasher::sip::SipHasher13;
use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;

use super::account::{Account, AccountId, Accounts};
use super::flow::{ConnectionId, Flow, InterfaceId, Transport};
use super::interface::{Interface, Interfaces, Side};
use ends::{push_end, push_ip, read_end, read_ip};

const CODE: usize = 12;
/// The first octet of [`Token::Between`]; the others are the transports of [`Token::Toward`]. Tokens outlive the
/// version that has written them, so no number ever gets another meaning.
const BETWEEN: u8 = 3;
/// The last of the numbers.
const LAST_KIND: u8 = 5;
/// Stands for an interface that does not listen any more: no configuration has so many.
const GONE: InterfaceId = InterfaceId(u16::MAX);
/// Room for head, two IPv6 ends with their accounts, our own, and code.
const LONGEST: usize = 96;

/// The key that makes tokens ours. Kept in `service.state_directory`, so that dialogs outlive a restart.
///
/// SipHash-2-4 is a pseudorandom function with a 128-bit key; 96 bits of its output leave a forger one chance
/// in 2^96 for each request.
#[derive(Clone)]
pub struct TokenKey {
    key: [u8; 16],
    /// The Router that writes: requests in its dialogs come back to it, so that they do not overtake its responses.
    router: u8,
    /// What stands for each account in tokens: a hash of its name, since its number is another one when the
    /// configuration has changed.
    account_tags: Arc<[(u32, AccountId)]>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// Where a token leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// To the one flow that its URI faces.
    Toward {
        /// The flow.
        hop: Hop,
        /// The UC server that the flow was logged on as, for when the flow has ended.
        account: Option<AccountId>,
    },
    /// Between two ends of one UDP socket.
    Between {
        /// The interface of the socket.
        interface: InterfaceId,
        /// Our address between them, where that is not the interface's own.
        local: Option<IpAddr>,
        /// Both ends.
        ends: [SocketAddr; 2],
        /// The UC servers there.
        accounts: [Option<AccountId>; 2],
    },
}

/// The far end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface.
    pub interface: InterfaceId,
    /// Our address, where the interface is a wildcard of datagrams; else the interface knows it.
    pub local: Option<IpAddr>,
    /// What carries it.
    pub transport: Transport,
    /// The peer's end.
    pub remote: SocketAddr,
    /// The connection, of a stream that was open.
    pub connection: Option<ConnectionId>,
}

impl From<&Flow> for Hop {
    fn from(flow: &Flow) -> Self {
        Self {
            interface: flow.interface,
            local: None,
            transport: flow.transport,
            remote: flow.remote,
            connection: flow.connection,
        }
    }
}

impl Hop {
    /// Whether what came from `source` came from there. Where the token was written before the connection was there,
    /// which that became does not matter: it was dialled, so nobody but the peer is at its end.
    fn is_of(&self, source: &Self) -> bool {
        let place = (source.interface, source.transport, source.remote);
        (self.interface, self.transport, self.remote) == place
            && self.connection.is_none_or(|connection| source.connection == Some(connection))
    }
}

impl TokenKey {
    /// With 16 octets from a good source of randomness.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, router: 0, account_tags: Arc::default() }
    }

    /// The same key, for a Router, and for tokens that name these accounts.
    #[must_use]
    pub fn of_router(&self, router: u8, accounts: &Accounts) -> Self {
        let tag = |account: &Account| {
            let mut hasher = SipHasher13::new_with_key(&self.key);
            hasher.write(account.user_name.as_bytes());
            // 0 stands for no account.
            (hasher.finish() as u32).max(1)
        };
        let account_tags = accounts.iter().map(|(id, account)| (tag(account), id)).collect();
        Self { key: self.key, router, account_tags }
    }

    /// A key for another purpose; neither tells anything of the other.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let code = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        code.chain_update(purpose).finalize().into_bytes().into()
    }

    /// Appends the token as the user part of a URI. `pass` tells it from those of other passes.
    fn write(&self, token: &Token, pass: u8, interfaces: &Interfaces, out: &mut Vec<u8>) {
        let mut octets: SmallVec<[u8; LONGEST]> = SmallVec::new();
        match token {
            Token::Toward { hop, account } => {
                octets.push(kind_of(hop.transport));
                octets.extend_from_slice(&[self.router, pass]);
                self.push_interface(&mut octets, interfaces, hop.interface);
                push_ip(&mut octets, hop.local);
                push_end(&mut octets, hop.remote);
                octets.extend_from_slice(&hop.connection.map_or(0, |connection| connection.0).to_be_bytes());
                self.push_account(&mut octets, *account);
            }
            Token::Between { interface, local, ends, accounts } => {
                octets.push(BETWEEN);
                octets.extend_from_slice(&[self.router, pass]);
                self.push_interface(&mut octets, interfaces, *interface);
                push_ip(&mut octets, *local);
                for (end, account) in ends.iter().zip(accounts) {
                    push_end(&mut octets, *end);
                    self.push_account(&mut octets, *account);
                }
            }
        }
        let code = self.code(&octets);
        octets.extend_from_slice(&code);
        let mut text = [0; LONGEST.div_ceil(3) * 4];
        let length = URL_SAFE_NO_PAD.encode_slice(&octets, &mut text).expect("LONGEST is the longest token");
        out.extend_from_slice(&text[..length]);
    }

    /// Reads the user part of a URI; `None` unless we have written it.
    pub fn read(&self, user: &[u8], interfaces: &Interfaces) -> Option<Token> {
        let mut octets = [0; LONGEST];
        let length = URL_SAFE_NO_PAD.decode_slice(user, &mut octets).ok()?;
        let content_length = length.checked_sub(CODE)?;
        let (content, code) = octets[..length].split_at(content_length);
        // All octets are compared, so that the time taken does not tell a forger which was wrong.
        let difference = self.code(content).iter().zip(code).fold(0, |all, (a, b)| all | (a ^ b));
        if difference != 0 {
            return None;
        }
        let (&[kind, _router, _pass], rest) = content.split_first_chunk::<3>()?;
        let (interface, rest) = self.read_interface(rest, interfaces)?;
        let (local, rest) = read_ip(rest)?;
        let (first, rest) = read_end(rest)?;
        let transport = match kind {
            0 => Transport::Udp,
            1 => Transport::Tcp,
            2 => Transport::Tls,
            4 => Transport::Ws,
            5 => Transport::Wss,
            BETWEEN => {
                let (first_account, rest) = self.read_account(rest)?;
                let (second, rest) = read_end(rest)?;
                let accounts = [first_account, self.read_account(rest)?.0];
                return Some(Token::Between { interface, local, ends: [first, second], accounts });
            }
            _ => return None,
        };
        let (connection, rest) = rest.split_first_chunk::<8>()?;
        let (account, _) = self.read_account(rest)?;
        let connection = Some(u64::from_be_bytes(*connection)).filter(|&id| id != 0).map(ConnectionId);
        Some(Token::Toward { hop: Hop { interface, local, transport, remote: first, connection }, account })
    }

    /// The Router that has written the user part of a URI, if it is one of ours: not proven, good for finding the
    /// Router that will see.
    pub fn router_of(user: &[u8]) -> Option<u8> {
        let mut octets = [0; 3];
        URL_SAFE_NO_PAD.decode_slice(user.get(..4)?, &mut octets).ok()?;
        (octets[0] <= LAST_KIND).then_some(octets[1])
    }

    /// What stands for an interface: its number is another one when the configuration has changed.
    fn interface_tag(&self, interface: &Interface) -> u32 {
        let mut octets: SmallVec<[u8; LONGEST]> = SmallVec::new();
        octets.push(u8::from(interface.side == Side::Wan));
        octets.push(kind_of(interface.transport));
        push_end(&mut octets, interface.bound);
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(&octets);
        hasher.finish() as u32
    }

    fn push_interface(&self, octets: &mut SmallVec<[u8; LONGEST]>, interfaces: &Interfaces, id: InterfaceId) {
        let tag = interfaces.get(id).map_or(0, |interface| self.interface_tag(interface));
        octets.extend_from_slice(&tag.to_be_bytes());
    }

    fn read_interface<'a>(
        &self,
        octets: &'a [u8],
        interfaces: &Interfaces,
    ) -> Option<(InterfaceId, &'a [u8])> {
        let (tag, rest) = octets.split_first_chunk::<4>()?;
        let is_meant = |known: &&Interface| self.interface_tag(known) == u32::from_be_bytes(*tag);
        Some((interfaces.iter().find(is_meant).map_or(GONE, |interface| interface.id), rest))
    }

    fn push_account(&self, octets: &mut SmallVec<[u8; LONGEST]>, account: Option<AccountId>) {
        let at =
            account.and_then(|account| self.account_tags.binary_search_by_key(&account, |(_, id)| *id).ok());
        octets.extend_from_slice(&at.map_or(0, |at| self.account_tags[at].0).to_be_bytes());
    }

    /// An account that is not configured any more is none.
    fn read_account<'a>(&self, octets: &'a [u8]) -> Option<(Option<AccountId>, &'a [u8])> {
        let (tag, rest) = octets.split_first_chunk::<4>()?;
        let known = self.account_tags.iter().find(|(known, _)| *known == u32::from_be_bytes(*tag));
        Some((known.map(|(_, id)| *id), rest))
    }

    fn code(&self, octets: &[u8]) -> [u8; CODE] {
        let whole = SipHasher24::new_with_key(&self.key).hash(octets).as_bytes();
        let mut code = [0; CODE];
        code.copy_from_slice(&whole[..CODE]);
        code
    }
}

/// The first octet of a [`Token::Toward`].
const fn kind_of(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 4,
        Transport::Wss => 5,
    }
}

impl Token {
    /// The account of the UC server that `source` leads to, if the token names that very flow: whoever sends on it
    /// is one of the two between whom we have recorded the dialog.
    pub fn account_at(&self, source: &Flow) -> Option<AccountId> {
        match self {
            Self::Toward { hop, account } => account.filter(|_| hop.is_of(&Hop::from(source))),
            Self::Between { interface, ends, accounts, .. } => {
                let at =
                    ends.iter().position(|end| *end == source.remote && *interface == source.interface)?;
                accounts[at]
            }
        }
    }

    /// Whether `source` is one of the flows that the token names.
    pub fn names(&self, source: &Flow) -> bool {
        match self {
            Self::Toward { hop, .. } => hop.is_of(&Hop::from(source)),
            Self::Between { interface, ends, .. } => {
                *interface == source.interface && ends.contains(&source.remote)
            }
        }
    }

    /// The one flow that it leads to, and the UC server there.
    pub const fn toward(&self) -> Option<(Hop, Option<AccountId>)> {
        match self {
            Self::Toward { hop, account } => Some((*hop, *account)),
            Self::Between { .. } => None,
        }
    }

    /// Where a request goes that has come from `source` and brought this token, and the UC server there; `None` where
    /// the token leads back to where it came from.
    pub fn next_hop(&self, source: &Hop) -> Option<(Hop, Option<AccountId>)> {
        let Self::Between { interface, local, ends: [a, b], .. } = self else {
            return self.toward().filter(|(hop, _)| !hop.is_of(source));
        };
        let from = |end: &SocketAddr| source.interface == *interface && source.remote == *end;
        let remote = match (from(a), from(b)) {
            (true, false) => *b,
            // Or both ends are one.
            (false | true, true) => *a,
            // A peer that sends from another port than it listens on.
            (false, false) if a.ip() != b.ip() && source.remote.ip() == a.ip() => *b,
            (false, false) if a.ip() != b.ip() && source.remote.ip() == b.ip() => *a,
            (false, false) => return None,
        };
        let (interface, local, transport) = (*interface, *local, Transport::Udp);
        Some((Hop { interface, local, transport, remote, connection: None }, None))
    }
}

/// One side of a request that passes.
#[derive(Clone, Copy, Debug)]
pub struct Face<'a> {
    /// The flow of this side.
    pub flow: &'a Flow,
    /// The UC server at its end.
    pub account: Option<AccountId>,
    /// Whether the request, as it is on this side, has `sips` in its Request-URI or topmost Route.
    pub is_sips: bool,
}

/// Appends the Record-Route rows' values for a request from `upstream` to `downstream`, topmost first. `pass` is its
/// Max-Forwards: a request that comes by again (a spiral) has another one, and so other URIs.
pub fn values(
    key: &TokenKey,
    interfaces: &Interfaces,
    upstream: Face<'_>,
    downstream: Face<'_>,
    pass: u8,
    mut row: impl FnMut(&dyn Fn(&mut Vec<u8>)),
) {
    let (up, down) = (upstream.flow, downstream.flow);
    let is_one_socket = up.transport == Transport::Udp
        && down.transport == Transport::Udp
        && up.interface == down.interface
        && up.local == down.local;
    if is_one_socket {
        let (ends, accounts) = ([up.remote, down.remote], [upstream.account, downstream.account]);
        let (interface, local) = (up.interface, interfaces.chosen_address(up));
        let token = Token::Between { interface, local, ends, accounts };
        row(&|out| write_value(key, interfaces, (&token, pass), upstream, out));
        return;
    }
    for face in [downstream, upstream] {
        let hop = Hop { local: interfaces.chosen_address(face.flow), ..Hop::from(face.flow) };
        let token = Token::Toward { hop, account: face.account };
        row(&|out| write_value(key, interfaces, (&token, pass), face, out));
    }
}

/// The scheme of a side under TLS is `sips` where the request's is, and no other (§16.6 step 4); then a transport
/// parameter `tls`, which RFC 5658 §6.2 does not want, says nothing more.
fn write_value(
    key: &TokenKey,
    interfaces: &Interfaces,
    (token, pass): (&Token, u8),
    face: Face<'_>,
    out: &mut Vec<u8>,
) {
    let transport = face.flow.transport;
    let is_sips = face.is_sips && transport.is_secure();
    out.extend_from_slice(if is_sips { b"<sips:" } else { b"<sip:" });
    key.write(token, pass, interfaces, out);
    out.push(b'@');
    interfaces.write_sent_by(face.flow, out);
    if let Some(transport) = transport.uri_parameter().filter(|_| !is_sips || transport.is_web_socket()) {
        out.extend_from_slice(b";transport=");
        out.extend_from_slice(transport.as_bytes());
    }
    out.extend_from_slice(b";lr>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::account::{AccountKind, Scope, Secret};

    fn key() -> TokenKey {
        let account = |name: &str| Account {
            user_name: name.to_owned(),
            secret: Secret::Address,
            scope: Scope::default(),
            kind: AccountKind::UcServer,
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        TokenKey::new([1; 16]).of_router(9, &Accounts::new(names.map(account).to_vec()))
    }

    /// One that has this number.
    fn interface(id: u16, side: Side, transport: Transport, bound: &str) -> Interface {
        let bound = bound.parse().unwrap();
        Interface { id: InterfaceId(id), side, transport, bound, public: None }
    }

    fn interfaces(id: u16) -> Interfaces {
        Interfaces::new(vec![interface(id, Side::Lan, Transport::Udp, "127.0.0.1:5060")], Vec::new())
    }

    fn flow(transport: Transport, remote: &str, connection: Option<u64>) -> Flow {
        Flow {
            interface: InterfaceId(7),
            transport,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: connection.map(ConnectionId),
        }
    }

    #[test]
    fn every_token_is_read_back_and_no_other() {
        let key = key();
        let tokens = [
            Token::Toward { hop: Hop::from(&flow(Transport::Udp, "10.0.0.1:9", None)), account: None },
            Token::Toward {
                hop: Hop::from(&flow(Transport::Tls, "[2001:db8::1]:9", Some(5))),
                account: Some(AccountId(3)),
            },
            Token::Toward {
                hop: Hop::from(&flow(Transport::Ws, "10.0.0.1:9", Some(5))),
                account: Some(AccountId(1)),
            },
            Token::Toward { hop: Hop::from(&flow(Transport::Wss, "[::1]:9", Some(6))), account: None },
            Token::Between {
                interface: InterfaceId(7),
                local: None,
                ends: ["[2001:db8::1]:9".parse().unwrap(), "[2001:db8::2]:65535".parse().unwrap()],
                accounts: [Some(AccountId(0)), None],
            },
        ];
        for token in tokens {
            let mut text = Vec::new();
            key.write(&token, 70, &interfaces(7), &mut text);
            assert!(text.iter().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(c)));
            assert_eq!((key.read(&text, &interfaces(7)), TokenKey::router_of(&text)), (Some(token), Some(9)));
            assert_eq!(TokenKey::new([2; 16]).read(&text, &interfaces(7)), None);
            for at in 0..text.len() {
                let mut forged = text.clone();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(key.read(&forged, &interfaces(7)), None);
                assert_eq!(key.read(&text[..at], &interfaces(7)), None);
            }
        }
        assert_eq!(key.read(&[b'A'; 500], &interfaces(7)), None);
        assert_eq!(key.read(b"alice", &interfaces(7)), None);
    }

    #[test]
    fn a_side_under_tls_has_the_scheme_of_the_request() {
        let table = [
            (Transport::Udp, "sip", ";lr>", "sip", ";lr>"),
            (Transport::Tcp, "sip", ";transport=tcp;lr>", "sip", ";transport=tcp;lr>"),
            (Transport::Tls, "sip", ";transport=tls;lr>", "sips", ";lr>"),
            (Transport::Wss, "sip", ";transport=ws;lr>", "sips", ";transport=ws;lr>"),
        ];
        for (transport, scheme, end, sips_scheme, sips_end) in table {
            for (is_sips, scheme, end) in [(false, scheme, end), (true, sips_scheme, sips_end)] {
                let (near, far) =
                    (flow(Transport::Tcp, "10.0.0.1:9", Some(1)), flow(transport, "10.0.0.2:9", None));
                let face = |flow| Face { flow, account: None, is_sips };
                let mut rows = Vec::new();
                values(&key(), &interfaces(7), face(&near), face(&far), 70, |write| {
                    let mut row = Vec::new();
                    write(&mut row);
                    rows.push(String::from_utf8(row).unwrap());
                });
                let (start, end) = (format!("<{scheme}:"), format!("@127.0.0.1:5060{end}"));
                assert!(rows[0].starts_with(&start) && rows[0].ends_with(&end), "{transport} {rows:?}");
                assert!(rows[1].starts_with("<sip:") && rows[1].ends_with(";transport=tcp;lr>"), "{rows:?}");
            }
        }
    }

    /// Dialogs outlive an upgrade: what was written once is read ever after.
    #[test]
    fn tokens_of_every_version_are_read() {
        let toward = |transport, connection| Token::Toward {
            hop: Hop::from(&flow(transport, "10.0.0.1:9", connection)),
            account: Some(AccountId(2)),
        };
        let between = Token::Between {
            interface: InterfaceId(7),
            local: None,
            ends: ["10.0.0.1:9".parse().unwrap(), "10.0.0.2:9".parse().unwrap()],
            accounts: [Some(AccountId(0)), None],
        };
        let local = Some("127.0.0.9".parse().unwrap());
        let hop = Hop { local, ..Hop::from(&flow(Transport::Udp, "10.0.0.1:9", None)) };
        let of_wildcard = Token::Toward { hop, account: None };
        let table = [
            ("AAlGMBj2MgR_AAAJBAoAAAEACQAAAAAAAAAAAAAAACw2MKxkzSZXOpYXnQ", of_wildcard),
            ("AAlGMBj2MgAECgAAAQAJAAAAAAAAAABA__FLmjhbqxCz8VgYCVzo", toward(Transport::Udp, None)),
            ("AQlGMBj2MgAECgAAAQAJAAAAAAAAAAVA__FLPpiyHMRLqWqci2rR", toward(Transport::Tcp, Some(5))),
            ("AglGMBj2MgAECgAAAQAJAAAAAAAAAAVA__FL4r9TNAYV4UlKNrFS", toward(Transport::Tls, Some(5))),
            ("AwlGMBj2MgAECgAAAQAJ9V4dmgQKAAACAAkAAAAAk8FudI0y8YL-r5gR", between),
            ("BAlGMBj2MgAECgAAAQAJAAAAAAAAAAVA__FLsiNZzdKOVx3XVU9e", toward(Transport::Ws, Some(5))),
            ("BQlGMBj2MgAECgAAAQAJAAAAAAAAAAVA__FL8eHkJzp4_UAfWmut", toward(Transport::Wss, Some(5))),
        ];
        for (text, token) in table {
            assert_eq!(key().read(text.as_bytes(), &interfaces(7)), Some(token), "{text}");
            assert_eq!(TokenKey::router_of(text.as_bytes()), Some(9), "{text}");
        }
        // A number that no version has written, though the code over it is right.
        let mut octets = vec![LAST_KIND + 1, 9, 70, 0, 0, 0, 0, 0, 4, 10, 0, 0, 1, 0, 9];
        octets.extend([0; 12]);
        octets.extend(key().code(&octets.clone()));
        assert_eq!(key().read(URL_SAFE_NO_PAD.encode(octets).as_bytes(), &interfaces(7)), None);
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_key() {
        let (one, other) = (TokenKey::new([1; 16]), TokenKey::new([2; 16]));
        assert_eq!(one.derive("a"), TokenKey::new([1; 16]).of_router(3, &Accounts::default()).derive("a"));
        assert!(one.derive("a") != one.derive("b") && one.derive("a") != other.derive("a"));
    }

    #[test]
    fn an_account_is_known_by_its_name_and_not_by_its_number() {
        let token = Token::Toward {
            hop: Hop::from(&flow(Transport::Udp, "10.0.0.1:9", None)),
            account: Some(AccountId(2)),
        };
        let mut text = Vec::new();
        key().write(&token, 70, &interfaces(7), &mut text);
        let account_of = |names: &[&str]| {
            let account = |name: &&str| Account {
                user_name: (*name).to_owned(),
                secret: Secret::Address,
                scope: Scope::default(),
                kind: AccountKind::UcServer,
            };
            let key =
                TokenKey::new([1; 16]).of_router(0, &Accounts::new(names.iter().map(account).collect()));
            let Some(Token::Toward { account, .. }) = key.read(&text, &interfaces(7)) else {
                panic!("not read")
            };
            account
        };
        assert_eq!(account_of(&["c", "a"]), Some(AccountId(0)));
        assert_eq!(account_of(&["a", "b", "d"]), None);
    }

    #[test]
    fn an_interface_is_known_by_what_it_is_and_not_by_its_number() {
        let hop = Hop::from(&flow(Transport::Udp, "10.0.0.1:9", None));
        let mut text = Vec::new();
        key().write(&Token::Toward { hop, account: None }, 70, &interfaces(7), &mut text);
        let interface_of = |interfaces: &Interfaces| {
            let Some(Token::Toward { hop, .. }) = key().read(&text, interfaces) else { panic!("not read") };
            hop.interface
        };
        assert_eq!(interface_of(&interfaces(2)), InterfaceId(2));
        let others = vec![
            interface(7, Side::Wan, Transport::Udp, "127.0.0.1:5060"),
            interface(8, Side::Lan, Transport::Tcp, "127.0.0.1:5060"),
            interface(9, Side::Lan, Transport::Udp, "127.0.0.1:5070"),
        ];
        assert_eq!(interface_of(&Interfaces::new(others, Vec::new())), GONE);
    }

    /// The peer knows us by the address that it has written to, whichever of a wildcard's that is.
    #[test]
    fn the_own_address_is_kept_where_the_interface_has_several() {
        let list = vec![
            interface(7, Side::Lan, Transport::Udp, "0.0.0.0:5060"),
            interface(8, Side::Lan, Transport::Udp, "127.0.0.1:5062"),
        ];
        let interfaces = Interfaces::new(list, vec!["127.0.0.1".parse().unwrap()]);
        let local = |local: &str, flow: Flow| Flow { local: local.parse().unwrap(), ..flow };
        let (a, b) = (flow(Transport::Udp, "127.0.0.8:1", None), flow(Transport::Udp, "127.0.0.9:2", None));
        let (ours, other) = (local("127.1.2.3:5060", a), local("127.1.2.4:5060", b));
        let fixed = Flow { interface: InterfaceId(8), ..b };
        let tcp = local("127.1.2.3:5060", flow(Transport::Tcp, "127.0.0.9:2", Some(4)));
        for (down, expected) in [
            (local("127.1.2.3:5060", b), vec![Some("127.1.2.3")]),
            (other, vec![Some("127.1.2.4"), Some("127.1.2.3")]),
            (fixed, vec![None, Some("127.1.2.3")]),
            (tcp, vec![None, Some("127.1.2.3")]),
        ] {
            let mut found = Vec::new();
            let face = |flow| Face { flow, account: None, is_sips: false };
            values(&key(), &interfaces, face(&ours), face(&down), 70, |write| {
                let mut out = Vec::new();
                write(&mut out);
                let user = out[5..].split(|&octet| octet == b'@').next().unwrap();
                found.push(match key().read(user, &interfaces).unwrap() {
                    Token::Toward { hop, .. } => hop.local,
                    token @ Token::Between { .. } => token.next_hop(&Hop::from(&ours)).unwrap().0.local,
                });
            });
            let expected: Vec<_> = expected.iter().map(|ip| ip.map(|ip| ip.parse().unwrap())).collect();
            assert_eq!(found, expected, "{down:?}");
        }
    }

    #[test]
    fn a_token_leads_to_the_other_side() {
        let (a, b) =
            (flow(Transport::Udp, "10.0.0.1:5060", None), flow(Transport::Udp, "10.0.0.2:5060", None));
        let accounts = [Some(AccountId(4)), None];
        let token =
            Token::Between { interface: InterfaceId(7), local: None, ends: [a.remote, b.remote], accounts };
        assert_eq!((token.account_at(&a), token.account_at(&b)), (Some(AccountId(4)), None));
        let next_hop = |token: &Token, source: &Flow| token.next_hop(&Hop::from(source)).map(|(hop, _)| hop);
        assert_eq!(next_hop(&token, &a), Some(Hop::from(&b)));
        assert_eq!(next_hop(&token, &b), Some(Hop::from(&a)));
        let other_port = flow(Transport::Udp, "10.0.0.2:40000", None);
        assert_eq!(next_hop(&token, &other_port), Some(Hop::from(&a)));
        assert_eq!(next_hop(&token, &flow(Transport::Udp, "10.0.0.3:5060", None)), None);
        assert_eq!(token.account_at(&other_port), None);
        let toward = Token::Toward { hop: Hop::from(&a), account: Some(AccountId(5)) };
        assert_eq!((toward.account_at(&a), toward.account_at(&b)), (Some(AccountId(5)), None));
        assert_eq!(next_hop(&toward, &a), None);
        assert_eq!(toward.next_hop(&Hop::from(&b)), Some((Hop::from(&a), Some(AccountId(5)))));
        let to_itself =
            Token::Between { interface: InterfaceId(7), local: None, ends: [a.remote; 2], accounts };
        assert_eq!((next_hop(&to_itself, &a), next_hop(&to_itself, &b)), (Some(Hop::from(&a)), None));
    }

    #[test]
    fn a_token_of_a_peer_that_was_dialled_names_every_connection_with_it() {
        let connection = |id| flow(Transport::Tcp, "10.0.0.1:5060", id);
        let others = [
            flow(Transport::Tcp, "10.0.0.1:5061", Some(5)),
            flow(Transport::Tls, "10.0.0.1:5060", Some(5)),
            Flow { interface: InterfaceId(8), ..connection(Some(5)) },
        ];
        let token = |id| Token::Toward { hop: Hop::from(&connection(id)), account: Some(AccountId(5)) };
        for (written, seen, is_same) in [
            (None, Some(5), true),
            (None, Some(6), true),
            (Some(5), Some(5), true),
            (Some(5), Some(6), false),
        ] {
            let (token, source) = (token(written), connection(seen));
            assert_eq!(token.names(&source), is_same, "{written:?} {seen:?}");
            assert_eq!(token.account_at(&source).is_some(), is_same);
            assert_eq!(token.next_hop(&Hop::from(&source)).is_none(), is_same);
        }
        assert!(others.iter().all(|other| !token(None).names(other)));
    }

    #[test]
    fn one_socket_records_once_and_two_twice() {
        let key = TokenKey::new([1; 16]);
        let rows_of_pass = |up: &Flow, down: &Flow, pass| {
            let mut rows = Vec::new();
            let face = |flow| Face { flow, account: None, is_sips: false };
            values(&key, &Interfaces::default(), face(up), face(down), pass, |write| {
                let mut out = Vec::new();
                write(&mut out);
                rows.push(String::from_utf8(out).unwrap());
            });
            rows
        };
        let rows = |up: &Flow, down: &Flow| rows_of_pass(up, down, 69);
        let (a, b) =
            (flow(Transport::Udp, "10.0.0.1:5060", None), flow(Transport::Udp, "10.0.0.2:5060", None));
        assert_eq!(rows(&a, &b).len(), 1);
        let c = flow(Transport::Tcp, "10.0.0.3:1234", Some(9));
        let two = rows(&a, &c);
        assert_eq!(two.len(), 2);
        assert!(
            two[0].ends_with("@127.0.0.1:5060;transport=tcp;lr>") && two[1].ends_with("@127.0.0.1:5060;lr>")
        );
        assert_eq!(rows(&c, &flow(Transport::Tcp, "10.0.0.4:1", Some(10))).len(), 2);
        let again = rows_of_pass(&c, &a, 67);
        assert!(
            two.iter().all(|value| !again.contains(value)),
            "a spiral records other URIs: {two:?} {again:?}"
        );
        let ws =
            rows(&flow(Transport::Wss, "10.0.0.4:1", Some(9)), &flow(Transport::Ws, "10.0.0.5:1", Some(8)));
        assert!(ws.len() == 2 && ws.iter().all(|row| row.ends_with("@127.0.0.1:5060;transport=ws;lr>")));
    }
}
