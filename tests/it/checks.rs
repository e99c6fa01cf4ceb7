//! `lookup` and `check`: what they say of domains, records, certificates and servers, and the status they end with.

use std::io::{Error, Result};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::ExtendedKeyUsagePurpose as Purpose;
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use crate::common::certificates::{Authority, Identity, Names};
use crate::common::dns::{Mood, NameServer};
use crate::common::run;
use crate::common::scratch::{Directory, free_port, loopback};
use crate::common::sip::{Frame, Sip, take_frame};

const LIMIT: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a proxy would be: its configuration, its certificate, and a name server. There is none: nothing runs.
struct Place {
    ip: IpAddr,
    directory: Directory,
    authority: Authority,
    name_server: NameServer,
    /// Tables beyond the usual ones.
    tables: String,
}

impl Place {
    async fn new() -> Self {
        let ip = loopback();
        let name_server = NameServer::start(ip, "").await;
        let (directory, authority) = (Directory::new("checks"), Authority::new("ours"));
        let place = Self { ip, directory, authority, name_server, tables: String::new() };
        let identity = place.authority.issue(&Names {
            hosts: vec!["sip.a.test".to_owned(), "a.test".to_owned()],
            usages: vec![Purpose::ServerAuth, Purpose::ClientAuth],
            ..Names::default()
        });
        place.shows(&identity);
        place.directory.write("ca.pem", place.authority.pem());
        place
    }

    /// The proxy has this certificate.
    fn shows(&self, identity: &Identity) {
        identity.write(&self.directory, "proxy");
    }

    fn with(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self
    }

    /// A server certificate of our authority for these names.
    fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.authority.server_config(&self.authority.server(names), true)
    }

    /// Status and output of a command.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let Self { ip, tables, .. } = self;
        let text = format!(
            "[service]\npresence_domains = [\"a.test\"]\n[sip]\nt1 = \"50ms\"\nt2 = \"200ms\"\n\
             [lan]\nbind_to_ip_address = \"{ip}\"\npassword = \"x\"\n\
             [wan]\nnetwork_interface = [{{ ip_address = \"{ip}\", port = 5090, protocol = \"tcp\" }},\n\
             {{ ip_address = \"{ip}\", port = 5091, protocol = \"udp\" }}]\n\
             [open_federation]\nenabled = true\nbind_to_ip_address = \"{ip}\"\n\
             [certificate]\nchain = \"proxy.pem\"\nprivate_key = \"proxy.key\"\ntrusted_cas = \"ca.pem\"\n\
             [dns]\nname_servers = [\"{}\"]\n[limits]\nhandshake_timeout = \"20s\"\n{tables}",
            self.name_server.address()
        );
        let file = self.directory.write("proxy.toml", text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
        command.arg("--config").arg(file).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
        let output = output.expect("Cargo has built the binary");
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
    }

    /// Expects this status and these texts in the output.
    async fn says(&self, arguments: &[&str], status: i32, parts: &[&str]) -> String {
        let (ended, printed) = self.run(arguments).await;
        assert_eq!(ended, Some(status), "{arguments:?}:\n{printed}");
        for part in parts {
            assert!(printed.contains(part), "no `{part}` in the output of {arguments:?}:\n{printed}");
        }
        printed
    }

    /// The object that a command prints.
    async fn object(&self, arguments: &[&str], status: i32) -> Value {
        let (ended, printed) = self.run(&[arguments, &["--json"]].concat()).await;
        assert_eq!(ended, Some(status), "{arguments:?}:\n{printed}");
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}:\n{printed}"))
    }

    /// `b.test` has one server, `sip.b.test`, here.
    fn names_server(&self, port: u16) {
        self.name_server.add(&format!(
            "_sipfederationtls._tcp.b.test 60 SRV 10 5 {port} sip.b.test\nsip.b.test 60 A {}",
            self.ip
        ));
    }
}

