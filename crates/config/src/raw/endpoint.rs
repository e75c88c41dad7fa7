//! The entries of an endpoint list.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Flag, Integer, RawLocality, Read, Text, raw_mapping};
use crate::bounds;
use crate::errors::Reports;
use crate::tree::{Node, Value};

raw_mapping! {
    /// An endpoint with its weight, priority and locality.
    RawWeighted as "WeightedEndpoint", expected "an address, or a mapping with `address`";
    required {
        /// An IP address and port, or `unix:` and a path.
        address: Text,
    }
    optional {
        /// Its share of the calls, in relation to the others' weights. 0: it gets none. 0 to 65535.
        #[schemars(range(min = bounds::WEIGHT.min, max = bounds::WEIGHT.max))]
        #[schemars(extend("default" = bounds::WEIGHT.default))]
        weight: Integer,

        /// Which endpoints it stands in for: it gets calls as far as those of lower numbers are out. 0 to 15.
        #[schemars(range(min = bounds::PRIORITY.min, max = bounds::PRIORITY.max))]
        #[schemars(extend("default" = bounds::PRIORITY.default))]
        priority: Integer,

        /// Where it runs.
        locality: RawLocality,

        /// Whether it terminates, and asks for no new calls: it gets none while another can take them, and that is no failure.
        #[schemars(extend("default" = false))]
        draining: Flag,
    }
}

/// An address alone, or with a weight.
#[derive(Debug)]
pub(crate) enum RawEndpoint {
    Address(Text),
    Weighted(Box<RawWeighted>),
}

impl Read for RawEndpoint {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match node.value {
            Value::Text(_) => Text::read(node, reports).map(Self::Address),
            _ => RawWeighted::read(node, reports).map(|weighted| Self::Weighted(Box::new(weighted))),
        }
    }
}

impl JsonSchema for RawEndpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<RawWeighted>()] })
    }
}
