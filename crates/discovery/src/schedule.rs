//! When to resolve a name again, and when to believe that it is gone.
//!
//! - After a success: `clamp(TTL, min_refresh, max_refresh)` after the answer. A request to resolve at once (a
//!   connection failed) moves that forward to `min_refresh` after the *start* of the last resolution.
//! - After the n-th failure in a row: gRPC's backoff, `min_refresh * 1.6^n` with a jitter of 0.2, never outside
//!   `min_refresh..=max_refresh`. Requests do not shorten it, as in grpc-go (`dns_resolver.go`, `watcher`): a name
//!   server in trouble is not helped by a fleet of proxies that all ask once a second.
//! - An answer that there are no addresses counts as a failure, since name servers give it for a moment while a
//!   Deployment is rolled or CoreDNS restarts. Only after `keep_empty_for` without any address in between is it
//!   believed. Failures of other kinds in between neither start that time over nor end it.

use std::time::Duration;

use evenkeel_balance::{Backoff, BackoffConfig};
use rand::Rng;
use tokio::time::Instant;

use crate::options::ResolveOptions;

/// Random share by which the backoff is longer or shorter: gRPC's `doc/connection-backoff.md`.
const JITTER: f64 = 0.2;

/// The points in time of one name's resolutions.
#[derive(Debug)]
pub(crate) struct Schedule {
    min_refresh: Duration,
    max_refresh: Duration,
    keep_empty_for: Duration,
    backoff: Backoff,
    /// Start of the newest resolution.
    began_at: Instant,
    /// When to resolve next.
    next_at: Instant,
    /// The newest resolution failed: `next_at` is the backoff's.
    failing: bool,
    /// First answer without addresses since the last success.
    empty_since: Option<Instant>,
}

impl Schedule {
    /// A schedule whose first resolution is due at `now`.
    pub(crate) fn new(options: &ResolveOptions, now: Instant) -> Self {
        let max_refresh = options.max_refresh.max(options.min_refresh);
        // The jitter comes after the backoff's own cap: leave room for it, so that capped waits still differ.
        let max = max_refresh.div_f64(1.0 + JITTER);
        let backoff =
            BackoffConfig { base: options.min_refresh, jitter: JITTER, max, ..BackoffConfig::default() };
        Self {
            min_refresh: options.min_refresh,
            max_refresh,
            keep_empty_for: options.keep_empty_for,
            backoff: Backoff::new(backoff),
            began_at: now,
            next_at: now,
            failing: false,
            empty_since: None,
        }
    }

    /// When to resolve next.
    pub(crate) fn next_at(&self) -> Instant {
        self.next_at
    }

