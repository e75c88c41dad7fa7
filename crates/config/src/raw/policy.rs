//! The policies that balance a cluster, and their parameters.

use std::borrow::Cow;

use evenkeel_balance::{BoundedLoad, SampleSize};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Field, Flag, Integer, List, Mapping, Number, RawDuration, Read, Text, raw_mapping, report_kind};
use crate::bounds;
use crate::errors::{Fault, Reports, closest};
use crate::policy::{POLICY_NAMES, PROBE_SOURCE_NAMES, WHEN_UNAVAILABLE_NAMES};
use crate::tree::{Node, Value};

raw_mapping! {
    /// Parameters of `pick_first`.
    RawPickFirst as "PickFirst", expected "a mapping";
    required {}
    optional {
        /// Whether each worker shuffles the list first, so that not all of them take the same endpoint.
        #[schemars(extend("default" = false))]
        shuffle: Flag,
    }
}

raw_mapping! {
    /// Parameters of `least_request`.
    RawLeastRequest as "LeastRequest", expected "a mapping";
    required {}
    optional {
        /// How many endpoints are drawn, of which the one with the fewest calls is taken. 2 to 10.
        #[schemars(range(min = SampleSize::MIN, max = SampleSize::MAX), extend("default" = SampleSize::MIN))]
        choice_count: Integer,

        /// Whether all endpoints are compared instead. Costs more with each endpoint.
        #[schemars(extend("default" = false))]
        full_scan: Flag,

        /// Where weights differ: what a call in flight counts against an endpoint. 0: calls follow the weights alone. 0 to 100.
        #[schemars(range(min = bounds::ACTIVE_REQUEST_BIAS.min, max = bounds::ACTIVE_REQUEST_BIAS.max))]
        #[schemars(extend("default" = bounds::ACTIVE_REQUEST_BIAS.default))]
        active_request_bias: Number,
    }
}

raw_mapping! {
    /// Parameters of `weighted_round_robin`.
    RawWeightedRoundRobin as "WeightedRoundRobin", expected "a mapping";
    required {}
    optional {
        /// Takes the weights from the load that endpoints report (ORCA, gRFC A58), and not from discovery.
        load_reports: RawLoadReports,
    }
}

raw_mapping! {
    /// How weights follow from reported load.
    RawLoadReports as "LoadReports", expected "a mapping";
    required {}
    optional {
        /// For how long reports must have come in until an endpoint's weight is used. 0s to 1h.
        #[schemars(extend("default" = "10s"))]
        blackout_period: RawDuration,

        /// A weight without a new report for this long is not used any more. 1s to 1d.
        #[schemars(extend("default" = "3m"))]
        weight_expiration_period: RawDuration,

        /// How often an endpoint's place in the rotation is brought up to date. 100ms to 1h.
        #[schemars(extend("default" = "1s"))]
        weight_update_period: RawDuration,

        /// How much an error counts: the share of calls that fail, times this, is added to the utilization. 0 to 100.
        #[schemars(range(min = bounds::ERROR_UTILIZATION_PENALTY.min, max = bounds::ERROR_UTILIZATION_PENALTY.max))]
        #[schemars(extend("default" = bounds::ERROR_UTILIZATION_PENALTY.default))]
        error_utilization_penalty: Number,

        /// Takes the load from a stream of reports that each endpoint is asked for (gRFC A51), and not from its answers to calls.
        #[schemars(extend("default" = false))]
        enable_oob_load_report: Flag,

        /// How often an endpoint is asked to report on that stream; a server may have a longer least interval. 100ms to 1h.
        #[schemars(extend("default" = "10s"))]
        oob_reporting_period: RawDuration,

        /// Metrics of which the largest stands for utilization where an endpoint reports no `application_utilization` (gRFC A114):
        /// `cpu_utilization`, `mem_utilization`, `named_metrics.NAME`, `utilization.NAME`. Up to 8.
        #[schemars(extend("default" = [], "maxItems" = bounds::MAX_UTILIZATION_METRICS))]
        #[schemars(extend("items" = { "type": "string", "pattern": UTILIZATION_METRIC_PATTERN }))]
        metric_names_for_computing_utilization: List<Text>,
    }
}

