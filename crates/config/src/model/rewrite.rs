//! Changes of metadata on its way through the proxy.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What is changed in metadata. No name stands in two of the three lists, nor twice in one; each has at most
/// [`MAX_CHANGED_FIELDS`](crate::bounds::MAX_CHANGED_FIELDS) entries. Default: nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct MetadataChange {
    /// Fields that are added to those that are there.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "serialize_fields")]
    pub add: Vec<MetadataField>,
    /// Fields that take the place of those of the same name.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "serialize_fields")]
    pub set: Vec<MetadataField>,
    /// Names of fields that are left out, in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A field of metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataField {
    /// Its name, in lower case: one that gRPC lets applications use.
    pub name: String,
    /// Its value: visible ASCII; base64 if the name ends in `-bin`. At most
    /// [`MAX_CHANGED_VALUE_BYTES`](crate::bounds::MAX_CHANGED_VALUE_BYTES).
    pub value: String,
}

impl MetadataChange {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.set.is_empty() && self.remove.is_empty()
    }
}

fn serialize_fields<S: Serializer>(fields: &[MetadataField], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for field in fields {
        map.serialize_entry(&field.name, &field.value)?;
    }
    map.end()
}
