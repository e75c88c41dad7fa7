//! The end of a call, whatever way it comes.
//!
//! A call ends exactly once, in [`Worker::remove_call`]: both streams are released, the endpoint's in-flight count falls,
//! and the outcome is recorded there and nowhere else.

use core::time::Duration;

use evenkeel_balance::{AttemptEnd, CallReport, Outcome};
use evenkeel_grpc::{Code, Pushback};
use evenkeel_http2::{ErrorCode, Half};
use evenkeel_telemetry::ResponseFlag;

use super::Worker;
use super::call::CallPhase;
use super::call_timer::{DEADLINE_TEXT, Staller};
use super::conn::{ConnPhase, Side, UpstreamProgress};

/// An end that this proxy decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ending {
    code: Code,
    flag: ResponseFlag,
    text: String,
    /// When the client is told to come again, where that is known.
    pushback: Option<Pushback>,
}

impl Ending {
    pub(super) fn local(code: Code, flag: ResponseFlag, text: &str) -> Self {
        Self { code, flag, text: text.to_owned(), pushback: None }
    }

    pub(super) fn with_pushback(self, pushback: Option<Pushback>) -> Self {
        Self { pushback, ..self }
    }
}

impl Worker {
    /// Ends a call with a status of our own: as trailers-only if nothing was answered, as trailers if whole messages
    /// were, else as a reset, since a truncated message must never look complete.
    pub(super) fn end_call(&mut self, now: Duration, id: u32, ending: &Ending) {
        let call = &mut self.calls[id as usize];
        call.code = Some(ending.code);
        call.flag = Some(ending.flag);
        let (phase, at_boundary) = (call.phase, call.received.at_boundary());
        let is_their_deadline = ending.code == Code::DeadlineExceeded && call.own_deadline;
        self.note_details(id, &ending.text);
        match phase {
            CallPhase::Waiting | CallPhase::Sent => self.answer(id, 200, &ending.text, ending.pushback),
            CallPhase::Answering if at_boundary && !self.is_held_up_too_long(id) => {
                self.answer_trailers(id, &ending.text);
            }
            CallPhase::Answering | CallPhase::Draining => {
                // Clients take CANCEL for their deadline if it has passed, else for a cancellation that nobody asked for.
                let code = if is_their_deadline { ErrorCode::CANCEL } else { ErrorCode::INTERNAL_ERROR };
                self.reset_client(id, code);
            }
        }
        self.response_ended(now, id);
    }

    /// Whether a call's deadline has passed while bytes for its client wait. Trailers behind them would come when the
    /// client has long given up, and hold what waits until then.
    fn is_held_up_too_long(&self, id: u32) -> bool {
        let call = &self.calls[id as usize];
        let is_late = call.code == Some(Code::DeadlineExceeded);
        is_late
            && self
                .conns
                .get(call.down.conn.index())
                .is_some_and(|conn| conn.http2.has_queued(call.down.stream))
    }

    /// The response is complete on our side. What is left of the request is not needed; the call is gone once the
    /// last bytes have left for the client.
    pub(super) fn response_ended(&mut self, now: Duration, id: u32) {
        self.leave_queue(id, None);
        let call = &mut self.calls[id as usize];
        call.phase = CallPhase::Draining;
        if call.extras.is_some() {
            self.end_hedges(now, id);
        }
        let call = &mut self.calls[id as usize];
        let (down, unused) = (call.down, call.forwarded.saturating_sub(call.credited));
        debug_assert_eq!(unused, 0, "credit never runs ahead of what was forwarded");
        self.release_upstream(now, id, None);
        let Some(conn) = self.conns.get_mut(down.conn.index()) else {
            self.remove_call(now, id);
            return;
        };
        if conn.http2.send_half(down.stream) != Half::Closed {
            self.note_stall(now, id, Staller::Client, true);
            return;
        }
        // The client may still be sending: NO_ERROR asks it to stop, and is not taken for a failure (RFC 9113 8.1).
        if conn.http2.receive_half(down.stream) != Half::Closed {
            conn.http2.reset(&mut self.fields, down.stream, ErrorCode::NO_ERROR);
        }
        self.remove_call(now, id);
    }

