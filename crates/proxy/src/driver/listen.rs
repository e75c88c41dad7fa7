//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use evenkeel_config::ListenAddress;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before they are accepted. 1024 absorbs the reconnects of a restart; the kernel
/// caps it at net.core.somaxconn.
const BACKLOG: i32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {hint}")]
pub struct BindError {
    address: ListenAddress,
    hint: String,
    #[source]
    source: io::Error,
}

impl BindError {
    fn new(address: &ListenAddress, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "the address is in use; stop the other process or choose another port".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "permission denied; choose a port above 1023, or grant CAP_NET_BIND_SERVICE".to_owned()
            }
            io::ErrorKind::AddrNotAvailable => {
                "no interface of this machine has the address; 0.0.0.0 or [::] means all".to_owned()
            }
            _ => source.to_string(),
        };
        Self { address: address.clone(), hint, source }
    }
}

/// One address, bound once for each worker.
#[derive(Debug)]
pub struct BoundListener {
    /// The address, with the port that the system chose.
    pub address: ListenAddress,
    pub(super) sockets: Vec<ListenSocket>,
}

#[derive(Debug)]
pub(super) enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds an address with one socket for each of `workers`.
///
/// TCP sockets share the port by SO_REUSEPORT, and the kernel spreads connections over them. Another process could share
/// it too, so the address is first tried without: a port that is in use is an error, not a surprise, unless
/// `share_with_others` is set (two proxies that replace each other).
///
/// # Errors
/// [`BindError`] with what to do.
pub fn bind(
    address: &ListenAddress,
    workers: usize,
    share_with_others: bool,
) -> Result<BoundListener, BindError> {
    match address {
        ListenAddress::Tcp(wanted) => {
            bind_tcp(*wanted, workers, share_with_others).map_err(|error| BindError::new(address, error))
        }
        ListenAddress::Unix(path) => bind_unix(path, workers).map_err(|error| BindError::new(address, error)),
    }
}

fn bind_tcp(wanted: SocketAddr, workers: usize, share_with_others: bool) -> io::Result<BoundListener> {
    if !share_with_others && wanted.port() != 0 {
        drop(tcp_socket(wanted, false)?);
    }
    let first = tcp_socket(wanted, true)?;
    let chosen = first.local_addr()?.as_socket().unwrap_or(wanted);
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(tcp_socket(chosen, true)?);
    }
    // Listening starts when all are bound, so that none takes connections alone.
    let mut listening = Vec::with_capacity(sockets.len());
    for socket in sockets {
        socket.listen(BACKLOG)?;
        listening.push(ListenSocket::Tcp(socket.into()));
    }
    Ok(BoundListener { address: ListenAddress::Tcp(chosen), sockets: listening })
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Lets a restart bind while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Removes a socket file that nobody answers on: it is left over from a process that was killed. Any other file is left
/// alone; connecting to it fails in the same way.
pub(crate) fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is not a socket; remove it, or name another path",
            ));
        }
        Ok(_) => {}
    }
    let stale = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale { std::fs::remove_file(path) } else { Ok(()) }
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<BoundListener> {
    remove_stale_socket(path)?;
    let first = UnixListener::bind(path)?;
    first.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(ListenSocket::Unix(first.try_clone()?));
    }
    sockets.push(ListenSocket::Unix(first));
    Ok(BoundListener { address: ListenAddress::Unix(path.to_owned()), sockets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_refused_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(taken.local_addr().unwrap());
        let error = bind(&address, 2, false).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address}: the address is in use; stop the other process or choose another port"
            )
        );
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.yaml");
        std::fs::write(&path, "precious").unwrap();
        let error = bind(&ListenAddress::Unix(path.clone()), 1, false).unwrap_err().to_string();
        assert!(error.contains("app.yaml") && error.contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn all_workers_share_the_port_that_the_system_chose() {
        let bound = bind(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), 3, false).unwrap();
        let ports: Vec<SocketAddr> = bound
            .sockets
            .iter()
            .map(|socket| match socket {
                ListenSocket::Tcp(socket) => socket.local_addr().unwrap(),
                ListenSocket::Unix(_) => unreachable!("bound over TCP"),
            })
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|port| ListenAddress::Tcp(*port) == bound.address));
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = ListenAddress::Unix(folder.path().join("proxy.sock"));
        drop(bind(&address, 1, false).unwrap());
        let live = bind(&address, 2, false).unwrap();
        assert!(bind(&address, 1, false).unwrap_err().to_string().contains("in use"));
        drop(live);
    }
}
