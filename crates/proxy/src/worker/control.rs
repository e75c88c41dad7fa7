//! What the control plane does to a worker: new configuration, drain.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{
    Address, Connectivity, Despite, GroupLoad, Ineligible, Learned, Policy, ProbeCounts, ReportedWeight,
    SlotStatus, Warming,
};
use evenkeel_http2::ErrorCode;
use evenkeel_telemetry::{Event, ResponseFlag};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::cluster::WorkerCluster;
use super::conn::{ConnId, Side};
use super::limit;
use super::snapshot::{Cluster, Snapshot};
use super::{TimerKey, Worker};

/// How old a client's connection must be before it is asked to go away.
///
/// gRPC's core library (grpcio 1.85 and others) marks a connection as ready once SETTINGS came, and only then begins to
/// watch it. A GOAWAY that comes with the SETTINGS is not seen by that watch: the client takes the connection for ready for
/// ever, and repeats its calls on it until their deadline. A quarter of a second is a hundred times what it needs.
const SETTLE_MIN: Duration = Duration::from_millis(250);

/// A cluster as one worker sees it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Calls that wait for a connection.
    pub pending: usize,
    /// What became of prequal's probes, and how many answers it keeps; `None` under other policies.
    pub probes: Option<(ProbeCounts, usize)>,
    /// Its priorities and localities, and what each gets; empty before discovery's first answer.
    pub groups: Vec<GroupLoad>,
    /// Its endpoints; those that discovery dropped are there until their calls have ended.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint as one worker sees it.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// Where it is.
    pub address: Address,
    /// The state of this worker's connection.
    pub connectivity: Connectivity,
    /// Whether it failed and was not ready since: no call waits for it.
    pub is_failing: bool,
    /// Whether calls can go there now.
    pub is_candidate: bool,
    /// What keeps calls from it; empty if nothing does.
    pub ineligible: Vec<Ineligible>,
    /// Why it gets calls although something withholds it, if it does.
    pub despite: Option<Despite>,
    /// How far it is in its slow start, if it is in one.
    pub warming: Option<Warming>,
    /// Its weight by the load that it reported, if one is used: calls per second that it would serve at its full capacity.
    pub reported_weight: Option<f64>,
    /// What the worker learned of it from its calls, if the policy goes by that.
    pub learned: Option<Learned>,
    /// Whether discovery lists it; else it only finishes its calls.
    pub is_listed: bool,
    /// Connections that take calls.
    pub connections: usize,
    /// All connections that exist, those that only finish their calls included.
    pub connections_left: usize,
    /// Calls in flight, of all workers.
    pub in_flight: u32,
}

impl WorkerCluster {
    /// The cluster as its worker sees it.
    pub(super) fn view(&self, now: Duration) -> ClusterView {
        let despite = self.balancer.despite();
        let view = |status: SlotStatus<'_>| EndpointView {
            address: status.endpoint.address().clone(),
            connectivity: status.connectivity,
            is_failing: status.is_failing,
            is_candidate: status.is_candidate,
            ineligible: self.balancer.ineligible(status.slot),
            despite: despite(status.slot),
            warming: self.balancer.warming(status.slot, now),
            reported_weight: self.balancer.reported_weight(status.slot, now).map(ReportedWeight::get),
            learned: self.balancer.learned(status.slot, now),
            is_listed: status.is_listed,
            connections: self.conns_of(status.slot).len(),
            connections_left: self.conn_count(status.slot),
            in_flight: status.endpoint.in_flight(),
        };
        ClusterView {
            name: Arc::clone(&self.settings.name),
            pending: self.pending.len(),
            probes: matches!(self.settings.policy, Policy::Prequal(_))
                .then(|| (self.balancer.probe_counts(), self.balancer.probe_pool())),
            groups: self.balancer.group_loads(),
            endpoints: self.balancer.slots().map(view).collect(),
        }
    }
}

