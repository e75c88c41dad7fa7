//! The JSON Schema of configurations, for editors and pipelines.
//!
//! It is made from the types that the configuration is read into, so a key that exists is in it, with its description.
//! What depends on more than one value (a route to a cluster that does not exist) and the bounds of durations and sizes,
//! which are text, only [`parse`](crate::parse) knows.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::raw::{List, RawConfig, RawEndpoint};

/// The schema of a configuration (JSON Schema, draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<RawConfig>().to_value()
}

/// The schema of an endpoint list, as `file:` targets name it (JSON Schema, draft 2020-12).
#[must_use]
pub fn endpoints_schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<List<RawEndpoint>>().to_value()
}
