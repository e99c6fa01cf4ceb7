//! What goes wrong elsewhere: each is a process of its own, until it is ended.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::common::random::Random;
use crate::load::{end, placed, register};
use crate::rig::texts;

/// The variable with the address of the TCP interface.
pub(crate) const TCP: &str = "STEADINESS_TCP";

/// What the files with the peers' certificates are called.
pub(crate) const KNOWN: &str = "known";
pub(crate) const UNKNOWN: &str = "unknown";

/// Users who are not the load's.
const STALLED: u64 = 2;
const REGISTERED: u64 = 1_000;

/// Does it for as long as the process lives. `directory` is the proxy's.
pub(crate) fn disturb(kind: &str, directory: &Path, address: SocketAddr) {
    match kind {
        "stalled" => stalled(address),
        "disk" => disk(directory, address),
        "handshakes" => handshakes(directory, address),
        "garbage" => garbage(address),
        _ => panic!("{kind:?} is no disturbance"),
    }
}

/// A UC server registers over TCP and then reads nothing, while 2,000 MESSAGEs a second are on their way to it. When
/// the proxy has enough of it, it comes again.
fn stalled(udp: SocketAddr) {
    const GAP: Duration = Duration::from_micros(500);
    let tcp: SocketAddr = std::env::var(TCP).expect("the parent sets it").parse().expect("an address");
    let caller = end(udp);
    let own = caller.local_addr().expect("a bound socket has an address").to_string();
    let (mut number, mut due) = (0x8000_0000_u64, Instant::now());
    loop {
        let _stalled = register_over_stream(tcp, number);
        // The proxy ends the connection of a peer that takes nothing; what comes to it then is not worth a disturbance.
        for _ in 0..20_000 {
            (number, due) = (number + 1, due + GAP);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            caller.send(&placed(&texts::message(number, STALLED), texts::CALLER, &own)).expect("loopback");
        }
    }
}

fn register_over_stream(proxy: SocketAddr, number: u64) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).expect("the proxy listens");
    let own = stream.local_addr().expect("a connected socket has an address").to_string();
    let text = placed(&texts::register(number, STALLED), texts::CALLEE, &own);
    let text = String::from_utf8_lossy(&text).replace("2.0/UDP", "2.0/TCP");
    let text = text.replace(">\r\nExpires", ";transport=tcp>\r\nExpires");
    stream.write_all(text.as_bytes()).expect("the proxy reads");
    let mut answer = [0; 2048];
    let length = stream.read(&mut answer).expect("a REGISTER is answered");
    assert!(answer[..length].starts_with(b"SIP/2.0 200"), "{}", String::from_utf8_lossy(&answer[..length]));
    stream
}

/// Four writers that want each octet on the disk where the proxy keeps its state, and a UC server that registers its
/// users one after the other.
fn disk(directory: &Path, udp: SocketAddr) {
    for writer in 0..4 {
        let path = directory.join(format!("writer-{writer}"));
        thread::spawn(move || {
            let octets = vec![0x55; 1 << 20];
            loop {
                let mut file = File::create(&path).expect("the parent's directory");
                for _ in 0..16 {
                    file.write_all(&octets).and_then(|()| file.sync_all()).expect("a disk with room");
                }
            }
        });
    }
    let server = end(udp);
    for number in 2.. {
        register(&server, REGISTERED + number % REGISTERED, number);
    }
}

/// 1,000 peers that connect again and again, all at once. Every other one has a certificate of an authority that the
/// proxy does not know.
fn handshakes(directory: &Path, address: SocketAddr) {
    let configs = [KNOWN, UNKNOWN].map(|name| peer(directory, name));
    for config in configs.iter().cycle().take(1_000) {
        let config = Arc::clone(config);
        let peer = thread::Builder::new().stack_size(1 << 18);
        let peer = peer.spawn(move || {
            loop {
                shake_hands(&config, address);
            }
        });
        peer.expect("the machine has threads");
    }
    thread::park();
}

/// TLS of a peer whose certificate is in the proxy's directory, as is the authority that has signed the proxy's.
fn peer(directory: &Path, name: &str) -> Arc<ClientConfig> {
    let certificate =
        |name: &str| CertificateDer::from_pem_file(directory.join(name)).expect("the parent has written it");
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key")))
        .expect("the parent has written it");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("authority.pem")).expect("a certificate of rcgen is well-formed");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&format!("{name}.pem"))], key);
    Arc::new(config.expect("key and certificate belong together"))
}

fn shake_hands(config: &Arc<ClientConfig>, proxy: SocketAddr) {
    let connection = ClientConnection::new(Arc::clone(config), ServerName::from(proxy.ip()));
    let mut connection = connection.expect("an address is a server's name");
    // Whether the proxy takes it, refuses it or lets it wait is seen by what becomes of the load.
    let _ = TcpStream::connect(proxy).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection.complete_io(&mut stream)
    });
}

/// Datagrams of chance, as fast as they can be sent.
fn garbage(address: SocketAddr) {
    let (socket, mut random) = (end(address), Random::new(1));
    loop {
        let datagram: Vec<u8> = (0..64).flat_map(|_| random.next().to_ne_bytes()).collect();
        // The kernel may say that nobody takes them.
        let _ = socket.send(&datagram);
    }
}
