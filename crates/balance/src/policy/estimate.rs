//! What a worker learned of an endpoint from its calls: how long they take, and how many fail.
//!
//! peak_ewma and prequal choose by it. Two numbers per endpoint:
//!
//! 1. *Latency*, for peak_ewma a peak-sensitive moving average (Finagle's `PeakEwma`): a longer latency is taken over at
//!    once, a shorter one with weight `1 - exp(-dt / decay)`, `dt` being the time since the last observation. So it is quick
//!    to notice trouble and slow to forget it. For prequal it is a mean, in which each observation has at least the weight
//!    [`GAIN`]. When it is read, it has decayed towards 0 for the time without an observation, so that an endpoint avoided
//!    is tried again.
//! 2. *Failing*, the share of the last calls that failed: a moving average over about ten calls ([`GAIN`]), which decays
//!    with the same time constant.
//!
//! The *penalty* for failing is `(1 - failing)^-6`; both latency and calls in flight count multiplied by it. Why? An
//! endpoint that fails at once looks quick and idle, and would draw all calls: a sinkhole. What others do: linkerd2-proxy
//! takes a failure as a latency of 5 s, which at 1 % of failures everywhere drowns all real latencies in chance (an
//! endpoint's cost is then how long ago its last failure was); Finagle, tower and Envoy do nothing. A factor has no unit,
//! so it fits calls of a millisecond as well as of a minute, and stays near 1 where failures are few: on average 1.06 at
//! 1 %. One failure in a row costs 1.9, three 6.6, ten 550. Why the sixth power? The factor must outweigh what the sinkhole gains
//! by being quick: no call in flight where others have a few. A plain expected number of tries, `1 / (1 - failing)`, does
//! not: at half of the calls failing it is 2.
//!
//! A failed call's latency raises the average, as a timeout is a sign of slowness, but never lowers it. An attempt that another
//! of its call overtook would have taken at least as long as it had: that raises the average too, and is no failure. If it
//! said nothing, hedging would hide a slow endpoint, whose average decays to 0, and which then draws all calls. A cancelled
//! call says nothing.

use core::time::Duration;

use crate::call::CallReport;
use crate::endpoint::{Endpoint, Outcome};
use crate::time::nanos;

/// What one more call changes the share of failing ones by, and a mean latency: an average over the last ten calls.
const GAIN: f64 = 0.1;

/// The largest share of failures that is told from all: bounds the penalty to 10^18, far from the end of an `f64`.
const MAX_FAILING: f64 = 0.999;

/// A share below this is none: the penalty would be below 1.0006.
const MIN_FAILING: f64 = 1e-4;

/// How much one latency changes what is typical of all endpoints.
const TYPICAL_GAIN: f64 = 0.02;

/// One endpoint's; aligned so that none is in two cache lines, and small so that thousands stay in a cache: a latency is known
/// to seven digits.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(16))]
pub(crate) struct Estimate {
    /// When both were last brought up to date, in nanoseconds since the driver's epoch.
    at_ns: u64,
    /// In nanoseconds; 0 while nothing was observed.
    latency_ns: f32,
    /// From 0 to [`MAX_FAILING`].
    failing: f32,
}

/// What can be said of an endpoint now.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Reading {
    /// In nanoseconds, more than 0; without the penalty.
    pub(crate) latency_ns: f64,
    /// At least 1, see the module.
    pub(crate) penalty: f64,
}

/// What a worker learned of an endpoint from its calls and chooses by, under peak_ewma and prequal, for people to read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Learned {
    /// Under peak_ewma the average of how long calls take, under prequal of how long they take for each that is in flight; decayed
    /// for the time without an observation. `None` while there was none.
    pub latency: Option<Duration>,
    /// The share of the last calls that failed, 0 to 1.
    pub failing: f64,
}

/// How longer latencies are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rise {
    /// At once.
    Peak,
    /// As shorter ones.
    Mean,
}

/// All endpoints' of one worker, by slot. Bound: as many as the balancer has slots.
#[derive(Clone, Debug)]
pub(crate) struct Estimates {
    rise: Rise,
    /// Of the time constant, in nanoseconds.
    inverse_decay: f64,
    by_slot: Vec<Estimate>,
    /// Whose each is: the hash of the endpoint's address. A slot may get another endpoint.
    owners: Vec<u64>,
    /// The latency typical of all endpoints, which counts for one without an observation; 0 before the first of all.
    typical_ns: f64,
}

