//! Conditions on a call's metadata.
//!
//! Rule: the values of a field that occurs more than once are joined with commas, as gRPC joins them (RFC 9110 section
//! 5.3), and the condition is on the whole. A field that is not there fits no condition; `invert` turns the result round,
//! so that an inverted condition holds for a call without the field.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::literal::{Extractor, Literal};
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// Bytes of a compiled regular expression: 64 KiB, hundreds of states. It runs in linear time whatever the text.
pub const MAX_REGEX_BYTES: usize = 64 << 10;

/// A condition on one field of a call's metadata.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MetadataMatch {
    /// The field's name, in lower case.
    pub name: String,
    /// What its value must be like.
    pub value: ValueMatch,
    /// Whether the condition holds for the calls that do not fit, instead. Default false.
    pub invert: bool,
}

/// What a value must be like.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
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

impl MetadataMatch {
    /// Whether no call meets both conditions, as far as that can be told: what two different regular expressions have in common
    /// is not worked out.
    ///
    /// Both are on the whole of one value, so conditions that no value meets together have two among them that exclude each other,
    /// if none is a regular expression: an exact value decides all others, and of prefixes the longest does.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        self.name == other.name
            && match (self.invert, other.invert) {
                // A call without the field meets both.
                (true, true) => false,
                (false, true) => self.value.implies(&other.value),
                (true, false) => other.value.implies(&self.value),
                (false, false) => self.value.is_apart_from(&other.value),
            }
    }

    /// Whether each call that meets this condition meets the other as well, as far as that can be told at once: no expression is
    /// compiled.
    pub(crate) fn plainly_implies(&self, other: &Self) -> bool {
        let implies = |one: &ValueMatch, two: &ValueMatch| {
            let is_plain = !matches!(two, ValueMatch::Regex(_)) || one == two;
            is_plain && one.implies(two)
        };
        self.name == other.name
            && match (self.invert, other.invert) {
                (false, false) => implies(&self.value, &other.value),
                (true, true) => implies(&other.value, &self.value),
                (false, true) => self.value.is_plainly_apart_from(&other.value),
                // A call without the field meets this one only.
                (true, false) => false,
            }
    }
}

impl ValueMatch {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(pattern) => whole_regex(pattern).is_ok_and(|regex| regex.is_match(value.as_bytes())),
        }
    }

    /// Whether each value that fits this fits the other as well.
    fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(value), other) => other.fits(value),
            (_, Self::Present) => true,
            (Self::Prefix(longer), Self::Prefix(text)) => longer.starts_with(text),
            (_, Self::Prefix(text)) => text.is_empty(),
            (Self::Regex(ours), Self::Regex(pattern)) => ours == pattern,
            (_, Self::Exact(_) | Self::Regex(_)) => false,
        }
    }

    /// Whether no value fits both; `false` of expressions.
    fn is_plainly_apart_from(&self, other: &Self) -> bool {
        !matches!((self, other), (Self::Regex(_), _) | (_, Self::Regex(_))) && self.is_apart_from(other)
    }

    /// Whether no value fits both.
    fn is_apart_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(value), other) | (other, Self::Exact(value)) => !other.fits(value),
            (Self::Prefix(one), Self::Prefix(two)) => !one.starts_with(two) && !two.starts_with(one),
            _ => false,
        }
    }
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

/// Whether some text that begins so may fit an expression that describes all of it. `true` where that cannot be told, as of
/// an expression that begins with a large class of characters.
pub(crate) fn may_begin_with(pattern: &str, begin: u8) -> bool {
    let Some(parsed) = parsed(pattern) else { return true };
    let beginnings = Extractor::new().extract(&parsed);
    let may_be_one = |literal: &Literal| match literal.as_bytes() {
        [] => !literal.is_exact(),
        [first, ..] => *first == begin,
    };
    beginnings.literals().is_none_or(|all| all.iter().any(may_be_one))
}

