//! Messages: their order, 1xx, content-length, trailers (RFC 9113 section 8).

use super::pair::Pair;
use super::subject::{Seen, Sent, Subject, data, fatal, fault, request, response, sent_data, sent_headers};
use super::wire::{EARLY_HINTS, OK, POST, STATUS_0, wire, with};
use crate::SendError;
use crate::connection::ListSize;
use crate::error::{ErrorCode, Violation};

#[test]
fn a_unary_call_is_headers_data_headers_data_trailers() {
    let mut pair = Pair::upstream();
    let stream = pair.client.request(false);
    assert_eq!(pair.client.data(stream, b"question", true), Ok(8));
    pair.run();
    assert_eq!(pair.server.take_seen(), [request(1, false), data(1, b"question", true)]);
    pair.server.headers(1, OK, false).unwrap();
    assert_eq!(pair.server.data(1, b"answer", false), Ok(6));
    pair.server.trailers(1).unwrap();
    pair.server.release(1);
    pair.run();
    assert_eq!(pair.client.take_seen(), [response(1, false), data(1, b"answer", false), Seen::Trailers(1)]);
    assert_eq!(pair.client.list, [("grpc-status".to_owned(), "0".to_owned())]);
    pair.client.release(1);
    assert_eq!((pair.client.http2.stream_count(), pair.server.http2.stream_count()), (0, 0));
}

#[test]
fn informational_responses_come_before_the_final_one_and_count_once_each() {
    let mut pair = Pair::upstream();
    pair.client.request(true);
    pair.run();
    pair.server.informational(1, EARLY_HINTS).unwrap();
    pair.server.informational(1, EARLY_HINTS).unwrap();
    pair.server.headers(1, OK, true).unwrap();
    pair.run();
    let seen = pair.client.take_seen();
    assert_eq!(seen, [Seen::Informational(1), Seen::Informational(1), response(1, true)]);
}

#[test]
fn an_informational_response_ends_no_stream_and_switches_no_protocol() {
    for (list, end) in [(EARLY_HINTS, true), (&[(":status", "101")][..], false)] {
        let mut client = Subject::client();
        let stream = client.request(true);
        let seen = client.feed(wire().headers(stream, list, end));
        assert_eq!(seen, [fault(stream, Violation::MalformedMessage)]);
    }
}

#[test]
fn data_or_trailers_straight_after_an_informational_response_are_an_error() {
    for (second, violation) in [
        (wire().data(1, b"x"), Violation::DataBeforeHeaders),
        (wire().headers(1, STATUS_0, true), Violation::MalformedMessage),
    ] {
        let mut client = Subject::client();
        client.request(true);
        let seen = client.feed(wire().headers(1, EARLY_HINTS, false).raw(&second.0));
        assert_eq!(seen, [Seen::Informational(1), fault(1, violation)]);
    }
}

#[test]
fn an_informational_response_after_the_final_one_is_a_second_header_section() {
    let mut client = Subject::client();
    client.request(true);
    let seen = client.feed(wire().headers(1, OK, false).headers(1, EARLY_HINTS, false));
    assert_eq!(seen, [response(1, false), fault(1, Violation::Trailers)]);
}

#[test]
fn a_response_without_status_is_malformed() {
    let mut client = Subject::client();
    client.request(true);
    assert_eq!(client.feed(wire().headers(1, STATUS_0, false)), [fault(1, Violation::MalformedMessage)]);
    assert_eq!(client.sent().last(), Some(&Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)));
}

#[test]
fn trailers_have_no_pseudo_fields_and_end_the_stream() {
    for (list, end, violation) in
        [(OK, true, Violation::MalformedMessage), (STATUS_0, false, Violation::Trailers)]
    {
        let mut client = Subject::client();
        client.request(true);
        let seen = client.feed(wire().headers(1, OK, false).headers(1, list, end));
        assert_eq!(seen, [response(1, false), fault(1, violation)]);
    }
}

#[test]
fn a_requests_trailers_end_it() {
    let mut server = Subject::server();
    let seen = server.feed(wire().open(1).data(1, b"x").headers(1, &[("checksum", "1")], true));
    assert_eq!(seen, [request(1, false), data(1, b"x", false), Seen::Trailers(1)]);
}

#[test]
fn data_must_add_up_to_content_length_whatever_frame_ends_the_request() {
    let declared = with(POST, &[("content-length", "3")]);
    let open = || wire().headers(1, &declared, false);
    let whole = [
        open().last_data(1, b"abc"),
        open().data(1, b"ab").last_data(1, b"c"),
        open().data(1, b"abc").last_data(1, b""),
        open().data(1, b"abc").headers(1, STATUS_0, true),
        open().padded_data(1, b"abc", 255).last_data(1, b""),
    ];
    for frames in whole {
        let mut server = Subject::server();
        let seen = server.feed(frames);
        assert!(!seen.iter().any(|seen| matches!(seen, Seen::Failed(..))), "{seen:?}");
    }
    let wrong = [
        wire().headers(1, &declared, true),
        open().last_data(1, b"ab"),
        open().last_data(1, b"abcd"),
        open().data(1, b"abcd"),
        open().data(1, b"ab").headers(1, STATUS_0, true),
    ];
    for frames in wrong {
        let mut server = Subject::server();
        server.feed(frames);
        assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)]);
        assert_eq!(server.http2.stream_count(), 0);
    }
}

