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
use evenkeel_grpc::{Code, decode_message};
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_telemetry::{ClusterEvent, ResponseFlag, RetryDenied};

use super::Worker;
use super::finish::Ending;

/// An answer that the client has seen nothing of.
#[derive(Debug)]
pub(super) struct RetriedAnswer {
    /// The headers, where the status came behind them.
    headers: Option<FieldBlock>,
    last: Last,
    code: Code,
}

/// What ended an attempt.
#[derive(Debug)]
pub(super) enum Last {
    /// The list with the status: trailers, or all there is.
    List(FieldBlock),
    /// What a client is told in the place of a list that cannot be passed on.
    Text(String),
}

impl Last {
    /// Its header list, whose references are to be given back.
    pub(super) fn into_block(self) -> Option<FieldBlock> {
        match self {
            Self::List(block) => Some(block),
            Self::Text(_) => None,
        }
    }
}

impl RetriedAnswer {
    /// Its header lists, whose references are to be given back.
    pub(super) fn into_blocks(self) -> impl Iterator<Item = FieldBlock> {
        self.headers.into_iter().chain(self.last.into_block())
    }
}

impl Worker {
    /// Keeps the answer that ended an attempt and was just read.
    pub(super) fn keep_answer(&mut self, id: u32, end: &AttemptEnd) {
        self.drop_answer(id);
        let AttemptEnd::Status { code, .. } = *end else { return };
        let last = self.keep_last();
        let is_list = matches!(last, Last::List(_));
        let headers = self.calls[id as usize].take_extra(|extras| &mut extras.held);
        let (headers, unused) = if is_list { (headers, None) } else { (None, headers) };
        unused.into_iter().for_each(|block| self.give_block(block));
        self.extras(id).retried = Some(Box::new(RetriedAnswer { headers, last, code }));
    }

    /// What was just read, or where it cannot be passed on what the client is told instead.
    pub(super) fn keep_last(&mut self) -> Last {
        match self.text_instead() {
            Some(text) => Last::Text(text),
            None => {
                let spare = self.take_block();
                Last::List(core::mem::replace(&mut self.fields.block, spare))
            }
        }
    }

    /// What a client is told in the place of the header list that was just read, with the status it means: `None` if the list
    /// can be passed on, being gRPC's.
    pub(super) fn text_instead(&self) -> Option<String> {
        let value = |name| {
            let at = self.fields.index.position(name)?;
            Some(self.fields.block.get(&self.fields.store, at).value)
        };
        let status = value(Name::Status).unwrap_or(b"200");
        let (is_ok, has_code) = (status == b"200", value(Name::GrpcStatus).is_some());
        if is_ok && has_code {
            return None;
        }
        Some(if has_code {
            value(Name::GrpcMessage).map_or_else(String::new, |text| decode_message(text).into_owned())
        } else if is_ok {
            "upstream answered without a gRPC content-type".to_owned()
        } else {
            let status = String::from_utf8_lossy(status);
            format!("upstream answered with HTTP status {status} instead of gRPC")
        })
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
        let last = match last {
            Last::List(last) => last,
            Last::Text(text) => {
                self.end_call(now, id, &Ending::local(code, ResponseFlag::UpstreamProtocolError, &text));
                return true;
            }
        };
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
