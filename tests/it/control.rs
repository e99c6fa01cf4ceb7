//! The control socket, `[admin] listen`, and the commands that ask the running service.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::common::agent::Agent;
use crate::common::http::{HttpAnswer, ask_network, ask_socket, exchange, http_request};
use crate::common::process::Process;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::run;
use crate::common::scratch::{Directory, free_port};
use crate::support::{LIMIT, Site, Wire, open_house};

impl Proxy {
    /// Where the service is asked: the default.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.directory().path().join("var/run/control.sock")
    }

    pub(crate) async fn asked(&self, method: &str, path: &str, body: &str) -> HttpAnswer {
        ask_socket(&self.control_socket(), method, path, body).await
    }

    /// `GET path`, which must be there.
    pub(crate) async fn resource(&self, path: &str) -> Value {
        self.resource_at(&self.control_socket(), path).await
    }

    /// The same of a socket that is not the default.
    async fn resource_at(&self, socket: &Path, path: &str) -> Value {
        let answer = ask_socket(socket, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Runs a command of ours with its configuration.
    async fn command(&self, arguments: &[&str]) -> Output {
        command(&self.directory().path().join("sip-proxy.toml"), arguments).await
    }
}

async fn command(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    command.arg("--config").arg(file).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("Cargo has built the binary")
}

/// What a command has printed, where it ends with `status`.
#[track_caller]
fn printed(output: &Output, status: i32) -> String {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{text}\n{errors}");
    text.into_owned()
}

#[test]
fn the_service_says_how_it_is() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let status = site.proxy.resource("/status").await;
        assert_eq!(status["state"], "ready", "{status:#}");
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["presence_domains"][0], "example.org");
        let lan = &status["interfaces"][0];
        assert_eq!((&lan["key"], &lan["status"]), (&"lan".into(), &"listening".into()), "{lan}");
        assert_eq!(lan["port"], site.proxy.at(Protocol::Tcp).port());
        let health = site.proxy.asked("GET", "/health", "").await;
        assert_eq!((health.status, &*health.body), (200, "ok"));
        let output = site.proxy.command(&["status"]).await;
        let text = printed(&output, 0);
        assert!(text.contains("ready for") && text.contains("listening"), "{text}");
        assert!(!text.contains('\x1b'), "no colour but on a terminal: {text:?}");
        let json: Value =
            serde_json::from_str(&printed(&site.proxy.command(&["status", "--json"]).await, 0)).unwrap();
        assert_eq!(json["interfaces"], status["interfaces"]);
    });
}

/// A site with everything in it: two UC servers, peers, a route that is ill, an interface that cannot listen, and some that
/// are switched off.
struct Busy {
    site: Site,
    _servers: Vec<Agent>,
    peer: Wire,
    _taken: TcpListener,
    taken_port: u16,
}

impl Busy {
    async fn open() -> Self {
        let settings = open_house().listen_outside(Protocol::Tcp);
        let ip = settings.ip();
        let taken = TcpListener::bind((ip, 0)).expect("a port");
        let taken_port = taken.local_addr().expect("bound").port();
        let closed = free_port(ip);
        let text = format!(
            "[[lan.network_interface]]\nip_address = \"{ip}\"\nport = {taken_port}\nprotocol = \"tcp\"\n\
             [[lan.network_interface]]\nenabled = false\nip_address = \"{ip}\"\nport = 7\nprotocol = \"udp\"\n\
             [[static_routes.route]]\ndomain_name = \"ill.test\"\naccess_server = \"{ip}\"\nport = {closed}\n\
             transport_protocol = \"tcp\"\ntrusted = true\n\
             [[static_routes.route]]\nenabled = false\ndomain_name = \"off.test\"\naccess_server = \"{ip}\"\n\
             transport_protocol = \"tcp\"\n"
        );
        let settings = settings.key("static_routes", "probe_interval", "\"1s\"").text(&text);
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut servers = site.servers(Protocol::Tcp, 2).await;
        servers[0].register("example.org", "alice", "nobody", "nothing").await;
        let peer = Wire::tcp(site.proxy.outside_at(Protocol::Tcp)).await;
        site.proxy.logs(&["connection_opened", &peer.local().to_string()]).await;
        site.proxy.logs(&["route_failed", "ill.test"]).await;
        Self { site, _servers: servers, peer, _taken: taken, taken_port }
    }
}

