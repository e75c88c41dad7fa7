//! Scenarios: ranges for every knob, from which a seed draws one [`Setup`].

use core::ops::RangeInclusive;
use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::health_check::HealthCheckConfig;
use evenkeel_balance::limit::{AdaptiveConfig, BreakerLimits, MinRtt, RateLimit};
use evenkeel_balance::outlier::{FailurePercentage, OutlierConfig};
use evenkeel_balance::retry::{CodeSet, HedgingPolicy, RetryOn, RetryPolicy, RetryThrottleConfig};
use evenkeel_balance::{
    Affinity, BackoffConfig, BoundedLoad, Choice, Factor, LeastRequestConfig, Localities, Locality,
    Overprovisioning, PanicMode, PeakEwmaConfig, Policy, PrequalConfig, RingSize, SampleSize, SlowStart,
    SpreadConfig, Subset, TableSize, ZoneAware,
};
use evenkeel_grpc::Code;
use evenkeel_http2::{ErrorCode, Limits};
use evenkeel_proxy::worker::affinity::{CookieSource, HashPlan, KeySource};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::backend::BackendSetup;
use crate::bounds::Bounds;
use crate::client::{CALL_FIELD, ClientSetup, SESSION_COOKIE, SESSION_FIELD};
use crate::net::LinkShape;
use crate::plan::{Behaviour, CallPlan, Down, Fault, GoAway};
use crate::setup::{Again, Setup};
use crate::spread::Places;

/// Codes with which a backend resets streams: all of RFC 9113 section 7 but REFUSED_STREAM, which is a refusal.
const RESET_CODES: [u32; 13] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13];

/// Sessions that the calls of a world are of.
const SESSIONS: u32 = 6;

/// Ranges to draw from.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Clients.
    pub clients: RangeInclusive<usize>,
    /// Backends.
    pub backends: RangeInclusive<usize>,
    /// Calls of all clients together.
    pub calls: RangeInclusive<u32>,
    /// Milliseconds within which calls start and faults strike.
    pub active_ms: RangeInclusive<u32>,
    /// Messages in each direction that streams.
    pub messages: RangeInclusive<u32>,
    /// Bytes of a message; small ones are more likely.
    pub message_bytes: RangeInclusive<u32>,
    /// How many of 100 calls are not simply answered with OK.
    pub odd_percent: u32,
    /// How many of 100 calls have a deadline that may pass.
    pub tight_percent: u32,
    /// How many of 100 calls are given up by their client.
    pub cancel_percent: u32,
    /// Microseconds of a link's latency, and of its jitter.
    pub latency_us: RangeInclusive<u32>,
    /// Bytes that a link carries in a millisecond.
    pub bytes_per_ms: RangeInclusive<u32>,
    /// Bytes that a link's buffers hold.
    pub capacity: RangeInclusive<u32>,
    /// The most bytes of one read.
    pub read_bytes: RangeInclusive<u32>,
    /// Windows of streams at clients and backends.
    pub stream_window: RangeInclusive<u32>,
    /// Streams that a backend allows on a connection.
    pub max_streams: RangeInclusive<u32>,
    /// Faults.
    pub faults: RangeInclusive<usize>,
}

