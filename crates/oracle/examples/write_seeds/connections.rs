//! Connections: honest peers, and each rule that a peer can break, once.

use evenkeel_http2::frame::{flag, kind};

use crate::Seed;
use crate::wire::{GET, List, POST, Wire, block, client, server, wire};

/// Actions of a step, see `Owner::act`.
mod action {
    pub(super) const PASS_MILLIS: u8 = 0;
    pub(super) const PASS_SECONDS: u8 = 1;
    pub(super) const MANNER: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const SEND: u8 = 5;
    pub(super) const RESET: u8 = 6;
    pub(super) const RELEASE: u8 = 7;
    pub(super) const CONSUME: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const DRAIN: u8 = 10;
    pub(super) const SHUT: u8 = 11;
}

/// How many bytes arrive with a step that is to come behind all of `wire`.
fn all(wire: &Wire) -> u8 {
    u8::try_from(wire.0.len().div_ceil(8)).expect("seeds are short")
}

/// Frames without a connection.
pub(crate) fn frames() -> Vec<Seed> {
    let padded = wire().frame(kind::DATA, flag::PADDED, 1, &[2, b'a', 0, 0]);
    vec![
        ("call", wire().settings(&[(4, 1000)]).call(1).0),
        ("control", wire().ping().goaway(1, 0, b"bye").window_update(0, 5).reset(3).priority(5, 3).0),
        ("unknown-type", wire().frame(0xbe, 0xff, 7, b"?").0),
        ("padded", padded.0),
        ("padding-too-long", wire().frame(kind::DATA, flag::PADDED, 1, &[4, b'a', 0, 0]).0),
        ("padding-without-length", wire().frame(kind::HEADERS, flag::PADDED, 1, &[]).0),
        ("too-large", wire().header(16_385, kind::DATA, 0, 1).0),
        ("largest", wire().header((1 << 24) - 1, kind::CONTINUATION, 0xff, 0x7fff_ffff).0),
        ("wrong-lengths", wire().frame(kind::PRIORITY, 0, 1, b"four").frame(kind::PING, 0, 0, b"7 bytes").0),
        ("wrong-places", wire().data(0, b"", false).frame(kind::SETTINGS, 0, 1, &[]).0),
    ]
}

/// What a server reads.
pub(crate) fn from_clients() -> Vec<Seed> {
    let mut seeds = honest_clients();
    seeds.extend(broken_frames());
    seeds.extend(broken_messages());
    seeds.extend(floods());
    seeds.extend(late_clients());
    seeds
}

fn honest_clients() -> Vec<Seed> {
    let table: &[u8] = &[0x83, 0x86, 0x44, 4, b'/', b'a', b'/', b'b', 0x40, 3, b'x', b'-', b'a', 1, b'1'];
    let again: &[u8] = &[0x83, 0x86, 0x44, 4, b'/', b'a', b'/', b'b', 0xbe];
    let start = client();
    let split = client()
        .frame(kind::HEADERS, flag::END_STREAM, 1, &block(&POST[..2]))
        .frame(kind::CONTINUATION, 0, 1, &block(&POST[2..4]))
        .frame(kind::CONTINUATION, flag::END_HEADERS, 1, &block(&POST[4..]));
    let small_window = wire().preface().settings(&[(4, 10), (1, 0)]).settings_ack().call(1);
    let padded = client().headers(1, POST, false).frame(kind::DATA, 9, 1, &[3, b'h', b'i', 0, 0, 0]);
    let open = client().headers(1, POST, false).headers(3, POST, false).data(1, b"12345678", false);
    let trailers = client().headers(1, POST, false).headers(1, &[("x-sum", "1")], true);
    let tables = client().frame(kind::HEADERS, 5, 1, table).frame(kind::HEADERS, 5, 3, again).frame(
        kind::HEADERS,
        5,
        5,
        again,
    );
    let update = small_window.clone().window_update(1, 20).window_update(0, 1000).window_update(1, 2000);
    vec![
        ("call", client().call(1).at_once()),
        ("calls", client().call(1).call(3).ping().call(5).at_once()),
        ("call-answered-at-its-end", client().call(1).scheduled(0, &[[0, action::MANNER, 0x25]])),
        ("call-refused", client().call(1).call(3).scheduled(0, &[[0, action::MANNER, 3]])),
        ("call-released", client().call(1).call(3).scheduled(0, &[[0, action::MANNER, 2]])),
        ("early-hints", client().call(1).scheduled(0, &[[0, action::MANNER, 4], [255, 4, 0]])),
        (
            "entries-used-again",
            tables.scheduled(0, &[[0, action::MANNER, 7], [255, 4, 0], [0, 4, 1], [0, 4, 2]]),
        ),
        ("headers-in-fragments", split.at_once()),
        ("padded", padded.at_once()),
        ("trailers", trailers.at_once()),
        (
            "window-too-small",
            update.scheduled(
                0,
                &[
                    [0, action::MANNER, 40],
                    [all(&small_window), action::PASS_MILLIS, 60],
                    [3, 0, 60],
                    [255, 0, 60],
                ],
            ),
        ),
        (
            "data-unread",
            open.clone().reset(3).scheduled(
                2,
                &[[0, action::MANNER, 0x1f], [all(&open), action::CONSUME, 3], [0, action::RELEASE, 0]],
            ),
        ),
        (
            "drain",
            client().call(1).scheduled(
                0,
                &[
                    [all(&start), action::DRAIN, 0],
                    [0, action::PASS_SECONDS, 6],
                    [255, action::PASS_SECONDS, 1],
                ],
            ),
        ),
        (
            "shut-within-a-call",
            open.scheduled(0, &[[0, action::MANNER, 0x1f], [20, action::PING, 7], [2, action::SHUT, 0]]),
        ),
    ]
}

