//! A Router's core with its Registrar and two ends, for benchmarks and for the count of allocations.
//!
//! A [`Rig`] carries whole exchanges. What is measured is the proxy alone, from the octets that have come in to those
//! that are to go out; what the ends need to make their messages is not.

// Every target includes this module whole and uses the part that it needs. Clocks are disallowed to the protocol, which
// is not here.
#![allow(dead_code, clippy::disallowed_methods)]

pub(crate) mod setup;
pub(crate) mod texts;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;
use sip_proxy::protocol::location::{Location, LocationEvent};
use sip_proxy::protocol::message::{Carriage, Message, MessageLimits, Name};
use sip_proxy::protocol::proxy::{Output, Proxy};

/// What a real Router takes.
pub(crate) const LIMITS: MessageLimits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };

/// Users who have registered.
const USERS: u64 = 1_000;

/// The longest that a transaction leaves something behind: Timer J, 64 × T1.
const STEADY: Duration = Duration::from_secs(33);

/// Between two exchanges.
const PACE: Duration = Duration::from_millis(10);

/// The ends that send and answer.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) caller: Flow,
    pub(crate) callee: Flow,
}

/// A whole exchange: [`Rig::message`] and its like.
pub(crate) type Exchange = fn(&mut Rig);

/// A core that is fed, and what has been measured meanwhile.
pub(crate) struct Rig {
    proxy: Proxy,
    location: Location,
    ends: Ends,
    now: Instant,
    /// What has left.
    sent: Vec<(Flow, Bytes)>,
    /// Exchanges so far.
    count: u64,
    meter: fn() -> u64,
    measured: u64,
}

impl Rig {
    /// A core that has carried `exchange` over UDP for so long that its tables are as full as they stay: what the first
    /// ones have left behind is gone.
    pub(crate) fn warm(exchange: Exchange) -> Self {
        let (now, ends) = (Instant::now(), setup::ends());
        let (proxy, location) = (setup::proxy(now), setup::location(now));
        let sent = Vec::with_capacity(16);
        let mut rig = Self { proxy, location, ends, now, sent, count: 0, meter: || 0, measured: 0 };
        (0..USERS).for_each(|_| rig.register());
        while rig.now < now + STEADY {
            exchange(&mut rig);
        }
        rig
    }

    /// Carries `exchange` so many times; what the proxy has used for it, by a meter that counts whatever it likes and
    /// never down.
    pub(crate) fn measure(&mut self, meter: fn() -> u64, times: u64, exchange: Exchange) -> u64 {
        (self.meter, self.measured) = (meter, 0);
        (0..times).for_each(|_| exchange(self));
        self.measured
    }

    /// MESSAGE and 200.
    pub(crate) fn message(&mut self) {
        let Ends { caller, callee } = self.begin();
        self.receive(&caller, texts::message(self.count, self.count % USERS));
        let forwarded = self.take_sent_to(&callee);
        self.receive(&callee, texts::response(&forwarded, "200 OK", ""));
        self.take_sent_to(&caller);
    }

    /// REGISTER that refreshes a binding, and 200.
    pub(crate) fn register(&mut self) {
        let Ends { callee, .. } = self.begin();
        self.receive(&callee, texts::register(self.count, self.count % USERS));
        self.take_sent_to(&callee);
    }

    /// A call: INVITE, 100, 180, 200, ACK, BYE, 200.
    pub(crate) fn call(&mut self) {
        let Ends { caller, callee } = self.begin();
        self.receive(&caller, texts::invite(self.count, self.count % USERS));
        let invite = self.take_sent_to(&callee);
        self.receive(&callee, texts::response(&invite, "180 Ringing", ""));
        self.receive(&callee, texts::response(&invite, "200 OK", texts::SDP));
        let answer = self.take_sent_to(&caller);
        let recorded = parse(answer);
        let route = recorded.values(Name::RecordRoute).next().expect("the proxy stays on the path");
        for method in ["ACK", "BYE"] {
            self.receive(&caller, texts::in_dialog(method, self.count, self.count % USERS, route));
        }
        let bye = self.take_sent_to(&callee);
        self.receive(&callee, texts::response(&bye, "200 OK", ""));
        self.take_sent_to(&caller);
    }

    /// The next exchange, a moment later.
    fn begin(&mut self) -> Ends {
        self.count += 1;
        self.now += PACE;
        self.metered(|rig| {
            while rig.proxy.poll_timeout().is_some_and(|due| due <= rig.now) {
                rig.proxy.handle_timeout(rig.now);
            }
            rig.settle();
        });
        assert!(self.sent.is_empty(), "an end has left something without an answer");
        self.ends
    }

    /// Reads octets as a Listener does, and hands them to the core.
    fn receive(&mut self, from: &Flow, octets: Bytes) {
        self.metered(|rig| {
            rig.proxy.handle_message(rig.now, from, None, parse(octets));
            rig.settle();
        });
    }

    fn metered(&mut self, work: impl FnOnce(&mut Self)) {
        let before = (self.meter)();
        work(self);
        self.measured += (self.meter)() - before;
    }

    /// The Registrar answers at once.
    fn settle(&mut self) {
        while let Some(output) = self.proxy.poll_output() {
            match output {
                Output::Transmit { hop, bytes, .. } => self.sent.push((hop, bytes)),
                Output::Ask(question) => {
                    let answer = self.location.handle_question(self.now, question);
                    self.tell();
                    self.proxy.handle_answer(self.now, answer);
                }
                Output::Learned { user, flow } => self.location.handle_learned(self.now, &user, &flow),
                Output::FlowFailed(_)
                | Output::FlowEnded(_)
                | Output::Resolve { .. }
                | Output::ServerHealth { .. }
                | Output::Event(_) => {}
            }
        }
    }

    /// What the Registrar has to say of flows reaches the Router before the answer does.
    fn tell(&mut self) {
        while let Some(event) = self.location.poll_event() {
            if let LocationEvent::LoggedOn { flow, account, passes } = event {
                self.proxy.handle_standing(&flow, passes.then_some(account));
            }
        }
    }

    /// The last of what has left, which must have gone there.
    fn take_sent_to(&mut self, end: &Flow) -> Bytes {
        let (hop, octets) = self.sent.pop().expect("the proxy passes it on");
        assert_eq!(hop.remote, end.remote, "{}", String::from_utf8_lossy(&octets));
        self.sent.clear();
        octets
    }
}

/// As a Listener does.
pub(crate) fn parse(octets: Bytes) -> Message {
    Message::parse(octets, Carriage::Datagram, LIMITS).expect("SIP")
}

/// A meter of time.
pub(crate) fn nanoseconds() -> u64 {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(ORIGIN.elapsed().as_nanos()).expect("centuries have not passed")
}
