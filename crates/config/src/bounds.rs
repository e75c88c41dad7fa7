//! The bounds and defaults of every value, in one place: the schema, the resolution and the reference are made from it.
//!
//! Each has a minimum, a maximum and a default, with the reason. A maximum is where the value surely is a slip, or where
//! it would promise memory that nobody has.

use core::time::Duration;

/// What a value may be, and what it is if nothing is written.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bounds<T> {
    /// The smallest value.
    pub min: T,
    /// The largest value.
    pub max: T,
    /// The value if nothing is written.
    pub default: T,
}

const fn count(min: u32, max: u32, default: u32) -> Bounds<u32> {
    assert!(min <= default && default <= max, "a default must be within its bounds");
    Bounds { min, max, default }
}

const fn millis(min: u64, max: u64, default: u64) -> Bounds<Duration> {
    assert!(min <= default && default <= max, "a default must be within its bounds");
    let duration = Duration::from_millis;
    Bounds { min: duration(min), max: duration(max), default: duration(default) }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Bytes of a configuration's text: 1 MiB, some thousand routes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Bytes of an endpoint list's text: 8 MiB, 128 for each of [`MAX_ENDPOINTS`](evenkeel_balance::MAX_ENDPOINTS).
pub const MAX_LIST_BYTES: usize = 8 << 20;

/// Listeners of one proxy. Each has a socket on each worker.
pub const MAX_LISTENERS: usize = 64;

/// Clusters of one proxy. Each has a balancer on each worker, a resolver, and a label in the metrics.
pub const MAX_CLUSTERS: usize = 1024;

/// Routes of one listener. They are tried in order, so a table of thousands would be slow for paths not seen before.
pub const MAX_ROUTES: usize = 1024;

/// Further names under which the admin interface may be asked.
pub const MAX_ADMIN_HOSTS: usize = 16;

/// Authorities that one route may list.
pub const MAX_AUTHORITIES: usize = 64;

/// Conditions on metadata that one route may have: each costs a look at the fields of every call it is tried on.
pub const MAX_METADATA_MATCHES: usize = 16;

/// Fields of metadata that a route may add, set, or remove, each: a call pays for every one.
pub const MAX_CHANGED_FIELDS: usize = 16;

/// Bytes of the value of a field that a route adds or sets. All fields of a route together stay near the 16 KiB of header
/// list that backends commonly take.
pub const MAX_CHANGED_VALUE_BYTES: usize = 1024;

/// Clusters that one route may split its calls over.
pub const MAX_SHARES: usize = 32;

/// Weight of one cluster in a split: fine enough for a millionth. It must be given; the default is not used.
pub const SHARE_WEIGHT: Bounds<u32> = count(0, 1_000_000, 1);

/// Canaries of one proxy: each has 2 KiB of counters, and series in the metrics.
pub const MAX_CANARIES: usize = 64;

/// Steps of one canary.
pub const MAX_CANARY_STEPS: usize = 32;

/// A canary's share in percent. It must be given; the default is not used.
pub const CANARY_WEIGHT: Bounds<u32> = count(1, 100, 10);

/// How long a step of a canary lasts at least: Argo Rollouts' and Flagger's examples have 1 to 10 min.
pub const CANARY_STEP_DURATION: Bounds<Duration> = millis(SECOND, 30 * DAY, 5 * MINUTE);

/// How much larger a canary's share of failed calls may be, see
/// [`CanaryConfig`](evenkeel_balance::canary::CanaryConfig).
pub const CANARY_ERROR_INCREASE: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.005 };

/// Which quantile of latency is compared. Below the median no tail is left, and beyond 0.999 no call is.
pub const CANARY_LATENCY_QUANTILE: Bounds<f64> = Bounds { min: 0.5, max: 0.999, default: 0.99 };

/// How much larger that quantile may be.
pub const CANARY_LATENCY_INCREASE: Bounds<f64> = Bounds { min: 0.0, max: 100.0, default: 0.2 };

/// Calls of each version in a step before the next one may begin.
pub const CANARY_MIN_CALLS: Bounds<u32> = count(1, 1_000_000_000, 500);

/// Letters of a cluster's name: it is a label in the metrics.
pub const MAX_NAME_CHARS: usize = 128;

