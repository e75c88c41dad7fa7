//! Rules about lines: how many a file may have, and how they end.

use super::{Finding, Tree};

/// Lines that a Rust file may have at most; a longer one holds more than one thing.
pub(crate) const LINES_MAX: usize = 1_000;

/// Lines above which a Rust file is mentioned, so that it is split before it must be.
pub(crate) const LINES_WANTED: usize = 400;

const _: () = assert!(LINES_WANTED < LINES_MAX, "the note must come before the refusal");

/// Rust files above [`LINES_MAX`].
pub(crate) fn too_long(tree: &Tree) -> Vec<Finding> {
    let message = |lines| format!("{lines} lines, at most {LINES_MAX}; split it by what its parts know");
    longer_than(tree, LINES_MAX, usize::MAX, message)
}

/// Rust files above [`LINES_WANTED`] but not refused: notes, no findings.
pub(crate) fn longer_than_wanted(tree: &Tree) -> Vec<Finding> {
    longer_than(tree, LINES_WANTED, LINES_MAX, |lines| format!("{lines} lines, {LINES_WANTED} wanted"))
}

fn longer_than(tree: &Tree, above: usize, up_to: usize, message: impl Fn(usize) -> String) -> Vec<Finding> {
    let rust = tree.iter().filter(|(path, _)| path.ends_with(".rs"));
    let counted = rust.map(|(path, text)| (path, text.lines().count()));
    let long = counted.filter(|&(_, lines)| lines > above && lines <= up_to);
    long.map(|(path, lines)| Finding {
        path: path.to_owned(),
        line: None,
        rule: "file-length",
        message: message(lines),
    })
    .collect()
}

/// Lines that end in a blank or a tab.
///
/// Snapshots are exempt: they hold a program's output as it is.
pub(crate) fn trailing_whitespace(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| !path.ends_with(".snap")) {
        for (index, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                findings.push(Finding {
                    path: path.to_owned(),
                    line: Some(index + 1),
                    rule: "trailing-whitespace",
                    message: "the line ends in blanks; remove them".to_owned(),
                });
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lines: usize) -> (usize, usize) {
        let text = "x\n".repeat(lines);
        let tree = Tree::of(&[("crates/a/src/lib.rs", &text), ("docs/long.md", &text)]);
        (too_long(&tree).len(), longer_than_wanted(&tree).len())
    }

    #[test]
    fn refuses_rust_files_one_line_above_the_bound_and_notes_those_above_the_wish() {
        assert_eq!(lengths(LINES_WANTED), (0, 0));
        assert_eq!(lengths(LINES_WANTED + 1), (0, 1));
        assert_eq!(lengths(LINES_MAX), (0, 1));
        assert_eq!(lengths(LINES_MAX + 1), (1, 0));
    }

    #[test]
    fn finds_blanks_at_the_end_of_a_line_in_any_text_file() {
        let tree =
            Tree::of(&[("a.md", "fine\nnot \nnor\t\n"), ("b.toml", "x = 1\n"), ("c.snap", "as is \n")]);
        let places: Vec<_> = trailing_whitespace(&tree).into_iter().map(|f| (f.path, f.line)).collect();
        assert_eq!(places, [("a.md".to_owned(), Some(2)), ("a.md".to_owned(), Some(3))]);
    }
}
