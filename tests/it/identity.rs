//! Whose a certificate is, and what it proves (RFC 5922 §7, RFC 5924 §5, RFC 6066 §3), in both directions.

use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::pki_types::ServerName;

use crate::abroad::{Border, OWN_NAME, message_in, named, route};
use crate::common::agent::Agent;
use crate::common::certificates::{Authority, Identity, Names};
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::Sip;
use crate::support::{LIMIT, SILENCE, relay, uri};

/// What a certificate names: hosts, URIs, common name.
type Named<'a> = (&'a [&'a str], &'a [&'a str], &'a str);

fn names<'a>((hosts, uris, common_name): Named<'a>) -> Names<'a> {
    let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
    Names { uris, common_name, ..named(hosts) }
}

/// Certificates, and whether they prove `b.test` by themselves (RFC 5922 §7.1, §7.2).
const CERTIFICATES: [(Named<'_>, bool); 14] = [
    ((&[], &["sip:b.test"], ""), true),
    ((&["other.test"], &["sip:b.test"], ""), true),
    ((&["b.test"], &["sip:other.test"], ""), false),
    ((&[], &["sip:other.test", "sip:B.Test"], ""), true),
    ((&["b.test"], &["sip:bob@b.test"], ""), true),
    ((&["other.test"], &["sip:bob@b.test"], ""), false),
    ((&["B.TEST"], &[], "other.test"), true),
    ((&["other.test", "b.test"], &[], ""), true),
    ((&[], &[], "b.test"), true),
    ((&["other.test"], &[], "b.test"), false),
    ((&["*.test"], &[], ""), false),
    ((&["*.b.test"], &[], ""), false),
    ((&["x.b.test"], &[], ""), false),
    ((&["xb.test", "b.test.x", "test"], &[], ""), false),
];

#[test]
fn an_incoming_certificate_proves_what_it_names_whole_and_without_wildcards() {
    run(LIMIT, async {
        let strict = |s: Settings, _: &Authority| s.key("federation", "identity", "\"rfc5922\"");
        let border = Border::with(strict).await;
        let mut alice = border.server("alice").await;
        for (certificate, is_proven) in CERTIFICATES {
            let identity = border.site.authority.issue(&names(certificate));
            let mut peer = border.enter(Some(&identity)).await;
            let request = message_in(&peer, "sip:bob@b.test", "alice");
            if is_proven {
                relay(&request, &mut peer, &mut alice, 200).await;
            } else {
                let refused = peer.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{certificate:?}:\n{refused}");
            }
        }
        alice.receive_nothing(SILENCE).await;
    });
}

#[test]
fn an_outgoing_connection_stays_open_if_the_certificate_names_the_domain_and_else_carries_nothing() {
    run(LIMIT, async {
        let strict = |s: Settings, _: &Authority| s.key("federation", "identity", "\"rfc5922\"");
        let border = Border::with(strict).await;
        let mut alice = border.server("alice").await;
        for (number, (certificate, is_proven)) in CERTIFICATES.into_iter().enumerate() {
            // A domain for each, as the connections to one are used for all that goes there.
            let domain = format!("b{number}.test");
            let own = |name: &&str| name.to_lowercase().replace("b.test", &domain);
            let ((hosts, uris, common_name), host) = (certificate, format!("srv.{domain}"));
            let (hosts, uris): (Vec<_>, Vec<_>) =
                (hosts.iter().map(own).collect(), uris.iter().map(own).collect());
            let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
            let names = Names { uris, common_name: &own(&common_name), ..named(&hosts) };
            let foreign = border.foreign(&domain, &host, &names).await;
            let request = alice.message(&uri("alice"), &format!("sip:bob@{domain}"), "to abroad");
            goes_out(&mut alice, &request, &foreign.port, is_proven, &format!("{certificate:?}")).await;
        }
        // The name of the SRV record's target is none of the domain's (RFC 5922 §7.3).
        let foreign = border.foreign("c.test", "sip.c.test", &named(&["sip.c.test"])).await;
        let request = alice.message(&uri("alice"), "sip:bob@c.test", "to abroad");
        goes_out(&mut alice, &request, &foreign.port, false, "the target's alone").await;
        border.site.proxy.logs(&["tls_failed", "direction=out", "reason=wrong_name", "c.test"]).await;
    });
}

/// Sends a request that must arrive at `port`, or end in a connection that is closed before anything is said.
async fn goes_out(alice: &mut Agent, request: &Sip, port: &Port, is_proven: bool, what: &str) {
    alice.send(request).await;
    let mut peer = port.accept().await;
    if is_proven {
        let arrived = peer.receive_request("MESSAGE").await;
        peer.answer(&arrived, 200).await;
        alice.receive_response(200).await;
    } else {
        assert!(peer.ends_without_a_word().await, "{what}: something was said");
        let failed = alice.receive_response(504).await;
        assert_eq!(failed.need("Call-ID"), request.need("Call-ID"), "{what}");
    }
}

#[test]
fn a_server_directly_under_its_domain_proves_the_domain_by_the_federation_profile() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        // What the certificate names, the record's target, whether that proves the domain.
        let table = [
            ("b1.test", "b1.test", "sip.b1.test", true),
            ("b2.test", "b2.test", "sip.host.test", true),
            ("b3.test", "sip.b3.test", "sip.b3.test", true),
            ("b4.test", "sip4.host.test", "sip4.host.test", false),
            ("b5.test", "a.sip.b5.test", "a.sip.b5.test", false),
            ("b6.test", "other.b6.test", "sip.b6.test", false),
            ("b7.test", "*.b7.test", "sip.b7.test", false),
        ];
        for (domain, certificate, host, is_proven) in table {
            let foreign = border.foreign(domain, host, &named(&[certificate])).await;
            let bob = format!("sip:bob@{domain}");
            // In by a connection of the peer's own first, as one that we had opened would be used again.
            let mut peer = border.enter(Some(&foreign.identity)).await;
            let request = message_in(&peer, &bob, "alice");
            if is_proven {
                relay(&request, &mut peer, &mut alice, 200).await;
            } else {
                let refused = peer.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{domain}:\n{refused}");
            }
            peer.close().await;
            let request = alice.message(&uri("alice"), &bob, "to abroad");
            goes_out(&mut alice, &request, &foreign.port, is_proven, domain).await;
        }
    });
}

