//! Floods of cheap frames, by their names or advisories: how soon each ends the connection.
//!
//! The edge profile's ledger has 200 points: at 150 the connection is asked to go, at 200 it ends.

use core::time::Duration;

use super::subject::{Seen, Subject, fatal, request, sent_goaway};
use super::wire::{OK, POST, Wire, block, wire, with};
use crate::connection::Role;
use crate::error::{ErrorCode, Violation};
use crate::frame::{flag, kind};
use crate::limits::{DRIBBLE_WAIT, EARLY_REFUSALS_FREE, Limits, STREAM_TRICKS_PERIOD};
use crate::settings::id;

/// Feeds frames one by one, the peer reading all answers, until the connection ends: how many it took, why, and whether
/// the peer was asked to calm down before.
fn flood(subject: &mut Subject, frame: impl Fn(u32) -> Wire) -> (u32, Seen, bool) {
    flood_with(subject, |subject, count| subject.feed(frame(count)))
}

/// As [`flood`], with an owner that does something about each step.
fn flood_with(
    subject: &mut Subject,
    mut step: impl FnMut(&mut Subject, u32) -> Vec<Seen>,
) -> (u32, Seen, bool) {
    let mut asked = false;
    for count in 1..100_000 {
        let seen = step(subject, count);
        asked |= subject.sent().contains(&sent_goaway(0x7fff_ffff, ErrorCode::NO_ERROR, "calm_down"));
        if let Some(error @ Seen::Error(_)) = seen.last() {
            return (count, error.clone(), asked);
        }
    }
    panic!("the flood went on for ever");
}

/// A server with a hundred responses that wait for windows.
fn waiting_for_windows() -> Subject {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    for stream in (0..100).map(|at| 2 * at + 1) {
        server.feed(wire().call(stream));
        server.headers(stream, OK, false).unwrap();
        server.data(stream, &[0; 60_000], true).unwrap();
    }
    server.sent();
    server
}

#[test]
fn cve_2019_9511_data_dribble_gets_a_frame_in_fifty_milliseconds_for_each_stream() {
    let mut server = waiting_for_windows();
    let mut frames = 0;
    for tenth in 0..200 {
        // A byte of window for ten streams, ten times in fifty milliseconds.
        for stream in (0..10).map(|at| 2 * (10 * (tenth % 10) + at) + 1) {
            assert_eq!(server.feed(wire().window_update(stream, 1)), []);
        }
        server.pass(DRIBBLE_WAIT / 10).unwrap();
        frames += server.sent().len();
    }
    // Each stream's second byte finds the wait of the first over: two bytes, one frame, ten times.
    assert_eq!(frames, 1_000);
}

#[test]
fn cve_2019_9511_data_dribble_by_more_updates_than_frames_ends() {
    let mut server = waiting_for_windows();
    let (count, end, _) = flood(&mut server, |at| wire().window_update(2 * (at % 100) + 1, 1));
    // Its SETTINGS had cost 5 points: they lowered the initial window.
    assert_eq!((count, end), (5 + 2 * 100 + 195, fatal(Violation::Abuse)));
}

#[test]
fn cve_2019_9512_ping_flood_ends_at_the_fourth_ping() {
    let mut server = Subject::server();
    assert_eq!(flood(&mut server, |_| wire().ping(b"flooding")), (4, fatal(Violation::TooManyPings), false));
}

#[test]
fn cve_2019_9512_ping_flood_of_a_server_ends_by_the_ledger() {
    let mut client = Subject::client_with(Limits::edge(), &[]);
    // The first was explained by the connection's own beginning.
    assert_eq!(flood(&mut client, |_| wire().ping(b"flooding")), (201, fatal(Violation::PingFlood), true));
}

#[test]
fn ping_flood_with_headers_in_between_ends_by_the_ledger() {
    // The strikes of gRFC A8 are cleared by any HEADERS: requests that are never answered explain no PING.
    let mut server = Subject::server_with(Limits { max_concurrent_streams: 1000, ..Limits::edge() }, &[]);
    let (count, end, asked) = flood(&mut server, |at| wire().open(2 * at - 1).ping(b"flooding"));
    assert_eq!((count, end, asked), (201, fatal(Violation::PingFlood), true));
}

