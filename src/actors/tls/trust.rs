//! Whom the proxy believes, and for which domains: the authorities that everybody shares, and those of single routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::names::peer_names;
use super::verifier::{CertificateVerifier, refuse};
use crate::protocol::identity::{PeerNames, Vouchers};

/// All authorities of one configuration. For incoming connections it is the verifier, too: who connects may be the
/// peer of a route or anybody else.
#[derive(Debug)]
pub(super) struct Trust {
    /// Those that everybody shares.
    common: Arc<CertificateVerifier>,
    /// By domain: those of the routes that have their own.
    routes: BTreeMap<Arc<str>, Arc<CertificateVerifier>>,
    /// The domains of `routes`.
    reserved: Arc<[Arc<str>]>,
}

impl Trust {
    pub(super) fn new(
        common: Arc<CertificateVerifier>,
        routes: BTreeMap<Arc<str>, Arc<CertificateVerifier>>,
    ) -> Self {
        let reserved = routes.keys().cloned().collect();
        Self { common, routes, reserved }
    }

    /// Who vouches for `certificate` now. The error says why nobody does.
    pub(super) fn vouchers(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Vouchers, rustls::Error> {
        let common = self.common.check(certificate, intermediates, now);
        let mut vouchers = self.vouched_by(Vec::new(), common.is_ok());
        let mut fault = common.err();
        for (domain, verifier) in self.concerned(&peer_names(certificate).unwrap_or_default()) {
            match verifier.check(certificate, intermediates, now) {
                Ok(()) => vouchers.routes.push(Arc::clone(domain)),
                // An authority that has issued the certificate knows better what is wrong with it.
                Err(webpki::Error::UnknownIssuer) => {}
                Err(error) => fault = Some(error),
            }
        }
        match fault {
            Some(fault) if !vouchers.is_common && vouchers.routes.is_empty() => {
                Err(refuse(certificate, fault))
            }
            _ => Ok(vouchers),
        }
    }

    /// Who vouches for a peer with these names that the handshake has found good a moment ago. `None`: that cannot be
    /// told without another look at its certificate.
    pub(super) fn known_vouchers(&self, names: &PeerNames) -> Option<Vouchers> {
        self.concerned(names).next().is_none().then(|| self.vouched_by(Vec::new(), true))
    }

    /// The authorities of this domain's route alone, or if it has none, those that everybody shares.
    pub(super) fn of_domain(&self, domain: Option<&str>) -> (&Arc<CertificateVerifier>, Vouchers) {
        match domain.and_then(|domain| self.routes.get_key_value(domain)) {
            Some((domain, verifier)) => (verifier, self.vouched_by(vec![Arc::clone(domain)], false)),
            None => (&self.common, self.vouched_by(Vec::new(), true)),
        }
    }

    /// The routes with authorities of their own whose peer may have these names. Others need not be asked.
    fn concerned(&self, names: &PeerNames) -> impl Iterator<Item = (&Arc<str>, &Arc<CertificateVerifier>)> {
        self.routes.iter().filter(|(domain, _)| names.may_prove(domain))
    }

    fn vouched_by(&self, routes: Vec<Arc<str>>, is_common: bool) -> Vouchers {
        Vouchers { is_common, routes, reserved: Arc::clone(&self.reserved) }
    }
}

impl ClientCertVerifier for Trust {
    /// No hints: the subjects of all trusted authorities are many kilobytes, and a client has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.vouchers(end_entity, intermediates, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.common.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.common.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.common.algorithms.supported_schemes()
    }
}
