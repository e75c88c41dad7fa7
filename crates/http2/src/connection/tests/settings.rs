//! SETTINGS: order, acknowledgement, what they change.

use core::time::Duration;

use super::subject::{Seen, Sent, Subject, fatal, request, sent_goaway};
use super::wire::wire;
use crate::connection::Role;
use crate::error::{ConnectionError, ErrorCode, Violation};
use crate::frame::{flag, kind};
use crate::limits::{Limits, SETTINGS_FRAMES_MAX};
use crate::settings::id;

#[test]
fn each_settings_frame_is_acknowledged_in_order() {
    let mut server = Subject::server();
    let frames = wire().settings(&[(id::INITIAL_WINDOW_SIZE, 7)]).ping(b"between.").settings(&[]);
    assert_eq!(server.feed(frames), []);
    assert_eq!(server.sent(), [Sent::SettingsAck, Sent::Pong(*b"between."), Sent::SettingsAck]);
    assert_eq!(server.http2.peer_settings().initial_window, 7);
}

#[test]
fn an_acknowledgement_that_nothing_asked_for_ends_the_connection() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().settings_ack()), [fatal(Violation::SettingsAck)]);
}

#[test]
fn an_acknowledgement_with_a_payload_ends_the_connection() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    server.feed(wire().preface().settings(&[]));
    let seen = server.feed(wire().frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]));
    assert_eq!(seen, [fatal(Violation::FrameLength)]);
}

#[test]
fn settings_out_of_range_end_the_connection_with_their_own_code() {
    let cases = [
        (id::ENABLE_PUSH, 2, Violation::SettingValue, ErrorCode::PROTOCOL_ERROR),
        (id::INITIAL_WINDOW_SIZE, 1 << 31, Violation::SettingWindow, ErrorCode::FLOW_CONTROL_ERROR),
        (id::MAX_FRAME_SIZE, 16_383, Violation::SettingValue, ErrorCode::PROTOCOL_ERROR),
    ];
    for (setting, value, violation, code) in cases {
        let mut server = Subject::server();
        assert_eq!(server.feed(wire().settings(&[(setting, value)])), [fatal(violation)]);
        assert_eq!(server.sent(), [sent_goaway(0, code, "settings")]);
    }
}

#[test]
fn a_server_that_enables_push_is_refused() {
    let mut client = Subject::new(Role::Client, Limits::upstream());
    assert_eq!(client.feed(wire().settings(&[(id::ENABLE_PUSH, 1)])), [fatal(Violation::SettingValue)]);
}

#[test]
fn unknown_settings_are_ignored() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().settings(&[(0xaaaa, 1), (0, 0)])), []);
    assert_eq!(server.sent(), [Sent::SettingsAck]);
}

#[test]
fn settings_must_be_acknowledged_in_time() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    server.feed(wire().preface().settings(&[]));
    server.sent();
    assert_eq!(server.pass(Duration::from_millis(9_999)), Ok(()));
    let late = Err(ConnectionError::PeerMisbehaved(Violation::SettingsTimeout));
    assert_eq!(server.pass(Duration::from_millis(1)), late);
    assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::SETTINGS_TIMEOUT, "settings_timeout")]);
}

#[test]
fn an_acknowledgement_in_time_leaves_only_the_idle_timeout() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    server.feed(wire().preface().settings(&[]));
    server.pass(Duration::from_millis(9_999)).unwrap();
    server.feed(wire().settings_ack());
    assert_eq!(server.http2.deadline(), Some(super::subject::T0 + Duration::from_secs(3600)));
}

#[test]
fn ten_settings_frames_in_ten_seconds_are_allowed_and_the_eleventh_is_not() {
    // CVE-2019-9515. The mesh profile, so that the ledger does not answer first.
    let mut server = Subject::server_with(Limits::mesh(), &[]);
    for period in 0..3 {
        let seen = server.feed(wire().settings(&[]).times(SETTINGS_FRAMES_MAX as usize));
        assert_eq!(seen, [], "period {period}");
        server.sent();
        server.pass(Duration::from_secs(10)).unwrap();
    }
    assert_eq!(server.feed(wire().settings(&[]).times(11)), [fatal(Violation::SettingsFlood)]);
}

