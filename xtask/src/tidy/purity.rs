//! Purity: no runtime, socket, clock, thread or lock in a pure crate, nor in what it is built from.
//!
//! Pure means: time, randomness and bytes come in as arguments, and nothing waits. Two rules: the names of the standard
//! library that stand for the contrary are refused in the sources, tests aside; and libraries that would bring the rest in by
//! the back door are refused in the dependency tree. Global random numbers are a matter of clippy's disallowed methods.
//!
//! Atomics are no locks: endpoints count the calls of all workers with them. `telemetry` is built from pure libraries
//! only, but its own sources are not looked at: scrapers and workers share its tables, and the access log has a thread.
//!
//! Why `cargo tree` and not `cargo metadata`? The latter switches on, for one crate, the features that any other member
//! of the workspace asks for, and so blames it for their dependencies.

use anyhow::{Context, Result};

use super::{Finding, Tree};
use crate::process;
use crate::workspace::Workspace;

/// A crate that must be pure.
struct Pure {
    name: &'static str,
    /// Dependencies whose own trees do not count, because only their pure part is driven.
    not_through: &'static [&'static str],
}

const PURE: [Pure; 6] = [
    Pure { name: "evenkeel-http2", not_through: &[] },
    Pure { name: "evenkeel-grpc", not_through: &[] },
    Pure { name: "evenkeel-balance", not_through: &[] },
    Pure { name: "evenkeel-config", not_through: &[] },
    Pure { name: "evenkeel-telemetry", not_through: &[] },
    // The simulator drives the proxy's worker, which is pure; the drivers around it, in the same crate, are not. They and
    // their resolver switch on features of `rand` that no pure crate asks for; those crates' own trees show that.
    Pure { name: "evenkeel-sim", not_through: &["evenkeel-proxy", "rand"] },
];

/// Libraries that read a clock, start threads, or open sockets or files.
const FORBIDDEN: [&str; 12] = [
    "async-io",
    "axum",
    "getrandom",
    "hyper",
    "hyper-util",
    "mio",
    "nix",
    "polling",
    "rustix",
    "socket2",
    "tokio",
    "tonic",
];

/// Folders whose sources must be pure: those of the pure crates, and the proxy's worker.
const SOURCES: [&str; 6] = [
    "crates/balance/src/",
    "crates/config/src/",
    "crates/grpc/src/",
    "crates/http2/src/",
    "crates/proxy/src/worker/",
    "crates/sim/src/",
];

/// Names that a pure source has no use for.
const IMPURE: [&str; 25] = [
    "Barrier",
    "Condvar",
    "Instant",
    "LazyLock",
    "Mutex",
    "OnceLock",
    "RwLock",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "mpsc",
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::sync::Once",
    "std::thread",
    "thread::Builder",
    "thread::scope",
    "thread::sleep",
    "thread::spawn",
];

/// What of those is no matter of threads: whether a destructor runs because of a panic.
const PURE_AFTER_ALL: &str = "std::thread::panicking()";

/// Impure names in the sources of the pure crates and of the worker.
pub(crate) fn in_sources(tree: &Tree) -> Vec<Finding> {
    let is_pure = |path: &str| {
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        path.ends_with(".rs") && !is_test && SOURCES.iter().any(|folder| path.starts_with(folder))
    };
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| is_pure(path)) {
        // Tests stand at the end of a file.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in (1..).zip(code.lines()) {
            let line = line.split("//").next().unwrap_or_default().replace(PURE_AFTER_ALL, "");
            findings.extend(IMPURE.iter().filter(|name| has_name(&line, name)).map(|name| Finding {
                path: path.to_owned(),
                line: Some(number),
                rule: "purity",
                message: format!(
                    "must be pure, but names {name}: let the driver have it, and pass what it gives"
                ),
            }));
        }
    }
    findings
}

/// Whether the line has the name as a word of its own.
fn has_name(line: &str, name: &str) -> bool {
    let is_word = |text: Option<char>| text.is_some_and(|char| char.is_alphanumeric() || char == '_');
    line.match_indices(name).any(|(at, found)| {
        !is_word(line[..at].chars().next_back()) && !is_word(line[at + found.len()..].chars().next())
    })
}

