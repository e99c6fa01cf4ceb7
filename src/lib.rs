//! A SIP proxy that joins several UC servers in one SIP presence domain and federates with other domains.
//!
//! # Code map
//!
//! Dependencies point one way: `protocol <- config <- actors <- cli`.
//!
//! | module | what it decides or owns |
//! |---|---|
//! | [`protocol`] | everything that an RFC says; no clock, socket, task, actor or ambient randomness |
//! | [`config`] | the configuration as data: file, environment, checks with all faults at once |
//! | [`actors`] | sockets, TLS, timers; thin shells around the cores of `protocol`; the supervisor |
//! | [`diagnostics`] | log files, the last events, what is counted for Prometheus |
//! | [`cli`] | the command line |
//!
//! # The way of a message
//!
//! A Listener (datagrams, in batches) or a Connection (a stream, framed) reads, indexes each message once and hands
//! it to its Router, so that requests, responses, CANCEL, ACK and forks of a call meet in one place without locks:
//! of datagrams the Router that the Call-ID hashes to; of a connection that connection's, on its core, because what a
//! peer sends in order must stay in order and every MESSAGE has a Call-ID of its own; of requests in a dialog the one
//! that has recorded it, which the Route names; of responses the one that the branch names. (A CANCEL that comes by
//! another connection than its INVITE, against RFC 3261 §9.1, finds nothing to cancel.) The Router feeds its core ([`protocol::proxy::Proxy`]), which may ask the Registrar
//! where a user is, or the FederationResolver where a domain's servers are; the answer resumes the context that asked. An answer that changes registrations goes by way of the
//! Journal, which lets it go when the disk has the change. Where the servers of another domain are, and whether a stranger's
//! certificate proves its domain, the Router asks the FederationResolver in the same way. What leaves goes to a Listener or Connection in one batch.
//!
//! # Invariants
//!
//! - A message is parsed once and written once. What the proxy does not change leaves as it came, bit for bit.
//! - Nothing waits: a question is sent and forgotten, its context has a deadline.
//! - Every queue, table and buffer is bounded. The network enters mailboxes by `try_send`: refused datagrams are
//!   counted and dropped, refused stream input stops the read. A peer that does not read loses its connection.
//! - Who may send what is decided by the flow and by digest, never by what headers claim.
//! - Bad input is answered or counted; a panic is a bug of ours, ends one actor, and the supervisor rebuilds it.
//!
//! # Absent on purpose
//!
//! Media, a scripting language, a presence server, SCTP, NTLM and Kerberos.

// `.clippy.toml` lists what is disallowed in `protocol`, which denies it; everywhere else it is what the work is done
// with.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod actors;
pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod protocol;
