//! What the peer may send: every byte of credit comes back, once.

use super::subject::{Seen, Sent, Subject, fatal, fault, request};
use super::wire::{Wire, wire};
use crate::connection::Role;
use crate::error::{ErrorCode, Violation};
use crate::frame::{flag, kind};
use crate::limits::Limits;

const STREAM: u32 = 65_535;
const CONNECTION: u32 = 1024 * 1024;

/// DATA of this many bytes, in frames of the largest size.
fn bytes(stream: u32, count: usize) -> Wire {
    vec![0; count].chunks(16_384).fold(wire(), |wire, chunk| wire.data(stream, chunk))
}

/// What WINDOW_UPDATE frames for the connection add up to.
fn connection_credit(sent: &[Sent]) -> u32 {
    sent.iter().map(|sent| if let Sent::WindowUpdate(0, by) = sent { *by } else { 0 }).sum()
}

/// A server whose owner keeps what arrives, with these streams open.
fn keeping(limits: Limits, streams: u32) -> Subject {
    let mut server = Subject::server_with(limits, &[]);
    server.consumes = false;
    for stream in 0..streams {
        assert_eq!(server.feed(wire().open(2 * stream + 1)).len(), 1);
    }
    server
}

#[test]
fn a_streams_window_may_be_filled_and_not_exceeded() {
    let mut server = keeping(Limits::edge(), 1);
    assert_eq!(server.feed(bytes(1, STREAM as usize)).len(), 4);
    assert_eq!(server.feed(wire().data(1, b"x")), [fault(1, Violation::WindowExceeded)]);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::FLOW_CONTROL_ERROR)]);
    assert_eq!(server.http2.held_bytes(), 0);
}

#[test]
fn the_connections_window_may_be_filled_and_not_exceeded() {
    let limits = Limits { connection_window_bytes: 4 * STREAM, ..Limits::edge() };
    let mut server = keeping(limits, 5);
    for stream in [1, 3, 5, 7] {
        server.feed(bytes(stream, STREAM as usize));
    }
    assert_eq!(server.http2.held_bytes(), 4 * STREAM);
    assert_eq!(server.sent(), []);
    assert_eq!(server.feed(wire().data(9, b"x")), [fatal(Violation::WindowExceeded)]);
}

#[test]
fn credit_comes_back_when_the_owner_is_done_with_as_much_as_the_peer_has_left() {
    let mut server = keeping(Limits::edge(), 1);
    server.feed(bytes(1, 40_000));
    server.consume(1, STREAM - 40_000 - 1);
    assert_eq!(server.sent(), []);
    server.consume(1, 1);
    assert_eq!(server.sent(), [Sent::WindowUpdate(1, STREAM - 40_000)]);
    server.consume(1, 2 * 40_000 - STREAM);
    assert_eq!(server.sent(), []);
    // What is left of the 40 000 is 14 465 bytes; 25 535 more are again more than the peer has left.
    server.feed(bytes(1, 25_535));
    server.consume(1, 25_535);
    assert_eq!(server.sent(), [Sent::WindowUpdate(1, 40_000)]);
}

#[test]
fn the_connections_credit_is_announced_apart_from_the_streams() {
    let limits = Limits { connection_window_bytes: 2 * STREAM, ..Limits::edge() };
    let mut server = keeping(limits, 2);
    server.feed(bytes(1, STREAM as usize));
    server.feed(bytes(3, STREAM as usize));
    server.consume(1, STREAM);
    assert_eq!(server.sent(), [Sent::WindowUpdate(1, STREAM), Sent::WindowUpdate(0, STREAM)]);
}

#[test]
fn a_stream_that_has_ended_gets_no_more_credit_but_the_connection_does() {
    let limits = Limits { connection_window_bytes: STREAM, ..Limits::edge() };
    let mut server = keeping(limits, 1);
    server.feed(bytes(1, 40_000));
    server.feed(wire().last_data(1, b""));
    server.consume(1, 40_000);
    assert_eq!(server.sent(), [Sent::WindowUpdate(0, 40_000)]);
}

