//! What stands in a certificate: the names that its bearer may call itself by, and what a log line says of it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::protocol::identity::PeerNames;

/// Names of one certificate that are read; no authority signs a certificate with more.
const MAXIMUM_NAMES: usize = 256;

/// Reads the names of a certificate. `None`: it is none.
pub fn peer_names(certificate: &CertificateDer<'_>) -> Option<PeerNames> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = PeerNames::default();
    let alternative = certificate.subject_alternative_name().ok()?;
    let all = alternative.iter().flat_map(|extension| &extension.value.general_names);
    for name in all.take(MAXIMUM_NAMES) {
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
        let names = peer_names(certificate)?;
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let addresses = names.addresses.iter().map(ToString::to_string);
        let all: Vec<_> = names.uris.into_iter().chain(names.dns).chain(addresses).collect();
        let not_after = system_time(certificate.validity().not_after);
        Some(Self {
            subject: certificate.subject().to_string(),
            names: all.join(","),
            issuer: certificate.issuer().to_string(),
            not_after: humantime::format_rfc3339_seconds(not_after).to_string(),
        })
    }
}

pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    // What has ended before 1970 has ended.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::testing::Authority;

    fn names(names: &[&str]) -> PeerNames {
        peer_names(&Authority::new().issue(names, &[]).chain[0]).unwrap()
    }

    #[test]
    fn the_names_of_a_certificate_are_read_and_the_common_name_only_where_it_is_alone() {
        let all = names(&[
            "dns:Sip.Example",
            "uri:sip:b.example",
            "ip:192.0.2.1",
            "ip:2001:db8::1",
            "cn:c.example",
        ]);
        let expected = PeerNames {
            uris: vec!["sip:b.example".to_owned()],
            dns: vec!["Sip.Example".to_owned()],
            addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()],
            common_name: None,
        };
        assert_eq!(all, expected);
        let alone = PeerNames { common_name: Some("c.example".to_owned()), ..PeerNames::default() };
        assert_eq!(names(&["cn:c.example"]), alone);
        assert_eq!(peer_names(&CertificateDer::from_slice(b"none")), None);
    }

    #[test]
    fn no_more_names_are_read_than_an_authority_would_sign() {
        let many: Vec<_> = (0..MAXIMUM_NAMES + 44).map(|number| format!("dns:{number}.example")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(names(&many).dns.len(), MAXIMUM_NAMES);
    }
}
