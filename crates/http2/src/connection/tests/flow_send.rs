//! What we may send: windows, queues, and turns.

use core::time::Duration;

use super::pair::Pair;
use super::subject::{Seen, Sent, Subject, fatal, fault, request, response, sent_data, sent_headers};
use super::wire::{OK, STATUS_0, wire};
use crate::SendError;
use crate::error::{ErrorCode, Violation};
use crate::limits::{DRIBBLE_WAIT, Limits, OUTPUT_HIGH_BYTES};
use crate::settings::id;

const MAX: u32 = 0x7fff_ffff;

/// A server with these streams answered by headers, whose client offers this window for each.
fn answering(window: u32, streams: u32) -> Subject {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, window)]);
    for stream in (0..streams).map(|at| 2 * at + 1) {
        assert_eq!(server.feed(wire().call(stream)), [request(stream, true)]);
        server.headers(stream, OK, false).unwrap();
    }
    server.sent();
    server
}

/// DATA bytes in what was sent, and whether a stream ended.
fn data_bytes(sent: &[Sent]) -> (usize, bool) {
    sent.iter().fold((0, false), |(sum, ended), sent| match sent {
        Sent::Data { bytes, end, .. } => (sum + bytes.len(), ended | end),
        _ => (sum, ended),
    })
}

#[test]
fn data_within_the_windows_leaves_at_once() {
    let mut server = answering(100, 1);
    assert_eq!(server.data(1, &[7; 100], false), Ok(100));
    assert_eq!(server.sent(), [sent_data(1, &[7; 100], false)]);
}

#[test]
fn data_beyond_a_window_waits_and_is_reported_when_it_leaves() {
    let mut server = answering(2_000, 1);
    assert_eq!(server.data(1, &[7; 5_000], true), Ok(2_000));
    assert!(server.http2.has_queued(server.key(1)));
    assert_eq!(server.sent(), [sent_data(1, &[7; 2_000], false)]);
    assert_eq!(server.feed(wire().window_update(1, 1_500)), []);
    assert_eq!(server.flush(), [(1, 1_500)]);
    assert_eq!(server.feed(wire().window_update(1, 1_500)), []);
    assert_eq!(server.flush(), [(1, 1_500)]);
    assert_eq!(data_bytes(&server.sent()), (3_000, true));
    assert!(!server.http2.has_queued(server.key(1)));
    assert_eq!(server.flush(), []);
}

#[test]
fn data_behind_queued_data_is_queued_too() {
    let mut server = answering(0, 1);
    assert_eq!(server.data(1, b"first ", false), Ok(0));
    assert_eq!(server.data(1, b"second", true), Ok(0));
    assert_eq!(server.data(1, b"third", false), Err(SendError::Closed));
    server.feed(wire().window_update(1, 100));
    assert_eq!(server.sent(), [sent_data(1, b"first second", true)]);
}

#[test]
fn trailers_wait_behind_queued_data() {
    let mut server = answering(0, 1);
    server.data(1, b"late", false).unwrap();
    assert_eq!(server.trailers(1), Ok(()));
    assert_eq!(server.trailers(1), Err(SendError::Closed));
    assert_eq!(server.data(1, b"later", false), Err(SendError::Closed));
    assert_eq!(server.sent(), []);
    server.feed(wire().window_update(1, 4));
    assert_eq!(server.flush(), [(1, 4)]);
    assert_eq!(server.sent(), [sent_data(1, b"late", false), sent_headers(1, STATUS_0, true)]);
    assert_eq!(server.http2.send_half(server.key(1)), crate::Half::Closed);
}

#[test]
fn header_blocks_are_encoded_in_the_order_in_which_they_leave() {
    // Queued trailers and another stream's headers share one table: encoding early would make the tables differ.
    let mut server = answering(0, 1);
    server.data(1, b"x", false).unwrap();
    server.trailers(1).unwrap();
    server.feed(wire().call(3));
    server.headers(3, OK, true).unwrap();
    server.feed(wire().window_update(1, 1));
    let sent = server.sent();
    assert_eq!(sent, [sent_headers(3, OK, true), sent_data(1, b"x", false), sent_headers(1, STATUS_0, true)]);
}

