//! Mirroring: copies of calls that another cluster gets, to see how it bears real traffic.
//!
//! Rule: the copy never delays or fails the call. It is begun only if a connection with room is there at once, and never waits
//! for one, nor for a place under its cluster's limits, which count it as they count calls; it is sent once; its answer is thrown away. What its backend does not take is buffered up to `BUFFER_MAX`
//! bytes; beyond that the copy is given up, while the client's credit follows the call's own backend alone.
//!
//! The copy has the call's metadata as its route changed it, the authority with `-shadow` behind the host as Envoy writes it, so
//! that logs tell the two apart, and the call's deadline. When the call ends before its request does there is nothing more
//! to copy, and the copy is cancelled; when the request was complete the copy goes on to its own end, at most
//! `LINGER_MAX`, even if the client cancelled the call: what was asked is to be seen whole.
//!
//! Invariant: a stream of a copy has a token with `TOKEN_BIT`, so that its events never reach the call's.

use core::time::Duration;

use evenkeel_balance::limit::Sample;
use evenkeel_balance::outlier::TRIAL_SETTLES_AFTER;
use evenkeel_balance::{Ask, AttemptEnd, CallReport, Pick, Slot};
use evenkeel_grpc::{Code, print_timeout};
use evenkeel_http2::field::{FieldBlock, FieldStore, Name};
use evenkeel_http2::{ErrorCode, Event, StreamFailure, StreamKey};
use evenkeel_telemetry::{CallEnd, ClusterEvent, Messages, Mirrored};
use rand::RngExt;

use super::call::Leg;
use super::conn::ConnId;
use super::finish::outcome_of;
use super::limit::Places;
use super::timer::TimerId;
use super::{TimerKey, Worker};

/// Bytes of a copy that wait for its backend's window. One window of a stream, as gRPC's peers begin with.
const BUFFER_MAX: usize = 64 * 1024;

/// How long a copy may go on after its call has ended: Envoy's limit of a call, 15 s.
const LINGER_MAX: Duration = Duration::from_secs(15);

/// Copies that one worker has under way; with [`BUFFER_MAX`] 64 MiB at most. Envoy's default of calls to a cluster.
const SHADOWS_MAX: usize = 1024;

/// What the tokens of copies' streams have, and those of calls never: there are not as many.
const TOKEN_BIT: u32 = 1 << 31;

/// All calls, in millionths.
const ALL: u32 = 1_000_000;

/// Where copies of a route's calls go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// The cluster's position in the snapshot that has the route.
    pub cluster: usize,
    /// The part of the calls that is copied, in millionths.
    pub part: u32,
}

/// A copy of a call.
#[derive(Debug)]
pub(super) struct Shadow {
    /// The call, until it has ended.
    call: Option<u32>,
    up: Leg,
    cluster: u32,
    slot: Slot,
    /// Whether it tries an ejected endpoint.
    is_trial: bool,
    begun_at: Duration,
    /// When the first bytes of its answer came. Its messages are not told apart.
    answered_at: Option<Duration>,
    /// The call's deadline.
    deadline: Option<Duration>,
    request_ended: bool,
    /// What it holds of its cluster's limits.
    places: Option<Places>,
    /// When it counts as a stream under adaptive concurrency, if it does not end before.
    streams_at: Option<Duration>,
    /// When it is given up: at its deadline, or when it has gone on alone for long enough.
    ends_at: Option<Duration>,
    timer: Option<TimerId>,
}

/// The copy whose stream an event is of.
pub(super) fn shadow_of(event: &Event<'_>) -> Option<(u32, StreamKey)> {
    match *event {
        Event::Response { token, stream, .. }
        | Event::Data { token, stream, .. }
        | Event::Trailers { token, stream, .. }
        | Event::Failed { token, stream, .. } => {
            (token & TOKEN_BIT != 0).then_some((token & !TOKEN_BIT, stream))
        }
        _ => None,
    }
}

/// Writes an authority with `-shadow` behind its host. An address in brackets stays as it is: nothing could stand there.
fn shadow_authority(authority: &[u8], out: &mut Vec<u8>) {
    if authority.starts_with(b"[") {
        out.extend_from_slice(authority);
        return;
    }
    let host = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
    out.extend_from_slice(&authority[..host]);
    out.extend_from_slice(b"-shadow");
    out.extend_from_slice(&authority[host..]);
}

