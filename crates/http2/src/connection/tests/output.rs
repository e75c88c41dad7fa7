//! The output: buffers that change hands, and when reading stops.

use super::subject::{Sent, Subject, sent_data};
use super::wire::{OK, wire};
use crate::OpenError;
use crate::limits::{ACKS_QUEUED_MAX, ACKS_QUEUED_STOP, Limits, OUTPUT_STOP_BYTES};
use crate::settings::id;

#[test]
fn an_idle_connection_owns_no_output_buffer() {
    let mut server = Subject::server();
    assert!(server.http2.has_output_buffer());
    assert!(server.http2.reclaim_output().is_some());
    assert!(!server.http2.has_output_buffer());
    assert!(server.http2.reclaim_output().is_none());
    server.feed(wire().ping(b"12345678"));
    assert!(server.http2.reclaim_output().is_none(), "a buffer with output stays");
    assert_eq!(server.sent(), [Sent::Pong(*b"12345678")]);
}

#[test]
fn a_lent_buffer_is_used_and_given_back() {
    let mut server = Subject::server();
    server.http2.reclaim_output();
    server.http2.lend_output(Vec::with_capacity(12_345));
    server.feed(wire().ping(b"12345678"));
    assert_eq!(server.http2.output().len(), 17);
    server.http2.output_sent(17);
    assert_eq!(server.http2.reclaim_output().unwrap().capacity(), 12_345);
}

#[test]
fn output_leaves_in_pieces_of_any_size() {
    let mut whole = Subject::server();
    let mut pieces = Subject::server();
    for subject in [&mut whole, &mut pieces] {
        subject.feed(wire().call(1).call(3));
        subject.answer(1);
    }
    let expected = whole.http2.output().to_vec();
    let mut got = Vec::new();
    for size in (1..6).cycle() {
        let size = size.min(pieces.http2.output().len());
        if size == 0 {
            break;
        }
        got.extend_from_slice(&pieces.http2.output()[..size]);
        pieces.http2.output_sent(size);
    }
    assert_eq!(got, expected);
    // What is written while a part is out goes behind it.
    pieces.answer(3);
    whole.http2.output_sent(expected.len());
    whole.answer(3);
    assert_eq!(pieces.http2.output(), whole.http2.output());
}

#[test]
fn memory_rises_with_what_waits_and_falls_when_it_leaves_or_is_dropped() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    for stream in [1, 3] {
        server.feed(wire().call(stream));
        server.headers(stream, OK, false).unwrap();
    }
    server.sent();
    server.http2.reclaim_output();
    let before = server.http2.memory_bytes();
    server.data(1, &[7; 10_000], false).unwrap();
    server.data(3, &[7; 5_000], false).unwrap();
    server.trailers(3).unwrap();
    let (first, second) =
        (server.http2.queued_memory(server.key(1)), server.http2.queued_memory(server.key(3)));
    assert!((10_000..20_000).contains(&first), "{first}");
    assert!((5_033..10_000).contains(&second), "its trailers count too: {second}");
    assert_eq!(server.http2.memory_bytes(), before + first + second);

    server.reset(1, crate::ErrorCode::CANCEL);
    server.sent();
    server.http2.reclaim_output();
    assert_eq!(server.http2.memory_bytes(), before + second);
    server.feed(wire().window_update(3, 5_000));
    server.flush();
    server.sent();
    server.http2.reclaim_output();
    // What trailers leave in the encoder's table is all that may stay.
    let after = server.http2.memory_bytes();
    assert!(after <= before + 100, "{before} before, {after} after");
}

#[test]
fn reading_stops_while_a_hundred_acknowledgements_wait() {
    // CVE-2019-9512: the peer sends PINGs and does not read the answers. grpc-go stops reading at the same number.
    let mut server = Subject::server_with(Limits { ping_strikes: u32::MAX, ..Limits::mesh() }, &[]);
    server.feed(wire().ping(b"12345678").times(ACKS_QUEUED_STOP as usize - 1));
    assert!(server.http2.wants_input());
    server.feed(wire().ping(b"12345678"));
    assert!(!server.http2.wants_input());
    server.sent();
    assert!(server.http2.wants_input());
}

#[test]
fn a_thousand_acknowledgements_may_wait_and_no_more() {
    let limits = Limits { ping_strikes: u32::MAX, ledger_burst: 1 << 20, ..Limits::mesh() };
    let mut server = Subject::server_with(limits, &[]);
    assert_eq!(server.feed(wire().ping(b"12345678").times(ACKS_QUEUED_MAX as usize)), []);
    let seen = server.feed(wire().ping(b"12345678"));
    assert_eq!(seen, [super::subject::fatal(crate::Violation::PingFlood)]);
}

#[test]
fn reading_stops_while_the_output_is_far_too_full() {
    let limits = Limits { max_concurrent_streams: 1000, ledger_burst: 1 << 20, ..Limits::edge() };
    let mut server = Subject::server_with(limits, &[]);
    let long = "v".repeat(16_000);
    let list = [(":status", "200"), ("long", long.as_str())];
    let mut stream = 1;
    while server.http2.wants_input() {
        assert!(server.http2.output().len() < OUTPUT_STOP_BYTES);
        server.feed(wire().call(stream));
        server.headers(stream, &list, true).unwrap();
        server.release(stream);
        stream += 2;
    }
    assert!(server.http2.output().len() < OUTPUT_STOP_BYTES + 17_000);
}

