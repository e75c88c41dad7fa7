//! Attempts: picking an endpoint for a call, sending the request there, and trying elsewhere when it was not
//! processed.
//!
//! Two cases are always tried again, neither visible to the client (gRFC A6, "transparent retries"): a call whose
//! bytes never left for the backend, as often as there are endpoints and attempts; and one that the backend refused
//! (REFUSED_STREAM, or above a GOAWAY's last stream), once. Anything else may have been processed and is the business of a
//! retry policy.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{Pick, Slot};
use evenkeel_grpc::{Code, print_timeout};
use evenkeel_telemetry::{Event, ResponseFlag, TransparentRetry};

use super::Worker;
use super::call::{ATTEMPTS_MAX, CallPhase, Leg};
use super::cluster::Waiting;
use super::conn::ConnId;
use super::reply::Refusal;

impl Worker {
    /// Sends a waiting call to an endpoint, or lets it wait for one, or answers it.
    pub(super) fn attempt(&mut self, now: Duration, id: u32) {
        let call = &self.calls[id as usize];
        let cluster_id = call.cluster;
        let mut tried = [None; ATTEMPTS_MAX as usize];
        let mut tried_count = 0;
        for slot in call.tried() {
            tried[tried_count] = Some(slot);
            tried_count += 1;
        }
        let cluster = &mut self.clusters[cluster_id as usize];
        let pick = match tried_count {
            0 => cluster.balancer.pick(),
            _ => {
                let slots =
                    tried.map(|slot| slot.unwrap_or_else(|| tried[0].expect("at least one was tried")));
                match cluster.balancer.pick_excluding(&slots[..tried_count]) {
                    Pick::Endpoint(slot) => Pick::Endpoint(slot),
                    // No other one is ready. This call was not processed where it was tried, so it may go there again:
                    // a lone backend that refuses one call, or goes away and comes back, costs no call.
                    Pick::Queue | Pick::Fail => cluster.balancer.pick(),
                }
            }
        };
        match pick {
            Pick::Endpoint(slot) => match self.conn_with_room(now, cluster_id, slot) {
                Some(conn) => self.send_request(now, id, slot, conn),
                None => self.wait_for_conn(now, id),
            },
            Pick::Queue => self.wait_for_conn(now, id),
            Pick::Fail => {
                let refusal = self.no_endpoint(cluster_id);
                self.refuse(now, id, refusal);
            }
        }
    }

    /// A ready connection of this endpoint that may open one more stream. Without one, another connection is begun if
    /// the endpoint may have more (gRFC A105).
    fn conn_with_room(&mut self, now: Duration, cluster: u32, slot: Slot) -> Option<ConnId> {
        let conns = self.clusters[cluster as usize].conns_of(slot);
        let found = conns.iter().copied().find(|conn| self.conns[conn.index()].http2.can_open().is_ok());
        if found.is_none() {
            let owner = &mut self.clusters[cluster as usize];
            let most = owner.settings.max_connections_per_endpoint;
            let conns = owner.endpoint_conns(slot);
            if conns.connecting.is_empty() && conns.total < most {
                let at = conns.further_not_before;
                if at <= now {
                    self.connect(now, cluster, slot);
                } else {
                    owner.further_at = Some(owner.further_at.map_or(at, |other| other.min(at)));
                }
            }
        }
        found
    }

    fn wait_for_conn(&mut self, now: Duration, id: u32) {
        let call = &mut self.calls[id as usize];
        call.phase = CallPhase::Waiting;
        let waiting = Waiting { call: id, serial: call.serial };
        let cluster_id = call.cluster;
        let cluster = &mut self.clusters[cluster_id as usize];
        if cluster.pending.len() >= cluster.settings.max_pending {
            self.drop_ended_waiters(cluster_id);
        }
        let cluster = &mut self.clusters[cluster_id as usize];
        if cluster.pending.len() >= cluster.settings.max_pending {
            self.count(Event::PendingOverflow);
            let cluster = &self.clusters[cluster_id as usize];
            let refusal = Refusal::grpc(
                Code::Unavailable,
                ResponseFlag::UpstreamOverflow,
                &format!(
                    "upstream overflow: max_pending ({}) calls of cluster {} wait already",
                    cluster.pending.len(),
                    cluster.settings.name
                ),
            );
            self.refuse(now, id, refusal);
            return;
        }
        cluster.pending.push_back(waiting);
        self.tend_cluster(now, cluster_id);
    }

    /// Takes calls that ended while they waited out of the queue.
    fn drop_ended_waiters(&mut self, cluster: u32) {
        let calls = &self.calls;
        self.clusters[cluster as usize].pending.retain(|waiting| {
            calls.get(waiting.call as usize).is_some_and(|call| call.serial == waiting.serial)
        });
    }

