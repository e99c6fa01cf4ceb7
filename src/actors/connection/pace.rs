//! Handshakes take turns with SIP: a storm of them leaves the greater part of each moment to the messages.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What the share is of.
const SLICE: Duration = Duration::from_millis(5);

/// How much of a slice the handshakes of one thread may take together. The one that reaches it is not cut short.
const SHARE: Duration = Duration::from_millis(2);

thread_local! {
    /// When this thread's slice began, and what handshakes have taken of it.
    static TAKEN: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Drives `handshake`, which waits for the next slice where this one's share is used up.
pub(super) async fn paced<F: Future>(handshake: F) -> F::Output {
    let mut handshake = pin!(handshake);
    let mut next_slice = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        let now = Instant::now();
        let slice = TAKEN.get().filter(|(began, _)| now.saturating_duration_since(*began) < SLICE);
        let (began, taken) = slice.unwrap_or((now, Duration::ZERO));
        if taken >= SHARE {
            next_slice.as_mut().reset((began + SLICE).into());
            if next_slice.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let polled = handshake.as_mut().poll(cx);
        TAKEN.set(Some((began, taken + now.elapsed())));
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::yield_now;

    use super::*;

    /// Something that takes a millisecond of the thread each time, so often.
    async fn toil(times: u32) {
        for _ in 0..times {
            let until = Instant::now() + Duration::from_millis(1);
            while Instant::now() < until {}
            yield_now().await;
        }
    }

    #[actix::test]
    async fn others_have_their_turns_while_many_handshakes_want_theirs() {
        let done = Rc::new(Cell::new(0));
        for _ in 0..20 {
            let done = Rc::clone(&done);
            actix::spawn(async move {
                paced(toil(5)).await;
                done.set(done.get() + 1);
            });
        }
        // All of them at once would keep the thread for 20 ms at a time.
        let mut longest = Duration::ZERO;
        let (mut turns, begun) = (0, Instant::now());
        while done.get() < 20 {
            let before = Instant::now();
            yield_now().await;
            longest = longest.max(before.elapsed());
            turns += 1;
            assert!(begun.elapsed() < Duration::from_secs(60), "they come to an end");
        }
        // 100 ms of toil at 2 of every 5 take 40 slices, and in each of them others have had a turn.
        assert!(turns >= 40, "{turns} turns, the longest {longest:?}");
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }
}
