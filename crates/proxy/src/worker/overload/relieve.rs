//! What a worker gives up at each level.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_grpc::Code;
use evenkeel_http2::ErrorCode;
use evenkeel_telemetry::{Event, ResponseFlag, Shed};

use super::{Account, Accountant, DRAIN_BYTES_MIN, DRAIN_PERIOD, FAIR_BYTES, LOOK_PERIOD, Level, to_shed};
use crate::worker::Worker;
use crate::worker::call::{Call, CallPhase};
use crate::worker::conn::{ConnId, ConnPhase, Side, TransportEnd};
use crate::worker::extras::Extras;
use crate::worker::finish::Ending;
use crate::worker::reply::Refusal;

/// What can be given up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    /// A connection whose client does not read.
    Conn(u32),
    Call(u32),
}

impl Worker {
    /// Lets `accountant` sum what this worker holds from now on, with what others hold. Without one there is no limit.
    pub fn account(&mut self, accountant: &Arc<Accountant>) {
        let before = core::mem::replace(&mut self.memory, Account::new(Arc::clone(accountant)));
        (self.memory.held, self.memory.spare) = (before.held, before.spare);
        self.memory.keep(before.kept as usize);
    }

    /// Bytes that the connections and calls of this worker hold.
    #[must_use]
    pub fn held_memory(&self) -> u64 {
        self.memory.held
    }

    /// What all workers hold, exact to [`PUBLISH_BYTES`](super::PUBLISH_BYTES) for each.
    #[must_use]
    pub fn held_by_all(&self) -> u64 {
        self.memory.shared.total()
    }

    /// Whether the driver should leave new connections in the kernel's queue.
    #[must_use]
    pub fn refuses_connections(&self) -> bool {
        self.memory.level >= Level::Refuse
    }

    /// The driver left new connections in the kernel's queue, because of [`Worker::refuses_connections`].
    pub fn note_accept_paused(&self) {
        self.count(Event::Shed(Shed::PauseAccept));
    }

    /// How short of memory the process was at worst since the last time, if that differs from the last answer; for the log.
    pub fn poll_level(&mut self) -> Option<Level> {
        let memory = &mut self.memory;
        let level = core::mem::replace(&mut memory.peak, memory.level);
        (core::mem::replace(&mut memory.told, level) != level).then_some(level)
    }

    /// Notes what a call keeps now.
    #[inline]
    pub(in crate::worker) fn charge_call(&mut self, id: u32) {
        let call = &mut self.calls[id as usize];
        let extras = call.extras.as_ref().map_or(0, |_| size_of::<Extras>());
        let bytes = size_of::<Call>() + extras + call.request.size() + call.kept.capacity();
        self.memory.charge(call.charged, bytes);
        call.charged = bytes;
    }

    /// When the account must be looked at although nothing happens.
    pub(in crate::worker) fn memory_deadline(&self) -> Option<Duration> {
        self.memory.deadline()
    }

    /// Why a stream that a client opened on this connection must not become a call, if so.
    #[inline]
    pub(in crate::worker) fn refuses_stream(&self, id: ConnId) -> Option<Refusal> {
        let level = self.memory.level;
        if level < Level::Refuse {
            return None;
        }
        let holds_little = self.conns.get(id.index()).is_some_and(|conn| conn.charged <= FAIR_BYTES);
        if level == Level::Refuse && holds_little {
            return None;
        }
        self.count(Event::Shed(Shed::RefuseStream));
        let text = "overload: the proxy is short of memory and takes no call on this connection";
        Some(Refusal::grpc(Code::Unavailable, ResponseFlag::OverloadManager, text))
    }

    /// Looks at the account, and gives up what its level asks for. Once a turn.
    #[inline]
    pub(in crate::worker) fn relieve(&mut self, now: Duration) {
        if self.memory.look(now) {
            self.give_up(now);
        }
    }

