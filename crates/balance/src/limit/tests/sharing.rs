//! Many threads on the same limits.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::time::Duration;
use std::thread;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::limit::{
    AdaptiveConfig, AdaptiveLimiter, BreakerLimits, CircuitBreaker, KeyedRateLimiter, MinRtt, RateLimit,
    RateLimiter, Resource, Sample, Scope,
};

const START: Duration = Duration::from_secs(1_000);
const THREADS: u64 = 4;
const TIMES: u32 = 50_000;

/// Does this in each of the threads, with the thread's number.
fn in_threads(work: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
}

#[test]
fn a_breaker_never_lets_in_more_than_its_bound() {
    let limits = BreakerLimits { max_requests: Some(3), ..BreakerLimits::default() };
    let breaker = CircuitBreaker::new(Scope::Cluster, &limits);
    let under_way = AtomicU32::new(0);
    in_threads(|_| {
        for _ in 0..TIMES {
            if breaker.acquire(Resource::Requests).is_ok() {
                assert!(under_way.fetch_add(1, Relaxed) < 3);
                under_way.fetch_sub(1, Relaxed);
                breaker.release(Resource::Requests);
            }
        }
    });
    assert_eq!(breaker.used(Resource::Requests), 0);
}

#[test]
fn a_bucket_gives_each_token_once() {
    let limit = RateLimit::new(1_000, Duration::from_secs(1), 10_000).unwrap();
    let one = RateLimiter::new(limit);
    let keyed = KeyedRateLimiter::new(limit, 8, &mut SmallRng::seed_from_u64(1));
    // A key that is new to several threads at the same moment may get two buckets: let it be known.
    assert!(keyed.check(b"client", START).is_ok());
    let (of_one, of_key) = (AtomicU32::new(0), AtomicU32::new(1));
    in_threads(|_| {
        for _ in 0..TIMES {
            of_one.fetch_add(u32::from(one.check(START).is_ok()), Relaxed);
            of_key.fetch_add(u32::from(keyed.check(b"client", START).is_ok()), Relaxed);
        }
    });
    assert_eq!((of_one.into_inner(), of_key.into_inner()), (10_000, 10_000));
}

#[test]
fn the_adaptive_limit_stays_within_its_bounds_and_gives_every_place_back() {
    let min_rtt = MinRtt::Measured { interval: Duration::from_millis(200), jitter_percent: 15, requests: 5 };
    let config = AdaptiveConfig { max_limit: 50, min_rtt, ..AdaptiveConfig::default() };
    let limiter = AdaptiveLimiter::new(config, START);
    let changes = AtomicU32::new(0);
    in_threads(|thread| {
        let mut rng = SmallRng::seed_from_u64(thread);
        for step in 0..TIMES {
            let now = START + Duration::from_millis(1) * step;
            if limiter.acquire().is_err() {
                continue;
            }
            let latency = Duration::from_millis(rng.random_range(1..50));
            let sample = match rng.random_range(0..10) {
                0 => Sample::Nothing,
                1 => Sample::TimedOut(latency),
                _ => Sample::Answered(latency),
            };
            let change = limiter.release(sample, now, &mut rng);
            changes.fetch_add(u32::from(change.is_some()), Relaxed);
            assert!((3..=50).contains(&limiter.limit()));
        }
    });
    assert_eq!(limiter.in_flight(), 0);
    let changes = changes.into_inner();
    assert!(changes > 100, "{changes}");
}
