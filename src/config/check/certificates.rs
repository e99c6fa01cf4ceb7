//! `[certificate]`: reads the files, and checks that they are what they are said to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{ASN1Time, GeneralName, X509Certificate, parse_x509_certificate};

use crate::config::load::read_bounded;
use crate::config::reader::{Entry, Section};
use crate::config::rules::{choice, file, list, unless, unless_empty};
use crate::config::{Certificate, Tls, TlsVersion, TrustedCas};

/// No bundle of certificates and few revocation lists come near.
const MAXIMUM_FILE_BYTES: u64 = 64 << 20;

/// A certificate that ends sooner is worth a warning.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The own certificate, where there is one, and the rest of the section.
pub(super) fn read(mut section: Section<'_>) -> (Option<Certificate>, Tls) {
    let certificate = pair(&mut section, "chain", "private_key");
    let versions = choice(&[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)]);
    let tls = Tls {
        client_certificate: pair(&mut section, "client_chain", "client_private_key"),
        trusted_cas: section
            .get("trusted_cas", unless("system", trusted_cas), None)
            .unwrap_or(TrustedCas::System),
        revocation_lists: section.get("revocation_lists", list(revocation_lists), Vec::new()).concat(),
        minimum_tls_version: section.get("minimum_tls_version", versions, TlsVersion::V1_2),
    };
    (certificate, tls)
}

/// A file of authorities.
pub(super) fn trusted_cas(entry: &Entry<'_>) -> Option<TrustedCas> {
    let path = file(entry)?;
    entry.accept(read_authorities(&path), "a PEM file with certificates of authorities")
}

/// A file of revocation lists.
fn revocation_lists(entry: &Entry<'_>) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let path = file(entry)?;
    entry.accept(read_revocation_lists(&path), "a PEM or DER file with revocation lists")
}

/// A chain with its key, where one is configured.
fn pair(section: &mut Section<'_>, chain_key: &'static str, key_key: &'static str) -> Option<Certificate> {
    let chain = section.get(chain_key, unless_empty(file), None);
    let private_key = section.get(key_key, unless_empty(file), None);
    match (chain, private_key) {
        (None, None) => None,
        (Some(_), None) => section.accept(key_key, Err(format!("is empty, `{chain_key}` needs it"))),
        (None, Some(_)) => section.accept(chain_key, Err(format!("is empty, `{key_key}` needs it"))),
        (Some(chain), Some(private_key)) => {
            let file = chain;
            let chain = section.accept(chain_key, read_certificates(&file));
            let private_key = section.accept(key_key, read_private_key(&private_key));
            let (chain, private_key) = (chain?, private_key?);
            // The chain first: of one that is no certificate, the key is not to blame.
            let certificate = section.accept(chain_key, describe(file, chain, private_key))?;
            section.accept(key_key, check_match(&certificate.chain, &certificate.private_key))?;
            warn_of_age(section, chain_key, &certificate);
            Some(certificate)
        }
    }
}

fn check_match(
    chain: &[CertificateDer<'static>],
    private_key: &PrivateKeyDer<'static>,
) -> Result<(), String> {
    let provider = aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain.to_vec(), private_key.clone_key(), &provider) {
        Ok(_) => Ok(()),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("does not belong to the certificate, allowed: the key of the first one in the chain"
                .to_owned())
        }
        Err(error) => Err(format!("cannot be used: {error}, allowed: an RSA, ECDSA or Ed25519 key")),
    }
}

/// Reads names and validity from the leaf.
fn describe(
    file: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
) -> Result<Certificate, String> {
    let leaf = chain.first().ok_or("holds no certificate")?;
    let (_, leaf) =
        parse_x509_certificate(leaf).map_err(|error| format!("holds no X.509 certificate: {error}"))?;
    let validity = leaf.validity();
    let (subject, issuer) = (leaf.subject().to_string(), leaf.issuer().to_string());
    let (not_before, not_after) = (system_time(validity.not_before), system_time(validity.not_after));
    let names = names(&leaf)?;
    Ok(Certificate {
        file,
        chain,
        private_key: Arc::new(private_key),
        subject,
        issuer,
        names,
        not_before,
        not_after,
    })
}

/// The names that a certificate vouches for (RFC 5922 §7.1).
fn names(leaf: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let alternatives =
        leaf.subject_alternative_name().map_err(|error| format!("has faulty names: {error}"))?;
    let Some(alternatives) = alternatives else {
        let common_names = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        return Ok(common_names.map(str::to_ascii_lowercase).collect());
    };
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => Some(uri.to_ascii_lowercase()).filter(|uri| uri.starts_with("sip:")),
        _ => None,
    });
    Ok(names.collect())
}

