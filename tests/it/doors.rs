//! The control socket and `[admin] listen` as HTTP has it: who gets a connection, HEAD, and the forms of the metrics.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use crate::common::http::{HttpAnswer, ask_network, exchange, http_request};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::control::with_admin;
use crate::support::{LIMIT, Site, open_house};

/// Connections of one address at `[admin] listen`, and of all together.
const SHARE: usize = 16;
const ALL: usize = 64;

async fn connect(from: IpAddr, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a TCP socket");
    socket.bind(SocketAddr::new(from, 0)).expect("a TCP port of loopback");
    socket.connect(address).await.expect("it listens")
}

async fn health(from: IpAddr, address: SocketAddr) -> HttpAnswer {
    let request = http_request("GET", "/health", &[("Host", "localhost")], "");
    HttpAnswer::parse(&exchange(connect(from, address).await, request.as_bytes()).await)
}

/// Follows events: connections that stay, each with its place once this has returned.
async fn follow(from: IpAddr, address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let request = http_request("GET", "/events?follow=true&limit=0", &[("Host", "localhost")], "");
    let mut followers = Vec::new();
    for _ in 0..count {
        let mut stream = connect(from, address).await;
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("it answers");
        assert_eq!(&first, b"HTTP/1.1 200");
        followers.push(stream);
    }
    followers
}

#[test]
fn an_address_that_has_its_share_of_connections_locks_nobody_else_out() {
    run(2 * LIMIT, async {
        let (site, address) = with_admin(|settings| settings).await;
        let (greedy, modest) = (loopback(), loopback());
        let mut followers = follow(greedy, address, SHARE).await;
        let refused = health(greedy, address).await;
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
        assert!(refused.problem().contains("from this address; end one of them"), "{}", refused.body);
        assert_eq!(health(modest, address).await.status, 200);
        let peer = format!("peer={greedy}:");
        site.proxy.logs(&["warning security admin_refused", &peer, "status=429"]).await;
        // One ends, and there is room for another.
        drop(followers.pop());
        while health(greedy, address).await.status != 200 {}
        followers.extend(follow(greedy, address, 1).await);
        // Many together can still take all; whoever has no share then is told another reason.
        for _ in 0..ALL / SHARE - 1 {
            followers.extend(follow(loopback(), address, SHARE).await);
        }
        assert_eq!((health(modest, address).await.status, health(greedy, address).await.status), (503, 429));
        let peer = format!("peer={modest}:");
        site.proxy.logs(&["warning security admin_refused", &peer, "status=503"]).await;
        assert_eq!(site.proxy.asked("GET", "/health", "").await.status, 200);
    });
}

#[test]
fn a_flood_of_connections_leaves_few_lines() {
    run(2 * LIMIT, async {
        let (site, address) = with_admin(|settings| settings).await;
        let greedy = loopback();
        let _followers = follow(greedy, address, SHARE).await;
        for _ in 0..200 {
            // Beyond those that are answered at leisure, the connection is closed before or after its answer.
            let mut stream = connect(greedy, address).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        site.proxy.logs(&["admin_refused", "status=429"]).await;
        // A line that comes later than all of those.
        assert_eq!(site.proxy.asked("PUT", "/log-level", "{\"level\":\"info\"}").await.status, 204);
        site.proxy.logs(&["log_level_changed"]).await;
        let lines = site.proxy.log().matches("admin_refused").count();
        assert!(lines < 100, "{lines} lines");
    });
}

#[test]
fn a_head_has_the_headers_of_a_get_and_no_effect() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        for path in [
            "/",
            "/status",
            "/interfaces",
            "/routes",
            "/peers",
            "/registrations",
            "/registrations?limit=0",
            "/certificate",
            "/events",
            "/health",
            "/metrics",
            "/trace",
            "/reload",
            "/nowhere",
        ] {
            let (get, head) =
                (site.proxy.asked("GET", path, "").await, site.proxy.asked("HEAD", path, "").await);
            assert_eq!((head.status, &*head.body), (get.status, ""), "{path}");
            for name in ["content-type", "cache-control", "vary", "etag", "allow", "x-frame-options"] {
                assert_eq!(head.header(name), get.header(name), "{path} {name}");
            }
        }
        // More than there may be traces at one time.
        for _ in 0..8 {
            for path in ["/trace?all=true", "/events?follow=true"] {
                let head = site.proxy.asked("HEAD", path, "").await;
                assert_eq!((head.status, &*head.body), (200, ""), "{path}");
                assert_eq!(head.header("content-type"), Some("application/x-ndjson"), "{path}");
            }
        }
        assert_eq!(site.proxy.asked("HEAD", "/trace?all=perhaps", "").await.status, 400);
        let request = http_request("GET", "/trace?all=true", &[("Host", "localhost")], "");
        let mut traces = Vec::new();
        for _ in 0..4 {
            let mut stream = UnixStream::connect(site.proxy.control_socket()).await.expect("it listens");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.expect("it answers");
            assert_eq!(&first, b"HTTP/1.1 200");
            traces.push(stream);
        }
        assert_eq!(site.proxy.asked("HEAD", "/trace?all=true", "").await.status, 429);
        assert_eq!(site.proxy.asked("PUT", "/log-level", "{\"level\":\"info\"}").await.status, 204);
        site.proxy.logs(&["log_level_changed"]).await;
        assert_eq!(site.proxy.log().matches("trace_begun").count(), 4);
    });
}

