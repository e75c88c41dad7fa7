//! Names of the balancing policies, as the configuration and the command line write them.

use evenkeel_balance::{
    Affinity, Choice, LeastRequestConfig, LoadSource, LoadWeightConfig, PeakEwmaConfig, Policy,
    PrequalConfig, ProbeSource, RingSize, TableSize,
};
use evenkeel_grpc::UtilizationMetric;
use serde::Serializer;
use serde::ser::SerializeMap;
use serde_json::json;

use crate::errors::{closest, quoted};
use crate::model::Balancing;
use crate::units::format_duration;

/// The names of all policies.
pub(crate) const POLICY_NAMES: [&str; 9] = [
    "least_request",
    "round_robin",
    "weighted_round_robin",
    "peak_ewma",
    "prequal",
    "ring_hash",
    "maglev",
    "random",
    "pick_first",
];

/// The metrics of a load report that may stand for utilization, as a help text lists them.
pub(crate) const UTILIZATION_METRIC_NAMES: [&str; 5] = [
    "application_utilization",
    "cpu_utilization",
    "mem_utilization",
    "named_metrics.NAME",
    "utilization.NAME",
];

/// Where prequal's answers may come from.
pub(crate) const PROBE_SOURCE_NAMES: [&str; 2] = ["endpoints", "own"];

/// What may become of a call whose key's endpoint cannot take it.
pub(crate) const WHEN_UNAVAILABLE_NAMES: [&str; 2] = ["rehash", "fail"];

/// Reads a policy's name, as the command line gives it. Its parameters have their defaults.
///
/// # Errors
/// The name is none of `least_request`, `round_robin`, `weighted_round_robin`, `peak_ewma`, `prequal`, `ring_hash`,
/// `maglev`, `random`, `pick_first`.
pub fn policy_from_str(name: &str) -> Result<Policy, UnknownPolicy> {
    Ok(match name {
        "pick_first" => Policy::PickFirst { shuffle: false },
        "round_robin" => Policy::RoundRobin,
        "weighted_round_robin" => Policy::WeightedRoundRobin,
        "random" => Policy::Random,
        "least_request" => Policy::LeastRequest(LeastRequestConfig::default()),
        "peak_ewma" => Policy::PeakEwma(PeakEwmaConfig::default()),
        "prequal" => Policy::Prequal(PrequalConfig::default()),
        "ring_hash" => Policy::RingHash { size: RingSize::default(), affinity: Affinity::default() },
        "maglev" => Policy::Maglev { size: TableSize::default(), affinity: Affinity::default() },
        _ => {
            return Err(UnknownPolicy { name: name.to_owned(), suggestion: closest(name, POLICY_NAMES) });
        }
    })
}

/// The policy's name.
#[must_use]
pub fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::PickFirst { .. } => "pick_first",
        Policy::RoundRobin => "round_robin",
        Policy::WeightedRoundRobin | Policy::LoadWeightedRoundRobin(_) => "weighted_round_robin",
        Policy::Random => "random",
        Policy::LeastRequest(_) => "least_request",
        Policy::PeakEwma(_) => "peak_ewma",
        Policy::Prequal(_) => "prequal",
        Policy::RingHash { .. } => "ring_hash",
        Policy::Maglev { .. } => "maglev",
    }
}

/// A policy that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown policy {}; {}", quoted(.name), self.remedy())]
pub struct UnknownPolicy {
    name: String,
    suggestion: Option<&'static str>,
}

impl UnknownPolicy {
    fn remedy(&self) -> String {
        match self.suggestion {
            Some(suggestion) => format!("did you mean `{suggestion}`?"),
            None => format!("use one of {}", POLICY_NAMES.join(", ")),
        }
    }
}

