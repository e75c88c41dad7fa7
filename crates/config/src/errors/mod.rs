//! Error reports: everything that is wrong, at once, each fault with its place and a way out.
//!
//! Why all at once: whoever corrects a file one error per attempt needs as many attempts as there are errors. So
//! nothing in this crate returns at the first fault: each step records it in [`Reports`] and goes on with what is sound.
//! Only a text that is no YAML at all is reported alone, because nothing can be known about the rest.

mod fault;
mod help;
mod render;
mod report;
mod text;

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

pub use fault::Fault;
pub(crate) use report::{Lines, Reports, Span};
pub(crate) use text::{closest, quoted};

/// Errors that one report holds; further ones are only counted. Nobody reads more, and a list of 65,536 endpoints that
/// are all wrong must not make as many reports.
pub const MAX_ERRORS: usize = 50;

/// All that is wrong with one configuration: at least one error, ordered by place.
///
/// The `Display` form is one line fit for a log: the first error, and how many there are besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors {
    source_name: Arc<str>,
    /// Shared: the text is kept to show the lines in question, however often the errors are cloned.
    text: Arc<str>,
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl ConfigErrors {
    /// The name given to the text: a path, or `command line`.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// The errors, ordered by place: at least one, at most [`MAX_ERRORS`].
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// How many more there are.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// For people: each error with its line, a mark under the place, and help. With ANSI colours if asked for.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render::render(self, colour)
    }

    /// For programs: an object with `source`, `errors` and `omitted`. Each error has `code`, `line`, `column`, `path`,
    /// `message`, `help` (or null) and, where a second place matters, `related` with `line`, `column` and `path`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let errors: Vec<Value> = self.errors.iter().map(ConfigError::to_json).collect();
        json!({ "source": &*self.source_name, "errors": errors, "omitted": self.omitted })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.errors.first() else { return Ok(()) };
        let Place { line, column, path, .. } = &first.place;
        write!(f, "{}:{line}:{column}: ", self.source_name)?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "{}", first.fault)?;
        if let Some(help) = first.fault.help() {
            write!(f, "; {help}")?;
        }
        match self.errors.len() - 1 + self.omitted {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more error)"),
            more => write!(f, " (and {more} more errors)"),
        }
    }
}

impl std::error::Error for ConfigErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.errors.first().map(|first| &first.fault as _)
    }
}

/// One error: what is wrong and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Where it is.
    pub place: Place,
    /// What is wrong there.
    pub fault: Fault,
    /// The other place that it has to do with, such as the first of two equal names.
    pub related: Option<Place>,
}

impl ConfigError {
    fn to_json(&self) -> Value {
        let Place { line, column, path, .. } = &self.place;
        let mut object = json!({
            "code": self.fault.code(),
            "line": line,
            "column": column,
            "path": path,
            "message": self.fault.to_string(),
            "help": self.fault.help(),
        });
        if let Some(Place { line, column, path, .. }) = &self.related {
            object["related"] = json!({ "line": line, "column": column, "path": path });
        }
        object
    }
}

/// A place in the text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The way from the top, such as `listeners[0].routes[1].cluster`; empty for the top itself. On the command line,
    /// the argument's name.
    pub path: String,
    /// First byte of the text that is meant.
    pub offset: usize,
    /// How many bytes are meant; 0 where something is missing.
    pub len: usize,
}
