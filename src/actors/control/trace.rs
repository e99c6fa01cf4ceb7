//! `GET /trace`: messages as they pass, one JSON object each line, until the client goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::Recipient;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::StatusCode;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use slog::{Logger, info};
use tokio::time::timeout;

use super::answer::{Answer, Endless};
use super::collect::ask;
use super::door::Deadline;
use super::query::Query;
use crate::actors::supervisor::describe::{Describe, Description};
use crate::actors::trace::{Criteria, Direction, MAXIMUM_TRACES, Passed, Trace, Wanted, Watch, hiding};
use crate::protocol::flow::InterfaceId;

/// Between two lines at most, so that either end notices when the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How long it may take until what a reload has done to the interfaces' keys is noticed.
const KEYS_LAST: Duration = Duration::from_secs(5);

/// How long a reader may take nothing: people stop their terminals to read.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// One line of `GET /trace` with `?call_id=`, `?user=`, `?domain=` and `?peer=`, of which all that are given must fit, or
/// `?all=true`; `?bodies=true` shows bodies. An empty line says that the proxy is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// When, RFC 3339 in UTC, with microseconds.
    pub time: String,
    /// `in` or `out`, as the proxy sees it.
    pub direction: String,
    /// `udp`, `tcp`, `tls`, `ws`, `wss`.
    pub transport: String,
    /// Where it comes from: `192.0.2.7:5060`.
    pub source: String,
    /// Where it goes.
    pub destination: String,
    /// The interface's key.
    pub interface: String,
    /// The message, without secrets, and without its body unless that was asked for.
    pub text: String,
    /// The same in Base64, where it is no UTF-8 and `text` has something in its place.
    pub octets: Option<String>,
    /// Messages that are missing before this one, because they came faster than they were read.
    pub missed: u64,
}

impl Traced {
    /// What may be shown of `passed`, which has passed the interface with the key `interface`.
    fn new(passed: &Passed, interface: &str, with_body: bool) -> Self {
        let octets = hiding::shown(&passed.octets, with_body);
        let direction = match passed.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        Self {
            time: time(passed.time),
            direction: direction.to_owned(),
            transport: passed.transport.to_string(),
            source: passed.source.to_string(),
            destination: passed.destination.to_string(),
            interface: interface.to_owned(),
            text: String::from_utf8_lossy(&octets).into_owned(),
            octets: std::str::from_utf8(&octets).is_err().then(|| STANDARD.encode(&octets)),
            missed: passed.missed,
        }
    }

    /// The line.
    fn to_line(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).expect("strings and numbers have a form in JSON");
        line.push(b'\n');
        line.into()
    }

    /// The message as it was shown; `None` where `octets` is no Base64.
    pub fn to_octets(&self) -> Option<Vec<u8>> {
        match &self.octets {
            None => Some(self.text.clone().into_bytes()),
            Some(encoded) => STANDARD.decode(encoded).ok(),
        }
    }
}

/// How interfaces are called. A reload may change that.
pub(super) struct Keys {
    describe: Recipient<Describe>,
    known: BTreeMap<InterfaceId, String>,
    /// When they are asked for again.
    due: Instant,
}

impl Keys {
    pub(super) fn new(service: &Description, describe: Recipient<Describe>) -> Self {
        Self { describe, known: Self::of(service), due: Instant::now() + KEYS_LAST }
    }

    fn of(service: &Description) -> BTreeMap<InterfaceId, String> {
        service.config.interfaces.iter().map(|interface| (interface.id, interface.key.clone())).collect()
    }

    async fn of_interface(&mut self, interface: InterfaceId) -> &str {
        if self.due <= Instant::now() {
            if let Some(service) = ask(&self.describe, Describe).await {
                self.known = Self::of(&service);
            }
            self.due = Instant::now() + KEYS_LAST;
        }
        self.known.get(&interface).map_or("", String::as_str)
    }
}

/// A trace and what is told of it.
struct Told {
    watch: Watch,
    keys: Keys,
    with_bodies: bool,
    count: u64,
    deadline: Deadline,
    log: Logger,
}

/// What a query asks for.
pub(super) struct Asked {
    criteria: Criteria,
    with_bodies: bool,
    /// For the log.
    text: String,
}

