//! What a datagram is, by its first octets (RFC 5626 §8, RFC 7983 in spirit): SIP, STUN or a keep-alive.

/// Octets of a STUN header (RFC 8489 §5).
pub const STUN_HEADER: usize = 20;

/// The kinds of datagrams that share a SIP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramKind {
    /// Starts like text: to be read as SIP.
    Sip,
    /// A STUN message: its first two bits are zero and its length is that of a header at least (RFC 8489 §5).
    Stun,
    /// Nothing, line breaks alone, or single octets as some NAT keep-alives send: no answer.
    KeepAlive,
}

/// Tells the kind of `datagram`.
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match datagram {
        [] | [_] | [0, 0, 0, 0] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r', b'\n'] => DatagramKind::KeepAlive,
        // No SIP message starts with a control character but CR or LF; the method bits of STUN do.
        [first, ..] if *first < 4 && datagram.len() >= STUN_HEADER => DatagramKind::Stun,
        _ => DatagramKind::Sip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        assert_eq!(classify(b"\r\n\r\n"), DatagramKind::KeepAlive);
        assert_eq!(classify(b"\0\0\0\0"), DatagramKind::KeepAlive);
        assert_eq!(classify(b""), DatagramKind::KeepAlive);
        assert_eq!(classify(b"\r\nOPTIONS sip:a SIP/2.0"), DatagramKind::Sip);
        let mut binding = [0u8; 20];
        binding[1] = 1;
        assert_eq!(classify(&binding), DatagramKind::Stun);
        assert_eq!(classify(&binding[..19]), DatagramKind::Sip);
    }
}
