//! Connections to backends, and events from them.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::retry::Replay;
use evenkeel_balance::{AttemptEnd, Connectivity, Slot};
use evenkeel_grpc::{Code, ContentType, code_from_http_status};
use evenkeel_http2::field::Name;
use evenkeel_http2::{Connection, ErrorCode, Event, Limits, ListSize, Role, StreamFailure, Violation};
use evenkeel_telemetry::{ClusterEvent, ResponseFlag};

use super::affinity::SET_COOKIE;
use super::call::{CallPhase, Leg};
use super::call_timer::Staller;
use super::conn::{Conn, ConnId, ConnPhase, Side, Upstream, UpstreamProgress};
use super::finish::Ending;
use super::limit::CountedConn;
use super::mirror::shadow_of;
use super::rewrite::AnswerPart;
use super::room::Room;
use super::{Action, TimerKey, Worker};

/// A cluster's timer is this much later than the present at least: the shortest time that is later at all.
const TIMER_STEP_MIN: Duration = Duration::from_nanos(1);

impl Worker {
    /// Does what a cluster's balancer asks for: connections to begin, connections no longer needed; then arms its timer.
    pub(super) fn tend_cluster(&mut self, now: Duration, cluster_id: u32) {
        while let Some(slot) = self.clusters[cluster_id as usize].balancer.surplus_connection() {
            let conns = self.clusters[cluster_id as usize].endpoint_conns(slot).in_use();
            for conn in conns {
                self.retire_upstream(now, conn);
            }
        }
        while let Some(slot) = self.clusters[cluster_id as usize].balancer.wants_connection(now) {
            self.connect_first(now, cluster_id, slot);
        }
        if self.clusters[cluster_id as usize].balancer.has_panic_change() {
            self.note_panics(cluster_id);
        }
        let cluster = &mut self.clusters[cluster_id as usize];
        if cluster.balancer.wants_re_resolution() && !self.lost.contains(&cluster.settings.name) {
            self.lost.push(Arc::clone(&cluster.settings.name));
        }
        let further = cluster.further_at.filter(|_| !cluster.pending.is_empty());
        let sweep = cluster.balancer.next_sweep_at().filter(|_| cluster.is_configured);
        let next = cluster.balancer.next_deadline().into_iter().chain(further).chain(sweep).min();
        // What is due now was done above. A timer for it would fire in the very pass over the timers that armed it, for ever.
        let next = next.map(|at| at.max(now + TIMER_STEP_MIN));
        match (cluster.timer, next) {
            (Some((_, at)), Some(next)) if at <= next => {}
            (timer, Some(next)) => {
                if let Some((timer, _)) = timer {
                    self.wheel.disarm(timer);
                }
                cluster.timer = Some((self.wheel.arm(next, TimerKey::Cluster(cluster_id)), next));
            }
            (timer, None) => {
                if let Some((timer, _)) = timer {
                    self.wheel.disarm(timer);
                    cluster.timer = None;
                }
            }
        }
    }

    /// A cluster's timer fired: its balancer may want connections, and waiting calls may.
    pub(super) fn on_cluster_timer(&mut self, now: Duration, cluster_id: u32) {
        let cluster = &mut self.clusters[cluster_id as usize];
        cluster.timer = None;
        cluster.balancer.sweep_outliers(now);
        self.note_outliers(cluster_id);
        let cluster = &mut self.clusters[cluster_id as usize];
        if cluster.further_at.is_some_and(|at| at <= now) {
            cluster.further_at = None;
            self.serve_waiting(now, cluster_id);
        }
        self.tend_cluster(now, cluster_id);
    }

    /// Begins a connection to an endpoint that has none: what every worker needs, also where a circuit breaker is open.
    fn connect_first(&mut self, now: Duration, cluster_id: u32, slot: Slot) {
        if let Ok(counted) = self.count_connection(cluster_id, slot, true) {
            self.connect(now, cluster_id, slot, counted);
        }
    }

    /// Begins a connection to an endpoint whose connections are full, if the circuit breakers allow one more.
    pub(super) fn connect_further(&mut self, now: Duration, cluster_id: u32, slot: Slot) {
        let is_first = self.clusters[cluster_id as usize].endpoint_conns(slot).in_use().is_empty();
        match self.count_connection(cluster_id, slot, is_first) {
            Ok(counted) => self.connect(now, cluster_id, slot, counted),
            Err(_) => self.count_in(cluster_id, ClusterEvent::ConnectionOverflow),
        }
    }

