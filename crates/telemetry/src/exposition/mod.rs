//! Metrics as text, for Prometheus.
//!
//! A scrape sums the tables ([`crate::Telemetry::snapshot`]) and prints the sums ([`render`]); the data path knows
//! nothing of it. Names and labels of calls are those of go-grpc-middleware, so that its dashboards work:
//! `grpc_server_*{grpc_type,grpc_service,grpc_method}` for the calls of clients, and `grpc_client_*{cluster,endpoint}` for
//! attempts to backends. The rest is called `evenkeel_*`.
//!
//! Each label has a bounded set of values: [`crate::MAX_METHODS`], [`crate::MAX_ENDPOINT_SERIES`],
//! [`crate::MAX_CLUSTER_SERIES`], [`crate::MAX_ROUTE_SERIES`], [`crate::MAX_PROTOCOL_RULES`] and enums. Of a method's or endpoint's status codes those
//! seen so far are printed, and OK always, so that a rate exists from the first scrape on.

mod collector;
mod families;
mod format;

use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub use self::format::Format;
use crate::telemetry::Snapshot;

/// What is known at the moment of the scrape only, and not counted by telemetry.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The time now, on the clock whose times [`crate::ClusterTelemetry::resolver_updated`] got.
    pub now: Duration,
    /// Numbers of clusters. Of equal family and labels they are added up, and so are those of clusters beyond
    /// [`crate::MAX_CLUSTER_SERIES`], under `cluster="other"`.
    pub clusters: Vec<GaugeSample>,
    /// What the system says about the process; `None` leaves its metrics out.
    pub process: Option<ProcessSample>,
    /// What is buffered for peers.
    pub buffered: BufferedSample,
    /// The canaries, of which the configuration allows a few dozen.
    pub canaries: Vec<CanarySample>,
    /// Where endpoints are and what they weigh, of clusters that have priorities, localities or weights. Printed of those that have
    /// series of their own.
    pub placements: Vec<PlacementSample>,
}

/// Where an endpoint is and what it weighs: `evenkeel_endpoint_info`, to be joined with what is counted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementSample {
    /// The cluster's name.
    pub cluster: String,
    /// The endpoint's address.
    pub endpoint: String,
    /// Its priority.
    pub priority: &'static str,
    /// Its locality, `region/zone/sub_zone`; empty where nobody said.
    pub locality: String,
    /// Its static weight.
    pub weight: String,
}

/// A canary.
#[derive(Clone, Debug, PartialEq)]
pub struct CanarySample {
    /// Its name.
    pub name: String,
    /// `evenkeel_canary_weight_percent`: its share of the calls of both versions.
    pub weight_percent: f64,
    /// What it does.
    pub state: &'static str,
    /// All that it could do: `evenkeel_canary_state` is 1 for one of them.
    pub states: &'static [&'static str],
}

/// What is buffered for peers, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferedSample {
    /// `evenkeel_buffered_bytes`.
    pub bytes: u64,
    /// `evenkeel_buffered_limit_bytes`; `None` if there is none.
    pub limit: Option<u64>,
    /// `evenkeel_replay_bytes`: the part of `bytes` that is requests kept for further attempts.
    pub replay: u64,
}

/// What the system says about the process, under the names that all client libraries of Prometheus use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessSample {
    /// `process_cpu_seconds_total`: in user and system mode.
    pub cpu_seconds: f64,
    /// `process_resident_memory_bytes`.
    pub resident_bytes: u64,
    /// `process_virtual_memory_bytes`.
    pub virtual_bytes: u64,
    /// `process_open_fds`.
    pub open_files: u64,
    /// `process_max_fds`; `None` if there is no limit.
    pub open_files_max: Option<u64>,
    /// `process_start_time_seconds`, since the Unix epoch.
    pub start_time_seconds: f64,
    /// `process_threads`.
    pub threads: u64,
}

/// A number of a cluster at the moment of the scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GaugeSample {
    /// Of what it is.
    pub family: ClusterGauge,
    /// The cluster's name.
    pub cluster: String,
    /// The value of the family's own label, from a fixed set; empty of a family without one.
    pub label: &'static str,
    /// The number.
    pub value: u64,
}

/// Defines the gauges of clusters as one table: variant, name, label besides `cluster` (empty: none), help.
macro_rules! cluster_gauges {
    ($( $(#[doc = $doc:literal])* $variant:ident = $name:literal, $label:literal, $help:literal; )*) => {
        /// A family of gauges that clusters have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ClusterGauge {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl ClusterGauge {
            /// All of them, in the order in which they are printed.
            const ALL: &[Self] = &[ $( Self::$variant, )* ];

            /// The family's name, its label besides `cluster` if not empty, and its help.
            fn text(self) -> (&'static str, &'static str, &'static str) {
                match self { $( Self::$variant => ($name, $label, $help), )* }
            }
        }
    };
}

cluster_gauges! {
    /// 1 under the cluster's policy.
    Info = "evenkeel_cluster_info", "policy", "Clusters by policy.";
    /// Endpoints in each state of connectivity.
    Endpoints = "evenkeel_endpoints", "state", "Endpoints by state.";
    /// Endpoints by what active checks say; only of clusters that have checks.
    EndpointsByHealth = "evenkeel_endpoints_by_health", "health", "Endpoints by what active checks say.";
    /// Endpoints that get no calls while others can take them, by reason; one may have several.
    EndpointsWithheld = "evenkeel_endpoints_withheld", "reason", "Endpoints that are withheld from calls, by reason.";
    /// Endpoints whose own circuit breakers let nothing more in, by bound.
    EndpointsAtLimit = "evenkeel_endpoints_at_limit", "limit", "Endpoints whose circuit breaker is open, by limit.";
    /// Endpoints in their slow start; only of clusters that have one.
    EndpointsInSlowStart = "evenkeel_endpoints_in_slow_start", "", "Endpoints that get a part of their share yet.";
    /// Endpoints that discovery found and this proxy does not use; only of clusters with a subset.
    EndpointsOutsideSubset = "evenkeel_endpoints_outside_subset", "", "Endpoints that the cluster's subset leaves out.";
    /// What is under way, as a limit of the cluster counts it.
    LimitUsed = "evenkeel_cluster_limit_used", "limit", "What is under way to a cluster, by the limit that counts it.";
    /// The limit itself.
    LimitMax = "evenkeel_cluster_limit_max", "limit", "What may be under way to a cluster, by limit.";
    /// What is left in the bucket of `retry_throttling`; only of clusters that have it.
    RetryTokens = "evenkeel_retry_tokens", "", "Whole tokens of retry_throttling; at half of them or fewer nothing is tried again.";
    /// Workers that disregard health, by priority.
    WorkersInPanic = "evenkeel_workers_in_panic", "priority", "Workers that disregard health, by priority.";
}

/// All metrics as text.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it never does: writing to a string cannot fail")]
pub fn render(snapshot: Snapshot, scrape: Scrape, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(collector::Metrics { snapshot, scrape }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    match format {
        Format::OpenMetrics => out,
        Format::ClassicText => format::to_classic(&out),
    }
}

#[cfg(test)]
mod tests;
