//! Header blocks: fragments, floods of them, lists that are too large.

use core::time::Duration;

use super::subject::{Seen, Sent, Subject, fatal, fault, request, sent_goaway};
use super::wire::{POST, block, wire, with};
use crate::ListSize;
use crate::error::{ConnectionError, ErrorCode, Violation};
use crate::frame::{flag, kind};
use crate::hpack::HpackError;
use crate::limits::{CONTINUATION_FRAMES_MAX, HEADER_BLOCK_BYTES_MAX};

#[test]
fn a_block_may_come_in_fragments_of_any_size_even_none() {
    let whole = block(POST);
    for cut in [0, 1, 30, whole.len()] {
        let mut server = Subject::server();
        let frames = wire().unfinished_headers(1, &whole[..cut]).continuation(1, &[], false).continuation(
            1,
            &whole[cut..],
            true,
        );
        assert_eq!(server.feed(frames), [request(1, true)], "cut at {cut}");
        assert_eq!(server.list.len(), POST.len());
    }
}

#[test]
fn nothing_may_come_between_the_fragments_of_a_block() {
    let begun = || wire().unfinished_headers(1, &block(POST));
    for between in [
        wire().data(1, b"x"),
        wire().call(3),
        wire().ping(b"12345678"),
        wire().settings(&[]),
        wire().window_update(0, 1),
        wire().reset(1, ErrorCode::CANCEL),
        wire().continuation(3, &[], true),
        wire().frame(0xbe, 0, 0, &[]),
    ] {
        let mut server = Subject::server();
        assert_eq!(server.feed(begun().raw(&between.0)), [fatal(Violation::Continuation)]);
    }
}

#[test]
fn a_continuation_must_continue_something() {
    for before in [wire(), wire().call(1), wire().open(1).data(1, b"x")] {
        let mut server = Subject::server();
        let seen = server.feed(before.continuation(1, &[], true));
        assert_eq!(seen.last(), Some(&fatal(Violation::Continuation)));
    }
}

#[test]
fn eight_continuations_are_taken_and_the_ninth_is_refused_at_its_header() {
    // CVE-2024-27316 and kin. nghttp2's 02788f1e: counted when the header is there, not after the payload.
    let whole = block(POST);
    let taken = wire()
        .unfinished_headers(1, &whole[..1])
        .raw(&wire().continuation(1, &[], false).times(CONTINUATION_FRAMES_MAX as usize - 1).0)
        .continuation(1, &whole[1..], true);
    let mut server = Subject::server();
    assert_eq!(server.feed(taken), [request(1, true)]);

    let mut server = Subject::server();
    let flood = wire().unfinished_headers(1, &whole[..1]).raw(&wire().continuation(1, b"", false).times(8).0);
    assert_eq!(server.feed(flood), []);
    let ninth = wire().continuation(1, &[0; 100], false).0;
    assert_eq!(server.feed(wire().raw(&ninth[..9])), [fatal(Violation::ContinuationFlood)]);
    assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::ENHANCE_YOUR_CALM, "continuation_flood")]);
}

#[test]
fn a_block_of_32_kib_is_decoded_and_one_byte_more_is_refused() {
    let fragment = vec![0x82; HEADER_BLOCK_BYTES_MAX / 2];
    for (more, violation) in
        [(0, Violation::HeaderBlock(HpackError::ListFarTooLarge)), (1, Violation::ContinuationFlood)]
    {
        let mut server = Subject::server();
        let frames = wire()
            .unfinished_headers(1, &fragment)
            .continuation(1, &fragment, more == 0)
            .raw(&wire().continuation(1, &[0x82; 1], true).times(more).0);
        assert_eq!(server.feed(frames), [fatal(violation)]);
    }
}

#[test]
fn a_block_must_be_whole_within_ten_seconds() {
    let mut server = Subject::server();
    server.feed(wire().unfinished_headers(1, &block(POST)));
    server.pass(Duration::from_millis(9_999)).unwrap();
    // A fragment does not give more time.
    server.feed(wire().continuation(1, &[], false));
    let late = Err(ConnectionError::PeerMisbehaved(Violation::HeaderTimeout));
    assert_eq!(server.pass(Duration::from_millis(1)), late);
    assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::ENHANCE_YOUR_CALM, "header_timeout")]);
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    for (wrong, error) in [
        (&[0x80][..], HpackError::IndexZero),
        (&[0xbe], HpackError::IndexOutOfTable { index: 62 }),
        (&[0x00, 0x05, b'a'], HpackError::Truncated),
    ] {
        let mut server = Subject::server();
        assert_eq!(server.feed(wire().headers_block(1, wrong, true)), [fatal(Violation::HeaderBlock(error))]);
        assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::COMPRESSION_ERROR, "hpack")]);
    }
}

/// A list of exactly this many fields by references of one byte.
fn many(fields: usize) -> Vec<u8> {
    let mut whole = block(POST);
    whole.resize(whole.len() + fields - POST.len(), 0x90);
    whole
}

#[test]
fn a_hundred_fields_are_whole_and_one_more_is_over_the_limit() {
    for (fields, size) in [(100, ListSize::Whole), (101, ListSize::OverLimit), (400, ListSize::OverLimit)] {
        let mut server = Subject::server();
        let seen = server.feed(wire().headers_block(1, &many(fields), true));
        assert_eq!(seen, [Seen::Request { stream: 1, end: true, size }], "{fields} fields");
        assert_eq!(server.list.len(), 100);
        assert_eq!(server.sent(), [], "the owner answers");
    }
}