#[test]
fn the_peers_stream_limit_applies_at_once() {
    let mut client = Subject::client_with(Limits::upstream(), &[(id::MAX_CONCURRENT_STREAMS, 1)]);
    client.request(false);
    assert_eq!(client.http2.can_open(), Err(crate::OpenError::Full));
    assert_eq!(client.feed(wire().settings(&[(id::MAX_CONCURRENT_STREAMS, 2)])), []);
    client.request(false);
    // Fewer than are open is allowed: no further one is opened until enough have ended (section 5.1.2).
    assert_eq!(client.feed(wire().settings(&[(id::MAX_CONCURRENT_STREAMS, 0)])), []);
    client.release(1);
    assert_eq!(client.http2.can_open(), Err(crate::OpenError::Full));
}

#[test]
fn our_frames_are_cut_at_the_peers_maximum_frame_size() {
    let long = "v".repeat(8_000);
    let list = [(":status", "200"), ("a", &long), ("b", &long), ("c", &long)];
    for (size, frames) in [(16_384, 2), (24_100, 1)] {
        let mut server = Subject::server_with(Limits::edge(), &[(id::MAX_FRAME_SIZE, size)]);
        assert_eq!(server.feed(wire().call(1)), [request(1, true)]);
        server.headers(1, &list, true).unwrap();
        let bytes = server.http2.output();
        let kinds: Vec<u8> = headers_of(bytes).iter().map(|header| header.kind).collect();
        assert_eq!(kinds[0], kind::HEADERS);
        assert_eq!(kinds.len(), frames, "{kinds:?} at {size}");
        assert!(kinds[1..].iter().all(|&kind| kind == kind::CONTINUATION));
        assert!(headers_of(bytes).iter().all(|header| header.length <= size));
        assert_eq!(server.sent(), [super::subject::sent_headers(1, &list, true)]);
    }
}

fn headers_of(mut bytes: &[u8]) -> Vec<crate::frame::FrameHeader> {
    let mut headers = Vec::new();
    while let Some(header) = crate::frame::FrameHeader::parse(bytes) {
        headers.push(header);
        bytes = &bytes[9 + header.length as usize..];
    }
    headers
}

#[test]
fn a_lower_header_table_size_is_answered_at_the_next_blocks_beginning() {
    let (zero, hundred, initial) =
        ((id::HEADER_TABLE_SIZE, 0), (id::HEADER_TABLE_SIZE, 100), (id::HEADER_TABLE_SIZE, 4096));
    // Both sizes: the smallest, then the last (RFC 7541 section 4.2). 100 is 31 + 69 in five bits, 4096 31 + 4065.
    let to_hundred: &[u8] = &[0x20, 0x3f, 69];
    let cases = [
        (wire().settings(&[zero]).settings(&[hundred]), to_hundred),
        (wire().settings(&[zero, hundred]), to_hundred),
        (wire().settings(&[hundred, zero, initial]), &[0x20, 0x3f, 0xe1, 0x1f]),
    ];
    for (settings, expected) in cases {
        let mut server = Subject::server();
        server.feed(wire().call(1));
        server.feed(settings);
        server.sent();
        server.answer(1);
        assert_eq!(&server.http2.output()[9..9 + expected.len()], expected);
    }
}

#[test]
fn settings_of_an_odd_length_or_on_a_stream_end_the_connection() {
    for (length, stream, violation) in
        [(5, 0, Violation::FrameLength), (7, 0, Violation::FrameLength), (6, 1, Violation::FrameStream)]
    {
        let mut server = Subject::server();
        assert_eq!(
            server.feed(wire().frame(kind::SETTINGS, 0, stream, &vec![0; length])),
            [fatal(violation)]
        );
    }
}

#[test]
fn a_peer_that_sent_settings_twice_is_ready_once() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    assert_eq!(server.feed(wire().preface().settings(&[]).settings(&[])), [Seen::Ready]);
}
