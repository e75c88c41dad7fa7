//! The connection preface (RFC 9113 section 3.4).

use core::time::Duration;

use super::subject::{Seen, Sent, Subject, fatal, sent_goaway};
use super::wire::wire;
use crate::connection::Role;
use crate::error::{ConnectionError, ErrorCode, Violation};
use crate::frame::PREFACE;
use crate::limits::Limits;
use crate::settings::id;

#[test]
fn a_server_begins_with_settings_and_its_larger_connection_window() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    let settings = vec![
        (id::MAX_CONCURRENT_STREAMS, 100),
        (id::INITIAL_WINDOW_SIZE, 65_535),
        (id::MAX_FRAME_SIZE, 16_384),
        (id::MAX_HEADER_LIST_SIZE, 16_384),
        (id::NO_RFC7540_PRIORITIES, 1),
    ];
    assert_eq!(server.sent(), [Sent::Settings(settings), Sent::WindowUpdate(0, 1024 * 1024 - 65_535)]);
}

#[test]
fn a_client_begins_with_the_magic_and_without_push() {
    let client = Subject::new(Role::Client, Limits::upstream());
    assert!(client.http2.output().starts_with(PREFACE));
    let mut client = client;
    let sent = client.sent();
    assert!(matches!(&sent[0], Sent::Settings(entries) if entries[0] == (id::ENABLE_PUSH, 0)), "{sent:?}");
}

#[test]
fn a_connection_window_of_the_initial_size_needs_no_update() {
    let limits = Limits { connection_window_bytes: 65_535, ..Limits::edge() };
    assert_eq!(Subject::new(Role::Server, limits).sent().len(), 1);
}

#[test]
fn a_server_is_ready_when_preface_and_settings_are_whole() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    let bytes = wire().preface().settings(&[(id::INITIAL_WINDOW_SIZE, 1)]).0;
    for byte in &bytes[..bytes.len() - 1] {
        assert_eq!(server.feed(wire().raw(&[*byte])), []);
    }
    assert!(!server.http2.is_open());
    assert_eq!(server.feed(wire().raw(&bytes[bytes.len() - 1..])), [Seen::Ready]);
    assert!(server.http2.is_open());
    assert_eq!(server.sent().last(), Some(&Sent::SettingsAck));
}

#[test]
fn a_wrong_preface_is_refused_at_its_first_wrong_byte() {
    for at in [0, 1, 23] {
        let mut wrong = PREFACE.to_vec();
        wrong[at] ^= 1;
        let mut server = Subject::new(Role::Server, Limits::edge());
        server.sent();
        assert_eq!(server.feed(wire().raw(&wrong[..at])), []);
        assert_eq!(server.feed(wire().raw(&wrong[at..=at])), [fatal(Violation::Preface)], "byte {at}");
        assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::PROTOCOL_ERROR, "preface")]);
    }
}

#[test]
fn an_http_1_request_is_a_wrong_preface() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    assert_eq!(server.feed(wire().raw(b"GET / HTTP/1.1\r\n")), [fatal(Violation::Preface)]);
}

#[test]
fn the_first_frame_must_be_settings_and_no_acknowledgement() {
    for (role, name) in [(Role::Server, "server"), (Role::Client, "client")] {
        for first in
            [wire().ping(b"12345678"), wire().settings_ack(), wire().window_update(0, 1), wire().call(1)]
        {
            let mut subject = Subject::new(role, Limits::edge());
            if role == Role::Server {
                subject.feed(wire().preface());
            }
            assert_eq!(subject.feed(first), [fatal(Violation::FirstFrame)], "{name}");
        }
    }
}

#[test]
fn the_first_frame_is_judged_by_its_header_alone() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    server.feed(wire().preface());
    let ping = wire().ping(b"12345678").0;
    assert_eq!(server.feed(wire().raw(&ping[..8])), []);
    assert_eq!(server.feed(wire().raw(&ping[8..9])), [fatal(Violation::FirstFrame)]);
}

#[test]
fn what_follows_settings_in_the_same_read_is_handled_too() {
    let mut server = Subject::new(Role::Server, Limits::edge());
    let seen = server.feed(wire().preface().settings(&[]).call(1));
    assert_eq!(seen, [Seen::Ready, super::subject::request(1, true)]);
}

#[test]
fn a_preface_one_moment_late_is_refused_and_one_in_time_is_not() {
    // CVE-2026-56853: waiting for the preface without a limit.
    for beginning in
        [wire(), wire().raw(&PREFACE[..10]), wire().preface(), wire().preface().raw(&[0, 0, 0, 4])]
    {
        let mut server = Subject::new(Role::Server, Limits::edge());
        server.feed(beginning);
        server.sent();
        assert_eq!(server.pass(Duration::from_millis(9_999)), Ok(()));
        let late = Err(ConnectionError::PeerMisbehaved(Violation::PrefaceTimeout));
        assert_eq!(server.pass(Duration::from_millis(1)), late);
        assert_eq!(server.sent(), [sent_goaway(0, ErrorCode::PROTOCOL_ERROR, "preface_timeout")]);
    }
}

#[test]
fn a_client_waits_for_the_servers_settings_no_longer_than_a_server_for_its_clients() {
    let mut client = Subject::new(Role::Client, Limits::upstream());
    assert_eq!(client.http2.can_open(), Err(crate::OpenError::NotOpen));
    assert_eq!(client.http2.deadline(), Some(client.now + Duration::from_secs(10)));
    let late = Err(ConnectionError::PeerMisbehaved(Violation::PrefaceTimeout));
    assert_eq!(client.pass(Duration::from_secs(10)), late);
    assert!(client.http2.has_ended());
}
