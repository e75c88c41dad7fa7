//! The pick: the walk, rendezvous, and the jumps to where there is room.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Affinity, BoundedLoad, Part, TableKind};
use crate::balancer::Slot;
use crate::call::{Ask, CallReport};
use crate::candidates::{Candidate, Candidates, Presence};
use crate::endpoint::{Endpoint, EndpointSet};
use crate::hash::mix;
use crate::policy::{Picker, Verdict};

/// Entries that a walk looks at before it gives way to rendezvous. With a share r of endpoints ready, (1 - r)^64 of the
/// walks end so, and then take r * n steps: at most 57 on average for 10,000 endpoints, when one in 65 is ready.
pub(super) const WALK_MAX: usize = 64;

/// Jumps in search of room before all candidates are looked at. With the default bound, fewer than one call in a million
/// comes to that even while as many endpoints are full as can be: 0.8^64.
const JUMPS_MAX: u64 = 64;

/// One owner of entries: all that a pick needs of it, together, so that at 10,000 endpoints it waits for memory once.
#[derive(Clone, Debug)]
struct Owner {
    endpoint: Arc<Endpoint>,
    slot: Slot,
    weight: u32,
}

/// The picker of ring_hash and maglev.
#[derive(Debug)]
pub(crate) struct Consistent {
    kind: TableKind,
    affinity: Affinity,
    /// What the group that is chosen from has of the set's table.
    part: Arc<Part>,
    /// By owner in it.
    owners: Vec<Owner>,
    /// Calls in flight at the set's endpoints, of all balancers that bound the load.
    calls: Arc<AtomicU64>,
    /// Those of them that this balancer began.
    own_calls: u64,
}

impl Consistent {
    pub(crate) fn new(kind: TableKind, affinity: Affinity) -> Self {
        Self { kind, affinity, part: Arc::default(), owners: Vec::new(), calls: Arc::default(), own_calls: 0 }
    }

    fn bound(&self) -> Option<BoundedLoad> {
        match self.affinity {
            Affinity::Bounded(bound) => Some(bound),
            Affinity::Rehash | Affinity::Fail => None,
        }
    }

    /// `None` when every candidate was tried.
    fn choose(
        &self,
        candidates: &Candidates,
        ask: &Ask,
        tried: &[Slot],
        rng: &mut SmallRng,
    ) -> Option<Verdict> {
        // Without a key there is no endpoint to wait for, nor one to insist on.
        let Some(hash) = ask.hash else {
            let search = Search { candidates, tried, hash: rng.random(), waits: false };
            return self.first_ready(&search);
        };
        let search = Search { candidates, tried, hash, waits: true };
        match self.affinity {
            Affinity::Fail => Some(self.insist(&search)),
            Affinity::Rehash | Affinity::Bounded(_) => self.first_ready(&search),
        }
    }

    /// The group's owner of the key's entry and no other.
    fn insist(&self, search: &Search<'_>) -> Verdict {
        let Some(slot) = self.home(search.hash) else { return Verdict::Refuse };
        if search.tried.contains(&slot) {
            return Verdict::Refuse;
        }
        match search.candidates.presence(slot) {
            Presence::At(position) => Verdict::At(position),
            Presence::Awaited => Verdict::Wait,
            Presence::Draining => Verdict::Draining(slot),
            Presence::Out => Verdict::Refuse,
        }
    }

    fn first_ready(&self, search: &Search<'_>) -> Option<Verdict> {
        match (self.walk(search), self.bound()) {
            (Walked::To(found), Some(bound)) => Some(self.with_room(search, found, bound)),
            (Walked::To(found), None) => Some(found.verdict()),
            (Walked::Awaited, _) => Some(Verdict::Wait),
            (Walked::InVain, _) => search.rendezvous(|_| true).map(Verdict::At),
        }
    }

    fn walk(&self, search: &Search<'_>) -> Walked<'_> {
        for owner in self.part.walk(search.hash).take(WALK_MAX) {
            let owner = &self.owners[owner];
            if search.tried.contains(&owner.slot) {
                continue;
            }
            match search.candidates.presence(owner.slot) {
                Presence::At(position) => return Walked::To(Found { position, owner }),
                Presence::Awaited if search.waits => return Walked::Awaited,
                Presence::Awaited | Presence::Draining | Presence::Out => {}
            }
        }
        Walked::InVain
    }

    /// The first with room: the one found, or else one jumped to.
    fn with_room(&self, search: &Search<'_>, found: Found<'_>, bound: BoundedLoad) -> Verdict {
        let total = self.calls.load(Relaxed) + 1;
        let weights = search.candidates.total_weight();
        let has_room =
            |endpoint: &Endpoint, weight: u32| bound.has_room(endpoint.in_flight(), total, weight, weights);
        if has_room(&found.owner.endpoint, found.owner.weight) {
            return found.verdict();
        }
        for jump in 1..=JUMPS_MAX {
            let elsewhere = Search { hash: mix(search.hash.wrapping_add(jump)), waits: false, ..*search };
            match self.walk(&elsewhere) {
                Walked::To(next) if has_room(&next.owner.endpoint, next.owner.weight) => {
                    return next.verdict();
                }
                _ => {}
            }
        }
        // The caps sum up to more than the calls in flight: if all are full, there are calls that are not counted.
        let roomy = search.rendezvous(|one| has_room(&one.endpoint, one.weight));
        roomy.map_or_else(|| found.verdict(), Verdict::At)
    }
}

/// A candidate, and what a pick needs of it.
#[derive(Clone, Copy)]
struct Found<'a> {
    position: usize,
    owner: &'a Owner,
}

