//! Collects faults while a configuration is read, and turns their places into lines, columns and paths at the end.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ConfigError, ConfigErrors, Fault, MAX_ERRORS, Place};

/// A part of the text, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// Of an alias, and of all that it repeats: offset and length of what it repeats here, by which one is known from the others.
    pub(crate) repeats: Option<(u32, u32)>,
}

impl Span {
    pub(crate) fn new(offset: usize, len: usize) -> Self {
        Self { offset, len, repeats: None }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    found: Vec<(Span, Fault, Option<Span>)>,
    omitted: usize,
}

impl Reports {
    /// Records a fault.
    pub(crate) fn add(&mut self, at: Span, fault: Fault) {
        self.push(at, fault, None);
    }

    /// Records a fault that has to do with a second place.
    pub(crate) fn add_related(&mut self, at: Span, fault: Fault, related: Span) {
        self.push(at, fault, Some(related));
    }

    fn push(&mut self, at: Span, fault: Fault, related: Option<Span>) {
        if self.found.len() < MAX_ERRORS {
            self.found.push((at, fault, related));
        } else {
            self.omitted += 1;
        }
    }

    /// How many faults have been found, those included that are not kept.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.omitted
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Every place that a fault names.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        self.found.iter().flat_map(|(at, _, related)| [Some(*at), *related]).flatten()
    }

    /// The report: `paths` has the path of each place, as far as it has one.
    pub(crate) fn finish(
        mut self,
        source_name: &str,
        text: &str,
        paths: &HashMap<Span, String>,
    ) -> ConfigErrors {
        self.found.sort_by_key(|(at, ..)| at.offset);
        let lines = Lines::new(text);
        let place = |span: Span| {
            let (line, column) = lines.position(span.offset);
            let path = paths.get(&span).cloned().unwrap_or_default();
            Place { line, column, path, offset: span.offset, len: span.len }
        };
        let errors = self.found.into_iter().map(|(at, fault, related)| ConfigError {
            place: place(at),
            fault,
            related: related.map(place),
        });
        ConfigErrors {
            source_name: Arc::from(source_name),
            errors: errors.collect(),
            text: Arc::from(text),
            omitted: self.omitted,
        }
    }
}

/// Where each line begins.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The line and the column of a byte, both counted from 1, the column in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The byte at a line and column, both counted from 1; the end of the line or text if it is shorter.
    pub(crate) fn offset(&self, line: usize, column: usize) -> usize {
        let Some(start) = line.checked_sub(1).and_then(|index| self.starts.get(index)) else {
            return self.text.len();
        };
        let rest = &self.text[*start..];
        let within = rest.split('\n').next().unwrap_or(rest);
        let before = within.char_indices().nth(column.saturating_sub(1)).map_or(within.len(), |(at, _)| at);
        start + before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_from_one_in_characters() {
        let lines = Lines::new("ab\nüx\n");
        assert_eq!(lines.position(0), (1, 1));
        assert_eq!(lines.position(2), (1, 3));
        assert_eq!(lines.position(3), (2, 1));
        assert_eq!(lines.position(5), (2, 2));
        assert_eq!(lines.position(7), (3, 1));
        assert_eq!(lines.position(99), (3, 1), "beyond the end");
        for offset in [0, 1, 2, 3, 5, 6, 7] {
            let (line, column) = lines.position(offset);
            assert_eq!(lines.offset(line, column), offset);
        }
        assert_eq!(lines.offset(1, 99), 2);
        assert_eq!(lines.offset(99, 1), 7);
        assert_eq!(Lines::new("").position(0), (1, 1));
    }

    #[test]
    fn errors_beyond_the_bound_are_counted() {
        let mut reports = Reports::default();
        for offset in 0..MAX_ERRORS + 2 {
            reports.add(Span::new(offset, 1), Fault::UnreachableRoute { is_mutual: false });
        }
        let errors = reports.finish("x", "", &HashMap::new());
        assert_eq!((errors.errors().len(), errors.omitted()), (MAX_ERRORS, 2));
        assert!(errors.to_string().ends_with("(and 51 more errors)"), "{errors}");
    }
}
