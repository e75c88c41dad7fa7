//! Output, and the life of connections: settling what a batch produced, writing it, closing.

use core::time::Duration;

use evenkeel_http2::{ConnectionError, ErrorCode, Role};
use evenkeel_telemetry::{Event, ResponseFlag};

use super::age::Age;
use super::call::{CallPhase, Leg};
use super::call_timer::Staller;
use super::conn::{ConnId, ConnPhase, LINGER_MAX, Side, TransportEnd, UpstreamProgress};
use super::{Action, TimerKey, Worker};

impl Worker {
    /// What the driver is to do next; `None` when there is nothing more for now.
    pub fn poll_action(&mut self, now: Duration) -> Option<Action> {
        if !self.holding.is_empty() {
            self.arm_holding();
        }
        if let Some(action) = self.connects.pop() {
            return Some(action);
        }
        loop {
            // First settle all, since that may give other connections something to write; then write each once.
            self.settled = self.settled.min(self.dirty.len());
            while let Some(&id) = self.dirty.get(self.settled) {
                self.settled += 1;
                self.settle(now, ConnId(id));
            }
            if let Some(action) = self.connects.pop() {
                return Some(action);
            }
            let Some(id) = self.dirty.pop().map(ConnId) else {
                self.batch += 1;
                return None;
            };
            if let Some(action) = self.act(now, id) {
                return Some(action);
            }
        }
    }

    /// Moves queued DATA into the output, gives credit back for what has left, and arms the connection's timer.
    pub(super) fn settle(&mut self, now: Duration, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        conn.http2.flush_queues(&mut self.fields, now);
        while let Some((stream, token, bytes)) =
            self.conns.get_mut(id.index()).and_then(|conn| conn.http2.poll_progress())
        {
            self.on_progress(now, id, stream, token, bytes);
        }
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        if conn.is_live() && conn.http2.is_drained() {
            conn.phase = ConnPhase::Flushing;
        }
        self.arm_conn(id);
    }

    /// Queued bytes of a stream have left.
    fn on_progress(
        &mut self,
        now: Duration,
        id: ConnId,
        stream: evenkeel_http2::StreamKey,
        token: u32,
        bytes: u32,
    ) {
        let Some(call) = self.calls.get_mut(token as usize) else { return };
        let here = Leg { conn: id, stream };
        if call.down != here && call.up != Some(here) {
            self.note_hedge_progress(token, here, bytes);
            return;
        }
        let staller = if call.up == Some(here) { Staller::Backend } else { Staller::Client };
        self.note_progress(now, token, staller);
        let call = &mut self.calls[token as usize];
        if call.up == Some(here) {
            let credit = call.credit_for(u64::from(bytes));
            let down = call.down;
            self.touch(down.conn);
            self.consume(down.conn, down.stream, credit);
            return;
        }
        if let Some(up) = call.up {
            self.touch(up.conn);
            self.consume(up.conn, up.stream, bytes);
        }
        let draining = self.calls[token as usize].phase == CallPhase::Draining;
        let ended = self.conns[id.index()].http2.send_half(stream) == evenkeel_http2::Half::Closed;
        if draining && ended {
            self.response_ended(now, token);
        }
    }

    /// What is to be done about a settled connection.
    fn act(&mut self, now: Duration, id: ConnId) -> Option<Action> {
        let conn = self.conns.get_mut(id.index())?;
        conn.dirty = false;
        if conn.phase == ConnPhase::Dead {
            return Some(self.close(now, id));
        }
        if !conn.output().is_empty() {
            if conn.blocked_since.is_none() {
                return Some(Action::Write { conn: id });
            }
            conn.charge(&mut self.memory);
            return None;
        }
        let buffer = conn.http2.reclaim_output();
        conn.charge(&mut self.memory);
        let flushed = conn.phase == ConnPhase::Flushing;
        if let Some(buffer) = buffer {
            self.give_buffer(buffer);
        }
        if flushed {
            self.conns[id.index()].phase = ConnPhase::Lingering(now + LINGER_MAX);
            self.arm_conn(id);
            return Some(Action::ShutWrite { conn: id });
        }
        None
    }

    /// The bytes to write to a connection.
    #[must_use]
    pub fn output(&self, conn: ConnId) -> &[u8] {
        self.conns.get(conn.index()).map_or(&[], |conn| conn.output())
    }