#[test]
fn frames_are_cut_at_16_kib_whatever_more_the_peer_takes() {
    let mut server = Subject::server_with(
        Limits::edge(),
        &[(id::INITIAL_WINDOW_SIZE, 100_000), (id::MAX_FRAME_SIZE, 1 << 20)],
    );
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    server.sent();
    assert_eq!(server.data(1, &[0; 40_000], true), Ok(40_000));
    let lengths: Vec<_> = server.sent().iter().map(|sent| data_bytes(core::slice::from_ref(sent))).collect();
    assert_eq!(lengths, [(16_384, false), (16_384, false), (7_232, true)]);
}

#[test]
fn a_slow_reader_stops_its_sender_at_one_window() {
    let mut pair = Pair::upstream();
    pair.client.consumes = false;
    pair.client.request(true);
    pair.run();
    pair.server.headers(1, OK, false).unwrap();
    assert_eq!(pair.server.data(1, &[1; 200_000], true), Ok(65_535));
    pair.run();
    assert_eq!(pair.client.http2.held_bytes(), 65_535);
    pair.client.consume(1, 65_535);
    pair.run();
    assert_eq!(pair.client.http2.held_bytes(), 65_535);
    for _ in 0..3 {
        let held = pair.client.http2.held_bytes();
        pair.client.consume(1, held);
        pair.run();
    }
    let received: usize = pair.client.take_seen().iter().map(bytes_of).sum();
    assert_eq!(received, 200_000);
    assert_eq!(pair.server.http2.send_half(pair.server.key(1)), crate::Half::Closed);
}

fn bytes_of(seen: &Seen) -> usize {
    if let Seen::Data { bytes, .. } = seen { bytes.len() } else { 0 }
}

#[test]
fn a_window_too_small_to_be_useful_is_used_only_after_a_wait() {
    // CVE-2019-9511: windows of one byte make a sender build a frame for each.
    let mut server = answering(1_023, 1);
    assert_eq!(server.data(1, &[0; 2_000], true), Ok(0));
    assert_eq!(server.sent(), []);
    assert_eq!(server.http2.deadline(), Some(server.now + DRIBBLE_WAIT));
    server.pass(DRIBBLE_WAIT - Duration::from_millis(1)).unwrap();
    assert_eq!(server.sent(), []);
    server.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(data_bytes(&server.sent()), (1_023, false));
}

#[test]
fn a_useful_window_or_one_for_the_rest_is_used_at_once() {
    let mut server = answering(1_024, 2);
    assert_eq!(server.data(1, &[0; 2_000], true), Ok(1_024));
    assert_eq!(server.data(3, &[0; 5], true), Ok(5));
    server.sent();
    // 976 bytes wait; a window of 976 is the rest.
    server.feed(wire().window_update(1, 975));
    assert_eq!(server.sent(), []);
    server.feed(wire().window_update(1, 1));
    assert_eq!(data_bytes(&server.sent()), (976, true));
}

#[test]
fn a_window_that_grows_while_a_stream_waits_ends_the_wait() {
    let mut server = answering(1, 1);
    server.data(1, &[0; 5_000], true).unwrap();
    server.now += Duration::from_millis(10);
    server.feed(wire().window_update(1, 3_999));
    assert_eq!(data_bytes(&server.sent()), (4_000, false));
    assert_eq!(server.http2.deadline(), None, "it waits for the peer, not for time");
}

#[test]
fn a_stream_without_a_window_does_not_hide_those_behind_it() {
    let mut server = answering(0, 3);
    for stream in [3, 5] {
        server.data(stream, &[0; 3_000], true).unwrap();
    }
    while server.http2.has_listed() {
        server.flush();
    }
    // Behind a stream without a window stands one that waits for a useful window, and then one that may send.
    server.data(1, &[0; 3_000], true).unwrap();
    server.feed(wire().window_update(3, 10).window_update(5, 3_000));
    assert_eq!(server.flush(), [(5, 3_000)]);
}

