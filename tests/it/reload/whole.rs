//! What holds for each reload, whatever it changes.

use std::net::SocketAddr;

use super::{interface, route, status_of_message};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::free_port;
use crate::invite::invitation;
use crate::support::{LIMIT, Site, answers_options, open_house, relay, uri};

#[test]
fn a_bad_file_changes_nothing_and_every_fault_is_told() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        site.proxy.replace("t1 = \"500ms\"", "t1 = \"soon\"");
        site.proxy
            .edit(|text| format!("{text}\n[limits]\nidle_timeout = 7\n[registrar]\nmaximum_contact = 1\n"));
        let line = site.proxy.reload().await;
        assert!(line.contains("reload_refused") && line.contains("faults=3"), "{line}");
        for (key, what) in [
            ("key=sip.t1", "soon"),
            ("key=limits.idle_timeout", "integer"),
            ("key=registrar.maximum_contact", "maximum_contacts"),
        ] {
            site.proxy.logs(&["configuration_faulty", key, what, "sip-proxy.toml:"]).await;
        }
        answers_options(&mut agent).await;
        // A file that is gone is as bad.
        site.proxy.edit(|_| "no TOML at all".to_owned());
        assert!(site.proxy.reload().await.contains("reload_refused"));
        answers_options(&mut agent).await;
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn what_only_a_restart_can_change_is_refused_by_name_and_nothing_is_changed() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy.replace("presence_domains = [\"example.org\"]", "presence_domains = [\"other.test\"]");
        for (key, row) in [
            ("service.worker_threads", "worker_threads = 1"),
            ("service.state_directory", "state_directory = \"elsewhere\""),
            ("service.control_socket", "control_socket = \"elsewhere.sock\""),
        ] {
            let mut before = String::new();
            site.proxy.edit(|text| {
                before.clone_from(&text);
                let text = text.replace("worker_threads = 2\n", "");
                text.replace("[service]\n", &format!("[service]\n{row}\n"))
            });
            let line = site.proxy.reload().await;
            assert!(line.contains("reload_refused"), "{line}");
            site.proxy.logs(&["configuration_faulty", &format!("key={key}"), "needs a restart"]).await;
            site.proxy.edit(|_| before);
        }
        // The domain has not been changed on the way.
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        assert!(site.proxy.reload().await.contains("changes=1"));
        let message = agent.message("sip:alice@other.test", "sip:bob@other.test", "hello");
        assert_eq!(agent.exchange(&message).await.status(), 480);
    });
}

#[test]
fn a_reload_of_what_is_in_force_changes_nothing() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
        let mut agent = site.server(Protocol::Tls, "bob").await;
        for _ in 0..3 {
            let line = site.proxy.reload().await;
            assert!(line.contains(" reloaded ") && line.contains("changes=0"), "{line}");
        }
        assert!(!site.proxy.log().contains("configuration_changed"));
        let mut caller = site.connect(Protocol::Udp).await;
        let message = caller.message(&uri("alice"), &uri("bob"), "hello");
        relay(&message, &mut caller, &mut agent, 200).await;
    });
}

#[test]
fn a_call_that_rings_while_everything_else_changes_is_answered() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let mut callee = site.server(Protocol::Tcp, "bob").await;
        let mut caller = site.connect(Protocol::Udp).await;
        let invite = invitation(&caller, "bob");
        caller.send(&invite).await;
        let arrived = callee.receive_request("INVITE").await;
        callee.answer(&arrived, 180).await;
        caller.receive_response(180).await;
        let address = SocketAddr::new(site.proxy.ip(), free_port(site.proxy.ip()));
        site.proxy.replace("t1 = \"500ms\"", "t1 = \"300ms\"\ntimer_c = \"200s\"");
        site.proxy.edit(|text| {
            let more = interface(address, "tcp") + &route("partner.test", "127.0.0.9:9".parse().unwrap());
            format!("{text}{more}\n[[lan.account]]\nuser_name = \"new\"\npassword = \"p\"\n[limits]\nmaximum_connections = 99\n")
        });
        let line = site.proxy.reload().await;
        assert!(line.contains("changes=6"), "{line}");
        site.proxy.logs(&["configuration_changed", "key=sip.t1", "500ms", "300ms"]).await;
        site.proxy.logs(&["configuration_changed", "static_routes.route[partner.test]", "added"]).await;
        callee.answer(&arrived, 200).await;
        caller.receive_response(200).await;
    });
}

#[test]
fn presence_domains_are_added_and_go() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let mut agent = site.connect(Protocol::Tcp).await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 404);
        let domains = "presence_domains = [\"example.org\"]";
        site.proxy.replace(domains, "presence_domains = [\"example.org\", \"second.test\"]");
        site.proxy.reload().await;
        // The one server that there could be is who asks.
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 480);
        site.proxy.replace(", \"second.test\"", "");
        site.proxy.reload().await;
        assert_eq!(status_of_message(&mut agent, "sip:bob@second.test").await, 404);
    });
}
