//! The public address and the type of the NAT, from a STUN server: by the command, and in a running proxy.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use futures_util::future::join_all;

use crate::common::agent::Agent;
use crate::common::proxy::{Protocol, Settings};
use crate::common::scratch::{Directory, free_port, loopback};
use crate::common::stun_server::{Filter, Mapping, OUTSIDE, Speech, StunServer};
use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, Site, relay, uri};

/// Silence of one transaction is 39.5 s long, and three may follow one another.
const SILENT: Duration = Duration::from_secs(180);

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    // Where no configuration is.
    command.current_dir(directory).args(arguments);
    command
}

/// Exit status, standard output, standard error of `stun` with these arguments.
async fn stun(arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = Directory::new("stun");
    let arguments = [&["stun"], arguments].concat();
    let mut command = command(directory.path(), &arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
    let Output { status, stdout, stderr } = output.expect("Cargo has built the binary");
    let [printed, errors] = [stdout, stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
    (status.code(), printed, errors)
}

/// The value of a row of the table.
fn row<'a>(table: &'a str, name: &str) -> Option<&'a str> {
    table.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Asks such a server and checks the table.
async fn is_told(speech: Speech, mapping: Mapping, filter: Filter, nat_type: &str) {
    let server = StunServer::start(speech, mapping, filter).await;
    let (status, table, errors) = stun(&["--server", &server.address().to_string()]).await;
    let shown = format!("{speech:?} {mapping:?} {filter:?}:\n{table}{errors}");
    assert_eq!(row(&table, "NAT type"), Some(nat_type), "{shown}");
    let outside = OUTSIDE.to_string();
    match (speech, mapping, filter) {
        (Speech::Broken, ..) | (_, _, Filter::Nobody) => {
            assert_eq!((status, row(&table, "public address")), (Some(1), Some("unknown")), "{shown}");
            assert!(row(&table, "reason").is_some_and(|reason| !reason.is_empty()), "{shown}");
        }
        (_, Mapping::None, _) => {
            assert_eq!((status, row(&table, "public address")), (Some(0), Some("127.0.0.1")), "{shown}");
        }
        _ => {
            assert_eq!((status, row(&table, "public address")), (Some(0), Some(&*outside)), "{shown}");
            assert!(row(&table, "port").is_some_and(|port| port.starts_with("20")), "{shown}");
        }
    }
}

#[test]
fn h11_the_command_tells_each_type_of_nat() {
    run(SILENT, async {
        let table = [
            (Mapping::None, Filter::Anybody, "Open Internet"),
            (Mapping::None, Filter::Ports, "Symmetric UDP Firewall"),
            (Mapping::One, Filter::Anybody, "Full Cone"),
            (Mapping::One, Filter::Hosts, "Restricted Cone"),
            (Mapping::One, Filter::Ports, "Restricted Port Cone"),
            (Mapping::Each, Filter::Ports, "Symmetric"),
            (Mapping::One, Filter::Nobody, "Firewall blocks UDP"),
        ];
        let both = [Speech::Rfc3489, Speech::Rfc5780];
        let every = both.iter().flat_map(|speech| {
            table.iter().map(|(mapping, filter, expected)| is_told(*speech, *mapping, *filter, expected))
        });
        join_all(every).await;
    });
}

#[test]
fn h12_servers_that_are_not_to_be_relied_on_end_in_unknown_and_noise_is_passed_over() {
    run(SILENT, async {
        let table = [
            (Speech::Rfc8489, "Unknown"),
            (Speech::Boaster, "Unknown"),
            (Speech::Broken, "Unknown"),
            (Speech::Noisy, "Full Cone"),
        ];
        let every = table.map(|(speech, expected)| is_told(speech, Mapping::One, Filter::Anybody, expected));
        join_all(every).await;
    });
}

#[test]
fn h13_the_address_is_that_of_xor_mapped_address_and_may_be_of_ipv6() {
    run(LIMIT, async {
        let socket = tokio::net::UdpSocket::bind("[::1]:0").await.expect("a UDP port of loopback");
        let server = socket.local_addr().expect("it is bound").to_string();
        // What stands in the clear has been rewritten on its way, as some NATs do.
        let (outside, rewritten) = ("2001:db8::7", "2001:db8::bad");
        tokio::spawn(async move {
            let mut octets = [0; 2048];
            loop {
                let (length, client) = socket.recv_from(&mut octets).await.expect("a socket of loopback");
                let answer = answer_of_ipv6(&octets[..length], outside, rewritten);
                socket.send_to(&answer, client).await.expect("loopback takes it");
            }
        });
        let (status, table, errors) = stun(&["--server", &server]).await;
        let shown = format!("{table}{errors}");
        assert_eq!((status, row(&table, "public address")), (Some(0), Some(outside)), "{shown}");
        assert_eq!(
            (row(&table, "port"), row(&table, "NAT type")),
            (Some("4242"), Some("Unknown")),
            "{shown}"
        );
    });
}

/// Both mapped addresses in an answer: XOR-MAPPED-ADDRESS last (RFC 8489 §14.1, §14.2).
fn answer_of_ipv6(request: &[u8], outside: &str, rewritten: &str) -> Vec<u8> {
    let value = |ip: &str| {
        let ip: std::net::Ipv6Addr = ip.parse().expect("an IPv6 address");
        [&[0, 2][..], &4242_u16.to_be_bytes(), &ip.octets()].concat()
    };
    // The port by the cookie's first half, the address by cookie and transaction.
    let mask = [&[0, 0][..], &request[4..6], &request[4..20]].concat();
    let masked: Vec<u8> = value(outside).iter().zip(mask).map(|(octet, mask)| octet ^ mask).collect();
    let attributes = [&[0, 1, 0, 20][..], &value(rewritten), &[0, 0x20, 0, 20], &masked].concat();
    [&[1, 1, 0, 48][..], &request[4..20], &attributes].concat()
}

#[test]
fn the_command_prints_one_object_and_names_the_servers_that_failed() {
    run(LIMIT, async {
        let broken = StunServer::start(Speech::Broken, Mapping::One, Filter::Anybody).await.address();
        let good = StunServer::start(Speech::Rfc5780, Mapping::One, Filter::Anybody).await.address();
        let directory = Directory::new("stun");
        let text = format!(
            "[service]\npresence_domains = [\"a.test\"]\n[wan]\nnetwork_interface = []\n\
             [stun]\nservers = [\"{broken}\", \"{good}\"]\n"
        );
        let file = directory.write("proxy.toml", text);
        let file = file.to_str().expect("a path of letters");
        let (status, printed, _) = stun(&["--config", file, "--json"]).await;
        let object: serde_json::Value = serde_json::from_str(&printed).expect("an object");
        assert_eq!(status, Some(0), "{printed}");
        assert_eq!(object["server"], good.to_string());
        assert_eq!(object["public_address"], OUTSIDE.to_string());
        assert_eq!(object["port"], 20_000);
        assert_eq!(object["nat_type"], "Full Cone");
        assert_eq!(object["reason"], serde_json::Value::Null);
        assert_eq!(object["failures"][0]["server"], broken.to_string());
        assert_eq!(object["failures"][0]["reason"], "the server answers with error 500");
    });
}

#[test]
fn the_command_says_what_it_lacks() {
    run(LIMIT, async {
        let directory = Directory::new("stun");
        let file = directory.write("proxy.toml", "[service]\npresence_domains = [\"a.test\"]\n");
        let file = file.to_str().expect("a path of letters");
        let (status, printed, errors) = stun(&["--config", file]).await;
        assert_eq!((status, &*printed), (Some(1), ""));
        assert!(errors.contains("stun.servers") && errors.contains("--server HOST:PORT"), "{errors}");
        // A file that is asked for and is not there is a fault, and so is a server that is none.
        for (arguments, expected) in
            [(&["--config", "absent.toml", "--server", "127.0.0.1:9"][..], 78), (&["--server", "::1:9"], 2)]
        {
            let (status, _, errors) = stun(arguments).await;
            assert_eq!(status, Some(expected), "{errors}");
        }
        let (status, printed, errors) = stun(&["--server", "no-such-host.invalid:3478"]).await;
        assert_eq!((status, row(&printed, "NAT type")), (Some(1), Some("Unknown")), "{errors}");
        assert!(row(&printed, "reason").is_some_and(|reason| reason.contains("look")), "{printed}");
    });
}

#[test]
fn the_address_that_a_server_tells_stands_in_what_leaves_by_the_wan_and_follows_its_changes() {
    run(LIMIT * 2, async {
        let server = StunServer::start(Speech::Rfc3489, Mapping::One, Filter::Anybody).await;
        let ip = loopback();
        let outside = std::net::SocketAddr::new(ip, free_port(ip));
        let interface =
            format!("[{{ ip_address = \"{ip}\", port = {}, protocol = \"udp\" }}]", outside.port());
        let settings = Settings::new(DOMAIN)
            .usual_timers()
            .account("uc", "secret")
            .listen(Protocol::Udp)
            .key("wan", "network_interface", &interface)
            .key("wan.public_address", "enabled", "true")
            .key("wan.public_address", "port", "5099")
            .key("stun", "servers", &format!("[\"{}\"]", server.address()))
            .key("stun", "interval", "\"10s\"")
            .text("\n[[registrar.account]]\nuser_name = \"phone\"\npassword = \"secret p\"\nusers = [\"bob@example.org\"]\n");
        let proxy = settings.start().await;
        proxy.logs(&["nat_determined", "Full Cone", &OUTSIDE.to_string()]).await;
        let mut inside = Agent::udp(proxy.ip(), proxy.at(Protocol::Udp)).await;
        let mut beyond = Agent::udp(ip, outside).await;
        inside.register(DOMAIN, "alice", "uc", "secret").await;
        beyond.register(DOMAIN, "bob", "phone", "secret p").await;
        let sent_by = |arrived: &crate::common::sip::Sip| {
            let via = arrived.all("Via")[0].to_owned();
            via.split([' ', ';']).nth(1).expect("a sent-by").to_owned()
        };
        let request = inside.message(&uri("alice"), &uri("bob"), "hello");
        let (arrived, _) = relay(&request, &mut inside, &mut beyond, 200).await;
        assert_eq!(sent_by(&arrived), format!("{OUTSIDE}:5099"), "{arrived}");
        server.move_to([198, 51, 100, 7].into());
        let change = format!("public_address_changed old={OUTSIDE} new=198.51.100.7");
        let changed = || proxy.log().contains(&change).then_some(());
        eventually(LIMIT, "the proxy logs that its address has changed", changed).await;
        let request = inside.message(&uri("alice"), &uri("bob"), "hello again");
        let (arrived, _) = relay(&request, &mut inside, &mut beyond, 200).await;
        assert_eq!(sent_by(&arrived), "198.51.100.7:5099", "{arrived}");
    });
}

#[test]
fn a_proxy_whose_stun_servers_are_silent_serves_and_says_so() {
    run(SILENT, async {
        let server = StunServer::start(Speech::Rfc5780, Mapping::One, Filter::Nobody).await;
        let settings = Settings::new(DOMAIN).usual_timers().account_rows("user_name = \"uc\"\n");
        let settings = settings.key("stun", "servers", &format!("[\"{}\"]", server.address()));
        let site = Site::open(settings, &[Protocol::Udp]).await;
        site.is_well(Protocol::Udp).await;
        let unknown = || site.proxy.log().contains("public_address_unknown").then_some(());
        eventually(SILENT, "a warning", unknown).await;
        let warned = site.proxy.logs(&["public_address_unknown", "Firewall blocks UDP"]).await;
        assert!(warned.contains("remedy="), "{warned}");
        site.is_well(Protocol::Udp).await;
    });
}
