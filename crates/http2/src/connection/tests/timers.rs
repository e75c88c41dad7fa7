//! Deadlines, and a peer's share of a wake-up.

use core::time::Duration;

use super::subject::{Subject, T0, fatal, request, sent_goaway};
use super::wire::wire;
use crate::error::{ConnectionError, ErrorCode, Violation};
use crate::limits::{Limits, RESETS_PER_WAKE_MAX, STREAMS_PER_WAKE_MAX};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_frame_must_be_whole_within_thirty_seconds_of_its_first_byte() {
    for length in [1, 8, 9, 16] {
        let mut server = Subject::server();
        let ping = wire().ping(b"12345678").0;
        server.feed(wire().raw(&ping[..length]));
        server.pass(Duration::from_millis(29_999)).unwrap();
        let late = Err(ConnectionError::PeerMisbehaved(Violation::FrameTimeout));
        assert_eq!(server.pass(Duration::from_millis(1)), late);
        assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::ENHANCE_YOUR_CALM, "frame_timeout")]);
    }
}

#[test]
fn a_byte_now_and_then_does_not_make_a_frame_younger() {
    let mut server = Subject::server();
    let ping = wire().ping(b"12345678").0;
    for byte in &ping[..15] {
        server.feed(wire().raw(&[*byte]));
        server.pass(Duration::from_millis(1_900)).unwrap();
    }
    server.feed(wire().raw(&ping[15..16]));
    let late = Err(ConnectionError::PeerMisbehaved(Violation::FrameTimeout));
    assert_eq!(server.pass(Duration::from_millis(1_500)), late);
}

#[test]
fn each_frame_has_its_own_time() {
    let mut server = Subject::server();
    let ping = wire().ping(b"12345678").0;
    server.feed(wire().raw(&ping[..5]));
    server.pass(Duration::from_secs(20)).unwrap();
    server.feed(wire().raw(&ping[5..]).raw(&ping[..5]));
    assert_eq!(server.http2.deadline(), Some(server.now + Duration::from_secs(30)));
    server.feed(wire().raw(&ping[5..]));
    assert_eq!(server.http2.deadline(), Some(T0 + HOUR));
}

#[test]
fn a_connection_is_idle_from_the_end_of_its_last_stream() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    assert_eq!(server.http2.deadline(), None, "a call may take any time");
    server.now += 2 * HOUR;
    // The answer comes from elsewhere: this peer sends nothing.
    server.answer(1);
    assert_eq!(server.http2.deadline(), None, "the next flush says what time it is");
    server.sent();
    assert_eq!(server.http2.deadline(), Some(server.now + HOUR));
    server.pass(HOUR - Duration::from_millis(1)).unwrap();
    assert_eq!(server.sent(), []);
    server.pass(Duration::from_millis(1)).unwrap();
    let sent = server.sent();
    assert_eq!(sent[0], sent_goaway(0x7fff_ffff, ErrorCode::NO_ERROR, "idle"));
    assert!(server.http2.is_draining());
}

#[test]
fn keepalive_pings_do_not_make_a_connection_busy() {
    let mut server = Subject::server();
    for _ in 0..59 {
        server.pass(Duration::from_secs(60)).unwrap();
        server.feed(wire().ping(b"12345678"));
    }
    assert_eq!(server.http2.deadline(), Some(T0 + HOUR));
}

#[test]
fn a_call_that_was_on_its_way_when_an_idle_connection_drained_is_served() {
    let mut server = Subject::server();
    server.pass(HOUR).unwrap();
    assert_eq!(server.feed(wire().call(1)), [request(1, true)]);
    server.answer(1);
    server.pass(Duration::from_secs(5)).unwrap();
    assert!(server.http2.is_drained());
}

#[test]
fn the_mesh_profile_has_no_idle_timeout() {
    let server = Subject::server_with(Limits::mesh(), &[]);
    assert_eq!(server.http2.deadline(), None);
}

#[test]
fn nothing_is_due_before_its_time() {
    let mut server = Subject::server();
    server.feed(wire().raw(&[0, 0]));
    assert_eq!(server.http2.handle_timeout(&mut server.fields, server.now), Ok(()));
    assert_eq!(server.sent(), []);
}

#[test]
fn an_ended_connection_has_no_deadlines() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().window_update(0, 0)), [fatal(Violation::WindowIncrement)]);
    assert_eq!(server.http2.deadline(), None);
    assert_eq!(server.http2.handle_timeout(&mut server.fields, server.now + HOUR), Ok(()));
}

#[test]
fn streams_beyond_a_peers_share_wait_for_the_next_wake_up() {
    let mut server = Subject::server_with(Limits::mesh(), &[]);
    let streams = STREAMS_PER_WAKE_MAX + 10;
    let frames = (0..streams).fold(wire(), |wire, at| wire.call(2 * at + 1));
    assert_eq!(server.feed(frames).len() as u32, STREAMS_PER_WAKE_MAX);
    assert!(server.http2.has_had_its_share());
    assert!(!server.input.is_empty());
    server.wake();
    assert!(!server.http2.has_had_its_share());
    assert_eq!(server.seen.len(), 10);
    assert!(server.input.is_empty());
}

#[test]
fn resets_beyond_a_peers_share_wait_for_the_next_wake_up() {
    // HAProxy's 5d0f5f816: under a reset flood this brought other clients' response time from 95 ms to 1.6 ms.
    let mut server = Subject::server_with(Limits::mesh(), &[]);
    let frames = (0..2 * RESETS_PER_WAKE_MAX)
        .fold(wire(), |wire, at| wire.call(2 * at + 1).reset(2 * at + 1, ErrorCode::CANCEL));
    assert_eq!(server.feed(frames).len() as u32, 2 * RESETS_PER_WAKE_MAX);
    assert!(server.http2.has_had_its_share());
    server.wake();
    assert_eq!(server.seen.len() as u32, 2 * RESETS_PER_WAKE_MAX);
}

#[test]
fn a_share_that_is_used_up_delays_no_deadline() {
    let mut server = Subject::server_with(Limits::mesh(), &[]);
    let frames = (0..STREAMS_PER_WAKE_MAX).fold(wire(), |wire, at| wire.call(2 * at + 1));
    server.feed(frames.raw(&[0, 0]));
    assert_eq!(server.http2.deadline(), None, "what was not looked at is not late");
    server.wake();
    assert_eq!(server.http2.deadline(), Some(server.now + Duration::from_secs(30)));
}
