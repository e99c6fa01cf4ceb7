//! What a service manager is told: a real socket in place of systemd's.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::common::agent::acknowledgement;
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::common::scratch::{Directory, free_port};
use crate::invite::invitation;
use crate::reload::hanging::{block, restore};
use crate::support::{LIMIT, Site, open_house};

/// Where a service manager listens.
struct Manager {
    socket: UnixDatagram,
    directory: Directory,
}

impl Manager {
    fn new() -> Self {
        let directory = Directory::new("manager");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a Unix socket");
        Self { socket, directory }
    }

    /// A service that is to tell this manager.
    fn told_by(&self, settings: Settings) -> Settings {
        let socket = self.directory.path().join("notify");
        settings.environment("NOTIFY_SOCKET", &socket.display().to_string())
    }

    async fn hears(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(Duration::from_secs(10), self.socket.recv(&mut buffer)).await;
        let length = length.expect("a word within 10 s").expect("the socket is there");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next word that begins so; others in between are what comes regularly.
    async fn hears_of(&self, start: &str) -> String {
        loop {
            let word = self.hears().await;
            if word.starts_with(start) {
                return word;
            }
            assert_eq!(word, "WATCHDOG=1", "{start} wanted");
        }
    }
}

#[test]
fn it_is_told_of_the_start_of_each_round_of_the_watchdog_and_of_the_end() {
    run(LIMIT, async {
        let manager = Manager::new();
        let settings = manager.told_by(open_house()).environment("WATCHDOG_USEC", "1200000");
        let mut site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        assert_eq!(manager.hears_of("READY=1").await, "READY=1\nSTATUS=2 interfaces, 0 routes");
        for _ in 0..5 {
            assert_eq!(manager.hears().await, "WATCHDOG=1");
        }
        site.is_well(Protocol::Udp).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        let sent = invitation(&a, "bob");
        a.send(&sent).await;
        let invite = b.receive_request("INVITE").await;
        site.proxy.signal("TERM");
        let stopping = manager.hears_of("STOPPING=1").await;
        let (status, longest) = stopping.split_once("\nEXTEND_TIMEOUT_USEC=").expect("how long it may take");
        assert_eq!(status, "STOPPING=1\nSTATUS=stopping: 1 request left to answer");
        assert!(longest.parse::<u64>().is_ok_and(|longest| longest > 32_000_000), "{stopping}");
        // What is stopping has not stopped to carry SIP.
        assert_eq!(manager.hears_of("WATCHDOG=1").await, "WATCHDOG=1");
        b.answer(&invite, 486).await;
        let refusal = a.receive_response(486).await;
        a.send(&acknowledgement(&sent, &refusal)).await;
        manager.hears_of("STOPPING=1\nSTATUS=stopping\n").await;
        assert_eq!(site.proxy.ends().await.code(), Some(0));
    });
}

#[test]
fn each_reload_is_told_from_its_beginning_to_its_end_however_long_it_reads() {
    run(2 * LIMIT, async {
        let manager = Manager::new();
        let settings = manager.told_by(open_house()).environment("WATCHDOG_USEC", "1200000");
        let site = Site::open(settings, &[Protocol::Udp]).await;
        manager.hears_of("READY=1").await;
        let text = block(site.proxy.file());
        site.proxy.signal("HUP");
        let first = manager.hears_of("RELOADING=1\nMONOTONIC_USEC=").await;
        // Who reads holds up nobody: the watchdog is fed meanwhile.
        assert_eq!(manager.hears().await, "WATCHDOG=1");
        site.proxy.signal("HUP");
        restore(site.proxy.file(), &text);
        manager.hears_of("READY=1").await;
        site.proxy.logs(&["configuration_faulty", "10s"]).await;
        assert_ne!(manager.hears_of("RELOADING=1\nMONOTONIC_USEC=").await, first);
        manager.hears_of("READY=1").await;
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn a_process_that_was_stopped_for_a_while_goes_on_to_tell() {
    run(LIMIT, async {
        let manager = Manager::new();
        let settings = manager.told_by(open_house()).environment("WATCHDOG_USEC", "1200000");
        let site = Site::open(settings, &[Protocol::Udp]).await;
        manager.hears_of("READY=1").await;
        manager.hears_of("WATCHDOG=1").await;
        site.proxy.signal("STOP");
        while timeout(Duration::from_millis(1500), manager.socket.recv(&mut [0; 100])).await.is_ok() {}
        site.proxy.signal("CONT");
        for _ in 0..3 {
            assert_eq!(manager.hears().await, "WATCHDOG=1");
        }
        assert!(!site.proxy.log().contains("actor_stuck"), "{}", site.proxy.log());
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn an_interface_that_does_not_listen_stands_in_the_status() {
    run(LIMIT, async {
        let manager = Manager::new();
        let settings = manager.told_by(open_house());
        let ip = settings.ip();
        let port = free_port(ip);
        let taken = TcpListener::bind(SocketAddr::new(ip, port)).expect("a TCP port of loopback");
        let table = format!(
            "\n[[lan.network_interface]]\nip_address = \"{ip}\"\nport = {port}\nprotocol = \"tcp\"\n"
        );
        let site = Site::open(settings.text(&table), &[Protocol::Udp]).await;
        let ready = manager.hears_of("READY=1").await;
        let expected = "READY=1\nSTATUS=1 of 2 interfaces, 0 routes; lan.network_interface[0]: ";
        assert!(ready.starts_with(expected) && ready.contains("in use"), "{ready}");
        drop(taken);
        assert_eq!(manager.hears_of("STATUS=").await, "STATUS=2 interfaces, 0 routes");
        site.is_well(Protocol::Udp).await;
    });
}

#[test]
fn a_socket_that_is_not_there_is_no_reason_not_to_start() {
    run(LIMIT, async {
        for name in ["/nonexistent/notify", "@sip-proxy-nobody-there"] {
            let site = Site::open(open_house().environment("NOTIFY_SOCKET", name), &[Protocol::Udp]).await;
            site.is_well(Protocol::Udp).await;
        }
        let name = "x".repeat(300);
        let site = Site::open(open_house().environment("NOTIFY_SOCKET", &name), &[Protocol::Udp]).await;
        site.proxy.logs(&["warning", "service_manager_not_told"]).await;
    });
}
