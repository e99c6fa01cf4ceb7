//! SIP messages: a buffer, an index of offsets into it, and edits as splices (RFC 3261 §7).
//!
//! A message is read once ([`Message::parse`]) and written once ([`edit::Edit::write`]). Everything between is
//! views that borrow from the buffer and are made when somebody asks. What the proxy does not change leaves as
//! it came, bit for bit: order, case, folding, unknown headers, binary bodies.

pub mod date;
pub mod demux;
pub mod edit;
mod fault;
pub mod framing;
pub mod headers;
mod index;
pub mod lexical;
pub mod name;
pub mod name_addr;
mod places;
pub mod reply;
pub mod rsip;
pub mod start_line;
pub mod uri;
pub mod via;

pub use fault::{Fault, Unreadable};
pub use index::{Carriage, Message, MessageLimits};
pub use name::Name;
pub use start_line::{Method, StartLine};
