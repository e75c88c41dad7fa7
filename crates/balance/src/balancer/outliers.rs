//! Outlier detection in the balancer: it tells the cluster's detector how attempts end, and tries ejected endpoints with
//! single calls when their time is up; under ring_hash and maglev with those whose key belongs there.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Code;

use super::{Balancer, Slot};
use crate::attempt::AttemptEnd;
use crate::connectivity::Connectivity;
use crate::endpoint::{Endpoint, Withheld};
use crate::outlier::{Observation, OutlierChange, OutlierDetector};
use crate::policy::{Affinity, Policy};

/// Changes that wait to be asked for; more are dropped, the detector's counters have them all. A change is a log line.
const CHANGES_MAX: usize = 64;

/// After a look at each of n ready but withheld endpoints, none of them due to be tried, there is no other for n times this, unless
/// one is due sooner. So of many calls one in ten looks, and what other workers do to an endpoint that is tried is seen so much later.
const TRIAL_LOOK_PERIOD: Duration = Duration::from_micros(100);

/// No pause is longer.
const TRIAL_LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);

/// When picks look for ejected endpoints whose time is up: at one with each pick, with a pause after all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrialLooks {
    /// Looks since the last pause.
    in_vain: usize,
    /// The earliest that they found to be due.
    due_at: Option<Duration>,
    next_at: Duration,
}

impl TrialLooks {
    pub(super) fn are_due(&self, now: Duration) -> bool {
        now >= self.next_at
    }

    /// Notes a look, at one of so many, that found one to be due at this time, or never.
    pub(super) fn found_none(&mut self, due_at: Option<Duration>, endpoints: usize, now: Duration) {
        self.in_vain += 1;
        self.due_at = self.due_at.into_iter().chain(due_at).min();
        if self.in_vain >= endpoints {
            let number = u32::try_from(endpoints).expect("slots are numbered by u32");
            let pause = TRIAL_LOOK_PAUSE_MAX.min(TRIAL_LOOK_PERIOD * number);
            let pause_end = now.saturating_add(pause);
            let next_at = self.due_at.map_or(pause_end, |due_at| due_at.min(pause_end));
            *self = Self { next_at, ..Self::default() };
        }
    }
}

impl Balancer {
    /// Joins the cluster's detector, which all workers share, or leaves it. Default: none, nothing is ejected.
    pub fn detect_outliers(&mut self, detector: Option<Arc<OutlierDetector>>) {
        self.outliers = detector;
    }

    /// Tells how an attempt at an endpoint ended, beside [`Balancer::call_finished`]; `is_trial` if it was a
    /// [`Pick::Trial`](super::Pick::Trial). An attempt to connect that failed may be told as well. O(1); but
    /// once a second a failure, while others are ejected, looks at all endpoints for ejections that have expired.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    #[inline]
    pub fn observe(&mut self, slot: Slot, end: &AttemptEnd, is_trial: bool, now: Duration) {
        let Some(detector) = &self.outliers else { return };
        let endpoint = self.slots.endpoint(slot);
        let observation = detector.config().observe(end);
        if is_trial {
            // The next call may be one, too.
            self.trial_looks = TrialLooks::default();
        }
        let change = detector.record(endpoint.outlier(), observation, is_trial, now, &mut self.rng);
        let is_ejected = matches!(change, Some(OutlierChange::Ejected { .. }));
        let needs_look =
            observation == Observation::Failure && !is_ejected && detector.is_expiry_look_due(now);
        if let Some(change) = change {
            endpoint.note_ejection();
            self.note_change(endpoint.address().to_string().into(), change);
        }
        if needs_look {
            self.expire_ejections(now);
        }
    }

    /// Ends ejections whose time is up, of endpoints that no worker is connected to, or about to be: a connection that is being replaced
    /// is no reason to take an endpoint back untried. O(n).
    fn expire_ejections(&mut self, now: Duration) {
        let (Some(detector), Some(set)) = (self.outliers.clone(), self.set.clone()) else { return };
        let is_unreached = |endpoint: &&Arc<Endpoint>| {
            let workers = |state| endpoint.workers_in(state);
            workers(Connectivity::Ready) == 0 && workers(Connectivity::Connecting) == 0
        };
        for endpoint in set.endpoints().iter().filter(is_unreached) {
            if let Some(change) = detector.expire(endpoint.outlier(), now) {
                endpoint.note_ejection();
                self.note_change(endpoint.address().to_string().into(), change);
            }
        }
    }