/// Whether a text with two slashes, as each path `/service/method` has, may fit an expression that describes all of it.
pub(crate) fn may_have_two_slashes(pattern: &str) -> bool {
    parsed(pattern).is_none_or(|parsed| slashes(&parsed) & (1 << 2) != 0)
}

/// Whether each path `/service/method` fits an expression that describes all of it, as `.*` and `/.*/.*`. `false` where that is not
/// plain to see.
pub(crate) fn fits_every_path(pattern: &str) -> bool {
    let Some(parsed) = parsed(pattern) else { return false };
    let mut parts =
        if let HirKind::Concat(parts) = parsed.kind() { parts } else { core::slice::from_ref(&parsed) };
    // What is said anyway.
    if let [first, rest @ ..] = parts
        && matches!(first.kind(), HirKind::Look(Look::Start))
    {
        parts = rest;
    }
    if let [rest @ .., last] = parts
        && matches!(last.kind(), HirKind::Look(Look::End))
    {
        parts = rest;
    }
    let is_slash = |part: &Hir| matches!(part.kind(), HirKind::Literal(text) if *text.0 == *b"/");
    match parts {
        [all] => repeats_any(all, true),
        [slash, all] => is_slash(slash) && repeats_any(all, true),
        [slash, service, second, method] => {
            is_slash(slash) && repeats_any(service, false) && is_slash(second) && repeats_any(method, false)
        }
        _ => false,
    }
}

/// Whether an expression takes one or more of any characters that a path may have, slashes among them or not.
fn repeats_any(expression: &Hir, slash_too: bool) -> bool {
    let HirKind::Repetition(repeated) = expression.kind() else { return false };
    let HirKind::Class(class) = repeated.sub.kind() else { return false };
    let has = |byte: u8| match class {
        Class::Unicode(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
        }
        Class::Bytes(class) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&byte))
        }
    };
    let is_any = (b'!'..=b'~').all(|byte| has(byte) || byte == b'/' && !slash_too);
    is_any && repeated.min <= 1 && repeated.max.is_none()
}

fn parsed(pattern: &str) -> Option<Hir> {
    regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern).ok()
}

/// More slashes than are told apart.
const MANY_SLASHES: u32 = 3;

/// How many slashes the texts may have that an expression describes: bit n is set if there may be n, bit 3 for all above.
fn slashes(expression: &Hir) -> u8 {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(text) => {
            let count = text.0.iter().filter(|byte| **byte == b'/').count();
            1 << count.min(MANY_SLASHES as usize)
        }
        HirKind::Class(Class::Unicode(class)) => {
            one_of(class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))))
        }
        HirKind::Class(Class::Bytes(class)) => {
            one_of(class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))))
        }
        HirKind::Capture(group) => slashes(&group.sub),
        HirKind::Concat(parts) => parts.iter().map(slashes).fold(1, sums),
        HirKind::Alternation(parts) => parts.iter().map(slashes).fold(0, |one, other| one | other),
        HirKind::Repetition(repeated) => {
            let once = slashes(&repeated.sub);
            let times = |count: u32| (0..count).fold(1, |sum, _| sums(sum, once));
            // More often than that adds nothing that is told apart.
            let most = repeated.max.map_or(MANY_SLASHES, |max| max.min(MANY_SLASHES));
            (repeated.min.min(MANY_SLASHES)..=most).map(times).fold(0, |one, other| one | other)
        }
    }
}

/// The slashes of one character of these ranges.
fn one_of(ranges: impl Iterator<Item = (u32, u32)>) -> u8 {
    let slash = u32::from(b'/');
    let of_range = |(start, end): (u32, u32)| {
        let (has, has_others) = ((start..=end).contains(&slash), start != slash || end != slash);
        u8::from(has) << 1 | u8::from(has_others)
    };
    ranges.map(of_range).fold(0, |one, other| one | other)
}