/// Findings in the dependency trees of all pure crates.
///
/// # Errors
/// `cargo tree` fails, for example because a pure crate was renamed.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for pure in &PURE {
        let mut cargo = workspace.cargo(&["tree", "--quiet", "--package", pure.name]);
        cargo.args(["--edges", "normal", "--prefix", "depth", "--format", " {p}"]);
        for pruned in pure.not_through {
            cargo.args(["--prune", pruned]);
        }
        let tree = process::output(&mut cargo)
            .with_context(|| format!("reading the dependency tree of {}", pure.name))?;
        findings.extend(violations(&tree)?);
    }
    Ok(findings)
}

/// The forbidden libraries in one tree, each with the way that leads there.
///
/// The tree has one package per line: how deep it lies, its name, its version. A package that occurs again is listed
/// again, but without its own dependencies, so each way is complete where it first occurs.
fn violations(tree: &str) -> Result<Vec<Finding>> {
    let mut way: Vec<&str> = Vec::new();
    let mut findings = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, name) =
            parse(line).with_context(|| format!("`cargo tree` wrote a strange line: {line}"))?;
        way.truncate(depth);
        way.push(name);
        if FORBIDDEN.contains(&name) {
            findings.push(Finding {
                path: way[0].to_owned(),
                line: None,
                rule: "purity",
                message: format!("must be pure, but depends on {name} ({})", way.join(" -> ")),
            });
        }
    }
    findings.sort();
    findings.dedup();
    Ok(findings)
}

fn parse(line: &str) -> Option<(usize, &str)> {
    let mut words = line.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0 evenkeel-sim v0.1.0 (path)\n1 evenkeel-http2 v0.1.0 (path)\n2 hashbrown v0.17.1\n\
                        1 rand v0.10.3\n2 rand_core v0.10.0\n";

    #[test]
    fn a_tree_of_pure_libraries_is_fine() {
        assert_eq!(violations(TREE).unwrap(), []);
    }

    #[test]
    fn finds_a_forbidden_library_and_shows_the_way_to_it() {
        let tree = format!("{TREE}1 notify v8.2.1\n2 mio v1.2.4\n2 walkdir v2.5.0\n");
        let findings = violations(&tree).unwrap();
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].to_string(),
            "evenkeel-sim: purity: must be pure, but depends on mio (evenkeel-sim -> notify -> mio)"
        );
    }

    #[test]
    fn finds_every_forbidden_library() {
        for name in FORBIDDEN {
            assert_eq!(violations(&format!("{TREE}2 {name} v1.0.0 (*)\n")).unwrap().len(), 1, "{name}");
        }
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_library() {
        assert_eq!(violations(&format!("{TREE}1 tokio-util v0.7.20\n1 mio2 v1.0.0\n")).unwrap(), []);
    }

    fn impure(path: &str, text: &str) -> Vec<String> {
        in_sources(&Tree::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_every_impure_name_in_every_pure_folder() {
        for folder in SOURCES {
            let path = format!("{folder}deep/mod.rs");
            for name in IMPURE {
                let found = impure(&path, &format!("\nuse x::{name};\n"));
                let told = format!("{path}:2: purity: must be pure, but names {name}: ");
                assert!(found.iter().any(|line| line.starts_with(&told)), "{name}: {found:?}");
            }
        }
    }

    #[test]
    fn comments_tests_and_names_that_only_contain_one_are_fine() {
        let path = "crates/http2/src/lib.rs";
        for text in [
            "// No Mutex is needed.\n",
            "struct Instantly;\nfn lock_mutex(MutexLike: u8) {}\n",
            "if std::thread::panicking() {}\n",
            "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n",
        ] {
            assert_eq!(impure(path, text), Vec::<String>::new());
        }
        let lock = "use std::sync::Mutex;\n";
        assert_eq!(impure(path, lock).len(), 1);
        for other in
            ["crates/proxy/src/driver/mod.rs", "crates/http2/src/tests.rs", "crates/http2/src/tests/a.rs"]
        {
            assert_eq!(impure(other, lock), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn refuses_output_that_it_does_not_understand() {
        let error = violations("evenkeel-sim v0.1.0\n").unwrap_err();
        assert_eq!(error.to_string(), "`cargo tree` wrote a strange line: evenkeel-sim v0.1.0");
    }
}
