//! Checks at intervals.

use core::time::Duration;

use rand::{Rng, RngExt};

use super::config::HealthCheckConfig;
use super::judge::{CheckResult, HealthStatus, Judge, Transition};
use super::{CheckId, Due};

/// The checks of one endpoint, by [`Probe::Check`](super::Probe::Check) or [`Probe::Tcp`](super::Probe::Tcp).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    judge: Judge,
    /// The check under way, if one is, or else the last one.
    id: CheckId,
    phase: Phase,
    /// When the next check starts, but not before the end of one that is under way.
    next_at: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    UnderWay { answer_by: Duration },
}

impl HealthCheck {
    /// The checks of an endpoint that is new now, with so many that are new in all, over which the first checks are spread.
    #[must_use]
    pub fn new(config: &HealthCheckConfig, endpoints: usize, now: Duration, rng: &mut impl Rng) -> Self {
        let offset = config.spread(endpoints).mul_f64(rng.random());
        let next_at = now.saturating_add(offset);
        Self { judge: Judge::new(), id: CheckId(0), phase: Phase::Idle, next_at }
    }

    /// What the checks say so far.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.judge.status()
    }

    /// When to call [`HealthCheck::handle_timeout`].
    #[must_use]
    pub fn next_due(&self) -> Duration {
        match self.phase {
            Phase::Idle => self.next_at,
            Phase::UnderWay { answer_by } => answer_by,
        }
    }

    /// Starts the check that is due, or gives up the one without an answer. Call it again until nothing is due.
    pub fn handle_timeout(&mut self, config: &HealthCheckConfig, now: Duration, rng: &mut impl Rng) -> Due {
        if now < self.next_due() {
            return Due::Nothing;
        }
        match self.phase {
            Phase::Idle => {
                self.id.0 += 1;
                self.phase = Phase::UnderWay { answer_by: now.saturating_add(config.timeout) };
                let jitter = config.jitter.get().min(1.0);
                let factor = rng.random_range(1.0 - jitter..=1.0 + jitter);
                self.next_at = now.saturating_add(config.interval(factor));
                Due::Start(self.id)
            }
            Phase::UnderWay { .. } => {
                self.phase = Phase::Idle;
                Due::Cancel { check: self.id, transition: self.judge.timed_out(config) }
            }
        }
    }

    /// Takes a check's result.
    pub fn answered(
        &mut self,
        config: &HealthCheckConfig,
        check: CheckId,
        result: CheckResult,
    ) -> Option<Transition> {
        if self.phase == Phase::Idle || check != self.id {
            return None;
        }
        self.phase = Phase::Idle;
        self.judge.observe(config, result)
    }
}
