//! One stream that tells each change (gRFC A17).

use core::time::Duration;

use rand::Rng;

use super::config::HealthCheckConfig;
use super::judge::{CheckResult, HealthStatus, Judge, Transition};
use super::{CheckId, Due};
use crate::backoff::{BackoffConfig, Growth};

/// The health stream of one endpoint, by [`Probe::Watch`](super::Probe::Watch).
///
/// Where it uses the connection of the calls it lives with it: [`HealthWatch::connected`] and [`HealthWatch::disconnected`]
/// begin and end it. While there is none the status is unknown, as connectivity then says all there is to say. Where it has a
/// connection of its own it is always connected, and a connection that cannot be made is an end of the stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HealthWatch {
    judge: Judge,
    /// The stream that is open, if one is, or else the last one.
    id: CheckId,
    phase: Phase,
    growth: Growth,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Disconnected,
    /// The stream is to be opened.
    Waiting {
        at: Duration,
    },
    Open {
        /// Until when the first message must come; then there is no such time.
        answer_by: Option<Duration>,
    },
    /// The server has no health service: this connection does without until it ends.
    Unimplemented,
}

impl Default for HealthWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthWatch {
    /// The watch of an endpoint without a connection.
    #[must_use]
    pub fn new() -> Self {
        Self { judge: Judge::new(), id: CheckId(0), phase: Phase::Disconnected, growth: Growth::default() }
    }

    /// What the stream says so far.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        self.judge.status()
    }

    /// When to call [`HealthWatch::handle_timeout`], if ever.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { at } => Some(at),
            Phase::Open { answer_by } => answer_by,
            Phase::Disconnected | Phase::Unimplemented => None,
        }
    }

    /// The endpoint's connection is ready: the stream is due at this time, mostly at once.
    pub fn connected(&mut self, at: Duration) {
        self.growth.reset();
        self.phase = Phase::Waiting { at };
    }

    /// The connection is gone, and the stream with it.
    pub fn disconnected(&mut self) -> Option<Transition> {
        self.phase = Phase::Disconnected;
        self.judge.forget()
    }

    /// Opens the stream that is due, or gives up the one without a first message. Call it again until nothing is due.
    pub fn handle_timeout(&mut self, config: &HealthCheckConfig, now: Duration, rng: &mut impl Rng) -> Due {
        match self.phase {
            Phase::Waiting { at } if at <= now => {
                self.id.0 += 1;
                self.phase = Phase::Open { answer_by: Some(now.saturating_add(config.timeout)) };
                Due::Start(self.id)
            }
            Phase::Open { answer_by: Some(answer_by) } if answer_by <= now => {
                self.wait(config, now, rng);
                Due::Cancel { check: self.id, transition: self.judge.timed_out(config) }
            }
            _ => Due::Nothing,
        }
    }

    /// Takes a message of the stream. The server's word needs no second: the thresholds are for ends of the stream.
    pub fn message(&mut self, stream: CheckId, result: CheckResult) -> Option<Transition> {
        if !self.is_open(stream) {
            return None;
        }
        self.phase = Phase::Open { answer_by: None };
        self.growth.reset();
        self.judge.decide(result)
    }

    /// Takes the end of the stream: UNIMPLEMENTED, or else a failure, also where the status was OK. After UNIMPLEMENTED the
    /// end of a connection of its own is told as another end of the same stream.
    pub fn ended(
        &mut self,
        config: &HealthCheckConfig,
        stream: CheckId,
        result: CheckResult,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<Transition> {
        let does_without = self.phase == Phase::Unimplemented && stream == self.id;
        if !self.is_open(stream) && !does_without {
            return None;
        }
        if result == CheckResult::Unimplemented {
            self.phase = Phase::Unimplemented;
            self.growth.reset();
            return self.judge.decide(result);
        }
        self.wait(config, now, rng);
        self.judge.observe(config, CheckResult::Failed)
    }

    fn is_open(&self, stream: CheckId) -> bool {
        matches!(self.phase, Phase::Open { .. }) && stream == self.id
    }

    fn wait(&mut self, config: &HealthCheckConfig, now: Duration, rng: &mut impl Rng) {
        let gently = BackoffConfig::default();
        let backoff =
            BackoffConfig { max: config.interval, base: gently.base.min(config.interval), ..gently };
        let delay = self.growth.next(&backoff, rng);
        self.phase = Phase::Waiting { at: now.saturating_add(delay) };
    }
}
