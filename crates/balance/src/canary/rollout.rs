//! The state machine of a canary.

use core::fmt;
use core::time::Duration;

use super::config::{CanaryConfig, Step};
use super::counts::Window;
use super::judgement::{Comparison, Judgement, judge};
use super::progress::{Phase, Progress};

/// A canary: its configuration, and how far it has come.
#[derive(Clone, Debug)]
pub struct Canary {
    config: CanaryConfig,
    progress: Progress,
    /// Until when `Progress::elapsed` counts.
    counted_to: Duration,
}

/// Why a canary changed.
#[derive(Clone, PartialEq, Debug)]
pub enum Cause {
    /// It began.
    Started,
    /// A step passed, and the next began.
    NextStep,
    /// It stays where it is.
    Paused,
    /// It goes on.
    Resumed,
    /// Its weight was set by hand.
    Set,
    /// All steps passed.
    Passed,
    /// It was promoted by hand.
    Promoted,
    /// It was taken back by hand.
    Aborted,
    /// It was worse.
    Worse(Box<Comparison>),
    /// The steps are others now, and it goes on in the first that gives it as much as it has.
    OtherSteps,
    /// The steps are others now, and it has more than any that is judged: it stays, and is not judged any more.
    BeyondSteps,
}

/// One change of a canary.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// Why.
    pub cause: Cause,
    /// The canary's share before, in percent; `None`: the configuration's weights.
    pub before: Option<u8>,
    /// The canary's share now, in percent.
    pub after: Option<u8>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Started => write!(f, "started"),
            Cause::NextStep => write!(f, "step passed"),
            Cause::Paused => write!(f, "paused"),
            Cause::Resumed => write!(f, "resumed"),
            Cause::Set => write!(f, "set by hand"),
            Cause::Passed => write!(f, "all steps passed, promoted"),
            Cause::Promoted => write!(f, "promoted by hand"),
            Cause::Aborted => write!(f, "aborted"),
            Cause::Worse(comparison) => write!(f, "worse than stable, rolled back: {comparison}"),
            Cause::OtherSteps => write!(f, "the steps are others now: it goes on in the first with as much"),
            Cause::BeyondSteps => {
                write!(
                    f,
                    "the steps are others now, each with less than it has: it stays, and is not judged any more"
                )
            }
        }
    }
}

/// A command that makes no sense in the canary's phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// It runs already.
    #[error("the canary is {} already: pause or abort it first", .0.name())]
    Running(Phase),
    /// There is nothing to pause.
    #[error("the canary is {}: only one that is running can be paused", .0.name())]
    NotRunning(Phase),
    /// There is nothing to resume.
    #[error("the canary is {}: only one that is paused can be resumed; `start` begins with the first step", .0.name())]
    NotPaused(Phase),
    /// It gets all calls.
    #[error("the canary is promoted already; `abort` gives all calls back to the stable cluster")]
    Promoted,
    /// It gets none.
    #[error("the canary is {} already: it gets no calls", .0.name())]
    Aborted(Phase),
    /// More than all.
    #[error("a weight of {0} % is too much: give 0 to 100")]
    Weight(u32),
}

impl Canary {
    /// A canary that has not begun.
    #[must_use]
    pub fn new(config: CanaryConfig, now: Duration) -> Self {
        Self::restore(config, Progress::default(), now).0
    }

    /// A canary that has come so far already, maybe with other steps: it goes on in the first step that gives it as much as
    /// it has. With the change that this is, if it is one.
    #[must_use]
    pub fn restore(config: CanaryConfig, mut progress: Progress, now: Duration) -> (Self, Option<Change>) {
        let before = progress.weight;
        let mut cause = None;
        if progress.phase.is_judged() {
            let weight = progress.weight.unwrap_or(0);
            let step = config.steps.iter().position(|step| step.weight >= weight && step.weight < 100);
            match step {
                Some(step) if config.steps[step].weight == weight => progress.step = step,
                Some(step) => {
                    progress.step = step;
                    progress.weight = Some(config.steps[step].weight);
                    (progress.elapsed, progress.window) = Default::default();
                    cause = Some(Cause::OtherSteps);
                }
                // It has more than any step that is judged: where it is, it stays.
                None => {
                    progress.phase = Phase::Manual;
                    cause = Some(Cause::BeyondSteps);
                }
            }
        }
        progress.weight = progress.weight.map(|weight| weight.min(100));
        let change = cause.map(|cause| Change { cause, before, after: progress.weight });
        (Self { config, progress, counted_to: now }, change)
    }

