//! The messages against the parser and the validation, without sockets.

use std::collections::BTreeSet;

use bytes::Bytes;
use sip_proxy::protocol::message::uri::{Host, Uri};
use sip_proxy::protocol::message::{Carriage, Message, MessageLimits, Name};
use sip_proxy::protocol::proxy::validate::{
    MaxForwards, check_max_forwards, check_proxy_require, check_syntax,
};

use super::table::{self, Case, Verdict};

const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

fn parse(case: &Case, carriage: Carriage) -> Option<Message> {
    Message::parse(Bytes::from(table::octets(case)), carriage, LIMITS).ok()
}

/// What validation says: `None` where the request may go on.
fn refusal(request: &Message) -> Option<(u16, &'static str)> {
    let limited = || match check_max_forwards(request) {
        Ok(MaxForwards::Forward(_)) => {
            check_proxy_require(request, &[]).err().map(|reply| (reply.status, reply.reason))
        }
        Ok(MaxForwards::Exhausted) => Some((483, "Too Many Hops")),
        Err(reply) => Some((reply.status, reply.reason)),
    };
    check_syntax(request).map_or_else(|reply| Some((reply.status, reply.reason)), |()| limited())
}

#[test]
fn parser_and_validation_judge_each_message_as_the_table_has_it() {
    for case in table::all() {
        let message = parse(case, Carriage::Datagram);
        let Case { file, why, .. } = case;
        match (case.datagram, &message) {
            (Verdict::Discard, None) | (Verdict::Survive, _) => {}
            (Verdict::Discard, Some(response)) => assert_eq!(response.method(), None, "{file}: {why}"),
            (Verdict::Forward | Verdict::Answer(..), Some(request)) => {
                assert_eq!(refusal(request), None, "{file}: {why}");
            }
            (Verdict::Refuse(status, reason), Some(request)) => {
                let refused = refusal(request).unwrap_or_else(|| panic!("{file} is let through: {why}"));
                assert!(refused.0 == status && refused.1.starts_with(reason), "{file}: {refused:?}, {why}");
                assert!(request.top_via().is_some(), "{file}: nobody would be told");
            }
            (_, None) => panic!("{file} cannot be read: {why}"),
        }
    }
}

#[test]
fn every_message_is_in_the_table_once() {
    let folder = format!("{}/tests/torture/messages", env!("CARGO_MANIFEST_DIR"));
    let entries =
        std::fs::read_dir(folder).expect("the messages").map(|entry| entry.expect("an entry").path());
    let files: BTreeSet<_> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    let cases: Vec<_> = table::all().map(|case| case.file.to_owned()).collect();
    assert_eq!(cases.len(), files.len());
    assert_eq!(cases.into_iter().collect::<BTreeSet<_>>(), files);
}

#[test]
fn responses_are_read_as_far_as_they_are_right() {
    let response = |file| {
        let case = table::all().find(|case| case.file == file).expect("a case of this name");
        parse(case, Carriage::Datagram)
    };
    assert!(response("bigcode").is_none());
    for (file, status, has_cseq) in
        [("unreason", 200, true), ("noreason", 100, true), ("bcast", 200, true), ("scalarlg", 503, false)]
    {
        let message = response(file).expect("a response");
        assert_eq!((message.status(), message.fault()), (Some(status), None), "{file}");
        assert_eq!(message.cseq().is_some(), has_cseq, "{file}");
    }
}

#[test]
fn a_port_is_what_stands_behind_the_bracket() {
    let table = [
        ("port-ambiguous", "2001:db8::10:5070", None),
        ("port-unambiguous", "2001:db8::10", Some(5070)),
        ("ipv6-bug-abnf-3-colons", "2001:db8::c000:201", None),
        ("ipv6-correct-abnf-2-colons", "2001:db8::192.0.2.1", None),
    ];
    for (file, address, port) in table {
        let case = table::IPV6.iter().find(|case| case.file == file).expect("a case of this name");
        let message = parse(case, Carriage::Datagram).expect("a request");
        let uri = Uri::parse(message.request_uri()).expect("a SIP URI");
        assert_eq!((uri.host, uri.port), (Host::Address(address.parse().unwrap()), port), "{file}");
    }
}

#[test]
fn the_tortuous_invite_is_read_to_its_last_parameter() {
    let case = table::VALID.iter().find(|case| case.file == "wsinv").expect("it is the first");
    let invite = parse(case, Carriage::Datagram).expect("a request");
    assert_eq!(invite.to().and_then(|to| to.tag()), Some(&b"1918181833n"[..]));
    assert_eq!(invite.from().and_then(|from| from.tag()), Some(&b"98asjd8"[..]));
    assert_eq!(invite.cseq().map(|cseq| (cseq.number, cseq.method)), Some((9, &b"INVITE"[..])));
    let branches: Vec<_> = invite
        .values(Name::Via)
        .map(|value| sip_proxy::protocol::message::via::Via::parse(value).and_then(|via| via.branch))
        .collect();
    let expected = [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"].map(Some);
    assert_eq!(branches, expected);
    assert_eq!(invite.body().len(), 150);
}
