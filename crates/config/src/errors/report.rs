//! Collects faults while a configuration is read, and turns their places into lines, columns and paths at the end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{ConfigError, ConfigErrors, Fault, MAX_ERRORS, Place};

/// A part of the text, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Span {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// Of an alias, and of all that it repeats: offset and length of what it repeats here.
    pub(crate) repeats: Option<(u32, u32)>,
    /// The number of the key or value in its document, from 1, by which those that aliases repeat are told apart.
    pub(crate) number: u32,
}

impl Span {
    pub(crate) fn new(offset: usize, len: usize) -> Self {
        Self { offset, len, ..Self::default() }
    }

    /// Where it is written: the same for all that repeat it.
    fn source(self) -> Source {
        // Texts are far shorter than 32 bits can say.
        self.repeats.unwrap_or((self.offset as u32, self.len as u32))
    }
}

/// Faults at aliases that are kept until it is known which of them are told at their anchors.
const MAX_AT_ALIASES: usize = 10_000;

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    found: Vec<Found>,
    count: usize,
    omitted: usize,
    at_aliases: Vec<Found>,
    /// Where something is wrong that no alias repeats.
    wrong: HashSet<Source>,
    /// These two are bounded by the document's values.
    useless: Vec<(Used, Found)>,
    useful: HashSet<Used>,
}

/// Where something is written: offset and length.
type Source = (u32, u32);

/// A value, and the whole that aliases share: the same for all uses of the whole.
type Used = (Source, Source);

#[derive(Debug)]
struct Found {
    at: Span,
    fault: Fault,
    related: Option<Span>,
}

impl Reports {
    /// Records a fault.
    pub(crate) fn add(&mut self, at: Span, fault: Fault) {
        self.push(Found { at, fault, related: None });
    }

    /// Records a fault that has to do with a second place.
    pub(crate) fn add_related(&mut self, at: Span, fault: Fault, related: Span) {
        self.push(Found { at, fault, related: Some(related) });
    }

    /// Records that a value of this whole is of no use here, which is a fault unless it is [of use](Self::note_useful) where an alias
    /// repeats the whole, or at its anchor: whoever shares a table of routes between listeners cannot remove what one of them has no
    /// use for.
    pub(crate) fn add_useless(&mut self, (whole, value): (Span, Span), at: Span, fault: Fault) {
        self.useless.push(((whole.source(), value.source()), Found { at, fault, related: None }));
    }

    /// A value of this whole is of use here: see [`Reports::add_useless`].
    pub(crate) fn note_useful(&mut self, (whole, value): (Span, Span)) {
        self.useful.insert((whole.source(), value.source()));
    }

    /// Everything was looked at. What is of no use anywhere is a fault; what is wrong at an anchor is corrected there, for all that
    /// repeat it.
    pub(crate) fn settle(&mut self) {
        for (used, found) in core::mem::take(&mut self.useless) {
            if !self.useful.contains(&used) {
                self.push(found);
            }
        }
        for found in core::mem::take(&mut self.at_aliases) {
            if !self.wrong.contains(&found.at.source()) {
                self.keep(found);
            }
        }
    }

    fn push(&mut self, found: Found) {
        self.count += 1;
        if found.at.repeats.is_none() {
            self.wrong.insert(found.at.source());
            self.keep(found);
        } else if self.at_aliases.len() < MAX_AT_ALIASES {
            self.at_aliases.push(found);
        } else {
            self.omitted += 1;
        }
    }

    fn keep(&mut self, found: Found) {
        if self.found.len() < MAX_ERRORS {
            self.found.push(found);
        } else {
            self.omitted += 1;
        }
    }

    /// How many faults have been found, those included that are not kept.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.at_aliases.is_empty()
    }

    /// Every place that a fault names.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        self.found.iter().flat_map(|found| [Some(found.at), found.related]).flatten()
    }

    /// The report: `paths` has the path of each place, as far as it has one.
    pub(crate) fn finish(
        mut self,
        source_name: &str,
        text: &str,
        paths: &HashMap<Span, String>,
    ) -> ConfigErrors {
        self.found.sort_by_key(|found| found.at.offset);
        let lines = Lines::new(text);
        let place = |span: Span| {
            let (line, column) = lines.position(span.offset);
            let path = paths.get(&span).cloned().unwrap_or_default();
            Place { line, column, path, offset: span.offset, len: span.len }
        };
        let errors = self.found.into_iter().map(|Found { at, fault, related }| ConfigError {
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
