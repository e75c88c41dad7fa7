//! The comparison, and drawing distinct candidates without allocating.

use core::hint::select_unpredictable;
use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::many::Many;
use super::{Choice, LeastRequestConfig, SampleSize};
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::Candidates;
use crate::endpoint::Endpoint;
use crate::policy::turns::Turns;
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

/// How often another first is drawn in place of one that does not take part, as it warms up; then it does all the same.
const DRAWS_MAX: u32 = 4;

/// Up to so many candidates, a full scan looks at each of them: 0.1 to 0.4 us.
pub(super) const SCANNED_MAX: usize = 128;

/// As [`SCANNED_MAX`]; tests lower it.
fn scanned_max() -> usize {
    #[cfg(test)]
    return super::tests::SCANNED_MAX.get();
    #[cfg(not(test))]
    SCANNED_MAX
}

/// Room for a sample's positions.
type Sample = [u32; SampleSize::MAX as usize];

#[derive(Clone, Debug)]
pub(crate) struct LeastRequest {
    config: LeastRequestConfig,
    slow_start: Option<SlowStart>,
    /// Who is the first of a sample where weights differ.
    turns: Turns,
    /// For a full scan of a group with more than [`SCANNED_MAX`] members: what is asked instead. Boxed, as it is large.
    many: Option<Box<Many>>,
}

impl LeastRequest {
    pub(crate) fn new(config: LeastRequestConfig, slow_start: Option<SlowStart>) -> Self {
        Self { config, slow_start, turns: Turns::default(), many: None }
    }