fn by<'a>(rows: &'a Value, key: &str, value: &str) -> &'a Value {
    let rows = rows.as_array().unwrap_or_else(|| panic!("no list: {rows}"));
    let row = rows.iter().find(|row| row[key] == value);
    row.unwrap_or_else(|| panic!("none has {key}={value}: {rows:#?}"))
}

#[test]
fn every_resource_and_its_command_tell_what_is_there() {
    run(LIMIT, async {
        let busy = Busy::open().await;
        let proxy = &busy.site.proxy;
        let status = proxy.resource("/status").await;
        assert_eq!(status["state"], "impaired");
        assert_eq!(status["unanswered"], json!([]));

        let interfaces = &status["interfaces"];
        let deaf = by(interfaces, "key", "lan.network_interface[0]");
        assert_eq!((&deaf["status"], &deaf["port"]), (&json!("not_listening"), &json!(busy.taken_port)));
        assert!(deaf["reason"].as_str().is_some_and(|reason| reason.contains("in use")), "{deaf}");
        let off = by(interfaces, "key", "lan.network_interface[1]");
        assert_eq!((&off["status"], &off["enabled"]), (&json!("disabled"), &json!(false)));
        assert_eq!(by(interfaces, "key", "lan")["connections"], 2);
        assert_eq!(by(interfaces, "key", "wan.network_interface[0]")["connections"], 1);

        let ill = by(&status["routes"], "domain_name", "ill.test");
        assert_eq!((&ill["health"], &ill["reason"]), (&json!("ill"), &json!("no connection")));
        assert_eq!(ill["addresses"][0], proxy.ip().to_string());
        assert_eq!(by(&status["routes"], "domain_name", "off.test")["health"], "disabled");

        let servers = status["servers"].as_array().expect("a list");
        assert_eq!(servers.len(), 2);
        assert!(servers.iter().all(|server| server["account"] == "uc" && server["by"] == "registration"));
        assert_eq!(status["registrations"], json!({"addresses_of_record": 3, "bindings": 3}));
        let peer = by(&status["peers"], "direction", "in");
        assert_eq!(peer["peer"], format!("tcp:{}", busy.peer.local()));
        assert_eq!(status["certificate"]["days_left"].as_i64().map(|days| days > 0), Some(true));
        assert_eq!(status["endpoints"][0]["status"], "listening");
        assert!(!status["events"].as_array().expect("a list").is_empty());
        by(&status["events"], "event", "route_failed");

        for (path, key) in
            [("/interfaces", "interfaces"), ("/routes", "routes"), ("/certificate", "certificate")]
        {
            assert_eq!(proxy.resource(path).await, status[key], "{path}");
        }
        assert_eq!(proxy.resource("/events?limit=2").await.as_array().map(Vec::len), Some(2));
        let metrics = proxy.asked("GET", "/metrics", "").await;
        assert!(metrics.body.contains("\nsip_proxy_bindings 3\n"), "{}", metrics.body);

        for (arguments, parts) in [
            (&["status"][..], &["impaired for", "Network interfaces", "UC servers", "route_failed"][..]),
            (&["interfaces"], &["INTERFACE", "not_listening", "Address already in use"]),
            (&["routes"], &["ACCESS SERVER", "ill.test", "no connection", "disabled"]),
            (&["peers"], &["DIRECTION", "wan.network_interface[0]"]),
            (&["registrations"], &["sip:alice@example.org", "sip:seat-0@example.org"]),
            (&["registrations", "alice@example.org"], &["sip:alice@example.org"]),
            (&["certificate"], &["valid to", "days left"]),
            (&["events", "--limit", "1000"], &["supervisor ready", "route_failed"]),
        ] {
            let text = printed(&proxy.command(arguments).await, 0);
            assert!(parts.iter().all(|part| text.contains(part)), "{arguments:?} {parts:?}:\n{text}");
            let arguments = [arguments, &["--json"]].concat();
            let text = printed(&proxy.command(&arguments).await, 0);
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{arguments:?}: {text}");
        }
        busy.site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn registrations_come_in_pages_that_miss_and_repeat_nobody() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut server = site.connect(Protocol::Tcp).await;
        for user in 0..50 {
            server.register("example.org", &format!("user-{user}"), "nobody", "nothing").await;
        }
        let (mut found, mut next, mut pages) = (BTreeSet::new(), String::new(), 0);
        loop {
            let page = site.proxy.resource(&format!("/registrations?limit=7{next}")).await;
            assert_eq!(page["count"]["bindings"], 50);
            let rows = page["registrations"].as_array().expect("a list");
            assert!(rows.len() <= 7);
            for row in rows {
                assert!(found.insert(row["aor"].to_string()), "{row} comes twice");
                assert!(row["expires_seconds"].as_u64().is_some_and(|seconds| seconds > 0));
            }
            pages += 1;
            let Some(name) = page["next"].as_str() else { break };
            next = format!("&after={}", name.replace('@', "%40"));
        }
        assert_eq!((found.len(), pages >= 8), (50, true));
        let one = site.proxy.resource("/registrations?aor=sip:user-7@EXAMPLE.org").await;
        assert_eq!(one["registrations"].as_array().map(Vec::len), Some(1));
        let output = site.proxy.command(&["registrations", "nobody@example.org"]).await;
        assert!(printed(&output, 1).contains("nobody is registered"));
    });
}

