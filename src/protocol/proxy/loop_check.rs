//! Loop detection (RFC 3261 §16.3 step 4, as RFC 5393 §4.2 has it).

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use crate::protocol::message::via::Via;
use crate::protocol::message::{Message, Name};
use crate::protocol::transaction::Branch;

use super::Proxy;

impl Proxy {
    /// What the way of a request depends on (RFC 5393 §4.2.1), keyed so that nobody can stage a loop.
    pub(super) fn loop_hash(&self, request: &Message) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.loop_key);
        add(&mut hasher, request.request_uri());
        request.rows(Name::Route).for_each(|route| add(&mut hasher, route));
        for part in [Some(request.call_id()), request.row(Name::From), request.row(Name::To)] {
            add(&mut hasher, part.unwrap_or_default());
        }
        add(&mut hasher, &request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
        hasher.finish()
    }

    /// Whether this request has been here before and nothing has changed that would send it elsewhere (§16.3
    /// step 4, RFC 5393 §4.2).
    pub(super) fn is_loop(&self, request: &Message, loop_hash: u64) -> bool {
        let ours = |via: &Via<'_>| {
            via.branch.and_then(Branch::parse).is_some_and(|ours| ours.loop_hash == loop_hash)
        };
        request.vias().flatten().any(|via| ours(&via))
    }
}

/// Once for all parts: inlined, the code of a hash would be read anew for each.
#[inline(never)]
fn add(hasher: &mut SipHasher13, part: &[u8]) {
    hasher.write_usize(part.len());
    hasher.write(part);
}