impl Estimates {
    /// Estimates that forget with this time constant; one below a millisecond counts as a millisecond.
    pub(crate) fn new(rise: Rise, decay: Duration) -> Self {
        let inverse_decay = (decay.max(Duration::from_millis(1)).as_secs_f64() * 1e9).recip();
        Self { rise, inverse_decay, by_slot: Vec::new(), owners: Vec::new(), typical_ns: 0.0 }
    }

    pub(crate) fn reserve(&mut self, slots: usize) {
        if self.by_slot.len() < slots {
            self.by_slot.resize(slots, Estimate::default());
            self.owners.resize(slots, 0);
        }
    }

    /// The slot may have got another endpoint, of which nothing is known.
    pub(crate) fn added(&mut self, index: usize, endpoint: &Endpoint) {
        if core::mem::replace(&mut self.owners[index], endpoint.hash()) != endpoint.hash() {
            self.by_slot[index] = Estimate::default();
        }
    }

    /// Takes a finished call into account. Returns whether that changed the penalty.
    ///
    /// Its latency counts as if divided by `share`, the number of calls that it is put down to.
    pub(crate) fn observe(&mut self, index: usize, report: &CallReport, share: f64) -> bool {
        if report.outcome == Outcome::Cancelled {
            return false;
        }
        let now_ns = nanos(report.now);
        let estimate = &mut self.by_slot[index];
        let kept = kept(self.inverse_decay, estimate.at_ns, now_ns);
        // A latency of nothing would make the endpoint free for ever: it is one nanosecond then.
        let latency_ns = (nanos(report.latency) as f64 / share).max(1.0);
        let (mut known, mut failing) = (f64::from(estimate.latency_ns), f64::from(estimate.failing));
        let was_failing = failing > 0.0;
        failing *= kept;
        if report.outcome == Outcome::Overtaken {
            // What is known goes on to decay, as without this call: it may have been too much.
            known *= kept;
            let expected = if known > 0.0 { known } else { self.typical_ns };
            if latency_ns > expected {
                known = latency_ns;
            }
        } else if report.outcome == Outcome::Failure {
            failing = (failing + (1.0 - failing) * GAIN).min(MAX_FAILING);
            // Not decayed: else failing would improve it. Without any success the typical latency stays in its place.
            if known > 0.0 || latency_ns > self.typical_ns {
                known = known.max(latency_ns);
            }
        } else {
            failing *= 1.0 - GAIN;
            if failing < MIN_FAILING {
                failing = 0.0;
            }
            let taken_whole = known == 0.0 || (self.rise == Rise::Peak && latency_ns >= known);
            let gain = if self.rise == Rise::Peak { 1.0 - kept } else { (1.0 - kept).max(GAIN) };
            known = if taken_whole { latency_ns } else { known + (latency_ns - known) * gain };
            let is_first = self.typical_ns == 0.0;
            self.typical_ns += (latency_ns - self.typical_ns) * if is_first { 1.0 } else { TYPICAL_GAIN };
        }
        let at_ns = estimate.at_ns.max(now_ns);
        *estimate = Estimate { at_ns, latency_ns: known as f32, failing: failing as f32 };
        was_failing || failing > 0.0
    }

    /// An endpoint's, to be read.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Estimate {
        self.by_slot[index]
    }

    /// The same as [`Estimates::read`], without what stands in for what is not known. `None` of an endpoint that never took calls.
    pub(crate) fn learned(&self, index: usize, endpoint: &Endpoint, now: Duration) -> Option<Learned> {
        let estimate = self.by_slot.get(index).filter(|_| self.owners[index] == endpoint.hash())?;
        let kept = kept(self.inverse_decay, estimate.at_ns, nanos(now));
        let known = (estimate.latency_ns > 0.0).then_some(f64::from(estimate.latency_ns));
        // The cast saturates at 584 years.
        let latency = known.map(|known| Duration::from_nanos((known * kept) as u64));
        Some(Learned { latency, failing: f64::from(estimate.failing) * kept })
    }

    #[inline]
    pub(crate) fn read(&self, estimate: &Estimate, now: Duration) -> Reading {
        let kept = kept(self.inverse_decay, estimate.at_ns, nanos(now));
        let known = f64::from(estimate.latency_ns);
        let latency_ns = if known > 0.0 { known * kept } else { self.typical_ns };
        Reading { latency_ns: latency_ns.max(1e-3), penalty: penalty(f64::from(estimate.failing) * kept) }
    }
}

