//! Peers that do anything at any time: what holds all the same.
//!
//! Each run is decided by its seed, which a failure names.

use std::collections::{HashMap, HashSet};

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{answer_with, branch, for_invite, kind, request, value};
use crate::protocol::proxy::Random;
use crate::protocol::transaction::Branch;

const METHODS: [&str; 4] = ["INVITE", "INVITE", "MESSAGE", "SUBSCRIBE"];
const STATUSES: [u16; 16] = [100, 180, 180, 183, 200, 200, 299, 302, 401, 404, 404, 407, 480, 486, 503, 603];
const TICK_MILLIS: u64 = 40;
/// A minute: whatever was cancelled in its first third must have ended.
const TICKS: u64 = 60_000 / TICK_MILLIS;

/// What a client has sent and got.
struct Client {
    peer: Peer,
    method: &'static str,
    text: String,
    begun: u64,
    is_cancelled: bool,
    /// Status code and To of each final response, each once.
    finals: Vec<(String, String)>,
}

struct World {
    bench: Bench,
    random: Random,
    servers: Vec<Peer>,
    clients: Vec<Client>,
    /// What servers will say, and when: the tick, who, and the request that they answer.
    planned: Vec<(u64, Peer, String)>,
    seen_requests: HashMap<String, String>,
    /// Branches that have said something.
    provisional: HashSet<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            bench: Bench::new(),
            random: Random { key: [0; 16], count: seed },
            servers: Vec::new(),
            clients: Vec::new(),
            planned: Vec::new(),
            seen_requests: HashMap::new(),
            provisional: HashSet::new(),
        };
        for n in 0..1 + world.below(5) as u16 {
            let peer = if world.chance(50) { Peer::udp(6000 + n) } else { Peer::tcp(6000 + n) };
            world.servers.push(peer);
            world.bench.log_on(peer, UCS);
            if world.chance(40) {
                let q = 250 * world.below(4) as u16;
                world.bench.bind("bound", peer, q);
            }
        }
        world
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn run(&mut self) {
        for tick in 0..TICKS {
            if tick < 50 && self.chance(20) {
                self.begin(tick);
            }
            self.disturb(tick);
            self.speak(tick);
            self.bench.pass_millis(TICK_MILLIS);
            self.listen(tick);
        }
        self.check();
    }

    fn begin(&mut self, tick: u64) {
        let n = self.clients.len() as u16;
        let peer = if self.chance(50) { Peer::udp(5070 + n) } else { Peer::tcp(5070 + n) };
        let method = METHODS[self.below(4) as usize];
        let uri = ["sip:bob@a.test", "sip:bound@a.test"][self.below(2) as usize];
        let text = request(method, uri, peer, &format!("call{n}"));
        self.bench.proxy.handle_standing(&peer.0, Some(UCS));
        self.bench.receive(peer, &text);
        self.clients.push(Client {
            peer,
            method,
            text,
            begun: tick,
            is_cancelled: false,
            finals: Vec::new(),
        });
    }

    /// Clients repeat and cancel; connections end; what was sent turns out to be lost.
    fn disturb(&mut self, tick: u64) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.below(self.clients.len() as u64) as usize;
        let client = &self.clients[at];
        let (peer, text) = (client.peer, client.text.clone());
        let is_young = (tick - client.begun) * TICK_MILLIS < 30_000;
        // An INVITE that was refused and acknowledged would be a new one.
        let is_open = client.method != "INVITE" || client.finals.is_empty();
        let may_repeat = peer.0.connection.is_none() && is_young && is_open;
        let may_cancel = client.method == "INVITE" && client.finals.is_empty() && tick < TICKS / 3;
        if self.chance(10) && may_repeat {
            self.bench.receive(peer, &text);
        }
        if self.chance(3) && may_cancel {
            self.clients[at].is_cancelled = true;
            self.bench.receive(peer, &for_invite(&text, "CANCEL", None));
        }
        if self.chance(1) {
            let which = self.below(self.servers.len() as u64) as usize;
            self.bench.close(self.servers[which]);
        }
        if self.chance(1) {
            self.bench.close(peer);
        }
    }

    /// Servers say what is due, with repetitions.
    fn speak(&mut self, tick: u64) {
        let (due, later) = std::mem::take(&mut self.planned).into_iter().partition(|(at, ..)| *at <= tick);
        self.planned = later;
        for (_, server, response) in Vec::<(u64, Peer, String)>::from_iter(due) {
            if kind(&response).starts_with('1') {
                self.provisional.insert(branch(&response).to_owned());
            }
            for _ in 0..1 + self.below(2) {
                self.bench.receive(server, &response);
            }
        }
    }

    fn listen(&mut self, tick: u64) {
        for server in self.servers.clone() {
            for text in self.bench.take(server) {
                // A fifth is lost, and of some of that the proxy hears.
                if self.chance(80) {
                    self.serve(tick, server, &text);
                } else if self.chance(20) {
                    let branch = Branch::parse(branch(&text).as_bytes()).unwrap();
                    self.bench.fail(&branch, server.0.remote);
                }
            }
        }
        for at in 0..self.clients.len() {
            for text in self.bench.take(self.clients[at].peer) {
                self.hear(at, &text);
            }
        }
    }

    fn serve(&mut self, tick: u64, server: Peer, text: &str) {
        match kind(text) {
            "ACK" => {}
            "CANCEL" => {
                assert!(self.provisional.contains(branch(text)), "cancelled before it has said anything");
                assert!(self.seen_requests[branch(text)].starts_with("INVITE "));
                self.planned.push((tick + 1, server, answer_with(text, 200, "t", "")));
                if self.chance(70) {
                    let invite = self.seen_requests[branch(text)].clone();
                    self.planned.push((tick + 2, server, answer_with(&invite, 487, "t", "")));
                }
            }
            _ => {
                if let Some(first) = self.seen_requests.insert(branch(text).to_owned(), text.to_owned()) {
                    assert_eq!(first, text, "a branch that is used twice");
                    return;
                }
                let tag = server.0.remote.port().to_string();
                for _ in 0..self.below(4) {
                    let status = STATUSES[self.below(16) as usize];
                    let at = tick + 1 + self.below(200);
                    self.planned.push((at, server, answer_with(text, status, &tag, "")));
                }
            }
        }
    }

    fn hear(&mut self, at: usize, text: &str) {
        let lost = self.chance(20);
        let client = &mut self.clients[at];
        let status = kind(text).to_owned();
        if value(text, "CSeq").ends_with("CANCEL") {
            assert!(client.is_cancelled && status == "200");
            return;
        }
        if status.starts_with('1') {
            assert!(client.method == "INVITE" || status == "100", "{status} to {}", client.method);
            return;
        }
        assert!(client.method == "INVITE" || status != "408");
        assert_ne!(status, "503");
        let to = value(text, "To").to_owned();
        if !status.starts_with('2') && client.method == "INVITE" && !lost {
            let ack = for_invite(&client.text, "ACK", Some(&to));
            self.bench.receive(client.peer, &ack);
        }
        let client = &mut self.clients[at];
        if !client.finals.contains(&(status.clone(), to.clone())) {
            client.finals.push((status, to));
        }
    }

    fn check(&self) {
        for Client { method, finals, is_cancelled, .. } in &self.clients {
            let accepted = finals.iter().filter(|(status, _)| status.starts_with('2')).count();
            let is_good = match *method {
                "INVITE" => accepted == finals.len() || (accepted == 0 && finals.len() == 1),
                _ => finals.len() <= 1,
            };
            assert!(is_good, "{method} got {finals:?}");
            // Before Timer C only what rings has no answer, and nothing rings that was cancelled.
            assert!(
                !finals.is_empty() || *method != "INVITE" || !is_cancelled,
                "a cancelled call without an end"
            );
        }
    }
}

#[test]
fn whatever_peers_do_each_request_has_one_outcome_and_leaves_nothing_behind() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).expect("SIM_SEED is a number"),
        Err(_) => 0..100,
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(outcome.is_ok(), "SIM_SEED={seed}");
    }
}
