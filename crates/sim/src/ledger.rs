//! The ledger: what the client and the backends of each call say of it, reconciled.
//!
//! Rules (reliability suite, checker I1 to I5):
//! - a call ends exactly once, and no later than its deadline;
//! - OK at the client if and only if one execution completed with OK, with equal bytes both ways;
//! - no call is executed twice: what is tried again was refused or never arrived;
//! - any other end is one that its plan, or a fault, explains; that a deadline was out of reach, the calls that waited and the pace
//!   at which backends were given calls;
//! - a message that was cut off never looks like a complete answer.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::{Code, Pushback};
use evenkeel_http2::ErrorCode;

use crate::bounds::{Bounds, Turned};
use crate::net::Net;
use crate::payload::Summary;
use crate::plan::{Behaviour, CallPlan, Fault};
use crate::setup::Setup;
use crate::stats::Happening;

/// Request bytes that the worker keeps for a second attempt.
const REPLAY_BYTES: u64 = 64 * 1024;

/// Of calls that backends were given, so many of the newest tell the pace at which the others were to follow.
const PACE_OF: usize = 16;

/// How far the pace that the worker measured, a moving average while calls wait, may be from the world's own, a plain mean.
const PACE_SLACK: u32 = 4;

/// How long the worker lets bytes wait for a client that does not read.
const STALL_MAX: Duration = Duration::from_secs(60);

/// How a call ended for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallEnd {
    /// With a status, and with these responses.
    Status(Code, Summary),
    /// The response ended without a status.
    NoStatus(Summary),
    /// The stream was reset.
    Reset(ErrorCode),
    /// The client's connection was lost.
    Disconnected,
    /// The client gave up.
    Cancelled,
    /// The client gave up behind the deadline, its connection being disturbed.
    Overdue,
    /// No connection could be had to begin with.
    NotSent,
}

/// An execution that sent its last word.
#[derive(Clone, Copy, Debug)]
pub struct Completed {
    /// Which backend.
    pub backend: usize,
    /// The status it sent.
    pub code: Code,
    /// The request as it arrived.
    pub request: Summary,
    /// The response as it was sent.
    pub response: Summary,
}

/// All that is known of one call.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// What was planned.
    pub plan: CallPlan,
    /// When its header section left the client, the newest time if it was tried again.
    pub sent_at: Option<Duration>,
    /// The request as the client has sent it.
    pub request: Option<Summary>,
    /// When a backend saw it first.
    pub reached_at: Option<Duration>,
    /// Attempts that a backend saw.
    pub attempts: u32,
    /// Attempts that a backend saw and said it did not process.
    pub unprocessed: u32,
    /// Attempts that a backend began to work on.
    pub executions: u32,
    /// The backend of the newest attempt.
    pub backend: Option<usize>,
    /// The execution that completed.
    pub completed: Option<Completed>,
    /// When a backend stopped working on it because its stream was reset.
    pub aborted_at: Option<Duration>,
    /// How it ended.
    pub end: Option<CallEnd>,
    /// When it ended.
    pub ended_at: Option<Duration>,
    /// The grpc-message that came with its status, as it is on the wire.
    pub message: String,
    /// When it may come again, if its end said so.
    pub pushback: Option<Pushback>,
    /// The call that the fields next to its status name, as the backend wrote it there.
    pub echo: Option<u32>,
}

/// All calls, by identifier.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) calls: Vec<CallRecord>,
    plans: Arc<[CallPlan]>,
    /// When backends received calls, in order.
    received_at: Vec<Duration>,
    /// When calls were to fail last, as too few endpoints were available.
    panicked_at: Option<Duration>,
    /// The most that an attempt took by the worker's measure.
    attempt_time: Duration,
    bounds: Bounds,
    max_pending: usize,
    rules: Rules,
    open: usize,
}

/// What the setup excuses.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// No fault is planned that could fail a call.
    is_calm: bool,
    /// Backends say GOAWAY in one phase, so that a call may be cut off as often as it is tried, seen or unseen.
    cuts_streams: bool,
    /// Calls wait for an endpoint where there is none.
    waits_for_ready: bool,
    /// A call may fail as the endpoint of its key is withheld.
    may_miss_home: bool,
    /// The worker drains while calls are still to come.
    drains: bool,
    /// How many backends may work on one call.
    executions_max: u32,
    /// The call that ends had too little time left for its turn to come.
    is_out_of_reach: bool,
    /// Calls were to fail, at some time since the one that ends was sent, as too few endpoints were available.
    met_panic: bool,
}