#[test]
fn a_list_more_than_four_times_too_large_ends_the_connection() {
    // The "HTTP/2 bomb" (CVE-2026-49975, CVE-2026-47774): references of one byte, each a field.
    let mut server = Subject::server();
    let seen = server.feed(wire().headers_block(1, &many(401), true));
    assert_eq!(seen, [fatal(Violation::HeaderBlock(HpackError::ListFarTooLarge))]);
    assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::ENHANCE_YOUR_CALM, "header_list")]);
}

#[test]
fn a_list_over_the_limit_leaves_the_tables_right() {
    let mut server = Subject::server();
    // The 101st field is put into the table although it is not in the list; the next request refers to it.
    let mut first = many(100);
    first.extend_from_slice(b"\x40\x01k\x01v");
    let mut second = block(POST);
    second.push(0xbe);
    let seen = server.feed(wire().headers_block(1, &first, true).headers_block(3, &second, true));
    assert_eq!(seen, [Seen::Request { stream: 1, end: true, size: ListSize::OverLimit }, request(3, true)]);
    assert_eq!(server.list[4], ("k".to_owned(), "v".to_owned()));
}

#[test]
fn the_block_of_a_refused_stream_is_decoded_all_the_same() {
    // CVE-2023-32731: a block that is skipped makes the two tables differ.
    let limits = crate::Limits { max_concurrent_streams: 1, ..crate::Limits::edge() };
    let mut server = Subject::server_with(limits, &[]);
    let mut with_entry = block(POST);
    with_entry.extend_from_slice(b"\x40\x01k\x01v");
    let mut with_reference = block(POST);
    with_reference.push(0xbe);
    server.feed(wire().open(1).headers_block(3, &with_entry, true));
    server.release(1);
    assert_eq!(server.feed(wire().headers_block(5, &with_reference, true)), [request(5, true)]);
    assert_eq!(server.list[4], ("k".to_owned(), "v".to_owned()));
}

#[test]
fn the_block_for_a_stream_that_we_reset_is_decoded_all_the_same() {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    server.release(1);
    let mut with_reference = block(POST);
    with_reference.push(0xbe);
    let late = b"\x40\x01k\x01v";
    let seen = server.feed(wire().headers_block(1, late, true).headers_block(3, &with_reference, true));
    assert_eq!(seen, [request(3, true)]);
}

#[test]
fn trailers_over_the_limit_fail_the_stream() {
    let mut client = Subject::client();
    let stream = client.request(true);
    client.feed(wire().headers(stream, super::wire::OK, false));
    client.sent();
    let seen = client.feed(wire().headers_block(stream, &[0x90; 101], true));
    assert_eq!(seen, [fault(stream, Violation::HeaderListTooLarge)]);
    assert_eq!(client.sent(), [Sent::Reset(stream, ErrorCode::ENHANCE_YOUR_CALM)]);
}

#[test]
fn a_response_over_the_limit_is_the_owners_to_judge() {
    let mut client = Subject::client();
    let stream = client.request(true);
    let mut large = block(super::wire::OK);
    large.resize(large.len() + 101, 0x90);
    let expected = Seen::Response { stream, status: 200, end: false, size: ListSize::OverLimit };
    assert_eq!(client.feed(wire().headers_block(stream, &large, false)), [expected]);
}

#[test]
fn an_empty_block_is_legal_as_trailers() {
    // "header block with zero fields rejected"
    let mut server = Subject::server();
    let seen = server.feed(wire().open(1).headers_block(1, &[], true));
    assert_eq!(seen, [request(1, false), Seen::Trailers(1)]);
}

#[test]
fn a_block_with_padding_and_priority_is_taken_without_them() {
    let mut payload = vec![3, 0, 0, 0, 0, 16];
    payload.extend_from_slice(&block(POST));
    payload.extend_from_slice(&[0; 3]);
    let flags = flag::PADDED | flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM;
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().frame(kind::HEADERS, flags, 1, &payload)), [request(1, true)]);
}

#[test]
fn headers_whose_padding_or_priority_does_not_fit_end_the_connection() {
    for (flags, payload, violation) in [
        (flag::PADDED, &[][..], Violation::Padding),
        (flag::PADDED, &[2, 0][..], Violation::Padding),
        (flag::PRIORITY, &[0, 0, 0, 0][..], Violation::FrameLength),
        (flag::PADDED | flag::PRIORITY, &[1, 0, 0, 0, 0, 16][..], Violation::FrameLength),
    ] {
        let mut server = Subject::server();
        let seen = server.feed(wire().frame(kind::HEADERS, flags | flag::END_HEADERS, 1, payload));
        assert_eq!(seen, [fatal(violation)], "{payload:?}");
    }
}

#[test]
fn a_request_that_depends_on_itself_is_reset_and_its_block_is_decoded() {
    let mut payload = vec![0, 0, 0, 1, 16];
    payload.extend_from_slice(&block(POST));
    payload.extend_from_slice(b"\x40\x01k\x01v");
    let mut next = block(POST);
    next.push(0xbe);
    let mut server = Subject::server();
    let flags = flag::PRIORITY | flag::END_HEADERS;
    let seen = server.feed(wire().frame(kind::HEADERS, flags, 1, &payload).headers_block(3, &next, true));
    assert_eq!(seen, [request(3, true)]);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_cookie_may_come_in_crumbs_that_are_counted_one_by_one() {
    // Envoy's cure for the bomb counted cookies and reset honest clients; ours counts them from the start.
    let crumbs = [("cookie", "a=b"); 96];
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().headers(1, &with(POST, &crumbs), true)), [request(1, true)]);
}
