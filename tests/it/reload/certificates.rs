//! Certificates: those that the proxy shows and those that it believes.

use super::route_by;
use crate::abroad::named;
use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Identity};
use crate::common::port::Port;
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::support::{LIMIT, Site, answers_options, open_house, uri};

#[test]
fn a_certificate_that_is_renewed_on_disk_is_shown_by_new_connections_and_old_ones_stay() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let mut old = site.server(Protocol::Tls, "bob").await;
        let first = shown(&site).await;
        let renewed = site.authority.server(&[&site.proxy.ip().to_string()]);
        // The configuration may be half edited meanwhile.
        site.proxy.edit(|text| format!("{text}\n[nonsense]\n"));
        let before = site.proxy.reloads();
        // Half a pair changes nothing, and is told once.
        site.proxy.directory().write("proxy.pem", &renewed.chain);
        let line = site.proxy.reloaded_after(before).await;
        assert!(line.contains("reload_refused"), "{line}");
        assert_eq!(shown(&site).await, first);
        site.proxy.directory().write("proxy.key", &renewed.private_key);
        let line = site.proxy.reloaded_after(before + 1).await;
        assert!(line.contains(" reloaded ") && line.contains("cause=files_changed"), "{line}");
        assert_ne!(shown(&site).await, first);
        answers_options(&mut old).await;
        site.proxy.logs(&["configuration_changed", "certificate.private_key", "***"]).await;
        assert_eq!(site.proxy.reloads(), before + 2);
    });
}

#[test]
fn connections_of_a_revoked_peer_end_and_others_stay() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Mtls]).await;
        let names = |name: &str| site.authority.client(name);
        let (good, bad) = (names("good.example.org"), names("bad.example.org"));
        let at = site.proxy.at(Protocol::Mtls);
        let mut kept = Agent::tls(site.proxy.ip(), at, site.authority.client_config(Some(&good))).await;
        let mut ended = Agent::tls(site.proxy.ip(), at, site.authority.client_config(Some(&bad))).await;
        answers_options(&mut kept).await;
        answers_options(&mut ended).await;
        site.proxy.directory().write("revoked.pem", site.authority.revocation_list(&[&bad]));
        site.proxy.replace("[certificate]\n", "[certificate]\nrevocation_lists = [\"revoked.pem\"]\n");
        site.proxy.reload().await;
        assert!(ended.is_closed_by_peer().await);
        answers_options(&mut kept).await;
    });
}

/// The certificate that the proxy shows now.
async fn shown(site: &Site) -> Vec<u8> {
    let config = site.authority.client_config(None);
    let stream = tokio::net::TcpStream::connect(site.proxy.at(Protocol::Tls)).await.expect("a connection");
    let name = rustls::pki_types::ServerName::from(site.proxy.ip());
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
}

/// A connection with mutual TLS that shows `identity`, if the proxy lets it in.
async fn enter(site: &Site, identity: &Identity) -> Option<Agent> {
    let config = site.authority.client_config(Some(identity));
    // With TLS 1.3 a client has done its part before it hears that it is refused.
    let mut agent = Agent::try_tls(site.proxy.ip(), site.proxy.at(Protocol::Mtls), config).await.ok()?;
    let proxy = "sip:example.org";
    let options = agent.request("OPTIONS", proxy, &uri("alice"), proxy);
    agent.try_exchange(&options).await.map(|_| agent)
}

#[test]
fn others_are_trusted_who_come_afterwards_and_nobody_who_is_there_has_to_go() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Mtls]).await;
        let other = Authority::new("Other");
        let (ours, theirs) = (site.authority.client("uc.example.org"), other.client("uc.other.test"));
        let mut first = enter(&site, &ours).await.expect("we are trusted");
        assert!(enter(&site, &theirs).await.is_none());
        site.proxy.directory().write("both.pem", site.authority.pem() + &other.pem());
        site.proxy.change(&[("certificate", "trusted_cas", "\"both.pem\"")]).await;
        let mut second = enter(&site, &theirs).await.expect("they are trusted");
        assert!(enter(&site, &ours).await.is_some());
        // The file is written anew, without us.
        let before = site.proxy.reloads();
        site.proxy.directory().write("both.pem", other.pem());
        let line = site.proxy.reloaded_after(before).await;
        assert!(line.contains(" reloaded ") && line.contains("changes=1"), "{line}");
        assert!(enter(&site, &ours).await.is_none());
        assert!(enter(&site, &theirs).await.is_some());
        answers_options(&mut first).await;
        answers_options(&mut second).await;
    });
}

#[test]
fn a_second_pair_for_peers_comes_is_renewed_and_goes() {
    // client_chain, client_private_key
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Mtls]).await;
        let (ours, peers) = (&site.authority, Authority::new("The peer's"));
        // The peer is one that we trust, and trusts nobody but an authority of its own.
        let port = Port::tls(loopback(), peers.server_config(&ours.issue(&named(&["b.test"])), true)).await;
        site.proxy.edit(|text| text + &route_by("mtls", "b.test", port.local(), ""));
        assert!(site.proxy.reload().await.contains("changes=1"));
        let mut agent = site.connect(Protocol::Tcp).await;
        let message = |agent: &Agent| agent.message(&uri("alice"), "sip:bob@b.test", "hello");
        let refused = async |agent: &mut Agent| {
            let request = message(agent);
            let (answer, ()) = tokio::join!(agent.exchange(&request), port.accept_refused());
            assert!(answer.status() >= 500, "{answer}");
        };
        refused(&mut agent).await;
        peers.client("first.example.org").write(site.proxy.directory(), "client");
        let pair = [
            ("certificate", "client_chain", "\"client.pem\""),
            ("certificate", "client_private_key", "\"client.key\""),
        ];
        site.proxy.change(&pair).await;
        agent.send(&message(&agent)).await;
        let mut peer = port.accept().await;
        let arrived = peer.receive_request("MESSAGE").await;
        peer.answer(&arrived, 200).await;
        agent.receive_response(200).await;
        // The pair is renewed by somebody whom the peer does not trust; the connection that is there goes on.
        let before = site.proxy.reloads();
        ours.client("second.example.org").write(site.proxy.directory(), "client");
        assert!(site.proxy.reloaded_after(before).await.contains(" reloaded "));
        agent.send(&message(&agent)).await;
        let arrived = peer.receive_request("MESSAGE").await;
        peer.answer(&arrived, 200).await;
        agent.receive_response(200).await;
        peer.close().await;
        refused(&mut agent).await;
        for (section, key, _) in pair {
            site.proxy.set(section, key, "\"\"");
        }
        assert!(site.proxy.reload().await.contains("changes=2"));
        refused(&mut agent).await;
    });
}

#[test]
fn old_versions_of_tls_are_refused_and_let_in_as_the_file_has_it_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tls]).await;
        let at = site.proxy.at(Protocol::Tls);
        let old = || Agent::try_tls(site.proxy.ip(), at, site.authority.old_client_config());
        let mut first = old().await.expect("TLS 1.2");
        site.proxy.change(&[("certificate", "minimum_tls_version", "\"1.3\"")]).await;
        assert!(old().await.is_err());
        answers_options(&mut first).await;
        answers_options(&mut site.connect(Protocol::Tls).await).await;
        site.proxy.change(&[("certificate", "minimum_tls_version", "\"1.2\"")]).await;
        answers_options(&mut old().await.expect("TLS 1.2")).await;
    });
}
