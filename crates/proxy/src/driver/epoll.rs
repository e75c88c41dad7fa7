//! The event loop of one worker's thread, on epoll through mio.
//!
//! Each turn: wait, tell the worker all that happened, then do all that it asks for. Sockets are registered once,
//! edge-triggered. A read that did not fill the buffer has emptied the socket (epoll(7), "Questions and answers" 9) unless
//! the peer has hung up, so an unary call costs one read and one write on each side at most, and in a batch a fraction of them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use evenkeel_balance::PanicChange;
use evenkeel_balance::outlier::OutlierChange;
use evenkeel_telemetry::{LogLimiter, Refused};
use mio::{Events, Poll, Registry, Token, Waker};

use super::accept::{Accepted, Acceptor};
use super::command::{Command, WorkerView};
use super::files::Seat;
use super::socket::{BACKEND_SILENT_MAX, CLIENT_SILENT_MARGIN, Stream};
use super::threads::StopReport;
use crate::worker::{Action, ClusterPanic, ConnId, EndpointChange, PeerName, TransportEnd, Worker};

/// Bytes read at once: large enough that a hundred calls arrive in one read, small enough for the cache.
const READ_BYTES: usize = 256 * 1024;

/// Events taken from one wait.
const EVENTS: usize = 1024;

/// Connections accepted from one listener before those that exist get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Reads from one connection before others get their turn.
const READS_PER_TURN: usize = 4;

/// Reads from a connection that cannot be written to any more. The kernel holds some MiB at most (tcp(7), `tcp_rmem`).
const BROKEN_READS_MAX: usize = 1024;

/// How long connections are left in the kernel's queue while the process is short of memory.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(100);

/// What clients whose calls were cut off may take to read that and close: the time a closed connection lingers, and as much
/// for their own output.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

const WAKER: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = usize::MAX - 1024;

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
    /// A client's place among all clients' connections; `None` for a backend.
    seat: Option<Seat>,
}

/// One worker, its sockets, and its epoll instance.
pub(super) struct EventLoop {
    worker: Worker,
    poll: Poll,
    waker: Arc<Waker>,
    inbox: Receiver<Command>,
    epoch: Instant,
    acceptor: Acceptor,
    sockets: Vec<Option<Socket>>,
    unread: Vec<usize>,
    buffer: Vec<u8>,
    stop_at: Option<Instant>,
    /// When the thread ends whoever is left: calls were cut off, and their clients had time to read that.
    end_at: Option<Instant>,
    report: StopReport,
    on_lost: Arc<dyn Fn(&str) + Send + Sync>,
    log_limiter: LogLimiter,
}