    /// Tells that a trial has delivered a response message, and goes on since for
    /// [`TRIAL_SETTLES_AFTER`](crate::outlier::TRIAL_SETTLES_AFTER): it succeeded. Its end is to be told to
    /// [`Balancer::observe`] as that of any other call.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn trial_settled(&mut self, slot: Slot, now: Duration) {
        self.observe(slot, &AttemptEnd::status(Code::Ok), true, now);
    }

    /// Gives a trial back: the call was not sent to the endpoint after all.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn drop_trial(&mut self, slot: Slot) {
        if let Some(detector) = &self.outliers {
            detector.drop_trial(self.slots.endpoint(slot).outlier());
            self.trial_looks = TrialLooks::default();
        }
    }

    /// When [`Balancer::sweep_outliers`] is due. `None` before the first update too: without endpoints there is nothing to judge,
    /// and a sweep that does nothing would be due for ever.
    #[must_use]
    pub fn next_sweep_at(&self) -> Option<Duration> {
        self.set.as_ref()?;
        self.outliers.as_ref().map(|detector| detector.next_sweep_at())
    }

    /// Judges all endpoints of the cluster by what the past interval showed, if it is over and no other worker did, and ends ejections
    /// that no call can end; O(n) then.
    pub fn sweep_outliers(&mut self, now: Duration) {
        let (Some(detector), Some(set)) = (&self.outliers, &self.set) else { return };
        let endpoints = set.endpoints();
        let mut changes = Vec::new();
        let records = endpoints.iter().map(|endpoint| endpoint.outlier());
        if !detector.sweep(records, now, &mut self.rng, |place, change| changes.push((place, change))) {
            return;
        }
        let named = |(place, change): (usize, OutlierChange)| {
            let endpoint = &endpoints[place];
            endpoint.note_ejection();
            (endpoint.address().to_string().into(), change)
        };
        let named: Vec<(Arc<str>, OutlierChange)> = changes.into_iter().map(named).collect();
        for (address, change) in named {
            self.note_change(address, change);
        }
        self.expire_ejections(now);
    }

    /// Whether [`Balancer::poll_outlier_change`] has something.
    #[must_use]
    #[inline]
    pub fn has_outlier_change(&self) -> bool {
        !self.outlier_changes.is_empty()
    }

    /// An endpoint's address and what became of it, or was held back, since this was last asked; at most 64 are kept.
    pub fn poll_outlier_change(&mut self) -> Option<(Arc<str>, OutlierChange)> {
        self.outlier_changes.pop_front()
    }

    fn note_change(&mut self, address: Arc<str>, change: OutlierChange) {
        if self.outlier_changes.len() < CHANGES_MAX {
            self.outlier_changes.push_back((address, change));
        }
    }

    /// Whether a key's calls may go to its endpoint only: no call may then be sent to just any endpoint as a trial.
    pub(super) fn insists(&self) -> bool {
        matches!(
            self.config.policy,
            Policy::RingHash { affinity: Affinity::Fail, .. }
                | Policy::Maglev { affinity: Affinity::Fail, .. }
        )
    }

    /// When an ejected endpoint's time is up, or a call's that tries it.
    pub(super) fn trial_due_at(&self, slot: Slot) -> Option<Duration> {
        let endpoint = self.slots.endpoint(slot);
        // A worker that is slow to say what it changed must not withhold an endpoint for ever.
        endpoint.note_ejection();
        self.outliers.as_ref()?.trial_due_at(endpoint.outlier())
    }

    /// Whether this call is to try an ejected endpoint: one that nothing else withholds, or the call would say nothing about
    /// its ejection, and most likely fail.
    pub(super) fn claim_trial(&mut self, slot: Slot, now: Duration) -> bool {
        let Some(detector) = &self.outliers else { return false };
        let endpoint = self.slots.endpoint(slot);
        let is_withheld = |reason| endpoint.is_withheld_as(reason);
        if [Withheld::Draining, Withheld::Unhealthy, Withheld::Unchecked].into_iter().any(is_withheld) {
            return false;
        }
        let is_trial = detector.claim_trial(endpoint.outlier(), now);
        // A worker that is slow to say what it changed must not withhold an endpoint for ever.
        endpoint.note_ejection();
        is_trial
    }
}
