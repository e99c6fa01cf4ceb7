//! Traced messages for people: what peers have written reaches no terminal as it is.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::actors::control::trace::Traced;
use crate::actors::trace;
use crate::cli::table::{Screen, Tone, is_harmful};
use crate::protocol::message::name_addr::NameAddr;
use crate::protocol::message::{Message, Name};

/// A line about the message, then the message, each line of it indented: what a peer writes cannot pass for ours.
pub(super) fn whole(traced: &Traced, octets: &[u8], screen: Screen) -> String {
    let mut out = missed(traced.missed);
    let Traced { time, direction, transport, source, destination, interface, .. } = traced;
    let head = format!("{time}  {direction:<3} {source} -> {destination}  {transport}  {interface}");
    out.push_str(&painted(&head, direction, screen));
    out.push('\n');
    let text = String::from_utf8_lossy(octets).replace("\r\n", "\n");
    for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
        out.push_str("    ");
        out.push_str(&harmless(line));
        out.push('\n');
    }
    out
}

/// One line: what it is, its call, from whom, for whom.
pub(super) fn short(traced: &Traced, octets: &[u8], screen: Screen) -> String {
    let Traced { time, direction, transport, source, destination, .. } = traced;
    let message = trace::read(&Bytes::copy_from_slice(octets));
    let (kind, call_id, from, to) = message.as_ref().map_or_else(
        || ("no SIP".to_owned(), String::new(), String::new(), String::new()),
        |message| (kind(message), lossy(message.call_id()), uri(message, Name::From), uri(message, Name::To)),
    );
    let head = format!("{time}  {direction:<3} {source} -> {destination}  {transport:<4}");
    let head = painted(&head, direction, screen);
    format!(
        "{}{head} {:<14} {}  {} > {}\n",
        missed(traced.missed),
        harmless(&kind),
        harmless(&call_id),
        harmless(&from),
        harmless(&to)
    )
}

fn missed(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => "(1 message is missing here: they came faster than they were read)\n".to_owned(),
        _ => format!("({count} messages are missing here: they came faster than they were read)\n"),
    }
}

fn painted(head: &str, direction: &str, screen: Screen) -> String {
    let tone = if direction == "in" { Tone::Good } else { Tone::Doubtful };
    screen.paint(tone, &harmless(head))
}

/// The method; of a response the status and what it answers.
fn kind(message: &Message) -> String {
    let Some(status) = message.status() else { return lossy(message.method_token()) };
    let answered = message.row(Name::CSeq).and_then(|number| number.rsplit(|&c| c == b' ').next());
    format!("{status} {}", lossy(answered.unwrap_or_default()))
}

/// Without parameters.
fn uri(message: &Message, name: Name) -> String {
    let uri = message.row(name).and_then(NameAddr::parse).map(|address| address.uri).unwrap_or_default();
    lossy(uri.split(|&c| c == b';').next().unwrap_or_default())
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// What moves a terminal's cursor, commands it, or turns the direction of writing, as `\u{hex}`.
pub(super) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// The same for a line of JSON, in which such a character can only stand in a string.
pub(super) fn harmless_json(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        if is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(direction: &str, missed: u64) -> Traced {
        Traced {
            time: "2026-11-28T01:02:03.000004Z".to_owned(),
            direction: direction.to_owned(),
            transport: "tls".to_owned(),
            source: "192.0.2.7:40000".to_owned(),
            destination: "192.0.2.1:5061".to_owned(),
            interface: "lan".to_owned(),
            text: String::new(),
            octets: None,
            missed,
        }
    }

    const PLAIN: Screen = Screen { width: None, has_colours: false };
    const COLOURED: Screen = Screen { width: None, has_colours: true };

    const MESSAGE: &[u8] =
        b"SIP/2.0 200 OK\r\nf: \"Bob \x1b[2J\" <sip:bob@b.test;x=1>;tag=1\r\nTo: <sip:a@a.test>\r\n\
        CSeq: 1  INVITE\r\ni: call\x07\r\nl: 5\r\n\r\na\nb\rc";

    #[test]
    fn a_message_is_printed_below_a_line_about_it() {
        let expected = "(2 messages are missing here: they came faster than they were read)\n\
            2026-11-28T01:02:03.000004Z  in  192.0.2.7:40000 -> 192.0.2.1:5061  tls  lan\n    SIP/2.0 200 OK\n    \
            f: \"Bob \\u{1b}[2J\" <sip:bob@b.test;x=1>;tag=1\n    To: <sip:a@a.test>\n    CSeq: 1  INVITE\n    \
            i: call\\u{7}\n    l: 5\n    \n    a\n    b\\u{d}c\n";
        assert_eq!(whole(&traced("in", 2), MESSAGE, PLAIN), expected);
    }

    #[test]
    fn one_line_says_what_it_is_of_which_call_from_whom_and_for_whom() {
        let expected = "2026-11-28T01:02:03.000004Z  out 192.0.2.7:40000 -> 192.0.2.1:5061  tls  200 INVITE     \
            call\\u{7}  sip:bob@b.test > sip:a@a.test\n";
        assert_eq!(short(&traced("out", 0), MESSAGE, PLAIN), expected);
        let request = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
        assert!(short(&traced("out", 0), request, PLAIN).ends_with("tls  OPTIONS        1   > \n"));
        assert!(short(&traced("out", 1), b"x", PLAIN).starts_with("(1 message is missing here: "));
        assert!(short(&traced("out", 0), b"x", PLAIN).contains(" no SIP "));
    }

    #[test]
    fn colour_is_ours_alone_and_only_where_it_is_wanted() {
        for (direction, colour) in [("in", "\x1b[32m"), ("out", "\x1b[33m")] {
            for printed in [
                whole(&traced(direction, 0), MESSAGE, COLOURED),
                short(&traced(direction, 0), MESSAGE, COLOURED),
            ] {
                assert!(printed.starts_with(colour));
                assert_eq!(printed.matches('\x1b').count(), 2);
            }
            assert!(!whole(&traced(direction, 0), MESSAGE, PLAIN).contains('\x1b'));
        }
    }

    #[test]
    fn nothing_reaches_a_terminal_that_commands_it() {
        let table = [
            ("\x1b]0;x\x07", "\\u{1b}]0;x\\u{7}", "\\u001b]0;x\\u0007"),
            ("\u{9b}2J\u{7f}\r", "\\u{9b}2J\\u{7f}\\u{d}", "\\u009b2J\\u007f\\u000d"),
            ("\u{202e}gpj\u{2066}\u{2028}", "\\u{202e}gpj\\u{2066}\\u{2028}", "\\u202egpj\\u2066\\u2028"),
            ("\u{e0041}", "\\u{e0041}", "\\udb40\\udc41"),
            ("Jörg – 😀", "Jörg – 😀", "Jörg – 😀"),
        ];
        for (text, plain, json) in table {
            assert_eq!((harmless(text), harmless_json(text)), (plain.to_owned(), json.to_owned()));
            let back: String = serde_json::from_str(&format!("\"{json}\"")).unwrap();
            assert_eq!(back, text);
        }
    }
}
