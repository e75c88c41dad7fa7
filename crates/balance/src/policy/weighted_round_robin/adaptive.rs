//! The picker of weights that change while nothing else does: by reported load, and during a slow start.
//!
//! Rule for reported load (gRFC A58, with C-core's bounds): an endpoint whose weight cannot be used yet, or any more, counts
//! as the mean of the others; while fewer than two can be used, all are equal. A weight is kept within a hundredth and ten
//! times the mean of the *other* usable ones. C-core's mean includes the endpoint itself: of few endpoints, one that
//! reports a billion calls a second lifts the mean, and gets nearly all calls.
//!
//! Why not a new schedule every second, as gRPC does? Ten thousand weights take a millisecond that some call would wait
//! for. Here every pick looks at as many candidates as are due, [`STEPS`] at most, each in turn, so that each is looked at
//! once per update period; with fewer picks than `n / STEPS` in a period it takes as many picks. A changed weight costs O(1).

use core::time::Duration;

use rand::rngs::SmallRng;

use super::load_weight::{LoadWeight, ReportedWeight};
use super::{LoadSource, LoadWeightConfig, Rotation};
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::{Candidate, Candidates};
use crate::endpoint::Endpoint;
use crate::policy::{LoadReportCounts, Picker, Verdict};
use crate::slow_start::SlowStart;

/// Candidates looked at per pick.
const STEPS: u32 = 4;

/// What the mean weight is in the rotation: the largest, ten times as much, has 16 bits, as in gRPC.
const MEAN: f64 = 6_553.0;
/// C-core's `kMinRatio` and `kMaxRatio`.
const MIN_RATIO: f64 = 0.01;
const MAX_RATIO: f64 = 10.0;

/// What one of static weight is in the rotation, so that a slow start has steps to take. Static weights above 42 million
/// count as that.
const STATIC_SCALE: f64 = 100.0;

/// Where the weights come from, before slow start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WeightSource {
    Static,
    Reported(LoadWeightConfig),
}

/// What is known by slot.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    load: LoadWeight,
    /// The part of the sum that is this candidate's, in millionths; 0 unless its weight is usable.
    summed: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct AdaptiveRoundRobin {
    source: WeightSource,
    slow_start: Option<SlowStart>,
    rotation: Rotation,
    known: Vec<Known>,
    /// Of all usable weights of candidates, in millionths.
    sum: u128,
    usable: u32,
    /// The candidate to look at next.
    cursor: usize,
    /// Up to when the looks that were due have been made.
    looked_until: Duration,
    counts: LoadReportCounts,
}

impl AdaptiveRoundRobin {
    pub(crate) fn new(source: WeightSource, slow_start: Option<SlowStart>) -> Self {
        Self {
            source,
            slow_start,
            rotation: Rotation::default(),
            known: Vec::new(),
            sum: 0,
            usable: 0,
            cursor: 0,
            looked_until: Duration::ZERO,
            counts: LoadReportCounts::default(),
        }
    }

    /// Takes what a candidate adds to the sum out of it.
    fn forget_sum(&mut self, slot: Slot) {
        let summed = core::mem::take(&mut self.known[slot.index()].summed);
        self.sum -= u128::from(summed);
        self.usable -= u32::from(summed > 0);
    }

    /// The weight a candidate has now, as the rotation counts, and notes its part of the sum.
    fn evaluate(&mut self, candidates: &Candidates, position: usize, now: Duration) -> u32 {
        let candidate = candidates.get(position);
        let warmth = candidates.warmth(position, self.slow_start.as_ref(), now);
        let weight = match self.source {
            WeightSource::Static => f64::from(candidate.weight) * STATIC_SCALE,
            WeightSource::Reported(config) => MEAN * self.ratio(candidate, &config, now),
        };
        // Saturates, and a weight of 0 is 1 in the rotation.
        (weight * warmth).round() as u32
    }

