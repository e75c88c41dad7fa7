//! The stage `test`: unit, integration and documentation tests, counted.

use anyhow::Result;

use super::Outcome;
use super::summary::Counts;
use crate::console::say;
use crate::process::{self, Ended, shell};
use crate::workspace::Workspace;

/// Runs all tests of the workspace, also after a failure, so that one run shows all failures.
pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let mut cargo = workspace.cargo(&["test", "--workspace", "--no-fail-fast"]);
    let repeat = shell(&cargo);
    say(&repeat);
    let mut counts = Counts::default();
    let ended = process::watch(&mut cargo, None, &mut |line| {
        say(line);
        counts += result_line(line).unwrap_or_default();
    })?;
    let succeeded = matches!(ended, Ended::Exited(status) if status.success());
    Ok(judge(counts, succeeded, repeat))
}

/// A build that fails, or a test binary that is killed, counts no failed test: then it is one itself. So is a run
/// without any test.
fn judge(mut counts: Counts, succeeded: bool, repeat: String) -> Outcome {
    let ran_none = counts.passed == 0 && counts.failed == 0;
    if (!succeeded && counts.failed == 0) || ran_none {
        counts.failed = 1;
    }
    let repeat = if counts.failed > 0 { repeat } else { String::new() };
    Outcome { counts, repeat, ..Outcome::default() }
}

/// The counts in libtest's closing line: `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; …`.
fn result_line(line: &str) -> Option<Counts> {
    let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")?, skipped: number(" ignored")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_libtests_closing_lines() {
        let line =
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.12s";
        assert_eq!(result_line(line), Some(Counts { passed: 5, failed: 0, skipped: 1 }));
        let line =
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(result_line(line), Some(Counts { passed: 3, failed: 2, skipped: 0 }));
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in
            ["", "running 5 tests", "test a::b ... ok", "test result: ok.", "test result: ok. 5 passed"]
        {
            assert_eq!(result_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_build_that_fails_is_a_failure_without_a_failed_test() {
        let before = Counts { passed: 7, failed: 0, skipped: 0 };
        assert_eq!(judge(before, false, String::new()).counts.failed, 1);
        assert_eq!(judge(before, true, String::new()).counts.failed, 0);
    }

    #[test]
    fn a_run_without_tests_is_a_failure() {
        assert_eq!(judge(Counts::default(), true, "again".to_owned()).counts.failed, 1);
        assert_eq!(judge(Counts { skipped: 9, ..Counts::default() }, true, String::new()).counts.failed, 1);
    }

    #[test]
    fn failed_tests_are_counted_as_they_are_and_say_how_to_repeat_them() {
        let outcome = judge(Counts { passed: 7, failed: 2, skipped: 0 }, false, "again".to_owned());
        assert_eq!((outcome.counts.failed, outcome.repeat.as_str()), (2, "again"));
    }
}
