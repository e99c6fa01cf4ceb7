//! Which messages a trace shows.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::uri::{Host, Uri, unescape};
use crate::protocol::message::{Message, Name};

/// What an administrator has asked for, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// A Call-ID.
    pub call_id: Option<String>,
    /// The user part of From, To or the Request-URI.
    pub user: Option<String>,
    /// The domain of From, To or the Request-URI.
    pub domain: Option<String>,
    /// The address of a peer, or a network.
    pub peer: Option<String>,
    /// Everything.
    pub all: bool,
}

/// As the query of `GET /trace` has it, with blanks between.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call_id, user, domain, peer, all } = self;
        let texts = [("call_id", call_id), ("user", user), ("domain", domain), ("peer", peer)];
        let texts = texts.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", text.as_ref()?)));
        let all = all.then(|| "all=true".to_owned());
        f.write_str(&texts.chain(all).collect::<Vec<_>>().join(" "))
    }
}

/// What a message must have to be shown: all of these that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Criteria {
    call_id: Option<String>,
    user: Option<String>,
    domain: Option<String>,
    peer: Option<IpNet>,
    /// Nothing is asked for.
    pub(super) all: bool,
}

/// What is wrong with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CriteriaFault {
    /// Nothing at all.
    #[error(
        "nothing is asked for, allowed: call_id, user, domain, peer (all that are given must fit), or all=true"
    )]
    Nothing,
    /// Everything, and not everything.
    #[error("all leaves nothing to choose, allowed: all=true alone")]
    AllAndOthers,
    /// A Call-ID that no message has.
    #[error("call_id: `{0}` is none, allowed: a Call-ID as messages have it, without blanks")]
    CallId(String),
    /// A user that is none.
    #[error("user: `{0}` is none, allowed: what stands before the @; the rest is the domain")]
    User(String),
    /// A domain that is none.
    #[error("domain: `{0}` is none, allowed: what stands behind the @, a name or an address")]
    Domain(String),
    /// A peer that is none.
    #[error("peer: `{0}` is none, allowed: an IP address, or a network such as 192.0.2.0/24")]
    Peer(String),
}

impl Criteria {
    /// Checks what was asked for.
    pub fn new(wanted: Wanted) -> Result<Self, CriteriaFault> {
        let Wanted { call_id, user, domain, peer, all } = wanted;
        let has_others = call_id.is_some() || user.is_some() || domain.is_some() || peer.is_some();
        match (all, has_others) {
            (false, false) => return Err(CriteriaFault::Nothing),
            (true, true) => return Err(CriteriaFault::AllAndOthers),
            (true, false) | (false, true) => {}
        }
        let is_word =
            |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if let Some(call_id) = call_id.as_ref().filter(|call_id| !is_word(call_id)) {
            return Err(CriteriaFault::CallId(call_id.clone()));
        }
        let is_user = |user: &str| is_word(user) && !user.contains('@') && !user.starts_with("sip:");
        if let Some(user) = user.as_ref().filter(|user| !is_user(user)) {
            return Err(CriteriaFault::User(user.clone()));
        }
        if let Some(domain) = domain.as_ref().filter(|domain| Host::parse(domain.as_bytes()).is_none()) {
            return Err(CriteriaFault::Domain(domain.clone()));
        }
        let peer = peer.map(|text| network(&text).ok_or(CriteriaFault::Peer(text))).transpose()?;
        Ok(Self { call_id, user, domain, peer, all })
    }

    /// Whether a message that came from `remote`, or goes there or to one of `alternatives`, is what was asked for.
    /// `None` is what cannot be read as a message.
    pub(super) fn matches(
        &self,
        message: Option<&Message>,
        remote: SocketAddr,
        alternatives: &[SocketAddr],
    ) -> bool {
        let is_peer = |network: &IpNet| {
            let is_in = |address: &SocketAddr| network.contains(&address.ip().to_canonical());
            is_in(&remote) || alternatives.iter().any(is_in)
        };
        let of_message = |matches: &dyn Fn(&Message) -> bool| message.is_some_and(matches);
        self.peer.as_ref().is_none_or(is_peer)
            && self
                .call_id
                .as_ref()
                .is_none_or(|call_id| of_message(&|message| message.call_id() == call_id.as_bytes()))
            && self
                .user
                .as_ref()
                .is_none_or(|user| of_message(&|message| uris(message).any(|uri| is_user(uri, user))))
            && self
                .domain
                .as_ref()
                .is_none_or(|domain| of_message(&|message| uris(message).any(|uri| is_domain(uri, domain))))
    }
}

/// An address, or a network.
fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical())).or_else(|_| text.parse()).ok()
}

/// Those that say whom a message is from and for: the Request-URI, and those of From and To.
fn uris(message: &Message) -> impl Iterator<Item = &[u8]> {
    let of_row = |name| message.row(name).and_then(NameAddr::parse).map(|address| address.uri);
    [Some(message.request_uri()), of_row(Name::From), of_row(Name::To)].into_iter().flatten()
}

