//! The event loop of one worker's thread, on epoll through mio.
//!
//! Each turn: wait, tell the worker all that happened, then do all that it asks for. Sockets are registered once,
//! edge-triggered. A read that did not fill the buffer has emptied the socket (epoll(7), "Questions and answers" 9) unless
//! the peer has hung up, so an unary call costs one read and one write on each side at most, and in a batch a fraction of them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use evenkeel_telemetry::LogLimiter;
use mio::net::{TcpListener, UnixListener};
use mio::{Events, Interest, Poll, Token, Waker};

use super::command::{Command, WorkerView};
use super::listen::ListenSocket;
use super::socket::Stream;
use super::threads::StopReport;
use crate::worker::{Action, ConnId, PeerName, TransportEnd, Worker};

/// Bytes read at once: large enough that a hundred calls arrive in one read, small enough for the cache.
const READ_BYTES: usize = 256 * 1024;

/// Events taken from one wait.
const EVENTS: usize = 1024;

/// Connections accepted from one listener before those that exist get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Reads from one connection before others get their turn.
const READS_PER_TURN: usize = 4;

/// The pause after accept failed for want of file descriptors: doubled each time, up to the second value (tonic's accept
/// loop spins here).
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

const WAKER: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = usize::MAX - 1024;

struct Listening {
    socket: Accepting,
    /// More connections may wait although no further event says so.
    pending: bool,
    paused_until: Option<Instant>,
    pause: Duration,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Socket {
    id: ConnId,
    stream: Stream,
    connecting: bool,
    /// The socket may have bytes to read although no further event says so.
    readable: bool,
    /// The peer sends no more, or the connection is broken: a read that does not fill the buffer is not the last then,
    /// since no further event announces the end behind it.
    hung_up: bool,
    /// Stands in the list of sockets to read again.
    listed: bool,
}

/// One worker, its sockets, and its epoll instance.
pub(super) struct EventLoop {
    worker: Worker,
    poll: Poll,
    waker: Arc<Waker>,
    inbox: Receiver<Command>,
    epoch: Instant,
    listeners: Vec<Listening>,
    sockets: Vec<Option<Socket>>,
    unread: Vec<usize>,
    buffer: Vec<u8>,
    stop_at: Option<Instant>,
    report: StopReport,
    on_lost: Arc<dyn Fn(&str) + Send + Sync>,
    log_limiter: LogLimiter,
}

impl EventLoop {
    pub(super) fn new(
        worker: Worker,
        sockets: Vec<ListenSocket>,
        inbox: Receiver<Command>,
        epoch: Instant,
        on_lost: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::with_capacity(sockets.len());
        for (index, socket) in sockets.into_iter().enumerate() {
            let token = Token(FIRST_LISTENER + index);
            let socket = match socket {
                ListenSocket::Tcp(socket) => {
                    let mut socket = TcpListener::from_std(socket);
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    Accepting::Tcp(socket)
                }
                ListenSocket::Unix(socket) => {
                    let mut socket = UnixListener::from_std(socket);
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    Accepting::Unix(socket)
                }
            };
            listeners.push(Listening { socket, pending: false, paused_until: None, pause: ACCEPT_PAUSE.0 });
        }
        Ok(Self {
            worker,
            poll,
            waker,
            inbox,
            epoch,
            listeners,
            sockets: Vec::new(),
            unread: Vec::new(),
            buffer: vec![0; READ_BYTES],
            stop_at: None,
            report: StopReport::default(),
            on_lost,
            log_limiter: LogLimiter::default(),
        })
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Runs until a stop is complete.
    ///
    /// # Errors
    /// If waiting for events fails, which leaves nothing to be done.
    pub(super) fn run(mut self) -> io::Result<StopReport> {
        let mut events = Events::with_capacity(EVENTS);
        self.act(self.now());
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.now();
            self.worker.woke();
            for event in &events {
                match event.token() {
                    WAKER => self.on_commands(now),
                    Token(listener) if listener >= FIRST_LISTENER => {
                        self.accept(now, listener - FIRST_LISTENER);
                    }
                    Token(socket) => self.on_socket(now, socket, event),
                }
            }
            self.on_turn(now);
            self.act(now);
            while let Some(cluster) = self.worker.poll_lost_cluster() {
                (self.on_lost)(&cluster);
            }
            self.log_violations(now);
            if self.is_stopped() {
                return Ok(self.report);
            }
        }
    }

