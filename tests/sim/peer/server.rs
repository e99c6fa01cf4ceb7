//! Server transactions of peers (RFC 3261 §17.2): what they are asked, and what they say to it.

use std::time::Duration;

use bytes::Bytes;
use sip_proxy::protocol::flow::{Flow, Transport};

use super::Alarm;
use super::dialog::Dialog;
use crate::coverage::Count;
use crate::model::Origin;
use crate::text::{Header, Text, copied_rows, parameter, user_of};
use crate::world::World;

/// Refusals of all kinds.
const REFUSALS: [u16; 21] =
    [300, 302, 400, 401, 401, 403, 404, 407, 407, 407, 408, 415, 480, 484, 486, 488, 500, 503, 504, 600, 603];

/// What a peer has been asked.
#[derive(Debug)]
pub(super) struct Server {
    text: Text,
    flow: Flow,
    tag: String,
    /// What it will say, and when after the one before.
    plan: Vec<(Duration, u16)>,
    last: Option<Bytes>,
    /// The first final response.
    status: Option<u16>,
    begun: Duration,
    interval: Duration,
    is_acknowledged: bool,
    has_dialog: bool,
}

impl World<'_> {
    /// A request has come.
    pub(super) fn server_hears(&mut self, peer: usize, flow: Flow, text: &Text) {
        let branch = text.branch(0).unwrap_or_default().to_owned();
        match text.method() {
            "ACK" => self.hears_ack(peer, &branch, text),
            "CANCEL" => self.hears_cancel(peer, flow, &branch, text),
            "BENOTIFY" => self.count(Count::BenotifiesReached),
            method => {
                let key = format!("{branch} {method}");
                if self.sends_back_again(peer, &key, flow, text) {
                    return;
                }
                if let Some(server) = self.peers[peer].servers.get(&key) {
                    let (flow, last) = (server.flow, server.last.clone());
                    if let Some(last) = last {
                        self.send(peer, flow, last);
                    }
                    return;
                }
                self.hears_request(peer, flow, key, text);
            }
        }
    }

    fn hears_request(&mut self, peer: usize, flow: Flow, key: String, text: &Text) {
        let may_loop = !text.is_in_dialog() && matches!(text.method(), "INVITE" | "MESSAGE");
        if may_loop && self.random.chance(3) {
            return self.sends_back(peer, key, flow, text);
        }
        let plan = self.plan(peer, text);
        let number = self.peers[peer].servers.len();
        let server = Server {
            text: text.clone(),
            flow,
            tag: format!("t{peer}x{number}"),
            plan,
            last: None,
            status: None,
            begun: self.now,
            interval: self.profile.t1,
            is_acknowledged: false,
            has_dialog: false,
        };
        let will_accept = server.plan.iter().any(|(_, status)| (200..300).contains(status));
        let is_subscription = text.method() == "SUBSCRIBE" && !text.is_in_dialog();
        self.peers[peer].servers.insert(key.clone(), server);
        // The first NOTIFY may come before the response (RFC 6665 §4.4.1).
        if is_subscription && will_accept && self.random.chance(30) {
            self.begins_dialog_of(peer, &key);
        }
        self.goes_on(peer, key, 0);
    }

    fn goes_on(&mut self, peer: usize, key: String, step: usize) {
        let next = self.peers[peer].servers.get(&key).and_then(|server| server.plan.get(step));
        if let Some(&(wait, _)) = next {
            self.remind(peer, wait, Alarm::Say { key, step });
        }
    }

    /// What a peer will say to a request, and when.
    fn plan(&mut self, peer: usize, text: &Text) -> Vec<(Duration, u16)> {
        let random = &mut self.random;
        let (soon, later) = (random.millis(0, 200), random.millis(200, 6000));
        if text.is_in_dialog() {
            return match random.below(20) {
                0 => Vec::new(),
                1 => vec![(soon, 481)],
                _ => vec![(soon, 200)],
            };
        }
        let number = user_of(text.uri()).and_then(|user| user.strip_prefix('u')?.get(..1)?.parse().ok());
        let is_here = number.is_none_or(|number: usize| self.peers[peer].users.contains(&number));
        if !is_here {
            return match random.below(12) {
                0 => Vec::new(),
                1 => vec![(later, 404)],
                2 => vec![(soon, 503)],
                _ => vec![(soon, random.pick(&[404, 480]))],
            };
        }
        let refusal = random.pick(&REFUSALS);
        let endless = Duration::from_secs(random.pick(&[30, 170, 400]));
        match (random.below(20), text.method() == "INVITE") {
            (0..=4, true) => vec![(soon, 180), (later, 200)],
            (5 | 6, true) => vec![(soon, 100), (soon, 180), (later, 183), (soon, 199), (later, 200)],
            (7 | 8, true) => vec![(soon, 180), (endless, 200)],
            (9 | 10, true) => vec![(soon, 183), (later, refusal)],
            (11, true) => vec![(soon, 100)],
            (0..=10, false) => vec![(soon, 200)],
            (11, false) => vec![(soon, 100), (later, 202)],
            (12 | 13, _) => vec![(soon, refusal)],
            (14, _) => vec![(later, refusal)],
            (15, _) => Vec::new(),
            (16, _) => vec![(self.profile.t1 * 66, 200)],
            (17, _) => vec![(soon, 200), (soon, refusal)],
            (18, _) => vec![(soon, refusal), (soon, 200)],
            _ => vec![(soon, 200)],
        }
    }

    pub(super) fn server_says(&mut self, peer: usize, key: &str, step: usize) {
        let Some(server) = self.peers[peer].servers.get(key) else { return };
        let Some(&(_, status)) = server.plan.get(step) else { return };
        self.responds(peer, key, status);
        self.goes_on(peer, key.to_owned(), step + 1);
    }

    fn responds(&mut self, peer: usize, key: &str, status: u16) {
        let server = &self.peers[peer].servers[key];
        let (text, tag, flow) = (server.text.clone(), server.tag.clone(), server.flow);
        let bytes = self.make_answer(peer, &text, status, &tag, flow);
        let t1 = self.profile.t1;
        let server = self.peers[peer].servers.get_mut(key).expect("it was there");
        server.last = Some(bytes.clone());
        let is_first = status >= 200 && server.status.is_none();
        if is_first {
            server.status = Some(status);
        }
        if is_first && text.method() == "INVITE" {
            // A 2xx is repeated by whoever has accepted, over any transport (§13.3.1.4).
            if status < 300 || flow.transport == Transport::Udp {
                self.remind(peer, t1, Alarm::RepeatFinal { key: key.to_owned() });
            }
        }
        if is_first && status < 300 && matches!(text.method(), "INVITE" | "SUBSCRIBE") {
            self.begins_dialog_of(peer, key);
        }
        self.answers_by(peer, flow, bytes);
    }

    /// The callee's end of a dialog, unless it is there.
    fn begins_dialog_of(&mut self, peer: usize, key: &str) {
        let server = self.peers[peer].servers.get_mut(key).expect("it was there");
        if server.text.is_in_dialog() || std::mem::replace(&mut server.has_dialog, true) {
            return;
        }
        let (text, tag) = (server.text.clone(), server.tag.clone());
        let ends = self.model.ends_of_callee(&text, self.origin_of(&text));
        let dialog = Dialog::new(&text, Header::To, Header::From, ends, 0).tagged(&tag);
        self.keeps_dialog(peer, dialog);
    }

    /// By the way that the request came, or another where that has ended (§18.2.2).
    fn answers_by(&mut self, peer: usize, flow: Flow, bytes: Bytes) {
        let is_gone = flow.connection.is_some_and(|id| self.network.open_flow(id).is_none());
        let flow = if is_gone { self.way_of(peer) } else { Some(flow).filter(|_| !self.peers[peer].is_down) };
        if let Some(flow) = flow {
            self.send(peer, flow, bytes);
        }
    }

    /// The number of the request that a forwarded one was: below our Via, and those of peers that have sent it back.
    fn origin_of(&self, text: &Text) -> usize {
        let vias = text.values(Header::Via).count();
        text.request_number(vias - 1).expect("the first Via is that of a peer's request")
    }

    /// Writes a response, and tells the oracle.
    fn make_answer(&mut self, peer: usize, text: &Text, status: u16, tag: &str, flow: Flow) -> Bytes {
        let number = self.model.next_answer();
        let mut out = format!("SIP/2.0 {status} Said By {peer}\r\n");
        out += &copied_rows(text, status, tag);
        out += &format!("X-Sim-Answer: {number}\r\nx-odd : a\r\n\tb \r\n");
        match status {
            401 => out += "WWW-Authenticate: Digest realm=\"elsewhere\", nonce=\"n1\", algorithm=MD5\r\n",
            407 => out += &format!("Proxy-Authenticate: Digest realm=\"p{peer}\", nonce=\"n\"\r\n"),
            _ => {}
        }
        out += &format!("Contact: <{}>\r\n", self.peers[peer].contact("me"));
        let body = if status == 200 && number.is_multiple_of(3) { "v=0\r\ns=body\r\n\r\n" } else { "" };
        // Only a datagram says by itself how long it is.
        let is_stream = flow.connection.is_some() || self.peers[peer].transport.is_reliable();
        if is_stream || !number.is_multiple_of(4) {
            out += &format!("Content-Length: {}\r\n", body.len());
        }
        out += "\r\n";
        out += body;
        let bytes = Bytes::from(out);
        self.model.answers(peer, &bytes, Origin::Own);
        bytes
    }

    /// Timer G of a peer, or what repeats its 2xx.
    pub(super) fn server_repeats(&mut self, peer: usize, key: &str) {
        let (t1, now) = (self.profile.t1, self.now);
        let Some(server) = self.peers[peer].servers.get_mut(key) else { return };
        if server.is_acknowledged || now - server.begun > t1 * 120 {
            return;
        }
        server.interval = (server.interval * 2).min(t1 * 8);
        let (flow, last, wait) = (server.flow, server.last.clone(), server.interval);
        if let Some(last) = last {
            self.answers_by(peer, flow, last);
        }
        self.remind(peer, wait, Alarm::RepeatFinal { key: key.to_owned() });
    }

    /// One to a refusal has the branch of the INVITE, one to a 2xx the tag of the dialog.
    fn hears_ack(&mut self, peer: usize, branch: &str, text: &Text) {
        if let Some(&number) = self.peers[peer].loops.get(&format!("{branch} INVITE")) {
            return self.sends_follow_up(peer, number, text);
        }
        let (call_id, tag) = (text.value(Header::CallId), parameter(text.value(Header::To), "tag"));
        let key = format!("{branch} INVITE");
        let servers = &mut self.peers[peer].servers;
        let is_meant = |known: &String, server: &Server| {
            *known == key || (Some(&*server.tag) == tag && server.text.value(Header::CallId) == call_id)
        };
        for (_, server) in servers.iter_mut().filter(|(known, server)| is_meant(known, server)) {
            server.is_acknowledged = true;
        }
    }

    fn hears_cancel(&mut self, peer: usize, flow: Flow, branch: &str, text: &Text) {
        let key = format!("{branch} INVITE");
        if let Some(&number) = self.peers[peer].loops.get(&key) {
            return self.sends_follow_up(peer, number, text);
        }
        let Some(server) = self.peers[peer].servers.get_mut(&key) else {
            let bytes = self.make_answer(peer, text, 481, "stray", flow);
            return self.answers_by(peer, flow, bytes);
        };
        let (tag, is_pending) = (server.tag.clone(), server.status.is_none());
        self.count(Count::CancelsReached);
        let bytes = self.make_answer(peer, text, 200, &tag, flow);
        self.answers_by(peer, flow, bytes);
        if !is_pending {
            return;
        }
        let outcome = self.random.weigh(&[(8, Some(487)), (1, Some(200)), (1, None)]);
        if let Some(server) = self.peers[peer].servers.get_mut(&key) {
            server.plan.clear();
        }
        if let Some(status) = outcome {
            self.responds(peer, &key, status);
        }
    }
}