/// What [`UtilizationMetric`](evenkeel_grpc::UtilizationMetric) reads.
const UTILIZATION_METRIC_PATTERN: &str =
    "^((application|cpu|mem)_utilization|named_metrics\\..{1,114}|utilization\\..{1,116})$";

raw_mapping! {
    /// Parameters of `peak_ewma`.
    RawPeakEwma as "PeakEwma", expected "a mapping";
    required {}
    optional {
        /// The time constant of forgetting: after it, 37 % of an observation is left. 10ms to 1h.
        #[schemars(extend("default" = "10s"))]
        decay: RawDuration,
    }
}

raw_mapping! {
    /// Parameters of `prequal`.
    RawPrequal as "Prequal", expected "a mapping";
    required {}
    optional {
        /// Who answers probes: `endpoints`, by the load that they report with their answers to calls (ORCA), or `own`, the proxy
        /// by its own calls in flight and latencies, which also stand in for endpoints that report nothing.
        #[schemars(extend("default" = "endpoints", "enum" = PROBE_SOURCE_NAMES))]
        source: Text,

        /// How many endpoints are asked for their load per call; may be a fraction. 0.1 to 16.
        #[schemars(range(min = bounds::PREQUAL_PROBES.min, max = bounds::PREQUAL_PROBES.max))]
        #[schemars(extend("default" = bounds::PREQUAL_PROBES.default))]
        probes_per_call: Number,

        /// How many answers are kept. 2 to 64.
        #[schemars(range(min = bounds::PREQUAL_POOL_SIZE.min, max = bounds::PREQUAL_POOL_SIZE.max))]
        #[schemars(extend("default" = bounds::PREQUAL_POOL_SIZE.default))]
        pool_size: Integer,

        /// How old a report may be that is an answer, and how long an answer is kept. 10ms to 1m.
        #[schemars(extend("default" = "1s"))]
        max_age: RawDuration,

        /// How many answers are forgotten per call, the oldest and the worst in turn. 0 to 16.
        #[schemars(range(min = bounds::PREQUAL_REMOVALS.min, max = bounds::PREQUAL_REMOVALS.max))]
        #[schemars(extend("default" = bounds::PREQUAL_REMOVALS.default))]
        removals_per_call: Number,

        /// How much more often an answer may be used than would just keep them coming. 0 to 10.
        #[schemars(range(min = bounds::PREQUAL_REUSE_DELTA.min, max = bounds::PREQUAL_REUSE_DELTA.max))]
        #[schemars(extend("default" = bounds::PREQUAL_REUSE_DELTA.default))]
        reuse_delta: Number,

        /// The quantile of the requests in flight above which an endpoint is hot. 0: they alone decide; 1: latency alone.
        #[schemars(range(min = bounds::PREQUAL_RIF_QUANTILE.min, max = bounds::PREQUAL_RIF_QUANTILE.max))]
        #[schemars(extend("default" = bounds::PREQUAL_RIF_QUANTILE.default))]
        rif_quantile: Number,

        /// How often each endpoint is asked to report on a stream apart from calls, besides (gRFC A51); at most `max_age`. A server
        /// may have a longer least interval. Without it there is no such stream. 100ms to 1m.
        oob_reporting_period: RawDuration,
    }
}