fn warn_of_age(section: &Section<'_>, chain_key: &str, certificate: &Certificate) {
    let now = system_time(ASN1Time::now());
    let date = |time| humantime::format_rfc3339_seconds(time);
    if certificate.not_after <= now {
        section.warn(chain_key, format!("expired at {}: peers will refuse it", date(certificate.not_after)));
    } else if certificate.not_after <= now + SOON {
        section.warn(chain_key, format!("expires at {}", date(certificate.not_after)));
    }
    if certificate.not_before > now {
        section.warn(chain_key, format!("is not valid before {}", date(certificate.not_before)));
    }
}

fn system_time(time: ASN1Time) -> SystemTime {
    // Validity before 1970 is as long over as validity in 1970.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> = read_pem(path)?;
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate, allowed: PEM, leaf first", path.display()));
    }
    Ok(certificates)
}

fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let keys: Vec<PrivateKeyDer<'static>> = read_pem(path)?;
    let found = keys.into_iter().next();
    found.ok_or_else(|| {
        format!(
            "{} holds no private key, allowed: PEM, PKCS#1, PKCS#8 or SEC1, not encrypted",
            path.display()
        )
    })
}

fn read_authorities(path: &Path) -> Result<TrustedCas, String> {
    let certificates = read_certificates(path)?;
    for (index, certificate) in certificates.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate)
            .map_err(|error| format!("certificate {} of {}: {error}", index + 1, path.display()))?;
    }
    Ok(TrustedCas::File { path: path.to_owned(), certificates })
}

fn read_revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let octets = read_file(path)?;
    let lists = match parse_pem::<CertificateRevocationListDer<'static>>(path, &octets)? {
        lists if lists.is_empty() => vec![CertificateRevocationListDer::from(octets)],
        lists => lists,
    };
    for list in &lists {
        webpki::BorrowedCertRevocationList::from_der(list)
            .map_err(|error| format!("{} holds no revocation list: {error}", path.display()))?;
    }
    Ok(lists)
}

fn read_pem<T: PemObject>(path: &Path) -> Result<Vec<T>, String> {
    parse_pem(path, &read_file(path)?)
}

