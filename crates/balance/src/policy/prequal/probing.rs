//! Which endpoints to probe, which probes are under way, and who does not answer.

use core::ops::Add;
use core::time::Duration;
use std::collections::VecDeque;

use super::PrequalConfig;
use crate::balancer::Slot;

/// An endpoint's answer to a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeAnswer {
    /// Requests in flight at the endpoint, of all callers.
    pub requests_in_flight: u32,
    /// How long calls took of late at about this many requests in flight. `None` or 0 where the endpoint does not say; the
    /// proxy's own measurement stands in then.
    pub latency: Option<Duration>,
}

/// What became of probes so far; 0 where the policy sends none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProbeCounts {
    /// Probes that the driver was told to send.
    pub sent: u64,
    /// Those answered in time.
    pub answered: u64,
    /// Those that failed, or that no answer came to in time.
    pub unanswered: u64,
    /// Answers that nobody waited for: late ones, and ones to no probe.
    pub ignored: u64,
}

impl Add for ProbeCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            answered: self.answered + other.answered,
            unanswered: self.unanswered + other.unanswered,
            ignored: self.ignored + other.ignored,
        }
    }
}

/// Probes in a row without an answer after which an endpoint counts as silent.
const SILENT_AFTER: u8 = 3;

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Probes in a row without an answer.
    unanswered: u8,
    /// Whether one is wanted or under way.
    is_probed: bool,
}

/// The probes wanted, and those under way. Bound: a pool's size of each.
#[derive(Clone, Debug)]
pub(super) struct Probing {
    bound: usize,
    timeout: Duration,
    idle_interval: Option<Duration>,
    wanted: VecDeque<Slot>,
    /// With the time until which an answer counts; in its order.
    under_way: VecDeque<(Duration, Slot)>,
    /// By slot.
    known: Vec<Known>,
    /// The first wish for a probe since the last answer of any endpoint.
    wished_at: Option<Duration>,
    /// The last call, or the last probe sent because there was none.
    active_at: Duration,
    pub(super) counts: ProbeCounts,
}

impl Probing {
    pub(super) fn new(config: &PrequalConfig) -> Self {
        let bound = config.pool_size();
        Self {
            bound,
            timeout: config.probe_timeout,
            idle_interval: config.idle_interval,
            wanted: VecDeque::with_capacity(bound),
            under_way: VecDeque::with_capacity(bound),
            known: Vec::new(),
            wished_at: None,
            active_at: Duration::ZERO,
            counts: ProbeCounts::default(),
        }
    }

    pub(super) fn reserve(&mut self, slots: usize) {
        if self.known.len() < slots {
            self.known.resize(slots, Known::default());
        }
    }

    /// The endpoint became ready: it may answer now, whatever it did before.
    pub(super) fn added(&mut self, slot: Slot) {
        self.known[slot.index()] = Known::default();
    }

    pub(super) fn removed(&mut self, slot: Slot) {
        self.known[slot.index()].is_probed = false;
        self.wanted.retain(|wanted| *wanted != slot);
        self.under_way.retain(|(_, probed)| *probed != slot);
    }

    pub(super) fn called(&mut self, now: Duration) {
        self.active_at = self.active_at.max(now);
    }

    /// Wants a probe of this endpoint, unless one is wanted or under way already, or enough of others are.
    pub(super) fn want(&mut self, slot: Slot, now: Duration) {
        self.wished_at.get_or_insert(now);
        let has_room = self.has_room();
        let known = &mut self.known[slot.index()];
        if has_room && !known.is_probed {
            known.is_probed = true;
            self.wanted.push_back(slot);
        }
    }

    /// Whether one more may be wanted.
    pub(super) fn has_room(&self) -> bool {
        self.wanted.len() + self.under_way.len() < self.bound
    }

    /// Whether no endpoint has answered for longer than this, although probes were wanted.
    pub(super) fn are_silent(&self, now: Duration, longest: Duration) -> bool {
        self.wished_at.is_some_and(|at| now.saturating_sub(at) >= longest)
    }

    /// Whether this endpoint leaves probes unanswered.
    pub(super) fn is_silent(&self, slot: Slot) -> bool {
        self.known[slot.index()].unanswered >= SILENT_AFTER
    }

    /// The next endpoint to probe, and that it is now. `idle` names one for when there are no calls.
    pub(super) fn poll(&mut self, now: Duration, idle: impl FnOnce() -> Option<Slot>) -> Option<Slot> {
        self.expire(now);
        if self.under_way.len() >= self.bound {
            return None;
        }
        let is_idle =
            || self.idle_interval.is_some_and(|interval| now.saturating_sub(self.active_at) >= interval);
        let slot = match self.wanted.pop_front() {
            Some(slot) => slot,
            None if is_idle() => {
                self.active_at = now;
                self.wished_at.get_or_insert(now);
                idle().filter(|slot| !self.known[slot.index()].is_probed)?
            }
            None => return None,
        };
        self.known[slot.index()].is_probed = true;
        self.under_way.push_back((now.saturating_add(self.timeout), slot));
        self.counts.sent += 1;
        Some(slot)
    }

    /// When [`Probing::poll`] may have something to do that no call causes.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let expiry = self.under_way.front().map(|(until, _)| *until);
        let idle = self.idle_interval.map(|interval| self.active_at.saturating_add(interval));
        expiry.into_iter().chain(idle).min()
    }

    /// Notes an answer. Returns whether it counts.
    pub(super) fn answered(&mut self, slot: Slot, now: Duration) -> bool {
        self.expire(now);
        let Some(index) = self.under_way.iter().position(|(_, probed)| *probed == slot) else {
            self.counts.ignored += 1;
            return false;
        };
        self.under_way.remove(index);
        self.known[slot.index()] = Known::default();
        self.wished_at = None;
        self.counts.answered += 1;
        true
    }

    /// Notes that a probe failed.
    pub(super) fn failed(&mut self, slot: Slot) {
        if let Some(index) = self.under_way.iter().position(|(_, probed)| *probed == slot) {
            self.under_way.remove(index);
            self.note_unanswered(slot);
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some((_, slot)) = self.under_way.pop_front_if(|(until, _)| *until <= now) {
            self.note_unanswered(slot);
        }
    }

    fn note_unanswered(&mut self, slot: Slot) {
        self.counts.unanswered += 1;
        let known = &mut self.known[slot.index()];
        *known = Known { unanswered: known.unanswered.saturating_add(1), is_probed: false };
    }
}
