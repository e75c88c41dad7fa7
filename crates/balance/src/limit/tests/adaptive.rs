use core::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::limit::{AdaptiveConfig, AdaptiveLimiter, LimitChange, MinRtt, Rejection, Sample};

const START: Duration = Duration::from_secs(1_000);
const MS: Duration = Duration::from_millis(1);

struct World {
    limiter: AdaptiveLimiter,
    rng: SmallRng,
    now: Duration,
}

impl World {
    fn new(config: AdaptiveConfig) -> Self {
        let limiter = AdaptiveLimiter::new(config, START);
        Self { limiter, rng: SmallRng::seed_from_u64(1), now: START }
    }

    /// A limiter that stands at this limit and knows its latency without a queue to be 10 ms.
    fn at_limit(limit: u32) -> Self {
        let min_rtt = MinRtt::Fixed(MS * 10);
        Self::new(AdaptiveConfig { initial_limit: limit, min_rtt, ..AdaptiveConfig::default() })
    }

    /// So many attempts at once, that all end with this sample at this time from now.
    fn ends(&mut self, attempts: u32, sample: Sample, after: Duration) -> Vec<LimitChange> {
        (0..attempts).for_each(|_| self.limiter.acquire().unwrap());
        self.now += after;
        (0..attempts).filter_map(|_| self.limiter.release(sample, self.now, &mut self.rng)).collect()
    }

    /// Attempts that fill half of the limit for a window, with this latency.
    fn window(&mut self, latency: Duration) -> Vec<LimitChange> {
        let attempts = self.limiter.limit().div_ceil(2).max(2);
        self.ends(attempts, Sample::Answered(latency), latency.max(MS * 100))
    }
}

#[test]
fn the_limit_stays_until_fifty_successes_have_measured_the_latency() {
    let mut world = World::new(AdaptiveConfig::default());
    assert_eq!((world.limiter.limit(), world.limiter.min_rtt()), (20, None));
    (0..20).for_each(|_| world.limiter.acquire().unwrap());
    assert!(!world.limiter.has_room());
    let rejection = Rejection::ConcurrencyLimit { retry_after: MS * 100 };
    assert_eq!((world.limiter.acquire(), world.limiter.rejected()), (Err(rejection), 1));
    for _ in 0..20 {
        assert_eq!(world.limiter.release(Sample::Nothing, world.now, &mut world.rng), None);
    }
    for _ in 0..100 {
        // What fails measures nothing, however often.
        assert_eq!(world.ends(1, Sample::TimedOut(MS * 50), MS * 50), []);
        assert_eq!(world.ends(1, Sample::Nothing, MS * 5), []);
    }
    for _ in 0..49 {
        assert_eq!(world.ends(1, Sample::Answered(MS * 10), MS * 10), []);
    }
    let changes = world.ends(1, Sample::Answered(MS * 10), MS * 10);
    let Some(LimitChange::Measured { min_rtt, limit: 20 }) = changes.first() else { panic!("{changes:?}") };
    assert!(min_rtt.abs_diff(MS * 10) < Duration::from_micros(320), "{min_rtt:?}");
    assert_eq!(world.limiter.min_rtt(), Some(*min_rtt));
}

#[test]
fn a_call_from_before_the_limiter_or_a_measurement_is_no_sample() {
    let mut world = World::new(AdaptiveConfig::default());
    for _ in 0..200 {
        assert_eq!(world.ends(1, Sample::Answered(Duration::from_secs(10)), MS), []);
    }
    assert_eq!(world.limiter.min_rtt(), None);
}

#[test]
fn is_measured_again_after_the_interval_and_the_limit_restored() {
    let min_rtt = MinRtt::Measured { interval: MS * 20_000, jitter_percent: 0, requests: 1 };
    let mut world = World::new(AdaptiveConfig { min_rtt, initial_limit: 10, ..AdaptiveConfig::default() });
    assert_eq!(world.ends(1, Sample::Answered(MS * 10), MS * 10).len(), 1);
    for _ in 0..9 {
        world.window(MS * 10);
    }
    let before = world.limiter.limit();
    assert!(before > 10);
    assert_eq!(world.window(MS * 10), [LimitChange::Measuring { limit: before / 4 }]);
    assert_eq!(world.limiter.limit(), before / 4);
    let changes = world.ends(1, Sample::Answered(MS * 30), MS * 30);
    assert!(matches!(changes[..], [LimitChange::Measured { limit, .. }] if limit == before), "{changes:?}");
    assert!(world.limiter.min_rtt().unwrap() > MS * 29);
    // From now on after the whole interval; the first time after a twentieth.
    let windows = (0..).take_while(|_| world.window(MS * 30) != [LimitChange::Measuring { limit: 250 }]);
    assert_eq!(windows.count(), 199);
}

