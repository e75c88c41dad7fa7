//! The event loop of one worker's thread, on epoll through mio.
//!
//! Each turn: wait, tell the worker all that happened, then do all that it asks for. Sockets are registered once,
//! edge-triggered. A read that did not fill the buffer has emptied the socket (epoll(7), "Questions and answers" 9) unless
//! the peer has hung up, so an unary call costs one read and one write on each side at most, and in a batch a fraction of them.

mod log;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use evenkeel_telemetry::LogLimiter;
use mio::{Events, Poll, Registry, Token, Waker};

use self::transport::Socket;
use super::accept::{Accepted, Acceptor};
use super::command::{Command, WorkerView};
use super::files::Seat;
use super::socket::{CLIENT_SILENT_MARGIN, Stream};
use super::threads::StopReport;
use crate::worker::{PeerName, Worker};

/// Bytes read at once: large enough that a hundred calls arrive in one read, small enough for the cache.
const READ_BYTES: usize = 256 * 1024;

/// Events taken from one wait.
const EVENTS: usize = 1024;

/// Connections accepted from one listener before those that exist get their turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long connections are left in the kernel's queue while the process is short of memory.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(100);

/// What clients whose calls were cut off may take to read that and close: the time a closed connection lingers, and as much
/// for their own output.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

const WAKER: Token = Token(usize::MAX);
const FIRST_LISTENER: usize = usize::MAX - 1024;

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
            self.log_panics(now);
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
        self.read_rest(now);
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
                self.worker.heed_health(now);
                // The one who asked may have given up waiting.
                let _ = answer.try_send(self.view(now));
            }
            Command::Preview(cluster, answer) => {
                self.worker.heed_health(now);
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
}