#[test]
fn from_is_held_against_the_certificate_and_the_log_names_both() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let (_b, c) = (border.usual("b.test").await, border.usual("c.test").await);
        let mut peer = border.enter(Some(&c.identity)).await;
        let spoofed = message_in(&peer, "sip:bob@b.test", "alice");
        assert_eq!(peer.exchange(&spoofed).await.status(), 403);
        let line = border.site.proxy.logs(&["peer_refused", "b.test", "c.test"]).await;
        assert!(line.contains("domain=b.test") && line.contains("names=c.test"), "{line}");
        // What the request says of a dialog, of itself and of others helps nobody.
        for (name, value) in [
            ("From", "\"sip:bob@c.test\" <sip:bob@b.test>;tag=1"),
            ("From", "<sip:bob@c.test@b.test>;tag=1"),
            ("From", "<sip:127.0.0.1>;tag=1"),
            ("P-Asserted-Identity", "<sip:carol@c.test>"),
        ] {
            let spoofed = message_in(&peer, "sip:bob@b.test", "alice").set(name, value);
            let status = peer.exchange(&spoofed).await.status();
            assert!(matches!(status, 400 | 403), "{value}: {status}");
        }
        alice.receive_nothing(SILENCE).await;
        let own = message_in(&peer, "sip:carol@c.test", "alice");
        relay(&own, &mut peer, &mut alice, 200).await;
    });
}