/// All sums of a number of the one set and one of the other.
fn sums(one: u8, other: u8) -> u8 {
    let numbers = |set: u8| (0..=MANY_SLASHES).filter(move |number| set & (1 << number) != 0);
    let sums = numbers(one).flat_map(|number| numbers(other).map(move |more| number + more));
    sums.fold(0, |set, sum| set | 1 << sum.min(MANY_SLASHES))
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condition(value: ValueMatch, invert: bool) -> MetadataMatch {
        MetadataMatch { name: "x".into(), value, invert }
    }

    #[test]
    fn conditions_on_one_field_exclude_each_other_where_no_value_meets_both() {
        let (exact, prefix) =
            (|text: &str| ValueMatch::Exact(text.into()), |text: &str| ValueMatch::Prefix(text.into()));
        let regex = |text: &str| ValueMatch::Regex(text.into());
        for (one, is_inverted, other, other_is_inverted, excludes) in [
            (ValueMatch::Present, false, ValueMatch::Present, true, true),
            (ValueMatch::Present, false, prefix("a"), true, false),
            (ValueMatch::Present, false, prefix(""), true, true),
            (ValueMatch::Present, true, exact("a"), true, false),
            (exact("a"), false, ValueMatch::Present, true, true),
            (exact("a"), false, exact("b"), false, true),
            (exact("a"), false, exact("b"), true, false),
            (exact("a"), false, exact("a"), true, true),
            (exact("ab"), false, prefix("a"), false, false),
            (exact("ab"), false, prefix("b"), false, true),
            (exact("ab"), false, prefix("a"), true, true),
            (exact("a"), false, regex("b|c"), false, true),
            (exact("b"), false, regex("b|c"), false, false),
            (exact("b"), false, regex("b|c"), true, true),
            (prefix("ab"), false, prefix("a"), false, false),
            (prefix("ab"), false, prefix("b"), false, true),
            (prefix("ab"), false, prefix("a"), true, true),
            (prefix("a"), false, prefix("ab"), true, false),
            (prefix("a"), false, exact("a"), true, false),
            (prefix("a"), false, regex("b"), false, false),
            (regex("a+"), false, regex("a+"), true, true),
            (regex("a+"), false, regex("b+"), false, false),
        ] {
            let (one, other) = (condition(one, is_inverted), condition(other, other_is_inverted));
            assert_eq!(one.excludes(&other), excludes, "{one:?} and {other:?}");
            assert_eq!(other.excludes(&one), excludes, "{other:?} and {one:?}");
            let elsewhere = MetadataMatch { name: "y".into(), ..other };
            assert!(!one.excludes(&elsewhere), "another field's");
        }
    }

    proptest! {
        #[test]
        fn conditions_that_exclude_each_other_have_no_value_that_meets_both(
            one in any_condition(), other in any_condition(), value in proptest::option::of("[ab]{0,3}"),
        ) {
            let holds = |condition: &MetadataMatch| {
                value.as_deref().is_some_and(|value| condition.value.fits(value)) != condition.invert
            };
            prop_assert!(!(one.excludes(&other) && holds(&one) && holds(&other)), "{one:?}, {other:?}: {value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_condition_that_implies_another_is_met_by_no_call_that_does_not_meet_the_other(
            one in any_condition(), other in any_condition(), value in proptest::option::of("[ab]{0,3}"),
        ) {
            let holds = |condition: &MetadataMatch| {
                value.as_deref().is_some_and(|value| condition.value.fits(value)) != condition.invert
            };
            prop_assert!(one.plainly_implies(&one));
            prop_assert!(
                !one.plainly_implies(&other) || !holds(&one) || holds(&other), "{one:?}, {other:?}: {value:?}",
            );
        }

        #[test]
        fn an_expression_that_fits_every_path_fits_each(
            pattern in "(\\\\b|\\\\B|\\^|\\$)?/?(\\\\b|\\\\B|\\^)?(\\.|\\[\\^/\\]|\\[\\^a\\]|\\[!-~\\]|a)[*+?](/(\\.|\\[\\^/\\]|b)[*+])?(\\\\b|\\\\B|\\$)?", path in "/[!-.0-~]{1,3}/[!-.0-~]{1,3}",
        ) {
            let fits = whole_regex(&pattern).is_ok_and(|regex| regex.is_match(path.as_bytes()));
            prop_assert!(fits || !fits_every_path(&pattern), "{pattern}: {path}");
        }
    }

    fn any_condition() -> impl Strategy<Value = MetadataMatch> {
        let value = prop_oneof![
            Just(ValueMatch::Present),
            "[ab]{1,2}".prop_map(ValueMatch::Exact),
            "[ab]{0,2}".prop_map(ValueMatch::Prefix),
            "[ab]{1,2}[*+?]?".prop_map(ValueMatch::Regex),
        ];
        (value, proptest::bool::ANY).prop_map(|(value, invert)| condition(value, invert))
    }

    #[test]
    fn an_expression_describes_the_whole_text() {
        let either = whole_regex("a|bc").unwrap();
        assert!(either.is_match(b"a") && either.is_match(b"bc"));
        assert!(!either.is_match(b"ab") && !either.is_match(b"xbc") && !either.is_match(b"a\n"));
        assert!(whole_regex("a)(b").is_err());
        assert!(whole_regex("(?x)a # comment").is_err(), "a comment would hide the end");
    }

    #[test]
    fn an_expression_begins_with_what_it_may_begin_with() {
        for pattern in
            ["/a", "^/a", "(?i)/a", "/", "(/|x)a", "x*/a", ".*", "[^a]b", "\\W", "[/a]", "(?x) / a", ".{3}"]
        {
            assert!(may_begin_with(pattern, b'/'), "{pattern}");
        }
        for pattern in ["a", "^a/", "a|bc", "", "()", "x+/a", "[a-c]/", "(?i)a", "\\.a", "a?b"] {
            assert!(!may_begin_with(pattern, b'/'), "{pattern}");
        }
    }

    #[test]
    fn an_expression_may_describe_texts_with_two_slashes_or_not() {
        for pattern in [
            "/a/b",
            "/a/.*",
            "/a.b",
            ".*",
            ".{3}",
            "(/a){2}",
            "(/a)+",
            "/a(/b)?",
            "/a|/a/b",
            "[/a]{2}",
            "^/a/b$",
            "/[^a]b",
            r"\W\w\W",
            "(/|x)*",
            "(?-u:[^a])/",
            "/{2}",
            "(?x) / a / b",
        ] {
            assert!(may_have_two_slashes(pattern), "{pattern}");
        }
        for pattern in [
            r"/a\.b",
            "/a",
            "/a/b/c",
            "/a|/a/b/c",
            "/[a-z]+",
            "(/a){3}",
            "(/a){3,}",
            "/a?",
            "/[^/]*",
            "",
            "^/a$",
            r"/\w+\.\w+",
            "(/a/b){2}",
            "(/a/b){2}/",
            "(?s).",
            "[/]",
            "(?-u:[a-c])/",
        ] {
            assert!(!may_have_two_slashes(pattern), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_text_that_fits_has_slashes_that_the_expression_may_have(
            pattern in "([/ab.]|\\[[/a]\\]|\\(/?a\\|b?/\\))([*+?]|\\{1,2\\})?([/a.]|b){0,3}", text in "[/ab]{0,5}",
        ) {
            let fits = whole_regex(&pattern).is_ok_and(|regex| regex.is_match(text.as_bytes()));
            let count = text.bytes().filter(|byte| *byte == b'/').count();
            prop_assert!(!(fits && count == 2) || may_have_two_slashes(&pattern), "{pattern}: {text}");
        }
    }

    #[test]
    fn an_expression_that_grows_too_large_is_refused() {
        assert!(whole_regex("[a-z]{100}").is_ok());
        assert!(whole_regex("(([a-z]{100}){100}){100}").is_err());
    }
}