raw_mapping! {
    /// Parameters of `ring_hash`.
    RawRingHash as "RingHash", expected "a mapping";
    required {}
    optional {
        /// Entries of the ring for the lightest endpoint; the others have as many more as they weigh more. 1 to 8388608.
        #[schemars(range(min = bounds::RING_ENTRIES.min, max = bounds::RING_ENTRIES.max))]
        #[schemars(extend("default" = bounds::RING_ENTRIES.default))]
        entries_per_endpoint: Integer,

        /// Entries in all, at least, as gRPC and Envoy count them; instead of `entries_per_endpoint`. 1 to 8388608.
        #[schemars(range(min = bounds::RING_SIZE.min, max = bounds::RING_SIZE.max))]
        min_ring_size: Integer,

        /// Entries in all, at most. 1 to 8388608.
        #[schemars(range(min = bounds::RING_SIZE.min, max = bounds::RING_SIZE.max))]
        #[schemars(extend("default" = bounds::RING_SIZE.default))]
        max_ring_size: Integer,

        /// What becomes of a call whose endpoint cannot take it: `rehash`, another takes it, or `fail`.
        #[schemars(extend("default" = "rehash", "enum" = WHEN_UNAVAILABLE_NAMES))]
        when_unavailable: Text,

        /// Calls in flight that an endpoint may have, in percent of the mean; more go to another one. 101 to 100000. Without
        /// it there is no bound.
        #[schemars(range(min = BoundedLoad::MIN_PERCENT, max = BoundedLoad::MAX_PERCENT))]
        bounded_load: Integer,
    }
}

raw_mapping! {
    /// Parameters of `maglev`.
    RawMaglev as "Maglev", expected "a mapping";
    required {}
    optional {
        /// Entries of the table: a prime, better 100 times the number of endpoints or more. 3 to 5000011.
        #[schemars(range(min = bounds::MAGLEV_TABLE_SIZE.min, max = bounds::MAGLEV_TABLE_SIZE.max))]
        #[schemars(extend("default" = bounds::MAGLEV_TABLE_SIZE.default))]
        table_size: Integer,

        /// What becomes of a call whose endpoint cannot take it: `rehash`, another takes it, or `fail`.
        #[schemars(extend("default" = "rehash", "enum" = WHEN_UNAVAILABLE_NAMES))]
        when_unavailable: Text,

        /// Calls in flight that an endpoint may have, in percent of the mean; more go to another one. 101 to 100000. Without
        /// it there is no bound.
        #[schemars(range(min = BoundedLoad::MIN_PERCENT, max = BoundedLoad::MAX_PERCENT))]
        bounded_load: Integer,
    }
}

raw_mapping! {
    /// How the share of an endpoint that is new, or back after an outage, grows.
    RawSlowStart as "SlowStart", expected "`off`, or a mapping such as `{window: 30s}`";
    required {}
    optional {
        /// How long it grows. 1s to 1d.
        #[schemars(extend("default" = "1m"))]
        window: RawDuration,

        /// How steep the beginning is; 1: a straight line. 0.1 to 10.
        #[schemars(range(min = bounds::SLOW_START_AGGRESSION.min, max = bounds::SLOW_START_AGGRESSION.max))]
        #[schemars(extend("default" = bounds::SLOW_START_AGGRESSION.default))]
        aggression: Number,

        /// The least part of its weight that an endpoint has. 0 to 1.
        #[schemars(range(min = bounds::SLOW_START_MIN_WEIGHT.min, max = bounds::SLOW_START_MIN_WEIGHT.max))]
        #[schemars(extend("default" = bounds::SLOW_START_MIN_WEIGHT.default))]
        min_weight: Number,
    }
}

/// Parameters of a policy that has none: an empty mapping.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "NoParameters")]
pub(crate) struct RawNoParameters {}

impl Read for RawNoParameters {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        Mapping::open(node, "an empty mapping", &[], reports).map(|_| Self {})
    }
}

/// A policy with its parameters, as far as they are given.
#[derive(Debug)]
pub(crate) enum RawPolicy {
    PickFirst(RawPickFirst),
    RoundRobin,
    WeightedRoundRobin(RawWeightedRoundRobin),
    Random,
    LeastRequest(RawLeastRequest),
    PeakEwma(RawPeakEwma),
    Prequal(RawPrequal),
    RingHash(RawRingHash),
    Maglev(RawMaglev),
}

