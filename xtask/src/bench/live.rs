//! `cargo xtask bench live`: what trouble costs calls to real grpcio backends behind the proxy, in counts.
//!
//! The tests are some of `tests/proxy`, and their figures the lines that they print ([`super::figures`]). Counts are the same
//! on a busy machine, but for those that chance or the moment of a signal decides; these have bounds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::figures::{self, Figure, Parts};
use crate::console::say;
use crate::peers::{self, PeersArgs};
use crate::process::{self, Ended, shell};
use crate::stages::suites;
use crate::workspace::Workspace;

/// How long all tests together may take; they take a minute.
const LIMIT: Duration = Duration::from_secs(10 * 60);

/// Tests of `tests/proxy` on one subject: its title and their names.
struct Part(&'static str, &'static [&'static str]);

#[rustfmt::skip]
const PARTS: [Part; 8] = [
    Part("kill -9 of one of three", &[
        "kill 9 of one of three under load costs what it has and nothing later",
        "kill 9 of one of three under load costs no call that may be repeated",
    ]),
    Part("SIGSTOP of one of three", &["sigstop of one of three under load costs no call that may be repeated"]),
    Part("One of three is slow", &[
        "round_robin and the slow one of three under load",
        "least_request and the slow one of three under load",
        "peak_ewma and the slow one of three under load",
        "prequal and the slow one of three under load",
    ]),
    Part("Sticky keys", &[
        "the same client id meets the same backend through every connection",
        "only the clients of a killed backend move and none fails",
    ]),
    Part("Splits", &["a split keeps its weights and a key its cluster"]),
    Part("Mirrors", &[
        "a mirror gets copies and its death costs no call",
        "a mirror that does not answer delays nothing",
    ]),
    Part("Retries", &[
        "a backend that fails every call costs no call and is ejected",
        "the budget bounds retries when everything fails",
    ]),
    Part("Hedging", &["a frozen backend costs a hedged call nothing but the delay"]),
];

const HEAD: &str = "# Live figures\n\nMade by `cargo xtask bench live --out docs/benchmarks/live.json`: grpcio clients, the proxy \
                    with one worker, and three grpcio backends, all on one machine. Each line is printed by the test of \
                    `tests/proxy` that asserts its bound, named below its table.\n";

/// Runs the tests, prints the tables and writes them to `out` (JSON) and beside it (Markdown). Whether all bounds are kept.
pub(super) fn run(workspace: &Workspace, out: Option<&Path>) -> Result<bool> {
    peers::run(workspace, &PeersArgs::named(vec!["python".to_owned()]))?;
    let binary = suites::build(workspace, false)?.context("the programs to measure do not build")?;
    let mut command = suites::command(workspace, &binary, Path::new("tests/proxy/run.py"));
    command.args(PARTS.iter().flat_map(|Part(_, tests)| *tests));
    say(format_args!("{}", shell(&command)));
    let mut lines = Vec::new();
    let ended = process::watch(&mut command, Some(LIMIT), &mut |line| {
        say(line);
        lines.push(line.to_owned());
    })?;
    let parts = by_part(&read(&lines))?;
    if let Some(out) = out {
        figures::write(&workspace.root().join(out), &parts, HEAD)?;
    }
    Ok(figures::are_kept(&parts) && matches!(ended, Ended::Exited(status) if status.success()))
}

/// Reads the figures in what the suite printed: those of a test stand before its verdict, `ok: NAME (1.0 s)` or `FAILED: NAME (1.0 s)`.
fn read(lines: &[String]) -> Vec<Figure> {
    let (mut figures, mut open) = (Vec::new(), Vec::new());
    for line in lines {
        let verdict = line.split_once(": ").filter(|(word, _)| matches!(*word, "ok" | "FAILED"));
        if let Some((word, name)) = verdict {
            let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
            figures.extend(open.drain(..).map(|figure: Figure| Figure {
                test: name.to_owned(),
                is_kept: figure.is_kept && word == "ok",
                ..figure
            }));
        } else {
            open.extend(Figure::parse(line, ""));
        }
    }
    figures
}

fn by_part(figures: &[Figure]) -> Result<Parts> {
    let mut parts = Parts::new();
    for Part(title, tests) in PARTS {
        let mut of_part = Vec::new();
        for test in tests {
            let before = of_part.len();
            of_part.extend(figures.iter().filter(|figure| figure.test == *test).cloned());
            if of_part.len() == before {
                bail!(
                    "no figure of `{test}`: it was renamed, skipped, or failed before it had one; its lines are above"
                );
            }
        }
        parts.push((title, of_part));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_figures_with_the_verdict_behind_them() {
        let lines = [
            "figure: one | 0 | 0 of 3",
            "something: else",
            "figure: two | 2 | 2",
            "ok: a test (of two figures) (1.5 s)",
            "ok: a silent one (0.1 s)",
            "figure: three | 3 | 4",
            "FAILED: another (1.0 s)",
            "figure: cut | 1 | 1",
        ];
        let figures = read(&lines.map(str::to_owned));
        let told: Vec<_> = figures
            .iter()
            .map(|figure| (figure.claim.as_str(), figure.test.as_str(), figure.is_kept))
            .collect();
        let first = "a test (of two figures)";
        assert_eq!(told, [("one", first, true), ("two", first, true), ("three", "another", false)]);
    }

    #[test]
    fn a_test_without_a_figure_is_named() {
        let error = by_part(&[]).unwrap_err().to_string();
        assert!(error.starts_with("no figure of `kill 9 of one of three"), "{error}");
    }
}
