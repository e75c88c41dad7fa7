//! Rate limits: token buckets, without a clock, a lock or a timer.
//!
//! Rule: a bucket of `burst` tokens, refilled by `requests` per `per`; a call takes one or is turned away. Kept as one number,
//! the *theoretical arrival time* (GCRA, ITU-T I.371): the time at which the bucket will be full again. With `t` between two
//! tokens:
//!
//! ```text
//! full_at' = max(full_at, now) + t          let through if full_at' - now <= burst * t
//! ```
//!
//! One atomic then holds the whole state, changes by compare-and-swap, and needs no refilling.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use super::rejection::Rejection;
use crate::time::nanos;

/// How often calls are let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    /// Nanoseconds between two tokens.
    interval_ns: u64,
    /// Nanoseconds that a full bucket holds.
    burst_ns: u64,
}

/// Numbers that are no [`RateLimit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RateLimitError {
    /// Nothing would be let through.
    #[error("requests is 0: give at least 1")]
    NoRequests,
    /// Nothing would be let through.
    #[error("burst is 0: give at least 1")]
    NoBurst,
    /// More than a thousand million a second, or none in more than a day.
    #[error("{requests} requests per {per:?} is out of range: give one a day to 1000000000 a second")]
    Rate {
        /// The number of requests.
        requests: u32,
        /// The time they are allowed in.
        per: Duration,
    },
}

/// Between the tokens of the slowest rate: a day.
const INTERVAL_MAX_NS: u64 = 86_400_000_000_000;

/// What the largest bucket holds, whatever its burst: the tokens of a year. Keeps sums of times within 64 bits.
const BURST_MAX_NS: u64 = 365 * 86_400_000_000_000;

impl RateLimit {
    /// So many requests per this time, and up to `burst` at once after a rest.
    ///
    /// # Errors
    /// A number is zero, or the rate is below one a day or above 10^9 a second.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Result<Self, RateLimitError> {
        if requests == 0 {
            return Err(RateLimitError::NoRequests);
        }
        if burst == 0 {
            return Err(RateLimitError::NoBurst);
        }
        let interval = u64::try_from(per.as_nanos() / u128::from(requests)).ok();
        let Some(interval_ns) = interval.filter(|interval| (1..=INTERVAL_MAX_NS).contains(interval)) else {
            return Err(RateLimitError::Rate { requests, per });
        };
        let burst_ns = interval_ns.saturating_mul(u64::from(burst)).min(BURST_MAX_NS);
        Ok(Self { interval_ns, burst_ns })
    }

    /// The time between two tokens.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// Tokens of a full bucket.
    #[must_use]
    pub fn burst(&self) -> u64 {
        self.burst_ns / self.interval_ns
    }

    /// Takes a token from a bucket that is kept in this atomic.
    pub(super) fn take(&self, full_at: &AtomicU64, now: Duration) -> Result<(), Rejection> {
        let now_ns = nanos(now);
        let next = |at: u64| {
            let next = at.max(now_ns).saturating_add(self.interval_ns);
            (self.wait_ns(at, now_ns) == 0).then_some(next)
        };
        full_at.fetch_update(Relaxed, Relaxed, next).map(|_| ()).map_err(|at| Rejection::RateLimited {
            retry_after: Duration::from_nanos(self.wait_ns(at, now_ns)),
        })
    }

    /// What a bucket that is full at this time holds now.
    pub(super) fn level(&self, full_at_ns: u64, now: Duration) -> BucketLevel {
        let now_ns = nanos(now);
        let missing_ns = full_at_ns.saturating_sub(now_ns);
        BucketLevel {
            tokens: self.burst_ns.saturating_sub(missing_ns) / self.interval_ns,
            next_in: Duration::from_nanos(self.wait_ns(full_at_ns, now_ns)),
        }
    }

    /// Time until full_at' is no longer too late; 0 if it is not now.
    fn wait_ns(&self, full_at_ns: u64, now_ns: u64) -> u64 {
        let next = full_at_ns.max(now_ns).saturating_add(self.interval_ns);
        next.saturating_sub(now_ns.saturating_add(self.burst_ns))
    }
}

/// What there is in a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketLevel {
    /// Calls that would be let through at once.
    pub tokens: u64,
    /// Until one is let through; zero if one would be now.
    pub next_in: Duration,
}

/// One bucket, shared by all workers: the limit of a route.
#[derive(Debug)]
#[repr(align(64))]
pub struct RateLimiter {
    limit: RateLimit,
    full_at: AtomicU64,
    rejected: AtomicU64,
}

