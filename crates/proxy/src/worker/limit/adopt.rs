//! Circuit breakers that a reload turns on: what is under way already counts there from the start.
//!
//! Why: streams may live for days. A bound that does not count them lets as many again begin.
//!
//! Left out are retries as such, copies of calls and attempts beside the main one, which are over soon; and adaptive concurrency,
//! which learns from what begins and ends while it is on.

use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_balance::Endpoint;
use evenkeel_balance::limit::{CircuitBreaker, Resource};

use super::super::Worker;
use super::super::cluster::WorkerCluster;
use super::super::conn::Side;
use super::super::snapshot::Snapshot;
use super::{ClusterLimits, CountedConn, Places};

impl ClusterLimits {
    /// Whether both count at the same breakers.
    fn counts_as(&self, other: &Self) -> bool {
        self.counts_endpoints == other.counts_endpoints && same(self.breaker.as_ref(), other.breaker.as_ref())
    }

    /// Takes a place whether there is one or not.
    pub(super) fn force(&self, endpoint: &Endpoint, resource: Resource) {
        self.breaker.iter().for_each(|breaker| breaker.force(resource));
        if self.counts_endpoints {
            endpoint.breaker().force(resource);
        }
    }

    /// What an attempt holds that was sent under other limits, or none, counts here.
    fn adopt(self: &Arc<Self>, held: Option<Places>, endpoint: &Endpoint) -> Places {
        self.force(endpoint, Resource::Requests);
        let Some(mut places) = held else {
            return Places { limits: Arc::clone(self), retry_at_endpoint: false, is_limited: false };
        };
        places.limits.release(endpoint, Resource::Requests);
        let before = Arc::clone(&places.limits);
        // A place of adaptive concurrency is given back to those that gave it.
        places.limits = Arc::new(Self { adaptive: before.adaptive.clone(), ..Self::clone(self) });
        places
    }
}

/// Whether both are the same breaker, or none.
fn same(one: Option<&Arc<CircuitBreaker>>, other: Option<&Arc<CircuitBreaker>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// Limits by the names of their clusters.
type ByName = HashMap<Arc<str>, Arc<ClusterLimits>>;

/// The limits of clusters that count at other breakers than before, or had none.
pub(in super::super) fn new_breakers(before: &Snapshot, after: &Snapshot) -> ByName {
    let with_breakers = after.clusters.iter().filter_map(|cluster| {
        let limits = cluster.limits.as_ref()?;
        (limits.breaker.is_some() || limits.counts_endpoints).then_some((cluster, limits))
    });
    let mut found: ByName =
        with_breakers.map(|(cluster, limits)| (Arc::clone(&cluster.name), Arc::clone(limits))).collect();
    if !found.is_empty() {
        for cluster in &before.clusters {
            let known = found.get(&cluster.name).zip(cluster.limits.as_ref());
            if known.is_some_and(|(new, old)| new.counts_as(old)) {
                found.remove(&cluster.name);
            }
        }
    }
    found
}

impl Worker {
    /// Counts what is under way to these clusters at their new breakers, also where another policy has begun a new record of the
    /// cluster.
    pub(in super::super) fn adopt(&mut self, new: &ByName) {
        if new.is_empty() {
            return;
        }
        let of_record = |cluster: &WorkerCluster| new.get(&cluster.settings.name).map(Arc::clone);
        let limits: Vec<Option<Arc<ClusterLimits>>> = self.clusters.iter().map(of_record).collect();
        let ids: Vec<usize> = self.calls.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(limits) = &limits[self.calls[id].cluster as usize] {
                self.adopt_call(id as u32, limits);
            }
        }
        self.adopt_connections(&limits);
    }

    fn adopt_call(&mut self, id: u32, limits: &Arc<ClusterLimits>) {
        let call = &self.calls[id as usize];
        let (cluster, slot) = (call.cluster as usize, call.slot.filter(|_| call.up.is_some()));
        let is_queued = call.is_queued();
        if slot.is_none() && !is_queued {
            return;
        }
        let mut state = core::mem::take(&mut self.extras(id).limits);
        if let Some(slot) = slot
            && state.places.as_ref().is_none_or(|places| !places.limits.counts_as(limits))
        {
            let endpoint = self.clusters[cluster].balancer.endpoint(slot);
            state.places = Some(limits.adopt(state.places.take(), endpoint));
        }
        if is_queued && !same(state.waits_at.as_ref(), limits.breaker.as_ref()) {
            limits.breaker.iter().for_each(|breaker| breaker.force(Resource::Pending));
            if let Some(before) = core::mem::replace(&mut state.waits_at, limits.breaker.clone()) {
                before.release(Resource::Pending);
            }
        }
        self.extras(id).limits = state;
    }

    /// `limits` has those of each record of a cluster that has new ones.
    fn adopt_connections(&mut self, limits: &[Option<Arc<ClusterLimits>>]) {
        for (_, conn) in self.conns.iter_mut() {
            let Side::Upstream(up) = &mut conn.side else { continue };
            let Some(limits) = &limits[up.cluster as usize] else { continue };
            if up.counted.as_ref().is_some_and(|counted| counted.0.counts_as(limits)) {
                continue;
            }
            let endpoint = self.clusters[up.cluster as usize].balancer.endpoint(up.slot);
            limits.force(endpoint, Resource::Connections);
            if let Some(CountedConn(before)) = up.counted.replace(CountedConn(Arc::clone(limits))) {
                before.release(endpoint, Resource::Connections);
            }
        }
    }
}
