//! The pick: the choice was made when connecting, in [`Sequence`](super::Sequence).

use rand::rngs::SmallRng;

use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::{Picker, Verdict};

#[derive(Clone, Debug)]
pub(crate) struct PickFirst;

impl Picker for PickFirst {
    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, _rng: &mut SmallRng) -> Verdict {
        debug_assert_eq!(candidates.len(), 1, "pick_first selects one endpoint");
        Verdict::At(0)
    }
}
