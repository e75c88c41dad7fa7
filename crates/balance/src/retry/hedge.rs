//! Hedging: a further attempt while the first ones still run, so that one slow backend does not make a slow call.
//!
//! Rule (gRFC A6): attempt n is sent `n * hedging_delay` after the first, until the call is decided. The first attempt that
//! succeeds, or fails fatally, decides it, and the others are cancelled. One that fails otherwise has the next sent at once,
//! or after its pushback; "never" ends the sending. Source of the idea and its figures: Dean and Barroso, "The Tail at
//! Scale", 2013.

use core::time::Duration;

use super::budget::RetryBudget;
use super::config::{HedgingPolicy, MAX_ATTEMPTS, obey};
use super::decision::{Gates, Moment, StopReason};
use super::transparent::Transparent;
use crate::attempt::AttemptEnd;

/// How long a call waits at least for room, or for the rest of its request, before it looks again whether the next attempt can
/// be sent: a policy without a delay must not look all the time.
pub const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What to do after a timer or an attempt's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HedgeDecision {
    /// Send an attempt now, best to an endpoint that has none of the call's yet.
    Send {
        /// Its number, from 1 on; what `grpc-previous-rpc-attempts` says. That of the attempt that ended is a transparent
        /// retry of it.
        attempt: u8,
    },
    /// Nothing, until [`HedgeState::next_at`] or the next end.
    Wait,
    /// The end just told decides the call, or is the last one: cancel the attempts that still run.
    Finish(StopReason),
}

/// What one hedged call remembers of its attempts.
///
/// Use: one per call, made when attempt 0 is sent. [`HedgeState::attempt_ended`] for each attempt that ends by itself;
/// [`HedgeState::handle_timeout`] at [`HedgeState::next_at`], again until it says wait; no more after
/// [`HedgeDecision::Finish`]. A call that is decided in another way, such as by the first message of a response, must tell
/// [`HedgeState::abandon`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HedgeState {
    /// Attempts that may be sent in all.
    limit: u8,
    sent: u8,
    /// A bit for each attempt that runs; all but attempt 0 have a place in the budget.
    running: u8,
    next_at: Option<Duration>,
    transparent: Transparent,
    /// Whether a backend forbade further attempts.
    is_forbidden: bool,
}

const _: () = assert!(MAX_ATTEMPTS as u32 <= u8::BITS, "each attempt needs a bit");

impl HedgeState {
    /// The state of a call whose attempt 0 is sent now. Without the declaration that it is idempotent no other follows.
    #[must_use]
    pub fn new(policy: &HedgingPolicy, is_idempotent: bool, now: Duration) -> Self {
        let limit = policy.attempts(is_idempotent);
        let next_at = (limit > 1).then(|| now.saturating_add(policy.hedging_delay));
        let transparent = Transparent::default();
        Self { limit, sent: 1, running: 1, next_at, transparent, is_forbidden: false }
    }

