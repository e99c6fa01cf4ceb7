//! `trace`: the messages that pass, as they are told to whoever asks for them.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use crate::common::agent::{Agent, unique};
use crate::common::http::ask_socket;
use crate::common::process::Process;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::scratch::loopback;

use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, Site, Wire, answers_options, open_house, relay, uri};

/// How long the command may take to begin or to end.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// The command, on its way.
fn command(proxy: &Proxy, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    command.arg("--config").arg(proxy.file()).arg("trace").args(arguments);
    Process::start("trace", &mut command)
}

/// The command, once the service has begun to tell.
async fn trace(proxy: &Proxy, arguments: &[&str]) -> Process {
    let mut process = command(proxy, arguments);
    eventually(COMMAND_LIMIT, "the trace begins", || {
        if let Some(status) = process.ended() {
            panic!("the trace ends with {status}");
        }
        process.errors().contains("tracing; ").then_some(())
    })
    .await;
    process
}

/// Waits for the end of the command; its status, what it has printed, and what it has said besides.
async fn ended(mut process: Process) -> (i32, String, String) {
    let status = process.end(COMMAND_LIMIT).await.code().expect("no signal has ended it");
    // What it has written last may still be in the pipe.
    eventually(COMMAND_LIMIT, "both streams end", || process.is_read().then_some(())).await;
    (status, process.output(), process.errors())
}

/// Waits until it has printed so many lines.
async fn prints(process: &Process, lines: usize) {
    eventually(COMMAND_LIMIT, "the trace prints what has passed", || {
        (process.output().lines().count() >= lines).then_some(())
    })
    .await;
}

/// Ends it as Ctrl-C does.
async fn interrupted(process: Process) -> (i32, String, String) {
    process.signal("INT");
    ended(process).await
}

/// The lines about messages.
fn heads(output: &str) -> Vec<&str> {
    output.lines().filter(|line| line.starts_with("20")).collect()
}

/// Direction, ends, transport and interface of one of them.
fn head(direction: &str, source: SocketAddr, destination: SocketAddr, transport: &str, key: &str) -> String {
    format!("{direction:<3} {source} -> {destination}  {transport}  {key}")
}

#[test]
fn a_message_and_its_answer_are_shown_in_the_clear_with_their_ends() {
    run(LIMIT, async {
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Ws, Protocol::Wss];
        let site = Site::open(open_house(), &protocols).await;
        for (number, protocol) in protocols.into_iter().enumerate() {
            let user = format!("bob-{number}");
            let (mut a, mut b) = (site.connect(protocol).await, site.server(protocol, &user).await);
            let request = a.message(&uri("alice"), &uri(&user), "Is it true?");
            let call_id = request.need("Call-ID");
            let hidden = trace(&site.proxy, &["--call-id", call_id, "--count", "4"]).await;
            let open = trace(&site.proxy, &["--user", &user, "--bodies", "--count", "4"]).await;
            relay(&request, &mut a, &mut b, 200).await;
            let at = site.proxy.at(protocol);
            let (status, output, errors) = ended(hidden).await;
            assert_eq!((status, errors.ends_with("4 messages\n")), (0, true), "{errors}");
            let key =
                if number == 0 { "lan".to_owned() } else { format!("lan.network_interface[{}]", number - 1) };
            let word = format!("{protocol:?}").to_lowercase();
            let expected = [
                head("in", a.local(), at, &word, &key),
                head("out", at, b.local(), &word, &key),
                head("in", b.local(), at, &word, &key),
                head("out", at, a.local(), &word, &key),
            ];
            let heads: Vec<_> = heads(&output).into_iter().map(|line| line[29..].to_owned()).collect();
            assert_eq!(heads, expected, "{output}");
            assert_eq!(
                output.matches(&format!("    MESSAGE {} SIP/2.0\n", uri(&user))).count(),
                1,
                "{output}"
            );
            assert_eq!(output.matches("    SIP/2.0 200 OK\n").count(), 2, "{output}");
            assert_eq!(output.matches("    [11 octets of text/plain, hidden]\n").count(), 2, "{output}");
            assert!(!output.contains("Is it true?"), "{output}");
            let (status, output, _) = ended(open).await;
            assert_eq!((status, output.matches("    Is it true?\n").count()), (0, 2), "{output}");
        }
    });
}

