//! `[certificate]`: what the proxy shows of itself, and whom it believes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// A certificate with its private key; they belong together, that is checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The file of the chain.
    pub file: PathBuf,
    /// Leaf first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#1, PKCS#8 or SEC1.
    pub private_key: Arc<PrivateKeyDer<'static>>,
    /// Subject of the leaf, as a distinguished name, for status and logs.
    pub subject: String,
    /// Issuer of the leaf, likewise.
    pub issuer: String,
    /// The names that the leaf vouches for, lower case: DNS names and SIP URIs of the subject's alternative
    /// names, the common name only where there is none of them (RFC 5922 §7.1).
    pub names: Vec<String>,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
}

impl Certificate {
    /// The name of the host that shows it, for Via and Record-Route on the WAN: the first that is no presence domain,
    /// since a domain's own address is often that of its web server; the first of all where there is no other.
    pub fn host_name(&self, presence_domains: &[String]) -> Option<&str> {
        let hosts = || self.names.iter().map(String::as_str).filter(|name| !name.contains(['*', ':']));
        let is_domain = |host: &&str| presence_domains.iter().any(|domain| domain == host);
        hosts().find(|host| !is_domain(host)).or_else(|| hosts().next())
    }
}

/// Names and validity; neither keys nor kilobytes of DER.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("file", &self.file)
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("names", &self.names)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The rules of TLS and MTLS, incoming and outgoing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A second pair, shown where the proxy is the TLS client (`certificate.client_chain`,
    /// `certificate.client_private_key`).
    ///
    /// Default `None`: [`super::Config::certificate`] is shown. Reload: connections made afterwards.
    pub client_certificate: Option<Certificate>,
    /// Whom the proxy believes. Default: the system's. Reload: connections made afterwards.
    pub trusted_cas: TrustedCas,
    /// Revoked certificates, from PEM or DER files.
    ///
    /// Default none. Reload: connections made afterwards; connections of revoked peers end.
    pub revocation_lists: Vec<CertificateRevocationListDer<'static>>,
    /// `"1.2"` or `"1.3"`. Default 1.2. Reload: connections made afterwards.
    pub minimum_tls_version: TlsVersion,
}

/// The authorities that certificates of peers must lead to.
#[derive(Clone, PartialEq, Eq)]
pub enum TrustedCas {
    /// Those of the operating system, read when TLS is set up.
    System,
    /// Those of a PEM file.
    File {
        /// Where they came from.
        path: PathBuf,
        /// At least one.
        certificates: Vec<CertificateDer<'static>>,
    },
}

impl fmt::Debug for TrustedCas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::File { path, certificates } => {
                write!(f, "File({}, {} certificates)", path.display(), certificates.len())
            }
        }
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    V1_2,
    /// TLS 1.3 alone.
    V1_3,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whole days from `now` until `end`; negative where that is over.
pub fn days(now: SystemTime, end: SystemTime) -> i64 {
    let whole = |time: Duration| i64::try_from(time.as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
    match end.duration_since(now) {
        Ok(left) => whole(left),
        Err(over) => -1 - whole(over.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_what_is_over_is_negative() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let hour = Duration::from_secs(3600);
        let table = [
            (now + 30 * DAY, 30),
            (now + 2 * DAY - hour, 1),
            (now + hour, 0),
            (now - hour, -1),
            (now - 3 * DAY, -4),
        ];
        for (end, expected) in table {
            assert_eq!(days(now, end), expected);
        }
    }
}
