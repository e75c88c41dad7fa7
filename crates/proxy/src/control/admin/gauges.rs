//! What GET /metrics says of clusters at the moment it is asked: all from what workers share, so that no worker is.

use evenkeel_balance::limit::Resource;
use evenkeel_balance::{Connectivity, MAX_PRIORITY, Withheld};
use evenkeel_telemetry::{ClusterGauge, GaugeSample, Limited};

use super::health::health_of;
use crate::control::clusters::ClusterRuntime;

/// Priorities as label values.
const PRIORITIES: [&str; MAX_PRIORITY as usize + 1] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

/// The numbers of one cluster.
pub(super) fn gauges(cluster: &ClusterRuntime) -> Vec<GaugeSample> {
    let mut found = Gauges { cluster: &cluster.config.name, samples: Vec::new() };
    found.endpoints(cluster);
    found.limits(cluster);
    found.samples
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
            let label = PRIORITIES[usize::from(priority.min(MAX_PRIORITY))];
            let is_new =
                |sample: &GaugeSample| sample.family == ClusterGauge::WorkersInPanic && sample.label == label;
            if !self.samples.iter().any(is_new) {
                self.add(ClusterGauge::WorkersInPanic, label, set.workers_in_panic(priority).into());
            }
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
