//! The pick: the choice was made when connecting, in [`Sequence`](super::Sequence).

use rand::rngs::SmallRng;

use crate::candidates::Candidates;
use crate::policy::Picker;

#[derive(Debug)]
pub(crate) struct PickFirst;

impl Picker for PickFirst {
    fn pick(&mut self, candidates: &Candidates, _rng: &mut SmallRng) -> usize {
        debug_assert_eq!(candidates.len(), 1, "pick_first selects one endpoint");
        0
    }
}
