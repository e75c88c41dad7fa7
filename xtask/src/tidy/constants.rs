//! The rule that constants which documents name exist.
//!
//! A bound that a document quotes by its constant is only worth something while the constant is there: `SECURITY.md` once named
//! four that had long had other names.

use std::collections::BTreeSet;

use super::{Finding, Tree};

/// Every constant that a Markdown file names and that no other file has.
///
/// Named is what stands in backticks, perhaps behind a path, in capitals with an underscore at least. `CHANGELOG.md` tells of
/// what is no more, and is left alone.
pub(crate) fn named_but_gone(tree: &Tree) -> Vec<Finding> {
    let (documents, others): (Vec<_>, Vec<_>) = tree.iter().partition(|(path, _)| path.ends_with(".md"));
    let known: BTreeSet<&str> = others.iter().flat_map(|(_, text)| words(text)).filter(is_constant).collect();
    let mut findings = Vec::new();
    for (path, text) in documents.into_iter().filter(|(path, _)| *path != "CHANGELOG.md") {
        for (index, line) in text.lines().enumerate() {
            // Odd parts stand between backticks.
            for quoted in line.split('`').skip(1).step_by(2) {
                let name = quoted.rsplit("::").next().unwrap_or(quoted);
                if is_constant(&name) && !known.contains(name) {
                    findings.push(Finding {
                        path: path.to_owned(),
                        line: Some(index + 1),
                        rule: "constant-gone",
                        message: format!("`{name}` is in no other file; say what holds now"),
                    });
                }
            }
        }
    }
    findings
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

fn is_constant(word: &&str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.contains('_')
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: (&str, &str) = ("crates/a/src/limits.rs", "pub const PINGS_MAX: u32 = 3;\n");

    fn found(document: &str) -> Vec<(usize, String)> {
        let findings = named_but_gone(&Tree::of(&[CODE, ("SECURITY.md", document)]));
        findings.into_iter().map(|f| (f.line.unwrap(), f.message)).collect()
    }

    #[test]
    fn names_a_constant_that_no_code_has() {
        let found = found("fine\n`PINGS_MAX` and `limits::PONGS_MAX` and `cost::PINGS_MAX`\n");
        let [(2, message)] = found.as_slice() else { panic!("{found:?}") };
        assert!(message.starts_with("`PONGS_MAX` "), "{message}");
    }

    #[test]
    fn what_is_no_constant_or_stands_in_no_backticks_is_left_alone() {
        assert_eq!(found("PONGS_MAX, `READY`, `RFC_9113x`, `--flag`, `a_name`\n"), []);
    }

    #[test]
    fn a_part_of_a_longer_name_does_not_count() {
        assert_eq!(found("`PINGS_MA`\n").len(), 1);
    }

    #[test]
    fn the_changelog_may_name_what_is_gone() {
        assert_eq!(named_but_gone(&Tree::of(&[CODE, ("CHANGELOG.md", "`PONGS_MAX` is gone")])), []);
    }
}
