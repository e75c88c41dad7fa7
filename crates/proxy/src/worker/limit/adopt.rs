//! Circuit breakers that a reload turns on: what is under way already counts there from the start.
//!
//! Why: streams may live for days. A bound that does not count them lets as many again begin.
//!
//! Left out are copies of calls and attempts beside the main one, which are over soon; and adaptive concurrency, which learns from
//! what begins and ends while it is on.

use std::sync::Arc;

use evenkeel_balance::limit::{CircuitBreaker, Resource};
use evenkeel_balance::{Endpoint, Slot};

use super::super::Worker;
use super::super::conn::Side;
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

fn same(one: Option<&Arc<CircuitBreaker>>, other: Option<&Arc<CircuitBreaker>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl Worker {
    /// Counts what is under way to a cluster at the breakers that its settings have now, if they had not the same before.
    pub(in super::super) fn adopt(&mut self, cluster: u32, before: Option<&Arc<ClusterLimits>>) {
        let Some(limits) = self.clusters[cluster as usize].settings.limits.clone() else { return };
        let has_breakers = limits.breaker.is_some() || limits.counts_endpoints;
        if !has_breakers || before.is_some_and(|before| before.counts_as(&limits)) {
            return;
        }
        let of_cluster = |call: &super::Call| call.cluster == cluster;
        let ids: Vec<usize> =
            self.calls.iter().filter(|(_, call)| of_cluster(call)).map(|(id, _)| id).collect();
        for id in ids {
            self.adopt_call(id as u32, &limits);
        }
        self.adopt_connections(cluster, &limits);
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

    fn adopt_connections(&mut self, cluster: u32, limits: &Arc<ClusterLimits>) {
        let owner = &self.clusters[cluster as usize];
        let endpoint = |slot: Slot| owner.balancer.endpoint(slot);
        for (_, conn) in self.conns.iter_mut() {
            let Side::Upstream(up) = &mut conn.side else { continue };
            let is_counted = up.counted.as_ref().is_some_and(|counted| counted.0.counts_as(limits));
            if up.cluster != cluster || is_counted {
                continue;
            }
            limits.force(endpoint(up.slot), Resource::Connections);
            if let Some(CountedConn(before)) = up.counted.replace(CountedConn(Arc::clone(limits))) {
                before.release(endpoint(up.slot), Resource::Connections);
            }
        }
    }
}