/// Fills a header list with a call's, for its copy. `buffer` is empty, and for passing use.
fn copy_fields(block: &mut FieldBlock, request: &FieldBlock, store: &mut FieldStore, buffer: &mut Vec<u8>) {
    for at in 0..request.len() {
        let field = request.get(store, at);
        if matches!(field.name_token, Name::Authority | Name::Host) {
            buffer.clear();
            shadow_authority(field.value, buffer);
            block.push_literal(field.name, buffer, false);
        } else if let Some(id) = field.id {
            let by_reference = field.by_reference;
            block.push_id(store, id, by_reference);
        } else {
            block.push_literal(field.name, field.value, field.never_index);
        }
    }
}

impl Worker {
    /// The hash of the key that a copy of this call has at its cluster; by what the client sent, so before that is changed.
    /// A copy belongs to the endpoint of its key as the call does.
    #[inline]
    pub(super) fn shadow_hash(&mut self, id: u32) -> Option<u64> {
        let mirror = self.calls[id as usize].actions.as_ref()?.mirror?;
        let cluster = self.cluster_of[mirror.cluster];
        let asks_for_key = !self.clusters[cluster as usize].settings.hash_plan.is_empty();
        if asks_for_key { self.key_at(id, cluster).hash } else { None }
    }

    /// Begins a copy of a call that is about to begin, if its route says so and there is room for one. `hash` is its key's.
    pub(super) fn begin_shadow(&mut self, now: Duration, id: u32, hash: Option<u64>) {
        let call = &self.calls[id as usize];
        let Some(mirror) = call.actions.as_ref().and_then(|actions| actions.mirror) else { return };
        // What no backend will see is not copied either.
        if call.extra(|extras| extras.abort).is_some()
            || call.deadline.is_some_and(|deadline| deadline <= now)
        {
            return;
        }
        if self.rng.random_range(0..ALL) >= mirror.part {
            return;
        }
        let cluster = self.cluster_of[mirror.cluster];
        let outcome = if self.shadows.len() >= SHADOWS_MAX {
            Mirrored::TooMany
        } else if self.send_shadow(now, id, cluster, hash) {
            Mirrored::Sent
        } else {
            Mirrored::NoEndpoint
        };
        self.count_in(cluster, ClusterEvent::Mirrored(outcome));
    }

    /// Sends the headers of a call's copy. Whether there was a connection with room.
    fn send_shadow(&mut self, now: Duration, id: u32, cluster: u32, hash: Option<u64>) -> bool {
        let balancer = &mut self.clusters[cluster as usize].balancer;
        let pick = balancer.pick(&Ask { now, hash });
        let Some(slot) = pick.slot() else { return false };
        // A cluster may get nothing but copies: then one of them finds out whether an ejected endpoint is back.
        let is_trial = pick == Pick::Trial(slot);
        let shadow = self.shadows.vacant_key() as u32;
        let opened = self.take_places_at(cluster, slot).ok().and_then(|places| {
            let opened = self.conn_with_room(now, cluster, slot).and_then(|conn| {
                let stream = self.conns[conn.index()].http2.open(now, shadow | TOKEN_BIT).ok()?;
                Some(Leg { conn, stream })
            });
            if opened.is_none() {
                self.drop_places_at(now, cluster, slot, places);
                return None;
            }
            opened.zip(Some(places))
        });
        let Some((up, places)) = opened else {
            if is_trial {
                self.clusters[cluster as usize].balancer.drop_trial(slot);
            }
            return false;
        };
        let Leg { conn, stream } = up;
        let (mut block, mut buffer) = (self.take_block(), self.take_buffer());
        self.extras(id).shadow = Some(shadow);
        let call = &self.calls[id as usize];
        copy_fields(&mut block, &call.request, &mut self.fields.store, &mut buffer);
        let left = call.deadline.map(|deadline| print_timeout(deadline.saturating_sub(now)));
        let extra = left.as_ref().map(|text| [(&b"grpc-timeout"[..], text.as_bytes())]);
        let extra: &[(&[u8], &[u8])] = extra.as_ref().map_or(&[], |extra| &extra[..]);
        let (deadline, request_ended) = (call.deadline, call.request_ended);
        let http2 = &mut self.conns[conn.index()].http2;
        let sent = http2.send_headers(&mut self.fields.store, stream, &block, extra, request_ended);
        debug_assert!(sent.is_ok(), "a stream that was opened just now takes headers");
        self.give_block(block);
        self.give_buffer(buffer);
        self.touch(conn);
        self.clusters[cluster as usize].balancer.call_started(slot, now);
        if let Some(stats) = self.endpoint_stats(cluster, slot) {
            stats.call_started();
        }
        self.shadows.insert(Shadow {
            call: Some(id),
            up,
            cluster,
            slot,
            is_trial,
            begun_at: now,
            answered_at: None,
            deadline,
            request_ended,
            places,
            streams_at: None,
            ends_at: deadline,
            timer: None,
        });
        self.arm_shadow(shadow);
        true
    }