#[test]
fn padding_is_credited_though_no_owner_sees_it() {
    // h2 0.4.13 to 0.4.15 leaked it; a padding of 255 overflowed a u8 together with its length byte.
    let mut server = keeping(Limits::mesh(), 1);
    let frames = STREAM / 256;
    let seen = server.feed(wire().padded_data(1, b"", 255).times(frames as usize));
    assert_eq!(seen.len() as u32, frames);
    assert_eq!(server.http2.held_bytes(), 0);
    let seen = server.feed(wire().padded_data(1, b"x", 255).times(frames as usize));
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Failed(..) | Seen::Error(_))), "{seen:?}");
    assert_eq!(server.http2.held_bytes(), frames);
}

#[test]
fn padding_may_fill_the_frame_and_no_more() {
    for (padding, length, violation) in
        [(3, 3, None), (4, 3, Some(Violation::Padding)), (255, 0, Some(Violation::Padding))]
    {
        let mut server = keeping(Limits::edge(), 1);
        let mut payload = vec![padding];
        payload.resize(1 + length, 0);
        let seen = server.feed(wire().frame(kind::DATA, flag::PADDED, 1, &payload));
        match violation {
            None => assert_eq!(seen, [super::subject::data(1, b"", false)]),
            Some(violation) => assert_eq!(seen, [fatal(violation)]),
        }
    }
    let mut server = keeping(Limits::edge(), 1);
    assert_eq!(server.feed(wire().frame(kind::DATA, flag::PADDED, 1, &[])), [fatal(Violation::Padding)]);
}

/// Ways in which DATA is taken by nobody: what arrives before, and for which stream.
fn taken_by_nobody() -> Vec<(&'static str, Subject, u32)> {
    let limits = Limits { max_concurrent_streams: 1, connection_window_bytes: STREAM, ..Limits::edge() };
    let server = || keeping(limits, 1);
    let mut reset = server();
    reset.release(1);
    let mut reset_with_work = server();
    reset_with_work.reset(1, ErrorCode::CANCEL);
    let mut refused = server();
    refused.feed(wire().open(3));
    let mut after_goaway = server();
    after_goaway.http2.start_drain(after_goaway.now, b"");
    after_goaway.http2.finish_drain();
    after_goaway.feed(wire().open(3));
    let mut malformed = Subject::server_with(limits, &[]);
    malformed.feed(wire().headers(1, &[(":method", "POST")], false));
    vec![
        ("reset", reset, 1),
        ("reset with work left", reset_with_work, 1),
        ("refused", refused, 3),
        ("after GOAWAY", after_goaway, 3),
        ("malformed", malformed, 1),
    ]
}

#[test]
fn data_that_nobody_takes_is_credited_at_once() {
    // "capacity leak", "DATA after GOAWAY not credited": one window after another goes the same way.
    for (name, mut server, stream) in taken_by_nobody() {
        server.sent();
        let mut granted = STREAM;
        for round in 1..=10 {
            assert_eq!(server.feed(bytes(stream, 32_768)), [], "{name}, round {round}");
            granted += connection_credit(&server.sent());
            assert_eq!(server.http2.held_bytes(), 0, "{name}");
            assert_eq!(granted, round * 32_768 + server.http2.window.available(), "{name}");
            assert!(server.http2.window.available() > STREAM / 2, "{name}, round {round}");
        }
    }
}

#[test]
fn what_a_stream_held_comes_back_when_it_is_released() {
    let limits = Limits { connection_window_bytes: STREAM, ..Limits::edge() };
    let mut server = keeping(limits, 1);
    server.feed(bytes(1, STREAM as usize));
    assert_eq!(server.sent(), []);
    server.release(1);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::CANCEL), Sent::WindowUpdate(0, STREAM)]);
    assert_eq!(server.http2.held_bytes(), 0);
    // Go's CVE-2026-78663 refunded twice: once for the reset, once for the read.
    server.consume(1, STREAM);
    assert_eq!(server.sent(), []);
}