impl RateLimiter {
    /// A full bucket.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, full_at: AtomicU64::new(0), rejected: AtomicU64::new(0) }
    }

    /// Lets a call through, or says when to come again.
    ///
    /// # Errors
    /// [`Rejection::RateLimited`]: the bucket is empty.
    pub fn check(&self, now: Duration) -> Result<(), Rejection> {
        self.limit.take(&self.full_at, now).inspect_err(|_| {
            self.rejected.fetch_add(1, Relaxed);
        })
    }

    /// Its rule.
    #[must_use]
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    /// What there is in the bucket; takes nothing.
    #[must_use]
    pub fn level(&self, now: Duration) -> BucketLevel {
        self.limit.level(self.full_at.load(Relaxed), now)
    }

    /// Calls turned away so far.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);
    const MS: Duration = Duration::from_millis(1);

    fn limiter(requests: u32, burst: u32) -> RateLimiter {
        RateLimiter::new(RateLimit::new(requests, Duration::from_secs(1), burst).unwrap())
    }

    fn retry_after(retry_after: Duration) -> Result<(), Rejection> {
        Err(Rejection::RateLimited { retry_after })
    }

    #[test]
    fn lets_a_burst_through_and_then_one_per_interval() {
        let limiter = limiter(10, 3);
        assert_eq!([(); 3].map(|()| limiter.check(START)), [Ok(()); 3]);
        assert_eq!(limiter.check(START), retry_after(MS * 100));
        assert_eq!(limiter.check(START + MS * 60), retry_after(MS * 40));
        assert_eq!(limiter.check(START + MS * 100), Ok(()));
        assert_eq!(limiter.check(START + MS * 100), retry_after(MS * 100));
        assert_eq!(limiter.rejected(), 3);
        // A rest fills the bucket, and no more than that.
        let later = START + Duration::from_secs(60);
        assert_eq!([(); 4].map(|()| limiter.check(later).is_ok()), [true, true, true, false]);
    }

    #[test]
    fn a_look_tells_what_the_next_calls_meet_and_takes_nothing() {
        let limiter = limiter(10, 3);
        for taken in 0..3 {
            let level = BucketLevel { tokens: 3 - taken, next_in: Duration::ZERO };
            assert_eq!((limiter.level(START), limiter.level(START)), (level, level));
            assert_eq!(limiter.check(START), Ok(()));
        }
        for late in [0, 60, 99] {
            let level = BucketLevel { tokens: 0, next_in: MS * (100 - late) };
            assert_eq!(limiter.level(START + MS * late), level);
            assert_eq!(limiter.check(START + MS * late), retry_after(level.next_in));
        }
        assert_eq!(limiter.level(START + MS * 100), BucketLevel { tokens: 1, next_in: Duration::ZERO });
        let limit = limiter.limit();
        assert_eq!((limit.interval(), limit.burst()), (MS * 100, 3));
    }

    #[test]
    fn over_a_minute_lets_the_rate_and_one_burst_through() {
        let limiter = limiter(100, 10);
        let asked = 60_000_u32;
        let passed = (0..asked).filter(|at| limiter.check(START + MS * *at).is_ok()).count();
        assert_eq!(passed, 60 * 100 + 10 - 1, "the last millisecond ends before the next token");
    }

    #[test]
    fn a_clock_that_lags_between_workers_gives_no_extra_tokens() {
        let limiter = limiter(10, 1);
        assert_eq!(limiter.check(START + MS * 50), Ok(()));
        assert_eq!(limiter.check(START), retry_after(MS * 150));
    }

    #[test]
    fn refuses_rates_that_let_nothing_or_anything_through() {
        let second = Duration::from_secs(1);
        assert_eq!(RateLimit::new(0, second, 1), Err(RateLimitError::NoRequests));
        assert_eq!(RateLimit::new(1, second, 0), Err(RateLimitError::NoBurst));
        let day = Duration::from_secs(86_400);
        for (requests, per) in
            [(1, Duration::ZERO), (1_000_000_001, second), (1, day + Duration::from_nanos(1))]
        {
            assert_eq!(RateLimit::new(requests, per, 1), Err(RateLimitError::Rate { requests, per }));
        }
        assert!(RateLimit::new(1_000_000_000, second, 1).is_ok());
        let absurd = RateLimiter::new(RateLimit::new(1, day, u32::MAX).unwrap());
        assert_eq!(absurd.check(Duration::MAX), Ok(()), "at the end of time it saturates");
        assert_eq!(absurd.check(Duration::MAX), Ok(()));
    }
}
