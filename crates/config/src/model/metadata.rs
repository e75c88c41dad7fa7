//! Conditions on a call's metadata.
//!
//! Rule: the values of a field that occurs more than once are joined with commas, as gRPC joins them (RFC 9110 section
//! 5.3), and the condition is on the whole. A field that is not there fits no condition; `invert` turns the result round,
//! so that an inverted condition holds for a call without the field.

use regex::bytes::{Regex, RegexBuilder};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Bytes of a compiled regular expression: 64 KiB, hundreds of states. It runs in linear time whatever the text.
pub const MAX_REGEX_BYTES: usize = 64 << 10;

/// A condition on one field of a call's metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataMatch {
    /// The field's name, in lower case.
    pub name: String,
    /// What its value must be like.
    pub value: ValueMatch,
    /// Whether the condition holds for the calls that do not fit, instead. Default false.
    pub invert: bool,
}

/// What a value must be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ValueMatch {
    /// Any value: the field is there.
    Present,
    /// This value, letter by letter.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
    /// A value all of which this regular expression describes.
    Regex(String),
}

impl Serialize for MetadataMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        match &self.value {
            ValueMatch::Present => map.serialize_entry("present", &true)?,
            ValueMatch::Exact(text) => map.serialize_entry("exact", text)?,
            ValueMatch::Prefix(text) => map.serialize_entry("prefix", text)?,
            ValueMatch::Regex(text) => map.serialize_entry("regex", text)?,
        }
        if self.invert {
            map.serialize_entry("invert", &true)?;
        }
        map.end()
    }
}

/// Compiles a regular expression that must describe all of a text.
///
/// The syntax is that of the crate `regex`, without look-around and back-references, so that a match takes time in
/// proportion to the text.
///
/// # Errors
/// The expression is malformed, or compiled larger than [`MAX_REGEX_BYTES`].
pub fn whole_regex(pattern: &str) -> Result<Regex, regex::Error> {
    // Alone first: `a)(b` would be made well-formed by the group round it.
    compile(pattern)?;
    compile(&format!("^(?:{pattern})$"))
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_describes_the_whole_text() {
        let either = whole_regex("a|bc").unwrap();
        assert!(either.is_match(b"a") && either.is_match(b"bc"));
        assert!(!either.is_match(b"ab") && !either.is_match(b"xbc") && !either.is_match(b"a\n"));
        assert!(whole_regex("a)(b").is_err());
        assert!(whole_regex("(?x)a # comment").is_err(), "a comment would hide the end");
    }

    #[test]
    fn an_expression_that_grows_too_large_is_refused() {
        assert!(whole_regex("[a-z]{100}").is_ok());
        assert!(whole_regex("(([a-z]{100}){100}){100}").is_err());
    }
}