/// How much of a value is left. Time that runs backwards changes nothing.
fn kept(inverse_decay: f64, from_ns: u64, to_ns: u64) -> f64 {
    // Signed, as processors convert no other number in one step: 292 years are the most.
    let passed = to_ns.saturating_sub(from_ns).min(i64::MAX.cast_unsigned()).cast_signed();
    let time = passed as f64 * inverse_decay;
    if time < 0.05 {
        // The common case, exact to 3 * 10^-9: four terms of the series, for a fifth of the time that `exp` takes.
        1.0 - time * (1.0 - time * (0.5 - time * (1.0 / 6.0 - time * (1.0 / 24.0))))
    } else {
        (-time).exp()
    }
}

fn penalty(failing: f64) -> f64 {
    if failing == 0.0 {
        return 1.0;
    }
    (1.0 - failing).powi(6).recip()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::address::Address;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    /// Seven digits of a hundred milliseconds are kept.
    const ERROR: f64 = 1e-5;

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port))), 1)
    }

    fn estimates(decay: Duration) -> Estimates {
        let mut estimates = Estimates::new(Rise::Peak, decay);
        estimates.reserve(2);
        estimates.added(0, &endpoint(1));
        estimates.added(1, &endpoint(2));
        estimates
    }

    fn report(now: Duration, latency: Duration, outcome: Outcome) -> CallReport {
        CallReport { now, outcome, latency, load: None }
    }

    fn latency_ms(estimates: &Estimates, index: usize, now: Duration) -> f64 {
        estimates.read(&estimates.get(index), now).latency_ns / 1e6
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_with_the_time_constant() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
        assert_eq!(latency_ms(&estimates, 0, SECOND), 10.0);
        estimates.observe(0, &report(2 * SECOND, 100 * MS, Outcome::Success), 1.0);
        assert_eq!(latency_ms(&estimates, 0, 2 * SECOND), 100.0);
        // exp(-1) of the old, the rest of the new.
        estimates.observe(0, &report(12 * SECOND, 10 * MS, Outcome::Success), 1.0);
        let e = (-1.0_f64).exp();
        assert!((latency_ms(&estimates, 0, 12 * SECOND) - (100.0 * e + 10.0 * (1.0 - e))).abs() < ERROR);
        let before = latency_ms(&estimates, 0, 12 * SECOND);
        assert!((latency_ms(&estimates, 0, 22 * SECOND) - before * e).abs() < ERROR, "decays unobserved");
    }

    #[test]
    fn a_mean_takes_a_tenth_of_each_call_and_more_after_a_pause() {
        let mut estimates = Estimates::new(Rise::Mean, 10 * SECOND);
        estimates.reserve(1);
        estimates.added(0, &endpoint(1));
        for (latency, expected) in [(100, 100.0), (200, 110.0), (10, 100.0)] {
            estimates.observe(0, &report(SECOND, latency * MS, Outcome::Success), 1.0);
            assert!((latency_ms(&estimates, 0, SECOND) - expected).abs() < ERROR);
        }
        estimates.observe(0, &report(11 * SECOND, 200 * MS, Outcome::Success), 1.0);
        let e = (-1.0_f64).exp();
        assert!((latency_ms(&estimates, 0, 11 * SECOND) - (100.0 * e + 200.0 * (1.0 - e))).abs() < ERROR);
    }

    #[test]
    fn an_endpoint_without_a_call_counts_as_a_typical_one() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 40 * MS, Outcome::Success), 1.0);
        assert_eq!(latency_ms(&estimates, 1, SECOND), 40.0);
        estimates.observe(0, &report(SECOND, 90 * MS, Outcome::Success), 1.0);
        assert_eq!(latency_ms(&estimates, 1, SECOND), 41.0);
    }

    #[test]
    fn failing_raises_the_penalty_and_never_lowers_the_latency() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
        assert_eq!(estimates.read(&estimates.get(0), SECOND).penalty, 1.0);
        let mut last = 1.0;
        for expected in [1.88, 3.54, 6.66] {
            estimates.observe(0, &report(SECOND, Duration::ZERO, Outcome::Failure), 1.0);
            let reading = estimates.read(&estimates.get(0), SECOND);
            assert!((reading.penalty - expected).abs() < 0.01, "{reading:?}");
            assert_eq!(reading.latency_ns, 10e6);
            assert!(reading.penalty > last);
            last = reading.penalty;
        }
        estimates.observe(0, &report(SECOND, 30 * MS, Outcome::Failure), 1.0);
        assert_eq!(latency_ms(&estimates, 0, SECOND), 30.0, "a failure that takes its time is a slow call");
        let penalty = estimates.read(&estimates.get(0), SECOND).penalty;
        estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
        assert!(estimates.read(&estimates.get(0), SECOND).penalty < penalty);
        assert!(estimates.read(&estimates.get(0), 60 * SECOND).penalty < 1.02, "it is tried again");
    }

    #[test]
    fn a_failure_before_the_first_success_leaves_the_typical_latency_in_place() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 40 * MS, Outcome::Success), 1.0);
        estimates.observe(1, &report(SECOND, MS, Outcome::Failure), 1.0);
        assert_eq!(latency_ms(&estimates, 1, SECOND), 40.0);
        estimates.observe(1, &report(SECOND, 50 * MS, Outcome::Failure), 1.0);
        assert_eq!(latency_ms(&estimates, 1, SECOND), 50.0);
    }

    #[test]
    fn endless_failures_and_impossible_times_stay_finite() {
        let mut estimates = estimates(Duration::ZERO);
        for _ in 0..10_000 {
            estimates.observe(0, &report(SECOND, Duration::MAX, Outcome::Failure), 1.0);
        }
        estimates.observe(0, &report(Duration::ZERO, Duration::ZERO, Outcome::Success), 1.0);
        for now in [Duration::ZERO, SECOND, Duration::MAX] {
            let reading = estimates.read(&estimates.get(0), now);
            assert!(reading.latency_ns > 0.0 && reading.latency_ns.is_finite(), "{reading:?}");
            assert!(reading.penalty >= 1.0 && reading.penalty <= 1.1e18, "{reading:?}");
        }
    }

    #[test]
    fn a_cancelled_call_says_nothing() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
        let before = estimates.read(&estimates.get(0), SECOND);
        estimates.observe(0, &report(SECOND, 100 * MS, Outcome::Cancelled), 1.0);
        assert_eq!(estimates.read(&estimates.get(0), SECOND), before);
    }

    #[test]
    fn an_overtaken_call_raises_the_latency_never_lowers_it_and_is_no_failure() {
        for rise in [Rise::Peak, Rise::Mean] {
            let mut estimates = Estimates::new(rise, 10 * SECOND);
            estimates.reserve(2);
            estimates.added(0, &endpoint(1));
            estimates.added(1, &endpoint(2));
            estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
            estimates.observe(0, &report(SECOND, 5 * MS, Outcome::Overtaken), 1.0);
            assert_eq!(latency_ms(&estimates, 0, SECOND), 10.0, "at least 5 ms is no news");
            estimates.observe(0, &report(SECOND, 50 * MS, Outcome::Overtaken), 1.0);
            assert_eq!(estimates.read(&estimates.get(0), SECOND), Reading { latency_ns: 50e6, penalty: 1.0 });
            // It decays as if nothing had come.
            let unseen = latency_ms(&estimates, 0, 11 * SECOND);
            estimates.observe(0, &report(11 * SECOND, MS, Outcome::Overtaken), 1.0);
            assert!((latency_ms(&estimates, 0, 11 * SECOND) - unseen).abs() < ERROR);
            // Of an endpoint without a call: at least what is typical.
            estimates.observe(1, &report(SECOND, 9 * MS, Outcome::Overtaken), 1.0);
            assert_eq!(latency_ms(&estimates, 1, SECOND), 10.0);
            estimates.observe(1, &report(SECOND, 11 * MS, Outcome::Overtaken), 1.0);
            assert_eq!(latency_ms(&estimates, 1, SECOND), 11.0);
        }
    }

    #[test]
    fn another_endpoint_in_the_slot_starts_anew_and_the_same_does_not() {
        let mut estimates = estimates(10 * SECOND);
        estimates.observe(0, &report(SECOND, 10 * MS, Outcome::Success), 1.0);
        estimates.observe(1, &report(SECOND, 500 * MS, Outcome::Failure), 1.0);
        estimates.added(1, &endpoint(2));
        assert_eq!(latency_ms(&estimates, 1, SECOND), 500.0);
        estimates.added(1, &endpoint(3));
        assert_eq!(estimates.read(&estimates.get(1), SECOND), Reading { latency_ns: 10e6, penalty: 1.0 });
    }
}