impl Worker {
    /// Takes a new snapshot: calls in progress go on, clusters and endpoints that are gone finish theirs.
    pub fn apply(&mut self, snapshot: &Arc<Snapshot>, now: Duration) {
        let new_breakers = limit::new_breakers(&self.snapshot, snapshot);
        self.snapshot = Arc::clone(snapshot);
        self.intern_added();
        self.accepted.resize(self.accepted.len().max(snapshot.listeners.len()), 0);
        // Which were configured until now decides which are taken up again.
        self.cluster_of = snapshot.clusters.iter().map(|cluster| self.place_cluster(cluster)).collect();
        self.clusters.iter_mut().for_each(|cluster| cluster.is_configured = false);
        for place in &self.cluster_of {
            self.clusters[*place as usize].is_configured = true;
        }
        self.adopt(&new_breakers);
        for id in 0..self.clusters.len() {
            self.attach_cluster(id as u32);
            self.take_endpoints(now, id as u32);
        }
    }

    /// The place of a cluster among the worker's own: the same as before for the same name and policy. Not one that a snapshot
    /// before the last had: it has lost its endpoints, and would refuse the calls that wait until discovery answers.
    fn place_cluster(&mut self, settings: &Arc<Cluster>) -> u32 {
        let same = |cluster: &WorkerCluster| {
            cluster.is_configured
                && cluster.settings.name == settings.name
                && cluster.settings.policy == settings.policy
                && cluster.settings.slow_start == settings.slow_start
                && cluster.settings.backoff == settings.backoff
                && cluster.settings.max_endpoints_per_worker == settings.max_endpoints_per_worker
        };
        if let Some(place) = self.clusters.iter().position(same) {
            let cluster = &mut self.clusters[place];
            cluster.balancer.detect_outliers(settings.outliers.clone());
            cluster.settings = Arc::clone(settings);
            self.bound_queue(place);
            return place as u32;
        }
        let seed = self.config.seed.wrapping_add(self.clusters.len() as u64 + 1);
        let fresh = WorkerCluster::new(Arc::clone(settings), self.config.index, self.config.count, seed);
        // Reloads without end must not make records without end.
        if let Some(place) = (0..self.clusters.len()).find(|place| self.is_unused(*place)) {
            self.clusters[place] = fresh;
            return place as u32;
        }
        self.clusters.push(fresh);
        (self.clusters.len() - 1) as u32
    }

    /// Whether nothing is left of a cluster that is no longer configured.
    fn is_unused(&self, place: usize) -> bool {
        let cluster = &self.clusters[place];
        !cluster.is_configured
            && cluster.timer.is_none()
            && cluster.pending.is_empty()
            && cluster.balancer.slots().next().is_none()
            && self.calls.iter().all(|(_, call)| call.cluster as usize != place)
    }