    /// What it is configured with.
    #[must_use]
    pub fn config(&self) -> &CanaryConfig {
        &self.config
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Its share in percent of what both versions get; `None` while the configuration's weights hold.
    #[must_use]
    pub fn weight(&self) -> Option<u8> {
        self.progress.weight
    }

    /// The step that it is in, if it is being judged.
    #[must_use]
    pub fn step(&self) -> Option<&Step> {
        self.config.steps.get(self.progress.step).filter(|_| self.progress.phase.is_judged())
    }

    /// What the window so far says, if it is being judged.
    #[must_use]
    pub fn judgement(&self) -> Option<Judgement> {
        self.progress.phase.is_judged().then(|| judge(&self.config, &self.progress.window))
    }

    /// Takes in what both versions did since the last tick, and goes a step on or all the way back if it is time to.
    pub fn tick(&mut self, now: Duration, fresh: &Window) -> Option<Change> {
        let passed = now.saturating_sub(self.counted_to);
        self.counted_to = self.counted_to.max(now);
        let progress = &mut self.progress;
        if !progress.phase.is_judged() {
            return None;
        }
        progress.window.add(fresh);
        if progress.phase == Phase::Running {
            progress.elapsed = progress.elapsed.saturating_add(passed);
        }
        let judgement = judge(&self.config, &progress.window);
        if let Some(worse) = judgement.worse() {
            progress.rolled_back_for = Some(*worse);
            return Some(self.enter(Cause::Worse(Box::new(*worse)), Phase::RolledBack, 0));
        }
        let step = self.config.steps.get(progress.step)?;
        let is_over = progress.phase == Phase::Running && progress.elapsed >= step.duration;
        if !is_over || !judgement.lets_pass() {
            return None;
        }
        let next = progress.step + 1;
        Some(match self.config.steps.get(next).filter(|step| step.weight < 100) {
            Some(step) => {
                let weight = step.weight;
                let change = self.enter(Cause::NextStep, Phase::Running, weight);
                self.progress.step = next;
                change
            }
            None => self.enter(Cause::Passed, Phase::Promoted, 100),
        })
    }

    /// Begins with the first step.
    ///
    /// # Errors
    /// [`CommandError`] if it has begun, or has all calls.
    pub fn start(&mut self, now: Duration) -> Result<Change, CommandError> {
        match self.progress.phase {
            phase @ (Phase::Running | Phase::Paused) => return Err(CommandError::Running(phase)),
            Phase::Promoted => return Err(CommandError::Promoted),
            Phase::Idle | Phase::Manual | Phase::Aborted | Phase::RolledBack => {}
        }
        self.counted_to = now;
        self.progress.rolled_back_for = None;
        Ok(match self.config.steps.first().filter(|step| step.weight < 100) {
            Some(step) => self.enter(Cause::Started, Phase::Running, step.weight),
            None => self.enter(Cause::Started, Phase::Promoted, 100),
        })
    }

    /// Stays at the step that it is in.
    ///
    /// # Errors
    /// [`CommandError`] if it is not running.
    pub fn pause(&mut self, now: Duration) -> Result<Change, CommandError> {
        self.switch(now, (Phase::Running, Phase::Paused), Cause::Paused, CommandError::NotRunning)
    }

    /// Goes on with the step that it is in.
    ///
    /// # Errors
    /// [`CommandError`] if it is not paused.
    pub fn resume(&mut self, now: Duration) -> Result<Change, CommandError> {
        self.switch(now, (Phase::Paused, Phase::Running), Cause::Resumed, CommandError::NotPaused)
    }

    /// Gives it this share, in percent, and judges it no more.
    ///
    /// # Errors
    /// [`CommandError`] if the share is above 100.
    pub fn set(&mut self, weight: u32) -> Result<Change, CommandError> {
        let percent = u8::try_from(weight).ok().filter(|percent| *percent <= 100);
        let percent = percent.ok_or(CommandError::Weight(weight))?;
        Ok(self.enter(Cause::Set, Phase::Manual, percent))
    }

    /// Gives it all calls, whatever step it is in.
    ///
    /// # Errors
    /// [`CommandError`] if it has them.
    pub fn promote(&mut self) -> Result<Change, CommandError> {
        match self.progress.phase {
            Phase::Promoted => Err(CommandError::Promoted),
            _ => Ok(self.enter(Cause::Promoted, Phase::Promoted, 100)),
        }
    }

    /// Gives all calls back to the stable version.
    ///
    /// # Errors
    /// [`CommandError`] if that has happened.
    pub fn abort(&mut self) -> Result<Change, CommandError> {
        match self.progress.phase {
            phase @ (Phase::Aborted | Phase::RolledBack) => Err(CommandError::Aborted(phase)),
            _ => Ok(self.enter(Cause::Aborted, Phase::Aborted, 0)),
        }
    }

    fn switch(
        &mut self,
        now: Duration,
        (from, to): (Phase, Phase),
        cause: Cause,
        error: fn(Phase) -> CommandError,
    ) -> Result<Change, CommandError> {
        let progress = &mut self.progress;
        if progress.phase != from {
            return Err(error(progress.phase));
        }
        if from == Phase::Running {
            progress.elapsed = progress.elapsed.saturating_add(now.saturating_sub(self.counted_to));
        }
        self.counted_to = self.counted_to.max(now);
        progress.phase = to;
        Ok(Change { cause, before: progress.weight, after: progress.weight })
    }

    /// Begins a phase with a weight and an empty window.
    fn enter(&mut self, cause: Cause, phase: Phase, weight: u8) -> Change {
        let progress = &mut self.progress;
        let change = Change { cause, before: progress.weight, after: Some(weight) };
        *progress = Progress {
            phase,
            weight: Some(weight),
            rolled_back_for: progress.rolled_back_for.take(),
            ..Progress::default()
        };
        change
    }
}
