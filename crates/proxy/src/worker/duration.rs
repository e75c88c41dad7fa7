//! Calls that go on for too long, or in which nothing happens.
//!
//! Why not the deadline: that is the client's, or the route's for calls that have one answer. Streams without an end stay on
//! the backend that they met first; ending each from time to time, with a status that its client takes for a reason to open
//! it again, spreads them over backends that came later. And a stream that both sides have forgotten holds its place for ever.
//!
//! Rule: a maximum duration is shortened by up to a tenth, at random, so that streams that began together do not end together.
//! It ends a stream behind a whole message; one in the middle of a message has [`MESSAGE_GRACE`] to finish it.
//!
//! Whose fault is it? Nobody's that a stream is long: its endpoint served it if a message came, else nothing is known
//! ([`AttemptEnd::CutOff`]). Silence is that of whoever has the turn: of a client that has not ended its request; of a backend
//! that has the whole request and has not even answered with headers, which has failed. One that began its answer works, and
//! may have no news for as long as it likes.

use core::time::Duration;

use evenkeel_balance::AttemptEnd;
use evenkeel_grpc::Code;
use evenkeel_telemetry::ResponseFlag;
use rand::RngExt;

use super::Worker;
use super::call::{Call, CallPhase};
use super::extras::Idle;
use super::finish::Ending;

/// How long a stream that is to end may take to finish the message that is under way: what 4 MiB, gRPC's largest message by
/// default, take at 32 Mbit/s.
const MESSAGE_GRACE: Duration = Duration::from_secs(1);

impl Call {
    /// When the call ends for its duration, or because nothing happens; later where the middle of a message is in the way.
    pub(super) fn overdue_at(&self) -> Option<Duration> {
        // Its answer is complete; how long the client may take to read it is another limit.
        if self.phase == CallPhase::Draining {
            return None;
        }
        let is_within = self.phase == CallPhase::Answering && !self.received.at_boundary();
        let ends_at = self.extra(|extras| extras.ends_at);
        let end = ends_at.map(|at| if is_within { at + MESSAGE_GRACE } else { at });
        end.into_iter().chain(self.idle_at()).min()
    }

    fn idle_at(&self) -> Option<Duration> {
        self.extra(|extras| extras.idle).map(Idle::ends_at)
    }
}

impl Worker {
    /// Begins to measure a call's duration and its silence, if they have limits.
    pub(super) fn limit_duration(&mut self, now: Duration, id: u32) {
        let Some(actions) = &self.calls[id as usize].actions else { return };
        let (longest, idle) = (actions.max_stream_duration, actions.stream_idle_timeout);
        if longest.is_none() && idle.is_none() {
            return;
        }
        let ends_at = longest.map(|longest| now + longest.mul_f64(self.rng.random_range(0.9..=1.0)));
        let extras = self.extras(id);
        extras.ends_at = ends_at;
        extras.idle = idle.map(|timeout| Idle { timeout, active_at: now });
    }

    /// Ends a call that went on, or was idle, for too long. Whether it did.
    #[inline]
    pub(super) fn end_overdue(&mut self, now: Duration, id: u32) -> bool {
        // Without actions its route has no limits.
        self.calls[id as usize].actions.is_some() && self.end_if_overdue(now, id)
    }

    fn end_if_overdue(&mut self, now: Duration, id: u32) -> bool {
        let call = &self.calls[id as usize];
        if call.overdue_at().is_none_or(|at| at > now) {
            return false;
        }
        let is_idle = call.idle_at().is_some_and(|at| at <= now);
        // A backend that has the whole request and says nothing has failed; nobody has if a stream is only long.
        let is_unanswered = call.phase == CallPhase::Sent && call.request_ended;
        let (flag, text) = if is_idle {
            (ResponseFlag::StreamIdle, "stream idle timeout: no data in either direction")
        } else {
            (ResponseFlag::MaxDuration, "the stream reached its max_stream_duration: open it again")
        };
        if !(is_idle && is_unanswered) {
            self.release_upstream(now, id, Some(AttemptEnd::CutOff));
        }
        self.end_call(now, id, &Ending::local(Code::Unavailable, flag, text));
        true
    }
}