#[test]
fn what_is_asked_for_decides_what_is_shown_and_a_call_stays_shown_in_all_its_parts() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (elsewhere, away) = (loopback(), loopback());
        let (mut a, mut b) =
            (site.connect(Protocol::Udp).await, site.connect_from(elsewhere, Protocol::Udp).await);
        b.register(DOMAIN, "bob", "nobody", "nothing").await;
        let (of_peer, of_user) = (elsewhere.to_string(), ["--short", "--user", "BOB"]);
        let peer = trace(&site.proxy, &["--short", "--peer", &of_peer]).await;
        let user = trace(&site.proxy, &of_user).await;
        let both = trace(&site.proxy, &["--short", "--domain", DOMAIN, "--user", "carol"]).await;
        let nobody = trace(&site.proxy, &["--short", "--peer", &format!("{away}/32")]).await;
        answers_options(&mut a).await;
        let request = a.message(&uri("alice"), &uri("bob"), "x");
        relay(&request, &mut a, &mut b, 200).await;
        let call_id = request.need("Call-ID");
        let kinds = |output: &str| -> Vec<String> {
            let mut kinds = Vec::new();
            for line in output.lines() {
                assert!(line.contains(call_id), "{line}");
                assert!(line.ends_with(&format!("{} > {}", uri("alice"), uri("bob"))), "{line}");
                kinds.push(line.split_whitespace().nth(6).unwrap_or_default().to_owned());
            }
            kinds
        };
        prints(&peer, 3).await;
        prints(&user, 4).await;
        // What came in was no concern of the peer's until it went out to it.
        let (status, output, _) = interrupted(peer).await;
        assert_eq!((status, kinds(&output)), (0, ["MESSAGE", "200", "200"].map(str::to_owned).to_vec()));
        let (status, output, _) = interrupted(user).await;
        assert_eq!(
            (status, kinds(&output)),
            (0, ["MESSAGE", "MESSAGE", "200", "200"].map(str::to_owned).to_vec())
        );
        for silent in [both, nobody] {
            let (status, output, errors) = interrupted(silent).await;
            assert_eq!((status, &*output, errors.ends_with("\n0 messages\n")), (0, "", true), "{errors}");
        }
    });
}

#[test]
fn passwords_answers_and_what_commands_a_terminal_are_not_shown() {
    run(LIMIT, async {
        let settings = Settings::new(DOMAIN).account("uc", "secret").listen(Protocol::Tcp);
        let proxy = settings.start().await;
        let plain = trace(&proxy, &["--all", "--bodies"]).await;
        let json = trace(&proxy, &["--json", "--all", "--bodies"]).await;
        let mut agent = Agent::tcp(proxy.ip(), proxy.at(Protocol::Tcp)).await;
        agent.log_on(DOMAIN, "uc", "secret").await;
        let options = agent.request("OPTIONS", &uri("proxy"), &uri("uc"), &uri("proxy"));
        let options =
            options.with("Subject", "\u{1b}[2J\u{9b}31m\u{202e}").with("Identity", "eyJhbGciOi.e30.c2ln");
        agent.exchange(&options.body("text/plain", "\u{1b}c\u{7}")).await;
        eventually(COMMAND_LIMIT, "the last answer is shown", || {
            let is_shown = |process: &Process| process.output().matches("OPTIONS").count() >= 3;
            (is_shown(&plain) && is_shown(&json)).then_some(())
        })
        .await;
        for process in [plain, json] {
            let (status, output, _) = interrupted(process).await;
            assert_eq!(status, 0);
            assert!(output.contains("Authorization: Digest (hidden)"), "{output}");
            assert!(output.contains("Identity: (hidden)"), "{output}");
            for secret in ["response=", "cnonce=", "eyJhbGciOi", "secret"] {
                assert!(!output.contains(secret), "{secret} in {output}");
            }
            let is_safe = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
            assert!(output.chars().all(is_safe), "{output:?}");
            assert!(output.contains("202e"), "{output}");
        }
    });
}

