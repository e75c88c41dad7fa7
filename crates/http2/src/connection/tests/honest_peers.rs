//! Peers that do much of what attackers do, and are right to: none may be charged into the end of its connection.
//!
//! nghttp2 had to raise its limit tenfold, h2 shipped three releases in a week, and Envoy broke cookies for lack of these.

use core::time::Duration;

use super::pair::Pair;
use super::subject::{Seen, Sent, Subject, data, request, response};
use super::wire::{OK, wire};
use crate::error::ErrorCode;
use crate::limits::Limits;
use crate::settings::id;

const MILLISECOND: Duration = Duration::from_millis(1);

/// No GOAWAY was sent, and nothing was charged that is still owed.
fn assert_untroubled(subject: &mut Subject) {
    subject.http2.ledger.charge(subject.now, 0);
    assert_eq!(subject.http2.ledger.spent(), 0);
    assert!(!subject.http2.is_draining() && !subject.http2.has_ended());
}

#[test]
fn a_model_streams_tokens_of_twenty_bytes() {
    // h2#944: a budget for small DATA frames broke healthy streams.
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    for _ in 0..100_000 {
        assert_eq!(server.data(1, b"a token of 20 bytes.", false), Ok(20));
        // A client that gives credit back for each message, for stream and connection.
        assert_eq!(server.feed(wire().window_update(1, 20).window_update(0, 20)), []);
        server.take_output();
        server.now += MILLISECOND;
    }
    assert_untroubled(&mut server);
}

#[test]
fn a_client_streams_messages_of_twenty_bytes() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    for _ in 0..1000 {
        let seen = server.feed(wire().data(1, b"a token of 20 bytes.").times(100));
        assert_eq!(seen.len(), 100);
        server.take_output();
    }
    assert_untroubled(&mut server);
}

#[test]
fn a_burst_after_silence_is_explained_when_its_credit_comes_back() {
    // The updates come in another second than the DATA that they answer.
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    server.now += Duration::from_secs(3600);
    server.data(1, b"the first", false).unwrap();
    server.now += 990 * MILLISECOND;
    for _ in 0..1000 {
        server.data(1, b"a token of 20 bytes.", false).unwrap();
    }
    server.now += 50 * MILLISECOND;
    assert_eq!(server.feed(wire().window_update(1, 20).window_update(0, 20).times(1000)), []);
    assert_untroubled(&mut server);
}

#[test]
fn a_hedging_client_cancels_half_its_calls() {
    let mut server = Subject::server();
    let mut most = 0;
    for call in 0..50_000_u32 {
        let (kept, hedged) = (4 * call + 1, 4 * call + 3);
        server.feed(wire().call(kept).call(hedged));
        server.answer(kept);
        server.feed(wire().reset(hedged, ErrorCode::CANCEL));
        most = most.max(server.http2.ledger.spent());
        server.take_output();
        if call % 5 == 0 {
            server.now += MILLISECOND;
        }
    }
    assert!(most <= 1, "{most} points were owed at once");
    assert!(!server.http2.is_draining());
}

#[test]
fn a_proxy_cancels_half_its_calls_at_a_backend_whose_answers_are_on_their_way() {
    let mut client = Subject::client();
    let mut late: Vec<u32> = Vec::new();
    for round in 0..200 {
        // 500 calls in a round trip; half of them are cancelled, and answered all the same a round trip later.
        let streams: Vec<u32> = (0..500).map(|_| client.request(true)).collect();
        for stream in late.drain(..) {
            let answer = wire().headers(stream, OK, false).data(stream, b"x").headers(
                stream,
                super::wire::STATUS_0,
                true,
            );
            assert_eq!(client.feed(answer), [], "round {round}");
        }
        for pair in streams.chunks(2) {
            assert_eq!(client.feed(wire().headers(pair[0], OK, true)), [response(pair[0], true)]);
            client.release(pair[0]);
            client.release(pair[1]);
            late.push(pair[1]);
        }
        client.take_output();
        client.now += 50 * MILLISECOND;
    }
    assert_eq!(client.http2.held_bytes(), 0);
    assert_untroubled(&mut client);
}

#[test]
fn grpc_go_measures_the_bandwidth_with_a_ping_for_each_round_trip() {
    // One PING in flight whenever DATA came since the last: on a fast network thousands a second.
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    for _ in 0..20_000 {
        server.data(1, b"a token of 20 bytes.", false).unwrap();
        assert_eq!(
            server.feed(
                wire().ping(b"\x02\x04\x10\x10\x09\x0e\x07\x07").window_update(1, 20).window_update(0, 20)
            ),
            []
        );
        server.take_output();
        server.now += MILLISECOND / 5;
    }
    assert_untroubled(&mut server);
}