/// Worker threads. The default is one per core, which only the machine knows; this bound's default is not used.
pub const WORKERS: Bounds<u32> = count(1, 1024, 1);

/// Streams that one client may have open on one connection, listeners with the `edge` profile. Envoy's edge
/// recommendation is 100 as well; above 65,536 the windows alone would promise 4 GiB to one client.
pub const EDGE_MAX_CONCURRENT_STREAMS: Bounds<u32> = count(1, 65_536, 100);

/// The same with the `mesh` profile: Envoy's default since 1.36.
pub const MESH_MAX_CONCURRENT_STREAMS: Bounds<u32> = count(1, 65_536, 1024);

/// Bytes of one stream that may be on their way to the proxy. Default: RFC 9113's initial value, 64 KiB less one.
/// Below 16 KiB not even one frame fits; 16 MiB is Envoy's default since 1.36.
pub const INITIAL_STREAM_WINDOW_SIZE: Bounds<u32> = count(16_384, 16 << 20, 65_535);

/// Bytes of one connection that may be on their way to the proxy. RFC 9113 section 6.9.2 does not let it be below
/// 65,535; 256 MiB was Envoy's default before 1.36 and is what one client could make the proxy hold.
pub const INITIAL_CONNECTION_WINDOW_SIZE: Bounds<u32> = count(65_535, 256 << 20, 1 << 20);

/// Bytes of one decoded header list, with 32 for each field (RFC 9113 section 6.5.2). gRPC is moving to 8 KiB, Envoy
/// takes 60 KiB; one more only feeds decompression bombs (CVE-2026-49975 and its kin).
pub const MAX_HEADER_LIST_SIZE: Bounds<u32> = count(4_096, 64 << 10, 16 << 10);

/// Fields of one header list: Envoy's 100; nginx takes 1000.
pub const MAX_HEADERS_COUNT: Bounds<u32> = count(16, 1_000, 100);

/// Bytes of one header field's name or value.
pub const MAX_HEADER_FIELD_SIZE: Bounds<u32> = count(1_024, 64 << 10, 8 << 10);

/// How long a connection without streams stays open. Default with the `edge` profile 1 h (Envoy's); with `mesh` off.
pub const IDLE_TIMEOUT: Bounds<Duration> = millis(SECOND, 30 * DAY, HOUR);

/// How long a peer may leave unread what waits for it (CVE-2019-9517). A second would end honest clients on bad networks;
/// beyond an hour nobody reads any more. nginx's `send_timeout` is 60 s as well.
pub const STALL_TIMEOUT: Bounds<Duration> = millis(SECOND, HOUR, MINUTE);

/// Connections that one worker accepts from one listener. Envoy recommends 10,000; a worker keeps 4 KiB for each idle
/// one.
pub const MAX_CONNECTIONS_PER_WORKER: Bounds<u32> = count(1, 1_000_000, 10_000);

/// The longest a call may take. There is no default: without it only the client's own deadline counts.
pub const ROUTE_TIMEOUT: Bounds<Duration> = millis(1, 365 * DAY, 365 * DAY);

/// How long a stream may go on, and how long without a message. There is no default: without it streams go on.
pub const STREAM_DURATION: Bounds<Duration> = millis(SECOND, 365 * DAY, 365 * DAY);

/// The same for `stream_idle_timeout`; Envoy ends an idle stream after 5 min, which would cut honest watches off.
pub const STREAM_IDLE_TIMEOUT: Bounds<Duration> = millis(SECOND, 365 * DAY, 365 * DAY);

/// A part of the calls, in percent; a part that is not given is all of them. 0 turns off what is to be turned on again.
pub const PERCENT: Bounds<f64> = Bounds { min: 0.0, max: 100.0, default: 100.0 };

/// The smallest part besides none: a millionth of the calls, in which parts are counted.
pub const PERCENT_STEP: f64 = 0.0001;

/// How long a call is delayed on purpose. The default is not used: it must be given.
pub const FAULT_DELAY: Bounds<Duration> = millis(1, HOUR, SECOND);

/// How old a client's connection may get. Below some seconds clients do little but connect. gRPC's servers have no limit by
/// default either; an hour is common where there is one.
pub const MAX_CONNECTION_AGE: Bounds<Duration> = millis(SECOND, 30 * DAY, 30 * DAY);

