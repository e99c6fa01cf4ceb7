//! Peers that send a request back to where it came from, as proxies without state do.

use bytes::Bytes;
use sip_proxy::protocol::flow::Flow;

use crate::coverage::Count;
use crate::model::{Begun, Odd, Origin, Proof};
use crate::text::{Header, Text};
use crate::world::World;

impl World<'_> {
    pub(super) fn sends_back(&mut self, peer: usize, key: String, _flow: Flow, text: &Text) {
        let Some(way) = self.way_of(peer) else { return };
        let number = self.model.next_request();
        let via = self.peers[peer].via(number);
        let hops = text.value(Header::MaxForwards).parse::<u32>().unwrap_or(1).saturating_sub(1);
        let mut out = format!("{}\r\nVia: {via}\r\n", text.start());
        for (header, line) in text.rows() {
            match header {
                Header::MaxForwards => out += &format!("Max-Forwards: {hops}\r\n"),
                _ => out += line,
            }
        }
        out += "\r\n";
        let mut octets = out.into_bytes();
        octets.extend_from_slice(text.body());
        let bytes = Bytes::from(octets);
        self.model.begins(Begun {
            peer,
            bytes: bytes.clone(),
            odd: Odd::Loops,
            proof: Proof::Missing,
            ends: None,
        });
        self.peers[peer].loops.insert(key, number);
        self.count(Count::Loops);
        self.send(peer, way, bytes);
    }

    /// The same again goes the same way again.
    pub(super) fn sends_back_again(&mut self, peer: usize, key: &str, _flow: Flow, _text: &Text) -> bool {
        let Some(&number) = self.peers[peer].loops.get(key) else { return false };
        let bytes = self.model.octets_of(number);
        if let Some(way) = self.way_of(peer) {
            self.send(peer, way, bytes);
        }
        true
    }

    /// ACK and CANCEL go after their INVITE.
    pub(super) fn sends_follow_up(&mut self, peer: usize, number: usize, text: &Text) {
        let via = self.peers[peer].via(number);
        let mut out = format!("{}\r\nVia: {via}\r\n", text.start());
        text.rows().for_each(|(_, line)| out += line);
        out += "\r\n";
        let bytes = Bytes::from(out);
        self.model.follows_up(number, &bytes);
        if let Some(way) = self.way_of(peer) {
            self.send(peer, way, bytes);
        }
    }

    /// A response to a request that was sent back: without the peer's own Via, to the proxy. False: it is none.
    pub(super) fn passes_back(&mut self, peer: usize, number: usize, text: &Text, status: u16) -> bool {
        if !self.peers[peer].loops.values().any(|&known| known == number) {
            return false;
        }
        if status == 100 {
            return true;
        }
        let answer = self.model.next_answer();
        let mut out = format!("{}\r\n", text.start());
        let mut is_first = true;
        for (header, line) in text.rows() {
            let is_own_via = header == Header::Via && std::mem::replace(&mut is_first, false);
            if !is_own_via && header != Header::Answer {
                out += line;
            }
        }
        out += &format!("X-Sim-Answer: {answer}\r\n\r\n");
        let mut octets = out.into_bytes();
        octets.extend_from_slice(text.body());
        let bytes = Bytes::from(octets);
        self.model.answers(peer, &bytes, Origin::Relayed);
        if let Some(way) = self.way_of(peer) {
            self.send(peer, way, bytes);
        }
        true
    }
}
