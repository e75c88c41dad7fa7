//! Timers of a worker: a hierarchical wheel that arms and disarms in constant time.
//!
//! Each call arms a timer and nearly all disarm it before it fires, so both must cost next to nothing and leave
//! nothing behind; a heap with lazy removal would keep millions of dead entries at 200 000 calls a second with a
//! deadline of 5 s. Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7: six levels
//! of 64 slots, the lowest of one millisecond, so the wheel spans 2^36 ms (two years); later deadlines wait in the
//! last slot and are placed again when it comes up.
//!
//! Rule: a timer never fires early, and at most one millisecond late by the wheel's own doing.

#[cfg(test)]
mod tests;

use core::time::Duration;

const LEVELS: usize = 6;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = 6;
const NONE: u32 = u32::MAX;
const LONGEST_TICKS: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// A tick is a millisecond.
const NANOS_PER_TICK: u32 = 1_000_000;
/// The tick of the end of time: sums with it do not overflow.
const TICKS_MAX: u64 = u64::MAX / 2;

/// Names an armed timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerId(u32);

#[derive(Clone, Copy, Debug)]
struct Node<K> {
    key: K,
    due: u64,
    next: u32,
    previous: u32,
    /// Level x 64 + slot, or [`NONE`] for a node on the free list.
    place: u32,
}

/// A timer wheel whose timers carry a key of type `K`. Memory: one node for each armed timer, reused.
#[derive(Debug)]
pub struct Wheel<K> {
    heads: [[u32; SLOTS]; LEVELS],
    occupied: [u64; LEVELS],
    nodes: Vec<Node<K>>,
    free: u32,
    armed: usize,
    /// The first millisecond that has not been processed entirely.
    next: u64,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel that starts at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            heads: [[NONE; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            nodes: Vec::new(),
            free: NONE,
            armed: 0,
            next: floor_ticks(now) + 1,
        }
    }

    /// Arms a timer that fires at `deadline`, or with the next [`Wheel::expire`] if that has passed.
    pub fn arm(&mut self, deadline: Duration, key: K) -> TimerId {
        let due = ceil_ticks(deadline).max(self.next);
        let node = Node { key, due, next: NONE, previous: NONE, place: NONE };
        let index = if self.free == NONE {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let index = self.free;
            self.free = self.nodes[index as usize].next;
            self.nodes[index as usize] = node;
            index
        };
        self.armed += 1;
        self.link(index);
        TimerId(index)
    }

    /// Disarms a timer. `timer` must be armed: it is forgotten by its owner when it fires.
    pub fn disarm(&mut self, timer: TimerId) {
        debug_assert!(self.nodes[timer.0 as usize].place != NONE, "a timer is disarmed once");
        self.unlink(timer.0);
        self.recycle(timer.0);
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// When [`Wheel::expire`] should be called next. It may have nothing to fire then: timers far away are placed
    /// again on the way.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.next_slot().map(|(tick, _)| Duration::from_millis(tick))
    }

    /// Fires one timer that is due at `now` and returns its key; to be called until it returns `None`.
    pub fn expire(&mut self, now: Duration) -> Option<K> {
        let target = floor_ticks(now);
        while let Some((tick, level)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.next = tick;
            let slot = slot_of(tick, level);
            if level > 0 {
                self.cascade(level, slot);
                continue;
            }
            let index = self.heads[0][slot];
            let key = self.nodes[index as usize].key;
            self.unlink(index);
            self.recycle(index);
            return Some(key);
        }
        self.next = self.next.max(target + 1);
        None
    }

    /// The tick at which the next occupied slot begins, and its level: the highest if several begin then, since it
    /// must be cascaded before lower ones fire.
    fn next_slot(&self) -> Option<(u64, usize)> {
        let slots = (0..LEVELS).filter_map(|level| self.next_tick_of(level).map(|tick| (tick, level)));
        slots.min_by_key(|&(tick, level)| (tick, LEVELS - level))
    }

    fn next_tick_of(&self, level: usize) -> Option<u64> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        // The slot that began before `next` was cascaded then; what stands in it now is a whole turn away.
        let from = self.next.div_ceil(1 << shift);
        let turn = (from % SLOTS as u64) as u32;
        let ahead = self.occupied[level].rotate_right(turn).trailing_zeros();
        Some((from + u64::from(ahead)) << shift)
    }

    fn cascade(&mut self, level: usize, slot: usize) {
        let mut index = self.heads[level][slot];
        self.heads[level][slot] = NONE;
        self.occupied[level] &= !(1 << slot);
        while index != NONE {
            let next = self.nodes[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    fn link(&mut self, index: u32) {
        let due = self.nodes[index as usize].due.min(self.next + LONGEST_TICKS);
        let level = level_for(self.next, due);
        let slot = slot_of(due, level);
        let head = self.heads[level][slot];
        let node = &mut self.nodes[index as usize];
        node.previous = NONE;
        node.next = head;
        node.place = (level * SLOTS + slot) as u32;
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, previous, place, .. } = self.nodes[index as usize];
        let (level, slot) = (place as usize / SLOTS, place as usize % SLOTS);
        if previous == NONE {
            self.heads[level][slot] = next;
            if next == NONE {
                self.occupied[level] &= !(1 << slot);
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
    }

    fn recycle(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.place = NONE;
        node.next = self.free;
        self.free = index;
        self.armed -= 1;
    }
}

/// The level on which `due` differs from `next`: the highest group of six bits in which they do.
fn level_for(next: u64, due: u64) -> usize {
    let differs = (next ^ due) | (SLOTS as u64 - 1);
    let highest = u64::BITS - 1 - differs.leading_zeros();
    ((highest / SLOT_BITS) as usize).min(LEVELS - 1)
}

fn slot_of(tick: u64, level: usize) -> usize {
    ((tick >> (SLOT_BITS * level as u32)) % SLOTS as u64) as usize
}

fn floor_ticks(at: Duration) -> u64 {
    ticks(at.as_secs(), at.subsec_millis())
}

fn ceil_ticks(at: Duration) -> u64 {
    ticks(at.as_secs(), at.subsec_nanos().div_ceil(NANOS_PER_TICK))
}

/// Not by way of [`Duration::as_nanos`], since a division of 128 bits costs more than all else that a timer takes.
fn ticks(secs: u64, millis: u32) -> u64 {
    let whole = secs.checked_mul(1_000).and_then(|ticks| ticks.checked_add(u64::from(millis)));
    whole.unwrap_or(TICKS_MAX).min(TICKS_MAX)
}
