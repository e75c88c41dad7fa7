//! The worker: the whole data path of one thread as a state machine.
//!
//! It takes what the world does (a connection was accepted, bytes arrived, a timer is due) and says what the world
//! should do (connect, write, close). It has no socket, clock, thread or lock of its own, so that the same code runs on
//! epoll in production and on a simulated network with faults in tests.
//!
//! # How to drive it
//! 1. Tell it what happened: [`Worker::accepted`], [`Worker::received`], [`Worker::connected`],
//!    [`Worker::connect_failed`], [`Worker::ended`], [`Worker::writable`], [`Worker::timeout`], [`Worker::apply`].
//! 2. After each batch, call [`Worker::poll_action`] until it returns `None`, doing what it says.
//! 3. Sleep until something happens or [`Worker::deadline`]; not at all while [`Worker::has_unfinished_input`], in which
//!    case [`Worker::resume`] comes before the next batch.
//!
//! All that one batch produced leaves in one write for each connection (design, section 4: one flush per wake-up).
//!
//! # Invariants
//! - A call ends exactly once; whatever way it ends, both of its streams and its in-flight count go with it.
//! - Nothing is allocated for a call in steady state: records, blocks and buffers are reused.
//! - Input never panics: what a peer can send is either handled or ends its stream or connection.

pub mod affinity;
mod age;
mod answer;
mod attempt;
mod call;
mod call_timer;
mod canary;
mod cluster;
mod conn;
mod control;
mod details;
mod downstream;
mod duration;
mod explain;
mod extras;
pub mod fault;
mod finish;
mod hedge;
mod http1;
mod inspect;
pub mod limit;
mod load;
pub mod metadata;
pub mod mirror;
mod observe;
mod outliers;
mod output;
pub mod overload;
mod replay;
mod reply;
mod retried;
mod retry;
pub mod rewrite;
mod room;
pub mod route;
pub mod snapshot;
pub mod timer;
mod upstream;

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use evenkeel_balance::Address;
use evenkeel_http2::field::{FieldBlock, FieldId};
use evenkeel_http2::{Connection, Event as Http2Event, Fields, Role, Violation};
use evenkeel_telemetry::{Event, Refused};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;

use self::age::Age;
pub(crate) use self::attempt::refused_by;
use self::call::Call;
use self::cluster::WorkerCluster;
use self::conn::{Conn, ConnPhase, Downstream, Side};
pub use self::conn::{ConnId, PeerName, TransportEnd};
pub use self::control::{ClusterView, EndpointView};
pub use self::explain::{ClusterPreview, Decision, Inquiry, KeyFound, decide, preview_of_reachable};
use self::extras::Extras;
pub(crate) use self::fault::ABORT_TEXT;
pub use self::fault::FaultSeen;
pub use self::inspect::{RunningAttempt, Usage};
pub(crate) use self::load::probe_answer;
use self::mirror::Shadow;
pub use self::observe::Observer;
pub use self::outliers::{ClusterPanic, EndpointChange};
use self::overload::{Account, Accountant, Level};
use self::snapshot::{RetryGates, Snapshot};
use self::timer::Wheel;

/// Output buffers that a worker keeps for reuse.
const SPARE_BUFFERS_MAX: usize = 256;

/// A buffer that grew beyond this is given back instead of kept.
const SPARE_BUFFER_BYTES_MAX: usize = 512 * 1024;

/// What a worker asks its driver to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Begin to connect, then [`Worker::connected`] or [`Worker::connect_failed`].
    Connect {
        /// The new connection.
        conn: ConnId,
        /// Where to.
        address: Address,
    },
    /// Write [`Worker::output`] as far as the transport takes it, then [`Worker::written`].
    Write {
        /// The connection.
        conn: ConnId,
    },
    /// Shut the sending side; go on reading.
    ShutWrite {
        /// The connection.
        conn: ConnId,
    },
    /// Close. The identifier is free for other connections from now on.
    Close {
        /// The connection.
        conn: ConnId,
    },
}

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TimerKey {
    Call(u32),
    /// The end of a delay that was injected into a call.
    Delay(u32),
    /// A copy of a call.
    Shadow(u32),
    Conn(u32),
    Cluster(u32),
    /// The start of a connection's drain, spread over time.
    Drain(u32),
}

/// What a worker is made with.
#[derive(Clone, Copy, Debug)]
pub struct WorkerConfig {
    /// This worker's number, from 0.
    pub index: usize,
    /// How many workers there are.
    pub count: usize,
    /// Seed of all its random choices. From the operating system in production, a test's seed in simulation.
    pub seed: u64,
}

/// Keeps the choices of splits apart from the worker's others, which are seeded alike.
const SPLIT_SEED: u64 = 0x0073_706c_6974;

