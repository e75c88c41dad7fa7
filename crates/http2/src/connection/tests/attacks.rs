//! Attacks on HTTP/2 engines, by their names or advisories: what a peer gets for its bytes. Floods: [`super::floods`].

use core::time::Duration;

use super::subject::{Seen, Sent, Subject, T0, fatal, request};
use super::wire::{OK, POST, block, wire, with};
use crate::error::{ErrorCode, Violation};
use crate::hpack::HpackError;
use crate::limits::{Limits, OUTPUT_HIGH_BYTES, SETTINGS_ENTRIES_MAX};
use crate::settings::id;

#[test]
fn cve_2020_11080_large_settings_are_refused() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().settings(&[(0xf0, 0); SETTINGS_ENTRIES_MAX])), []);
    let seen = server.feed(wire().settings(&[(0xf0, 0); SETTINGS_ENTRIES_MAX + 1]));
    assert_eq!(seen, [fatal(Violation::SettingEntries)]);
}

#[test]
fn cve_2019_9516_fields_without_a_name_are_charged_and_refused() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().headers(1, &with(POST, &[("", "")]), true)), []);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)]);
    // Three bytes each, but 32 by RFC 7541 section 4.1: four times the limit of fields ends it.
    let empty = [("", ""); 401];
    let seen = server.feed(wire().headers_block(3, &block(&empty), true));
    assert_eq!(seen, [fatal(Violation::HeaderBlock(HpackError::ListFarTooLarge))]);
}

#[test]
fn cve_2019_9517_data_for_a_peer_that_does_not_read_is_bounded() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    server.feed(wire().window_update(0, 0x7fff_ffff - 65_535));
    for stream in (0..100).map(|at| 2 * at + 1) {
        server.feed(wire().call(stream));
        server.headers(stream, OK, false).unwrap();
        // What a stream is given beyond this stays with whoever feeds it, since it is not reported as sent.
        server.data(stream, &[0; 65_535], true).unwrap();
        server.flush();
    }
    assert!(server.http2.output().len() < OUTPUT_HIGH_BYTES + 100 * 100 + 20_000);
}

#[test]
fn cve_2023_44487_rapid_reset_never_has_more_work_than_the_stream_limit() {
    // The work of a cancelled stream takes its time: its owner lets go of it when that is over.
    let mut server = Subject::server();
    server.releases = false;
    let mut most = 0;
    for at in 0..10_000_u32 {
        server.feed(wire().call(2 * at + 1).reset(2 * at + 1, ErrorCode::CANCEL));
        most = most.max(server.http2.stream_count());
        if server.http2.has_ended() {
            break;
        }
    }
    assert_eq!(most, 100);
    assert!(server.http2.has_ended());
}

#[test]
fn rapid_reset_is_not_paid_back_when_the_work_ends_later() {
    // Two resets, then both works end: neither stream completed, so neither gives a point back.
    let mut server = Subject::server();
    server.releases = false;
    server.feed(wire().call(1).call(3).reset(1, ErrorCode::CANCEL).reset(3, ErrorCode::CANCEL));
    server.release(1);
    server.release(3);
    assert_eq!(server.http2.ledger.spent(), 2);
}

#[test]
fn rapid_reset_with_a_few_completed_calls_still_ends() {
    let mut server = Subject::server();
    let mut stream = 1;
    while !server.http2.has_ended() {
        assert!(stream < 2_000, "three resets for each answer end the connection");
        server.feed(wire().call(stream));
        if stream % 8 == 1 {
            server.answer(stream);
        } else {
            server.feed(wire().reset(stream, ErrorCode::CANCEL));
        }
        server.sent();
        stream += 2;
    }
}

#[test]
fn cve_2026_49975_http2_bomb_gets_a_hundred_references_for_each_stream() {
    // An entry of 4 000 bytes, referred to by one byte each; a window of 0 keeps the streams open.
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    let mut first = block(POST);
    first.extend_from_slice(b"\x40\x01k\x7f\xa1\x1e");
    first.resize(first.len() + 4_000, b'v');
    assert_eq!(server.feed(wire().headers_block(1, &first, true)), [request(1, true)]);
    let fields = server.fields.store.len();
    let mut bomb = block(POST);
    bomb.resize(bomb.len() + 12, 0xbe);
    for stream in (1..100).map(|at| 2 * at + 1) {
        let seen = server.feed(wire().headers_block(stream, &bomb, true));
        assert_eq!(seen, [Seen::Request { stream, end: true, size: crate::ListSize::OverLimit }]);
        assert!(server.fields.block.size() <= Limits::edge().header_list.list_bytes);
    }
    assert_eq!(server.fields.store.len(), fields, "a reference copies nothing");
    bomb.resize(bomb.len() + 10, 0xbe);
    let seen = server.feed(wire().headers_block(201, &bomb, true));
    assert_eq!(seen, [fatal(Violation::HeaderBlock(HpackError::ListFarTooLarge))]);
}

