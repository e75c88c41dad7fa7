//! How long the endpoint of an attempt takes to answer: what policies take for its latency.
//!
//! Rule: from when the endpoint has something to answer to until the first whole response message, or until the attempt's end
//! where none comes. The first moment is the attempt's start, or later, as long as nothing is answered, that of the request's first
//! bytes and that of its end. For a unary call it is the time that the call takes, but for its upload.
//!
//! Why? A stream goes on for as long as its client likes. Taken for a latency, the 20 s of one watch that ends well make its endpoint
//! look 1000 times as slow as the others, and it gets no calls for a minute. linkerd2-proxy and tower measure until the
//! response's head, which says less: servers send it long before they have something to say, or just with it. Nor is it the
//! endpoint's fault if a client opens a stream and sends nothing for minutes, or takes minutes to send what has one answer; Envoy times
//! its attempts from the request's end too.
//!
//! Metrics and access log go on to tell how long calls are.

use core::time::Duration;

use evenkeel_balance::AttemptEnd;
use evenkeel_balance::outlier::TRIAL_SETTLES_AFTER;
use evenkeel_grpc::Code;

use super::Worker;
use super::call::Call;

/// In microseconds, up to 71 minutes: before the first response message from the attempt's start to when there was something to
/// answer to, and afterwards from then to that message. One number, as each live call has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct AnswerTime(u32);

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

impl Call {
    fn since_attempt(&self, now: Duration) -> u32 {
        micros(now.saturating_sub(self.attempt_at))
    }

    /// The first bytes of the request came, or its end. What came before the attempt began was sent with it.
    #[inline]
    pub(super) fn note_asked(&mut self, now: Duration) {
        if now != self.attempt_at && self.up.is_some() && self.received.messages == 0 {
            self.answer_time = AnswerTime(self.since_attempt(now));
        }
    }

    /// The first response message is complete.
    fn note_answered(&mut self, now: Duration) {
        self.answer_time = AnswerTime(self.since_attempt(now).saturating_sub(self.answer_time.0));
    }

    /// How long the attempt's endpoint took to answer, or has taken until now if it has not.
    pub(super) fn latency(&self, now: Duration) -> Duration {
        if self.received.messages > 0 {
            Duration::from_micros(self.answer_time.0.into())
        } else {
            let asked_after = Duration::from_micros(self.answer_time.0.into());
            now.saturating_sub(self.attempt_at).saturating_sub(asked_after)
        }
    }

    /// How the attempt ended, in the light of what its endpoint had delivered until then: all but a bound on time is its own
    /// doing, and a backend may be the first to act on the deadline that it shares with the proxy.
    #[inline]
    pub(super) fn judged(&self, end: AttemptEnd, now: Duration) -> AttemptEnd {
        let is_plain = matches!(end, AttemptEnd::Status { code, .. } if code != Code::DeadlineExceeded);
        if is_plain || self.received.messages == 0 {
            return end;
        }
        let is_status = matches!(end, AttemptEnd::Status { .. });
        if is_status && self.is_at_deadline(now) {
            return AttemptEnd::DeadlineExceeded.after_a_message();
        }
        end.after_a_message()
    }
}

impl Worker {
    /// The first response message of a call is complete.
    #[inline]
    pub(super) fn on_first_message(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        call.note_answered(now);
        if call.is_trial {
            self.time_trial(now, id);
        }
    }

    /// An ejected endpoint delivers: if the call goes on, the trial has not to wait for its end.
    #[cold]
    fn time_trial(&mut self, now: Duration, id: u32) {
        self.extras(id).trial_settles_at = Some(now + TRIAL_SETTLES_AFTER);
        self.arm_call(id);
    }

    /// A trial has gone on for long enough after its first message: it succeeded, and its end will be that of any other call.
    pub(super) fn settle_trial(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        call.take_extra(|extras| &mut extras.trial_settles_at);
        let (cluster, slot) = (call.cluster, call.slot);
        if !core::mem::take(&mut call.is_trial) {
            return;
        }
        let Some(slot) = slot else { return };
        self.clusters[cluster as usize].balancer.trial_settled(slot, now);
        self.note_outliers(cluster);
        // Calls may wait for the endpoint to be back.
        self.wake_waiting(now, cluster);
    }
}
