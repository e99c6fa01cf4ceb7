//! One Binding transaction over UDP, from the side that asks (RFC 8489 §6.2.1, §6.3).
//!
//! What does not belong to it is passed over: it ends with an answer, a refusal, or when its time is up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::codec::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_RESPONSE, CHANGE_REQUEST, CHANGED_ADDRESS, Message, OPTIONAL,
    OTHER_ADDRESS, TransactionId, Writer, XOR_MAPPED_ADDRESS,
};

/// Before the second transmission; doubled with each further one.
const RTO: Duration = Duration::from_millis(500);

/// Transmissions, Rc.
const TRANSMISSIONS: u32 = 7;

/// From the last transmission to the end, Rm times [`RTO`].
const LAST_WAIT: Duration = RTO.saturating_mul(16);

/// What a server is asked to change of the address that it answers from (RFC 5780 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// The port.
    Port,
    /// Address and port.
    Both,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is an answer.
    Answered(Answer),
    /// There is an error response with this code.
    Refused(u16),
    /// There is an answer that cannot be used: no mapped address, one that no host can have, or an attribute that must
    /// be understood and is not.
    Unusable,
    /// There is none.
    Silent,
}

/// What a success response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where the server has seen the request come from.
    pub mapped: SocketAddr,
    /// The server's other address and port.
    pub other: Option<SocketAddr>,
}

/// One Binding transaction. Holds no clock.
#[derive(Debug)]
pub struct Transaction {
    id: TransactionId,
    destination: SocketAddr,
    change: Change,
    transmissions: u32,
    /// The next transmission; after the last one, the end.
    due: Instant,
    outcome: Option<Outcome>,
}

impl Transaction {
    /// A transaction that sends its first request at `now`.
    pub const fn new(now: Instant, id: TransactionId, destination: SocketAddr, change: Change) -> Self {
        Self { id, destination, change, transmissions: 0, due: now, outcome: None }
    }

    /// How it has ended; `None` while it has not.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// When [`Self::handle_timeout`] is to be called; `None` once it has ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.due)
    }

    /// What is to be sent now, and where to.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if self.outcome.is_some() || now < self.due {
            return None;
        }
        if self.transmissions == TRANSMISSIONS {
            self.outcome = Some(Outcome::Silent);
            return None;
        }
        self.transmissions += 1;
        let is_last = self.transmissions == TRANSMISSIONS;
        self.due = now + if is_last { LAST_WAIT } else { RTO * (1 << (self.transmissions - 1)) };
        Some((self.destination, self.request()))
    }

    /// A datagram, of which it is not known whether it is an answer at all.
    pub fn handle_datagram(&mut self, source: SocketAddr, datagram: &[u8]) {
        let Some(message) = Message::parse(datagram).filter(|message| message.transaction == self.id) else {
            return;
        };
        let outcome = match message.kind {
            BINDING_RESPONSE => Self::read(source, message),
            BINDING_ERROR => message.error_code().map_or(Outcome::Unusable, Outcome::Refused),
            _ => return,
        };
        self.outcome.get_or_insert(outcome);
    }

    fn read(source: SocketAddr, message: Message<'_>) -> Outcome {
        if message.attributes().any(|(kind, _)| kind < OPTIONAL && !is_known(kind)) {
            return Outcome::Unusable;
        }
        let other = message.address(OTHER_ADDRESS).or_else(|| message.address(CHANGED_ADDRESS));
        let mapped = message.mapped_address().filter(|mapped| is_believable(*mapped, source));
        let other = other.filter(|other| is_believable(*other, source));
        mapped.map_or(Outcome::Unusable, |mapped| Outcome::Answered(Answer { source, mapped, other }))
    }

    fn request(&self) -> Vec<u8> {
        let mut request = Writer::new(BINDING_REQUEST, self.id);
        match self.change {
            Change::Nothing => {}
            Change::Port => request.push(CHANGE_REQUEST, &[0, 0, 0, 2]),
            Change::Both => request.push(CHANGE_REQUEST, &[0, 0, 0, 6]),
        }
        request.finish()
    }
}

/// Whether `address` is one of a host, and of one that may be known to `server`: what a server tells stands in messages
/// and is sent to, and it could tell anything.
fn is_believable(address: SocketAddr, server: SocketAddr) -> bool {
    let (ip, server) = (address.ip(), server.ip());
    let is_nearby = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let is_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    is_host && !is_nearby && (!ip.is_loopback() || server.is_loopback()) && address.port() != 0
}