#[test]
fn the_owner_hears_of_data_beyond_content_length_as_a_failure_only() {
    let mut server = Subject::server();
    let declared = with(POST, &[("content-length", "3")]);
    let seen = server.feed(wire().headers(1, &declared, false).data(1, b"ab").data(1, b"cd"));
    assert_eq!(seen, [request(1, false), data(1, b"ab", false), fault(1, Violation::ContentLength)]);
    assert_eq!(server.http2.held_bytes(), 0);
}

#[test]
fn a_response_without_content_may_have_a_content_length() {
    for (status, whole) in [("304", true), ("204", true), ("200", false)] {
        let mut client = Subject::client();
        client.request(true);
        let seen = client.feed(wire().headers(1, &[(":status", status), ("content-length", "5")], true));
        assert_eq!(matches!(seen[0], Seen::Response { .. }), whole, "{seen:?}");
    }
}

#[test]
fn duplicate_content_lengths_that_differ_are_malformed() {
    let mut server = Subject::server();
    let twice = with(POST, &[("content-length", "3"), ("content-length", "4")]);
    assert_eq!(server.feed(wire().headers(1, &twice, false)), []);
    assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)]);
}

#[test]
fn a_malformed_request_is_reset_and_never_reported() {
    for list in [
        &[(":method", "GET"), (":scheme", "http")][..],
        &with(POST, &[("Upper", "1")]),
        &with(POST, &[("connection", "close")]),
        &with(POST, &[("transfer-encoding", "chunked")]),
        &with(POST, &[("x", "a\r\nb")]),
        &with(POST, &[("host", "other")]),
        &with(&[("te", "trailers")], POST),
    ] {
        let mut server = Subject::server();
        assert_eq!(server.feed(wire().headers(1, list, true)), [], "{list:?}");
        assert_eq!(server.sent(), [Sent::Reset(1, ErrorCode::PROTOCOL_ERROR)], "{list:?}");
        assert_eq!(server.http2.stream_count(), 0);
        // Its DATA may still come.
        assert_eq!(server.feed(wire().data(1, b"late")), []);
    }
}

#[test]
fn a_status_may_be_any_of_three_digits() {
    let mut client = Subject::client();
    client.request(true);
    let seen = client.feed(wire().headers(1, &[(":status", "503")], true));
    assert_eq!(seen, [Seen::Response { stream: 1, status: 503, end: true, size: ListSize::Whole }]);
}

#[test]
fn sections_are_sent_in_order_or_not_at_all() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    assert_eq!(server.data(1, b"x", false), Err(SendError::OutOfOrder));
    assert_eq!(server.trailers(1), Err(SendError::OutOfOrder));
    assert_eq!(server.informational(1, EARLY_HINTS), Ok(()));
    assert_eq!(server.headers(1, OK, false), Ok(()));
    assert_eq!(server.headers(1, OK, false), Err(SendError::OutOfOrder));
    assert_eq!(server.informational(1, EARLY_HINTS), Err(SendError::OutOfOrder));
    assert_eq!(server.trailers(1), Ok(()));
    assert_eq!(server.trailers(1), Err(SendError::Closed));
    assert_eq!(server.data(1, b"x", true), Err(SendError::Closed));
    assert_eq!(server.headers(1, OK, true), Err(SendError::Closed));
    assert_eq!(server.informational(1, EARLY_HINTS), Err(SendError::Closed));
    let sent =
        [sent_headers(1, EARLY_HINTS, false), sent_headers(1, OK, false), sent_headers(1, STATUS_0, true)];
    assert_eq!(server.sent(), sent);
}

#[test]
fn an_empty_end_is_sent_and_no_bytes_without_an_end_are_nothing() {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    server.headers(1, OK, false).unwrap();
    assert_eq!(server.data(1, b"", false), Ok(0));
    assert_eq!(server.data(1, b"", true), Ok(0));
    assert_eq!(server.sent(), [sent_headers(1, OK, false), sent_data(1, b"", true)]);
}

#[test]
fn push_is_never_accepted() {
    for mut subject in [Subject::server(), Subject::client()] {
        let push = wire().frame(crate::frame::kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x88]);
        assert_eq!(subject.feed(push), [fatal(Violation::PushPromise)]);
    }
}
