//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use evenkeel_config::ListenAddress;
use socket2::{Domain, Protocol, Socket, Type};

use super::files::is_out_of_files;

/// Connections that the kernel completes before they are accepted. 1024 absorbs the reconnects of a restart; the kernel
/// caps it at net.core.somaxconn.
const BACKLOG: i32 = 1024;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", remedy(address, source))]
pub struct BindError {
    address: ListenAddress,
    #[source]
    source: io::Error,
}

impl BindError {
    fn new(address: &ListenAddress, source: io::Error) -> Self {
        Self { address: address.clone(), source }
    }
}

/// What is wrong with an address, and what to do about it.
pub(crate) fn remedy(address: &ListenAddress, error: &io::Error) -> String {
    if is_out_of_files(error) {
        return format!("{error}; raise the limit of open files (ulimit -n, LimitNOFILE=)");
    }
    let known = match (address, error.kind()) {
        (ListenAddress::Tcp(_), io::ErrorKind::AddrInUse) => {
            "the address is in use; stop the other process or choose another port"
        }
        (ListenAddress::Tcp(_), io::ErrorKind::PermissionDenied) => {
            "permission denied; choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
        }
        (ListenAddress::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "no interface of this machine has the address; 0.0.0.0 or [::] means all"
        }
        (ListenAddress::Tcp(_), _) => return format!("{error}; choose another address"),
        (ListenAddress::Unix(_), io::ErrorKind::AddrInUse) => {
            "the socket is in use; stop the other process or choose another path"
        }
        (ListenAddress::Unix(_), io::ErrorKind::PermissionDenied) => {
            "permission denied; allow writing to its folder, or choose another path"
        }
        (ListenAddress::Unix(_), io::ErrorKind::NotFound) => {
            "its folder does not exist; create it, or choose another path"
        }
        (ListenAddress::Unix(_), io::ErrorKind::AlreadyExists) => {
            "the path exists and is not a socket; remove it, or choose another path"
        }
        (ListenAddress::Unix(_), _) => return format!("{error}; choose another path"),
    };
    known.to_owned()
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
            return Err(io::ErrorKind::AlreadyExists.into());
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
    use rustix::io::Errno;

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
    fn what_to_do_is_told_by_the_kind_of_address() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let long = folder.path().join("x".repeat(200));
        for (path, told) in [
            (
                folder.path().join("missing/a.sock"),
                "its folder does not exist; create it, or choose another path",
            ),
            (file.join("a.sock"), "Not a directory (os error 20); choose another path"),
            (long, "path must be shorter than SUN_LEN; choose another path"),
        ] {
            let address = ListenAddress::Unix(path);
            let error = bind(&address, 1, false).unwrap_err().to_string();
            assert_eq!(error, format!("cannot listen on {address}: {told}"));
        }
        let [tcp, unix] =
            ["127.0.0.1:80", "unix:/run/a.sock"].map(|text| text.parse::<ListenAddress>().unwrap());
        for (address, errno, told) in [
            (&tcp, Errno::ADDRNOTAVAIL, "0.0.0.0 or [::] means all"),
            (&tcp, Errno::ACCESS, "choose a port above 1023"),
            (&tcp, Errno::AFNOSUPPORT, "; choose another address"),
            (&tcp, Errno::MFILE, "raise the limit of open files"),
            (&unix, Errno::MFILE, "raise the limit of open files"),
            (&unix, Errno::ACCESS, "allow writing to its folder"),
            (&unix, Errno::ROFS, "; choose another path"),
        ] {
            let text = remedy(address, &errno.into());
            assert!(text.contains(told), "{text}");
            assert_eq!(text.contains("a port"), address == &tcp && errno == Errno::ACCESS, "{text}");
        }
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
        let error = bind(&address, 1, false).unwrap_err().to_string();
        let told = "the socket is in use; stop the other process or choose another path";
        assert_eq!(error, format!("cannot listen on {address}: {told}"));
        drop(live);
    }
}
