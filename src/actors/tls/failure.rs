//! Why a connection under TLS was not made, in the words of the log, and what can be done.

use std::io;

use rustls::{AlertDescription as Alert, CertificateError as Fault, Error, PeerIncompatible as Incompatible};

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The validity of the peer's certificate has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// No trusted authority has issued it.
    UnknownIssuer,
    /// Its authority has revoked it.
    Revoked,
    /// It is good for other things than SIP.
    WrongPurpose,
    /// It is that of somebody else than was meant.
    WrongName,
    /// Something else is wrong with it.
    BadCertificate,
    /// There is none.
    NoCertificate,
    /// There is no version of TLS that both sides have.
    ProtocolVersion,
    /// There is no cipher suite, group or signature scheme that both sides have.
    NoCommonCipher,
    /// The peer does not accept our certificate.
    OursRefused,
    /// The peer has sent another alert.
    PeerAlert,
    /// What came is no TLS.
    NotTls,
    /// The peer has closed.
    Closed,
    /// It took longer than `limits.handshake_timeout`.
    Timeout,
    /// Nobody can be reached there.
    Unreachable,
    /// Anything else.
    Other,
}

/// The alert by which the peer has ended TLS, if that is what `error` tells.
pub fn alert_of(error: &io::Error) -> Option<Alert> {
    match tls_error(error) {
        Some(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

impl TlsFailure {
    /// What `error` of a handshake, or of the first read after it, means.
    pub fn of(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(error) => Self::of_tls(error),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Self::Closed,
                _ => Self::Other,
            },
        }
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(fault) => Self::of_certificate(fault),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => Self::NotTls,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::PeerIncompatible(
                Incompatible::ServerDoesNotSupportTls12Or13
                | Incompatible::ServerTlsVersionIsDisabledByOurConfig
                | Incompatible::SupportedVersionsExtensionRequired
                | Incompatible::Tls12NotOffered
                | Incompatible::Tls12NotOfferedOrEnabled,
            ) => Self::ProtocolVersion,
            Error::PeerIncompatible(_) => Self::NoCommonCipher,
            _ => Self::Other,
        }
    }

    const fn of_certificate(fault: &Fault) -> Self {
        match fault {
            Fault::Expired | Fault::ExpiredContext { .. } => Self::Expired,
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => Self::NotYetValid,
            Fault::UnknownIssuer => Self::UnknownIssuer,
            Fault::Revoked => Self::Revoked,
            Fault::InvalidPurpose | Fault::InvalidPurposeContext { .. } => Self::WrongPurpose,
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => Self::WrongName,
            _ => Self::BadCertificate,
        }
    }

    const fn of_alert(alert: Alert) -> Self {
        match alert {
            Alert::ProtocolVersion => Self::ProtocolVersion,
            Alert::HandshakeFailure | Alert::InsufficientSecurity => Self::NoCommonCipher,
            Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired => Self::OursRefused,
            _ => Self::PeerAlert,
        }
    }

    /// What the log calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Revoked => "revoked",
            Self::WrongPurpose => "wrong_purpose",
            Self::WrongName => "wrong_name",
            Self::BadCertificate => "bad_certificate",
            Self::NoCertificate => "no_certificate",
            Self::ProtocolVersion => "protocol_version",
            Self::NoCommonCipher => "no_common_cipher",
            Self::OursRefused => "own_certificate_refused",
            Self::PeerAlert => "peer_alert",
            Self::NotTls => "not_tls",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Other => "failed",
        }
    }

    /// What has happened, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Expired => "the certificate has expired",
            Self::NotYetValid => "the certificate is not valid yet",
            Self::UnknownIssuer => "no authority that we trust has issued the certificate",
            Self::Revoked => "the certificate is revoked",
            Self::WrongPurpose => "the certificate is for other things than SIP",
            Self::WrongName => "the certificate is that of somebody else",
            Self::BadCertificate => "the certificate is faulty",
            Self::NoCertificate => "no certificate was shown",
            Self::ProtocolVersion => "there is no version of TLS that both sides speak",
            Self::NoCommonCipher => "there is no cipher suite that both sides have",
            Self::OursRefused => "our certificate is refused",
            Self::PeerAlert => "the peer has broken TLS off",
            Self::NotTls => "what answers does not speak TLS",
            Self::Closed => "the peer has closed the connection",
            Self::Timeout => "nothing has come in time",
            Self::Unreachable => "nobody can be reached there",
            Self::Other => "it failed",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Expired => "the peer has to renew its certificate; check the clock of this machine",
            Self::NotYetValid => "check the clock of this machine; else wait until the certificate is valid",
            Self::UnknownIssuer => {
                "the peer has to send its intermediate certificates; else add its authority to trusted_cas"
            }
            Self::Revoked => "the peer has to replace its certificate",
            Self::WrongPurpose => "the peer needs a certificate for servers, clients or SIP domains",
            Self::WrongName => {
                "the peer needs a certificate with the expected name; else check the SRV record or the route"
            }
            Self::BadCertificate => "the peer has to replace its certificate",
            Self::NoCertificate => "the peer has to show a certificate: mutual TLS is expected here",
            Self::ProtocolVersion => {
                "the peer has to speak TLS 1.2 or newer; see certificate.minimum_tls_version"
            }
            Self::NoCommonCipher => "the peer has to offer a cipher suite with forward secrecy",
            Self::OursRefused => {
                "ask the peer why it refuses our certificate: chain, validity, purpose and names"
            }
            Self::PeerAlert => "ask the peer what its log says",
            Self::NotTls => "check port and transport: the other side does not speak TLS",
            Self::Closed => "ask the peer what its log says; something between may close connections",
            Self::Timeout => "check the way to the peer, and firewalls; see limits.handshake_timeout",
            Self::Unreachable => "check address and port, routing and firewalls",
            Self::Other => "see detail",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_name_and_something_to_do() {
        let certificate = |fault| Error::InvalidCertificate(fault);
        let table = [
            (certificate(Fault::Expired), "expired", "renew"),
            (certificate(Fault::NotValidYet), "not_yet_valid", "clock"),
            (certificate(Fault::UnknownIssuer), "unknown_issuer", "trusted_cas"),
            (certificate(Fault::Revoked), "revoked", "replace"),
            (certificate(Fault::InvalidPurpose), "wrong_purpose", "SIP domains"),
            (certificate(Fault::BadSignature), "bad_certificate", "replace"),
            (Error::NoCertificatesPresented, "no_certificate", "mutual TLS"),
            (Error::AlertReceived(Alert::UnknownCA), "own_certificate_refused", "our certificate"),
            (Error::AlertReceived(Alert::ProtocolVersion), "protocol_version", "TLS 1.2"),
            (Error::AlertReceived(Alert::HandshakeFailure), "no_common_cipher", "cipher"),
            (Error::AlertReceived(Alert::InternalError), "peer_alert", "ask the peer"),
            (Error::PeerIncompatible(Incompatible::Tls12NotOffered), "protocol_version", "TLS 1.2"),
            (Error::PeerIncompatible(Incompatible::NoCipherSuitesInCommon), "no_common_cipher", "cipher"),
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "not_tls", "port"),
            (Error::General("x".to_owned()), "failed", "detail"),
        ];
        for (error, name, remedy) in table {
            let failure = TlsFailure::of(&io::Error::other(error));
            assert_eq!(failure.name(), name);
            assert!(failure.remedy().contains(remedy), "{name}: {}", failure.remedy());
        }
        for (kind, name) in [
            (io::ErrorKind::UnexpectedEof, "closed"),
            (io::ErrorKind::ConnectionReset, "closed"),
            (io::ErrorKind::OutOfMemory, "failed"),
        ] {
            assert_eq!(TlsFailure::of(&kind.into()).name(), name);
        }
    }

    #[test]
    fn an_alert_is_told_from_other_errors() {
        let alert = io::Error::other(Error::AlertReceived(Alert::UnknownCA));
        assert_eq!(alert_of(&alert), Some(Alert::UnknownCA));
        assert_eq!(alert_of(&io::Error::other(Error::DecryptError)), None);
        assert_eq!(alert_of(&io::ErrorKind::ConnectionReset.into()), None);
    }
}
