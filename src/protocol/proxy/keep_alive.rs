//! Keep-alive as Microsoft's peers agree on it (MS-CONMGMT §2.2.1, §3.4.2): a request on a stream asks, and whatever answers
//! it on this hop says how long the connection may be silent. Any traffic counts.

use std::borrow::Cow;
use std::time::Duration;

use crate::protocol::flow::Flow;
use crate::protocol::message::lexical::trim;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Name};

/// Whether a request asks for it on this hop. Datagrams have nothing to keep alive.
pub(super) fn is_asked(request: &Message, source: &Flow) -> bool {
    source.transport.is_reliable() && request.row(Name::MsKeepAlive).is_some_and(asks)
}

fn asks(value: &[u8]) -> bool {
    let mut parts = value.split(|&octet| octet == b';').map(trim);
    let is_client = parts.next().is_some_and(|role| role.eq_ignore_ascii_case(b"UAC"));
    is_client
        && parts.any(|parameter| {
            let mut sides = parameter.splitn(2, |&octet| octet == b'=').map(trim);
            sides.next().is_some_and(|name| name.eq_ignore_ascii_case(b"hop-hop"))
                && sides.next().is_some_and(|value| value.eq_ignore_ascii_case(b"yes"))
        })
}

/// The answer: the connection ends after `silence` at the earliest.
pub(super) fn promise(silence: Duration) -> String {
    format!("UAS;tcp=no;hop-hop=yes;end-end=no;timeout={}", silence.as_secs().max(1))
}

/// A response of our own, with the answer if that is asked for.
pub(super) fn promised<'a>(
    reply: &'a Reply,
    request: &Message,
    source: &Flow,
    silence: Duration,
) -> Cow<'a, Reply> {
    match is_asked(request, source) {
        true => Cow::Owned(reply.clone().row(Name::MsKeepAlive.as_str(), promise(silence))),
        false => Cow::Borrowed(reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_keep_alive_on_this_hop() {
        let table = [
            ("UAC;hop-hop=yes", true),
            ("uac ; tcp=no; HOP-HOP = Yes;timeout=30", true),
            ("UAC;end-end=yes", false),
            ("UAC;hop-hop=no", false),
            ("UAC;hop-hop", false),
            ("UAC", false),
            ("UAS;hop-hop=yes", false),
            ("hop-hop=yes", false),
            ("", false),
        ];
        for (value, expected) in table {
            assert_eq!(asks(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn the_promise_is_in_whole_seconds() {
        for (millis, seconds) in [(540_000, 540), (1_999, 1), (9, 1)] {
            let promise = promise(Duration::from_millis(millis));
            assert_eq!(promise, format!("UAS;tcp=no;hop-hop=yes;end-end=no;timeout={seconds}"));
        }
    }
}
