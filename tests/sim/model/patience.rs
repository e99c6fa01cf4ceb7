//! How long a Router waits for who is silent (docs/routing.md, "What silence means").

use std::time::Duration;

use super::records::{Branch, Life, Request};
use super::{MARGIN, Model};

impl Model {
    /// Whether those who were asked have had their time: the next are asked as well, or what others have said goes back.
    /// What is begun in this turn does not count yet.
    pub(super) fn is_impatient(&self, request: &Request, life: &Life, now: Duration) -> bool {
        let asked = life.branches.iter().map(|&at| &self.branches[at]).filter(|branch| branch.begun < now);
        let of_turns = || asked.clone().filter(|branch| !branch.is_successor).map(|branch| branch.begun);
        let (Some(first), Some(last)) = (of_turns().min(), of_turns().max()) else { return false };
        let goals = life.goals.as_deref().unwrap_or_default();
        let is_left = |group: &usize| {
            let is_of = |b: &&Branch| !b.is_successor && b.goal.is_some_and(|(of, _)| of == *group);
            let count = asked.clone().filter(is_of).count();
            count < goals[*group].len()
        };
        let left = (0..goals.len()).filter(is_left).count();
        let turns = asked.clone().count() + left;
        if !life.is_search && (request.is_invite() || turns < 2) {
            return false;
        }
        let (patience, soon) = (self.patience(), self.timers.t1() * 4);
        let share = patience * 3 / 8 / turns as u32;
        let last_call = first + patience * 7 / 8;
        let end = match left {
            0 => (last + patience / 2).min(last_call.max(last + soon)),
            _ if life.is_search => last + share.min(soon),
            _ => last + share,
        };
        let is_silent = |branch: &Branch| self.is_dead(branch, now) || branch.provisional.is_none();
        let is_last_call = !request.is_invite() && now + MARGIN >= last_call;
        now + MARGIN >= end && (is_last_call || asked.clone().all(is_silent))
    }
}
