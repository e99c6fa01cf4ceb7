//! What is begun and what goes wrong, at the times that the seed has drawn.

use bytes::Bytes;
use sip_proxy::protocol::flow::Transport;

use crate::coverage::Count;
use crate::model::{Odd, Origin};
use crate::peer::{Alarm, Draft, Purpose};
use crate::setup::{self, DOMAIN, NOBODY, USERS};
use crate::world::{Happening, World};

/// What a peer may begin.
#[derive(Clone, Copy, Debug)]
enum Act {
    Call,
    Message,
    Subscribe,
    Unknown,
    Options,
    Benotify,
    Direct,
    Odd,
    Forged,
    Burst,
    StrayCancel,
    Large,
    Impostor,
    Unregister,
    Fetch,
    Replay,
    CancelOther,
}

const ACTS: [(u32, Act); 17] = [
    (34, Act::Call),
    (20, Act::Message),
    (10, Act::Subscribe),
    (4, Act::Unknown),
    (4, Act::Options),
    (4, Act::Benotify),
    (5, Act::Direct),
    (8, Act::Odd),
    (4, Act::Forged),
    (3, Act::Burst),
    (2, Act::StrayCancel),
    (4, Act::Large),
    (2, Act::Impostor),
    (3, Act::Unregister),
    (1, Act::Fetch),
    (3, Act::Replay),
    (5, Act::CancelOther),
];

/// Credentials that are for somebody else.
const ELSEWHERE: &str = "Proxy-Authorization: Digest username=\"x\", realm=\"elsewhere\", nonce=\"n\", uri=\"sip:x\", \
                         response=\"00112233445566778899aabbccddeeff\"\r\n";

