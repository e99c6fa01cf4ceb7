//! Black-box tests: the built binary, real sockets on loopback, scripted ends.
//!
//! Each test starts a proxy of its own on an address of its own, so that all of them can run at the same time. What
//! they hold the proxy to is the text of the RFCs and of the product's description, not its code.

// Clocks and sockets are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../common/mod.rs"]
mod common;

mod abroad;
mod access_servers;
mod authentication;
mod bad_input;
mod cancel;
mod checks;
mod connections;
mod control;
mod dialogs;
mod digest;
mod discovered;
mod doors;
mod events;
mod federation;
mod forking;
mod forwarding;
mod guessing;
mod identity;
mod invite;
mod locating;
mod log_on;
mod logs;
mod loops;
mod messages;
mod microsoft;
mod non_invite;
mod octets;
mod organisations;
mod peers;
mod persistence;
mod record_route;
mod redirection;
mod registrar;
mod reload;
mod reload_load;
mod responses;
mod route_health;
mod routing;
mod search;
mod secure;
mod service_manager;
mod startup;
mod stopping;
mod streams;
mod stun;
mod support;
mod timers;
mod trace;
mod transactions;
mod trust_domain;
mod unwanted;
mod web_clients;
mod web_socket;