/// How long calls may go on once their connection is too old; as long as they like by default, as with gRPC's servers.
pub const MAX_CONNECTION_AGE_GRACE: Bounds<Duration> = millis(SECOND, 30 * DAY, 30 * DAY);

/// How long a connection attempt may take, the backend's SETTINGS included. Envoy's 5 s.
pub const CONNECT_TIMEOUT: Bounds<Duration> = millis(10, 10 * MINUTE, 5 * SECOND);

/// Delay after the first failed connection attempt (gRPC's connection backoff).
pub const BACKOFF_BASE_INTERVAL: Bounds<Duration> = millis(10, 10 * MINUTE, SECOND);

/// Longest delay between connection attempts (gRPC's connection backoff).
pub const BACKOFF_MAX_INTERVAL: Bounds<Duration> = millis(10, HOUR, 120 * SECOND);

/// Growth of the delay with each failed attempt (gRPC's connection backoff).
pub const BACKOFF_MULTIPLIER: Bounds<f64> = Bounds { min: 1.0, max: 10.0, default: 1.6 };

/// Share of the delay by which it is longer or shorter at random (gRPC's connection backoff).
pub const BACKOFF_JITTER: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.2 };

/// Shortest time between two resolutions of a name, whatever the records' TTL.
pub const DNS_MIN_REFRESH: Bounds<Duration> = millis(SECOND, HOUR, SECOND);

/// Longest time between two resolutions of a name, whatever the records' TTL: after it a new endpoint gets calls.
pub const DNS_MAX_REFRESH: Bounds<Duration> = millis(SECOND, HOUR, 30 * SECOND);

/// The time constant of peak_ewma: Finagle's, linkerd's and Envoy's 10 s. Below 10 ms an average is that of one call; after
/// an hour an endpoint's outage would still be held against it the next day.
pub const PEAK_EWMA_DECAY: Bounds<Duration> = millis(10, HOUR, 10 * SECOND);

/// Probes that prequal makes per call: the paper's 3. Its figure 8 finds no gain above, and much lost below 1.
pub const PREQUAL_PROBES: Bounds<f64> = Bounds { min: 0.1, max: 16.0, default: 3.0 };

/// Probes in prequal's pool: the paper's 16. Each call looks through all.
pub const PREQUAL_POOL_SIZE: Bounds<u32> =
    count(2, evenkeel_balance::PrequalConfig::MAX_POOL_SIZE as u32, 16);

/// How old prequal's answers get: the paper's 1 s. What a server was like a minute ago says nothing of now.
pub const PREQUAL_MAX_AGE: Bounds<Duration> = millis(10, MINUTE, SECOND);

/// How often prequal's endpoints are asked to report apart from calls, if they are: several times within the `max_age` of 1 s, and no
/// more often than for weights ([`LOAD_REPORTING_PERIOD`]).
pub const PREQUAL_REPORTING_PERIOD: Bounds<Duration> = millis(100, MINUTE, 100);

/// Probes that prequal takes out of its pool per call: the paper's 1. More than come in leave the pool empty.
pub const PREQUAL_REMOVALS: Bounds<f64> = Bounds { min: 0.0, max: 16.0, default: 1.0 };

/// What a call in flight counts under least_request where weights differ. Above 100 nothing is left to weigh.
pub const ACTIVE_REQUEST_BIAS: Bounds<f64> = Bounds { min: 0.0, max: 100.0, default: 1.0 };

/// By how much more often than needed prequal's probes may be used: the paper's 1.
pub const PREQUAL_REUSE_DELTA: Bounds<f64> = Bounds { min: 0.0, max: 10.0, default: 1.0 };

/// Above which quantile of the requests in flight prequal calls an endpoint hot: the paper's 2^-0.25, to a thousandth.
pub const PREQUAL_RIF_QUANTILE: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.841 };

/// How long load must have been reported until it counts (gRFC A58). 0: at once.
pub const LOAD_BLACKOUT_PERIOD: Bounds<Duration> = millis(0, HOUR, 10 * SECOND);

/// How long a reported load counts (gRFC A58).
pub const LOAD_EXPIRATION_PERIOD: Bounds<Duration> = millis(SECOND, DAY, 3 * MINUTE);

/// How often reported load is looked at (gRFC A58, which has the same minimum).
pub const LOAD_UPDATE_PERIOD: Bounds<Duration> = millis(100, HOUR, SECOND);

