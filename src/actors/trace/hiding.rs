//! What is not shown of a traced message: secrets never, bodies only where they are asked for.
//!
//! A body that is hidden gives its place to a line that says what it was. Content-Type and Content-Length become those of
//! that line, so that what is shown is a whole message again, for the reader's eye as for Wireshark.

use bytes::Bytes;

use super::read;
use crate::protocol::message::edit::Edit;
use crate::protocol::message::lexical::{is_token, push_decimal};
use crate::protocol::message::{Message, Name};

/// Stands where a secret was.
const HIDDEN: &str = "(hidden)";

/// Headers, beside those of [`Name`], whose values prove who somebody is: RFC 3261 §20.6, [MS-SIPAE] §2.2, RFC 8224 §4
/// with its compact form, and cookies, which some peers put into SIP.
const SECRETS: [&[u8]; 6] =
    [b"Authentication-Info", b"Proxy-Authentication-Info", b"Identity", b"y", b"Cookie", b"Set-Cookie"];

/// The message as it may be shown. What cannot be read gives its place to a line, with a body or without.
pub fn shown(octets: &Bytes, with_body: bool) -> Bytes {
    let Some(message) = read(octets) else {
        return Bytes::from(format!("[{} octets that are no SIP message]\r\n", octets.len()));
    };
    let mut scratch = Vec::new();
    let mut edit = Edit::new(&message, &mut scratch);
    hide_password(&mut edit, &message, message.request_uri());
    for (name, written, value) in message.all_rows() {
        if is_secret(name, written) {
            let scheme = scheme(name, value);
            edit.replace(message.span_of(value), |out| {
                out.extend_from_slice(scheme);
                out.extend_from_slice(HIDDEN.as_bytes());
            });
        } else {
            hide_password(&mut edit, &message, value);
        }
    }
    if !with_body && !message.body().is_empty() {
        hide_body(&mut edit, &message);
    }
    edit.write()
}

fn is_secret(name: Name, written: &[u8]) -> bool {
    match name {
        Name::Authorization | Name::ProxyAuthorization => true,
        Name::Other => SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(written)),
        _ => false,
    }
}

/// The scheme of credentials, with the blank behind it, where that is not the secret itself.
fn scheme(name: Name, value: &[u8]) -> &[u8] {
    let end = value.iter().position(|&c| c == b' ').filter(|&end| value[..end].iter().all(|&c| is_token(c)));
    match (name, end) {
        (Name::Authorization | Name::ProxyAuthorization, Some(end)) => &value[..=end],
        _ => b"",
    }
}

/// A password in a URI (RFC 3261 §19.1.1), wherever one begins in `text`.
fn hide_password(edit: &mut Edit<'_, '_>, message: &Message, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'@', rest) {
        let before = &rest[..at];
        // What neither user nor password can have ends the search for where they begin.
        let start = before.iter().rposition(|c| b"<>\" \t\r\n".contains(c)).map_or(0, |at| at + 1);
        let info = &before[start..];
        let user = [&b"sip:"[..], b"sips:"].into_iter().find_map(|scheme| {
            let is_scheme = info.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
            is_scheme.then(|| &info[scheme.len()..])
        });
        if let Some(user) = user
            && let Some(colon) = memchr::memchr(b':', user)
        {
            edit.replace(message.span_of(&user[colon + 1..]), |out| out.extend_from_slice(HIDDEN.as_bytes()));
        }
        rest = &rest[at + 1..];
    }
}

fn hide_body(edit: &mut Edit<'_, '_>, message: &Message) {
    let media_type = message.row(Name::ContentType).map(media_type).unwrap_or_default();
    let media_type = if media_type.is_empty() { "an unknown type" } else { &media_type };
    let note = format!("[{} octets of {media_type}, hidden]\r\n", message.body().len());
    for length in message.rows(Name::ContentLength) {
        edit.replace(message.span_of(length), |out| push_decimal(out, note.len() as u64));
    }
    for content_type in message.rows(Name::ContentType) {
        edit.replace(message.span_of(content_type), |out| out.extend_from_slice(b"text/plain"));
    }
    edit.replace(message.span_of(message.body()), |out| out.extend_from_slice(note.as_bytes()));
}

