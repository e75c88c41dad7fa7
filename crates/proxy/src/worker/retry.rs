//! Trying a call again after an attempt has ended, by the rules of [`evenkeel_balance::retry`].
//!
//! Every end of an attempt that the client has seen nothing of passes [`Worker::follow_up`]. Without a policy on the call's route
//! only transparent retries are left, which gRPC does always (gRFC A6).
//!
//! **Holding headers back.** A backend may send response headers and the status of a failure in trailers behind them. Once headers
//! have left for the client nothing can be tried again, so where the route retries statuses they wait for what follows, at
//! most [`HOLD_MAX`]; and only when the request has ended, since a client in the middle of its request may wait for
//! them before it goes on.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::retry::{
    Decision, MAX_PUSHBACK, Moment, Replay, RetryOn, RetryPolicy, RetryState, StopReason,
};
use evenkeel_balance::{AttemptEnd, Slot};
use evenkeel_grpc::{Code, Pushback};
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_telemetry::{
    ClusterEvent, PushedBack, ResponseFlag, RetryDenied, RetryReason, TransparentRetry,
};

use super::Worker;
use super::call::{Call, CallPhase};
use super::extras::{Extras, TRIED_MAX};
use super::finish::Ending;
use super::snapshot::{RetryGates, RetrySettings};

/// How long response headers wait for what follows them. A backend that fails sends its status right behind them; one that
/// streams is held up by no more than this, once.
const HOLD_MAX: Duration = Duration::from_millis(50);

/// What a call without a policy has: transparent retries, which are not counted as attempts.
const TRANSPARENT_ONLY: RetryPolicy = RetryPolicy {
    max_attempts: 1,
    initial_backoff: Duration::ZERO,
    max_backoff: Duration::ZERO,
    backoff_multiplier: evenkeel_balance::Factor::ONE,
    retry_on: RetryOn {
        codes: evenkeel_balance::retry::CodeSet::EMPTY,
        connect_failure: false,
        refused_stream: false,
        reset: false,
    },
    per_try_timeout: None,
};

/// What a call that may be tried again was given when it began; a reload does not change it.
#[derive(Debug)]
pub(super) struct Retrying {
    pub(super) settings: Arc<RetrySettings>,
    pub(super) gates: Arc<RetryGates>,
}

impl Retrying {
    /// Counts a call that begins; [`Retrying::end`] must follow, once.
    pub(super) fn begin(settings: &Arc<RetrySettings>, gates: &Arc<RetryGates>, now: Duration) -> Self {
        gates.budget.call_started(now);
        Self { settings: Arc::clone(settings), gates: Arc::clone(gates) }
    }

    /// No further attempt follows: a retry that has its answer is under way no more, however long the answer goes on.
    pub(super) fn answered(&self, state: &mut RetryState) {
        state.abandon(&self.gates.budget);
    }

    /// The call is over.
    pub(super) fn end(self, state: &mut RetryState) {
        state.abandon(&self.gates.budget);
        self.gates.budget.call_finished();
    }
}

impl Call {
    /// By which rules it is tried again, if its route has a policy.
    #[inline]
    pub(super) fn retrying(&self) -> Option<&Retrying> {
        self.extras.as_deref().and_then(|extras| extras.retrying.as_ref())
    }

    /// Notes that its attempt succeeded, where all there is to do is to note it: not in a hedged call, whose other attempts
    /// that ends. Whether it was noted.
    #[inline]
    pub(super) fn note_success(&mut self) -> bool {
        let Some(Extras { retrying: Some(retrying), hedging: None, .. }) = self.extras.as_deref() else {
            return false;
        };
        self.retry.attempt_succeeded(retrying.gates.gates());
        true
    }

    /// Whether its route says what follows a status: a retry, or another attempt of a hedged call.
    #[inline]
    pub(super) fn has_policy(&self) -> bool {
        self.extras.as_deref().is_some_and(|extras| {
            extras.retrying.is_some() || extras.hedging.is_some() || extras.hedged.is_some()
        })
    }
}