/// The policy as the configuration writes it: a mapping from its name to its parameters.
pub(crate) fn serialize<S: Serializer>(balancing: &Balancing, serializer: S) -> Result<S::Ok, S::Error> {
    let policy = balancing.policy;
    let parameters = match policy {
        Policy::PickFirst { shuffle } => json!({ "shuffle": shuffle }),
        Policy::LeastRequest(config) => {
            let bias = config.active_request_bias.get();
            match config.choice {
                Choice::Sample(count) => json!({ "choice_count": count.get(), "active_request_bias": bias }),
                Choice::FullScan => json!({ "full_scan": true, "active_request_bias": bias }),
            }
        }
        Policy::RoundRobin | Policy::WeightedRoundRobin | Policy::Random => json!({}),
        Policy::LoadWeightedRoundRobin(config) => {
            json!({ "load_reports": load_reports_json(&config, &balancing.utilization_metrics) })
        }
        Policy::PeakEwma(config) => json!({ "decay": format_duration(config.decay) }),
        Policy::Prequal(config) => prequal_json(&config),
        Policy::RingHash { size, affinity } => {
            let mut parameters = affinity_json(affinity);
            match size.min_in_all() {
                Some(min) => parameters["min_ring_size"] = json!(min),
                None => parameters["entries_per_endpoint"] = json!(size.entries_each()),
            }
            parameters["max_ring_size"] = json!(size.max());
            parameters
        }
        Policy::Maglev { size, affinity } => {
            let mut parameters = affinity_json(affinity);
            parameters["table_size"] = json!(size.get());
            parameters
        }
    };
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(policy_name(policy), &parameters)?;
    map.end()
}

fn prequal_json(config: &PrequalConfig) -> serde_json::Value {
    let mut parameters = json!({
        "probes_per_call": config.probes_per_call.get(),
        "pool_size": config.pool_size,
        "max_age": format_duration(config.max_age),
        "removals_per_call": config.removals_per_call.get(),
        "reuse_delta": config.reuse_delta.get(),
        "rif_quantile": config.rif_quantile.get(),
        "source": match config.source {
            ProbeSource::Endpoints => "endpoints",
            ProbeSource::Own => "own",
        },
    });
    if let Some(period) = config.report_period {
        parameters["oob_reporting_period"] = json!(format_duration(period));
    }
    parameters
}

fn load_reports_json(config: &LoadWeightConfig, metrics: &[UtilizationMetric]) -> serde_json::Value {
    let names: Vec<String> = metrics.iter().map(ToString::to_string).collect();
    let mut parameters = json!({
        "blackout_period": format_duration(config.blackout_period),
        "weight_expiration_period": format_duration(config.weight_expiration_period),
        "weight_update_period": format_duration(config.weight_update_period),
        "error_utilization_penalty": config.error_utilization_penalty.get(),
        "enable_oob_load_report": config.source != LoadSource::Calls,
        "metric_names_for_computing_utilization": names,
    });
    if let LoadSource::OutOfBand { period } = config.source {
        parameters["oob_reporting_period"] = json!(format_duration(period));
    }
    parameters
}

fn affinity_json(affinity: Affinity) -> serde_json::Value {
    match affinity {
        Affinity::Rehash => json!({ "when_unavailable": "rehash" }),
        Affinity::Fail => json!({ "when_unavailable": "fail" }),
        Affinity::Bounded(bound) => {
            json!({ "when_unavailable": "rehash", "bounded_load": bound.percent() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_that_of_its_policy() {
        for name in POLICY_NAMES {
            assert_eq!(policy_name(policy_from_str(name).unwrap()), name);
        }
    }

    #[test]
    fn the_default_policy_is_the_balancers_own() {
        assert_eq!(policy_from_str("least_request"), Ok(Policy::default()));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_or_all() {
        let message = |name: &str| policy_from_str(name).unwrap_err().to_string();
        assert_eq!(message("roundrobin"), "unknown policy `roundrobin`; did you mean `round_robin`?");
        assert_eq!(
            message("rendezvous"),
            "unknown policy `rendezvous`; use one of least_request, round_robin, weighted_round_robin, peak_ewma, \
             prequal, ring_hash, maglev, random, pick_first"
        );
    }
}
