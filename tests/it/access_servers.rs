//! Static routes whose access server is given by name: who comes from where that name leads is believed.

use std::net::IpAddr;
use std::time::Duration;

use crate::common::agent::Agent;
use crate::common::dns::{Mood, NameServer};
use crate::common::proxy::{Protocol, Settings};
use crate::common::scratch::loopback;
use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, Site, relay, uri};

const HOST: &str = "sip.partner.test";

/// A site with a trusted route to `partner.test`, and bob logged on.
async fn site(names: &NameServer) -> (Site, Agent) {
    let route = format!(
        "\n[[static_routes.route]]\ndomain_name = \"partner.test\"\naccess_server = \"{HOST}\"\n\
         transport_protocol = \"tcp\"\ntrusted = true\n"
    );
    let settings = Settings::new(DOMAIN)
        .usual_timers()
        .account("uc", "secret")
        .key("dns", "name_servers", &format!("[\"{}\"]", names.address()))
        .text(&route);
    let site = Site::open(settings, &[Protocol::Tcp]).await;
    let mut bob = site.connect(Protocol::Tcp).await;
    bob.register(DOMAIN, "bob", "uc", "secret").await;
    (site, bob)
}

/// Somebody of the partner's, at this address.
async fn partner(site: &Site, address: IpAddr) -> Agent {
    site.connect_from(address, Protocol::Tcp).await
}

async fn is_let_in(site: &Site, address: IpAddr, bob: &mut Agent) {
    let mut partner = partner(site, address).await;
    let message = partner.message("sip:pat@partner.test", &uri("bob"), "hello");
    relay(&message, &mut partner, bob, 200).await;
}

async fn has_to_log_on(site: &Site, address: IpAddr) {
    let mut partner = partner(site, address).await;
    let message = partner.message("sip:pat@partner.test", &uri("bob"), "hello");
    assert_eq!(partner.exchange(&message).await.status(), 407);
}

#[test]
fn who_comes_from_where_the_name_leads_needs_no_log_on() {
    run(LIMIT, async {
        let [here, there] = [loopback(), loopback()];
        let names = NameServer::start(loopback(), &format!("{HOST} 1 A {here}")).await;
        let (site, mut bob) = site(&names).await;
        // Nobody has sent anything to the partner.
        site.proxy.logs(&["access_server_moved", "partner.test", &here.to_string()]).await;
        is_let_in(&site, here, &mut bob).await;
        has_to_log_on(&site, there).await;
        names.replace(&format!("{HOST} 1 A {there}"));
        let line = site.proxy.logs(&["access_server_moved", &there.to_string()]).await;
        assert!(line.contains(&here.to_string()), "{line}");
        is_let_in(&site, there, &mut bob).await;
        has_to_log_on(&site, here).await;
    });
}

#[test]
fn what_was_known_outlives_name_servers_that_fail() {
    run(LIMIT, async {
        let here = loopback();
        let names = NameServer::start(loopback(), &format!("{HOST} 1 A {here}")).await;
        let (site, mut bob) = site(&names).await;
        site.proxy.logs(&["access_server_moved", &here.to_string()]).await;
        names.set_mood(HOST, Some(Mood::Code(2)));
        let asked = names.count(HOST, "A");
        // The first question may have been answered a moment before; the second has failed, and the first was over then.
        eventually(Duration::from_secs(20), "the name is looked up in vain", || {
            (names.count(HOST, "A") >= asked + 3).then_some(())
        })
        .await;
        is_let_in(&site, here, &mut bob).await;
    });
}
