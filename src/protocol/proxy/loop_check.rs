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
        let mut add = |part: &[u8]| {
            hasher.write_usize(part.len());
            hasher.write(part);
        };
        add(request.request_uri());
        request.rows(Name::Route).for_each(&mut add);
        add(request.call_id());
        add(request.row(Name::From).unwrap_or_default());
        add(request.row(Name::To).unwrap_or_default());
        add(&request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes());
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