/// Users in SIP tell `Alice` from `alice`; who searches does not. Of a telephone number, with its parameters or not.
fn is_user(uri: &[u8], wanted: &str) -> bool {
    let user = match Uri::parse(uri) {
        Ok(uri) => uri.user.map(unescape),
        Err(_) => uri.get(..4).filter(|scheme| scheme.eq_ignore_ascii_case(b"tel:")).map(|_| uri[4..].into()),
    };
    user.is_some_and(|user| {
        let number = user.split(|&c| c == b';').next().unwrap_or_default();
        user.eq_ignore_ascii_case(wanted.as_bytes()) || number.eq_ignore_ascii_case(wanted.as_bytes())
    })
}

fn is_domain(uri: &[u8], wanted: &str) -> bool {
    let wanted = Host::parse(wanted.as_bytes());
    Uri::parse(uri).is_ok_and(|uri| wanted.is_some_and(|wanted| uri.host.is_same(&wanted)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::actors::trace::LIMITS;
    use crate::protocol::message::Carriage;

    fn message(request_uri: &str, from: &str, to: &str) -> Message {
        let text =
            format!("INVITE {request_uri} SIP/2.0\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: Call@1\r\n\r\n");
        Message::parse(Bytes::from(text), Carriage::Datagram, LIMITS).unwrap()
    }

    fn wanted(text: &str) -> Wanted {
        let mut wanted = Wanted::default();
        for (key, value) in text.split(' ').filter_map(|pair| pair.split_once('=')) {
            let value = Some(value.to_owned());
            match key {
                "call_id" => wanted.call_id = value,
                "user" => wanted.user = value,
                "domain" => wanted.domain = value,
                "peer" => wanted.peer = value,
                _ => wanted.all = true,
            }
        }
        wanted
    }

    #[test]
    fn a_message_has_all_that_is_asked_for() {
        let message = message(
            "sip:+4989123;phone-context=x@gw.example.org",
            "\"Alice <x>\" <sip:Alice%20B@[2001:db8::1]>;tag=1",
            "<tel:+49-89-456;phone-context=de>",
        );
        let table = [
            ("call_id=Call@1", true),
            ("call_id=call@1", false),
            ("call_id=Call@", false),
            ("user=+4989123", true),
            ("user=+4989123;phone-context=x", true),
            ("user=+498912", false),
            ("user=+49-89-456", true),
            ("domain=GW.Example.org.", true),
            ("domain=example.org", false),
            ("domain=[2001:db8:0::1]", true),
            ("domain=2001:db8::1", false),
            ("peer=192.0.2.7", true),
            ("peer=::ffff:192.0.2.7", true),
            ("peer=192.0.2.0/24", true),
            ("peer=192.0.2.8", false),
            ("peer=203.0.113.9", true),
            ("peer=2001:db8::/32", false),
            ("all=true", true),
            ("user=+4989123 peer=192.0.2.0/24 domain=gw.example.org call_id=Call@1", true),
            ("user=+4989123 peer=192.0.2.8", false),
            ("user=nobody domain=gw.example.org", false),
        ];
        for (text, expected) in table {
            let Ok(criteria) = Criteria::new(wanted(text)) else {
                assert!(!expected, "{text} is refused");
                continue;
            };
            let peer = "192.0.2.7:5060".parse().unwrap();
            let found = criteria.matches(Some(&message), peer, &["203.0.113.9:1".parse().unwrap()]);
            assert_eq!(found, expected, "{text}");
        }
        let blank = Criteria::new(Wanted { user: Some("alice b".to_owned()), ..Wanted::default() });
        assert!(blank.is_err());
    }

    #[test]
    fn a_user_is_found_whatever_its_case_and_escapes() {
        for uri in ["sip:ALICE@a.test", "sips:al%69ce:pw@a.test", "sip:alice;x=1@a.test"] {
            let criteria = Criteria::new(wanted("user=alice")).unwrap();
            for message in
                [message(uri, "<sip:a@b>", "<sip:a@b>"), message("sip:b", &format!("<{uri}>"), "x")]
            {
                assert!(criteria.matches(Some(&message), "192.0.2.7:5060".parse().unwrap(), &[]), "{uri}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_told_in_one_line() {
        for text in ["call_id=1@x", "user=a domain=b peer=::1", "all=true", ""] {
            assert_eq!(wanted(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_message_has_a_peer_and_nothing_else() {
        for (text, expected) in
            [("peer=192.0.2.7", true), ("all=true", true), ("user=a peer=192.0.2.7", false)]
        {
            let criteria = Criteria::new(wanted(text)).unwrap();
            assert_eq!(criteria.matches(None, "192.0.2.7:5060".parse().unwrap(), &[]), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        let table = [
            ("", "nothing is asked for"),
            ("all=true user=a", "all leaves nothing"),
            ("call_id=", "call_id: `` is none"),
            (
                "user=alice@example.org",
                "user: `alice@example.org` is none, allowed: what stands before the @",
            ),
            ("user=sip:alice", "user: "),
            ("domain=a..b", "domain: `a..b` is none"),
            ("domain=sip:example.org", "domain: "),
            ("peer=example.org", "peer: `example.org` is none"),
            ("peer=192.0.2.0/33", "peer: "),
        ];
        for (text, expected) in table {
            let fault = Criteria::new(wanted(text)).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{text}: {fault}");
        }
    }
}