/// How often an endpoint is asked to report its load apart from calls (gRFC A58). A server may have a longer least interval: 30 s
/// with gRPC's own (gRFC A51).
pub const LOAD_REPORTING_PERIOD: Bounds<Duration> = millis(100, HOUR, 10 * SECOND);

/// Metrics that may stand for utilization: each costs a comparison for every entry of a report's maps.
pub const MAX_UTILIZATION_METRICS: usize = evenkeel_grpc::load_report::utilization::UTILIZATION_METRICS_MAX;

/// How much an error adds to the reported load (gRFC A58). Above 100 one error in a hundred would hide all load.
pub const ERROR_UTILIZATION_PENALTY: Bounds<f64> = Bounds { min: 0.0, max: 100.0, default: 1.0 };

/// Entries of a ring for its lightest endpoint; see [`RingSize`](evenkeel_balance::RingSize).
pub const RING_ENTRIES: Bounds<u32> = count(1, evenkeel_balance::RingSize::LIMIT, 128);

/// Entries of a ring in all. At most Envoy's 8 Mi, 128 MiB; the default is [`RingSize`](evenkeel_balance::RingSize)'s.
pub const RING_SIZE: Bounds<u32> = count(1, evenkeel_balance::RingSize::LIMIT, 32_768);

/// Entries of a Maglev table, a prime: the paper's and Envoy's 65,537, and Envoy's maximum.
pub const MAGLEV_TABLE_SIZE: Bounds<u32> = count(3, evenkeel_balance::TableSize::MAX, 65_537);

/// Sources of a key: each costs every call that has none of those before it a look.
pub const MAX_HASH_BY: usize = 8;

/// How long a cookie lasts that the proxy gives a client; 0: as long as the client runs. The default is not used: without a
/// time none is given.
pub const COOKIE_TTL: Bounds<Duration> = millis(0, 365 * DAY, 0);

/// How long a new endpoint's share grows: Envoy's example of a minute. After a day nothing is new.
pub const SLOW_START_WINDOW: Bounds<Duration> = millis(SECOND, DAY, MINUTE);

/// How steep slow start begins: Envoy's 1, a straight line. Beyond the bounds it is a step, at the end or the beginning.
pub const SLOW_START_AGGRESSION: Bounds<f64> = Bounds { min: 0.1, max: 10.0, default: 1.0 };

/// The least part of its weight that a new endpoint has: Envoy's 10 %.
pub const SLOW_START_MIN_WEIGHT: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.1 };

/// How many times its calls a priority or locality can bear: Envoy's 140 %.
pub const OVERPROVISIONING: Bounds<f64> = Bounds { min: 1.0, max: 10.0, default: 1.4 };

/// Percentage of available endpoints below which health is disregarded: Envoy's.
pub const PANIC_THRESHOLD: Bounds<u32> = count(0, 100, 50);

/// Localities that one list may name: as many as a set of endpoints tells apart.
pub const MAX_LOCALITIES: usize = evenkeel_balance::MAX_GROUPS;

/// Endpoints that a zone-aware cluster needs: Envoy's.
pub const ZONE_MIN_CLUSTER_SIZE: Bounds<u32> = count(1, 65_536, 6);

/// Percentage of the calls for which a zone-aware cluster is zone-aware. 0 would be one that is not, which is `off`.
pub const ZONE_ROUTING_ENABLED: Bounds<u32> = count(1, 100, 100);

/// An endpoint's priority in a list.
pub const PRIORITY: Bounds<u32> = count(0, evenkeel_balance::MAX_PRIORITY as u32, 0);

/// Endpoints of a subset. It must be given; the default is not used.
pub const SUBSET_SIZE: Bounds<u32> = count(1, 65_536, 20);

/// A proxy's number among its peers. It must be given where it counts; the default is not used.
pub const SUBSET_CLIENT_INDEX: Bounds<u32> = count(0, 1_000_000, 0);

/// Calls of one worker that may wait for a connection to a cluster: Envoy's `max_pending_requests`.
pub const MAX_PENDING: Bounds<u32> = count(1, 65_536, 1_024);

/// Connections that a circuit breaker allows. The default is not used: without a number there is no bound. None at all would
/// be no cluster.
pub const BREAKER_MAX_CONNECTIONS: Bounds<u32> = count(1, 1_000_000, 1_024);

