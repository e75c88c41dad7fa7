//! Calls that wait: for an endpoint that is ready, for a connection with room, for a place under a limit.
//!
//! Each worker has a queue for each cluster ([`PendingQueue`]): bounded, served in the order of arrival, and without calls
//! that cannot end before their deadline. A call keeps its place while it is tried and cannot go yet. The one exception to the
//! order is a call whose key leads to one endpoint: those behind it need not wait for that one.
//!
//! What a queue waits for announces itself where it is the worker's own: a connection that is ready, a stream that ended. A place
//! that another worker gives back, or an ejected endpoint whose time is up, does not; so a queue that waits for such a thing is looked at
//! every [`LOOK_AGAIN`] as well.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::{Dropped, PendingKey, Refused, Rejection, Resource};
use evenkeel_grpc::Code;
use evenkeel_telemetry::{ClusterEvent, Limited, ResponseFlag};

use super::super::Worker;
use super::super::call::CallPhase;
use super::super::reply::Refusal;

/// How long a queue may wait for what nobody announces: short beside the time that a call takes to wait, and a hundred
/// looks a second at the first call of a queue are nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Worker {
    /// Lets a call wait for something that is not announced to this worker.
    pub(in super::super) fn wait_for_place(&mut self, now: Duration, id: u32) {
        let cluster = self.calls[id as usize].cluster;
        self.clusters[cluster as usize].look_again(now + LOOK_AGAIN);
        self.wait_for_conn(now, id);
    }

    /// Lets a call wait, or answers it if it cannot.
    pub(in super::super) fn wait_for_conn(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        call.phase = CallPhase::Waiting;
        let cluster = call.cluster;
        if call.is_queued() || self.enqueue(now, id, cluster) {
            self.tend_cluster(now, cluster);
        }
    }

    /// Puts a call at the end of its cluster's queue, or back in its place if it was sent and found none: it is no newcomer then, and as
    /// many newcomers as may wait wait besides. The circuit breaker counts all. Whether it could.
    fn enqueue(&mut self, now: Duration, id: u32, cluster: u32) -> bool {
        let attempt = self.attempt_time(cluster);
        let owner = &mut self.clusters[cluster as usize];
        let breaker = owner.settings.limits.as_ref().and_then(|limits| limits.breaker.clone());
        if let Some(breaker) = &breaker
            && let Err(overflow) = breaker.acquire(Resource::Pending)
        {
            self.turn_away(now, id, Limited::MaxPending, Rejection::Overflow(overflow));
            return false;
        }
        let call = &mut self.calls[id as usize];
        let deadline = call.deadline;
        if let Some(state) = call.extras.as_deref_mut().map(|extras| &mut extras.limits)
            && core::mem::take(&mut state.is_back)
            && let Ok(key) = owner.pending.come_back(now, deadline, state.had.take(), id)
        {
            (state.waits_at, state.queued) = (breaker, Some(key));
            owner.tell_pending();
            return true;
        }
        let mut dropped = Vec::new();
        let pushed = owner.pending.push(now, deadline, attempt, id, |call, why| dropped.push((call, why)));
        owner.tell_pending();
        match pushed {
            Ok(key) => {
                let state = &mut self.extras(id).limits;
                state.queued = Some(key);
                state.waits_at = breaker;
            }
            Err(_) => breaker.iter().for_each(|breaker| breaker.release(Resource::Pending)),
        }
        for (call, why) in dropped {
            self.drop_waiting(now, call, why);
        }
        match pushed {
            Ok(_) => return true,
            Err((_, Refused::Full)) => self.refuse_overflow(now, id, cluster),
            Err((_, refused @ Refused::DeadlineUnreachable { .. })) => {
                self.turn_away(now, id, Limited::DeadlineUnreachable, refused.into());
            }
        }
        false
    }

    fn refuse_overflow(&mut self, now: Duration, id: u32, cluster: u32) {
        self.count_in(cluster, ClusterEvent::PendingOverflow);
        self.count_in(cluster, ClusterEvent::Limited(Limited::MaxPending));
        let cluster = &self.clusters[cluster as usize];
        let text = format!(
            "upstream overflow: max_pending ({}) calls of cluster {} wait already",
            cluster.settings.max_pending, cluster.settings.name
        );
        if !self.end_as_answered(now, id, &text) {
            let refusal = Refusal::grpc(Code::Unavailable, ResponseFlag::UpstreamOverflow, &text);
            self.refuse(now, id, refusal);
        }
    }

    /// What an attempt at a cluster takes, as far as known.
    fn attempt_time(&self, cluster: u32) -> Duration {
        let limits = self.clusters[cluster as usize].settings.limits.as_ref();
        limits.map_or(Duration::ZERO, |limits| limits.recent_rtt())
    }

    /// Ends a call that waited in vain.
    fn drop_waiting(&mut self, now: Duration, id: u32, why: Dropped) {
        match why {
            Dropped::Hopeless { retry_after } => {
                let rejection = Rejection::DeadlineUnreachable { retry_after };
                self.turn_away(now, id, Limited::DeadlineUnreachable, rejection);
            }
            Dropped::Expired => {
                self.end_past_deadline(now, id);
            }
        }
    }

    /// Takes a call out of the queue, if it is in it: it was sent, is answered, or waits elsewhere.
    #[inline]
    pub(in super::super) fn leave_queue(&mut self, id: u32, sent_at: Option<Duration>) {
        let Some(extras) = self.calls[id as usize].extras.as_deref_mut() else { return };
        let limits = &mut extras.limits;
        limits.is_back = false;
        let queued = limits.queued.take();
        // Only for this queue: another one may have the same key.
        limits.had = sent_at.and(queued.or(limits.had));
        if let Some(key) = queued {
            self.leave_place(id, key, sent_at);
        }
    }

    fn leave_place(&mut self, id: u32, key: PendingKey, sent_at: Option<Duration>) {
        let call = &mut self.calls[id as usize];
        let waits_at = call.take_extra(|extras| &mut extras.limits.waits_at);
        let owner = &mut self.clusters[call.cluster as usize];
        let found = match sent_at {
            Some(now) => owner.pending.depart(key, now),
            None => owner.pending.remove(key),
        };
        owner.tell_pending();
        debug_assert!(found.is_none_or(|found| found == id), "a key is of one call");
        if let Some(breaker) = waits_at {
            breaker.release(Resource::Pending);
        }
    }

    /// Gives waiting calls another try: a connection became ready or has room again, a place is free, or all endpoints fail.
    pub(in super::super) fn serve_waiting(&mut self, now: Duration, cluster: u32) {
        let attempt = self.attempt_time(cluster);
        let mut behind = None;
        // Each waiting call is looked at once.
        for _ in 0..self.clusters[cluster as usize].pending.len() {
            let Some(turn) = self.clusters[cluster as usize].pending.next_turn(behind, now, attempt) else {
                break;
            };
            let (key, id, too_late) = (turn.key, *turn.call, turn.too_late);
            if let Some(why) = too_late {
                self.drop_waiting(now, id, why);
                continue;
            }
            self.attempt(now, id);
            let call = self.calls.get(id as usize);
            let stays = call.filter(|call| call.extra(|extras| extras.limits.queued) == Some(key));
            // The order of arrival is kept: when one cannot go, those behind it cannot either, unless it waits for one endpoint.
            if stays.is_some_and(|call| call.hash.is_none()) {
                break;
            }
            behind = Some(key);
        }
    }

    /// Calls that wait at a cluster can be served again: until now they could not.
    pub(in super::super) fn unblock_waiting(&mut self, now: Duration, cluster: u32) {
        self.clusters[cluster as usize].pending.unblock(now);
    }

    /// Moves a call to another record of its cluster. It waits there anew, behind those that came before it.
    pub(in super::super) fn change_cluster(&mut self, id: u32, cluster: u32) {
        self.leave_queue(id, None);
        self.calls[id as usize].cluster = cluster;
    }

    /// What bounds a cluster's queue may have changed with its settings.
    pub(in super::super) fn bound_queue(&mut self, cluster: usize) {
        let cluster = &mut self.clusters[cluster];
        let most = Arc::clone(&cluster.settings).max_pending;
        cluster.pending.set_capacity(most);
    }
}
