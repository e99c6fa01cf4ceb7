//! The protocol: everything that an RFC decides, without a clock, a socket, a task or an actor.
//!
//! Time comes in as `now`, randomness as a seeded generator, look-ups leave as questions and come back as
//! answers. `.clippy.toml` lists what is disallowed here; the attribute below makes it an error.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod account;
pub mod admission;
pub mod digest;
pub mod federation;
pub mod flow;
pub mod identity;
pub mod interface;
pub mod location;
pub mod message;
pub mod next_hop;
pub mod proxy;
pub mod record_route;
pub mod stun;
pub mod timer_wheel;
pub mod transaction;
pub mod websocket;

mod random;