    /// Gives a cluster's balancer the endpoints that discovery found.
    fn take_endpoints(&mut self, now: Duration, id: u32) {
        let cluster = &mut self.clusters[id as usize];
        let found = cluster.settings.endpoints.as_ref().filter(|_| cluster.is_configured);
        let is_known = |found: &Arc<_>| cluster.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, found));
        if found.is_some_and(is_known) {
            return;
        }
        cluster.taken = found.cloned();
        let changes = if !cluster.is_configured {
            cluster.balancer.update(&Arc::new(evenkeel_balance::EndpointSet::new(&[])))
        } else if let Some(endpoints) = &cluster.settings.endpoints {
            cluster.balancer.update(endpoints)
        } else if cluster.settings.resolve_error.is_some() {
            // There is no answer yet and the first try failed: calls are told so instead of waiting.
            cluster.balancer.update(&Arc::new(evenkeel_balance::EndpointSet::new(&[])))
        } else {
            return;
        };
        for slot in changes.removed {
            cluster.removed.push(slot);
        }
        let removed = cluster.removed.clone();
        for slot in removed {
            let conns = self.clusters[id as usize].endpoint_conns(slot).in_use();
            for conn in conns {
                self.retire_upstream(now, conn);
            }
            self.clusters[id as usize].forget_if_gone(slot);
        }
        self.attach_endpoints(id, &changes.added);
        self.tend_cluster(now, id);
        self.serve_waiting(now, id);
    }

    /// The name of a cluster that lost endpoints, so that discovery should look again; to be asked until `None`.
    pub fn poll_lost_cluster(&mut self) -> Option<Arc<str>> {
        self.lost.pop()
    }

    /// Begins to drain: every client connection is asked to go away, spread evenly over `spread` so that the clients do
    /// not all reconnect at once (envoyproxy/envoy#10274). Calls go on until they end or the driver gives up.
    pub fn start_drain(&mut self, now: Duration, spread: Duration) {
        if self.draining {
            return;
        }
        self.draining = true;
        let mut rng = SmallRng::seed_from_u64(self.config.seed ^ 0x6472_6169_6e21);
        let clients: Vec<u32> = self
            .conns
            .iter()
            .filter(|(_, conn)| matches!(conn.side, Side::Downstream(_)))
            .map(|(id, _)| id as u32)
            .collect();
        for id in clients {
            let wait = spread.mul_f64(rng.random_range(0.0..1.0));
            self.schedule_drain(now + wait, ConnId(id));
        }
    }

    /// Asks a client to go away at this time, but not before it had time to settle.
    pub(super) fn schedule_drain(&mut self, at: Duration, id: ConnId) {
        let Some(Side::Downstream(down)) = self.conns.get(id.index()).map(|conn| &conn.side) else { return };
        self.wheel.arm(at.max(down.accepted_at + SETTLE_MIN), TimerKey::Drain(id.0));
    }

    /// Each cluster as this worker sees it, with those of which only calls are left: a reload may have put another of the
    /// same name in the place of one.
    #[must_use]
    pub fn cluster_views(&self, now: Duration) -> Vec<ClusterView> {
        self.clusters
            .iter()
            .filter(|cluster| cluster.is_configured || cluster.balancer.slots().next().is_some())
            .map(|cluster| cluster.view(now))
            .collect()
    }

    /// Whether the worker drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Takes over what changed of the endpoints' health, as the next pick would: so that what this worker tells of them is true
    /// also while it has no calls.
    pub fn heed_health(&mut self, now: Duration) {
        for cluster in 0..self.clusters.len() {
            self.clusters[cluster].balancer.heed(now);
            self.note_panics(cluster as u32);
        }
    }

    /// Client connections that are left.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.accepted.iter().map(|count| *count as usize).sum()
    }

    /// A connection's turn in a drain has come. Its record may be another's by now; draining that one is right too.
    pub(super) fn on_drain_timer(&mut self, now: Duration, id: ConnId) {
        self.touch(id);
        if let Some(conn) = self.conns.get_mut(id.index())
            && matches!(conn.side, Side::Downstream(_))
        {
            conn.http2.start_drain(now, b"drain");
        }
    }

    /// The grace of a drain is over: calls without an answer get UNAVAILABLE, the others are cut off. Returns how many
    /// calls that were.
    pub fn abort(&mut self, now: Duration) -> usize {
        let conns: Vec<u32> = self.conns.iter().map(|(id, _)| id as u32).collect();
        // Answers that are complete and may leave do so: nothing follows a GOAWAY.
        conns.iter().for_each(|id| self.settle(now, ConnId(*id)));
        let calls: Vec<u32> = self.calls.iter().map(|(id, _)| id as u32).collect();
        for id in &calls {
            self.count(Event::DrainAbortedStream);
            if self.calls.contains(*id as usize) {
                let text = "the proxy is shutting down: its drain grace is over";
                self.cut_off(now, *id, ResponseFlag::UpstreamConnectionTermination, text);
            }
        }
        for id in conns {
            self.settle(now, ConnId(id));
            self.shut_conn(ConnId(id), ErrorCode::NO_ERROR, b"drain");
        }
        calls.len()
    }
}
