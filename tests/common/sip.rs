//! SIP as text: enough to write, read and compare messages (RFC 3261 §7), and to cut a stream into them (§18.3).

use std::fmt;

/// Long forms of the compact header names (RFC 3261 §7.3.3, RFC 6665 §8.4, RFC 3515 §2.1).
const COMPACT_NAMES: [(&str, &str); 13] = [
    ("v", "Via"),
    ("f", "From"),
    ("t", "To"),
    ("m", "Contact"),
    ("i", "Call-ID"),
    ("k", "Supported"),
    ("l", "Content-Length"),
    ("c", "Content-Type"),
    ("s", "Subject"),
    ("e", "Content-Encoding"),
    ("o", "Event"),
    ("u", "Allow-Events"),
    ("r", "Refer-To"),
];

/// One SIP message: what stands in it, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sip {
    /// Request line or status line.
    pub(crate) start_line: String,
    /// Header rows, unfolded; names as they were written.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What a stream brings next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// One whole message, octet for octet.
    Message(Vec<u8>),
    /// A double CRLF (RFC 5626 §4.4.1).
    Ping,
    /// The single CRLF that answers it.
    Pong,
}

impl Sip {
    /// A request with nothing but its request line.
    pub(crate) fn request(method: &str, uri: &str) -> Self {
        Self { start_line: format!("{method} {uri} SIP/2.0"), headers: Vec::new(), body: Vec::new() }
    }

    /// The response to `request`: Via, From, To, Call-ID and CSeq copied (RFC 3261 §8.2.6.2), Record-Route too
    /// (§12.1.1). To gets `tag` where it has none.
    pub(crate) fn response(request: &Self, status: u16, reason: &str, tag: &str) -> Self {
        let mut response =
            Self { start_line: format!("SIP/2.0 {status} {reason}"), headers: Vec::new(), body: Vec::new() };
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in request.all(name) {
                let untagged = name == "To" && status != 100 && parameter(value, "tag").is_none();
                let value = if untagged { format!("{value};tag={tag}") } else { value.to_owned() };
                response.headers.push((name.to_owned(), value));
            }
        }
        response
    }

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// A sentence that names what is missing or malformed. Octets beyond Content-Length are one of these faults.
    pub(crate) fn parse(octets: &[u8]) -> Result<Self, String> {
        let end = find(octets, b"\r\n\r\n").ok_or("no empty line ends the header section")?;
        let head = std::str::from_utf8(&octets[..end]).map_err(|error| format!("header section: {error}"))?;
        let mut lines = head.split("\r\n");
        let start_line = lines.next().unwrap_or_default().to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut().ok_or("the first header row is folded")?;
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let message = Self { start_line, headers, body: octets[end + 4..].to_vec() };
        match message.header("Content-Length").map(str::parse::<usize>) {
            Some(Ok(length)) if length == message.body.len() => Ok(message),
            Some(Ok(length)) => {
                Err(format!("Content-Length is {length}, the body has {} octets", message.body.len()))
            }
            Some(Err(error)) => Err(format!("Content-Length: {error}")),
            None => Ok(message),
        }
    }

    /// The method of a request; the method in CSeq of a response.
    pub(crate) fn method(&self) -> &str {
        if self.is_request() {
            self.start_line.split(' ').next().unwrap_or_default()
        } else {
            self.need("CSeq").split_whitespace().nth(1).unwrap_or_default()
        }
    }

    /// The Request-URI.
    pub(crate) fn uri(&self) -> &str {
        assert!(self.is_request(), "a response has no Request-URI:\n{self}");
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status code; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        if self.is_request() {
            return 0;
        }
        self.start_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn is_request(&self) -> bool {
        !self.start_line.starts_with("SIP/2.0 ")
    }

    /// The first row of this name, in its long or compact form and any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| is_name(known, name)).map(|(_, value)| value.as_str())
    }

    /// The first row of this name.
    ///
    /// # Panics
    ///
    /// Where there is none, with the whole message.
    pub(crate) fn need(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in:\n{self}"))
    }

    /// All rows of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| is_name(known, name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// All values of this name, rows split at their commas (RFC 3261 §7.3.1).
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.all(name).into_iter().flat_map(|row| split(row, ',')).collect()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the test compares text only with bodies that are text")
    }

    /// Adds a row at the end.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces the rows of this name by one, in the place of the first.
    #[must_use]
    pub(crate) fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        let place = self.headers.iter().position(|(known, _)| is_name(known, name));
        self = self.without(name);
        let place = place.unwrap_or(self.headers.len());
        self.headers.insert(place, (name.to_owned(), value.into()));
        self
    }

    /// Removes the rows of this name.
    #[must_use]
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !is_name(known, name));
        self
    }

    /// Adds a row before all others.
    pub(crate) fn push_front(&mut self, name: &str, value: impl Into<String>) {
        self.headers.insert(0, (name.to_owned(), value.into()));
    }

    /// Removes the first value of this name, be it a row or the first of a list, and returns it.
    pub(crate) fn pop_front(&mut self, name: &str) -> Option<String> {
        let place = self.headers.iter().position(|(known, _)| is_name(known, name))?;
        let values = split(&self.headers[place].1, ',');
        let (first, rest) =
            values.split_first().map(|(first, rest)| ((*first).to_owned(), rest.join(", ")))?;
        if rest.is_empty() {
            self.headers.remove(place);
        } else {
            self.headers[place].1 = rest;
        }
        Some(first)
    }

    /// Sets body and Content-Type.
    #[must_use]
    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.set("Content-Type", content_type)
    }

    /// The message as it is sent. Content-Length is added where it is missing.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start_line);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.header("Content-Length").is_none() {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        let mut octets = text.into_bytes();
        octets.extend_from_slice(&self.body);
        octets
    }
}

