//! The last events: what of the log an administrator should see, kept in memory whatever the levels are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use super::levels::level_name;
use super::line::{Line, shortened};
use super::text;
use crate::config::LogLevel;

/// Events that are kept.
const KEPT: usize = 1_000;

/// Events that a follower may be behind before it misses some.
const BEHIND: usize = 256;

/// Modules whose records of level info are events.
const MODULES: [&str; 5] = ["config", "control", "journal", "stun", "supervisor"];

/// Records of level info that are events though their module has others: the module, and its events.
const SINGLE: [(&str, &[&str]); 4] = [
    ("federation_resolver", &["route_recovered"]),
    ("listener", &["listening"]),
    ("registrar", &["logged_off", "logged_on", "registrations_restored"]),
    ("router", &["peer_released"]),
];

/// Something that an administrator should know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// A number that grows by one from event to event, from 1.
    pub number: u64,
    /// When: RFC 3339 in UTC.
    pub time: String,
    /// `error`, `warning`, `info`.
    pub level: String,
    /// The module of the log.
    pub module: String,
    /// The name of the log's event.
    pub event: String,
    /// Its fields as the log has them, in order: `key=value key=value`.
    pub text: String,
}

/// The last 1,000 of them, and who follows.
#[derive(Debug)]
pub struct Events {
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    kept: VecDeque<Arc<Event>>,
    /// Of the latest.
    number: u64,
    /// `None` once the log has ended.
    news: Option<broadcast::Sender<Arc<Event>>>,
}

/// Reads events one after the other, from some that lie back to those that have not happened yet.
#[derive(Debug)]
pub struct Follower {
    before: VecDeque<Arc<Event>>,
    news: Option<broadcast::Receiver<Arc<Event>>>,
}

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The next event.
    Event(Arc<Event>),
    /// So many passed by while it was too slow.
    Missed(u64),
}

impl Events {
    pub(super) fn new() -> Self {
        let (news, _) = broadcast::channel(BEHIND);
        Self { ring: Mutex::new(Ring { kept: VecDeque::new(), number: 0, news: Some(news) }) }
    }

    /// The latest `count`, at most 1,000, the latest last.
    pub fn last(&self, count: usize) -> Vec<Event> {
        self.ring().last(count).map(|event| Event::clone(event)).collect()
    }

    /// The latest `count`, and from then on every one, without a gap.
    pub fn follow(&self, count: usize) -> Follower {
        let ring = self.ring();
        let news = ring.news.as_ref().map(broadcast::Sender::subscribe);
        Follower { before: ring.last(count).cloned().collect(), news }
    }

    /// Takes a line, if it is one.
    pub(super) fn note(&self, line: &Line) {
        if !is_event(line.level, &line.module, &line.event) {
            return;
        }
        let mut ring = self.ring();
        ring.number += 1;
        let event = Arc::new(Event::new(ring.number, line));
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(Arc::clone(&event));
        if let Some(news) = &ring.news {
            // Nobody need follow.
            let _ = news.send(event);
        }
    }

    /// Nothing more happens: followers come to an end.
    pub(super) fn end(&self) {
        self.ring().news = None;
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn last(&self, count: usize) -> impl Iterator<Item = &Arc<Event>> {
        self.kept.iter().skip(self.kept.len().saturating_sub(count))
    }
}

impl Event {
    fn new(number: u64, line: &Line) -> Self {
        let (mut time, mut text) = (String::new(), String::new());
        line.write_time(&mut time);
        text::write_fields(line, &mut text);
        Self {
            number,
            time,
            level: level_name(line.level).to_owned(),
            module: line.module.clone(),
            event: line.event.clone(),
            text: shortened(text),
        }
    }
}

impl Follower {
    /// The next one; `None` once the log has ended.
    pub async fn next(&mut self) -> Option<News> {
        if let Some(event) = self.before.pop_front() {
            return Some(News::Event(event));
        }
        match self.news.as_mut()?.recv().await {
            Ok(event) => Some(News::Event(event)),
            Err(RecvError::Lagged(count)) => Some(News::Missed(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Whether a record of this kind is an event.
pub(super) fn is_event(level: LogLevel, module: &str, event: &str) -> bool {
    match level {
        LogLevel::Error | LogLevel::Warning => true,
        LogLevel::Info => {
            MODULES.contains(&module)
                || SINGLE.iter().any(|(known, events)| *known == module && events.contains(&event))
        }
        LogLevel::Debug | LogLevel::Trace => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: LogLevel, module: &str, event: &str) -> Line {
        Line {
            time: 0,
            level,
            is_written: true,
            module: module.to_owned(),
            event: event.to_owned(),
            fields: Vec::new(),
        }
    }

    fn names(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.event.as_str()).collect()
    }

    #[test]
    fn warnings_of_all_and_what_the_service_says_of_itself_are_events() {
        let events = Events::new();
        let table = [
            (LogLevel::Error, "journal", "a", true),
            (LogLevel::Warning, "rustls", "b", true),
            (LogLevel::Info, "supervisor", "c", true),
            (LogLevel::Debug, "supervisor", "d", false),
            (LogLevel::Info, "registrar", "logged_on", true),
            (LogLevel::Info, "registrar", "e", false),
            (LogLevel::Info, "router", "logged_on", false),
            (LogLevel::Info, "router", "answered", false),
        ];
        for (level, module, event, _) in table {
            events.note(&line(level, module, event));
        }
        let told: Vec<_> = table.iter().filter(|row| row.3).map(|row| row.2).collect();
        assert_eq!(names(&events.last(KEPT)), told);
        assert_eq!(events.last(2).iter().map(|event| event.number).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let events = Events::new();
        for _ in 0..KEPT + 5 {
            events.note(&line(LogLevel::Warning, "tls", "said"));
        }
        let all = events.last(usize::MAX);
        assert_eq!((all.len(), all[0].number, all[KEPT - 1].number), (KEPT, 6, KEPT as u64 + 5));
    }

    #[test]
    fn a_follower_sees_every_event_once_and_is_told_how_many_it_missed() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let events = Events::new();
            let note = |event: &str| events.note(&line(LogLevel::Warning, "tls", event));
            let next = async |follower: &mut Follower| match follower.next().await {
                Some(News::Event(event)) => event.event.clone(),
                other => format!("{other:?}"),
            };
            note("before");
            note("just_before");
            let mut follower = events.follow(1);
            note("after");
            assert_eq!(next(&mut follower).await, "just_before");
            assert_eq!(next(&mut follower).await, "after");
            for _ in 0..BEHIND + 3 {
                note("many");
            }
            assert_eq!(follower.next().await, Some(News::Missed(3)));
            for _ in 0..BEHIND {
                assert_eq!(next(&mut follower).await, "many");
            }
            events.end();
            assert_eq!(follower.next().await, None);
            assert_eq!(events.follow(0).next().await, None);
        });
    }
}
