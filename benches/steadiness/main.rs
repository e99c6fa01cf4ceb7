//! Whether users notice what others do: the latency of MESSAGEs at a moderate rate on the LAN, quiet, and while
//! something goes wrong elsewhere. Real sockets, the built binary.
//!
//! `cargo bench --bench steadiness -- 10` measures each for ten seconds. The disturbances are processes of their own, of
//! the lowest weight: what is seen is what the proxy does about them, and not that the machine is busy making them.

// Clocks and sockets are disallowed to the protocol, which is not here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod disturb;
mod load;
#[path = "../rig/mod.rs"]
mod rig;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use common::certificates::Authority;
use common::process::Process;
use common::proxy::{Protocol, Proxy, Settings};
use common::scratch::{free_port, loopback};
use load::{Latencies, Load};

/// The first moments of a disturbance, when it is not yet what it will be.
const ONSET: Duration = Duration::from_secs(1);

/// What goes wrong, in the words of the table, and as [`disturb`] knows it.
const DISTURBANCES: [(&str, &str); 4] = [
    ("a peer on TCP that does not read what comes", "stalled"),
    ("a disk that others write to, and registrations", "disk"),
    ("TLS handshakes of 1,000 peers, half of them refused", "handshakes"),
    ("garbage on another interface", "garbage"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [kind, directory, address] = &arguments[..] {
        let address: SocketAddr = address.parse().expect("an address of the parent's");
        return disturb::disturb(kind, directory.as_ref(), address);
    }
    let Some(seconds) = arguments.first().and_then(|word| word.parse().ok()) else {
        return println!("takes minutes: cargo bench --bench steadiness -- SECONDS");
    };
    if !has_priority() {
        return;
    }
    println!("| MESSAGE over UDP, {} a second | p50 µs | p99 µs | p99 / quiet | lost |", load::RATE);
    println!("|---|---|---|---|---|");
    for (what, kind) in DISTURBANCES {
        measure(what, kind, Duration::from_secs(seconds));
    }
}

/// Whether this process may go on: in a session of its own, which root gives the highest weight there is, so that other
/// work on the machine is not seen. If it is in another's, it has run once more and that is done.
fn has_priority() -> bool {
    const SESSION: &str = "STEADINESS_SESSION";
    if std::env::var_os(SESSION).is_some() {
        // Without automatic groups, or without root, the machine has to be quiet by itself.
        let _ = std::fs::write("/proc/self/autogroup", "-20");
        return true;
    }
    let program = std::env::current_exe().expect("a process knows its program");
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(program).args(std::env::args_os().skip(1)).env(SESSION, "own");
    let status = command.status().expect("setsid of util-linux");
    assert!(status.success(), "{status}");
    false
}

/// A proxy, quiet and then disturbed.
fn measure(what: &str, kind: &str, period: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let authority = Authority::new("steadiness");
    let address = loopback();
    let elsewhere = SocketAddr::new(address, free_port(address));
    let proxy = runtime.block_on(settings(&authority, elsewhere).start());
    authority.client("peer.home.test").write(proxy.directory(), disturb::KNOWN);
    Authority::new("stranger").client("peer.home.test").write(proxy.directory(), disturb::UNKNOWN);
    let mut load = Load::new(proxy.at(Protocol::Udp));
    load.run(ONSET);
    let quiet = load.run(period);
    print(&format!("quiet, before {kind}"), &quiet, &quiet);
    let disturbance = begin(kind, &proxy, elsewhere);
    load.run(ONSET);
    let disturbed = load.run(period);
    drop(disturbance);
    print(what, &disturbed, &quiet);
}

fn settings(authority: &Authority, elsewhere: SocketAddr) -> Settings {
    let (address, port) = (elsewhere.ip(), elsewhere.port());
    Settings::new("home.test")
        .usual_timers()
        .account_rows("user_name = \"uc\"\n")
        .listen(Protocol::Udp)
        .listen(Protocol::Tcp)
        .listen(Protocol::Mtls)
        .tls(authority)
        .key("limits", "maximum_connections_per_address", "50000")
        .key("diagnostics", "log_level", "\"error\"")
        .text(&format!(
            "\n[[lan.network_interface]]\nip_address = \"{address}\"\nport = {port}\nprotocol = \"udp\"\n"
        ))
}

/// Starts a disturbance, which ends when the process is dropped.
fn begin(kind: &str, proxy: &Proxy, elsewhere: SocketAddr) -> Process {
    let address = match kind {
        "stalled" | "disk" => proxy.at(Protocol::Udp),
        "handshakes" => proxy.at(Protocol::Mtls),
        _ => elsewhere,
    };
    let program = std::env::current_exe().expect("a process knows its program");
    // In a session of its own: a thousand threads of the lowest priority weigh more than the proxy's if they share one.
    let mut command = Command::new("setsid");
    command
        .args(["nice", "-n", "19"])
        .arg(program)
        .arg(kind)
        .arg(proxy.directory().path())
        .arg(address.to_string());
    if kind == "stalled" {
        command.env(disturb::TCP, proxy.at(Protocol::Tcp).to_string());
    }
    Process::start(kind, &mut command)
}

fn print(what: &str, latencies: &Latencies, quiet: &Latencies) {
    let (p50, p99) = (latencies.at(0.5), latencies.at(0.99));
    let ratio = p99 / quiet.at(0.99);
    println!("| {what} | {p50:.0} | {p99:.0} | {ratio:.2} | {} |", latencies.lost);
}
