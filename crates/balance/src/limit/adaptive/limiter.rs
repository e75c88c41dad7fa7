//! The limiter: places, samples, and the two kinds of windows.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use rand::{Rng, RngExt};

use super::latencies::Latencies;
use super::{AdaptiveConfig, MinRtt};
use crate::limit::Rejection;

/// Bounds of the gradient (Envoy).
const GRADIENT_MIN: f64 = 0.5;
const GRADIENT_MAX: f64 = 2.0;

/// The share of the limit that is left for a measurement.
const MEASURED_SHARE: u32 = 4;

/// The second measurement follows after the n-th part of the interval: the first is made at the initial limit, which may be
/// too high already.
const FIRST_INTERVAL_SHARE: u32 = 20;

/// Samples that end a window even where they are less than half of the limit.
const SAMPLES_ENOUGH: u32 = 50;

/// What an attempt's end says about the backend's load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// It was answered after this time.
    Answered(Duration),
    /// It had no answer within this time: at least so long would it have taken. Where that is less than an attempt may
    /// take without a queue, it says something about the caller's patience only, and is not counted.
    TimedOut(Duration),
    /// Nothing: cancelled, refused, failed at once.
    Nothing,
}

/// What the end of a window changed; worth a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LimitChange {
    /// The limit is low, to measure the latency without a queue.
    Measuring {
        /// The limit meanwhile.
        limit: u32,
    },
    /// The latency without a queue is known, and the limit is what it was.
    Measured {
        /// The latency.
        min_rtt: Duration,
        /// The limit.
        limit: u32,
    },
    /// The limit was adapted.
    Adapted {
        /// The new limit.
        limit: u32,
    },
}

impl AdaptiveConfig {
    fn measuring_limit(&self, limit: u32) -> u32 {
        (limit / MEASURED_SHARE).max(self.min_limit)
    }
}

/// The limiter of one cluster or endpoint, shared by all workers.
#[derive(Debug)]
#[repr(align(64))]
pub struct AdaptiveLimiter {
    config: AdaptiveConfig,
    in_flight: AtomicU32,
    /// The most attempts that were under way in this window.
    peak: AtomicU32,
    limit: AtomicU32,
    /// The limit that holds again after the measurement; 0 while none is under way.
    deferred: AtomicU32,
    /// When the window ends, in microseconds as all times here.
    window_at: AtomicU64,
    /// What began before says nothing: it met another limit.
    epoch: AtomicU64,
    measure_at: AtomicU64,
    /// 0 as long as it is not known.
    min_rtt: AtomicU64,
    /// The median of the last window.
    recent_rtt: AtomicU64,
    rejected: AtomicU64,
    latencies: Latencies,
}

impl AdaptiveLimiter {
    /// A limiter without calls; it begins by measuring, unless `min_rtt` is fixed.
    #[must_use]
    pub fn new(config: AdaptiveConfig, now: Duration) -> Self {
        let lowest = config.min_limit.max(1);
        let config = AdaptiveConfig { min_limit: lowest, max_limit: config.max_limit.max(lowest), ..config };
        let initial = config.initial_limit.clamp(config.min_limit, config.max_limit);
        let (limit, deferred, min_rtt) = match config.min_rtt {
            MinRtt::Measured { .. } => (initial, initial, 0),
            MinRtt::Fixed(min_rtt) => (initial, 0, micros(min_rtt).max(1)),
        };
        Self {
            in_flight: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            deferred: AtomicU32::new(deferred),
            window_at: AtomicU64::new(micros(now.saturating_add(config.sample_interval))),
            epoch: AtomicU64::new(micros(now)),
            measure_at: AtomicU64::new(u64::MAX),
            min_rtt: AtomicU64::new(min_rtt),
            recent_rtt: AtomicU64::new(min_rtt),
            rejected: AtomicU64::new(0),
            latencies: Latencies::new(),
            config,
        }
    }