impl Ledger {
    pub(crate) fn new(setup: &Setup) -> Self {
        let record = |plan: &CallPlan| CallRecord {
            plan: plan.clone(),
            sent_at: None,
            request: None,
            reached_at: None,
            attempts: 0,
            unprocessed: 0,
            executions: 0,
            backend: None,
            completed: None,
            aborted_at: None,
            end: None,
            ended_at: None,
            message: String::new(),
            pushback: None,
            echo: None,
        };
        let rules = Rules {
            is_calm: setup.is_calm(),
            cuts_streams: setup.cuts_streams(),
            executions_max: setup.again.executions_max(),
            is_out_of_reach: false,
            met_panic: false,
            waits_for_ready: setup.wait_for_ready,
            may_miss_home: setup.insists() && setup.withholds(),
            drains: setup.faults.iter().any(|(_, fault)| matches!(fault, Fault::Drain(_))),
        };
        Self {
            calls: setup.calls.iter().map(record).collect(),
            plans: setup.calls.as_slice().into(),
            received_at: Vec::new(),
            panicked_at: None,
            attempt_time: Duration::ZERO,
            bounds: setup.bounds.clone().unwrap_or_default(),
            max_pending: setup.max_pending,
            rules,
            open: setup.calls.len(),
        }
    }

    /// What all calls do, for one who needs it while the ledger is written to.
    pub(crate) fn plans(&self) -> Arc<[CallPlan]> {
        Arc::clone(&self.plans)
    }

    pub(crate) fn plan(&self, call: u32) -> &CallPlan {
        &self.plans[call as usize]
    }

    /// Calls that have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    /// Too few endpoints are available, and calls are to fail because of it.
    pub(crate) fn panicked(&mut self, now: Duration) {
        self.panicked_at = Some(now);
    }

    /// The worker takes an attempt to take so long.
    pub(crate) fn note_attempt_time(&mut self, time: Duration) {
        self.attempt_time = self.attempt_time.max(time);
    }

