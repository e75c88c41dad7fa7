//! Health checks, and the calls that meet what they withhold.

mod support;

use std::time::Duration;

use evenkeel_balance::health_check::HealthCheckConfig;
use evenkeel_grpc::Code;
use evenkeel_sim::{CallEnd, CallPlan, CallRecord, Down, Fault, Happening, LinkShape, Setup};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

fn is_ok(record: &CallRecord) -> bool {
    matches!(record.end, Some(CallEnd::Status(Code::Ok, _)))
}

/// Backend 1 does not serve. Backend 0 does; at `STRUCK_AT` its connection is lost, and a call comes right behind.
const STRUCK_AT: Duration = Duration::from_secs(3);

fn one_of_two_is_healthy(seed: u64) -> Setup {
    let mut setup = Setup::calm(seed, 1, 2);
    setup.upstream = LinkShape { latency: 5 * MS, ..LinkShape::local() };
    setup.checks = Some(HealthCheckConfig { interval: SEC / 5, timeout: SEC / 5, ..Default::default() });
    setup.faults.push((Duration::ZERO, Fault::Report(1, false)));
    setup.calls.push(CallPlan::unary(0, STRUCK_AT - 50 * MS));
    setup.calls.push(CallPlan::unary(0, STRUCK_AT + 6 * MS));
    setup
}

#[test]
fn a_call_waits_for_the_healthy_endpoint_that_reconnects() {
    let design = |seed| {
        let mut setup = one_of_two_is_healthy(seed);
        setup.faults.push((STRUCK_AT, Fault::Restart(0, Duration::ZERO, Down::Refused)));
        setup
    };
    support::each_seed("a_call_waits_for_the_healthy_endpoint_that_reconnects", 20, design, |outcome| {
        let calls = &outcome.calls;
        assert!(calls.iter().all(|record| is_ok(record) && record.backend == Some(0)), "{calls:?}");
        assert!(outcome.stats.of(Happening::WorkerQueued) > 0);
        assert_eq!(outcome.stats.of(Happening::CalledUnhealthy), 0);
    });
}

#[test]
fn a_call_goes_to_an_unhealthy_endpoint_once_the_healthy_one_cannot_be_reached() {
    let design = |seed| {
        let mut setup = one_of_two_is_healthy(seed);
        // The checks must be slower to find out than the connection attempt, which has a second.
        setup.checks.as_mut().expect("there are checks").unhealthy_threshold = 10;
        setup.faults.push((STRUCK_AT, Fault::Restart(0, SEC + 500 * MS, Down::Unanswered)));
        setup
    };
    let test = "a_call_goes_to_an_unhealthy_endpoint_once_the_healthy_one_cannot_be_reached";
    support::each_seed(test, 20, design, |outcome| {
        let record = &outcome.calls[1];
        assert!(is_ok(record) && record.backend == Some(1), "{record:?}");
        let waited = record.ended_at.expect("it has ended").saturating_sub(STRUCK_AT);
        // The connect timeout is a second.
        assert!((SEC..SEC + 100 * MS).contains(&waited), "{waited:?}");
        assert!(outcome.stats.of(Happening::CalledUnhealthy) > 0);
    });
}