    /// The transport took `count` bytes of [`Worker::output`]; fewer than offered means that it is full, and
    /// [`Worker::writable`] is to follow.
    pub fn written(&mut self, now: Duration, id: ConnId, count: usize) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        let side = conn.side.label();
        if let Some(observer) = &self.observer {
            observer.wrote(side, count);
        }
        if let Some(answer) = &mut conn.plain_answer {
            answer.drain(..count);
        } else {
            conn.http2.output_sent(count);
        }
        if count > 0 {
            // Of a write that was cut short, too, the backend may have got the newest request whole.
            conn.flushed_stream = conn.http2.last_opened();
        }
        if conn.output().is_empty() {
            conn.blocked_since = None;
        } else {
            // Progress starts the wait anew, none leaves it as it was.
            if count > 0 || conn.blocked_since.is_none() {
                conn.blocked_since = Some(now);
            }
            conn.charge(&mut self.memory);
            self.arm_conn(id);
            self.serve_waiting_for(now, id);
            return;
        }
        let more =
            conn.http2.has_listed() || conn.phase == ConnPhase::Flushing || conn.http2.has_output_buffer();
        if more {
            self.touch(id);
        }
        self.serve_waiting_for(now, id);
    }

    /// Calls may wait for a backend's connection that had no room and has now: its SETTINGS allow more streams, or it reads
    /// again.
    pub(super) fn serve_waiting_for(&mut self, now: Duration, id: ConnId) {
        let Some(conn) = self.conns.get(id.index()) else { return };
        if let Side::Upstream(up) = &conn.side
            && !up.room.rests(now)
            && !self.clusters[up.cluster as usize].pending.is_empty()
            && conn.http2.can_open().is_ok()
        {
            self.serve_waiting(now, up.cluster);
        }
    }

    /// The transport takes bytes again.
    pub fn writable(&mut self, _now: Duration, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.index())
            && conn.blocked_since.take().is_some()
        {
            self.touch(id);
        }
    }

    /// The transport ended, or failed.
    pub fn ended(&mut self, now: Duration, id: ConnId, end: TransportEnd) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        match &conn.side {
            Side::Upstream(_) => {
                let reason = match end {
                    TransportEnd::Eof => "the backend closed the connection",
                    TransportEnd::Reset => "the connection was reset",
                };
                self.lose_upstream(now, id, reason);
            }
            Side::Downstream(_) => self.lose_downstream(now, id),
        }
    }

    /// A client's connection is gone: all its calls are cancelled.
    fn lose_downstream(&mut self, now: Duration, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        if conn.phase == ConnPhase::Dead {
            return;
        }
        conn.phase = ConnPhase::Dead;
        let calls: Vec<u32> = conn.http2.tokens().collect();
        for call in calls {
            if self.calls.get(call as usize).is_some_and(|call| call.down.conn == id) {
                self.on_client_gone(now, call, ResponseFlag::DownstreamConnectionTermination);
            }
        }
        self.touch(id);
    }

    /// The peer broke HTTP/2; a GOAWAY waits in the output.
    pub(super) fn on_connection_error(&mut self, now: Duration, id: ConnId, error: ConnectionError) {
        self.note_violation(id, error);
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        match conn.http2.role() {
            Role::Client => self.lose_upstream(now, id, &error.to_string()),
            Role::Server => {
                self.lose_downstream(now, id);
                // The client should read why before the connection goes.
                if let Some(conn) = self.conns.get_mut(id.index()) {
                    conn.phase = ConnPhase::Flushing;
                }
                self.touch(id);
            }
        }
    }

    /// Says goodbye on a connection and closes it once that is written.
    pub(super) fn shut_conn(&mut self, id: ConnId, code: ErrorCode, debug: &[u8]) {
        self.touch(id);
        if let Some(conn) = self.conns.get_mut(id.index())
            && matches!(conn.phase, ConnPhase::Live | ConnPhase::Silent)
        {
            let silent = conn.phase == ConnPhase::Silent;
            conn.http2.shut(code, debug);
            conn.phase = if silent { ConnPhase::Dead } else { ConnPhase::Flushing };
        }
    }

    /// Frees a connection's record.
    fn close(&mut self, now: Duration, id: ConnId) -> Action {
        let mut conn = self.conns.remove(id.index());
        conn.http2.close(&mut self.fields);
        if conn.put_off {
            self.unfinished.retain(|other| *other != id.0);
        }
        self.memory.charge(conn.charged, 0);
        if let Some((timer, _)) = conn.timer.take() {
            self.wheel.disarm(timer);
        }
        match &conn.side {
            Side::Downstream(down) => {
                self.accepted[down.listener as usize] -= 1;
                self.count(Event::ConnectionClosed);
            }
            Side::Upstream(up) => {
                if let Some(counted) = &up.counted {
                    self.forget_connection(up.cluster, up.slot, counted);
                }
                let cluster = &mut self.clusters[up.cluster as usize];
                cluster.endpoint_conns(up.slot).total -= 1;
                cluster.forget_if_gone(up.slot);
                // Those that only finish their calls count as well: there may be room for a further connection now.
                self.wake_waiting(now, up.cluster);
            }
        }
        Action::Close { conn: id }
    }

    /// Arms a connection's timer if it is due earlier than the one that is armed; one that is due later stays, and is
    /// armed again when it fires.
    pub(super) fn arm_conn(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        let Some(deadline) = conn.deadline() else { return };
        match conn.timer {
            Some((_, at)) if at <= deadline => {}
            armed => {
                if let Some((timer, _)) = armed {
                    self.wheel.disarm(timer);
                }
                conn.timer = Some((self.wheel.arm(deadline, TimerKey::Conn(id.0)), deadline));
            }
        }
    }

    pub(super) fn on_conn_timer(&mut self, now: Duration, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        conn.timer = None;
        let stalled = conn.stalled_at().is_some_and(|at| at <= now);
        let lingered = matches!(conn.phase, ConnPhase::Lingering(until) if until <= now);
        if stalled || lingered {
            self.ended(now, id, TransportEnd::Reset);
            self.touch(id);
            return;
        }
        if let Side::Upstream(up) = &conn.side
            && let UpstreamProgress::Connecting(until) = up.progress
            && until <= now
        {
            self.lose_upstream(now, id, "connection timeout");
            return;
        }
        if conn.age().and_then(Age::due).is_some_and(|at| at <= now) {
            self.on_aged(now, id);
        }
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        if conn.http2.deadline().is_some_and(|at| at <= now) {
            self.touch(id);
            let conn = &mut self.conns[id.index()];
            if let Err(error) = conn.http2.handle_timeout(&mut self.fields, now) {
                self.on_connection_error(now, id, error);
            }
        }
        self.arm_conn(id);
    }
}
