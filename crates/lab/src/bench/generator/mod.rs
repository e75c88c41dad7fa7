//! A load generator that writes pre-encoded frames from one thread.
//!
//! Workloads:
//! - *unary, closed loop*: keeps a number of calls in flight on each connection; measures what a peer can do.
//! - *unary, open loop*: sends at planned times (Poisson), whether or not earlier calls have been answered; latency counts
//!   from the planned time, so that a stall is seen in all the calls that it delayed (no coordinated omission).
//! - *download*, *upload*: one endless stream of large messages per place, with flow control.
//! - *idle*: holds connections, or open calls on them, to measure what they cost in memory.
//!
//! Each response is checked: `:status` 200, `grpc-status` 0, END_STREAM, and the size of its body.

mod connection;
mod message;
mod pace;
mod report;

pub use report::{LatencyReport, Report};

use super::poll::{Events, Poll};
use super::wire::Fault;
use super::wire::link::SCRATCH_BYTES;
pub use super::wire::request::Shape;
use crate::clock::Clock;
use connection::Connection;
use pace::Pace;
use report::Tally;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::time::Duration;

/// Most connections of one generator: what the ephemeral ports towards one address allow.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Most streams per connection.
pub const STREAMS_MAX: usize = 10_000;
/// Longest run.
pub const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Largest message.
pub const MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// How long calls in flight may take to end after the run.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long the peer may take to answer a connection's preface.
const SETUP_MAX: Duration = Duration::from_secs(10);
/// Connections opened before waiting for the peer's SETTINGS, so that its accept queue does not overflow.
const CONNECT_BATCH: usize = 64;
/// Longest wait for events, so that ends are noticed in time.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Planned calls that may wait for a free place; beyond that they are counted as not sent.
const BACKLOG_MAX: usize = 100_000;

/// What the generator does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Workload {
    /// Unary calls, so many in flight on each connection.
    Closed,
    /// Unary calls at planned times.
    Open {
        /// Calls per second over all connections.
        rate: f64,
    },
    /// Endless responses.
    Download,
    /// Endless requests.
    Upload,
    /// Connections, and the calls opened on them, that do nothing.
    Idle,
}

/// What a generator is to do, and against whom.
#[derive(Debug, Clone)]
pub struct GeneratorConfig {
    /// The peers; connections go to them in turn.
    pub connect: Vec<SocketAddr>,
    /// Connections. 1 to [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Calls in flight per connection; for [`Workload::Idle`] the calls opened, which may be 0. At most [`STREAMS_MAX`].
    pub streams: usize,
    /// How long to start calls. At most [`DURATION_MAX`].
    pub duration: Duration,
    /// The part of `duration`, from its beginning, whose calls count while their latencies do not: fresh connections are
    /// slow at first. Default 0; below `duration`.
    pub warm_up: Duration,
    /// What to do.
    pub workload: Workload,
    /// Which header fields the requests have.
    pub shape: Shape,
    /// Bytes of each request message. At most [`MESSAGE_BYTES_MAX`].
    pub message_bytes: u32,
    /// Bytes that each unary response message must have; `None`: any.
    pub response_bytes: Option<u32>,
    /// `:path` of the calls.
    pub path: String,
    /// Seed of planned times and of the fresh header fields.
    pub seed: u64,
}

impl GeneratorConfig {
    /// Unary calls in a closed loop for one second: 34-byte messages, one connection, one stream.
    #[must_use]
    pub fn new(connect: SocketAddr) -> Self {
        Self {
            connect: vec![connect],
            connections: 1,
            streams: 1,
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            workload: Workload::Closed,
            shape: Shape::Steady,
            message_bytes: 34,
            response_bytes: None,
            path: "/evenkeel.bench.Bench/Unary".to_owned(),
            seed: 1,
        }
    }