#[test]
fn acknowledgements_that_have_left_do_not_count_though_the_output_is_never_empty() {
    let limits = Limits { ping_strikes: u32::MAX, ledger_burst: 1 << 20, ..Limits::mesh() };
    let mut server = Subject::server_with(limits, &[(id::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    server.feed(wire().window_update(0, 0x7fff_0000).open(1));
    server.headers(1, OK, false).unwrap();
    for _ in 0..5_000 {
        // The peer measures its bandwidth by PINGs while it reads, which is always behind.
        server.data(1, &[0; 1_000], false).unwrap();
        assert_eq!(server.feed(wire().ping(b"12345678")), []);
        assert!(server.http2.wants_input());
        let waits = server.http2.output().len();
        server.http2.output_sent(waits.saturating_sub(3_000));
        server.http2.flush_queues(&mut server.fields, server.now);
        assert!(!server.http2.output().is_empty());
    }
}

#[test]
fn no_stream_is_opened_while_the_peer_leaves_a_megabyte_unread() {
    let mut client = Subject::client();
    let long = "v".repeat(10_000);
    let more = [("long", long.as_str())];
    let list = super::wire::with(super::wire::POST, &more);
    while client.http2.can_open().is_ok() {
        assert!(client.http2.output().len() < OUTPUT_STOP_BYTES);
        let stream = client.http2.open(client.now, 0).unwrap();
        let block = super::subject::literals(&list);
        client.http2.send_headers(&mut client.fields.store, stream, &block, &[], true).unwrap();
    }
    let waits = client.http2.output().len();
    assert!((OUTPUT_STOP_BYTES..OUTPUT_STOP_BYTES + 11_000).contains(&waits), "{waits}");
    assert_eq!(client.http2.open(client.now, 0), Err(OpenError::Full));
    client.http2.output_sent(waits - OUTPUT_STOP_BYTES);
    assert_eq!(client.http2.can_open(), Err(OpenError::Full), "exactly as much as is too much");
    client.http2.output_sent(1);
    assert_eq!(client.http2.can_open(), Ok(()), "one byte less");
}

#[test]
fn data_in_tiny_pieces_leaves_in_whole_frames_of_its_stream() {
    let mut server = Subject::server();
    server.feed(wire().call(1).call(3));
    server.headers(1, OK, false).unwrap();
    server.headers(3, OK, false).unwrap();
    server.sent();
    for byte in b"abc" {
        server.data(1, &[*byte], false).unwrap();
    }
    server.data(3, b"x", false).unwrap();
    server.data(1, b"d", false).unwrap();
    server.data(1, b"e", true).unwrap();
    let expected = [sent_data(1, b"abc", false), sent_data(3, b"x", false), sent_data(1, b"de", true)];
    assert_eq!(server.sent(), expected);
    // Up to the size of a frame, and not one byte more.
    server.data(3, &[0; 16_383], false).unwrap();
    server.data(3, b"y", false).unwrap();
    server.data(3, b"z", false).unwrap();
    let full = [[0; 16_383].as_slice(), b"y"].concat();
    assert_eq!(server.sent(), [sent_data(3, &full, false), sent_data(3, b"z", false)]);
}

#[test]
fn data_never_joins_a_frame_of_which_a_byte_has_left() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    let head = server.http2.output().len();
    server.data(1, b"abc", false).unwrap();
    let mut wire = server.http2.output()[..=head].to_vec();
    server.http2.output_sent(head + 1);
    server.data(1, b"d", false).unwrap();
    wire.extend_from_slice(server.http2.output());
    assert_eq!(&wire[head..], b"\0\0\x03\0\0\0\0\0\x01abc\0\0\x01\0\0\0\0\0\x01d");
}

#[test]
fn the_ends_of_the_connection_are_told_apart() {
    let mut server = Subject::server();
    assert!(server.http2.is_open() && !server.http2.has_ended());
    server.http2.shut(crate::ErrorCode::NO_ERROR, b"bye");
    server.http2.shut(crate::ErrorCode::INTERNAL_ERROR, b"again");
    assert!(!server.http2.is_open() && server.http2.has_ended());
    assert_eq!(server.sent(), [super::subject::sent_goaway(0, crate::ErrorCode::NO_ERROR, "bye")]);
    assert_eq!(server.http2.deadline(), None);
}

#[test]
fn a_stream_says_whether_its_output_waits() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    assert!(!server.http2.has_queued(server.key(1)) && !server.http2.has_listed());
    server.data(1, b"x", true).unwrap();
    assert!(server.http2.has_queued(server.key(1)) && server.http2.has_listed());
    server.flush();
    // Its own window is used up: it comes back with its WINDOW_UPDATE.
    assert!(server.http2.has_queued(server.key(1)) && !server.http2.has_listed());
    server.feed(wire().window_update(1, 1));
    assert!(server.http2.has_listed());
    server.flush();
    assert!(!server.http2.has_queued(server.key(1)) && !server.http2.has_listed());
}
