//! Rules about modules: each says what it is for, and a module with parts lives in a folder.

use std::collections::BTreeSet;

use super::{Finding, Tree};

/// Modules whose first line is no `//!` documentation; files and folders called `tests` are exempt.
pub(crate) fn undocumented(tree: &Tree) -> Vec<Finding> {
    let modules = tree.iter().filter(|(path, _)| is_module(path));
    modules
        .filter(|(_, text)| !text.lines().next().is_some_and(|line| line.starts_with("//! ")))
        .map(|(path, _)| Finding {
            path: path.to_owned(),
            line: Some(1),
            rule: "module-docs",
            message: "the first line is no `//!` documentation; say what the module is for and why"
                .to_owned(),
        })
        .collect()
}

/// Files `foo.rs` that stand beside a folder `foo/`: one module in two places.
pub(crate) fn beside_their_folder(tree: &Tree) -> Vec<Finding> {
    let folders: BTreeSet<&str> =
        tree.iter().filter_map(|(path, _)| path.rsplit_once('/').map(|(folder, _)| folder)).collect();
    let sources = tree.iter().filter(|(path, _)| source_path(path).is_some());
    let split = sources.filter_map(|(path, _)| {
        let folder = path.strip_suffix(".rs")?;
        folders.contains(folder).then(|| Finding {
            path: path.to_owned(),
            line: None,
            rule: "module-layout",
            message: format!("stands beside the folder {folder}/; move it to {folder}/mod.rs"),
        })
    });
    split.collect()
}

fn is_module(path: &str) -> bool {
    let is_tests = |part: &str| part == "tests" || part == "tests.rs";
    source_path(path).is_some_and(|inside| inside.ends_with(".rs") && !inside.split('/').any(is_tests))
}

/// The part of the path below a crate's `src/`.
fn source_path(path: &str) -> Option<&str> {
    let inside =
        path.strip_prefix("xtask/").or_else(|| path.strip_prefix("crates/")?.split_once('/').map(|c| c.1));
    inside?.strip_prefix("src/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(findings: Vec<Finding>) -> Vec<String> {
        findings.into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn finds_modules_that_do_not_begin_with_documentation() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "//! What it is for.\n"),
            ("crates/a/src/bare.rs", "use std::fmt;\n"),
            ("crates/a/src/deep/late.rs", "#![allow(x)]\n//! Too late.\n"),
            ("crates/a/src/empty.rs", ""),
            ("crates/a/src/hollow.rs", "//!\n"),
            ("xtask/src/main.rs", "fn main() {}\n"),
        ]);
        let bare =
            ["bare.rs", "deep/late.rs", "empty.rs", "hollow.rs"].map(|name| format!("crates/a/src/{name}"));
        let expected: Vec<String> = bare.into_iter().chain(["xtask/src/main.rs".to_owned()]).collect();
        assert_eq!(paths(undocumented(&tree)), expected);
    }

    #[test]
    fn tests_and_build_scripts_need_no_documentation() {
        let tree = Tree::of(&[
            ("crates/a/src/tests.rs", "use super::*;\n"),
            ("crates/a/src/x/tests/edge.rs", "use super::*;\n"),
            ("crates/a/tests/end.rs", "use a::*;\n"),
            ("crates/a/build.rs", "fn main() {}\n"),
            ("crates/a/src/notes.txt", "plain\n"),
        ]);
        assert_eq!(undocumented(&tree), []);
    }

    #[test]
    fn finds_a_module_in_two_places() {
        let tree = Tree::of(&[
            ("crates/a/src/frame.rs", ""),
            ("crates/a/src/frame/data.rs", ""),
            ("crates/a/src/flow/mod.rs", ""),
            ("crates/a/src/flow/send.rs", ""),
            ("crates/a/src/flower.rs", ""),
        ]);
        assert_eq!(paths(beside_their_folder(&tree)), ["crates/a/src/frame.rs"]);
    }
}
