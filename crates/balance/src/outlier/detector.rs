//! The rules, applied to records.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use rand::{Rng, RngExt};

use super::config::{FailurePercentage, Observation, OutlierConfig, SuccessRate};
use super::record::{EjectionReason, Interval, OutlierRecord, Phase};

/// What a call or a sweep changed about an endpoint; worth a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutlierChange {
    /// It was taken out of rotation.
    Ejected {
        /// Why.
        reason: EjectionReason,
        /// When the first trial may be sent.
        until: Duration,
    },
    /// Its trials succeeded: it is back in rotation.
    Returned,
    /// Its time was up while no worker was connected to it, so that no call could try it: it is back in rotation.
    Expired,
    /// A rule would take it out, but as many are out as the cap allows. Said once between two sweeps, however many of its
    /// calls fail.
    HeldBack {
        /// Which rule.
        reason: EjectionReason,
    },
}

/// Between two looks for ejections that have expired because of failing calls; each costs O(n).
const EXPIRY_LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Outlier detection of one cluster, shared by all workers.
#[derive(Debug)]
pub struct OutlierDetector {
    config: OutlierConfig,
    endpoints: AtomicU32,
    /// Endpoints that are not in service.
    out: AtomicU32,
    /// When the next sweep is due, in microseconds.
    sweep_at: AtomicU64,
    /// When a failing call next has somebody look for ejections that have expired, in microseconds.
    expiry_look_at: AtomicU64,
    ejections: [AtomicU64; EjectionReason::ALL.len()],
    /// Ejections that the cap prevented, each endpoint's once between two sweeps.
    held_back: AtomicU64,
}

impl OutlierDetector {
    /// A detector for a cluster of so many endpoints, all in service.
    #[must_use]
    pub fn new(config: OutlierConfig, endpoints: u32, now: Duration) -> Self {
        Self {
            config,
            endpoints: AtomicU32::new(endpoints),
            out: AtomicU32::new(0),
            sweep_at: AtomicU64::new(micros(now.saturating_add(config.interval))),
            expiry_look_at: AtomicU64::new(0),
            ejections: [const { AtomicU64::new(0) }; EjectionReason::ALL.len()],
            held_back: AtomicU64::new(0),
        }
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &OutlierConfig {
        &self.config
    }

    /// Takes over endpoints that another detector judged, as after a change of the settings: those that are out stay so, and
    /// count under this one's cap.
    pub fn adopt<'a>(&self, records: impl Iterator<Item = &'a OutlierRecord>) {
        let out = records.filter(|record| !record.is_in_service()).count();
        self.out.store(u32::try_from(out).unwrap_or(u32::MAX), Relaxed);
    }

    /// Takes the number of endpoints after a change of the set. Those that are out stay so, even above a lower cap.
    pub fn set_endpoints(&self, endpoints: u32) {
        self.endpoints.store(endpoints, Relaxed);
    }

    /// Retires the record of an endpoint that left the set: its place under the cap is free.
    ///
    /// For good, because the endpoint's last calls still end, and with failures if its process does: counted, they would
    /// eject what is no longer there, and its place under the cap would be lost. One that comes back gets a new record.
    pub fn remove(&self, record: &OutlierRecord) {
        match Phase::decode(record.phase.swap(Phase::Removed.encode(), Relaxed)) {
            Phase::InService | Phase::Removed => {}
            Phase::Ejected { .. } | Phase::Free | Phase::OnTrial { .. } => {
                self.give_place_back();
            }
        }
    }

    /// Endpoints that may be out at once.
    #[must_use]
    pub fn allowed(&self) -> u32 {
        self.config.allowed(self.endpoints.load(Relaxed))
    }

    /// Endpoints that are not in service now.
    #[must_use]
    pub fn out(&self) -> u32 {
        self.out.load(Relaxed)
    }

    /// Ejections for this reason so far.
    #[must_use]
    pub fn ejections(&self, reason: EjectionReason) -> u64 {
        self.ejections[reason as usize].load(Relaxed)
    }