impl Scenario {
    /// All that a world can do, in proportions that make every part of it happen within some hundred seeds.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            clients: 1..=3,
            backends: 1..=4,
            calls: 5..=40,
            active_ms: 20..=1500,
            messages: 0..=5,
            message_bytes: 0..=60_000,
            odd_percent: 30,
            tight_percent: 15,
            cancel_percent: 10,
            latency_us: 20..=15_000,
            bytes_per_ms: 2_000..=1_000_000,
            capacity: 1_500..=1_000_000,
            read_bytes: 8..=100_000,
            stream_window: 1_200..=65_535,
            max_streams: 1..=50,
            faults: 0..=6,
        }
    }

    /// Draws one world.
    #[must_use]
    pub fn draw(&self, seed: u64) -> Setup {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let active_ms = rng.random_range(self.active_ms.clone());
        let backends: Vec<_> =
            (0..rng.random_range(self.backends.clone())).map(|_| self.draw_backend(rng)).collect();
        let clients: Vec<_> =
            (0..rng.random_range(self.clients.clone())).map(|_| self.draw_client(rng)).collect();
        let calls = (0..rng.random_range(self.calls.clone()))
            .map(|_| self.draw_call(rng, clients.len(), active_ms))
            .collect();
        let count = rng.random_range(self.faults.clone());
        let mut faults: Vec<_> = (0..count).map(|_| draw_fault(rng, backends.len(), active_ms)).collect();
        if rng.random_ratio(1, 12) {
            let at = Duration::from_millis(u64::from(rng.random_range(0..=active_ms)));
            faults.push((at, Fault::Drain(Duration::from_millis(rng.random_range(0..=200)))));
        }
        faults.sort_by_key(|(at, _)| *at);
        let backend_count = backends.len();
        let mut setup = Setup {
            seed,
            policy: draw_policy(rng),
            again: draw_again(rng),
            listener: Limits {
                max_concurrent_streams: log_uniform(rng, 1..=100),
                stream_window_bytes: log_uniform(rng, self.stream_window.clone()),
                ..Limits::mesh()
            },
            backoff: BackoffConfig {
                base: Duration::from_millis(200),
                max: Duration::from_secs(2),
                ..BackoffConfig::default()
            },
            connect_timeout: Duration::from_secs(1),
            max_pending: 1024,
            max_connections_per_endpoint: rng.random_range(1..=4),
            max_calls_per_connection: if rng.random_bool(0.2) { rng.random_range(2..=20) } else { 1 << 30 },
            upstream: self.draw_shape(rng),
            wake_delay_max: Duration::from_micros(rng.random_range(0..=500)),
            clients,
            backends,
            calls,
            checks: draw_checks(rng, &mut faults, backend_count, active_ms),
            faults,
            patience: Duration::from_secs(120),
            drains_at_end: rng.random(),
            outliers: None,
            places: None,
            bounds: None,
            wait_for_ready: false,
            keys: draw_keys(rng),
            slow_start: rng.random_ratio(1, 6).then(|| SlowStart {
                window: Duration::from_millis(log_uniform(rng, 50..=5_000).into()),
                ..SlowStart::default()
            }),
            subset: draw_subset(rng, backend_count),
        };
        setup.places = draw_places(rng, setup.backends.len());
        setup.outliers = draw_outliers(rng);
        draw_bounds(rng, &mut setup);
        setup
    }

    fn draw_backend(&self, rng: &mut SmallRng) -> BackendSetup {
        let limits = Limits {
            max_concurrent_streams: log_uniform(rng, self.max_streams.clone()),
            stream_window_bytes: log_uniform(rng, self.stream_window.clone()),
            connection_window_bytes: log_uniform(rng, 65_535..=1_048_576),
            ..Limits::mesh()
        };
        let goaway = rng.random_ratio(1, 4).then(|| (rng.random_range(2..=12), draw_goaway(rng)));
        BackendSetup { limits, delay: Duration::ZERO, goaway }
    }

    fn draw_client(&self, rng: &mut SmallRng) -> ClientSetup {
        let limits = Limits {
            stream_window_bytes: log_uniform(rng, self.stream_window.clone()),
            connection_window_bytes: log_uniform(rng, 65_535..=1_048_576),
            ..Limits::upstream()
        };
        ClientSetup { limits, shape: self.draw_shape(rng) }
    }

    fn draw_shape(&self, rng: &mut SmallRng) -> LinkShape {
        let latency = log_uniform(rng, self.latency_us.clone());
        LinkShape {
            latency: Duration::from_micros(u64::from(latency)),
            jitter: Duration::from_micros(u64::from(rng.random_range(0..=latency))),
            bytes_per_ms: log_uniform(rng, self.bytes_per_ms.clone()),
            capacity: log_uniform(rng, self.capacity.clone()) as usize,
            read_bytes_max: log_uniform(rng, self.read_bytes.clone()) as usize,
        }
    }

    fn draw_call(&self, rng: &mut SmallRng, clients: usize, active_ms: u32) -> CallPlan {
        let streams = |rng: &mut SmallRng| rng.random_ratio(1, 3);
        let sizes = |rng: &mut SmallRng, streams: bool| -> Vec<u32> {
            let count = if streams { rng.random_range(self.messages.clone()) } else { 1 };
            (0..count).map(|_| log_uniform(rng, self.message_bytes.clone())).collect()
        };
        let (up, down) = (streams(rng), streams(rng));
        let (requests, mut responses) = (sizes(rng, up), sizes(rng, down));
        let behaviour = if rng.random_range(0..100) < self.odd_percent {
            draw_behaviour(rng)
        } else {
            Behaviour::Answer(Code::Ok)
        };
        // Who answers nothing before the request's end would wait for ever for a client that waits for answers.
        let responds = !matches!(
            behaviour,
            Behaviour::Html | Behaviour::WrongType | Behaviour::TrailersOnly(_) | Behaviour::Early(_)
        );
        let ping_pong = up && down && responds && rng.random();
        if ping_pong {
            responses = requests.clone();
        }
        let percent = rng.random_range(0..100);
        let must_end = matches!(behaviour, Behaviour::Silent(_));
        let timeout = if must_end || percent < self.tight_percent {
            Some(Duration::from_millis(rng.random_range(1..=400)))
        } else {
            // A deadline that can only pass if the world stands still for long.
            (percent < 60).then_some(Duration::from_secs(300))
        };
        let cancels = rng.random_range(0..100) < self.cancel_percent;
        CallPlan {
            session: rng.random_range(0..SESSIONS),
            client: rng.random_range(0..clients),
            start_at: Duration::from_micros(u64::from(rng.random_range(0..=active_ms * 1000))),
            requests,
            responses,
            request_gap: draw_gap(rng),
            response_gap: draw_gap(rng),
            ping_pong,
            lone_end: rng.random_ratio(1, 4),
            behaviour,
            timeout,
            cancel_after: cancels.then(|| Duration::from_micros(u64::from(log_uniform(rng, 1..=200_000)))),
            client_holds: draw_hold(rng),
            backend_holds: draw_hold(rng),
        }
    }
}

