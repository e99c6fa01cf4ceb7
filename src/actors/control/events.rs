//! What happens, to whoever follows it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::body::Frame;
use tokio::time::timeout;

use super::answer::Endless;
use super::door::Deadline;
use super::report::Event;
use crate::diagnostics::{Events, Follower, News};

/// Between two lines at most, so that either end notices when the other is gone.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long a follower may not read.
const STALL: Duration = Duration::from_secs(60);

/// The last `count` events and then those that come, one JSON object each line; an empty line is a sign of life. A
/// follower that was too slow finds a gap in the numbers.
pub(super) fn follow(events: &Events, count: usize, deadline: Deadline) -> Endless {
    deadline.extend(STALL);
    let lines = stream::unfold((events.follow(count), deadline), |(mut follower, deadline)| async move {
        let line = next(&mut follower).await?;
        // It is asked for when the client has taken what came before.
        deadline.extend(STALL);
        Some((line, (follower, deadline)))
    });
    let first = stream::once(async { "\n".to_owned() });
    Box::pin(first.chain(lines).map(|line| Ok(Frame::data(Bytes::from(line)))))
}

/// `None` once nothing more can happen.
async fn next(follower: &mut Follower) -> Option<String> {
    Some(match timeout(SIGN_OF_LIFE, follower.next()).await {
        Ok(Some(News::Event(event))) => line(&event),
        Ok(Some(News::Missed(_))) | Err(_) => "\n".to_owned(),
        Ok(None) => return None,
    })
}

fn line(event: &Event) -> String {
    serde_json::to_string(event).expect("a report has a form in JSON") + "\n"
}