impl fmt::Display for Sip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.start_line)?;
        for (name, value) in &self.headers {
            writeln!(formatter, "{name}: {value}")?;
        }
        write!(formatter, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

/// Takes the next frame out of what a stream has brought so far; `None` until it is whole.
pub(crate) fn take_frame(buffer: &mut Vec<u8>) -> Option<Frame> {
    if buffer.starts_with(b"\r\n\r\n") {
        buffer.drain(..4);
        return Some(Frame::Ping);
    }
    if buffer.starts_with(b"\r\n") && buffer.get(2).is_none_or(|next| *next != b'\r') {
        buffer.drain(..2);
        return Some(Frame::Pong);
    }
    let end = find(buffer, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).replace("\r\n ", " ").replace("\r\n\t", " ");
    let length = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| is_name(name.trim(), "Content-Length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or_else(|| panic!("a message without Content-Length on a stream:\n{head}"));
    let whole = end + length;
    (buffer.len() >= whole).then(|| Frame::Message(buffer.drain(..whole).collect()))
}

/// The value of a parameter after the URI's closing bracket or, without brackets, after the first semicolon.
/// An empty string stands for a parameter without a value.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let parameters = brackets(value).map_or(value, |(_, end)| &value[end + 1..]);
    split(parameters, ';').into_iter().skip(1).find_map(|part| {
        let (known, content) = part.split_once('=').unwrap_or((part, ""));
        known.trim().eq_ignore_ascii_case(name).then(|| content.trim())
    })
}

/// The URI of a From, To, Contact, Route or Record-Route value.
pub(crate) fn uri_of(value: &str) -> &str {
    match brackets(value) {
        Some((start, end)) => &value[start + 1..end],
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// User part of a SIP URI; empty where it has none.
pub(crate) fn user_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    rest.split_once('@').map_or("", |(user, _)| user)
}

/// `host` or `host:port` of a SIP URI.
pub(crate) fn host_port_of(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    rest.split([';', '?']).next().unwrap_or_default()
}

/// Where the brackets of a name-addr stand: the first ones outside a quoted display name.
fn brackets(value: &str) -> Option<(usize, usize)> {
    let start = unquoted(value).find(|(_, character)| *character == '<')?.0;
    let end = start + value[start..].find('>')?;
    Some((start, end))
}

/// Splits at a separator outside quotes and angle brackets.
pub(crate) fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut bracketed) = (Vec::new(), 0, false);
    for (place, character) in unquoted(text) {
        match character {
            '<' => bracketed = true,
            '>' => bracketed = false,
            _ if character == separator && !bracketed => {
                parts.push(text[start..place].trim());
                start = place + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The characters of a text that are not part of a quoted string, with their places.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, character)| {
        let inside = quoted;
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        !inside && *character != '"'
    })
}

/// Whether a written header name is `name`, which is given in its long form.
fn is_name(written: &str, name: &str) -> bool {
    let long = COMPACT_NAMES.iter().find(|(compact, _)| compact.eq_ignore_ascii_case(written));
    long.map_or(written, |(_, long)| long).eq_ignore_ascii_case(name)
}

fn find(octets: &[u8], pattern: &[u8]) -> Option<usize> {
    octets.windows(pattern.len()).position(|window| window == pattern)
}