fn draw_gap(rng: &mut SmallRng) -> Duration {
    let micros = if rng.random_ratio(1, 3) { log_uniform(rng, 1..=50_000) } else { 0 };
    Duration::from_micros(u64::from(micros))
}

fn draw_hold(rng: &mut SmallRng) -> Duration {
    let millis = if rng.random_ratio(1, 8) { log_uniform(rng, 1..=30) } else { 0 };
    Duration::from_millis(u64::from(millis))
}

fn draw_behaviour(rng: &mut SmallRng) -> Behaviour {
    let code = |rng: &mut SmallRng| Code::ALL[rng.random_range(0..Code::ALL.len())];
    match rng.random_range(0..13) {
        0 | 1 => Behaviour::Answer(code(rng)),
        2 => Behaviour::TrailersOnly(code(rng)),
        3 => Behaviour::Early(code(rng)),
        4 | 5 => Behaviour::Silent(rng.random_range(0..=2)),
        6 | 7 => {
            let after = rng.random_bool(0.5).then(|| rng.random_range(0..=2));
            Behaviour::Reset(after, ErrorCode(RESET_CODES[rng.random_range(0..RESET_CODES.len())]))
        }
        8 | 9 => Behaviour::Refuse(rng.random_range(1..=2)),
        10 => Behaviour::Html,
        11 => Behaviour::WrongType,
        _ if rng.random() => Behaviour::NoTrailers,
        _ => Behaviour::Truncated,
    }
}

