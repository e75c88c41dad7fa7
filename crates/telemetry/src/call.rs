//! The counts of calls: one row per method or endpoint and writer.
//!
//! A call is counted when it starts and when it ends; a long stream may report its messages in between. What ends is
//! described once, by [`CallEnd`], and counted twice: by the method for the client's side (`grpc_server_*`: the proxy
//! serves the client) and by the endpoint for the backend's side (`grpc_client_*`: the proxy is the backend's client,
//! and each attempt is a call there).
//!
//! **Call type.** go-grpc-middleware knows each method's type from its descriptor. A proxy has none, so it learns: a
//! method is unary until one call shows more than one message in a direction, and from then on streams in that direction
//! for good. The label therefore changes at most twice in the life of a process, each time with all counts: sum over
//! `grpc_type` in queries that span such a change.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_grpc::Code;

use crate::counter::Counter;
use crate::histogram::{LatencyHistogram, LatencyTotals};

/// Number of gRPC status codes.
pub const CODES: usize = Code::ALL.len();

/// Messages per direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// From the client to the backend.
    pub request: u64,
    /// From the backend to the client.
    pub response: u64,
}

impl Messages {
    /// Those that came after `earlier`.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            request: self.request.saturating_sub(earlier.request),
            response: self.response.saturating_sub(earlier.response),
        }
    }
}

/// How a call, or an attempt of one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// The status that the client (for an attempt: the proxy) saw.
    pub code: Code,
    /// From the request's header section to the end of the response.
    pub latency: Duration,
    /// All messages of the call.
    pub messages: Messages,
    /// Those of `messages` that `call_progressed` has reported before; none for most calls.
    pub reported: Messages,
}

impl CallEnd {
    /// The end of a call that reported no messages before.
    #[must_use]
    pub fn new(code: Code, latency: Duration, messages: Messages) -> Self {
        Self { code, latency, messages, reported: Messages::default() }
    }

    /// The same, of a call that reported some of its messages before.
    #[inline]
    #[must_use]
    pub fn after(self, reported: Messages) -> Self {
        Self { reported, ..self }
    }
}

/// The four kinds of gRPC call: the `grpc_type` label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CallKind {
    /// One message each way, as far as seen.
    #[default]
    Unary = 0,
    /// Many request messages.
    ClientStream = 1,
    /// Many response messages.
    ServerStream = 2,
    /// Many messages both ways.
    BidiStream = 3,
}

impl CallKind {
    /// The kind that a call with these messages shows.
    #[inline]
    #[must_use]
    pub fn observed(messages: Messages) -> Self {
        Self::from_bits(u8::from(messages.request > 1) | u8::from(messages.response > 1) << 1)
    }

    /// The kind that streams wherever one of the two does.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self::from_bits(self as u8 | other as u8)
    }

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ClientStream => "client_stream",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }

    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Unary,
            1 => Self::ClientStream,
            2 => Self::ServerStream,
            _ => Self::BidiStream,
        }
    }
}

/// The counts of one method or endpoint, by one writer.
///
/// A call that ends OK within 5 ms touches the first cache line, and one more for its bucket: the fields stand in the
/// order of their use.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct CallRow {
    started: Counter,
    request_messages: Counter,
    response_messages: Counter,
    /// Bits of [`CallKind`].
    kind: AtomicU8,
    handled: [Counter; CODES],
    latency: LatencyHistogram,
}

const _: () = assert!(size_of::<CallRow>() == 320, "the size that MAX_METHODS' documentation names");

impl CallRow {
    #[inline]
    pub(crate) fn call_started(&self) {
        self.started.add(1);
    }

    #[inline]
    pub(crate) fn call_progressed(&self, messages: Messages) {
        self.request_messages.add(messages.request);
        self.response_messages.add(messages.response);
        self.learn(CallKind::observed(messages));
    }

    #[inline]
    pub(crate) fn call_finished(&self, end: &CallEnd) {
        self.handled[usize::from(u8::from(end.code))].add(1);
        self.latency.observe(end.latency);
        let fresh = end.messages.since(end.reported);
        self.request_messages.add(fresh.request);
        self.response_messages.add(fresh.response);
        self.learn(CallKind::observed(end.messages));
    }

    /// One writer only, hence no `fetch_or`; and no store at all once the kind is known.
    #[inline]
    fn learn(&self, observed: CallKind) {
        let known = self.kind.load(Relaxed);
        if known | observed as u8 != known {
            self.kind.store(known | observed as u8, Relaxed);
        }
    }
}

/// The counts of one method or endpoint, summed over the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTotals {
    /// Calls that began.
    pub started: u64,
    /// Calls that ended, by number of their status code.
    pub handled: [u64; CODES],
    /// Messages of ended calls, and those that running ones reported.
    pub messages: Messages,
    /// Latency of ended calls.
    pub latency: LatencyTotals,
    /// The kind learned so far.
    pub kind: CallKind,
}

