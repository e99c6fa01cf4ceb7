//! What those see who run it: logs, the admin interface, the end.

use std::net::SocketAddr;
use std::time::Duration;

use super::{interface, listens, route, status_of_message};
use crate::common::agent::Agent;
use crate::common::dns::NameServer;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::Sip;
use crate::common::stun_server::{Filter, Mapping, OUTSIDE, Speech, StunServer};
use crate::invite::invitation;
use crate::support::{DOMAIN, LIMIT, Site, answers_options, open_house, relay, uri};

#[test]
fn log_levels_change_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy
            .replace("log_level = \"debug\"", "log_level = { default = \"info\", connection = \"error\" }");
        site.proxy.reload().await;
        let lines = || site.proxy.log().lines().filter(|line| line.contains("connection_opened")).count();
        let before = lines();
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        agent.close().await;
        assert_eq!(lines(), before);
        site.proxy.replace("connection = \"error\"", "connection = \"debug\"");
        site.proxy.reload().await;
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        site.proxy.logs(&["connection_opened"]).await;
        assert!(lines() > before);
    });
}