    fn check(&self) -> Result<(), GeneratorError> {
        let within = |name, given: u128, min: u128, max: u128| {
            let legal = (min..=max).contains(&given);
            if legal { Ok(()) } else { Err(GeneratorError::Config { name, given, min, max }) }
        };
        let streams_min = if self.workload == Workload::Idle { 0 } else { 1 };
        within("number of peers", self.connect.len() as u128, 1, 1000)?;
        within("connections", self.connections as u128, 1, CONNECTIONS_MAX as u128)?;
        within("streams", self.streams as u128, streams_min, STREAMS_MAX as u128)?;
        within("duration in ms", self.duration.as_millis(), 1, DURATION_MAX.as_millis())?;
        let warm_up_max = self.duration.as_millis().saturating_sub(1);
        within("warm-up in ms", self.warm_up.as_millis(), 0, warm_up_max)?;
        within("message bytes", self.message_bytes.into(), 0, MESSAGE_BYTES_MAX.into())?;
        if let Workload::Open { rate } = self.workload {
            within("rate", rate as u128, 1, 10_000_000)?;
        }
        Ok(())
    }
}

/// Why a run could not be made. Failed calls are part of the [`Report`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// A value is out of its bounds.
    #[error("{name} is {given}; give a value from {min} to {max}")]
    Config {
        /// What the value means.
        name: &'static str,
        /// The value.
        given: u128,
        /// Its lowest legal value.
        min: u128,
        /// Its highest legal value.
        max: u128,
    },
    /// A connection failed before its first call.
    #[error("connection {number} to {address} failed: {fault}; is the peer running?")]
    Connect {
        /// Number of the connection, from 0.
        number: usize,
        /// The peer.
        address: SocketAddr,
        /// What happened.
        fault: Fault,
    },
    /// The event loop itself failed.
    #[error("the event loop failed: {0}")]
    Poll(#[from] io::Error),
}

/// Makes a run. `ready` is called once, when all connections (and, for [`Workload::Idle`], their calls) stand.
///
/// # Errors
/// [`GeneratorError`] if the run could not start or the event loop broke.
pub fn run(config: &GeneratorConfig, ready: impl FnOnce()) -> Result<Report, GeneratorError> {
    config.check()?;
    if let Workload::Open { .. } = config.workload {
        // Planned times are kept to the microsecond; the kernel's default slack is 50 us.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(io::Error::from)?;
    }
    let mut generator = Generator::new(config)?;
    generator.connect()?;
    generator.run(ready)
}

struct Generator<'a> {
    config: &'a GeneratorConfig,
    clock: Clock,
    poll: Poll,
    events: Events,
    scratch: Box<[u8]>,
    connections: Vec<Connection>,
    pace: Pace,
    tally: Tally,
    /// The connection that the next planned call tries first.
    turn: usize,
}

impl<'a> Generator<'a> {
    fn new(config: &'a GeneratorConfig) -> Result<Self, GeneratorError> {
        Ok(Self {
            config,
            clock: Clock::start(),
            poll: Poll::new()?,
            events: Events::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            connections: Vec::new(),
            pace: Pace::new(config),
            tally: Tally::new(),
            turn: 0,
        })
    }

    fn connect(&mut self) -> Result<(), GeneratorError> {
        for number in 0..self.config.connections {
            let address = self.config.connect[number % self.config.connect.len()];
            let connect = |error: io::Error| GeneratorError::Connect { number, address, fault: error.into() };
            let socket = TcpStream::connect(address).map_err(connect)?;
            let connection =
                Connection::new(socket, number, address, self.config, &self.poll).map_err(connect)?;
            self.connections.push(connection);
            self.flush(number);
            if (number + 1) % CONNECT_BATCH == 0 || number + 1 == self.config.connections {
                self.await_settings(number)?;
            }
        }
        Ok(())
    }

