//! What the control plane tells the workers: one immutable value, swapped as a whole.
//!
//! Two values swapped one after the other would let a worker see the routes of one configuration and the clusters of
//! another; one value cannot.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::outlier::OutlierDetector;
use evenkeel_balance::retry::{
    Gates, HedgingPolicy, RetryBudget, RetryBudgetConfig, RetryPolicy, RetryThrottle,
};
use evenkeel_balance::{BackoffConfig, EndpointSet, Policy, SlowStart};
use evenkeel_grpc::UtilizationMetric;
use evenkeel_http2::Limits;

use super::affinity::HashPlan;
pub use super::age::MaxAge;
use super::limit::ClusterLimits;
use super::metadata::MetadataRules;
pub use super::replay::ReplayBounds;
use super::route::RouteTable;

/// Everything that a worker is configured with.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Rises with each snapshot. Route decisions that were cached under another generation are void.
    pub generation: u32,
    /// The listeners, in the order of their identifiers. A reload may add some but never reorders them.
    pub listeners: Vec<Arc<Listener>>,
    /// The clusters, which routes name by position.
    pub clusters: Vec<Arc<Cluster>>,
    /// How much of requests is kept for further attempts.
    pub replay: ReplayBounds,
}

/// What a worker knows of a listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The address as configured, for logs and metrics.
    pub name: Arc<str>,
    /// What a client may make us hold or do.
    pub limits: Limits,
    /// Connections that one worker accepts from this listener. Default 10 000; see the configuration reference.
    pub max_connections: u32,
    /// How long a client may leave unread what waits for it, be it a connection's or a stream's window that stays closed
    /// (CVE-2019-9517). Default 60 s.
    pub stall_timeout: Duration,
    /// How old a client's connection may get. Default: as old as it likes.
    pub max_age: Option<MaxAge>,
    /// Which metadata of its clients is passed on.
    pub metadata: MetadataRules,
    /// Where calls go.
    pub routes: RouteTable,
}

impl Listener {
    /// A listener with these limits and routes, and defaults for everything else.
    #[must_use]
    pub fn new(name: &str, limits: Limits, routes: RouteTable) -> Self {
        Self {
            name: name.into(),
            limits,
            max_connections: 10_000,
            stall_timeout: Duration::from_secs(60),
            max_age: None,
            metadata: MetadataRules::default(),
            routes,
        }
    }
}

/// Calls that one connection has stream identifiers for: the odd numbers below 2^31.
pub const CALLS_PER_CONNECTION_MAX: u32 = 1 << 30;

/// What a worker knows of a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The cluster's name: its identity over reloads.
    pub name: Arc<str>,
    /// How an endpoint is chosen.
    pub policy: Policy,
    /// Metrics of load reports that may stand for utilization (gRFC A114). Default: none.
    pub utilization_metrics: Arc<[UtilizationMetric]>,
    /// What calls must have in common to meet the same endpoint, under a policy that hashes. Default: nothing.
    pub hash_plan: HashPlan,
    /// How the share of a new endpoint grows. Default: it has its whole share at once.
    pub slow_start: Option<SlowStart>,
    /// When to try again to connect.
    pub backoff: BackoffConfig,
    /// From the start of a connection attempt to the backend's SETTINGS. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a backend may leave unread what waits for it; see [`Listener::stall_timeout`]. Default 60 s.
    pub stall_timeout: Duration,
    /// Calls of one worker that may wait for an endpoint or a place. Default 1024; more are answered UNAVAILABLE.
    pub max_pending: usize,
    /// Connections of one worker to one endpoint. A second is opened when the first has as many streams as the
    /// backend allows (gRFC A105). Default 4.
    pub max_connections_per_endpoint: usize,
    /// Calls that one connection takes before another takes its place. Default, and most: all that HTTP/2 has stream
    /// identifiers for (RFC 9113 section 5.1.1), 2^30.
    pub max_calls_per_connection: u32,
    /// Endpoints that one worker connects to; with more, each worker takes its deterministic share. Default 1024.
    pub max_endpoints_per_worker: usize,
    /// Outlier detection, shared by all workers; `None` without.
    pub outliers: Option<Arc<OutlierDetector>>,
    /// What bounds the retries of all workers' calls.
    pub gates: Arc<RetryGates>,
    /// What bounds its calls in all workers; `None`: nothing.
    pub limits: Option<Arc<ClusterLimits>>,
    /// Whether calls wait for an endpoint, up to their deadline, where there is none that could take them, as gRPC's
    /// wait-for-ready calls do. Default false: they fail with UNAVAILABLE.
    pub wait_for_ready: bool,
    /// What discovery found; `None` before its first answer.
    pub endpoints: Option<Arc<EndpointSet>>,
    /// What discovery's newest failure said, for the message of calls that fail because of it.
    pub resolve_error: Option<Arc<str>>,
}

/// How the calls of a route are tried again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RetrySettings {
    /// When, how often, and after which ends.
    pub policy: RetryPolicy,
    /// Whether doing a call twice does no harm.
    pub is_idempotent: bool,
}

/// When the calls of a route are hedged; doing one twice does no harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HedgeSettings {
    /// When, how often, and which ends do not decide a call.
    pub policy: HedgingPolicy,
}

/// What all calls to a cluster share that may be tried again.
#[derive(Debug)]
pub struct RetryGates {
    /// Bounds retries to a share of the calls.
    pub budget: RetryBudget,
    /// Stops retries while too many attempts fail (gRFC A6), if it is configured.
    pub throttle: Option<RetryThrottle>,
}

impl RetryGates {
    /// The gates as a decision asks for them.
    #[must_use]
    pub fn gates(&self) -> Gates<'_> {
        Gates { budget: &self.budget, throttle: self.throttle.as_ref() }
    }
}

impl Default for RetryGates {
    fn default() -> Self {
        Self { budget: RetryBudget::new(RetryBudgetConfig::default()), throttle: None }
    }
}

impl Cluster {
    /// A cluster of these endpoints with defaults for everything else.
    #[must_use]
    pub fn new(name: &str, policy: Policy, endpoints: Arc<EndpointSet>) -> Self {
        Self {
            name: name.into(),
            policy,
            utilization_metrics: Arc::default(),
            hash_plan: HashPlan::default(),
            slow_start: None,
            backoff: BackoffConfig::default(),
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            max_pending: 1024,
            max_connections_per_endpoint: 4,
            max_calls_per_connection: CALLS_PER_CONNECTION_MAX,
            max_endpoints_per_worker: 1024,
            outliers: None,
            gates: Arc::default(),
            limits: None,
            wait_for_ready: false,
            endpoints: Some(endpoints),
            resolve_error: None,
        }
    }
}