#[test]
fn what_makes_no_sense_is_told_what_would() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let level = "{\"level\":\"loud\"}";
        let module = "{\"module\":\"rooter\",\"level\":\"debug\"}";
        let large = " ".repeat(100_000);
        for (method, path, body, status, part) in [
            ("GET", "/nowhere", "", 404, "there is no /nowhere, allowed: "),
            ("GET", "/status/", "", 404, "/status"),
            ("POST", "/status", "", 405, "allowed: GET, HEAD"),
            ("GET", "/log-level", "", 405, "allowed: PUT"),
            ("GET", "/reload", "", 405, "allowed: POST"),
            ("GET", "/status?x=1", "", 400, "`x` is no parameter here, allowed: none"),
            ("GET", "/registrations?limit=0", "", 400, "allowed: 1 to 10000"),
            ("GET", "/registrations?aor=%00", "", 400, "allowed: sip:user@domain"),
            ("GET", "/events?follow=perhaps", "", 400, "allowed: true or false"),
            ("PUT", "/log-level", "", 400, "allowed: {"),
            ("PUT", "/log-level", "{", 400, "allowed: {"),
            ("PUT", "/log-level", level, 400, "`loud` is no level, allowed: error warning info debug trace"),
            ("PUT", "/log-level", module, 400, "`rooter` is no module, allowed: "),
            ("PUT", "/log-level", &large, 413, "allowed: 65536 octets"),
        ] {
            let answer = site.proxy.asked(method, path, body).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
            assert!(answer.problem().contains(part), "{method} {path}: {}", answer.problem());
            let allow = (status == 405).then(|| answer.header("allow").unwrap_or_default().to_owned());
            assert!(allow.is_none_or(|allow| part.ends_with(&allow)), "{method} {path}");
        }
        let head = site.proxy.asked("HEAD", "/status", "").await;
        assert_eq!((head.status, &*head.body), (200, ""));
        for name in
            ["content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"]
        {
            assert!(head.header(name).is_some(), "{name}");
        }
        assert_eq!(head.header("access-control-allow-origin"), None);
    });
}

#[test]
fn log_levels_change_at_once() {
    run(LIMIT, async {
        let settings = open_house().key("diagnostics", "log_level", "\"warning\"");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let text = printed(&site.proxy.command(&["log-level", "connection=debug"]).await, 0);
        assert!(text.contains("the log level of connection is debug"), "{text}");
        let _agent = site.connect(Protocol::Tcp).await;
        site.proxy.logs(&["debug connection connection_opened"]).await;
        printed(&site.proxy.command(&["log-level", "error"]).await, 0);
        let settings = site.proxy.resource("/status").await["settings"].clone();
        assert_eq!(
            (&settings["log_level"], &settings["module_log_levels"]["connection"]),
            (&"error".into(), &"debug".into())
        );
        let refused = site.proxy.command(&["log-level", "nobody=info"]).await;
        printed(&refused, 1);
        assert!(String::from_utf8_lossy(&refused.stderr).contains("`nobody` is no module"));
        for bad in ["loud", "=debug", "router=loud"] {
            printed(&site.proxy.command(&["log-level", bad]).await, 2);
        }
    });
}