    /// A reported weight as a multiple of the mean.
    fn ratio(&mut self, candidate: &Candidate, config: &LoadWeightConfig, now: Duration) -> f64 {
        let slot = candidate.slot;
        self.forget_sum(slot);
        let known = &mut self.known[slot.index()];
        if matches!(config.source, LoadSource::OutOfBand { .. })
            && let Some((weight, at)) = candidate.endpoint.noted_load()
        {
            known.load.take(weight, at, config, now);
        }
        if let Some(weight) = known.load.usable(config, now) {
            known.summed = if self.usable == 0 {
                weight
            } else {
                let others = self.sum as f64 / f64::from(self.usable);
                // At least 1, as it is the mark of a usable one.
                (weight as f64).clamp(others * MIN_RATIO, others * MAX_RATIO).max(1.0) as u64
            };
            self.sum += u128::from(known.summed);
            self.usable += 1;
        }
        if self.usable < 2 || known.summed == 0 {
            return 1.0;
        }
        known.summed as f64 * f64::from(self.usable) / self.sum as f64
    }

    fn update(&mut self, candidates: &Candidates, position: usize, now: Duration, rng: &mut SmallRng) {
        let weight = self.evaluate(candidates, position, now).max(1);
        let slot = candidates.get(position).slot;
        if weight != self.rotation.weight(slot) {
            self.rotation.reweigh(slot, weight, rng);
        }
    }

    /// Looks at the candidates whose turn has come.
    fn catch_up(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) {
        let period = match self.source {
            WeightSource::Static => LoadWeightConfig::default().update_period(),
            WeightSource::Reported(config) => config.update_period(),
        };
        let number = u32::try_from(candidates.len()).expect("slots are numbered by u32");
        let between = period / number;
        // What is overdue by more than a whole period is due once.
        self.looked_until = self.looked_until.max(now.saturating_sub(period));
        for _ in 0..STEPS {
            if now.saturating_sub(self.looked_until) < between {
                return;
            }
            self.looked_until += between;
            self.cursor = if self.cursor + 1 < candidates.len() { self.cursor + 1 } else { 0 };
            self.update(candidates, self.cursor, now, rng);
        }
    }

    /// The weights one candidate may have in the rotation.
    fn range(&self, weight: u32) -> core::ops::RangeInclusive<u32> {
        let least_warmth =
            self.slow_start.as_ref().map_or(1.0, |slow_start| slow_start.factor(Duration::ZERO));
        let [least, most] = match self.source {
            WeightSource::Static => [f64::from(weight) * STATIC_SCALE; 2],
            WeightSource::Reported(_) => [MEAN * MIN_RATIO, MEAN * MAX_RATIO],
        };
        // Rounded outwards, and saturating.
        ((least * least_warmth).floor() as u32).max(1)..=(most.ceil() as u32).max(1)
    }
}

impl Picker for AdaptiveRoundRobin {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        if self.known.len() < slots {
            self.known.resize(slots, Known::default());
        }
        let mut rotation = core::mem::take(&mut self.rotation);
        rotation.reserve(slots, weights.map(|weight| self.range(weight)));
        self.rotation = rotation;
    }

    /// The endpoint became ready: what it reported before that does not count (gRFC A58).
    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        let slot = candidates.get(position).slot;
        self.known[slot.index()] = Known::default();
        let now = self.looked_until.max(candidates.warming_since(position));
        let weight = self.evaluate(candidates, position, now);
        self.rotation.insert(slot, weight, rng);
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        let slot = candidates.get(position).slot;
        self.forget_sum(slot);
        self.rotation.remove(slot);
        position
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        self.update(candidates, position, self.looked_until, rng);
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        self.catch_up(candidates, ask.now, rng);
        let slot = self.rotation.next();
        Verdict::At(candidates.position(slot).expect("the rotation holds candidates only"))
    }

    fn finished(&mut self, slot: Slot, _endpoint: &Endpoint, report: &CallReport) {
        if let (Some(load), WeightSource::Reported(config)) = (&report.load, self.source)
            && config.source == LoadSource::Calls
        {
            let is_taken = self.known[slot.index()].load.report(load, &config, report.now);
            self.counts.taken += u64::from(is_taken);
            self.counts.ignored += u64::from(!is_taken);
        }
    }

    fn reported_weight(&self, slot: Slot, now: Duration) -> Option<ReportedWeight> {
        match self.source {
            WeightSource::Reported(config) => self.known.get(slot.index())?.load.in_use(&config, now),
            WeightSource::Static => None,
        }
    }

    fn load_reports(&self) -> LoadReportCounts {
        self.counts
    }
}
