//! What a service manager is told (sd_notify(3)): datagrams to the socket that it names in `NOTIFY_SOCKET`.
//!
//! Without that variable nothing is said. Nobody is waited for: what the manager's queue has no room for is lost, and
//! what matters is said again.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use super::interfaces::States;
use crate::actors::listener::InterfaceState;
use crate::config::Config;

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Who has started the process, if that wants to be told.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The latest [`Self::status`].
    status: String,
}

impl ServiceManager {
    /// The one that the environment names. The error says why it cannot be told.
    pub(super) fn from_environment() -> io::Result<Self> {
        match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => Self::at(&name),
            None => Ok(Self::default()),
        }
    }

    /// A path, or after `@` an abstract name.
    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), status: String::new() })
    }

    /// Whether somebody listens.
    pub(super) const fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// The service does its work: after the start and after a reload.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
    }

    /// A reload has begun; [`Self::ready`] ends it.
    pub(super) fn reloading(&self) {
        // The kernel always has this clock.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// One line for people, from now on; said at once where it is another one and the service is ready.
    pub(super) fn status(&mut self, line: String, is_ready: bool) {
        if self.status != line {
            self.status = line;
            if is_ready {
                self.tell(&[NotifyState::Status(&self.status)]);
            }
        }
    }

    /// The service ends, which may take `longest` from now.
    pub(super) fn stopping(&mut self, line: String, longest: Duration) {
        self.status = line;
        let microseconds = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
        let longest = NotifyState::ExtendTimeoutUsec(microseconds);
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&self.status), longest]);
    }

    /// What carries SIP does so.
    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some((socket, address)) = &self.socket else { return };
        // A state is one line, whatever an error of the system has in its text.
        let lines: Vec<_> = states.iter().map(|state| state.to_string().replace('\n', " ")).collect();
        // A manager that is gone, or busy, is told the next time.
        let _ = socket.send_to_addr(lines.join("\n").as_bytes(), address);
    }
}

/// How things stand, in one line: `2 of 3 interfaces, 1 route; lan: 127.0.0.1:5060: Address already in use`.
pub(super) fn summary(config: &Config, states: &States) -> String {
    let all = config.interfaces.len();
    let silent: Vec<_> = (states.iter())
        .filter_map(|((id, _), state)| match state {
            InterfaceState::Listening { .. } => None,
            InterfaceState::NotListening { reason } => {
                Some((*id, format!("{}: {reason}", config.interfaces.get(usize::from(id.0))?.key)))
            }
        })
        .collect();
    let mut interfaces: Vec<_> = silent.iter().map(|(id, _)| *id).collect();
    interfaces.dedup();
    let routes = count(config.static_routes.len(), "route");
    if silent.is_empty() {
        return format!("{}, {routes}", count(all, "interface"));
    }
    let reasons: Vec<_> = silent.into_iter().map(|(_, reason)| reason).collect();
    format!("{} of {}, {routes}; {}", all - interfaces.len(), count(all, "interface"), reasons.join("; "))
}

/// A number with its noun.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(name: &OsStr) -> ServiceManager {
        ServiceManager::at(name).unwrap()
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_one_datagram_of_lines_to_a_path_or_an_abstract_name() {
        let name = format!("sip-proxy-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().to_owned()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ];
        for (socket, name) in &sockets {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut manager = manager(name);
            manager.status("1 interface, 0 routes".to_owned(), false);
            manager.ready();
            assert_eq!(heard(socket), "READY=1\nSTATUS=1 interface, 0 routes");
            manager.status("1 interface, 0 routes".to_owned(), true);
            manager.status("two\nlines".to_owned(), true);
            assert_eq!(heard(socket), "STATUS=two lines");
            manager.reloading();
            let reloading = heard(socket);
            let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(since.parse::<u64>().is_ok(), "{reloading}");
            manager.alive();
            assert_eq!(heard(socket), "WATCHDOG=1");
            manager.stopping("3 left".to_owned(), Duration::from_secs(2));
            assert_eq!(heard(socket), "STOPPING=1\nSTATUS=3 left\nEXTEND_TIMEOUT_USEC=2000000");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_manager_that_does_not_read_holds_up_nobody() {
        let path = std::env::temp_dir().join(format!("sip-proxy-deaf-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(path.as_os_str());
        (0..10_000).for_each(|_| manager.alive());
        drop(socket);
        manager.alive();
        std::fs::remove_file(path).unwrap();
        assert!(ServiceManager::at(OsStr::new(&"x".repeat(200))).is_err());
    }
}
