//! What goes wrong, in the network and in the proxy.

use std::time::Duration;

use crate::coverage::Count;
use crate::engine::{Actor, Mail};
use crate::peer::Alarm;
use crate::world::{Happening, World};

impl World<'_> {
    /// Something goes wrong, and before that is over perhaps something else.
    pub(crate) fn fault(&mut self) {
        let (network, actors) = (self.profile.network_faults, self.profile.actor_faults);
        match self.random.weigh(&[(network, false), (actors, true)]) {
            true => self.actor_fault(),
            false => self.network_fault(),
        }
        let wait = self.random.millis(0, 15);
        match self.random.below(10) {
            0..=3 => self.schedule(wait, Happening::Fault),
            4..=6 => self.schedule(wait, Happening::Act),
            7 => {
                let peer = self.random.below(self.peers.len());
                let alarm = Alarm::Register { process: self.engine.process };
                self.schedule(wait, Happening::Alarm { peer, alarm });
            }
            _ => {}
        }
    }

    fn network_fault(&mut self) {
        self.count(Count::NetworkFaults);
        let open = self.network.open();
        if !open.is_empty() && self.random.chance(70) {
            let id = self.random.pick(&open);
            let is_abrupt = self.random.chance(50);
            return self.cut(id, is_abrupt);
        }
        let peer = self.random.below(self.peers.len());
        let is_down = !self.peers[peer].is_down;
        self.peers[peer].is_down = is_down;
        self.trace.note(self.now, || format!("peer {peer} is {}", if is_down { "down" } else { "up" }));
        if is_down {
            self.loses_all(peer);
            let wait = self.random.millis(1000, 20_000);
            self.schedule(wait, Happening::Alarm { peer, alarm: Alarm::ComeBack });
        }
    }

    fn actor_fault(&mut self) {
        if !self.engine.is_running() {
            return;
        }
        let index = self.random.below(self.engine.routers.len());
        match self.random.below(11) {
            0..=3 => {
                self.count(Count::RouterPanics);
                self.crash(Actor::Router(index));
            }
            4 | 5 => {
                self.count(Count::RegistrarPanics);
                self.crash(Actor::Registrar);
            }
            6 | 7 => {
                self.count(Count::Stalls);
                let time = self.random.millis(50, 1500);
                self.stall(index, time);
            }
            8 => {
                self.count(Count::JournalPanics);
                self.crash_journal();
            }
            9 => self.restarts(Duration::ZERO, false),
            _ => {
                self.count(Count::Drains);
                self.model.drains();
                for index in 0..self.engine.routers.len() {
                    self.post(Actor::Router(index), Mail::Drain);
                }
                let wait = self.random.millis(100, 32_000);
                self.restarts(wait, true);
            }
        }
    }

    fn restarts(&mut self, wait: Duration, is_in_peace: bool) {
        if self.engine.is_ending {
            return;
        }
        self.engine.is_ending = true;
        self.count(Count::Restarts);
        let pause = self.random.millis(20, 2000);
        self.schedule(wait, Happening::ProcessStops { is_in_peace });
        // At a whole millisecond, so that no clock of the process rounds otherwise than the wall's.
        let start = Duration::from_millis((self.now + wait + pause).as_millis() as u64 + 1);
        self.schedule(start - self.now, Happening::ProcessStarts);
    }
}
