//! A server: its calls share the cores it gets, its antagonists come and go, and it tells how busy it is.

use core::time::Duration;
use std::collections::BTreeSet;

use evenkeel_balance::{LoadReport, LoadTracker, ProbeAnswer};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::{MACHINE, Testbed};

/// Processor sharing in virtual time: the clock `served_ns` is the work, in nanoseconds, that each call present got since the
/// server began, so a call is done when the clock shows what it needs more than when it came. Arrivals, ends and changes of
/// the cores change the clock's speed only.
#[derive(Debug)]
pub(super) struct Server {
    slowdown: f64,
    interference: f64,
    /// Of the allocation.
    allocated: f64,
    /// That the server gets now.
    cores: f64,
    is_contended: bool,
    served_ns: f64,
    /// When `served_ns` was brought up to date.
    at: Duration,
    /// Calls present: the clock at which each is done, in nanoseconds, and its number.
    calls: BTreeSet<(u64, usize)>,
    tracker: LoadTracker,
    meter: Meter,
    /// Changes with all that makes a planned end invalid.
    pub(super) version: u64,
}

impl Server {
    pub(super) fn new(testbed: &Testbed, slowdown: f64, rng: &mut SmallRng) -> Self {
        // Not all are contended first: the opposite of what the first change makes of it.
        let is_contended = rng.random_bool(testbed.contended);
        Self {
            slowdown,
            interference: testbed.interference,
            allocated: testbed.cores,
            cores: cores(testbed, is_contended, rng),
            is_contended,
            served_ns: 0.0,
            at: Duration::ZERO,
            calls: BTreeSet::new(),
            tracker: LoadTracker::default(),
            meter: Meter::new(testbed.report_window),
            version: 0,
        }
    }

    /// How much longer a call takes now than on the newest hardware without antagonists.
    fn delay(&self) -> f64 {
        self.slowdown * if self.is_contended { self.interference } else { 1.0 }
    }

    /// What all calls together get done now if there are enough of them, in cores of the newest hardware.
    pub(super) fn capacity(&self) -> f64 {
        self.cores / self.delay()
    }

    /// How fast each call present is served.
    fn speed(&self) -> f64 {
        (self.cores / self.calls.len().max(1) as f64).min(1.0) / self.delay()
    }

    fn advance(&mut self, now: Duration) {
        let passed = now - self.at;
        self.served_ns += passed.as_secs_f64() * 1e9 * self.speed();
        let used = (self.calls.len() as f64).min(self.cores) / self.allocated;
        self.meter.pass(passed, used);
        self.at = now;
        self.version += 1;
    }

    /// A call comes in. Returns what [`Server::leave`] wants to know.
    pub(super) fn enter(&mut self, call: usize, work: Duration, now: Duration) -> Entered {
        self.advance(now);
        let done_at = (self.served_ns + work.as_secs_f64() * 1e9) as u64;
        self.calls.insert((done_at, call));
        Entered { done_at, met: self.tracker.started(), at: now }
    }

    /// A call leaves: served, or dropped at its deadline.
    pub(super) fn leave(&mut self, call: usize, entered: Entered, is_served: bool, now: Duration) {
        self.advance(now);
        assert!(self.calls.remove(&(entered.done_at, call)), "what leaves was there");
        self.tracker.finished(entered.met, is_served.then_some(now - entered.at), now);
        self.meter.count(is_served);
    }

    /// When the next call is done, and its number.
    pub(super) fn next_done(&self) -> Option<(Duration, usize)> {
        let (done_at, call) = *self.calls.first()?;
        let rest_ns = (done_at as f64 - self.served_ns).max(0.0);
        Some((self.at + Duration::from_nanos((rest_ns / self.speed()).ceil() as u64), call))
    }

    /// Antagonists come, or go. Returns until when.
    pub(super) fn antagonise(&mut self, testbed: &Testbed, now: Duration, rng: &mut SmallRng) -> Duration {
        self.advance(now);
        self.is_contended = !self.is_contended;
        self.cores = cores(testbed, self.is_contended, rng);
        now + testbed.lasting(self.is_contended, rng)
    }

    /// Until when the first antagonists stay, or stay away.
    pub(super) fn first_change(&self, testbed: &Testbed, rng: &mut SmallRng) -> Duration {
        testbed.lasting(self.is_contended, rng)
    }

    pub(super) fn answer(&self, now: Duration) -> ProbeAnswer {
        self.tracker.answer(now)
    }

    pub(super) fn report(&self) -> LoadReport {
        self.meter.report()
    }
}

/// What a server gets.
fn cores(testbed: &Testbed, is_contended: bool, rng: &mut SmallRng) -> f64 {
    let (least, most) = testbed.spare;
    assert!(
        1.0 <= least && least < most && most <= MACHINE,
        "a server gets its allocation, and not more than all"
    );
    testbed.cores * if is_contended { 1.0 } else { rng.random_range(least..most) }
}

impl Testbed {
    /// How long antagonists stay, or stay away: exponential times, of which they are there for the share wanted.
    fn lasting(&self, is_contended: bool, rng: &mut SmallRng) -> Duration {
        let mean = if is_contended { 1.0 } else { (1.0 - self.contended) / self.contended };
        exponential(self.contended_for.mul_f64(mean), rng)
    }
}

/// An exponentially distributed time with this mean.
pub(super) fn exponential(mean: Duration, rng: &mut SmallRng) -> Duration {
    mean.mul_f64(-(1.0 - rng.random::<f64>()).ln())
}

/// Where a server notes an entered call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    /// What the clock shows when it is done.
    done_at: u64,
    /// What the tracker returned.
    met: u32,
    at: Duration,
}

/// What load reports are made of: averages that forget exponentially.
#[derive(Debug)]
struct Meter {
    window: f64,
    /// Integrals, in seconds: of the allocation used, of calls served, of calls dropped.
    used: f64,
    served: f64,
    dropped: f64,
    /// The integral of 1: how much of the window there has been.
    seen: f64,
}

impl Meter {
    fn new(window: Duration) -> Self {
        Self { window: window.as_secs_f64(), used: 0.0, served: 0.0, dropped: 0.0, seen: 0.0 }
    }

    fn pass(&mut self, time: Duration, used: f64) {
        let kept = (-time.as_secs_f64() / self.window).exp();
        let new = self.window * (1.0 - kept);
        self.used = self.used * kept + used * new;
        self.seen = self.seen * kept + new;
        self.served *= kept;
        self.dropped *= kept;
    }

    fn count(&mut self, is_served: bool) {
        if is_served {
            self.served += 1.0;
        } else {
            self.dropped += 1.0;
        }
    }

    fn report(&self) -> LoadReport {
        if self.seen == 0.0 {
            return LoadReport::default();
        }
        LoadReport {
            utilization: self.used / self.seen,
            requests_per_second: self.served / self.seen,
            errors_per_second: self.dropped / self.seen,
        }
    }
}
