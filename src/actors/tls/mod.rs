//! TLS and MTLS: what the proxy shows of itself, whom it believes (RFC 3261 §26.3, RFC 5922).
//!
//! That a certificate is good (`verifier.rs`) and whose it is ([`identity`](crate::protocol::identity)) are two steps:
//! the first happens in the handshake, the second after it, where it is known who was meant.

pub mod audit;
mod failure;
mod names;
mod stream;
mod trust;
mod verifier;

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};
use slog::{Logger, warn};
use webpki::{CertRevocationList, OwnedCertRevocationList};

pub use self::failure::{TlsFailure, alert_of};
pub use self::names::{CertificateSummary, peer_names};
use self::stream::{Client, Clients};
pub use self::stream::{Outdated, StreamTls};
use self::trust::Trust;
use self::verifier::CertificateVerifier;
pub(crate) use self::verifier::watched;
use crate::config::{Certificate, Protocol, StaticRoute, Tls, TlsVersion, TrustedCas};
use crate::protocol::account::Accounts;
use crate::protocol::identity::Profile;

/// TLS as one configuration has it. A reload makes another: connections made afterwards use that, whole, so that
/// no session of the one before is resumed past a new verdict.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    incoming: Option<Incoming>,
    clients: Arc<Clients>,
    trust: Arc<Trust>,
    profile: Profile,
}

#[derive(Clone, Debug)]
struct Incoming {
    tls: Arc<ServerConfig>,
    mutual: Arc<ServerConfig>,
}

/// What [`TlsSettings`] are made of.
#[derive(Clone, Copy, Debug)]
pub struct TlsParts<'a> {
    /// What we show. Without it nothing can be accepted, and connections are opened without one.
    pub certificate: Option<&'a Certificate>,
    /// The rules.
    pub tls: &'a Tls,
    /// The routes, some of which have authorities of their own.
    pub routes: &'a [StaticRoute],
    /// How a certificate proves a domain.
    pub profile: Profile,
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
    /// From the configuration. Reads the system's authorities where these are trusted.
    pub fn new(parts: TlsParts<'_>, log: &Logger) -> Result<Self, TlsFault> {
        let TlsParts { certificate, tls, routes, profile } = parts;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let revocation_lists = revocation_lists(tls)?;
        let verifier = |trusted: &TrustedCas| {
            Ok(Arc::new(CertificateVerifier {
                anchors: anchors(trusted, log)?,
                revocation_lists: Arc::clone(&revocation_lists),
                algorithms: provider.signature_verification_algorithms,
            }))
        };
        let common = verifier(&tls.trusted_cas)?;
        let own = |route: &StaticRoute| {
            let trusted = route.trusted_cas.as_ref()?;
            Some(verifier(trusted).map(|verifier| (Arc::from(&*route.domain_name), verifier)))
        };
        let routes: BTreeMap<Arc<str>, _> = routes.iter().filter_map(own).collect::<Result<_, _>>()?;
        let versions = versions(tls.minimum_tls_version);
        let shown = tls.client_certificate.as_ref().or(certificate);
        let client = |verifier: &Arc<CertificateVerifier>| client(&provider, versions, verifier, shown);
        let own = routes.iter().map(|(domain, verifier)| Ok((Arc::clone(domain), client(verifier)?)));
        let clients = Clients { common: client(&common)?, routes: own.collect::<Result<_, _>>()? };
        let trust = Arc::new(Trust::new(common, routes));
        let incoming = certificate.map(|certificate| Incoming::new(&provider, versions, &trust, certificate));
        Ok(Self { incoming: incoming.transpose()?, clients: Arc::new(clients), trust, profile })
    }

    /// For an interface that speaks `protocol`, TLS, MTLS or WSS. `None` where there is no certificate to show.
    ///
    /// `accounts` are those that client certificates prove; they count on MTLS interfaces alone.
    pub fn for_interface(&self, protocol: Protocol, accounts: Option<Arc<Accounts>>) -> Option<StreamTls> {
        let incoming = self.incoming.as_ref()?;
        let is_mutual = protocol == Protocol::Mtls;
        Some(StreamTls {
            server: Arc::clone(if is_mutual { &incoming.mutual } else { &incoming.tls }),
            clients: Arc::clone(&self.clients),
            trust: Arc::clone(&self.trust),
            accounts: accounts.filter(|_| is_mutual),
            profile: self.profile,
        })
    }
}

impl Incoming {
    fn new(
        provider: &Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
        trust: &Arc<Trust>,
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
            .with_client_cert_verifier(Arc::clone(trust) as _)
            .with_single_cert(chain(), key())
            .map_err(TlsFault::Certificate)?;
        // With a key of its own: no session without a client certificate is resumed as one that has it.
        mutual.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsFault::Certificate)?;
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

fn client(
    provider: &Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
    verifier: &Arc<CertificateVerifier>,
    certificate: Option<&Certificate>,
) -> Result<Client, TlsFault> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(TlsFault::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(verifier) as Arc<dyn ServerCertVerifier>);
    let mut config = match certificate {
        Some(certificate) => builder
            .with_client_auth_cert(certificate.chain.clone(), certificate.private_key.clone_key())
            .map_err(TlsFault::Certificate)?,
        None => builder.with_no_client_auth(),
    };
    let sessions = Arc::new(ClientSessionMemoryCache::new(SESSIONS));
    config.resumption = Resumption::store(Arc::clone(&sessions) as _);
    Ok(Client { config: Arc::new(config), sessions })
}