    /// A resolution begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.began_at = now;
    }

    /// The resolution succeeded; its answer is good for `ttl`.
    pub(crate) fn succeeded(&mut self, now: Instant, ttl: Duration) {
        self.backoff.reset();
        self.failing = false;
        self.empty_since = None;
        self.next_at = now + ttl.clamp(self.min_refresh, self.max_refresh);
    }

    /// The resolution failed. `empty`: there was an answer, but without addresses. Returns whether that has been the
    /// answer for so long that it must be believed.
    pub(crate) fn failed(&mut self, now: Instant, empty: bool, rng: &mut impl Rng) -> bool {
        let wait = self.backoff.next(rng).clamp(self.min_refresh, self.max_refresh);
        self.failing = true;
        self.next_at = now + wait;
        empty && now.duration_since(*self.empty_since.get_or_insert(now)) >= self.keep_empty_for
    }

    /// Somebody asks to resolve at once.
    pub(crate) fn expedite(&mut self) {
        if !self.failing {
            self.next_at = self.next_at.min(self.began_at + self.min_refresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(now: Instant) -> Schedule {
        Schedule::new(&ResolveOptions::default(), now)
    }

    #[test]
    fn the_first_resolution_is_due_at_once() {
        let now = Instant::now();
        assert_eq!(schedule(now).next_at(), now);
    }

    #[test]
    fn waits_the_ttl_but_at_least_a_second_and_at_most_the_refresh_interval() {
        let now = Instant::now();
        let mut schedule = schedule(now);
        let waits = [(0, 1), (1, 1), (2, 2), (29, 29), (30, 30), (31, 30), (u64::from(u32::MAX), 30)];
        for (ttl, wait) in waits {
            schedule.succeeded(now, Duration::from_secs(ttl));
            assert_eq!(schedule.next_at() - now, wait * SECOND, "TTL {ttl}");
        }
    }

    #[test]
    fn a_refresh_interval_below_the_least_is_raised_to_it() {
        let now = Instant::now();
        let options = ResolveOptions { max_refresh: Duration::from_millis(10), ..ResolveOptions::default() };
        let mut schedule = Schedule::new(&options, now);
        schedule.succeeded(now, 60 * SECOND);
        assert_eq!(schedule.next_at() - now, SECOND);
        schedule.failed(now, false, &mut SmallRng::seed_from_u64(1));
        assert_eq!(schedule.next_at() - now, SECOND);
    }

    #[test]
    fn failures_back_off_within_the_bounds_and_success_starts_over() {
        let now = Instant::now();
        for seed in 0..200 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut schedule = schedule(now);
            for step in 0..12 {
                schedule.failed(now, false, &mut rng);
                let wait = (schedule.next_at() - now).as_secs_f64();
                let nominal = 1.6_f64.powi(step).min(25.0);
                let (least, most) = ((nominal * 0.8).max(1.0), (nominal * 1.2).min(30.0));
                assert!((least - 1e-6..=most + 1e-6).contains(&wait), "seed {seed}, step {step}: {wait}");
            }
            schedule.succeeded(now, SECOND);
            schedule.failed(now, false, &mut rng);
            assert!(schedule.next_at() - now <= Duration::from_millis(1200), "seed {seed}");
        }
    }

    #[test]
    fn capped_waits_still_differ_between_proxies() {
        let now = Instant::now();
        let capped = |seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut schedule = schedule(now);
            (0..12).for_each(|_| _ = schedule.failed(now, false, &mut rng));
            schedule.next_at() - now
        };
        assert_ne!(capped(1), capped(2));
    }

    #[test]
    fn requests_resolve_at_most_once_a_second() {
        let began = Instant::now();
        let mut schedule = schedule(began);
        schedule.begin(began);
        schedule.succeeded(began + SECOND / 10, 30 * SECOND);
        schedule.expedite();
        assert_eq!(schedule.next_at(), began + SECOND);
        schedule.expedite();
        assert_eq!(schedule.next_at(), began + SECOND);
    }

    #[test]
    fn a_request_never_delays_a_resolution_and_never_shortens_the_backoff() {
        let began = Instant::now();
        let mut schedule = schedule(began);
        schedule.begin(began);
        schedule.succeeded(began, SECOND);
        schedule.expedite();
        assert_eq!(schedule.next_at(), began + SECOND);

        let mut rng = SmallRng::seed_from_u64(1);
        (0..6).for_each(|_| _ = schedule.failed(began, false, &mut rng));
        let due = schedule.next_at();
        assert!(due > began + 5 * SECOND);
        schedule.expedite();
        assert_eq!(schedule.next_at(), due);
    }

    #[test]
    fn an_empty_answer_is_believed_after_five_minutes_of_it() {
        let start = Instant::now();
        let mut rng = SmallRng::seed_from_u64(1);
        let mut schedule = schedule(start);
        assert!(!schedule.failed(start, true, &mut rng));
        assert!(!schedule.failed(start + 299 * SECOND, true, &mut rng));
        assert!(!schedule.failed(start + 300 * SECOND, false, &mut rng), "no answer is no proof");
        assert!(schedule.failed(start + 300 * SECOND, true, &mut rng));
        assert!(schedule.failed(start + 301 * SECOND, true, &mut rng));
        schedule.succeeded(start + 302 * SECOND, SECOND);
        assert!(!schedule.failed(start + 303 * SECOND, true, &mut rng), "a success starts the time over");
    }
}
