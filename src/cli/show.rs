//! What the running service tells: its resources as tables, or as they are.

mod rows;

use std::path::Path;

use serde::de::DeserializeOwned;

use super::client::{Client, Failure, escape};
use super::table::{Screen, Tone};
use super::{Exit, say};
use crate::actors::control::report::{
    Certificate, Event, Interface, Peer, Registrations, Route, State, Status,
};

/// Bindings that are asked for at once.
const PAGE: usize = 5000;

/// `status`. Exits with 0 whatever the state is: it has been told.
pub(super) fn status(file: &Path, as_json: bool) -> Exit {
    show(file, "/status", as_json, |status: &Status, screen| rows::status(status, screen))
}

/// `interfaces`.
pub(super) fn interfaces(file: &Path, as_json: bool) -> Exit {
    show(file, "/interfaces", as_json, |interfaces: &Vec<Interface>, screen| {
        rows::interfaces(interfaces, screen)
    })
}

/// `routes`.
pub(super) fn routes(file: &Path, as_json: bool) -> Exit {
    show(file, "/routes", as_json, |routes: &Vec<Route>, screen| rows::routes(routes, screen))
}

/// `peers`.
pub(super) fn peers(file: &Path, as_json: bool) -> Exit {
    show(file, "/peers", as_json, |peers: &Vec<Peer>, screen| rows::peers(peers, screen))
}

/// `certificate`. Exits with 1 where there is none.
pub(super) fn certificate(file: &Path, as_json: bool) -> Exit {
    let mut exists = false;
    let exit = show(file, "/certificate", as_json, |certificate: &Option<Certificate>, screen| {
        exists = certificate.is_some();
        match certificate {
            Some(certificate) => rows::certificate(certificate),
            None => vec![screen.paint(Tone::Faint, "no certificate is configured (certificate.chain)")],
        }
    });
    if exit == Exit::Done && !exists { Exit::No } else { exit }
}

/// `registrations`. Exits with 1 where one address-of-record has none.
pub(super) fn registrations(file: &Path, of: Option<&str>, as_json: bool) -> Exit {
    let all = |client: &Client| -> Result<Registrations, Failure> {
        let first = match of {
            Some(of) => format!("/registrations?aor={}", escape(of)),
            None => format!("/registrations?limit={PAGE}"),
        };
        let (_, mut all): (_, Registrations) = client.get(&first)?;
        while let Some(next) = all.next.take() {
            let path = format!("/registrations?limit={PAGE}&after={}", escape(&next));
            let (_, page): (_, Registrations) = client.get(&path)?;
            all.registrations.extend(page.registrations);
            (all.count, all.next) = (page.count, page.next);
        }
        all.registrations.sort_by(|one, other| one.aor.cmp(&other.aor));
        Ok(all)
    };
    let client = match Client::new(file) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let all = match all(&client) {
        Ok(all) => all,
        Err(failure) => return failure.tell(),
    };
    say(&if as_json {
        serde_json::to_string(&all).expect("a report has a form in JSON")
    } else {
        rows::registrations(&all, Screen::new()).join("\n")
    });
    if of.is_some() && all.registrations.is_empty() { Exit::No } else { Exit::Done }
}

/// `events`.
pub(super) fn events(file: &Path, follow: bool, limit: u16, as_json: bool) -> Exit {
    if !follow {
        return show(file, &format!("/events?limit={limit}"), as_json, |events: &Vec<Event>, screen| {
            rows::events(events, screen)
        });
    }
    let client = match Client::new(file) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let screen = Screen::new();
    let line = |text: &str| match serde_json::from_str(text) {
        _ if text.is_empty() => true,
        Ok(event) if !as_json => say_all(&[rows::event(&event, screen)]),
        _ => say_all(&[text.to_owned()]),
    };
    match client.follow(&format!("/events?follow=true&limit={limit}"), std::future::pending(), line) {
        Ok(()) => Exit::Done,
        Err(failure) => failure.tell(),
    }
}

/// Prints a resource, as it is or as `lines` has it.
fn show<T: DeserializeOwned>(
    file: &Path,
    path: &str,
    as_json: bool,
    lines: impl FnOnce(&T, Screen) -> Vec<String>,
) -> Exit {
    let answered = Client::new(file).map(|client| client.get::<T>(path));
    match answered {
        Ok(Ok((text, value))) => {
            let lines = lines(&value, Screen::new());
            say(&if as_json { text } else { lines.join("\n") });
            Exit::Done
        }
        Ok(Err(failure)) => failure.tell(),
        Err(exit) => exit,
    }
}

/// Prints lines; false where nobody reads them.
fn say_all(lines: &[String]) -> bool {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    lines.iter().all(|line| writeln!(output, "{line}").is_ok())
}

/// The word for a state, as JSON has it.
const fn word(state: State) -> &'static str {
    match state {
        State::Starting => "starting",
        State::Ready => "ready",
        State::Impaired => "impaired",
        State::Draining => "draining",
    }
}
