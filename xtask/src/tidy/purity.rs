//! Purity: no runtime and no socket in what a pure crate is built from.
//!
//! Pure means: no runtime, socket, clock, thread, lock or global random numbers; time, randomness and bytes come in as
//! arguments. Clippy's disallowed methods keep the crate's own code pure. This rule keeps out libraries that would bring
//! the rest in by the back door.
//!
//! Why `cargo tree` and not `cargo metadata`? The latter switches on, for one crate, the features that any other member
//! of the workspace asks for, and so blames it for their dependencies.

use anyhow::{Context, Result};

use super::Finding;
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

    #[test]
    fn refuses_output_that_it_does_not_understand() {
        let error = violations("evenkeel-sim v0.1.0\n").unwrap_err();
        assert_eq!(error.to_string(), "`cargo tree` wrote a strange line: evenkeel-sim v0.1.0");
    }
}
