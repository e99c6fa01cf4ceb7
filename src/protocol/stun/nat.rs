//! Which type of NAT is on the way to a STUN server (RFC 3489 §10.1), told by any server with two addresses, be it one
//! of RFC 3489 or of RFC 5780.
//!
//! Test I asks for the public address, II and III for answers from where nothing was sent to. Whether a request to the
//! server's other address gets the same mapping is tried from a second socket, so that II and III meet a NAT that has
//! never seen anything leave for there, nor have left it a state that the fourth test would meet (RFC 5780 §4.1). So
//! they run at the same time, and what is silent is waited for once.
//!
//! Where the server cannot be relied on, the type is [`NatType::Unknown`], with a [`Doubt`].

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use super::TransactionId;
use super::client::{Answer, Change, Outcome, Transaction};

/// Types of NAT, as RFC 3489 §5 and §10.1 have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatType {
    /// No NAT, and anybody gets through.
    OpenInternet,
    /// No NAT; only who was sent something gets through.
    SymmetricUdpFirewall,
    /// One mapping for all destinations, and anybody gets through.
    FullCone,
    /// One mapping; hosts that were sent something get through.
    RestrictedCone,
    /// One mapping; ports that were sent something get through.
    RestrictedPortCone,
    /// A mapping for each destination.
    Symmetric,
    /// No answer to anything.
    UdpBlocked,
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for NatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenInternet => "Open Internet",
            Self::SymmetricUdpFirewall => "Symmetric UDP Firewall",
            Self::FullCone => "Full Cone",
            Self::RestrictedCone => "Restricted Cone",
            Self::RestrictedPortCone => "Restricted Port Cone",
            Self::Symmetric => "Symmetric",
            Self::UdpBlocked => "Firewall blocks UDP",
            Self::Unknown => "Unknown",
        })
    }
}

/// Why the type cannot be told, or the address either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It has no second address.
    #[error("the server has no second address that the NAT type could be told by")]
    OneAddress,
    /// An error response.
    #[error("the server answers with error {0}")]
    Refused(u16),
    /// See [`Outcome::Unusable`].
    #[error("the server's answer cannot be used")]
    Unusable,
    /// Test I is answered by somebody else.
    #[error("the answer comes from {0}, which was not asked")]
    Stranger(SocketAddr),
    /// Test II or III is answered, but not from where it was asked to be.
    #[error("the server does not answer from its second address when it is asked to")]
    Unchanged,
    /// The server's other address does not answer.
    #[error("the server's second address does not answer")]
    OtherSilent,
}

/// What has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Our address as the server sees it; `None` where it has not told.
    pub public: Option<SocketAddr>,
    /// The type of the NAT.
    pub nat_type: NatType,
    /// Where that is unknown, why.
    pub doubt: Option<Doubt>,
}

/// Which of our two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// The one whose public address is asked for.
    Main,
    /// The one of the mapping test.
    Mapping,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which socket.
    pub socket: Socket,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub octets: Vec<u8>,
}

/// The single transactions, by which [`Detection::tests`] is indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// Test I.
    Public,
    /// Test II.
    ChangeBoth,
    /// Test III.
    ChangePort,
    /// Test I from the other socket.
    MapServer,
    /// The same, to the server's other address.
    MapOther,
}

/// Transactions of one [`Detection`].
pub const TRANSACTIONS: usize = 5;

/// One question to one server. Holds no clock: call [`Self::poll_transmit`] until it has nothing, then wait for a
/// datagram or [`Self::poll_timeout`].
#[derive(Debug)]
pub struct Detection {
    server: SocketAddr,
    local: SocketAddr,
    ids: [TransactionId; TRANSACTIONS],
    tests: [Option<Transaction>; TRANSACTIONS],
}

impl Detection {
    /// A question to `server` that begins at `now`; `local` is where [`Socket::Main`] is bound, no wildcard.
    pub fn new(
        now: Instant,
        server: SocketAddr,
        local: SocketAddr,
        ids: [TransactionId; TRANSACTIONS],
    ) -> Self {
        let mut detection = Self { server, local, ids, tests: Default::default() };
        detection.begin(now, Test::Public, server, Change::Nothing);
        detection
    }

