//! The comparison.

use core::hint::select_unpredictable;
use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::PeakEwmaConfig;
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::{Candidate, Candidates};
use crate::endpoint::Endpoint;
use crate::policy::estimate::{Estimates, Learned, Rise};
use crate::policy::turns::Turns;
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

#[derive(Clone, Debug)]
pub(crate) struct PeakEwma {
    estimates: Estimates,
    slow_start: Option<SlowStart>,
    /// Who is the first of a pair where weights differ.
    turns: Turns,
}

impl PeakEwma {
    pub(crate) fn new(config: PeakEwmaConfig, slow_start: Option<SlowStart>) -> Self {
        let estimates = Estimates::new(Rise::Peak, config.decay);
        Self { estimates, slow_start, turns: Turns::default() }
    }

    /// The two that are compared; `None` if there is but one.
    fn draw(&mut self, candidates: &Candidates, rng: &mut SmallRng) -> Option<[usize; 2]> {
        if self.turns.is_even() || candidates.len() < 2 {
            return two_distinct(candidates.len(), rng);
        }
        let first = self.turns.next(candidates);
        self.turns.look_ahead();
        let other = rng.random_range(0..candidates.len() - 1);
        Some([first, other + usize::from(other >= first)])
    }

    /// What one call takes there, and how many are in flight.
    fn read(&self, candidate: &Candidate, now: Duration) -> (f64, u32) {
        let reading = self.estimates.read(&self.estimates.get(candidate.slot.index()), now);
        (reading.latency_ns * reading.penalty, candidate.endpoint.in_flight())
    }

    /// Whether the second of these gets the call.
    fn prefers_second(&self, pair: [&Candidate; 2], now: Duration, rng: &mut SmallRng) -> bool {
        let [(latency, calls), (other_latency, other_calls)] =
            pair.map(|candidate| self.read(candidate, now));
        if self.turns.is_even() {
            return other_latency * (f64::from(other_calls) + 1.0) < latency * (f64::from(calls) + 1.0);
        }
        let [weight, other_weight] = pair.map(|candidate| f64::from(candidate.weight));
        let (one, other) = (latency * other_weight, other_latency * weight);
        if calls == 0 && other_calls == 0 {
            // The chance that its number is less, by one draw without logarithms.
            return rng.random::<f64>() * (one + other) < one;
        }
        // `1 - u` is never 0.
        let [own, other_own] = [(); 2].map(|()| -(1.0 - rng.random::<f64>()).ln());
        other * (f64::from(other_calls) + other_own) < one * (f64::from(calls) + own)
    }
}

impl Picker for PeakEwma {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        self.estimates.reserve(slots);
        self.turns.reserve(slots, weights);
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.estimates.added(candidate.slot.index(), &candidate.endpoint);
        self.turns.added(candidates, position, rng);
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        self.turns.removing(candidates, position)
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        self.turns.reweighed(candidates, position, rng);
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        let Some([one, other]) = self.draw(candidates, rng) else { return Verdict::At(0) };
        let slow_start = self.slow_start.as_ref();
        let takes_part =
            [one, other].map(|position| candidates.takes_part(position, slow_start, ask.now, rng));
        match takes_part {
            [true, false] => return Verdict::At(one),
            [false, true] => return Verdict::At(other),
            [true, true] | [false, false] => {}
        }
        let pair = [one, other].map(|position| candidates.get(position));
        let is_other_better = self.prefers_second(pair, ask.now, rng);
        Verdict::At(select_unpredictable(is_other_better, other, one))
    }

    fn finished(&mut self, slot: Slot, _endpoint: &Endpoint, report: &CallReport) {
        self.estimates.observe(slot.index(), report, 1.0);
    }

    fn learned(&self, slot: Slot, endpoint: &Endpoint, now: Duration) -> Option<Learned> {
        self.estimates.learned(slot.index(), endpoint, now)
    }
}