    /// One line for each broken rule and second at most, whatever peers do.
    fn log_violations(&mut self, now: Duration) {
        while let Some((peer, violation)) = self.worker.poll_violation() {
            if let Some(suppressed) = self.log_limiter.allow(violation.rule(), now) {
                tracing::warn!(%peer, rule = violation.rule(), suppressed, "connection closed: {violation}");
            }
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        let busy = self.worker.has_unfinished_input()
            || !self.unread.is_empty()
            || self.listeners.iter().any(|listener| listener.pending && listener.paused_until.is_none());
        if busy {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let worker = self.worker.deadline().map(|at| at.saturating_sub(now.duration_since(self.epoch)));
        let accept = self.listeners.iter().filter_map(|listener| listener.paused_until);
        let instants = accept.chain(self.stop_at).map(|at| at.saturating_duration_since(now));
        worker.into_iter().chain(instants).min()
    }

    /// What each turn does besides events: timers, input that was put off, accepts that were put off.
    fn on_turn(&mut self, now: Duration) {
        self.worker.timeout(now);
        if self.worker.has_unfinished_input() {
            self.worker.resume(now);
        }
        for socket in core::mem::take(&mut self.unread) {
            if let Some(Some(record)) = self.sockets.get_mut(socket) {
                record.listed = false;
                self.read(now, socket);
            }
        }
        let instant = self.epoch + now;
        for listener in 0..self.listeners.len() {
            let record = &mut self.listeners[listener];
            if record.paused_until.is_some_and(|at| at <= instant) {
                record.paused_until = None;
            }
            if record.pending && record.paused_until.is_none() {
                self.accept(now, listener);
            }
        }
        if self.stop_at.is_some_and(|at| at <= instant) {
            self.stop_at = None;
            self.report.aborted_calls += self.worker.abort(now);
        }
    }

    fn on_commands(&mut self, now: Duration) {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Apply(snapshot) => self.worker.apply(&snapshot, now),
                Command::Drain { spread } => {
                    self.stop_listening(now);
                    self.worker.start_drain(now, spread);
                }
                Command::Stop { grace } => {
                    self.stop_listening(now);
                    self.worker.start_drain(now, Duration::ZERO);
                    self.stop_at = Some(self.epoch + now + grace);
                }
                Command::View(answer) => {
                    // The one who asked may have given up waiting.
                    let _ = answer.try_send(self.view());
                }
            }
        }
    }

    fn view(&self) -> WorkerView {
        WorkerView {
            clients: self.worker.client_count(),
            connections: self.worker.conn_count(),
            calls: self.worker.call_count(),
            clusters: self.worker.cluster_views(),
        }
    }

    fn is_stopped(&self) -> bool {
        self.listeners.is_empty() && self.worker.is_draining() && self.worker.client_count() == 0
    }

    /// Closes the listening sockets. Connections that the kernel has completed are served: closing would reset them.
    fn stop_listening(&mut self, now: Duration) {
        for listener in 0..self.listeners.len() {
            self.listeners[listener].paused_until = None;
            self.accept_all(now, listener);
        }
        self.listeners.clear();
    }

    fn accept_all(&mut self, now: Duration, listener: usize) {
        loop {
            self.accept(now, listener);
            let record = &self.listeners[listener];
            if !record.pending || record.paused_until.is_some() {
                return;
            }
        }
    }

    fn accept(&mut self, now: Duration, listener: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(record) = self.listeners.get_mut(listener) else { return };
            let accepted = match &record.socket {
                Accepting::Tcp(socket) => {
                    socket.accept().map(|(stream, peer)| (Stream::Tcp(stream), PeerName::Ip(peer)))
                }
                Accepting::Unix(socket) => {
                    socket.accept().map(|(stream, _)| (Stream::Unix(stream), PeerName::Unix))
                }
            };
            match accepted {
                Ok((stream, peer)) => {
                    record.pause = ACCEPT_PAUSE.0;
                    self.on_accepted(now, listener, stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    record.pending = false;
                    return;
                }
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    record.pending = true;
                    record.paused_until = Some(Instant::now() + record.pause);
                    record.pause = (record.pause * 2).min(ACCEPT_PAUSE.1);
                    tracing::warn!(%error, pause = ?record.pause, "cannot accept connections; raise the limit of open files");
                    return;
                }
            }
        }
        if let Some(record) = self.listeners.get_mut(listener) {
            record.pending = true;
        }
    }