#[test]
fn cve_2019_9513_priority_flood_takes_no_state_and_ends() {
    let mut server = Subject::server();
    let flooded = flood(&mut server, |at| wire().priority(2 * at + 1, 2 * (at % 7)));
    assert_eq!(flooded, (200, fatal(Violation::Abuse), true));
    assert_eq!(server.http2.stream_count(), 0);
}

#[test]
fn cve_2019_9514_requests_that_solicit_a_reset_end_after_a_hundred() {
    let mut server = Subject::server();
    let flooded = flood(&mut server, |at| wire().headers(2 * at - 1, &[(":method", "GET")], true));
    assert_eq!(flooded, (100, fatal(Violation::ResetFlood), true));
}

#[test]
fn cve_2019_9515_settings_flood_ends_at_the_eleventh() {
    let mut server = Subject::server();
    assert_eq!(flood(&mut server, |_| wire().settings(&[])), (11, fatal(Violation::SettingsFlood), false));
}

#[test]
fn cve_2019_9518_empty_data_costs_from_the_second_in_a_row() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    assert_eq!(flood(&mut server, |_| wire().data(1, b"")), (101, fatal(Violation::Abuse), true));
}

#[test]
fn cve_2019_9518_empty_fragments_cost_too() {
    let mut server = Subject::server();
    let whole = block(POST);
    let frames = |at: u32| {
        let stream = 2 * at - 1;
        wire()
            .unfinished_headers(stream, b"")
            .raw(&wire().continuation(stream, b"", false).times(7).0)
            .continuation(stream, &whole, true)
    };
    // 16 points for each request.
    assert_eq!(flood(&mut server, frames), (13, fatal(Violation::Abuse), true));
}

#[test]
fn empty_data_for_a_stream_that_was_reset_costs_too() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.release(1);
    assert_eq!(flood(&mut server, |_| wire().data(1, b"")), (100, fatal(Violation::Abuse), true));
}

#[test]
fn cve_2023_44487_rapid_reset_ends_after_two_hundred() {
    let mut server = Subject::server();
    let frames = |at| wire().call(2 * at - 1).reset(2 * at - 1, ErrorCode::CANCEL);
    assert_eq!(flood(&mut server, frames), (200, fatal(Violation::ResetFlood), true));
}

#[test]
fn resets_are_not_paid_for_by_answers_that_cost_the_peer_nothing() {
    let mut server = Subject::server();
    let (count, end, asked) = flood_with(&mut server, |server, at| {
        let (cancelled, refused) = (4 * at - 3, 4 * at - 1);
        let seen = server.feed(wire().call(cancelled).reset(cancelled, ErrorCode::CANCEL).call(refused));
        if seen.contains(&request(refused, true)) {
            // An owner's own refusal: a complete response, and no work behind it.
            server.headers(refused, OK, true).unwrap();
            server.release(refused);
        }
        seen
    });
    assert_eq!((count, end, asked), (200, fatal(Violation::ResetFlood), true));
}

#[test]
fn resets_of_streams_that_have_ended_cost_a_client_a_point_each_and_a_backend_none() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.answer(1);
    assert_eq!(
        flood(&mut server, |_| wire().reset(1, ErrorCode::CANCEL)),
        (201, fatal(Violation::ResetFlood), true),
        "one may have crossed the answer"
    );
    let mut server = Subject::server();
    for call in 0..10_000 {
        server.feed(wire().call(2 * call + 1));
        server.headers(2 * call + 1, OK, true).unwrap();
        server.release(2 * call + 1);
        server.feed(wire().reset(2 * call + 1, ErrorCode::CANCEL));
        server.sent();
    }
    assert_eq!(server.http2.ledger.spent(), 0, "deadlines that pass on both sides at once");
    let mut client = Subject::client();
    client.request(true);
    client.feed(wire().headers(1, OK, true));
    client.release(1);
    for _ in 0..1000 {
        assert_eq!(client.feed(wire().reset(1, ErrorCode::NO_ERROR)), []);
    }
    assert_eq!(client.http2.ledger.spent(), 0);
}