fn broken_frames() -> Vec<Seed> {
    let open = client().headers(1, POST, false);
    let entries: Vec<(u16, u32)> = (0..33).map(|at| (0x100 + at, 0)).collect();
    vec![
        ("preface", wire().raw(b"GET / HTTP/1.1\r\n\r\n").at_once()),
        ("first-frame", wire().preface().ping().at_once()),
        ("frame-too-large", client().header(16_385, kind::DATA, 0, 1).at_once()),
        ("frame-length", client().frame(kind::PING, 0, 0, b"7 bytes").at_once()),
        ("frame-stream", client().data(0, b"", false).at_once()),
        ("padding", open.clone().frame(kind::DATA, flag::PADDED, 1, &[1]).at_once()),
        ("stream-id", client().headers(2, POST, true).at_once()),
        ("idle-stream", client().reset(1).at_once()),
        ("closed-stream", client().call(1).call(3).data(1, b"late", false).at_once()),
        ("continuation", client().frame(kind::HEADERS, 0, 1, &block(POST)).ping().at_once()),
        (
            "continuation-flood",
            client()
                .frame(kind::HEADERS, 0, 1, &block(POST))
                .then(&wire().frame(kind::CONTINUATION, 0, 1, b"").times(9))
                .at_once(),
        ),
        ("push-promise", client().frame(kind::PUSH_PROMISE, 0, 1, &[0; 4]).at_once()),
        ("setting-value", client().settings(&[(5, 1)]).at_once()),
        ("setting-window", client().settings(&[(4, u32::MAX)]).at_once()),
        ("setting-entries", client().settings(&entries).at_once()),
        ("settings-ack", client().settings_ack().at_once()),
        ("window-increment", open.clone().window_update(1, 0).window_update(0, 0).at_once()),
        (
            "window-overflow",
            open.clone().window_update(1, 0x7fff_ffff).window_update(0, 0x7fff_ffff).at_once(),
        ),
        ("window-exceeded", open.clone().settings_ack_then_too_much()),
        ("self-dependency", open.clone().priority(1, 1).at_once()),
        ("goaway-raised", client().goaway(0, 0, b"").goaway(1, 0, b"").at_once()),
        ("hpack", client().frame(kind::HEADERS, 5, 1, &[0x80]).at_once()),
    ]
}

impl Wire {
    /// More DATA than a window of 100 bytes takes.
    fn settings_ack_then_too_much(self) -> Vec<u8> {
        self.data(1, &[b'x'; 100], false).data(1, b"y", false).scheduled(2, &[[0, action::MANNER, 0x1f]])
    }
}

fn broken_messages() -> Vec<Seed> {
    let with = |more: List<'_>| client().headers(1, &[POST, more].concat(), false);
    let long = "x".repeat(100);
    let list: Vec<(&str, &str)> =
        POST.iter().copied().chain([("x-long", &*long), ("x-longer", &*long)]).collect();
    vec![
        ("malformed-message", with(&[("X-Upper", "1")]).call(3).at_once()),
        ("content-length", with(&[("content-length", "3")]).data(1, b"four", true).at_once()),
        ("trailers-without-end", with(&[]).headers(1, &[("x-sum", "1")], false).at_once()),
        ("header-list-too-large", client().headers(1, &list, true).call(3).scheduled(3, &[])),
    ]
}

