//! The configuration as written: every key optional, nothing checked but its kind.
//!
//! One declaration per mapping (`raw_mapping!`) is the single source of three things: which keys there are and of which
//! kind, the JSON Schema with its descriptions, and the reader that reports *every* unknown, missing or ill-typed key.
//! What a value means together with others is the business of [`resolve`](crate::resolve).
//!
//! The documentation comments of the keys are shown to users by their editors, through the schema.

mod affinity;
mod canary;
mod cluster;
mod endpoint;
mod fault;
mod health;
mod leaf;
mod limits;
mod listener;
mod outlier;
mod policy;
mod retry;
mod rewrite;
mod spread;
mod target;
mod top;

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::errors::{Fault, Reports, Span, closest};
use crate::tree::{Key, Node, Value};

pub(crate) use affinity::{RawCookie, RawHashBy, RawSubset};
pub(crate) use canary::{RawCanary, RawCanaryStep};
pub(crate) use cluster::{RawBackoff, RawCluster, RawDns};
pub(crate) use endpoint::{RawEndpoint, RawWeighted};
pub(crate) use fault::{RawFault, RawMirror};
pub(crate) use health::RawHealthCheck;
pub(crate) use leaf::{
    Flag, Integer, Number, Off, OneOrMany, RawDuration, RawShareOrSize, RawSize, StatusName, Text, TooMuch,
};
pub(crate) use limits::{
    RawAdaptiveConcurrency, RawCircuitBreakers, RawClientRateLimit, RawEndpointBreakers, RawRateLimit,
};
pub(crate) use listener::{
    RawLimitValues, RawLimits, RawListener, RawMatch, RawMetadataMatch, RawMetadataRules, RawRoute, RawShare,
};
pub(crate) use outlier::{RawFailurePercentage, RawOutlierDetection, RawSuccessRate};
pub(crate) use policy::{
    RawLeastRequest, RawLoadReports, RawMaglev, RawPolicy, RawPrequal, RawRingHash, RawWeightedRoundRobin,
};
pub(crate) use retry::{RawRetryBudget, RawRetryThrottling};
pub(crate) use rewrite::{Fields, RawMetadataChange};
pub(crate) use spread::{RawLocality, RawLocalityWeight, RawZoneAware};
pub(crate) use target::{RawPlacedTarget, RawTarget};
pub(crate) use top::{RawAdmin, RawConfig, RawDrain, RawOverload, RawReplay};

/// Something that can be read from a node.
pub(crate) trait Read: Sized {
    /// Reads a node and reports what is wrong with it; `None` means that there is nothing to go on with.
    fn read(node: &Node, reports: &mut Reports) -> Option<Self>;
}

/// A value with its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
    /// Whether all that is written there could be read. If not, nothing may be concluded from what is absent.
    pub(crate) is_whole: bool,
}

impl<T> At<T> {
    pub(crate) fn as_ref(&self) -> At<&T> {
        At { value: &self.value, span: self.span, is_whole: self.is_whole }
    }
}

impl<T: Read> At<T> {
    pub(crate) fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        let before = reports.count();
        let value = T::read(node, reports)?;
        Some(Self { value, span: node.span, is_whole: reports.count() == before })
    }
}

/// The value of a key.
#[derive(Debug, Default)]
pub(crate) enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key is there, and what is wrong with its value has been reported.
    Refused,
    /// The key and its value.
    Given {
        /// The key's place.
        key: Span,
        /// The value.
        value: At<T>,
    },
}

impl<T> Field<T> {
    pub(crate) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given { value, .. } => Some(value),
            Self::Absent | Self::Refused => None,
        }
    }

    /// The key's place and the value, if there is one.
    pub(crate) fn with_key(&self) -> Option<(Span, &At<T>)> {
        match self {
            Self::Given { key, value } => Some((*key, value)),
            Self::Absent | Self::Refused => None,
        }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

/// In the schema, a field is what its value is.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping while its keys are read.
pub(crate) struct Mapping<'a> {
    entries: &'a [(Key, Node)],
    span: Span,
    /// Keys that unknown ones were probably meant to be: they need not be reported as missing.
    misspelt: Vec<&'static str>,
}

