//! Single calls: what must arrive exactly, and how soon.

mod support;

use std::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_sim::{Behaviour, CallEnd, CallPlan, Down, Fault, Happening, LinkShape, Outcome, Setup};

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// The status and the number of responses of a call that ended with a status.
fn status(outcome: &Outcome, call: usize) -> Option<(Code, u32)> {
    match outcome.calls[call].end {
        Some(CallEnd::Status(code, summary)) => Some((code, summary.messages)),
        _ => None,
    }
}

/// How long a call took, as its client saw it.
fn took(outcome: &Outcome, call: usize) -> Duration {
    let record = &outcome.calls[call];
    let sent_at = record.sent_at.expect("every call of these plans is sent");
    record.ended_at.expect("every call ends: the simulation checks it") - sent_at
}

fn all_ok(outcome: &Outcome) {
    for (call, record) in outcome.calls.iter().enumerate() {
        let is_ok = matches!(record.end, Some(CallEnd::Status(Code::Ok, _)));
        assert!(is_ok, "call {call} ended with {:?}", record.end);
    }
}

#[test]
fn all_four_kinds_of_call_arrive_whole_with_their_half_close_and_trailers() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 2, 2);
        for (number, (up, down)) in
            [(1, 1), (1, 4), (4, 1), (4, 4), (0, 1), (1, 0), (0, 0)].iter().enumerate()
        {
            for (lone_end, gap) in [(false, Duration::ZERO), (true, Duration::ZERO), (true, MS)] {
                setup.calls.push(CallPlan {
                    requests: (0..*up).map(|at| 1 + at * 30_000).collect(),
                    responses: (0..*down).map(|at| at * 30_000).collect(),
                    request_gap: gap,
                    lone_end,
                    ..CallPlan::unary(number % 2, MS)
                });
            }
        }
        setup
    };
    // The backend answers the end of the request, not a message of it: a half-close that got lost would show. The ledger
    // compares every byte, and the field next to the status.
    support::each_seed(
        "all_four_kinds_of_call_arrive_whole_with_their_half_close_and_trailers",
        20,
        design,
        all_ok,
    );
}

#[test]
fn ping_pong_streams_pass_message_by_message() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 1);
        let sizes = vec![10, 0, 70_000, 5];
        setup.calls.push(CallPlan {
            requests: sizes.clone(),
            responses: sizes,
            ping_pong: true,
            ..CallPlan::unary(0, MS)
        });
        setup
    };
    support::each_seed("ping_pong_streams_pass_message_by_message", 20, design, all_ok);
}

#[test]
fn bytes_that_come_one_by_one_give_the_same_calls() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 1);
        setup.clients[0].shape.read_bytes_max = 1;
        setup.upstream.read_bytes_max = 1;
        for behaviour in [
            Behaviour::Answer(Code::Ok),
            Behaviour::Answer(Code::NotFound),
            Behaviour::TrailersOnly(Code::Aborted),
        ] {
            setup.calls.push(CallPlan {
                requests: vec![3, 500],
                responses: vec![700, 0],
                behaviour,
                ..CallPlan::unary(0, MS)
            });
        }
        setup
    };
    support::each_seed("bytes_that_come_one_by_one_give_the_same_calls", 10, design, |outcome| {
        assert_eq!(status(outcome, 0), Some((Code::Ok, 2)));
        assert_eq!(status(outcome, 1), Some((Code::NotFound, 2)));
        assert_eq!(status(outcome, 2), Some((Code::Aborted, 0)));
    });
}

#[test]
fn a_cancel_reaches_the_backend_within_one_way_through_the_network() {
    let latency = 7 * MS;
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 1);
        let shape = LinkShape { latency, ..LinkShape::local() };
        (setup.clients[0].shape, setup.upstream) = (shape, shape);
        for number in 0..10 {
            setup.calls.push(CallPlan {
                behaviour: Behaviour::Silent(number % 2),
                cancel_after: Some((40 + number) * MS),
                ..CallPlan::unary(0, number * MS)
            });
        }
        setup
    };
    let test = "a_cancel_reaches_the_backend_within_one_way_through_the_network";
    support::each_seed(test, 10, design, |outcome| {
        for record in &outcome.calls {
            assert_eq!(record.end, Some(CallEnd::Cancelled));
            let way = record.aborted_at.unwrap() - record.ended_at.unwrap();
            assert!(way >= 2 * latency && way <= 2 * latency + MS, "it took {way:?}");
        }
    });
}

