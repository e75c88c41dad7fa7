//! Clusters: their connections and their names.

use super::affinity::{RawHashBy, RawSubset};
use super::health::RawHealthCheck;
use super::leaf::Flag;
use super::limits::{RawAdaptiveConcurrency, RawCircuitBreakers};
use super::outlier::RawOutlierDetection;
use super::policy::{RawPolicy, RawSlowStart};
use super::retry::{RawRetryBudget, RawRetryThrottling};
use super::{
    Integer, List, Number, Off, OneOrMany, RawDuration, RawLocalityWeight, RawTarget, RawZoneAware, Text,
    raw_mapping,
};
use crate::bounds;

raw_mapping! {
    /// A group of endpoints that answer the same calls, and how one of them is chosen for each call.
    RawCluster as "Cluster", expected "a mapping with `name` and `target`";
    required {
        /// The name that routes and metrics use: letters, digits, `-`, `_` and dots.
        #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,128}$"))]
        name: Text,

        /// Where the endpoints come from: `dns:///host:port`, `dns+srv:///name`, `ipv4:address:port,...`,
        /// `ipv6:[address]:port,...`, `unix:/path` or `file:/path`; or a list of them, each with a place among the others. Up to
        /// 16.
        target: OneOrMany<RawTarget>,
    }
    optional {
        /// How an endpoint is chosen for each call: a name, or a mapping from the name to its parameters.
        #[schemars(extend("default" = "least_request"))]
        policy: RawPolicy,

        /// What calls must have in common to meet the same endpoint, in order: the first that a call has decides. Needed by
        /// `ring_hash` and `maglev`, and only by them. A call that has none of them goes anywhere.
        #[schemars(extend("default" = [], "maxItems" = bounds::MAX_HASH_BY))]
        hash_by: List<RawHashBy>,

        /// How the share of a new endpoint grows, or `off`: it has its whole share at once. For the policies with weights:
        /// `least_request`, `weighted_round_robin` and `peak_ewma`.
        #[schemars(extend("default" = "off"))]
        slow_start: Off<RawSlowStart>,

        /// Which of many endpoints this proxy uses, one of many proxies in front of them, or `off`: all.
        #[schemars(extend("default" = "off"))]
        subset: Off<RawSubset>,

        /// How many times its calls a priority or locality can bear: with fewer available endpoints than one in so many, part
        /// of its calls goes elsewhere. 1 to 10.
        #[schemars(range(min = bounds::OVERPROVISIONING.min, max = bounds::OVERPROVISIONING.max))]
        #[schemars(extend("default" = bounds::OVERPROVISIONING.default))]
        overprovisioning_factor: Number,

        /// When fewer than this percentage of the endpoints are available, calls go to all of them. 0: never. 0 to 100.
        #[schemars(range(min = bounds::PANIC_THRESHOLD.min, max = bounds::PANIC_THRESHOLD.max))]
        #[schemars(extend("default" = bounds::PANIC_THRESHOLD.default))]
        panic_threshold: Integer,

        /// Whether calls fail below the threshold, rather than go to all endpoints.
        #[schemars(extend("default" = false))]
        fail_traffic_on_panic: Flag,

        /// Weights of localities, or of none: the policy chooses among all endpoints of a priority. A locality that is not
        /// listed has weight 1.
        #[schemars(extend("default" = [], "maxItems" = bounds::MAX_LOCALITIES))]
        locality_weights: List<RawLocalityWeight>,

        /// Keeps calls in this proxy's own locality as far as its endpoints can bear them, or `off`. `{}` is on with all
        /// defaults.
        #[schemars(extend("default" = "off"))]
        zone_aware: Off<RawZoneAware>,

        /// How long a connection attempt may take. 10ms to 10m.
        #[schemars(extend("default" = "5s"))]
        connect_timeout: RawDuration,

        /// How long an endpoint may leave unread what waits for it, before the call or connection is ended. 1s to 1h.
        #[schemars(extend("default" = "1m"))]
        stall_timeout: RawDuration,

        /// When to try again to connect.
        #[schemars(extend("default" = {}))]
        backoff: RawBackoff,

        /// Asks each endpoint whether it wants calls, or `off`: no endpoint is asked. `{}` is on with all defaults.
        #[schemars(extend("default" = "off"))]
        health_check: Off<RawHealthCheck>,

        /// When an endpoint whose calls fail is taken out of rotation, or `off`: never. `{}` is on with all defaults.
        #[schemars(extend("default" = "off"))]
        outlier_detection: Off<RawOutlierDetection>,

        /// Bounds the retries of all calls to the cluster.
        #[schemars(extend("default" = {}))]
        retry_budget: RawRetryBudget,

        /// gRPC's `retryThrottling`, besides the budget, or `off`.
        #[schemars(extend("default" = "off"))]
        retry_throttling: Off<RawRetryThrottling>,

        /// Bounds of what may be under way, or `off`. `{}` is on with all defaults.
        #[schemars(extend("default" = "off"))]
        circuit_breakers: Off<RawCircuitBreakers>,

        /// As many calls under way as the latency of the answers allows, or `off`. `{}` is on with all defaults. For calls that
        /// end soon, not for streams.
        #[schemars(extend("default" = "off"))]
        adaptive_concurrency: Off<RawAdaptiveConcurrency>,

        /// Whether calls wait for an endpoint, up to their deadline, where there is none that could take them. If not, they fail
        /// at once with UNAVAILABLE and `no healthy upstream`.
        #[schemars(extend("default" = false))]
        wait_for_ready: Flag,

        /// How often a name is resolved. Only for `dns` and `dns+srv` targets.
        #[schemars(extend("default" = {}))]
        dns: RawDns,

        /// Calls of one worker that may wait for an endpoint or a place; more are answered with UNAVAILABLE. 1 to 65536.
        #[schemars(range(min = bounds::MAX_PENDING.min, max = bounds::MAX_PENDING.max))]
        #[schemars(extend("default" = bounds::MAX_PENDING.default))]
        max_pending: Integer,

        /// Connections of one worker to one endpoint. Another is opened when all have as many streams as the endpoint
        /// allows. 1 to 64.
        #[schemars(range(min = bounds::MAX_CONNECTIONS_PER_ENDPOINT.min, max = bounds::MAX_CONNECTIONS_PER_ENDPOINT.max))]
        #[schemars(extend("default" = bounds::MAX_CONNECTIONS_PER_ENDPOINT.default))]
        max_connections_per_endpoint: Integer,

        /// Endpoints that one worker connects to. With more, each worker takes its share of them. 1 to 65536.
        #[schemars(range(min = bounds::MAX_ENDPOINTS_PER_WORKER.min, max = bounds::MAX_ENDPOINTS_PER_WORKER.max))]
        #[schemars(extend("default" = bounds::MAX_ENDPOINTS_PER_WORKER.default))]
        max_endpoints_per_worker: Integer,
    }
}