fn draw_goaway(rng: &mut SmallRng) -> GoAway {
    match rng.random_range(0..5) {
        0 | 1 => GoAway::TwoPhase,
        2 | 3 => GoAway::SinglePhase,
        _ => GoAway::Abrupt,
    }
}

fn draw_down(rng: &mut SmallRng) -> Down {
    match rng.random_range(0..3) {
        0 => Down::Refused,
        1 => Down::Unanswered,
        _ => Down::Unreachable,
    }
}

fn draw_policy(rng: &mut SmallRng) -> Policy {
    match rng.random_range(0..10) {
        0 => Policy::PickFirst { shuffle: rng.random() },
        1 => Policy::RoundRobin,
        2 => Policy::WeightedRoundRobin,
        3 => Policy::Random,
        4 => Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan)),
        5 => Policy::PeakEwma(PeakEwmaConfig::default()),
        6 => Policy::Prequal(PrequalConfig::default()),
        7 => Policy::RingHash { size: RingSize::default(), affinity: draw_affinity(rng) },
        8 => Policy::Maglev { size: small_table(), affinity: draw_affinity(rng) },
        _ => Policy::LeastRequest(LeastRequestConfig::of(Choice::Sample(SampleSize::default()))),
    }
}

fn draw_affinity(rng: &mut SmallRng) -> Affinity {
    match rng.random_range(0..3) {
        0 => Affinity::Rehash,
        1 => Affinity::Fail,
        _ => Affinity::Bounded(BoundedLoad::default()),
    }
}

/// The sessions' field, their cookie, or each call's own name.
fn draw_keys(rng: &mut SmallRng) -> HashPlan {
    HashPlan::new([match rng.random_range(0..3) {
        0 => KeySource::Metadata(SESSION_FIELD.into()),
        1 => KeySource::Cookie(CookieSource::of_client(SESSION_COOKIE)),
        _ => KeySource::Metadata(CALL_FIELD.into()),
    }])
}

/// In one world of eight a part of the backends is used.
fn draw_subset(rng: &mut SmallRng, backends: usize) -> Subset {
    let size = rng.random_range(1..=backends as u32).try_into();
    match (rng.random_range(0..16), size) {
        (0, Ok(size)) => Subset::Random { size, seed: rng.random() },
        (1, Ok(size)) => Subset::Deterministic { size, client: rng.random_range(0..4) },
        _ => Subset::All,
    }
}

/// The least table that gives a few endpoints about equal shares: making it is all the work of a world that has one.
fn small_table() -> TableSize {
    TableSize::try_from(1_021).expect("it is a prime")
}

fn draw_again(rng: &mut SmallRng) -> Again {
    let max_attempts = rng.random_range(2..=4);
    match rng.random_range(0..4) {
        0 => Again::Retried(RetryPolicy {
            max_attempts,
            initial_backoff: Duration::from_millis(log_uniform(rng, 1..=100).into()),
            retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
            ..RetryPolicy::default()
        }),
        1 => Again::Hedged(HedgingPolicy {
            max_attempts,
            hedging_delay: Duration::from_micros(log_uniform(rng, 1..=100_000).into()),
            ..HedgingPolicy::default()
        }),
        _ => Again::Never,
    }
}

