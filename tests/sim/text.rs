//! SIP text, read and written without the parser under test.

use std::fmt::Write as _;
use std::rc::Rc;

use bytes::Bytes;

/// The headers that the simulation looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Via,
    MaxForwards,
    MaxBreadth,
    Route,
    RecordRoute,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    ContentLength,
    /// By which a request is known wherever it turns up.
    Request,
    /// By which a response is.
    Answer,
    /// Any other.
    Other,
}

/// Their names; of some a compact form is in use as well (RFC 3261 §7.3.3).
const NAMES: [(Header, &str, &str); 17] = [
    (Header::Via, "Via", "v"),
    (Header::MaxForwards, "Max-Forwards", ""),
    (Header::MaxBreadth, "Max-Breadth", ""),
    (Header::Route, "Route", ""),
    (Header::RecordRoute, "Record-Route", ""),
    (Header::From, "From", "f"),
    (Header::To, "To", "t"),
    (Header::CallId, "Call-ID", "i"),
    (Header::CSeq, "CSeq", ""),
    (Header::Contact, "Contact", "m"),
    (Header::Authorization, "Authorization", ""),
    (Header::ProxyAuthorization, "Proxy-Authorization", ""),
    (Header::WwwAuthenticate, "WWW-Authenticate", ""),
    (Header::ProxyAuthenticate, "Proxy-Authenticate", ""),
    (Header::ContentLength, "Content-Length", "l"),
    (Header::Request, "X-Sim-Request", ""),
    (Header::Answer, "X-Sim-Answer", ""),
];

impl Header {
    fn read(name: &[u8]) -> Self {
        let is_it = |(_, long, short): &&(Self, &str, &str)| {
            let known = if name.len() == 1 { short } else { long };
            known.len() == name.len() && known.as_bytes() == name
        };
        NAMES.iter().find(is_it).map_or(Self::Other, |(header, ..)| *header)
    }

    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(header, ..)| *header == self).map_or("?", |(_, name, _)| name)
    }
}

/// Opens the branch of every request that a peer sends; the number of the request follows.
pub(crate) const BRANCH: &str = "z9hG4bK-s";

/// A row: its header, and where it lies, with its CRLF and, where it is folded, whole.
#[derive(Clone, Copy, Debug)]
struct Row {
    header: Header,
    start: usize,
    /// Behind the colon.
    value: usize,
    end: usize,
}

/// A message: its octets, and where its rows lie.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    bytes: Bytes,
    start_end: usize,
    rows: Rc<[Row]>,
    body: usize,
}

impl Text {
    /// # Panics
    ///
    /// Where there is no empty line, or the header section is no text.
    pub(crate) fn read(bytes: &Bytes) -> Self {
        let end = memchr::memmem::find(bytes, b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no empty line in {bytes:?}")) + 2;
        assert!(std::str::from_utf8(&bytes[..end]).is_ok(), "no text: {bytes:?}");
        let start_end = memchr::memchr(b'\n', bytes).expect("there is an empty line") + 1;
        let mut rows: Vec<Row> = Vec::with_capacity(20);
        let mut start = start_end;
        for at in memchr::memchr_iter(b'\n', &bytes[start_end..end]) {
            let line_end = start_end + at + 1;
            match rows.last_mut().filter(|_| matches!(bytes[start], b' ' | b'\t')) {
                Some(folded) => folded.end = line_end,
                None => {
                    let line = &bytes[start..line_end];
                    let colon = memchr::memchr(b':', line).unwrap_or_else(|| panic!("no colon in {line:?}"));
                    let header = Header::read(line[..colon].trim_ascii_end());
                    rows.push(Row { header, start, value: start + colon + 1, end: line_end });
                }
            }
            start = line_end;
        }
        Self { bytes: bytes.clone(), start_end, rows: rows.into(), body: end + 2 }
    }

    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn part(&self, from: usize, to: usize) -> &str {
        std::str::from_utf8(&self.bytes[from..to]).expect("checked when it was read")
    }

    /// The start line.
    pub(crate) fn start(&self) -> &str {
        self.part(0, self.start_end).trim_end()
    }

    /// The status code; `None` for a request.
    pub(crate) fn status(&self) -> Option<u16> {
        let code = self.bytes.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
        std::str::from_utf8(code).ok()?.parse().ok()
    }

    /// The method of a request; of a response, the one in CSeq.
    pub(crate) fn method(&self) -> &str {
        match self.status() {
            None => self.start().split(' ').next().unwrap_or_default(),
            Some(_) => self.value(Header::CSeq).split(' ').nth(1).unwrap_or_default(),
        }
    }

    pub(crate) fn uri(&self) -> &str {
        self.start().split(' ').nth(1).unwrap_or_default()
    }

    /// The rows: what they are, and the whole line.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Header, &str)> {
        self.rows.iter().map(|row| (row.header, self.part(row.start, row.end)))
    }

