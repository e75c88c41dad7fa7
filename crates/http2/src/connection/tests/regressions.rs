//! Bugs that others made in their own engines, as far as no test of a theme has them by its name.
//!
//! From the changelogs of h2 0.4.6 to 0.4.20, Haskell's http2 5.4, nginx, HAProxy, python-h2 and nghttp2. Elsewhere:
//! padding credit, DATA after GOAWAY, credit after a cancel ([`super::flow_receive`]); sends on reset streams
//! ([`super::flow_send`]); resets of idle streams, identifiers at 2^31 ([`super::streams`]); 1xx, `:status`,
//! content-length ([`super::messages`]); GOAWAY on a stream or for the peer's streams ([`super::goaway`]); blocks without
//! fields ([`super::headers`]); two table sizes at once ([`super::settings`]); a dynamic table that is exactly full (the
//! HPACK decoder's test `a_table_that_is_exactly_full_has_every_entry_and_the_next_one_costs_the_oldest`). With the owner of
//! the connection, not here: a transport that takes nothing (h2's busy loop at `Ok(0)`; the worker's test
//! `a_transport_that_takes_nothing_is_not_offered_anything_again`), a reset behind an end that waits for the window (its
//! test `an_answer_that_waits_for_the_window_is_whole_before_the_client_is_asked_to_stop`), and close_notify, which comes
//! with TLS.

use super::subject::{
    Seen, Sent, Subject, data, fault, literals, peer_reset, request, response, sent_data, sent_headers,
};
use super::wire::{OK, POST, block, wire};
use crate::Half;
use crate::error::{ErrorCode, Violation};
use crate::hpack::huffman;
use crate::limits::Limits;
use crate::settings::id;

#[test]
fn a_reset_behind_the_end_of_a_stream_loses_no_data() {
    let mut client = Subject::client();
    client.request(false);
    let answer = wire().headers(1, OK, false).data(1, b"whole").headers(1, super::wire::STATUS_0, true);
    let seen = client.feed(answer.reset(1, ErrorCode::NO_ERROR));
    let expected =
        [response(1, false), data(1, b"whole", false), Seen::Trailers(1), peer_reset(1, ErrorCode::NO_ERROR)];
    assert_eq!(seen, expected);
}

#[test]
fn a_stream_counts_as_ended_only_when_its_queued_end_has_left() {
    // An owner that lets go too early would reset a response that is already complete for it.
    let mut server = Subject::server_with(Limits::edge(), &[(id::INITIAL_WINDOW_SIZE, 0)]);
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    server.data(1, b"buffered", true).unwrap();
    assert_eq!(server.http2.send_half(server.key(1)), Half::Body);
    server.feed(wire().window_update(1, 8));
    server.flush();
    assert_eq!(server.http2.send_half(server.key(1)), Half::Closed);
    server.sent();
    server.release(1);
    assert_eq!(server.sent(), []);
}

#[test]
fn a_new_initial_window_reaches_a_stream_that_was_opened_before_it_came() {
    // nginx 5f92d7afb: a change was not applied to a request that was still being parsed.
    let whole = block(POST);
    let mut server = Subject::server();
    server.feed(wire().unfinished_headers(1, &whole[..10]).continuation(1, &whole[10..], true));
    server.headers(1, OK, false).unwrap();
    server.sent();
    server.feed(wire().settings(&[(id::INITIAL_WINDOW_SIZE, 3)]));
    assert_eq!(server.data(1, b"abcdef", true), Ok(0));
    server.feed(wire().window_update(1, 3));
    assert!(server.sent().contains(&sent_data(1, b"abcdef", true)));
}

#[test]
fn a_new_initial_window_reaches_a_request_that_arrives_in_two_reads() {
    // The same, where the change is known before the request is whole.
    let bytes = wire().settings(&[(id::INITIAL_WINDOW_SIZE, 3)]).call(1).0;
    for cut in 0..=bytes.len() {
        let mut server = Subject::server();
        server.feed(wire().raw(&bytes[..cut]));
        server.feed(wire().raw(&bytes[cut..]));
        server.headers(1, OK, false).unwrap();
        server.sent();
        assert_eq!(server.data(1, b"abcdef", true), Ok(0), "cut at {cut}");
        assert_eq!(server.sent(), [], "cut at {cut}");
        server.feed(wire().window_update(1, 3));
        assert_eq!(server.sent(), [sent_data(1, b"abcdef", true)], "cut at {cut}");
    }
}