    /// The least loaded of more than [`SCANNED_MAX`], of a full scan.
    #[inline(never)]
    fn least_of_many(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> usize {
        const MADE: &str = "a group with so many members has an order";
        if self.turns.is_even() && self.slow_start.is_none() {
            let many = self.many.as_mut().expect(MADE);
            return many.least_but(candidates, &[]).expect("there is a candidate");
        }
        let first = see(candidates, self.draw_first(candidates, now, rng));
        self.turns.look_ahead();
        let many = self.many.as_mut().expect(MADE);
        many.look_around(candidates);
        if first.calls == 0 {
            return first.position;
        }
        let contest = Contest::of(&first, self.config.active_request_bias.get(), rng);
        let slow_start = self.slow_start.as_ref();
        let takes_part = |position, rng: &mut SmallRng| candidates.takes_part(position, slow_start, now, rng);
        many.best_of_lowest(candidates, contest, rng, takes_part)
    }

    /// The best of this many where weights differ or endpoints warm up.
    fn best_by_weight(
        &mut self,
        candidates: &Candidates,
        size: usize,
        now: Duration,
        rng: &mut SmallRng,
    ) -> usize {
        if size < candidates.len() {
            return self.best_of_sample_by_weight(candidates, size, now, rng);
        }
        let first = see(candidates, self.draw_first(candidates, now, rng));
        let mut contest = Contest::of(&first, self.config.active_request_bias.get(), rng);
        for position in (0..size).filter(|position| *position != first.position) {
            if candidates.takes_part(position, self.slow_start.as_ref(), now, rng) {
                contest.enter(&see(candidates, position), rng);
            }
        }
        contest.winner()
    }

    /// As [`Self::best_by_weight`], of a sample. All are read before any is reckoned with, so that the reads overlap.
    fn best_of_sample_by_weight(
        &mut self,
        candidates: &Candidates,
        size: usize,
        now: Duration,
        rng: &mut SmallRng,
    ) -> usize {
        let last = candidates.len() - 1;
        let others = draw_distinct(last, size - 1, rng);
        let mut seen = [Seen::default(); SampleSize::MAX as usize - 1];
        for (seen, position) in seen[..size - 1].iter_mut().zip(others) {
            *seen = see(candidates, position as usize);
        }
        let first = see(candidates, self.draw_first(candidates, now, rng));
        self.turns.look_ahead();
        let mut contest = Contest::of(&first, self.config.active_request_bias.get(), rng);
        for other in &mut seen[..size - 1] {
            // The last was not drawn, and stands in for the first: all but the first are equally likely.
            if other.position == first.position {
                *other = see(candidates, last);
            }
            if candidates.takes_part(other.position, self.slow_start.as_ref(), now, rng) {
                contest.enter(other, rng);
            }
        }
        contest.winner()
    }

    /// The candidate whose turn it is, or that after it, if it does not take part.
    fn draw_first(&mut self, candidates: &Candidates, now: Duration, rng: &mut SmallRng) -> usize {
        let mut draw = |rng: &mut SmallRng| {
            if self.turns.is_even() {
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

/// What there is of a candidate.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) position: usize,
    pub(super) calls: u32,
    pub(super) weight: u32,
}

pub(super) fn see(candidates: &Candidates, position: usize) -> Seen {
    let candidate = candidates.get(position);
    Seen { position, calls: candidate.endpoint.in_flight(), weight: candidate.weight }
}

/// The comparison where weights differ, see the module above.
pub(super) struct Contest {
    bias: f64,
    first: usize,
    best: usize,
    least: f64,
    /// Whether any that was looked at has a call.
    is_busy: bool,
}

impl Contest {
    pub(super) fn of(first: &Seen, bias: f64, rng: &mut SmallRng) -> Self {
        let position = first.position;
        let mut contest =
            Self { bias, first: position, best: position, least: f64::INFINITY, is_busy: false };
        contest.enter(first, rng);
        contest
    }

    pub(super) fn enter(&mut self, seen: &Seen, rng: &mut SmallRng) {
        self.enter_for(seen, 1, rng);
    }

    /// Whether it is the one that was in from the beginning.
    pub(super) fn is_first(&self, position: usize) -> bool {
        self.first == position
    }

    /// Lets one stand for so many that are alike: its draw is, on average, the least of theirs.
    pub(super) fn enter_for(&mut self, seen: &Seen, alike: u32, rng: &mut SmallRng) {
        self.is_busy |= seen.calls > 0;
        let drawn = rng.random::<f64>() * 2.0 / (f64::from(alike) + 1.0);
        let load = (self.bias * f64::from(seen.calls) + drawn) / f64::from(seen.weight);
        // No branch, as nobody can guess which is less.
        self.best = select_unpredictable(load < self.least, seen.position, self.best);
        self.least = self.least.min(load);
    }

    pub(super) fn winner(&self) -> usize {
        // With no bias calls follow the weights alone.
        select_unpredictable(self.is_busy && self.bias > 0.0, self.best, self.first)
    }
}

impl Picker for LeastRequest {
    fn reserve(&mut self, slots: usize, weights: &mut dyn Iterator<Item = u32>) {
        let mut members = 0;
        self.turns.reserve(slots, &mut weights.inspect(|_| members += 1));
        if self.config.choice != Choice::FullScan || members <= scanned_max() {
            self.many = None;
            return;
        }
        let bias = self.config.active_request_bias.get();
        self.many.get_or_insert_with(|| Box::new(Many::new(bias))).reserve(slots);
    }

    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        self.turns.added(candidates, position, rng);
        if let Some(many) = &mut self.many {
            many.added(candidates, position, rng);
        }
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        if let Some(many) = &mut self.many {
            many.removing(candidates, position);
        }
        self.turns.removing(candidates, position)
    }

    fn reweighed(&mut self, candidates: &Candidates, position: usize, rng: &mut SmallRng) {
        self.turns.reweighed(candidates, position, rng);
        if let Some(many) = &mut self.many {
            many.reweighed(candidates, position);
        }
    }

    fn pick_excluding(
        &mut self,
        candidates: &Candidates,
        _ask: &Ask,
        tried: &[Slot],
        _rng: &mut SmallRng,
    ) -> Option<Verdict> {
        // Where weights differ, or endpoints warm up, the order says who is asked first, not who gets the call.
        let is_plain = self.turns.is_even() && self.slow_start.is_none();
        let many = self.many.as_mut().filter(|_| is_plain && candidates.len() > scanned_max())?;
        many.least_but(candidates, tried).map(Verdict::At)
    }

    fn started(&mut self, slot: Slot, endpoint: &Endpoint, _now: Duration) {
        if let Some(many) = &mut self.many {
            many.note_calls(slot, endpoint.in_flight());
        }
    }

    fn finished(&mut self, slot: Slot, endpoint: &Endpoint, _report: &CallReport) {
        if let Some(many) = &mut self.many {
            many.note_calls(slot, endpoint.in_flight());
        }
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        let size = match self.config.choice {
            Choice::Sample(size) => (size.get() as usize).min(candidates.len()),
            Choice::FullScan if candidates.len() > scanned_max() => {
                return Verdict::At(self.least_of_many(candidates, ask.now, rng));
            }
            Choice::FullScan => candidates.len(),
        };
        Verdict::At(if !self.turns.is_even() || self.slow_start.is_some() {
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
    let drawn = draw_distinct(candidates.len(), size, rng);
    let indexed =
        |(index, position): (u64, &u32)| (u64::from(calls(candidates, *position as usize)) << 32) | index;
    let best = (0..).zip(&drawn[..size]).map(indexed).min().unwrap_or(0);
    drawn[(best & u64::from(u32::MAX)) as usize] as usize
}

/// Draws `size` distinct positions below `len`, which is not smaller; those beyond `size` in the answer mean nothing.
///
/// A position drawn before gives way to the next one not drawn, going round. That turns with the ring of positions, so
/// each is as likely to be in the sample as any other, and as likely to be its first: keeping the first on a tie is fair.
/// Unlike drawing until it fits, it ends after at most `size` steps.
fn draw_distinct(len: usize, size: usize, rng: &mut SmallRng) -> Sample {
    let len = u32::try_from(len).expect("slots are numbered by u32");
    let mut drawn = Sample::default();
    for count in 0..size {
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