#[test]
fn streams_take_turns_of_one_frame() {
    let mut server = answering(MAX, 3);
    server.feed(wire().window_update(0, MAX - 65_535));
    for stream in [1, 3, 5] {
        server.data(stream, &[0; 400_000], true).unwrap();
    }
    let output = server.sent();
    let first_end = output.iter().position(|sent| data_bytes(core::slice::from_ref(sent)).1).unwrap();
    let counts = [1, 3, 5].map(|id| {
        output[..first_end]
            .iter()
            .filter(|sent| matches!(sent, Sent::Data { stream, .. } if *stream == id))
            .count()
    });
    assert!(counts[1].abs_diff(counts[2]) <= 1, "{counts:?}");
    assert_eq!(data_bytes(&output).0, 1_200_000);
}

#[test]
fn the_connections_window_is_shared_and_comes_back_for_all() {
    let mut server = answering(100_000, 2);
    assert_eq!(server.data(1, &[0; 60_000], true), Ok(60_000));
    assert_eq!(server.data(3, &[0; 10_000], true), Ok(5_535));
    server.sent();
    // The stream's own window is large; only the connection's WINDOW_UPDATE helps.
    server.feed(wire().window_update(3, 1_000));
    assert_eq!(server.sent(), []);
    server.feed(wire().window_update(0, 10_000));
    assert_eq!(data_bytes(&server.sent()), (4_465, true));
}

#[test]
fn a_lower_initial_window_makes_windows_negative_and_updates_count_from_there() {
    let mut server = answering(10_000, 1);
    assert_eq!(server.data(1, &[0; 20_000], true), Ok(10_000));
    server.sent();
    // 10 000 were sent: the window is now 3 000 - 10 000.
    server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, 3_000)]).window_update(1, 7_000));
    assert_eq!(server.sent(), [Sent::SettingsAck]);
    server.feed(wire().window_update(1, 2_000));
    assert_eq!(data_bytes(&server.sent()), (2_000, false));
    server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, 11_000)]));
    assert_eq!(data_bytes(&server.sent()), (8_000, true));
}

#[test]
fn a_higher_initial_window_reaches_streams_that_wait() {
    let mut server = answering(0, 2);
    server.data(1, &[1; 10], true).unwrap();
    server.data(3, &[3; 10], true).unwrap();
    server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, 10)]));
    assert_eq!(
        server.sent(),
        [Sent::SettingsAck, sent_data(1, &[1; 10], true), sent_data(3, &[3; 10], true)]
    );
}

#[test]
fn a_streams_window_may_reach_the_maximum_and_overflows_one_beyond() {
    let mut server = answering(MAX - 10, 2);
    assert_eq!(server.feed(wire().window_update(1, 10)), []);
    assert_eq!(server.feed(wire().window_update(1, 1)), [fault(1, Violation::WindowOverflow)]);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::FLOW_CONTROL_ERROR)]);
}

#[test]
fn the_connections_window_may_reach_the_maximum_and_overflows_one_beyond() {
    // nginx's CVE-2026-123007 is this check missing.
    let mut server = answering(MAX, 1);
    assert_eq!(server.feed(wire().window_update(0, MAX - 65_535)), []);
    assert_eq!(server.feed(wire().window_update(0, 1)), [fatal(Violation::WindowOverflow)]);
    assert_eq!(
        server.sent(),
        [super::subject::sent_goaway(1, ErrorCode::FLOW_CONTROL_ERROR, "window_overflow")]
    );
}

#[test]
fn an_initial_window_that_overflows_a_streams_window_ends_the_connection() {
    let mut server = answering(0, 2);
    server.feed(wire().window_update(3, 1));
    assert_eq!(server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, MAX - 1)])), []);
    let seen = server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, MAX)]));
    assert_eq!(seen, [fatal(Violation::WindowOverflow)]);
}