impl EventLoop {
    /// An event loop for `worker`; `listen` registers its listening sockets.
    pub(super) fn new(
        worker: Worker,
        listen: impl FnOnce(&Registry, fn(usize) -> Token) -> io::Result<Acceptor>,
        inbox: Receiver<Command>,
        epoch: Instant,
        on_lost: Arc<dyn Fn(&str) + Send + Sync>,
        log_limiter: LogLimiter,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let acceptor = listen(poll.registry(), |index| Token(FIRST_LISTENER + index))?;
        Ok(Self {
            worker,
            poll,
            waker,
            inbox,
            epoch,
            acceptor,
            sockets: Vec::new(),
            unread: Vec::new(),
            buffer: vec![0; READ_BYTES],
            stop_at: None,
            end_at: None,
            report: StopReport::default(),
            on_lost,
            log_limiter,
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
        // Until there is a configuration, connections wait in the kernel: nobody could say what their listener is for. No
        // command at all means that the start failed elsewhere.
        let Ok(first) = self.inbox.recv() else { return Ok(self.report) };
        self.on_command(self.now(), first);
        self.act(self.now());
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.now();
            self.worker.woke();
            self.on_events(now, &events);
            self.on_turn(now);
            self.act(now);
            while let Some(cluster) = self.worker.poll_lost_cluster() {
                (self.on_lost)(&cluster);
            }
            self.log_violations(now);
            self.log_level(now);
            self.log_endpoints(now);
            self.log_panics();
            if self.is_stopped(now) {
                return Ok(self.report);
            }
        }
    }

    fn on_events(&mut self, now: Duration, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => self.on_commands(now),
                Token(listener) if listener >= FIRST_LISTENER => {
                    self.accept(now, listener - FIRST_LISTENER);
                }
                Token(socket) => self.on_socket(now, socket, event),
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

    /// One line for each reason and second at most; how many there were is in the metrics.
    fn log_endpoints(&mut self, now: Duration) {
        while let Some(EndpointChange { cluster, endpoint, change }) = self.worker.poll_endpoint_change() {
            let cause = match change {
                OutlierChange::Ejected { reason, .. } => reason.name(),
                OutlierChange::Returned => "returned",
            };
            let Some(suppressed) = self.log_limiter.allow(cause, now) else { continue };
            match change {
                OutlierChange::Ejected { reason, until } => {
                    let seconds = until.saturating_sub(now).as_secs_f64();
                    tracing::warn!(%cluster, %endpoint, reason = reason.name(), seconds, suppressed, "endpoint ejected");
                }
                OutlierChange::Returned => {
                    tracing::info!(%cluster, %endpoint, suppressed, "endpoint back in rotation");
                }
            }
        }
    }

    /// One line for each change of a priority's panic, of all workers together. They are as rare as failures of half a
    /// cluster.
    fn log_panics(&mut self) {
        while let Some(ClusterPanic { cluster, change }) = self.worker.poll_panic() {
            let PanicChange { priority, available, total, threshold, .. } = change;
            let calls = if change.fails { "calls fail" } else { "calls go to all that are connected" };
            if change.began {
                tracing::warn!(
                    %cluster, priority, available, total, threshold_percent = threshold,
                    "panic: too few endpoints are available to believe it; {calls}, whatever their health"
                );
            } else {
                tracing::info!(
                    %cluster, priority, available, total, threshold_percent = threshold,
                    "panic is over: calls go to healthy endpoints again"
                );
            }
        }
    }

    /// One line each second at most, however often memory is short and is not.
    fn log_level(&mut self, now: Duration) {
        if let Some(level) = self.worker.poll_level()
            && let Some(suppressed) = self.log_limiter.allow("memory", now)
        {
            let held = self.worker.held_by_all();
            tracing::warn!(
                ?level,
                held,
                suppressed,
                "memory: what peers make the process hold nears its limit, or no longer does"
            );
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        let busy =
            self.worker.has_unfinished_input() || !self.unread.is_empty() || self.acceptor.is_any_due();
        if busy {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let deadlines = self.worker.deadline().into_iter().chain(self.acceptor.deadline());
        let waits = deadlines.map(|at| at.saturating_sub(now.duration_since(self.epoch)));
        let ends = self.stop_at.into_iter().chain(self.end_at);
        waits.chain(ends.map(|at| at.saturating_duration_since(now))).min()
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
        self.acceptor.handle_timeout(now);
        for listener in 0..self.acceptor.len() {
            if self.acceptor.is_due(listener) {
                self.accept(now, listener);
            }
        }
        if self.stop_at.is_some_and(|at| at <= self.epoch + now) {
            self.stop_at = None;
            self.report.aborted_calls += self.worker.abort(now);
            // Whoever asks again and again to stop does not put the end off.
            self.end_at.get_or_insert(self.epoch + now + FAREWELL_MAX);
        }
    }

    fn on_commands(&mut self, now: Duration) {
        while let Ok(command) = self.inbox.try_recv() {
            self.on_command(now, command);
        }
    }

    fn on_command(&mut self, now: Duration, command: Command) {
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
                let _ = answer.try_send(self.view(now));
            }
            Command::Preview(cluster, answer) => {
                if let Some(preview) = self.worker.preview(&cluster, now) {
                    // Likewise.
                    let _ = answer.try_send(preview);
                }
            }
        }
    }

    fn view(&self, now: Duration) -> WorkerView {
        WorkerView {
            clients: self.worker.client_count(),
            connections: self.worker.conn_count(),
            calls: self.worker.call_count(),
            clusters: self.worker.cluster_views(now),
        }
    }

    fn is_stopped(&self, now: Duration) -> bool {
        let nobody_left =
            self.acceptor.is_empty() && self.worker.is_draining() && self.worker.client_count() == 0;
        nobody_left || self.end_at.is_some_and(|at| at <= self.epoch + now)
    }

    /// Closes the listening sockets. Connections that the kernel has completed are served: closing would reset them.
    fn stop_listening(&mut self, now: Duration) {
        for listener in 0..self.acceptor.len() {
            self.acceptor.end_pause(listener);
            self.accept(now, listener);
            while self.acceptor.is_due(listener) {
                self.accept(now, listener);
            }
        }
        self.acceptor.close();
    }

    fn accept(&mut self, now: Duration, listener: usize) {
        if self.worker.refuses_connections() {
            self.worker.note_accept_paused();
            self.acceptor.pause(listener, now + OVERLOAD_PAUSE);
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            match self.acceptor.accept(now, listener) {
                Accepted::Client(stream, peer, seat) => self.on_accepted(now, listener, stream, peer, seat),
                Accepted::Refused(reason) => self.worker.note_refused(reason),
                Accepted::Nothing => return,
            }
        }
        self.acceptor.put_off(listener);
    }

    fn on_accepted(&mut self, now: Duration, listener: usize, stream: Stream, peer: PeerName, seat: Seat) {
        // A peer that is gone already shows when its connection is read.
        let _ = stream.tune(self.worker.stall_timeout(listener) + CLIENT_SILENT_MARGIN);
        match self.worker.accepted(now, listener, peer) {
            Some(id) => self.insert(now, id, stream, false, Some(seat)),
            None => self.log_refused(now),
        }
    }

    /// The listener has as many connections as it may have on this worker; the one too many was just dropped.
    fn log_refused(&mut self, now: Duration) {
        if let Some(suppressed) = self.log_limiter.allow(Refused::ListenerLimit.as_str(), now) {
            tracing::warn!(
                suppressed,
                "a client's connection was closed at once: the listener's limits.max_connections_per_worker"
            );
        }
    }

    /// Registers a socket under its connection's identifier.
    fn insert(
        &mut self,
        now: Duration,
        id: ConnId,
        mut stream: Stream,
        connecting: bool,
        seat: Option<Seat>,
    ) {
        if let Err(error) = stream.register(self.poll.registry(), Token(id.index())) {
            tracing::error!(%error, "a socket cannot be watched");
            self.worker.ended(now, id, TransportEnd::Reset);
            return;
        }
        if self.sockets.len() <= id.index() {
            self.sockets.resize_with(id.index() + 1, || None);
        }
        self.sockets[id.index()] =
            Some(Socket { id, stream, connecting, readable: true, hung_up: false, listed: false, seat });
    }

    fn on_socket(&mut self, now: Duration, index: usize, event: &mio::event::Event) {
        let Some(Some(socket)) = self.sockets.get_mut(index) else { return };
        let id = socket.id;
        if socket.connecting {
            match socket.stream.is_connected() {
                Ok(false) => return,
                Ok(true) => {
                    socket.connecting = false;
                    let _ = socket.stream.tune(BACKEND_SILENT_MAX);
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
            if self.worker.is_put_off(id) {
                break;
            }
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => {
                    socket.readable = false;
                    self.worker.received_last(now, id, &mut self.buffer, kept);
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
                    self.worker.received_last(now, id, &mut self.buffer, kept);
                    self.worker.ended(now, id, TransportEnd::Reset);
                    return;
                }
            }
        }
        self.list_unread(index);
    }

    /// A connection cannot be written to any more. What a backend said before that is processed first: it may be answers,
    /// and refusals that make calls safe to repeat. The kernel keeps it until it was read.
    fn read_broken(&mut self, now: Duration, id: ConnId) {
        for _ in 0..BROKEN_READS_MAX {
            let Some(Some(socket)) = self.sockets.get_mut(id.index()) else { return };
            if socket.seat.is_some() {
                // A client that is gone wants nothing any more.
                break;
            }
            let kept = self.worker.take_leftover(id, &mut self.buffer);
            match socket.stream.read(&mut self.buffer[kept..]) {
                Ok(count) if count > 0 => self.worker.received_whole(now, id, &self.buffer[..kept + count]),
                _ => {
                    self.worker.received_last(now, id, &mut self.buffer, kept);
                    break;
                }
            }
        }
        self.worker.ended(now, id, TransportEnd::Reset);
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
                    Ok(stream) => self.insert(now, conn, stream, true, None),
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
                self.read_broken(now, id);
                return;
            }
        }
        // Reading may have stopped because this output was waiting.
        if self.worker.wants_input(id) {
            self.list_unread(id.index());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::sync::mpsc::sync_channel;

    use evenkeel_balance::{Address, EndpointSet, Policy};
    use evenkeel_http2::field::{FieldBlock, Name};
    use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};

    use super::*;
    use crate::driver::files::ClientSeats;
    use crate::driver::listen::ListenSocket;
    use crate::worker::WorkerConfig;
    use crate::worker::route::RouteTable;
    use crate::worker::snapshot::{Cluster, Listener, Snapshot};

    const REQUEST: [(&str, &str); 6] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/pkg.Service/Method"),
        (":authority", "service"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    const ANSWER: [(&str, &str); 3] =
        [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")];

    /// Turns of the loop that a step may take; each waits for something to happen.
    const TURNS_MAX: usize = 100;

    /// The other end of one of the loop's connections, on the project's own engine.
    struct Peer {
        socket: UnixStream,
        fields: Fields,
        http2: Connection,
        /// Streams on which a whole header section came, with the gRPC status if it had one.
        heads: Vec<(StreamKey, Option<Vec<u8>>)>,
    }

    impl Peer {
        fn new(socket: UnixStream, role: Role) -> Self {
            socket.set_nonblocking(true).unwrap();
            let http2 = Connection::new(role, Limits::mesh(), Duration::ZERO);
            Self { socket, fields: Fields::new(1), http2, heads: Vec::new() }
        }

        /// Puts a header section into the output that ends its side of the stream.
        fn head(&mut self, stream: StreamKey, list: &[(&str, &str)]) {
            let mut block = FieldBlock::new();
            for (name, value) in list {
                block.push_literal(name.as_bytes(), value.as_bytes(), false);
            }
            self.http2.send_headers(&mut self.fields.store, stream, &block, &[], true).unwrap();
            block.clear(&mut self.fields.store);
        }

        fn call(&mut self) {
            let stream = self.http2.open(Duration::ZERO, 0).unwrap();
            self.head(stream, &REQUEST);
        }

        fn send(&mut self) {
            self.socket.write_all(self.http2.output()).unwrap();
            let sent = self.http2.output().len();
            self.http2.output_sent(sent);
        }

        /// Takes what is there.
        fn receive(&mut self) {
            let mut input = vec![0; 65_536];
            let Ok(count) = self.socket.read(&mut input) else { return };
            let mut at = 0;
            self.http2.begin_wake(Duration::ZERO);
            while let Some(event) =
                self.http2.next_event(&mut self.fields, Duration::ZERO, &input[..count], &mut at).unwrap()
            {
                if let Event::Request { stream, .. } | Event::Response { stream, .. } = event {
                    let Fields { block, store, index, .. } = &self.fields;
                    let status = index.position(Name::GrpcStatus);
                    let status = status.map(|at| block.get(store, at).value.to_vec());
                    self.heads.push((stream, status));
                }
            }
            assert_eq!(at, count, "the worker writes whole frames");
        }
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            self.http2.close(&mut self.fields);
        }
    }

    fn endpoint(path: &Path) -> Arc<EndpointSet> {
        Arc::new(EndpointSet::new(&[(Address::Unix(path.to_owned()), 1)]))
    }

    /// A loop that listens on one socket and has one endpoint.
    fn start(listener: UnixListener, backend: &Path) -> EventLoop {
        listener.set_nonblocking(true).unwrap();
        let snapshot = Arc::new(Snapshot {
            generation: 1,
            listeners: vec![Arc::new(Listener::new("a", Limits::mesh(), RouteTable::to_cluster(0)))],
            clusters: vec![Arc::new(Cluster::new("orders", Policy::RoundRobin, endpoint(backend)))],
        });
        let worker = Worker::new(WorkerConfig { index: 0, count: 1, seed: 1 }, &snapshot, Duration::ZERO);
        let listen = |registry: &Registry, token: fn(usize) -> Token| {
            let (seats, limiter) = (ClientSeats::new(1), LogLimiter::default());
            Acceptor::new(vec![ListenSocket::Unix(listener)], seats, limiter, registry, token)
        };
        let inbox = sync_channel(1).1;
        EventLoop::new(worker, listen, inbox, Instant::now(), Arc::new(|_| {}), LogLimiter::default())
            .unwrap()
    }

    impl EventLoop {
        /// Waits for something to happen, and takes note of it without doing anything about it yet.
        fn listen(&mut self) {
            let mut events = Events::with_capacity(EVENTS);
            self.poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            assert!(!events.is_empty(), "nothing happens any more");
            self.on_events(self.now(), &events);
        }

        fn turn_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
            for _ in 0..TURNS_MAX {
                if is_done(self) {
                    return;
                }
                self.listen();
                self.act(self.now());
            }
            panic!("the step takes more than {TURNS_MAX} turns");
        }
    }

    #[test]
    fn an_answer_that_came_before_a_write_failed_reaches_the_client() {
        let folder = tempfile::tempdir().unwrap();
        let (front, back) = (folder.path().join("front.sock"), folder.path().join("back.sock"));
        let backend = UnixListener::bind(&back).unwrap();
        let mut looped = start(UnixListener::bind(&front).unwrap(), &back);
        looped.act(looped.now());
        let mut backend = Peer::new(backend.accept().unwrap().0, Role::Server);
        backend.send();
        let mut client = Peer::new(UnixStream::connect(&front).unwrap(), Role::Client);
        client.send();
        looped.turn_until(|_| {
            client.receive();
            client.http2.can_open().is_ok()
        });
        client.call();
        client.send();
        looped.turn_until(|_| {
            backend.receive();
            !backend.heads.is_empty()
        });
        // The next request has been read and not been written, when the backend answers the first one and ends.
        client.call();
        client.send();
        while looped.worker.call_count() < 2 {
            looped.listen();
        }
        let (stream, _) = backend.heads[0];
        backend.head(stream, &ANSWER);
        backend.send();
        drop(backend);
        looped.act(looped.now());
        client.receive();
        assert_eq!(client.heads.len(), 1, "the second call waits for a connection");
        assert_eq!(client.heads[0].1.as_deref(), Some(&b"0"[..]));
    }
}
