//! What becomes of each message.
//!
//! The proxy serves `example.com`, `example.net` and `example.org` and some hosts below them. The sender is a UC
//! server, logged on by its address; another one is asked for every user. Everything else is somewhere that the
//! proxy does not route to.

use Verdict::{Answer, Discard, Forward, Refuse, Survive};

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It reaches the other UC server as it came, but for what RFC 3261 §16.6 changes.
    Forward,
    /// Parser or validation refuse it: status, and the beginning of the reason phrase.
    Refuse(u16, &'static str),
    /// It is well-formed, and the proxy or its registrar answer it: status, and what the response contains.
    Answer(u16, &'static str),
    /// Nothing is sent to anybody.
    Discard,
    /// What is sent is left open: the proxy goes on.
    Survive,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its file, without `.dat`.
    pub(crate) file: &'static str,
    /// In a datagram.
    pub(crate) datagram: Verdict,
    /// On a stream, where its length means more.
    pub(crate) stream: Verdict,
    /// Why, where the RFC leaves a choice or the verdict is not its own.
    pub(crate) why: &'static str,
}

const fn case(file: &'static str, verdict: Verdict, why: &'static str) -> Case {
    Case { file, datagram: verdict, stream: verdict, why }
}

const fn by_carriage(file: &'static str, datagram: Verdict, stream: Verdict, why: &'static str) -> Case {
    Case { file, datagram, stream, why }
}

const NO_ROUTE: Verdict = Answer(404, "No Route To Domain");
const NOT_OUR_NETWORK: Verdict = Answer(403, "Address Not On The LAN");
const NO_LENGTH: Verdict = Refuse(400, "Missing Content-Length On Stream");
const REQUEST_LINE: Verdict = Refuse(400, "Malformed Request-Line");
const BAD_LENGTH: Verdict = Refuse(400, "Malformed Content-Length");
const MISMATCH: Verdict = Refuse(400, "CSeq Method Differs From Request Method");

/// RFC 4475 §3.1.1: valid messages.
pub(crate) const VALID: [Case; 15] = [
    case("wsinv", NO_ROUTE, "its Route names a host that is reached by no route here"),
    case("wsinv-without-route", Forward, ""),
    case("intmeth", Forward, "methods are tokens, and this one is for the user's server to refuse"),
    case("esc01", Forward, "an escaped user is not unescaped on the way"),
    case("escnull", Answer(200, "OK"), "a user may contain NUL"),
    case(
        "esc02",
        NO_ROUTE,
        "no REGISTER: the method is a token with percent signs, for a host not served here",
    ),
    case("lwsdisp", Forward, ""),
    case("longreq", Forward, ""),
    by_carriage(
        "dblreq",
        Answer(200, "OK"),
        Survive,
        "octets behind Content-Length are dropped from a datagram; on a stream the second request's body is longer than it says, which ends the connection",
    ),
    case("semiuri", Forward, ""),
    case("transports", Forward, "transports of other hops are none of ours"),
    case("mpart01", NOT_OUR_NETWORK, "its Route names an address outside the LAN's networks"),
    case("mpart01-without-route", Forward, "a binary body"),
    case("unreason", Discard, "its top Via is not ours (RFC 3261 §18.1.2)"),
    case("noreason", Discard, "its top Via is not ours (RFC 3261 §18.1.2)"),
];

/// RFC 4475 §3.1.2: invalid messages.
pub(crate) const INVALID: [Case; 20] = [
    case("badinv01", Refuse(400, "Malformed Via"), ""),
    by_carriage(
        "clerr",
        Refuse(400, "Body Shorter Than Content-Length"),
        Discard,
        "on a stream the rest may still come",
    ),
    case("ncl", BAD_LENGTH, ""),
    case(
        "scalar02",
        Refuse(400, "Missing Or Malformed CSeq"),
        "CSeq is below 2^31; Expires may be too large",
    ),
    case("scalarlg", Discard, "a response without readable CSeq is nobody's"),
    case("quotbal", Refuse(400, "Missing Or Malformed To"), ""),
    case("ltgtruri", Refuse(400, "Malformed Request-URI"), "to drop the brackets would be guessing"),
    case("lwsruri", REQUEST_LINE, ""),
    case("lwsstart", REQUEST_LINE, ""),
    case("trws", REQUEST_LINE, "the RFC allows to accept it; a hop that does not would refuse it for us"),
    case(
        "escruri",
        Refuse(400, "Headers In Request-URI"),
        "to honour them would let the sender write headers",
    ),
    case("baddate", Forward, "the proxy does not read Date"),
    case("regbadct", Answer(400, "Contact"), "the registrar reads Contact"),
    case(
        "badaspec",
        Refuse(400, "Missing Or Malformed To"),
        "the RFC allows to ignore the spaces; others do not",
    ),
    by_carriage(
        "baddn",
        Refuse(400, "No Empty Line"),
        Discard,
        "the archive's copy ends with its last header row",
    ),
    case(
        "baddn-with-empty-line",
        Refuse(400, "Missing Or Malformed From"),
        "to repair it would break signatures",
    ),
    case("badvers", Refuse(505, "Version Not Supported"), ""),
    case("mismatch01", MISMATCH, ""),
    case("mismatch02", MISMATCH, "the RFC allows 501 for the method, which a proxy does not refuse"),
    case("bigcode", Discard, ""),
];

/// RFC 4475 §3.2 to §3.4.
pub(crate) const SEMANTICS: [Case; 17] = [
    case("badbranch", Forward, "a cookie with nothing behind it is matched as in RFC 2543"),
    case("insuf", Refuse(400, "Missing Call-ID"), ""),
    case("unkscm", Refuse(416, "Unsupported URI Scheme"), ""),
    case("novelsc", Refuse(416, "Unsupported URI Scheme"), ""),
    case("unksm2", Answer(400, "Address-Of-Record Is No SIP URI"), "it is for the registrar"),
    case("bext01", Refuse(420, "Bad Extension"), "Require is for the user's server"),
    case("invut", Forward, "bodies are not read"),
    case("regaut01", Answer(200, "OK"), "other schemes prove nothing; the sender's address does"),
    case("multi01", Refuse(400, "Repeated"), ""),
    case("mcl01", BAD_LENGTH, ""),
    case("bcast", Discard, "its top Via is not ours, and the next is nobody to send to"),
    case("zeromf", Refuse(483, "Too Many Hops"), ""),
    case(
        "cparam01",
        Answer(200, "<sip:+19725552222@gw1.example.net>"),
        "without brackets it is the header's",
    ),
    case("cparam02", Answer(200, "<sip:+19725552222@gw1.example.net;unknownparam>"), ""),
    case("regescrt", Answer(200, "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"), ""),
    case("sdp01", Forward, "what the answer may be is for the user's server"),
    by_carriage(
        "inv2543",
        Forward,
        NO_LENGTH,
        "no tag, no branch, no length: RFC 2543 needed none in a datagram",
    ),
];

/// RFC 5118 §4.
pub(crate) const IPV6: [Case; 12] = [
    case("ipv6-good", NOT_OUR_NETWORK, ""),
    case("ipv6-bad", Refuse(400, "Malformed Request-URI"), ""),
    case("port-ambiguous", NOT_OUR_NETWORK, "well-formed: the port is part of the address"),
    case("port-unambiguous", NOT_OUR_NETWORK, ""),
    case("via-received-param-with-delim", NOT_OUR_NETWORK, "brackets around received are tolerated"),
    case("via-received-param-no-delim", NOT_OUR_NETWORK, ""),
    case("ipv6-in-sdp", NOT_OUR_NETWORK, ""),
    case("mult-ip-in-header", Forward, ""),
    case("mult-ip-in-sdp", NOT_OUR_NETWORK, ""),
    case("ipv4-mapped-ipv6", Forward, ""),
    case("ipv6-bug-abnf-3-colons", NOT_OUR_NETWORK, "the third colon is tolerated"),
    case("ipv6-correct-abnf-2-colons", NOT_OUR_NETWORK, ""),
];

/// Domains of Request-URI and From of the messages that are to be forwarded.
pub(crate) const DOMAINS: [&str; 7] = [
    "example.com",
    "example.net",
    "example.org",
    "chair-dnrc.example.com",
    "east.example.com",
    "host.example.net",
    "ift.client.example.net",
];

/// Every message.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    VALID.iter().chain(&INVALID).chain(&SEMANTICS).chain(&IPV6)
}

/// The octets of a message.
pub(crate) fn octets(case: &Case) -> Vec<u8> {
    let file = format!("{}/tests/torture/messages/{}.dat", env!("CARGO_MANIFEST_DIR"), case.file);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}