/// Attempts or retries under way that a circuit breaker allows. 0: a cluster in maintenance, or without retries. The default is
/// not used: without a number there is no bound, as Envoy's 1,024 and 3 of a cluster cut off healthy ones (envoyproxy/envoy#29762).
pub const BREAKER_PLACES: Bounds<u32> = count(0, 1_000_000, 1_024);

/// Calls of all workers that wait, as a circuit breaker allows them: Envoy's 1,024.
pub const BREAKER_MAX_PENDING: Bounds<u32> = count(0, 1_000_000, 1_024);

/// Attempts under way at one endpoint that a circuit breaker allows: what Envoy and gRPC (gRFC A32) allow a whole cluster.
pub const BREAKER_ENDPOINT_MAX_REQUESTS: Bounds<u32> = count(0, 1_000_000, 1_024);

/// Windows of adaptive concurrency (Envoy's example: 100 ms). Shorter ones have no calls, in longer ones a queue builds up.
pub const ADAPTIVE_SAMPLE_INTERVAL: Bounds<Duration> = millis(10, MINUTE, 100);

/// The lowest limit of adaptive concurrency (Envoy: 3).
pub const ADAPTIVE_MIN_LIMIT: Bounds<u32> = count(1, 1_000_000, 3);

/// The highest limit of adaptive concurrency (Envoy: 1,000).
pub const ADAPTIVE_MAX_LIMIT: Bounds<u32> = count(1, 1_000_000, 1_000);

/// The first limit of adaptive concurrency (Netflix concurrency-limits: 20).
pub const ADAPTIVE_INITIAL_LIMIT: Bounds<u32> = count(1, 1_000_000, 20);

/// How much slower than without a queue is no sign of one, in percent (Envoy: 25).
pub const ADAPTIVE_BUFFER_PERCENT: Bounds<u32> = count(0, 1_000, 25);

/// The latency without a queue. The default is not used: without it, it is measured.
pub const ADAPTIVE_MIN_RTT: Bounds<Duration> = millis(1, MINUTE, 10);

/// Time between two measurements of it (Envoy's example: 60 s).
pub const ADAPTIVE_MEASURE_INTERVAL: Bounds<Duration> = millis(SECOND, DAY, MINUTE);

/// Share of that by which it is longer at random, in percent (Envoy: 15).
pub const ADAPTIVE_MEASURE_JITTER_PERCENT: Bounds<u32> = count(0, 100, 15);

/// Successes that make a measurement (Envoy: 50).
pub const ADAPTIVE_MEASURE_REQUESTS: Bounds<u32> = count(1, 10_000, 50);

/// Calls that a rate limit lets through in its time, or at once. They must be given; the default is not used.
pub const RATE_REQUESTS: Bounds<u32> = count(1, 1_000_000_000, 100);

/// The time of a rate limit.
pub const RATE_PER: Bounds<Duration> = millis(1, DAY, SECOND);

/// Clients that a rate limit tells apart: 272 KiB of buckets by default, 17 MiB at most.
pub const RATE_MAX_KEYS: Bounds<u32> =
    count(8, evenkeel_balance::limit::MAX_KEYS, evenkeel_balance::limit::DEFAULT_KEYS);

/// Connections of one worker to one endpoint; another is opened when all have as many streams as the endpoint allows.
pub const MAX_CONNECTIONS_PER_ENDPOINT: Bounds<u32> = count(1, 64, 4);

/// Endpoints that one worker connects to; with more, each worker takes its share.
pub const MAX_ENDPOINTS_PER_WORKER: Bounds<u32> = count(1, 65_536, 1_024);

/// Failed calls in a row that eject an endpoint (gRFC A50 has no such rule; Envoy's 5).
pub const OUTLIER_CONSECUTIVE_FAILURES: Bounds<u32> = count(1, 1_000, 5);

/// Chance in percent that an outlier is really ejected, of each rule (gRFC A50 and, but for the failure percentage, Envoy: 100). 0
/// would be a rule without effect, which is `off`.
pub const OUTLIER_ENFORCEMENT_PERCENT: Bounds<u32> = count(1, 100, 100);

/// Share by which an ejection is randomly longer, so that proxies do not return at one moment. Envoy's
/// `max_ejection_time_jitter` is a time, and 0 by default.
pub const OUTLIER_JITTER: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.1 };

