//! The endpoint's side: what it answers to a probe.
//!
//! Rule (the paper's section 4): each call's latency is remembered with the requests in flight that it met on arrival,
//! itself included. The answer is the number in flight now, and the median latency of the recent calls that met about as many.
//! Why so? The latency to come depends on the load now, not on that when the last calls came in.

use core::time::Duration;

use super::ProbeAnswer;

/// Calls remembered. A median of [`NEAREST`] needs no more, and each answer looks at all.
const REMEMBERED: usize = 128;

/// Calls whose median is taken: those that met a load nearest to the current one.
const NEAREST: usize = 16;

/// Older calls say nothing of now. The paper's servers look back a few milliseconds, at thousands of calls a second; one
/// with ten calls a second needs longer.
const RECENT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    in_flight: u32,
    latency: Duration,
    at: Duration,
}

/// Counts an endpoint's requests and remembers their latencies, to answer probes.
#[derive(Debug)]
pub struct LoadTracker {
    in_flight: u32,
    samples: [Sample; REMEMBERED],
    len: usize,
    next: usize,
}

impl Default for LoadTracker {
    fn default() -> Self {
        Self { in_flight: 0, samples: [Sample::default(); REMEMBERED], len: 0, next: 0 }
    }
}

impl LoadTracker {
    /// Notes a call's arrival. Returns the requests in flight with it, for [`LoadTracker::finished`].
    #[must_use]
    pub fn started(&mut self) -> u32 {
        self.in_flight = self.in_flight.saturating_add(1);
        self.in_flight
    }

    /// Notes a call's end. `met` is what [`LoadTracker::started`] returned. `latency` is the time until its first response
    /// message, as in [`CallReport`](crate::CallReport::latency), and `None` for a call that was
    /// cancelled or failed, and whose time says nothing about the work.
    pub fn finished(&mut self, met: u32, latency: Option<Duration>, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(latency) = latency else { return };
        self.samples[self.next] = Sample { in_flight: met, latency, at: now };
        self.next = (self.next + 1) % REMEMBERED;
        self.len = (self.len + 1).min(REMEMBERED);
    }

    /// The answer to a probe.
    #[must_use]
    pub fn answer(&self, now: Duration) -> ProbeAnswer {
        ProbeAnswer { requests_in_flight: self.in_flight, latency: self.median(now) }
    }

    fn median(&self, now: Duration) -> Option<Duration> {
        let oldest = now.saturating_sub(RECENT);
        // By (distance of the load, age), so that of equally near ones the newest count.
        let mut near = [(0, Duration::ZERO, Duration::ZERO); REMEMBERED];
        let mut len = 0;
        for sample in self.samples[..self.len].iter().filter(|sample| sample.at >= oldest) {
            // A call that arrives now would meet one more than are in flight.
            let distance = sample.in_flight.abs_diff(self.in_flight.saturating_add(1));
            near[len] = (distance, now.saturating_sub(sample.at), sample.latency);
            len += 1;
        }
        let near = &mut near[..len];
        if len > NEAREST {
            near.select_nth_unstable(NEAREST - 1);
        }
        let near = &mut near[..len.min(NEAREST)];
        let middle = near.len().checked_sub(1)? / 2;
        Some(near.select_nth_unstable_by_key(middle, |(_, _, latency)| *latency).1.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn call(tracker: &mut LoadTracker, others: u32, latency: Duration, now: Duration) {
        let begun: Vec<u32> = (0..others).map(|_| tracker.started()).collect();
        let met = tracker.started();
        tracker.finished(met, Some(latency), now);
        begun.into_iter().for_each(|met| tracker.finished(met, None, now));
    }

    #[test]
    fn answers_with_nothing_before_the_first_call_ended() {
        let mut tracker = LoadTracker::default();
        assert_eq!(tracker.answer(MS), ProbeAnswer { requests_in_flight: 0, latency: None });
        assert_eq!([tracker.started(), tracker.started()], [1, 2]);
        assert_eq!(tracker.answer(MS), ProbeAnswer { requests_in_flight: 2, latency: None });
        tracker.finished(2, None, MS);
        assert_eq!(tracker.answer(MS), ProbeAnswer { requests_in_flight: 1, latency: None });
    }

    #[test]
    fn the_latency_is_that_of_calls_that_met_about_as_many() {
        let mut tracker = LoadTracker::default();
        for _ in 0..NEAREST {
            call(&mut tracker, 0, 10 * MS, 100 * MS);
            call(&mut tracker, 9, 90 * MS, 100 * MS);
        }
        assert_eq!(tracker.answer(100 * MS).latency, Some(10 * MS));
        let begun: Vec<u32> = (0..9).map(|_| tracker.started()).collect();
        assert_eq!(begun.last(), Some(&9));
        assert_eq!(tracker.answer(100 * MS).latency, Some(90 * MS));
    }

    #[test]
    fn the_median_heeds_the_recent_calls_only() {
        let mut tracker = LoadTracker::default();
        for latency in [50, 60, 70] {
            call(&mut tracker, 0, latency * MS, 100 * MS);
        }
        assert_eq!(tracker.answer(100 * MS).latency, Some(60 * MS));
        assert_eq!(tracker.answer(1_100 * MS).latency, Some(60 * MS));
        assert_eq!(tracker.answer(1_101 * MS).latency, None);
        call(&mut tracker, 0, 5 * MS, 10_000 * MS);
        assert_eq!(tracker.answer(10_000 * MS).latency, Some(5 * MS));
    }

    #[test]
    fn an_end_without_a_beginning_does_not_count_below_zero() {
        let mut tracker = LoadTracker::default();
        tracker.finished(1, None, MS);
        assert_eq!(tracker.answer(MS).requests_in_flight, 0);
    }
}
