//! The comparison, and drawing distinct candidates without allocating.

use core::cmp::Ordering;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Choice, SampleSize};
use crate::call::Ask;
use crate::candidates::{Candidate, Candidates};
use crate::policy::{Picker, Verdict};

#[derive(Debug)]
pub(crate) struct LeastRequest {
    choice: Choice,
}

impl LeastRequest {
    pub(crate) fn new(choice: Choice) -> Self {
        Self { choice }
    }
}

impl Picker for LeastRequest {
    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, rng: &mut SmallRng) -> Verdict {
        Verdict::At(match self.choice {
            Choice::Sample(size) if (size.get() as usize) < candidates.len() => {
                if size.get() == 2 {
                    best_of_two(candidates, rng)
                } else {
                    best_of_sample(candidates, size, rng)
                }
            }
            Choice::Sample(_) | Choice::FullScan => best_of_all(candidates, rng),
        })
    }
}

/// The load on a candidate, relative to its weight; compared without division.
#[derive(Clone, Copy)]
struct Load {
    /// Calls in flight once this one is added.
    calls: u64,
    weight: u64,
}

impl Load {
    fn of(candidate: &Candidate) -> Self {
        Self { calls: u64::from(candidate.endpoint.in_flight()) + 1, weight: u64::from(candidate.weight) }
    }

    /// `self.calls / self.weight` compared with the other's. Both factors are at most 2^32: no overflow.
    fn compare(self, other: Self) -> Ordering {
        (self.calls * other.weight).cmp(&(other.calls * self.weight))
    }

    fn is_less_than(self, other: Self) -> bool {
        self.compare(other).is_lt()
    }
}

/// The common case, without a loop. Either order of the two is equally likely, so keeping the first on a tie is fair.
fn best_of_two(candidates: &Candidates, rng: &mut SmallRng) -> usize {
    let first = rng.random_range(0..candidates.len());
    let mut second = rng.random_range(0..candidates.len() - 1);
    if second >= first {
        second += 1;
    }
    let [one, other] = [first, second].map(|position| Load::of(candidates.get(position)));
    if other.is_less_than(one) { second } else { first }
}

/// The first least loaded of a sample. The positions are all drawn before the first counter is read, so that the reads,
/// most of them cache misses when there are thousands of endpoints, overlap.
fn best_of_sample(candidates: &Candidates, size: SampleSize, rng: &mut SmallRng) -> usize {
    let size = size.get() as usize;
    let positions = draw_distinct(candidates.len(), size, rng);
    let mut loads = [Load { calls: 0, weight: 1 }; SampleSize::MAX as usize];
    for (load, position) in loads.iter_mut().zip(&positions[..size]) {
        *load = Load::of(candidates.get(*position));
    }
    let mut best = 0;
    for index in 1..size {
        if loads[index].is_less_than(loads[best]) {
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
fn best_of_all(candidates: &Candidates, rng: &mut SmallRng) -> usize {
    let mut best = 0;
    let mut least = Load::of(candidates.get(0));
    let mut equals = 1_u32;
    for (position, candidate) in candidates.iter().enumerate().skip(1) {
        let load = Load::of(candidate);
        match load.compare(least) {
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