    /// The values of all rows of this header.
    pub(crate) fn values(&self, header: Header) -> impl Iterator<Item = &str> {
        let rows = self.rows.iter().filter(move |row| row.header == header);
        rows.map(|row| self.part(row.value, row.end).trim())
    }

    pub(crate) fn get(&self, header: Header) -> Option<&str> {
        self.values(header).next()
    }

    /// The value of the first row of this header.
    ///
    /// # Panics
    ///
    /// Where there is none.
    pub(crate) fn value(&self, header: Header) -> &str {
        self.get(header).unwrap_or_else(|| panic!("no {} in\n{self}", header.name()))
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.body..]
    }

    /// The branch of the Via at this place.
    pub(crate) fn branch(&self, place: usize) -> Option<&str> {
        parameter(self.values(Header::Via).nth(place)?, "branch")
    }

    /// The number of the peer's request whose Via is at this place.
    pub(crate) fn request_number(&self, place: usize) -> Option<usize> {
        self.branch(place)?.strip_prefix(BRANCH)?.parse().ok()
    }

    /// The number of the peer's response.
    pub(crate) fn answer_number(&self) -> Option<usize> {
        self.get(Header::Answer)?.parse().ok()
    }

    /// Whether it is a request in a dialog.
    pub(crate) fn is_in_dialog(&self) -> bool {
        parameter(self.value(Header::To), "tag").is_some()
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

/// A parameter of a Via, From or To value, all of which peers write plainly.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parameters = value.rsplit_once('>').map_or(value, |(_, parameters)| parameters);
    parameters.split(';').skip(1).find_map(|parameter| {
        let (own, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (own == name).then_some(value)
    })
}

/// The URI of a name-addr.
pub(crate) fn uri_of(value: &str) -> &str {
    value.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or(value, |(uri, _)| uri)
}

/// The user part of a URI.
pub(crate) fn user_of(uri: &str) -> Option<&str> {
    uri.strip_prefix("sip:")?.split_once('@').map(|(user, _)| user)
}

/// `host:port` of a URI.
pub(crate) fn host_of(uri: &str) -> &str {
    let rest = uri.split_once('@').map_or_else(|| uri.trim_start_matches("sip:"), |(_, rest)| rest);
    rest.split(';').next().unwrap_or_default()
}

/// What a response to `request` copies from it (RFC 3261 §8.2.6.2, §12.1.1). `tag` goes into To where that has none.
/// The status line and further rows are the caller's.
pub(crate) fn copied_rows(request: &Text, status: u16, tag: &str) -> String {
    let mut out = String::with_capacity(512);
    for header in [Header::Via, Header::RecordRoute] {
        for value in request.values(header) {
            let _ = write!(out, "{}: {value}\r\n", header.name());
        }
    }
    let to = request.value(Header::To);
    let tag =
        if status == 100 || parameter(to, "tag").is_some() { String::new() } else { format!(";tag={tag}") };
    let _ = write!(out, "From: {}\r\nTo: {to}{tag}\r\n", request.value(Header::From));
    let _ = write!(
        out,
        "Call-ID: {}\r\nCSeq: {}\r\n",
        request.value(Header::CallId),
        request.value(Header::CSeq)
    );
    out
}

/// What follows an INVITE in its own transaction: its CANCEL, or with the response's To its ACK (RFC 3261 §9.1,
/// §17.1.1.3).
pub(crate) fn for_invite(invite: &Text, method: &str, to: Option<&str>) -> Bytes {
    let mut out = String::with_capacity(512);
    let _ = write!(out, "{method} {} SIP/2.0\r\nVia: {}\r\n", invite.uri(), invite.value(Header::Via));
    for route in invite.values(Header::Route) {
        let _ = write!(out, "Route: {route}\r\n");
    }
    let (number, _) = invite.value(Header::CSeq).split_once(' ').expect("a number and a method");
    let _ = write!(
        out,
        "Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        invite.value(Header::From),
        to.unwrap_or_else(|| invite.value(Header::To)),
        invite.value(Header::CallId),
    );
    Bytes::from(out)
}