    /// How many attempts may be under way now.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Attempts under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The latency without a queue, once it is known.
    #[must_use]
    pub fn min_rtt(&self) -> Option<Duration> {
        let micros = self.min_rtt.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// What an attempt takes now: the median of the last window, once there was one.
    #[must_use]
    pub fn recent_rtt(&self) -> Option<Duration> {
        let micros = self.recent_rtt.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// Calls turned away so far.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// Whether there is a place: for a queue before the limiter, which asks without being turned away.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_flight() < self.limit()
    }

    /// Takes a place for an attempt. [`AdaptiveLimiter::release`] must follow, once, if there was one.
    ///
    /// # Errors
    /// [`Rejection::ConcurrencyLimit`]: there is none.
    pub fn acquire(&self) -> Result<(), Rejection> {
        let limit = self.limit();
        let more = |in_flight: u32| (in_flight < limit).then(|| in_flight + 1);
        match self.in_flight.fetch_update(Relaxed, Relaxed, more) {
            Ok(before) => {
                // Read first: once a window has its peak, nothing is written.
                if before >= self.peak.load(Relaxed) {
                    self.peak.fetch_max(before + 1, Relaxed);
                }
                Ok(())
            }
            Err(_) => Err(self.reject()),
        }
    }

    /// Turns a call away, as [`AdaptiveLimiter::acquire`] does, after [`AdaptiveLimiter::has_room`] said that there is no place.
    pub fn reject(&self) -> Rejection {
        self.rejected.fetch_add(1, Relaxed);
        Rejection::ConcurrencyLimit { retry_after: self.config.sample_interval }
    }

    /// Ends what [`AdaptiveLimiter::acquire`] began, and adapts the limit where a window ends with it.
    pub fn release(&self, sample: Sample, now: Duration, rng: &mut impl Rng) -> Option<LimitChange> {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "an attempt was released that was never acquired");
        let is_measuring = self.deferred.load(Relaxed) != 0;
        let latency = match sample {
            Sample::Answered(latency) => latency,
            Sample::TimedOut(latency) if !is_measuring && latency >= self.patience() => latency,
            Sample::TimedOut(_) | Sample::Nothing => return None,
        };
        if micros(now.saturating_sub(latency)) < self.epoch.load(Relaxed) {
            return None;
        }
        let count = self.latencies.add(latency);
        if is_measuring { self.measured(count, now, rng) } else { self.sampled(count, now) }
    }

    fn measured(&self, count: u32, now: Duration, rng: &mut impl Rng) -> Option<LimitChange> {
        let MinRtt::Measured { interval, jitter_percent, requests } = self.config.min_rtt else {
            return None;
        };
        if count < requests {
            return None;
        }
        let limit = self.deferred.swap(0, Relaxed);
        if limit == 0 {
            return None; // Another thread was first.
        }
        let min_rtt = self.latencies.take_median()?.max(Duration::from_micros(1));
        let is_first = self.min_rtt.swap(micros(min_rtt), Relaxed) == 0;
        self.recent_rtt.store(micros(min_rtt), Relaxed);
        let interval = if is_first { interval / FIRST_INTERVAL_SHARE } else { interval };
        let share = rng.random_range(0.0..=f64::from(jitter_percent.min(100)) / 100.0);
        let jitter = Duration::try_from_secs_f64(interval.as_secs_f64() * share).unwrap_or(Duration::MAX);
        self.measure_at.store(micros(now.saturating_add(interval).saturating_add(jitter)), Relaxed);
        self.begin_window(now);
        self.limit.store(limit, Relaxed);
        Some(LimitChange::Measured { min_rtt, limit })
    }

    fn sampled(&self, count: u32, now: Duration) -> Option<LimitChange> {
        let window_at = self.window_at.load(Relaxed);
        if count < self.limit().div_ceil(2).min(SAMPLES_ENOUGH) {
            return None;
        }
        let next = micros(now.saturating_add(self.config.sample_interval));
        if micros(now) < window_at
            || self.window_at.compare_exchange(window_at, next, Relaxed, Relaxed).is_err()
        {
            return None;
        }
        self.epoch.store(micros(now), Relaxed);
        let sample = self.latencies.take_median()?.max(Duration::from_micros(1));
        self.recent_rtt.store(micros(sample), Relaxed);
        let limit = self.limit();
        if micros(now) >= self.measure_at.load(Relaxed) {
            let lowered = self.config.measuring_limit(limit);
            self.limit.store(lowered, Relaxed);
            self.deferred.store(limit, Relaxed);
            return Some(LimitChange::Measuring { limit: lowered });
        }
        let adapted = self.adapted(limit, sample, self.peak.swap(self.in_flight(), Relaxed));
        if adapted == limit {
            return None;
        }
        self.limit.store(adapted, Relaxed);
        Some(LimitChange::Adapted { limit: adapted })
    }

    /// How long an attempt may take without a sign of a queue.
    fn patience(&self) -> Duration {
        let percent = u64::from(self.config.buffer_percent) + 100;
        let micros = u128::from(self.min_rtt.load(Relaxed)) * u128::from(percent) / 100;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// The limit for the next window.
    fn adapted(&self, limit: u32, sample: Duration, peak: u32) -> u32 {
        let gradient = self.patience().as_secs_f64() / sample.as_secs_f64();
        let next = f64::from(limit) * gradient.clamp(GRADIENT_MIN, GRADIENT_MAX) + f64::from(limit).sqrt();
        // Within the bounds, which are whole: the cast cuts a fraction off.
        let bounded = next.clamp(f64::from(self.config.min_limit), f64::from(self.config.max_limit)) as u32;
        let is_used = u64::from(peak) * 2 >= u64::from(limit);
        if bounded > limit && !is_used { limit } else { bounded }
    }

    fn begin_window(&self, now: Duration) {
        self.epoch.store(micros(now), Relaxed);
        self.window_at.store(micros(now.saturating_add(self.config.sample_interval)), Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