impl World<'_> {
    /// Something happens.
    pub(crate) fn act(&mut self) {
        let (network, actors) = (self.profile.network_faults, self.profile.actor_faults);
        if self.random.chance(actors + network) {
            return self.fault();
        }
        let peer = self.random.below(self.peers.len());
        match self.random.weigh(&ACTS) {
            Act::Call => self.calls(peer),
            Act::Message => self.asks_for(peer, "MESSAGE"),
            Act::Subscribe => self.asks_for(peer, "SUBSCRIBE"),
            Act::Unknown => self.asks_for(peer, "FOO"),
            Act::Options => self.asks_proxy(peer),
            Act::Benotify => self.asks_for(peer, "BENOTIFY"),
            Act::Direct => self.asks_directly(peer),
            Act::Odd => self.asks_oddly(peer),
            Act::Forged => self.forges(peer),
            Act::Burst => (0..12).for_each(|_| self.asks_for(peer, "MESSAGE")),
            Act::StrayCancel => self.cancels_nothing(peer),
            Act::Large => self.sends_much(peer),
            Act::Impostor => self.pretends(peer),
            Act::Unregister => self.registers_all(peer, Some(0)),
            Act::Replay => self.replays(peer),
            Act::CancelOther => {
                let other = self.random.below(self.peers.len());
                self.cancels_of_other(peer, other);
            }
            Act::Fetch => self.fetches(peer),
        }
    }

    /// A request from a user of the peer's to another.
    fn draft(&mut self, peer: usize, method: &'static str, uri: &str) -> Draft {
        let purpose = match method {
            "INVITE" | "SUBSCRIBE" => Purpose::Dialog,
            _ => Purpose::Answer,
        };
        let number = self.model.next_request();
        let mut rows = String::from("x-Weird :  spaces  kept \r\nsubject: folded\r\n\there\r\n");
        if self.random.chance(20) {
            rows += ELSEWHERE;
        }
        if self.random.chance(10) {
            rows += "Max-Breadth: 1\r\n";
        }
        let body = match self.random.below(3) {
            0 => Vec::new(),
            _ => format!("body {number} \u{fc}\0\r\n").into_bytes(),
        };
        Draft {
            from: format!("\"A, B\" <{}>;tag=f{number}", setup::user(self.peers[peer].speaker())),
            to: format!("<{uri}>"),
            call_id: format!("call-{number}@{peer}"),
            max_forwards: self.random.weigh(&[(8, Some(70)), (1, None), (1, Some(2))]),
            rows,
            body,
            is_terse: self.random.chance(15),
            ..Draft::new(method, uri, purpose)
        }
    }

    fn somebody_else(&mut self) -> String {
        let number = self.random.below(USERS * 3);
        setup::user(if number < USERS * 3 - 1 { number % NOBODY } else { NOBODY })
    }

    fn asks_for(&mut self, peer: usize, method: &'static str) {
        let uri = self.somebody_else();
        let draft = self.draft(peer, method, &uri);
        self.asks(peer, draft);
    }

    fn calls(&mut self, peer: usize) {
        let uri = self.somebody_else();
        let mut draft = self.draft(peer, "INVITE", &uri);
        draft.will_cancel = self.random.chance(30);
        let is_willing = draft.will_cancel;
        draft.will_cancel = false;
        let Some(number) = self.asks(peer, draft) else { return };
        if is_willing {
            let wait = self.random.millis(0, 5000);
            self.schedule(wait, Happening::Alarm { peer, alarm: Alarm::Cancel(number) });
        }
    }

    fn asks_proxy(&mut self, peer: usize) {
        let uri = format!("sip:{}", setup::bound(self.peers[peer].interface));
        let draft = Draft { odd: Odd::ForProxy(200), ..self.draft(peer, "OPTIONS", &uri) };
        self.asks(peer, draft);
    }

    /// To an address on the LAN, past the registrar.
    fn asks_directly(&mut self, peer: usize) {
        let other = &self.peers[self.random.below(self.peers.len())];
        let other_user = other.speaker();
        let transport = if other.transport == Transport::Udp { "" } else { ";transport=tcp" };
        let uri = match other.transport {
            Transport::Tls => format!("sip:me@{};transport=tls", other.address),
            _ => format!("sip:me@{}{transport}", other.address),
        };
        let method = self.random.pick(&["MESSAGE", "INVITE", "SUBSCRIBE"]);
        let draft = self.draft(peer, method, &uri);
        let to = format!("<{}>", setup::user(other_user));
        // From outside, nobody gets there.
        let draft = Draft { odd: Odd::Deserves(&[403]), to, ..draft };
        self.asks(peer, draft);
    }

    fn asks_oddly(&mut self, peer: usize) {
        let uri = self.somebody_else();
        let method = self.random.pick(&["MESSAGE", "INVITE", "SUBSCRIBE", "FOO"]);
        let mut draft = self.draft(peer, method, &uri);
        self.count(Count::OddRequests);
        draft.odd = match self.random.below(9) {
            0 => {
                draft.max_forwards = Some(0);
                Odd::Deserves(&[483])
            }
            1 => {
                draft.uri = format!("sip:x@elsewhere.{DOMAIN}");
                Odd::Deserves(&[404])
            }
            2 => {
                draft.uri = "sip:x@192.0.2.1".to_owned();
                Odd::Deserves(&[403])
            }
            3 => {
                draft.rows += "Proxy-Require: nothing-known\r\n";
                Odd::Deserves(&[420])
            }
            4 => {
                draft.uri = "tel:+4930".to_owned();
                Odd::Deserves(&[416])
            }
            5 => {
                draft.from = format!("<sip:x@elsewhere.{DOMAIN}>;tag=1");
                Odd::Deserves(&[403])
            }
            6 => {
                draft.rows += "Route: <sip:[>\r\n";
                Odd::Deserves(&[400])
            }
            7 => {
                draft.uri = format!("sip:{DOMAIN}");
                draft.odd = Odd::Nothing;
                if method == "FOO" { Odd::Deserves(&[404]) } else { Odd::ForProxy(404) }
            }
            _ => {
                draft.uri = format!("sip:me@{}", setup::bound(self.peers[peer].interface));
                Odd::Deserves(&[404])
            }
        };
        self.asks(peer, draft);
    }

    /// A response to nothing: to a branch that is made up, or to another's.
    fn forges(&mut self, peer: usize) {
        let Some(way) = self.way_of(peer) else { return };
        let number = self.model.next_answer();
        let made_up = format!(
            "z9hG4bK{:02x}{:08x}{:08x}.{:016x}",
            0,
            self.random.below(4),
            self.random.next() as u32,
            self.random.next()
        );
        let real = self.model.some_branch(&mut self.random).filter(|_| self.random.chance(60));
        let (host, branch) = match real {
            // Somebody else's, with one digit changed.
            Some(branch) if self.random.chance(50) => {
                let last = if branch.ends_with('0') { '1' } else { '0' };
                (
                    setup::bound(self.peers[peer].interface).to_string(),
                    format!("{}{last}", &branch[..branch.len() - 1]),
                )
            }
            // Ours, but the Via is another's.
            Some(branch) => ("192.0.2.9:5060".to_owned(), branch),
            None => (setup::bound(self.peers[peer].interface).to_string(), made_up),
        };
        let bytes = Bytes::from(format!(
            "SIP/2.0 200 Forged\r\nVia: SIP/2.0/UDP {host};branch={branch}\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK-s0\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: forged\r\nCSeq: 1 INVITE\r\n\
             X-Sim-Answer: {number}\r\nContent-Length: 0\r\n\r\n"
        ));
        self.model.answers(peer, &bytes, Origin::Forged);
        self.count(Count::Forged);
        self.send(peer, way, bytes);
    }

    /// A CANCEL that was made up: of an INVITE that there never was.
    fn cancels_nothing(&mut self, peer: usize) {
        let uri = self.somebody_else();
        let draft = Draft { body: Vec::new(), ..self.draft(peer, "CANCEL", &uri) };
        self.count(Count::StrayCancels);
        self.asks(peer, draft);
    }

    /// More than goes into a datagram.
    fn sends_much(&mut self, peer: usize) {
        let uri = self.somebody_else();
        let mut draft = self.draft(peer, "MESSAGE", &uri);
        draft.body = vec![b'x'; 1400];
        self.asks(peer, draft);
    }

    /// Asks what is registered (RFC 3261 §10.2.3).
    fn fetches(&mut self, peer: usize) {
        let name = setup::user(self.peers[peer].speaker());
        let draft = self.draft(peer, "REGISTER", &format!("sip:{DOMAIN}"));
        let draft = Draft { to: format!("<{name}>"), has_contact: false, ..draft };
        self.asks(peer, draft);
    }

    fn pretends(&mut self, peer: usize) {
        let uri = self.somebody_else();
        let draft = Draft { is_impostor: true, ..self.draft(peer, "MESSAGE", &uri) };
        self.asks(peer, draft);
    }
}
