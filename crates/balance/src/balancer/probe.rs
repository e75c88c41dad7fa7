//! Probes: which endpoint to ask for its load, and what it answered. Only prequal wants any.

use core::time::Duration;

use super::{Balancer, Slot};
use crate::policy::{Picker, Policy, PrequalConfig, ProbeAnswer, ProbeCounts, ProbeSource};

impl Balancer {
    /// The next endpoint to send a probe to, which counts as sent from now on. `None` when none is wanted, or as many are
    /// under way as the policy's pool holds.
    ///
    /// Ask after each pick until it says `None`, and at [`Balancer::next_probe_deadline`]. A driver that cannot send probes
    /// need not ask: the policy goes by what it knows itself, then.
    pub fn wants_probe(&mut self, now: Duration) -> Option<Slot> {
        let rng = &mut self.rng;
        self.groups.iter_mut().find_map(|group| group.picker.poll_probe(&group.candidates, now, rng))
    }

    /// When [`Balancer::wants_probe`] is to be asked although there was no pick; a time in the past means now.
    #[must_use]
    pub fn next_probe_deadline(&self) -> Option<Duration> {
        self.groups.iter().filter_map(|group| group.picker.probe_deadline()).min()
    }

    /// Takes an endpoint's answer to a probe. One that came too late, or that nobody asked for, is ignored and counted.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn probe_answered(&mut self, slot: Slot, answer: &ProbeAnswer, now: Duration) {
        assert!(self.slots.find(slot).is_some(), "an answer is from an endpoint that is held");
        let group = &mut self.groups[self.slots.group(slot)];
        group.picker.probe_answered(&group.candidates, slot, answer, now, &mut self.rng);
    }

    /// Answers all probes that are wanted by what the endpoints last reported to any worker ([`Endpoint::report`]), for a
    /// driver that sends none: ask after each call's start. An endpoint without a report that is young enough counts as one
    /// that did not answer, and what the proxy knows itself stands in for it.
    ///
    /// A report counts for `max_age`, and an answer made of it for as long again. Returns what became of the probes that were
    /// answered now; `None` under another policy, or where endpoints are not asked.
    ///
    /// [`Endpoint::report`]: crate::Endpoint::report
    #[inline]
    pub fn answer_probes(&mut self, now: Duration) -> Option<ProbeCounts> {
        let Policy::Prequal(PrequalConfig { source: ProbeSource::Endpoints, max_age, .. }) =
            self.config.policy
        else {
            return None;
        };
        Some(self.answer_probes_within(now, max_age))
    }

    #[inline(never)]
    fn answer_probes_within(&mut self, now: Duration, max_age: Duration) -> ProbeCounts {
        let mut counts = ProbeCounts::default();
        // Ends: there are no more than a pool's size, and each answer or failure makes room for no further wish.
        while let Some(slot) = self.wants_probe(now) {
            counts.sent += 1;
            match self.endpoint(slot).answer(now, max_age) {
                Some(answer) => {
                    counts.answered += 1;
                    self.probe_answered(slot, &answer, now);
                }
                None => {
                    counts.unanswered += 1;
                    self.probe_failed(slot);
                }
            }
        }
        counts
    }

    /// Takes note that a probe could not be sent, or was answered by an error. One that is not answered in time need not be
    /// reported.
    ///
    /// # Panics
    /// If the slot was forgotten, or is not of this balancer.
    pub fn probe_failed(&mut self, slot: Slot) {
        assert!(self.slots.find(slot).is_some(), "a probe was sent to an endpoint that is held");
        self.groups[self.slots.group(slot)].picker.probe_failed(slot);
    }

    /// Answers to probes that are kept, of which the next call uses one.
    #[must_use]
    pub fn probe_pool(&self) -> usize {
        self.groups.iter().map(|group| group.picker.probe_pool()).sum()
    }

    /// What became of all probes so far.
    #[must_use]
    pub fn probe_counts(&self) -> ProbeCounts {
        let groups = self.groups.iter().map(|group| group.picker.probe_counts());
        groups.fold(self.past.0, |sum, counts| sum + counts)
    }
}