#[test]
fn who_shows_no_certificate_gets_no_further_than_a_challenge() {
    run(LIMIT, async {
        // Somebody may log on from outside, or a challenge would be of no use.
        let partner =
            "\n[[registrar.account]]\nuser_name = \"partner\"\npassword = \"pw\"\nusers = [\"*@b.test\"]\n";
        let border = Border::with(|settings, _| settings.listen_outside(Protocol::Tls).text(partner)).await;
        let mut alice = border.server("alice").await;
        let proxy = &border.site.proxy;
        // Where a certificate is demanded there is no connection without one.
        if let Ok(mut agent) = Agent::try_tls(
            loopback(),
            proxy.outside_at(Protocol::Mtls),
            border.site.authority.client_config(None),
        )
        .await
        {
            assert!(agent.ends_without_a_word().await);
        }
        proxy.logs(&["tls_failed", "direction=in", "reason=no_certificate"]).await;
        let config = border.site.authority.client_config(None);
        let mut peer = Agent::tls(loopback(), proxy.outside_at(Protocol::Tls), config).await;
        for from in ["sip:bob@b.test", &uri("carol")] {
            for method in ["MESSAGE", "SUBSCRIBE", "INVITE", "NOTIFY", "BYE"] {
                let request = peer.request(method, &uri("alice"), from, &uri("alice"));
                assert_eq!(peer.exchange(&request).await.status(), 407, "{method} from {from}");
                let forged = peer.request(method, &uri("alice"), from, &uri("alice"));
                let forged = forged.set("To", format!("<{}>;tag=forged", uri("alice")));
                assert_eq!(peer.exchange(&forged).await.status(), 407, "{method} from {from}, To tag");
            }
        }
        alice.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_to_tag_or_a_route_opens_no_way_past_the_certificate() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let (b, c) = (border.usual("b.test").await, border.usual("c.test").await);
        // A dialog between alice and bob, whose Record-Route carol has got hold of.
        let mut bob = border.enter(Some(&b.identity)).await;
        let subscribe = bob.request("SUBSCRIBE", &uri("alice"), "sip:bob@b.test", &uri("alice"));
        let (arrived, accepted) = relay(&subscribe, &mut bob, &mut alice, 200).await;
        let recorded: Vec<_> = arrived.values("Record-Route").into_iter().map(str::to_owned).collect();
        assert_eq!(recorded.len(), 2, "{arrived}");
        let mut carol = border.enter(Some(&c.identity)).await;
        let forged_token = recorded[0].replacen("sip:", "sip:AAAA", 1);
        for (from, to, routes) in [
            ("<sip:bob@b.test>;tag=1", accepted.need("To"), vec![]),
            (subscribe.need("From"), accepted.need("To"), vec![&*recorded[0]]),
            (subscribe.need("From"), accepted.need("To"), vec![&*recorded[1], &*recorded[0]]),
            (subscribe.need("From"), accepted.need("To"), vec![&*forged_token]),
            // Towards bob, by the token that leads to him: nothing goes from outside to outside.
            ("<sip:carol@c.test>;tag=2", subscribe.need("From"), vec![&*recorded[1]]),
        ] {
            for method in ["SUBSCRIBE", "NOTIFY", "INVITE", "BYE", "INFO", "MESSAGE"] {
                let request = carol.request(method, &uri("alice"), "sip:x@x.test", &uri("alice"));
                let request = request.set("From", from).set("To", to);
                let request = routes.iter().fold(request, |request, route| request.with("Route", *route));
                let refused = carol.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{method} {from} {routes:?}:\n{refused}");
            }
        }
        // An ACK, which cannot be refused, is dropped.
        let ack = carol.request("ACK", &uri("alice"), "sip:x@x.test", &uri("alice"));
        carol.send(&ack.set("From", "<sip:bob@b.test>;tag=1").with("Route", &*recorded[0])).await;
        alice.receive_nothing(SILENCE).await;
        bob.receive_nothing(SILENCE).await;
    });
}

#[test]
fn certificates_are_taken_for_servers_clients_sip_domains_any_purpose_or_none_in_particular() {
    run(LIMIT, async {
        let border = Border::open().await;
        let mut alice = border.server("alice").await;
        let sip_domain = || Usage::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 20]);
        let table = [
            (vec![Usage::ServerAuth], true),
            (vec![Usage::ServerAuth, Usage::ClientAuth], true),
            (vec![Usage::ClientAuth], true),
            (vec![sip_domain()], true),
            (vec![Usage::Any], true),
            (vec![], true),
            (vec![Usage::CodeSigning], false),
            (vec![Usage::EmailProtection, Usage::TimeStamping], false),
        ];
        for (usages, is_accepted) in table {
            let identity =
                border.site.authority.issue(&Names { usages: usages.clone(), ..named(&["b.test"]) });
            let config = border.site.authority.client_config(Some(&identity));
            let address = border.site.proxy.outside_at(Protocol::Mtls);
            let connected = Agent::try_tls(loopback(), address, config).await;
            if is_accepted {
                let mut peer = connected.unwrap_or_else(|error| panic!("{usages:?}: {error}"));
                let request = message_in(&peer, "sip:bob@b.test", "alice");
                relay(&request, &mut peer, &mut alice, 200).await;
            } else if let Ok(mut peer) = connected {
                assert!(peer.ends_without_a_word().await, "{usages:?}");
            }
        }
        border.site.proxy.logs(&["tls_failed", "direction=in", "reason=wrong_purpose"]).await;
    });
}