/// One world of three has health checks, and backends that now serve and now do not.
fn draw_checks(
    rng: &mut SmallRng,
    faults: &mut Vec<(Duration, Fault)>,
    backends: usize,
    active_ms: u32,
) -> Option<HealthCheckConfig> {
    if !rng.random_ratio(1, 3) {
        return None;
    }
    for _ in 0..rng.random_range(0..=8) {
        let at = Duration::from_micros(u64::from(rng.random_range(0..=active_ms * 1000)));
        faults.push((at, Fault::Report(rng.random_range(0..backends), rng.random())));
    }
    faults.sort_by_key(|(at, _)| *at);
    let interval = Duration::from_millis(log_uniform(rng, 20..=500).into());
    Some(HealthCheckConfig {
        interval,
        timeout: interval.min(Duration::from_millis(log_uniform(rng, 10..=300).into())),
        unhealthy_threshold: rng.random_range(1..=3),
        healthy_threshold: rng.random_range(1..=2),
        ..HealthCheckConfig::default()
    })
}

/// In one world of four the backends have priorities, or localities, or both.
fn draw_places(rng: &mut SmallRng, backends: usize) -> Option<Places> {
    if !rng.random_ratio(1, 4) {
        return None;
    }
    let zone = |number: u32| Locality { zone: format!("zone-{number}"), ..Locality::default() };
    let (priorities, zones) = (rng.random_range(1..=3), rng.random_range(1..=3));
    let mut place = |_| {
        let locality = rng.random_ratio(9, 10).then(|| Arc::new(zone(rng.random_range(0..zones))));
        (rng.random_range(0..priorities), locality)
    };
    let of = (0..backends).map(&mut place).collect();
    let localities = match rng.random_range(0..3) {
        0 => Localities::Alike,
        1 => Localities::Weighted((0..zones).map(|number| (zone(number), rng.random_range(0..=3))).collect()),
        _ => Localities::ZoneAware(ZoneAware {
            own: zone(0),
            min_cluster_size: rng.random_range(1..=3),
            routing_enabled: if rng.random_ratio(3, 4) { 100 } else { rng.random_range(0..100) },
            proxies: Arc::default(),
        }),
    };
    let threshold = if rng.random() { 50 } else { rng.random_range(0..=100) };
    let config = SpreadConfig {
        overprovisioning: Overprovisioning::try_from(rng.random_range(100..=200)).unwrap_or_default(),
        panic: PanicMode { threshold, fails: rng.random_ratio(1, 4) },
        localities,
    };
    Some(Places { config: Arc::new(config), of })
}

/// In one world of four endpoints are ejected, for failures in a row or by their share.
fn draw_outliers(rng: &mut SmallRng) -> Option<OutlierConfig> {
    if !rng.random_ratio(1, 4) {
        return None;
    }
    let percentage =
        FailurePercentage { min_endpoints: 2, request_volume: 3, ..FailurePercentage::default() };
    let millis = |rng: &mut SmallRng, range| Duration::from_millis(log_uniform(rng, range).into());
    Some(OutlierConfig {
        interval: millis(rng, 20..=500),
        base_ejection: millis(rng, 10..=500),
        max_ejection: Duration::from_secs(1),
        max_ejected_percent: rng.random_range(1..=100),
        consecutive_failures: rng.random_ratio(4, 5).then(|| rng.random_range(1..=4)),
        failure_percentage: rng.random_ratio(1, 2).then_some(percentage),
        trial_successes: rng.random_range(1..=3),
        trial_timeout: Duration::from_secs(1),
        ..OutlierConfig::default()
    })
}

