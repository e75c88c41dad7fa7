//! GOAWAY in both directions (RFC 9113 section 6.8).

use core::time::Duration;

use super::pair::Pair;
use super::subject::{Seen, Sent, Subject, fatal, request, response, sent_goaway};
use super::wire::wire;
use crate::connection::drain::DRAIN_PING;
use crate::error::{ErrorCode, StreamFailure, Violation};
use crate::frame::kind;
use crate::{Half, OpenError};

const NO_ERROR: ErrorCode = ErrorCode::NO_ERROR;

#[test]
fn a_drain_says_so_first_and_names_the_last_stream_when_the_ping_is_answered() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.http2.start_drain(server.now, b"max_age");
    assert_eq!(server.sent(), [sent_goaway(0x7fff_ffff, NO_ERROR, "max_age"), Sent::Ping(DRAIN_PING)]);
    // What was on its way is still taken.
    assert_eq!(server.feed(wire().call(3)), [request(3, true)]);
    assert_eq!(server.feed(wire().ping_ack(&DRAIN_PING)), []);
    assert_eq!(server.sent(), [sent_goaway(3, NO_ERROR, "")]);
    assert!(server.http2.is_draining() && !server.http2.is_drained());
    server.answer(3);
    server.release(1);
    assert!(server.http2.is_drained());
}

#[test]
fn a_drain_does_not_wait_for_the_ping_for_ever() {
    let mut server = Subject::server();
    server.http2.start_drain(server.now, b"drain");
    server.sent();
    server.pass(Duration::from_millis(4_999)).unwrap();
    assert_eq!(server.sent(), []);
    server.pass(Duration::from_millis(1)).unwrap();
    assert_eq!(server.sent(), [sent_goaway(0, NO_ERROR, "")]);
    assert!(server.http2.is_drained());
    // The answer comes after all: nothing is said twice.
    assert_eq!(server.feed(wire().ping_ack(&DRAIN_PING)), []);
    assert_eq!(server.sent(), []);
}

#[test]
fn a_second_drain_changes_nothing() {
    let mut server = Subject::server();
    server.http2.start_drain(server.now, b"drain");
    server.sent();
    server.http2.start_drain(server.now + Duration::from_secs(1), b"again");
    assert_eq!(server.sent(), []);
    assert_eq!(server.http2.deadline(), Some(server.now + Duration::from_secs(5)));
}

#[test]
fn an_answer_that_no_drain_asked_for_drains_nothing() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().ping_ack(&DRAIN_PING)), []);
    assert_eq!(server.sent(), []);
    assert!(!server.http2.is_draining());
}

#[test]
fn streams_above_the_final_goaway_are_refused_and_their_data_is_credited() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.http2.start_drain(server.now, b"drain");
    server.feed(wire().ping_ack(&DRAIN_PING));
    server.sent();
    assert_eq!(server.feed(wire().open(3).data(3, b"late").window_update(3, 1)), []);
    assert_eq!(server.sent(), [Sent::Reset(3, ErrorCode::REFUSED_STREAM)]);
    assert_eq!(server.http2.held_bytes(), 0);
    // The stream that was taken goes on.
    assert_eq!(server.feed(wire().last_data(1, b"x")), [super::subject::data(1, b"x", true)]);
}

#[test]
fn an_error_after_the_final_goaway_does_not_raise_its_last_stream() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.http2.start_drain(server.now, b"drain");
    server.feed(wire().ping_ack(&DRAIN_PING).call(3));
    server.sent();
    assert_eq!(
        server.feed(wire().ping_ack(&[0; 8]).window_update(0, 0)),
        [fatal(Violation::WindowIncrement)]
    );
    assert_eq!(server.sent(), [sent_goaway(1, ErrorCode::PROTOCOL_ERROR, "window_increment")]);
}

#[test]
fn streams_above_a_servers_last_stream_fail_as_not_processed() {
    let mut client = Subject::client();
    for _ in 0..4 {
        client.request(false);
    }
    let seen = client.feed(wire().goaway(3, NO_ERROR).headers(3, super::wire::OK, true));
    let refused = |stream| Seen::Failed(stream, StreamFailure::GoAway(NO_ERROR));
    assert_eq!(seen[0], Seen::GoAway { last_stream: 3, code: NO_ERROR, debug: Vec::new() });
    let mut failed = seen[1..3].to_vec();
    failed.sort_by_key(|seen| if let Seen::Failed(stream, _) = seen { *stream } else { 0 });
    assert_eq!(failed, [refused(5), refused(7)]);
    assert_eq!(seen[3], response(3, true));
    assert_eq!(client.http2.stream_count(), 2, "streams 1 and 3 live on");
    assert_eq!(client.http2.can_open(), Err(OpenError::GoingAway));
    assert_eq!(client.http2.peer_goaway(), Some((3, NO_ERROR)));
}

#[test]
fn all_refused_streams_are_reported_even_if_the_owner_let_one_go_before() {
    let mut client = Subject::client();
    for _ in 0..5 {
        client.request(true);
    }
    let bytes = wire().goaway(0, NO_ERROR).0;
    let mut at = 0;
    let event = client.http2.next_event(&mut client.fields, client.now, &bytes, &mut at);
    assert!(matches!(event, Ok(Some(crate::Event::GoAway { .. }))));
    for gone in [3, 9] {
        client.release(gone);
    }
    let mut failed: Vec<u32> = client.feed(wire()).iter().map(stream_of).collect();
    failed.sort_unstable();
    assert_eq!(failed, [1, 5, 7]);
}

