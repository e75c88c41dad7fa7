//! The life of streams: identifiers, limits, work slots, priorities.

use super::subject::{Seen, Sent, Subject, fatal, peer_reset, request, response};
use super::wire::{OK, wire};
use crate::error::{ErrorCode, StreamFailure, Violation};
use crate::frame::kind;
use crate::limits::Limits;
use crate::settings::id;
use crate::{Half, OpenError};

fn two_streams() -> Limits {
    Limits { max_concurrent_streams: 2, ..Limits::edge() }
}

#[test]
fn a_stream_over_the_limit_is_refused_and_may_be_tried_again() {
    let mut server = Subject::server_with(two_streams(), &[]);
    assert_eq!(server.feed(wire().call(1).call(3).call(5)), [request(1, true), request(3, true)]);
    assert_eq!(server.sent(), [Sent::Reset(5, ErrorCode::REFUSED_STREAM)]);
    assert!(StreamFailure::PeerReset(ErrorCode::REFUSED_STREAM).not_processed());
    server.answer(1);
    assert_eq!(server.feed(wire().call(7)), [request(7, true)]);
}

#[test]
fn streams_over_the_limit_cost_a_point_once_the_limit_is_known() {
    // Netty's CVE-2026-47244 is a limit that is advertised and not enforced.
    let mut server = Subject::new(crate::Role::Server, two_streams());
    server.feed(wire().preface().settings(&[]).call(1).call(3).call(5).call(7));
    assert_eq!(server.http2.ledger.spent(), 0);
    server.feed(wire().settings_ack().call(9));
    assert_eq!(server.http2.ledger.spent(), 1);
}

#[test]
fn a_stream_keeps_its_slot_until_its_work_is_over_and_not_until_its_reset() {
    // CVE-2023-44487: the attack lives from slots that are free as soon as RST_STREAM is there.
    let mut server = Subject::server_with(two_streams(), &[]);
    server.releases = false;
    server.feed(wire().call(1).call(3).reset(1, ErrorCode::CANCEL).reset(3, ErrorCode::CANCEL));
    assert_eq!(server.http2.stream_count(), 2);
    assert_eq!(server.feed(wire().call(5)), []);
    assert_eq!(server.sent(), [Sent::Reset(5, ErrorCode::REFUSED_STREAM)]);
    server.release(1);
    assert_eq!(server.feed(wire().call(7)), [request(7, true)]);
    assert_eq!(server.feed(wire().call(9)), []);
}

#[test]
fn a_completed_stream_keeps_its_slot_until_it_is_released() {
    let mut server = Subject::server_with(two_streams(), &[]);
    server.feed(wire().call(1).call(3));
    server.headers(1, OK, true).unwrap();
    assert_eq!(server.http2.stream_count(), 2);
    assert_eq!(server.http2.send_half(server.key(1)), Half::Closed);
    server.release(1);
    assert_eq!(server.http2.stream_count(), 1);
    assert_eq!(server.sent().len(), 1, "no reset of what is complete");
}

#[test]
fn an_open_stream_that_is_released_is_cancelled() {
    let mut client = Subject::client();
    client.request(true);
    client.sent();
    client.release(1);
    assert_eq!(client.sent(), [Sent::Reset(1, ErrorCode::CANCEL)]);
    assert_eq!(client.http2.stream_count(), 0);
    client.release(1);
    assert_eq!(client.sent(), []);
}

#[test]
fn a_stream_whose_headers_were_never_sent_is_released_in_silence() {
    // h2: "RST before initial HEADERS on idle stream".
    let mut client = Subject::client();
    let key = client.http2.open(client.now, 0).unwrap();
    client.http2.release(&mut client.fields, key);
    assert_eq!(client.sent(), []);
    assert_eq!(client.request(true), 3);
}

#[test]
fn a_reset_is_sent_once() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.reset(1, ErrorCode::INTERNAL_ERROR);
    server.reset(1, ErrorCode::CANCEL);
    server.release(1);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::INTERNAL_ERROR)]);
}

#[test]
fn a_failure_is_reported_once_though_the_peer_resets_twice() {
    let mut server = Subject::server();
    server.releases = false;
    let seen = server.feed(wire().open(1).reset(1, ErrorCode::CANCEL).reset(1, ErrorCode::CANCEL));
    assert_eq!(seen, [request(1, false), peer_reset(1, ErrorCode::CANCEL)]);
}