/// How long a trial without an end holds back the next. Below a tenth of a second slow answers would be taken for none; an hour
/// is the longest first ejection.
pub const OUTLIER_TRIAL_TIMEOUT: Bounds<Duration> = millis(100, HOUR, 10 * SECOND);

/// The `n` of `10^-n`, the greatest chance with which other endpoints' failures may explain an outlier's; see
/// [`SuccessRate`](evenkeel_balance::outlier::SuccessRate). At 100 nothing but certainty is left.
pub const OUTLIER_CHANCE_EXPONENT: Bounds<u32> = count(0, 100, 9);

/// Time between two sweeps of outlier detection (gRFC A50, Envoy: 10 s).
pub const OUTLIER_INTERVAL: Bounds<Duration> = millis(SECOND, HOUR, 10 * SECOND);

/// How long the first ejection lasts (gRFC A50, Envoy: 30 s).
pub const OUTLIER_BASE_EJECTION: Bounds<Duration> = millis(SECOND, HOUR, 30 * SECOND);

/// The longest ejection (gRFC A50, Envoy: 300 s).
pub const OUTLIER_MAX_EJECTION: Bounds<Duration> = millis(SECOND, DAY, 5 * MINUTE);

/// Share of the endpoints that may be out at once, in percent (gRFC A50, Envoy: 10).
pub const OUTLIER_MAX_EJECTION_PERCENT: Bounds<u32> = count(1, 100, 10);

/// Standard deviations below the mean success rate (gRFC A50, Envoy: 1.9).
pub const OUTLIER_STDEV_FACTOR: Bounds<f64> = Bounds { min: 0.0, max: 100.0, default: 1.9 };

/// Endpoints below which no success rate is compared (gRFC A50, Envoy: 5).
pub const OUTLIER_RATE_MIN_ENDPOINTS: Bounds<u32> = count(2, 65_536, 5);

/// Calls in an interval below which no success rate is compared (gRFC A50, Envoy: 100).
pub const OUTLIER_RATE_REQUEST_VOLUME: Bounds<u32> = count(1, 1_000_000, 100);

/// Failed calls in percent that eject an endpoint (gRFC A50, Envoy: 85).
pub const OUTLIER_FAILURE_THRESHOLD: Bounds<u32> = count(1, 100, 85);

/// Endpoints below which no share of failures is judged. gRFC A50 and Envoy have 5, which leaves three replicas without.
pub const OUTLIER_SHARE_MIN_ENDPOINTS: Bounds<u32> = count(2, 65_536, 3);

/// Calls in an interval below which no share of failures is judged (gRFC A50, Envoy: 50).
pub const OUTLIER_SHARE_REQUEST_VOLUME: Bounds<u32> = count(1, 1_000_000, 50);

/// Calls that bring an ejected endpoint back.
pub const OUTLIER_TRIAL_SUCCESSES: Bounds<u32> = count(1, 100, 3);

/// From one health check to the next (Envoy's documentation and its users' examples: 5 s). More than a hundred checks a second
/// and endpoint are an attack.
pub const HEALTH_INTERVAL: Bounds<Duration> = millis(10, HOUR, 5 * SECOND);

/// How long a health check may take (Envoy's examples: 1 s).
pub const HEALTH_TIMEOUT: Bounds<Duration> = millis(10, MINUTE, SECOND);

/// Share by which the interval of health checks differs at random (gRPC's backoffs: 0.2).
pub const HEALTH_JITTER: Bounds<f64> = Bounds { min: 0.0, max: 1.0, default: 0.2 };

/// Failed health checks in a row that make an endpoint unhealthy (Envoy's examples: 2).
pub const HEALTH_UNHEALTHY_THRESHOLD: Bounds<u32> = count(1, 100, 2);

/// Good health checks in a row that make it healthy again (Envoy's examples: 1).
pub const HEALTH_HEALTHY_THRESHOLD: Bounds<u32> = count(1, 100, 1);

/// Bytes of the service's name that a health check asks about.
pub const MAX_HEALTH_SERVICE_BYTES: usize = 256;

/// Attempts of one call, the first one included (gRFC A6, whose limit is 5 as well).
pub const RETRY_MAX_ATTEMPTS: Bounds<u32> = count(2, 5, 2);

