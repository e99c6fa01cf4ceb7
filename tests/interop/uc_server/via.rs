//! What the scripted UC server writes into a Via, and reads back from it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use super::{Flow, Transport};
use crate::common::sip::{Sip, parameter};

/// Begins the branch of whatever this server forwards.
const FORWARDED: &str = "z9hG4bK-uc-";

/// Writes the source into the top Via, as asked for by `rport` (RFC 3581 §4).
pub(super) fn stamp_source(request: &mut Sip, flow: Flow) {
    let Flow::Datagrams(source) = flow else { return };
    if let Some(via) = request.pop_front("Via") {
        let stamped = if parameter(&via, "rport") == Some("") {
            via.replacen(";rport", &format!(";rport={};received={}", source.port(), source.ip()), 1)
        } else {
            via
        };
        request.push_front("Via", stamped);
    }
}

/// A branch that says where the response goes, and that is the same for a request, its repetitions, its CANCEL and
/// the ACK to its failure (RFC 3261 §16.11).
pub(super) fn forwarding_branch(from: Flow, request: &Sip) -> String {
    let mut hasher = DefaultHasher::new();
    let via = request.values("Via").first().map(|via| (*via).to_owned()).unwrap_or_default();
    (parameter(&via, "branch"), via.split(';').next()).hash(&mut hasher);
    let token = match from {
        Flow::Datagrams(source) => format!("d{}.{}", source.ip(), source.port()),
        Flow::Stream(number, transport) => format!("s{number}.{}", transport.parameter()),
    };
    format!("{FORWARDED}{token}-{:x}", hasher.finish())
}

/// The flow that [`forwarding_branch`] has written; `None` for a branch that is not of its making.
pub(super) fn flow_of(branch: &str) -> Option<Flow> {
    let token = branch.strip_prefix(FORWARDED)?.split('-').next()?;
    let (address, last) = token.get(1..)?.rsplit_once('.')?;
    match token.get(..1)? {
        "d" => Some(Flow::Datagrams(SocketAddr::new(address.parse().ok()?, last.parse().ok()?))),
        "s" => {
            let transport = if last == "tls" { Transport::Tls } else { Transport::Tcp };
            Some(Flow::Stream(address.parse().ok()?, transport))
        }
        _ => None,
    }
}