#[test]
fn events_are_followed_as_they_happen() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let stream = UnixStream::connect(site.proxy.control_socket()).await.expect("it listens");
        let mut lines = BufReader::new(stream);
        let request = http_request("GET", "/events?follow=true&limit=0", &[("Host", "x")], "");
        lines.write_all(request.as_bytes()).await.expect("it reads");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
        let file = site.proxy.directory().path().join("sip-proxy.toml");
        let follower = Process::start(
            "events",
            command.arg("--config").arg(&file).args(["events", "--follow", "--limit", "1"]),
        );
        follower.prints("supervisor ready", LIMIT).await;
        let _server = site.server(Protocol::Tcp, "alice").await;
        let mut line = String::new();
        while !line.contains("\"logged_on\"") {
            line.clear();
            assert!(lines.read_line(&mut line).await.expect("text") > 0, "it ends");
        }
        let event: Value = serde_json::from_str(&line).expect("an object");
        assert_eq!((&event["module"], &event["level"]), (&"registrar".into(), &"info".into()));
        follower.prints("registrar logged_on", LIMIT).await;
    });
}

/// A proxy with `[admin] listen`, and where.
pub(crate) async fn with_admin(more: impl FnOnce(Settings) -> Settings) -> (Site, SocketAddr) {
    let settings = open_house();
    let address = SocketAddr::new(settings.ip(), free_port(settings.ip()));
    let settings = more(settings.key("admin", "listen", &format!("\"{address}\"")));
    let site = Site::open(settings, &[Protocol::Tcp]).await;
    site.proxy.logs(&["admin_listening"]).await;
    (site, address)
}

#[test]
fn on_the_network_pages_of_other_sites_get_nothing() {
    run(LIMIT, async {
        let (_site, address) = with_admin(|settings| settings).await;
        let host = address.to_string();
        let (host, ours) = (("Host", &*host), ("X-Sip-Proxy", "1"));
        let level = "{\"level\":\"info\"}";
        for (method, rows, status) in [
            ("GET", &[host][..], 200),
            ("GET", &[("Host", "localhost")], 200),
            ("GET", &[("Host", "rebound.test")], 403),
            ("GET", &[host, ("Sec-Fetch-Site", "cross-site")], 403),
            ("GET", &[host, ("Origin", "http://evil.test")], 403),
            ("PUT", &[host], 403),
            ("PUT", &[host, ours, ("Origin", "http://evil.test")], 403),
            ("PUT", &[host, ours], 204),
        ] {
            let path = if method == "GET" { "/status" } else { "/log-level" };
            let answer = ask_network(address, method, path, rows, level).await;
            assert_eq!(answer.status, status, "{method} {rows:?}: {}", answer.body);
        }
    });
}

#[test]
fn a_token_is_asked_for_where_one_is_configured() {
    run(LIMIT, async {
        let (site, address) = with_admin(|settings| {
            settings.file("token", "s3cret-t0ken\n").key("admin", "token_file", "\"token\"")
        })
        .await;
        let host = ("Host", "proxy.test");
        for (shown, status) in [("Bearer s3cret-t0ken", 200), ("Bearer s3cret-t0keN", 401), ("Bearer", 401)] {
            let answer = ask_network(address, "GET", "/health", &[host, ("Authorization", shown)], "").await;
            assert_eq!(answer.status, status, "{shown}");
        }
        let answer = ask_network(address, "GET", "/health", &[host], "").await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
        site.proxy
            .logs(&["warning security admin_refused peer=127.", "path=/health status=401", "token"])
            .await;
        // The owner of the socket needs none.
        assert_eq!(site.proxy.asked("GET", "/health", "").await.status, 200);
    });
}

#[test]
fn no_resource_tells_a_secret() {
    run(LIMIT, async {
        let hash = "5ec4e7".repeat(11)[..64].to_owned();
        let (site, address) = with_admin(|settings| {
            settings
                .account("marked", "SECRET-password")
                .account_rows("user_name = \"from-file\"\npassword_file = \"password\"\n")
                .account_rows(&format!("user_name = \"hashed\"\nha1_sha256 = \"{hash}\"\n"))
                .file("password", "SECRET-from-file\n")
                .file("token", "SECRET-token\n")
                .key("admin", "token_file", "\"token\"")
                .text("[[registrar.account]]\nuser_name = \"guest\"\npassword = \"SECRET-guest\"\nusers = [\"*@example.org\"]\n")
        })
        .await;
        let key = std::fs::read_to_string(site.proxy.directory().path().join("proxy.key")).expect("a key");
        let key = key.lines().nth(1).expect("its first line").to_owned();
        let rows = [("Host", "x"), ("Authorization", "Bearer SECRET-token"), ("X-Sip-Proxy", "1")];
        let paths = [
            "/status",
            "/interfaces",
            "/routes",
            "/peers",
            "/registrations",
            "/certificate",
            "/events?limit=1000",
            "/metrics",
            "/health",
        ];
        let mut all = String::new();
        for path in paths {
            let answer = ask_network(address, "GET", path, &rows, "").await;
            assert_eq!(answer.status, 200, "{path}");
            all.push_str(&answer.body);
        }
        for path in ["/nowhere", "/registrations?limit=x"] {
            all.push_str(&ask_network(address, "GET", path, &rows, "").await.body);
        }
        assert!(all.contains("\"marked\"") && all.contains("\"hashed\"") && all.contains("\"guest\""));
        for secret in ["SECRET", &hash, &key] {
            assert!(!all.contains(secret), "{secret} is told");
        }
    });
}