#[test]
fn the_hello_has_the_name_of_the_host_and_never_an_address() {
    run(LIMIT, async {
        // A route by address, a route by name, and a domain that is looked up.
        let authority_of_routes = Authority::new("Authority Of Routes");
        let certificate = authority_of_routes.issue(&named(&["r1.test", "r2.test"]));
        let open = || Port::tls(loopback(), authority_of_routes.server_config(&certificate, false));
        let (by_address, by_name) = (open().await, open().await);
        let border = Border::with(|settings, _| {
            let private = "trusted_cas = \"routes.pem\"\n";
            let (address, name) = (by_address.local(), by_name.local());
            settings
                .file("routes.pem", &authority_of_routes.pem())
                .text(&route("r1.test", "tls", &address.ip().to_string(), address.port(), private))
                .text(&route("r2.test", "mtls", "sip.r2.test", name.port(), private))
        })
        .await;
        border.names.add(&format!("sip.r2.test 60 A {}", by_name.local().ip()));
        let b = border.usual("b.test").await;
        let mut alice = border.server("alice").await;
        for (port, domain, expected) in [
            (&by_address, "r1.test", "r1.test"),
            (&by_name, "r2.test", "sip.r2.test"),
            (&b.port, "b.test", "sip.b.test"),
        ] {
            let request = alice.message(&uri("alice"), &format!("sip:bob@{domain}"), "to abroad");
            alice.send(&request).await;
            let (mut peer, name) = port.accept_with_name().await;
            assert_eq!(name.as_deref(), Some(expected), "{domain}");
            let arrived = peer.receive_request("MESSAGE").await;
            peer.answer(&arrived, 200).await;
            alice.receive_response(200).await;
        }
        // Whatever name is asked for, or none, the one certificate is shown, and must fit.
        let address = border.site.proxy.outside_at(Protocol::Mtls);
        for (name, fits) in [
            (ServerName::try_from(OWN_NAME).expect("a name"), true),
            (ServerName::from(address.ip()), true),
            (ServerName::try_from("other.example.org").expect("a name"), false),
        ] {
            let config = border.site.authority.client_config(Some(&b.identity));
            let connected = Agent::try_tls_named(loopback(), address, config, name.clone()).await;
            assert_eq!(connected.is_ok(), fits, "{name:?}");
        }
    });
}

#[test]
fn each_fault_of_a_certificate_has_its_own_line_in_the_log() {
    run(LIMIT, async {
        let (mut listed, stranger) = (None, Authority::new("Unknown Authority"));
        let border = Border::with(|settings, authority| {
            let revoked = authority.issue(&fault_names("revoked", None));
            let settings = settings.file("revoked.crl", &authority.revocation_list(&[&revoked])).key(
                "certificate",
                "revocation_lists",
                "[\"revoked.crl\"]",
            );
            listed = Some(revoked);
            settings
        })
        .await;
        let own = &border.site.authority;
        let faults: [(&str, Identity, &str); 4] = [
            ("expired", own.issue(&fault_names("expired", Some((2019, 2021)))), "2021"),
            ("not_yet_valid", own.issue(&fault_names("not_yet_valid", Some((3000, 3001)))), "3001"),
            ("unknown_issuer", stranger.issue(&fault_names("unknown_issuer", Some((2020, 2999)))), "2999"),
            ("revoked", listed.expect("it was issued"), "4096"),
        ];
        let mut alice = border.server("alice").await;
        for (reason, identity, not_after) in faults {
            let issuer = if reason == "unknown_issuer" { "Unknown Authority" } else { "Authority Of Tests" };
            let subject = format!("CN={reason}");
            // As a client.
            let name = ServerName::try_from(OWN_NAME).expect("a name");
            let (address, config) =
                (border.site.proxy.outside_at(Protocol::Mtls), own.client_config(Some(&identity)));
            if let Ok(mut peer) = Agent::try_tls_named(loopback(), address, config, name).await {
                assert!(peer.ends_without_a_word().await, "{reason}");
            }
            let reason_is = format!("reason={reason}");
            let line = border.site.proxy.logs(&["tls_failed", "direction=in", &reason_is]).await;
            for part in ["peer=127.", OWN_NAME, &subject, issuer, "not_after=", not_after, "remedy="] {
                assert!(line.contains(part), "no {part} in: {line}");
            }
            // As a server.
            let domain = format!("{}.test", reason.replace('_', "-"));
            let host = format!("sip.{domain}");
            let foreign = border.foreign_with(&domain, &host, identity).await;
            let request = alice.message(&uri("alice"), &format!("sip:bob@{domain}"), "to abroad");
            alice.send(&request).await;
            foreign.port.accept_refused().await;
            alice.receive_response(504).await;
            let line = border.site.proxy.logs(&["tls_failed", "direction=out", &reason_is]).await;
            let peer = format!("peer={}", foreign.port.local());
            for part in [&*peer, &host, &subject, issuer, "not_after=", not_after, "remedy="] {
                assert!(line.contains(part), "no {part} in: {line}");
            }
        }
    });
}

/// A certificate of the domain that is called after what is wrong with it.
fn fault_names(reason: &str, years: Option<(i32, i32)>) -> Names<'_> {
    let domain = format!("{}.test", reason.replace('_', "-"));
    Names { common_name: reason, years, ..named(&[&domain]) }
}
