//! The proxy core against scripted peers: what goes in at which time, what must come out.
//!
//! The peers' messages are written and read by `text.rs`, not by the parser under test. Every [`bench::Bench`]
//! checks at its end that nothing is left behind.

mod bench;
pub(crate) mod network;
mod text;

mod authentication;
mod breadth;
mod cancel;
mod dialogs;
mod farewell;
mod federation;
mod flows;
mod forking;
mod gruus;
mod microsoft;
mod reconfigured;
mod redirection;
mod refusals;
mod search;
mod shaping;
mod transactions;
mod transport;
mod watching;
