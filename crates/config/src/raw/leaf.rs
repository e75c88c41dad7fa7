//! Values without keys: text, numbers, durations, sizes, and the words that may stand in their place.

use core::time::Duration;
use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{At, List, Read, report_kind};
use crate::errors::{Fault, Reports};
use crate::listen::ListenAddress;
use crate::resolve::STATUS_NAMES;
use crate::target::Target;
use crate::tree::{Node, Value};
use crate::units::{
    DURATION_HELP, DURATION_PATTERN, PERCENT_HELP, SHARE_OR_SIZE_PATTERN, SIZE_HELP, SIZE_PATTERN,
    parse_duration, parse_percent, parse_size,
};

const QUOTES_HELP: &str = "put it between quotes to make it text";

/// Implements a schema that has no definition of its own.
macro_rules! inline_schema {
    ($type:ty, $name:literal, $($schema:tt)+) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)+)
            }
        }
    };
}

/// Any text.
#[derive(Debug, Clone)]
pub(crate) struct Text(pub(crate) String);

inline_schema!(Text, "Text", { "type": "string" });

impl Read for Text {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        read_text(node, "text", reports).map(|text| Self(text.to_owned()))
    }
}

fn read_text<'a>(node: &'a Node, expected: &'static str, reports: &mut Reports) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) => return Some(text),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            report_kind(node, expected, Some(QUOTES_HELP), reports);
        }
        _ => report_kind(node, expected, None, reports),
    }
    None
}

/// The name of a gRPC status, or of another end of a call.
#[derive(Debug, Clone)]
pub(crate) struct StatusName(pub(crate) String);

inline_schema!(StatusName, "StatusName", { "type": "string" });

impl Read for StatusName {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        let number = match node.value {
            Value::Integer(number) => number,
            Value::Float(_) => 0,
            _ => {
                return read_text(node, "the name of a status", reports).map(|text| Self(text.to_owned()));
            }
        };
        let place = number.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| STATUS_NAMES.get(place)).copied() {
            Some(name) => {
                let (suggestion, known) = (Some(name), STATUS_NAMES);
                let fault =
                    Fault::UnknownName { kind: "status", name: number.to_string(), suggestion, known };
                reports.add(node.span, fault);
            }
            None => {
                report_kind(node, "the name of a status", Some("write its name: `UNAVAILABLE`"), reports);
            }
        }
        None
    }
}

/// A whole number; its bounds are checked by the resolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Integer(pub(crate) i128);

inline_schema!(Integer, "Integer", { "type": "integer" });

impl Read for Integer {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        if let Value::Integer(value) = node.value {
            return Some(Self(value));
        }
        report_kind(node, "a whole number", None, reports);
        None
    }
}

/// A number, whole or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number(pub(crate) f64);

inline_schema!(Number, "Number", { "type": "number" });

impl Read for Number {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match node.value {
            Value::Float(value) => return Some(Self(value)),
            // Beyond 2^53 the value is rounded, and far out of every bound all the same.
            Value::Integer(value) => return Some(Self(value as f64)),
            _ => report_kind(node, "a number", None, reports),
        }
        None
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag(pub(crate) bool);

inline_schema!(Flag, "Flag", { "type": "boolean" });

impl Read for Flag {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(Self(value));
        }
        report_kind(node, "`true` or `false`", None, reports);
        None
    }
}

/// What is written where it is more than can be held, which every bound refuses.
pub(crate) type TooMuch = Option<Box<str>>;

/// A duration with its unit.
#[derive(Debug, Clone)]
pub(crate) struct RawDuration(pub(crate) Duration, pub(crate) TooMuch);

inline_schema!(RawDuration, "Duration", { "type": "string", "pattern": DURATION_PATTERN });

impl Read for RawDuration {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Text(text) => match parse_duration(text) {
                Ok(duration) => return Some(Self(duration, too_much(text, duration == Duration::MAX))),
                Err(help) => {
                    reports.add(node.span, Fault::InvalidDuration { text: text.clone(), help });
                }
            },
            Value::Integer(number) if *number >= 0 => {
                let text = number.to_string();
                let help = parse_duration(&text).err().unwrap_or_default();
                reports.add(node.span, Fault::InvalidDuration { text, help });
            }
            _ => report_kind(node, "a duration", Some(DURATION_HELP), reports),
        }
        None
    }
}

fn too_much(text: &str, is_too_much: bool) -> TooMuch {
    is_too_much.then(|| text.into())
}

/// A size in bytes.
#[derive(Debug, Clone)]
pub(crate) struct RawSize(pub(crate) u64, pub(crate) TooMuch);