    fn connect(&mut self, now: Duration, cluster_id: u32, slot: Slot, counted: Option<CountedConn>) {
        let cluster = &mut self.clusters[cluster_id as usize];
        let until = now + cluster.settings.connect_timeout;
        let address = cluster.balancer.endpoint(slot).address().clone();
        let conns = cluster.endpoint_conns(slot);
        conns.total += 1;
        // A second more than the timeout here, which is the one that tells the endpoint and the reason.
        let preface_timeout = cluster.settings.connect_timeout + Duration::from_secs(1);
        let limits = Limits { preface_timeout, ..Limits::upstream() };
        let http2 = Connection::new(Role::Client, limits, now);
        let side = Side::Upstream(Upstream {
            cluster: cluster_id,
            slot,
            progress: UpstreamProgress::Connecting(until),
            counted,
            stall_timeout: cluster.settings.stall_timeout,
            room: Room::default(),
        });
        let id = ConnId(self.conns.insert(Conn::new(http2, side, ConnPhase::Silent)) as u32);
        self.clusters[cluster_id as usize].endpoint_conns(slot).connecting.push(id);
        self.connects.push(Action::Connect { conn: id, address });
        self.arm_conn(id);
    }

    /// A connection that [`Action::Connect`] asked for is established.
    pub fn connected(&mut self, _now: Duration, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.index())
            && conn.phase == ConnPhase::Silent
        {
            conn.phase = ConnPhase::Live;
            self.touch(id);
        }
    }

    /// A connection that [`Action::Connect`] asked for could not be established; `reason` is the system's.
    pub fn connect_failed(&mut self, now: Duration, id: ConnId, reason: &str) {
        self.lose_upstream(now, id, reason);
    }

    pub(super) fn on_upstream_event(&mut self, now: Duration, id: ConnId, event: Event<'_>) {
        if let Some(shadow) = shadow_of(&event) {
            self.on_shadow_event(now, id, shadow, &event);
            return;
        }
        match event {
            Event::Ready => self.on_upstream_ready(now, id),
            Event::GoAway { .. } => self.retire_upstream(now, id),
            Event::Response { stream, token, status, end, size } => {
                if self.is_attempt(now, token, Leg { conn: id, stream }) {
                    self.on_response(now, token, status, end, size);
                }
            }
            Event::Data { stream, token, bytes, end } => {
                let leg = Leg { conn: id, stream };
                if self.is_attempt(now, token, leg) {
                    self.on_response_data(now, token, leg, bytes, end);
                } else {
                    self.consume(id, stream, bytes.len() as u32);
                }
            }
            Event::Trailers { stream, token, .. } => {
                if self.is_attempt(now, token, Leg { conn: id, stream }) {
                    self.on_response_trailers(now, token);
                }
            }
            Event::Failed { stream, token, failure } => {
                if self.is_attempt(now, token, Leg { conn: id, stream }) {
                    self.on_attempt_failed(now, token, id, failure);
                }
            }
            // gRPC has no use for 1xx; the final response follows. A PING's answer is seen by the connection's timer.
            Event::Informational { .. } | Event::PingAcknowledged { .. } | Event::Request { .. } => {}
        }
    }

    /// Whether a token names the call whose upstream stream this is; of a hedged call's it becomes the main one.
    fn is_attempt(&mut self, now: Duration, token: u32, leg: Leg) -> bool {
        let Some(call) = self.calls.get(token as usize) else { return false };
        call.up == Some(leg) || (call.extras.is_some() && self.make_main(now, token, |other| other == leg))
    }

    fn on_upstream_ready(&mut self, now: Duration, id: ConnId) {
        let Side::Upstream(up) = &mut self.conns[id.index()].side else { return };
        up.progress = UpstreamProgress::Ready;
        let (cluster_id, slot) = (up.cluster, up.slot);
        let cluster = &mut self.clusters[cluster_id as usize];
        let conns = cluster.endpoint_conns(slot);
        conns.connecting.retain(|other| *other != id);
        conns.ready.push(id);
        conns.last_error = None;
        if cluster.removed.contains(&slot) {
            self.retire_upstream(now, id);
            return;
        }
        cluster.balancer.set_connectivity(slot, Connectivity::Ready, now);
        self.on_connect_result(cluster_id, slot, true);
        self.unblock_waiting(now, cluster_id);
        self.serve_waiting(now, cluster_id);
        self.tend_cluster(now, cluster_id);
    }

    /// Takes a connection out of use; it finishes its calls.
    pub(super) fn retire_upstream(&mut self, now: Duration, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        let idle = conn.http2.stream_count() == 0;
        let Side::Upstream(up) = &mut conn.side else { return };
        let before = core::mem::replace(&mut up.progress, UpstreamProgress::Leaving);
        let (cluster_id, slot) = (up.cluster, up.slot);
        if before == UpstreamProgress::Leaving {
            return;
        }
        self.unlist_conn(now, id, cluster_id, slot, before);
        if idle {
            self.shut_conn(id, ErrorCode::NO_ERROR, b"");
        }
        self.tend_cluster(now, cluster_id);
    }

    /// Takes a connection off its endpoint's lists and tells the balancer if it was the last one in use.
    fn unlist_conn(
        &mut self,
        now: Duration,
        id: ConnId,
        cluster_id: u32,
        slot: Slot,
        before: UpstreamProgress,
    ) {
        let cluster = &mut self.clusters[cluster_id as usize];
        let conns = cluster.endpoint_conns(slot);
        conns.ready.retain(|other| *other != id);
        conns.connecting.retain(|other| *other != id);
        let none_left = conns.ready.is_empty();
        if none_left && !cluster.removed.contains(&slot) {
            let state = match before {
                UpstreamProgress::Connecting(_) => Connectivity::TransientFailure,
                _ => Connectivity::Idle,
            };
            cluster.balancer.set_connectivity(slot, state, now);
        }
    }

    /// A connection to a backend ended or never came about: its calls are tried again where that is safe, else answered.
    pub(super) fn lose_upstream(&mut self, now: Duration, id: ConnId, reason: &str) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        if conn.phase == ConnPhase::Dead {
            return;
        }
        conn.phase = ConnPhase::Dead;
        let flushed = conn.flushed_stream;
        let calls: Vec<u32> = conn.http2.tokens().collect();
        let Side::Upstream(up) = &mut conn.side else { return };
        let before = core::mem::replace(&mut up.progress, UpstreamProgress::Leaving);
        let (cluster_id, slot) = (up.cluster, up.slot);
        if matches!(before, UpstreamProgress::Connecting(_)) {
            self.note_connect_error(cluster_id, slot, reason);
            self.on_connect_result(cluster_id, slot, false);
            // The balancer keeps first connections apart; those beyond the first are kept apart here.
            let cluster = &mut self.clusters[cluster_id as usize];
            cluster.endpoint_conns(slot).further_not_before = now + cluster.settings.backoff.base;
        } else {
            self.on_upstream_lost(cluster_id, slot);
        }
        if before != UpstreamProgress::Leaving {
            self.unlist_conn(now, id, cluster_id, slot, before);
        }
        self.lose_shadows(now, id, &calls);
        for call in calls {
            let up = |worker: &Self| worker.calls.get(call as usize).and_then(|call| call.up);
            if up(self).is_none_or(|up| up.conn != id) {
                self.make_main(now, call, |leg| leg.conn == id);
            }
            let Some(up) = up(self).filter(|up| up.conn == id) else { continue };
            if self.end_past_deadline(now, call) {
                continue;
            }
            let unsent = up.stream.id() > flushed;
            let end = if unsent { AttemptEnd::NotSent } else { AttemptEnd::Reset };
            if !self.follow_up(now, call, end) {
                let text = format!(
                    "upstream connect error or disconnect/reset before headers. reset reason: connection termination: {reason}"
                );
                self.fail_attempt(now, call, ResponseFlag::UpstreamConnectionTermination, &text);
            }
        }
        self.touch(id);
        self.tend_cluster(now, cluster_id);
        self.serve_waiting(now, cluster_id);
    }

    fn on_response(&mut self, now: Duration, id: u32, status: u16, end: bool, size: ListSize) {
        if end {
            self.take_load_report(now, id);
        }
        let fields = &self.fields;
        let value = |name| fields.index.position(name).map(|at| fields.block.get(&fields.store, at).value);
        let grpc = value(Name::ContentType).is_some_and(|value| ContentType::detect(value).is_grpc());
        let grpc_status = value(Name::GrpcStatus).map(Code::from_wire);
        if size == ListSize::OverLimit {
            let text = "metadata larger than max: the backend's response headers";
            self.end_call(
                now,
                id,
                &Ending::local(Code::ResourceExhausted, ResponseFlag::UpstreamProtocolError, text),
            );
            return;
        }
        if let (true, Some(code)) = (status != 200, grpc_status) {
            // The status of HTTP maps to one of gRPC only where there is none: one that is there "must be used", and OK is no
            // exception (gRPC's http-grpc-status-mapping.md). So the backend is judged by it too.
            if self.follow_up(now, id, self.status_of(id, code)) {
                return;
            }
            let text = self.text_instead().unwrap_or_default();
            self.end_call(now, id, &Ending::local(code, ResponseFlag::UpstreamProtocolError, &text));
            return;
        }
        if status != 200 || (!grpc && grpc_status.is_none()) {
            let code = if status == 200 { Code::Unknown } else { code_from_http_status(status) };
            if !self.follow_up(now, id, AttemptEnd::status(code)) {
                let text = self.text_instead().unwrap_or_default();
                self.end_call(now, id, &Ending::local(code, ResponseFlag::UpstreamProtocolError, &text));
            }
            return;
        }
        // tonic tells a passed deadline as CANCELLED; the client would be told of a cancellation that nobody asked for.
        if end && grpc_status == Some(Code::Cancelled) && self.end_past_deadline(now, id) {
            return;
        }
        if end {
            let code = grpc_status.unwrap_or(Code::Unknown);
            if self.is_tried_again(now, id, code) {
                return;
            }
            self.calls[id as usize].code = Some(code);
        } else if self.holds_back(id) {
            self.hold_back(now, id);
            return;
        }
        self.forward_headers(now, id, end);
    }

    /// Forwards the response headers that were just read: nothing can be tried again from here on.
    pub(super) fn forward_headers(&mut self, now: Duration, id: u32, end: bool) {
        if self.calls[id as usize].extras.is_some() {
            self.win_hedges(now, id);
        }
        let call = &mut self.calls[id as usize];
        call.headers_at = Some(now);
        call.note_active(now);
        call.phase = CallPhase::Answering;
        call.take_extra(|extras| &mut extras.attempt_deadline);
        if let Some(extras) = call.extras.as_deref() {
            if let Some(retrying) = &extras.retrying {
                retrying.answered(&mut call.retry);
            }
            self.end_retry(id);
            if !end {
                self.note_answer_began(now, id);
            }
        }
        let call = &mut self.calls[id as usize];
        let (block, down) = (core::mem::take(&mut call.request), call.down);
        self.give_block(block);
        self.drop_kept(id, Replay::ResponseStarted);
        self.touch(down.conn);
        self.rewrite_received(id, if end { AnswerPart::TrailersOnly } else { AnswerPart::Headers });
        let cookie = self.write_cookie(id).then_some([(SET_COOKIE, self.cookie.as_bytes())]);
        let extra: &[(&[u8], &[u8])] = cookie.as_ref().map_or(&[], |cookie| cookie);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2.send_headers(&mut self.fields.store, down.stream, &self.fields.block, extra, end);
        debug_assert!(sent.is_ok(), "a call without response headers takes them");
        if end {
            http2.credit_completed();
            self.response_ended(now, id);
        }
    }

    /// The backend's status ends the attempt. Whether the call is tried again instead of being told it.
    fn is_tried_again(&mut self, now: Duration, id: u32, code: Code) -> bool {
        let call = &mut self.calls[id as usize];
        if !call.has_policy() {
            let gates = &self.clusters[call.cluster as usize].settings.gates;
            if let Some(throttle) = &gates.throttle {
                throttle.ended_without_policy(&self.status_of(id, code));
            }
            return false;
        }
        if code == Code::Ok && call.note_success() {
            return false;
        }
        self.follow_up(now, id, self.status_of(id, code))
    }

    fn on_response_data(&mut self, now: Duration, id: u32, leg: Leg, bytes: &[u8], end: bool) {
        if bytes.is_empty() && !end {
            // It says nothing: a status that fails the attempt may still follow headers that are held back.
            return;
        }
        self.release_held(now, id);
        let call = &mut self.calls[id as usize];
        call.note_active(now);
        let is_first = call.received.messages == 0;
        call.received.scan(bytes);
        let down = call.down;
        if is_first && call.received.messages > 0 {
            self.on_first_message(now, id);
        }
        self.on_messages(now, id);
        self.touch(down.conn);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2.send_data(now, down.stream, bytes, false).unwrap_or(bytes.len());
        self.consume(leg.conn, leg.stream, sent as u32);
        self.note_stall(now, id, Staller::Client, sent < bytes.len());
        if !end && self.end_overdue(now, id) {
            return;
        }
        if end {
            // A gRPC response ends with trailers; one that does not has lost its status.
            let text = "upstream ended the response without a grpc-status";
            let ending = Ending::local(Code::Unknown, ResponseFlag::UpstreamProtocolError, text);
            self.end_call(now, id, &ending);
        }
    }

    fn on_response_trailers(&mut self, now: Duration, id: u32) {
        self.take_load_report(now, id);
        let fields = &self.fields;
        let status = fields
            .index
            .position(Name::GrpcStatus)
            .map(|at| Code::from_wire(fields.block.get(&fields.store, at).value));
        if status == Some(Code::Cancelled) && self.end_past_deadline(now, id) {
            return;
        }
        let code = status.unwrap_or(Code::Unknown);
        if self.is_tried_again(now, id, code) {
            return;
        }
        self.release_held(now, id);
        self.calls[id as usize].code = Some(code);
        self.forward_trailers(now, id);
    }

    /// Forwards the trailers that were just read.
    pub(super) fn forward_trailers(&mut self, now: Duration, id: u32) {
        let down = self.calls[id as usize].down;
        self.touch(down.conn);
        self.rewrite_received(id, AnswerPart::Trailers);
        let http2 = &mut self.conns[down.conn.index()].http2;
        let sent = http2.send_trailers(&mut self.fields.store, down.stream, &self.fields.block);
        debug_assert!(sent.is_ok(), "a call that answers takes trailers once");
        http2.credit_completed();
        self.response_ended(now, id);
    }

    fn on_attempt_failed(&mut self, now: Duration, id: u32, conn: ConnId, failure: StreamFailure) {
        if !matches!(failure, StreamFailure::GoAway(_)) {
            self.on_upstream_reset(id);
        }
        // A backend keeps the same deadline and may be first to act on it: grpc-go resets with CANCEL then, and its client
        // takes such a reset for the deadline too.
        if self.end_past_deadline(now, id) {
            return;
        }
        // What was answered with headers was processed, whatever the backend says then: it is not simply sent again.
        let has_answered = self.calls[id as usize].extra(|extras| extras.held.as_ref().map(|_| ())).is_some();
        let end = match failure {
            _ if has_answered => AttemptEnd::Reset,
            StreamFailure::GoAway(code) => AttemptEnd::GoAway { is_graceful: code == ErrorCode::NO_ERROR },
            failure if failure.not_processed() => self.refused_stream(now, conn),
            _ => AttemptEnd::Reset,
        };
        if self.follow_up(now, id, end) {
            return;
        }
        if failure.not_processed() && !has_answered {
            // Not by the status that the call gets: that would be held against the endpoint.
            self.release_upstream(now, id, Some(end));
        }
        if failure == StreamFailure::Violation(Violation::HeaderListTooLarge) {
            // The call was processed: UNAVAILABLE would invite the client to repeat it.
            let text = "metadata larger than max: the backend's trailers";
            let flag = ResponseFlag::UpstreamProtocolError;
            self.end_call(now, id, &Ending::local(Code::ResourceExhausted, flag, text));
            return;
        }
        let (flag, text) = match failure {
            StreamFailure::PeerReset(ErrorCode::REFUSED_STREAM) | StreamFailure::GoAway(_)
                if !has_answered =>
            {
                (ResponseFlag::UpstreamReset, "upstream refused stream".to_owned())
            }
            StreamFailure::PeerReset(code) | StreamFailure::GoAway(code) => (
                ResponseFlag::UpstreamReset,
                format!(
                    "upstream connect error or disconnect/reset before headers. reset reason: remote reset: {code}"
                ),
            ),
            StreamFailure::Violation(violation) => (
                ResponseFlag::UpstreamProtocolError,
                format!(
                    "upstream connect error or disconnect/reset before headers. reset reason: protocol error: {violation}"
                ),
            ),
            other => (ResponseFlag::UpstreamReset, format!("upstream failed: {other:?}")),
        };
        self.fail_attempt(now, id, flag, &text);
    }

    /// Ends a call whose attempt failed for good.
    pub(super) fn fail_attempt(&mut self, now: Duration, id: u32, flag: ResponseFlag, before_headers: &str) {
        let call = &self.calls[id as usize];
        let ending = if call.phase == CallPhase::Answering {
            let text = format!("upstream reset after {} messages", call.received.messages);
            Ending::local(Code::Unavailable, flag, &text)
        } else {
            Ending::local(Code::Unavailable, flag, before_headers)
        };
        self.end_call(now, id, &ending);
    }
}
