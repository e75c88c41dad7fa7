//! Conditions on a call's metadata.
//!
//! The values of a field that occurs more than once are joined with commas (RFC 9110 section 5.3), as Envoy does before it
//! compares. A missing field fits nothing, hence fits every inverted condition.

use regex::bytes::Regex;

use super::FieldSource;

/// A condition on one field.
#[derive(Clone, Debug)]
pub struct MetadataMatch {
    /// The field's name, in lower case.
    pub name: Box<[u8]>,
    /// What its value must be like.
    pub value: ValueMatch,
    /// Whether the condition holds where the value does not fit, instead.
    pub invert: bool,
}

/// What a value must be like.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// Any value: the field is there.
    Present,
    /// This value.
    Exact(Box<[u8]>),
    /// A value that begins so.
    Prefix(Box<[u8]>),
    /// A value that this expression describes; it is anchored at both ends.
    Regex(Regex),
}

impl MetadataMatch {
    /// Whether the condition holds for these fields.
    pub(super) fn holds(&self, fields: &dyn FieldSource) -> bool {
        let fits = match &self.value {
            ValueMatch::Present => {
                let mut is_present = false;
                fields.each(&self.name, &mut |_| is_present = true);
                is_present
            }
            ValueMatch::Exact(wanted) => joined(fields, &self.name, |value| *value == **wanted),
            ValueMatch::Prefix(wanted) => joined(fields, &self.name, |value| value.starts_with(wanted)),
            ValueMatch::Regex(regex) => joined(fields, &self.name, |value| regex.is_match(value)),
        };
        fits != self.invert
    }
}

/// What `look` says of a field's values, joined; the default if there are none. Only several values are copied.
pub(crate) fn joined<T: Default>(fields: &dyn FieldSource, name: &[u8], look: impl Fn(&[u8]) -> T) -> T {
    let mut count = 0;
    let mut first = T::default();
    fields.each(name, &mut |value| {
        count += 1;
        if count == 1 {
            first = look(value);
        }
    });
    if count < 2 {
        return first;
    }
    let mut whole = Vec::new();
    fields.each(name, &mut |value| {
        whole.extend_from_slice(value);
        whole.push(b',');
    });
    whole.pop();
    look(&whole)
}