/// Servers whose sessions are kept, for each set of authorities.
const SESSIONS: usize = 1_024;

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

fn revocation_lists(tls: &Tls) -> Result<Arc<[CertRevocationList<'static>]>, TlsFault> {
    let lists = tls.revocation_lists.iter().map(|der| OwnedCertRevocationList::from_der(der).map(Into::into));
    lists.collect::<Result<_, _>>().map_err(TlsFault::RevocationList)
}

#[cfg(test)]
mod tests {
    use std::io;

    use rcgen::ExtendedKeyUsagePurpose as Purpose;
    use rustls::HandshakeKind;
    use rustls::pki_types::ServerName;
    use rustls::server::danger::ClientCertVerifier as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::actors::testing::{Authority, log};
    use crate::protocol::identity::{Expected, PeerProof, Vouchers};

    fn settings(certificate: Option<&Certificate>, tls: &Tls) -> Result<TlsSettings, TlsFault> {
        TlsSettings::new(TlsParts { certificate, tls, routes: &[], profile: Profile::Federation }, &log())
    }

    /// The handshake of `client`, which shows its certificate, with `server`, which demands one: what either side
    /// says of it, and the client's certificate if it was refused.
    async fn handshake(
        client: (&Certificate, &Tls),
        server: (&Certificate, &Tls),
    ) -> (Result<(), String>, Result<(), String>, Option<CertificateSummary>) {
        let client = settings(Some(client.0), client.1).unwrap().for_interface(Protocol::Mtls, None).unwrap();
        let server = settings(Some(server.0), server.1).unwrap().for_interface(Protocol::Mtls, None).unwrap();
        let made = meet(&client, &server, None).await;
        let (accepted, seen) = made.accepted;
        (
            made.dialled.map(|_| ()).map_err(|error| error.to_string()),
            accepted.map(|_| ()).map_err(|error| error.to_string()),
            seen,
        )
    }

    /// What has become of a handshake.
    struct Met {
        dialled: io::Result<(HandshakeKind, PeerProof)>,
        accepted: (io::Result<(HandshakeKind, Option<PeerProof>)>, Option<CertificateSummary>),
    }

    /// Lets `client` open a connection to `server`, which it takes for the server of `domain`.
    async fn meet(client: &StreamTls, server: &StreamTls, domain: Option<&str>) -> Met {
        let (near, far) = tokio::io::duplex(1 << 16);
        let expected =
            domain.map(|domain| Expected { server_name: "sip.test".into(), domain: Some(domain.into()) });
        let expected = expected.as_ref();
        let connecting = async {
            let name = ServerName::try_from("anything.example").unwrap();
            let connector = TlsConnector::from(Arc::clone(client.client(expected)));
            let mut stream = connector.connect(name, near).await?;
            // With TLS 1.3 the client learns from its first read what the server thinks of its certificate.
            let mut octet = [0];
            stream.read_exact(&mut octet).await?;
            let connection = stream.get_ref().1;
            let proof = client.dialled(connection, expected).map_err(io::Error::other)?;
            Ok((connection.handshake_kind().unwrap(), proof))
        };
        let accepting = async {
            let (accepted, seen) = watched(TlsAcceptor::from(Arc::clone(&server.server)).accept(far)).await;
            let outcome = async {
                let mut stream = accepted?;
                stream.write_all(b"x").await?;
                let connection = stream.get_ref().1;
                let proof = server.accepted(connection).map_err(io::Error::other)?;
                Ok((connection.handshake_kind().unwrap(), proof))
            };
            (outcome.await, seen)
        };
        let (dialled, accepted) = futures_util::future::join(connecting, accepting).await;
        Met { dialled, accepted }
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
        let found = settings(None, &authority.trusted()).unwrap();
        assert!(found.for_interface(Protocol::Tls, None).is_none());
        let mismatched = Certificate {
            private_key: authority.issue(&["dns:b"], &[]).private_key,
            ..authority.issue(&["dns:a"], &[])
        };
        let fault = settings(Some(&mismatched), &authority.trusted()).unwrap_err();
        assert!(matches!(fault, TlsFault::Certificate(_)), "{fault}");
    }

    #[test]
    fn only_mtls_asks_for_certificates_and_only_it_has_accounts() {
        let authority = Authority::new();
        let own = authority.issue(&["dns:us.example"], &[]);
        let found = settings(Some(&own), &authority.trusted()).unwrap();
        let accounts = Arc::new(Accounts::default());
        let tls = found.for_interface(Protocol::Tls, Some(Arc::clone(&accounts))).unwrap();
        let mutual = found.for_interface(Protocol::Mtls, Some(accounts)).unwrap();
        assert!(tls.accounts.is_none() && mutual.accounts.is_some());
        assert!(mutual.trust.client_auth_mandatory());
    }

