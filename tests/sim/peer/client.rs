//! Client transactions of peers (RFC 3261 §17.1), and what follows from what they hear.

use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::{Flow, Transport};

use super::dialog::Dialog;
use super::{Alarm, Draft, Known, Purpose};
use crate::common::digest::{Challenge, Credentials, directive};
use crate::coverage::Count;
use crate::model::{Begun, Proof};
use crate::setup::{DOMAIN, PASSWORD};
use crate::text::{BRANCH, Header, Text, for_invite, parameter};
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Calling,
    Proceeding,
    /// The final response is here.
    Ended,
}

/// A request that a peer has sent.
#[derive(Debug)]
pub(super) struct Client {
    draft: Draft,
    text: Text,
    flow: Flow,
    state: State,
    begun: Duration,
    interval: Duration,
    is_cancelled: bool,
    /// The ACK to each 2xx, by its tag.
    acknowledged: Vec<(String, Flow, Bytes)>,
}

impl World<'_> {
    /// A peer begins a request. `None`: it has no way to send it.
    pub(crate) fn asks(&mut self, peer: usize, draft: Draft) -> Option<usize> {
        let flow = self.way_of(peer)?;
        let number = self.model.next_request();
        let (credentials, proof) = self.credentials(peer, &draft, flow);
        let bytes = draft.write(&self.peers[peer], number, credentials.as_deref());
        let (odd, ends) = (draft.odd, draft.ends);
        self.model.begins(Begun { peer, bytes: bytes.clone(), odd, proof, ends });
        let is_answered = !matches!(draft.method, "ACK" | "BENOTIFY");
        if draft.will_cancel {
            let wait = self.random.millis(0, 4000);
            self.remind(peer, wait, Alarm::Cancel(number));
        }
        if is_answered {
            let t1 = self.profile.t1;
            let client = Client {
                draft,
                text: Text::read(&bytes),
                flow,
                state: State::Calling,
                begun: self.now,
                interval: t1,
                is_cancelled: false,
                acknowledged: Vec::new(),
            };
            self.peers[peer].clients.insert(number, client);
            if flow.transport == Transport::Udp {
                self.remind(peer, t1, Alarm::Repeat(number));
            }
        }
        self.send(peer, flow, bytes);
        Some(number)
    }

    /// The answer to the last challenge that the peer has got, with the next count.
    fn credentials(&mut self, peer: usize, draft: &Draft, flow: Flow) -> (Option<String>, Proof) {
        let of_peer = &mut self.peers[peer];
        let (Some(user), Some(known)) = (of_peer.account, &mut of_peer.known) else {
            return (None, Proof::Missing);
        };
        // A connection is known after its first proof.
        if flow.transport.is_reliable() && draft.challenges == 0 && !draft.is_impostor {
            return (None, Proof::Missing);
        }
        known.uses += 1;
        let (password, proof) = match draft.is_impostor {
            true => ("wrong", known.proof.spoilt()),
            false => (PASSWORD, known.proof),
        };
        let credentials = Credentials { user, password };
        (Some(known.challenge.answer(draft.method, &draft.uri, credentials, known.uses)), proof)
    }

    /// Somebody who has overheard the INVITE of another cancels it.
    pub(crate) fn cancels_of_other(&mut self, peer: usize, other: usize) {
        let rings =
            |(_, client): &(&usize, &Client)| client.draft.method == "INVITE" && client.state != State::Ended;
        let Some((&number, client)) = self.peers[other].clients.iter().find(rings) else { return };
        let bytes = for_invite(&client.text, "CANCEL", None);
        let Some(way) = self.way_of(peer).filter(|_| peer != other) else { return };
        self.model.follows_up(number, &bytes);
        self.count(Count::CancelsOfOthers);
        self.send(peer, way, bytes);
    }

    /// Somebody who has overheard a peer sends what it has sent, as another request.
    pub(crate) fn replays(&mut self, peer: usize) {
        let is_overheard = |client: &&Client| {
            let rows = [Header::Authorization, Header::ProxyAuthorization];
            let is_ours = |value: &str| directive(value, "realm").as_deref() == Some(DOMAIN);
            let has_ours = rows.iter().any(|row| client.text.values(*row).any(is_ours));
            has_ours && matches!(client.draft.method, "MESSAGE" | "REGISTER") && client.draft.ends.is_none()
        };
        let Some(client) = self.peers[peer].clients.values().find(is_overheard) else { return };
        let old = client.text.request_number(0).expect("a peer's request has a number");
        let (number, flow) = (self.model.next_request(), client.flow);
        let text = client.text.to_string();
        let text = text.replace(&format!("{BRANCH}{old};"), &format!("{BRANCH}{number};"));
        let text = text.replace(&format!("{BRANCH}{old}\r\n"), &format!("{BRANCH}{number}\r\n"));
        let bytes = Bytes::from(text.replace(&client.draft.call_id, &format!("replay-{number}")));
        let odd = client.draft.odd;
        let proof = self.model.is_overheard(old);
        self.model.begins(Begun { peer, bytes: bytes.clone(), odd, proof, ends: None });
        self.count(Count::Replays);
        self.send(peer, flow, bytes);
    }

    /// Timer A or E of a peer; it gives up a little before the proxy does, so that no copy comes after that.
    pub(super) fn client_repeats(&mut self, peer: usize, number: usize) {
        let (t1, now) = (self.profile.t1, self.now);
        let Some(client) = self.peers[peer].clients.get_mut(&number) else { return };
        let is_invite = client.draft.method == "INVITE";
        let is_waiting = match client.state {
            State::Calling => true,
            State::Proceeding => !is_invite,
            State::Ended => false,
        };
        if !is_waiting || now - client.begun > t1 * 54 {
            return;
        }
        client.interval *= 2;
        if !is_invite {
            client.interval = client.interval.min(t1 * 8);
        }
        let (flow, bytes, wait) = (client.flow, client.text.bytes().clone(), client.interval);
        self.send(peer, flow, bytes);
        self.remind(peer, wait, Alarm::Repeat(number));
    }

    /// A peer cancels an INVITE: at once if it rings, else when it does (§9.1); rude ones do not wait.
    pub(super) fn client_cancels(&mut self, peer: usize, number: usize) {
        let is_rude = self.peers[peer].is_rude;
        let Some(client) = self.peers[peer].clients.get_mut(&number) else { return };
        client.draft.will_cancel = true;
        let may_cancel = client.state == State::Proceeding || (is_rude && client.state == State::Calling);
        if !may_cancel || client.is_cancelled {
            return;
        }
        client.is_cancelled = true;
        let bytes = for_invite(&client.text, "CANCEL", None);
        let flow = client.flow;
        self.model.follows_up(number, &bytes);
        self.count(Count::CancelsOfPeers);
        for _ in 0..1 + self.random.below(2) {
            self.send(peer, flow, bytes.clone());
        }
    }

    /// A response has come.
    pub(super) fn client_hears(&mut self, peer: usize, flow: Flow, text: &Text, status: u16) {
        let Some(number) = text.request_number(0) else { return };
        if text.method() == "CANCEL" {
            return;
        }
        if self.passes_back(peer, number, text, status) {
            return;
        }
        let Some(client) = self.peers[peer].clients.get_mut(&number) else { return };
        let is_invite = client.draft.method == "INVITE";
        let state = client.state;
        if status < 200 {
            if state == State::Calling {
                client.state = State::Proceeding;
            }
            if client.draft.will_cancel && state != State::Ended {
                self.client_cancels(peer, number);
            }
            return;
        }
        client.state = State::Ended;
        if is_invite && status < 300 {
            return self.call_accepted(peer, number, text);
        }
        if is_invite {
            let ack = for_invite(&client.text, "ACK", text.get(Header::To));
            let is_forgotten = self.peers[peer].is_rude && self.random.chance(50);
            if !is_forgotten {
                self.model.follows_up(number, &ack);
                self.send(peer, flow, ack);
            }
        }
        if state != State::Ended {
            self.request_ended(peer, number, text, status);
        }
    }

    fn request_ended(&mut self, peer: usize, number: usize, text: &Text, status: u16) {
        let draft = self.peers[peer].clients[&number].draft.clone();
        match status {
            401 | 407 => self.tries_again(peer, draft, text),
            200..=299 if draft.method == "SUBSCRIBE" && draft.purpose == Purpose::Dialog => {
                self.begins_dialog(peer, text, draft.cseq);
            }
            _ => {}
        }
    }

    /// With credentials, unless the challenge is another's or has been answered in vain.
    fn tries_again(&mut self, peer: usize, draft: Draft, text: &Text) {
        let header =
            if text.status() == Some(401) { Header::WwwAuthenticate } else { Header::ProxyAuthenticate };
        let realm = |value: &&str| directive(value, "realm").as_deref() == Some(DOMAIN);
        let ours: Vec<_> = text.values(header).filter(realm).collect();
        if ours.is_empty() || draft.challenges > 2 || self.peers[peer].account.is_none() {
            return;
        }
        let field = |name| directive(ours[peer % ours.len()], name);
        let challenge = Challenge {
            realm: field("realm").unwrap_or_default(),
            nonce: field("nonce").unwrap_or_default(),
            algorithm: field("algorithm").unwrap_or_default(),
            qop: field("qop"),
            opaque: field("opaque"),
            stale: false,
        };
        let host = self.peers[peer].address.ip();
        let proof = self.model.proof_for(&challenge.nonce, host);
        self.peers[peer].known = Some(Known { challenge, uses: 0, proof });
        if draft.is_impostor {
            self.count(Count::Impostors);
        }
        let mut draft = Draft { cseq: draft.cseq + 1, challenges: draft.challenges + 1, ..draft };
        if draft.purpose == Purpose::Register {
            self.peers[peer].registrations += 1;
            draft.cseq = self.peers[peer].registrations;
        }
        self.asks(peer, draft);
    }

    /// Every 2xx makes a dialog of its own, and is acknowledged as often as it comes (§13.2.2.4).
    fn call_accepted(&mut self, peer: usize, number: usize, text: &Text) {
        let tag = parameter(text.value(Header::To), "tag").unwrap_or_default().to_owned();
        let client = &self.peers[peer].clients[&number];
        if let Some((_, flow, ack)) = client.acknowledged.iter().find(|(known, ..)| *known == tag) {
            let (flow, ack) = (*flow, ack.clone());
            self.send(peer, flow, ack);
            return;
        }
        let is_further = !client.acknowledged.is_empty();
        let cseq = client.draft.cseq;
        if client.draft.purpose != Purpose::Dialog {
            // A re-INVITE: the dialog is there.
            let Purpose::InDialog(dialog) = client.draft.purpose else { return };
            return self.acknowledges(peer, number, &tag, dialog, cseq);
        }
        let Some(dialog) = self.begins_dialog(peer, text, cseq) else { return };
        self.acknowledges(peer, number, &tag, dialog, cseq);
        if is_further {
            self.hangs_up(peer, dialog);
        }
    }

    fn acknowledges(&mut self, peer: usize, number: usize, tag: &str, dialog: usize, cseq: u32) {
        let draft = self.in_dialog(peer, dialog, "ACK");
        let draft = Draft { cseq, ..draft };
        let Some(flow) = self.way_of(peer) else { return };
        let ack_number = self.model.next_request();
        let Some(_) = self.asks(peer, draft) else { return };
        let bytes = self.model.octets_of(ack_number);
        if let Some(client) = self.peers[peer].clients.get_mut(&number) {
            client.acknowledged.push((tag.to_owned(), flow, bytes));
        }
    }

    /// The caller's end of a dialog that a 2xx has made.
    fn begins_dialog(&mut self, peer: usize, text: &Text, cseq: u32) -> Option<usize> {
        let ends = self.model.ends_of_caller(text.answer_number()?);
        let mut dialog = Dialog::new(text, Header::From, Header::To, ends, cseq);
        dialog.routes.reverse();
        dialog.is_caller = true;
        Some(self.keeps_dialog(peer, dialog))
    }
}
