//! The state machine of RFC 9113 section 5.1 as a table: what each frame comes to in each state.

use super::subject::{Seen, Sent, Subject};
use super::wire::{OK, POST, STATUS_0, Wire, wire};
use crate::error::{ConnectionError, ErrorCode};
use crate::frame::kind;
use crate::limits::Limits;

/// What a frame comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// The owner is told.
    Told,
    /// Nothing happens.
    Ignored,
    /// The stream is reset with this code.
    Reset(ErrorCode),
    /// The connection ends with this code.
    Fatal(ErrorCode),
}

const TOLD: Verdict = Verdict::Told;
const NONE: Verdict = Verdict::Ignored;
const R_PROT: Verdict = Verdict::Reset(ErrorCode::PROTOCOL_ERROR);
const R_CLOS: Verdict = Verdict::Reset(ErrorCode::STREAM_CLOSED);
const F_PROT: Verdict = Verdict::Fatal(ErrorCode::PROTOCOL_ERROR);
const F_CLOS: Verdict = Verdict::Fatal(ErrorCode::STREAM_CLOSED);

type Arrange = fn() -> (Subject, u32);
type Row = (&'static str, Arrange, [Verdict; 9]);

/// The columns. The first header section is a whole request or response without END_STREAM; the second is trailers.
fn frames(stream: u32, head: super::wire::List<'_>) -> [(&'static str, Wire); 9] {
    [
        ("DATA", wire().data(stream, b"x")),
        ("HEADERS", wire().headers(stream, head, false)),
        ("HEADERS with END_STREAM", wire().headers(stream, STATUS_0, true)),
        ("PRIORITY", wire().priority(stream, 0)),
        ("RST_STREAM", wire().reset(stream, ErrorCode::CANCEL)),
        ("PUSH_PROMISE", wire().frame(kind::PUSH_PROMISE, 4, stream, &[0, 0, 0, 2])),
        ("WINDOW_UPDATE", wire().window_update(stream, 1)),
        ("CONTINUATION", wire().continuation(stream, &[], true)),
        ("a frame of an unknown type", wire().frame(0xb, 0, stream, b"anything")),
    ]
}

