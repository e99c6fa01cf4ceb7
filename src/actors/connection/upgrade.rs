//! The WebSocket handshake on a stream that was accepted (RFC 6455 §4.2).

use std::future::poll_fn;
use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::establish::Cause;
use super::inbox::poll_discard;
use super::open::FAREWELL;
use super::stream::Stream;
use crate::protocol::websocket::handshake::{Handshake, Refusal};

/// As much as most clients ask with.
const USUAL_BYTES: usize = 1_024;

/// Answers the request for WebSocket, which has at most `header_bytes` octets. What asks for something else, or not in
/// due form, is told so in HTTP.
pub(super) async fn upgrade(stream: &mut Stream, header_bytes: usize) -> Result<(), Cause> {
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
                return Ok(stream.flush().await?);
            }
            Err(refusal) => {
                refuse(stream, refusal).await?;
                return Err(Cause::Refused(refusal));
            }
        }
    }
}

/// Answers, and gives the peer time to read that: octets of the peer's that nobody has read would make the system discard
/// it.
async fn refuse(stream: &mut Stream, refusal: Refusal) -> io::Result<()> {
    stream.write_all(&refusal.response()).await?;
    stream.shutdown().await?;
    let drain =
        async { while poll_fn(|cx| poll_discard(stream, cx)).await.is_ok_and(|length| length > 0) {} };
    // However it ends: it has been answered.
    let _ = timeout(FAREWELL, drain).await;
    Ok(())
}