    /// Arms a copy's timer for what comes first.
    fn arm_shadow(&mut self, id: u32) {
        let shadow = &mut self.shadows[id as usize];
        if let Some(timer) = shadow.timer.take() {
            self.wheel.disarm(timer);
        }
        let next = shadow.streams_at.into_iter().chain(shadow.ends_at).min();
        shadow.timer = next.map(|at| self.wheel.arm(at, TimerKey::Shadow(id)));
    }

    /// Copies a part of a call's request.
    pub(super) fn copy_to_shadow(&mut self, now: Duration, id: u32, bytes: &[u8], end: bool) {
        let Some(id) = self.calls[id as usize].extra(|extras| extras.shadow) else { return };
        let shadow = &mut self.shadows[id as usize];
        shadow.request_ended |= end;
        let Leg { conn, stream } = shadow.up;
        self.touch(conn);
        let http2 = &mut self.conns[conn.index()].http2;
        // A backend that has answered takes no more; its answer's end follows.
        let sent = http2.send_data(now, stream, bytes, end).unwrap_or(bytes.len());
        if sent < bytes.len() && http2.queued_memory(stream) > BUFFER_MAX {
            let cluster = self.shadows[id as usize].cluster;
            self.count_in(cluster, ClusterEvent::Mirrored(Mirrored::BufferFull));
            self.end_shadow(now, id, &AttemptEnd::Cancelled, Code::Cancelled);
        }
    }

    /// A call has ended: its copy goes on alone for a while, if it has all of the request.
    pub(super) fn leave_shadow(&mut self, now: Duration, id: u32) {
        let shadow = &mut self.shadows[id as usize];
        shadow.call = None;
        if !shadow.request_ended {
            let cluster = shadow.cluster;
            self.count_in(cluster, ClusterEvent::Mirrored(Mirrored::CutOff));
            self.end_shadow(now, id, &AttemptEnd::Cancelled, Code::Cancelled);
            return;
        }
        let until = now + LINGER_MAX;
        shadow.ends_at = Some(shadow.deadline.map_or(until, |deadline| deadline.min(until)));
        self.arm_shadow(id);
    }

    pub(super) fn on_shadow_timer(&mut self, now: Duration, id: u32) {
        let shadow = &mut self.shadows[id as usize];
        shadow.timer = None;
        if shadow.streams_at.is_some_and(|at| at <= now) {
            shadow.streams_at = None;
            if let Some(places) = &mut shadow.places {
                places.leave_adaptive(|| Sample::Nothing, now, &mut self.rng);
            }
            // Calls of its own may wait for the place.
            let cluster = shadow.cluster;
            self.wake_waiting(now, cluster);
        }
        let shadow = &self.shadows[id as usize];
        if shadow.ends_at.is_none_or(|at| at > now) {
            return self.arm_shadow(id);
        }
        let (end, code) = if shadow.deadline.is_some_and(|deadline| deadline <= now) {
            (AttemptEnd::DeadlineExceeded, Code::DeadlineExceeded)
        } else {
            // Its call is over and it may not go on longer alone: that is no fault of its backend.
            (AttemptEnd::CutOff, Code::Cancelled)
        };
        self.end_shadow(now, id, &end, code);
    }

