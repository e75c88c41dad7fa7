//! The comparison.

use core::time::Duration;

use rand::rngs::SmallRng;

use super::PeakEwmaConfig;
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::{Candidate, Candidates};
use crate::endpoint::Endpoint;
use crate::policy::estimate::{Estimates, Rise};
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

#[derive(Clone, Debug)]
pub(crate) struct PeakEwma {
    estimates: Estimates,
    slow_start: Option<SlowStart>,
}

impl PeakEwma {
    pub(crate) fn new(config: PeakEwmaConfig, slow_start: Option<SlowStart>) -> Self {
        Self { estimates: Estimates::new(Rise::Peak, config.decay), slow_start }
    }

    /// The cost of a candidate, and the weight to divide it by.
    fn cost(&self, candidate: &Candidate, now: Duration) -> (f64, f64) {
        let reading = self.estimates.read(&self.estimates.get(candidate.slot.index()), now);
        let calls = f64::from(candidate.endpoint.in_flight()) + 1.0;
        (reading.latency_ns * reading.penalty * calls, f64::from(candidate.weight))
    }
}

impl Picker for PeakEwma {
    fn reserve(&mut self, slots: usize, _weights: &mut dyn Iterator<Item = u32>) {
        self.estimates.reserve(slots);
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, _rng: &mut SmallRng) {
        let candidate = candidates.get(position);
        self.estimates.added(candidate.slot.index(), &candidate.endpoint);
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        let Some([one, other]) = two_distinct(candidates.len(), rng) else { return Verdict::At(0) };
        let slow_start = self.slow_start.as_ref();
        let takes_part =
            [one, other].map(|position| candidates.takes_part(position, slow_start, ask.now, rng));
        match takes_part {
            [true, false] => return Verdict::At(one),
            [false, true] => return Verdict::At(other),
            [true, true] | [false, false] => {}
        }
        let [(cost, weight), (other_cost, other_weight)] =
            [one, other].map(|position| self.cost(candidates.get(position), ask.now));
        Verdict::At(if other_cost * weight < cost * other_weight { other } else { one })
    }

    fn finished(&mut self, slot: Slot, _endpoint: &Endpoint, report: &CallReport) {
        self.estimates.observe(slot.index(), report, 1.0);
    }
}
