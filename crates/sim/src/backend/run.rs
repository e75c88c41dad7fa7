//! One execution of a call at a backend: what has arrived, and what is answered.

use evenkeel_grpc::Code;
use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{ErrorCode, Fields, StreamKey};

use crate::client::CALL_FIELD;
use crate::ledger::{Completed, Ledger};
use crate::net::Net;
use crate::payload::{Direction, Received, write_message};
use crate::peer::Peer;
use crate::plan::Behaviour;
use crate::stats::Happening;

/// What a backend that speaks no gRPC answers.
const PAGE: &[u8] = b"<html>service unavailable</html>";

/// An execution.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) stream: StreamKey,
    pub(super) request: Received,
    pub(super) request_ended: bool,
    /// The request has ended, and what follows of the answer was begun or planned.
    pub(super) answer_begun: bool,
    response: Received,
    responses_sent: u32,
    headers_sent: bool,
    /// The last word was given to the engine.
    pub(super) is_finished: bool,
    /// Bytes that arrived and were not consumed.
    pub(super) held: u32,
}

/// What comes after a step of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another step, after the plan's gap.
    Later,
    /// Nothing until something arrives, or ever.
    Wait,
    /// The stream is gone; so is the execution.
    Gone,
}

/// Where a step of an answer goes.
pub(super) struct Stage<'a> {
    pub(super) backend: usize,
    pub(super) peer: &'a mut Peer,
    pub(super) fields: &'a mut Fields,
    pub(super) net: &'a mut Net,
    pub(super) ledger: &'a mut Ledger,
}

impl Run {
    pub(super) fn new(stream: StreamKey, request_ended: bool) -> Self {
        Self {
            stream,
            request: Received::new(),
            request_ended,
            answer_begun: false,
            response: Received::new(),
            responses_sent: 0,
            headers_sent: false,
            is_finished: false,
            held: 0,
        }
    }

    /// Takes the answer as far as it goes now.
    pub(super) fn step(&mut self, stage: &mut Stage<'_>, call: u32) -> Next {
        if self.is_finished {
            return Next::Wait;
        }
        let behaviour = stage.ledger.plan(call).behaviour;
        match behaviour {
            Behaviour::Reset(None, code) => return self.reset(stage, code),
            Behaviour::Early(code) => {
                self.answer_at_once(stage, call, code);
                return Next::Wait;
            }
            _ => {}
        }
        let is_due = self.request_ended || stage.ledger.plan(call).ping_pong;
        match behaviour {
            _ if !is_due => Next::Wait,
            Behaviour::TrailersOnly(code) if self.request_ended => {
                self.answer_at_once(stage, call, code);
                Next::Wait
            }
            Behaviour::Html | Behaviour::WrongType if self.request_ended => {
                self.answer_strangely(stage, behaviour);
                Next::Wait
            }
            Behaviour::Silent(0) | Behaviour::TrailersOnly(_) | Behaviour::Html | Behaviour::WrongType => {
                Next::Wait
            }
            _ => self.respond(stage, call),
        }
    }

    /// Sends the responses that are due, and the end behind the last.
    fn respond(&mut self, stage: &mut Stage<'_>, call: u32) -> Next {
        let plans = stage.ledger.plans();
        let plan = &plans[call as usize];
        let all = plan.responses.len() as u32;
        let most = match plan.behaviour {
            Behaviour::Silent(count) | Behaviour::Reset(Some(count), _) => count.min(all),
            _ => all,
        };
        let due = if self.request_ended { most } else { most.min(self.request.summary().messages) };
        if !self.headers_sent && (due > 0 || self.request_ended) {
            self.send_headers(stage);
        }
        while self.responses_sent < due {
            let length = plan.responses[self.responses_sent as usize];
            let mut bytes = Vec::new();
            write_message(&mut bytes, call, Direction::Response, self.responses_sent, length);
            self.responses_sent += 1;
            self.send(stage, &bytes, false);
            if !plan.response_gap.is_zero() && self.responses_sent < due {
                return Next::Later;
            }
        }
        match plan.behaviour {
            Behaviour::Reset(_, code) if self.responses_sent == most => self.reset(stage, code),
            Behaviour::Silent(_) => Next::Wait,
            _ if !self.request_ended => Next::Wait,
            Behaviour::NoTrailers => {
                self.send(stage, b"", true);
                self.is_finished = true;
                Next::Wait
            }
            Behaviour::Truncated => {
                self.send(stage, &[0, 0, 0, 0, 9, b'c', b'u', b't'], false);
                self.finish(stage, call, Code::Ok);
                Next::Wait
            }
            Behaviour::Answer(code) => {
                self.finish(stage, call, code);
                Next::Wait
            }
            _ => {
                self.finish(stage, call, Code::Ok);
                Next::Wait
            }
        }
    }