#[test]
fn pseudo_fields_behind_others_are_refused_whichever_they_are() {
    // nginx 1.31.3 is the first that refuses them.
    let mut server = Subject::server();
    for (at, stream) in (0..POST.len()).zip((1..).step_by(2)) {
        let mut list = POST.to_vec();
        let late = list.remove(at);
        list.extend([("te", "trailers"), late]);
        server.feed(wire().headers(stream, &list, true));
        assert_eq!(server.sent(), [Sent::Reset(stream, ErrorCode::PROTOCOL_ERROR)], "{list:?}");
    }
    assert_eq!(server.feed(wire().call(101)), [request(101, true)]);
    let mut client = Subject::client();
    client.request(true);
    let seen = client.feed(wire().headers(1, &[OK[1], OK[0]], false));
    assert_eq!(seen, [fault(1, Violation::MalformedMessage)]);
}

#[test]
fn a_huffman_string_beyond_4096_bytes_is_whole() {
    let value = "huffman-codes-this-well-".repeat(300);
    let mut encoded = Vec::new();
    huffman::encode(value.as_bytes(), &mut encoded);
    assert!(encoded.len() > 4096 && value.len() < 8192);
    let mut fields = block(POST);
    fields.extend_from_slice(b"\x00\x01k\xff");
    let mut rest = encoded.len() - 127;
    while rest >= 128 {
        fields.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    fields.push(rest as u8);
    fields.extend_from_slice(&encoded);
    let mut server = Subject::server();
    assert_eq!(server.feed(wire().headers_block(1, &fields, true)), [request(1, true)]);
    assert_eq!(server.list[4].1, value);
}

#[test]
fn one_header_list_sent_on_two_streams_has_each_ones_own_identifier() {
    // nginx 1.29.5 and 1.29.7: a retry used the frame again that was built for the first stream.
    let mut client = Subject::client();
    let list = literals(POST);
    for _ in 0..2 {
        let key = client.http2.open(client.now, 0).unwrap();
        client.http2.send_headers(&mut client.fields.store, key, &list, &[], true).unwrap();
    }
    assert_eq!(client.sent(), [sent_headers(1, POST, true), sent_headers(3, POST, true)]);
}

#[test]
fn fields_that_differ_call_by_call_go_behind_the_list_and_into_no_table() {
    let mut client = Subject::client();
    let key = client.http2.open(client.now, 0).unwrap();
    let extra: &[(&[u8], &[u8])] = &[(b"grpc-timeout", b"99m")];
    client.http2.send_headers(&mut client.fields.store, key, &literals(POST), extra, true).unwrap();
    assert_eq!(client.http2.encoder.table_len(), 0);
    let expected = super::wire::with(POST, &[("grpc-timeout", "99m")]);
    assert_eq!(client.sent(), [sent_headers(1, &expected, true)]);
}

#[test]
fn a_table_that_shrinks_to_nothing_and_grows_again_stays_equal() {
    let mut server = Subject::server();
    let indexed = b"\x40\x01k\x01v";
    let mut stream = 1;
    for size in [0_u8, 31, 0] {
        server.feed(wire().call(stream).settings(&[(id::HEADER_TABLE_SIZE, u32::from(size) * 100)]));
        server.answer(stream);
        let mut list = vec![0x20, 0x3f, 0xe1, 0x1f];
        list.extend_from_slice(&block(POST));
        list.extend_from_slice(indexed);
        list.push(0xbe);
        assert_eq!(server.feed(wire().headers_block(stream + 2, &list, true)), [request(stream + 2, true)]);
        assert_eq!(server.list[4], server.list[5]);
        server.answer(stream + 2);
        stream += 4;
    }
    let answers = server.sent();
    assert_eq!(answers.iter().filter(|sent| matches!(sent, Sent::Headers { .. })).count(), 6);
}
