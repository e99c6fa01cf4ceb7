//! Messages as UC servers send them.

use bytes::Bytes;

/// Where the caller is.
pub(crate) const CALLER: &str = "127.0.0.1:6000";

/// Where the callee is.
pub(crate) const CALLEE: &str = "127.0.0.1:6100";

/// A session description of one audio stream.
pub(crate) const SDP: &str = "v=0\r\no=alice 2890844526 2890844526 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                       m=audio 49170 RTP/AVP 0 8 97\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
                       a=rtpmap:97 iLBC/8000\r\na=sendrecv\r\n";

/// A presence document (RFC 3863).
const PIDF: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
                    <presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"sip:bob@home.test\">\r\n\
                    <tuple id=\"sg89ae\"><status><basic>open</basic></status>\
                    <contact priority=\"0.8\">sip:bob@home.test</contact><note>In a meeting</note></tuple>\r\n\
                    </presence>\r\n";

/// A request of the caller's: `to` is the value of To, `rows` are those beside the usual ones.
fn request(method: &str, uri: &str, to: &str, number: u64, rows: &str, body: &str) -> Bytes {
    Bytes::from(format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bK{method}{number:012x}\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@home.test>;tag=f{number:012x}\r\n\
         To: {to}\r\n\
         Call-ID: {number:012x}@127.0.0.1\r\n\
         CSeq: 1 {method}\r\n\
         User-Agent: UCServer/7.2.1\r\n\
         {rows}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn user(which: u64) -> String {
    format!("sip:u{which:06}@home.test")
}

fn contact(which: u64) -> String {
    format!("sip:u{which:06}@{CALLEE}")
}

/// An instant message of 450 octets.
pub(crate) fn message(number: u64, to: u64) -> Bytes {
    let user = user(to);
    let body = "See you at ten in the small room; bring the figures of last week. ".repeat(2);
    request("MESSAGE", &user, &format!("<{user}>"), number, "Content-Type: text/plain\r\n", body.trim_end())
}

/// A registration of one user by his UC server.
pub(crate) fn register(number: u64, which: u64) -> Bytes {
    let (user, contact) = (user(which), contact(which));
    Bytes::from(format!(
        "REGISTER sip:home.test SIP/2.0\r\n\
         Via: SIP/2.0/UDP {CALLEE};rport;branch=z9hG4bKr{number:012x}\r\n\
         Max-Forwards: 70\r\n\
         From: <{user}>;tag=r{number:012x}\r\n\
         To: <{user}>\r\n\
         Call-ID: r{which:06}@127.0.0.1\r\n\
         CSeq: {number} REGISTER\r\n\
         Contact: <{contact}>\r\n\
         Expires: 3600\r\n\
         Content-Length: 0\r\n\r\n"
    ))
}

/// The beginning of a call.
pub(crate) fn invite(number: u64, to: u64) -> Bytes {
    let user = user(to);
    let rows = "Contact: <sip:alice@127.0.0.1:6000>\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE\r\n\
                Supported: replaces, timer\r\nContent-Type: application/sdp\r\n";
    request("INVITE", &user, &format!("<{user}>"), number, rows, SDP)
}

/// A request in the dialog that [`invite`] has begun.
pub(crate) fn in_dialog(method: &str, number: u64, to: u64, route: &[u8]) -> Bytes {
    let rows = format!("Route: {}\r\n", String::from_utf8_lossy(route));
    request(method, &contact(to), &format!("<{}>;tag=callee", user(to)), number, &rows, "")
}

/// A notification of presence in a dialog.
pub(crate) fn notify(number: u64) -> Bytes {
    let rows = "Contact: <sip:127.0.0.1:6000>\r\nEvent: presence\r\nSubscription-State: active;expires=3599\r\n\
                Route: <sip:127.0.0.1:5060;lr;t=0123456789abcdef0123456789abcdef>\r\n\
                Content-Type: application/pidf+xml\r\n";
    request("NOTIFY", &contact(0), &format!("<{}>;tag=callee", user(0)), number, rows, PIDF)
}

/// The callee's answer to a request as it has arrived.
pub(crate) fn response(request: &[u8], status: &str, body: &str) -> Bytes {
    let text = std::str::from_utf8(request).expect("these messages are text");
    let mut response = format!("SIP/2.0 {status}\r\n");
    for row in text.split("\r\n").skip(1).take_while(|row| !row.is_empty()) {
        let name = row.split(':').next().expect("a split has a first part");
        if ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"].contains(&name) {
            let tag = if name == "To" && !row.contains(";tag=") { ";tag=callee" } else { "" };
            response += &format!("{row}{tag}\r\n");
        }
    }
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    response +=
        &format!("Contact: <sip:callee@{CALLEE}>\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    Bytes::from(response)
}
