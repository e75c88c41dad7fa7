//! The backend's answer that a retry is to replace, kept until the retry is sent.
//!
//! A limit may have no place for the retry once its backoff is over: no endpoint takes one more retry, the queue is full. Then the call
//! ends as its attempt did, like one whose retry is denied at once: the backend's own status, with its message and metadata,
//! says more than that of a proxy which did not ask again. Ends without an answer, such as a reset, have nothing to keep, and the
//! limit's own status is told.
//!
//! Those of hedged calls are kept with their other attempts ([`hedge`](super::hedge)).
//!
//! Bound: one answer for each call that waits for its retry, two header lists of the length that connections to backends take.
//! Calls that are not tried again pay nothing.

use core::time::Duration;

use evenkeel_balance::AttemptEnd;
use evenkeel_grpc::Code;
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_telemetry::{ClusterEvent, RetryDenied};

use super::Worker;

/// An answer that the client has seen nothing of.
#[derive(Debug)]
pub(super) struct RetriedAnswer {
    /// The headers, where the status came behind them.
    headers: Option<FieldBlock>,
    /// The list with the status: trailers, or all there is.
    last: FieldBlock,
    code: Code,
}

impl RetriedAnswer {
    /// Its header lists, whose references are to be given back.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = FieldBlock> {
        self.headers.into_iter().chain([self.last])
    }
}

impl Worker {
    /// Keeps the answer that ended an attempt and was just read, if it is one that could be passed on.
    pub(super) fn keep_answer(&mut self, id: u32, end: &AttemptEnd) {
        self.drop_answer(id);
        let AttemptEnd::Status { code, .. } = *end else { return };
        let fields = &self.fields;
        let status = fields.index.position(Name::Status);
        let is_http_error = status.is_some_and(|at| fields.block.get(&fields.store, at).value != b"200");
        if is_http_error || !fields.index.contains(Name::GrpcStatus) {
            return;
        }
        let headers = self.calls[id as usize].take_extra(|extras| &mut extras.held);
        let spare = self.take_block();
        let last = core::mem::replace(&mut self.fields.block, spare);
        self.extras(id).retried = Some(Box::new(RetriedAnswer { headers, last, code }));
    }

    /// Lets go of the answer: the retry that replaces it is sent, or the call is over.
    pub(super) fn drop_answer(&mut self, id: u32) {
        if let Some(answer) = self.calls[id as usize].take_extra(|extras| &mut extras.retried) {
            self.give_answer(*answer);
        }
    }

    pub(super) fn give_answer(&mut self, answer: RetriedAnswer) {
        answer.into_blocks().for_each(|block| self.give_block(block));
    }

    /// Ends a call whose further attempt does not come about with the answer that it was to replace, if there is one. Whether it
    /// did, and counts the attempt as denied; `why` is for the access log.
    pub(super) fn end_as_answered(&mut self, now: Duration, id: u32, why: &str) -> bool {
        let call = &mut self.calls[id as usize];
        let is_hedged = call.has_last_answer();
        let answer = call.take_extra(|extras| &mut extras.retried);
        if !is_hedged && answer.is_none() {
            return false;
        }
        self.count_of_call(id, ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
        self.note_details(id, why);
        let Some(answer) = answer else {
            self.end_with_last(now, id);
            return true;
        };
        let RetriedAnswer { headers, last, code } = *answer;
        let has_headers = headers.is_some();
        if let Some(headers) = headers {
            self.forward_held(now, id, headers);
        }
        // It is where an answer that was read just now would be.
        let read = core::mem::replace(&mut self.fields.block, last);
        self.calls[id as usize].code = Some(code);
        if has_headers {
            self.forward_trailers(now, id);
        } else {
            self.forward_headers(now, id, true);
        }
        let last = core::mem::replace(&mut self.fields.block, read);
        self.give_block(last);
        true
    }
}
