//! Everything the process counts, in one place.

use std::sync::Arc;

use crate::call::CallTotals;
use crate::cluster::{ClusterSample, ClusterTelemetry, Clusters};
use crate::counter::SharedCounter;
use crate::event::process::SLOTS;
use crate::event::{ClusterEvent, Event, Label, Reload};
use crate::method::{MethodName, MethodRegistry};
use crate::route::{ROUTE_ROWS, RouteSample, RouteTelemetry, Routes};
use crate::shards::Shards;
use crate::worker::{MAX_PROTOCOL_RULES, WorkerStats, WorkerTable};

/// What telemetry must be told about the process.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The version in `evenkeel_build_info`.
    pub version: &'static str,
    /// Names of the protocol's rules that can be broken: the values of the label `rule`. Repetitions are fine; names
    /// beyond [`MAX_PROTOCOL_RULES`] count as "other".
    pub protocol_rules: &'static [&'static str],
}

/// Counts of the control plane: rare, hence shared by whoever counts.
#[derive(Debug, Default)]
pub struct ControlStats {
    reloads: [SharedCounter; Reload::VALUES.len()],
    config_generation: SharedCounter,
}

impl ControlStats {
    /// Counts a reload of the configuration.
    pub fn config_reloaded(&self, outcome: Reload) {
        self.reloads[outcome.index()].add(1);
    }

    /// Notes which configuration is in force: 1 for the one at start, one more for each accepted reload.
    pub fn set_config_generation(&self, generation: u64) {
        self.config_generation.set(generation);
    }
}

/// What became of access log lines; shared by the workers and the writer.
#[derive(Debug, Default)]
pub struct AccessLogStats {
    /// Lines handed to the operating system.
    pub written: SharedCounter,
    /// Lines lost: the queue was full, or a write failed.
    pub dropped: SharedCounter,
    /// Writes and reopenings that failed.
    pub errors: SharedCounter,
}

/// Everything the process counts.
#[derive(Debug)]
pub struct Telemetry {
    version: &'static str,
    rules: Arc<[&'static str]>,
    workers: Shards<WorkerTable>,
    methods: MethodRegistry,
    clusters: Clusters,
    routes: Routes,
    control: ControlStats,
    access_log: Arc<AccessLogStats>,
}

impl Telemetry {
    /// Telemetry that has counted nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut rules = options.protocol_rules.to_vec();
        rules.sort_unstable();
        rules.dedup();
        // "other" is the name of the sum of all further rules.
        rules.retain(|rule| *rule != crate::cluster::OTHER);
        rules.truncate(MAX_PROTOCOL_RULES);
        Self {
            version: options.version,
            rules: rules.into(),
            workers: Shards::default(),
            methods: MethodRegistry::default(),
            clusters: Clusters::default(),
            routes: Routes::default(),
            control: ControlStats::default(),
            access_log: Arc::default(),
        }
    }

    /// The counts of one more worker. A worker that ends gives them back for the next.
    #[must_use]
    pub fn add_worker(&self) -> WorkerStats {
        WorkerStats::new(self.workers.attach(|| WorkerTable::new(Arc::clone(&self.rules))))
    }

    /// The methods known to all workers.
    #[must_use]
    pub fn methods(&self) -> &MethodRegistry {
        &self.methods
    }