    /// Ejections that the cap prevented so far; of each endpoint one between two sweeps, however many of its calls failed.
    #[must_use]
    pub fn held_back(&self) -> u64 {
        self.held_back.load(Relaxed)
    }

    /// From when on [`OutlierDetector::claim_trial`] gives a right, if nothing happens until then.
    pub(crate) fn trial_due_at(&self, record: &OutlierRecord) -> Option<Duration> {
        Phase::decode(record.phase.load(Relaxed)).trial_due_at()
    }

    /// Claims the right to send one call as a trial to an endpoint that is half-open. Its end must be told to
    /// [`OutlierDetector::record`] with `is_trial`, or [`OutlierDetector::drop_trial`]; until then, or the trial's timeout, no
    /// other call gets the right. A trial that ends in nothing leaves it to the timeout.
    pub fn claim_trial(&self, record: &OutlierRecord, now: Duration) -> bool {
        let bits = record.phase.load(Relaxed);
        let is_due = Phase::decode(bits).trial_due_at().is_some_and(|due| now >= due);
        let until = now.saturating_add(self.config.trial_timeout);
        is_due && record.change(bits, Phase::OnTrial { until })
    }

    /// Gives the right of a trial back that was not sent after all: the next call has it at once.
    pub fn drop_trial(&self, record: &OutlierRecord) {
        let bits = record.phase.load(Relaxed);
        if matches!(Phase::decode(bits), Phase::OnTrial { .. }) {
            record.change(bits, Phase::Free);
        }
    }

    /// Ends the ejection of an endpoint that nobody is connected to, if its time is up: no call can try it, and it would hold its place
    /// under the cap for as long as it is listed. gRFC A50 ends each ejection by time.
    pub(crate) fn expire(&self, record: &OutlierRecord, now: Duration) -> Option<OutlierChange> {
        let bits = record.phase.load(Relaxed);
        let is_over = Phase::decode(bits).trial_due_at().is_some_and(|due| now >= due);
        (is_over && self.put_back(record, bits)).then_some(OutlierChange::Expired)
    }

    /// Whether somebody is to look for ejections that have expired, as a call failed and a place under the cap may be needed; true once
    /// a second.
    pub(crate) fn is_expiry_look_due(&self, now: Duration) -> bool {
        let due = self.expiry_look_at.load(Relaxed);
        let next = micros(now.saturating_add(EXPIRY_LOOK_PERIOD));
        self.out() > 0
            && micros(now) >= due
            && self.expiry_look_at.compare_exchange(due, next, Relaxed, Relaxed).is_ok()
    }

