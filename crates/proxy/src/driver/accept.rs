//! Accepting connections: which of the waiting ones become clients, which are turned away, and when to pause.
//!
//! A connection beyond a limit is accepted and closed at once, so that its client hears of it and can go elsewhere; left in
//! the kernel's queue it would hang until its own deadline. Only when not even that is possible does accepting pause, for
//! 5 ms at first and twice as long each time up to a second (tonic's accept loop spins here).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_telemetry::{LogLimiter, Refused};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};

use super::files::{ClientSeats, Seat, SpareFile, is_out_of_files};
use super::listen::ListenSocket;
use super::socket::Stream;
use crate::worker::PeerName;

/// The pause after accept failed for want of memory or file descriptors: doubled each time, up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What came of looking at a listener's queue.
pub(super) enum Accepted {
    /// A client.
    Client(Stream, PeerName, Seat),
    /// A connection that was closed at once.
    Refused(Refused),
    /// Nothing; the queue is empty, or accepting pauses.
    Nothing,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    fn accept(&self) -> io::Result<(Stream, PeerName)> {
        match self {
            Self::Tcp(socket) => {
                socket.accept().map(|(stream, peer)| (Stream::Tcp(stream), PeerName::Ip(peer)))
            }
            Self::Unix(socket) => socket.accept().map(|(stream, _)| (Stream::Unix(stream), PeerName::Unix)),
        }
    }
}

struct Listening {
    socket: Socket,
    /// More connections may wait although no further event says so.
    pending: bool,
    paused_until: Option<Duration>,
    pause: Duration,
}

/// The listening sockets of one worker.
pub(super) struct Acceptor {
    listeners: Vec<Listening>,
    seats: Arc<ClientSeats>,
    spare: SpareFile,
    log_limiter: LogLimiter,
}

impl Acceptor {
    /// Registers the sockets, each with the token of its position that `token` gives.
    pub(super) fn new(
        sockets: Vec<ListenSocket>,
        seats: Arc<ClientSeats>,
        log_limiter: LogLimiter,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<Self> {
        let mut listeners = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let socket = match socket {
                ListenSocket::Tcp(socket) => {
                    let mut socket = TcpListener::from_std(socket);
                    registry.register(&mut socket, token(index), Interest::READABLE)?;
                    Socket::Tcp(socket)
                }
                ListenSocket::Unix(socket) => {
                    let mut socket = UnixListener::from_std(socket);
                    registry.register(&mut socket, token(index), Interest::READABLE)?;
                    Socket::Unix(socket)
                }
            };
            listeners.push(Listening { socket, pending: false, paused_until: None, pause: PAUSE.0 });
        }
        Ok(Self { listeners, seats, spare: SpareFile::new(), log_limiter })
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Closes the sockets.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }

    /// Whether a listener has connections waiting that no event will announce.
    pub(super) fn is_due(&self, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(|record| record.pending && record.paused_until.is_none())
    }

    /// Whether any listener has.
    pub(super) fn is_any_due(&self) -> bool {
        (0..self.listeners.len()).any(|listener| self.is_due(listener))
    }

    /// The listener's queue was not looked at to its end.
    pub(super) fn put_off(&mut self, listener: usize) {
        if let Some(record) = self.listeners.get_mut(listener) {
            record.pending = true;
        }
    }

    /// Leaves the listener's connections in the kernel's queue until this time.
    pub(super) fn pause(&mut self, listener: usize, until: Duration) {
        if let Some(record) = self.listeners.get_mut(listener) {
            record.pending = true;
            record.paused_until = Some(until);
        }
    }