impl RawPolicy {
    /// The policy of that name, without parameters.
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pick_first" => Self::PickFirst(RawPickFirst::default()),
            "round_robin" => Self::RoundRobin,
            "weighted_round_robin" => Self::WeightedRoundRobin(RawWeightedRoundRobin::default()),
            "random" => Self::Random,
            "least_request" => Self::LeastRequest(RawLeastRequest::default()),
            "peak_ewma" => Self::PeakEwma(RawPeakEwma::default()),
            "prequal" => Self::Prequal(RawPrequal::default()),
            "ring_hash" => Self::RingHash(RawRingHash::default()),
            "maglev" => Self::Maglev(RawMaglev::default()),
            _ => return None,
        })
    }
}

/// What a policy is written as.
const POLICY: &str = "a policy's name, or a mapping from one name to its parameters";

impl Read for RawPolicy {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Text(name) => {
                let policy = Self::from_name(name);
                if policy.is_none() {
                    let suggestion = closest(name, POLICY_NAMES);
                    let fault = Fault::UnknownName {
                        kind: "policy",
                        name: name.clone(),
                        suggestion,
                        known: &POLICY_NAMES,
                    };
                    reports.add(node.span, fault);
                }
                policy
            }
            Value::Mapping(entries) if entries.len() == 1 => read_parameters(node, reports),
            Value::Mapping(entries) if entries.len() > 1 => {
                let found = format!("a mapping from {} names", entries.len());
                let help = Some("keep one of them: a cluster has one policy");
                reports.add(node.span, Fault::WrongType { expected: POLICY, found, help });
                None
            }
            _ => {
                let help = "write for example `least_request`, or `least_request: {choice_count: 4}`";
                report_kind(node, POLICY, Some(help), reports);
                None
            }
        }
    }
}

fn read_parameters(node: &Node, reports: &mut Reports) -> Option<RawPolicy> {
    fn given<T>(field: Field<T>) -> Option<T> {
        match field {
            Field::Given { value, .. } => Some(value.value),
            Field::Absent | Field::Refused => None,
        }
    }
    let mapping = Mapping::open(node, "a policy", &POLICY_NAMES, reports)?;
    let Value::Mapping(entries) = &node.value else { return None };
    let name = entries.first()?.0.name.as_str();
    match RawPolicy::from_name(name)? {
        RawPolicy::PickFirst(_) => given(mapping.optional(name, reports)).map(RawPolicy::PickFirst),
        RawPolicy::LeastRequest(_) => given(mapping.optional(name, reports)).map(RawPolicy::LeastRequest),
        RawPolicy::WeightedRoundRobin(_) => {
            given(mapping.optional(name, reports)).map(RawPolicy::WeightedRoundRobin)
        }
        RawPolicy::PeakEwma(_) => given(mapping.optional(name, reports)).map(RawPolicy::PeakEwma),
        RawPolicy::Prequal(_) => given(mapping.optional(name, reports)).map(RawPolicy::Prequal),
        RawPolicy::RingHash(_) => given(mapping.optional(name, reports)).map(RawPolicy::RingHash),
        RawPolicy::Maglev(_) => given(mapping.optional(name, reports)).map(RawPolicy::Maglev),
        policy @ (RawPolicy::RoundRobin | RawPolicy::Random) => {
            given(mapping.optional::<RawNoParameters>(name, reports)).map(|_| policy)
        }
    }
}

impl JsonSchema for RawPolicy {
    fn schema_name() -> Cow<'static, str> {
        "Policy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How an endpoint is chosen for each call.",
            "anyOf": [
                { "enum": POLICY_NAMES },
                {
                    "type": "object",
                    "properties": {
                        "pick_first": generator.subschema_for::<RawPickFirst>(),
                        "round_robin": generator.subschema_for::<RawNoParameters>(),
                        "weighted_round_robin": generator.subschema_for::<RawWeightedRoundRobin>(),
                        "random": generator.subschema_for::<RawNoParameters>(),
                        "least_request": generator.subschema_for::<RawLeastRequest>(),
                        "peak_ewma": generator.subschema_for::<RawPeakEwma>(),
                        "prequal": generator.subschema_for::<RawPrequal>(),
                        "ring_hash": generator.subschema_for::<RawRingHash>(),
                        "maglev": generator.subschema_for::<RawMaglev>(),
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}
