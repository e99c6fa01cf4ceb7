//! WebSocket as a transport of SIP (RFC 7118, RFC 6455): the server's side, without a socket.
//!
//! [`handshake`] answers the HTTP request that opens a connection; [`framing`] cuts SIP messages from what comes
//! afterwards, and wraps those that leave. Frame headers, close codes and the rules of the handshake are the library's
//! (`tungstenite`). How messages are put together from frames is decided here, because that is where the limits are.
//!
//! Not here: the client's side, since a proxy dials no WebSocket; extensions, of which none is offered.

pub mod framing;
pub mod handshake;