impl Worker {
    /// The newest attempt ended in this way. Whether the call goes on: with another attempt, now or later.
    pub(super) fn follow_up(&mut self, now: Duration, id: u32, end: AttemptEnd) -> bool {
        let call = &mut self.calls[id as usize];
        if call.extras.as_deref().is_some_and(|extras| extras.hedging.is_some()) {
            return self.follow_up_hedged(now, id, end);
        }
        if let Some(answer) = call.take_extra(|extras| &mut extras.hedged) {
            answer.ended(&end);
            return false;
        }
        let (policy, gates, is_idempotent) =
            match call.extras.as_deref().and_then(|extras| extras.retrying.as_ref()) {
                Some(retrying) => {
                    (&retrying.settings.policy, &*retrying.gates, retrying.settings.is_idempotent)
                }
                None => (&TRANSPARENT_ONLY, &*self.no_gates, false),
            };
        let moment = Moment { now, deadline: call.deadline, replay: call.replay, is_idempotent };
        match call.retry.attempt_ended(policy, gates.gates(), &end, &moment, &mut self.rng) {
            Decision::Stop(reason) => {
                if let (true, Some(denied)) = (call.retrying().is_some(), denied(reason)) {
                    self.count_of_call(id, ClusterEvent::RetryDenied(denied));
                }
                false
            }
            Decision::Retry { is_transparent: false, .. } if !self.take_retry(id) => {
                self.count_of_call(id, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
                false
            }
            Decision::Retry { at, is_transparent } => {
                let call = &mut self.calls[id as usize];
                call.phase = CallPhase::Waiting;
                let slot = call.slot;
                if !is_transparent {
                    self.drop_clients_count(id);
                }
                if is_transparent && end == AttemptEnd::NoPlace {
                    self.extras(id).limits.comes_back();
                } else {
                    self.remember_tried(id, slot);
                }
                if !is_transparent {
                    self.keep_answer(id, &end);
                }
                self.release_upstream(now, id, Some(end));
                self.count_of_call(id, event(&end, is_transparent));
                if at <= now {
                    self.attempt(now, id);
                } else {
                    self.extras(id).retry_at = Some(at);
                    self.arm_call(id);
                }
                true
            }
        }
    }

    /// Before a further attempt of a client that counts its own: the backend is told one number.
    pub(super) fn drop_clients_count(&mut self, id: u32) {
        let of_client = Name::GrpcPreviousRpcAttempts;
        let request = &mut self.calls[id as usize].request;
        request.retain_fields(&mut self.fields.store, |field| field.name_token != of_client);
    }

    /// Notes that an attempt on this endpoint failed: the next one is made elsewhere, if it can be. Of more than are remembered
    /// another one is forgotten for each.
    pub(super) fn remember_tried(&mut self, id: u32, slot: Option<Slot>) {
        let attempt = usize::from(self.calls[id as usize].attempts);
        let tried = &mut self.extras(id).tried;
        // Not by the attempt's number: of several that ran at once, as many may fail before the next one is sent.
        let place = tried.iter().position(|one| one.is_none() || *one == slot);
        tried[place.unwrap_or(attempt % TRIED_MAX)] = slot;
    }

    /// The backend's status for a call, in the header list that was just read, with what it says about trying again.
    pub(super) fn status_of(&self, id: u32, code: Code) -> AttemptEnd {
        let fields = &self.fields;
        if !fields.index.contains(Name::GrpcRetryPushbackMs) {
            return AttemptEnd::Status { code, pushback: None };
        }
        let values = || {
            let all = fields.block.iter(&fields.store);
            all.filter(|field| field.name_token == Name::GrpcRetryPushbackMs).map(|field| field.value)
        };
        let pushback = Pushback::from_values(values());
        if self.calls[id as usize].has_policy() {
            self.count_of_call(
                id,
                ClusterEvent::PushedBack(match pushback {
                    _ if !Pushback::is_well_formed(values()) => PushedBack::Malformed,
                    Some(Pushback::RetryAfter(delay)) if delay <= MAX_PUSHBACK => PushedBack::Delay,
                    Some(Pushback::RetryAfter(_)) => PushedBack::TooLong,
                    Some(Pushback::Never) | None => PushedBack::Never,
                }),
            );
        }
        AttemptEnd::Status { code, pushback }
    }

    /// Whether response headers should wait for what follows them.
    pub(super) fn holds_back(&self, id: u32) -> bool {
        let call = &self.calls[id as usize];
        call.request_ended
            && call.replay == Replay::Possible
            && call.retrying().is_some_and(|retrying| !retrying.settings.policy.retry_on.codes.is_empty())
    }

    /// Keeps response headers back. The response has begun, which ends the time of the attempt.
    pub(super) fn hold_back(&mut self, now: Duration, id: u32) {
        let spare = self.take_block();
        let block = core::mem::replace(&mut self.fields.block, spare);
        let extras = self.extras(id);
        extras.attempt_deadline = None;
        extras.held = Some(block);
        extras.held_until = Some(now + HOLD_MAX);
        self.holding.push(id);
    }

    /// Arms the timers of calls whose response headers this batch brought, and not what follows them. Most backends send both
    /// at once, so most calls that hold headers back need no timer.
    pub(super) fn arm_holding(&mut self) {
        while let Some(id) = self.holding.pop() {
            // Another call may have taken the place of one that ended.
            let call = self.calls.get(id as usize);
            if call.is_some_and(|call| call.extra(|extras| extras.held_until).is_some()) {
                self.arm_call(id);
            }
        }
    }

    /// Lets response headers go that were held back.
    #[inline]
    pub(super) fn release_held(&mut self, now: Duration, id: u32) {
        if let Some(extras) = self.calls[id as usize].extras.as_deref_mut()
            && let Some(block) = extras.held.take()
        {
            extras.held_until = None;
            self.forward_held(now, id, block);
        }
    }

    pub(super) fn forward_held(&mut self, now: Duration, id: u32, block: FieldBlock) {
        // They are where headers that were read just now would be.
        let read = core::mem::replace(&mut self.fields.block, block);
        self.forward_headers(now, id, false);
        let block = core::mem::replace(&mut self.fields.block, read);
        self.give_block(block);
    }

    /// Begins to time an attempt if the request is complete, as Envoy does: a client that takes its time to send is no fault of the
    /// backend, which may be unable to answer before.
    pub(super) fn time_attempt(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        let (deadline, may_begin) = (call.deadline, call.request_ended && call.phase == CallPhase::Sent);
        let Some(extras) = call.extras.as_deref_mut() else { return };
        let policy = extras.retrying.as_ref().map(|retrying| &retrying.settings.policy);
        let end = policy.and_then(|policy| policy.attempt_timeout_at(now, deadline));
        extras.attempt_deadline = end.filter(|_| may_begin);
        if extras.attempt_deadline.is_some() {
            self.arm_call(id);
        }
    }

    /// An attempt took longer than it may.
    pub(super) fn on_attempt_timeout(&mut self, now: Duration, id: u32) {
        self.calls[id as usize].take_extra(|extras| &mut extras.attempt_deadline);
        if !self.follow_up(now, id, AttemptEnd::AttemptTimeout) {
            let text = "deadline exceeded: upstream per-try timeout";
            let ending = Ending::local(Code::DeadlineExceeded, ResponseFlag::UpstreamTimeout, text);
            self.end_call(now, id, &ending);
        }
    }
}

/// What an end that is followed by another attempt counts as.
pub(super) fn event(end: &AttemptEnd, is_transparent: bool) -> ClusterEvent {
    if is_transparent {
        return ClusterEvent::TransparentRetry(match end {
            AttemptEnd::RefusedStream => TransparentRetry::RefusedStream,
            AttemptEnd::NoPlace => TransparentRetry::NoPlace,
            AttemptEnd::GoAway { .. } => TransparentRetry::GoAway,
            _ => TransparentRetry::ConnectFailure,
        });
    }
    ClusterEvent::Retry(match end {
        AttemptEnd::Status { .. } => RetryReason::Status,
        AttemptEnd::AttemptTimeout => RetryReason::AttemptTimeout,
        AttemptEnd::RefusedStream | AttemptEnd::NoPlace | AttemptEnd::GoAway { .. } => {
            RetryReason::RefusedStream
        }
        AttemptEnd::NotSent | AttemptEnd::ConnectFailed => RetryReason::ConnectFailure,
        AttemptEnd::Reset
        | AttemptEnd::DeadlineExceeded
        | AttemptEnd::Cancelled
        | AttemptEnd::CutOff
        | AttemptEnd::Served { .. }
        | AttemptEnd::Overtaken { .. } => RetryReason::Reset,
    })
}

/// What a retry that was wanted and not made counts as.
pub(super) fn denied(reason: StopReason) -> Option<RetryDenied> {
    Some(match reason {
        StopReason::Succeeded | StopReason::NotRetryable | StopReason::Cancelled => return None,
        StopReason::ResponseStarted => RetryDenied::ResponseStarted,
        StopReason::RequestTooLarge => RetryDenied::RequestTooLarge,
        StopReason::BuffersFull => RetryDenied::BuffersFull,
        StopReason::Pushback => RetryDenied::Pushback,
        StopReason::AttemptsUsed => RetryDenied::AttemptsUsed,
        StopReason::Throttled => RetryDenied::Throttled,
        StopReason::OverBudget => RetryDenied::OverBudget,
        StopReason::Deadline => RetryDenied::Deadline,
    })
}
