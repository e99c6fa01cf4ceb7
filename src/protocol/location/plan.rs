//! What a REGISTER does to the bindings of its address-of-record, worked out before anything is done
//! (RFC 3261 §10.3 steps 6 and 7): it is carried out whole or not at all.

use std::time::Duration;

use smallvec::SmallVec;

use super::bindings::Binding;
use super::contact::Contact;
use super::registration::{Change, Registration};
use crate::protocol::message::reply::Reply;

/// §10.3 step 7: longer intervals are never too brief, in seconds.
const NEVER_TOO_BRIEF: u32 = 3600;

/// What a plan must keep to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Below this an interval is too brief.
    pub(super) minimum_expires: Duration,
    /// For contacts that ask for none.
    pub(super) default_expires: Duration,
    /// Longer intervals are shortened to this.
    pub(super) maximum_expires: Duration,
    /// Bindings of one address-of-record.
    pub(super) maximum_contacts: usize,
}

/// One change, in the order of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The binding that is refreshed or removed, by its place; `None`: one is added.
    pub(super) binding: Option<usize>,
    /// Its contact in the request, by its place; meaningless where `*` removes.
    pub(super) contact: usize,
    /// Seconds; zero removes.
    pub(super) expires: u32,
}

pub(super) type Plan = SmallVec<[Step; 1]>;

/// The steps that `registration` takes from `bindings`, none of which has expired; or the refusal, and then
/// nothing may change.
pub(super) fn plan(
    bindings: &[Binding],
    registration: &Registration,
    bounds: &Bounds,
) -> Result<Plan, Reply> {
    match &registration.change {
        Change::Nothing => Ok(Plan::new()),
        Change::RemoveAll => remove_all(bindings, registration),
        Change::Contacts(contacts) => update(bindings, registration, contacts, bounds),
    }
}

fn remove_all(bindings: &[Binding], registration: &Registration) -> Result<Plan, Reply> {
    bindings.iter().try_for_each(|binding| check_order(binding, registration))?;
    Ok((0..bindings.len()).map(|at| Step { binding: Some(at), contact: 0, expires: 0 }).collect())
}

/// Requests of one Call-ID count only in the order of their CSeq (§10.2.4).
fn check_order(binding: &Binding, registration: &Registration) -> Result<(), Reply> {
    if *binding.call_id() == *registration.call_id && binding.cseq >= registration.cseq {
        return Err(Reply::with_reason(500, "CSeq Not Above That Of The Binding"));
    }
    Ok(())
}

fn update(
    bindings: &[Binding],
    registration: &Registration,
    contacts: &[Contact],
    bounds: &Bounds,
) -> Result<Plan, Reply> {
    // Enough to replace all bindings by others; it keeps the comparisons below few.
    if contacts.len() > bounds.maximum_contacts.saturating_mul(2) {
        return Err(too_many());
    }
    let mut steps = Plan::new();
    for (at, contact) in contacts.iter().enumerate() {
        let expires = granted(contact.expires, bounds)?;
        let identity = contact.identity();
        let binding = bindings.iter().position(|binding| identity.is_same(&binding.identity()));
        if let Some(binding) = binding {
            check_order(&bindings[binding], registration)?;
        }
        let step = Step { binding, contact: at, expires };
        // A contact that the request names twice is the later of the two.
        let earlier = steps.iter_mut().find(|earlier| match binding {
            Some(_) => earlier.binding == binding,
            None => earlier.binding.is_none() && identity.is_same(&contacts[earlier.contact].identity()),
        });
        match earlier {
            Some(earlier) => *earlier = step,
            None => steps.push(step),
        }
    }
    steps.retain(|step| step.binding.is_some() || step.expires > 0);
    let added = steps.iter().filter(|step| step.binding.is_none()).count();
    let removed = steps.iter().filter(|step| step.expires == 0).count();
    if added > 0 && bindings.len() + added - removed > bounds.maximum_contacts {
        return Err(too_many());
    }
    Ok(steps)
}

/// 403: a limit of policy, which the same request will meet again. 413 speaks of the body and 503 of a state that
/// passes; user agents try again after those.
fn too_many() -> Reply {
    Reply::with_reason(403, "Too Many Contacts")
}

/// The seconds that a contact gets for those that it asks for.
fn granted(requested: Option<u32>, bounds: &Bounds) -> Result<u32, Reply> {
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let minimum = seconds(bounds.minimum_expires);
    let requested = match requested {
        Some(0) => return Ok(0),
        Some(requested) => requested,
        None => seconds(bounds.default_expires),
    };
    if requested < minimum.min(NEVER_TOO_BRIEF) {
        return Err(Reply::new(423).row("Min-Expires", minimum.to_string()));
    }
    // Zero would remove what was to be kept.
    Ok(requested.min(seconds(bounds.maximum_expires)).max(1))
}
