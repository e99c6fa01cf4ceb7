//! STUN (RFC 8489): Binding requests of user agents are answered on the ports of SIP, and servers on the Internet are
//! asked for the public address and the type of the NAT (RFC 3489 §10.1, RFC 5780).
//!
//! Nobody is authenticated on either side.

pub mod client;
mod codec;
pub mod nat;
mod server;

pub use self::codec::TransactionId;
pub use self::server::answer;