#[test]
fn credit_comes_back_once_when_a_consumer_is_slower_than_the_peers_reset() {
    let limits = Limits { connection_window_bytes: STREAM, ..Limits::edge() };
    let mut server = keeping(limits, 1);
    server.releases = false;
    server.feed(bytes(1, STREAM as usize).reset(1, ErrorCode::CANCEL));
    server.consume(1, 40_000);
    assert_eq!(server.sent(), [Sent::WindowUpdate(0, 40_000)]);
    server.release(1);
    assert_eq!(server.sent(), []);
    assert_eq!((server.http2.window.held(), server.http2.window.available()), (0, 40_000));
    server.feed(wire().open(3));
    server.feed(bytes(3, 7_233));
    server.consume(3, 7_233);
    // 25 535 of stream 1 and 7 233 of stream 3 are more than the other half of the window.
    assert_eq!(server.sent(), [Sent::WindowUpdate(0, 32_768)]);
}

#[test]
fn held_bytes_within_the_allowance_do_not_slow_the_connection() {
    let streams = CONNECTION / STREAM;
    let limits = Limits { held_allowance_bytes: CONNECTION, ..Limits::mesh() };
    let mut server = keeping(limits, 2 * streams);
    let mut credit = 0;
    for stream in 0..2 * streams {
        server.feed(bytes(2 * stream + 1, STREAM as usize));
        // A stalled reader keeps its bytes, and nobody consumes any: the connection's credit is returned all the same.
        credit += connection_credit(&server.sent());
    }
    let available = server.http2.window.available();
    assert_eq!(credit + CONNECTION, server.http2.held_bytes() + available);
    assert!(server.http2.held_bytes() > CONNECTION && available > 0);
}

#[test]
fn a_small_window_forgives_what_was_sent_before_it_was_known() {
    let limits = Limits { stream_window_bytes: 16_384, ..Limits::edge() };
    let mut server = Subject::new(Role::Server, limits);
    server.consumes = false;
    // RFC 9113 section 6.9.2: until it has read our SETTINGS the client may send 65 535 bytes.
    let seen = server.feed(wire().preface().settings(&[]).open(1).raw(&bytes(1, STREAM as usize).0));
    assert_eq!(seen.len(), 2 + 4);
    server.feed(wire().settings_ack());
    server.sent();
    // The client counts 16 384 - 65 535 from now on. It gets the window of 16 384 back once all is consumed.
    server.consume(1, STREAM - 8_192);
    assert_eq!(server.sent(), [Sent::WindowUpdate(1, STREAM - 8_192)]);
    assert_eq!(server.feed(bytes(1, 8_192)).len(), 1);
    assert_eq!(server.feed(wire().data(1, b"x")), [fault(1, Violation::WindowExceeded)]);
}

#[test]
fn a_small_window_forgives_nothing_once_it_is_known() {
    let limits = Limits { stream_window_bytes: 16_384, ..Limits::edge() };
    let mut server = keeping(limits, 1);
    assert_eq!(server.feed(bytes(1, 16_384)).len(), 1);
    assert_eq!(server.feed(wire().data(1, b"x")), [fault(1, Violation::WindowExceeded)]);
}

#[test]
fn even_before_our_settings_are_known_the_initial_window_is_the_limit() {
    let limits = Limits { stream_window_bytes: 16_384, ..Limits::edge() };
    let mut server = Subject::new(Role::Server, limits);
    server.consumes = false;
    server.feed(wire().preface().settings(&[]).open(1).raw(&bytes(1, STREAM as usize).0));
    assert_eq!(server.feed(wire().data(1, b"x")), [fault(1, Violation::WindowExceeded)]);
}

#[test]
fn a_request_whose_data_breaks_a_rule_leaves_no_byte_held() {
    let mut server = keeping(Limits::edge(), 0);
    let declared = super::wire::with(super::wire::POST, &[("content-length", "1")]);
    let seen = server.feed(wire().headers(1, &declared, false).data(1, b"too much"));
    assert_eq!(seen, [request(1, false), fault(1, Violation::ContentLength)]);
    assert_eq!(server.http2.window.available(), CONNECTION - 8);
    assert_eq!(server.http2.held_bytes(), 0);
}
