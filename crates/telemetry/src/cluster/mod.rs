//! Counts of clusters and of their endpoints.
//!
//! An endpoint's counts are kept per worker, as those of methods are: each worker attaches once
//! ([`EndpointTelemetry::attach`]) and keeps the handle with its connections to the endpoint.
//!
//! **Bounds.** At most [`MAX_ENDPOINT_SERIES`] endpoints of all clusters have series of their own. An endpoint that comes
//! when all are taken is counted in the series `endpoint="other"` of its cluster, for as long as it lives: were it given
//! a name later, its past would leave "other", and counters must not go back. For the same reason "other" keeps the
//! counts of endpoints that are gone. Likewise clusters beyond [`MAX_CLUSTER_SERIES`] share `cluster="other"`.
//!
//! **Ends.** The series of an endpoint or cluster end when nobody holds its `Arc` any more: the next scrape leaves them
//! out and frees their places. Endpoints come and go with each deploy; series that stay would fill memory
//! (linkerd/linkerd2#12916).

mod counts;
mod stats;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::call::{CallRow, CallTotals};
use crate::counter::{Counter, SharedCounter};
use crate::event::{HealthCheckResult, LoadReported, LoadStreamEnded};
use crate::shards::{Shards, lock};

pub use self::counts::ClusterCounts;
use self::counts::ClusterRow;
pub use self::stats::{ClusterStats, EndpointStats};

/// Endpoints with series of their own, over all clusters; up to 40 lines of metrics each.
pub const MAX_ENDPOINT_SERIES: usize = 1000;

/// Clusters with series of their own; up to 90 lines of metrics each, and 768 bytes for each worker.
pub const MAX_CLUSTER_SERIES: usize = 256;

/// Label of what has no series of its own.
pub(crate) const OTHER: &str = "other";

/// Places for endpoints with series of their own.
#[derive(Debug, Default)]
struct Places {
    taken: AtomicUsize,
}

impl Places {
    fn take(self: &Arc<Self>) -> Option<Place> {
        let take = |taken| (taken < MAX_ENDPOINT_SERIES).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, take).ok().map(|_| Place(Arc::clone(self)))
    }
}

/// One place, free again when dropped.
#[derive(Debug)]
struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

/// An endpoint's counts by one worker.
#[derive(Debug, Default)]
struct EndpointRow {
    calls: CallRow,
    connects_succeeded: Counter,
    connects_failed: Counter,
    disconnections: Counter,
    resets: Counter,
}

const _: () = assert!(size_of::<EndpointRow>() == 384, "the size that EndpointTelemetry::attach names");

/// The counts of one endpoint, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Attempts sent to the endpoint.
    pub calls: CallTotals,
    /// Connections made.
    pub connects_succeeded: u64,
    /// Connections that failed before they were ready.
    pub connects_failed: u64,
    /// Connections made that ended.
    pub disconnections: u64,
    /// Streams that the endpoint reset.
    pub resets: u64,
}

impl EndpointTotals {
    /// Connections open now. Read beside running workers, it may be off by those of a moment.
    #[must_use]
    pub fn connections_active(&self) -> u64 {
        self.connects_succeeded.saturating_sub(self.disconnections)
    }

    fn add(&mut self, row: &EndpointRow) {
        self.calls.add(&row.calls);
        self.disconnections = self.disconnections.wrapping_add(row.disconnections.get());
        self.connects_succeeded = self.connects_succeeded.wrapping_add(row.connects_succeeded.get());
        self.connects_failed = self.connects_failed.wrapping_add(row.connects_failed.get());
        self.resets = self.resets.wrapping_add(row.resets.get());
    }

    fn merge(&mut self, other: &Self) {
        self.calls.merge(&other.calls);
        self.disconnections = self.disconnections.wrapping_add(other.disconnections);
        self.connects_succeeded = self.connects_succeeded.wrapping_add(other.connects_succeeded);
        self.connects_failed = self.connects_failed.wrapping_add(other.connects_failed);
        self.resets = self.resets.wrapping_add(other.resets);
    }
}

/// One endpoint of a cluster; held by whoever counts for it.
#[derive(Debug)]
pub struct EndpointTelemetry {
    rows: Shards<EndpointRow>,
    /// `None`: its cluster's "other" counts it.
    place: Option<Place>,
}

impl EndpointTelemetry {
    /// A handle for one worker to count with. Allocates 384 bytes unless a worker before gave its row back.
    #[must_use]
    pub fn attach(self: &Arc<Self>) -> EndpointStats {
        EndpointStats { row: self.rows.attach(EndpointRow::default), _endpoint: Arc::clone(self) }
    }

    /// The endpoint's counts, summed over the workers; also of one without series of its own.
    #[must_use]
    pub fn totals(&self) -> EndpointTotals {
        let mut totals = EndpointTotals::default();
        self.rows.for_each(|row| totals.add(row));
        totals
    }
}

