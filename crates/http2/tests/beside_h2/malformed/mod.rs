//! The same bytes for both engines: each must accept them, reset the stream, or end the connection, as the other does.
//!
//! Where they differ, the difference stands in the case's row with its reason: one that is not listed fails, and one that is
//! listed and no longer there fails too.

mod for_clients;
mod for_servers;
mod judge;
mod wire;

use judge::Verdict;
use wire::Wire;

/// One sequence of bytes.
struct Case {
    name: &'static str,
    bytes: Wire,
    /// What our engine makes of it.
    ours: Verdict,
    /// What h2 makes of it, if that is something else, and why both may be.
    differs: Option<(Verdict, &'static str)>,
}

fn same(name: &'static str, bytes: Wire, ours: Verdict) -> Case {
    Case { name, bytes, ours, differs: None }
}

fn differs(name: &'static str, bytes: Wire, ours: Verdict, h2: Verdict, reason: &'static str) -> Case {
    Case { name, bytes, ours, differs: Some((h2, reason)) }
}

/// Compares all, and tells of all that are not as listed.
fn check(cases: &[Case], ours: impl Fn(&Wire) -> Verdict, h2: impl Fn(&Wire) -> Verdict) {
    let mut wrong = Vec::new();
    for case in cases {
        let expected = (case.ours, case.differs.map_or(case.ours, |(verdict, _)| verdict));
        let got = (ours(&case.bytes), h2(&case.bytes));
        if got != expected {
            wrong.push(format!("{}: ours {:?}, h2 {:?}; expected {expected:?}", case.name, got.0, got.1));
        }
        if let Some((verdict, reason)) = case.differs {
            assert!(
                verdict != case.ours && !reason.is_empty(),
                "{}: no difference, or none explained",
                case.name
            );
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