    #[cold]
    fn give_up(&mut self, now: Duration) {
        self.spare_buffers = Vec::new();
        self.memory.spare = 0;
        let level = self.memory.level;
        if level >= Level::Drain && self.memory.drained_at.is_none_or(|at| now >= at + DRAIN_PERIOD) {
            self.memory.drained_at = Some(now);
            self.drain_largest(now);
        }
        if level == Level::Shed && self.memory.fruitless_until.is_none_or(|until| now >= until) {
            let shared = &self.memory.shared;
            let goal = to_shed(self.memory.held, shared.total(), shared.limit);
            let freed = self.shed(now, goal);
            let enough = freed >= goal;
            self.memory.fruitless_until = (!enough).then(|| now + LOOK_PERIOD);
            if enough {
                self.memory.level = Level::Drain;
            }
        }
    }

    /// Asks the client whose connection holds the most to go: its calls end in their own time, and new ones may find a
    /// process that has room.
    fn drain_largest(&mut self, now: Duration) {
        let clients = self.conns.iter().filter(|(_, conn)| {
            matches!(conn.side, Side::Downstream(_))
                && conn.is_live()
                && conn.charged >= DRAIN_BYTES_MIN
                && !conn.http2.is_draining()
        });
        let Some((largest, _)) = clients.max_by_key(|(_, conn)| conn.charged) else { return };
        self.count(Event::Shed(Shed::DrainConnection));
        let id = ConnId(largest as u32);
        self.touch(id);
        self.conns[largest].http2.start_drain(now, b"overload");
    }

    /// Forgets requests that are kept for another attempt, then ends what holds the most, until `goal` bytes are freed. Returns how
    /// many are, more or less: a call whose connection is ended too counts twice.
    fn shed(&mut self, now: Duration, goal: u64) -> u64 {
        let mut freed = self.shed_kept(goal);
        if freed >= goal {
            return freed;
        }
        let stuck = self.conns.iter().filter(|(_, conn)| {
            let in_use = matches!(conn.phase, ConnPhase::Live | ConnPhase::Flushing);
            matches!(conn.side, Side::Downstream(_)) && in_use && conn.blocked_since.is_some()
        });
        let mut victims: Vec<(usize, Victim)> =
            stuck.map(|(id, conn)| (conn.charged, Victim::Conn(id as u32))).collect();
        victims.extend(self.calls.iter().map(|(id, call)| (self.memory_of(call), Victim::Call(id as u32))));
        victims.sort_unstable_by(|one, other| other.cmp(one));
        for (bytes, victim) in victims {
            if freed >= goal {
                break;
            }
            freed += bytes as u64;
            match victim {
                Victim::Conn(id) => self.shed_conn(now, ConnId(id)),
                Victim::Call(id) => self.shed_call(now, id),
            }
        }
        freed
    }

    /// What would be freed with a call: what it keeps, and its bytes that wait on both sides.
    fn memory_of(&self, call: &Call) -> usize {
        let legs = [Some(call.down), call.up].into_iter().flatten();
        let queued = legs.filter_map(|leg| {
            let conn = self.conns.get(leg.conn.index())?;
            Some(conn.http2.queued_memory(leg.stream))
        });
        call.charged + queued.sum::<usize>()
    }

    /// Closes a connection whose client does not read. No word of it: that would have to wait behind what it does not read.
    fn shed_conn(&mut self, now: Duration, id: ConnId) {
        self.count(Event::Shed(Shed::CloseConnection));
        self.ended(now, id, TransportEnd::Reset);
    }

    fn shed_call(&mut self, now: Duration, id: u32) {
        // It may have ended with its connection.
        if !self.calls.contains(id as usize) {
            return;
        }
        self.count(Event::Shed(Shed::ResetStream));
        let call = &mut self.calls[id as usize];
        let text = "overload: the proxy is short of memory and this call held much of it";
        if matches!(call.phase, CallPhase::Waiting | CallPhase::Sent) {
            let ending = Ending::local(Code::ResourceExhausted, ResponseFlag::OverloadManager, text);
            self.end_call(now, id, &ending);
            return;
        }
        // What waits for the client must go, and with it the place for a status.
        call.code = Some(Code::ResourceExhausted);
        call.flag = Some(ResponseFlag::OverloadManager);
        self.note_details(id, text);
        self.reset_client(id, ErrorCode::ENHANCE_YOUR_CALM);
        self.response_ended(now, id);
    }
}
