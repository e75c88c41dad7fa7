//! Answers of our own: honest gRPC statuses in place of hangs, resets and HTML.
//!
//! Every gRPC answer is HTTP 200, trailers-only, with grpc-status, a grpc-message that names the cause (design, section 5),
//! and the same for programs ([`details`](super::details)). Requests that are not gRPC get an HTTP status, since their
//! clients read nothing else.

use core::time::Duration;

use evenkeel_grpc::{Code, Pushback, encode_message};
use evenkeel_http2::ErrorCode;
use evenkeel_telemetry::{Event, ResponseFlag};

use super::Worker;
use super::call::CallPhase;
use super::finish::Ending;
use super::rewrite::AnswerPart;

/// Why a request is answered without asking a backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Not a gRPC content-type: 415 (PROTOCOL-HTTP2 asks for it).
    NotGrpc,
    /// A gRPC content-type, but not a POST with a path: 405.
    NotPost,
    /// A gRPC request with a field that makes no sense: HTTP 400 with grpc-status INTERNAL, as grpc-go answers.
    Malformed(String),
    /// Anything else: a gRPC status.
    Grpc { code: Code, flag: ResponseFlag, text: String },
}

impl Refusal {
    pub(super) fn grpc(code: Code, flag: ResponseFlag, text: &str) -> Self {
        Self::Grpc { code, flag, text: text.to_owned() }
    }

    pub(super) fn malformed(text: &str) -> Self {
        Self::Malformed(text.to_owned())
    }
}

const NOT_GRPC_TEXT: &[u8] = b"This port speaks gRPC: POST with content-type application/grpc.\n";

impl Worker {
    /// Answers a request that no backend sees.
    pub(super) fn refuse(&mut self, now: Duration, id: u32, refusal: Refusal) {
        match refusal {
            Refusal::Grpc { code, flag, text } => {
                self.end_call(now, id, &Ending::local(code, flag, &text));
            }
            Refusal::Malformed(text) => {
                let call = &mut self.calls[id as usize];
                call.code = Some(Code::Internal);
                call.flag = Some(ResponseFlag::DownstreamProtocolError);
                self.note_details(id, &text);
                self.answer(id, 400, &text, None);
                self.response_ended(now, id);
            }
            Refusal::NotGrpc => {
                self.count(Event::NonGrpcRequest);
                self.note_details(id, "the request's content-type is not gRPC's");
                self.answer_plain(now, id, 415, &[]);
            }
            Refusal::NotPost => {
                self.note_details(id, "a gRPC request is a POST with a path");
                self.answer_plain(now, id, 405, &[(b"allow", b"POST")]);
            }
        }
    }

    /// Keeps the cause of an answer for the access log, if there is one.
    pub(super) fn note_details(&mut self, id: u32, text: &str) {
        let call = &mut self.calls[id as usize];
        if call.log.is_some() {
            self.extras(id).details = Some(text.into());
        }
    }

    /// A trailers-only answer with the call's code.
    pub(super) fn answer(&mut self, id: u32, status: u16, text: &str, pushback: Option<Pushback>) {
        self.extras(id).http_status = Some(status);
        let call = &self.calls[id as usize];
        let (down, code) = (call.down, call.code.unwrap_or(Code::Unknown));
        let mut message = self.take_buffer();
        encode_message(text, &mut message);
        let mut block = self.take_block();
        if status == 200 {
            block.push_id(&mut self.fields.store, self.standard.status_200, true);
        } else {
            block.push_literal(b":status", status.to_string().as_bytes(), false);
        }
        block.push_id(&mut self.fields.store, self.standard.content_type, true);
        block.push_literal(b"grpc-status", code.wire(), false);
        if !message.is_empty() {
            block.push_literal(b"grpc-message", &message, false);
        }
        self.push_details(&mut block, id, code, text, pushback);
        self.touch(down.conn);
        self.rewrite_answer(id, AnswerPart::TrailersOnly, &mut block);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2.send_headers(&mut self.fields.store, down.stream, &block, &[], true);
        debug_assert!(sent.is_ok(), "an unanswered call takes an answer");
        self.give_block(block);
        self.give_buffer(message);
    }

    /// Real trailers behind messages that were forwarded whole.
    pub(super) fn answer_trailers(&mut self, id: u32, text: &str) {
        let call = &self.calls[id as usize];
        let (down, code) = (call.down, call.code.unwrap_or(Code::Unknown));
        let mut message = self.take_buffer();
        encode_message(text, &mut message);
        let mut block = self.take_block();
        block.push_literal(b"grpc-status", code.wire(), false);
        block.push_literal(b"grpc-message", &message, false);
        self.push_details(&mut block, id, code, text, None);
        self.touch(down.conn);
        self.rewrite_answer(id, AnswerPart::Trailers, &mut block);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2.send_trailers(&mut self.fields.store, down.stream, &block);
        debug_assert!(sent.is_ok(), "a call that answers takes trailers once");
        self.give_block(block);
        self.give_buffer(message);
    }

    fn answer_plain(&mut self, now: Duration, id: u32, status: u16, extra: &[(&[u8], &[u8])]) {
        self.extras(id).http_status = Some(status);
        let call = &mut self.calls[id as usize];
        call.flag = Some(ResponseFlag::DownstreamProtocolError);
        call.phase = CallPhase::Answering;
        let down = call.down;
        let mut block = self.take_block();
        block.push_literal(b":status", status.to_string().as_bytes(), false);
        block.push_literal(b"content-type", b"text/plain; charset=utf-8", false);
        self.touch(down.conn);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2
            .send_headers(&mut self.fields.store, down.stream, &block, extra, false)
            .and_then(|()| http2.send_data(now, down.stream, NOT_GRPC_TEXT, true));
        debug_assert!(sent.is_ok(), "an unanswered request takes an answer");
        self.give_block(block);
        self.response_ended(now, id);
    }

    /// Resets the client's stream because nothing honest can be said any more.
    pub(super) fn reset_client(&mut self, id: u32, code: ErrorCode) {
        let down = self.calls[id as usize].down;
        self.touch(down.conn);
        if let Some(conn) = self.conns.get_mut(down.conn.index()) {
            conn.http2.reset(&mut self.fields, down.stream, code);
        }
    }
}
