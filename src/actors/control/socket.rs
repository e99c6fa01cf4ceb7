//! The Unix socket: made with mode 0600, in place of one that nobody answers on any more.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How long whoever has the socket may take to accept.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketFault {
    #[error("another process answers on it")]
    Taken,
    #[error("there is something else by this name")]
    NoSocket,
    #[error("{0}")]
    System(#[from] io::Error),
}

impl SocketFault {
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::Taken => "stop the other sip-proxy, or set another service.control_socket",
            Self::NoSocket => "remove it, or set another service.control_socket",
            Self::System(_) => {
                "let the service write the directory of service.control_socket, or set another one"
            }
        }
    }
}

/// A socket that listens. Dropping it removes the file, if it is still this one's.
#[derive(Debug)]
pub(super) struct ControlSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
}

impl ControlSocket {
    /// Listens at `path`; makes the directory where it is missing.
    pub(super) async fn bind(path: &Path) -> Result<Self, SocketFault> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketFault::NoSocket),
            Ok(_) if is_answered(path).await => return Err(SocketFault::Taken),
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::from_std(listen(path)?)?;
        let file = identity(&fs::symlink_metadata(path)?);
        Ok(Self { listener, path: path.to_owned(), file })
    }

    /// Whether the file is still there, and this one's: what cleans up may take it, and another process replace it.
    pub(super) fn is_reachable(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.is_reachable() {
            // What stays is replaced by the next one.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The mode is set before the file is there, so that there is no moment at which others could connect (unix(7)).
fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = File::from(OwnedFd::from(Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?));
    socket.set_permissions(Permissions::from_mode(0o600))?;
    let socket = Socket::from(OwnedFd::from(socket));
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(OwnedFd::from(socket).into())
}

/// A process that is busy, or stopped, has it all the same.
async fn is_answered(path: &Path) -> bool {
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Ok(_)) | Err(_) => true,
        Ok(Err(error)) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(label: &str) -> PathBuf {
        std::env::temp_dir().join(format!("sip-proxy-{label}-{}", std::process::id()))
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_replaces_one_that_nobody_answers_on() {
        let directory = directory("socket");
        let path = directory.join("run/control.sock");
        let socket = ControlSocket::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(ControlSocket::bind(&path).await, Err(SocketFault::Taken)));
        assert!(socket.is_reachable());
        drop(socket);
        assert!(!path.exists());
        // What a process leaves that was killed.
        drop(listen(&path).unwrap());
        assert!(path.exists());
        let socket = ControlSocket::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!socket.is_reachable());
        let next = ControlSocket::bind(&path).await.unwrap();
        drop(socket);
        assert!(next.is_reachable());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = directory("no-socket");
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ControlSocket::bind(&path).await, Err(SocketFault::NoSocket)));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let below = path.join("control.sock");
        assert!(matches!(ControlSocket::bind(&below).await, Err(SocketFault::System(_))));
        fs::remove_dir_all(&directory).unwrap();
    }
}
