//! Kamailio as edge and registrar of another organisation, which speaks mutual TLS with the proxy under test.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::common::certificates::{Authority, Names};
use crate::common::eventually;
use crate::common::process::Process;
use crate::common::scratch::{Directory, loopback};
use crate::installed;

const CONFIGURATION: &str = include_str!("kamailio.cfg");
/// Ports of the configuration: of other domains, of clients, and of who may send whatever it likes.
const FEDERATION_PORT: u16 = 5061;
const CLIENT_PORT: u16 = 5060;
const UNCHECKED_PORT: u16 = 5066;
/// For all of its processes to be there.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running Kamailio with an address of its own.
pub(crate) struct Kamailio {
    // Dropped before the directory that it works in.
    process: Process,
    ip: IpAddr,
    _directory: Directory,
}

impl Kamailio {
    /// Starts one for `domain`, which sends all that is for other domains to `peer`; `server_name` is what it says in
    /// the TLS handshake.
    pub(crate) async fn start(
        domain: &str,
        authority: &Authority,
        peer: SocketAddr,
        server_name: &str,
    ) -> Self {
        let (directory, ip) = (Directory::new("kamailio"), loopback());
        let identity = authority.issue(&Names {
            common_name: domain,
            hosts: vec![domain.to_owned(), format!("sip.{domain}")],
            ..Names::default()
        });
        let (chain, key) = identity.write(&directory, "edge");
        let trusted = directory.write("authority.pem", authority.pem());
        let both = format!(
            "method = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n\
             certificate = {}\nprivate_key = {}\nca_list = {}\n",
            chain.display(),
            key.display(),
            trusted.display()
        );
        let tls = format!("[server:default]\n{both}[client:default]\n{both}server_name = {server_name}\n");
        directory.write("tls.cfg", tls);
        let place = directory.path().display().to_string();
        let configuration = CONFIGURATION
            .replace("@DOMAIN@", domain)
            .replace("@IP@", &ip.to_string())
            .replace("@PEER@", &peer.to_string())
            .replace("@DIRECTORY@", &place);
        let file = directory.write("kamailio.cfg", configuration);
        // In the foreground, with its log on standard error, and with little memory.
        let mut command = Command::new(installed("kamailio"));
        command.args(["-DD", "-E", "-m", "64", "-M", "8", "-Y", &place, "-w", &place, "-f"]).arg(file);
        let process = Process::start("kamailio", &mut command);
        let mut kamailio = Self { process, ip, _directory: directory };
        kamailio.wait_until_ready().await;
        kamailio
    }

    /// Where other domains find it.
    pub(crate) fn federation(&self) -> SocketAddr {
        SocketAddr::new(self.ip, FEDERATION_PORT)
    }

    /// Where its clients register.
    pub(crate) fn clients(&self) -> SocketAddr {
        SocketAddr::new(self.ip, CLIENT_PORT)
    }

    /// Where it takes whatever it gets by UDP, and sends it to its peer.
    pub(crate) fn unchecked(&self) -> SocketAddr {
        SocketAddr::new(self.ip, UNCHECKED_PORT)
    }

    /// Waits until a user has registered.
    pub(crate) async fn registers(&self, user: &str, limit: Duration) {
        let line = format!("registered: {user}\n");
        let what = format!("{user} registers with Kamailio");
        eventually(limit, &what, || self.process.errors().contains(&line).then_some(())).await;
    }

    /// Its processes for streams start last; before, it takes connections that nobody reads.
    async fn wait_until_ready(&mut self) {
        eventually(START_LIMIT, "Kamailio listens", || {
            assert!(self.process.ended().is_none(), "Kamailio ends before it is ready");
            std::net::TcpStream::connect(self.federation()).ok()
        })
        .await;
    }
}
