//! A look at certificates before anybody else takes one: for the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::names::system_time;
use super::verifier::CertificateVerifier;
use super::{TlsFault, anchor, revocation_lists};
use crate::config::{Certificate, Tls, TrustedCas};

/// Where a chain leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// To an authority that we trust.
    Trusted,
    /// It is complete, and its last certificate is that of an authority that we do not trust.
    Untrusted,
    /// To an authority that is not there: this one.
    Incomplete(String),
    /// Its authority has revoked it.
    Revoked,
    /// The certificate is for none of: servers, clients, SIP domains.
    WrongPurpose,
    /// Something else is wrong with it.
    Faulty(String),
}

/// What a certificate may be used for (RFC 5280 §4.2.1.12, RFC 5924).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purposes {
    /// It does not say, or says any.
    pub is_any: bool,
    /// id-kp-serverAuth.
    pub server: bool,
    /// id-kp-clientAuth.
    pub client: bool,
    /// The others, by name or number; id-kp-sipDomain is `sipDomain`.
    pub others: Vec<String>,
}

/// An authority, or a list of what it has revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its distinguished name.
    pub name: String,
    /// The end of its validity; of a list, when the next one is due. None: a list that does not say.
    pub until: Option<SystemTime>,
}

/// Where the chain of `certificate` leads by the authorities of `trusted` and the lists of `tls`.
///
/// A validity that has ended or not begun is left to who asks for it: the chain is followed as of then.
///
/// # Errors
///
/// Where an authority or a list is none.
pub fn chain_end(certificate: &Certificate, trusted: &TrustedCas, tls: &Tls) -> Result<ChainEnd, TlsFault> {
    let Some((leaf, intermediates)) = certificate.chain.split_first() else {
        return Ok(ChainEnd::Faulty("it is empty".to_owned()));
    };
    let last = certificate.not_after.max(certificate.not_before);
    let time = SystemTime::now().clamp(certificate.not_before, last);
    let time = UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    let end = |certificates: &[CertificateDer<'static>]| {
        let anchors: Result<_, _> = certificates.iter().map(anchor).collect();
        let verifier = CertificateVerifier {
            anchors: anchors.map_err(TlsFault::TrustedCa)?,
            revocation_lists: revocation_lists(tls)?,
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        };
        Ok(verifier.check(leaf, intermediates, time))
    };
    Ok(match end(&usable(trusted))? {
        Ok(()) => ChainEnd::Trusted,
        Err(webpki::Error::CertRevoked) => ChainEnd::Revoked,
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => ChainEnd::WrongPurpose,
        Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) => untrusted(certificate),
        Err(other) => ChainEnd::Faulty(other.to_string()),
    })
}

/// Whether an untrusted chain has its authority at its end, which nobody needs to send but many do.
fn untrusted(certificate: &Certificate) -> ChainEnd {
    let Some(last) = certificate.chain.last() else { return ChainEnd::Faulty("it is empty".to_owned()) };
    match X509Certificate::from_der(last) {
        Ok((_, last)) if last.issuer() == last.subject() => ChainEnd::Untrusted,
        Ok((_, last)) => ChainEnd::Incomplete(last.issuer().to_string()),
        Err(error) => ChainEnd::Faulty(error.to_string()),
    }
}

/// What `certificate` may be used for.
pub fn purposes(certificate: &Certificate) -> Purposes {
    let leaf = certificate.chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let Some((_, leaf)) = leaf else { return Purposes::default() };
    let Ok(Some(extension)) = leaf.extended_key_usage() else {
        return Purposes { is_any: true, ..Purposes::default() };
    };
    let usage = extension.value;
    let named = [
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let named = named.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| (*name).to_owned());
    let numbered = usage.other.iter().map(|oid| match oid.to_id_string() {
        sip if sip == SIP_DOMAIN => "sipDomain".to_owned(),
        number => number,
    });
    Purposes {
        is_any: usage.any,
        server: usage.server_auth,
        client: usage.client_auth,
        others: named.chain(numbered).collect(),
    }
}

/// id-kp-sipDomain (RFC 5924 §3.1).
const SIP_DOMAIN: &str = "1.3.6.1.5.5.7.3.20";

