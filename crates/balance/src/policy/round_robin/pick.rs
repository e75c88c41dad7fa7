//! The rotation: a cursor over the candidates, which parts them into served and unserved ones.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::call::Ask;
use crate::candidates::Candidates;
use crate::policy::{Picker, Verdict};

#[derive(Clone, Debug, Default)]
pub(crate) struct RoundRobin {
    /// Candidates before it were picked in this round, those from it on were not.
    cursor: usize,
}

impl Picker for RoundRobin {
    fn added(&mut self, candidates: &mut Candidates, position: usize, rng: &mut SmallRng) {
        candidates.swap(position, rng.random_range(self.cursor..=position));
    }

    fn removing(&mut self, candidates: &mut Candidates, position: usize) -> usize {
        if position >= self.cursor {
            // Leaving the unserved part: its last candidate, unserved too, fills the gap.
            return position;
        }
        // Leaving the served part: the last served one fills the gap, so that the gap moves to the border, where the
        // last candidate, which is unserved, may go.
        self.cursor -= 1;
        candidates.swap(position, self.cursor);
        self.cursor
    }

    fn pick(&mut self, candidates: &Candidates, _ask: &Ask, _rng: &mut SmallRng) -> Verdict {
        if self.cursor >= candidates.len() {
            self.cursor = 0;
        }
        let position = self.cursor;
        self.cursor += 1;
        Verdict::At(position)
    }
}
