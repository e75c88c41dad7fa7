//! The pick.

use core::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::outliers::TrialLooks;
use super::{Balancer, Slot};
use crate::call::{Ask, CallReport};
use crate::candidates::{Candidate, Candidates};
use crate::connectivity::{Connectivity, Standing};
use crate::endpoint::{Endpoint, Withheld};
use crate::policy::{LoadReportCounts, Picker, Verdict};

/// What to do with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Pick {
    /// Send it to this endpoint, and say so with [`Balancer::call_started`] before the next pick.
    Endpoint(Slot),
    /// As [`Pick::Endpoint`], but the call finds out whether an ejected endpoint works again: tell its end to
    /// [`Balancer::observe`] as that of a trial, or [`Balancer::drop_trial`] if it is not sent there.
    Trial(Slot),
    /// Let it wait: an endpoint may become ready, or discovery has not answered yet. If others are ready, but withheld, one
    /// of them may be in service first, which nobody tells.
    Queue,
    /// Fail it with UNAVAILABLE unless it waits for ready: every endpoint fails, or there is none.
    Fail,
}

impl Pick {
    /// The endpoint that the call is sent to, if it is.
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        match self {
            Self::Endpoint(slot) | Self::Trial(slot) => Some(slot),
            Self::Queue | Self::Fail => None,
        }
    }
}

impl Balancer {
    /// Chooses an endpoint for a call. O(1), as a full scan of least_request looks at no more than 128; allocates nothing.
    ///
    /// A withheld endpoint (draining, unhealthy, ejected) is returned only while no other is ready, or as a trial; without
    /// another a pick costs O(d) in their number, as each is asked whether it still is. While one that nothing withholds is
    /// being connected to, calls wait for it rather than go to one that is unhealthy or ejected, and to find out costs O(n).
    pub fn pick(&mut self, ask: &Ask) -> Pick {
        self.heed(ask.now);
        if (self.has_candidates() || self.loads.panics() != 0)
            && let Some(trial) = self.due_trial(ask)
        {
            return Pick::Trial(trial);
        }
        // Ends: each turn without a result takes a candidate away, and without candidates there is always one.
        while let Some(chosen) = self.group_to_ask(ask) {
            if self.fails_in_panic(chosen) {
                return Pick::Fail;
            }
            let group = &mut self.groups[chosen];
            let verdict = group.picker.pick(&group.candidates, ask, &mut self.rng);
            if let Some(pick) = self.follow(chosen, verdict, ask) {
                return pick;
            }
        }
        if self.has_candidates() {
            // The group's endpoints are being connected to, and come first.
            return Pick::Queue;
        }
        self.pick_last_resort(ask.now).unwrap_or_else(|| self.without_ready())
    }

    /// The group of a call, if its policy says where the call goes, or fails it: the policy knows of candidates only, but for a
    /// key whose calls go to one endpoint or nowhere, whatever state that is in.
    fn group_to_ask(&mut self, ask: &Ask) -> Option<usize> {
        let group = self.choose_group(ask);
        let is_asked = !self.groups[group].candidates.is_empty()
            || (ask.hash.is_some() && self.insists() && !self.members.is_empty());
        (is_asked || self.fails_in_panic(group)).then_some(group)
    }

