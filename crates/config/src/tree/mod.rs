//! A YAML document as a tree in which every key and value knows its place in the text.
//!
//! Why not let serde build the raw types at once? A derived `Deserialize` ends at the first value that does not fit, and
//! an unknown key anywhere hides everything else. The tree always comes into being if the text is YAML; then the raw
//! types are read from it and every misfit is reported (see [`raw`](crate::raw)).

mod read;

use std::collections::{HashMap, HashSet};

use crate::errors::Span;

pub(crate) use read::{Budget, read};

/// A value and its place. What an alias repeats has the alias's place: there it means what its path says. The same value is read at
/// the anchor as well, and what is wrong with it by itself is told there only.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// What YAML's core schema knows (YAML 1.2 section 10.3). Only `true` and `false` are booleans: `off` is a word here.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Integers beyond this range are read as [`Value::Float`].
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Key {
    pub(crate) span: Span,
    pub(crate) name: String,
}

impl Value {
    /// What it is, for "expected ..., found ...".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {}", crate::errors::quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }
}

/// The paths of places: of a value, or of a key with its value.
pub(crate) fn paths(root: &Node, wanted: impl Iterator<Item = Span>) -> HashMap<Span, String> {
    let mut search = Search { wanted: wanted.collect(), found: HashMap::new(), path: String::new() };
    search.visit(root);
    search.found
}

struct Search {
    wanted: HashSet<Span>,
    found: HashMap<Span, String>,
    path: String,
}

impl Search {
    fn visit(&mut self, node: &Node) {
        self.note(node.span);
        match &node.value {
            Value::List(entries) => {
                for (index, entry) in entries.iter().enumerate() {
                    self.within(&format!("[{index}]"), |search| search.visit(entry));
                }
            }
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    let dot = if self.path.is_empty() { "" } else { "." };
                    self.within(&format!("{dot}{}", key.name), |search| {
                        search.note(key.span);
                        search.visit(value);
                    });
                }
            }
            _ => {}
        }
    }

    fn within(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }

    fn note(&mut self, span: Span) {
        if self.wanted.contains(&span) {
            self.found.insert(span, self.path.clone());
        }
    }
}