    /// Waits until all connections up to `number` have the peer's SETTINGS.
    fn await_settings(&mut self, number: usize) -> Result<(), GeneratorError> {
        let until = self.clock.now() + SETUP_MAX;
        for waiting in number.saturating_sub(CONNECT_BATCH)..=number {
            while !self.connections[waiting].is_ready() {
                let fault = self.connections[waiting].fault().cloned();
                let late = (self.clock.now() > until).then_some(Fault::Protocol("no SETTINGS within 10 s"));
                if let Some(fault) = fault.or(late) {
                    let address = self.config.connect[waiting % self.config.connect.len()];
                    return Err(GeneratorError::Connect { number: waiting, address, fault });
                }
                self.turn_loop(WAIT_MAX, false)?;
            }
        }
        Ok(())
    }

    fn run(mut self, ready: impl FnOnce()) -> Result<Report, GeneratorError> {
        let began = self.clock.now();
        let end = began + self.config.duration;
        self.pace.begin(began);
        self.tally.take_latency_from(began + self.config.warm_up);
        self.start_calls(began);
        ready();
        loop {
            let now = self.clock.now();
            if now >= end || !self.connections.iter().any(Connection::is_usable) {
                break;
            }
            let wake = self.pace.next_due().unwrap_or(end).min(end);
            self.turn_loop(wake.saturating_sub(now).min(WAIT_MAX), true)?;
        }
        let ended = self.clock.now();
        self.finish(ended)?;
        // Calls that ended while the last ones were awaited count, so the time for it counts as well.
        let elapsed = self.tally.last_end().unwrap_or(ended).max(ended.min(end)).saturating_sub(began);
        Ok(self.tally.report(elapsed))
    }

    /// Ends what is endless and waits for the calls in flight.
    fn finish(&mut self, ended: Duration) -> Result<(), GeneratorError> {
        self.pace.stop();
        self.tally.not_sent(self.pace.backlog());
        for number in 0..self.connections.len() {
            self.connections[number].wind_up(&mut self.tally);
            self.flush(number);
        }
        let until = ended + DRAIN_MAX;
        while self.connections.iter().any(Connection::is_busy) && self.clock.now() < until {
            self.turn_loop(WAIT_MAX, false)?;
        }
        for connection in &mut self.connections {
            connection.give_up(&mut self.tally);
        }
        Ok(())
    }

    /// Waits once, and deals with all that happened.
    fn turn_loop(&mut self, timeout: Duration, start_calls: bool) -> Result<(), GeneratorError> {
        self.poll.wait(timeout, &mut self.events)?;
        let now = self.clock.now();
        for index in 0..self.events.ready().len() {
            let event = self.events.ready()[index];
            let number = event.token as usize;
            let connection = &mut self.connections[number];
            if event.readable {
                connection.handle_readable(now, &mut self.scratch, &mut self.tally);
            }
            if start_calls && self.pace.is_closed() {
                connection.start_all(now);
            }
            self.flush(number);
        }
        if start_calls {
            self.start_planned(now);
        }
        Ok(())
    }

    /// Fills all places of a closed loop, or opens the streams and calls that stay.
    fn start_calls(&mut self, now: Duration) {
        if self.pace.is_closed() {
            for number in 0..self.connections.len() {
                self.connections[number].start_all(now);
                self.flush(number);
            }
        }
    }

    /// Starts the planned calls that are due, each on the next connection that has a free place.
    fn start_planned(&mut self, now: Duration) {
        self.pace.advance(now, BACKLOG_MAX, &mut self.tally);
        while let Some(due) = self.pace.due() {
            let count = self.connections.len();
            let start = self.turn;
            let free =
                (0..count).map(|step| (start + step) % count).find(|at| self.connections[*at].has_place());
            let Some(number) = free else { break };
            self.turn = (number + 1) % count;
            self.connections[number].start(due);
            self.pace.started();
            // Sent at once: a batch would delay the first of it.
            self.flush(number);
        }
    }

    fn flush(&mut self, number: usize) {
        self.connections[number].flush(&self.poll, &mut self.tally);
    }
}
