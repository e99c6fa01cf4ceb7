//! The location service from outside, in the order of its users' lives.

mod gruus;
mod happenings;
mod keeping;
mod listing;
mod outbound;
mod reconfigured;
mod registrations;
mod servers;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::protocol::account::{Account, Accounts, Scope, Secret};
use crate::protocol::digest::{NonceUse, NonceVerdict, Nonces};
use crate::protocol::flow::{ConnectionId, InterfaceId, Transport};
use crate::protocol::message::reply::Reply;
use crate::protocol::message::uri::Uri;
use crate::protocol::message::{Carriage, Message, MessageLimits};

/// A UC server for everybody; one for `*@b.test`; somebody who registers for `*@partner.test`.
const SERVER: AccountId = AccountId(0);
const OTHER: AccountId = AccountId(1);
const PARTNER: AccountId = AccountId(2);

struct Fixture {
    location: Location,
    epoch: Instant,
    now: Instant,
}

fn accounts() -> Accounts {
    let account = |name: &str, users: &str, kind| Account {
        user_name: name.to_owned(),
        secret: Secret::Password("x".to_owned()),
        scope: Scope::parse(&[users]).unwrap(),
        kind,
    };
    Accounts::new(vec![
        account("ucserver", "*", AccountKind::UcServer),
        account("other", "*@b.test", AccountKind::UcServer),
        account("partner", "*@partner.test", AccountKind::Registrant),
    ])
}

fn with(change: impl FnOnce(&mut LocationSettings)) -> Fixture {
    let epoch = Instant::now();
    let mut settings = LocationSettings {
        minimum_expires: Duration::from_secs(60),
        default_expires: Duration::from_secs(3600),
        maximum_expires: Duration::from_secs(86_400),
        maximum_contacts: 3,
        accepts_path_without_support: false,
        flow_timer: Duration::from_secs(540),
        nonce_lifetime: Duration::from_secs(300),
        accounts: Arc::new(accounts()),
        guard: GuardSettings {
            failures: 10,
            ban: Duration::from_secs(300),
            first_wait: Duration::from_millis(250),
            longest_wait: Duration::from_secs(4),
        },
        succeeded: None,
        epoch,
        hash_key: [1; 16],
        gruu_key: GruuKey([2; 32]),
        seed: [3; 16],
        limits: LocationLimits::default(),
    };
    change(&mut settings);
    Fixture { location: Location::new(settings), epoch, now: epoch }
}

fn new() -> Fixture {
    with(|_| ())
}

fn udp(remote: &str) -> Flow {
    Flow {
        interface: InterfaceId(0),
        transport: Transport::Udp,
        local: "10.0.0.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

fn tcp(id: u64) -> Flow {
    let connection = Some(ConnectionId(id));
    Flow { transport: Transport::Tcp, connection, ..udp("10.0.0.2:40000") }
}

fn name(text: &str) -> AddressOfRecord {
    AddressOfRecord::from_uri(&Uri::parse(text.as_bytes()).unwrap())
}

fn destination(text: &str) -> Destination {
    Destination::of(&Uri::parse(text.as_bytes()).unwrap())
}

/// A REGISTER of `to` with these rows.
fn registration(account: AccountId, to: &str, call_id: &str, cseq: u32, rows: &[&str]) -> Registration {
    read(account, to, call_id, cseq, rows).unwrap()
}

fn read(
    account: AccountId,
    to: &str,
    call_id: &str,
    cseq: u32,
    rows: &[&str],
) -> Result<Registration, Reply> {
    let rows = rows.iter().fold(String::new(), |mut all, row| {
        let _ = write!(all, "{row}\r\n");
        all
    });
    let text = format!(
        "REGISTER sip:a.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:x@a.test>;tag=1\r\n\
         To: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{rows}\r\n"
    );
    let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
    let message = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
    Registration::read(&message, Some(account))
}

impl Fixture {
    fn ask(&mut self, flow: Flow, log_on: Option<AccountId>, ask: Ask) -> Verdict {
        let context = ContextId { slot: 1, generation: 2 };
        let question = Question { context, flow, nonce_use: None, log_on, ask };
        let answer = self.location.handle_question(self.now, question);
        assert_eq!(answer.context, context);
        answer.verdict
    }

    fn log_on(&mut self, flow: Flow, account: AccountId) {
        assert!(matches!(self.ask(flow, Some(account), Ask::Nothing), Verdict::Admitted));
    }

    fn register(&mut self, flow: Flow, registration: Registration) -> Reply {
        match self.ask(flow, None, Ask::Register(Box::new(registration))) {
            Verdict::Registered(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// One contact of `sip:alice@a.test`, by the server's account over `tcp(1)`.
    fn contact(&mut self, call_id: &str, cseq: u32, rows: &[&str]) -> Reply {
        self.register(tcp(1), registration(SERVER, "sip:alice@a.test", call_id, cseq, rows))
    }

    fn locate(&mut self, text: &str, asking: Flow) -> Located {
        match self.ask(asking, None, Ask::Locate(destination(text))) {
            Verdict::Located(located) => located,
            other => panic!("{other:?}"),
        }
    }

    fn targets(&mut self, text: &str) -> Vec<String> {
        let located = self.locate(text, tcp(99));
        located.targets.iter().map(|target| String::from_utf8(target.uri.to_vec()).unwrap()).collect()
    }

    fn servers(&mut self, text: &str) -> Vec<Flow> {
        self.locate(text, tcp(99)).servers.iter().map(|server| server.flow).collect()
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.location.handle_timeout(self.now);
        self
    }

    fn events(&mut self) -> Vec<LocationEvent> {
        std::iter::from_fn(|| self.location.poll_event()).collect()
    }
}

fn rows<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.rows.iter().filter(|(of, _)| *of == name).map(|(_, value)| value.as_str()).collect()
}

fn refusal(reply: &Reply) -> (u16, &str) {
    (reply.status, reply.reason)
}