    /// When to call [`HedgeState::handle_timeout`], if ever.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.next_at
    }

    /// Attempts sent so far, transparent retries not counted.
    #[must_use]
    pub fn sent(&self) -> u8 {
        self.sent
    }

    /// Decides whether the next attempt is sent now.
    pub fn handle_timeout(
        &mut self,
        policy: &HedgingPolicy,
        gates: Gates<'_>,
        moment: &Moment,
    ) -> HedgeDecision {
        match self.next_at {
            Some(at) if at <= moment.now => self.send_or_wait(policy, gates, moment),
            _ => HedgeDecision::Wait,
        }
    }

    /// Decides what follows the end of the attempt with this number.
    pub fn attempt_ended(
        &mut self,
        policy: &HedgingPolicy,
        gates: Gates<'_>,
        attempt: u8,
        end: &AttemptEnd,
        moment: &Moment,
    ) -> HedgeDecision {
        if moment.can_send() && self.transparent.take(end, moment.now) {
            return HedgeDecision::Send { attempt };
        }
        self.stop_running(attempt, gates.budget);
        Self::answer_ended(policy, gates, end);
        if !policy.is_non_fatal(end) {
            return self.finish(gates.budget, StopReason::of(end));
        }
        match end.pushback().map(obey) {
            None => self.send_or_wait(policy, gates, moment),
            Some(None) => {
                self.is_forbidden = true;
                self.next_at = None;
                self.wait_or_finish(gates.budget, StopReason::Pushback)
            }
            Some(Some(delay)) => {
                let at = moment.now.saturating_add(delay);
                let may_send = self.has_more() && moment.is_before_deadline(at);
                self.next_at = may_send.then_some(at);
                let is_over = !may_send && self.running == 0;
                if is_over { HedgeDecision::Finish(self.exhausted()) } else { HedgeDecision::Wait }
            }
        }
    }

    /// Counts the end of an attempt in the throttle. [`HedgeState::attempt_ended`] does it by itself; it is left to the driver for
    /// an attempt that had decided the call before its end, as one does with its response headers.
    pub fn answer_ended(policy: &HedgingPolicy, gates: Gates<'_>, end: &AttemptEnd) {
        if let Some(throttle) = gates.throttle {
            throttle.attempt_ended(end, policy.is_non_fatal(end));
        }
    }

    /// Whether an attempt runs; what was decided and is not sent yet counts.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running != 0
    }

    /// The attempt that was to be sent with this number could not be: no endpoint had room. It counts as not sent, and the
    /// next look is a delay later, at least [`LOOK_AGAIN`].
    pub fn not_sent(&mut self, attempt: u8, policy: &HedgingPolicy, budget: &RetryBudget, now: Duration) {
        self.stop_running(attempt, budget);
        // A transparent retry has a number below; those above it are taken.
        if attempt + 1 == self.sent {
            self.sent = attempt;
        }
        self.postpone(policy, now);
    }

    /// Looks again a delay later, at least [`LOOK_AGAIN`]: nothing can be sent now.
    pub fn postpone(&mut self, policy: &HedgingPolicy, now: Duration) {
        let later = now.saturating_add(policy.hedging_delay.max(LOOK_AGAIN));
        self.next_at = self.has_more().then_some(later);
    }

    /// Whether attempts are left to send.
    fn has_more(&self) -> bool {
        !self.is_forbidden && self.sent < self.limit
    }

    /// Gives back what the call holds of the budget: it is decided.
    pub fn abandon(&mut self, budget: &RetryBudget) {
        (0..MAX_ATTEMPTS).for_each(|attempt| self.stop_running(attempt, budget));
        self.next_at = None;
    }

    fn stop_running(&mut self, attempt: u8, budget: &RetryBudget) {
        let bit = 1_u8.checked_shl(u32::from(attempt)).unwrap_or(0);
        if self.running & bit != 0 {
            self.running &= !bit;
            if attempt > 0 {
                budget.release();
            }
        }
    }

    fn finish(&mut self, budget: &RetryBudget, reason: StopReason) -> HedgeDecision {
        self.abandon(budget);
        HedgeDecision::Finish(reason)
    }

    fn wait_or_finish(&mut self, budget: &RetryBudget, reason: StopReason) -> HedgeDecision {
        if self.running == 0 { self.finish(budget, reason) } else { HedgeDecision::Wait }
    }

    fn exhausted(&self) -> StopReason {
        if self.is_forbidden {
            StopReason::Pushback
        } else if self.sent >= self.limit {
            StopReason::AttemptsUsed
        } else {
            StopReason::Deadline
        }
    }

    fn send_or_wait(&mut self, policy: &HedgingPolicy, gates: Gates<'_>, moment: &Moment) -> HedgeDecision {
        let later = moment.now.saturating_add(policy.hedging_delay);
        match self.check_gates(gates, moment) {
            Ok(()) => {
                let attempt = self.sent;
                self.running |= 1 << attempt;
                self.sent += 1;
                self.next_at = self.has_more().then_some(later);
                HedgeDecision::Send { attempt }
            }
            Err(reason) => {
                // What the others do may open the gate again; without a delay there is no later time to look.
                let is_passing = matches!(reason, StopReason::Throttled | StopReason::OverBudget);
                self.next_at = (is_passing && !policy.hedging_delay.is_zero()).then_some(later);
                self.wait_or_finish(gates.budget, reason)
            }
        }
    }

    fn check_gates(&self, gates: Gates<'_>, moment: &Moment) -> Result<(), StopReason> {
        if self.is_forbidden {
            return Err(StopReason::Pushback);
        }
        moment.replay.check()?;
        if self.sent >= self.limit {
            return Err(StopReason::AttemptsUsed);
        }
        if gates.throttle.is_some_and(|throttle| !throttle.allows()) {
            return Err(StopReason::Throttled);
        }
        if !moment.is_before_deadline(moment.now) {
            return Err(StopReason::Deadline);
        }
        if !gates.budget.acquire(moment.now) {
            return Err(StopReason::OverBudget);
        }
        Ok(())
    }
}