/// Those of RFC 3489 and one more: the others that RFC 8489 wants understood belong to authentication.
const fn is_known(kind: u16) -> bool {
    matches!(kind, 0x0001..=0x000b | XOR_MAPPED_ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::super::codec::{ERROR_CODE, MAPPED_ADDRESS, write_address};
    use super::*;

    const ID: TransactionId = TransactionId([7; 12]);
    const SERVER: &str = "192.0.2.1:3478";

    fn transaction(now: Instant) -> Transaction {
        Transaction::new(now, ID, SERVER.parse().unwrap(), Change::Nothing)
    }

    fn response(kind: u16, id: TransactionId, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(kind, id);
        attributes.iter().for_each(|(kind, value)| writer.push(*kind, value));
        writer.finish()
    }

    #[test]
    fn h12_a_request_goes_seven_times_and_its_time_is_up_after_sixteen_more() {
        let start = Instant::now();
        let mut transaction = transaction(start);
        let mut sent = Vec::new();
        while let Some(due) = transaction.poll_timeout() {
            assert_eq!(transaction.handle_timeout(due - Duration::from_nanos(1)), None);
            if let Some((to, octets)) = transaction.handle_timeout(due) {
                assert_eq!(to, SERVER.parse().unwrap());
                sent.push(((due - start).as_millis(), octets));
            } else {
                assert_eq!((due - start).as_millis(), 39_500);
            }
        }
        let times: Vec<_> = sent.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert!(sent.iter().all(|(_, octets)| *octets == response(BINDING_REQUEST, ID, &[])), "{sent:?}");
        assert_eq!(transaction.outcome(), Some(Outcome::Silent));
        assert_eq!(transaction.handle_timeout(start + Duration::from_secs(99)), None);
    }

    #[test]
    fn what_is_to_change_stands_in_change_request() {
        for (change, flags) in [(Change::Port, 2), (Change::Both, 6)] {
            let now = Instant::now();
            let mut transaction = Transaction::new(now, ID, SERVER.parse().unwrap(), change);
            let expected = response(BINDING_REQUEST, ID, &[(CHANGE_REQUEST, &[0, 0, 0, flags])]);
            assert_eq!(transaction.handle_timeout(now).map(|(_, octets)| octets), Some(expected));
        }
    }

    #[test]
    fn h12_what_is_no_answer_to_it_changes_nothing() {
        let address = write_address("198.51.100.7:99".parse().unwrap());
        let good = response(BINDING_RESPONSE, ID, &[(MAPPED_ADDRESS, &address)]);
        let with = |place: usize, octet: u8| {
            let mut octets = good.clone();
            octets[place] = octet;
            octets
        };
        let strays = [
            Vec::new(),
            b"\r\n\r\n".to_vec(),
            good[..good.len() - 1].to_vec(),
            [&good[..], b"\0"].concat(),
            with(4, 0),
            with(19, 8),
            with(1, 0x02),
            with(0, 0),
            response(BINDING_ERROR, TransactionId([8; 12]), &[(ERROR_CODE, b"\0\0\x04\x14")]),
        ];
        let now = Instant::now();
        let mut transaction = transaction(now);
        for stray in strays {
            transaction.handle_datagram(SERVER.parse().unwrap(), &stray);
            assert_eq!(transaction.outcome(), None, "{stray:?}");
        }
        assert!(transaction.handle_timeout(now).is_some());
        transaction.handle_datagram(SERVER.parse().unwrap(), &good);
        assert!(matches!(transaction.outcome(), Some(Outcome::Answered(_))));
        assert_eq!((transaction.poll_timeout(), transaction.handle_timeout(now + RTO)), (None, None));
    }

    #[test]
    fn addresses_that_cannot_be_are_not_believed() {
        let table = [
            ("198.51.100.7:99", SERVER, true),
            ("10.0.0.7:99", SERVER, true),
            ("[2001:db8::7]:99", SERVER, true),
            ("127.0.0.1:99", "127.0.0.2:3478", true),
            ("127.0.0.1:99", SERVER, false),
            ("[::1]:99", SERVER, false),
            ("169.254.1.1:99", SERVER, false),
            ("[fe80::1]:99", SERVER, false),
            ("0.0.0.0:99", SERVER, false),
            ("[::]:99", SERVER, false),
            ("255.255.255.255:99", SERVER, false),
            ("224.0.0.1:99", SERVER, false),
            ("[ff02::1]:99", SERVER, false),
            ("198.51.100.7:0", SERVER, false),
        ];
        for (address, server, expected) in table {
            assert_eq!(
                is_believable(address.parse().unwrap(), server.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn h12_an_answer_is_read_or_says_why_it_cannot_be_used() {
        let [mapped, other]: [SocketAddr; 2] =
            ["198.51.100.7:99", "192.0.2.2:3479"].map(|address| address.parse().unwrap());
        let [mapped_value, other_value] = [mapped, other].map(write_address);
        let source = SERVER.parse().unwrap();
        let answered = |other| Outcome::Answered(Answer { source, mapped, other });
        type Row<'a> = (u16, &'a [(u16, &'a [u8])], Outcome);
        let table: [Row<'_>; 9] = [
            (BINDING_RESPONSE, &[(MAPPED_ADDRESS, &mapped_value)], answered(None)),
            (
                BINDING_RESPONSE,
                &[(MAPPED_ADDRESS, &mapped_value), (4, &other_value), (CHANGED_ADDRESS, &other_value)],
                answered(Some(other)),
            ),
            (
                BINDING_RESPONSE,
                &[(OTHER_ADDRESS, &other_value), (0x8022, b"server"), (MAPPED_ADDRESS, &mapped_value)],
                answered(Some(other)),
            ),
            (BINDING_RESPONSE, &[(OTHER_ADDRESS, &other_value)], Outcome::Unusable),
            (BINDING_RESPONSE, &[(MAPPED_ADDRESS, &mapped_value), (0x7fff, b"")], Outcome::Unusable),
            (BINDING_RESPONSE, &[], Outcome::Unusable),
            (BINDING_ERROR, &[(ERROR_CODE, b"\0\0\x04\x14")], Outcome::Refused(420)),
            (BINDING_ERROR, &[(ERROR_CODE, b"\0\0\x05\0Server Error")], Outcome::Refused(500)),
            (BINDING_ERROR, &[], Outcome::Unusable),
        ];
        for (kind, attributes, expected) in table {
            let mut transaction = transaction(Instant::now());
            transaction.handle_datagram(source, &response(kind, ID, attributes));
            assert_eq!(transaction.outcome(), Some(expected), "{kind:#x} {attributes:?}");
            transaction.handle_datagram(source, &response(BINDING_ERROR, ID, &[(ERROR_CODE, b"\0\0\x06\0")]));
            assert_eq!(transaction.outcome(), Some(expected), "the first answer counts");
        }
    }
}