/// What a server does with a request.
#[derive(Clone, Copy, Debug)]
enum Habit {
    Answers(u16),
    Silent,
    /// It is no SIP server.
    Greets,
}

/// A server that goes on until the test ends. Handshakes that fail are the client's to tell.
async fn serve(ip: IpAddr, tls: Option<Arc<ServerConfig>>, habit: Habit) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).await.expect("a TCP port of loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, tls.clone(), habit));
        }
    });
    address
}

async fn converse(stream: TcpStream, tls: Option<Arc<ServerConfig>>, habit: Habit) -> Result<()> {
    match tls {
        Some(tls) => answer(TlsAcceptor::from(tls).accept(stream).await?, habit).await,
        None => answer(stream, habit).await,
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, habit: Habit) -> Result<()> {
    if let Habit::Greets = habit {
        stream.write_all(b"\x00220 mail.b.test\r\n").await?;
    }
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        if let (Some(Frame::Message(message)), Habit::Answers(status)) = (take_frame(&mut buffer), habit) {
            let request = Sip::parse(&message).map_err(Error::other)?;
            assert_eq!(request.method(), "OPTIONS");
            stream.write_all(&Sip::response(&request, status, "Said So", "t").to_bytes()).await?;
        }
    }
    Ok(())
}

/// A server that loses the first request.
async fn serve_datagrams(ip: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).await.expect("a UDP port of loopback");
    let address = socket.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        let mut octets = vec![0; 4096];
        for number in 0.. {
            let (length, peer) = socket.recv_from(&mut octets).await.expect("a datagram");
            let request = Sip::parse(&octets[..length]).expect("a request");
            if number > 0 {
                let answer = Sip::response(&request, 200, "OK", "t").to_bytes();
                socket.send_to(&answer, peer).await.expect("loopback takes it");
            }
        }
    });
    address
}

#[test]
fn lookup_tells_the_way_the_records_the_certificate_and_that_requests_arrive() {
    run(LIMIT, async {
        let place = Place::new().await;
        let server = serve(place.ip, Some(place.server(&["sip.b.test"])), Habit::Answers(200)).await;
        place.names_server(server.port());
        let record = format!("priority 10 weight 5 port {} sip.b.test", server.port());
        let parts = [
            "open federation",
            &record,
            &format!("trial           sip.b.test at {server} tls"),
            "TLS           1.3, server name sip.b.test",
            "sip.b.test; issued by CN=ours",
            "days left",
            "proven by the profile \"federation\"",
            "OPTIONS       200 Said So",
            "verdict         requests arrive",
        ];
        place.says(&["lookup", "B.test"], 0, &parts).await;
        let object = place.object(&["lookup", "b.test"], 0).await;
        assert_eq!(object["way"], "open_federation");
        assert_eq!(object["srv"][0]["weight"], 5);
        assert_eq!(object["servers"][0]["address"], server.to_string());
        assert_eq!(object["servers"][0]["tls_version"], "1.3");
        assert_eq!(object["servers"][0]["certificate"]["names"], "sip.b.test");
        assert_eq!(object["arrives"], true);
    });
}