#[rustfmt::skip]
const SERVER: [Row; 12] = [
    // What a client may do to a server's streams.              DATA    HEADERS HEADERS+END PRIORITY RST    PUSH    UPDATE  CONT    UNKNOWN
    ("idle",                       idle,                       [F_PROT, TOLD,   R_PROT,     NONE,    F_PROT, F_PROT, F_PROT, F_PROT, NONE]),
    ("idle, of a server's parity", even,                       [F_PROT, F_PROT, F_PROT,     NONE,    F_PROT, F_PROT, F_PROT, F_PROT, NONE]),
    ("skipped",                    skipped,                    [F_CLOS, F_CLOS, F_CLOS,     NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("open",                       open,                       [TOLD,   R_PROT, TOLD,       NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("half-closed (remote)",       half_closed_remote,         [R_CLOS, R_CLOS, R_CLOS,     NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("half-closed (local)",        half_closed_local,          [TOLD,   R_PROT, TOLD,       NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("closed by END_STREAM",       ended,                      [F_CLOS, F_CLOS, F_CLOS,     NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("reset by us",                reset_by_us,                [NONE,   NONE,   NONE,       NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("reset by us, work left",     reset_by_us_with_work,      [NONE,   NONE,   NONE,       NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("reset by the peer",          reset_by_peer,              [F_CLOS, F_CLOS, F_CLOS,     NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("reset by the peer, work left", reset_by_peer_with_work,  [R_CLOS, R_CLOS, R_CLOS,     NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("refused",                    refused,                    [NONE,   NONE,   NONE,       NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
];

#[rustfmt::skip]
const CLIENT: [Row; 8] = [
    // What a server may do to a client's streams.              DATA    HEADERS HEADERS+END PRIORITY RST    PUSH    UPDATE  CONT    UNKNOWN
    ("idle",                       client_idle,                [F_PROT, F_PROT, F_PROT,     NONE,    F_PROT, F_PROT, F_PROT, F_PROT, NONE]),
    ("pushed",                     client_pushed,              [F_PROT, F_PROT, F_PROT,     NONE,    F_PROT, F_PROT, F_PROT, F_PROT, NONE]),
    ("open, unanswered",           client_open,                [R_PROT, TOLD,   R_PROT,     NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("half-closed (local), unanswered", client_half_closed,    [R_PROT, TOLD,   R_PROT,     NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("half-closed (local), answering", client_answering,       [TOLD,   R_PROT, TOLD,       NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("half-closed (remote)",       client_half_closed_remote,  [R_CLOS, R_CLOS, R_CLOS,     NONE,    TOLD,   F_PROT, NONE,   F_PROT, NONE]),
    ("closed by END_STREAM",       client_ended,               [F_CLOS, F_CLOS, F_CLOS,     NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
    ("reset by us",                client_reset_by_us,         [NONE,   NONE,   NONE,       NONE,    NONE,   F_PROT, NONE,   F_PROT, NONE]),
];

fn idle() -> (Subject, u32) {
    (Subject::server(), 1)
}

fn even() -> (Subject, u32) {
    (Subject::server(), 2)
}

fn skipped() -> (Subject, u32) {
    let mut server = Subject::server();
    server.feed(wire().call(3));
    (server, 1)
}

fn open() -> (Subject, u32) {
    let mut server = Subject::server();
    server.feed(wire().open(1));
    (server, 1)
}

fn half_closed_remote() -> (Subject, u32) {
    let mut server = Subject::server();
    server.feed(wire().call(1));
    (server, 1)
}

fn half_closed_local() -> (Subject, u32) {
    let (mut server, stream) = open();
    server.headers(stream, OK, true).unwrap();
    (server, stream)
}

fn ended() -> (Subject, u32) {
    let (mut server, stream) = half_closed_remote();
    server.answer(stream);
    (server, stream)
}

fn reset_by_us() -> (Subject, u32) {
    let (mut server, stream) = open();
    server.release(stream);
    (server, stream)
}

fn reset_by_us_with_work() -> (Subject, u32) {
    let (mut server, stream) = open();
    server.reset(stream, ErrorCode::CANCEL);
    (server, stream)
}

fn reset_by_peer() -> (Subject, u32) {
    let (mut server, stream) = open();
    server.feed(wire().reset(stream, ErrorCode::CANCEL));
    (server, stream)
}

fn reset_by_peer_with_work() -> (Subject, u32) {
    let (mut server, stream) = open();
    server.releases = false;
    server.feed(wire().reset(stream, ErrorCode::CANCEL));
    (server, stream)
}

fn refused() -> (Subject, u32) {
    let mut server = Subject::server_with(Limits { max_concurrent_streams: 0, ..Limits::edge() }, &[]);
    server.feed(wire().open(1));
    (server, 1)
}

fn client_idle() -> (Subject, u32) {
    (Subject::client(), 1)
}

fn client_pushed() -> (Subject, u32) {
    (Subject::client(), 2)
}

fn client_open() -> (Subject, u32) {
    let mut client = Subject::client();
    let stream = client.request(false);
    (client, stream)
}

fn client_half_closed() -> (Subject, u32) {
    let mut client = Subject::client();
    let stream = client.request(true);
    (client, stream)
}

fn client_answering() -> (Subject, u32) {
    let (mut client, stream) = client_half_closed();
    client.feed(wire().headers(stream, OK, false));
    (client, stream)
}

fn client_half_closed_remote() -> (Subject, u32) {
    let (mut client, stream) = client_open();
    client.feed(wire().headers(stream, OK, true));
    (client, stream)
}

fn client_ended() -> (Subject, u32) {
    let (mut client, stream) = client_half_closed();
    client.feed(wire().headers(stream, OK, true));
    client.release(stream);
    (client, stream)
}

fn client_reset_by_us() -> (Subject, u32) {
    let (mut client, stream) = client_open();
    client.release(stream);
    (client, stream)
}

fn verdict(subject: &mut Subject, stream: u32, frame: Wire) -> Verdict {
    subject.sent();
    let seen = subject.feed(frame);
    let sent = subject.sent();
    if let Some(Seen::Error(ConnectionError::PeerMisbehaved(violation))) = seen.last() {
        assert!(
            matches!(sent.last(), Some(Sent::GoAway { code, .. }) if *code == violation.code()),
            "{sent:?}"
        );
        return Verdict::Fatal(violation.code());
    }
    match (sent.as_slice(), seen.as_slice()) {
        ([Sent::Reset(reset, code)], _) if *reset == stream => Verdict::Reset(*code),
        ([], [_]) => Verdict::Told,
        ([], []) => Verdict::Ignored,
        other => panic!("unexpected: {other:?}"),
    }
}

fn check(table: &[Row], head: super::wire::List<'_>) {
    for (state, arrange, expected) in table {
        for (column, expected) in expected.iter().enumerate() {
            let (mut subject, stream) = arrange();
            let (name, frame) = frames(stream, head)[column].clone();
            assert_eq!(verdict(&mut subject, stream, frame), *expected, "{name} in state {state}");
        }
    }
}

#[test]
fn a_servers_streams_follow_the_table() {
    check(&SERVER, POST);
}

#[test]
fn a_clients_streams_follow_the_table() {
    check(&CLIENT, OK);
}

#[test]
fn after_the_end_everything_is_swallowed() {
    // nghttp2's CVE-2026-27135: it went on parsing after it had terminated the session.
    for (name, frame) in frames(1, POST) {
        let mut server = Subject::server();
        server.feed(wire().window_update(0, 0));
        server.sent();
        assert_eq!(server.feed(frame), [Seen::Error(ConnectionError::Ended)], "{name}");
        assert_eq!(server.sent(), [], "{name}");
        assert!(server.input.is_empty(), "{name}");
    }
}