    /// Counts the end of an attempt; O(1), without allocation.
    pub fn record(
        &self,
        record: &OutlierRecord,
        observation: Observation,
        is_trial: bool,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<OutlierChange> {
        if is_trial {
            return self.trial_ended(record, observation, now, rng);
        }
        if !record.is_in_service() {
            return None; // A call from before the ejection, which has been judged, or the removal.
        }
        match observation {
            Observation::Nothing | Observation::Overtaken => None,
            Observation::Success => {
                record.successes.fetch_add(1, Relaxed);
                // Read first: most calls succeed, and a write would take the cache line from the other workers.
                if record.consecutive.load(Relaxed) != 0 {
                    record.consecutive.store(0, Relaxed);
                }
                None
            }
            Observation::Failure => {
                record.failures.fetch_add(1, Relaxed);
                let in_a_row = record.consecutive.fetch_add(1, Relaxed).saturating_add(1);
                let is_too_many =
                    self.config.consecutive_failures.is_some_and(|most| in_a_row >= most.max(1));
                if !is_too_many {
                    return None;
                }
                if !is_enforced(self.config.consecutive_enforcement_percent, rng) {
                    // Else the next failure would be another chance: with 10 % a row is ejected by its tenth on average.
                    record.consecutive.store(0, Relaxed);
                    return None;
                }
                self.eject(record, EjectionReason::ConsecutiveFailures, now, rng)
            }
        }
    }

    fn trial_ended(
        &self,
        record: &OutlierRecord,
        observation: Observation,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<OutlierChange> {
        let bits = record.phase.load(Relaxed);
        if !matches!(Phase::decode(bits), Phase::Free | Phase::OnTrial { .. }) {
            return None; // Another trial decided meanwhile.
        }
        match observation {
            // Were the next one due now, an endpoint whose calls hang would get every call of callers who give up.
            Observation::Nothing => None,
            Observation::Failure | Observation::Overtaken => {
                let until = self.until(record, now, rng);
                if !record.change(bits, Phase::Ejected { until }) {
                    return None;
                }
                Some(self.note_ejection(record, EjectionReason::TrialFailed, until))
            }
            Observation::Success => {
                let successes = record.trial_successes.fetch_add(1, Relaxed).saturating_add(1);
                if successes < self.config.trial_successes {
                    record.change(bits, Phase::Free);
                    return None;
                }
                self.put_back(record, bits).then_some(OutlierChange::Returned)
            }
        }
    }

    /// Puts an endpoint back into rotation, unless another thread changed its phase.
    fn put_back(&self, record: &OutlierRecord, bits: u64) -> bool {
        record.consecutive.store(0, Relaxed);
        record.close_interval(); // What it did before the ejection is not held against it again.
        let is_back = record.change(bits, Phase::InService);
        if is_back {
            self.give_place_back();
        }
        is_back
    }

    /// Takes an endpoint out, if the cap allows it and no other thread did.
    fn eject(
        &self,
        record: &OutlierRecord,
        reason: EjectionReason,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<OutlierChange> {
        let allowed = self.allowed();
        let room = self.out.fetch_update(Relaxed, Relaxed, |out| (out < allowed).then_some(out + 1));
        if room.is_err() {
            // Tried again with each failure, as a place may be free by then; said once, or each failure would be a log line.
            let is_new = !record.is_held_back() && !record.held_back.swap(true, Relaxed);
            return is_new.then(|| {
                self.held_back.fetch_add(1, Relaxed);
                OutlierChange::HeldBack { reason }
            });
        }
        let until = self.until(record, now, rng);
        if !record.change(Phase::InService.encode(), Phase::Ejected { until }) {
            self.give_place_back();
            return None;
        }
        Some(self.note_ejection(record, reason, until))
    }

    /// Stops at 0: while a change of the settings reaches one worker after the other, an endpoint may return here that the
    /// detector before ejected. Below it, no ejection would be allowed ever again.
    fn give_place_back(&self) {
        let _at_zero = self.out.fetch_update(Relaxed, Relaxed, |out| out.checked_sub(1));
    }

    fn note_ejection(
        &self,
        record: &OutlierRecord,
        reason: EjectionReason,
        until: Duration,
    ) -> OutlierChange {
        record.reason.store(reason as u8, Relaxed);
        record.times_ejected.fetch_add(1, Relaxed);
        record.trial_successes.store(0, Relaxed);
        record.consecutive.store(0, Relaxed);
        record.held_back.store(false, Relaxed);
        self.ejections[reason as usize].fetch_add(1, Relaxed);
        OutlierChange::Ejected { reason, until }
    }

    /// When an ejection that begins now ends.
    fn until(&self, record: &OutlierRecord, now: Duration, rng: &mut impl Rng) -> Duration {
        let length = self.config.ejection(record.times_ejected().saturating_add(1));
        let extra = rng.random_range(0.0..=self.config.jitter.get().min(1.0));
        let jittered = Duration::try_from_secs_f64(length.as_secs_f64() * (1.0 + extra));
        now.saturating_add(jittered.unwrap_or(Duration::MAX))
    }

    /// When the next sweep is due.
    #[must_use]
    pub fn next_sweep_at(&self) -> Duration {
        Duration::from_micros(self.sweep_at.load(Relaxed))
    }

    /// Applies the rules over rates at an interval's end; does nothing before it, so any thread may ask. O(n), three
    /// passes, without allocation. `changed` is told the place of each endpoint that was ejected, or would have been. Returns whether
    /// it was due.
    pub fn sweep<'a>(
        &self,
        records: impl Iterator<Item = &'a OutlierRecord> + Clone,
        now: Duration,
        rng: &mut impl Rng,
        mut changed: impl FnMut(usize, OutlierChange),
    ) -> bool {
        let due = self.sweep_at.load(Relaxed);
        let next = micros(now.saturating_add(self.config.interval));
        let is_due = micros(now) >= due;
        if !is_due || self.sweep_at.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            return false;
        }
        for record in records.clone() {
            // Before the rules: an ejection of this sweep is not shortened by it.
            if record.is_in_service() {
                let less = |times: u32| times.checked_sub(1);
                let _at_zero = record.times_ejected.fetch_update(Relaxed, Relaxed, less);
            }
            record.close_interval();
            if record.is_held_back() {
                record.held_back.store(false, Relaxed);
            }
        }
        if let Some(rule) = self.config.success_rate {
            self.sweep_success_rate(&rule, records.clone(), now, rng, &mut changed);
        }
        if let Some(rule) = self.config.failure_percentage {
            self.sweep_failure_percentage(&rule, records, now, rng, &mut changed);
        }
        true
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of endpoints is far below 2^53")]
    fn sweep_success_rate<'a>(
        &self,
        rule: &SuccessRate,
        records: impl Iterator<Item = &'a OutlierRecord> + Clone,
        now: Duration,
        rng: &mut impl Rng,
        changed: &mut impl FnMut(usize, OutlierChange),
    ) {
        let volume = u64::from(rule.request_volume.max(1));
        let judged = records
            .enumerate()
            .map(|(place, record)| (place, record, record.closed()))
            .filter(|(_, _, closed)| closed.calls >= volume);
        let (mut count, mut sum, mut squares, mut all) = (0_usize, 0.0, 0.0, Interval::default());
        for (_, _, closed) in judged.clone() {
            let rate = closed.success_rate();
            count += 1;
            sum += rate;
            squares += rate * rate;
            all.calls += closed.calls;
            all.failures += closed.failures;
        }
        if count == 0 || count < rule.min_endpoints {
            return;
        }
        let mean = sum / count as f64;
        let stdev = (squares / count as f64 - mean * mean).max(0.0).sqrt();
        for (place, record, closed) in judged {
            let others =
                Interval { calls: all.calls - closed.calls, failures: all.failures - closed.failures };
            // One that is out counts with the others, and is not taken out again.
            let is_outlier = record.is_in_service()
                && closed.success_rate() < mean - rule.stdev_factor.get() * stdev
                && closed.chance_beside(others) <= rule.chance();
            if is_outlier
                && is_enforced(rule.enforcement_percent, rng)
                && let Some(change) = self.eject(record, EjectionReason::SuccessRate, now, rng)
            {
                changed(place, change);
            }
        }
    }

    fn sweep_failure_percentage<'a>(
        &self,
        rule: &FailurePercentage,
        records: impl Iterator<Item = &'a OutlierRecord>,
        now: Duration,
        rng: &mut impl Rng,
        changed: &mut impl FnMut(usize, OutlierChange),
    ) {
        if (self.endpoints.load(Relaxed) as usize) < rule.min_endpoints {
            return;
        }
        for (place, record) in records.enumerate().filter(|(_, record)| record.is_in_service()) {
            let closed = record.closed();
            let is_failing = closed.calls >= u64::from(rule.request_volume.max(1))
                && closed.failures * 100 >= closed.calls * u64::from(rule.threshold_percent);
            if is_failing
                && is_enforced(rule.enforcement_percent, rng)
                && let Some(change) = self.eject(record, EjectionReason::FailurePercentage, now, rng)
            {
                changed(place, change);
            }
        }
    }
}

fn is_enforced(percent: u8, rng: &mut impl Rng) -> bool {
    percent >= 100 || rng.random_range(0..100) < percent
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