/// One cluster; held by whoever counts for it.
#[derive(Debug)]
pub struct ClusterTelemetry {
    places: Arc<Places>,
    endpoints: Mutex<Endpoints>,
    resolver: Mutex<ResolverTotals>,
    /// What each worker counts.
    rows: Shards<ClusterRow>,
    /// By [`HealthCheckResult`].
    health_checks: [SharedCounter; HEALTH_RESULTS],
    /// Of reports apart from calls, by [`LoadReported`].
    load_reports: [SharedCounter; LOAD_OUTCOMES],
    /// By [`LoadStreamEnded`].
    load_streams: [SharedCounter; LOAD_STREAM_ENDS],
}

/// How many kinds of [`HealthCheckResult`] there are.
const HEALTH_RESULTS: usize = HealthCheckResult::ALL.len();

/// How many kinds of [`LoadReported`] there are.
const LOAD_OUTCOMES: usize = LoadReported::ALL.len();

/// How many kinds of [`LoadStreamEnded`] there are.
const LOAD_STREAM_ENDS: usize = LoadStreamEnded::ALL.len();

#[derive(Debug, Default)]
struct Endpoints {
    by_address: BTreeMap<Box<str>, Arc<EndpointTelemetry>>,
    /// Counts of former endpoints that had no series of their own.
    gone: Option<EndpointTotals>,
    /// Number of endpoints at which those nobody holds are looked for, so that the map is at most twice as large as
    /// the live set even if nothing scrapes.
    prune_at: usize,
}

impl Endpoints {
    fn prune(&mut self) {
        let gone = &mut self.gone;
        self.by_address.retain(|_, endpoint| {
            // Unique means that only this map holds it, and nobody can get it but through this lock.
            let Some(unique) = Arc::get_mut(endpoint) else { return true };
            if unique.place.is_none() {
                gone.get_or_insert_default().merge(&unique.totals());
            }
            false
        });
        self.prune_at = (self.by_address.len() * 2).max(64);
    }
}

/// What a cluster's resolver did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolverTotals {
    /// Answers taken over.
    pub updates: u64,
    /// Resolutions that failed; the last good answer stayed in force.
    pub failures: u64,
    /// When the last answer came; `None` before the first.
    pub last_success_at: Option<Duration>,
}

impl ClusterTelemetry {
    fn new(places: Arc<Places>) -> Self {
        Self {
            places,
            endpoints: Mutex::default(),
            resolver: Mutex::default(),
            rows: Shards::default(),
            health_checks: Default::default(),
            load_reports: Default::default(),
            load_streams: Default::default(),
        }
    }

    /// The endpoint of this address (the `endpoint` label), new if there is none.
    pub fn endpoint(&self, address: &str) -> Arc<EndpointTelemetry> {
        let mut endpoints = lock(&self.endpoints);
        if let Some(endpoint) = endpoints.by_address.get(address) {
            return Arc::clone(endpoint);
        }
        if endpoints.by_address.len() >= endpoints.prune_at {
            endpoints.prune();
        }
        // An endpoint called "other" would otherwise make a second series with the labels of the sum.
        let place = if address == OTHER { None } else { self.places.take() };
        let endpoint = Arc::new(EndpointTelemetry { rows: Shards::default(), place });
        endpoints.by_address.insert(address.into(), Arc::clone(&endpoint));
        endpoint
    }

    /// A handle for one worker to count with. Allocates a row unless a worker before gave its own back.
    #[must_use]
    pub fn attach(self: &Arc<Self>) -> ClusterStats {
        ClusterStats { row: self.rows.attach(ClusterRow::default), _cluster: Arc::clone(self) }
    }

    /// The cluster's counts, summed over the workers; of one beyond the bound those of all such together.
    #[must_use]
    pub fn counts(&self) -> ClusterCounts {
        let mut counts = ClusterCounts::default();
        self.rows.for_each(|row| counts.add(row));
        counts
    }

    /// Calls that wait now, over all workers.
    fn pending(&self) -> u64 {
        let mut calls = 0;
        self.rows.for_each(|row| calls += row.pending.get());
        calls
    }

    /// Notes `count` answers of the resolver, the newest at `now`. None of them changes nothing.
    pub fn resolver_updated(&self, count: u64, now: Duration) {
        if count > 0 {
            let mut resolver = lock(&self.resolver);
            resolver.updates = resolver.updates.wrapping_add(count);
            resolver.last_success_at = Some(now);
        }
    }

    /// Notes that there is nothing to resolve any more: the configuration lists the endpoints, and no answer grows old.
    pub fn resolver_ended(&self) {
        lock(&self.resolver).last_success_at = None;
    }

    /// Notes `count` failed resolutions.
    pub fn resolver_failed(&self, count: u64) {
        let mut resolver = lock(&self.resolver);
        resolver.failures = resolver.failures.wrapping_add(count);
    }

