//! Who has sent a request, and whether they may: [`admission`] decides, here it becomes a reply.

use std::sync::Arc;
use std::time::Instant;

use crate::protocol::account::{AccountId, AccountKind};
use crate::protocol::admission::{self, Admitted, Denied, Sender};
use crate::protocol::flow::Flow;
use crate::protocol::identity::PeerProof;
use crate::protocol::interface::Side;
use crate::protocol::message::reply::Reply;
use crate::protocol::message::{Message, Method};

use super::incoming::{Incoming, part_of};
use super::route::Way;
use super::{Event, EventDetail, Output, Proxy};

/// Why a request does not go on.
pub(super) enum Refusal {
    /// To be told at once.
    AtOnce(Reply),
    /// Its sender may be guessing a password: what that costs is the Registrar's to say.
    Guess(Reply),
}

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self::AtOnce(reply)
    }
}

impl Proxy {
    /// The account that has sent a request.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        proof: Option<&Arc<PeerProof>>,
        incoming: &Incoming,
        dialog: Option<AccountId>,
    ) -> Result<Admitted, Refusal> {
        let is_suspect = self.guesses.is_suspect(now, incoming.flow.remote.ip());
        let sender = Sender { dialog, is_suspect, ..self.sender(&incoming.flow, proof) };
        // Credentials are for the Request-URI as it came.
        let request = incoming.received.as_ref().unwrap_or(&incoming.request);
        let identified =
            admission::identify(request, &sender, &self.settings, &self.nonces, self.millis(now));
        identified.map_err(|denied| match denied {
            Denied::Challenge { is_stale, fault, is_guess } => {
                if let Some(fault) = fault.filter(|_| self.detail >= EventDetail::Faults) {
                    let call_id = part_of(&incoming.request, incoming.request.call_id());
                    let event = Event::CredentialsRefused { call_id, flow: incoming.flow, fault };
                    self.outputs.push_back(Output::Event(event));
                }
                let reply = self.challenge(now, &incoming.flow, incoming.method, is_stale);
                if is_guess { Refusal::Guess(reply) } else { Refusal::AtOnce(reply) }
            }
            Denied::Forbidden(reason) => Refusal::AtOnce(Reply::with_reason(403, reason)),
            Denied::Malformed(reason) => Refusal::AtOnce(Reply::with_reason(400, reason)),
        })
    }

    pub(super) fn challenge(&mut self, now: Instant, flow: &Flow, method: Method, is_stale: bool) -> Reply {
        let origin = self.nonces.origin_of(flow.remote.ip());
        let nonce = self.nonces.mint(self.millis(now), origin, self.random.next());
        admission::challenge_reply(method, &self.settings, &nonce, is_stale)
    }

    pub(super) fn sender<'a>(&self, flow: &'a Flow, proof: Option<&Arc<PeerProof>>) -> Sender<'a> {
        Sender {
            flow,
            side: self.interfaces.side(flow.interface),
            certificate: proof.and_then(|proof| proof.account),
            standing: self.standing.account_of(flow),
            is_suspect: false,
            dialog: None,
        }
    }

    /// Whether `account` may send this request this way: for the users in its scope, and to addresses of the LAN only
    /// from there and as a UC server.
    pub(super) fn check_right(
        &self,
        request: &Message,
        flow: &Flow,
        account: AccountId,
        way: &Way,
    ) -> Result<(), Reply> {
        let Some(account) = self.settings.accounts.get(account) else {
            return Err(Reply::with_reason(403, "Account Not Configured"));
        };
        admission::check_scope(request, account, &self.settings)?;
        admission::check_contact(request, account, &self.settings)?;
        let is_server =
            account.kind == AccountKind::UcServer && self.interfaces.side(flow.interface) == Side::Lan;
        match way {
            Way::Direct(_) if !is_server => Err(Reply::with_reason(403, "Address On The LAN")),
            Way::Outward(_) if self.interfaces.side(flow.interface) == Side::Wan => {
                Err(Reply::with_reason(403, "No Relay From Outside To Outside"))
            }
            _ => Ok(()),
        }
    }

    /// Whether an account is a UC server's.
    pub(super) fn is_uc_server(&self, account: AccountId) -> bool {
        self.settings.accounts.get(account).is_some_and(|account| account.kind == AccountKind::UcServer)
    }
}
