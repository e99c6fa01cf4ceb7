//! Mutual TLS: who is let in, by whose word, and what is said of those who are not (RFC 5922).

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Identity};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::Directory;
use crate::support::{CERTIFIED, LIMIT, Site, answers_options, open_house};

/// The proxy talks to a client that shows `identity`.
async fn is_let_in(site: &Site, identity: &Identity) {
    let config = site.authority.client_config(Some(identity));
    let mut agent = Agent::tls(site.proxy.ip(), site.proxy.at(Protocol::Mtls), config).await;
    answers_options(&mut agent).await;
}

/// The proxy closes on a client that shows `identity`, and says so in a line that has all of `parts`.
async fn is_refused(site: &Site, identity: Option<&Identity>, parts: &[&str]) {
    let config = site.authority.client_config(identity);
    // With TLS 1.3 a client has done its part before it hears that it is refused.
    if let Ok(mut agent) = Agent::try_tls(site.proxy.ip(), site.proxy.at(Protocol::Mtls), config).await {
        assert!(agent.is_closed_by_peer().await);
    }
    let always = ["security", "tls_failed", "peer=127.", "direction=in", "phase=handshake", "remedy="];
    site.proxy.logs(&[&always, parts].concat()).await;
}

#[test]
fn who_is_refused_stands_in_one_line_with_the_cause_and_what_to_do() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Mtls]).await;
        let forger = Authority::new("Forger").client(CERTIFIED);
        is_refused(&site, Some(&forger), &["reason=unknown_issuer", "Forger", CERTIFIED, "trusted_cas"])
            .await;
        is_refused(&site, None, &["reason=no_certificate", "mutual TLS"]).await;
        is_let_in(&site, &site.authority.client("anybody.example")).await;
    });
}

#[test]
fn the_authority_of_a_route_lets_in_the_peer_of_that_route_alone() {
    run(LIMIT, async {
        let (files, partner) = (Directory::new("route"), Authority::new("Partner"));
        let route = format!(
            "\n[[static_routes.route]]\ndomain_name = \"b.example\"\naccess_server = \"sip.b.example\"\n\
             trusted_cas = {:?}\n",
            files.write("partner.pem", partner.pem())
        );
        let site = Site::open(open_house().text(&route), &[Protocol::Mtls]).await;
        for name in ["b.example", "sip.b.example"] {
            is_let_in(&site, &partner.client(name)).await;
        }
        for name in ["c.example", "x.sip.b.example", CERTIFIED] {
            let names = format!("names={name}");
            is_refused(&site, Some(&partner.client(name)), &["reason=unknown_issuer", "Partner", &names])
                .await;
        }
        is_let_in(&site, &site.authority.client("c.example")).await;
    });
}

#[test]
fn a_thousand_half_handshakes_end_after_their_time_and_nobody_else_notices() {
    run(LIMIT, async {
        let settings = open_house().key("limits", "handshake_timeout", "\"4s\"").key(
            "limits",
            "maximum_connections_per_address",
            "3000",
        );
        let site = Site::open(settings, &[Protocol::Mtls]).await;
        let mut half = Vec::new();
        for number in 0..1_000 {
            let mut stream = TcpStream::connect(site.proxy.at(Protocol::Mtls)).await.unwrap();
            if number % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
            }
            half.push(stream);
        }
        is_let_in(&site, &site.authority.client("anybody.example")).await;
        for stream in &mut half {
            assert_eq!(tokio::io::copy(stream, &mut tokio::io::sink()).await.unwrap_or(0), 0);
        }
        site.proxy.logs(&["tls_failed", "reason=timeout", "limits.handshake_timeout"]).await;
        let lines = site.proxy.log().lines().filter(|line| line.contains("tls_failed")).count();
        assert!(lines <= 30, "{lines} lines");
        is_let_in(&site, &site.authority.client("anybody.example")).await;
    });
}