    /// Something came from a copy's backend.
    pub(super) fn on_shadow_event(
        &mut self,
        now: Duration,
        conn: ConnId,
        shadow: (u32, StreamKey),
        event: &Event<'_>,
    ) {
        let (id, stream) = shadow;
        if let Event::Data { bytes, .. } = event {
            self.consume(conn, stream, bytes.len() as u32);
        }
        let is_known = self.shadows.get(id as usize).is_some_and(|shadow| shadow.up == Leg { conn, stream });
        if !is_known {
            return;
        }
        match event {
            Event::Response { end: false, .. } => {
                let shadow = &mut self.shadows[id as usize];
                shadow.streams_at = shadow.places.as_ref().and_then(|places| places.streams_at(now));
                if shadow.streams_at.is_some() {
                    self.arm_shadow(id);
                }
            }
            Event::Data { bytes, end: false, .. } if !bytes.is_empty() => self.note_shadow_answer(now, id),
            Event::Response { end: true, .. } | Event::Trailers { .. } => {
                let fields = &self.fields;
                let status = fields.index.position(Name::GrpcStatus);
                let code = status
                    .map_or(Code::Unknown, |at| Code::from_wire(fields.block.get(&fields.store, at).value));
                self.end_shadow(now, id, &AttemptEnd::status(code), code);
            }
            Event::Data { end: true, .. } => {
                self.end_shadow(now, id, &AttemptEnd::status(Code::Unknown), Code::Unknown);
            }
            Event::Failed { failure, .. } => {
                let end = match failure {
                    StreamFailure::GoAway(code) => {
                        AttemptEnd::GoAway { is_graceful: *code == ErrorCode::NO_ERROR }
                    }
                    failure if failure.not_processed() => AttemptEnd::RefusedStream,
                    _ => AttemptEnd::Reset,
                };
                self.end_shadow(now, id, &end, Code::Unavailable);
            }
            _ => {}
        }
    }

    /// A copy's answer goes on. As with a call, a trial need not wait for its end.
    fn note_shadow_answer(&mut self, now: Duration, id: u32) {
        let shadow = &mut self.shadows[id as usize];
        let answered_at = *shadow.answered_at.get_or_insert(now);
        if shadow.is_trial && now >= answered_at + TRIAL_SETTLES_AFTER {
            shadow.is_trial = false;
            let (cluster, slot) = (shadow.cluster, shadow.slot);
            self.clusters[cluster as usize].balancer.trial_settled(slot, now);
            self.note_outliers(cluster);
            self.wake_waiting(now, cluster);
        }
    }

    /// A backend's connection is lost, with the streams of these tokens.
    pub(super) fn lose_shadows(&mut self, now: Duration, conn: ConnId, tokens: &[u32]) {
        for token in tokens.iter().filter(|token| *token & TOKEN_BIT != 0) {
            let id = token & !TOKEN_BIT;
            if self.shadows.get(id as usize).is_some_and(|shadow| shadow.up.conn == conn) {
                self.end_shadow(now, id, &AttemptEnd::Reset, Code::Unavailable);
            }
        }
    }

    /// Forgets a copy: the one place where copies end. A stream that is still open is cancelled.
    fn end_shadow(&mut self, now: Duration, id: u32, end: &AttemptEnd, code: Code) {
        let shadow = self.shadows.remove(id as usize);
        if let Some(call) = shadow.call {
            self.calls[call as usize].take_extra(|extras| &mut extras.shadow);
        }
        if let Some(timer) = shadow.timer {
            self.wheel.disarm(timer);
        }
        self.release_stream(now, shadow.up, end);
        let end = &if shadow.answered_at.is_some() { end.after_a_message() } else { *end };
        let took = |until: Duration| until.saturating_sub(shadow.begun_at);
        let latency = took(shadow.answered_at.unwrap_or(now));
        let report = CallReport { now, outcome: outcome_of(end), latency, load: None };
        let balancer = &mut self.clusters[shadow.cluster as usize].balancer;
        balancer.call_finished(shadow.slot, &report);
        balancer.observe(shadow.slot, end, shadow.is_trial, now);
        self.drop_places_at(now, shadow.cluster, shadow.slot, shadow.places);
        self.note_outliers(shadow.cluster);
        self.note_panics(shadow.cluster);
        if let Some(stats) = self.endpoint_stats(shadow.cluster, shadow.slot) {
            stats.call_finished(&CallEnd::new(code, took(now), Messages::default()));
        }
        // A copy may be given up in the middle of a call's own event: those that wait for its room are served later.
        self.shut_if_left(shadow.up.conn);
        self.wake_waiting(now, shadow.cluster);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_says_that_it_is_a_copy() {
        for (authority, expected) in [
            ("orders", "orders-shadow"),
            ("orders.example:50051", "orders.example-shadow:50051"),
            ("10.0.0.1:50051", "10.0.0.1-shadow:50051"),
            ("[::1]:50051", "[::1]:50051"),
            ("", "-shadow"),
        ] {
            let mut out = Vec::new();
            shadow_authority(authority.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{authority}");
        }
    }
}
