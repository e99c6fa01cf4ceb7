//! What `trace --pcap` writes, as Wireshark reads it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::process::Process;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::sip::Sip;
use crate::common::{eventually, run};
use crate::installed;

const LIMIT: Duration = Duration::from_secs(60);

const DOMAIN: &str = "example.org";

/// A body with which a message is longer than a packet of the capture, and not longer than messages may be.
const LONG: usize = 64_900;

/// What Wireshark is asked for of each message.
const FIELDS: [&str; 12] = [
    "frame.time_epoch",
    "frame.interface_name",
    "frame.comment",
    "ip.src",
    "ip.dst",
    "udp.srcport",
    "udp.dstport",
    "tcp.srcport",
    "tcp.dstport",
    "sip.Method",
    "sip.Status-Code",
    "sip.Call-ID",
];

/// A row of what was sent, and of what Wireshark has read: transport, ends, method or status, Call-ID.
type Row = (String, SocketAddr, SocketAddr, String, String);

/// Runs Wireshark's other face over `file`; what it prints. Checksums and sequence numbers have to be right.
fn tshark(file: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(installed("tshark"));
    command.arg("-r").arg(file).args(["-n", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]);
    command.args(["-o", "tcp.check_checksum:TRUE"]).args(arguments);
    let output = command.output().expect("tshark runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tshark: {errors}");
    assert!(!errors.contains("cut short") && !errors.contains("corrupt"), "tshark: {errors}");
    String::from_utf8(output.stdout).expect("tshark prints UTF-8")
}

/// The messages in `file`, as Wireshark reads them.
fn messages(file: &Path) -> Vec<Row> {
    let mut arguments = vec!["-Y", "sip", "-T", "fields"];
    FIELDS.iter().for_each(|field| arguments.extend(["-e", field]));
    let printed = tshark(file, &arguments);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is later than 1970")
        .as_secs_f64();
    let row = |line: &str| {
        let values: Vec<_> = line.split('\t').collect();
        let [time, interface, comment, from, to, udp_from, udp_to, tcp_from, tcp_to, method, status, call_id] =
            values[..]
        else {
            panic!("fields are missing: {line}")
        };
        let age = now - time.parse::<f64>().expect("a time");
        assert!((0.0..LIMIT.as_secs_f64()).contains(&age), "{line}");
        assert!(interface.starts_with("lan"), "{line}");
        let end = |address: &str, udp: &str, tcp: &str| {
            assert_eq!(udp.is_empty(), comment != "udp", "{line}");
            let port = if udp.is_empty() { tcp } else { udp };
            format!("{address}:{port}").parse().unwrap_or_else(|_| panic!("no address: {line}"))
        };
        let kind = if method.is_empty() { status } else { method };
        let (source, destination) = (end(from, udp_from, tcp_from), end(to, udp_to, tcp_to));
        (comment.to_owned(), source, destination, kind.to_owned(), call_id.to_owned())
    };
    printed.lines().map(row).collect()
}

async fn trace(proxy: &Proxy, file: &Path, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    command.arg("--config").arg(proxy.file()).args(["trace", "--all", "--pcap"]).arg(file).args(arguments);
    let process = Process::start("trace", &mut command);
    eventually(LIMIT, "the trace begins", || process.errors().contains("tracing; ").then_some(())).await;
    process
}

/// Alice asks Bob something, who answers. What the proxy has seen of it.
async fn exchange(alice: &mut Agent, bob: &mut Agent, request: &Sip, word: &str, at: SocketAddr) -> Vec<Row> {
    alice.send(request).await;
    let arrived = bob.receive_request("MESSAGE").await;
    bob.answer(&arrived, 200).await;
    alice.receive_response(200).await;
    let row = |source, destination, kind: &str| {
        (word.to_owned(), source, destination, kind.to_owned(), request.need("Call-ID").to_owned())
    };
    vec![
        row(alice.local(), at, "MESSAGE"),
        row(at, bob.local(), "MESSAGE"),
        row(bob.local(), at, "200"),
        row(at, alice.local(), "200"),
    ]
}

#[test]
fn wireshark_reads_what_has_passed_over_udp_tcp_and_tls() {
    run(LIMIT, async {
        let authority = Authority::new("tests");
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Tls];
        let settings = Settings::new(DOMAIN).usual_timers().account_rows("user_name = \"uc\"\n");
        let settings = protocols.iter().fold(settings, |settings, protocol| settings.listen(*protocol));
        let proxy = settings.tls(&authority).start().await;
        let (hidden, whole) =
            (proxy.directory().path().join("hidden.pcapng"), proxy.directory().path().join("whole.pcapng"));
        let mut agents = Vec::new();
        for protocol in protocols {
            let (ip, at) = (proxy.ip(), proxy.at(protocol));
            let word = format!("{protocol:?}").to_lowercase();
            let mut pair = Vec::new();
            for _ in 0..2 {
                pair.push(match protocol {
                    Protocol::Udp => Agent::udp(ip, at).await,
                    Protocol::Tcp => Agent::tcp(ip, at).await,
                    _ => Agent::tls(ip, at, authority.client_config(None)).await,
                });
            }
            pair[1].register(DOMAIN, &word, "nobody", "nothing").await;
            // A request of more than 1,300 octets would leave by TCP (RFC 3261 §18.1.1).
            agents.push((pair, word, at, if protocol == Protocol::Udp { 500 } else { LONG }));
        }
        let mut traces = [
            trace(&proxy, &hidden, &["--count", "24"]).await,
            trace(&proxy, &whole, &["--count", "24", "--bodies"]).await,
        ];
        let mut expected = Vec::new();
        for (pair, word, at, long) in &mut agents {
            let [alice, bob] = &mut pair[..] else { panic!("a pair are two") };
            for length in [10, *long] {
                let (from, to) = (format!("sip:alice@{DOMAIN}"), format!("sip:{word}@{DOMAIN}"));
                let request = alice.message(&from, &to, &"x".repeat(length));
                expected.extend(exchange(alice, bob, &request, word, *at).await);
            }
        }
        for process in &mut traces {
            assert!(process.end(LIMIT).await.success());
        }
        for file in [&hidden, &whole] {
            assert_eq!(messages(file), expected);
            // Nothing of it is malformed, no checksum is wrong, and no segment is missing or out of order.
            let faults = "_ws.malformed || tcp.analysis.flags || _ws.expert.severity >= 6291456";
            assert_eq!(tshark(file, &["-Y", faults]), "");
        }
        let lengths = |file: &Path| {
            let printed = tshark(file, &["-Y", "sip.Method", "-T", "fields", "-e", "sip.Content-Length"]);
            printed.lines().map(|length| length.parse::<usize>().expect("a length")).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&whole), [10, 10, 500, 500, 10, 10, LONG, LONG, 10, 10, LONG, LONG]);
        // "[10 octets of text/plain, hidden]", and where it counts three or five digits.
        assert_eq!(lengths(&hidden), [35, 35, 36, 36, 35, 35, 38, 38, 35, 35, 38, 38]);
    });
}
