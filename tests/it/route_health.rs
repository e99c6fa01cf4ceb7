//! Static routes are probed while nothing passes, and the log says how they do.

use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::support::{DOMAIN, LIMIT, Site};

fn settings(access_server: std::net::SocketAddr) -> Settings {
    let route = format!(
        "\n[static_routes]\nprobe_interval = \"1s\"\n[[static_routes.route]]\ndomain_name = \"partner.test\"\n\
         access_server = \"{}\"\nport = {}\ntransport_protocol = \"tcp\"\ntrusted = true\n",
        access_server.ip(),
        access_server.port()
    );
    Settings::new(DOMAIN).usual_timers().account("uc", "secret").text(&route)
}

#[test]
fn a_route_fails_by_its_answers_to_probes_and_recovers_by_them() {
    run(LIMIT, async {
        let port = Port::tcp(loopback()).await;
        let site = Site::open(settings(port.local()), &[Protocol::Tcp]).await;
        let mut partner = port.accept().await;
        for _ in 0..2 {
            let probe = partner.receive_request("OPTIONS").await;
            assert_eq!(probe.uri(), "sip:partner.test");
            assert!(probe.need("From").starts_with("<sip:example.org>;tag="), "{probe}");
            assert_eq!(probe.values("Via").len(), 1, "{probe}");
            partner.answer(&probe, 503).await;
        }
        let failed = site.proxy.logs(&["route_failed", "partner.test"]).await;
        assert!(failed.contains("503"), "{failed}");
        // Whatever it says, somebody is there.
        let probe = partner.receive_request("OPTIONS").await;
        partner.answer(&probe, 405).await;
        site.proxy.logs(&["route_recovered", "partner.test"]).await;
        let probe = partner.receive_request("OPTIONS").await;
        partner.answer(&probe, 200).await;
        let log = site.proxy.log();
        for event in ["route_failed", "route_recovered"] {
            assert_eq!(log.lines().filter(|line| line.contains(event)).count(), 1, "{event} once");
        }
    });
}

#[test]
fn a_route_that_nobody_listens_at_has_failed() {
    run(LIMIT, async {
        let nobody = loopback();
        let access_server = std::net::SocketAddr::new(nobody, free_port(nobody));
        let site = Site::open(settings(access_server), &[Protocol::Tcp]).await;
        let failed = site.proxy.logs(&["route_failed", &access_server.to_string()]).await;
        assert!(failed.contains("no connection"), "{failed}");
    });
}