#[test]
fn each_message_is_an_object_for_programs() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let process = trace(&site.proxy, &["--json", "--all", "--count", "2"]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        let proxy = format!("sip:{DOMAIN}");
        let agent = site.connect(Protocol::Udp).await;
        let options = agent.request("OPTIONS", &proxy, &uri("alice"), &proxy).with("X-Latin", "J\u{f6}rg");
        // One octet, as a peer sends it that knows no UTF-8.
        let octets = options.to_bytes();
        let at = octets.windows(2).position(|pair| pair == "\u{f6}".as_bytes()).expect("it is there");
        let octets = [&octets[..at], b"\xf6", &octets[at + 2..]].concat();
        wire.send(&octets).await;
        wire.receive().await;
        let (status, output, _) = ended(process).await;
        assert_eq!(status, 0);
        let rows: Vec<serde_json::Value> =
            output.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        let (local, at) = (wire.local().to_string(), site.proxy.at(Protocol::Udp).to_string());
        for (row, direction, source, destination) in
            [(&rows[0], "in", &local, &at), (&rows[1], "out", &at, &local)]
        {
            assert_eq!(row["direction"], direction);
            assert_eq!(row["source"], **source);
            assert_eq!(row["destination"], **destination);
            assert_eq!((&row["transport"], &row["interface"]), (&"udp".into(), &"lan".into()));
            assert_eq!(row["missed"], 0);
            assert!(
                row["time"].as_str().is_some_and(|time| time.len() == 27 && time.ends_with('Z')),
                "{row}"
            );
        }
        assert!(rows[0]["text"].as_str().is_some_and(|text| text.contains("X-Latin: J\u{fffd}rg\r\n")));
        let encoded = rows[0]["octets"].as_str().expect("what is no UTF-8 is there as it was");
        use base64::Engine as _;
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(encoded).expect("Base64"), octets);
        assert!(
            rows[1]["octets"].is_null()
                && rows[1]["text"].as_str().is_some_and(|text| text.starts_with("SIP/2.0 "))
        );
    });
}

/// A reader that is stopped misses messages and is told how many; SIP goes on as if nobody read.
#[test]
fn a_reader_that_is_slow_misses_messages_and_nobody_else_does() {
    const COUNT: usize = 400;
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let process = trace(&site.proxy, &["--short", "--all", "--bodies"]).await;
        process.signal("STOP");
        let text = "x".repeat(30_000);
        for _ in 0..COUNT {
            let request = a.message(&uri("alice"), &uri("bob"), &text);
            relay(&request, &mut a, &mut b, 200).await;
        }
        process.signal("CONT");
        eventually(COMMAND_LIMIT, "the reader is told", || {
            process.output().contains(" missing here").then_some(())
        })
        .await;
        // What had no room is told with the next one that has.
        let last = a.message(&uri("alice"), &uri("bob"), "last");
        relay(&last, &mut a, &mut b, 200).await;
        eventually(COMMAND_LIMIT, "the reader has caught up", || {
            (process.output().matches(last.need("Call-ID")).count() == 4).then_some(())
        })
        .await;
        let (status, output, errors) = interrupted(process).await;
        assert_eq!(status, 0);
        let shown = heads(&output).len();
        let missing: usize = output
            .lines()
            .filter_map(|line| line.strip_prefix('(')?.split(' ').next()?.parse::<usize>().ok())
            .sum();
        assert_eq!(shown + missing, 4 * (COUNT + 1));
        assert!(missing > 0 && shown > 4, "{shown} shown, {missing} missing");
        assert!(errors.ends_with(&format!("\n{shown} messages, {missing} missing\n")), "{errors}");
    });
}