    fn on_accepted(&mut self, now: Duration, listener: usize, stream: Stream, peer: PeerName) {
        // A peer that is gone already shows when its connection is read.
        let _ = stream.tune();
        if let Some(id) = self.worker.accepted(now, listener, peer) {
            self.insert(now, id, stream, false);
        }
    }

    /// Registers a socket under its connection's identifier.
    fn insert(&mut self, now: Duration, id: ConnId, mut stream: Stream, connecting: bool) {
        if let Err(error) = stream.register(self.poll.registry(), Token(id.index())) {
            tracing::error!(%error, "a socket cannot be watched");
            self.worker.ended(now, id, TransportEnd::Reset);
            return;
        }
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] =
            Some(Socket { id, stream, connecting, readable: true, hung_up: false, listed: false });
    }

    fn on_socket(&mut self, now: Duration, index: usize, event: &mio::event::Event) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        let id = socket.id;
        if socket.connecting {
            match socket.stream.is_connected() {
                Ok(false) => return,
                Ok(true) => {
                    socket.connecting = false;
                    let _ = socket.stream.tune();
                    self.worker.connected(now, id);
                }
                Err(error) => {
                    self.worker.connect_failed(now, id, &error.to_string());
                    return;
                }
            }
        }
        if event.is_writable() {
            self.worker.writable(now, id);
        }
        let hung_up = event.is_read_closed() || event.is_error();
        if event.is_readable() || hung_up {
            if let Some(Some(socket)) = self.sockets.get_mut(index) {
                socket.readable = true;
                socket.hung_up |= hung_up;
            }
            self.read(now, index);
        }
    }

    /// Reads a socket until it is empty, the worker wants no more, or others should have their turn.
    fn read(&mut self, now: Duration, index: usize) {
        for _ in 0..READS_PER_TURN {
            let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
            let id = socket.id;
            if !socket.readable || socket.connecting || !self.worker.wants_input(id) {
                return;
            }
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => {
                    socket.readable = false;
                    self.worker.ended(now, id, TransportEnd::Eof);
                    return;
                }
                Ok(count) => {
                    let more = socket.hung_up || kept + count == self.buffer.len();
                    socket.readable = more;
                    self.worker.received(now, id, &self.buffer[..kept + count]);
                    if !more {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.readable = false;
                    // What was left over goes back to where it was.
                    if kept > 0 {
                        self.worker.received(now, id, &self.buffer[..kept]);
                    }
                    return;
                }
                Err(_) => {
                    socket.readable = false;
                    self.worker.ended(now, id, TransportEnd::Reset);
                    return;
                }
            }
        }
        self.list_unread(index);
    }

    fn list_unread(&mut self, index: usize) {
        if let Some(Some(socket)) = self.sockets.get_mut(index)
            && socket.readable
            && !socket.listed
        {
            socket.listed = true;
            self.unread.push(index);
        }
    }

    /// Does what the worker asks for.
    fn act(&mut self, now: Duration) {
        while let Some(action) = self.worker.poll_action(now) {
            match action {
                Action::Connect { conn, address } => match Stream::connect(&address) {
                    Ok(stream) => self.insert(now, conn, stream, true),
                    Err(error) => self.worker.connect_failed(now, conn, &error.to_string()),
                },
                Action::Write { conn } => self.write(now, conn),
                Action::ShutWrite { conn } => {
                    if let Some(Some(socket)) = self.sockets.get_mut(conn.index()) {
                        // A peer that is gone already needs no goodbye.
                        let _ = socket.stream.shut_write();
                    }
                    self.list_unread(conn.index());
                }
                Action::Close { conn } => {
                    if let Some(socket) = self.sockets.get_mut(conn.index()) {
                        *socket = None;
                    }
                }
            }
        }
    }

    fn write(&mut self, now: Duration, id: ConnId) {
        let Some(Some(socket)) = self.sockets.get_mut(id.index()) else { return };
        match socket.stream.write(self.worker.output(id)) {
            Ok(count) => self.worker.written(now, id, count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.worker.written(now, id, 0),
            Err(_) => {
                self.worker.ended(now, id, TransportEnd::Reset);
                return;
            }
        }
        // Reading may have stopped because this output was waiting.
        if self.worker.wants_input(id) {
            self.list_unread(id.index());
        }
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