raw_mapping! {
    /// When to try again to connect: gRPC's connection backoff, from the start of one attempt to the start of the next.
    RawBackoff as "Backoff", expected "a mapping";
    required {}
    optional {
        /// Delay after the first failed attempt. 10ms to 10m.
        #[schemars(extend("default" = "1s"))]
        base_interval: RawDuration,

        /// Growth of the delay with each failed attempt. 1 to 10.
        #[schemars(range(min = bounds::BACKOFF_MULTIPLIER.min, max = bounds::BACKOFF_MULTIPLIER.max))]
        #[schemars(extend("default" = bounds::BACKOFF_MULTIPLIER.default))]
        multiplier: Number,

        /// Share of the delay by which it is longer or shorter at random. 0 to 1.
        #[schemars(range(min = bounds::BACKOFF_JITTER.min, max = bounds::BACKOFF_JITTER.max))]
        #[schemars(extend("default" = bounds::BACKOFF_JITTER.default))]
        jitter: Number,

        /// Longest delay; at least `base_interval`. 10ms to 1h.
        #[schemars(extend("default" = "2m"))]
        max_interval: RawDuration,
    }
}

raw_mapping! {
    /// How often a name is resolved: when the records' TTL is over, within these bounds.
    RawDns as "Dns", expected "a mapping";
    required {}
    optional {
        /// Shortest time between two resolutions. 1s to 1h.
        #[schemars(extend("default" = "1s"))]
        min_refresh: RawDuration,

        /// Longest time between two resolutions; at least `min_refresh`. A new endpoint takes calls within it. 1s to 1h.
        #[schemars(extend("default" = "30s"))]
        max_refresh: RawDuration,
    }
}
