//! Limits in calm worlds: who is turned away is told so at once, and nothing waits for longer than it may.

mod support;

use std::time::Duration;

use evenkeel_balance::limit::{BreakerLimits, RateLimit};
use evenkeel_grpc::{Code, Pushback};
use evenkeel_sim::{Behaviour, Bounds, CallEnd, CallPlan, CallRecord, Happening, Setup};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

fn code(record: &CallRecord) -> Option<Code> {
    match record.end {
        Some(CallEnd::Status(code, _)) => Some(code),
        _ => None,
    }
}

fn took(record: &CallRecord) -> Duration {
    record.ended_at.expect("every call ends") - record.sent_at.expect("every call is sent")
}

#[test]
fn a_call_beyond_its_rate_is_told_at_once_and_when_to_come_again() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 2, 2);
        // A token each 100 ms, and five at first; each client has a session of its own.
        let rate = RateLimit::new(10, SEC, 5).unwrap();
        setup.bounds = Some(Bounds { session_rate: Some(rate), ..Bounds::default() });
        for number in 0..40 {
            setup.calls.push(CallPlan::unary(0, number * 50 * MS));
        }
        setup.calls.push(CallPlan::unary(1, 1900 * MS));
        setup
    };
    let test = "a_call_beyond_its_rate_is_told_at_once_and_when_to_come_again";
    support::each_seed(test, 5, design, |outcome| {
        let (of_other, calls) = outcome.calls.split_last().unwrap();
        assert_eq!(code(of_other), Some(Code::Ok), "another's calls take nothing from it");
        let refused: Vec<_> = calls.iter().filter(|record| code(record) != Some(Code::Ok)).collect();
        // Five at first, and one for each of the 19 full tenths of a second from then on.
        assert_eq!(calls.len() - refused.len(), 5 + 19, "{refused:?}");
        for record in refused {
            assert_eq!((code(record), record.attempts), (Some(Code::ResourceExhausted), 0));
            assert!(took(record) <= 2 * MS, "{record:?}");
            let Some(Pushback::RetryAfter(wait)) = record.pushback else { panic!("{record:?}") };
            assert!((MS..=201 * MS).contains(&wait), "{wait:?}");
        }
        assert_eq!(outcome.stats.of(Happening::RateLimited), 16);
    });
}

#[test]
fn a_call_above_a_circuit_breaker_is_told_at_once_and_one_that_waits_not_later_than_its_deadline() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 2);
        let cluster = BreakerLimits { max_requests: Some(3), ..BreakerLimits::default() };
        setup.bounds = Some(Bounds { cluster, ..Bounds::default() });
        for number in 0..10 {
            let (behaviour, timeout) = (Behaviour::Silent(0), Some(500 * MS));
            setup.calls.push(CallPlan { behaviour, timeout, ..CallPlan::unary(0, SEC + number * 10 * MS) });
        }
        setup
    };
    let test =
        "a_call_above_a_circuit_breaker_is_told_at_once_and_one_that_waits_not_later_than_its_deadline";
    support::each_seed(test, 5, design, |outcome| {
        for (number, record) in outcome.calls.iter().enumerate() {
            if number < 3 {
                assert_eq!(code(record), Some(Code::DeadlineExceeded));
                assert!((500 * MS..=502 * MS).contains(&took(record)), "{record:?}");
            } else {
                assert_eq!((code(record), record.attempts), (Some(Code::Unavailable), 0));
                assert!(took(record) <= 2 * MS, "{record:?}");
            }
        }
        assert_eq!(outcome.stats.of(Happening::RequestsOverflowed), 7);
    });
}