    /// A datagram that has come in.
    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        for transaction in self.tests.iter_mut().flatten() {
            transaction.handle_datagram(source, datagram);
        }
        self.begin_next(now);
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let due = self.tests.iter_mut().enumerate().find_map(|(index, transaction)| {
            transaction.as_mut()?.handle_timeout(now).map(|(to, octets)| (index, to, octets))
        });
        let (index, to, octets) = due?;
        let is_mapping = index >= Test::MapServer as usize;
        Some(Transmit { socket: if is_mapping { Socket::Mapping } else { Socket::Main }, to, octets })
    }

    /// The earliest time at which there is something to send or to give up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.tests.iter().flatten().filter_map(Transaction::poll_timeout).min()
    }

    /// What has been found; `None` while that is not certain.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.outcome(Test::Public)? {
            Outcome::Answered(answer) => {
                let (nat_type, doubt) = match self.nat_type(&answer).transpose()? {
                    Ok(nat_type) => (nat_type, None),
                    Err(doubt) => (NatType::Unknown, Some(doubt)),
                };
                Some(Verdict { public: Some(answer.mapped), nat_type, doubt })
            }
            Outcome::Silent => Some(Verdict { public: None, nat_type: NatType::UdpBlocked, doubt: None }),
            Outcome::Refused(code) => Some(without_address(Doubt::Refused(code))),
            Outcome::Unusable => Some(without_address(Doubt::Unusable)),
        }
    }

    /// The flow chart, from the answer to Test I on.
    fn nat_type(&self, first: &Answer) -> Result<Option<NatType>, Doubt> {
        if first.source != self.server {
            return Err(Doubt::Stranger(first.source));
        }
        if self.other_address(first).is_none() {
            return Err(Doubt::OneAddress);
        }
        let is_open = first.mapped == self.local;
        let has_changed = |source: SocketAddr| source.ip() != self.server.ip();
        match self.is_heard(Test::ChangeBoth, has_changed)? {
            None => return Ok(None),
            Some(true) if is_open => return Ok(Some(NatType::OpenInternet)),
            Some(true) => return Ok(Some(NatType::FullCone)),
            Some(false) if is_open => return Ok(Some(NatType::SymmetricUdpFirewall)),
            Some(false) => {}
        }
        match [Test::MapServer, Test::MapOther].map(|test| self.outcome(test)) {
            [Some(Outcome::Answered(here)), Some(Outcome::Answered(there))]
                if here.mapped == there.mapped => {}
            [Some(Outcome::Answered(_)), Some(Outcome::Answered(_))] => return Ok(Some(NatType::Symmetric)),
            [None, _] | [Some(Outcome::Answered(_)), None] => return Ok(None),
            _ => return Err(Doubt::OtherSilent),
        }
        let has_changed =
            |source: SocketAddr| source.ip() == self.server.ip() && source.port() != self.server.port();
        let heard = self.is_heard(Test::ChangePort, has_changed)?;
        Ok(heard.map(|heard| if heard { NatType::RestrictedCone } else { NatType::RestrictedPortCone }))
    }

    /// Whether the answer that was to come from elsewhere has come, from where `has_changed` says.
    fn is_heard(&self, test: Test, has_changed: impl Fn(SocketAddr) -> bool) -> Result<Option<bool>, Doubt> {
        match self.outcome(test) {
            None => Ok(None),
            Some(Outcome::Answered(answer)) if has_changed(answer.source) => Ok(Some(true)),
            Some(Outcome::Answered(_)) => Err(Doubt::Unchanged),
            Some(Outcome::Refused(code)) => Err(Doubt::Refused(code)),
            Some(Outcome::Unusable) => Err(Doubt::Unusable),
            Some(Outcome::Silent) => Ok(Some(false)),
        }
    }

    /// Where the server says that it is, too, if that is another host of the same family.
    fn other_address(&self, first: &Answer) -> Option<SocketAddr> {
        let server = self.server.ip();
        first.other.filter(|other| other.ip() != server && other.is_ipv4() == server.is_ipv4())
    }

    fn outcome(&self, test: Test) -> Option<Outcome> {
        self.tests[test as usize].as_ref()?.outcome()
    }

    /// Begins the tests whose turn has come.
    fn begin_next(&mut self, now: Instant) {
        let Some(Outcome::Answered(first)) = self.outcome(Test::Public) else { return };
        let Some(other) = self.other_address(&first).filter(|_| first.source == self.server) else { return };
        self.begin(now, Test::ChangeBoth, self.server, Change::Both);
        if first.mapped != self.local {
            self.begin(now, Test::ChangePort, self.server, Change::Port);
            self.begin(now, Test::MapServer, self.server, Change::Nothing);
        }
        if matches!(self.outcome(Test::MapServer), Some(Outcome::Answered(_))) {
            self.begin(now, Test::MapOther, other, Change::Nothing);
        }
    }

    /// Begins a test that has not begun.
    fn begin(&mut self, now: Instant, test: Test, to: SocketAddr, change: Change) {
        let id = self.ids[test as usize];
        self.tests[test as usize].get_or_insert_with(|| Transaction::new(now, id, to, change));
    }
}

const fn without_address(doubt: Doubt) -> Verdict {
    Verdict { public: None, nat_type: NatType::Unknown, doubt: Some(doubt) }
}

#[cfg(test)]
mod tests;