#[test]
fn whatever_is_sent_gets_an_answer_and_hurts_nobody() {
    run(2 * LIMIT, async {
        let (site, address) = with_admin(|settings| settings).await;
        let socket = site.proxy.control_socket();
        let huge = format!("GET /status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(40_000));
        let many = format!("GET /status HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(1000));
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000));
        let noise: Vec<u8> =
            (0..5000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let cases: [(&[u8], &[u16]); 7] = [
            (b"OPTIONS sip:x SIP/2.0\r\n\r\n", &[400]),
            (b"\r\n\r\n\r\n\0\0", &[400]),
            (b"GET / HTTP/9.9\r\n\r\n", &[400, 505]),
            (&noise, &[400]),
            (huge.as_bytes(), &[431]),
            (many.as_bytes(), &[431]),
            (long.as_bytes(), &[414, 431]),
        ];
        for (octets, expected) in cases {
            let over_socket = exchange(UnixStream::connect(&socket).await.expect("it listens"), octets).await;
            let over_network = exchange(TcpStream::connect(address).await.expect("it listens"), octets).await;
            for answer in [over_socket, over_network] {
                // A peer that is still writing when it is refused may see the connection's end alone.
                let status = (!answer.is_empty()).then(|| HttpAnswer::parse(&answer).status);
                assert!(status.is_none_or(|status| expected.contains(&status)), "{status:?} {expected:?}");
            }
        }
        // Half a request, and then nothing or the end.
        let mut half = UnixStream::connect(&socket).await.expect("it listens");
        half.write_all(b"PUT /log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            .await
            .expect("it reads");
        drop(half);
        let slow = UnixStream::connect(&socket).await.expect("it listens");
        // A thousand that say nothing: some of them are told that there are too many, none is kept for long.
        let mut idle = Vec::new();
        for _ in 0..1000 {
            idle.extend(UnixStream::connect(&socket).await.ok());
        }
        site.is_well(Protocol::Tcp).await;
        let last = idle.pop().expect("some connect");
        let answer = HttpAnswer::parse(&exchange(last, b"").await);
        assert_eq!(answer.status, 503);
        assert!(answer.problem().contains("too many connections"));
        assert_eq!(ask_network(address, "GET", "/health", &[("Host", "localhost")], "").await.status, 200);
        // The one that has said nothing is given up.
        let begun = std::time::Instant::now();
        exchange(slow, b"").await;
        assert!(begun.elapsed() < Duration::from_secs(15));
        drop(idle);
        let health = eventually_asked(&socket).await;
        assert_eq!((health.status, &*health.body), (200, "ok"));
    });
}

#[test]
fn stop_and_drain_wait_until_the_service_has_ended() {
    run(LIMIT, async {
        for command in ["stop", "drain"] {
            let mut site = Site::open(open_house(), &[Protocol::Tcp]).await;
            let said = printed(&site.proxy.command(&[command]).await, 0);
            assert!(said.contains("the service has ended"), "{said}");
            assert!(site.proxy.ends().await.success(), "{command}");
            printed(&site.proxy.command(&[command]).await, 69);
        }
    });
}

#[test]
fn a_reload_tells_what_has_changed_or_every_fault() {
    run(LIMIT, async {
        let (site, address) = with_admin(|settings| settings).await;
        let file = site.proxy.directory().path().join("sip-proxy.toml");
        let text = std::fs::read_to_string(&file).expect("a file");
        assert!(printed(&site.proxy.command(&["reload"]).await, 0).contains("nothing has changed"));
        std::fs::write(&file, format!("{text}\n[stun]\nservers = [\"?\"]\n[nonsense]\n")).expect("written");
        let refused = printed(&site.proxy.command(&["reload"]).await, 78);
        assert!(
            refused.contains("stun.servers[0]: `?`") && refused.contains("nothing has been changed"),
            "{refused}"
        );
        let json = site.proxy.asked("POST", "/reload", "").await;
        assert_eq!((json.status, json.json()["faults"].as_array().map(Vec::len)), (422, Some(2)));
        // The place on the network moves, too.
        let moved = SocketAddr::new(address.ip(), free_port(address.ip()));
        let text = text.replace(&address.to_string(), &moved.to_string());
        std::fs::write(&file, text).expect("written");
        let changed = printed(&site.proxy.command(&["reload"]).await, 0);
        assert!(changed.contains("admin.listen") && changed.contains(&moved.to_string()), "{changed}");
        site.proxy.logs(&["admin_listening", &moved.to_string()]).await;
        assert_eq!(ask_network(moved, "GET", "/health", &[("Host", "localhost")], "").await.status, 200);
        assert!(TcpStream::connect(address).await.is_err());
    });
}

/// `GET /health`, as soon as there is room.
async fn eventually_asked(socket: &Path) -> HttpAnswer {
    loop {
        let answer = ask_socket(socket, "GET", "/health", "").await;
        if answer.status != 503 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_socket_that_another_service_answers_on_is_left_to_it() {
    run(LIMIT, async {
        let mut first = Site::open(open_house(), &[Protocol::Tcp]).await;
        let socket = first.proxy.control_socket();
        let quoted = format!("{:?}", socket.display().to_string());
        let second =
            Site::open(open_house().key("service", "control_socket", &quoted), &[Protocol::Tcp]).await;
        let line = second
            .proxy
            .logs(&["error control control_not_listening", "another process answers on it"])
            .await;
        assert!(line.contains("remedy="), "{line}");
        second.is_well(Protocol::Tcp).await;
        let status = first.proxy.resource("/status").await;
        assert_eq!(status["interfaces"][0]["port"], first.proxy.at(Protocol::Tcp).port());
        // What the first one leaves is stale, and the second takes it over.
        first.proxy.kill().await;
        second.proxy.logs(&["control_listening"]).await;
        let status = second.proxy.resource_at(&socket, "/status").await;
        assert_eq!(status["interfaces"][0]["port"], second.proxy.at(Protocol::Tcp).port());
    });
}

#[test]
fn a_command_finds_the_service_whatever_else_is_wrong_with_the_file() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let file = site.proxy.directory().path().join("sip-proxy.toml");
        let text = std::fs::read_to_string(&file).expect("a file");
        std::fs::write(&file, format!("{text}\n[nonsense]\nx = 1\n[stun]\nservers = [\"?\"]\n"))
            .expect("written");
        printed(&site.proxy.command(&["status"]).await, 0);
        std::fs::write(&file, "[service]\ncontrol_socket = 7\n").expect("written");
        let output = site.proxy.command(&["status"]).await;
        printed(&output, 78);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(":2: service.control_socket: is an integer"), "{said}");
        std::fs::write(&file, "[service\n").expect("written");
        printed(&site.proxy.command(&["status"]).await, 78);
    });
}

#[test]
fn a_service_that_does_not_run_does_not_answer() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy.kill().await;
        let output = site.proxy.command(&["status"]).await;
        printed(&output, 69);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the service does not answer on") && said.contains("is it running?"), "{said}");
    });
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    run(LIMIT, async {
        let directory = Directory::new("manual");
        let nowhere = directory.path().join("none.toml");
        for shell in ["bash", "zsh", "fish"] {
            let script = printed(&command(&nowhere, &["completions", shell]).await, 0);
            assert!(script.contains("registrations") && script.contains("log-level"), "{shell}");
        }
        let pages = directory.path().join("man");
        printed(&command(&nowhere, &["man", &pages.display().to_string()]).await, 0);
        for name in
            ["sip-proxy", "sip-proxy-status", "sip-proxy-check", "sip-proxy-check-dns", "sip-proxy-log-level"]
        {
            let page = std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap_or_default();
            assert!(page.starts_with(".ie") && page.contains(".SH NAME"), "{name}: {page}");
        }
        assert!(printed(&command(&nowhere, &["man"]).await, 0).contains("sip\\-proxy"));
    });
}