    /// Lets go of the attempt's stream; one that is still open is cancelled, within this wake-up.
    /// `end` says how the attempt ended where the call's status does not.
    pub(super) fn release_upstream(&mut self, now: Duration, id: u32, end: Option<AttemptEnd>) {
        let call = &mut self.calls[id as usize];
        let Some(up) = call.up.take() else { return };
        call.stalls.set(Staller::Backend, None);
        let slot = call.slot;
        let (cluster_id, latency) = (call.cluster, call.latency(now));
        let end = end.unwrap_or_else(|| call.code.map_or(AttemptEnd::Reset, AttemptEnd::status));
        let end = call.judged(end, now);
        let is_trial = core::mem::take(&mut call.is_trial);
        let (mut load, mut held) = (None, None);
        if let Some(extras) = call.extras.as_deref_mut() {
            (extras.attempt_deadline, extras.held_until, extras.trial_settles_at) = (None, None, None);
            if let Some(version) = &mut extras.version {
                version.attempt_ended(&end);
            }
            (load, held) = (extras.load.take(), extras.held.take());
        }
        if let Some(held) = held {
            self.give_block(held);
        }
        self.release_stream(now, up, &end);
        let cluster = &mut self.clusters[cluster_id as usize];
        if let Some(slot) = slot {
            let outcome = outcome_of(&end);
            let ignored = load.map(|_| cluster.balancer.load_reports().ignored);
            cluster.balancer.call_finished(slot, &CallReport { now, outcome, latency, load });
            cluster.balancer.observe(slot, &end, is_trial, now);
            let (outlier, panic) =
                (cluster.balancer.has_outlier_change(), cluster.balancer.has_panic_change());
            if outlier {
                self.note_outliers(cluster_id);
            }
            if panic {
                self.note_panics(cluster_id);
            }
            if let Some(ignored) = ignored {
                self.count_load_report(cluster_id, ignored);
            }
        }
        if self.calls[id as usize].extras.is_some() {
            self.give_places_back(now, id, Some(&end));
        }
        self.on_attempt_finished(now, id, end.code());
        self.after_release(now, up.conn, cluster_id);
    }

    /// A stream of a backend's connection is gone: a connection that only finished its calls may close, and waiting
    /// calls have room.
    pub(super) fn after_release(&mut self, now: Duration, conn: super::ConnId, cluster: u32) {
        self.shut_if_left(conn);
        if !self.clusters[cluster as usize].pending.is_empty() {
            self.serve_waiting(now, cluster);
        }
    }

    /// Closes a backend's connection that only finished its calls, once it has none.
    pub(super) fn shut_if_left(&mut self, conn: super::ConnId) {
        let Some(record) = self.conns.get(conn.index()) else { return };
        let leaving = matches!(&record.side, Side::Upstream(up) if up.progress == UpstreamProgress::Leaving);
        if leaving && record.phase == ConnPhase::Live && record.http2.stream_count() == 0 {
            self.shut_conn(conn, ErrorCode::NO_ERROR, b"");
        }
    }

    /// Lets calls that wait for a connection of this cluster be served by its timer, at once: there may be room for them, and
    /// this is no place to begin their attempts.
    pub(super) fn wake_waiting(&mut self, now: Duration, cluster: u32) {
        let record = &mut self.clusters[cluster as usize];
        if !record.pending.is_empty() {
            record.further_at = Some(now);
            self.tend_cluster(now, cluster);
        }
    }

    /// Ends a call that may not go on, for a reason of ours. One that is answered keeps its status: what of it has not left
    /// cannot leave any more.
    pub(super) fn cut_off(&mut self, now: Duration, id: u32, flag: ResponseFlag, text: &str) {
        if self.calls[id as usize].phase == CallPhase::Draining {
            self.reset_client(id, ErrorCode::INTERNAL_ERROR);
            self.response_ended(now, id);
            return;
        }
        // It is not the backend that ends it, and the client is told so.
        self.release_upstream(now, id, Some(AttemptEnd::CutOff));
        self.end_call(now, id, &Ending::local(Code::Unavailable, flag, text));
    }

