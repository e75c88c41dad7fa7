//! One table of events, from which metrics and the access log are made.
//!
//! What counts on the data path must cost a few nanoseconds, so this crate is built around one rule: **each word has one
//! writer.** A worker owns its copy of every counter ([`WorkerStats`], and one [`EndpointStats`] per endpoint) and adds
//! with a plain load and store; no lock, no locked instruction, no allocation. A scrape sums the copies
//! ([`Telemetry::snapshot`]) and prints them ([`render`]).
//!
//! - [`call`](CallEnd): calls by method and attempts by endpoint: one description of a call's end feeds both.
//! - [`Event`], [`ClusterEvent`], [`RouteEvent`]: everything else a worker counts, for the process, a cluster or a route; name,
//!   help and labels are defined on one line each.
//! - [`render`]: OpenMetrics and Prometheus' classic text.
//! - [`access_log`]: one JSON line per call, in batches through a bounded queue to a thread that writes.
//! - [`LogLimiter`]: at most one log line per cause and second.
//!
//! **Bounds.** Label values come from enums or from bounded tables: [`MAX_METHODS`], [`MAX_ENDPOINT_SERIES`],
//! [`MAX_CLUSTER_SERIES`], [`MAX_ROUTE_SERIES`], [`MAX_PROTOCOL_RULES`]. What is beyond is counted, under "other".
//!
//! **Pure but for one file.** Nothing here reads a clock, a socket or a random number; time is an argument. Only
//! [`access_log::Writer`] owns a thread and a file: it is the edge. Mutexes guard lists that change when a worker,
//! method, endpoint or cluster appears, and are not taken per call.

pub mod access_log;
mod call;
mod cluster;
mod counter;
mod event;
mod exposition;
mod histogram;
mod limiter;
mod method;
mod route;
mod shards;
mod telemetry;
mod worker;

pub use call::{CODES, CallEnd, CallKind, CallTotals, Messages};
pub use cluster::{
    ClusterCounts, ClusterSample, ClusterStats, ClusterTelemetry, EndpointSample, EndpointStats,
    EndpointTelemetry, EndpointTotals, MAX_CLUSTER_SERIES, MAX_ENDPOINT_SERIES, ResolverTotals,
};
pub use counter::SharedCounter;
pub use event::{
    ClusterEvent, Ejected, Event, HealthCheckResult, Hedged, Injected, KeyMet, Limited, LoadReported,
    LoadStreamEnded, Mirrored, Probed, PushedBack, RateLimited, Refused, Reload, ReplayDropped, ResponseFlag,
    ResponseFlags, RetryDenied, RetryReason, RouteEvent, Shed, Side, TransparentRetry,
};
pub use exposition::{
    BufferedSample, CanarySample, ClusterGauge, Format, GaugeSample, PlacementSample, ProcessSample, Scrape,
    render,
};
pub use histogram::{LATENCY_BOUNDS, LATENCY_BUCKETS, LatencyTotals};
pub use limiter::{LogLimiter, MAX_CAUSES, PERIOD, SharedLogLimiter};
pub use method::{MAX_METHODS, MAX_NAME_BYTES, MethodId, MethodName, MethodRegistry};
pub use route::{MAX_ROUTE_SERIES, RouteEvents, RouteSample, RouteTelemetry};
pub use telemetry::{AccessLogStats, ControlStats, MethodSample, Options, Snapshot, Telemetry};
pub use worker::{MAX_PROTOCOL_RULES, WorkerStats};
