//! A worker's side of one cluster: its balancer, its connections to each endpoint, and the calls that wait.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::PendingQueue;
use evenkeel_balance::{Balancer, BalancerConfig, EndpointSet, Slot, WorkerShare};
use evenkeel_telemetry::{ClusterStats, EndpointStats};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::conn::ConnId;
use super::snapshot::Cluster;
use super::timer::TimerId;

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointConns {
    /// Those that take calls, oldest first: the first with room is used, so that batches form (design, section 4).
    pub(super) ready: Vec<ConnId>,
    /// Those on their way to being ready.
    pub(super) connecting: Vec<ConnId>,
    /// All that still exist, those that only finish their calls included.
    pub(super) total: usize,
    /// Where this worker counts what it does with the endpoint.
    pub(super) stats: Option<EndpointStats>,
    /// Why the newest attempt failed.
    pub(super) last_error: Option<Arc<str>>,
    /// No further connection is begun before, next to one that is full: the newest attempt failed.
    pub(super) further_not_before: Duration,
}

impl EndpointConns {
    /// All but those that only finish their calls.
    pub(super) fn in_use(&self) -> Vec<ConnId> {
        self.ready.iter().chain(&self.connecting).copied().collect()
    }
}

/// A worker's side of one cluster.
#[derive(Debug)]
pub(super) struct WorkerCluster {
    pub(super) settings: Arc<Cluster>,
    pub(super) balancer: Balancer,
    /// By slot.
    conns: Vec<EndpointConns>,
    /// Endpoints that discovery dropped and that still have connections.
    pub(super) removed: Vec<Slot>,
    /// Calls that wait, by their places among the worker's calls.
    pub(super) pending: PendingQueue<u32>,
    /// Where this worker counts what happens here, and tells how many calls wait; `None` if nothing is counted, or nothing is
    /// left of a cluster that is no longer configured.
    pub(super) stats: Option<ClusterStats>,
    pub(super) timer: Option<(TimerId, Duration)>,
    /// When waiting calls are looked at again without anything having happened: they may begin a further connection to an
    /// endpoint whose connections are full, or find a place that another worker gave back.
    pub(super) further_at: Option<Duration>,
    /// Whether the newest configuration has this cluster; without, it only finishes its calls.
    pub(super) is_configured: bool,
    /// The set that the balancer was given last.
    pub(super) taken: Option<Arc<EndpointSet>>,
    /// Why the newest connection attempt of any endpoint failed, for the message of calls that fail because of it.
    pub(super) last_error: Option<Arc<str>>,
}

impl WorkerCluster {
    pub(super) fn new(settings: Arc<Cluster>, worker: usize, workers: usize, seed: u64) -> Self {
        let share = WorkerShare::new(worker, workers).with_max_connections(settings.max_endpoints_per_worker);
        let config = BalancerConfig {
            policy: settings.policy,
            backoff: settings.backoff,
            share,
            slow_start: settings.slow_start,
        };
        let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(seed));
        balancer.detect_outliers(settings.outliers.clone());
        let pending = PendingQueue::new(settings.max_pending);
        Self {
            settings,
            balancer,
            conns: Vec::new(),
            removed: Vec::new(),
            pending,
            stats: None,
            timer: None,
            further_at: None,
            is_configured: true,
            taken: None,
            last_error: None,
        }
    }

    /// Tells how many calls wait, after a change.
    pub(super) fn tell_pending(&mut self) {
        if let Some(stats) = &self.stats {
            stats.set_pending(self.pending.len());
        }
        self.end_stats_if_gone();
    }

    /// Gives the counters of a cluster that is no longer configured back once no call is left in it, neither one that waits nor one
    /// that is at an endpoint, so that its series can end.
    fn end_stats_if_gone(&mut self) {
        if !self.is_configured && self.pending.is_empty() && self.balancer.slots().next().is_none() {
            self.stats = None;
        }
    }

    /// Has waiting calls looked at again at this time, or before.
    pub(super) fn look_again(&mut self, at: Duration) {
        self.further_at = Some(self.further_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Ready connections of an endpoint, oldest first.
    pub(super) fn conns_of(&self, slot: Slot) -> &[ConnId] {
        self.conns.get(slot.index()).map_or(&[], |conns| &conns.ready)
    }

    /// How many connections of an endpoint exist, those that only finish their calls included.
    pub(super) fn conn_count(&self, slot: Slot) -> usize {
        self.conns.get(slot.index()).map_or(0, |conns| conns.total)
    }

    /// The connections of an endpoint.
    pub(super) fn endpoint_conns(&mut self, slot: Slot) -> &mut EndpointConns {
        if self.conns.len() <= slot.index() {
            self.conns.resize_with(slot.index() + 1, EndpointConns::default);
        }
        &mut self.conns[slot.index()]
    }

    /// Forgets a removed endpoint once nothing of it is left.
    pub(super) fn forget_if_gone(&mut self, slot: Slot) {
        if self.endpoint_conns(slot).total == 0 && self.removed.contains(&slot) {
            *self.endpoint_conns(slot) = EndpointConns::default();
            self.removed.retain(|other| *other != slot);
            self.balancer.forget(slot);
            self.end_stats_if_gone();
        }
    }
}
