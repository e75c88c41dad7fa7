//! From text to tree, within a budget.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter, Options, Spanned};

use super::{Key, Node, Value};
use crate::errors::{Fault, Lines, Reports, Span};

/// Mappings and lists inside each other. The deepest value of a configuration is six levels down.
const MAX_DEPTH: usize = 32;

/// What a document may consist of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Bytes of text.
    pub(crate) bytes: usize,
    /// Mappings, lists and scalars, those that aliases repeat included.
    pub(crate) nodes: usize,
}

/// Reads a document. What is wrong is reported; if it is no YAML, there is no tree.
pub(crate) fn read(text: &str, budget: Budget, reports: &mut Reports) -> Option<Node> {
    if text.len() > budget.bytes {
        reports.add(Span::default(), Fault::TooLong { bytes: text.len(), max: budget.bytes });
        return None;
    }
    match parse(text, budget) {
        Ok(Tree(mut root)) => {
            number(&mut root, &mut 0);
            report_duplicates(&root, reports);
            Some(root)
        }
        Err(error) => {
            reports.add(span_of_error(&error, text), fault_of_error(error.without_snippet()));
            None
        }
    }
}

/// Numbers all keys and values.
fn number(node: &mut Node, last: &mut u32) {
    *last += 1;
    node.span.number = *last;
    match &mut node.value {
        Value::List(entries) => entries.iter_mut().for_each(|entry| number(entry, last)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                *last += 1;
                key.span.number = *last;
                number(value, last);
            }
        }
        _ => {}
    }
}

/// Reports each key that stands in its mapping a second time. The first one counts from here on.
fn report_duplicates(node: &Node, reports: &mut Reports) {
    match &node.value {
        Value::List(entries) => entries.iter().for_each(|entry| report_duplicates(entry, reports)),
        Value::Mapping(entries) => {
            let mut first: HashMap<&str, Span> = HashMap::new();
            for (key, value) in entries {
                if let Some(other) = first.insert(&key.name, key.span) {
                    let fault = Fault::DuplicateKey { key: key.name.clone() };
                    reports.add_related(key.span, fault, other);
                }
                report_duplicates(value, reports);
            }
        }
        _ => {}
    }
}

fn parse(text: &str, budget: Budget) -> Result<Tree, Error> {
    let options: Options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * budget.nodes,
            max_nodes: budget.nodes,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_anchors: 1_000,
            max_aliases: 10_000,
            // The bounds of what they repeat are enough: a hundred clusters may well share their limits.
            enforce_alias_anchor_ratio: false,
            max_total_scalar_bytes: 4 * budget.bytes,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: budget.nodes,
            max_replay_stack_depth: 8,
        },
        // Passes on all entries of a mapping: see `report_duplicates`. `Error` would end at the first duplicate.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn span_of_error(error: &Error, text: &str) -> Span {
    let Some(location) = error.location() else { return Span::default() };
    let offset = match location.span().byte_offset() {
        Some(offset) => usize::try_from(offset).unwrap_or(usize::MAX).min(text.len()),
        None => Lines::new(text).offset(
            usize::try_from(location.line()).unwrap_or(usize::MAX),
            usize::try_from(location.column()).unwrap_or(usize::MAX),
        ),
    };
    let len = usize::try_from(location.span().byte_len().unwrap_or(0)).unwrap_or(0);
    Span::new(offset, len.min(text.len() - offset))
}

fn fault_of_error(error: &Error) -> Fault {
    let too_complex = |message: String| Fault::TooComplex { message };
    let syntax = |message: &str| Fault::Syntax { message: message.to_owned() };
    match error {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            too_complex(format!("lists and mappings stand more than {MAX_DEPTH} deep in each other"))
        }
        Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. } => {
            too_complex("it has more aliases or anchors than a configuration needs".to_owned())
        }
        Error::Budget { .. } => too_complex("it has more values than a configuration can have".to_owned()),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            too_complex("aliases repeat more values than a configuration can have".to_owned())
        }
        Error::MultipleDocuments { .. } => {
            syntax("a second document begins here; give each file one document")
        }
        Error::NullIntoString { .. } | Error::Unexpected { .. } => {
            syntax("a key must be a word, not empty, a list or a mapping")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => syntax("an alias stands within what it repeats"),
        Error::AliasError { error, .. } => fault_of_error(error),
        other => syntax(&DefaultMessageFormatter.format_message(other)),
    }
}

/// [`Node`], as far as serde sees it.
struct Tree(Node);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<AnyValue>::deserialize(deserializer)?;
        Ok(Self(Node { span: span_of(&spanned.referenced, &spanned.defined), value: spanned.value.0 }))
    }
}

/// The place of a value that stands here, or that an alias here repeats.
fn span_of(referenced: &Location, defined: &Location) -> Span {
    // The bound of a text is far below what 32 bits hold.
    let byte = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    let bytes = |location: &Location| {
        let span = location.span();
        (byte(span.byte_offset()), byte(span.byte_len()))
    };
    let (here, source) = (bytes(referenced), bytes(defined));
    let repeats = (here != source).then_some(source);
    Span { repeats, ..Span::new(here.0 as usize, here.1 as usize) }
}

struct AnyValue(Value);

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(node)) = entries.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let Tree(node) = entries.next_value()?;
            mapping.push((Key { span: span_of(&key.referenced, &key.defined), name: key.value }, node));
        }
        Ok(Value::Mapping(mapping))
    }
}
