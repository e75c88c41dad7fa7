//! Heeding what others found out: active checks, the outlier detection of all workers, the control plane.
//!
//! They write to the endpoint, which all workers share, and tell no worker. A pick that meets a withheld endpoint notices by
//! itself; but not that one is in service again, nor that an endpoint counts otherwise in the health of its group. So whatever
//! changes there is counted for the whole cluster, and a pick that finds another count than the last looks at all endpoints
//! first: keys meet their own endpoint with the first call, and priorities fail over with it.
//!
//! To look at all costs O(n). Where thousands of endpoints come and go at once, that must not be done for each of them: of more
//! than [`FEW`], after a look at n endpoints there is no other for `n` times [`LOOK_PERIOD`]. So it takes about a fiftieth of a
//! worker's time at most (180 to 220 us for 10,000, by the example `pick_cost`), and of as many a change is seen a hundredth of a
//! second late.

use core::sync::atomic::Ordering::Acquire;
use core::time::Duration;

use super::{Balancer, Slot};
use crate::health::{Class, Eligibility};

/// So many endpoints are looked at each time: in some 1.4 us at 20 ns each.
const FEW: u32 = 64;

/// Between two looks at more, for each endpoint that is looked at.
const LOOK_PERIOD: Duration = Duration::from_micros(1);

impl Balancer {
    /// Takes over what changed of the endpoints' health since the last time, unless that is a moment ago. Picks do so; for those
    /// who ask what the balancer knows. O(1) while nothing changed, else O(n).
    #[inline]
    pub fn heed(&mut self, now: Duration) {
        // Acquires: who sees the new count sees what it counts.
        let changes = self.changes.load(Acquire);
        if changes != self.heeded && now >= self.next_look_at {
            self.look_at_all(now);
            self.heeded = changes;
        }
    }

    /// Has the next pick look at all endpoints.
    pub(super) fn look_again(&mut self) {
        self.heeded = self.changes.load(Acquire).wrapping_sub(1);
    }

    #[cold]
    fn look_at_all(&mut self, now: Duration) {
        let number = u32::try_from(self.members.len()).expect("slots are numbered by u32");
        let pause = if number > FEW { LOOK_PERIOD * number } else { Duration::ZERO };
        self.next_look_at = now.saturating_add(pause);
        let panics = self.loads.panics();
        self.settle_all();
        if self.loads.panics() != panics {
            // Others may be picked now. Whether there is a panic follows from what was counted, and that stays.
            self.settle_all();
        }
    }

    fn settle_all(&mut self) {
        for index in 0..self.members.len() {
            // pick_first selects the first of its order that fits.
            let slot = self.sequence.as_ref().map_or(self.members[index], |sequence| sequence.order()[index]);
            if self.is_otherwise(slot) {
                self.settle_alone(slot);
            }
        }
        self.respread();
    }

    /// Whether an endpoint counts, or stands, otherwise than it should.
    fn is_otherwise(&self, slot: Slot) -> bool {
        let entry = self.slots.get(slot);
        if entry.class != Some(Class::of(entry.standing(), &entry.endpoint)) {
            return true;
        }
        let stands = if self.groups[self.slots.group(slot)].candidates.position(slot).is_some() {
            Eligibility::Candidate
        } else if self.last_resort.position(slot).is_some() {
            Eligibility::LastResort
        } else {
            Eligibility::Out
        };
        stands != Eligibility::of(entry.connectivity, &entry.endpoint, self.is_panic_for(slot))
    }
}
