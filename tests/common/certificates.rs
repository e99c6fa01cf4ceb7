//! Throw-away certificates: an authority, what it signs, and TLS settings for the tests' own ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::agent::unique;
use super::scratch::Directory;

/// A certification authority of the test's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
pub(crate) struct Identity {
    /// The leaf, PEM.
    pub(crate) chain: String,
    /// PKCS#8, PEM.
    pub(crate) private_key: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    serial: u32,
}

/// What an identity is to be good for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names<'a> {
    /// Common name of the subject.
    pub(crate) common_name: &'a str,
    /// DNS names and IP addresses of the subject alternative name.
    pub(crate) hosts: Vec<String>,
    /// `sip:` URIs of the subject alternative name.
    pub(crate) uris: Vec<String>,
    /// Extended key usages; none leaves the extension out.
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    /// The years with whose first days the validity begins and ends; `None`: it has begun and does not end soon.
    pub(crate) years: Option<(i32, i32)>,
    /// When it ends; far away where nothing is given.
    pub(crate) end: Option<SystemTime>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key pair");
        let certificate = parameters.self_signed(&key).expect("a self-signed certificate");
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    /// The authority's own certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server certificate for host names and addresses.
    pub(crate) fn server(&self, hosts: &[&str]) -> Identity {
        self.issue(&Names {
            common_name: hosts.first().copied().unwrap_or_default(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
            ..Names::default()
        })
    }

    /// A client certificate whose DNS name is `name`.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(&Names {
            common_name: name,
            hosts: vec![name.to_owned()],
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            ..Names::default()
        })
    }

    pub(crate) fn issue(&self, names: &Names<'_>) -> Identity {
        let mut parameters = CertificateParams::new(names.hosts.clone()).expect("DNS names and addresses");
        parameters.distinguished_name.push(DnType::CommonName, names.common_name);
        parameters.extended_key_usages.clone_from(&names.usages);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let serial = unique();
        parameters.serial_number = Some(SerialNumber::from(u64::from(serial)));
        if let Some((first, last)) = names.years {
            parameters.not_before = date_time_ymd(first, 1, 1);
            parameters.not_after = date_time_ymd(last, 1, 1);
        }
        if let Some(end) = names.end {
            parameters.not_after = end.into();
        }
        for uri in &names.uris {
            let uri = uri.as_str().try_into().expect("URIs of certificates are ASCII");
            parameters.subject_alt_names.push(SanType::URI(uri));
        }
        let key = KeyPair::generate().expect("a key pair");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a signed certificate");
        Identity {
            chain: certificate.pem(),
            private_key: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            serial,
        }
    }

    /// The list of what the authority has revoked, PEM.
    pub(crate) fn revocation_list(&self, revoked: &[&Identity]) -> String {
        let (then, next) = (date_time_ymd(2020, 1, 1), date_time_ymd(4000, 1, 1));
        let revoked = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: SerialNumber::from(u64::from(identity.serial)),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: next,
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a signed list")
    }

    /// TLS as a client that trusts this authority and shows `identity`.
    pub(crate) fn client_config(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_root_certificates(self.roots());
        Arc::new(match identity {
            Some(identity) => {
                let (chain, key) = identity.der();
                builder.with_client_auth_cert(chain, key).expect("key and certificate belong together")
            }
            None => builder.with_no_client_auth(),
        })
    }

    /// TLS as a client that knows no version above 1.2.
    pub(crate) fn old_client_config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("the provider knows TLS 1.2");
        Arc::new(builder.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// TLS as a server that shows `identity`; `mutual` demands a client certificate of this authority.
    pub(crate) fn server_config(&self, identity: &Identity, mutual: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions");
        let builder = if mutual {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier with one root"))
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = identity.der();
        Arc::new(builder.with_single_cert(chain, key).expect("key and certificate belong together"))
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a certificate of rcgen is well-formed");
        Arc::new(roots)
    }
}

impl Identity {
    /// Writes `NAME.pem` and `NAME.key`; returns both paths.
    pub(crate) fn write(&self, directory: &Directory, name: &str) -> (PathBuf, PathBuf) {
        (
            directory.write(&format!("{name}.pem"), &self.chain),
            directory.write(&format!("{name}.key"), &self.private_key),
        )
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("rcgen writes PKCS#8");
        (vec![self.certificate.clone()], key)
    }
}