    fn mutual(parts: TlsParts<'_>) -> StreamTls {
        TlsSettings::new(parts, &log()).unwrap().for_interface(Protocol::Mtls, None).unwrap()
    }

    #[actix::test]
    async fn authorities_of_a_route_let_in_its_peer_and_nobody_else() {
        let (common, own) = (Authority::named("Common"), Authority::named("Own"));
        let (tls, routes) = (common.trusted(), [own.route("b.test"), own.route("c.test")]);
        let certificate = common.issue(&["dns:us.test"], &[]);
        let profile = Profile::Federation;
        let us = mutual(TlsParts { certificate: Some(&certificate), tls: &tls, routes: &routes, profile });
        type Outcome<'a> = Option<(bool, &'a [&'a str])>;
        let table: [(&Authority, &[&str], Outcome<'_>); 6] = [
            (&own, &["dns:b.test"], Some((false, &["b.test"]))),
            (&own, &["dns:sip.b.test", "dns:c.test"], Some((false, &["b.test", "c.test"]))),
            (&own, &["dns:d.test"], None),
            (&own, &["cn:x.sip.b.test"], None),
            (&common, &["dns:b.test"], Some((true, &[]))),
            (&common, &["dns:d.test"], Some((true, &[]))),
        ];
        for (issuer, names, expected) in table {
            let theirs = issuer.issue(names, &[]);
            let them = mutual(TlsParts { certificate: Some(&theirs), tls: &tls, routes: &[], profile });
            let proof = meet(&them, &us, None).await.accepted.0;
            let vouchers = proof.ok().map(|(_, proof)| proof.unwrap().vouchers);
            let reserved: Arc<[Arc<str>]> = Arc::new(["b.test".into(), "c.test".into()]);
            let expected = expected.map(|(is_common, routes)| Vouchers {
                is_common,
                routes: routes.iter().map(|&domain| domain.into()).collect(),
                reserved,
            });
            assert_eq!(vouchers, expected, "{names:?}");
            // The other way around, it is known who is meant, and who may vouch.
            for (domain, authority) in [("b.test", &own), ("d.test", &common)] {
                let dialled = meet(&us, &them, Some(domain)).await.dialled;
                assert_eq!(dialled.is_ok(), std::ptr::eq(authority, issuer), "{names:?} {domain}");
                let domains = ["b.test", "c.test", "d.test"];
                let proven = |proof: &PeerProof| domains.iter().any(|d| proof.proves(d, profile, &[d]));
                assert!(dialled.ok().is_none_or(|(_, proof)| !proven(&proof) || {
                    proof.proves(domain, profile, &["sip.b.test", domain])
                }));
            }
        }
    }

    #[actix::test]
    async fn a_session_is_resumed_and_its_certificates_are_checked_as_they_stand_then() {
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let authority = Authority::new();
            let theirs = authority.issue_numbered(&["dns:b.test"], &[], 7, 4096);
            let ours = authority.issue_numbered(&["dns:us.test"], &[], 8, 4096);
            let tls = Tls { minimum_tls_version: version, ..authority.trusted() };
            let profile = Profile::Federation;
            let us = mutual(TlsParts { certificate: Some(&ours), tls: &tls, routes: &[], profile });
            let them = mutual(TlsParts { certificate: Some(&theirs), tls: &tls, routes: &[], profile });
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let met = meet(&us, &them, Some("b.test")).await;
                let ((dialled, server), (accepted, client)) = (met.dialled.unwrap(), met.accepted.0.unwrap());
                let kinds = (dialled, accepted);
                assert!(kinds == (kind, kind) || kind == HandshakeKind::Full, "{kinds:?}");
                assert_eq!(
                    (server.names.dns, client.unwrap().names.dns),
                    (vec!["b.test".into()], vec!["us.test".into()])
                );
            }
            // The sessions live on; what is believed has changed.
            let revoking = |serial| Tls { revocation_lists: vec![authority.revoke(serial)], ..tls.clone() };
            let now = revoking(7);
            let stricter = mutual(TlsParts { certificate: Some(&ours), tls: &now, routes: &[], profile });
            let us_now = StreamTls { trust: stricter.trust, ..us.clone() };
            let refused = meet(&us_now, &them, Some("b.test")).await.dialled.unwrap_err();
            assert!(refused.to_string().contains("Revoked"), "{refused}");
            let now = revoking(8);
            let stricter = mutual(TlsParts { certificate: Some(&theirs), tls: &now, routes: &[], profile });
            let them_now = StreamTls { trust: stricter.trust, ..them.clone() };
            let refused = meet(&us, &them_now, Some("b.test")).await.accepted.0.unwrap_err();
            assert!(refused.to_string().contains("Revoked"), "{refused}");
            us.forget_sessions(&ServerName::try_from("anything.example").unwrap(), None);
            assert_eq!(meet(&us, &them, None).await.dialled.unwrap().0, HandshakeKind::Full);
        }
    }
}