    /// Identifiers of calls that have not ended.
    pub(crate) fn open_calls(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.calls.len() as u32).filter(|call| self.calls[*call as usize].end.is_none())
    }

    /// A backend received a call.
    pub(crate) fn attempted(&mut self, call: u32, backend: usize, now: Duration) {
        self.received_at.push(now);
        let record = &mut self.calls[call as usize];
        record.attempts += 1;
        record.reached_at.get_or_insert(now);
        record.backend = Some(backend);
    }

    /// A backend begins to work on a call.
    pub(crate) fn executed(&mut self, net: &mut Net, call: u32) {
        let record = &mut self.calls[call as usize];
        record.executions += 1;
        if record.executions > self.rules.executions_max {
            net.violate(|| format!("call {call} was executed too often: {record:?}"));
        }
        if record.executions > 1 {
            net.stats.count(Happening::FurtherAttempt);
        } else if record.unprocessed > 0 {
            net.stats.count(Happening::TransparentRetry);
        }
    }

    /// A backend says that it does not work on a call.
    pub(crate) fn not_processed(&mut self, call: u32) {
        self.calls[call as usize].unprocessed += 1;
    }

    /// A backend sent its last word.
    pub(crate) fn completed(&mut self, call: u32, completed: Completed) {
        self.calls[call as usize].completed = Some(completed);
    }

    /// A backend stopped working because of a reset.
    pub(crate) fn aborted(&mut self, net: &mut Net, call: u32) {
        net.stats.count(Happening::CancelReachedBackend);
        self.calls[call as usize].aborted_at = Some(net.now);
    }

    /// Whether a call's turn could not come before its deadline, by the world's own account: as many calls as have waited beside it
    /// since it was sent, at the pace at which backends were given calls of late, take all the time that it has left, but for the attempt's own.
    fn is_out_of_reach(&self, call: u32, now: Duration) -> bool {
        let record = &self.calls[call as usize];
        let (Some(timeout), Some(sent_at)) = (record.plan.timeout, record.sent_at) else { return false };
        let left = (sent_at + timeout).saturating_sub(now);
        let was_sent = |other: &&CallRecord| other.sent_at.is_some_and(|at| at <= now) && other.end.is_none();
        let waiting =
            self.calls.iter().filter(was_sent).filter(|other| other.attempts == other.unprocessed).count();
        let since_then = self.received_at.iter().rev().take_while(|at| **at >= sent_at).count();
        let newest = self.received_at.len().min(PACE_OF);
        let began = self.received_at[self.received_at.len() - newest..].first();
        let pace = began.map_or(Duration::ZERO, |began| now.saturating_sub(*began) / newest as u32);
        pace * (waiting + since_then) as u32 * PACE_SLACK + self.attempt_time >= left
    }

    /// A call ended for its client.
    pub(crate) fn end(&mut self, net: &mut Net, call: u32, end: CallEnd) {
        let record = &mut self.calls[call as usize];
        net.trace.note(net.now, &[5, u64::from(call), end_number(end)]);
        if let Some(before) = record.end {
            net.violate(|| format!("call {call} ended twice: {before:?}, then {end:?}"));
            return;
        }
        record.end = Some(end);
        record.ended_at = Some(net.now);
        self.open -= 1;
        net.stats.count(match end {
            CallEnd::Status(Code::Ok, _) => Happening::CallOk,
            CallEnd::Status(Code::DeadlineExceeded, _) => Happening::DeadlineExceeded,
            CallEnd::Status(..) | CallEnd::NoStatus(_) | CallEnd::NotSent => Happening::CallFailed,
            CallEnd::Reset(_) => Happening::CallReset,
            CallEnd::Disconnected => Happening::CallDisconnected,
            CallEnd::Cancelled => Happening::CallCancelled,
            CallEnd::Overdue => Happening::OverdueBehindFault,
        });
        if matches!(end, CallEnd::Status(_, response) if !response.is_whole) {
            net.stats.count(Happening::TruncatedSeen);
        }
        let was_shed = matches!(end, CallEnd::Status(Code::ResourceExhausted, _))
            && record.message.starts_with("deadline unreachable");
        if was_shed {
            net.stats.count(Happening::ShedByDeadline);
            if !matches!(record.pushback, Some(Pushback::RetryAfter(_))) {
                net.violate(|| format!("call {call} was shed and not told when to come again: {record:?}"));
            }
        }
        let record = &self.calls[call as usize];
        if self.rules.may_miss_home && says_home_is_out(record) {
            net.stats.count(Happening::SessionRefused);
        }
        let met_panic =
            record.sent_at.is_some_and(|sent_at| self.panicked_at.is_some_and(|at| at >= sent_at));
        let is_out_of_reach = was_shed && self.is_out_of_reach(call, net.now);
        if met_panic && matches!(end, CallEnd::Status(Code::Unavailable, _)) && record.completed.is_none() {
            net.stats.count(Happening::FailedInPanic);
        }
        let turned = Turned::of(record).filter(|_| record.echo.is_none());
        let rules = Rules { is_out_of_reach, met_panic, ..self.rules };
        if let (Some(turned), CallEnd::Status(code, _)) = (turned, end) {
            net.stats.count(turned.happening());
            let judged = self.bounds.judge(turned, code, record.pushback, self.max_pending);
            if let Err(rule) = judged.and_then(|()| judge_turned(record, turned, rules)) {
                net.violate(|| {
                    format!("call {call} was turned away ({turned:?}) with {end:?}: {rule}: {record:?}")
                });
            }
            return;
        }
        if let Err(rule) = judge(call, record, end, net.now, rules) {
            net.violate(|| format!("call {call} ended with {end:?}: {rule}: {record:?}"));
        }
    }
}

/// Whether a call may have met backends before a limit turned it away: another attempt was to follow, or it was sent and lost.
fn judge_turned(record: &CallRecord, turned: Turned, rules: Rules) -> Result<(), &'static str> {
    let may_follow =
        rules.executions_max > 1 || record.unprocessed > 0 || !rules.is_calm || rules.cuts_streams;
    if record.attempts > 0 && (turned == Turned::Rate || !may_follow) {
        return Err("a backend was given it");
    }
    Ok(())
}

fn end_number(end: CallEnd) -> u64 {
    match end {
        CallEnd::Status(code, summary) => code as u64 ^ summary.hash,
        CallEnd::NoStatus(summary) => 100 ^ summary.hash,
        CallEnd::Reset(code) => 200 + u64::from(code.0),
        CallEnd::Disconnected => 301,
        CallEnd::Cancelled => 302,
        CallEnd::Overdue => 303,
        CallEnd::NotSent => 304,
    }
}

