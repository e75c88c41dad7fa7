//! What is kept of requests, so that their calls can be sent again.
//!
//! Why bounds of its own? What is kept of a call is the one thing here that no peer waits for: it can be dropped, and the call
//! goes on. So it is bounded where it begins to be much, and not only where calls must be ended for want of memory
//! ([`overload`](super::overload)).
//!
//! # Rule
//! - A call that was sent keeps its request up to [`ReplayBounds::call_bytes`], and as long as all calls together keep no more
//!   than [`ReplayBounds::process_bytes`]. With the first byte too many all of its request is dropped: the call goes on, and
//!   can be neither retried nor hedged.
//! - A call that waits for an endpoint keeps all that came: there is no other copy, and one window is all that can come, as
//!   credit goes back only for what has left. It counts, and what it has is looked at when it is sent.
//! - When calls would be ended for want of memory, the requests of calls that were sent are dropped before, largest first.
//!
//! Response headers give back what is kept, and so does the call's end.
//!
//! # One sum, not a part for each worker
//! A connection belongs to one worker, and one client's may have all the calls there are: with an equal part each, a worker of
//! 64 would have 256 KiB of the 16 MiB. So all share a sum, in the way of the account of memory: each adds what has changed when that
//! is [`PUBLISH_BYTES`](super::overload::PUBLISH_BYTES), so that small calls, which keep and forget within a turn, never touch the
//! shared word. A worker's own bytes count exactly, those of others to as much each.
//!
//! # Invariant
//! The worker's sum is that of the lengths of [`Call::kept`](super::call::Call::kept).

use evenkeel_balance::retry::Replay;
use evenkeel_telemetry::{ClusterEvent, ReplayDropped};

use super::Worker;
use super::call::CallPhase;

/// How much of requests is kept for further attempts (reference A.2 row 40).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayBounds {
    /// Of one call that was sent. Default 64 KiB, a stream's window by default; grpc-go keeps 256 KiB.
    pub call_bytes: usize,
    /// Of all calls of the process. Default 16 MiB, as gRPC keeps for a channel.
    pub process_bytes: u64,
}

impl Default for ReplayBounds {
    fn default() -> Self {
        Self { call_bytes: 64 * 1024, process_bytes: 16 * 1024 * 1024 }
    }
}

impl Worker {
    /// Keeps a part of a request that came before the response, if it may be.
    pub(super) fn keep_for_replay(&mut self, id: u32, bytes: &[u8]) {
        let call = &self.calls[id as usize];
        if call.replay != Replay::Possible || bytes.is_empty() {
            return;
        }
        let is_sent = call.phase == CallPhase::Sent;
        if is_sent && let Some(bound) = self.replay_bound(call.kept.len(), bytes.len()) {
            return self.stop_keeping(id, bound);
        }
        if self.calls[id as usize].kept.capacity() == 0 {
            self.calls[id as usize].kept = self.take_buffer();
        }
        self.calls[id as usize].kept.extend_from_slice(bytes);
        self.memory.keep(bytes.len());
        self.charge_call(id);
    }

    /// A call that has waited was sent: what it kept is more than it may, perhaps.
    pub(super) fn bound_kept(&mut self, id: u32) {
        if let Some(bound) = self.replay_bound(self.calls[id as usize].kept.len(), 0) {
            self.stop_keeping(id, bound);
        }
    }

    /// The bound that forbids a call which keeps so many bytes to keep so many more.
    fn replay_bound(&self, kept: usize, more: usize) -> Option<ReplayDropped> {
        let bounds = &self.snapshot.replay;
        if kept + more > bounds.call_bytes {
            return Some(ReplayDropped::PerCall);
        }
        (self.memory.kept_by_all() + more as u64 > bounds.process_bytes).then_some(ReplayDropped::PerProcess)
    }

    fn stop_keeping(&mut self, id: u32, bound: ReplayDropped) {
        self.count_of_call(id, ClusterEvent::ReplayDropped(bound));
        let why = match bound {
            ReplayDropped::PerCall => Replay::RequestTooLarge,
            ReplayDropped::PerProcess | ReplayDropped::Memory => Replay::BuffersFull,
        };
        self.drop_kept(id, why);
    }

    /// Forgets what is kept of a call's request, which is not sent again.
    pub(super) fn drop_kept(&mut self, id: u32, why: Replay) {
        let call = &mut self.calls[id as usize];
        call.replay = why;
        let kept = core::mem::take(&mut call.kept);
        self.memory.forget_kept(kept.len());
        self.give_buffer(kept);
        self.charge_call(id);
    }

    /// Forgets requests of calls that were sent, largest first, until `goal` bytes are freed. Returns how many are.
    pub(super) fn shed_kept(&mut self, goal: u64) -> u64 {
        let sent = self.calls.iter().filter(|(_, call)| call.phase == CallPhase::Sent);
        let mut kept: Vec<(usize, u32)> = sent
            .map(|(id, call)| (call.kept.capacity(), id as u32))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        kept.sort_unstable_by(|one, other| other.cmp(one));
        let mut freed = 0;
        for (bytes, id) in kept {
            if freed >= goal {
                break;
            }
            freed += bytes as u64;
            self.stop_keeping(id, ReplayDropped::Memory);
        }
        freed
    }
}
