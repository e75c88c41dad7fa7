//! One draw.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::candidates::Candidates;
use crate::policy::Picker;

#[derive(Debug)]
pub(crate) struct Random;

impl Picker for Random {
    fn pick(&mut self, candidates: &Candidates, rng: &mut SmallRng) -> usize {
        rng.random_range(0..candidates.len())
    }
}
