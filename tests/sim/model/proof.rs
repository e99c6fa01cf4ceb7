//! Who has proven what: whose requests may pass, and who may have to answer a challenge (docs/log-on.md).

use std::net::IpAddr;
use std::time::Duration;

use sip_proxy::protocol::interface::Side;

use super::records::{Life, Request};
use super::{MARGIN, Model};
use crate::common::digest::directive;
use crate::setup::{self, DOMAIN, NONCE_LIFETIME};
use crate::text::{Header, Text};

/// The credentials in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// None.
    Missing,
    /// Right ones, whose nonce came from this process while this Registrar was there, and is good until then.
    Honest { process: u32, outages: usize, until: Duration },
    /// Right ones, but for a nonce of this process that cannot be good any more.
    Stale { process: u32 },
    /// Right ones, which two requests have; the registry sees to it that they count once.
    Used,
    /// Wrong ones, for a nonce of this process.
    Wrong { process: u32 },
}

impl Proof {
    /// With a wrong password.
    pub(crate) fn spoilt(self) -> Self {
        match self {
            Self::Honest { process, .. } | Self::Stale { process } => Self::Wrong { process },
            other => other,
        }
    }

    /// What it is in another process, to which the nonces of this one are a stranger's.
    fn seen_by(self, of_router: u32) -> Self {
        match self {
            Self::Honest { process, .. } | Self::Stale { process } | Self::Wrong { process }
                if process != of_router =>
            {
                Self::Missing
            }
            own => own,
        }
    }
}

impl Model {
    /// What credentials from this host are worth that answer the challenge with this nonce. Only for the host that was
    /// challenged are they any good.
    pub(crate) fn proof_for(&self, nonce: &str, host: IpAddr) -> Proof {
        match self.nonces[nonce] {
            (challenged, Proof::Honest { process, .. }) if challenged != host => Proof::Stale { process },
            (_, proof) => proof,
        }
    }

    /// A challenge leaves: its answer is worth nothing where the next Registrar does not know of it.
    pub(super) fn note_challenge(&mut self, now: Duration, host: IpAddr, text: &Text) {
        let header = [Header::WwwAuthenticate, Header::ProxyAuthenticate].map(|header| text.get(header));
        let nonce = header.into_iter().flatten().next().and_then(|value| directive(value, "nonce"));
        // Nonces know no finer time.
        let millis = |at| self.registry.millis(at);
        let is_lost = |back: Option<Duration>| back.is_none_or(|back| millis(back) >= millis(now));
        let is_away = self.outages.last().is_some_and(|(_, back)| is_lost(*back));
        let (process, outages, until) = (self.process, self.outages.len(), now + NONCE_LIFETIME);
        let proof =
            if is_away { Proof::Stale { process } } else { Proof::Honest { process, outages, until } };
        self.nonces.entry(nonce.expect("a challenge has one")).or_insert((host, proof));
    }

    /// Whether credentials are good now.
    fn is_good(&self, proof: Proof, now: Duration) -> bool {
        matches!(proof, Proof::Honest { process, outages, until }
            if process == self.process && outages == self.outages.len() && now + MARGIN < until)
    }

    /// Whether the flow speaks for the request: it has logged on, which for a REGISTER by datagram is not enough, nor for
    /// credentials where the flow is no UC server's.
    fn is_known(&self, request: &Request, life: &Life) -> bool {
        let is_server = setup::side(life.source.interface) == Side::Lan;
        life.was_known
            && (life.source.transport.is_reliable() || !request.is_register())
            && (is_server || request.proof.seen_by(self.process) == Proof::Missing)
    }

    fn is_certified(&self, life: &Life) -> bool {
        life.source.connection.is_some_and(|connection| self.certified.contains(&connection))
    }

    /// Whether an address is enough.
    fn is_trusted(&self, life: &Life) -> bool {
        self.is_open && setup::side(life.source.interface) == Side::Lan
    }

    /// Whether a wrong answer of its host may still be punished: then no other is looked at.
    fn is_suspect(&self, life: &Life, now: Duration) -> bool {
        let longest = self.patience() / 4 + setup::longest_wait(&self.timers);
        let last = self.guesses.get(&life.source.remote.ip());
        last.is_some_and(|last| now < *last + longest + MARGIN)
    }

    /// A request has come: is its sender guessing?
    pub(super) fn note_guess(&mut self, now: Duration, number: usize, host: IpAddr) {
        if matches!(self.requests[number].proof.seen_by(self.process), Proof::Wrong { .. }) {
            self.guesses.insert(host, now);
        }
    }

    /// Credentials that answer a challenge of ours go no further; others' stay, those for an earlier process too.
    pub(super) fn check_credentials(&self, original: &Text, sent: &Text) -> Result<(), String> {
        let is_ours = |value: &&str| {
            let nonce = directive(value, "nonce").unwrap_or_default();
            let proof = self.nonces.get(&nonce).map(|(_, proof)| proof.seen_by(self.process));
            value.contains(&format!("realm=\"{DOMAIN}\"")) && !matches!(proof, None | Some(Proof::Missing))
        };
        for header in [Header::Authorization, Header::ProxyAuthorization] {
            if !original.values(header).filter(|value| !is_ours(value)).eq(sent.values(header)) {
                return Err(format!("{header:?} of others is changed, or ours is left"));
            }
        }
        Ok(())
    }

    /// Whether who has sent it may have to prove who he is.
    pub(super) fn may_be_challenged(&self, now: Duration, request: &Request, life: &Life) -> bool {
        let is_first = request.lives.len() == 1 && life.deliveries == 1;
        let is_at_once = life.asked.is_none();
        match request.proof.seen_by(self.process) {
            Proof::Missing if self.is_trusted(life) => false,
            proof if is_first && self.is_good(proof, now) && !self.is_suspect(life, now) => false,
            _ => !(self.is_certified(life) || (is_at_once && self.is_known(request, life))),
        }
    }

    /// Nobody gets through who has proven nothing.
    pub(super) fn check_proven(&self, request: &Request, life: &Life) {
        let is_proven = match request.proof.seen_by(self.process) {
            Proof::Honest { .. } => true,
            Proof::Missing => self.is_trusted(life) || (request.ends.is_some() && !request.is_register()),
            Proof::Used => true,
            Proof::Stale { .. } | Proof::Wrong { .. } => false,
        };
        let may_pass = is_proven || self.is_known(request, life) || self.is_certified(life);
        assert!(may_pass, "this passes and proves nothing: {:?}\n{}", request.proof, request.text);
    }
}
