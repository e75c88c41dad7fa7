//! Clusters and the policies that balance them.

use std::borrow::Cow;

use evenkeel_balance::SampleSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::leaf::Flag;
use super::outlier::RawOutlierDetection;
use super::{Field, Integer, Mapping, Number, Off, RawDuration, Read, Text, raw_mapping, report_kind};
use crate::bounds;
use crate::errors::{Fault, Reports, closest};
use crate::policy::POLICY_NAMES;
use crate::target::Target;
use crate::tree::{Node, Value};

raw_mapping! {
    /// A group of endpoints that answer the same calls, and how one of them is chosen for each call.
    RawCluster as "Cluster", expected "a mapping with `name` and `target`";
    required {
        /// The name that routes and metrics use: letters, digits, `-`, `_` and dots.
        #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,128}$"))]
        name: Text,

        /// Where the endpoints come from: `dns:///host:port`, `dns+srv:///name`, `ipv4:address:port,...`,
        /// `ipv6:[address]:port,...`, `unix:/path` or `file:/path`.
        target: Target,
    }
    optional {
        /// How an endpoint is chosen for each call: a name, or a mapping from the name to its parameters.
        #[schemars(extend("default" = "least_request"))]
        policy: RawPolicy,

        /// How long a connection attempt may take. 10ms to 10m.
        #[schemars(extend("default" = "5s"))]
        connect_timeout: RawDuration,

        /// How long an endpoint may leave unread what waits for it, before the call or connection is ended. 1s to 1h.
        #[schemars(extend("default" = "1m"))]
        stall_timeout: RawDuration,

        /// When to try again to connect.
        #[schemars(extend("default" = {}))]
        backoff: RawBackoff,

        /// When an endpoint whose calls fail is taken out of rotation, or `off`: never. `{}` is on with all defaults.
        #[schemars(extend("default" = "off"))]
        outlier_detection: Off<RawOutlierDetection>,

        /// How often a name is resolved. Only for `dns` and `dns+srv` targets.
        #[schemars(extend("default" = {}))]
        dns: RawDns,

        /// Calls of one worker that may wait for a connection; more are answered with UNAVAILABLE. 1 to 65536.
        #[schemars(range(min = bounds::MAX_PENDING.min, max = bounds::MAX_PENDING.max))]
        #[schemars(extend("default" = bounds::MAX_PENDING.default))]
        max_pending: Integer,

        /// Connections of one worker to one endpoint. Another is opened when all have as many streams as the endpoint
        /// allows. 1 to 64.
        #[schemars(range(min = bounds::MAX_CONNECTIONS_PER_ENDPOINT.min, max = bounds::MAX_CONNECTIONS_PER_ENDPOINT.max))]
        #[schemars(extend("default" = bounds::MAX_CONNECTIONS_PER_ENDPOINT.default))]
        max_connections_per_endpoint: Integer,

        /// Endpoints that one worker connects to. With more, each worker takes its share of them. 1 to 65536.
        #[schemars(range(min = bounds::MAX_ENDPOINTS_PER_WORKER.min, max = bounds::MAX_ENDPOINTS_PER_WORKER.max))]
        #[schemars(extend("default" = bounds::MAX_ENDPOINTS_PER_WORKER.default))]
        max_endpoints_per_worker: Integer,
    }
}

raw_mapping! {
    /// When to try again to connect: gRPC's connection backoff, from the start of one attempt to the start of the next.
    RawBackoff as "Backoff", expected "a mapping";
    required {}
    optional {
        /// Delay after the first failed attempt. 10ms to 10m.
        #[schemars(extend("default" = "1s"))]
        base_interval: RawDuration,

        /// Growth of the delay with each failed attempt. 1 to 10.
        #[schemars(range(min = bounds::BACKOFF_MULTIPLIER.min, max = bounds::BACKOFF_MULTIPLIER.max))]
        #[schemars(extend("default" = bounds::BACKOFF_MULTIPLIER.default))]
        multiplier: Number,

        /// Share of the delay by which it is longer or shorter at random. 0 to 1.
        #[schemars(range(min = bounds::BACKOFF_JITTER.min, max = bounds::BACKOFF_JITTER.max))]
        #[schemars(extend("default" = bounds::BACKOFF_JITTER.default))]
        jitter: Number,

        /// Longest delay; at least `base_interval`. 10ms to 1h.
        #[schemars(extend("default" = "2m"))]
        max_interval: RawDuration,
    }
}

raw_mapping! {
    /// How often a name is resolved: when the records' TTL is over, within these bounds.
    RawDns as "Dns", expected "a mapping";
    required {}
    optional {
        /// Shortest time between two resolutions. 1s to 1h.
        #[schemars(extend("default" = "1s"))]
        min_refresh: RawDuration,

        /// Longest time between two resolutions; at least `min_refresh`. A new endpoint takes calls within it. 1s to 1h.
        #[schemars(extend("default" = "30s"))]
        max_refresh: RawDuration,
    }
}

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
    WeightedRoundRobin,
    Random,
    LeastRequest(RawLeastRequest),
}

impl RawPolicy {
    /// The policy of that name, without parameters.
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pick_first" => Self::PickFirst(RawPickFirst::default()),
            "round_robin" => Self::RoundRobin,
            "weighted_round_robin" => Self::WeightedRoundRobin,
            "random" => Self::Random,
            "least_request" => Self::LeastRequest(RawLeastRequest::default()),
            _ => return None,
        })
    }
}

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
            _ => {
                let help = "write for example `least_request`, or `least_request: {choice_count: 4}`";
                report_kind(
                    node,
                    "a policy's name, or a mapping from one name to its parameters",
                    Some(help),
                    reports,
                );
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
        policy => given(mapping.optional::<RawNoParameters>(name, reports)).map(|_| policy),
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
                        "weighted_round_robin": generator.subschema_for::<RawNoParameters>(),
                        "random": generator.subschema_for::<RawNoParameters>(),
                        "least_request": generator.subschema_for::<RawLeastRequest>(),
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}
