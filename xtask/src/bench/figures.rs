//! Figures that tests print before they judge them, and the tables made of them.
//!
//! A figure is computed by the test that asserts it, which prints it as a line `figure: claim | bound | measured`; so a
//! figure cannot be one thing in the table and another in the test.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// What a line with a figure has before the figure.
const MARK: &str = "figure: ";

/// A figure of one test, or example.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Figure {
    pub(super) claim: String,
    pub(super) bound: String,
    pub(super) measured: String,
    /// The test's name, without its module.
    pub(super) test: String,
    pub(super) is_kept: bool,
}

impl Figure {
    /// Reads a line of a test's output, if there is a figure in it. It is kept unless a fourth part says `missed`.
    pub(super) fn parse(line: &str, test: &str) -> Option<Self> {
        let (_, figure) = line.split_once(MARK)?;
        let mut cells = figure.split(" | ").map(|cell| cell.trim().to_owned());
        let mut cell = || cells.next().unwrap_or_default();
        let (claim, bound, measured) = (cell(), cell(), cell());
        Some(Self { claim, bound, measured, test: test.to_owned(), is_kept: cell() != "missed" })
    }
}

/// Figures by part, in order.
pub(super) type Parts = Vec<(&'static str, Vec<Figure>)>;

/// Whether all bounds are kept.
pub(super) fn are_kept(parts: &Parts) -> bool {
    parts.iter().flat_map(|(_, figures)| figures).all(|figure| figure.is_kept)
}

/// The tables in Markdown.
pub(super) fn table(parts: &Parts) -> String {
    let mut text = String::new();
    for (title, figures) in parts {
        let _ = write!(text, "\n## {title}\n\n| figure | bound | measured | |\n|---|---|---|---|\n");
        for Figure { claim, bound, measured, is_kept, .. } in figures {
            let verdict = if *is_kept { "kept" } else { "**missed**" };
            let _ = writeln!(text, "| {claim} | {bound} | {measured} | {verdict} |");
        }
        let mut tests: Vec<&str> = figures.iter().map(|figure| figure.test.as_str()).collect();
        tests.dedup();
        let _ = writeln!(
            text,
            "\nBy {}.",
            tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ")
        );
    }
    text
}

/// Writes the figures to `out` (JSON), and `head` with the tables beside it (Markdown).
///
/// # Errors
/// A file cannot be written.
pub(super) fn write(out: &Path, parts: &Parts, head: &str) -> Result<()> {
    let rows: Vec<_> = parts
        .iter()
        .flat_map(|(part, figures)| figures.iter().map(move |figure| (part, figure)))
        .map(|(part, Figure { claim, bound, measured, test, is_kept })| {
            json!({ "part": part, "claim": claim, "bound": bound, "measured": measured, "test": test, "kept": is_kept })
        })
        .collect();
    let text = serde_json::to_string_pretty(&rows).context("writing the figures as JSON")?;
    std::fs::write(out, text + "\n").with_context(|| format!("writing {}", out.display()))?;
    let page = out.with_extension("md");
    std::fs::write(&page, format!("{head}{}", table(parts)))
        .with_context(|| format!("writing {}", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_is_missed_and_the_tests() {
        let figure = Figure {
            claim: "a".to_owned(),
            bound: "b".to_owned(),
            measured: "c".to_owned(),
            test: "t".to_owned(),
            is_kept: false,
        };
        let text = table(&vec![("Part", vec![figure])]);
        assert!(text.contains("| a | b | c | **missed** |\n\nBy `t`.\n"), "{text}");
    }
}