#[test]
fn the_gradient_is_bounded_and_so_is_the_limit() {
    // 100 * gradient + 10.
    for (latency, limit) in [(MS * 1_000, 60), (MS * 25, 60), (MS, 210)] {
        let mut world = World::at_limit(100);
        assert_eq!(world.window(latency), [LimitChange::Adapted { limit }], "{latency:?}");
        assert_eq!(world.limiter.limit(), limit);
    }
    let mut world = World::at_limit(3);
    for _ in 0..10 {
        world.window(MS * 1_000);
    }
    assert_eq!(world.limiter.limit(), 3, "3 / 2 + 1.7 is cut off to the least");
    for _ in 0..20 {
        world.window(MS);
    }
    assert_eq!(world.limiter.limit(), 1_000);
}

#[test]
fn a_latency_within_the_buffer_grows_by_the_root_and_a_queue_shrinks_the_limit() {
    let mut world = World::at_limit(100);
    let changes = world.window(Duration::from_micros(12_500));
    let [LimitChange::Adapted { limit }] = changes[..] else { panic!("{changes:?}") };
    // The median is off by 1/32 at most.
    assert!((107..=113).contains(&limit), "100 + 10: {limit}");
    let mut world = World::at_limit(100);
    let changes = world.window(MS * 20);
    let [LimitChange::Adapted { limit }] = changes[..] else { panic!("{changes:?}") };
    assert!((70..=75).contains(&limit), "62.5 + 10: {limit}");
}

#[test]
fn an_unused_limit_does_not_grow() {
    let mut world = World::at_limit(100);
    assert_eq!(world.ends(49, Sample::Answered(MS), MS * 100), []);
    assert_eq!(world.limiter.limit(), 100);
    assert_eq!(world.ends(50, Sample::Answered(MS), MS * 100).len(), 1);
    // But it shrinks.
    let mut world = World::at_limit(100);
    let changes: Vec<_> = (0..50).flat_map(|_| world.ends(1, Sample::Answered(MS * 100), MS * 100)).collect();
    assert_eq!(changes, [LimitChange::Adapted { limit: 60 }]);
}

#[test]
fn a_window_ends_with_half_of_the_limit_or_fifty_samples_that_began_in_it() {
    for (limit, enough) in [(3, 2), (20, 10), (100, 50), (1_000, 50)] {
        let mut world = World::at_limit(limit);
        for _ in 1..enough {
            assert_eq!(world.ends(1, Sample::Answered(MS * 200), MS * 200), [], "{limit}");
        }
        let before = world.limiter.recent_rtt();
        world.ends(1, Sample::Answered(MS * 200), MS * 200);
        assert_ne!(world.limiter.recent_rtt(), before, "{limit}");
        // What was sent before the change met the old limit.
        let limit = world.limiter.limit();
        assert_eq!(world.ends(limit, Sample::Answered(MS * 200), MS * 199), [], "{limit}");
    }
}

#[test]
fn a_timeout_counts_as_the_latency_it_had_at_least() {
    let mut world = World::at_limit(100);
    let changes = world.ends(50, Sample::TimedOut(MS * 1_000), MS * 1_000);
    assert_eq!(changes, [LimitChange::Adapted { limit: 60 }]);
    // A caller that waits for less than 12.5 ms says nothing, where 10 ms are usual.
    let mut world = World::at_limit(100);
    assert_eq!(world.ends(100, Sample::TimedOut(Duration::from_micros(12_499)), MS * 200), []);
    assert_eq!(world.ends(50, Sample::TimedOut(Duration::from_micros(12_500)), MS * 200).len(), 1);
}

#[test]
fn absurd_settings_are_put_right() {
    let config = AdaptiveConfig { min_limit: 0, max_limit: 0, initial_limit: 0, ..AdaptiveConfig::default() };
    assert_eq!(World::new(config).limiter.limit(), 1);
    let huge = AdaptiveConfig {
        sample_interval: Duration::MAX,
        buffer_percent: u32::MAX,
        min_rtt: MinRtt::Fixed(Duration::MAX),
        ..AdaptiveConfig::default()
    };
    let mut world = World::new(huge);
    assert_eq!(world.ends(1, Sample::Answered(Duration::MAX), MS), []);
    let rare = MinRtt::Measured { interval: Duration::MAX, jitter_percent: u32::MAX, requests: 0 };
    let mut world = World::new(AdaptiveConfig { min_rtt: rare, ..huge });
    assert_eq!(world.ends(1, Sample::Answered(Duration::ZERO), MS).len(), 1);
    let zero = AdaptiveConfig { min_rtt: MinRtt::Fixed(Duration::ZERO), ..AdaptiveConfig::default() };
    let mut world = World::new(zero);
    assert_eq!(world.ends(20, Sample::Answered(Duration::ZERO), MS * 100).len(), 1);
}
