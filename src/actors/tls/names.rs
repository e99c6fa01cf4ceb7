//! The names in a certificate: what its bearer may call itself (RFC 5922 §7.1).

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::protocol::account::{AccountId, Accounts, Secret};
use crate::protocol::message::uri::Uri;

/// The names of a peer's certificate. That the certificate is good has been found before; who the peer is to be
/// taken for is decided from these, by whoever needs to know.
///
/// Names are compared whole and without case; a wildcard is a name like any other (RFC 5922 §7.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// URIs among the alternative names, as written.
    pub uris: Vec<String>,
    /// DNS names among the alternative names, as written.
    pub dns: Vec<String>,
    /// Addresses among the alternative names.
    pub addresses: Vec<IpAddr>,
    /// The subject's common name, which counts only where there are no alternative names.
    pub common_name: Option<String>,
}

impl PeerNames {
    /// Reads them. `None`: the certificate is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut names = Self::default();
        let alternative = certificate.subject_alternative_name().ok()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
                GeneralName::IPAddress(octets) => names.addresses.extend(address(octets)),
                _ => {}
            }
        }
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if alternative.is_none() {
            names.common_name = common_name.map(str::to_owned);
        }
        Some(names)
    }

    /// Whether the certificate has the host name `host`.
    pub fn has_host(&self, host: &str) -> bool {
        self.dns.iter().chain(&self.common_name).any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Whether the certificate has the address `address`.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// The account whose certificate this is: the first that names a DNS name, a SIP URI's domain, or the common
    /// name where there are no alternative names.
    pub fn account(&self, accounts: &Accounts) -> Option<AccountId> {
        let is_ours = |account: &str| {
            self.has_host(account) || self.sip_domains().any(|d| d.eq_ignore_ascii_case(account))
        };
        let found =
            accounts.find(|account| matches!(&account.secret, Secret::Certificate(name) if is_ours(name)));
        found.map(|(id, _)| id)
    }

    /// The domains that SIP URIs name. One with a user part names that user, and no domain (RFC 5922 §7.1).
    fn sip_domains(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().filter_map(|uri| {
            let parsed = Uri::parse(uri.as_bytes()).ok()?;
            std::str::from_utf8(parsed.host_text).ok().filter(|_| !parsed.is_secure && parsed.user.is_none())
        })
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a log line says of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Its subject, as a distinguished name.
    pub subject: String,
    /// All its alternative names.
    pub names: String,
    /// Its issuer, as a distinguished name.
    pub issuer: String,
    /// The end of its validity (RFC 3339).
    pub not_after: String,
}

impl CertificateSummary {
    /// Reads it. `None`: the certificate is none.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let names = PeerNames::read(certificate)?;
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let addresses = names.addresses.iter().map(ToString::to_string);
        let all: Vec<_> = names.uris.into_iter().chain(names.dns).chain(addresses).collect();
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = UNIX_EPOCH + Duration::from_secs(not_after);
        Some(Self {
            subject: certificate.subject().to_string(),
            names: all.join(","),
            issuer: certificate.issuer().to_string(),
            not_after: humantime::format_rfc3339_seconds(not_after).to_string(),
        })
    }
}