    fn send_headers(&mut self, stage: &mut Stage<'_>) {
        self.headers_sent = true;
        let mut block = FieldBlock::new();
        block.push_literal(b":status", b"200", false);
        block.push_literal(b"content-type", b"application/grpc", false);
        self.send_block(stage, block, false);
    }

    fn send_block(&self, stage: &mut Stage<'_>, mut block: FieldBlock, end: bool) {
        let store = &mut stage.fields.store;
        let sent = stage.peer.http2.send_headers(store, self.stream, &block, &[], end);
        debug_assert!(sent.is_ok(), "a request is answered once");
        block.clear(store);
    }

    fn send(&mut self, stage: &mut Stage<'_>, bytes: &[u8], end: bool) {
        self.response.add(bytes);
        match stage.peer.http2.send_data(stage.net.now, self.stream, bytes, end) {
            Ok(sent) if sent < bytes.len() => stage.net.stats.count(Happening::ResponseWaitedForWindow),
            _ => {}
        }
    }

    fn finish(&mut self, stage: &mut Stage<'_>, call: u32, code: Code) {
        let mut block = FieldBlock::new();
        block.push_literal(b"grpc-status", code.wire(), false);
        block.push_literal(CALL_FIELD, call.to_string().as_bytes(), false);
        let sent = stage.peer.http2.send_trailers(&mut stage.fields.store, self.stream, &block);
        debug_assert!(sent.is_ok(), "an answer ends once");
        block.clear(&mut stage.fields.store);
        self.complete(stage, call, code);
    }

    fn answer_at_once(&mut self, stage: &mut Stage<'_>, call: u32, code: Code) {
        let mut block = FieldBlock::new();
        block.push_literal(b":status", b"200", false);
        block.push_literal(b"content-type", b"application/grpc", false);
        block.push_literal(b"grpc-status", code.wire(), false);
        block.push_literal(CALL_FIELD, call.to_string().as_bytes(), false);
        self.send_block(stage, block, true);
        self.complete(stage, call, code);
    }

    fn answer_strangely(&mut self, stage: &mut Stage<'_>, behaviour: Behaviour) {
        let (status, kind): (&[u8], &[u8]) = match behaviour {
            Behaviour::Html => (b"503", b"text/html"),
            _ => (b"200", b"application/json"),
        };
        let mut block = FieldBlock::new();
        block.push_literal(b":status", status, false);
        block.push_literal(b"content-type", kind, false);
        self.send_block(stage, block, false);
        self.send(stage, PAGE, true);
        self.is_finished = true;
    }

    fn complete(&mut self, stage: &mut Stage<'_>, call: u32, code: Code) {
        self.is_finished = true;
        let completed = Completed {
            backend: stage.backend,
            code,
            request: self.request.summary(),
            response: self.response.summary(),
        };
        stage.ledger.completed(call, completed);
    }

    fn reset(&mut self, stage: &mut Stage<'_>, code: ErrorCode) -> Next {
        stage.net.stats.count(Happening::BackendReset);
        stage.peer.http2.reset(stage.fields, self.stream, code);
        stage.peer.http2.release(stage.fields, self.stream);
        Next::Gone
    }
}
