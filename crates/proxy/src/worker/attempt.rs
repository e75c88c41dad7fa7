//! Attempts: picking an endpoint for a call, and sending the request there. What follows when one fails is the business of
//! [`retry`](super::retry).

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{Ask, Balancer, Pick, RefusedBy, Slot};
use evenkeel_grpc::{Code, TimeoutText, print_timeout};
use evenkeel_telemetry::{ClusterEvent, KeyMet, ResponseFlag};

use super::Worker;
use super::answer::AnswerTime;
use super::call::{CallPhase, Leg};
use super::call_timer::Staller;
use super::cluster::WorkerCluster;
use super::conn::ConnId;
use super::extras::TRIED_MAX;
use super::limit::Full;
use super::reply::Refusal;

/// Endpoints without room that one attempt passes over, besides those that the call was tried on. More would make the
/// search of an overloaded cluster costly for each call; whoever finds none waits.
const PASSED_OVER_MAX: usize = 4;

/// Endpoints that an attempt does not want at most.
pub(super) const UNWANTED_MAX: usize = TRIED_MAX + PASSED_OVER_MAX;

/// Endpoints that an attempt does not want.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unwanted {
    slots: [Option<Slot>; UNWANTED_MAX],
    count: usize,
}

impl Unwanted {
    /// Adds an endpoint, if there is room for it.
    pub(super) fn add(&mut self, slot: Slot) -> bool {
        let Some(place) = self.slots.get_mut(self.count) else { return false };
        *place = Some(slot);
        self.count += 1;
        true
    }

    pub(super) fn pick(&self, balancer: &mut Balancer, ask: &Ask) -> Pick {
        let Some(first) = self.slots[0] else { return balancer.pick(ask) };
        balancer.pick_excluding(ask, &self.slots.map(|slot| slot.unwrap_or(first))[..self.count])
    }
}

/// The search for an endpoint that takes a call.
#[derive(Debug)]
struct Search {
    unwanted: Unwanted,
    /// Those without room.
    passed: Unwanted,
    /// Why the newest endpoint did not take it, if a limit said so; an endpoint without room comes before all of them.
    full: Option<Full>,
    has_no_room: bool,
}

/// A field's name and value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// The fields that each attempt has of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnFields {
    /// How many attempts there were before; a digit, as a policy has five at most. `None` if there were none.
    previous: Option<[u8; 1]>,
    /// What is left of the call's time.
    left: Option<TimeoutText>,
}

impl OwnFields {
    pub(super) fn new(previous: u8, left: Option<Duration>) -> Self {
        Self { previous: (previous > 0).then_some([b'0' + previous]), left: left.map(print_timeout) }
    }