#[test]
fn grpc_go_measures_the_bandwidth_of_unary_calls_too() {
    let mut server = Subject::server();
    for stream in (0..20_000).map(|at| 2 * at + 1) {
        assert_eq!(server.feed(wire().call(stream)), [request(stream, true)]);
        server.answer(stream);
        assert_eq!(server.feed(wire().ping(b"bandwith")), []);
        server.take_output();
    }
    assert_untroubled(&mut server);
}

#[test]
fn a_backend_measures_the_bandwidth_of_an_upload() {
    let mut client = Subject::client();
    client.request(false);
    for _ in 0..20_000 {
        client.data(1, b"a token of 20 bytes.", false).unwrap();
        assert_eq!(client.feed(wire().ping(b"bandwith").window_update(1, 20).window_update(0, 20)), []);
        client.take_output();
    }
    assert_untroubled(&mut client);
}

#[test]
fn a_keepalive_every_ten_seconds_goes_on_for_a_day() {
    for with_call in [false, true] {
        let mut server = Subject::server_with(Limits { idle_timeout: None, ..Limits::edge() }, &[]);
        if with_call {
            server.feed(wire().open(1));
        }
        for _ in 0..8640 {
            assert_eq!(server.feed(wire().ping(b"alive???")), []);
            assert_eq!(server.sent(), [Sent::Pong(*b"alive???")]);
            server.pass(Duration::from_secs(10)).unwrap();
        }
        assert_untroubled(&mut server);
    }
}

#[test]
fn a_browser_begins_with_priorities_and_grease() {
    let mut server = Subject::server();
    let frames = [3, 5, 7, 9, 11].iter().fold(wire(), |wire, &stream| wire.priority(stream, 0));
    let seen = server.feed(frames.frame(0x4a, 0x3c, 0, b"grease").settings(&[(0x2a2a, 7)]).call(13));
    assert_eq!(seen, [request(13, true)]);
    assert!(!server.http2.is_draining());
}

#[test]
fn c_core_ends_a_request_with_an_empty_frame() {
    let mut server = Subject::server();
    for stream in (0..10_000).map(|at| 2 * at + 1) {
        let seen = server.feed(wire().open(stream).data(stream, b"x").last_data(stream, b""));
        assert_eq!(seen, [request(stream, false), data(stream, b"x", false), data(stream, b"", true)]);
        server.answer(stream);
        server.take_output();
    }
    assert_untroubled(&mut server);
}

#[test]
fn one_empty_message_now_and_then_is_free() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    for _ in 0..10_000 {
        assert_eq!(server.feed(wire().data(1, b"").data(1, b"x")).len(), 2);
        server.take_output();
    }
    assert_untroubled(&mut server);
}

#[test]
fn a_download_with_small_windows_gives_credit_back_in_small_pieces() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 4_096)]);
    server.feed(wire().call(1).window_update(0, 1 << 30));
    server.headers(1, OK, false).unwrap();
    server.data(1, &[0; 60_000], false).unwrap();
    for _ in 0..10_000 {
        server.flush();
        server.take_output();
        if !server.http2.has_queued(server.key(1)) {
            server.data(1, &[0; 60_000], false).unwrap();
        }
        assert_eq!(server.feed(wire().window_update(1, 1_024)), []);
        server.now += MILLISECOND;
    }
    assert_untroubled(&mut server);
}

#[test]
fn a_client_whose_calls_all_meet_their_deadline_at_once_is_not_ended() {
    // A backend stalls: as many cancellations as there are streams, younger than a second and without an answer.
    let mut server = Subject::server();
    for stream in (0..100).map(|at| 2 * at + 1) {
        server.feed(wire().call(stream));
    }
    server.now += 500 * MILLISECOND;
    for stream in (0..100).map(|at| 2 * at + 1) {
        server.feed(wire().reset(stream, ErrorCode::CANCEL));
    }
    assert!(!server.http2.is_draining());
    assert_eq!(server.http2.stream_count(), 0);
}

#[test]
fn both_ends_of_this_engine_are_honest_peers_to_each_other() {
    let mut pair = Pair::new(Limits::edge(), Limits::edge());
    for _ in 0..500 {
        let stream = pair.client.request(false);
        pair.client.data(stream, &[1; 3_000], true).unwrap();
        pair.run();
        pair.server.headers(stream, OK, false).unwrap();
        pair.server.data(stream, &[2; 30_000], false).unwrap();
        pair.run();
        pair.server.trailers(stream).unwrap();
        pair.run();
        pair.server.release(stream);
        pair.client.release(stream);
        assert!(pair.client.take_seen().contains(&Seen::Trailers(stream)));
    }
    assert_untroubled(&mut pair.client);
    assert_untroubled(&mut pair.server);
}
