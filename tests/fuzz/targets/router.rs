//! A whole Router's core with its Registrar: peers that send anything at any time, and what holds all the same.
//!
//! The input is a script: an octet says what happens, the octets behind it how. Whatever was begun, nothing is left
//! once the last timer has fired.

mod network;
mod script;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::location::{Answer, Location, LocationEvent, Question, Verdict};
use sip_proxy::protocol::message::framing::{Frame, Framer};
use sip_proxy::protocol::message::{Carriage, Message, MessageLimits, Name};
use sip_proxy::protocol::proxy::{Load, Output, Proxy};
use sip_proxy::protocol::transaction::Branch;

use network::{location, peer, proxy};
use script::Script;

const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

/// Messages of the past that a script may come back to.
const REMEMBERED: usize = 32;

/// What one event may make the proxy say: a search of every UC server, and the answers to all that is open.
const OUTPUTS_AT_ONCE: usize = 4096;

/// Runs the script, then lets time pass until nothing is due.
pub(crate) fn router(octets: &[u8]) {
    let mut world = World::new();
    let mut script = Script::new(octets);
    while let Some(event) = script.next() {
        world.happen(event, &mut script);
        world.settle();
    }
    world.end();
}

struct World {
    proxy: Proxy,
    location: Location,
    now: Instant,
    questions: VecDeque<Question>,
    /// Requests that the proxy has sent, and where to.
    asked: VecDeque<(Flow, Message)>,
    /// Requests that peers have sent.
    begun: VecDeque<(Flow, Message)>,
    branches: VecDeque<(Branch, SocketAddr)>,
    /// A Record-Route value of the proxy's.
    recorded: String,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            proxy: proxy(now),
            location: location(now),
            now,
            questions: VecDeque::new(),
            asked: VecDeque::new(),
            begun: VecDeque::new(),
            branches: VecDeque::new(),
            recorded: String::new(),
        }
    }

    fn happen(&mut self, event: u8, script: &mut Script<'_>) {
        match event % 10 {
            0 | 1 => {
                let from = peer(script.octet());
                self.receive(from, script.request(&from, &self.recorded));
            }
            2 => {
                let from = peer(script.octet());
                let length = usize::from(script.octet()) * 4;
                self.receive(from, Bytes::copy_from_slice(script.take(length)));
            }
            3 | 4 => {
                if let Some((hop, request)) = pick(&self.asked, script.octet()) {
                    let response = script.response(hop, request);
                    self.receive(*hop, response);
                }
            }
            5 => self.answer(script.octet()),
            6 => self.pass(script.time()),
            7 => {
                if let Some((from, request)) = pick(&self.begun, script.octet()) {
                    let again = script.follow_up(request);
                    self.receive(*from, again);
                }
            }
            8 => {
                if let Some((branch, destination)) = pick(&self.branches, script.octet()).copied() {
                    self.proxy.handle_transmit_failure(self.now, &branch, Some(destination));
                }
            }
            _ => {
                let flow = peer(script.octet());
                self.location.handle_connection_closed(self.now, &flow);
                self.tell();
                self.proxy.handle_connection_closed(self.now, &flow);
            }
        }
    }

    fn receive(&mut self, from: Flow, bytes: Bytes) {
        let carriage = if from.transport.is_reliable() { Carriage::Stream } else { Carriage::Datagram };
        let Ok(message) = Message::parse(bytes, carriage, LIMITS) else { return };
        if message.method().is_some() {
            remember(&mut self.begun, (from, message.clone()));
        }
        self.proxy.handle_message(self.now, &from, None, message);
    }

    /// The Registrar answers the oldest question, or says that a nonce is used, or has lost it.
    fn answer(&mut self, how: u8) {
        let Some(question) = self.questions.pop_front() else { return };
        let answer = match how % 8 {
            0 => return,
            1 => Answer { context: question.context, verdict: Verdict::Replayed },
            2 => Answer { context: question.context, verdict: Verdict::Admitted },
            _ => self.location.handle_question(self.now, question),
        };
        self.tell();
        self.proxy.handle_answer(self.now, answer);
    }

    /// What the Registrar has to say of flows reaches the Router before the answer does.
    fn tell(&mut self) {
        while let Some(event) = self.location.poll_event() {
            match event {
                LocationEvent::LoggedOn { flow, account, passes } => {
                    self.proxy.handle_standing(&flow, passes.then_some(account));
                }
                LocationEvent::LoggedOff { flow, .. } => self.proxy.handle_standing(&flow, None),
                LocationEvent::Banned { host, until } => self.proxy.handle_ban(self.now, host, until),
                LocationEvent::BindingAdded { .. } | LocationEvent::BindingRemoved { .. } => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.proxy.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.proxy.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self.location.handle_timeout(end);
        self.tell();
    }

    fn settle(&mut self) {
        for _ in 0..OUTPUTS_AT_ONCE {
            let Some(output) = self.proxy.poll_output() else { return };
            match output {
                Output::Transmit { hop, bytes, branch, .. } => self.sent(hop, &bytes, branch),
                Output::Ask(question) => self.questions.push_back(question),
                Output::Learned { user, flow } => self.location.handle_learned(self.now, &user, &flow),
                Output::FlowFailed(flow) => self.location.handle_flow_failed(self.now, &flow),
                Output::FlowEnded(flow) => self.location.handle_flow_ended(self.now, &flow),
                // Nobody answers: the context gives up by itself.
                Output::Resolve { .. } | Output::ServerHealth { .. } | Output::Event(_) => {}
            }
        }
        panic!("one event makes the proxy talk without end");
    }

    /// Whatever leaves is one message, and no peer can make the proxy say two to another.
    fn sent(&mut self, hop: Flow, bytes: &Bytes, branch: Option<Branch>) {
        if hop.transport.is_reliable() {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut framer =
                Framer::new(MessageLimits { message_bytes: usize::MAX, header_bytes: usize::MAX });
            let frame =
                framer.next(&mut buffer).unwrap_or_else(|broken| panic!("{broken}, sent:\n{bytes:?}"));
            assert_eq!(frame, Some(Frame::Message(bytes.clone())), "sent on a stream");
        }
        let message = Message::parse(bytes.clone(), Carriage::Datagram, LIMITS).expect("the proxy sends SIP");
        assert_eq!(message.bytes(), bytes, "more than one message in a datagram");
        if let Some(value) = message.values(Name::RecordRoute).next() {
            self.recorded = String::from_utf8_lossy(value).into_owned();
        }
        if message.method().is_some() {
            remember(&mut self.asked, (hop, message));
        }
        if let Some(branch) = branch {
            remember(&mut self.branches, (branch, hop.remote));
        }
    }

    /// Nobody says anything any more: every transaction ends by its timers.
    fn end(mut self) {
        self.questions.clear();
        for _ in 0..100_000 {
            let Some(due) = self.proxy.poll_timeout() else {
                let nothing = Load { servers: 0, clients: 0, contexts: 0 };
                assert_eq!(self.proxy.load(), nothing, "left behind");
                return;
            };
            self.now = self.now.max(due);
            self.proxy.handle_timeout(self.now);
            self.settle();
        }
        panic!("timers without end: {:?}", self.proxy.load());
    }
}

fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
}

/// The latest first, so that a script needs no count of what came before.
fn pick<T>(list: &VecDeque<T>, at: u8) -> Option<&T> {
    list.iter().rev().nth(usize::from(at) % list.len().max(1))
}
