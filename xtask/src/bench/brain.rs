//! `cargo xtask bench brain`: every figure of the balancing brain, beside what it must be.
//!
//! Runs the tests that print the figures ([`super::figures`]), one after the other, and makes a table of their lines. All follow
//! from seeds: they are the same on every machine.
//!
//! The figures of picks and of changes of one endpoint are times, and are measured by examples that print such lines too, with
//! a fourth part, `missed`, where the bound is not kept. They mean something on a quiet machine only.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use super::figures::{self, Figure, Parts};
use crate::console::say;
use crate::process::{self, shell};
use crate::workspace::Workspace;

/// Tests of one part of the brain: its title, Cargo's arguments for their binary, and the tests.
struct Part(&'static str, &'static [&'static str], &'static [&'static str]);

const BALANCE: [&str; 3] = ["-p", "evenkeel-balance", "--lib"];

#[rustfmt::skip]
const PARTS: [Part; 8] = [
    Part("Policies against theory", &BALANCE, &[
        "policy::least_request::tests::queues_are_as_short_as_theory_says",
        "policy::least_request::tests::many::a_full_scan_of_many_leaves_hardly_a_queue",
        "policy::weighted_round_robin::tests::static_weights::picks_are_exact_over_any_period",
        "policy::consistent::tests::when_one_of_n_leaves_its_keys_move_and_few_others",
        "policy::consistent::tests::hot_keys_stay_within_the_bound_and_the_others_at_home",
        "subset::of_list::tests::one_endpoint_more_or_less_changes_one_entry_of_a_random_subset_at_most",
        "subset::of_list::tests::random_subsets_load_endpoints_as_chance_has_it",
        "subset::of_list::tests::deterministic_subsets_load_all_endpoints_alike",
    ]),
    Part("Slow backends", &BALANCE, &[
        "policy::prequal::tests::simulated::a_ten_times_slower_server_loses_its_share_within_five_seconds",
        "policy::prequal::tests::simulated::the_tail_is_shorter_than_with_other_policies_where_servers_differ",
        "policy::peak_ewma::tests::a_ten_times_slower_server_loses_its_share_within_five_seconds",
    ]),
    Part("prequal in the testbed of its paper, antagonised servers of two kinds", &["-p", "evenkeel-balance", "--test", "prequal_figures"], &[
        "the_tail_at_nine_tenths_of_the_capacity_is_shorter_than_with_any_other_policy",
        "no_call_fails_up_to_1_74_times_the_allocation",
        "weighted_round_robin_fails_calls_above_the_allocation",
    ]),
    Part("Outlier detection", &BALANCE, &[
        "outlier::tests::simulated::a_backend_that_fails_every_call_is_out_within_a_second_and_hardly_hit_again",
        "outlier::tests::simulated::an_hour_at_one_percent_errors_ejects_nobody",
    ]),
    Part("Retries and hedging", &BALANCE, &[
        "retry::tests::simulated::where_all_backends_fail_half_their_calls_attempts_per_call_stay_within_the_budget",
        "retry::tests::simulated::hedging_cuts_the_tail_to_a_fifth_for_a_twentieth_more_calls",
    ]),
    Part("Overload", &BALANCE, &[
        "limit::tests::overload::a_metastable_overload_ends_within_ten_seconds_of_its_cause",
    ]),
    Part("Splits", &["-p", "evenkeel-proxy", "--lib"], &[
        "worker::route::split::tests::a_split_keeps_its_weights_within_one_point",
    ]),
    Part("Canaries, 100 seeds each", &BALANCE, &[
        "canary::tests::simulated::an_equal_version_is_promoted_and_never_rolled_back",
        "canary::tests::simulated::a_version_with_two_percent_more_errors_is_rolled_back",
        "canary::tests::simulated::two_percent_more_errors_are_found_with_a_tenth_of_the_traffic_too",
        "canary::tests::simulated::a_version_that_fails_every_call_is_gone_within_seconds",
        "canary::tests::simulated::trouble_of_both_versions_speaks_against_neither",
    ]),
];

/// What examples time: a title, the package and the example.
const TIMED: [(&str, &str, &str); 2] = [
    ("Picks, least of 500 runs, and changes of one endpoint", "evenkeel-balance", "pick_cost"),
    (
        "A snapshot with one endpoint more or less, the worker's part of it included",
        "evenkeel-proxy",
        "apply_cost",
    ),
];

/// What stands above the tables.
fn head(with_picks: bool) -> String {
    let picks = if with_picks { " --picks" } else { "" };
    format!(
        "# Figures of the balancing brain\n\nMade by `cargo xtask bench brain{picks} --out docs/benchmarks/brain.json`. Each \
         line is printed by the test that asserts its bound, named below its table; all but the picks' follow from seeds.\n"
    )
}

/// Runs the tests, prints the table and writes it to `out` (JSON) and beside it (Markdown). Whether all bounds are kept.
pub(super) fn run(workspace: &Workspace, with_picks: bool, out: Option<&Path>) -> Result<bool> {
    let mut parts = Parts::new();
    for Part(title, binary, tests) in PARTS {
        parts.push((title, figures_of(workspace, binary, tests)?));
    }
    if with_picks {
        for (title, package, example) in TIMED {
            parts.push((title, timed_figures(workspace, package, example)?));
        }
    }
    say(figures::table(&parts));
    if let Some(out) = out {
        figures::write(&workspace.root().join(out), &parts, &head(with_picks))?;
    }
    Ok(figures::are_kept(&parts))
}

fn figures_of(workspace: &Workspace, binary: &[&str], tests: &[&str]) -> Result<Vec<Figure>> {
    let mut command = workspace.command("cargo", &["test", "--quiet"]);
    // In the terse form of --quiet the names of the tests are left out, hence the format.
    command.args(binary).args(["--", "--nocapture", "--test-threads=1", "--format=pretty", "--exact"]);
    command.args(tests);
    say(format_args!("{}", shell(&command)));
    let (_, text) = process::captured(&mut command)?;
    let figures = read(&text, None);
    let missing: Vec<&&str> =
        tests.iter().filter(|test| !figures.iter().any(|figure| test.ends_with(&figure.test))).collect();
    if !missing.is_empty() {
        bail!("no figure of {missing:?}: they were renamed, or do not build; run the command above");
    }
    Ok(figures)
}

fn timed_figures(workspace: &Workspace, package: &str, example: &str) -> Result<Vec<Figure>> {
    let arguments = ["run", "--release", "--quiet", "-p", package, "--example", example];
    let mut command = workspace.command("cargo", &arguments);
    say(format_args!("{}", shell(&command)));
    let (is_well, text) = process::captured(&mut command)?;
    let figures = read(&text, Some(example));
    if !is_well || figures.is_empty() {
        bail!("`{}` failed", shell(&command));
    }
    Ok(figures)
}

/// Reads the figures in what tests, or this example, wrote. Those of a test that failed are not kept.
fn read(text: &str, example: Option<&str>) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut verdicts: BTreeMap<String, bool> = BTreeMap::new();
    let mut test = example.unwrap_or_default().to_owned();
    for line in text.lines() {
        // The test harness writes `test NAME ... `, and the verdict behind it, or on a line after the test's own output.
        let rest = match line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            Some((name, rest)) => {
                test = name.rsplit("::").next().unwrap_or(name).to_owned();
                rest
            }
            None => line,
        };
        if let Some(figure) = Figure::parse(rest, &test) {
            figures.push(figure);
        } else if rest == "ok" || rest == "FAILED" {
            verdicts.insert(test.clone(), rest == "ok");
        }
    }
    for figure in &mut figures {
        figure.is_kept &= verdicts.get(&figure.test).copied().unwrap_or(example.is_some());
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_figures_with_the_verdict_of_their_test() {
        let text = "running 3 tests\n\
                    test a::b::good ... figure: one | at most 1 | 0.5\n\
                    something else\n\
                    figure: two | 2 | 2 of 2\n\
                    ok\n\
                    test a::silent ... ok\n\
                    test a::bad ... figure: three | 3 | 4\n\
                    FAILED\n";
        let figures = read(text, None);
        let told: Vec<_> = figures
            .iter()
            .map(|figure| (figure.claim.as_str(), figure.test.as_str(), figure.is_kept))
            .collect();
        assert_eq!(told, [("one", "good", true), ("two", "good", true), ("three", "bad", false)]);
        assert_eq!((figures[1].bound.as_str(), figures[1].measured.as_str()), ("2", "2 of 2"));
    }

    #[test]
    fn a_test_that_never_ended_kept_nothing() {
        assert!(!read("test a::b ... figure: one | 1 | 1\n", None)[0].is_kept);
    }

    #[test]
    fn an_example_says_itself_what_it_missed() {
        let text = "figure: pick | at most 100 ns | 90 ns\nfigure: pick | at most 100 ns | 101 ns | missed\n";
        let figures = read(text, Some("pick_cost"));
        assert_eq!(figures.iter().map(|figure| figure.is_kept).collect::<Vec<_>>(), [true, false]);
    }
}
