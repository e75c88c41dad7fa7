//! What calls must have in common to meet the same endpoint, and which endpoints this proxy uses at all.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{At, Field, Integer, Mapping, RawDuration, Read, Text, raw_mapping, report_kind};
use crate::bounds;
use crate::errors::{Fault, Reports, closest};
use crate::model::SubsetKind;
use crate::tree::{Node, Value};

/// The names of all sources of a key.
const SOURCES: [&str; 3] = ["metadata", "source_ip", "cookie"];

/// A source of the key that calls to the same endpoint have in common.
#[derive(Debug)]
pub(crate) enum RawHashBy {
    Metadata(At<Text>),
    SourceIp,
    Cookie(Box<RawCookie>),
}

raw_mapping! {
    /// A cookie that clients send with each call.
    RawCookie as "Cookie", expected "a mapping with `name`";
    required {
        /// Its name.
        #[schemars(extend("pattern" = "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"))]
        name: Text,
    }
    optional {
        /// A client without the cookie is given one, which lasts so long; `0s`: as long as the client runs. Without `ttl`
        /// none is given. 0s to 365d.
        ttl: RawDuration,

        /// For which paths a client sends the cookie that it was given. Needs `ttl`.
        #[schemars(extend("pattern" = "^/[!-:<-~]{0,255}$"))]
        path: Text,
    }
}

impl Read for RawHashBy {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Text(name) if name == "source_ip" => Some(Self::SourceIp),
            Value::Text(name) if !SOURCES.contains(&name.as_str()) => {
                let suggestion = closest(name, SOURCES);
                let fault = Fault::UnknownName {
                    kind: "source of a key",
                    name: name.clone(),
                    suggestion,
                    known: &SOURCES,
                };
                reports.add(node.span, fault);
                None
            }
            Value::Mapping(entries) if entries.len() == 1 => {
                const KEYS: [&str; 2] = ["metadata", "cookie"];
                let mapping = Mapping::open(node, "a source of a key", &KEYS, reports)?;
                match entries[0].0.name.as_str() {
                    "metadata" => match mapping.optional::<Text>("metadata", reports) {
                        Field::Given { value, .. } => Some(Self::Metadata(value)),
                        Field::Absent | Field::Refused => None,
                    },
                    _ => match mapping.optional::<RawCookie>("cookie", reports) {
                        Field::Given { value, .. } => Some(Self::Cookie(Box::new(value.value))),
                        Field::Absent | Field::Refused => None,
                    },
                }
            }
            _ => {
                let help = "write `metadata: x-client-id`, `source_ip`, or `cookie: {name: session}`";
                report_kind(node, "a source of a key", Some(help), reports);
                None
            }
        }
    }
}

impl JsonSchema for RawHashBy {
    fn schema_name() -> Cow<'static, str> {
        "HashBy".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "What calls to the same endpoint have in common.",
            "anyOf": [
                { "const": "source_ip", "description": "The client's IP address, without the port." },
                {
                    "type": "object",
                    "properties": {
                        "metadata": {
                            "description": "The value of this field of the metadata.",
                            "type": "string",
                            "pattern": "^[0-9A-Za-z_.-]+$",
                        },
                        "cookie": generator.subschema_for::<RawCookie>(),
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}

raw_mapping! {
    /// Which of many endpoints this proxy uses.
    RawSubset as "Subset", expected "`off`, or a mapping such as `{size: 20}`";
    required {
        /// How many endpoints. 1 to 65536.
        #[schemars(range(min = bounds::SUBSET_SIZE.min, max = bounds::SUBSET_SIZE.max))]
        size: Integer,
    }
    optional {
        /// `random`: each proxy draws its own (gRFC A68); `deterministic`: the proxies are numbered, and share the endpoints
        /// out evenly.
        #[schemars(extend("default" = "random", "enum" = SubsetKind::NAMES))]
        kind: Text,

        /// This proxy's number among those in front of the endpoints, from 0. Needed by `deterministic`. 0 to 1000000.
        #[schemars(range(min = bounds::SUBSET_CLIENT_INDEX.min, max = bounds::SUBSET_CLIENT_INDEX.max))]
        client_index: Integer,
    }
}