    /// The fields, written into `room`.
    pub(super) fn list<'a, 'r>(&'a self, room: &'r mut [Field<'a>; 2]) -> &'r [Field<'a>] {
        let mut count = 0;
        if let Some(previous) = &self.previous {
            room[count] = (b"grpc-previous-rpc-attempts", previous);
            count += 1;
        }
        if let Some(left) = &self.left {
            room[count] = (b"grpc-timeout", left.as_bytes());
            count += 1;
        }
        &room[..count]
    }
}

impl Worker {
    /// Sends a waiting call to an endpoint, or lets it wait for one, or answers it.
    ///
    /// An endpoint that the call was tried on, or whose connections are full, is chosen only if there is no other.
    pub(super) fn attempt(&mut self, now: Duration, id: u32) {
        // An expired call is not worth a backend's time, and `grpc-timeout: 0n` would tell it nothing else.
        if self.end_past_deadline(now, id) || self.inject_abort(now, id) {
            return;
        }
        self.follow_cluster(id);
        let call = &self.calls[id as usize];
        let (cluster_id, hash) = (call.cluster, call.hash);
        let mut unwanted = Unwanted::default();
        if call.attempts > 0 {
            for slot in call.tried() {
                unwanted.add(slot);
            }
        }
        let balancer = &mut self.clusters[cluster_id as usize].balancer;
        let ask = Ask { now, hash };
        let mut pick = unwanted.pick(balancer, &ask);
        if pick.slot().is_none() && unwanted.count > 0 {
            // No other one is ready. This call was not processed where it was tried, so it may go there again: a lone
            // backend that refuses one call, or goes away and comes back, costs no call.
            pick = balancer.pick(&ask);
        }
        if pick == Pick::Fail {
            // Such calls have no end at an endpoint, where panics are looked for else.
            if balancer.has_panic_change() {
                self.note_panics(cluster_id);
            }
            let cluster = &self.clusters[cluster_id as usize];
            // Of a cluster that is no longer configured no endpoint can come.
            if cluster.settings.wait_for_ready && cluster.is_configured {
                return self.wait_for_place(now, id);
            }
            let is_first = self.calls[id as usize].attempts == 0;
            let refusal = self.clusters[cluster_id as usize].balancer.refusal();
            if is_first && refusal == Some(RefusedBy::Affinity) {
                self.count_in(cluster_id, ClusterEvent::KeyMet(KeyMet::Refused));
            }
            let refusal = self.no_endpoint(cluster_id);
            self.refuse(now, id, refusal);
            return;
        }
        if pick == Pick::Queue && balancer.ready_count() > 0 {
            // One that is connected may be found healthy before the one that is being connected to is ready.
            return self.wait_for_place(now, id);
        }
        let mut search = Search { unwanted, passed: Unwanted::default(), full: None, has_no_room: false };
        if self.send_to_any(now, id, &ask, pick, &mut search) {
            return;
        }
        if unwanted.count > 0 && search.has_no_room && search.full.is_none() {
            // Those that it was tried on may have room, where all others have none.
            search.unwanted = search.passed;
            let pick = search.unwanted.pick(&mut self.clusters[cluster_id as usize].balancer, &ask);
            if self.send_to_any(now, id, &ask, pick, &mut search) {
                return;
            }
        }
        match search.full {
            Some(full) if full.is_of_cluster() || !search.has_no_room => self.refused_by(now, id, full),
            Some(_) => self.wait_for_place(now, id),
            None => self.wait_for_conn(now, id),
        }
    }

    /// Sends a call to the endpoint of this pick, or to the next one that has room. Whether it was sent.
    fn send_to_any(
        &mut self,
        now: Duration,
        id: u32,
        ask: &Ask,
        mut pick: Pick,
        search: &mut Search,
    ) -> bool {
        let cluster_id = self.calls[id as usize].cluster;
        while let Some(slot) = pick.slot() {
            let is_trial = pick == Pick::Trial(slot);
            match self.conn_with_room(now, cluster_id, slot) {
                Some(conn) => match self.take_places(id, slot) {
                    Ok(()) => {
                        self.calls[id as usize].is_trial = is_trial;
                        self.send_request(now, id, slot, conn);
                        return true;
                    }
                    Err(refused) => search.full = Some(refused),
                },
                None => search.has_no_room = true,
            }
            if is_trial {
                self.clusters[cluster_id as usize].balancer.drop_trial(slot);
            }
            if search.full.is_some_and(Full::is_of_cluster) {
                break;
            }
            // Its calls may be long ones: this call must not wait for their ends while another endpoint idles.
            if !(search.passed.add(slot) && search.unwanted.add(slot)) {
                search.has_no_room = true;
                break;
            }
            pick = search.unwanted.pick(&mut self.clusters[cluster_id as usize].balancer, ask);
        }
        false
    }

    /// Opens a stream on a connection with room and sends what there is of the request.
    fn send_request(&mut self, now: Duration, id: u32, slot: Slot, conn: ConnId) {
        self.touch(conn);
        let call = &mut self.calls[id as usize];
        let http2 = &mut self.conns[conn.index()].http2;
        let Ok(stream) = http2.open(now, id) else {
            if core::mem::take(&mut call.is_trial) {
                self.clusters[call.cluster as usize].balancer.drop_trial(slot);
            }
            call.slot = Some(slot);
            self.give_places_back(now, id, None);
            self.wait_for_conn(now, id);
            return;
        };
        call.up = Some(Leg { conn, stream });
        call.slot = Some(slot);
        call.phase = CallPhase::Sent;
        call.attempts += 1;
        (call.attempt_at, call.answer_time) = (now, AnswerTime::default());
        call.forwarded = 0;
        let end = call.request_ended && call.kept.is_empty();
        let deadline = call.deadline;
        let own =
            OwnFields::new(call.previous_attempts(), deadline.map(|deadline| deadline.saturating_sub(now)));
        let (mut extra, store) = (Default::default(), &mut self.fields.store);
        let opened = http2.send_headers(store, stream, &call.request, own.list(&mut extra), end);
        debug_assert!(opened.is_ok(), "a stream that was opened just now takes headers");
        let (mut credit, mut waits) = (0, false);
        let has_kept = !call.kept.is_empty();
        if has_kept {
            let sent =
                http2.send_data(now, stream, &call.kept, call.request_ended).unwrap_or(call.kept.len());
            credit = call.credit_for(sent as u64);
            waits = sent < call.kept.len();
        }
        let down = call.down;
        let cluster = call.cluster;
        let balancer = &mut self.clusters[cluster as usize].balancer;
        balancer.call_started(slot, now);
        let probes = balancer.answer_probes(now);
        self.count_probes(cluster, probes);
        self.note_key_met(id, slot);
        // The client may wait for this very credit, and nothing else may be under way on its connection.
        self.touch(down.conn);
        self.consume(down.conn, down.stream, credit);
        self.note_stall(now, id, Staller::Backend, waits);
        if has_kept {
            self.bound_kept(id);
        }
        if self.calls[id as usize].extras.is_some() {
            self.leave_queue(id, Some(now));
            self.drop_answer(id);
            self.note_hedged(now, id);
            self.time_attempt(now, id);
        }
        self.on_attempt_started(id);
    }

    /// A reload may have put another record in the place of the call's cluster: the call goes on there.
    fn follow_cluster(&mut self, id: u32) {
        let old = &self.clusters[self.calls[id as usize].cluster as usize];
        if old.is_configured {
            return;
        }
        let same = |other: &WorkerCluster| other.is_configured && other.settings.name == old.settings.name;
        if let Some(place) = self.clusters.iter().position(same) {
            // The key was read before the route changed the request; only another plan makes it another.
            let has_same_plan = self.clusters[place].settings.hash_plan == old.settings.hash_plan;
            self.change_cluster(id, place as u32);
            let call = &mut self.calls[id as usize];
            call.slot = None;
            if let Some(extras) = call.extras.as_deref_mut() {
                extras.tried = [None; TRIED_MAX];
            }
            if !has_same_plan {
                self.hash_call(id);
            }
        }
    }

    /// Why no endpoint can take a call, in words.
    fn no_endpoint(&self, cluster: u32) -> Refusal {
        let cluster = &self.clusters[cluster as usize];
        let name = &cluster.settings.name;
        if let Some(rule) = cluster.balancer.refusal() {
            let why = refused_by(rule, name);
            let newest = cluster.last_error.as_ref();
            let newest = newest.map_or_else(String::new, |error| format!("; the newest failure: {error}"));
            let text = format!("no healthy upstream: {why}{newest}");
            return Refusal::grpc(Code::Unavailable, ResponseFlag::NoHealthyUpstream, &text);
        }
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

/// Why calls of a cluster fail although endpoints are ready, in words.
pub(crate) fn refused_by(rule: RefusedBy, cluster: &str) -> String {
    match rule {
        RefusedBy::Panic { priority, available, total } => format!(
            "only {available} of {total} endpoints of cluster {cluster} in priority {priority} are available, and \
             `fail_traffic_on_panic` is set"
        ),
        RefusedBy::Affinity => format!(
            "the endpoint of the call's key in cluster {cluster} cannot take it, and with `when_unavailable: fail` no other \
             may"
        ),
    }
}