#[test]
fn a_request_that_no_router_sees_is_shown_with_its_refusal() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let process = trace(&site.proxy, &["--short", "--all", "--count", "2"]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Tcp).await;
        let agent = site.connect(Protocol::Tcp).await;
        let proxy = format!("sip:{DOMAIN}");
        let options = agent.request("OPTIONS", &proxy, &uri("alice"), &proxy).without("Content-Length");
        let text =
            String::from_utf8(options.to_bytes()).expect("it is text").replace("Content-Length: 0\r\n", "");
        wire.send(text.as_bytes()).await;
        wire.receive().await;
        let (status, output, _) = ended(process).await;
        assert_eq!(status, 0);
        let kinds: Vec<_> =
            output.lines().map(|line| line.split_whitespace().nth(6).unwrap_or_default()).collect();
        assert_eq!(kinds, ["OPTIONS", "400"], "{output}");
    });
}

#[test]
fn a_capture_is_a_file_of_its_owners_and_ends_where_it_was_told_to() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let file = site.proxy.directory().path().join("call.pcapng");
        let name = file.display().to_string();
        let process = trace(&site.proxy, &["--all", "--pcap", &name, "--count", "2"]).await;
        answers_options(&mut site.connect(Protocol::Udp).await).await;
        let (status, output, errors) = ended(process).await;
        assert_eq!((status, &*output), (0, ""), "{errors}");
        let octets = std::fs::read(&file).expect("the capture is there");
        assert_eq!(octets[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert_eq!(std::fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);
        // After a while without a message: still a capture, of nothing.
        let (status, ..) =
            ended(trace(&site.proxy, &["--user", "x", "--pcap", &name, "--seconds", "1"]).await).await;
        assert_eq!(status, 0);
        assert!(std::fs::read(&file).is_ok_and(|octets| octets.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a])));
        let (status, _, errors) = ended(command(&site.proxy, &["--all", "--pcap", "/nowhere/file"])).await;
        assert_eq!(status, 1, "{errors}");
        assert!(errors.contains("error: /nowhere/file: "), "{errors}");
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_traces_are_few() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Udp]).await;
        for (arguments, what) in [
            (&[][..], "--call-id"),
            (&["--user", "alice@example.org"], "user: `alice@example.org` is none, allowed: "),
            (&["--peer", "sip.example.org"], "peer: `sip.example.org` is none, allowed: "),
            (&["--all", "--user", "alice"], "cannot be used with"),
            (&["--json", "--all", "--pcap", "x"], "error: --json prints"),
        ] {
            let (status, output, errors) = ended(command(&site.proxy, arguments)).await;
            assert_eq!((status, &*output), (2, ""), "{errors}");
            assert!(errors.contains(what), "{errors}");
        }
        let socket = site.proxy.directory().path().join("var/run/control.sock");
        for (query, what) in [
            ("", "nothing is asked for, allowed: "),
            ("?all=maybe", "all: `maybe` is neither, allowed: true or false"),
            ("?user=a%40b", "user: `a@b` is none, allowed: "),
            (
                "?everything",
                "`everything` is no parameter here, allowed: call_id user domain peer all bodies",
            ),
        ] {
            let answer = ask_socket(&socket, "GET", &format!("/trace{query}"), "").await;
            assert_eq!(answer.status, 400, "{query}");
            assert!(answer.problem().starts_with(what), "{}", answer.problem());
        }
        let mut traces = Vec::new();
        for _ in 0..4 {
            traces.push(trace(&site.proxy, &["--user", &format!("u{}", unique())]).await);
        }
        let (status, _, errors) = ended(command(&site.proxy, &["--all"])).await;
        assert_eq!(status, 1);
        assert!(errors.contains("4 traces run already"), "{errors}");
        interrupted(traces.remove(0)).await;
        site.proxy.logs(&["trace_ended"]).await;
        // The place of one that has ended is free.
        traces.push(trace(&site.proxy, &["--all"]).await);
        site.proxy.logs(&["trace_begun", "all=true"]).await;
        assert!(site.proxy.terminate().await.success());
        for process in traces {
            let (status, _, errors) = ended(process).await;
            assert_eq!(status, 69, "{errors}");
        }
        let (status, _, errors) = ended(command(&site.proxy, &["--all"])).await;
        assert_eq!(status, 69);
        assert!(errors.contains("the service does not answer"), "{errors}");
    });
}
