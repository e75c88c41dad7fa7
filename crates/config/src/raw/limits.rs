//! Limits, as clusters and routes write them.

use super::affinity::RawHashBy;
use super::leaf::Flag;
use super::{Integer, List, Off, RawDuration, raw_mapping};
use crate::bounds;

raw_mapping! {
    /// Bounds of what may be under way to a cluster, in all workers together. An empty mapping turns them on with all defaults.
    RawCircuitBreakers as "CircuitBreakers", expected "`off`, or a mapping such as `{max_requests: 1000}`";
    required {}
    optional {
        /// Connections, or `off`. Each worker's first one to an endpoint is always made. 1 to 1000000.
        #[schemars(extend("default" = "off"))]
        max_connections: Off<Integer>,

        /// Calls that wait for an endpoint or a place, or `off`: each worker's own `max_pending` only. 0 to 1000000.
        #[schemars(extend("default" = bounds::BREAKER_MAX_PENDING.default))]
        max_pending: Off<Integer>,

        /// Attempts under way, or `off`. 0 lets nothing through. 0 to 1000000.
        #[schemars(extend("default" = "off"))]
        max_requests: Off<Integer>,

        /// Retries under way, beside `retry_budget`, or `off`. 0 to 1000000.
        #[schemars(extend("default" = "off"))]
        max_retries: Off<Integer>,

        /// The same for each endpoint.
        #[schemars(extend("default" = {}))]
        per_endpoint: RawEndpointBreakers,
    }
}

raw_mapping! {
    /// Bounds of what may be under way to each endpoint, in all workers together. One that is full is passed over.
    RawEndpointBreakers as "EndpointBreakers", expected "a mapping such as `{max_requests: 100}`";
    required {}
    optional {
        /// Connections, or `off`. Each worker's first one is always made. 1 to 1000000.
        #[schemars(extend("default" = "off"))]
        max_connections: Off<Integer>,

        /// Attempts under way, or `off`. 0 to 1000000.
        #[schemars(extend("default" = bounds::BREAKER_ENDPOINT_MAX_REQUESTS.default))]
        max_requests: Off<Integer>,

        /// Retries under way, or `off`. 0 to 1000000.
        #[schemars(extend("default" = "off"))]
        max_retries: Off<Integer>,
    }
}

raw_mapping! {
    /// As many attempts under way as the latency of the answers allows (Envoy's gradient controller). An empty mapping turns it on with
    /// all defaults.
    RawAdaptiveConcurrency as "AdaptiveConcurrency", expected "`off` or a mapping";
    required {}
    optional {
        /// Length of the windows at whose ends the limit is adapted. 10ms to 1m.
        #[schemars(extend("default" = "100ms"))]
        sample_interval: RawDuration,

        /// The lowest limit. 1 to 1000000.
        #[schemars(range(min = bounds::ADAPTIVE_MIN_LIMIT.min, max = bounds::ADAPTIVE_MIN_LIMIT.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_MIN_LIMIT.default))]
        min_limit: Integer,

        /// The highest limit; at least `min_limit`. 1 to 1000000.
        #[schemars(range(min = bounds::ADAPTIVE_MAX_LIMIT.min, max = bounds::ADAPTIVE_MAX_LIMIT.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_MAX_LIMIT.default))]
        max_limit: Integer,

        /// The limit at the beginning; between the two above. 1 to 1000000.
        #[schemars(range(min = bounds::ADAPTIVE_INITIAL_LIMIT.min, max = bounds::ADAPTIVE_INITIAL_LIMIT.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_INITIAL_LIMIT.default))]
        initial_limit: Integer,

        /// How much slower than without a queue, in percent, is still no sign of one. 0 to 1000.
        #[schemars(range(min = bounds::ADAPTIVE_BUFFER_PERCENT.min, max = bounds::ADAPTIVE_BUFFER_PERCENT.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_BUFFER_PERCENT.default))]
        buffer_percent: Integer,

        /// The latency without a queue. Without it, it is measured. 1ms to 1m; excludes the three below.
        min_rtt: RawDuration,

        /// Time between two measurements, for which the limit is lowered to a quarter. 1s to 1d.
        #[schemars(extend("default" = "1m"))]
        measure_interval: RawDuration,

        /// Share of it, in percent, by which it is longer at random. 0 to 100.
        #[schemars(range(min = bounds::ADAPTIVE_MEASURE_JITTER_PERCENT.min, max = bounds::ADAPTIVE_MEASURE_JITTER_PERCENT.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_MEASURE_JITTER_PERCENT.default))]
        measure_jitter_percent: Integer,

        /// Successes that make a measurement. 1 to 10000.
        #[schemars(range(min = bounds::ADAPTIVE_MEASURE_REQUESTS.min, max = bounds::ADAPTIVE_MEASURE_REQUESTS.max))]
        #[schemars(extend("default" = bounds::ADAPTIVE_MEASURE_REQUESTS.default))]
        measure_requests: Integer,

        /// Whether calls above the limit wait for a place, as long as their deadline can be met. If not, they are answered with
        /// RESOURCE_EXHAUSTED at once.
        #[schemars(extend("default" = true))]
        queue: Flag,
    }
}

raw_mapping! {
    /// How often a route's calls are let through, of all clients together, of each, or both.
    RawRateLimit as "RateLimit", expected "a mapping such as `{requests: 100}`";
    required {}
    optional {
        /// Calls in `per`, of all clients together. Without it only `per_client` counts. 1 to 1000000000.
        #[schemars(range(min = bounds::RATE_REQUESTS.min, max = bounds::RATE_REQUESTS.max))]
        requests: Integer,

        /// The time in which as many calls are let through. 1ms to 1d; needs `requests`.
        #[schemars(extend("default" = "1s"))]
        per: RawDuration,

        /// Calls that are let through at once after a rest; as many as `requests` without it. 1 to 1000000000; needs `requests`.
        #[schemars(range(min = bounds::RATE_REQUESTS.min, max = bounds::RATE_REQUESTS.max))]
        burst: Integer,

        /// The same for each client.
        per_client: RawClientRateLimit,
    }
}

raw_mapping! {
    /// How often the calls of one client are let through.
    RawClientRateLimit as "ClientRateLimit", expected "a mapping such as `{by: [source_ip], requests: 10}`";
    required {
        /// What tells clients apart, in order: the first that a call has decides. Calls that have none of them are one client.
        #[schemars(extend("minItems" = 1, "maxItems" = bounds::MAX_HASH_BY))]
        by: List<RawHashBy>,

        /// Calls in `per`. 1 to 1000000000.
        #[schemars(range(min = bounds::RATE_REQUESTS.min, max = bounds::RATE_REQUESTS.max))]
        requests: Integer,
    }
    optional {
        /// The time in which as many calls are let through. 1ms to 1d.
        #[schemars(extend("default" = "1s"))]
        per: RawDuration,

        /// Calls that are let through at once after a rest; as many as `requests` without it. 1 to 1000000000.
        #[schemars(range(min = bounds::RATE_REQUESTS.min, max = bounds::RATE_REQUESTS.max))]
        burst: Integer,

        /// Clients that are told apart at once, 17 bytes for each. More than that share buckets. 8 to 1048576.
        #[schemars(range(min = bounds::RATE_MAX_KEYS.min, max = bounds::RATE_MAX_KEYS.max))]
        #[schemars(extend("default" = bounds::RATE_MAX_KEYS.default))]
        max_keys: Integer,
    }
}