#[test]
fn cve_2026_73550_discarded_fields_are_charged_before_they_are_discarded() {
    // Envoy did not count the `host` that it dropped. Here all that was sent counts, also beyond the limit.
    let host = "h".repeat(120);
    let mut fields = vec![("host", host.as_str()); 101];
    fields.truncate(101);
    let mut server = Subject::server();
    let list = with(POST, &fields);
    let seen = server.feed(wire().headers(1, &list, true));
    assert_eq!(seen, [Seen::Request { stream: 1, end: true, size: crate::ListSize::OverLimit }]);
}

#[test]
fn cve_2023_33953_endless_integers_and_huge_lengths_wait_for_nothing() {
    for (wrong, error) in [
        (&[0x00, 0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..], HpackError::IntegerOverflow),
        (&[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f], HpackError::IntegerOverflow),
        (&[0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x0f], HpackError::Truncated),
    ] {
        let mut server = Subject::server();
        assert_eq!(server.feed(wire().headers_block(1, wrong, true)), [fatal(Violation::HeaderBlock(error))]);
    }
}

#[test]
fn cve_2026_97032_a_huge_header_table_does_not_enlarge_ours() {
    let mut client = Subject::client();
    for at in 0..1000 {
        if at % 100 == 0 {
            client.now += Duration::from_secs(10);
            client.feed(wire().settings(&[(id::HEADER_TABLE_SIZE, u32::MAX - at)]));
        }
        client.request(true);
        client.release(2 * at + 1);
    }
    assert!(client.http2.encoder.table_bytes() <= 4096);
    client.sent();
}

#[test]
fn cve_2026_33814_a_maximum_frame_size_of_zero_is_refused() {
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().settings(&[(id::MAX_FRAME_SIZE, 0)])), [fatal(Violation::SettingValue)]);
}

#[test]
fn cve_2026_50560_a_tiny_header_list_size_fails_no_response() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::MAX_HEADER_LIST_SIZE, 1)]);
    server.feed(wire().call(1));
    assert_eq!(server.headers(1, OK, true), Ok(()));
    assert_eq!(server.sent().len(), 1);
}

#[test]
fn cve_2026_110353_a_truncated_frame_makes_no_work_until_new_bytes_come() {
    // HAProxy kept a core busy while a PING stayed incomplete. For each frame cut at each byte: nothing moves, nothing is to
    // be written, and what is due next lies in the future.
    let frames = [
        wire().ping(b"12345678"),
        wire().settings(&[(3, 1)]),
        wire().data(1, b"some data"),
        wire().call(3),
        wire().unfinished_headers(3, b"\x82"),
        wire().goaway(0, ErrorCode::NO_ERROR),
        wire().window_update(0, 1),
        wire().reset(1, ErrorCode::CANCEL),
        wire().priority(1, 0),
        wire().frame(0xee, 0, 0, b"unknown"),
    ];
    for frame in frames {
        for cut in 1..frame.0.len() {
            let mut server = Subject::server();
            server.feed(wire().open(1));
            server.sent();
            server.feed(wire().raw(&frame.0[..cut]));
            assert_eq!(server.input.len(), cut);
            for _ in 0..3 {
                server.wake();
                assert!(server.seen.is_empty() && server.input.len() == cut);
                assert!(server.http2.output().is_empty() && !server.http2.has_listed());
                assert!(!server.http2.has_had_its_share());
                assert_eq!(server.http2.deadline(), Some(T0 + Duration::from_secs(30)));
            }
        }
    }
}

#[test]
fn cve_2026_27135_nothing_is_parsed_after_the_end() {
    let mut server = Subject::server();
    let seen = server.feed(wire().window_update(0, 0).call(1).raw(&[0xff; 100]));
    assert_eq!(seen, [fatal(Violation::WindowIncrement)]);
    server.feed(wire().call(3).raw(&[0xff; 100]));
    assert_eq!(server.http2.stream_count(), 0);
    assert!(server.input.is_empty());
}

#[test]
fn rustsec_2026_0258_tiny_data_is_put_together_while_it_waits() {
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    server.sent();
    for at in 0..10_000_u32 {
        server.data(1, &[at as u8], false).unwrap();
    }
    server.feed(wire().window_update(1, 10_000));
    assert_eq!(server.sent().len(), 1, "ten thousand writes, one frame");
}

#[test]
fn answers_are_no_larger_than_what_asked_for_them() {
    // Amplification: what one frame makes this side send.
    let frames = [
        wire().ping(b"12345678"),
        wire().settings(&[]),
        wire().headers(101, &[(":method", "GET")], true),
        wire().open(101).window_update(101, 0),
        wire().open(101).priority(101, 101),
    ];
    for frame in frames {
        let mut server = Subject::server();
        server.feed(frame.clone());
        let answer = server.http2.output().len();
        assert!(answer <= frame.0.len(), "{answer} bytes for {}", frame.0.len());
    }
}