#[test]
fn lookup_tells_why_requests_do_not_arrive_and_what_to_do() {
    run(LIMIT, async {
        let strangers = Authority::new("strangers");
        let ours = Place::new().await;
        let good = || Some(ours.server(&["b.test"]));
        let stranger = strangers.server_config(&strangers.server(&["b.test"]), false);
        // Believes no authority but its own.
        let picky = strangers.server_config(&ours.authority.server(&["b.test"]), true);
        type Row<'a> = (Option<Arc<ServerConfig>>, Habit, &'a [&'a str]);
        let table: [Row<'_>; 6] = [
            (
                Some(ours.server(&["sip.c.test"])),
                Habit::Answers(200),
                &["failed        identity: the certificate is that of somebody else", "sip.c.test", "TLS "],
            ),
            (Some(stranger), Habit::Answers(200), &["handshake: no authority that we trust", "trusted_cas"]),
            (
                Some(picky),
                Habit::Answers(200),
                &["handshake: our certificate is refused", "ask the peer why"],
            ),
            (None, Habit::Greets, &["handshake: what answers does not speak TLS", "check port"]),
            (good(), Habit::Silent, &["answer: OPTIONS is not answered", "lets this address in"]),
            (good(), Habit::Greets, &["answer: what answers is no SIP", "another service"]),
        ];
        for (tls, habit, parts) in table {
            let server = serve(ours.ip, tls, habit).await;
            ours.names_server(server.port());
            ours.says(&["lookup", "b.test"], 1, parts).await;
            ours.name_server.remove("_sipfederationtls._tcp.b.test", "SRV");
            ours.name_server.remove("sip.b.test", "A");
        }
        ours.names_server(free_port(ours.ip));
        let refused = ["connect: nobody can be reached there", "verdict         no server can be reached"];
        ours.says(&["lookup", "b.test"], 1, &refused).await;
    });
}

#[test]
fn lookup_tells_that_a_later_server_takes_over() {
    run(LIMIT, async {
        let place = Place::new().await;
        let server = serve(place.ip, Some(place.server(&["b.test"])), Habit::Answers(200)).await;
        place.names_server(free_port(place.ip));
        let second = format!("_sipfederationtls._tcp.b.test 60 SRV 20 0 {} sip.b.test", server.port());
        place.name_server.add(&second);
        place.says(&["lookup", "b.test"], 0, &["where 1 before it cannot be reached"]).await;
        place.says(&["check", "connectivity", "b.test"], 0, &["warning  b.test", "ok       b.test"]).await;
    });
}

#[test]
fn lookup_tells_what_policy_and_name_servers_refuse() {
    run(LIMIT, async {
        let place = Place::new().await.with("[federation]\nblocked_domains = [\"bad.test\"]\n");
        place.name_server.add("_sipfederationtls._tcp.no.test 60 SRV 0 0 0 .");
        place.name_server.add(&format!(
            "_sipfederationtls._tcp.loop.test 60 SRV 0 0 5061 us.test\nus.test 60 A {}",
            place.ip
        ));
        place.name_server.set_mood("_sipfederationtls._tcp.ill.test", Some(Mood::Code(2)));
        let table: [(&str, i32, &[&str]); 6] = [
            ("a.test", 0, &["served here"]),
            ("bad.test", 1, &["refused by policy, 403 Domain Blocked", "federation.blocked_domains"]),
            (
                "none.test",
                1,
                &["_sipfederationtls._tcp.none.test: no such record", "does not federate openly"],
            ),
            ("no.test", 1, &["the domain says that it has no such service", "static route"]),
            ("loop.test", 1, &["its servers are ourselves", "make it a presence domain"]),
            ("ill.test", 1, &["the name servers fail", "dns.name_servers"]),
        ];
        for (domain, status, parts) in table {
            place.says(&["lookup", domain], status, parts).await;
        }
        assert_eq!(place.object(&["lookup", "bad.test"], 1).await["way"], "refused");
        assert_eq!(place.run(&["lookup", "b..test"]).await.0, Some(2));
    });
}

/// A static route, enabled.
fn route(domain: &str, server: SocketAddr, protocol: &str, more: &str) -> String {
    format!(
        "[[static_routes.route]]\ndomain_name = \"{domain}\"\naccess_server = \"{}\"\nport = {}\n\
         transport_protocol = \"{protocol}\"\ntrusted = true\n{more}",
        server.ip(),
        server.port()
    )
}

#[test]
fn check_connectivity_tries_every_route_and_the_domains_that_are_named() {
    run(LIMIT, async {
        let place = Place::new().await;
        let private = Authority::new("private");
        place.directory.write("private.pem", private.pem());
        let of_private = private.server_config(&private.server(&["m.test"]), false);
        let tcp = serve(place.ip, None, Habit::Answers(200)).await;
        let tls = serve(place.ip, Some(of_private), Habit::Answers(200)).await;
        let refusing = serve(place.ip, None, Habit::Answers(403)).await;
        let udp = serve_datagrams(place.ip).await;
        let well = place
            .with(&route("t.test", tcp, "tcp", ""))
            .with(&route("m.test", tls, "mtls", "trusted_cas = \"private.pem\"\n"))
            .with(&route("u.test", udp, "udp", ""))
            .with(&route("r.test", refusing, "tcp", ""));
        let parts = [
            "ok       t.test",
            "ok       m.test",
            "TLS 1.3; m.test; issued by CN=private",
            "ok       u.test",
            "warning  r.test",
            "OPTIONS is answered with 403 Said So",
            "static_routes.route[3]: ",
            "0 failed, 1 warning\n",
        ];
        well.says(&["check", "connectivity"], 0, &parts).await;
        well.says(&["lookup", "m.test"], 0, &["static route to ", "(static_routes.route[1])"]).await;
        // Authorities of the route alone vouch for its domain.
        let other = serve(well.ip, Some(well.server(&["n.test"])), Habit::Answers(200)).await;
        let dead = SocketAddr::new(well.ip, free_port(well.ip));
        let ill = well
            .with(&route("n.test", other, "mtls", "trusted_cas = \"private.pem\"\n"))
            .with(&route("d.test", dead, "tcp", ""));
        let parts = [
            "failed   n.test",
            "handshake: no authority that we trust has issued the certificate",
            "failed   d.test",
            "connect: nobody can be reached there",
            "failed   x.test",
            "_sipfederationtls._tcp.x.test: no such record",
            "3 failed",
        ];
        ill.says(&["check", "connectivity", "x.test", "t.test"], 1, &parts).await;
        let object = ill.object(&["check", "connectivity"], 1).await;
        let failed = object["findings"].as_array().expect("a list").iter();
        let failed: Vec<_> = failed.filter(|finding| finding["grade"] == "failed").collect();
        assert_eq!(failed.len(), 2);
        assert_eq!((&failed[0]["check"], &failed[0]["subject"]), (&"connectivity".into(), &"n.test".into()));
        assert_eq!(failed[0]["key"], "static_routes.route[4]");
        assert!(failed[0]["place"].as_str().is_some_and(|place| place.contains("proxy.toml:")), "{failed:?}");
    });
}

#[test]
fn check_dns_shows_host_ip_and_port_or_why_not() {
    run(LIMIT, async {
        let place = Place::new().await;
        let missing = [
            "failed   a.test",
            "_sipfederationtls._tcp.a.test: no such record; no DNS host IP and DNS port",
            "remedy: have it set up: _sipfederationtls._tcp.a.test. IN SRV 0 0 5061 sip.a.test.",
        ];
        place.says(&["check", "dns"], 1, &missing).await;
        place.name_server.add("_sipfederationtls._tcp.a.test 60 SRV 0 0 5061 sip.a.test");
        let unresolved = ["sip.a.test has no address", "DNS host IP and DNS port: none"];
        place.says(&["check", "dns"], 1, &unresolved).await;
        place.name_server.add(&format!("sip.a.test 60 A {}", place.ip));
        let shown = format!("DNS host IP {}, DNS port 5061 (SRV 0 0 5061 sip.a.test)", place.ip);
        place.says(&["check", "dns"], 0, &[&shown, "all is well"]).await;
        place.name_server.replace("_sipfederationtls._tcp.a.test 60 SRV 0 0 5099 sip.a.test");
        place.says(&["check", "dns"], 1, &["port 5099 is none of ours: TLS on the WAN has 5061"]).await;
        place.name_server.replace("_sipfederationtls._tcp.a.test 60 SRV 0 0 5061 sip.a.test");
        // The server alone is named; then neither.
        place.shows(&place.authority.server(&["sip.a.test"]));
        place.says(&["check", "dns"], 0, &[&shown, "peers by the profile \"rfc5922\" refuse us"]).await;
        place.shows(&place.authority.server(&["sip.c.test"]));
        place.says(&["check", "dns"], 1, &["peers by either profile refuse us"]).await;
        place.name_server.set_mood("*", Some(Mood::Code(5)));
        place.says(&["check", "dns"], 1, &["the name servers fail", "check dns.name_servers"]).await;
    });
}

#[test]
fn check_certificates_tells_age_chain_purposes_and_names() {
    run(LIMIT, async {
        let place = Place::new().await;
        let well = [
            "ok       certificate              valid from",
            "the chain is complete; issued by CN=ours",
            "the private key belongs to it",
            "names: sip.a.test, a.test",
            "purposes: serverAuth, clientAuth",
            "ok       a.test",
            "1 authority of ",
            "all is well",
        ];
        place.says(&["check", "certificates"], 0, &well).await;
        let now = SystemTime::now();
        let issue = |hosts: &[&str], usages: &[Purpose], end| Names {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            usages: usages.to_vec(),
            end,
            ..Names::default()
        };
        let table: [(Names<'_>, i32, &[&str]); 5] = [
            (issue(&["a.test"], &[], Some(now + 10 * DAY)), 0, &["warning  certificate", "9 days left"]),
            (issue(&["a.test"], &[], Some(now - DAY)), 1, &["failed   certificate", "expired", "renew it"]),
            (issue(&["a.test"], &[Purpose::ServerAuth], None), 0, &["without clientAuth some peers refuse"]),
            (issue(&["a.test"], &[Purpose::CodeSigning], None), 1, &["for none of servers, clients"]),
            (issue(&["c.test"], &[], None), 0, &["warning  a.test", "peers refuse it"]),
        ];
        for (names, status, parts) in table {
            place.shows(&place.authority.issue(&names));
            let printed = place.says(&["check", "certificates"], status, parts).await;
            let key = printed.lines().find(|line| line.contains(": certificate.chain: "));
            assert!(key.is_some_and(|line| line.contains("proxy.toml:")), "{printed}");
        }
        let strangers = Authority::new("strangers");
        place.shows(&strangers.server(&["a.test"]));
        let incomplete = ["the chain is not complete: CN=strangers is missing", "intermediate certificates"];
        place.says(&["check", "certificates"], 1, &incomplete).await;
    });
}

#[test]
fn check_alone_checks_everything_but_faults_of_the_configuration_come_first() {
    run(LIMIT, async {
        let place = Place::new().await;
        let printed =
            place.says(&["check"], 1, &["the configuration is valid", "1 failed, 0 warnings"]).await;
        let at = |heading: &str| printed.lines().position(|line| line == heading);
        assert!(at("dns").is_some() && at("dns") < at("certificates"), "{printed}");
        assert!(at("certificates") < at("connectivity"), "{printed}");
        place.name_server.add(&format!(
            "_sipfederationtls._tcp.a.test 60 SRV 0 0 5061 sip.a.test\nsip.a.test 60 A {}",
            place.ip
        ));
        let object = place.object(&["check"], 0).await;
        let checks = ["dns", "certificates", "connectivity"];
        let findings = object["findings"].as_array().expect("a list");
        assert!(checks.iter().all(|check| findings.iter().any(|finding| finding["check"] == *check)));
        assert!(findings.iter().all(|finding| finding["grade"] == "ok"), "{object}");
        let ill = place.with("[admin]\nlisten = \"nowhere\"\n");
        let printed = ill.says(&["check"], 78, &["admin.listen", "1 fault; nothing was started"]).await;
        assert!(!printed.contains("certificates"), "{printed}");
        ill.says(&["lookup", "b.test"], 78, &["admin.listen"]).await;
        assert_eq!(ill.object(&["check", "dns"], 78).await["faults"][0]["key"], "admin.listen");
    });
}