/// Without parameters.
fn media_type(value: &[u8]) -> String {
    let is_part = |c: &&u8| is_token(**c) || **c == b'/';
    value.iter().take_while(is_part).map(|&c| char::from(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::trace::LIMITS;
    use crate::protocol::message::Carriage;

    fn show(text: &str, with_body: bool) -> String {
        String::from_utf8(shown(&Bytes::from(text.replace('\n', "\r\n")), with_body).to_vec())
            .unwrap()
            .replace("\r\n", "\n")
    }

    #[test]
    fn a_body_gives_its_place_to_a_line_that_says_what_it_was() {
        let table = [
            (
                "MESSAGE sip:a@b SIP/2.0\nc: text/html;charset=x\nCall-ID: 1\nl: 5\n\nsecre",
                "MESSAGE sip:a@b SIP/2.0\nc: text/plain\nCall-ID: 1\nl: 33\n\n[5 octets of text/html, hidden]\n",
            ),
            // Of a datagram, the length may not be there; what comes behind it is no part of the message.
            (
                "SIP/2.0 200 OK\nX: y\n\nsecre",
                "SIP/2.0 200 OK\nX: y\n\n[5 octets of an unknown type, hidden]\n",
            ),
            (
                "SIP/2.0 200 OK\nContent-Length: 2\n\nsecret",
                "SIP/2.0 200 OK\nContent-Length: 39\n\n[2 octets of an unknown type, hidden]\n",
            ),
            // Nothing is hidden where nothing is.
            (
                "SIP/2.0 200 OK\nContent-Type: a/b\nContent-Length: 0\n\n",
                "SIP/2.0 200 OK\nContent-Type: a/b\nContent-Length: 0\n\n",
            ),
            // Faulty, and shown for that.
            (
                "SIP/2.0 200 OK\nContent-Length: 9\nContent-Length: 8\n\nsecret",
                "SIP/2.0 200 OK\nContent-Length: 39\nContent-Length: 39\n\n[6 octets of an unknown type, hidden]\n",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(show(text, false), expected);
        }
    }

    #[test]
    fn a_shown_message_is_as_long_as_it_says() {
        let text = "MESSAGE sip:a@b SIP/2.0\nContent-Type: application/sdp\nContent-Length: 8\n\nv=0\na\n";
        let octets = shown(&Bytes::from(text.replace('\n', "\r\n")), false);
        let message = Message::parse(octets.clone(), Carriage::Stream, LIMITS).unwrap();
        assert_eq!((message.fault(), message.bytes()), (None, &octets));
    }

    #[test]
    fn with_bodies_all_else_is_as_it_was() {
        let text = "MESSAGE sip:a@b SIP/2.0\nX : y\n z\nContent-Length: 6\n\nsecret";
        assert_eq!(show(text, true), text);
    }

    #[test]
    fn secrets_are_never_shown() {
        let table = [
            (
                "Authorization: Digest username=\"a\", nonce=\"n\", response=\"r\"",
                "Authorization: Digest (hidden)",
            ),
            ("proxy-authorization:NTLM qop=\"auth\", gssapi-data=\"n\"", "proxy-authorization:NTLM (hidden)"),
            ("Authorization: Digest\n username=\"a\"", "Authorization: (hidden)"),
            ("Authorization: token", "Authorization: (hidden)"),
            ("Authorization: \"to ken\"", "Authorization: (hidden)"),
            ("Authorization: ", "Authorization: (hidden)"),
            ("AUTHENTICATION-INFO: rspauth=\"r\", nextnonce=\"n\"", "AUTHENTICATION-INFO: (hidden)"),
            ("Proxy-Authentication-Info: Kerberos rspauth=\"r\"", "Proxy-Authentication-Info: (hidden)"),
            ("Identity: eyJ.x.y;info=<https://a>;alg=ES256", "Identity: (hidden)"),
            ("y: eyJ.x.y", "y: (hidden)"),
            ("Cookie: a=b", "Cookie: (hidden)"),
            ("Set-Cookie: a=b", "Set-Cookie: (hidden)"),
            (
                "Contact: <sip:a:pw@b:5060>, \"sip:x@\" <SIPS:c:p:w@d>",
                "Contact: <sip:a:(hidden)@b:5060>, \"sip:x@\" <SIPS:c:(hidden)@d>",
            ),
            ("From: sip:a:pw@b;tag=1", "From: sip:a:(hidden)@b;tag=1"),
            ("Contact: <sip:b:5060;x=@>, <sip:[::1]:5061>", "Contact: <sip:b:(hidden)@>, <sip:[::1]:5061>"),
            (
                "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\"",
                "WWW-Authenticate: Digest realm=\"x\", nonce=\"n\"",
            ),
        ];
        for (row, expected) in table {
            for with_body in [false, true] {
                let around = |row: &str| format!("OPTIONS sip:u@h SIP/2.0\nCall-ID: 1\n{row}\nX: y\n\n");
                assert_eq!(show(&around(row), with_body), around(expected));
            }
        }
        assert_eq!(
            show("OPTIONS sip:u:pw@h SIP/2.0\nX: y\n\n", true),
            "OPTIONS sip:u:(hidden)@h SIP/2.0\nX: y\n\n"
        );
    }

    #[test]
    fn what_is_no_message_is_counted_and_not_shown() {
        for with_body in [false, true] {
            assert_eq!(show("secret\n\n", with_body), "[10 octets that are no SIP message]\n");
        }
    }
}
