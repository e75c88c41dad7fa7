//! Load reports apart from calls (ORCA's out-of-band service, gRFC A51): a stream to each endpoint of a cluster whose weights
//! follow from them, or whose probes (prequal) they answer.
//!
//! ```text
//! discovery's set --> LoadStreams::follow --> a task per endpoint --> endpoints (OpenRcaService/StreamCoreMetrics)
//!                                              |-> Endpoint::note_load, Endpoint::report: what every worker's picker looks at
//!                                              |-> status (/clusters), counters (/metrics), a log line
//! ```
//!
//! Why not the workers? One report says the same to all of them, and a stream per worker would cost the endpoint as many. So
//! the weight is worked out once, here, and stands in the shared [`Endpoint`], as the verdict of active checks does. An answer to
//! probes stands there, too, beside those that come with calls: the newest counts.
//!
//! Rules (gRFC A51): an endpoint without the service is told once in the log, and not asked again on the same connection; its next
//! connection may be another process's. After any other end the stream is opened again, with exponential backoff, which a report
//! resets. What A51 leaves open: a server that reports once and ends the stream, again and again, would be asked without a pause;
//! here the shortest backoff lies between two starts. A stream without a report for [`silence`] is given up: its peer may be
//! gone without a word.
//!
//! **Bounds.** One connection and one task for each endpoint of such a cluster, in the whole process; at most [`DIALS_MAX`]
//! connections of a cluster are begun at once; a report is at most `LOAD_REPORT_BYTES_MAX` long, and one that comes sooner than
//! [`REPORT_SPACING`] after another waits in the stream's window. Invariant: after [`LoadStreams::stop`] no endpoint's weight
//! changes.

mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_balance::{
    Address, BackoffConfig, Endpoint, EndpointSet, LoadReport, LoadWeightConfig, ProbeAnswer, ReportedWeight,
};
use evenkeel_config::Target;
use evenkeel_grpc::UtilizationMetric;
use evenkeel_telemetry::{ClusterTelemetry, LogLimiter};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

use super::clock::Clock;
use super::health::channel::origin;
use stream::Follower;

/// Connections of one cluster that are begun at once; more wait for their turn. An endpoint takes some milliseconds, so that a
/// thousand are connected within a second, and those that do not answer hold it up by no more than the timeout.
const DIALS_MAX: usize = 64;

/// Time between two reports of one endpoint that are taken: it is asked for one in 100 ms at most, and one that sends without end
/// occupies nobody.
const REPORT_SPACING: Duration = Duration::from_millis(10);

/// How long a stream may be without a report at least: four times the least interval that gRPC's servers have by default, 30 s.
const SILENCE_MIN: Duration = Duration::from_secs(120);

/// What reports are for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The endpoint's weight.
    Weight(LoadWeightConfig),
    /// An answer to prequal's probes.
    Answer,
}

/// How long a stream may be without a report. When the weight has expired the stream is of no use, and three reports in a row
/// were left out; what answers probes is of no use much earlier.
fn silence(purpose: Purpose, period: Duration) -> Duration {
    let expiration = match purpose {
        Purpose::Weight(weights) => weights.weight_expiration_period,
        Purpose::Answer => Duration::ZERO,
    };
    SILENCE_MIN.max(expiration).max(period.saturating_mul(3))
}

/// What the streams of a cluster are made of.
pub(super) struct Setup<'a> {
    pub(super) purpose: Purpose,
    /// How often endpoints are asked to report.
    pub(super) period: Duration,
    /// What may stand for utilization.
    pub(super) metrics: Arc<[UtilizationMetric]>,
    /// The cluster's name.
    pub(super) cluster: &'a str,
    /// What the endpoints come from, if that is one target: it names the authority that is asked for.
    pub(super) target: Option<&'a Target>,
    /// How long a connection attempt may take.
    pub(super) connect_timeout: Duration,
    /// When a stream that ended is opened again.
    pub(super) backoff: BackoffConfig,
    pub(super) telemetry: Arc<ClusterTelemetry>,
    /// The proxy's time now.
    pub(super) now: Duration,
    pub(super) seed: u64,
}

/// The streams of one cluster; they end when it is dropped.
pub(super) struct LoadStreams {
    shared: Arc<Shared>,
    target: Option<Target>,
    runtime: Handle,
    followed: Mutex<Followed>,
}

/// What all streams of a cluster have in common.
struct Shared {
    cluster: Box<str>,
    purpose: Purpose,
    period: Duration,
    metrics: Arc<[UtilizationMetric]>,
    connect_timeout: Duration,
    backoff: BackoffConfig,
    telemetry: Arc<ClusterTelemetry>,
    clock: Clock,
    dials: Semaphore,
    log: Mutex<LogLimiter>,
}