    /// Chooses an endpoint other than those a call was tried on; for a retry.
    ///
    /// [`Pick::Endpoint`] is never one of `tried`, and none that is unhealthy or ejected while one of those is in service, or any may
    /// soon be. When every ready endpoint was tried: [`Pick::Queue`] if another may become ready, else [`Pick::Fail`]; the caller
    /// may [`pick`](Balancer::pick) again to repeat one. Costs O(t^2) for t tried ones, and a full scan of least_request up to
    /// t + 1 times. A tried slot may have been forgotten since.
    pub fn pick_excluding(&mut self, ask: &Ask, tried: &[Slot]) -> Pick {
        self.heed(ask.now);
        // Ask the policy first, so that a retry follows its rule as well. Ends: each turn takes a candidate away.
        while let Some(chosen) = self.group_to_ask(ask) {
            if self.fails_in_panic(chosen) {
                return Pick::Fail;
            }
            let group = &mut self.groups[chosen];
            let verdict = group.picker.pick_excluding(&group.candidates, ask, tried, &mut self.rng);
            let Some(verdict) = verdict else { break };
            if let Some(pick) = self.follow(chosen, verdict, ask) {
                return pick;
            }
        }
        for _ in 0..=tried.len() {
            match self.pick(ask) {
                Pick::Endpoint(slot) if tried.contains(&slot) => {}
                Pick::Trial(slot) if tried.contains(&slot) => self.drop_trial(slot),
                found @ (Pick::Endpoint(_) | Pick::Trial(_)) => return found,
                Pick::Queue | Pick::Fail => return self.without_ready_but(tried),
            }
        }
        // Tried, or without room: what is in service, or soon may be, is still better than what fails, but not than what only
        // drains.
        let is_served = tried.iter().any(|slot| self.is_in_service(*slot)) || self.awaits_service();
        // A group that gets calls comes before those that get none now: a locality or priority is not left while it has another.
        let chosen = self.choose_group(ask);
        let shares = self.loads.shares();
        let has_share = |group: usize| shares.get(group).is_none_or(|share| *share > 0.0);
        let in_turn =
            |sharing: bool| (0..self.groups.len()).filter(move |group| has_share(*group) == sharing);
        // At most `tried.len()` positions hold tried ones, so the search is short unless many have just begun to drain.
        let rng = &mut self.rng;
        let of_groups = |rng: &mut SmallRng, fits: fn(&Candidate) -> bool| {
            let mut order = core::iter::once(chosen).chain(in_turn(true)).chain(in_turn(false));
            order.find_map(|group| untried(&self.groups[group].candidates, tried, rng, fits))
        };
        let is_free: fn(&Candidate) -> bool = |one| !one.endpoint.is_withheld();
        let may_do: fn(&Candidate) -> bool = if is_served { |one| works(&one.endpoint) } else { |_| true };
        let untried = of_groups(rng, is_free)
            .or_else(|| untried(&self.last_resort, tried, rng, is_free)) // Free again, but not noticed yet.
            .or_else(|| untried(&self.last_resort, tried, rng, may_do))
            .or_else(|| of_groups(rng, may_do)); // Withheld, but not noticed yet.
        match untried {
            Some(slot) if self.claim_trial(slot, ask.now) => Pick::Trial(slot),
            Some(slot) => Pick::Endpoint(slot),
            None => self.without_ready_but(tried),
        }
    }

    /// What a picker's verdict means for the call. `None` if it chose an endpoint that is withheld by now: that one is no
    /// candidate any more, and the picker is to choose again.
    fn follow(&mut self, group: usize, verdict: Verdict, ask: &Ask) -> Option<Pick> {
        let (slot, endpoint) = match verdict {
            Verdict::At(position) => {
                let candidate = self.groups[group].candidates.get(position);
                (candidate.slot, &candidate.endpoint)
            }
            Verdict::Free(slot) => {
                if self.loads.panics() != 0 {
                    self.notice(slot);
                }
                return Some(Pick::Endpoint(slot));
            }
            Verdict::Draining(slot) => return Some(self.only_choice(slot, ask)),
            Verdict::Wait => return Some(Pick::Queue),
            Verdict::Refuse => return Some(Pick::Fail),
        };
        let is_withheld = endpoint.is_withheld();
        if self.loads.panics() != 0 {
            if is_withheld && let Some(pick) = self.chosen_in_panic(slot, ask.now) {
                return Some(pick);
            }
            self.notice(slot);
        }
        if !is_withheld {
            return Some(Pick::Endpoint(slot));
        }
        self.settle(slot);
        None
    }

