//! A call's one timer, and what is due when it fires: its deadline, an attempt's own, the next attempt, response headers that
//! are held back, a peer that reads nothing.

use core::time::Duration;

use evenkeel_balance::AttemptEnd;
use evenkeel_grpc::Code;
use evenkeel_http2::ErrorCode;
use evenkeel_telemetry::ResponseFlag;

use super::call::{Call, CallPhase, Leg};
use super::finish::Ending;
use super::{TimerKey, Worker};

/// Who leaves bytes of a call unread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Staller {
    Client,
    Backend,
}

/// How long after its deadline a call is reset in the middle of a message.
///
/// A reset carries no status: the client takes it for its deadline only if its own clock, which gRPC's core library reads in
/// whole milliseconds and not at each event, says so; else for a cancellation.
const RESET_GRACE: Duration = Duration::from_millis(5);

impl Worker {
    /// Notes that bytes of a call wait for a window. If none moves for as long as its peer may take the call ends.
    #[inline]
    pub(super) fn note_stall(&mut self, now: Duration, id: u32, waits: bool) {
        if !waits || self.calls[id as usize].stalled_since.is_some() {
            return;
        }
        self.calls[id as usize].stalled_since = Some(now);
        self.arm_call(id);
    }

    /// Whose window bytes of a call wait for, and how long it may stay closed: of two the one with less patience for it.
    fn staller(&self, id: u32) -> Option<(Staller, Duration)> {
        let call = &self.calls[id as usize];
        let waiting = |leg: Leg, any: bool| {
            let conn = self.conns.get(leg.conn.index())?;
            (any || conn.http2.has_queued(leg.stream)).then(|| conn.side.stall_timeout())
        };
        // The end of a response that has not left may be all that waits.
        let client = waiting(call.down, call.phase == CallPhase::Draining);
        let client = client.map(|timeout| (Staller::Client, timeout));
        let backend = call.up.and_then(|up| waiting(up, false)).map(|timeout| (Staller::Backend, timeout));
        client.into_iter().chain(backend).min_by_key(|(_, timeout)| *timeout)
    }

    /// Notes that bytes of a call moved that had waited: what still waits begins to do so anew.
    pub(super) fn note_progress(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        let conns = &self.conns;
        let waits = [Some(call.down), call.up]
            .into_iter()
            .flatten()
            .any(|leg| conns.get(leg.conn.index()).is_some_and(|conn| conn.http2.has_queued(leg.stream)));
        call.stalled_since = waits.then_some(now);
    }

    /// Arms the call's timer for what is due first; one that fires earlier stays, and looks again.
    pub(super) fn arm_call(&mut self, id: u32) {
        let Some(next) = self.next_due(id) else { return };
        let call = &mut self.calls[id as usize];
        match call.timer {
            Some((_, at)) if at <= next => {}
            armed => {
                if let Some((timer, _)) = armed {
                    self.wheel.disarm(timer);
                }
                call.timer = Some((self.wheel.arm(next, TimerKey::Call(id)), next));
            }
        }
    }

    fn next_due(&self, id: u32) -> Option<Duration> {
        let call = &self.calls[id as usize];
        let dues = [deadline_end(call), self.stall_end(id).map(|(at, ..)| at)];
        let besides = call.extras.as_deref().map(|extras| {
            let hedge_at = extras.hedging.as_ref().and_then(|hedging| hedging.next_at());
            [call.overdue_at(), extras.attempt_deadline, extras.retry_at, extras.held_until, hedge_at]
        });
        dues.into_iter().chain(besides.into_iter().flatten()).flatten().min()
    }

    /// When a call ends because bytes of it wait for a window, whose, and how long that had.
    fn stall_end(&self, id: u32) -> Option<(Duration, Staller, Duration)> {
        let since = self.calls[id as usize].stalled_since?;
        self.staller(id).map(|(staller, timeout)| (since + timeout, staller, timeout))
    }

    pub(super) fn on_call_timer(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        call.timer = None;
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if is_due(deadline_end(call)) {
            self.end_past_deadline(now, id);
        } else if is_due(call.overdue_at()) {
            self.end_overdue(now, id);
        } else if is_due(call.extra(|extras| extras.attempt_deadline)) {
            self.on_attempt_timeout(now, id);
        } else if is_due(call.extra(|extras| extras.retry_at)) {
            call.take_extra(|extras| &mut extras.retry_at);
            self.attempt(now, id);
        } else if is_due(call.extra(|extras| extras.hedging.as_ref()?.next_at())) {
            self.on_hedge_due(now, id);
        } else if is_due(call.extra(|extras| extras.held_until)) {
            self.release_held(now, id);
        } else if let Some((at, staller, timeout)) = self.stall_end(id)
            && at <= now
        {
            self.end_stalled(now, id, staller, timeout);
        }
        // No other call can have taken the place of one that ended: a timer brings no requests.
        if self.calls.contains(id as usize) {
            self.arm_call(id);
        }
    }

    /// Ends a call whose deadline has passed. Whether it has.
    pub(super) fn end_past_deadline(&mut self, now: Duration, id: u32) -> bool {
        let passed = self.calls[id as usize].deadline.is_some_and(|deadline| deadline <= now);
        if passed {
            let text = "deadline exceeded: upstream request timeout";
            let ending = Ending::local(Code::DeadlineExceeded, ResponseFlag::UpstreamTimeout, text);
            self.end_call(now, id, &ending);
        }
        passed
    }

    /// Nothing moved for too long. A client that does not read is reset, and nothing of it is the backend's fault; a
    /// backend that does not read ends the call.
    fn end_stalled(&mut self, now: Duration, id: u32, staller: Staller, timeout: Duration) {
        if staller == Staller::Backend {
            let text = format!("stream idle timeout: the backend did not read the request for {timeout:?}");
            self.end_call(now, id, &Ending::local(Code::Unavailable, ResponseFlag::StreamIdle, &text));
            return;
        }
        let call = &mut self.calls[id as usize];
        call.code = Some(Code::Unavailable);
        call.flag = Some(ResponseFlag::StreamIdle);
        self.release_upstream(now, id, Some(AttemptEnd::Cancelled));
        self.reset_client(id, ErrorCode::INTERNAL_ERROR);
        self.response_ended(now, id);
    }
}

/// When the deadline ends a call: later where all that can be said is a reset.
fn deadline_end(call: &Call) -> Option<Duration> {
    let is_reset = call.phase == CallPhase::Answering && !call.received.at_boundary();
    call.deadline.map(|deadline| if is_reset { deadline + RESET_GRACE } else { deadline })
}
