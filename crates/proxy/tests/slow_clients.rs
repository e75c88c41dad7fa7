//! Clients that connect and say nothing, or half of something, or read nothing ("slowloris"): each has its own connection for
//! a time that a limit bounds, and nobody else notices.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, also in its helpers")]

mod peers;

use core::time::Duration;

use evenkeel_grpc::Code;
use evenkeel_http2::Limits;
use evenkeel_http2::frame::{FRAME_HEADER_LEN, FrameHeader, PREFACE, flag, kind, write_frame_header};
use evenkeel_proxy::worker::overload::Accountant;

use self::peers::{End, World};

const SECOND: Duration = Duration::from_secs(1);

/// What a turn and the timer wheel add to a limit: some milliseconds.
const SLACK: Duration = Duration::from_millis(5);

/// How long a connection that ended is read from at most (`LINGER_MAX`).
const LINGER: Duration = Duration::from_secs(1);

/// A request of literals without indexing.
const REQUEST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/pkg.Service/Method"),
    (":authority", "service"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame_header(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend(payload);
    bytes
}

/// A header block in its plainest form.
fn block() -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    REQUEST.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The preface and SETTINGS.
fn greeting() -> Vec<u8> {
    [PREFACE.to_vec(), frame(kind::SETTINGS, 0, 0, &[])].concat()
}

/// The greeting and the acknowledgement of ours, then these bytes.
fn greeted(then: &[u8]) -> Vec<u8> {
    [&greeting(), &frame(kind::SETTINGS, flag::ACK, 0, &[]), then].concat()
}

/// A world with a client that says these bytes at once, after another client that is as it should be.
fn world(said: &[u8]) -> (World, usize, usize) {
    let mut world = World::with_limits(&Accountant::new(u64::MAX), Limits::edge());
    let honest = world.client();
    let slow = world.stranger();
    world.peer(slow).raw = said.to_vec();
    world.turn();
    (world, slow, honest)
}

/// Whether the last frame that a client was told is GOAWAY.
fn was_told_to_go(world: &mut World, client: usize) -> bool {
    let heard = world.peer(client).heard.clone().unwrap();
    let (mut at, mut last) = (0, None);
    while let Some(header) = FrameHeader::parse(&heard[at..]) {
        at += FRAME_HEADER_LEN + header.length as usize;
        last = Some(header.kind);
    }
    last == Some(kind::GOAWAY)
}

/// Nothing is left of the slow client, and the other one is served.
fn only_the_slow_one_is_gone(world: &mut World, slow: usize, honest: usize) {
    assert!(world.peer(slow).closed && !world.peer(honest).closed);
    assert_eq!((world.worker.client_count(), world.worker.call_count(), world.in_flight()), (1, 0, 0));
    world.peer(honest).ends.clear();
    world.call(honest, b'S', 10);
    world.turns(3);
    assert_eq!(world.peer(honest).ends, [End::Status(Code::Ok)]);
}

#[test]
fn who_does_not_go_on_is_let_go_when_its_time_is_over() {
    let limits = Limits::edge();
    let headers = frame(kind::HEADERS, flag::END_HEADERS, 1, &block());
    let data = frame(kind::DATA, 0, 1, &[0; 1000]);
    let unended = frame(kind::HEADERS, 0, 1, &block()[..20]);
    for (what, said, limit) in [
        ("nothing", Vec::new(), limits.preface_timeout),
        ("a letter", b"P".to_vec(), limits.preface_timeout),
        ("half a method of HTTP/1", b"GE".to_vec(), limits.preface_timeout),
        ("half a preface", PREFACE[..12].to_vec(), limits.preface_timeout),
        ("a preface without SETTINGS", PREFACE.to_vec(), limits.preface_timeout),
        ("no acknowledgement", greeting(), limits.settings_timeout),
        ("half a header block", greeted(&unended), limits.header_timeout),
        ("half a HEADERS frame", greeted(&headers[..30]), limits.frame_timeout),
        ("half a frame header", greeted(&headers[..4]), limits.frame_timeout),
        ("half a DATA frame", greeted(&[&headers[..], &data[..500]].concat()), limits.frame_timeout),
    ] {
        let (mut world, slow, honest) = world(&said);
        let spoke = world.now;
        world.turn_at(spoke + limit - SLACK);
        assert!(!was_told_to_go(&mut world, slow), "{what}");
        world.turn_at(spoke + limit + SLACK);
        assert!(was_told_to_go(&mut world, slow), "{what}");
        assert!(!world.peer(slow).closed, "{what}: it has time to read that");
        world.turn_at(spoke + limit + LINGER + 2 * SLACK);
        only_the_slow_one_is_gone(&mut world, slow, honest);
    }
}

#[test]
fn a_byte_now_and_then_wins_no_time() {
    let limits = Limits::edge();
    let fragment = |at: usize| frame(kind::CONTINUATION, 0, 1, &block()[at..=at]);
    let unended = frame(kind::HEADERS, 0, 1, &[]);
    let fragments = |count: usize| (0..count).map(fragment).collect::<Vec<_>>();
    let bytes = |said: &[u8]| said.iter().map(|byte| vec![*byte]).collect::<Vec<_>>();
    let data = [
        frame(kind::HEADERS, flag::END_HEADERS, 1, &block()),
        frame(kind::DATA, 0, 1, &[0; 100])[..FRAME_HEADER_LEN].to_vec(),
    ];
    for (what, said, then, limit) in [
        ("preface", vec![], bytes(PREFACE), limits.preface_timeout),
        ("header block", greeted(&unended), fragments(5), limits.header_timeout),
        ("DATA frame", greeted(&data.concat()), bytes(&[0; 90]), limits.frame_timeout),
    ] {
        let (mut world, slow, honest) = world(&said);
        let spoke = world.now;
        for (second, bytes) in (1..).zip(then) {
            let at = spoke + SECOND * second - 2 * SLACK;
            if at > spoke + limit {
                break;
            }
            world.turn_at(at);
            assert!(!was_told_to_go(&mut world, slow), "{what} after {second} s");
            world.peer(slow).raw = bytes;
            world.turn();
        }
        world.turn_at(spoke + limit + SLACK);
        assert!(was_told_to_go(&mut world, slow), "{what}");
        world.turn_at(spoke + limit + LINGER + 2 * SLACK);
        only_the_slow_one_is_gone(&mut world, slow, honest);
    }
}

#[test]
fn a_client_of_http1_that_reads_nothing_is_let_go_when_it_stalls() {
    let (mut world, slow, honest) = world(b"");
    world.peer(slow).reads = false;
    world.peer(slow).raw = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
    world.turn();
    let (spoke, limit) = (world.now, world.worker.stall_timeout(0));
    world.turn_at(spoke + limit - SLACK);
    assert!(!world.peer(slow).closed);
    world.turn_at(spoke + limit + SLACK);
    only_the_slow_one_is_gone(&mut world, slow, honest);
}

#[test]
fn a_client_of_http1_that_goes_on_sending_is_let_go_after_a_second_and_nothing_is_kept() {
    let (mut world, slow, honest) = world(b"POST /upload HTTP/1.1\r\nhost: x\r\n\r\n");
    let (spoke, held) = (world.now, world.worker.held_memory());
    assert!(world.peer(slow).heard.as_ref().unwrap().starts_with(b"HTTP/1.1 505 "));
    while world.now < spoke + LINGER - SLACK {
        world.peer(slow).raw = vec![b'x'; 100_000];
        world.turn();
        assert!(!world.peer(slow).closed && world.worker.held_memory() <= held);
    }
    world.turn_at(spoke + LINGER + SLACK);
    only_the_slow_one_is_gone(&mut world, slow, honest);
}

#[test]
fn an_answer_that_waits_for_the_window_is_whole_before_the_client_is_asked_to_stop() {
    // h2 0.4.6 discarded DATA that waited behind a reset. Here the request goes on, and the answer is complete: the client is
    // asked to stop sending (RFC 9113 section 8.1), but not before it has all of the answer.
    let window = |bytes: u32| [&4_u16.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    let settings = |bytes| frame(kind::SETTINGS, 0, 0, &window(bytes));
    let said = [
        PREFACE.to_vec(),
        settings(0),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::HEADERS, flag::END_HEADERS, 1, &block()),
    ];
    let (mut world, slow, _) = world(&said.concat());
    world.turns(2);
    let backend = world.backend;
    let stream = world.peer(backend).begun[0];
    let now = world.now;
    world.peer(backend).answer(now, stream);
    world.turns(3);
    let kinds = |world: &mut World| {
        let heard = world.peer(slow).heard.clone().unwrap();
        let (mut at, mut kinds) = (0, Vec::new());
        while let Some(header) = FrameHeader::parse(&heard[at..]) {
            at += FRAME_HEADER_LEN + header.length as usize;
            if header.stream == 1 {
                kinds.push(header.kind);
            }
        }
        kinds
    };
    assert_eq!(kinds(&mut world), [kind::HEADERS], "the rest waits for the window");
    assert_eq!(world.worker.call_count(), 1);
    world.peer(slow).raw = settings(100);
    world.turns(2);
    assert_eq!(kinds(&mut world), [kind::HEADERS, kind::DATA, kind::HEADERS, kind::RST_STREAM]);
    assert_eq!(world.worker.call_count(), 0);
}