/// The streams that there are. Bound: one for each endpoint of the set.
struct Followed {
    set: Option<Arc<EndpointSet>>,
    streams: HashMap<Address, Running>,
    is_closed: bool,
    rng: SmallRng,
}

/// The stream to one endpoint; it is cut off when this is dropped.
struct Running {
    endpoint: Arc<Endpoint>,
    status: Arc<watch::Sender<LoadStatus>>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The status is locked while a report is taken: what comes after this changes nothing.
        self.status.send_modify(|status| status.is_over = true);
        self.task.abort();
    }
}

impl LoadStreams {
    /// Begins; there is nobody to ask yet. Must be called within a tokio runtime.
    pub(super) fn start(setup: Setup<'_>) -> Self {
        let shared = Shared {
            cluster: setup.cluster.into(),
            purpose: setup.purpose,
            period: setup.period,
            metrics: setup.metrics,
            connect_timeout: setup.connect_timeout,
            backoff: setup.backoff,
            telemetry: setup.telemetry,
            clock: Clock::starting_at(setup.now),
            dials: Semaphore::new(DIALS_MAX),
            log: Mutex::default(),
        };
        let rng = SmallRng::seed_from_u64(setup.seed);
        let followed = Followed { set: None, streams: HashMap::new(), is_closed: false, rng };
        Self {
            shared: Arc::new(shared),
            target: setup.target.cloned(),
            runtime: Handle::current(),
            followed: Mutex::new(followed),
        }
    }

    /// Asks the endpoints of this set from now on, and no others.
    pub(super) fn follow(&self, set: &Arc<EndpointSet>) {
        let mut followed = lock(&self.followed);
        if followed.is_closed || followed.set.as_ref().is_some_and(|known| Arc::ptr_eq(known, set)) {
            return;
        }
        followed.set = Some(Arc::clone(set));
        let mut gone = std::mem::take(&mut followed.streams);
        for endpoint in set.endpoints() {
            let address = endpoint.address();
            let known = gone.remove(address).filter(|known| Arc::ptr_eq(&known.endpoint, endpoint));
            let running = known.unwrap_or_else(|| self.open(endpoint, followed.rng.random()));
            followed.streams.insert(address.clone(), running);
        }
    }

    fn open(&self, endpoint: &Arc<Endpoint>, seed: u64) -> Running {
        let status = Arc::new(watch::Sender::new(LoadStatus::default()));
        let follower = Follower {
            shared: Arc::clone(&self.shared),
            origin: origin(self.target.as_ref(), endpoint.address()),
            endpoint: Arc::clone(endpoint),
            status: Arc::clone(&status),
            rng: SmallRng::seed_from_u64(seed),
        };
        let task = self.runtime.spawn(follower.run()).abort_handle();
        Running { endpoint: Arc::clone(endpoint), status, task }
    }

    /// What is known of an endpoint; `None` if it is not asked.
    pub(super) fn status(&self, address: &Address) -> Option<LoadStatus> {
        lock(&self.followed).streams.get(address).map(|running| running.status.borrow().clone())
    }

    /// Ends all streams; from here on they change nothing about any endpoint.
    pub(super) fn stop(&self) {
        let mut followed = lock(&self.followed);
        followed.is_closed = true;
        followed.streams.clear();
    }
}

/// What is known of the stream to one endpoint.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct LoadStatus {
    pub(super) state: StreamState,
    /// Why it is not open, in the endpoint's or the system's words; at most 200 characters.
    pub(super) detail: Option<Box<str>>,
    /// The newest report that could be read; `None` before the first.
    pub(super) last: Option<LastReport>,
    is_over: bool,
}

/// Where a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum StreamState {
    /// It is being opened, and nothing came yet.
    #[default]
    Opening,
    /// Its newest report was read.
    Open,
    /// It ended, or could not be opened; it will be tried again.
    Failed,
    /// The endpoint has no such service, as far as its connection goes.
    Unimplemented,
}

impl StreamState {
    /// The state as the admin interface names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Failed => "failed",
            Self::Unimplemented => "unimplemented",
        }
    }
}

/// A report and what became of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct LastReport {
    pub(super) load: LoadReport,
    pub(super) meaning: Meaning,
    /// When it came.
    pub(super) at: Duration,
}

/// What follows from a report; `None` if it makes no sense, or says nothing of the kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Meaning {
    Weight(Option<ReportedWeight>),
    Answer(Option<ProbeAnswer>),
}

impl Meaning {
    fn is_none(self) -> bool {
        matches!(self, Self::Weight(None) | Self::Answer(None))
    }
}

/// Held for a moment only, never over an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
