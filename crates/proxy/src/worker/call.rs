//! One call on its way through a worker.
//!
//! ```text
//!             pick, connection ready            response headers             end forwarded
//!  Waiting ---------------------------> Sent ---------------------> Answering ------------> (gone)
//!     ^                                  |
//!     +--- not processed: try again -----+     a local answer, a cancel or a deadline ends it from anywhere
//! ```

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::Slot;
use evenkeel_balance::retry::{Replay, RetryState};
use evenkeel_grpc::{Code, MessageScanner};
use evenkeel_http2::StreamKey;
use evenkeel_http2::field::FieldBlock;
use evenkeel_telemetry::{Messages, ResponseFlag};

use super::answer::AnswerTime;
use super::call_timer::Stalls;
use super::conn::ConnId;
use super::extras::Extras;
use super::observe::LogFields;
use super::route::RouteActions;
use super::timer::TimerId;

/// How far a call has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CallPhase {
    /// Waits for a connection to a backend.
    Waiting,
    /// Its headers were given to a backend's connection; no response headers yet.
    Sent,
    /// Response headers were forwarded: nothing can be tried again.
    Answering,
    /// The response is complete on our side; its last bytes wait for the client's window.
    Draining,
}

/// One end of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leg {
    pub(super) conn: ConnId,
    pub(super) stream: StreamKey,
}

/// One direction's count of messages and bytes.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) scanner: MessageScanner,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Whether the framing is broken; messages are not counted any more.
    pub(super) broken: bool,
}

impl Traffic {
    fn new() -> Self {
        Self { scanner: MessageScanner::new(None), messages: 0, bytes: 0, broken: false }
    }

    pub(super) fn scan(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.broken {
            return;
        }
        match self.scanner.scan(bytes) {
            Ok(messages) => self.messages += messages as u64,
            Err(error) => {
                self.messages += error.completed as u64;
                self.broken = true;
            }
        }
    }

    /// Whether what has passed ends with a whole message, so that real trailers may follow.
    pub(super) fn at_boundary(&self) -> bool {
        !self.broken && self.scanner.at_boundary()
    }
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) phase: CallPhase,
    pub(super) down: Leg,
    pub(super) up: Option<Leg>,
    /// Position among the worker's clusters, and the endpoint of the newest attempt.
    pub(super) cluster: u32,
    pub(super) slot: Option<Slot>,
    /// Whether the newest attempt tries an ejected endpoint.
    pub(super) is_trial: bool,
    pub(super) listener: u32,
    pub(super) route: u16,
    /// What its route does to it besides.
    pub(super) actions: Option<Arc<RouteActions>>,
    pub(super) method: u16,
    pub(super) attempts: u8,
    /// What is remembered of earlier attempts.
    pub(super) retry: RetryState,
    pub(super) started_at: Duration,
    pub(super) attempt_at: Duration,
    /// How long the newest attempt's endpoint takes to answer.
    pub(super) answer_time: AnswerTime,
    pub(super) headers_at: Option<Duration>,
    /// When the call must be over: the client's deadline or the route's.
    pub(super) deadline: Option<Duration>,
    /// Whether the deadline is the client's own.
    pub(super) own_deadline: bool,
    pub(super) timer: Option<(TimerId, Duration)>,
    /// The hash of what it has in common with calls that meet the same endpoint; `None` where no key is asked for, or it has
    /// none.
    pub(super) hash: Option<u64>,
    /// What most calls do without.
    pub(super) extras: Option<Box<Extras>>,
    /// The request's header list, until response headers arrive.
    pub(super) request: FieldBlock,
    /// The request's DATA so far, while it can be sent again; see [`replay`](super::replay).
    pub(super) kept: Vec<u8>,
    pub(super) replay: Replay,
    pub(super) request_ended: bool,
    /// Request bytes that left for the backend in this attempt, and those whose credit went back to the client.
    pub(super) forwarded: u64,
    pub(super) credited: u64,
    pub(super) sent: Traffic,
    pub(super) received: Traffic,
    /// Messages that were counted while the call goes on.
    pub(super) reported: Messages,
    /// The status that the call ends with, once it is known.
    pub(super) code: Option<Code>,
    /// Why it ends otherwise than by the backend's answer.
    pub(super) flag: Option<ResponseFlag>,
    /// Whether the call was counted as started, and must be counted as ended.
    pub(super) counted: bool,
    pub(super) log: Option<Box<LogFields>>,
    pub(super) stalls: Stalls,
    /// Bytes that the worker's account holds for this call.
    pub(super) charged: usize,
}

impl Call {
    pub(super) fn new(down: Leg, listener: u32, now: Duration) -> Self {
        Self {
            phase: CallPhase::Waiting,
            down,
            up: None,
            cluster: 0,
            slot: None,
            is_trial: false,
            listener,
            route: 0,
            actions: None,
            method: 0,
            attempts: 0,
            retry: RetryState::new(),
            started_at: now,
            attempt_at: now,
            answer_time: AnswerTime::default(),
            headers_at: None,
            deadline: None,
            own_deadline: false,
            timer: None,
            hash: None,
            extras: None,
            request: FieldBlock::new(),
            kept: Vec::new(),
            replay: Replay::Possible,
            request_ended: false,
            forwarded: 0,
            credited: 0,
            sent: Traffic::new(),
            received: Traffic::new(),
            reported: Messages::default(),
            code: None,
            flag: None,
            counted: false,
            log: None,
            stalls: Stalls::NONE,
            charged: 0,
        }
    }

    /// Messages so far.
    pub(super) fn messages(&self) -> Messages {
        Messages { request: self.sent.messages, response: self.received.messages }
    }

    /// Request bytes whose credit goes back to the client after `bytes` more have left.
    pub(super) fn credit_for(&mut self, bytes: u64) -> u32 {
        self.forwarded += bytes;
        let credit = self.forwarded.saturating_sub(self.credited);
        self.credited += credit;
        credit as u32
    }
}

/// A live stream costs this, and two streams of the engine: 1 KiB in all is the bound. What only some calls have belongs into
/// [`Extras`].
const _: () = assert!(size_of::<Call>() <= 400);