#[test]
fn an_increment_of_zero_resets_a_stream_and_ends_a_connection() {
    let mut server = answering(10, 1);
    assert_eq!(server.feed(wire().window_update(1, 0)), [fault(1, Violation::WindowIncrement)]);
    assert_eq!(server.feed(wire().window_update(1, 0)), [], "the stream is gone");
    assert_eq!(server.feed(wire().window_update(0, 0)), [fatal(Violation::WindowIncrement)]);
}

#[test]
fn the_reserved_bit_of_an_increment_is_ignored() {
    let mut server = answering(0, 1);
    server.data(1, b"abc", true).unwrap();
    server.feed(wire().window_update(1, 0x8000_0003));
    assert_eq!(server.sent(), [sent_data(1, b"abc", true)]);
}

#[test]
fn queued_output_is_dropped_with_its_stream() {
    for end in ["we reset", "the peer resets", "released"] {
        let mut server = answering(0, 1);
        server.data(1, b"never", false).unwrap();
        server.trailers(1).unwrap();
        let code = ErrorCode::CANCEL;
        match end {
            "we reset" => server.reset(1, code),
            "the peer resets" => drop(server.feed(wire().reset(1, code))),
            _ => server.release(1),
        }
        server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, 100)]));
        assert_eq!(server.flush(), [], "{end}");
        let frames = server.sent();
        assert!(!frames.iter().any(|sent| matches!(sent, Sent::Data { .. } | Sent::Headers { .. })), "{end}");
    }
}

#[test]
fn an_end_without_bytes_needs_no_window() {
    let mut server = answering(0, 1);
    assert_eq!(server.data(1, b"", true), Ok(0));
    assert_eq!(server.sent(), [sent_data(1, b"", true)]);
    assert!(!server.http2.has_queued(server.key(1)));
}

#[test]
fn data_waits_while_the_output_is_full() {
    let mut server = answering(MAX, 1);
    server.feed(wire().window_update(0, MAX - 65_535));
    let taken = server.data(1, &vec![0; 2 * OUTPUT_HIGH_BYTES], true).unwrap();
    assert!((OUTPUT_HIGH_BYTES..OUTPUT_HIGH_BYTES + 16_384).contains(&taken), "{taken}");
    assert_eq!(server.flush(), [], "nothing left for the transport yet");
    let half = server.http2.output().len() / 2 + 1;
    server.http2.output_sent(half);
    let moved: u32 = server.flush().iter().map(|(_, bytes)| bytes).sum();
    assert!(moved as usize >= half - 16_384, "{moved} of {half}");
}

#[test]
fn nothing_can_be_sent_on_a_stream_that_was_reset() {
    // h2: "HEADERS sent on a stream already reset", "trailers on a closed stream".
    let mut server = Subject::server();
    server.releases = false;
    server.feed(wire().open(1).reset(1, ErrorCode::CANCEL));
    assert_eq!(server.headers(1, OK, false), Err(SendError::Closed));
    assert_eq!(server.data(1, b"x", true), Err(SendError::Closed));
    assert_eq!(server.trailers(1), Err(SendError::Closed));
    assert_eq!(server.sent(), []);
}

#[test]
fn a_response_may_be_whole_while_the_request_still_waits() {
    let mut pair = Pair::upstream();
    let stream = pair.client.request(false);
    pair.run();
    pair.server.headers(1, OK, true).unwrap();
    pair.run();
    assert_eq!(pair.client.take_seen(), [response(stream, true)]);
    // RFC 9113 section 8.1: NO_ERROR asks the client to stop; the response stays good.
    pair.server.reset(1, ErrorCode::NO_ERROR);
    pair.run();
    assert_eq!(pair.client.take_seen(), [super::subject::peer_reset(stream, ErrorCode::NO_ERROR)]);
}
