//! Whether a certificate is good: chain, validity, revocation, purpose. The same for servers and clients.
//!
//! The verifiers of rustls are too strict for SIP in one place and too lax in another: they refuse a client whose
//! certificate is for servers, though public authorities issue no others to SIP domains, and know nothing of SIP's
//! names. Whether the names are those of the peer that was meant is no business of this one: see
//! [`identity`](crate::protocol::identity).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::{CertRevocationListError, CertificateError, DigitallySignedStruct, SignatureScheme};
use webpki::{
    CertRevocationList, EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::names::CertificateSummary;

/// What certificates are checked against.
#[derive(Debug)]
pub(super) struct CertificateVerifier {
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// They may be large, and are shared.
    pub(super) revocation_lists: Arc<[CertRevocationList<'static>]>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl CertificateVerifier {
    pub(super) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let lists: Vec<_> = self.revocation_lists.iter().collect();
        // A list is taken at its word for the certificates on it; that an authority publishes none, or was late
        // with its latest, is no reason to refuse the others.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|builder| builder.with_status_policy(UnknownStatusPolicy::Allow).build());
        EndEntityCert::try_from(certificate)?
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                intermediates,
                now,
                Purpose,
                revocation,
                None,
            )
            .map(|_| ())
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(refuse(end_entity, error)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The purposes that a certificate may have been issued for: servers, clients, SIP domains (RFC 5924), any, or no
/// purpose in particular.
struct Purpose;

const ACCEPTED: [&[u8]; 4] = [
    // id-kp-serverAuth, id-kp-clientAuth, id-kp-sipDomain: 1.3.6.1.5.5.7.3.1, .2, .20
    &[0x2b, 6, 1, 5, 5, 7, 3, 1],
    &[0x2b, 6, 1, 5, 5, 7, 3, 2],
    &[0x2b, 6, 1, 5, 5, 7, 3, 20],
    // anyExtendedKeyUsage: 2.5.29.37.0
    &[0x55, 29, 37, 0],
];

impl ExtendedKeyUsageValidator for Purpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            if ACCEPTED.into_iter().any(|accepted| KeyPurposeId::new(accepted) == purpose) {
                return Ok(());
            }
            present.push(purpose.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        let context = RequiredEkuNotFoundContext { required: KeyUsage::server_auth(), present };
        Err(webpki::Error::RequiredEkuNotFoundContext(context))
    }
}

/// The error for a certificate that is refused; [`watched`] tells which it was.
pub(super) fn refuse(certificate: &CertificateDer<'_>, error: webpki::Error) -> rustls::Error {
    let summary = CertificateSummary::read(certificate);
    REFUSED.with_borrow_mut(|refused| *refused = summary);
    describe(error)
}

/// The error that makes rustls send the alert that fits.
fn describe(error: webpki::Error) -> rustls::Error {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding.into(),
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }.into()
        }
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after }.into(),
        E::InvalidCertValidity => CertificateError::Expired.into(),
        E::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        E::CertRevoked => CertificateError::Revoked.into(),
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus.into(),
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        E::InvalidCrlSignatureForPublicKey => CertRevocationListError::BadSignature.into(),
        E::IssuerNotCrlSigner => CertRevocationListError::IssuerInvalidForCrl.into(),
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))).into(),
    }
}

thread_local! {
    /// The certificate that this thread refused last. A verifier can tell the connection no more than an error,
    /// whose kind chooses the alert; [`watched`] picks up from here what the log is to say beside it.
    static REFUSED: RefCell<Option<CertificateSummary>> = const { RefCell::new(None) };
}

/// Drives a handshake; tells also which certificate was refused on the way.
pub(crate) async fn watched<F: Future>(handshake: F) -> (F::Output, Option<CertificateSummary>) {
    let mut handshake = pin!(handshake);
    let mut refused = None;
    let output = poll_fn(|cx| {
        // Verification happens within one poll, and no other handshake runs on this thread meanwhile.
        REFUSED.take();
        let polled = handshake.as_mut().poll(cx);
        refused = REFUSED.take().or_else(|| refused.take());
        polled
    })
    .await;
    (output, refused)
}