impl Found<'_> {
    fn verdict(self) -> Verdict {
        let is_withheld = self.owner.endpoint.is_withheld();
        if is_withheld { Verdict::At(self.position) } else { Verdict::Free(self.owner.slot) }
    }
}

/// Where a walk ends.
#[derive(Clone, Copy)]
enum Walked<'a> {
    /// At a candidate.
    To(Found<'a>),
    /// At an endpoint worth waiting for.
    Awaited,
    /// At neither: nearly all endpoints are out, or were tried.
    InVain,
}

/// What is searched for.
#[derive(Clone, Copy)]
struct Search<'a> {
    candidates: &'a Candidates,
    tried: &'a [Slot],
    hash: u64,
    /// Whether an endpoint that is not ready yet is worth waiting for.
    waits: bool,
}

impl Search<'_> {
    /// The untried candidate that fits with the highest hash of (key, endpoint); O(n).
    fn rendezvous(&self, fits: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let fits = |one: &Candidate| !self.tried.contains(&one.slot) && fits(one);
        let fitting = self.candidates.iter().enumerate().filter(|(_, one)| fits(one));
        let best = fitting.max_by_key(|(_, one)| (mix(self.hash ^ one.endpoint.hash()), one.endpoint.hash()));
        best.map(|(position, _)| position)
    }
}

impl Picker for Consistent {
    fn listed(&mut self, set: &EndpointSet, group: usize, members: &[Slot]) {
        debug_assert_eq!(set.ring().len(), members.len(), "a policy that hashes reaches all endpoints");
        self.part = set.table(self.kind).part(group);
        let mut known = VecDeque::from(core::mem::take(&mut self.owners));
        let mut owner = |place: usize| {
            let entry = set.ring()[place];
            let endpoint = &set.endpoints()[entry.index as usize];
            // Most stay, in the same order, and are taken over: to count 10,000 references up and down again takes longer than
            // all else here.
            let is_it = |known: &Owner| Arc::ptr_eq(&known.endpoint, endpoint);
            if known.get(1).is_some_and(is_it) {
                known.pop_front();
            }
            let endpoint = match known.pop_front_if(|known| is_it(known)) {
                Some(known) => known.endpoint,
                None => Arc::clone(endpoint),
            };
            Owner { endpoint, slot: members[place], weight: entry.weight }
        };
        self.owners = self.part.places().map(&mut owner).collect();
        let calls = &set.groups()[group].bounded_calls;
        if self.bound().is_some() && !Arc::ptr_eq(&self.calls, calls) {
            // A set that does not follow the last one: the calls under way are its calls now.
            self.calls.fetch_sub(self.own_calls, Relaxed);
            self.calls = Arc::clone(calls);
            self.calls.fetch_add(self.own_calls, Relaxed);
        }
    }

    fn pick(&mut self, candidates: &Candidates, ask: &Ask, rng: &mut SmallRng) -> Verdict {
        self.choose(candidates, ask, &[], rng).expect("there is a candidate, and none was tried")
    }

    fn pick_excluding(
        &mut self,
        candidates: &Candidates,
        ask: &Ask,
        tried: &[Slot],
        rng: &mut SmallRng,
    ) -> Option<Verdict> {
        self.choose(candidates, ask, tried, rng)
    }

    fn home(&self, hash: u64) -> Option<Slot> {
        self.part.walk(hash).next().map(|owner| self.owners[owner].slot)
    }

    fn started(&mut self, _slot: Slot, _endpoint: &Endpoint, _now: Duration) {
        if self.bound().is_some() {
            self.own_calls += 1;
            self.calls.fetch_add(1, Relaxed);
        }
    }

    fn finished(&mut self, _slot: Slot, _endpoint: &Endpoint, _report: &CallReport) {
        if self.bound().is_some() {
            self.own_calls -= 1;
            self.calls.fetch_sub(1, Relaxed);
        }
    }
}

/// A copy begins without calls of its own: those of the original end there.
impl Clone for Consistent {
    fn clone(&self) -> Self {
        Self {
            kind: self.kind,
            affinity: self.affinity,
            part: Arc::clone(&self.part),
            owners: self.owners.clone(),
            calls: Arc::clone(&self.calls),
            own_calls: 0,
        }
    }
}

/// Calls whose end a balancer will not see any more must not raise the cap for ever.
impl Drop for Consistent {
    fn drop(&mut self) {
        self.calls.fetch_sub(self.own_calls, Relaxed);
    }
}
