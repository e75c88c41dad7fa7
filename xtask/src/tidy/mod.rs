//! `cargo xtask tidy`: the house rules that no compiler lint knows.
//!
//! Why: a rule that is only written down is forgotten. Each rule here is a function from the project's files to
//! findings, so that its tests can show both that it fires and that it stays silent. The rules:
//!
//! | rule | what it refuses | where |
//! |---|---|---|
//! | `file-length` | Rust files above [`lines::LINES_MAX`] lines (above [`lines::LINES_WANTED`]: a note) | [`lines`] |
//! | `trailing-whitespace` | blanks at the end of a line | [`lines`] |
//! | `unfinished` | marks for work left undone | [`words`] |
//! | `ignored-test` | tests switched off without a reason | [`words`] |
//! | `registry-host`, `machine-path` | what ties the project to one network or one machine | [`words`] |
//! | `module-docs`, `module-layout` | modules without `//!`, `foo.rs` beside `foo/` | [`modules`] |
//! | `constant-gone` | documents that name a constant which no code has | [`constants`] |
//! | `workspace-lints`, `workspace-dependency` | crates that go their own way | [`manifests`] |
//! | `purity` | a lock, clock, thread or file in a pure crate's sources; a runtime or a socket in its tree | [`purity`] |

pub(crate) mod constants;
pub(crate) mod lines;
pub(crate) mod manifests;
pub(crate) mod modules;
pub(crate) mod purity;
pub(crate) mod words;

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};

use crate::console::say;
use crate::workspace::Workspace;

/// One place where a rule is broken, or nearly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root of the checkout; for `purity` the crate.
    pub(crate) path: String,
    /// The line, counted from 1; `None` if the file as a whole is meant.
    pub(crate) line: Option<usize>,
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// What is wrong and what to do.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}: {}", self.path, self.rule, self.message),
            None => write!(f, "{}: {}: {}", self.path, self.rule, self.message),
        }
    }
}

/// The project's text files: path from the root of the checkout, and contents.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads all files that are or would be committed, binary ones aside.
    fn read(workspace: &Workspace) -> Result<Self> {
        let mut files = BTreeMap::new();
        for path in workspace.files()? {
            let bytes =
                std::fs::read(workspace.root().join(&path)).with_context(|| format!("reading {path}"))?;
            // Archives, pictures and fuzz corpora are not text; no rule here has anything to say about them.
            if let (false, Ok(text)) = (bytes.contains(&0), String::from_utf8(bytes)) {
                files.insert(path, text);
            }
        }
        Ok(Self { files })
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self { files: files.iter().map(own).collect() }
    }
}

/// Checks the whole checkout, prints what it found, and says whether every rule is kept.
///
/// # Errors
/// The files or the dependency trees cannot be read.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let tree = Tree::read(workspace)?;
    let mut findings = lines::too_long(&tree);
    findings.extend(lines::trailing_whitespace(&tree));
    findings.extend(words::check(&tree));
    findings.extend(constants::named_but_gone(&tree));
    findings.extend(modules::undocumented(&tree));
    findings.extend(modules::beside_their_folder(&tree));
    findings.extend(manifests::check(&tree)?);
    findings.extend(purity::in_sources(&tree));
    findings.extend(purity::check(workspace)?);
    findings.sort();
    for note in lines::longer_than_wanted(&tree) {
        say(format_args!("note: {note}"));
    }
    for finding in &findings {
        say(finding);
    }
    if findings.is_empty() {
        say(format_args!("tidy: {} files keep every rule", tree.files.len()));
    } else {
        say(format_args!("tidy: {} findings", findings.len()));
    }
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_points_where_an_editor_can_jump() {
        let mut finding = Finding {
            path: "a.rs".into(),
            line: Some(7),
            rule: "some-rule",
            message: "wrong; right it".into(),
        };
        assert_eq!(finding.to_string(), "a.rs:7: some-rule: wrong; right it");
        finding.line = None;
        assert_eq!(finding.to_string(), "a.rs: some-rule: wrong; right it");
    }
}
