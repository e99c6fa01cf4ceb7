//! Which of a server's addresses answers first (RFC 8305, "happy eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::ConnectionSettings;

/// How long an address has before the next one is tried beside it (RFC 8305 §5).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to one of `addresses`: the next is tried after [`ATTEMPT_DELAY`], or as soon as all before it have
/// failed. The first that connects wins; the other attempts are given up. The error is that of the last.
pub(super) async fn connect(
    settings: &ConnectionSettings,
    addresses: &[SocketAddr],
) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut fault = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(attempt(settings, *address)),
            None if attempts.is_empty() => return Err(fault),
            None => {}
        }
        let patience = if waiting.len() > 0 { ATTEMPT_DELAY } else { settings.handshake_timeout };
        match timeout(patience, attempts.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => fault = error,
            Ok(None) | Err(_) => {}
        }
    }
}

async fn attempt(settings: &ConnectionSettings, remote: SocketAddr) -> io::Result<TcpStream> {
    let local = settings.source(remote).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if !local.is_unspecified() {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.connect(remote).await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use socket2::{Domain, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;
    use crate::actors::testing::{World, refusing};

    /// An address at which connections are neither taken nor refused: its queue is full.
    struct BlackHole {
        address: SocketAddr,
        _listener: Socket,
        _waiting: Vec<Socket>,
    }

    impl BlackHole {
        fn open() -> Self {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap();
            let waiting = (0..4).map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address);
                socket
            });
            let waiting = waiting.collect();
            Self { address: address.as_socket().unwrap(), _listener: listener, _waiting: waiting }
        }
    }

    #[actix::test]
    async fn an_address_that_is_silent_costs_a_quarter_of_a_second() {
        let settings = World::new(1).connections();
        let hole = BlackHole::open();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [hole.address, alive.local_addr().unwrap()];
        let start = Instant::now();
        let stream = connect(&settings, &addresses).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert!((ATTEMPT_DELAY..settings.handshake_timeout).contains(&start.elapsed()));
    }

    #[actix::test]
    async fn an_address_that_refuses_costs_nothing_and_the_last_error_is_told() {
        let settings = World::new(1).connections();
        let (_held, dead) = refusing();
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hole = BlackHole::open();
        let unreachable = "[::1]:9".parse().unwrap();
        let address = alive.local_addr().unwrap();
        let stream = connect(&settings, &[unreachable, dead, address, hole.address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(alive.accept().await.is_ok());
        let error = connect(&settings, &[unreachable, dead]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[actix::test]
    async fn an_address_that_answers_late_wins_over_one_that_never_does() {
        let settings = World::new(1).connections();
        let hole = BlackHole::open();
        let late = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [late.local_addr().unwrap(), hole.address];
        assert_eq!(connect(&settings, &addresses).await.unwrap().peer_addr().unwrap(), addresses[0]);
    }

    #[actix::test]
    async fn each_family_leaves_from_an_address_of_its_own() {
        let both =
            ConnectionSettings { other_family: Some("::1".parse().unwrap()), ..World::new(1).connections() };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let alive = TcpListener::bind(address).await.unwrap();
            let stream = connect(&both, &[alive.local_addr().unwrap()]).await.unwrap();
            assert_eq!(stream.local_addr().unwrap().ip(), alive.local_addr().unwrap().ip());
        }
    }
}