    /// The cluster of this name, new if there is none; its series live as long as somebody holds it.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Arc<ClusterTelemetry> {
        self.clusters.cluster(name)
    }

    /// The route at this place of a listener's list, new if there is none; its series live as long as somebody holds it.
    #[must_use]
    pub fn route(&self, listener: &str, place: usize) -> Arc<RouteTelemetry> {
        let held = |row| {
            let mut calls = 0_u64;
            self.workers.for_each(|worker| calls = calls.wrapping_add(worker.route_row(row)));
            calls
        };
        self.routes.route(listener, place, held)
    }

    /// Counts of the control plane.
    #[must_use]
    pub fn control(&self) -> &ControlStats {
        &self.control
    }

    /// Counts of the access log.
    #[must_use]
    pub fn access_log(&self) -> &Arc<AccessLogStats> {
        &self.access_log
    }

    /// All counts now. Reads beside the running workers, which notice nothing of it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let names = self.methods.names();
        let mut methods: Vec<_> =
            names.into_iter().map(|name| MethodSample { name, totals: CallTotals::default() }).collect();
        let mut events = [0; SLOTS];
        let mut errors = [0; MAX_PROTOCOL_RULES + 1];
        let mut routes = [0; ROUTE_ROWS];
        self.workers.for_each(|worker| {
            worker.add_events_to(&mut events);
            worker.add_protocol_errors_to(&mut errors);
            worker.add_routes_to(&mut routes);
            for (index, sample) in methods.iter_mut().enumerate() {
                worker.add_method_to(index, &mut sample.totals);
            }
        });
        let named = self.rules.iter().copied().zip(errors);
        let other = (crate::cluster::OTHER, errors[MAX_PROTOCOL_RULES]);
        Snapshot {
            version: self.version,
            methods,
            clusters: self.clusters.samples(),
            routes: self.routes.samples(&routes),
            events,
            protocol_errors: named.chain([other]).collect(),
            methods_overflow: self.methods.overflow(),
            reloads: std::array::from_fn(|index| self.control.reloads[index].get()),
            config_generation: self.control.config_generation.get(),
            access_log_written: self.access_log.written.get(),
            access_log_dropped: self.access_log.dropped.get(),
            access_log_errors: self.access_log.errors.get(),
        }
    }
}

/// A method at one scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodSample {
    /// Its labels.
    pub name: MethodName,
    /// Its counts.
    pub totals: CallTotals,
}

/// All counts at one moment: what `/metrics` prints, and what a live view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Version of the build.
    pub version: &'static str,
    /// By row: "other", "unknown", then the methods in the order of their registration.
    pub methods: Vec<MethodSample>,
    /// By name.
    pub clusters: Vec<ClusterSample>,
    /// By listener and place.
    pub routes: Vec<RouteSample>,
    pub(crate) events: [u64; SLOTS],
    /// Broken rules of the protocol by name; those of other names under "other".
    pub protocol_errors: Vec<(&'static str, u64)>,
    /// Registrations of methods beyond the bounds.
    pub methods_overflow: u64,
    pub(crate) reloads: [u64; Reload::VALUES.len()],
    /// The configuration in force; 0 before the first.
    pub config_generation: u64,
    /// Access log lines handed to the operating system.
    pub access_log_written: u64,
    /// Access log lines lost.
    pub access_log_dropped: u64,
    /// Failed writes and reopenings of the access log.
    pub access_log_errors: u64,
}

impl Snapshot {
    /// How often `event` was counted.
    #[must_use]
    pub fn event(&self, event: Event) -> u64 {
        self.events[event.slot()]
    }

    /// How often `event` was counted in the clusters that there are, together.
    #[must_use]
    pub fn cluster_event(&self, event: ClusterEvent) -> u64 {
        self.clusters.iter().fold(0, |sum, cluster| sum.wrapping_add(cluster.events.get(event)))
    }

    /// Reloads that ended so.
    #[must_use]
    pub fn reloads(&self, outcome: Reload) -> u64 {
        self.reloads[outcome.index()]
    }

    /// Connections of clients that are open.
    #[must_use]
    pub fn connections_active(&self) -> u64 {
        self.event(Event::ConnectionOpened).saturating_sub(self.event(Event::ConnectionClosed))
    }

    /// The sum over all methods.
    #[must_use]
    pub fn calls(&self) -> CallTotals {
        let mut sum = CallTotals::default();
        self.methods.iter().for_each(|method| sum.merge(&method.totals));
        sum
    }
}
