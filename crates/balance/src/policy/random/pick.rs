//! One draw.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::{Picker, Verdict};

#[derive(Clone, Debug)]
pub(crate) struct Random;

impl Picker for Random {
    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, rng: &mut SmallRng) -> Verdict {
        Verdict::At(rng.random_range(0..candidates.len()))
    }
}