fn floods() -> Vec<Seed> {
    let opened = |count: u32| (0..count).fold(client(), |wire, at| wire.headers(2 * at + 1, POST, false));
    let resets = (0..40).fold(client(), |wire, at| wire.headers(2 * at + 1, GET, false).reset(2 * at + 1));
    vec![
        ("stream-limit", opened(25).scheduled(2, &[[0, action::MANNER, 7]])),
        ("reset-flood", resets.scheduled(3, &[[0, action::MANNER, 7]])),
        ("too-many-pings", client().then(&wire().ping().times(4)).at_once()),
        ("settings-flood", client().then(&wire().settings(&[]).times(11)).at_once()),
        (
            "empty-frames",
            client().headers(1, GET, false).then(&wire().data(1, b"", false).times(12)).scheduled(3, &[]),
        ),
        ("unknown-frames", client().then(&wire().frame(0xbe, 0, 0, b"").times(20)).scheduled(3, &[])),
    ]
}

fn late_clients() -> Vec<Seed> {
    let start = all(&client());
    vec![
        ("preface-timeout", wire().raw(b"PRI * HT").scheduled(0, &[[1, action::PASS_SECONDS, 10]])),
        ("settings-timeout", wire().preface().settings(&[]).scheduled(0, &[[5, action::PASS_SECONDS, 10]])),
        (
            "header-timeout",
            client()
                .frame(kind::HEADERS, 0, 1, &block(POST))
                .scheduled(0, &[[255, action::PASS_SECONDS, 10], [0, action::PASS_SECONDS, 1]]),
        ),
        (
            "frame-timeout",
            client().header(8, kind::PING, 0, 0).scheduled(0, &[[255, action::PASS_SECONDS, 31]]),
        ),
        (
            "keepalive",
            client().ping().ping().ping().scheduled(
                0,
                &[
                    [start, action::PASS_SECONDS, 11],
                    [2, action::PASS_SECONDS, 11],
                    [2, action::PASS_SECONDS, 11],
                ],
            ),
        ),
    ]
}

/// What a client reads.
pub(crate) fn from_servers() -> Vec<Seed> {
    const OK: List<'static> = &[(":status", "200"), ("content-type", "application/grpc")];
    const STATUS: List<'static> = &[("grpc-status", "0")];
    let start = server();
    let opened = |more: u8| [[all(&start), action::OPEN, 9], [0, action::OPEN, more]];
    let answer = |start: Wire| start.headers(1, OK, false).data(1, b"\0\0\0\0\x02hi", false);
    let whole = answer(server()).headers(1, STATUS, true);
    let hints = server().headers(1, &[(":status", "103")], false).headers(1, OK, true);
    let small = wire().settings(&[(4, 5), (3, 1)]).settings_ack();
    let far = server().headers(1, OK, false).goaway(1, 0, b"max_age").data(1, b"x", true);
    vec![
        ("response", whole.clone().scheduled(1, &opened(1))),
        ("trailers-only", server().headers(1, &[OK, STATUS].concat(), true).scheduled(1, &opened(4))),
        ("early-hints", hints.scheduled(1, &opened(1))),
        ("two-calls", whole.clone().headers(3, OK, true).scheduled(1, &opened(1))),
        ("refused", server().frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]).scheduled(1, &opened(1))),
        ("goaway", answer(server().goaway(1, 0, b"drain")).scheduled(1, &opened(1))),
        ("goaway-max-age", far.scheduled(1, &opened(1))),
        ("goaway-twice", server().goaway(0x7fff_ffff, 0, b"").goaway(1, 0, b"").scheduled(1, &opened(1))),
        (
            "window-too-small",
            small.clone().window_update(1, 100).settings(&[(4, 5000)]).scheduled(
                1,
                &[
                    [0, action::MANNER, 200],
                    [all(&small), action::OPEN, 1],
                    [2, action::PASS_MILLIS, 60],
                    [0, action::SEND, 30],
                    [255, action::PASS_MILLIS, 60],
                ],
            ),
        ),
        (
            "cancelled",
            whole.scheduled(
                1,
                &[[all(&start), action::OPEN, 1], [0, action::RESET, 0], [255, action::OPEN, 1]],
            ),
        ),
        ("data-before-headers", server().data(1, b"x", false).scheduled(1, &opened(1))),
        ("response-to-nothing", server().headers(1, OK, true).at_once()),
        (
            "push-promise",
            server().frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]).scheduled(1, &opened(1)),
        ),
        ("push-enabled", server().settings(&[(2, 1)]).at_once()),
        ("second-head", server().headers(1, OK, false).headers(1, OK, false).scheduled(1, &opened(1))),
        ("informational-end", server().headers(1, &[(":status", "100")], true).scheduled(1, &opened(1))),
        ("pings", server().then(&wire().ping().times(30)).scheduled(3, &[[8, action::PING, 1]])),
        (
            "keepalive-answered",
            server().frame(kind::PING, flag::ACK, 0, &[5; 8]).scheduled(1, &[[all(&start), action::PING, 5]]),
        ),
    ]
}
