//! Candidates ordered by their load, so that the least loaded of thousands is found without looking at all: a bucket
//! queue (Dial 1969).
//!
//! A bucket holds candidates whose loads are alike: with equal weights, those with as many calls up to 16, and above that to a
//! sixteenth, as in an HDR histogram. Within a bucket the one that has waited longest comes first. To move a candidate to
//! another bucket, or behind the others of its own, is O(1), and so is finding the first.
//!
//! A candidate's load is what it is compared by on average: `(bias * calls + 1/2) / weight`, with the calls that it had when somebody
//! last looked.
//!
//! Invariants: each member is once in the ring of its level's bucket; `firsts[l]` is one of bucket `l`, which has
//! `counts[l]`, and bit `l` of `occupied` is set, or there is none, and it is not.

use crate::balancer::Slot;

/// Bits of a load's fraction that tell buckets apart.
const PRECISION: u32 = 4;
/// The exponents of two of the loads that are told apart, as a double has them (IEEE 754, with 1023 for 2^0), from half a call for
/// the largest weight on. Beyond the last are a million calls for a weight of 1, a bias of 100 included.
const EXPONENTS: core::ops::Range<u64> = 1023 - 33..1023 + 27;
const LEVELS: usize = ((EXPONENTS.end - EXPONENTS.start) << PRECISION) as usize;
const WORDS: usize = LEVELS.div_ceil(u64::BITS as usize);

#[derive(Clone, Copy, Debug)]
struct Member {
    /// Its neighbours in the ring; itself, if it is alone.
    previous: Slot,
    next: Slot,
    /// As last seen.
    calls: u32,
    weight: u32,
    level: u16,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// What a call counts.
    bias: f64,
    len: usize,
    /// By slot.
    members: Vec<Option<Member>>,
    /// By level: who has waited longest.
    firsts: [Option<Slot>; LEVELS],
    /// By level: how many there are.
    counts: [u32; LEVELS],
    /// By level: whether there is anyone.
    occupied: [u64; WORDS],
}

