//! What outlier detection knows of one endpoint.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

/// Why an endpoint was ejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EjectionReason {
    /// Too many failures in a row.
    ConsecutiveFailures = 0,
    /// Its success rate was far below the others'.
    SuccessRate = 1,
    /// Too large a share of its calls failed.
    FailurePercentage = 2,
    /// A trial failed when its ejection was over.
    TrialFailed = 3,
}

impl EjectionReason {
    /// Every reason, at the index of its number: for counters.
    pub const ALL: [Self; 4] =
        [Self::ConsecutiveFailures, Self::SuccessRate, Self::FailurePercentage, Self::TrialFailed];

    /// The reason as logs and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::FailurePercentage => "failure_percentage",
            Self::TrialFailed => "trial_failed",
        }
    }
}

/// Where an endpoint stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutlierStatus {
    /// In rotation.
    InService,
    /// Out until its time is up.
    Ejected {
        /// When the first trial may be sent.
        until: Duration,
        /// Why.
        reason: EjectionReason,
    },
    /// Out, but its time is up: single calls find out whether it works again.
    HalfOpen {
        /// Trials that succeeded in a row.
        successes: u32,
        /// Whether a call may be sent as a trial now.
        wants_trial: bool,
    },
    /// No longer in the set; for good.
    Removed,
}

/// One endpoint as all workers share it; changed by the [`OutlierDetector`](super::OutlierDetector) only.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct OutlierRecord {
    /// The phase in the lowest two bits, above them a time in microseconds: one atomic, so that both change together.
    pub(super) phase: AtomicU64,
    /// Failures since the last success.
    pub(super) consecutive: AtomicU32,
    pub(super) trial_successes: AtomicU32,
    /// Calls since the last sweep.
    pub(super) successes: AtomicU32,
    pub(super) failures: AtomicU32,
    /// Calls of the interval that the last sweep closed: successes in the upper half, failures in the lower.
    pub(super) closed: AtomicU64,
    /// Ejections, less the intervals in service since.
    pub(super) times_ejected: AtomicU32,
    pub(super) reason: AtomicU8,
    /// The cap prevented its ejection since the last sweep.
    pub(super) held_back: AtomicBool,
}

/// The decoded phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    InService,
    Ejected {
        until: Duration,
    },
    /// Half-open, with no trial under way.
    Free,
    /// Half-open, with a trial under way that holds back others until this time.
    OnTrial {
        until: Duration,
    },
    /// The endpoint left the set.
    Removed,
}

/// The bits of [`Phase::Removed`]: those of [`Phase::Free`] with a time, which that does not have.
const REMOVED: u64 = (1 << 2) | 2;

impl Phase {
    /// From when on a call may be a trial.
    pub(super) fn trial_due_at(self) -> Option<Duration> {
        match self {
            Self::InService | Self::Removed => None,
            Self::Free => Some(Duration::ZERO),
            Self::Ejected { until } | Self::OnTrial { until } => Some(until),
        }
    }

    pub(super) fn encode(self) -> u64 {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(u64::MAX >> 2);
        match self {
            Self::InService => 0,
            Self::Ejected { until } => (micros(until) << 2) | 1,
            Self::Free => 2,
            Self::OnTrial { until } => (micros(until) << 2) | 3,
            Self::Removed => REMOVED,
        }
    }

    pub(super) fn decode(bits: u64) -> Self {
        let until = Duration::from_micros(bits >> 2);
        match bits & 3 {
            0 => Self::InService,
            1 => Self::Ejected { until },
            2 if bits == REMOVED => Self::Removed,
            2 => Self::Free,
            _ => Self::OnTrial { until },
        }
    }
}

impl OutlierRecord {
    /// Whether the endpoint is in rotation; the check of every pick.
    #[must_use]
    pub fn is_in_service(&self) -> bool {
        self.phase.load(Relaxed) == 0
    }

    /// Where the endpoint stands now.
    #[must_use]
    pub fn status(&self, now: Duration) -> OutlierStatus {
        let half_open = |wants_trial| OutlierStatus::HalfOpen {
            successes: self.trial_successes.load(Relaxed),
            wants_trial,
        };
        match Phase::decode(self.phase.load(Relaxed)) {
            Phase::InService => OutlierStatus::InService,
            Phase::Ejected { until } if now < until => {
                OutlierStatus::Ejected { until, reason: self.reason() }
            }
            Phase::Ejected { .. } | Phase::Free => half_open(true),
            Phase::OnTrial { until } => half_open(now >= until),
            Phase::Removed => OutlierStatus::Removed,
        }
    }

    /// Puts the endpoint back into rotation and forgets what it did, as no detector judges it any more.
    pub fn reset(&self) {
        self.phase.store(Phase::InService.encode(), Relaxed);
        self.consecutive.store(0, Relaxed);
        self.times_ejected.store(0, Relaxed);
        self.held_back.store(false, Relaxed);
        self.close_interval();
    }

    /// How often the endpoint was ejected, less one per interval in service since.
    #[must_use]
    pub fn times_ejected(&self) -> u32 {
        self.times_ejected.load(Relaxed)
    }

    /// Whether a rule would have taken the endpoint out since the last sweep, and the cap prevented it.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.held_back.load(Relaxed)
    }

    fn reason(&self) -> EjectionReason {
        EjectionReason::ALL[usize::from(self.reason.load(Relaxed)) % EjectionReason::ALL.len()]
    }

    pub(super) fn change(&self, from: u64, to: Phase) -> bool {
        self.phase.compare_exchange(from, to.encode(), Relaxed, Relaxed).is_ok()
    }

    /// Closes an interval: what was counted since the last one is now what the rules judge.
    pub(super) fn close_interval(&self) {
        let (successes, failures) = (self.successes.swap(0, Relaxed), self.failures.swap(0, Relaxed));
        self.closed.store((u64::from(successes) << 32) | u64::from(failures), Relaxed);
    }

    pub(super) fn closed(&self) -> Interval {
        let bits = self.closed.load(Relaxed);
        Interval { calls: (bits >> 32) + (bits & 0xffff_ffff), failures: bits & 0xffff_ffff }
    }
}

/// The calls of one closed interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Interval {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

#[expect(clippy::cast_precision_loss, reason = "counts of an interval are far below 2^53")]
impl Interval {
    pub(super) fn success_rate(self) -> f64 {
        1.0 - self.failures as f64 / self.calls as f64
    }

    /// Upper bound of the chance that an endpoint as good as these others fails as often as this one did.
    ///
    /// Half a failure is added to the others', so that none in few calls is not taken for certainty.
    pub(super) fn chance_beside(self, others: Self) -> f64 {
        let failed = self.failures as f64 / self.calls as f64;
        let usual = (others.failures as f64 + 0.5) / (others.calls as f64 + 1.0);
        if failed <= usual {
            return 1.0;
        }
        let succeeded = 1.0 - failed;
        let of_successes = if succeeded > 0.0 { succeeded * (succeeded / (1.0 - usual)).ln() } else { 0.0 };
        let divergence = failed * (failed / usual).ln() + of_successes;
        (-(self.calls as f64) * divergence).exp()
    }
}