#[test]
fn any_code_of_a_peer_is_passed_on() {
    for code in [0, 5, 13, 14, u32::MAX].map(ErrorCode) {
        let mut client = Subject::client();
        client.request(true);
        assert_eq!(client.feed(wire().reset(1, code)), [peer_reset(1, code)]);
    }
}

#[test]
fn a_reset_of_the_wrong_length_ends_the_connection() {
    for length in [3, 5] {
        let mut server = Subject::server();
        server.feed(wire().open(1));
        let seen = server.feed(wire().frame(kind::RST_STREAM, 0, 1, &vec![0; length]));
        assert_eq!(seen, [fatal(Violation::FrameLength)]);
    }
}

#[test]
fn identifiers_must_rise_and_be_odd() {
    for (second, violation) in
        [(1, Violation::ClosedStream), (2, Violation::StreamId), (3, Violation::ClosedStream)]
    {
        let mut server = Subject::server();
        server.feed(wire().call(5));
        assert_eq!(server.feed(wire().call(second)), [fatal(violation)], "{second} after 5");
    }
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().call(5).call(0x7fff_ffff)).len(), 2);
}

#[test]
fn tokens_come_back_with_events() {
    let mut server = Subject::server();
    server.feed(wire().open(1).open(3));
    server.http2.set_token(server.key(1), 77);
    let bytes = wire().data(1, b"x").0;
    let event = server.http2.next_event(&mut server.fields, server.now, &bytes, &mut 0).unwrap();
    assert!(matches!(event, Some(crate::Event::Data { token: 77, .. })));
    let mut tokens: Vec<u32> = server.http2.tokens().collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [77, u32::MAX]);
}

#[test]
fn a_key_of_a_stream_that_is_gone_does_nothing() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.answer(1);
    server.sent();
    let key = server.key(1);
    server.http2.consume(key, 10);
    server.http2.set_token(key, 1);
    server.reset(1, ErrorCode::CANCEL);
    server.release(1);
    assert_eq!(server.headers(1, OK, true), Err(crate::SendError::Closed));
    assert_eq!((server.http2.send_half(key), server.http2.receive_half(key)), (Half::Closed, Half::Closed));
    assert_eq!(server.sent(), []);
}

#[test]
fn a_client_uses_the_last_identifier_and_then_needs_a_new_connection() {
    let mut client = Subject::client();
    client.http2.skip_to_stream(0x7fff_fffd);
    assert_eq!(client.request(true), 0x7fff_fffd);
    assert_eq!(client.request(true), 0x7fff_ffff);
    assert_eq!(client.http2.can_open(), Err(OpenError::Exhausted));
    assert_eq!(client.http2.open(client.now, 0), Err(OpenError::Exhausted));
    assert_eq!(client.http2.last_opened(), 0x7fff_ffff);
    assert_eq!(client.feed(wire().headers(0x7fff_ffff, OK, true)), [response(0x7fff_ffff, true)]);
}

#[test]
fn the_last_identifier_a_client_can_use_reaches_the_server() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().call(0x7fff_ffff)), [request(0x7fff_ffff, true)]);
    server.answer(0x7fff_ffff);
    assert_eq!(server.sent().len(), 1);
}

#[test]
fn a_server_opens_no_streams() {
    let server = Subject::server();
    assert_eq!(server.http2.can_open(), Err(OpenError::NotOpen));
}

#[test]
fn the_peers_stream_limit_counts_streams_until_they_are_released() {
    let mut client = Subject::client_with(Limits::upstream(), &[(id::MAX_CONCURRENT_STREAMS, 1)]);
    client.request(true);
    client.feed(wire().headers(1, OK, true));
    assert_eq!(client.http2.can_open(), Err(OpenError::Full));
    client.release(1);
    assert_eq!(client.http2.can_open(), Ok(()));
}

#[test]
fn priority_is_ignored_in_any_state_and_takes_no_slot() {
    // Haskell's http2 5.4.6: 64 PRIORITY frames for idle streams used every slot.
    let mut server = Subject::server_with(two_streams(), &[]);
    let frames = (0..64).fold(wire(), |wire, at| wire.priority(2 * at + 101, 0));
    assert_eq!(server.feed(frames.call(1)), [request(1, true)]);
    assert_eq!(server.sent(), []);
    assert_eq!(server.http2.stream_count(), 1);
}

