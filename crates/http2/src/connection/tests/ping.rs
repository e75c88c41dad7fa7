//! PING and its acknowledgement, and what makes one too many (gRFC A8).

use core::time::Duration;

use super::subject::{Seen, Sent, Subject, fatal, sent_goaway};
use super::wire::wire;
use crate::error::{ErrorCode, Violation};
use crate::frame::{flag, kind};

const PAYLOAD: [u8; 8] = *b"\0\x01ping\xfe\xff";

#[test]
fn a_ping_is_answered_with_its_payload() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().ping(&PAYLOAD)), []);
    assert_eq!(server.sent(), [Sent::Pong(PAYLOAD)]);
}

#[test]
fn our_own_ping_is_reported_when_it_is_answered() {
    let mut server = Subject::server();
    server.http2.ping(PAYLOAD);
    assert_eq!(server.sent(), [Sent::Ping(PAYLOAD)]);
    assert_eq!(server.feed(wire().ping_ack(&PAYLOAD)), [Seen::Pong(PAYLOAD)]);
}

#[test]
fn an_answer_to_no_ping_is_not_reported_and_costs_a_point() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().ping_ack(&PAYLOAD)), []);
    assert_eq!(server.http2.ledger.spent(), 1);
    server.http2.ping(PAYLOAD);
    assert_eq!(server.feed(wire().ping_ack(&PAYLOAD).ping_ack(&PAYLOAD)), [Seen::Pong(PAYLOAD)]);
    assert_eq!(server.http2.ledger.spent(), 2);
}

#[test]
fn a_ping_of_the_wrong_length_or_on_a_stream_ends_the_connection() {
    for (length, stream, flags, violation) in [
        (7, 0, 0, Violation::FrameLength),
        (9, 0, 0, Violation::FrameLength),
        (6, 0, flag::ACK, Violation::FrameLength),
        (8, 1, 0, Violation::FrameStream),
    ] {
        let mut server = Subject::server();
        let seen = server.feed(wire().frame(kind::PING, flags, stream, &vec![0; length]));
        assert_eq!(seen, [fatal(violation)]);
    }
}

#[test]
fn two_early_pings_are_forgiven_and_the_third_is_too_many() {
    let mut server = Subject::server();
    for _ in 0..3 {
        assert_eq!(server.feed(wire().ping(&PAYLOAD)), []);
        server.pass(Duration::from_millis(9_999)).unwrap();
    }
    server.sent();
    assert_eq!(server.feed(wire().ping(&PAYLOAD)), [fatal(Violation::TooManyPings)]);
    // gRPC clients look for this very text before they double their interval.
    assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::ENHANCE_YOUR_CALM, "too_many_pings")]);
}

#[test]
fn pings_at_the_shortest_interval_are_never_too_many() {
    let mut server = Subject::server();
    for _ in 0..1000 {
        assert_eq!(server.feed(wire().ping(&PAYLOAD)), []);
        assert_eq!(server.sent(), [Sent::Pong(PAYLOAD)]);
        server.now += Duration::from_secs(10);
    }
}

#[test]
fn headers_or_data_in_either_direction_clear_the_strikes() {
    let mut server = Subject::server();
    let two = || wire().ping(&PAYLOAD).ping(&PAYLOAD);
    assert_eq!(server.feed(two().ping(&PAYLOAD)).len(), 0);
    assert_eq!(server.feed(wire().open(1)).len(), 1);
    assert_eq!(server.feed(two()), []);
    assert_eq!(server.feed(wire().data(1, b"x")).len(), 1);
    assert_eq!(server.feed(two()), []);
    server.headers(1, super::wire::OK, false).unwrap();
    assert_eq!(server.feed(two()), []);
    server.data(1, b"y", false).unwrap();
    assert_eq!(server.feed(two()), []);
    server.trailers(1).unwrap();
    assert_eq!(server.feed(two()), []);
    assert_eq!(server.feed(wire().ping(&PAYLOAD)), [fatal(Violation::TooManyPings)]);
}

#[test]
fn queued_data_that_leaves_clears_the_strikes_too() {
    let mut server =
        Subject::server_with(crate::Limits::edge(), &[(crate::settings::id::INITIAL_WINDOW_SIZE, 0)]);
    server.feed(wire().call(1));
    server.headers(1, super::wire::OK, false).unwrap();
    server.data(1, b"y", true).unwrap();
    let two = || wire().ping(&PAYLOAD).ping(&PAYLOAD);
    assert_eq!(server.feed(two().ping(&PAYLOAD).window_update(1, 1)), []);
    assert_eq!(server.flush(), [(1, 1)]);
    assert_eq!(server.feed(two()), []);
}

#[test]
fn a_servers_pings_are_no_strikes() {
    let mut client = Subject::client();
    for _ in 0..50 {
        assert_eq!(client.feed(wire().ping(&PAYLOAD)), []);
        client.sent();
    }
}
