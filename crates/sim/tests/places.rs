//! Priorities: calls fail over and come back.

mod support;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_sim::{CallEnd, CallPlan, Down, Fault, Happening, Places, Setup};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

#[test]
fn calls_fail_over_to_the_next_priority_while_the_first_is_down_and_come_back() {
    let (down_at, down_for) = (3 * SEC, 2 * SEC);
    let design = |seed| {
        let mut setup = Setup::calm(seed, 2, 3);
        setup.places = Some(Places { config: Arc::default(), of: vec![(0, None), (0, None), (1, None)] });
        setup.faults = vec![
            (down_at, Fault::Restart(0, down_for, Down::Refused)),
            (down_at, Fault::Restart(1, down_for, Down::Refused)),
        ];
        for number in 0..1500 {
            setup.calls.push(CallPlan::unary(number as usize % 2, 20 * MS + number * 5 * MS));
        }
        setup
    };
    let test = "calls_fail_over_to_the_next_priority_while_the_first_is_down_and_come_back";
    support::each_seed(test, 5, design, |outcome| {
        assert!(outcome.stats.of(Happening::FailedOver) > 300, "{:?}", outcome.stats);
        for record in &outcome.calls {
            let sent_at = record.sent_at.expect("there is always a connection");
            // A lost connection is noticed within a round trip, a backend that is back within its backoff: two seconds at most.
            let is_out = (down_at + 5 * MS..down_at + down_for).contains(&sent_at);
            let is_back = sent_at < down_at || sent_at > down_at + down_for + 5 * SEC / 2;
            if is_out || is_back {
                assert!(matches!(record.end, Some(CallEnd::Status(Code::Ok, _))), "{record:?}");
                assert_eq!(record.backend == Some(2), is_out, "{record:?}");
            }
        }
    });
}
