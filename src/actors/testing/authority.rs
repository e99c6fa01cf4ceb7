//! Certificates for tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};

use crate::config::{Certificate, Host, Protocol, StaticRoute, Tls, TlsVersion, TrustedCas};
use crate::protocol::federation::RouteId;

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("Test Authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for `names`: `dns:NAME`, `uri:URI`, `ip:ADDRESS`, and `cn:NAME` for the subject.
    pub(crate) fn issue(&self, names: &[&str], purposes: &[ExtendedKeyUsagePurpose]) -> Certificate {
        self.issue_numbered(names, purposes, 1, 4096)
    }

    /// Likewise, with a serial number and the year before which it ends.
    pub(crate) fn issue_numbered(
        &self,
        names: &[&str],
        purposes: &[ExtendedKeyUsagePurpose],
        serial: u64,
        end: i32,
    ) -> Certificate {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(end, 1, 1);
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = purposes.to_vec();
        params.distinguished_name.remove(DnType::CommonName);
        for name in names {
            match name.split_once(':').unwrap() {
                ("dns", dns) => params.subject_alt_names.push(SanType::DnsName(dns.try_into().unwrap())),
                ("uri", uri) => params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap())),
                ("ip", ip) => params.subject_alt_names.push(SanType::IpAddress(ip.parse().unwrap())),
                ("cn", name) => params.distinguished_name.push(DnType::CommonName, name),
                other => panic!("{other:?}"),
            }
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certificate {
            file: std::path::PathBuf::new(),
            chain: vec![certificate.der().clone()],
            private_key: Arc::new(PrivateKeyDer::try_from(key.serialize_der()).unwrap()),
            subject: String::new(),
            issuer: String::new(),
            names: Vec::new(),
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH,
        }
    }

    /// The list that revokes the certificate with this serial number.
    pub(crate) fn revoke(&self, serial: u64) -> CertificateRevocationListDer<'static> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(4096, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2025, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().into()
    }

    /// A route to `domain` that trusts this authority and no other.
    pub(crate) fn route(&self, domain: &str) -> StaticRoute {
        StaticRoute {
            id: RouteId(0),
            trusted: true,
            domain_name: domain.to_owned(),
            access_server: Host::Name(format!("sip.{domain}")),
            port: 5061,
            transport_protocol: Protocol::Mtls,
            bind_to_ip_address: None,
            trusted_cas: Some(self.trusted().trusted_cas),
            key: String::new(),
        }
    }

    /// The rules of somebody who trusts this authority.
    pub(crate) fn trusted(&self) -> Tls {
        Tls {
            client_certificate: None,
            trusted_cas: TrustedCas::File { path: PathBuf::new(), certificates: vec![self.0.der().clone()] },
            revocation_lists: Vec::new(),
            minimum_tls_version: TlsVersion::V1_2,
        }
    }
}
