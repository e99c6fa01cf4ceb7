//! TLS on the connections of one interface: what they are made with, and what their peers have proven.
//!
//! A session that is resumed skips the handshake's look at the certificate. Here it is made up for: the chain that
//! the session has kept is checked again, as it stands now, and so are the names, by whoever needs to know.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, ClientSessionStore as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, CommonState, HandshakeKind, ServerConfig};

use super::names::peer_names;
use super::trust::Trust;
use super::verifier::refuse;
use crate::protocol::account::Accounts;
use crate::protocol::identity::{Expected, PeerNames, PeerProof, Profile, Vouchers};

/// What TLS needs on one interface.
#[derive(Clone, Debug)]
pub struct StreamTls {
    /// For connections that are accepted.
    pub server: Arc<ServerConfig>,
    pub(super) clients: Arc<Clients>,
    pub(super) trust: Arc<Trust>,
    /// The accounts that a client certificate may prove: those of MTLS interfaces on the LAN.
    pub(super) accounts: Option<Arc<Accounts>>,
    /// How a certificate proves a domain.
    pub profile: Profile,
}

/// For connections that are opened.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) common: Client,
    /// By domain: where the route has authorities of its own.
    pub(super) routes: BTreeMap<Arc<str>, Client>,
}

/// How to open connections whose peers are checked by the same authorities.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) config: Arc<ClientConfig>,
    /// The sessions that may be resumed.
    pub(super) sessions: Arc<ClientSessionMemoryCache>,
}

impl StreamTls {
    /// For a connection to `expected`.
    pub fn client(&self, expected: Option<&Expected>) -> &Arc<ClientConfig> {
        &self.client_of(expected).config
    }

    /// What the peer of a connection that we have accepted has proven. `None`: it has shown no certificate.
    pub fn accepted(&self, connection: &CommonState) -> Result<Option<PeerProof>, rustls::Error> {
        let Some((certificate, intermediates)) = chain(connection) else { return Ok(None) };
        let names = peer_names(certificate).unwrap_or_default();
        let vouchers = match self.trust.known_vouchers(&names).filter(|_| !is_resumed(connection)) {
            Some(vouchers) => vouchers,
            None => self.trust.vouchers(certificate, intermediates, UnixTime::now())?,
        };
        Ok(Some(self.proof(names, vouchers)))
    }

    /// What the peer of a connection that we have opened has proven. Whether it is who was meant is not said.
    pub fn dialled(
        &self,
        connection: &CommonState,
        expected: Option<&Expected>,
    ) -> Result<PeerProof, rustls::Error> {
        let (certificate, intermediates) = chain(connection).ok_or(rustls::Error::NoCertificatesPresented)?;
        let (verifier, vouchers) = self.trust.of_domain(domain_of(expected));
        if is_resumed(connection) {
            verifier
                .check(certificate, intermediates, UnixTime::now())
                .map_err(|error| refuse(certificate, error))?;
        }
        Ok(self.proof(peer_names(certificate).unwrap_or_default(), vouchers))
    }

    /// Whether what the peer of an open connection has proven counts no longer, and why.
    ///
    /// A certificate that has expired since, or whose authority is trusted no more, does not end what was begun with it.
    pub fn review(&self, connection: &CommonState, proof: &PeerProof) -> Option<Outdated> {
        let (certificate, intermediates) = chain(connection)?;
        let revoked = rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked);
        match self.trust.vouchers(certificate, intermediates, UnixTime::now()) {
            Err(error) if error == revoked => return Some(Outdated::Revoked),
            Err(_) | Ok(_) => {}
        }
        let account = self.accounts.as_deref().and_then(|accounts| proof.names.account(accounts));
        (proof.account.is_some() && account != proof.account).then_some(Outdated::Account)
    }

    fn proof(&self, names: PeerNames, vouchers: Vouchers) -> PeerProof {
        let accounts = self.accounts.as_deref().filter(|_| vouchers.is_common);
        let account = accounts.and_then(|accounts| names.account(accounts));
        PeerProof { account, names, vouchers }
    }

    /// Resumes no session with this server: the certificate that they keep does not serve, and it may have another
    /// by now.
    pub fn forget_sessions(&self, server: &ServerName<'static>, expected: Option<&Expected>) {
        let sessions = &self.client_of(expected).sessions;
        sessions.remove_tls12_session(server);
        while sessions.take_tls13_ticket(server).is_some() {}
    }

    fn client_of(&self, expected: Option<&Expected>) -> &Client {
        let own = domain_of(expected).and_then(|domain| self.clients.routes.get(domain));
        own.unwrap_or(&self.clients.common)
    }
}

/// Why what a peer has proven counts no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// Its certificate has been revoked.
    Revoked,
    /// It proves another account now, or none.
    Account,
}

fn domain_of(expected: Option<&Expected>) -> Option<&str> {
    expected?.domain.as_deref()
}

fn is_resumed(connection: &CommonState) -> bool {
    connection.handshake_kind() == Some(HandshakeKind::Resumed)
}

fn chain(connection: &CommonState) -> Option<(&CertificateDer<'static>, &[CertificateDer<'static>])> {
    connection.peer_certificates()?.split_first()
}
