//! TLS and MTLS: what the proxy shows of itself, whom it believes (RFC 3261 §26.3, RFC 5922).
//!
//! That a certificate is good ([`verifier`]) and whose it is ([`PeerNames`]) are two steps: the first happens in
//! the handshake, the second after it, where it is known who was meant.

mod names;
mod verifier;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};
use slog::{Logger, warn};
use webpki::{CertRevocationList, OwnedCertRevocationList};

pub use self::names::{CertificateSummary, PeerNames};
use self::verifier::CertificateVerifier;
pub(crate) use self::verifier::watched;
use crate::config::{Certificate, Protocol, Tls, TlsVersion, TrustedCas};
use crate::protocol::account::Accounts;

/// What TLS needs on one interface.
#[derive(Clone, Debug)]
pub struct StreamTls {
    /// For connections that are accepted.
    pub server: Arc<ServerConfig>,
    /// For connections that are opened.
    pub client: Arc<ClientConfig>,
    /// The accounts that a client certificate may prove: those of MTLS interfaces on the LAN.
    pub accounts: Option<Arc<Accounts>>,
}

/// TLS as one configuration has it. A reload makes another: connections made afterwards use that, whole, so that
/// no session of the one before is resumed past a new verdict.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    incoming: Option<Incoming>,
    client: Arc<ClientConfig>,
}

#[derive(Clone, Debug)]
struct Incoming {
    tls: Arc<ServerConfig>,
    mutual: Arc<ServerConfig>,
}

/// Why there is no [`TlsSettings`].
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// The certificate and its key do not serve.
    #[error("certificate: {0}")]
    Certificate(#[source] rustls::Error),
    /// A trusted authority's certificate is none.
    #[error("trusted authority: {0}")]
    TrustedCa(#[source] webpki::Error),
    /// A revocation list is none.
    #[error("revocation list: {0}")]
    RevocationList(#[source] webpki::Error),
    /// The cryptography does not offer the versions of TLS that are asked for.
    #[error("TLS versions: {0}")]
    Versions(#[source] rustls::Error),
}

impl TlsSettings {
    /// From the configuration. Reads the system's authorities where these are trusted. Without `certificate`
    /// nothing can be accepted, and connections are opened without one.
    pub fn new(certificate: Option<&Certificate>, tls: &Tls, log: &Logger) -> Result<Self, TlsFault> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(CertificateVerifier {
            anchors: anchors(&tls.trusted_cas, log)?,
            revocation_lists: revocation_lists(tls)?,
            algorithms: provider.signature_verification_algorithms,
        });
        let versions = versions(tls.minimum_tls_version);
        let incoming =
            certificate.map(|certificate| Incoming::new(&provider, versions, &verifier, certificate));
        let shown = tls.client_certificate.as_ref().or(certificate);
        Ok(Self {
            incoming: incoming.transpose()?,
            client: Arc::new(client_config(&provider, versions, verifier, shown)?),
        })
    }

    /// For an interface that speaks `protocol`, TLS or MTLS. `None` where there is no certificate to show.
    ///
    /// `accounts` are those that client certificates prove; they count on MTLS interfaces alone.
    pub fn for_interface(&self, protocol: Protocol, accounts: Option<Arc<Accounts>>) -> Option<StreamTls> {
        let incoming = self.incoming.as_ref()?;
        let is_mutual = protocol == Protocol::Mtls;
        Some(StreamTls {
            server: Arc::clone(if is_mutual { &incoming.mutual } else { &incoming.tls }),
            client: Arc::clone(&self.client),
            accounts: accounts.filter(|_| is_mutual),
        })
    }
}

impl Incoming {
    fn new(
        provider: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
        verifier: &Arc<CertificateVerifier>,
        certificate: &Certificate,
    ) -> Result<Self, TlsFault> {
        let chain = || certificate.chain.clone();
        let key = || certificate.private_key.clone_key();
        let mut tls = server_builder(provider, versions)?
            .with_no_client_auth()
            .with_single_cert(chain(), key())
            .map_err(TlsFault::Certificate)?;
        tls.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsFault::Certificate)?;
        let mut mutual = server_builder(provider, versions)?
            .with_client_cert_verifier(Arc::clone(verifier) as _)
            .with_single_cert(chain(), key())
            .map_err(TlsFault::Certificate)?;
        // A resumed session would not have its certificate checked again, though it may have expired meanwhile.
        mutual.session_storage = Arc::new(NoServerSessionStorage {});
        mutual.send_tls13_tickets = 0;
        Ok(Self { tls: Arc::new(tls), mutual: Arc::new(mutual) })
    }
}

fn server_builder(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsFault> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider));
    builder.with_protocol_versions(versions).map_err(TlsFault::Versions)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: Arc<CertificateVerifier>,
    certificate: Option<&Certificate>,
) -> Result<ClientConfig, TlsFault> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(TlsFault::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier as Arc<dyn ServerCertVerifier>);
    let mut config = match certificate {
        Some(certificate) => builder
            .with_client_auth_cert(certificate.chain.clone(), certificate.private_key.clone_key())
            .map_err(TlsFault::Certificate)?,
        None => builder.with_no_client_auth(),
    };
    // As for incoming MTLS: each connection has its certificate checked.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The versions, newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(minimum: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match minimum {
        TlsVersion::V1_2 => &VERSIONS,
        TlsVersion::V1_3 => &VERSIONS[..1],
    }
}

fn anchors(trusted: &TrustedCas, log: &Logger) -> Result<Vec<TrustAnchor<'static>>, TlsFault> {
    match trusted {
        TrustedCas::File { certificates, .. } => {
            certificates.iter().map(anchor).collect::<Result<_, _>>().map_err(TlsFault::TrustedCa)
        }
        TrustedCas::System => {
            let found = rustls_native_certs::load_native_certs();
            // One certificate that cannot be read is the system's business; the others stand.
            let anchors: Vec<_> =
                found.certs.iter().filter_map(|certificate| anchor(certificate).ok()).collect();
            if anchors.is_empty() {
                let cause = found.errors.first().map(ToString::to_string);
                warn!(log, "no_trusted_authorities"; "reason" => cause.as_deref().unwrap_or("the system has none"));
            }
            Ok(anchors)
        }
    }
}

fn anchor(certificate: &CertificateDer<'_>) -> Result<TrustAnchor<'static>, webpki::Error> {
    webpki::anchor_from_trusted_cert(certificate).map(|anchor| anchor.to_owned())
}

fn revocation_lists(tls: &Tls) -> Result<Vec<CertRevocationList<'static>>, TlsFault> {
    let lists = tls.revocation_lists.iter().map(|der| OwnedCertRevocationList::from_der(der).map(Into::into));
    lists.collect::<Result<_, _>>().map_err(TlsFault::RevocationList)
}
