//! The comparison, and drawing distinct candidates without allocating.

use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Choice, LeastRequestConfig, SampleSize};
use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::weighted_round_robin::WeightedRoundRobin;
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

/// How often another first is drawn in place of one that does not take part, as it warms up; then it does all the same.
const DRAWS_MAX: u32 = 4;

/// Room for a sample's positions.
type Sample = [usize; SampleSize::MAX as usize];

#[derive(Clone, Debug)]
pub(crate) struct LeastRequest {
    config: LeastRequestConfig,
    slow_start: Option<SlowStart>,
    /// Who is the first of a sample where weights differ; boxed, as its classes make it a hundred times as large as the rest.
    turns: Box<WeightedRoundRobin>,
    /// Whether all weigh the same; beside the turns, so that picks that need none do not wait for them.
    is_even: bool,
}

impl LeastRequest {
    pub(crate) fn new(config: LeastRequestConfig, slow_start: Option<SlowStart>) -> Self {
        Self { config, slow_start, turns: Box::default(), is_even: true }
    }

    /// The best of this many where weights differ or endpoints warm up.
    fn best_by_weight(
        &mut self,
        candidates: &Candidates,
        size: usize,
        now: Duration,
        rng: &mut SmallRng,
    ) -> usize {
        let first = self.draw_first(candidates, now, rng);
        let bias = self.config.active_request_bias.get();
        if bias == 0.0 {
            return first;
        }
        let slow_start = self.slow_start.as_ref();
        let mut contest = Contest::of(candidates, bias, first, rng);
        let mut enter = |position: usize, rng: &mut SmallRng| {
            if candidates.takes_part(position, slow_start, now, rng) {
                contest.enter(position, rng);
            }
        };
        if size < candidates.len() {
            let drawn = draw_distinct(candidates.len(), size, Some(first), rng);
            drawn[1..size].iter().for_each(|position| enter(*position, rng));
        } else {
            (0..size).filter(|position| *position != first).for_each(|position| enter(position, rng));
        }
        contest.winner()
    }

    /// The candidate whose turn it is, or that after it, if it does not take part.
    fn draw_first(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> usize {
        let mut draw = |rng: &mut SmallRng| {
            if self.is_even {
                return rng.random_range(0..candidates.len());
            }
            self.turns.next(candidates)
        };
        let mut first = draw(rng);
        for _ in 1..DRAWS_MAX {
            if candidates.takes_part(first, self.slow_start.as_ref(), now, rng) {
                break;
            }
            first = draw(rng);
        }
        first
    }
}

/// The comparison where weights differ, see the module above.
struct Contest<'a> {
    candidates: &'a Candidates,
    bias: f64,
    first: usize,
    best: usize,
    least: f64,
    /// Whether any that was looked at has a call.
    is_busy: bool,
}

impl<'a> Contest<'a> {
    fn of(candidates: &'a Candidates, bias: f64, first: usize, rng: &mut SmallRng) -> Self {
        let mut contest = Self { candidates, bias, first, best: first, least: f64::INFINITY, is_busy: false };
        contest.enter(first, rng);
        contest
    }

    fn enter(&mut self, position: usize, rng: &mut SmallRng) {
        let candidate = self.candidates.get(position);
        let calls = candidate.endpoint.in_flight();
        self.is_busy |= calls > 0;
        let load = (self.bias * f64::from(calls) + rng.random::<f64>()) / f64::from(candidate.weight);
        if load < self.least {
            (self.best, self.least) = (position, load);
        }
    }

    fn winner(&self) -> usize {
        if self.is_busy { self.best } else { self.first }
    }
}

impl Picker for LeastRequest {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        self.turns.reserve(slots, weights);
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        self.turns.added(candidates, position, rng);
        self.is_even = self.turns.is_even();
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        let position = self.turns.removing(candidates, position);
        self.is_even = self.turns.is_even();
        position
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        self.turns.reweighed(candidates, position, rng);
        self.is_even = self.turns.is_even();
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        let size = match self.config.choice {
            Choice::Sample(size) => (size.get() as usize).min(candidates.len()),
            Choice::FullScan => candidates.len(),
        };
        Verdict::At(if !self.is_even || self.slow_start.is_some() {
            self.best_by_weight(candidates, size, ask.now, rng)
        } else if size == candidates.len() {
            best_of_all(candidates, rng)
        } else if size == 2 {
            best_of_two(candidates, rng)
        } else {
            best_of_sample(candidates, size, rng)
        })
    }
}

fn calls(candidates: &Candidates, position: usize) -> u32 {
    candidates.get(position).endpoint.in_flight()
}

/// The common case, without a loop. Either order of the two is equally likely, so keeping the first on a tie is fair.
fn best_of_two(candidates: &Candidates, rng: &mut SmallRng) -> usize {
    let Some([one, other]) = two_distinct(candidates.len(), rng) else { return 0 };
    if calls(candidates, other) < calls(candidates, one) { other } else { one }
}

/// The first least loaded of a sample. The positions are all drawn before the first counter is read, so that the reads,
/// most of them cache misses when there are thousands of endpoints, overlap; and no step depends on which is less, as a wrong
/// guess of the processor would end that.
fn best_of_sample(candidates: &Candidates, size: usize, rng: &mut SmallRng) -> usize {
    let drawn = draw_distinct(candidates.len(), size, None, rng);
    let indexed = |(index, position): (u64, &usize)| (u64::from(calls(candidates, *position)) << 32) | index;
    let best = (0..).zip(&drawn[..size]).map(indexed).min().unwrap_or(0);
    drawn[(best & u64::from(u32::MAX)) as usize]
}

/// Draws `size` distinct positions below `len`, which is larger, the first of which may be given; those beyond `size` in the
/// answer mean nothing.
///
/// A position drawn before gives way to the next one not drawn, going round. That turns with the ring of positions, so
/// each is as likely to be in the sample as any other, and as likely to be its first: keeping the first on a tie is fair.
/// Unlike drawing until it fits, it ends after at most `size` steps.
fn draw_distinct(len: usize, size: usize, first: Option<usize>, rng: &mut SmallRng) -> Sample {
    let mut drawn = Sample::default();
    drawn[0] = first.unwrap_or_else(|| rng.random_range(0..len));
    for count in 1..size {
        let mut position = rng.random_range(0..len);
        while drawn[..count].contains(&position) {
            position = if position + 1 == len { 0 } else { position + 1 };
        }
        drawn[count] = position;
    }
    drawn
}

/// Looks at every candidate; of the k-th equal best, keeps it with probability 1 / k, which makes all equally likely
/// (reservoir sampling).
fn best_of_all(candidates: &Candidates, rng: &mut SmallRng) -> usize {
    let mut best = 0;
    let mut least = calls(candidates, 0);
    let mut equals = 1_u32;
    for position in 1..candidates.len() {
        let calls = calls(candidates, position);
        if calls < least {
            (best, least, equals) = (position, calls, 1);
        } else if calls == least {
            equals += 1;
            if rng.random_range(0..equals) == 0 {
                best = position;
            }
        }
    }
    best
}
