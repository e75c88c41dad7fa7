//! What a test run says in the end: a table of stages, what to repeat, what was skipped, and the count.

use std::fmt;
use std::ops::AddAssign;

use super::Outcome;

/// Numbers of tests. A stage without tests of its own counts as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// The closing line, whose form other programs read: it must stand alone on its line.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Counts {
    /// Reads a closing line; the skipped may be missing from it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut counts = Self::default();
        let mut expected = ["passed", "failed", "skipped"].into_iter();
        for part in line.trim().split(", ") {
            let (number, word) = part.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match expected.next().filter(|&next| next == word)? {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                _skipped => counts.skipped = number,
            }
        }
        // Passed and failed have both been there.
        (expected.len() <= 1).then_some(counts)
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// It could not run here, or was left out.
    Skipped,
    /// A stage before it failed.
    NotRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` heeds the width that the table asks for.
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        })
    }
}

/// All stages of a run.
#[derive(Debug, Default)]
pub(super) struct Summary {
    rows: Vec<(String, Verdict, String)>,
    counts: Counts,
    skipped: Vec<String>,
    repeat: Option<String>,
}

impl Summary {
    pub(super) fn add(&mut self, stage: String, outcome: Outcome, took: &str) {
        let verdict = outcome.verdict();
        if verdict == Verdict::Failed {
            self.repeat = Some(format!("failed: {stage}; to repeat it: {}", outcome.repeat));
        }
        self.rows.push((stage, verdict, took.to_owned()));
        self.counts += outcome.counts;
        self.skipped.extend(outcome.skipped);
    }

    pub(super) fn add_not_run(&mut self, stage: String) {
        self.rows.push((stage, Verdict::NotRun, String::new()));
    }

    pub(super) fn failed(&self) -> bool {
        self.counts.failed > 0
    }

    /// The report, line by line, the count last.
    pub(super) fn lines(&self) -> Vec<String> {
        let rows = self.rows.iter().map(|(stage, verdict, took)| format!("{stage:8}{verdict:9}{took}"));
        let mut lines: Vec<String> = rows.map(|row| row.trim_end().to_owned()).collect();
        lines.extend(self.repeat.clone());
        lines.extend(self.skipped.iter().map(|what| format!("skipped: {what}")));
        lines.push(self.counts.to_string());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_closing_line_that_it_writes() {
        let counts = Counts { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(Counts::parse(&counts.to_string()), Some(counts));
        assert_eq!(Counts::parse("4 passed, 1 failed"), Some(Counts { passed: 4, failed: 1, skipped: 0 }));
    }

    #[test]
    fn other_lines_are_no_closing_lines() {
        for line in [
            "",
            "4 passed",
            "4 failed, 4 passed",
            "4 passed, 1 skipped",
            "4 passed, 1 failed, 0 skipped, 2 more",
            "all 4 passed, 1 failed",
            "4 passed, x failed",
            "-4 passed, 1 failed",
        ] {
            assert_eq!(Counts::parse(line), None, "{line}");
        }
    }

    #[test]
    fn a_good_run_ends_with_what_was_skipped_and_the_count() {
        let mut summary = Summary::default();
        summary.add("fmt".to_owned(), Outcome::passed(), "1.0 s");
        let mut deny = Outcome::passed();
        deny.skip("advisories (offline)".to_owned());
        summary.add("deny".to_owned(), deny, "3.0 s");
        assert!(!summary.failed());
        let expected = [
            "fmt     passed   1.0 s",
            "deny    passed   3.0 s",
            "skipped: advisories (offline)",
            "2 passed, 0 failed, 1 skipped",
        ];
        assert_eq!(summary.lines(), expected);
    }

    #[test]
    fn a_failure_says_how_to_repeat_it_and_what_did_not_run() {
        let mut summary = Summary::default();
        summary.add("clippy".to_owned(), Outcome::failed("cargo clippy"), "9.0 s");
        summary.add_not_run("test".to_owned());
        assert!(summary.failed());
        let expected = [
            "clippy  FAILED   9.0 s",
            "test    not run",
            "failed: clippy; to repeat it: cargo clippy",
            "0 passed, 1 failed, 0 skipped",
        ];
        assert_eq!(summary.lines(), expected);
    }
}
