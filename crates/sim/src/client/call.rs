//! One call of a client: what it has sent, and what it has got.

use core::time::Duration;

use evenkeel_grpc::{Code, Pushback};
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_http2::{Fields, StreamKey};

use crate::payload::{Direction, Received, write_message};
use crate::plan::CallPlan;

/// A call in progress.
#[derive(Debug)]
pub(super) struct ClientCall {
    /// Position of its connection among the client's.
    pub(super) conn: usize,
    pub(super) stream: StreamKey,
    pub(super) sent_at: Duration,
    /// Whether nothing stood before its header section on the way, so that its deadline can be judged to the millisecond.
    pub(super) is_prompt: bool,
    /// Messages of the request that were handed to the engine.
    pub(super) sent_messages: u32,
    pub(super) request_ended: bool,
    pub(super) request: Received,
    pub(super) response: Received,
    /// Bytes that arrived and were not consumed.
    pub(super) held: u32,
    /// Undisturbed looks at an overdue call.
    pub(super) overdue_looks: u32,
}

impl ClientCall {
    pub(super) fn new(conn: usize, stream: StreamKey, now: Duration, is_prompt: bool) -> Self {
        Self {
            conn,
            stream,
            sent_at: now,
            is_prompt,
            sent_messages: 0,
            request_ended: false,
            request: Received::new(),
            response: Received::new(),
            held: 0,
            overdue_looks: 0,
        }
    }

    /// The bytes of the next message of the request, and whether they end it.
    pub(super) fn next_message(&mut self, call: u32, plan: &CallPlan) -> (Vec<u8>, bool) {
        let index = self.sent_messages;
        let mut bytes = Vec::new();
        if let Some(length) = plan.requests.get(index as usize) {
            write_message(&mut bytes, call, Direction::Request, index, *length);
            self.request.add(&bytes);
            self.sent_messages += 1;
        }
        let is_last = self.sent_messages as usize >= plan.requests.len();
        self.request_ended = is_last && (!plan.lone_end || bytes.is_empty());
        (bytes, self.request_ended)
    }
}

/// The header list of a call.
pub(super) fn request_block(call: u32, plan: &CallPlan, timeout: Option<&[u8]>) -> FieldBlock {
    let mut block = FieldBlock::new();
    block.push_literal(b":method", b"POST", false);
    block.push_literal(b":scheme", b"http", false);
    block.push_literal(b":path", plan.path().as_bytes(), false);
    block.push_literal(b":authority", b"sim.test", false);
    block.push_literal(b"content-type", b"application/grpc", false);
    block.push_literal(b"te", b"trailers", false);
    if let Some(timeout) = timeout {
        block.push_literal(b"grpc-timeout", timeout, false);
    }
    block.push_literal(SESSION_FIELD, format!("session-{}", plan.session).as_bytes(), false);
    block.push_literal(b"cookie", format!("theme=dark; {SESSION_COOKIE}={}", plan.session).as_bytes(), false);
    block.push_literal(CALL_FIELD, call.to_string().as_bytes(), false);
    block
}

/// The field that names a call on its way: in its request, and in what ends the backend's answer.
pub(crate) const CALL_FIELD: &[u8] = b"x-call";

/// The field that tells a call's session.
pub(crate) const SESSION_FIELD: &[u8] = b"x-session";

/// The cookie that tells it as well.
pub(crate) const SESSION_COOKIE: &str = "sid";

/// When to come again, if that is said.
pub(super) fn pushback(fields: &Fields) -> Option<Pushback> {
    let position = fields.index.position(Name::GrpcRetryPushbackMs)?;
    Some(Pushback::parse(fields.block.get(&fields.store, position).value))
}

/// The gRPC status in the header list of the newest event.
pub(super) fn status(fields: &Fields) -> Option<Code> {
    let position = fields.index.position(Name::GrpcStatus)?;
    Some(Code::from_wire(fields.block.get(&fields.store, position).value))
}

/// What the backend put into its answer to name the call.
pub(super) fn echo(fields: &Fields) -> Option<u32> {
    let field = fields.block.find_bytes(&fields.store, CALL_FIELD)?;
    str::from_utf8(field.value).ok()?.parse().ok()
}

/// The gRPC message that goes with it, as it is on the wire.
pub(super) fn message(fields: &Fields) -> String {
    let position = fields.index.position(Name::GrpcMessage);
    let text =
        position.map(|at| String::from_utf8_lossy(fields.block.get(&fields.store, at).value).into_owned());
    text.unwrap_or_default()
}