/// Every queue that is told, and whether its capacity is.
const QUEUES: [(&str, bool); 8] = [
    ("log", true),
    ("peer_requests", false),
    ("look_up_requests", true),
    ("look_up_questions", true),
    ("look_ups", true),
    ("router_batches", true),
    ("datagrams", true),
    ("stream_messages", false),
];

/// Those that samples of `sip_proxy_queue_...` name.
fn queues<'a>(metrics: &'a str, what: &str) -> Vec<&'a str> {
    let start = format!("sip_proxy_queue_{what}{{queue=\"");
    metrics.lines().filter_map(|line| line.strip_prefix(&start)?.split('"').next()).collect()
}

#[test]
fn every_queue_of_the_metrics_is_documented() {
    let page = include_str!("../../docs/metrics.md");
    let (_, table) = page.split_once("\n| queue | ").expect("a table of queues");
    let (table, _) = table.split_once("\n\n").expect("an end");
    let rows: Vec<_> =
        table.lines().filter_map(|row| row.strip_prefix("| `")).map(|row| row.split('`').next()).collect();
    assert_eq!(rows, QUEUES.map(|(name, _)| Some(name)));
}

#[test]
fn metrics_come_in_the_form_that_is_asked_for() {
    run(LIMIT, async {
        let (_site, address) = with_admin(|settings| settings).await;
        let ask = async |accept: Option<&str>| {
            let rows: Vec<_> =
                [("Host", "localhost")].into_iter().chain(accept.map(|it| ("Accept", it))).collect();
            let answer = ask_network(address, "GET", "/metrics", &rows, "").await;
            assert_eq!((answer.status, answer.header("vary")), (200, Some("accept")), "{accept:?}");
            answer
        };
        let of_prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                             application/openmetrics-text;version=0.0.1;q=0.4,\
                             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                             text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in [of_prometheus, "application/openmetrics-text; version=1.0.0"] {
            let open = ask(Some(accept)).await;
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            assert_eq!(open.header("content-type"), Some(kind));
            assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
            assert!(open.body.contains("\n# TYPE sip_proxy_requests counter\n"), "{}", open.body);
            assert!(open.body.contains("\n# UNIT sip_proxy_response_time_seconds seconds\n"));
        }
        for accept in [None, Some("*/*"), Some("text/plain;version=0.0.4"), Some("application/json")] {
            let classic = ask(accept).await;
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            assert_eq!(classic.header("content-type"), Some(kind), "{accept:?}");
            let text = classic.body;
            assert!(text.contains("\n# TYPE sip_proxy_requests_total counter\n"), "{text}");
            assert!(
                text.contains("\nsip_proxy_requests_total{method=\"MESSAGE\",direction=\"in\"} "),
                "{text}"
            );
            assert!(text.contains("\nsip_proxy_routers_counted "), "{text}");
            assert_eq!(queues(&text, "length"), QUEUES.map(|(name, _)| name), "{text}");
            let bounded = QUEUES.iter().filter(|(_, is_bounded)| *is_bounded).map(|(name, _)| *name);
            assert_eq!(queues(&text, "capacity"), bounded.collect::<Vec<_>>(), "{text}");
            assert!(!["# EOF", "# UNIT", "{}"].iter().any(|part| text.contains(part)), "{text}");
        }
    });
}
