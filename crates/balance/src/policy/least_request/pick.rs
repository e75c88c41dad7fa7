//! The comparison, and drawing distinct candidates without allocating.

use core::cmp::Ordering;
use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Choice, SampleSize};
use crate::call::Ask;
use crate::candidates::{Candidate, Candidates};
use crate::policy::{Picker, Verdict, two_distinct};
use crate::slow_start::SlowStart;

#[derive(Clone, Debug)]
pub(crate) struct LeastRequest {
    choice: Choice,
    slow_start: Option<SlowStart>,
}

impl LeastRequest {
    pub(crate) fn new(choice: Choice, slow_start: Option<SlowStart>) -> Self {
        Self { choice, slow_start }
    }
}

impl Picker for LeastRequest {
    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        let look = Look { candidates, slow_start: self.slow_start.as_ref(), now: ask.now };
        Verdict::At(match self.choice {
            Choice::Sample(size) if (size.get() as usize) < candidates.len() => {
                if size.get() == 2 {
                    best_of_two(look, rng)
                } else {
                    best_of_sample(look, size, rng)
                }
            }
            Choice::Sample(_) | Choice::FullScan => best_of_all(look, rng),
        })
    }
}

/// The candidates as they are now.
#[derive(Clone, Copy)]
struct Look<'a> {
    candidates: &'a Candidates,
    slow_start: Option<&'a SlowStart>,
    now: Duration,
}

impl Look<'_> {
    /// The load on a candidate once this call is added, relative to its weight. Equal quotients of whole numbers are equal
    /// as `f64` too, as division rounds correctly: a tie is a tie.
    fn load(self, position: usize) -> f64 {
        let candidate: &Candidate = self.candidates.get(position);
        let calls = f64::from(candidate.endpoint.in_flight()) + 1.0;
        calls / candidate.warm_weight(self.slow_start, self.now)
    }
}

/// The common case, without a loop. Either order of the two is equally likely, so keeping the first on a tie is fair.
fn best_of_two(look: Look<'_>, rng: &mut SmallRng) -> usize {
    let Some([one, other]) = two_distinct(look.candidates.len(), rng) else { return 0 };
    if look.load(other) < look.load(one) { other } else { one }
}

/// The first least loaded of a sample. The positions are all drawn before the first counter is read, so that the reads,
/// most of them cache misses when there are thousands of endpoints, overlap.
fn best_of_sample(look: Look<'_>, size: SampleSize, rng: &mut SmallRng) -> usize {
    let size = size.get() as usize;
    let positions = draw_distinct(look.candidates.len(), size, rng);
    let mut loads = [0.0; SampleSize::MAX as usize];
    for (load, position) in loads.iter_mut().zip(&positions[..size]) {
        *load = look.load(*position);
    }
    let mut best = 0;
    for index in 1..size {
        if loads[index] < loads[best] {
            best = index;
        }
    }
    positions[best]
}

/// Draws `size` distinct positions below `len`, which is larger; those beyond `size` in the answer mean nothing.
///
/// A position drawn before gives way to the next one not drawn, going round. That turns with the ring of positions, so
/// each is as likely to be in the sample as any other, and as likely to be its first: keeping the first on a tie is fair.
/// Unlike drawing until it fits, it ends after at most `size` steps.
fn draw_distinct(len: usize, size: usize, rng: &mut SmallRng) -> [usize; SampleSize::MAX as usize] {
    let mut drawn = [0; SampleSize::MAX as usize];
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
fn best_of_all(look: Look<'_>, rng: &mut SmallRng) -> usize {
    let mut best = 0;
    let mut least = look.load(0);
    let mut equals = 1_u32;
    for position in 1..look.candidates.len() {
        let load = look.load(position);
        match load.total_cmp(&least) {
            Ordering::Less => (best, least, equals) = (position, load, 1),
            Ordering::Equal => {
                equals += 1;
                if rng.random_range(0..equals) == 0 {
                    best = position;
                }
            }
            Ordering::Greater => {}
        }
    }
    best
}
