//! Changes of metadata.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{At, List, Read, Text, raw_mapping, report_kind};
use crate::bounds::{MAX_CHANGED_FIELDS, MAX_CHANGED_VALUE_BYTES};
use crate::errors::{Fault, Reports};
use crate::tree::{Node, Value};

raw_mapping! {
    /// What is changed in metadata on its way through.
    RawMetadataChange as "MetadataChange", expected "a mapping with `add`, `set` or `remove`";
    required {}
    optional {
        /// Fields that are added to those that are there, by name: `x-tag: blue`.
        add: Fields,

        /// Fields that take the place of those of the same name, by name: `x-version: v2`.
        set: Fields,

        /// Names of fields that are left out.
        #[schemars(extend("minItems" = 1, "maxItems" = MAX_CHANGED_FIELDS))]
        remove: List<Text>,
    }
}

/// Fields of metadata: a mapping from any names to values.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) entries: Vec<(At<Text>, At<Text>)>,
    /// How many are written, those included whose value could not be read.
    pub(crate) written: usize,
}

impl Read for Fields {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        let Value::Mapping(pairs) = &node.value else {
            report_kind(node, "a mapping from names to values, such as `{x-tag: blue}`", None, reports);
            return None;
        };
        let mut entries = Vec::new();
        for (key, node) in pairs {
            if node.value == Value::Null {
                reports.add(key.span, Fault::NoValue { key: key.name.clone(), is_required: true });
                continue;
            }
            let name = At { value: Text(key.name.clone()), span: key.span, is_whole: true };
            entries.extend(At::read(node, reports).map(|value| (name, value)));
        }
        Some(Self { entries, written: pairs.len() })
    }
}

impl JsonSchema for Fields {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Fields".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[0-9A-Za-z_.-]+$" },
            "additionalProperties": { "type": "string", "maxLength": MAX_CHANGED_VALUE_BYTES },
            "minProperties": 1,
            "maxProperties": MAX_CHANGED_FIELDS,
        })
    }
}
