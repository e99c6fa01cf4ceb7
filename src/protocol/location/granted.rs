//! The 200 (OK) to a REGISTER (RFC 3261 §10.3 step 8, RFC 3327 §5.3, RFC 5626 §6, RFC 5627 §5.2).

use std::fmt::Write as _;

use super::Location;
use super::bindings::Binding;
use super::clock::Millis;
use super::gruu::{self, Gruus};
use super::registration::Registration;
use crate::protocol::flow::Flow;
use crate::protocol::message::Name;
use crate::protocol::message::reply::Reply;

/// What the registrar understands. Not GRUUs: their being there says it (RFC 5627 §5.2).
const SUPPORTED: &str = "path, outbound";

/// Octets of the parameters that most contacts have: `expires`, and perhaps `q`.
const USUAL_PARAMETERS: usize = 28;

impl Location {
    /// Lists all bindings of the address-of-record, as they are now.
    pub(super) fn granted(&mut self, now: Millis, flow: &Flow, registration: &Registration) -> Reply {
        let mut reply = Reply::new(200);
        for binding in self.bindings.get(&registration.address_of_record) {
            reply = reply.row("Contact", contact_value(now, binding, registration, &mut self.gruus));
        }
        if !registration.path.is_empty() {
            let values: Vec<_> =
                registration.path.iter().map(|value| String::from_utf8_lossy(value)).collect();
            reply = reply.row("Path", values.join(", "));
        }
        if registration.supports.outbound && registration.is_outbound() {
            reply = reply.row(Name::Require.as_str(), "outbound".to_owned());
            let seconds = self.settings.flow_timer.as_secs();
            if flow.transport.is_reliable() && seconds > 0 {
                reply = reply.row("Flow-Timer", seconds.to_string());
            }
        }
        reply.row(Name::Supported.as_str(), SUPPORTED.to_owned())
    }
}

fn contact_value(now: Millis, binding: &Binding, registration: &Registration, gruus: &mut Gruus) -> String {
    let contact = String::from_utf8_lossy(binding.contact());
    let mut value = String::with_capacity(contact.len() + USUAL_PARAMETERS);
    value.push('<');
    value.push_str(&contact);
    value.push('>');
    // Writing to a String cannot fail.
    if binding.q != 1000 {
        let _ = write!(value, ";q=0.{:03}", binding.q);
    }
    if let Some(details) = binding.details() {
        let (name, is_secure) = (&registration.address_of_record, registration.is_secure);
        if let Some(instance) = &details.instance {
            let _ = write!(value, ";+sip.instance=\"<{instance}>\"");
            // A URI without a user part is nobody's.
            if registration.supports.gruu && !name.user().is_empty() {
                let _ = write!(value, ";pub-gruu=\"{}\"", gruu::public(name, instance, is_secure));
                if let Some(series) = details.series {
                    let _ = write!(value, ";temp-gruu=\"{}\"", gruus.temporary(name, series, is_secure));
                }
            }
        }
        if let Some(reg_id) = details.reg_id {
            let _ = write!(value, ";reg-id={reg_id}");
        }
        value.push_str(&details.parameters);
    }
    let _ = write!(value, ";expires={}", binding.expires.saturating_sub(now).div_ceil(1000));
    value
}