impl<'a> Mapping<'a> {
    /// Takes a node for a mapping and reports every key that is none of `known`.
    pub(crate) fn open(
        node: &'a Node,
        expected: &'static str,
        known: &[&'static str],
        reports: &mut Reports,
    ) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            report_kind(node, expected, None, reports);
            return None;
        };
        let mut misspelt = Vec::new();
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
            let suggestion = closest(&key.name, known.iter().copied());
            misspelt.extend(suggestion);
            let fault = Fault::UnknownKey { key: key.name.clone(), suggestion, known: known.to_vec() };
            reports.add(key.span, fault);
        }
        Some(Self { entries, span: node.span, misspelt })
    }

    /// The value of a key that need not be there.
    pub(crate) fn optional<T: Read>(&self, name: &str, reports: &mut Reports) -> Field<T> {
        self.field(name, false, reports)
    }

    fn field<T: Read>(&self, name: &str, is_required: bool, reports: &mut Reports) -> Field<T> {
        let Some((key, node)) = self.entries.iter().find(|(key, _)| key.name == name) else {
            return Field::Absent;
        };
        if node.value == Value::Null {
            reports.add(key.span, Fault::NoValue { key: key.name.clone(), is_required });
            return Field::Refused;
        }
        At::read(node, reports).map_or(Field::Refused, |value| Field::Given { key: key.span, value })
    }

    /// The value of a key that must be there.
    pub(crate) fn required<T: Read>(&self, name: &'static str, reports: &mut Reports) -> Field<T> {
        match self.field(name, true, reports) {
            Field::Absent if self.misspelt.contains(&name) => Field::Refused,
            Field::Absent => {
                reports.add(self.span, Fault::MissingKey { key: name });
                Field::Refused
            }
            field => field,
        }
    }
}

/// Reports that a node is not of the kind that is needed.
pub(crate) fn report_kind(
    node: &Node,
    expected: &'static str,
    help: Option<&'static str>,
    reports: &mut Reports,
) {
    reports.add(node.span, Fault::WrongType { expected, found: node.value.describe(), help });
}

/// `r#match` is the key `match`.
pub(crate) fn key_name(identifier: &'static str) -> &'static str {
    identifier.strip_prefix("r#").unwrap_or(identifier)
}

/// A list: those of its entries that could be read.
#[derive(Debug)]
pub(crate) struct List<T> {
    pub(crate) entries: Vec<At<T>>,
    /// How many entries are written, those included that could not be read.
    pub(crate) written: usize,
}

impl<T: Read> Read for List<T> {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        let Value::List(nodes) = &node.value else {
            report_kind(node, "a list", Some("begin each entry with `- `"), reports);
            return None;
        };
        let entries = nodes.iter().filter_map(|entry| At::read(entry, reports)).collect();
        Some(Self { entries, written: nodes.len() })
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": generator.subschema_for::<T>() })
    }
}

/// Declares a mapping: its type, its schema and its reader.
///
/// `expected` completes "expected ..., found ..." for a node that is no mapping.
macro_rules! raw_mapping {
    (
        $(#[$meta:meta])*
        $name:ident as $schema_name:literal, expected $expected:literal;
        required { $($(#[$required_meta:meta])* $required:ident: $required_type:ty,)* }
        optional { $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty,)* }
    ) => {
        #[derive(Debug, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields, rename = $schema_name)]
        $(#[$meta])*
        pub(crate) struct $name {
            $($(#[$required_meta])* pub(crate) $required: $crate::raw::Field<$required_type>,)*
            $($(#[$optional_meta])* #[schemars(default)]
            pub(crate) $optional: $crate::raw::Field<$optional_type>,)*
        }

        impl $crate::raw::Read for $name {
            fn read(node: &$crate::tree::Node, reports: &mut $crate::errors::Reports) -> Option<Self> {
                let known = [
                    $($crate::raw::key_name(stringify!($required)),)*
                    $($crate::raw::key_name(stringify!($optional)),)*
                ];
                let mapping = $crate::raw::Mapping::open(node, $expected, &known, reports)?;
                Some(Self {
                    $($required: mapping.required($crate::raw::key_name(stringify!($required)), reports),)*
                    $($optional: mapping.optional($crate::raw::key_name(stringify!($optional)), reports),)*
                })
            }
        }
    };
}
pub(crate) use raw_mapping;
