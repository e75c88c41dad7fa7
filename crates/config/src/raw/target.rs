//! Where a cluster's endpoints come from: the entries of a list of targets.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Integer, RawLocality, Read, raw_mapping};
use crate::bounds;
use crate::errors::Reports;
use crate::target::Target;
use crate::tree::{Node, Value};

raw_mapping! {
    /// A target, and where its endpoints stand among those of the others.
    RawPlacedTarget as "PlacedTarget", expected "a target, or a mapping with `target`";
    required {
        /// Where endpoints come from: `dns:///host:port`, `dns+srv:///name`, `ipv4:address:port,...`,
        /// `ipv6:[address]:port,...`, `unix:/path` or `file:/path`.
        target: Target,
    }
    optional {
        /// By how much each of its endpoints weighs more. 0: they get no calls. 0 to 65535.
        #[schemars(range(min = bounds::WEIGHT.min, max = bounds::WEIGHT.max))]
        #[schemars(extend("default" = bounds::WEIGHT.default))]
        weight: Integer,

        /// Which endpoints its own stand in for: they get calls as far as those of lower numbers are out. Is added to a priority
        /// that an endpoint has by itself. 0 to 15.
        #[schemars(range(min = bounds::PRIORITY.min, max = bounds::PRIORITY.max))]
        #[schemars(extend("default" = bounds::PRIORITY.default))]
        priority: Integer,

        /// Where its endpoints run, as far as they do not say it themselves.
        locality: RawLocality,
    }
}

/// A target alone, or with a place.
#[derive(Debug)]
pub(crate) enum RawTarget {
    Plain(Target),
    Placed(Box<RawPlacedTarget>),
}

impl Read for RawTarget {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match node.value {
            Value::Mapping(_) => {
                RawPlacedTarget::read(node, reports).map(|placed| Self::Placed(Box::new(placed)))
            }
            _ => Target::read(node, reports).map(Self::Plain),
        }
    }
}

impl JsonSchema for RawTarget {
    fn schema_name() -> Cow<'static, str> {
        "TargetOrPlacedTarget".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [generator.subschema_for::<Target>(), generator.subschema_for::<RawPlacedTarget>()]
        })
    }
}