/// The authorities that are trusted.
pub fn authorities(trusted: &TrustedCas) -> Vec<Validity> {
    let usable = usable(trusted);
    let read = usable.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    let validity = |(_, authority): (&[u8], X509Certificate<'_>)| Validity {
        name: authority.subject().to_string(),
        until: Some(system_time(authority.validity().not_after)),
    };
    read.map(validity).collect()
}

/// The lists of what is revoked.
pub fn lists(tls: &Tls) -> Vec<Validity> {
    let read = tls.revocation_lists.iter().filter_map(|der| CertificateRevocationList::from_der(der).ok());
    let validity = |(_, list): (&[u8], CertificateRevocationList<'_>)| Validity {
        name: list.issuer().to_string(),
        until: list.next_update().map(system_time),
    };
    read.map(validity).collect()
}

/// Those that can vouch: of the system's, one that cannot be read is left out, as the service does.
fn usable(trusted: &TrustedCas) -> Vec<CertificateDer<'static>> {
    match trusted {
        TrustedCas::File { certificates, .. } => certificates.clone(),
        TrustedCas::System => {
            let mut certificates = rustls_native_certs::load_native_certs().certs;
            certificates.retain(|certificate| anchor(certificate).is_ok());
            certificates
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::ExtendedKeyUsagePurpose as Purpose;

    use super::*;
    use crate::actors::testing::Authority;

    fn issue(authority: &Authority, purposes: &[Purpose]) -> Certificate {
        let far = UNIX_EPOCH + Duration::from_secs(3_000_000_000);
        Certificate { not_after: far, ..authority.issue_numbered(&["dns:a.test"], purposes, 7, 4096) }
    }

    #[test]
    fn a_chain_leads_to_an_authority_that_is_trusted_or_not_or_missing() {
        let (ours, other) = (Authority::new(), Authority::named("Other"));
        let tls = ours.trusted();
        let end =
            |certificate: &Certificate, tls: &Tls| chain_end(certificate, &tls.trusted_cas, tls).unwrap();
        let good = issue(&ours, &[]);
        assert_eq!(end(&good, &tls), ChainEnd::Trusted);
        let strange = issue(&other, &[]);
        assert_eq!(end(&strange, &tls), ChainEnd::Incomplete("CN=Other".to_owned()));
        let TrustedCas::File { certificates, .. } = other.trusted().trusted_cas else { unreachable!() };
        let complete = Certificate { chain: [&strange.chain[..], &certificates].concat(), ..strange };
        assert_eq!(end(&complete, &tls), ChainEnd::Untrusted);
        let revoking = Tls { revocation_lists: vec![ours.revoke(7)], ..tls.clone() };
        assert_eq!(end(&good, &revoking), ChainEnd::Revoked);
        assert_eq!(end(&issue(&ours, &[Purpose::CodeSigning]), &tls), ChainEnd::WrongPurpose);
        let over = Certificate {
            not_after: UNIX_EPOCH + Duration::from_secs(978_307_200),
            ..ours.issue_numbered(&["dns:a.test"], &[], 8, 2001)
        };
        assert_eq!(end(&over, &tls), ChainEnd::Trusted);
        assert_eq!(
            end(&Certificate { chain: Vec::new(), ..good }, &tls),
            ChainEnd::Faulty("it is empty".into())
        );
    }

    #[test]
    fn purposes_are_read_by_name_and_number() {
        let authority = Authority::new();
        let sip = Purpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
        let found = purposes(&issue(&authority, &[Purpose::ServerAuth, Purpose::CodeSigning, sip]));
        assert_eq!((found.is_any, found.server, found.client), (false, true, false));
        assert_eq!(found.others, ["codeSigning", "sipDomain"]);
        assert!(purposes(&issue(&authority, &[])).is_any);
        assert!(purposes(&issue(&authority, &[Purpose::Any, Purpose::ClientAuth])).is_any);
    }

    #[test]
    fn authorities_and_lists_tell_how_long_they_hold() {
        let authority = Authority::named("Ours");
        let mut tls = authority.trusted();
        tls.revocation_lists = vec![authority.revoke(1)];
        for found in [authorities(&tls.trusted_cas), lists(&tls)] {
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].name, "CN=Ours");
            assert!(found[0].until.unwrap() > SystemTime::now());
        }
    }
}
