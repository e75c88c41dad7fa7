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
pub(super) enum Staller {
    Client,
    Backend,
}

/// Since when bytes of a call wait for the window of each side, in microseconds: both for the room of one optional time, as every
/// call has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stalls {
    client: u64,
    backend: u64,
}

impl Stalls {
    /// The time of a side for which nothing waits.
    const NEVER: u64 = u64::MAX;

    /// Nothing waits.
    pub(super) const NONE: Self = Self { client: Self::NEVER, backend: Self::NEVER };

    fn since(self, staller: Staller) -> Option<Duration> {
        let micros = match staller {
            Staller::Client => self.client,
            Staller::Backend => self.backend,
        };
        (micros != Self::NEVER).then(|| Duration::from_micros(micros))
    }

    /// Notes since when bytes wait for a side; `None` if none do.
    pub(super) fn set(&mut self, staller: Staller, since: Option<Duration>) {
        let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(Self::NEVER);
        let since = since.map_or(Self::NEVER, micros);
        match staller {
            Staller::Client => self.client = since,
            Staller::Backend => self.backend = since,
        }
    }
}

/// How long after its deadline a call is reset in the middle of a message.
///
/// A reset carries no status: the client takes it for its deadline only if its own clock, which gRPC's core library reads in
/// whole milliseconds and not at each event, says so; else for a cancellation.
const RESET_GRACE: Duration = Duration::from_millis(5);

/// What a call is told, or its log, whose deadline passed.
pub(super) const DEADLINE_TEXT: &str = "deadline exceeded: upstream request timeout";

/// How much earlier than the proxy a client may find its deadline passed, besides [`CLIENT_ROUNDING`]: the request's way here,
/// which the client's clock counts and the one here does not, and the ticks of its timer.
const CLIENT_HEAD_START: Duration = Duration::from_millis(20);

/// The n-th part of a timeout by which `grpc-timeout` may be longer than what the client waits. gRPC's core library rounds up
/// to three digits, by 1 % at most (`Timeout::FromMillis`), and may send an earlier call's value that is up to 3 % longer, for
/// the sake of HPACK (`TimeoutCompressorImpl::EncodeWith`); 5 % holds both.
const CLIENT_ROUNDING: u32 = 20;

/// The n-th part of a timeout that both come to at most: who leaves earlier has not waited.
const CLIENT_EARLY_MOST: u32 = 4;

/// How long before the end of its `grpc-timeout` a client that cancels does so because of its deadline.
fn early(timeout: Duration) -> Duration {
    (CLIENT_HEAD_START + timeout / CLIENT_ROUNDING).min(timeout / CLIENT_EARLY_MOST)
}

impl Call {
    /// Whether its deadline has passed, or is so near that a peer's clock may say so.
    pub(super) fn is_at_deadline(&self, now: Duration) -> bool {
        let is_near = |deadline: Duration| now + early(deadline.saturating_sub(self.started_at)) >= deadline;
        self.deadline.is_some_and(is_near)
    }
}

impl Worker {
    /// Whether a client that cancels its call now does so because of its deadline. The client's own clock ends its calls a
    /// little before the one here does, as a rule, and its RST_STREAM does not say why.
    pub(super) fn is_at_clients_deadline(&self, now: Duration, id: u32) -> bool {
        let call = &self.calls[id as usize];
        call.own_deadline && call.is_at_deadline(now)
    }

    /// Notes whether bytes of a call wait for a side's window. If none moves for as long as that side may take the call ends.
    #[inline]
    pub(super) fn note_stall(&mut self, now: Duration, id: u32, staller: Staller, waits: bool) {
        if !waits || self.calls[id as usize].stalls.since(staller).is_some() {
            return;
        }
        self.calls[id as usize].stalls.set(staller, Some(now));
        self.arm_call(id);
    }

    /// Notes that bytes of a call moved that had waited for a side: what still waits begins to do so anew.
    pub(super) fn note_progress(&mut self, now: Duration, id: u32, staller: Staller) {
        let call = &mut self.calls[id as usize];
        let leg = match staller {
            Staller::Client => Some(call.down),
            Staller::Backend => call.up,
        };
        let waits = leg.is_some_and(|leg| {
            self.conns.get(leg.conn.index()).is_some_and(|conn| conn.http2.has_queued(leg.stream))
        });
        call.stalls.set(staller, waits.then_some(now));
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
        let mut first = deadline_end(call);
        let mut note = |due: Option<Duration>| {
            if let Some(due) = due {
                first = Some(first.map_or(due, |first| first.min(due)));
            }
        };
        note(self.stall_end(id).map(|(at, ..)| at));
        if let Some(extras) = call.extras.as_deref() {
            note(call.overdue_at());
            note(extras.attempt_deadline);
            note(extras.retry_at);
            note(extras.held_until);
            note(extras.limits.streams_at);
            note(extras.trial_settles_at);
            note(extras.hedging.as_ref().and_then(|hedging| hedging.next_at()));
        }
        first
    }

    /// When a call ends because bytes of it wait for a window, whose, and how long that had: of two the one that is due first.
    fn stall_end(&self, id: u32) -> Option<(Duration, Staller, Duration)> {
        let call = &self.calls[id as usize];
        if call.stalls == Stalls::NONE {
            return None;
        }
        let end = |staller, leg: Leg, any: bool| {
            let since = call.stalls.since(staller)?;
            let conn = self.conns.get(leg.conn.index())?;
            let timeout = conn.side.stall_timeout();
            (any || conn.http2.has_queued(leg.stream)).then_some((since + timeout, staller, timeout))
        };
        // The end of a response that has not left may be all that waits.
        let client = end(Staller::Client, call.down, call.phase == CallPhase::Draining);
        let backend = call.up.and_then(|up| end(Staller::Backend, up, false));
        client.into_iter().chain(backend).min_by_key(|(at, ..)| *at)
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
        } else if is_due(call.extra(|extras| extras.limits.streams_at)) {
            call.take_extra(|extras| &mut extras.limits.streams_at);
            self.leave_adaptive(now, id);
        } else if is_due(call.extra(|extras| extras.trial_settles_at)) {
            self.settle_trial(now, id);
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
            let ending = Ending::local(Code::DeadlineExceeded, ResponseFlag::UpstreamTimeout, DEADLINE_TEXT);
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
        self.release_upstream(now, id, Some(AttemptEnd::CutOff));
        self.reset_client(id, ErrorCode::INTERNAL_ERROR);
        self.response_ended(now, id);
    }
}

/// When the deadline ends a call: later where all that can be said is a reset.
fn deadline_end(call: &Call) -> Option<Duration> {
    let is_reset = call.phase == CallPhase::Answering && !call.received.at_boundary();
    call.deadline.map(|deadline| if is_reset { deadline + RESET_GRACE } else { deadline })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_early_by_what_grpc_rounds_and_its_way_here_and_never_by_more_than_a_quarter() {
        for (timeout_ms, early_ms) in [(0, 0), (40, 10), (100, 25), (200, 30), (1_000, 70), (60_000, 3_020)] {
            let timeout = Duration::from_millis(timeout_ms);
            assert_eq!(early(timeout), Duration::from_millis(early_ms), "{timeout:?}");
        }
        assert!(early(Duration::MAX) < Duration::MAX / 19);
    }
}