/// The six frames that make a server reset a stream (galbarnahum/MadeYouReset), for a stream that is half-closed or open.
fn tricks(stream: u32) -> [(&'static str, Wire); 6] {
    [
        ("window overflow", wire().open(stream).window_update(stream, 0x7fff_ffff)),
        ("increment of zero", wire().open(stream).window_update(stream, 0)),
        ("HEADERS after END_STREAM", wire().call(stream).headers(stream, super::wire::STATUS_0, true)),
        ("DATA after END_STREAM", wire().call(stream).data(stream, b"x")),
        ("PRIORITY of another length", wire().open(stream).frame(kind::PRIORITY, 0, stream, &[0; 4])),
        ("PRIORITY on itself", wire().open(stream).priority(stream, stream)),
    ]
}

#[test]
fn cve_2025_8671_made_you_reset_is_forgiven_three_times_by_each_of_its_six_ways() {
    for (at, (name, _)) in tricks(1).iter().enumerate() {
        let mut server = Subject::server();
        // One a minute for ever is no attack.
        for count in 1..20 {
            assert!(!matches!(server.feed(tricks(2 * count - 1)[at].1.clone()).last(), Some(Seen::Error(_))));
            server.release(2 * count - 1);
            server.now += STREAM_TRICKS_PERIOD;
        }
        let (count, end, _) = flood(&mut server, |count| tricks(2 * count + 39)[at].1.clone());
        assert_eq!(count, 4, "{name}");
        assert!(matches!(end, Seen::Error(_)), "{name}");
        assert_eq!(
            server.http2.stream_count(),
            1,
            "{name}: the fourth stream, whose owner is still to be told"
        );
    }
}

#[test]
fn cve_2025_8671_made_you_reset_by_malformed_requests_ends_by_the_ledger() {
    let declared = with(POST, &[("content-length", "1")]);
    let mut server = Subject::server();
    let frames = |at| wire().headers(2 * at - 1, &declared, false).last_data(2 * at - 1, b"ab");
    assert_eq!(flood(&mut server, frames), (100, fatal(Violation::ResetFlood), true));
}

#[test]
fn cve_2024_27316_continuation_flood_holds_one_frame_at_most() {
    let mut server = Subject::server();
    let (count, end, _) = flood(&mut server, |at| match at {
        1 => wire().unfinished_headers(1, &[0x82; 100]),
        _ => wire().continuation(1, &[0x82; 100], false),
    });
    assert_eq!((count, end), (10, fatal(Violation::ContinuationFlood)));
}

#[test]
fn cve_2026_33871_continuation_flood_of_zero_bytes_is_counted_in_frames() {
    let mut server = Subject::server();
    let (count, end, _) = flood(&mut server, |at| match at {
        1 => wire().unfinished_headers(1, b""),
        _ => wire().continuation(1, b"", false),
    });
    assert_eq!((count, end), (10, fatal(Violation::ContinuationFlood)));
}

#[test]
fn cve_2026_78669_initial_window_churn_ends_at_the_eleventh_frame() {
    let mut server = Subject::server_with(Limits::mesh(), &[]);
    for at in 0..1000 {
        server.feed(wire().open(2 * at + 1));
        server.http2.begin_wake(server.now);
    }
    let churn = |at: u32| wire().settings(&[(id::INITIAL_WINDOW_SIZE, 65_535 + at % 2)]);
    assert_eq!(flood(&mut server, churn), (11, fatal(Violation::SettingsFlood), false));
    // Five of them were reductions.
    assert_eq!(server.http2.ledger.spent(), 11 * 5 + 5 * 5);
}

#[test]
fn window_update_churn_is_not_paid_for_by_streams_that_have_ended() {
    // envoyproxy/envoy#45077: a budget that grew with all streams ever opened.
    let mut server = Subject::server();
    for stream in (0..1000).map(|at| 2 * at + 1) {
        server.feed(wire().call(stream));
        server.answer(stream);
    }
    server.sent();
    let flooded = flood(&mut server, |_| wire().window_update(0, 1));
    assert_eq!(flooded, (205, fatal(Violation::Abuse), true));
}

#[test]
fn window_updates_are_explained_by_data_of_the_last_two_seconds_only() {
    for (later, end) in [(1_999, 5 + 2 * (1 + 10 * 100) + 200), (2_000, 5 + 2 + 200)] {
        let mut server = Subject::server();
        server.feed(wire().call(1));
        server.headers(1, OK, false).unwrap();
        for _ in 0..100 {
            server.data(1, b"x", false).unwrap();
        }
        server.now += Duration::from_millis(later);
        let (count, _, _) = flood(&mut server, |_| wire().window_update(0, 1));
        assert_eq!(count, end, "{later} ms later");
    }
}

#[test]
fn unknown_frames_cost_a_point_each() {
    let mut server = Subject::server();
    assert_eq!(flood(&mut server, |_| wire().frame(0xbe, 0, 0, b"")), (200, fatal(Violation::Abuse), true));
}

#[test]
fn streams_over_the_limit_cost_a_point_each() {
    let limits = Limits { max_concurrent_streams: 1, ..Limits::edge() };
    let mut server = Subject::server_with(limits, &[]);
    let flooded = flood(&mut server, |at| wire().call(2 * at - 1));
    assert_eq!(flooded, (201, fatal(Violation::StreamLimit), true));
}

#[test]
fn streams_over_a_limit_that_the_peer_never_acknowledges_cost_a_point_each_after_a_thousand() {
    let limits = Limits { max_concurrent_streams: 1, ..Limits::edge() };
    let mut server = Subject::new(Role::Server, limits);
    server.feed(wire().preface().settings(&[]));
    let (count, end, asked) = flood(&mut server, |at| wire().call(2 * at - 1));
    assert_eq!((count, end, asked), (1 + EARLY_REFUSALS_FREE + 200, fatal(Violation::StreamLimit), true));
}

#[test]
fn streams_after_the_final_goaway_cost_a_point_each() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.http2.start_drain(server.now, b"drain");
    server.http2.finish_drain();
    let (count, end, _) = flood(&mut server, |at| wire().call(2 * at + 1));
    assert_eq!((count, end), (200, fatal(Violation::StreamLimit)));
}

