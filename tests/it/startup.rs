//! Starting, the configuration's faults, interfaces of every kind, and the end.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::certificates::Authority;
use crate::common::process::Process;
use crate::common::proxy::Protocol;
use crate::common::scratch::{Directory, free_port, loopback};
use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, SILENCE, Site, answers_options, open_house, relay, uri};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/sip-proxy.toml");
const START: Duration = Duration::from_secs(10);

/// The command with a file and an environment.
fn command(file: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    command.arg("--config").arg(file).envs(environment.iter().copied());
    command
}

/// Runs the command to its end.
fn output(file: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(file, environment).args(arguments).output().expect("Cargo has built the binary")
}

/// `check config`: exit status and what was printed.
fn check(text: &str) -> (Option<i32>, String) {
    let directory = Directory::new("check");
    let output = output(&directory.write("proxy.toml", text), &["check", "config"], &[]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Expects exit 78 and one line of `check config` for each row: `:LINE: key.path: ` and further parts.
#[track_caller]
fn assert_faults(text: &str, expected: &[(&str, &[&str])]) {
    let (status, printed) = check(text);
    assert_eq!(status, Some(78), "{printed}");
    for (place, parts) in expected {
        let line = printed.lines().find(|line| line.contains(&format!("proxy.toml:{place}: ")));
        let line = line.unwrap_or_else(|| panic!("no fault at {place} in:\n{printed}"));
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
    }
    let count = printed.lines().filter(|line| line.contains("proxy.toml:")).count();
    assert_eq!(count, expected.len(), "{printed}");
}

async fn start(file: &Path, environment: &[(&str, &str)], ready: &str) -> Process {
    let process = Process::start("sip-proxy", &mut command(file, environment));
    process.prints(ready, START).await;
    process
}

#[test]
fn the_shipped_configuration_starts_answers_and_ends_with_0() {
    run(LIMIT, async {
        let (directory, ip) = (Directory::new("shipped"), loopback());
        let text = std::fs::read_to_string(SHIPPED).expect("etc/sip-proxy.toml is shipped");
        let (port, address) = (free_port(ip), ip.to_string());
        let environment =
            [("SIP_PROXY__LAN__PORT", &*port.to_string()), ("SIP_PROXY__LAN__BIND_TO_IP_ADDRESS", &address)];
        let file = directory.write("sip-proxy.toml", text);
        // No command is the command `run`.
        let mut process = start(&file, &environment, "ready: 1 interface, 0 routes\n").await;
        let mut agent = Agent::tcp(ip, SocketAddr::new(ip, port)).await;
        answers_options(&mut agent).await;
        process.signal("TERM");
        let status = process.end(Duration::from_secs(10)).await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(process.output().lines().count(), 1, "one line on standard output:\n{}", process.output());
    });
}

/// A huge page is cleared as a whole when it is first touched, which holds everybody up for milliseconds.
#[test]
fn the_process_has_no_huge_pages() {
    run(LIMIT, async {
        let (directory, ip) = (Directory::new("huge-pages"), loopback());
        let (port, address) = (free_port(ip), ip.to_string());
        let environment =
            [("SIP_PROXY__LAN__PORT", &*port.to_string()), ("SIP_PROXY__LAN__BIND_TO_IP_ADDRESS", &address)];
        let text = std::fs::read_to_string(SHIPPED).expect("etc/sip-proxy.toml is shipped");
        let file = directory.write("sip-proxy.toml", text);
        let process = start(&file, &environment, "ready: ").await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
        let huge_pages = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(huge_pages.map(str::trim), Some("0"), "{status}");
    });
}

#[test]
fn the_shipped_configuration_has_no_faults() {
    let output = output(Path::new(SHIPPED), &["check", "config"], &[]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{printed}");
    assert!(printed.contains("lan.password"), "an empty password deserves a warning: {printed}");
}

#[test]
fn all_faults_are_told_at_once_with_line_key_and_what_is_allowed() {
    let text = "[service]\npresence_domain = [\"example.org\"]\n[lan]\nport = 70000\n\
        transport_protocol = \"sctp\"\nbind_to_ip_address = \"192.0.2.1\"\n[sip]\nt1 = \"soon\"\nudp_mtu = true\n\
        [[static_routes.route]]\ndomain_name = \"partner.example\"\naccess_server = \"a.example\"\n\
        [[static_routes.route]]\ndomain_name = \"Partner.Example\"\naccess_server = \"b.example\"\n\
        [limits]\nmaximum_message_bytes = 5\n[wan]\nnetwork_interface = []\n";
    let expected: [(&str, &[&str]); 8] = [
        ("2: service.presence_domain", &["presence_domains"]),
        ("4: lan.port", &["70000", "65535"]),
        ("5: lan.transport_protocol", &["sctp", "udp", "mtls"]),
        ("6: lan.bind_to_ip_address", &["192.0.2.1"]),
        ("8: sip.t1", &["soon"]),
        ("9: sip.udp_mtu", &[]),
        ("14: static_routes.route[1].domain_name", &["static_routes.route[0]"]),
        ("17: limits.maximum_message_bytes", &["1024", "65535"]),
    ];
    assert_faults(text, &expected);
}

#[test]
fn run_refuses_what_check_refuses() {
    let directory = Directory::new("refused");
    let file = directory.write("proxy.toml", "[lan]\nport = -1\n[sip]\nt3 = \"1s\"\n");
    for arguments in [&["run"][..], &[]] {
        let output = output(&file, arguments, &[]);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(output.stdout.is_empty());
        assert!(printed.contains("proxy.toml:2: lan.port: "), "{printed}");
        assert!(printed.contains("proxy.toml:4: sip.t3: "), "{printed}");
    }
    assert_eq!(
        output(&directory.path().join("none.toml"), &["check", "config"], &[]).status.code(),
        Some(78)
    );
}

#[test]
fn interfaces_that_collide_are_faults() {
    let lan = "[service]\npresence_domains = [\"a.test\"]\n[wan]\nnetwork_interface = []\n[lan]\npassword = \"x\"\n";
    let extra = "[[lan.network_interface]]\nip_address = \"0.0.0.0\"\nport = 5060\nprotocol = ";
    assert_faults(
        &format!("{lan}{extra}\"tcp\"\n"),
        &[("9: lan.network_interface[0].port", &["lan", "5060"])],
    );
    assert_faults(
        &format!("{lan}{extra}\"tls\"\n"),
        &[("9: lan.network_interface[0].port", &["lan", "5060"])],
    );
    // UDP takes TCP with it at the same port (RFC 3261 §18.2.1), and shares one that is there already.
    assert_faults(
        &format!("{lan}{extra}\"udp\"\n"),
        &[("9: lan.network_interface[0].port", &["lan", "5060"])],
    );
    let (status, printed) = check(&format!("{lan}{}\"udp\"\n", extra.replace("0.0.0.0", "127.0.0.1")));
    assert_eq!(status, Some(0), "{printed}");
}

#[test]
fn a_route_that_leads_back_to_the_proxy_is_a_fault() {
    let own = "[service]\npresence_domains = [\"a.test\"]\n[wan]\nnetwork_interface = []\n[lan]\npassword = \"x\"\n\
        [[lan.network_interface]]\nip_address = \"0.0.0.0\"\nport = 5070\nprotocol = \"udp\"\n";
    let route = |domain: &str, server: &str, port: u16| {
        format!(
            "[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{server}\"\n\
             port = {port}\ntransport_protocol = \"tcp\"\ntrusted = true\n"
        )
    };
    // Which route, and which interface it leads to; the wildcard is every address of the machine.
    let text = own.to_owned() + &route("b.test", "127.0.0.1", 5060) + &route("c.test", "127.0.0.1", 5070);
    let expected: [(&str, &[&str]); 2] = [
        ("13: static_routes.route[0].access_server", &["127.0.0.1:5060", "`lan`"]),
        ("19: static_routes.route[1].access_server", &["127.0.0.1:5070", "`lan.network_interface[0]`"]),
    ];
    assert_faults(&text, &expected);
    assert_faults(
        &format!("{own}{}", route("a.test", "192.0.2.1", 5060)),
        &[("12: static_routes.route[0].domain_name", &["a.test", "presence domain"])],
    );
    let (status, printed) = check(&format!("{own}{}", route("b.test", "127.0.0.1", 5080)));
    assert_eq!(status, Some(0), "{printed}");
}

#[test]
fn a_timer_c_of_three_minutes_is_a_fault() {
    // RFC 3261 §16.6 step 11: it must be larger.
    assert_faults("[sip]\ntimer_c = \"180s\"\n", &[("2: sip.timer_c", &["3m"])]);
    let (status, printed) = check("[service]\npresence_domains = [\"a.test\"]\n[sip]\ntimer_c = \"181s\"\n");
    assert_eq!(status, Some(0), "{printed}");
}

#[test]
fn certificates_that_cannot_be_used_are_faults() {
    let (directory, authority) = (Directory::new("certificates"), Authority::new("tests"));
    let (one, other) = (authority.server(&["a.example.org"]), authority.server(&["b.example.org"]));
    one.write(&directory, "one");
    other.write(&directory, "other");
    directory.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let verdict = |chain: &str, key: &str| {
        let text = format!("[certificate]\nchain = \"{chain}\"\nprivate_key = \"{key}\"\n");
        let output = output(&directory.write("proxy.toml", text), &["check", "config"], &[]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(verdict("one.pem", "one.key").0, Some(0));
    for (chain, key, named) in [
        ("one.pem", "other.key", "certificate.private_key"),
        ("none.pem", "one.key", "certificate.chain"),
        ("one.pem", "none.key", "certificate.private_key"),
        ("broken.pem", "one.key", "certificate.chain"),
        ("one.pem", "", "certificate"),
        ("one.pem", "one.pem", "certificate.private_key"),
    ] {
        let (status, printed) = verdict(chain, key);
        assert_eq!(status, Some(78), "{chain} with {key}: {printed}");
        assert!(printed.contains(named), "{chain} with {key}: {printed}");
    }
}

#[test]
fn check_speaks_json() {
    let directory = Directory::new("json");
    let file = directory.write("proxy.toml", "[lan]\nport = 70000\n\n[sip]\nt9 = 1\n");
    let faulty = output(&file, &["--json", "check", "config"], &[]);
    assert_eq!(faulty.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&faulty.stdout).expect("it is JSON");
    let faults = report["faults"].as_array().expect("a list of faults");
    let keys: Vec<_> = faults.iter().filter_map(|fault| fault["key"].as_str()).collect();
    assert_eq!(keys, ["lan.port", "sip.t9"], "{report}");
    let good = output(Path::new(SHIPPED), &["check", "config", "--json"], &[]);
    assert_eq!(good.status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&good.stdout).expect("it is JSON");
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn the_environment_has_the_last_word() {
    let directory = Directory::new("environment");
    let file =
        directory.write("proxy.toml", "[service]\npresence_domains = [\"a.test\"]\n[lan]\nport = 70000\n");
    let repaired = [("SIP_PROXY__LAN__PORT", "5070"), ("SIP_PROXY__LAN__PASSWORD", "12345")];
    assert_eq!(output(&file, &["check", "config"], &repaired).status.code(), Some(0));
    let broken =
        [("SIP_PROXY__LAN__PORT", "high"), ("SIP_PROXY__LAN__PROT", "1"), ("SIP_PROXY__SIP__T1", "50ms")];
    let output = output(&file, &["check", "config"], &broken);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{printed}");
    assert!(printed.contains("SIP_PROXY__LAN__PORT: lan.port: "), "{printed}");
    assert!(printed.contains("SIP_PROXY__LAN__PROT: lan.prot: ") && printed.contains("mean"), "{printed}");
    assert!(!printed.contains("sip.t1"), "{printed}");
}

#[test]
fn wrong_usage_is_told_from_a_wrong_configuration() {
    for arguments in [&["--nonsense"][..], &["dance"], &["check", "weather"]] {
        assert_eq!(output(Path::new(SHIPPED), arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_port_that_is_taken_stops_nobody_else() {
    run(LIMIT, async {
        let (directory, ip) = (Directory::new("taken"), loopback());
        let taken = TcpListener::bind(SocketAddr::new(ip, 0)).expect("a TCP port of loopback");
        let taken_port = taken.local_addr().expect("a bound socket has an address").port();
        let free = free_port(ip);
        let text = format!(
            "[service]\npresence_domains = [\"{DOMAIN}\"]\n[diagnostics]\nlog_file_directory = \"\"\n\
             [wan]\nnetwork_interface = []\n[lan]\nbind_to_ip_address = \"{ip}\"\nport = {taken_port}\n\
             [[lan.network_interface]]\nip_address = \"{ip}\"\nport = {free}\nprotocol = \"tcp\"\n"
        );
        let process =
            start(&directory.write("proxy.toml", text), &[], "ready: 1 interface, 0 routes\n").await;
        answers_options(&mut Agent::tcp(ip, SocketAddr::new(ip, free)).await).await;
        let reason = eventually(START, "the log says why", || {
            let log = process.errors();
            log.lines().find(|line| line.contains("not_listening")).map(str::to_owned)
        })
        .await;
        assert!(reason.contains("in use"), "{reason}");
    });
}

#[test]
fn the_system_chooses_where_the_port_is_0() {
    run(LIMIT, async {
        let (directory, ip) = (Directory::new("chosen"), loopback());
        let text = format!(
            "[service]\npresence_domains = [\"{DOMAIN}\"]\n[diagnostics]\nlog_file_directory = \"\"\n\
             [wan]\nnetwork_interface = []\n[lan]\nbind_to_ip_address = \"{ip}\"\nport = 0\n"
        );
        let process =
            start(&directory.write("proxy.toml", text), &[], "ready: 1 interface, 0 routes\n").await;
        let address: SocketAddr = eventually(START, "the log names the port", || {
            let log = process.errors();
            let (_, rest) = log.split_once(&format!("{ip}:"))?;
            let port = rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()?;
            Some(SocketAddr::new(ip, port))
        })
        .await;
        assert_ne!(address.port(), 0);
        answers_options(&mut Agent::tcp(ip, address).await).await;
    });
}

#[test]
fn every_protocol_listens_and_udp_ports_take_tcp_too() {
    run(LIMIT, async {
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Tls, Protocol::Mtls];
        let site = Site::open(open_house(), &protocols).await;
        for protocol in protocols {
            answers_options(&mut site.connect(protocol).await).await;
        }
        // RFC 3261 §18.2.1.
        answers_options(&mut Agent::tcp(site.proxy.ip(), site.proxy.at(Protocol::Udp)).await).await;
    });
}

#[test]
fn two_lan_interfaces_and_both_address_families_carry_one_message() {
    run(LIMIT, async {
        let here = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let port = free_port(here);
        let tables = ["udp", "tls"].map(|protocol| {
            let port = if protocol == "udp" { port } else { 0 };
            format!("\n[[lan.network_interface]]\nip_address = \"::1\"\nport = {port}\nprotocol = \"{protocol}\"\n")
        });
        let site = Site::open(open_house().text(&tables.concat()), &[Protocol::Udp]).await;
        let mut old = site.server(Protocol::Udp, "old").await;
        let mut new = Agent::udp(here, SocketAddr::new(here, port)).await;
        answers_options(&mut Agent::tcp(here, SocketAddr::new(here, port)).await).await;
        new.register(DOMAIN, "new", "nobody", "nothing").await;
        let request = new.message(&uri("new"), &uri("old"), "IPv6 to IPv4");
        let (arrived, _) = relay(&request, &mut new, &mut old, 200).await;
        assert_eq!(arrived.text(), "IPv6 to IPv4");
        let request = old.message(&uri("old"), &uri("new"), "IPv4 to IPv6");
        let (arrived, _) = relay(&request, &mut old, &mut new, 200).await;
        assert!(
            arrived.need("Via").contains(&format!("[::1]:{port}")),
            "the interface it leaves by:\n{arrived}"
        );
    });
}

#[test]
fn the_end_comes_in_order_with_connections_open() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let mut agents = [site.server(Protocol::Tcp, "alice").await, site.server(Protocol::Tls, "bob").await];
        assert_eq!(site.proxy.terminate().await.code(), Some(0));
        for agent in &mut agents {
            assert!(agent.is_closed_by_peer().await);
        }
    });
}

#[test]
fn what_has_begun_may_end_before_the_proxy_does() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        a.send(&a.message(&uri("alice"), &uri("bob"), "one moment")).await;
        let arrived = b.receive_request("MESSAGE").await;
        site.proxy.signal("TERM");
        // It drains: who is waited for has time to answer.
        b.receive_nothing(SILENCE).await;
        b.answer(&arrived, 200).await;
        a.receive_response(200).await;
        assert_eq!(site.proxy.terminate().await.code(), Some(0));
    });
}