impl Buckets {
    pub(super) fn new(bias: f64) -> Self {
        Self {
            bias,
            len: 0,
            members: Vec::new(),
            firsts: [None; LEVELS],
            counts: [0; LEVELS],
            occupied: [0; WORDS],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes room for these slots.
    pub(super) fn reserve(&mut self, slots: usize) {
        if self.members.len() < slots {
            self.members.resize(slots, None);
        }
    }

    /// Takes a slot in, unless it is. It waits behind this other one, if that is in the same bucket, or else behind all; before all
    /// if it is the other one itself.
    pub(super) fn insert(&mut self, slot: Slot, calls: u32, weight: u32, other: Slot) {
        if self.get(slot).is_some() {
            return;
        }
        let level = self.level_of(calls, weight);
        let next = self.get(other).filter(|other| other.level == level).map(|other| other.next);
        self.link(slot, Member { previous: slot, next: slot, calls, weight, level }, next);
        if other == slot {
            self.firsts[usize::from(level)] = Some(slot);
        }
    }

    /// Takes a slot out, if it is in.
    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(member) = self.get(slot) {
            self.unlink(slot, &member);
        }
    }

    /// Notes how many calls a member has now; whether that takes it to another bucket. Nothing for a slot that is not in.
    pub(super) fn note_calls(&mut self, slot: Slot, calls: u32) -> bool {
        let Some(Some(member)) = self.members.get_mut(slot.index()) else { return false };
        if member.calls == calls {
            return false;
        }
        member.calls = calls;
        let member = *member;
        self.relevel(slot, &member)
    }

    /// Notes a member's new weight.
    pub(super) fn note_weight(&mut self, slot: Slot, weight: u32) {
        let Some(Some(member)) = self.members.get_mut(slot.index()) else { return };
        member.weight = weight;
        let member = *member;
        self.relevel(slot, &member);
    }

    fn relevel(&mut self, slot: Slot, member: &Member) -> bool {
        let level = self.level_of(member.calls, member.weight);
        if level == member.level {
            return false;
        }
        self.unlink(slot, member);
        self.link(slot, Member { level, ..*member }, None);
        true
    }

    /// Lets a member, and those of its bucket that come before it, wait behind all others of the bucket.
    pub(super) fn pass_over(&mut self, slot: Slot) {
        if let Some(member) = self.get(slot) {
            self.firsts[usize::from(member.level)] = Some(member.next);
        }
    }

    /// The one that has waited longest of the least loaded; `None` if there is no member.
    pub(super) fn first(&self) -> Option<Slot> {
        self.first_from(0)
    }

    /// The next one: of the same bucket, or else the first of the next bucket.
    pub(super) fn after(&self, slot: Slot) -> Option<Slot> {
        let member = self.get(slot)?;
        let level = usize::from(member.level);
        if self.firsts[level] == Some(member.next) { self.first_from(level + 1) } else { Some(member.next) }
    }

    /// The first of the bucket after a member's.
    pub(super) fn next_bucket(&self, slot: Slot) -> Option<Slot> {
        self.first_from(usize::from(self.get(slot)?.level) + 1)
    }

    /// How many are in a member's bucket.
    pub(super) fn alike(&self, slot: Slot) -> u32 {
        self.get(slot).map_or(0, |member| self.counts[usize::from(member.level)])
    }

    fn first_from(&self, level: usize) -> Option<Slot> {
        let (word, bit) = (level / u64::BITS as usize, level % u64::BITS as usize);
        let rest = self.occupied.get(word)? & (u64::MAX << bit);
        let words = core::iter::once(rest).chain(self.occupied[word + 1..].iter().copied());
        let (word, bits) = (word..).zip(words).find(|(_, bits)| *bits != 0)?;
        self.firsts[word * u64::BITS as usize + bits.trailing_zeros() as usize]
    }

    fn get(&self, slot: Slot) -> Option<Member> {
        *self.members.get(slot.index())?
    }

    fn at(&mut self, slot: Slot) -> &mut Member {
        self.members[slot.index()].as_mut().expect("neighbours in a ring are members")
    }

    /// Puts a slot into its level's ring before `next`, or, without one, last.
    fn link(&mut self, slot: Slot, member: Member, next: Option<Slot>) {
        let level = usize::from(member.level);
        let (previous, next) = match next.or(self.firsts[level]) {
            Some(next) => (core::mem::replace(&mut self.at(next).previous, slot), next),
            None => {
                self.firsts[level] = Some(slot);
                self.occupied[level / u64::BITS as usize] |= 1 << (level % u64::BITS as usize);
                (slot, slot)
            }
        };
        self.members[slot.index()] = Some(Member { previous, next, ..member });
        self.counts[level] += 1;
        self.len += 1;
        self.at(previous).next = slot;
    }

    fn unlink(&mut self, slot: Slot, member: &Member) {
        let level = usize::from(member.level);
        self.members[slot.index()] = None;
        self.counts[level] -= 1;
        self.len -= 1;
        if member.next == slot {
            self.firsts[level] = None;
            self.occupied[level / u64::BITS as usize] &= !(1 << (level % u64::BITS as usize));
            return;
        }
        if self.firsts[level] == Some(slot) {
            self.firsts[level] = Some(member.next);
        }
        self.at(member.previous).next = member.next;
        self.at(member.next).previous = member.previous;
    }

    fn level_of(&self, calls: u32, weight: u32) -> u16 {
        let load = (self.bias * f64::from(calls) + 0.5) / f64::from(weight.max(1));
        // The exponent and the first bits of the fraction: positive doubles are in the order of their bits.
        let bits = load.to_bits() >> (f64::MANTISSA_DIGITS - 1 - PRECISION);
        let level = bits.saturating_sub(EXPONENTS.start << PRECISION).min(LEVELS as u64 - 1);
        u16::try_from(level).expect("there are 960 levels")
    }
}