#[test]
fn header_blocks_for_a_stream_that_was_reset_cost_a_client_a_point_each() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.release(1);
    let (count, end, _) = flood(&mut server, |_| wire().headers(1, super::wire::STATUS_0, true));
    assert_eq!((count, end), (200, fatal(Violation::ResetFlood)));
}

#[test]
fn the_ledger_asks_first_and_a_peer_that_calms_down_keeps_its_streams() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    assert_eq!(server.feed(wire().priority(3, 0).times(150)), []);
    let asked = server.sent();
    assert_eq!(asked[0], sent_goaway(0x7fff_ffff, ErrorCode::NO_ERROR, "calm_down"));
    server.pass(Duration::from_secs(5)).unwrap();
    assert_eq!(server.sent(), [sent_goaway(1, ErrorCode::NO_ERROR, "")]);
    assert_eq!(server.feed(wire().last_data(1, b"x")).len(), 1);
    server.answer(1);
    assert!(server.http2.is_drained());
}

#[test]
fn a_client_is_no_safer_from_its_server() {
    let mut client = Subject::client_with(Limits::edge(), &[]);
    client.request(true);
    client.feed(wire().headers(1, OK, false));
    assert_eq!(flood(&mut client, |_| wire().data(1, b"")), (101, fatal(Violation::Abuse), true));
    let mut client = Subject::client_with(Limits::edge(), &[]);
    assert_eq!(flood(&mut client, |_| wire().settings(&[])), (11, fatal(Violation::SettingsFlood), false));
    let mut client = Subject::client_with(Limits::edge(), &[]);
    client.request(true);
    let (count, end, _) = flood(&mut client, |at| match at {
        1 => wire().unfinished_headers(1, b"\x88"),
        _ => wire().frame(kind::CONTINUATION, flag::ACK, 1, b"\x88"),
    });
    assert_eq!((count, end), (10, fatal(Violation::ContinuationFlood)));
    assert_eq!(client.http2.role(), Role::Client);
}