    /// Counts a result of an endpoint's active checks.
    pub fn health_checked(&self, result: HealthCheckResult) {
        self.health_checks[result as usize].add(1);
    }

    /// Counts a load report that came apart from calls.
    pub fn load_reported(&self, outcome: LoadReported) {
        self.load_reports[outcome as usize].add(1);
    }

    /// Counts the end of a stream of load reports.
    pub fn load_stream_ended(&self, reason: LoadStreamEnded) {
        self.load_streams[reason as usize].add(1);
    }

    /// What this cluster's resolver did.
    #[must_use]
    pub fn resolver(&self) -> ResolverTotals {
        *lock(&self.resolver)
    }

    fn sample(&self, name: &str) -> ClusterSample {
        let mut endpoints = lock(&self.endpoints);
        endpoints.prune();
        let mut other = endpoints.gone;
        let mut samples = Vec::with_capacity(endpoints.by_address.len());
        for (address, endpoint) in &endpoints.by_address {
            match endpoint.place {
                Some(_) => {
                    samples.push(EndpointSample { address: address.clone(), totals: endpoint.totals() });
                }
                None => other.get_or_insert_default().merge(&endpoint.totals()),
            }
        }
        samples.extend(other.map(|totals| EndpointSample { address: OTHER.into(), totals }));
        ClusterSample {
            name: name.into(),
            resolver: self.resolver(),
            pending: self.pending(),
            events: self.counts(),
            health_checks: self.health_checks.each_ref().map(SharedCounter::get),
            load_reports: self.load_reports.each_ref().map(SharedCounter::get),
            load_streams: self.load_streams.each_ref().map(SharedCounter::get),
            endpoints: samples,
        }
    }
}

/// A cluster at one scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSample {
    /// The `cluster` label.
    pub name: Box<str>,
    /// What its resolver did.
    pub resolver: ResolverTotals,
    /// Calls that wait for an endpoint or a place, over all workers.
    pub pending: u64,
    /// What its workers counted.
    pub events: ClusterCounts,
    /// Results of its endpoints' active checks, by [`HealthCheckResult`].
    pub health_checks: [u64; HEALTH_RESULTS],
    /// Load reports that came apart from calls, by [`LoadReported`].
    pub load_reports: [u64; LOAD_OUTCOMES],
    /// Ends of streams of load reports, by [`LoadStreamEnded`].
    pub load_streams: [u64; LOAD_STREAM_ENDS],
    /// Its endpoints in the order of their addresses; then, if there are such, the sum of those beyond the bound.
    pub endpoints: Vec<EndpointSample>,
}

/// An endpoint at one scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSample {
    /// The `endpoint` label.
    pub address: Box<str>,
    /// Its counts.
    pub totals: EndpointTotals,
}

/// The clusters.
#[derive(Debug)]
pub(crate) struct Clusters {
    places: Arc<Places>,
    by_name: Mutex<BTreeMap<Box<str>, Arc<ClusterTelemetry>>>,
    /// Shared by the clusters beyond the bound; never dropped, so that its counts never go back.
    other: Arc<ClusterTelemetry>,
    overflow: SharedCounter,
}

impl Default for Clusters {
    fn default() -> Self {
        let places = Arc::new(Places::default());
        let other = Arc::new(ClusterTelemetry::new(Arc::clone(&places)));
        Self { places, by_name: Mutex::default(), other, overflow: SharedCounter::default() }
    }
}

impl Clusters {
    pub(crate) fn cluster(&self, name: &str) -> Arc<ClusterTelemetry> {
        let mut clusters = lock(&self.by_name);
        if let Some(cluster) = clusters.get(name) {
            return Arc::clone(cluster);
        }
        if clusters.len() >= MAX_CLUSTER_SERIES {
            prune(&mut clusters);
        }
        // A cluster called "other" would otherwise make a second series with the labels of the shared one.
        if clusters.len() >= MAX_CLUSTER_SERIES || name == OTHER {
            self.overflow.add(1);
            return Arc::clone(&self.other);
        }
        let cluster = Arc::new(ClusterTelemetry::new(Arc::clone(&self.places)));
        clusters.insert(name.into(), Arc::clone(&cluster));
        cluster
    }

    pub(crate) fn samples(&self) -> Vec<ClusterSample> {
        let mut clusters = lock(&self.by_name);
        prune(&mut clusters);
        let mut samples: Vec<_> = clusters.iter().map(|(name, cluster)| cluster.sample(name)).collect();
        if self.overflow.get() > 0 {
            samples.push(self.other.sample(OTHER));
        }
        samples
    }
}

/// Drops the clusters that nobody else holds.
fn prune(clusters: &mut BTreeMap<Box<str>, Arc<ClusterTelemetry>>) {
    clusters.retain(|_, cluster| Arc::get_mut(cluster).is_none());
}

#[cfg(test)]
mod tests;