impl Default for CallTotals {
    fn default() -> Self {
        Self {
            started: 0,
            handled: [0; CODES],
            messages: Messages::default(),
            latency: LatencyTotals::default(),
            kind: CallKind::default(),
        }
    }
}

impl CallTotals {
    /// Calls that ended, whatever their status.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.handled.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Calls that began and have not ended. Read beside running workers, it may be off by the calls of a moment.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.ended())
    }

    pub(crate) fn add(&mut self, row: &CallRow) {
        // Ends before starts: a call that goes by in between then shows as in flight, not as ended before it began.
        self.latency.add(&row.latency);
        for (total, counter) in self.handled.iter_mut().zip(&row.handled) {
            *total = total.wrapping_add(counter.get());
        }
        self.messages.request = self.messages.request.wrapping_add(row.request_messages.get());
        self.messages.response = self.messages.response.wrapping_add(row.response_messages.get());
        self.kind = self.kind.union(CallKind::from_bits(row.kind.load(Relaxed)));
        self.started = self.started.wrapping_add(row.started.get());
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.started = self.started.wrapping_add(other.started);
        for (total, count) in self.handled.iter_mut().zip(&other.handled) {
            *total = total.wrapping_add(*count);
        }
        self.messages.request = self.messages.request.wrapping_add(other.messages.request);
        self.messages.response = self.messages.response.wrapping_add(other.messages.response);
        self.latency.merge(&other.latency);
        self.kind = self.kind.union(other.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(row: &CallRow) -> CallTotals {
        let mut totals = CallTotals::default();
        totals.add(row);
        totals
    }

    fn end(code: Code, request: u64, response: u64) -> CallEnd {
        CallEnd::new(code, Duration::from_millis(1), Messages { request, response })
    }

    #[test]
    fn every_code_is_counted_under_its_own_number() {
        let row = CallRow::default();
        for code in Code::ALL {
            for _ in 0..=u8::from(code) {
                row.call_finished(&end(code, 1, 1));
            }
        }
        let expected: [u64; CODES] = std::array::from_fn(|number| number as u64 + 1);
        assert_eq!(totals(&row).handled, expected);
    }

    #[test]
    fn a_method_stays_unary_with_one_message_each_way_or_none() {
        let row = CallRow::default();
        row.call_finished(&end(Code::Ok, 1, 1));
        row.call_finished(&end(Code::NotFound, 1, 0));
        row.call_finished(&end(Code::Cancelled, 0, 0));
        assert_eq!(totals(&row).kind, CallKind::Unary);
    }

    #[test]
    fn the_kind_is_upgraded_and_never_taken_back() {
        let row = CallRow::default();
        row.call_finished(&end(Code::Ok, 1, 2));
        assert_eq!(totals(&row).kind, CallKind::ServerStream);
        row.call_finished(&end(Code::Ok, 1, 1));
        assert_eq!(totals(&row).kind, CallKind::ServerStream);
        row.call_finished(&end(Code::Ok, 2, 1));
        assert_eq!(totals(&row).kind, CallKind::BidiStream);
    }

    #[test]
    fn what_one_worker_saw_of_each_direction_makes_one_kind() {
        let (a, b) = (CallRow::default(), CallRow::default());
        a.call_finished(&end(Code::Ok, 2, 1));
        b.call_finished(&end(Code::Ok, 1, 2));
        let mut sum = totals(&a);
        assert_eq!(sum.kind, CallKind::ClientStream);
        sum.add(&b);
        assert_eq!(sum.kind, CallKind::BidiStream);
    }

    #[test]
    fn messages_reported_on_the_way_are_not_counted_again() {
        let row = CallRow::default();
        row.call_started();
        row.call_progressed(Messages { request: 1, response: 40 });
        assert_eq!(totals(&row).messages, Messages { request: 1, response: 40 });
        assert_eq!(totals(&row).kind, CallKind::ServerStream);
        let reported = Messages { request: 1, response: 40 };
        row.call_finished(&CallEnd { reported, ..end(Code::Ok, 1, 50) });
        assert_eq!(totals(&row).messages, Messages { request: 1, response: 50 });
    }

    #[test]
    fn in_flight_is_what_began_and_has_not_ended_and_never_below_zero() {
        let row = CallRow::default();
        row.call_started();
        row.call_started();
        assert_eq!(totals(&row).in_flight(), 2);
        (0..3).for_each(|_| row.call_finished(&end(Code::Ok, 1, 1)));
        assert_eq!(totals(&row).in_flight(), 0);
    }
}