/// Attempts of a hedged call, the first one included (gRFC A6).
pub const HEDGE_MAX_ATTEMPTS: Bounds<u32> = count(2, 5, 2);

/// Time from one attempt of a hedged call to the next; 0 sends all at once (gRFC A6).
pub const HEDGE_DELAY: Bounds<Duration> = millis(0, MINUTE, 100);

/// Delay before the first retry (Envoy, gRFC A44: 25 ms).
pub const RETRY_INITIAL_BACKOFF: Bounds<Duration> = millis(1, MINUTE, 25);

/// The longest delay before a retry (Envoy, gRFC A44: 250 ms).
pub const RETRY_MAX_BACKOFF: Bounds<Duration> = millis(1, 10 * MINUTE, 250);

/// Growth of the delay from one retry to the next (Envoy, gRFC A44: 2).
pub const RETRY_BACKOFF_MULTIPLIER: Bounds<f64> = Bounds { min: 1.0, max: 10.0, default: 2.0 };

/// How long one attempt may take. The default is not used: without a time each may take as long as the call.
pub const RETRY_PER_TRY_TIMEOUT: Bounds<Duration> = millis(1, DAY, DAY);

/// Retries in percent of the calls (Envoy, Linkerd: 20).
pub const RETRY_BUDGET_PERCENT: Bounds<u32> = count(0, 100, 20);

/// Retries that are always allowed (Envoy: 3).
pub const RETRY_BUDGET_MIN_CONCURRENCY: Bounds<u32> = count(0, 1_000, 3);

/// The window in which retries are counted (Finagle, Linkerd: 10 s).
pub const RETRY_BUDGET_WINDOW: Bounds<Duration> = millis(SECOND, 10 * MINUTE, 10 * SECOND);

/// Tokens of gRPC's retry throttling (gRFC A6). It must be given; the default is not used.
pub const RETRY_MAX_TOKENS: Bounds<u32> = count(1, 1_000, 10);

/// What a success gives back (gRFC A6). It must be given; the default is not used.
pub const RETRY_TOKEN_RATIO: Bounds<f64> = Bounds { min: 0.001, max: 1_000.0, default: 0.1 };

/// How long the proxy goes on as before after the signal, while it says that it is going: those who choose it must
/// first hear of it.
pub const DRAIN_PRE_DRAIN: Bounds<Duration> = millis(0, HOUR, 5 * SECOND);

/// Time over which the connections are asked to go, so that clients do not all come back at once.
pub const DRAIN_SPREAD: Bounds<Duration> = millis(0, HOUR, 5 * SECOND);

/// How long calls in flight may go on. Kubernetes' own patience is 30 s by default.
pub const DRAIN_GRACE: Bounds<Duration> = millis(SECOND, DAY, 30 * SECOND);

/// Memory that may be buffered for peers, as a share of what there is, in percent. The rest is for what is not counted:
/// the kernel's socket buffers, which a control group counts too, the allocator's waste, and the program itself.
pub const OVERLOAD_MEMORY_PERCENT: Bounds<u32> = count(1, 90, 50);

/// The same in bytes. Below 16 MiB not even sixteen connections' windows fit; 4 TiB no machine has. Its default is not used:
/// without it the share counts.
pub const OVERLOAD_MEMORY_BYTES: Bounds<u64> = Bounds { min: 16 << 20, max: 4 << 40, default: 1 << 30 };

/// Bytes of one call's request that are kept for further attempts. Envoy keeps up to 1 MiB, grpc-go 256 KiB; the default is a
/// stream's window, in which all but large requests fit (reference A.2 row 40). 0: nothing of a call that was sent.
pub const REPLAY_PER_CALL: Bounds<u32> = count(0, 16 << 20, 64 << 10);

/// The same of all calls together. gRPC keeps 16 MiB for a channel; below 1 MiB sixteen calls would use it up.
pub const REPLAY_PER_PROCESS: Bounds<u32> = count(1 << 20, 2 << 30, 16 << 20);

/// Targets of one cluster: as many as there are priorities to fail over to.
pub const MAX_TARGETS: usize = evenkeel_balance::MAX_PRIORITY as usize + 1;

/// An endpoint's weight in a list. 0: it is known but gets no calls.
pub const WEIGHT: Bounds<u32> = count(0, 65_535, 1);