    /// What becomes of a call whose key's endpoint is withheld, and that goes nowhere else: one that only drains still does its
    /// work; one that is ejected gets a call when its time is up.
    fn only_choice(&mut self, slot: Slot, ask: &Ask) -> Pick {
        if works(self.endpoint(slot)) {
            return Pick::Endpoint(slot);
        }
        if self.claim_trial(slot, ask.now) { Pick::Trial(slot) } else { Pick::Fail }
    }

    /// Whether an endpoint is ready, and nothing withholds it.
    fn is_in_service(&self, slot: Slot) -> bool {
        self.slots.find(slot).is_some_and(|entry| {
            entry.listed && entry.connectivity == Connectivity::Ready && !entry.endpoint.is_withheld()
        })
    }

    /// Counts an attempt at this endpoint as in flight; right after the pick, so that the next pick, in any worker, sees it.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn call_started(&mut self, slot: Slot, now: Duration) {
        let endpoint = self.slots.endpoint(slot);
        endpoint.call_started();
        self.groups[self.slots.group(slot)].picker.started(slot, endpoint, now);
    }

    /// Ends what [`Balancer::call_started`] began, and notes how it went; exactly once per attempt, however it ended.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn call_finished(&mut self, slot: Slot, report: &CallReport) {
        let endpoint = self.slots.endpoint(slot);
        endpoint.call_finished();
        endpoint.record(report.outcome, report.latency);
        self.groups[self.slots.group(slot)].picker.finished(slot, endpoint, report);
    }

    /// What became of all load reports that came with calls so far.
    #[must_use]
    pub fn load_reports(&self) -> LoadReportCounts {
        let groups = self.groups.iter().map(|group| group.picker.load_reports());
        groups.fold(self.past.1, |sum, counts| sum + counts)
    }

    /// Looks at one of the ready but withheld endpoints, each in turn: one that is ejected, whose time is up, is tried by this call.
    ///
    /// But a call whose key belongs to an endpoint tries that one only: others know nothing of its key, and it would pay for a
    /// trial that is none of its business. Unless no call belongs there, as the endpoint's group gets none: it would be out for ever.
    fn due_trial(&mut self, ask: &Ask) -> Option<Slot> {
        self.outliers.as_ref()?;
        if !self.trial_looks.are_due(ask.now) {
            return None;
        }
        let slot = self.next_last_resort()?;
        let due_at = self.trial_due_at(slot);
        if due_at.is_none_or(|due_at| ask.now < due_at) {
            self.trial_looks.found_none(due_at, self.last_resort.len(), ask.now);
            return None;
        }
        self.trial_looks = TrialLooks::default();
        let home = ask.hash.and_then(|hash| {
            let group = self.choose_group(ask);
            self.groups[group].picker.home(hash)
        });
        let is_without_calls = || self.loads.shares().get(self.slots.group(slot)) == Some(&0.0);
        let tried = match home {
            Some(home) if self.last_resort.position(home).is_some() => home,
            Some(_) if !is_without_calls() => return None,
            _ => slot,
        };
        self.claim_trial(tried, ask.now).then_some(tried)
    }

    /// Whether nothing speaks against the endpoint that calls with this key belong to: it is ready or may soon be, and nothing
    /// withholds it. True where the policy knows no keys.
    pub fn is_home_available(&mut self, hash: u64) -> bool {
        let group = self.choose_group(&Ask { now: Duration::ZERO, hash: Some(hash) });
        let Some(home) = self.groups[group].picker.home(hash) else { return true };
        let entry = self.slots.get(home);
        entry.standing() != Standing::Failing && !entry.endpoint.is_withheld()
    }

    /// Whether calls with this key belong to this endpoint; it need not be able to take them. Never where the policy knows no keys.
    pub fn is_home(&mut self, hash: u64, slot: Slot) -> bool {
        let group = self.choose_group(&Ask { now: Duration::ZERO, hash: Some(hash) });
        self.groups[group].picker.home(hash) == Some(slot)
    }

    /// There is no candidate: an endpoint that nothing withholds any more, or else the next that only drains, which does its
    /// work, or that is ejected and whose time is up, which would never come back if nobody tried it. Or else the call
    /// waits for one that may soon be in service, and if there is none it goes to the next.
    fn pick_last_resort(&mut self, now: Duration) -> Option<Pick> {
        let again = self.last_resort.iter().find(|one| !one.endpoint.is_withheld()).map(|one| one.slot);
        if let Some(slot) = again {
            self.settle(slot);
            return Some(Pick::Endpoint(slot));
        }
        for _ in 0..self.last_resort.len() {
            let slot = self.next_last_resort()?;
            if works(self.endpoint(slot)) {
                return Some(Pick::Endpoint(slot));
            }
            if self.claim_trial(slot, now) {
                return Some(Pick::Trial(slot));
            }
        }
        if !self.last_resort.is_empty() && self.awaits_service() {
            return Some(Pick::Queue);
        }
        self.next_last_resort().map(Pick::Endpoint)
    }

    /// Whether an endpoint that nothing withholds is connected to, or about to be, and is not known to fail. gRPC lets calls
    /// wait then: where none is READY, one that is CONNECTING or IDLE makes the whole CONNECTING, whatever the others fail
    /// with (gRFC A48, "Aggregated Connectivity State").
    pub(super) fn awaits_service(&self) -> bool {
        let may_serve = |slot: &Slot| {
            let entry = self.slots.get(*slot);
            entry.standing() == Standing::Pending && !entry.endpoint.is_withheld()
        };
        self.tally.pending > 0 && !self.is_sticky_failing() && self.members.iter().any(may_serve)
    }

    fn next_last_resort(&mut self) -> Option<Slot> {
        if self.last_resort.is_empty() {
            return None;
        }
        let position =
            if self.last_resort_cursor < self.last_resort.len() { self.last_resort_cursor } else { 0 };
        self.last_resort_cursor = position + 1;
        Some(self.last_resort.get(position).slot)
    }

    /// What becomes of a call when no endpoint is ready.
    fn without_ready(&self) -> Pick {
        match self.state() {
            Connectivity::Idle | Connectivity::Connecting => Pick::Queue,
            _ => Pick::Fail,
        }
    }

    /// What becomes of a call when no endpoint is ready that it was not tried on.
    fn without_ready_but(&self, tried: &[Slot]) -> Pick {
        let is_selected = self.sequence.as_ref().is_some_and(|sequence| sequence.selected().is_some());
        if is_selected || self.is_sticky_failing() {
            // pick_first connects to no other, or calls must not wait for it.
            return Pick::Fail;
        }
        let is_pending = |slot: Slot| {
            self.slots.find(slot).is_some_and(|entry| entry.listed && entry.standing() == Standing::Pending)
        };
        let is_first = |&(index, slot): &(usize, &Slot)| !tried[..index].contains(slot);
        let tried_pending =
            tried.iter().enumerate().filter(is_first).filter(|(_, slot)| is_pending(**slot)).count();
        if !self.is_resolved || self.tally.pending > tried_pending { Pick::Queue } else { Pick::Fail }
    }
}

/// Whether nothing but draining withholds an endpoint.
pub(super) fn works(endpoint: &Endpoint) -> bool {
    [Withheld::Unhealthy, Withheld::Ejected].into_iter().all(|reason| !endpoint.is_withheld_as(reason))
}

/// A candidate that was not tried and fits, searched for from a random start.
fn untried(
    candidates: &Candidates,
    tried: &[Slot],
    rng: &mut SmallRng,
    fits: impl Fn(&Candidate) -> bool,
) -> Option<Slot> {
    if candidates.is_empty() {
        return None;
    }
    let start = rng.random_range(0..candidates.len());
    (start..candidates.len())
        .chain(0..start)
        .map(|position| candidates.get(position))
        .find(|candidate| fits(candidate) && !tried.contains(&candidate.slot))
        .map(|candidate| candidate.slot)
}