    /// The client reset its stream, or its connection ended: `flag` says which.
    pub(super) fn on_client_gone(&mut self, now: Duration, id: u32, flag: ResponseFlag) {
        self.leave(now, id, AttemptEnd::Cancelled, flag);
    }

    /// The client cancelled the call. If that is its deadline, what ran has not answered in time, as when the deadline passes
    /// here: a backend that hangs would else be told from none by calls whose clients are a moment faster, which they are as
    /// a rule.
    pub(super) fn on_client_cancelled(&mut self, now: Duration, id: u32) {
        if !self.is_at_clients_deadline(now, id) {
            return self.leave(now, id, AttemptEnd::Cancelled, ResponseFlag::DownstreamReset);
        }
        if self.calls[id as usize].phase != CallPhase::Draining {
            self.note_details(id, DEADLINE_TEXT);
        }
        self.leave(now, id, AttemptEnd::DeadlineExceeded, ResponseFlag::UpstreamTimeout);
    }

    /// Nobody waits for the answer any more: the call ends as its attempts do, unless its end was on its way already.
    fn leave(&mut self, now: Duration, id: u32, end: AttemptEnd, flag: ResponseFlag) {
        let call = &mut self.calls[id as usize];
        if call.phase != CallPhase::Draining || call.code.is_none() {
            call.code = Some(end.code());
            call.flag = Some(flag);
        }
        self.release_upstream(now, id, Some(end));
        self.remove_call(now, id);
    }

    /// Forgets a call: the one place where calls end.
    pub(super) fn remove_call(&mut self, now: Duration, id: u32) {
        if self.calls[id as usize].extras.is_some() {
            self.end_hedges(now, id);
        }
        self.release_upstream(now, id, None);
        if self.calls[id as usize].extras.is_some() {
            self.leave_queue(id, None);
            self.end_retry(id);
        }
        self.on_call_finished(now, id);
        let mut call = self.calls.remove(id as usize);
        self.memory.charge(call.charged, 0);
        if let Some(mut extras) = call.extras.take() {
            if let Some(retrying) = extras.retrying.take() {
                retrying.end(&mut call.retry);
            }
            if let Some(answer) = extras.retried.take() {
                self.give_answer(*answer);
            }
            if let Some(shadow) = extras.shadow {
                self.leave_shadow(now, shadow);
            }
            if let Some(delay) = extras.delay {
                self.wheel.disarm(delay);
            }
            self.give_extras(extras);
        }
        if let Some((timer, _)) = call.timer {
            self.wheel.disarm(timer);
        }
        self.give_block(call.request);
        self.memory.forget_kept(call.kept.len());
        self.give_buffer(call.kept);
        if let Some(conn) = self.conns.get_mut(call.down.conn.index()) {
            conn.http2.release(&mut self.fields, call.down.stream);
        }
    }
}

/// What an attempt's end says about its endpoint, as policies and statistics see it. The caller's own errors and its leaving
/// say nothing against it, nor does a backend that goes away in order (reference C.3). One that turns a call away for want of
/// room answers at once, and must not look quick and idle for it, or it would draw the very calls that it has no room for; it
/// is still no failure to outlier detection.
pub(super) fn outcome_of(end: &AttemptEnd) -> Outcome {
    match end {
        AttemptEnd::Status { code: Code::Cancelled, .. }
        | AttemptEnd::Cancelled
        | AttemptEnd::CutOff
        | AttemptEnd::RefusedStream
        | AttemptEnd::NoPlace
        | AttemptEnd::GoAway { .. } => Outcome::Cancelled,
        AttemptEnd::Overtaken { .. } => Outcome::Overtaken,
        AttemptEnd::Status {
            code:
                Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Unavailable
                | Code::Internal
                | Code::DataLoss,
            ..
        }
        | AttemptEnd::NotSent
        | AttemptEnd::ConnectFailed
        | AttemptEnd::Reset
        | AttemptEnd::AttemptTimeout
        | AttemptEnd::DeadlineExceeded => Outcome::Failure,
        AttemptEnd::Status { .. } | AttemptEnd::Served { .. } => Outcome::Success,
    }
}
