//! TLS and MTLS: what the proxy shows of itself, whom it believes (RFC 3261 §26.3, RFC 5922).
//!
//! That a certificate is good (`verifier.rs`) and whose it is ([`identity`](crate::protocol::identity)) are two steps:
//! the first happens in the handshake, the second after it, where it is known who was meant.

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

pub use self::names::{CertificateSummary, peer_names};
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

    /// For an interface that speaks `protocol`, TLS, MTLS or WSS. `None` where there is no certificate to show.
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

#[cfg(test)]
mod tests {
    use rcgen::ExtendedKeyUsagePurpose as Purpose;
    use rustls::pki_types::ServerName;
    use rustls::server::danger::ClientCertVerifier as _;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::actors::testing::{Authority, log};

    /// The handshake of `client`, which shows its certificate, with `server`, which demands one: what either side
    /// says of it, and the client's certificate if it was refused.
    async fn handshake(
        client: (&Certificate, &Tls),
        server: (&Certificate, &Tls),
    ) -> (Result<(), String>, Result<(), String>, Option<CertificateSummary>) {
        let client = TlsSettings::new(Some(client.0), client.1, &log()).unwrap();
        let server = TlsSettings::new(Some(server.0), server.1, &log()).unwrap();
        let client = TlsConnector::from(client.client);
        let server = TlsAcceptor::from(server.for_interface(Protocol::Mtls, None).unwrap().server);
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from("anything.example").unwrap();
        let connecting = async {
            let mut stream = client.connect(name, near).await.map_err(|error| error.to_string())?;
            // With TLS 1.3 the client learns from its first read what the server thinks of its certificate.
            let mut octet = [0];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut octet).await.map_err(|e| e.to_string())?;
            Ok(())
        };
        let accepting = async {
            let (accepted, seen) = watched(server.accept(far)).await;
            let outcome = match accepted {
                Ok(mut stream) => tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await,
                Err(error) => Err(error),
            };
            (outcome.map_err(|error| error.to_string()), seen)
        };
        let (client, (server, seen)) = futures_util::future::join(connecting, accepting).await;
        (client, server, seen)
    }

    #[actix::test]
    async fn certificates_for_servers_clients_sip_any_and_no_purpose_are_good_on_both_sides() {
        let authority = Authority::new();
        let trust = authority.trusted();
        let sip_domain = Purpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
        let own = authority.issue(&["dns:us.example"], &[]);
        let good = [
            vec![Purpose::ServerAuth],
            vec![Purpose::ClientAuth],
            vec![sip_domain],
            vec![Purpose::Any],
            vec![],
            vec![Purpose::CodeSigning, Purpose::ServerAuth],
        ];
        for purposes in good {
            let theirs = authority.issue(&["dns:them.example"], &purposes);
            assert_eq!(
                handshake((&theirs, &trust), (&own, &trust)).await,
                (Ok(()), Ok(()), None),
                "{purposes:?}"
            );
            assert_eq!(
                handshake((&own, &trust), (&theirs, &trust)).await,
                (Ok(()), Ok(()), None),
                "{purposes:?}"
            );
        }
        for purposes in [vec![Purpose::CodeSigning], vec![Purpose::EmailProtection, Purpose::TimeStamping]] {
            let theirs = authority.issue(&["dns:them.example"], &purposes);
            let (_, server, seen) = handshake((&theirs, &trust), (&own, &trust)).await;
            assert!(server.unwrap_err().contains("InvalidPurpose"), "{purposes:?}");
            assert_eq!(seen.unwrap().names, "them.example");
            let (client, _, _) = handshake((&own, &trust), (&theirs, &trust)).await;
            assert!(client.unwrap_err().contains("InvalidPurpose"), "{purposes:?}");
        }
    }

    #[actix::test]
    async fn certificates_that_are_expired_revoked_or_of_strangers_are_refused_and_described() {
        let authority = Authority::new();
        let own = authority.issue(&["dns:us.example"], &[]);
        let mut trust = authority.trusted();
        trust.revocation_lists = vec![authority.revoke(7)];
        let table = [
            (authority.issue_numbered(&["dns:a.example"], &[], 2, 2001), "expired", "certificate expired"),
            (authority.issue_numbered(&["dns:a.example"], &[], 7, 4096), "Revoked", "revoked"),
            (Authority::named("Stranger").issue(&["dns:a.example", "cn:A"], &[]), "UnknownIssuer", "unknown"),
        ];
        for (theirs, cause, alert) in table {
            let (client, server, seen) = handshake((&theirs, &authority.trusted()), (&own, &trust)).await;
            let (client, server) = (client.unwrap_err(), server.unwrap_err());
            assert!(server.contains(cause), "{server}");
            assert!(
                client.to_lowercase().contains(alert) || client.contains("CertificateExpired"),
                "{client}"
            );
            let seen = seen.unwrap();
            assert_eq!(seen.names, "a.example");
            assert!(["CN=Test Authority", "CN=Stranger"].contains(&&seen.issuer[..]), "{seen:?}");
            assert!(seen.not_after.ends_with("-01-01T00:00:00Z"), "{seen:?}");
        }
        let fine = authority.issue_numbered(&["dns:a.example"], &[], 8, 4096);
        assert_eq!(handshake((&fine, &trust), (&own, &trust)).await, (Ok(()), Ok(()), None));
    }

    #[actix::test]
    async fn a_client_shows_its_own_pair_where_there_is_one() {
        let authority = Authority::new();
        let trust = authority.trusted();
        let own = authority.issue(&["dns:us.example"], &[]);
        let stranger = Authority::new().issue(&["dns:us.example"], &[]);
        let with_pair = Tls { client_certificate: Some(own.clone()), ..authority.trusted() };
        assert_eq!(handshake((&stranger, &with_pair), (&own, &trust)).await, (Ok(()), Ok(()), None));
        assert!(handshake((&stranger, &trust), (&own, &trust)).await.1.is_err());
    }

    #[test]
    fn without_a_certificate_nothing_is_accepted() {
        let authority = Authority::new();
        let settings = TlsSettings::new(None, &authority.trusted(), &log()).unwrap();
        assert!(settings.for_interface(Protocol::Tls, None).is_none());
        let mismatched = Certificate {
            private_key: authority.issue(&["dns:b"], &[]).private_key,
            ..authority.issue(&["dns:a"], &[])
        };
        let fault = TlsSettings::new(Some(&mismatched), &authority.trusted(), &log()).unwrap_err();
        assert!(matches!(fault, TlsFault::Certificate(_)), "{fault}");
    }

    #[test]
    fn only_mtls_asks_for_certificates_and_only_it_has_accounts() {
        let authority = Authority::new();
        let own = authority.issue(&["dns:us.example"], &[]);
        let settings = TlsSettings::new(Some(&own), &authority.trusted(), &log()).unwrap();
        let accounts = Arc::new(Accounts::default());
        let tls = settings.for_interface(Protocol::Tls, Some(Arc::clone(&accounts))).unwrap();
        let mutual = settings.for_interface(Protocol::Mtls, Some(accounts)).unwrap();
        assert!(tls.accounts.is_none() && mutual.accounts.is_some());
        let verifier = CertificateVerifier {
            anchors: Vec::new(),
            revocation_lists: Vec::new(),
            algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
        };
        assert!(verifier.client_auth_mandatory());
    }
}
