//! The actors: thin shells around the cores of [`protocol`](crate::protocol), which own sockets, timers and files.
//!
//! `socket -> Listener | Connection -> Router -> Listener | Connection -> socket`: two mailbox hops; the Registrar
//! or the FederationResolver makes it four, the Journal five. Each kind has a file; [`messages`] has what more than two of them say to each other,
//! [`directory`] where each is to be reached, [`trace`] shows what passes to whoever watches.

pub mod connection;
pub mod control;
pub mod descriptors;
pub mod directory;
pub mod drops;
pub mod federation_resolver;
pub mod finding;
pub mod journal;
pub mod listener;
pub mod messages;
pub mod registrar;
pub mod router;
pub mod service_record;
pub mod state;
pub mod stun;
pub mod supervisor;
pub mod tls;
pub mod trace;
pub mod trial;
pub mod turns;

#[cfg(test)]
pub(crate) mod testing;