inline_schema!(RawSize, "Size", {
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": SIZE_PATTERN }]
});

impl Read for RawSize {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Integer(bytes) if *bytes >= 0 => {
                let held = u64::try_from(*bytes);
                Some(Self(held.unwrap_or(u64::MAX), too_much(&bytes.to_string(), held.is_err())))
            }
            Value::Text(text) => match parse_size(text) {
                Ok(bytes) => Some(Self(bytes, too_much(text, bytes == u64::MAX))),
                Err(help) => {
                    reports.add(node.span, Fault::InvalidSize { text: text.clone(), help });
                    None
                }
            },
            _ => {
                report_kind(node, "a size", Some(SIZE_HELP), reports);
                None
            }
        }
    }
}

/// A share of something in percent, or a size in bytes.
#[derive(Debug, Clone)]
pub(crate) enum RawShareOrSize {
    Percent(u32, TooMuch),
    Size(RawSize),
}

inline_schema!(RawShareOrSize, "ShareOrSize", {
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": SHARE_OR_SIZE_PATTERN }]
});

impl Read for RawShareOrSize {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.ends_with('%') => {
                let percent = parse_percent(text);
                if percent.is_none() {
                    let help = PERCENT_HELP.to_owned();
                    reports.add(node.span, Fault::InvalidSize { text: text.clone(), help });
                }
                percent.map(|percent| Self::Percent(percent, too_much(text, percent == u32::MAX)))
            }
            _ => RawSize::read(node, reports).map(Self::Size),
        }
    }
}

inline_schema!(Target, "Target", {
    "type": "string",
    "minLength": 1,
    "examples": ["dns:///orders:50051", "ipv4:10.0.0.1:50051,10.0.0.2:50051", "unix:/run/orders.sock"]
});

impl Read for Target {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        if let Value::Integer(_) | Value::Float(_) = node.value {
            report_kind(
                node,
                "a target",
                Some("write host and port, such as `dns:///orders:50051`"),
                reports,
            );
            return None;
        }
        let text = read_text(node, "a target", reports)?;
        Self::parse(text).map_err(|error| reports.add(node.span, Fault::Target(error))).ok()
    }
}

inline_schema!(ListenAddress, "ListenAddress", {
    "type": "string",
    "pattern": "^(unix:.+|[0-9.]+:[0-9]+|\\[[0-9a-fA-F:.%]+\\]:[0-9]+)$",
    "examples": ["0.0.0.0:50051", "[::]:50051", "unix:/run/evenkeel.sock"]
});

impl Read for ListenAddress {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        let number;
        let text = match node.value {
            Value::Integer(port) => {
                number = port.to_string();
                &number
            }
            Value::Float(_) => {
                report_kind(node, "an address to listen on", Some("write it as `0.0.0.0:50051`"), reports);
                return None;
            }
            _ => read_text(node, "an address to listen on", reports)?,
        };
        Self::parse(text).map_err(|error| reports.add(node.span, Fault::ListenAddress(error))).ok()
    }
}

/// Words that mean `off` elsewhere, as in YAML 1.1; here each is a text.
const NEARLY_OFF: [&str; 4] = ["off", "no", "false", "none"];

/// The opposite, which says nothing about the value.
const NEARLY_ON: [&str; 3] = ["on", "yes", "true"];

const ON_HELP: &str = "write `off`, or the value that it is to have";

/// The word `off`, or a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Off<T> {
    Off,
    On(T),
}

impl<T: JsonSchema> JsonSchema for Off<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OffOr{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "off" }, generator.subschema_for::<T>()] })
    }
}

impl<T: Read> Read for Off<T> {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text == "off" => Some(Self::Off),
            Value::Bool(false) => {
                report_kind(node, "a value or `off`", Some("write `off`"), reports);
                None
            }
            Value::Text(text) if NEARLY_OFF.iter().any(|word| text.eq_ignore_ascii_case(word)) => {
                report_kind(node, "a value or `off`", Some("write `off`"), reports);
                None
            }
            Value::Text(text) if NEARLY_ON.iter().any(|word| text.eq_ignore_ascii_case(word)) => {
                report_kind(node, "a value or `off`", Some(ON_HELP), reports);
                None
            }
            _ => T::read(node, reports).map(Self::On),
        }
    }
}

/// One value, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) List<T>);

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

impl<T: Read> Read for OneOrMany<T> {
    fn read(node: &Node, reports: &mut Reports) -> Option<Self> {
        match node.value {
            Value::List(_) => List::read(node, reports).map(Self),
            _ => At::read(node, reports).map(|one| Self(List { entries: vec![one], written: 1 })),
        }
    }
}