fn stream_of(seen: &Seen) -> u32 {
    match seen {
        Seen::Failed(stream, StreamFailure::GoAway(NO_ERROR)) => *stream,
        other => panic!("not a refused stream: {other:?}"),
    }
}

#[test]
fn a_second_goaway_reports_only_the_streams_that_the_first_had_left() {
    let mut client = Subject::client();
    for _ in 0..3 {
        client.request(true);
    }
    client.releases = false;
    assert_eq!(client.feed(wire().goaway(3, NO_ERROR)).len(), 2);
    let seen = client.feed(wire().goaway(1, NO_ERROR));
    assert_eq!(seen[1..], [Seen::Failed(3, StreamFailure::GoAway(NO_ERROR))]);
}

#[test]
fn what_a_refused_stream_had_queued_is_dropped() {
    let settings = [(crate::settings::id::INITIAL_WINDOW_SIZE, 0)];
    let mut client = Subject::client_with(crate::Limits::upstream(), &settings);
    client.releases = false;
    let stream = client.request(false);
    client.data(stream, b"never", true).unwrap();
    client.sent();
    client.feed(wire().goaway(0, NO_ERROR).settings(&[(crate::settings::id::INITIAL_WINDOW_SIZE, 100)]));
    assert_eq!(client.flush(), []);
    assert_eq!(client.sent(), [Sent::SettingsAck]);
    assert_eq!(client.http2.send_half(client.key(stream)), Half::Closed);
}

#[test]
fn a_two_phase_goaway_loses_no_stream() {
    let mut pair = Pair::upstream();
    pair.client.request(true);
    pair.run();
    pair.server.http2.start_drain(pair.server.now, b"drain");
    // This one crosses the first GOAWAY on its way.
    pair.client.request(true);
    pair.run();
    pair.server.answer(1);
    pair.server.answer(3);
    pair.run();
    assert_eq!(pair.server.take_seen(), [request(1, true), request(3, true)]);
    let seen = pair.client.take_seen();
    assert_eq!(seen[1], Seen::GoAway { last_stream: 3, code: NO_ERROR, debug: Vec::new() });
    assert_eq!(seen[2..], [response(1, true), response(3, true)]);
    assert!(pair.server.http2.is_drained());
}

#[test]
fn a_client_that_drains_opens_no_stream_and_finishes_what_it_has() {
    let mut pair = Pair::upstream();
    pair.client.request(true);
    pair.client.http2.start_drain(pair.client.now, b"drain");
    assert_eq!(pair.client.http2.can_open(), Err(OpenError::GoingAway));
    pair.run();
    let seen = pair.server.take_seen();
    assert_eq!(seen[0], request(1, true));
    assert!(matches!(seen[1], Seen::GoAway { last_stream: 0x7fff_ffff, .. }));
    assert!(matches!(seen[2], Seen::GoAway { last_stream: 0, .. }));
    pair.server.answer(1);
    pair.run();
    assert_eq!(pair.client.take_seen(), [response(1, true)]);
    pair.client.release(1);
    assert!(pair.client.http2.is_drained());
}

#[test]
fn a_clients_goaway_does_not_touch_the_streams_that_it_opened() {
    // "GOAWAY closing peer-initiated streams": the last stream of a client's GOAWAY counts pushed streams.
    let mut server = Subject::server();
    server.feed(wire().open(1));
    let seen = server.feed(wire().goaway(0, NO_ERROR).last_data(1, b"x"));
    assert_eq!(seen[1], super::subject::data(1, b"x", true));
}

#[test]
fn a_goaway_may_lower_its_last_stream_but_not_raise_it() {
    let mut client = Subject::client();
    let seen =
        client.feed(wire().goaway(5, NO_ERROR).goaway(5, NO_ERROR).goaway(3, NO_ERROR).goaway(5, NO_ERROR));
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[3], fatal(Violation::GoAwayRaised));
}

#[test]
fn a_goaway_brings_its_reason_and_the_reserved_bit_is_ignored() {
    let mut client = Subject::client();
    let payload = [&[0x80, 0, 0, 1, 0, 0, 0, 11][..], b"too_many_pings"].concat();
    let expected = Seen::GoAway {
        last_stream: 1,
        code: ErrorCode::ENHANCE_YOUR_CALM,
        debug: b"too_many_pings".to_vec(),
    };
    assert_eq!(client.feed(wire().frame(kind::GOAWAY, 0, 0, &payload)), [expected]);
}

#[test]
fn a_goaway_on_a_stream_or_too_short_ends_the_connection() {
    for (stream, length, violation) in [(1, 8, Violation::FrameStream), (0, 7, Violation::FrameLength)] {
        let mut client = Subject::client();
        assert_eq!(client.feed(wire().frame(kind::GOAWAY, 0, stream, &vec![0; length])), [fatal(violation)]);
    }
}

#[test]
fn goaways_cost_a_point_each() {
    let mut client = Subject::client();
    client.feed(wire().goaway(1, NO_ERROR).times(20));
    assert_eq!(client.http2.ledger.spent(), 20);
}
