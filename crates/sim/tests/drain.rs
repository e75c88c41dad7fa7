//! The worker's own drain.

mod support;

use std::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_sim::{Behaviour, CallEnd, CallPlan, Fault, Happening, LinkShape, Setup};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

#[test]
fn a_drain_under_load_loses_no_call() {
    let drain_at = 200 * MS;
    for spread in [Duration::ZERO, 100 * MS] {
        let design = |seed| {
            let mut setup = Setup::calm(seed, 10, 3);
            for client in &mut setup.clients {
                client.shape = LinkShape { latency: 4 * MS, jitter: 2 * MS, ..LinkShape::local() };
            }
            for number in 0..1500 {
                setup.calls.push(CallPlan::unary(number as usize % 10, number * MS / 4));
            }
            // Streams that go on for a while after it.
            for client in 0..10 {
                let (responses, response_gap) = (vec![1000; 8], 50 * MS);
                setup.calls.push(CallPlan { responses, response_gap, ..CallPlan::unary(client, 100 * MS) });
            }
            setup.faults.push((drain_at, Fault::Drain(spread)));
            setup
        };
        support::each_seed("a_drain_under_load_loses_no_call", 10, design, |outcome| {
            assert!(outcome.stats.of(Happening::ClientGoAway) >= 20, "two for each client");
            let mut sent = 0;
            for record in &outcome.calls {
                match record.end {
                    Some(CallEnd::Status(Code::Ok, _)) => sent += 1,
                    // It found no connection, and would have gone to another proxy.
                    Some(CallEnd::NotSent) => assert!(record.plan.start_at >= drain_at),
                    other => panic!("a call was lost: {other:?}: {record:?}"),
                }
            }
            assert!(sent >= 800, "{sent} calls were sent");
        });
    }
}

#[test]
fn the_end_of_the_grace_ends_what_is_left_with_unavailable() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 3, 2);
        for number in 0..30 {
            let behaviour = Behaviour::Silent(number % 2);
            setup.calls.push(CallPlan {
                behaviour,
                timeout: Some(60 * SEC),
                ..CallPlan::unary(number as usize % 3, number * MS)
            });
        }
        setup.faults.push((200 * MS, Fault::Drain(Duration::ZERO)));
        setup.faults.push((SEC, Fault::Abort));
        setup
    };
    support::each_seed("the_end_of_the_grace_ends_what_is_left_with_unavailable", 10, design, |outcome| {
        for record in &outcome.calls {
            let is_unavailable = matches!(record.end, Some(CallEnd::Status(Code::Unavailable, _)));
            assert!(is_unavailable, "{:?}", record.end);
            let ended = record.ended_at.unwrap();
            assert!((SEC..SEC + 5 * MS).contains(&ended), "it ended at {ended:?}");
        }
    });
}
