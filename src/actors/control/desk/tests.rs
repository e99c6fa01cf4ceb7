//! Whatever is asked: an answer in the form that the contract has, by a handler that does not panic.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use actix::{Actor, Context, Handler, MessageResult, System};
use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Frame;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};

use super::*;
use crate::actors::control::report::Problem;
use crate::actors::directory::ConnectionLimits;
use crate::actors::supervisor::describe::{Describe, Times};
use crate::actors::testing::silent;

/// Answers as a supervisor does.
struct Stub(Description);

impl Actor for Stub {
    type Context = Context<Self>;
}

impl Handler<Describe> for Stub {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.0.clone())
    }
}

/// `test` tells its directory from that of others.
fn desk(test: &str) -> Rc<Desk> {
    let directory = std::env::temp_dir().join(format!("sip-proxy-desk-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("sip-proxy.toml");
    std::fs::write(&file, "[lan]\npassword = \"SECRET\"\n").unwrap();
    let (config, _) = crate::config::load(&file, std::iter::empty()).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let logs = Arc::new(Diagnostics::start(&config.diagnostics, std::io::sink()));
    let now = SystemTime::now();
    let description = Description {
        config: Arc::new(config),
        times: Times { started: now, begun: Instant::now(), configured: now },
        states: BTreeMap::new(),
        interfaces: Arc::default(),
        nat: None,
        shaper: Arc::default(),
        is_ready: true,
        is_stopping: false,
    };
    let supervisor = SupervisorAddress {
        describe: Stub(description).start().recipient(),
        reload: silent(),
        stop: silent(),
    };
    let limits = ConnectionLimits { total: 1, per_address: 1 };
    Rc::new(Desk::new(supervisor, Arc::new(Directory::new(1, 1, limits, [0; 16])), logs))
}

fn path() -> impl Strategy<Value = String> {
    // There is nobody here who could do these.
    let absent = [Resource::Reload, Resource::Drain, Resource::Stop];
    let known = TABLE.iter().filter(move |(.., resource)| !absent.contains(resource));
    let known = prop::sample::select(known.map(|(path, ..)| (*path).to_owned()).collect::<Vec<_>>());
    let name = prop::sample::select(vec!["aor", "limit", "after", "follow", "call_id", "x", ""]);
    let query = (name, "[a-z0-9%@:=&+]{0,12}").prop_map(|(name, value)| format!("?{name}={value}"));
    let query = prop_oneof![Just(String::new()), query];
    prop_oneof![(known, query).prop_map(|(path, query)| path + &query), "/[!-~&&[^#]]{0,40}"]
}

#[test]
fn whatever_is_asked_has_an_answer_in_its_form() {
    let system = System::new();
    let desk = system.block_on(async { desk("form") });
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"]);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "\\{\"(level|module)\": ?\"[a-z]{0,8}\"\\}".prop_map(String::into_bytes),
    ];
    let mut runner = TestRunner::new(Runs { cases: 512, failure_persistence: None, ..Runs::default() });
    let ran = runner.run(&(method, path(), body), |(method, path, body)| {
        let Ok(request) = Request::builder().method(method).uri(&path).body(Full::<Bytes>::from(body)) else {
            return Ok(());
        };
        let deadline = Deadline::new(Rc::new(Cell::new(false)));
        let visit = Visit { door: Rc::new(Door::Socket), peer: None, deadline };
        let response = system.block_on(Rc::clone(&desk).answer(request, visit));
        let (head, body) = response.into_parts();
        prop_assert!(head.headers.contains_key("x-content-type-options"));
        prop_assert_ne!(head.status, StatusCode::INTERNAL_SERVER_ERROR);
        let Either::Left(body) = body else { return Ok(()) };
        let body = system.block_on(body.collect()).unwrap().to_bytes();
        prop_assert!(!String::from_utf8_lossy(&body).contains("SECRET"));
        if head.status.as_u16() >= 400 && !path.starts_with("/health") {
            let problem: Problem = serde_json::from_slice(&body).expect("a Problem");
            prop_assert!(!problem.error.is_empty());
        }
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn the_page_of_the_resources_has_them_all() {
    let page = include_str!("../../../../docs/resources.md");
    let rows =
        page.lines().filter(|line| ["| `GET ", "| `PUT ", "| `POST "].iter().any(|it| line.starts_with(it)));
    let mut rows: Vec<_> = rows.filter_map(|line| line.split('`').nth(1)).map(str::to_owned).collect();
    let mut known: Vec<_> = TABLE.iter().map(|(path, method, _)| format!("{method} {path}")).collect();
    rows.sort();
    known.sort();
    assert_eq!(rows, known);
}

#[test]
fn a_handler_that_panics_answers_500_and_nobody_else_notices() {
    /// A body that panics when it is read.
    struct Trap;

    impl HttpBody for Trap {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            panic!("made to panic by a test");
        }
    }

    System::new().block_on(async {
        let desk = desk("trap");
        let visit = Visit { door: Rc::new(Door::Socket), peer: None, deadline: Deadline::new(Rc::default()) };
        let trap = Request::builder().uri("/status").body(Trap).unwrap();
        let response = Rc::clone(&desk).answer(trap, visit.clone()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let next = Request::builder().uri("/certificate").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(desk.answer(next, visit).await.status(), StatusCode::OK);
    });
}
