//! Shows errors to people: the lines in question with a mark under the place.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan,
};

use super::{ConfigError, ConfigErrors, Place};

/// Columns of a report: long lines of help are wrapped.
const WIDTH: usize = 110;

/// Lines that are shown before and after the one in question.
const CONTEXT_LINES: usize = 1;

/// Characters of a line that is shown. Longer ones are not meant for people, and a file can be one line of a mebibyte.
const MAX_LINE_CHARS: usize = 400;

pub(super) fn render(errors: &ConfigErrors, colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(WIDTH)
        .with_context_lines(CONTEXT_LINES)
        .with_links(false);
    let text = printable(&errors.text);
    let lines: Vec<&str> = text.lines().collect();
    let can_be_shown = |place: &Place| {
        let around =
            lines.iter().skip(place.line.saturating_sub(1 + CONTEXT_LINES)).take(1 + 2 * CONTEXT_LINES);
        around.clone().all(|line| line.chars().nth(MAX_LINE_CHARS).is_none())
    };
    let source = NamedSource::new(&*errors.source_name, text.clone());
    let mut out = String::new();
    for error in &errors.errors {
        let places = std::iter::once(&error.place).chain(&error.related);
        let source = places.into_iter().all(can_be_shown).then_some(&source);
        let shown = Shown { error, source, source_name: &errors.source_name };
        // Writing to a string cannot fail; the handler itself fails if a span lies outside of the text.
        if handler.render_report(&mut out, &shown).is_err() {
            out.push_str(&error.fault.to_string());
        }
        out.push('\n');
    }
    out.push_str(&summary(errors));
    out
}

fn summary(errors: &ConfigErrors) -> String {
    let name = &errors.source_name;
    match (errors.errors.len(), errors.omitted) {
        (1, 0) => format!("1 error in {name}\n"),
        (shown, 0) => format!("{shown} errors in {name}\n"),
        (shown, omitted) => format!("{} errors in {name}, of which {shown} are shown\n", shown + omitted),
    }
}

/// The text without control characters, which would reach the terminal. Offsets stay: each is one byte, or the two
/// of U+0080 to U+009F. A carriage return stays at the end of a line only: elsewhere it would let a line hide its beginning.
fn printable(text: &str) -> String {
    let mut rest = text.chars().peekable();
    let mut shown = String::with_capacity(text.len());
    while let Some(c) = rest.next() {
        shown.push(match c {
            '\n' | '\t' => c,
            '\r' if rest.peek() == Some(&'\n') => c,
            _ if c.is_control() && c.len_utf8() == 1 => '?',
            _ if c.is_control() => '\u{a4}',
            _ => c,
        });
    }
    shown
}

/// One error as miette wants it.
struct Shown<'a> {
    error: &'a ConfigError,
    /// The text, if the lines in question can be shown.
    source: Option<&'a NamedSource<String>>,
    source_name: &'a str,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_none() {
            let Place { line, column, path, .. } = &self.error.place;
            write!(f, "{}:{line}:{column}: ", self.source_name)?;
            if !path.is_empty() {
                write!(f, "{path}: ")?;
            }
        }
        self.error.fault.fmt(f)
    }
}

// No `source`: what a fault was caused by is part of its own text.
impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.error.fault.help().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source?;
        let label = |place: &Place, suffix: &str| {
            let text = format!("{}{suffix}", place.path);
            let span = SourceSpan::from((place.offset, place.len));
            LabeledSpan::new_primary_with_span((!text.is_empty()).then_some(text), span)
        };
        let primary = label(&self.error.place, "");
        let related = self.error.related.as_ref().map(|place| {
            let shown = label(place, " (the other one)");
            LabeledSpan::new_with_span(shown.label().map(str::to_owned), *shown.inner())
        });
        Some(Box::new(std::iter::once(primary).chain(related)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced_without_moving_anything() {
        let text = "a\u{1b}[31m\u{85}\tü\r\nhidden\rx\u{7f}\r";
        let shown = printable(text);
        assert_eq!(shown, "a?[31m¤\tü\r\nhidden?x??");
        assert_eq!(shown.len(), text.len());
    }
}
