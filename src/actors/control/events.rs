//! What has happened: the last events of the log, and those that come.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use hyper::body::Frame;
use tokio::time::{Instant, sleep_until};

use super::answer::Endless;
use super::door::Deadline;
use super::report::Event;
use crate::diagnostics::Diagnostics;

/// Between two signs of life to whoever follows, so that either end notices when the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long a follower may not read.
const STALL: Duration = Duration::from_secs(60);

/// The last events, the latest last.
pub(super) fn last(_logs: &Diagnostics, _count: usize) -> Vec<Event> {
    Vec::new()
}

/// The last `count` events and then those that come, one JSON object each line; an empty line is a sign of life.
pub(super) fn follow(logs: &Diagnostics, count: usize, deadline: Deadline) -> Endless {
    let begun: String = last(logs, count).iter().map(line).collect();
    deadline.extend(STALL);
    let first = stream::once(async move { begun + "\n" });
    let signs = stream::unfold(Instant::now(), |before| async move {
        let next = before + SIGN_OF_LIFE;
        sleep_until(next).await;
        Some(("\n".to_owned(), next))
    });
    let lines = first.chain(signs).map(move |text| {
        // It is asked for more when the client has taken what came before.
        deadline.extend(STALL);
        Ok(Frame::data(Bytes::from(text)))
    });
    Box::pin(lines)
}

fn line(event: &Event) -> String {
    serde_json::to_string(event).expect("a report has a form in JSON") + "\n"
}