impl Asked {
    pub(super) fn new(query: &Query) -> Result<Self, Answer> {
        query.allow(&["call_id", "user", "domain", "peer", "all", "bodies"]).map_err(Answer::bad)?;
        let text = |name| query.get(name).map(str::to_owned);
        let with_bodies = query.switch("bodies").map_err(Answer::bad)?;
        let wanted = Wanted {
            call_id: text("call_id"),
            user: text("user"),
            domain: text("domain"),
            peer: text("peer"),
            all: query.switch("all").map_err(Answer::bad)?,
        };
        let text = wanted.to_string();
        let criteria = Criteria::new(wanted).map_err(|fault| Answer::bad(fault.to_string()))?;
        Ok(Self { criteria, with_bodies, text })
    }

    /// Begins the trace.
    pub(super) fn follow(
        self,
        trace: &Arc<Trace>,
        keys: Keys,
        deadline: Deadline,
        log: &Logger,
    ) -> Result<Endless, Answer> {
        let Self { criteria, with_bodies, text } = self;
        let watch = trace.begin(criteria).ok_or_else(no_room)?;
        info!(log, "trace_begun"; "asked" => text, "bodies" => with_bodies);
        let told = Told { watch, keys, with_bodies, count: 0, deadline, log: log.clone() };
        Ok(told.lines())
    }

    /// What [`Self::follow`] would answer now, and no trace.
    pub(super) fn head(self, trace: &Trace) -> Result<Endless, Answer> {
        if trace.has_room() { Ok(Box::pin(stream::empty())) } else { Err(no_room()) }
    }
}

fn no_room() -> Answer {
    let why = format!("{MAXIMUM_TRACES} traces run already; end one of them first");
    Answer::Problem(StatusCode::TOO_MANY_REQUESTS, why)
}

impl Told {
    /// The first line is an empty one: the trace has begun.
    fn lines(self) -> Endless {
        self.deadline.extend(PATIENCE);
        let lines = stream::unfold(self, |mut told| async move {
            let line = told.line().await;
            // It is asked for more when the reader has taken what came before.
            told.deadline.extend(PATIENCE);
            Some((line, told))
        });
        let first = stream::once(async { Bytes::from_static(b"\n") });
        Box::pin(first.chain(lines).map(|line| Ok(Frame::data(line))))
    }

    async fn line(&mut self) -> Bytes {
        let Ok(passed) = timeout(SIGN_OF_LIFE, self.watch.next()).await else {
            return Bytes::from_static(b"\n");
        };
        self.count += 1;
        let key = self.keys.of_interface(passed.interface).await;
        Traced::new(&passed, key, self.with_bodies).to_line()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        info!(self.log, "trace_ended"; "messages" => self.count);
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::flow::Transport;

    #[test]
    fn a_message_is_one_line_and_comes_back_as_it_was_whatever_its_octets() {
        for octets in [
            &b"OPTIONS sip:a@b SIP/2.0\r\nX: \"\x1b\xc3\xb6\"\r\n\r\n"[..],
            b"OPTIONS sip:a@b SIP/2.0\r\nX: \xff\r\n\r\n",
        ] {
            let passed = Passed {
                time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_001),
                direction: Direction::Out,
                interface: InterfaceId(1),
                transport: Transport::Wss,
                source: "192.0.2.1:443".parse().unwrap(),
                destination: "[2001:db8::7]:40000".parse().unwrap(),
                octets: Bytes::from_static(octets),
                missed: 3,
            };
            let line = Traced::new(&passed, "lan", true).to_line();
            assert_eq!(line.iter().filter(|&&c| c == b'\n').count(), 1);
            let traced: Traced = serde_json::from_slice(&line).unwrap();
            assert_eq!(traced.to_octets().unwrap(), octets);
            assert_eq!(traced.octets.is_some(), std::str::from_utf8(octets).is_err());
            let Traced { time, direction, transport, source, destination, interface, missed, .. } = traced;
            assert_eq!(
                (&*time, &*direction, &*transport, &*source, &*destination, &*interface, missed),
                (
                    "1970-01-01T00:00:01.000001Z",
                    "out",
                    "wss",
                    "192.0.2.1:443",
                    "[2001:db8::7]:40000",
                    "lan",
                    3
                )
            );
        }
    }
}
