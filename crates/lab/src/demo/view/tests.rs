use super::plain::write_second;
use super::*;
use crate::demo::tally::{BackendShare, ErrorCount};
use crate::demo::{BackendState, BackendView, Event, Latencies, Snapshot};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::net::SocketAddr;
use tonic::Code;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 50051))
}

fn latencies(ms: [u64; 4]) -> Latencies {
    let [p50, p90, p99, max] = ms.map(Duration::from_millis);
    Latencies { p50, p90, p99, max }
}

fn snapshot() -> Snapshot {
    let backend = |last: u8, state, calls, calls_last_second| BackendView {
        name: format!("backend-{}", last - 1),
        address: address(last),
        state,
        calls,
        calls_last_second,
    };
    Snapshot {
        at: Duration::from_millis(12_400),
        duration: Duration::from_secs(20),
        target: address(1),
        calls: 6_012,
        failed: 7,
        history: vec![480, 510, 495, 502, 260, 330, 470, 505, 498, 490, 500, 503],
        latency_last_second: latencies([2, 6, 13, 21]),
        latency: latencies([2, 7, 140, 1999]),
        backends: vec![
            backend(2, BackendState::Up, 2500, 250),
            backend(3, BackendState::Slow, 1000, 50),
            backend(4, BackendState::Dead, 2505, 0),
        ],
        errors: vec![(Code::DeadlineExceeded, 2), (Code::Unavailable, 5)],
        events: vec![
            Event {
                at: Duration::from_secs(5),
                text: "backend-2 takes 100 ms longer from now on".to_owned(),
            },
            Event {
                at: Duration::from_secs(10),
                text: "backend-3 killed in the middle of its calls".to_owned(),
            },
        ],
    }
}

fn picture(width: u16, height: u16, snapshot: &Snapshot) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, snapshot)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn the_live_view_shows_rate_shares_latency_errors_and_events() {
    insta::assert_snapshot!(picture(100, 24, &snapshot()));
}

#[test]
fn the_live_view_survives_any_size() {
    for (width, height) in [(1, 1), (10, 3), (40, 12), (300, 100)] {
        picture(width, height, &snapshot());
    }
    let nothing = Snapshot {
        history: vec![],
        backends: vec![],
        events: vec![],
        duration: Duration::ZERO,
        ..snapshot()
    };
    picture(80, 24, &nothing);
}

#[test]
fn a_pipe_gets_new_events_once_and_a_line_per_second() {
    let mut out = Vec::new();
    let shown = write_second(&mut out, &snapshot(), 1).unwrap();
    assert_eq!(shown, 1);
    assert_eq!(write_second(&mut out, &snapshot(), 2).unwrap(), 0);
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}

fn summary() -> Summary {
    let share = |last: u8, calls, share| BackendShare {
        name: format!("backend-{}", last - 1),
        address: address(last),
        calls,
        share,
    };
    Summary {
        elapsed: Duration::from_millis(20_100),
        calls: 10_050,
        failed: 7,
        calls_per_second: 500.0,
        latency: latencies([2, 7, 140, 1999]),
        backends: vec![share(2, 5000, 0.5), share(3, 1000, 0.1), share(4, 4000, 0.4)],
        errors: vec![ErrorCount { code: "UNAVAILABLE", calls: 7 }],
        events: snapshot().events,
    }
}

#[test]
fn the_summary_is_a_table() {
    insta::assert_snapshot!(summary_table(&summary()));
}

#[test]
fn the_summary_without_failures_says_none() {
    let flawless = Summary { failed: 0, errors: vec![], ..summary() };
    assert!(summary_table(&flawless).contains("failed       none\n"));
}

#[test]
fn json_carries_units_in_its_names() {
    let mut out = Vec::new();
    View::Json { out: &mut out }.close(&summary()).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());
}