/// The data path of one thread. The module's documentation shows how to drive it.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    snapshot: Arc<Snapshot>,
    fields: Fields,
    standard: Standard,
    /// What routes add to metadata, so that it is interned as long as the snapshot is in use.
    added: Vec<FieldId>,
    conns: Slab<Conn>,
    calls: Slab<Call>,
    /// Copies of calls.
    shadows: Slab<Shadow>,
    clusters: Vec<WorkerCluster>,
    /// Position of each of the snapshot's clusters among `clusters`.
    cluster_of: Vec<u32>,
    /// Client connections of each listener.
    accepted: Vec<u32>,
    wheel: Wheel<TimerKey>,
    /// Decides where calls of a split go, and how long a retry waits.
    rng: SmallRng,
    /// For calls whose route has no policy.
    no_gates: Arc<RetryGates>,
    dirty: Vec<u32>,
    settled: usize,
    /// Connections whose input was cut short for the sake of others: those that are [`Conn::put_off`], once each.
    unfinished: Vec<u32>,
    /// Batches so far: a peer has one share of the work in each.
    batch: u64,
    connects: Vec<Action>,
    spare_buffers: Vec<Vec<u8>>,
    spare_blocks: Vec<FieldBlock>,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    spare_extras: Vec<Box<Extras>>,
    /// Calls whose response headers are held back since this batch, and whose timers are not armed for that yet: at most one per
    /// attempt that was under way.
    holding: Vec<u32>,
    /// A cookie on its way to a client; kept for its room.
    cookie: String,
    draining: bool,
    /// Clusters for which discovery should look again.
    lost: Vec<Arc<str>>,
    /// Peers that broke the protocol, for the log.
    violations: Vec<(String, Violation)>,
    /// Endpoints that left rotation or came back, for the log.
    outlier_changes: VecDeque<EndpointChange>,
    /// Panics that began or ended, for the log.
    panics: VecDeque<ClusterPanic>,
    observer: Option<Observer>,
    memory: Account,
}

/// Fields of our own answers, interned once.
#[derive(Debug)]
struct Standard {
    status_200: FieldId,
    content_type: FieldId,
}

impl Worker {
    /// A worker without connections.
    #[must_use]
    pub fn new(config: WorkerConfig, snapshot: &Arc<Snapshot>, now: Duration) -> Self {
        let mut fields = Fields::new(config.seed);
        let standard = Standard {
            status_200: fields.store.intern(b":status", b"200"),
            content_type: fields.store.intern(b"content-type", evenkeel_grpc::APPLICATION_GRPC.as_ref()),
        };
        let mut worker = Self {
            config,
            snapshot: Arc::new(Snapshot::default()),
            fields,
            standard,
            added: Vec::new(),
            conns: Slab::new(),
            calls: Slab::new(),
            shadows: Slab::new(),
            clusters: Vec::new(),
            cluster_of: Vec::new(),
            accepted: Vec::new(),
            wheel: Wheel::new(now),
            no_gates: Arc::default(),
            rng: SmallRng::seed_from_u64(config.seed ^ SPLIT_SEED),
            dirty: Vec::new(),
            settled: 0,
            unfinished: Vec::new(),
            batch: 1,
            connects: Vec::new(),
            spare_buffers: Vec::new(),
            spare_blocks: Vec::new(),
            spare_extras: Vec::new(),
            holding: Vec::new(),
            cookie: String::new(),
            draining: false,
            lost: Vec::new(),
            violations: Vec::new(),
            outlier_changes: VecDeque::new(),
            panics: VecDeque::new(),
            observer: None,
            memory: Account::new(Accountant::new(u64::MAX)),
        };
        worker.apply(snapshot, now);
        worker
    }

    /// A client connected to the listener at this position of the snapshot. `None` if it is one too many: close it.
    pub fn accepted(&mut self, now: Duration, listener: usize, peer: PeerName) -> Option<ConnId> {
        let settings = Arc::clone(self.snapshot.listeners.get(listener)?);
        let count = self.accepted.get_mut(listener)?;
        if *count >= settings.max_connections {
            self.count(Event::ConnectionRefused(Refused::ListenerLimit));
            return None;
        }
        *count += 1;
        self.count(Event::ConnectionOpened);
        let http2 = Connection::new(Role::Server, self.memory.level().limits(settings.limits), now);
        let side = Side::Downstream(Downstream {
            listener: listener as u32,
            peer,
            accepted_at: now,
            stall_timeout: settings.stall_timeout,
            age: settings.max_age.map(|limit| Age::new(limit, now, &mut self.rng)),
        });
        let id = ConnId(self.conns.insert(Conn::new(http2, side, ConnPhase::Silent)) as u32);
        if self.draining {
            // Better than a refused connection: the client is served, and soon asked to go elsewhere.
            self.schedule_drain(now, id);
        }
        self.touch(id);
        Some(id)
    }

