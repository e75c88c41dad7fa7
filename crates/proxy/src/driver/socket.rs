//! A connected socket, of either kind.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use evenkeel_balance::Address;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

/// How long bytes sent to a backend may stay unacknowledged, or its window closed, before the kernel gives the connection
/// up. Without it a backend that vanished is noticed after 15 minutes (istio/istio#33466); 20 s is gRPC's keepalive timeout
/// (gRFC A18).
pub(super) const BACKEND_SILENT_MAX: Duration = Duration::from_secs(20);

/// The same for a client, beyond what the worker waits for one that does not read (the listener's `stall_timeout`), since
/// the kernel takes a window that stays closed for silence, too: a client that a debugger holds loses a call, not all of
/// them.
pub(super) const CLIENT_SILENT_MARGIN: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Begins to connect.
    pub(super) fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok(Self::Tcp(TcpStream::connect(*address)?)),
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path)?)),
        }
    }

    /// Sets what every connection needs: no delay of small writes, and an end to waiting for a dead peer.
    pub(super) fn tune(&self, silent_max: Duration) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Ok(()) };
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_tcp_user_timeout(Some(silent_max))
    }

    /// Whether a connection that was begun is established; `Err` if it failed.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let error = match self {
            Self::Tcp(stream) => stream.take_error()?,
            Self::Unix(stream) => stream.take_error()?,
        };
        if let Some(error) = error {
            return Err(error);
        }
        let peer = match self {
            Self::Tcp(stream) => stream.peer_addr().map(|_| ()),
            Self::Unix(stream) => stream.peer_addr().map(|_| ()),
        };
        match peer {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn shut_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Reads what is there. `WouldBlock` when there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => stream.read(buffer),
                Self::Unix(stream) => stream.read(buffer),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Writes what the kernel takes. `WouldBlock` when that is nothing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self {
                Self::Tcp(stream) => stream.write(bytes),
                Self::Unix(stream) => stream.write(bytes),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        // Edge-triggered, both ways, once: a write that is cut short waits for the next edge, and costs no system call.
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }
}
