//! What GET /metrics says of clusters at the moment it is asked: all from what workers share, so that no worker is.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::limit::Resource;
use evenkeel_balance::{Connectivity, Endpoint, MAX_PRIORITY, Withheld};
use evenkeel_telemetry::{ClusterGauge, GaugeSample, Limited, PlacementSample};

use super::health::health_of;
use super::retries::Uses;
use crate::control::clusters::ClusterRuntime;
use crate::worker::snapshot::RetryGates;

/// The budget of further attempts among a cluster's limits.
const RETRY_BUDGET: &str = "retry_budget";

/// Priorities as label values.
const PRIORITIES: [&str; MAX_PRIORITY as usize + 1] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

/// The numbers of one cluster at this time.
pub(super) fn gauges(cluster: &ClusterRuntime, uses: Uses, now: Duration) -> Vec<GaugeSample> {
    let mut found = Gauges { cluster: &cluster.config.name, samples: Vec::new() };
    found.add(ClusterGauge::Info, evenkeel_config::policy_name(cluster.config.balancing.policy), 1);
    found.endpoints(cluster);
    found.limits(cluster);
    found.slow_starts(cluster, now);
    found.subset(cluster);
    if uses.has_further() {
        found.retries(&cluster.gates);
    }
    found.samples
}

/// Where its endpoints are and what they weigh, if it has priorities, localities or weights.
pub(super) fn placements(cluster: &ClusterRuntime) -> Vec<PlacementSample> {
    let Some(set) = cluster.set() else { return Vec::new() };
    let places = 0..set.endpoints().len();
    let is_plain = |place: usize| {
        set.priority(place) == 0 && set.locality(place).is_none() && set.endpoints()[place].weight() == 1
    };
    if places.clone().all(is_plain) {
        return Vec::new();
    }
    let sample = |place: usize| PlacementSample {
        cluster: cluster.config.name.clone(),
        endpoint: set.endpoints()[place].address().to_string(),
        priority: priority_label(set.priority(place)),
        locality: set.locality(place).map(ToString::to_string).unwrap_or_default(),
        weight: set.endpoints()[place].weight().to_string(),
    };
    places.map(sample).collect()
}

fn priority_label(priority: u8) -> &'static str {
    PRIORITIES[usize::from(priority.min(MAX_PRIORITY))]
}

struct Gauges<'a> {
    cluster: &'a str,
    samples: Vec<GaugeSample>,
}

impl Gauges<'_> {
    fn add(&mut self, family: ClusterGauge, label: &'static str, value: u64) {
        let known = self.samples.iter_mut().find(|sample| sample.family == family && sample.label == label);
        match known {
            Some(known) => known.value += value,
            None => {
                let cluster = self.cluster.to_owned();
                self.samples.push(GaugeSample { family, cluster, label, value });
            }
        }
    }

    fn endpoints(&mut self, cluster: &ClusterRuntime) {
        let Some(set) = cluster.set() else { return };
        // What is 0 now has a series all the same: an alert must not wait for the first time.
        Withheld::ALL
            .into_iter()
            .for_each(|reason| self.add(ClusterGauge::EndpointsWithheld, reason.name(), 0));
        for (place, endpoint) in set.endpoints().iter().enumerate() {
            let state = endpoint.connectivity().map_or(Connectivity::Idle.name(), Connectivity::name);
            self.add(ClusterGauge::Endpoints, state, 1);
            if cluster.health.is_some() {
                self.add(ClusterGauge::EndpointsByHealth, health_of(endpoint), 1);
            }
            for reason in Withheld::ALL.into_iter().filter(|reason| endpoint.is_withheld_as(*reason)) {
                self.add(ClusterGauge::EndpointsWithheld, reason.name(), 1);
            }
            for resource in Resource::ALL {
                if endpoint.breaker().limit(resource).is_some() {
                    let is_open = endpoint.breaker().is_open(resource);
                    self.add(ClusterGauge::EndpointsAtLimit, resource.name(), u64::from(is_open));
                }
            }
            let priority = set.priority(place);
            let label = priority_label(priority);
            let is_new =
                |sample: &GaugeSample| sample.family == ClusterGauge::WorkersInPanic && sample.label == label;
            if !self.samples.iter().any(is_new) {
                self.add(ClusterGauge::WorkersInPanic, label, set.workers_in_panic(priority).into());
            }
        }
    }

    fn slow_starts(&mut self, cluster: &ClusterRuntime, now: Duration) {
        let (Some(slow_start), Some(set)) = (cluster.config.slow_start, cluster.set()) else { return };
        let is_in_it = |endpoint: &&Arc<Endpoint>| {
            endpoint.warming_since().is_some_and(|since| now.saturating_sub(since) < slow_start.window)
        };
        let count = set.endpoints().iter().filter(is_in_it).count();
        self.add(ClusterGauge::EndpointsInSlowStart, "", count as u64);
    }

    fn subset(&mut self, cluster: &ClusterRuntime) {
        if cluster.config.subset.is_none() {
            return;
        }
        let resolver = cluster.resolver();
        let found = resolver.endpoints.as_deref().unwrap_or_default();
        let used = cluster.subset_in_force().of(found).len();
        self.add(ClusterGauge::EndpointsOutsideSubset, "", (found.len() - used) as u64);
    }

    fn retries(&mut self, gates: &RetryGates) {
        let bound = gates.budget.under_way();
        self.add(ClusterGauge::LimitUsed, RETRY_BUDGET, bound.used);
        self.add(ClusterGauge::LimitMax, RETRY_BUDGET, bound.max);
        if let Some(throttle) = &gates.throttle {
            self.add(ClusterGauge::RetryTokens, "", u64::from(throttle.tokens_thousandths() / 1_000));
        }
    }

    fn limits(&mut self, cluster: &ClusterRuntime) {
        let Some(limits) = cluster.limits.as_deref() else { return };
        let of_breaker = limits.breaker.iter().flat_map(|breaker| {
            let bound = |resource: Resource| {
                Some((resource.name(), breaker.used(resource), breaker.limit(resource)?))
            };
            Resource::ALL.into_iter().filter_map(bound)
        });
        let of_latency = limits
            .adaptive
            .iter()
            .map(|limiter| (Limited::Concurrency.as_str(), limiter.in_flight(), limiter.limit()));
        for (limit, used, most) in of_breaker.chain(of_latency) {
            self.add(ClusterGauge::LimitUsed, limit, used.into());
            self.add(ClusterGauge::LimitMax, limit, most.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_has_its_label() {
        for (number, label) in PRIORITIES.iter().enumerate() {
            assert_eq!(number.to_string(), *label);
        }
    }
}