    /// Gives waiting calls another try: a connection became ready or has room again, or all endpoints fail.
    pub(super) fn serve_waiting(&mut self, now: Duration, cluster: u32) {
        // Each waiting call is looked at once; those that must go on waiting queue again behind.
        for _ in 0..self.clusters[cluster as usize].pending.len() {
            let Some(waiting) = self.clusters[cluster as usize].pending.pop_front() else { break };
            let Some(call) = self.calls.get(waiting.call as usize) else { continue };
            if call.serial != waiting.serial || call.phase != CallPhase::Waiting {
                continue;
            }
            let before = self.clusters[cluster as usize].pending.len();
            self.attempt(now, waiting.call);
            // The order of arrival is kept: when one cannot go, those behind it cannot either.
            if self.clusters[cluster as usize].pending.len() > before
                && let Some(same) = self.clusters[cluster as usize].pending.pop_back()
            {
                self.clusters[cluster as usize].pending.push_front(same);
                break;
            }
        }
    }

    /// Opens a stream on a connection with room and sends what there is of the request.
    fn send_request(&mut self, now: Duration, id: u32, slot: Slot, conn: ConnId) {
        self.touch(conn);
        let call = &mut self.calls[id as usize];
        let http2 = &mut self.conns[conn.index()].http2;
        let Ok(stream) = http2.open(now, id) else {
            self.wait_for_conn(now, id);
            return;
        };
        call.up = Some(Leg { conn, stream });
        call.slot = Some(slot);
        call.phase = CallPhase::Sent;
        call.attempts += 1;
        call.attempt_at = now;
        call.forwarded = 0;
        let end = call.request_ended && call.replay.is_empty();
        let left = call.deadline.map(|deadline| print_timeout(deadline.saturating_sub(now)));
        let extra = left.as_ref().map(|text| [(&b"grpc-timeout"[..], text.as_bytes())]);
        let extra: &[(&[u8], &[u8])] = extra.as_ref().map_or(&[], |extra| &extra[..]);
        let opened = http2.send_headers(&mut self.fields.store, stream, &call.request, extra, end);
        debug_assert!(opened.is_ok(), "a stream that was opened just now takes headers");
        let (mut credit, mut waits) = (0, false);
        call.stalled_since = None;
        if !call.replay.is_empty() {
            let sent =
                http2.send_data(now, stream, &call.replay, call.request_ended).unwrap_or(call.replay.len());
            credit = call.credit_for(sent as u64);
            waits = sent < call.replay.len();
        }
        let down = call.down;
        let cluster = &self.clusters[call.cluster as usize];
        cluster.balancer.endpoint(slot).call_started();
        // The client may wait for this very credit, and nothing else may be under way on its connection.
        self.touch(down.conn);
        self.consume(down.conn, down.stream, credit);
        self.note_stall(now, id, waits);
        self.on_attempt_started(id);
    }

    /// The newest attempt ended; `reason` says why it is safe to make another: the backend did nothing
    /// ([`TransparentRetry::RefusedStream`], [`TransparentRetry::GoAway`]: once), or nothing left for it
    /// ([`TransparentRetry::ConnectFailure`]). Whether another was made.
    pub(super) fn try_again(&mut self, now: Duration, id: u32, reason: Option<TransparentRetry>) -> bool {
        let Some(reason) = reason else { return false };
        let unsent = reason == TransparentRetry::ConnectFailure;
        let call = &mut self.calls[id as usize];
        if !call.may_retry() || (!unsent && call.refusal_retried) {
            return false;
        }
        if !unsent {
            call.refusal_retried = true;
        }
        let attempt = usize::from(call.attempts.saturating_sub(1)) % call.tried.len();
        call.tried[attempt] = call.slot;
        call.phase = CallPhase::Waiting;
        self.release_upstream(now, id, None);
        self.count(Event::TransparentRetry(reason));
        self.attempt(now, id);
        true
    }

    /// Why no endpoint can take a call, in words.
    fn no_endpoint(&self, cluster: u32) -> Refusal {
        let cluster = &self.clusters[cluster as usize];
        let name = &cluster.settings.name;
        let is_empty = cluster.balancer.slots().all(|status| !status.is_listed);
        let (flag, text) = match (&cluster.last_error, &cluster.settings.resolve_error) {
            (_, Some(error)) if is_empty => {
                (ResponseFlag::NoHealthyUpstream, format!("no healthy upstream: cluster {name}: {error}"))
            }
            (Some(error), _) if !is_empty => (
                ResponseFlag::UpstreamConnectFailure,
                format!(
                    "upstream connect error: no endpoint of cluster {name} can be reached; the newest failure: {error}"
                ),
            ),
            _ if is_empty => (
                ResponseFlag::NoHealthyUpstream,
                format!("no healthy upstream: cluster {name} has no endpoints"),
            ),
            _ => (
                ResponseFlag::NoHealthyUpstream,
                format!("no healthy upstream: no endpoint of cluster {name} is ready"),
            ),
        };
        Refusal::grpc(Code::Unavailable, flag, &text)
    }

    /// Notes why connections of a cluster fail.
    pub(super) fn note_connect_error(&mut self, cluster: u32, slot: Slot, error: &str) {
        let cluster = &mut self.clusters[cluster as usize];
        let address = cluster.balancer.endpoint(slot).address().clone();
        let text: Arc<str> = format!("{address}: {error}").into();
        cluster.endpoint_conns(slot).last_error = Some(Arc::clone(&text));
        cluster.last_error = Some(text);
    }
}
