//! Faults that are injected on purpose, to see how clients bear them: a delay before a call goes to a backend, an error in
//! place of an answer.
//!
//! Rule: each call draws for its delay and for its error, each by its own part, as with Envoy's fault filter. Where the route
//! allows it a call may ask for its own: `DELAY_FIELD` and `ABORT_FIELD` take the place of what was drawn. They
//! are read before the listener drops what only proxies may say, since the route says that its clients may; they never reach
//! the backend. One that makes no sense counts as if it were not there.
//!
//! A call that is delayed waits as one without a connection does: its deadline goes on, and what its client sends is kept, up
//! to a window. It has the flag DI in the access log, and FI if it was answered with an error.

use core::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_http2::field::{FieldBlock, FieldStore};
use evenkeel_telemetry::{Injected, ResponseFlag, RouteEvent};
use rand::RngExt;

use super::reply::Refusal;
use super::{TimerKey, Worker};

/// How long a call asks to be delayed, in milliseconds.
const DELAY_FIELD: &[u8] = b"x-evenkeel-fault-delay-ms";

/// The number of the gRPC status with which a call asks to be answered.
const ABORT_FIELD: &[u8] = b"x-evenkeel-fault-abort";

/// The longest delay that a call may ask for; the configuration has the same bound.
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// All calls, in millionths.
const ALL: u32 = 1_000_000;

/// The faults of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fault {
    /// How long calls are delayed, and which part of them, in millionths.
    pub delay: Option<(Duration, u32)>,
    /// The status with which calls are answered, and which part of them, in millionths.
    pub abort: Option<(Code, u32)>,
    /// Whether a call may ask for its own.
    pub by_header: bool,
}

/// What a route's faults do to a call: told, not done. Parts are in millionths of such calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultSeen {
    /// How long it is delayed, and which part.
    pub delay: Option<(Duration, u32)>,
    /// The status with which it is answered, and which part.
    pub abort: Option<(Code, u32)>,
}

impl FaultSeen {
    /// The status with which each such call is answered.
    #[must_use]
    pub fn answer(&self) -> Option<Code> {
        self.abort.filter(|(_, part)| *part == ALL).map(|(code, _)| code)
    }
}

impl Fault {
    /// What becomes of a call with this header list.
    pub(super) fn look(&self, block: &FieldBlock, store: &FieldStore) -> FaultSeen {
        let (delay, abort) = if self.by_header { asked_for(block, store) } else { (None, None) };
        FaultSeen {
            delay: delay.map(|delay| (delay, ALL)).or(self.delay),
            abort: abort.map(|code| (code, ALL)).or(self.abort),
        }
    }
}

/// The message of an answer that is injected.
pub(crate) const ABORT_TEXT: &str = "fault filter abort";

/// What a call asks for.
fn asked_for(block: &FieldBlock, store: &FieldStore) -> (Option<Duration>, Option<Code>) {
    let number = |name| {
        let field = block.find_bytes(store, name)?;
        core::str::from_utf8(field.value).ok()?.parse::<u32>().ok()
    };
    let delay = number(DELAY_FIELD).map(|millis| Duration::from_millis(millis.into()));
    let code = number(ABORT_FIELD).and_then(|number| Code::from_u8(u8::try_from(number).ok()?));
    (delay.filter(|delay| !delay.is_zero() && *delay <= DELAY_MAX), code.filter(|code| *code != Code::Ok))
}

impl Worker {
    /// Decides which faults a new call gets, if it passes the rate limits; returns the delay. `block` is its header list, from
    /// which its own wishes are taken.
    pub(super) fn choose_fault(&mut self, id: u32, block: &mut FieldBlock) -> Option<Duration> {
        let fault = self.calls[id as usize].actions.as_ref().and_then(|actions| actions.fault)?;
        let mut draw = |part: u32| self.rng.random_range(0..ALL) < part;
        let mut delay = fault.delay.filter(|(_, part)| draw(*part)).map(|(delay, _)| delay);
        let mut abort = fault.abort.filter(|(_, part)| draw(*part)).map(|(code, _)| code);
        if fault.by_header {
            let (own_delay, own_abort) = asked_for(block, &self.fields.store);
            delay = own_delay.or(delay);
            abort = own_abort.or(abort);
            block.retain_fields(&mut self.fields.store, |field| {
                field.name != DELAY_FIELD && field.name != ABORT_FIELD
            });
        }
        if abort.is_some() {
            self.extras(id).abort = abort;
        }
        delay
    }

    /// Lets a call wait for so long before its first attempt.
    pub(super) fn delay_call(&mut self, now: Duration, id: u32, delay: Duration) {
        let timer = self.wheel.arm(now + delay, TimerKey::Delay(id));
        let extras = self.extras(id);
        (extras.is_delayed, extras.delay) = (true, Some(timer));
        self.count_of_route(id, RouteEvent::FaultInjected(Injected::Delay));
    }

    /// The delay of a call is over.
    pub(super) fn on_delay_over(&mut self, now: Duration, id: u32) {
        self.calls[id as usize].take_extra(|extras| &mut extras.delay);
        self.attempt(now, id);
    }

    /// Answers a call that is to have an error. Whether it was.
    pub(super) fn inject_abort(&mut self, now: Duration, id: u32) -> bool {
        let abort = self.calls[id as usize].take_extra(|extras| &mut extras.abort);
        let Some(code) = abort else { return false };
        self.count_of_route(id, RouteEvent::FaultInjected(Injected::Abort));
        self.refuse(now, id, Refusal::grpc(code, ResponseFlag::FaultInjected, ABORT_TEXT));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> (Option<Duration>, Option<Code>) {
        let mut block = FieldBlock::new();
        for (name, value) in fields {
            block.push_literal(name.as_bytes(), value.as_bytes(), false);
        }
        asked_for(&block, &FieldStore::new(1))
    }

    #[test]
    fn a_wish_that_makes_no_sense_counts_as_none() {
        let delay = |text| asked(&[("x-evenkeel-fault-delay-ms", text)]).0;
        assert_eq!(delay("1"), Some(Duration::from_millis(1)));
        assert_eq!(delay("3600000"), Some(DELAY_MAX));
        for text in ["0", "3600001", "-1", "1.5", "1s", "", "99999999999999999999", "é"] {
            assert_eq!(delay(text), None, "{text}");
        }
        let abort = |text| asked(&[("x-evenkeel-fault-abort", text)]).1;
        assert_eq!((abort("1"), abort("16")), (Some(Code::Cancelled), Some(Code::Unauthenticated)));
        for text in ["0", "17", "256", "UNAVAILABLE", ""] {
            assert_eq!(abort(text), None, "{text}");
        }
    }
}
