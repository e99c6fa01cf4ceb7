//! What discovered peers do is counted, and who does too much of it is let in once a second
//! ([`guard`](crate::protocol::federation::guard)). Only for a domain that the sender has proven: nobody can put another's
//! on the watch list.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Instant;

use siphasher::sip::SipHasher13;

use crate::protocol::federation::guard::{Notice, Verdict};
use crate::protocol::message::Message;
use crate::protocol::message::reply::Reply;

use super::border::Stranger;
use super::forking::user_of;
use super::route::Way;
use super::{Event, EventDetail, Output, Proxy};

impl Proxy {
    /// Whether somebody from the outside may send this; the error is the refusal.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        stranger: Stranger,
        way: &Way,
        request: &Message,
    ) -> Result<Stranger, Reply> {
        if stranger.is_guarded() {
            self.guard_request(now, &stranger.domain, request)?;
        }
        let inward = self.check_inward(way);
        if let Err(refusal) = &inward
            && stranger.is_guarded()
        {
            self.guard_answer(now, &stranger.domain, refusal.status);
        }
        inward.map(|()| stranger)
    }

    /// Counts a request of a discovered peer; the error refuses it.
    pub(super) fn guard_request(
        &mut self,
        now: Instant,
        domain: &Arc<str>,
        request: &Message,
    ) -> Result<(), Reply> {
        let federation = &self.settings.federation;
        if federation.is_allowed(domain) {
            return Ok(());
        }
        let user = user_of(request.request_uri()).filter(|_| !request.is_in_dialog()).map(|user| {
            let mut hasher = SipHasher13::new_with_key(&self.loop_key);
            hasher.write(user.as_bytes());
            hasher.finish()
        });
        let (verdict, notice) = federation.guard.handle_request(now, domain, user);
        self.tell_watched(notice);
        match verdict {
            Verdict::Passes => Ok(()),
            Verdict::Refused => {
                let warning = "399 sip-proxy \"your domain is watched: one request per second\"".to_owned();
                Err(Reply::with_reason(503, "Domain Is Watched").row("Warning", warning))
            }
        }
    }

    /// Counts what a request of a discovered peer was answered with.
    pub(super) fn guard_answer(&mut self, now: Instant, domain: &Arc<str>, status: u16) {
        let federation = &self.settings.federation;
        if !federation.is_allowed(domain) {
            let notice = federation.guard.handle_answer(now, domain, status);
            self.tell_watched(notice);
        }
    }

    fn tell_watched(&mut self, notice: Option<Notice>) {
        if self.detail >= EventDetail::Faults {
            self.outputs.extend(notice.map(|notice| Output::Event(Event::PeerWatched(notice))));
        }
    }
}