    /// When the first pause is over.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.listeners.iter().filter_map(|record| record.paused_until).min()
    }

    /// Ends the pauses that are over.
    pub(super) fn handle_timeout(&mut self, now: Duration) {
        for record in &mut self.listeners {
            record.paused_until = record.paused_until.filter(|until| *until > now);
        }
    }

    /// Ends a listener's pause whether it is over or not.
    pub(super) fn end_pause(&mut self, listener: usize) {
        if let Some(record) = self.listeners.get_mut(listener) {
            record.paused_until = None;
        }
    }

    /// Looks at the next connection of a listener.
    pub(super) fn accept(&mut self, now: Duration, listener: usize) -> Accepted {
        let Some(record) = self.listeners.get_mut(listener) else { return Accepted::Nothing };
        if record.paused_until.is_some() {
            record.pending = true;
            return Accepted::Nothing;
        }
        let mut accepted = record.socket.accept();
        while accepted.as_ref().is_err_and(is_gone) {
            accepted = record.socket.accept();
        }
        let error = match accepted {
            Ok((stream, peer)) => {
                record.pause = PAUSE.0;
                return match self.seats.take() {
                    Some(seat) => Accepted::Client(stream, peer, seat),
                    None => self.refuse(now, Refused::ProcessLimit),
                };
            }
            Err(error) if is_out_of_files(&error) => match self.spare.turn_away(|| record.socket.accept()) {
                Some(Ok(())) => return self.refuse(now, Refused::OpenFiles),
                Some(Err(newer)) => newer,
                None => error,
            },
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::WouldBlock {
            record.pending = false;
            return Accepted::Nothing;
        }
        let pause = record.pause;
        record.pause = (pause * 2).min(PAUSE.1);
        if let Some(suppressed) = self.log_limiter.allow("accept", now) {
            tracing::warn!(%error, ?pause, suppressed, "cannot accept connections");
        }
        self.pause(listener, now + pause);
        Accepted::Nothing
    }

    /// A connection was closed at once: at most one line of the log a second says so.
    fn refuse(&mut self, now: Duration, reason: Refused) -> Accepted {
        if let Some(suppressed) = self.log_limiter.allow(reason.as_str(), now) {
            let most = self.seats.most();
            match reason {
                Refused::OpenFiles => tracing::warn!(
                    suppressed,
                    "a client's connection was closed at once: no file descriptor is left; raise the limit of open files"
                ),
                _ => tracing::warn!(
                    suppressed,
                    most,
                    "a client's connection was closed at once: clients have as many as the limit of open files leaves them; \
                     raise it (ulimit -n, LimitNOFILE=)"
                ),
            }
        }
        Accepted::Refused(reason)
    }
}

/// Whether accept failed for the sake of one connection only (accept(2), "Error handling").
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use mio::Poll;

    use super::*;

    const T0: Duration = Duration::from_secs(1);

    struct World {
        acceptor: Acceptor,
        path: PathBuf,
        _folder: tempfile::TempDir,
        _poll: Poll,
    }

    impl World {
        fn new(seats: usize) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("proxy.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let poll = Poll::new().unwrap();
            let sockets = vec![ListenSocket::Unix(listener)];
            let (seats, limiter) = (ClientSeats::new(seats), LogLimiter::default());
            let acceptor = Acceptor::new(sockets, seats, limiter, poll.registry(), Token).unwrap();
            Self { acceptor, path, _folder: folder, _poll: poll }
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(&self.path).unwrap()
        }

        fn accept(&mut self, now: Duration) -> Accepted {
            self.acceptor.accept(now, 0)
        }
    }

    #[test]
    fn one_client_too_many_is_closed_at_once_and_a_free_seat_is_used_again() {
        let mut world = World::new(1);
        let (_first, mut second) = (world.connect(), world.connect());
        let Accepted::Client(stream, PeerName::Unix, seat) = world.accept(T0) else {
            panic!("the first client has a seat")
        };
        assert!(matches!(world.accept(T0), Accepted::Refused(Refused::ProcessLimit)));
        assert_eq!(second.read(&mut [0]).unwrap(), 0, "it hears of it instead of hanging");
        assert!(matches!(world.accept(T0), Accepted::Nothing));
        drop((stream, seat));
        let _third = world.connect();
        assert!(matches!(world.accept(T0), Accepted::Client(..)));
    }

    #[test]
    fn a_pause_leaves_connections_in_the_queue_until_exactly_its_end() {
        let mut world = World::new(10);
        let _client = world.connect();
        world.acceptor.pause(0, T0 + PAUSE.0);
        assert!(matches!(world.accept(T0), Accepted::Nothing));
        assert!(!world.acceptor.is_any_due());
        assert_eq!(world.acceptor.deadline(), Some(T0 + PAUSE.0));
        world.acceptor.handle_timeout(T0 + PAUSE.0 - Duration::from_nanos(1));
        assert!(!world.acceptor.is_due(0));
        world.acceptor.handle_timeout(T0 + PAUSE.0);
        assert!(world.acceptor.is_due(0) && world.acceptor.deadline().is_none());
        assert!(matches!(world.accept(T0 + PAUSE.0), Accepted::Client(..)));
        assert!(matches!(world.accept(T0 + PAUSE.0), Accepted::Nothing));
        assert!(!world.acceptor.is_any_due(), "an empty queue is not looked at again");
    }
}
