//! The end of a run: nothing is under way any more, and every request has come to its outcome.

use super::chosen::rank;
use super::records::Life;
use super::{MARGIN, Model};
use crate::coverage::Count;

impl Model {
    /// # Panics
    ///
    /// Where a request has not come to its outcome.
    pub(crate) fn check_outcomes(&mut self) {
        for number in 0..self.requests.len() {
            for at in 0..self.requests[number].lives.len() {
                self.check_outcome(number, at);
            }
        }
        for branch in &self.branches {
            let has_ended = self.routers[&branch.incarnation].ended.is_some();
            let is_abandoned = branch.is_invite()
                && branch.provisional.is_some()
                && !branch.is_over()
                && branch.cancel.is_none();
            assert!(has_ended || !is_abandoned, "this rings for ever\n{}", branch.text);
        }
    }

    fn check_outcome(&mut self, number: usize, at: usize) {
        let request = &self.requests[number];
        let life = &request.lives[at];
        let is_lost = self.routers[&life.incarnation].ended.is_some();
        if request.is_unanswered() || life.has_answered() || life.refusals > 0 || life.is_banned {
            return;
        }
        if is_lost {
            return self.coverage.add(Count::LostWithRouter);
        }
        assert!(!request.is_invite(), "this has no final response\n{}", request.text);
        assert!(self.may_be_silent(life), "this has no final response, and deserves one\n{}", request.text);
        self.coverage.add(Count::Silence);
    }

    /// Somebody was asked and has not said a final word in time, or only one that cannot be passed on; of what others
    /// have said, nothing is better.
    fn may_be_silent(&self, life: &Life) -> bool {
        let end = life.begun + self.patience();
        let branches = || life.branches.iter().map(|&at| &self.branches[at]);
        let is_waited_for = branches().any(|branch| {
            let in_time = branch.end.filter(|(.., at)| *at + MARGIN < end);
            let has_failed = branch.failed.is_some_and(|at| at + MARGIN < end);
            in_time.map_or(!has_failed, |(status, ..)| status == 408)
        });
        let early = life.begun + self.patience() * 7 / 8;
        let ends = branches().filter_map(|branch| branch.end).filter(|(.., at)| *at + MARGIN < early);
        let best = ends.map(|(status, ..)| status).min_by_key(|&status| rank(status, life.is_search));
        is_waited_for && best.is_none_or(|best| best == 408)
    }
}
