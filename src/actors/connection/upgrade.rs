//! The WebSocket handshake on a stream that was accepted (RFC 6455 §4.2).

use std::future::poll_fn;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::failure::Cause;
use super::inbox::poll_discard;
use super::open::FAREWELL;
use super::stream::Stream;
use crate::protocol::websocket::handshake::Handshake;

/// As much as most clients ask with.
const USUAL_BYTES: usize = 1_024;

/// Answers the request for WebSocket, which has at most `header_bytes` octets. What asks for something else, or not in
/// due form, is told so in HTTP.
pub(super) async fn upgrade(mut stream: Stream, header_bytes: usize) -> Result<Stream, Cause> {
    let mut handshake = Handshake::new(header_bytes);
    let mut octets = BytesMut::with_capacity(USUAL_BYTES);
    loop {
        if stream.read_buf(&mut octets).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match handshake.answer(&octets) {
            Ok(None) => {}
            Ok(Some(answer)) => {
                stream.write_all(&answer).await?;
                stream.flush().await?;
                return Ok(stream);
            }
            Err(refusal) => {
                stream.write_all(&refusal.response()).await?;
                stream.shutdown().await?;
                return Err(Cause::Refused(refusal, stream));
            }
        }
    }
}

/// Gives a peer that was refused the time to read so: octets of its own that nobody has read would make the system
/// discard ours.
pub(super) async fn linger(mut stream: Stream) {
    let discard =
        async { while poll_fn(|cx| poll_discard(&mut stream, cx)).await.is_ok_and(|length| length > 0) {} };
    // However it ends: the peer has been answered.
    let _ = timeout(FAREWELL, discard).await;
}