/// Whether a call may end so.
fn judge(
    call: u32,
    record: &CallRecord,
    end: CallEnd,
    now: Duration,
    rules: Rules,
) -> Result<(), &'static str> {
    let plan = &record.plan;
    let late = match (plan.timeout, record.sent_at) {
        (Some(timeout), Some(sent_at)) => now >= sent_at + timeout,
        _ => false,
    };
    let backend_reset = matches!(plan.behaviour, Behaviour::Reset(..));
    match end {
        CallEnd::Status(code, response) => judge_status(call, record, code, response, late, rules),
        CallEnd::NoStatus(_) => Err("a response without a status"),
        CallEnd::Reset(ErrorCode::CANCEL) if late => Ok(()),
        CallEnd::Reset(ErrorCode::INTERNAL_ERROR)
            if backend_reset || plan.client_holds >= STALL_MAX || !rules.is_calm =>
        {
            Ok(())
        }
        CallEnd::Reset(_) => Err("no reason for a reset"),
        CallEnd::NotSent if rules.drains => Ok(()),
        CallEnd::Disconnected | CallEnd::NotSent if rules.is_calm => Err("no reason to lose the connection"),
        CallEnd::Cancelled if plan.cancel_after.is_none() => Err("nobody cancelled it"),
        CallEnd::Disconnected | CallEnd::NotSent | CallEnd::Cancelled | CallEnd::Overdue => Ok(()),
    }
}

fn judge_status(
    call: u32,
    record: &CallRecord,
    code: Code,
    response: Summary,
    late: bool,
    rules: Rules,
) -> Result<(), &'static str> {
    let behaviour = record.plan.behaviour;
    if !response.is_whole {
        let planned = behaviour == Behaviour::Truncated && code == Code::Ok;
        return if planned { Ok(()) } else { Err("a truncated message looks complete") };
    }
    // The worker may come to the same status by itself.
    if let Some(completed) = record.completed
        && completed.code == code
        && behaviour.is_answer()
        && (code == Code::Ok || record.echo == Some(call))
    {
        return judge_answer(call, record, completed, response, rules);
    }
    let reset = matches!(behaviour, Behaviour::Reset(..) | Behaviour::Html);
    match code {
        Code::Ok => Err("OK without an execution that completed with OK"),
        Code::DeadlineExceeded if late => Ok(()),
        Code::DeadlineExceeded => Err("its deadline had not passed"),
        // A call that waits and cannot be served in time is told so before its time is up.
        Code::ResourceExhausted if rules.is_out_of_reach => Ok(()),
        Code::Unavailable if rules.waits_for_ready && says_no_endpoint(record) => {
            Err("it was to wait for an endpoint")
        }
        Code::Unavailable if reset || !rules.is_calm || rules.cuts_streams => Ok(()),
        // No endpoint was tried: the message says why.
        // Its endpoint is withheld, and no other may have it.
        Code::Unavailable if rules.may_miss_home && says_home_is_out(record) => Ok(()),
        Code::Unavailable if rules.met_panic && record.message.starts_with("no healthy upstream") => Ok(()),
        Code::Unavailable if record.unprocessed > retries(&record.plan) => Ok(()),
        Code::Unknown if behaviour.status() == Some(Code::Unknown) => Ok(()),
        _ => Err("a status that nothing explains"),
    }
}

/// Whether a call was told that there is no endpoint for it.
fn says_no_endpoint(record: &CallRecord) -> bool {
    let message = &record.message;
    message.starts_with("no healthy upstream") || message.starts_with("upstream connect error: no endpoint")
}

/// Whether a call was told that the endpoint of its key cannot take it, or that none can.
fn says_home_is_out(record: &CallRecord) -> bool {
    let why = record.message.strip_prefix("no healthy upstream: ").unwrap_or_default();
    why.starts_with("the endpoint of the call's key") || why.starts_with("no endpoint")
}

/// How often the worker tries a call again that a backend did not process: once (gRFC A6), if it still has the request.
fn retries(plan: &CallPlan) -> u32 {
    u32::from(plan.request_bytes() <= REPLAY_BYTES)
}

/// The backend's own answer arrived: it must be the one that it sent.
fn judge_answer(
    call: u32,
    record: &CallRecord,
    completed: Completed,
    response: Summary,
    rules: Rules,
) -> Result<(), &'static str> {
    if response != completed.response {
        return Err("the response is not the one that was sent");
    }
    if record.echo != Some(call) {
        return Err("the fields next to its status are not those that were sent");
    }
    if !(1..=rules.executions_max).contains(&record.executions) {
        return Err("not exactly one execution, or as many as the policy allows");
    }
    let early = matches!(record.plan.behaviour, Behaviour::Early(_));
    if !early && record.request != Some(completed.request) {
        return Err("the request that was executed is not the one that was sent");
    }
    Ok(())
}
