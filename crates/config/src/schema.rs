//! The JSON Schema of configurations, for editors and pipelines.
//!
//! It is made from the types that the configuration is read into, so a key that exists is in it, with its description.
//! What depends on more than one value (a route to a cluster that does not exist) and the bounds of durations and sizes,
//! which are text, only [`parse`](crate::parse) knows.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::raw::{List, RawConfig, RawEndpoint};

/// The schema of a configuration (JSON Schema, draft 2020-12).
#[must_use]
pub fn schema() -> Value {
    schema_of::<RawConfig>()
}

/// The schema of an endpoint list, as `file:` targets name it (JSON Schema, draft 2020-12).
#[must_use]
pub fn endpoints_schema() -> Value {
    schema_of::<List<RawEndpoint>>()
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(unwrap_description));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Descriptions are one paragraph each; where their source breaks its lines means nothing.
fn unwrap_description(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}
