//! What a test borrows from the machine and gives back: a directory, loopback addresses, ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// A directory of this test's own, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A new directory below the system's temporary one.
    pub(crate) fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sip-proxy-{label}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A failing test is read by its logs: they stay.
        if !std::thread::panicking() {
            // A file that a dying child still writes is not worth failing a test that has passed.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// An address of 127.0.0.0/8 of this process's own, a new one with each call until 254 of them have been given out.
///
/// So tests do not meet each other's ports, nor what people start by hand on 127.0.0.1.
pub(crate) fn loopback() -> IpAddr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let last = COUNT.fetch_add(1, Ordering::Relaxed) % 254 + 1;
    IpAddr::V4(Ipv4Addr::new(127, high | 0x80, low, last))
}

/// A port that is free for UDP and TCP at `address` now, and that nobody else was given there.
pub(crate) fn free_port(address: IpAddr) -> u16 {
    static GIVEN: Mutex<BTreeSet<(IpAddr, u16)>> = Mutex::new(BTreeSet::new());
    for _ in 0..64 {
        let datagrams = UdpSocket::bind(SocketAddr::new(address, 0)).expect("a UDP port of loopback");
        let port = datagrams.local_addr().expect("a bound socket has an address").port();
        let is_new = || GIVEN.lock().expect("nobody panics with it").insert((address, port));
        if TcpListener::bind(SocketAddr::new(address, port)).is_ok() && is_new() {
            return port;
        }
    }
    panic!("no port of {address} is free for both UDP and TCP");
}