    /// How long a client of the listener at this position of the snapshot may leave unread what waits for it: the kernel
    /// should not give a connection up before the worker does. Zero if there is no such listener.
    #[must_use]
    pub fn stall_timeout(&self, listener: usize) -> Duration {
        self.snapshot.listeners.get(listener).map_or(Duration::ZERO, |listener| listener.stall_timeout)
    }

    /// The driver closed a client's connection as soon as it was accepted.
    pub fn note_refused(&self, reason: Refused) {
        self.count(Event::ConnectionRefused(reason));
    }

    /// How many bytes of earlier input [`Worker::take_leftover`] would put in front of the next read.
    #[must_use]
    pub fn leftover_len(&self, conn: ConnId) -> usize {
        self.conns.get(conn.index()).map_or(0, |conn| conn.leftover.len())
    }

    /// Copies the unused end of earlier input to the front of `buffer`, behind which the driver reads; returns its
    /// length. What the driver then passes to [`Worker::received`] begins with it.
    pub fn take_leftover(&mut self, conn: ConnId, buffer: &mut [u8]) -> usize {
        let Some(conn) = self.conns.get_mut(conn.index()) else { return 0 };
        let length = conn.leftover.len();
        debug_assert!(length <= buffer.len(), "a read buffer holds more than a frame");
        buffer[..length].copy_from_slice(&conn.leftover);
        conn.leftover.clear();
        length
    }

    /// Whether the driver should read from this connection: not while its peer leaves our answers unread.
    #[must_use]
    pub fn wants_input(&self, conn: ConnId) -> bool {
        self.conns.get(conn.index()).is_some_and(|conn| match conn.phase {
            ConnPhase::Silent | ConnPhase::Live => conn.http2.wants_input(),
            ConnPhase::Flushing | ConnPhase::Lingering(_) => true,
            ConnPhase::Dead => false,
        })
    }