/// In one world of five, calls are bounded in some of the ways that there are; and in some, they wait for an endpoint.
fn draw_bounds(rng: &mut SmallRng, setup: &mut Setup) {
    // Where calls are to fail for the sake of the cluster they would wait for as long as it is so, which may be for ever.
    let may_end = !setup.fails_in_panic() && !setup.insists();
    setup.wait_for_ready = may_end && rng.random_ratio(1, 8);
    if !rng.random_ratio(1, 5) {
        return;
    }
    if rng.random_ratio(1, 3) {
        setup.max_pending = log_uniform(rng, 0..=20) as usize;
    }
    let mut bound = |one_of: u32, most: u32| rng.random_ratio(1, one_of).then(|| log_uniform(rng, 0..=most));
    let cluster = BreakerLimits {
        max_connections: bound(3, 8),
        max_pending: bound(3, 10),
        max_requests: bound(3, 12),
        max_retries: bound(3, 2),
    };
    let endpoint = BreakerLimits {
        max_connections: bound(4, 3),
        max_pending: None,
        max_requests: bound(3, 6),
        max_retries: bound(4, 2),
    };
    let max_limit = rng.random_range(1..=12);
    let min_limit = rng.random_range(1..=max_limit.min(3));
    let adaptive = AdaptiveConfig {
        min_limit,
        max_limit,
        initial_limit: rng.random_range(min_limit..=max_limit),
        min_rtt: if rng.random() {
            MinRtt::Fixed(Duration::from_millis(log_uniform(rng, 1..=30).into()))
        } else {
            MinRtt::Measured {
                interval: Duration::from_secs(1),
                jitter_percent: 15,
                requests: rng.random_range(1..=10),
            }
        },
        ..AdaptiveConfig::default()
    };
    let rate = |rng: &mut SmallRng, one_of: u32| {
        let (requests, burst) = (log_uniform(rng, 2..=200), log_uniform(rng, 1..=20));
        let rate = RateLimit::new(requests, Duration::from_secs(1), burst).expect("no number is zero");
        rng.random_ratio(1, one_of).then_some(rate)
    };
    let throttle = RetryThrottleConfig::new(rng.random_range(1..=10), Factor::from_thousandths(100));
    setup.bounds = Some(Bounds {
        cluster,
        endpoint,
        adaptive: rng.random_ratio(1, 3).then_some(adaptive),
        refuses_at_once: rng.random(),
        route_rate: rate(rng, 5),
        session_rate: rate(rng, 5),
        throttle: throttle.ok().filter(|_| rng.random_ratio(1, 3)),
    });
}

fn draw_fault(rng: &mut SmallRng, backends: usize, active_ms: u32) -> (Duration, Fault) {
    let at = Duration::from_micros(u64::from(rng.random_range(0..=active_ms * 1000)));
    let millis = |rng: &mut SmallRng, most| Duration::from_millis(u64::from(log_uniform(rng, 1..=most)));
    let backend = rng.random_range(0..backends);
    let fault = match rng.random_range(0..12) {
        0 | 1 => Fault::ResetLink,
        2 | 3 => Fault::CloseLink,
        4 | 5 => Fault::StallLink(millis(rng, 1500)),
        6 | 7 => Fault::Restart(backend, millis(rng, 3000), draw_down(rng)),
        8 => Fault::Unlisten(backend, millis(rng, 3000), draw_down(rng)),
        9 | 10 => Fault::GoAway(backend, draw_goaway(rng)),
        _ => {
            // Never empty: a world without backends has nothing to say about liveness.
            let others = (0..backends).filter(|other| *other == backend || rng.random()).collect();
            Fault::Endpoints(others)
        }
    };
    (at, fault)
}

/// A number from a range, so that each order of magnitude is as likely as the next.
fn log_uniform(rng: &mut SmallRng, range: RangeInclusive<u32>) -> u32 {
    let low = f64::from(*range.start()) + 1.0;
    let high = f64::from(*range.end()) + 2.0;
    let drawn = low * (high / low).powf(rng.random_range(0.0..1.0));
    (drawn as u32 - 1).clamp(*range.start(), *range.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_uniform_reaches_both_ends_and_favours_small_numbers() {
        let mut rng = SmallRng::seed_from_u64(1);
        let drawn: Vec<u32> = (0..20_000).map(|_| log_uniform(&mut rng, 0..=999)).collect();
        assert!(drawn.contains(&0) && drawn.contains(&999));
        assert!(drawn.iter().all(|number| *number <= 999));
        let small = drawn.iter().filter(|number| **number < 31).count();
        assert!((9_000..11_000).contains(&small), "{small} of 20000 are below the geometric mean");
    }
}