#[test]
fn a_priority_that_depends_on_itself_or_has_another_length_is_an_error() {
    let short = || wire().frame(kind::PRIORITY, 0, 1, &[0; 4]);
    for (frame, violation, code) in [
        (wire().priority(1, 1), Violation::SelfDependency, ErrorCode::PROTOCOL_ERROR),
        (short(), Violation::FrameLength, ErrorCode::FRAME_SIZE_ERROR),
    ] {
        let mut server = Subject::server();
        let seen = server.feed(wire().open(1).raw(&frame.0));
        assert_eq!(seen, [request(1, false), super::subject::fault(1, violation)]);
        assert_eq!(server.sent(), [Sent::Reset(1, code)]);
        // RFC 9113 section 6.4: an idle stream cannot be reset.
        let mut server = Subject::server();
        assert_eq!(server.feed(frame), [fatal(violation)]);
    }
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().frame(kind::PRIORITY, 0, 0, &[0; 5])), [fatal(Violation::FrameStream)]);
}

#[test]
fn frames_of_unknown_types_are_ignored_with_any_flags_anywhere() {
    let mut server = Subject::server();
    let seen = server.feed(
        wire().frame(0xfe, 0xff, 0, &[1; 100]).open(1).frame(0x0a, 0x04, 1, b"").frame(0xbb, 1, 9, b"x"),
    );
    assert_eq!(seen, [request(1, false)]);
    assert_eq!(server.sent(), []);
}

#[test]
fn unknown_flags_and_the_reserved_bit_are_ignored() {
    let mut server = Subject::server();
    let mut ping = wire().frame(kind::PING, 0xfe, 0, b"12345678").0;
    ping[5] |= 0x80;
    assert_eq!(server.feed(wire().raw(&ping)), []);
    assert_eq!(server.sent(), [Sent::Pong(*b"12345678")]);
}

#[test]
fn a_frame_one_byte_over_the_maximum_is_refused_at_its_header() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.consumes = false;
    assert_eq!(server.feed(wire().data(1, &[0; 16_384])).len(), 1);
    let header = crate::frame::frame_header(16_385, kind::DATA, 0, 1);
    assert_eq!(server.feed(wire().raw(&header)), [fatal(Violation::FrameTooLarge)]);
}

#[test]
fn late_frames_are_ignored_for_a_thousand_resets() {
    // A proxy for hedging clients cancels thousands of calls a second; the backend's answers are on their way.
    let mut client = Subject::client();
    for _ in 0..super::super::RECENT_RESETS {
        let stream = client.request(true);
        client.release(stream);
    }
    client.sent();
    let late = |stream| {
        wire().headers(stream, OK, false).data(stream, b"x").headers(stream, super::wire::STATUS_0, true)
    };
    for stream in (0..super::super::RECENT_RESETS as u32).map(|at| 2 * at + 1) {
        assert_eq!(client.feed(late(stream)), []);
    }
    // And one more, so that the first is forgotten: it lives on, because it cannot be told from one that was reset.
    let stream = client.request(true);
    client.release(stream);
    assert_eq!(client.feed(late(1)), []);
    assert_eq!(client.http2.ledger.spent(), 0);
    assert_eq!(client.http2.held_bytes(), 0);
}

#[test]
fn a_server_answers_frames_for_streams_that_it_may_have_reset_and_forgotten() {
    let mut server = Subject::server_with(Limits { ledger_burst: 1 << 20, ..Limits::edge() }, &[]);
    for stream in (0..=super::super::RECENT_RESETS as u32).map(|at| 2 * at + 1) {
        server.feed(wire().open(stream));
        server.release(stream);
    }
    server.sent();
    assert_eq!(server.feed(wire().data(3, b"remembered")), []);
    assert_eq!(server.sent(), []);
    assert_eq!(server.feed(wire().data(1, b"forgotten")), []);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::STREAM_CLOSED)]);
    assert_eq!(server.http2.held_bytes(), 0);
}

#[test]
fn a_clients_stream_ends_with_both_halves_in_either_order() {
    for request_first in [true, false] {
        let mut client = Subject::client();
        let stream = client.request(false);
        let answer = wire().headers(stream, OK, true);
        if request_first {
            client.data(stream, b"", true).unwrap();
            client.feed(answer);
        } else {
            client.feed(answer);
            client.data(stream, b"", true).unwrap();
        }
        client.sent();
        client.release(stream);
        assert_eq!(client.sent(), []);
    }
}

#[test]
fn a_stream_closed_by_the_peer_reports_no_data_that_follows() {
    let mut client = Subject::client();
    client.request(false);
    client.feed(wire().headers(1, OK, false).last_data(1, b"all"));
    let seen = client.feed(wire().data(1, b"more"));
    assert_eq!(seen, [Seen::Failed(1, StreamFailure::Violation(Violation::ClosedStream))]);
}