    /// Bytes arrived: what [`Worker::take_leftover`] gave back, then what is new.
    pub fn received(&mut self, now: Duration, id: ConnId, input: &[u8]) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        match conn.phase {
            ConnPhase::Live => {}
            ConnPhase::Silent => {
                if !self.begin_downstream(now, id, input) {
                    return;
                }
            }
            ConnPhase::Flushing | ConnPhase::Lingering(_) | ConnPhase::Dead => return,
        }
        self.touch(id);
        if let Some(conn) = self.conns.get_mut(id.index())
            && conn.batch != self.batch
        {
            conn.batch = self.batch;
            conn.http2.begin_wake(now);
        }
        self.process(now, id, input);
    }

    /// The first `kept` bytes of the buffer are what [`Worker::take_leftover`] gave back, and nothing follows them: they are
    /// processed to their end now, since what was put off for the sake of other connections may be answers. Call it before
    /// [`Worker::ended`].
    pub fn received_last(&mut self, now: Duration, id: ConnId, buffer: &mut [u8], mut kept: usize) {
        // Ends: each round processes a frame at least, or leaves a part of one.
        while kept > 0 {
            // There is no later turn for this peer.
            if let Some(conn) = self.conns.get_mut(id.index()) {
                conn.http2.begin_wake(now);
            }
            self.received(now, id, &buffer[..kept]);
            let left = self.take_leftover(id, buffer);
            if left >= kept {
                return;
            }
            kept = left;
        }
    }

    /// As [`Worker::received`], but what would be put off for the sake of other connections is processed as well; the part of a
    /// frame at the end is kept.
    pub fn received_whole(&mut self, now: Duration, id: ConnId, input: &[u8]) {
        self.received(now, id, input);
        // Ends: each round processes a frame at least.
        while let Some(conn) = self.conns.get_mut(id.index()).filter(|conn| conn.put_off) {
            conn.put_off = false;
            conn.http2.begin_wake(now);
            let rest = core::mem::take(&mut conn.leftover);
            self.unfinished.retain(|other| *other != id.0);
            self.received(now, id, &rest);
        }
    }

    fn process(&mut self, now: Duration, id: ConnId, input: &[u8]) {
        let mut at = 0;
        loop {
            let Some(conn) = self.conns.get_mut(id.index()) else { return };
            if !conn.is_live() {
                return;
            }
            match conn.http2.next_event(&mut self.fields, now, input, &mut at) {
                Ok(Some(event)) => self.on_event(now, id, event),
                Ok(None) => break,
                Err(error) => {
                    self.on_connection_error(now, id, error);
                    return;
                }
            }
        }
        let Some(conn) = self.conns.get(id.index()) else { return };
        self.count_read(conn.side.label(), at);
        self.serve_waiting_for(now, id);
        self.keep_leftover(id, &input[at..]);
    }

    /// Keeps input that could not be processed yet.
    fn keep_leftover(&mut self, id: ConnId, rest: &[u8]) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        conn.leftover.clear();
        if rest.is_empty() {
            // An idle connection owns no buffer.
            if conn.leftover.capacity() > 0 {
                conn.leftover = Vec::new();
            }
            return;
        }
        conn.leftover.extend_from_slice(rest);
        if conn.http2.has_had_its_share() && !conn.put_off {
            conn.put_off = true;
            self.unfinished.push(id.0);
        }
    }

    /// Whether input waits that was cut short for the sake of other connections.
    #[must_use]
    pub fn has_unfinished_input(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Whether a connection's input was cut short: it is to be read again after [`Worker::resume`], not before, or its peer
    /// would have its share of a turn with each read.
    #[must_use]
    pub fn is_put_off(&self, conn: ConnId) -> bool {
        self.conns.get(conn.index()).is_some_and(|conn| conn.put_off)
    }

    /// Goes on with input that was cut short in an earlier batch.
    pub fn resume(&mut self, now: Duration) {
        for id in core::mem::take(&mut self.unfinished) {
            let id = ConnId(id);
            let Some(conn) = self.conns.get_mut(id.index()) else { continue };
            if conn.batch == self.batch {
                self.unfinished.push(id.0);
                continue;
            }
            conn.put_off = false;
            let input = core::mem::take(&mut conn.leftover);
            self.received(now, id, &input);
        }
    }

    fn on_event(&mut self, now: Duration, id: ConnId, event: Http2Event<'_>) {
        match &self.conns[id.index()].side {
            Side::Downstream(_) => self.on_downstream_event(now, id, event),
            Side::Upstream(_) => self.on_upstream_event(now, id, event),
        }
    }

    /// Puts a connection on the list of those with something to settle or write, and lends it a buffer.
    fn touch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id.0);
        }
        if !conn.http2.has_output_buffer()
            && let Some(buffer) = self.spare_buffers.pop()
        {
            self.memory.remove_spare(buffer.capacity());
            conn.http2.lend_output(buffer);
        }
    }

    /// When [`Worker::timeout`] is due, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.wheel.deadline().into_iter().chain(self.log_deadline()).chain(self.memory_deadline()).min()
    }

    /// Fires the timers that are due.
    pub fn timeout(&mut self, now: Duration) {
        self.flush_log(now);
        self.relieve(now);
        while let Some(key) = self.wheel.expire(now) {
            match key {
                TimerKey::Call(call) => self.on_call_timer(now, call),
                TimerKey::Delay(call) => self.on_delay_over(now, call),
                TimerKey::Shadow(shadow) => self.on_shadow_timer(now, shadow),
                TimerKey::Conn(conn) => self.on_conn_timer(now, ConnId(conn)),
                TimerKey::Cluster(cluster) => self.on_cluster_timer(now, cluster),
                TimerKey::Drain(conn) => self.on_drain_timer(now, ConnId(conn)),
            }
        }
    }

    /// Calls in progress.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// Connections, both sides.
    #[must_use]
    pub fn conn_count(&self) -> usize {
        self.conns.len()
    }

    fn take_block(&mut self) -> FieldBlock {
        self.spare_blocks.pop().unwrap_or_default()
    }

    fn give_block(&mut self, mut block: FieldBlock) {
        block.clear(&mut self.fields.store);
        if block.has_storage() && self.spare_blocks.len() < SPARE_BUFFERS_MAX {
            self.spare_blocks.push(block);
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare_buffers.pop().unwrap_or_default();
        self.memory.remove_spare(buffer.capacity());
        buffer
    }

    fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        let useful = (1..=SPARE_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if useful && self.spare_buffers.len() < SPARE_BUFFERS_MAX && self.memory.level() == Level::Calm {
            buffer.clear();
            self.memory.add_spare(buffer.capacity());
            self.spare_buffers.push(buffer);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for (_, call) in &mut self.calls {
            call.request.clear(&mut self.fields.store);
            let held = call.take_extra(|extras| &mut extras.held);
            let retried = call.take_extra(|extras| &mut extras.retried);
            let retried = retried.into_iter().flat_map(|answer| answer.into_blocks());
            for mut block in held.into_iter().chain(call.take_last_answer()).chain(retried) {
                block.clear(&mut self.fields.store);
            }
        }
        for (_, conn) in &mut self.conns {
            conn.http2.close(&mut self.fields);
        }
    }
}