#[test]
fn calls_without_a_backend_end_at_their_deadline_and_not_before() {
    for down in [Down::Unanswered, Down::Refused] {
        let design = |seed| {
            let mut setup = Setup::calm(seed, 1, 2);
            setup.connect_timeout = 5 * SEC;
            for backend in 0..2 {
                setup.faults.push((Duration::ZERO, Fault::Restart(backend, 60 * SEC, down)));
            }
            for number in 1..=20 {
                let timeout = Some(number * 10 * MS);
                setup.calls.push(CallPlan { timeout, ..CallPlan::unary(0, 2 * MS) });
            }
            setup
        };
        support::each_seed(
            "calls_without_a_backend_end_at_their_deadline_and_not_before",
            5,
            design,
            |outcome| {
                for call in 0..outcome.calls.len() {
                    if down == Down::Unanswered {
                        assert_eq!(status(outcome, call), Some((Code::DeadlineExceeded, 0)));
                        let late = took(outcome, call) - outcome.calls[call].plan.timeout.unwrap();
                        // The wheel's tick, the turn's delay and the way back.
                        assert!(late <= 2 * MS, "{late:?} late");
                    } else {
                        // Whoever refuses will not come to be reached: the answer is at hand.
                        assert_eq!(status(outcome, call), Some((Code::Unavailable, 0)));
                        assert!(took(outcome, call) <= 2 * MS);
                    }
                }
            },
        );
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_backend_within_one_window() {
    let window = 65_535;
    let design = |seed| {
        let mut setup = Setup::calm(seed, 2, 1);
        setup.clients[0].limits = Limits { stream_window_bytes: window, ..Limits::upstream() };
        // 8 MiB for a reader who never consumes a byte.
        setup.calls.push(CallPlan {
            responses: vec![16_000; 512],
            client_holds: 3600 * SEC,
            cancel_after: Some(5 * SEC),
            ..CallPlan::unary(0, MS)
        });
        // Its neighbours on the same connection to the backend do not notice.
        for number in 0..50 {
            setup.calls.push(CallPlan::unary(1, SEC + number * 10 * MS));
        }
        setup
    };
    let test = "a_client_that_does_not_read_stops_the_backend_within_one_window";
    support::each_seed(test, 10, design, |outcome| {
        // What the client's window took, what the worker holds, and the neighbours' small answers.
        let most = u64::from(2 * window) + 50 * 200;
        assert!(outcome.backend_bytes <= most, "the backend sent {} bytes", outcome.backend_bytes);
        assert_eq!(outcome.calls[0].end, Some(CallEnd::Cancelled));
        for call in 1..outcome.calls.len() {
            assert_eq!(status(outcome, call), Some((Code::Ok, 1)));
            assert!(took(outcome, call) <= 2 * MS, "a neighbour waited {:?}", took(outcome, call));
        }
    });
}

#[test]
fn a_backend_that_does_not_read_stops_the_client_within_its_windows() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 1);
        setup.calls.push(CallPlan {
            requests: vec![16_000; 512],
            backend_holds: 3600 * SEC,
            timeout: Some(5 * SEC),
            ..CallPlan::unary(0, MS)
        });
        setup
    };
    let test = "a_backend_that_does_not_read_stops_the_client_within_its_windows";
    support::each_seed(test, 5, design, |outcome| {
        assert_eq!(status(outcome, 0), Some((Code::DeadlineExceeded, 0)));
        assert!(outcome.stats.of(Happening::RequestWaitedForWindow) > 0);
    });
}

#[test]
fn a_stream_that_was_held_up_once_may_then_be_quiet_for_long() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 1);
        setup.patience = 1000 * SEC;
        // 200 KB wait for a slow reader; the next message comes three minutes later.
        setup.calls.push(CallPlan {
            responses: vec![200_000, 10],
            response_gap: 180 * SEC,
            client_holds: 100 * MS,
            ..CallPlan::unary(0, MS)
        });
        setup
    };
    support::each_seed("a_stream_that_was_held_up_once_may_then_be_quiet_for_long", 5, design, |outcome| {
        assert!(outcome.stats.of(Happening::SlowClient) > 1);
        assert_eq!(status(outcome, 0), Some((Code::Ok, 2)));
    });
}

#[test]
fn a_reader_that_stands_still_for_a_minute_is_cut_off_whatever_its_deadline() {
    for timeout in [None, Some(3600 * SEC)] {
        let design = |seed| {
            let mut setup = Setup::calm(seed, 1, 1);
            setup.patience = 4000 * SEC;
            setup.calls.push(CallPlan {
                responses: vec![200_000],
                client_holds: 3600 * SEC,
                timeout,
                ..CallPlan::unary(0, MS)
            });
            setup
        };
        let test = "a_reader_that_stands_still_for_a_minute_is_cut_off_whatever_its_deadline";
        support::each_seed(test, 5, design, |outcome| {
            assert!(matches!(outcome.calls[0].end, Some(CallEnd::Reset(_))), "{:?}", outcome.calls[0].end);
            let took = took(outcome, 0);
            assert!((60 * SEC..61 * SEC).contains(&took), "it took {took:?}");
        });
    }
}

#[test]
fn what_a_backend_does_wrong_becomes_an_honest_status() {
    let cases = [
        (Behaviour::Html, Code::Unavailable),
        (Behaviour::WrongType, Code::Unknown),
        (Behaviour::NoTrailers, Code::Unknown),
        (Behaviour::Refuse(1), Code::Ok),
        (Behaviour::Refuse(2), Code::Unavailable),
        (Behaviour::Early(Code::PermissionDenied), Code::PermissionDenied),
    ];
    for backends in 1..=2 {
        let design = |seed| {
            let mut setup = Setup::calm(seed, 1, backends);
            for (behaviour, _) in cases {
                setup.calls.push(CallPlan { behaviour, ..CallPlan::unary(0, MS) });
            }
            setup
        };
        support::each_seed("what_a_backend_does_wrong_becomes_an_honest_status", 10, design, |outcome| {
            for (call, (behaviour, code)) in cases.iter().enumerate() {
                let status = status(outcome, call).map(|(code, _)| code);
                assert_eq!(status, Some(*code), "{behaviour:?}: {:?}", outcome.calls[call]);
            }
        });
    }
}

#[test]
fn a_reset_with_any_code_before_the_answer_is_unavailable() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 1, 2);
        for code in (0..=13).filter(|code| *code != 7) {
            let behaviour = Behaviour::Reset(None, evenkeel_http2::ErrorCode(code));
            setup.calls.push(CallPlan { behaviour, ..CallPlan::unary(0, MS) });
        }
        setup
    };
    support::each_seed("a_reset_with_any_code_before_the_answer_is_unavailable", 5, design, |outcome| {
        for call in 0..outcome.calls.len() {
            assert_eq!(status(outcome, call), Some((Code::Unavailable, 0)));
            assert_eq!(outcome.calls[call].executions, 1, "what may have been processed is not repeated");
        }
    });
}