fn parse_pem<T: PemObject>(path: &Path, octets: &[u8]) -> Result<Vec<T>, String> {
    T::pem_slice_iter(octets)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{} is no PEM: {error}", path.display()))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    read_bounded(path, MAXIMUM_FILE_BYTES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
    };

    use crate::config::tests::{Directory, assert_any, assert_only, config, faults, warnings};
    use crate::config::{TlsVersion, TrustedCas};

    fn leaf(names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Common.example.org");
        edit(&mut params);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn section(chain: &str, private_key: &str) -> String {
        format!("[certificate]\nchain = \"{chain}\"\nprivate_key = \"{private_key}\"\n")
    }

    #[test]
    fn a_pair_is_read_with_its_names() {
        let directory = Directory::new("pair");
        let (chain, key) = leaf(&["Sip.example.org"], |params| {
            params.subject_alt_names.push(SanType::URI("sip:example.org".try_into().unwrap()));
            params.subject_alt_names.push(SanType::URI("https://example.org".try_into().unwrap()));
        });
        let text = section(&directory.write("chain.pem", chain), &directory.write("key.pem", key));
        let certificate = config(&text).certificate.unwrap();
        assert_eq!(certificate.names, ["sip.example.org", "sip:example.org"]);
        assert_eq!(certificate.host_name(&[]), Some("sip.example.org"));
        assert!(certificate.subject.contains("Common.example.org"), "{}", certificate.subject);
        assert!(format!("{certificate:?}").len() < 400);
        assert!(!warnings(&text).iter().any(|w| w.contains("certificate.chain")), "no warning is due");
    }

    #[test]
    fn a_certificate_stands_for_its_host_before_its_domain() {
        let directory = Directory::new("host-name");
        let host_name = |names: &[&str]| {
            let (chain, key) = leaf(names, |params| {
                params.subject_alt_names.insert(0, SanType::URI("sip:example.org".try_into().unwrap()));
            });
            let text = section(&directory.write("chain.pem", chain), &directory.write("key.pem", key));
            let certificate = config(&text).certificate.unwrap();
            certificate.host_name(&["example.org".to_owned()]).map(str::to_owned)
        };
        assert_eq!(host_name(&["example.org", "sip.example.org"]).as_deref(), Some("sip.example.org"));
        assert_eq!(host_name(&["*.example.org", "example.org"]).as_deref(), Some("example.org"));
        assert_eq!(host_name(&[]), None);
    }

    #[test]
    fn the_common_name_counts_only_without_alternative_names() {
        let directory = Directory::new("common-name");
        let (chain, key) = leaf(&[], |_| {});
        let text = section(&directory.write("chain.pem", chain), &directory.write("key.pem", key));
        assert_eq!(config(&text).certificate.unwrap().names, ["common.example.org"]);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let directory = Directory::new("mismatch");
        let chain = directory.write("chain.pem", leaf(&["a.example"], |_| {}).0);
        let key = directory.write("key.pem", leaf(&["a.example"], |_| {}).1);
        assert_only(&faults(&section(&chain, &key)), &["3: certificate.private_key: does not belong to"]);
    }

    #[test]
    fn half_a_pair_and_files_without_pem_are_refused() {
        let directory = Directory::new("half");
        let (chain, key) = leaf(&["a.example"], |_| {});
        let (chain, key) = (directory.write("chain.pem", chain), directory.write("key.pem", key));
        let noise =
            directory.write("noise.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let garbage = directory.write("garbage.pem", garbage);
        for (text, part) in [
            (section(&chain, ""), "3: certificate.private_key: is empty, `chain` needs it"),
            (section("", &key), "2: certificate.chain: is empty, `private_key` needs it"),
            (section(&key, &key), "holds no certificate"),
            (section(&chain, &chain), "holds no private key"),
            (section(&noise, &key), "is no PEM"),
            (section(&garbage, &key), "2: certificate.chain: "),
            (
                format!("[certificate]\nclient_chain = \"{chain}\"\n"),
                "certificate.client_private_key: is empty",
            ),
        ] {
            assert_only(&faults(&text), &[part]);
        }
    }

    #[test]
    fn a_certificate_that_ends_or_has_not_begun_is_a_warning() {
        let directory = Directory::new("age");
        for (index, (from, to, part)) in
            [(1999, 2000, "expired at 2000-01-01"), (2999, 3000, "is not valid before 2999-01-01")]
                .into_iter()
                .enumerate()
        {
            let (chain, key) = leaf(&["a.example"], |params| {
                params.not_before = date_time_ymd(from, 1, 1);
                params.not_after = date_time_ymd(to, 1, 1);
            });
            let chain = directory.write(&format!("chain{index}.pem"), chain);
            let key = directory.write(&format!("key{index}.pem"), key);
            assert_any(&warnings(&section(&chain, &key)), &["2: certificate.chain", part]);
        }
    }

    #[test]
    fn authorities_and_revocation_lists_are_read_and_refused() {
        let directory = Directory::new("authorities");
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = directory.write("ca.pem", params.self_signed(&key).unwrap().pem());
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2034, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&Issuer::new(params, &key))
        .unwrap();
        let pem = directory.write("list.pem", list.pem().unwrap());
        let der = directory.write("list.der", list.der());
        let text = format!(
            "[certificate]\ntrusted_cas = \"{authority}\"\nrevocation_lists = [\"{pem}\", \"{der}\"]\n\
             minimum_tls_version = \"1.3\""
        );
        let tls = config(&text).tls;
        assert!(matches!(&tls.trusted_cas, TrustedCas::File { certificates, .. } if certificates.len() == 1));
        assert_eq!(tls.revocation_lists.len(), 2);
        assert_eq!(tls.revocation_lists[0], tls.revocation_lists[1]);
        assert_eq!(tls.minimum_tls_version, TlsVersion::V1_3);

        let empty = directory.write("empty.pem", "");
        let found = faults(&format!(
            "[certificate]\ntrusted_cas = \"{empty}\"\nrevocation_lists = [\"{pem}\",\n\
             \"missing.crl\",\n\"{authority}\"]"
        ));
        assert_eq!(found.len(), 3, "{found:#?}");
        assert_any(&found, &["2: certificate.trusted_cas: ", "holds no certificate"]);
        assert_any(&found, &["4: certificate.revocation_lists[1]: ", "missing.crl cannot be read"]);
        assert_any(&found, &["5: certificate.revocation_lists[2]: ", "holds no revocation list"]);
    }
}
