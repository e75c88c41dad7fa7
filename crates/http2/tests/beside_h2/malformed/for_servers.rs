//! What clients may send to servers.

use evenkeel_http2::ErrorCode;
use evenkeel_http2::frame::{PREFACE, flag, kind};

use super::judge::{OK, Verdict, fatal, h2_new_server, h2_server, our_new_server, our_server, reset};
use super::wire::{List, POST, Wire, block, wire, with};
use super::{Case, check, differs, same};

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;
const SIZE: ErrorCode = ErrorCode::FRAME_SIZE_ERROR;
const FLOW: ErrorCode = ErrorCode::FLOW_CONTROL_ERROR;
const HPACK: ErrorCode = ErrorCode::COMPRESSION_ERROR;
const CALM: ErrorCode = ErrorCode::ENHANCE_YOUR_CALM;

const UNPARSED: &str =
    "h2 says PROTOCOL_ERROR of all that it cannot parse; sections 4.2, 4.3 and 6.5.2 name the code";
const WHOLE_BLOCK: &str =
    "h2 cannot hold such a field and ends the connection; section 8.1.1 asks for no more than the stream";
const GONE: &str = "h2 forgets which streams there were; sections 5.1 and 5.1.1 allow either code";
const LENIENT_TRAILERS: &str = "section 8.1 forbids it; h2 ignores pseudo-fields in trailers";
const LENIENT_START: &str = "section 3.4 asks for SETTINGS first; h2 does not check";
const SILENT: &str = "section 3.4 lets a server leave out the GOAWAY; ours says why";

#[test]
fn prefaces() {
    let settings = || wire().frame(kind::SETTINGS, 0, 0, &[]);
    check(
        &[
            same("whole", wire().raw(PREFACE).raw(&settings().0), OK),
            differs(
                "HTTP/1",
                wire().raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
                fatal(PROTOCOL),
                Verdict::Closed,
                SILENT,
            ),
            differs(
                "wrong at the end",
                wire().raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\x00"),
                fatal(PROTOCOL),
                Verdict::Closed,
                SILENT,
            ),
            differs("no SETTINGS", wire().raw(PREFACE).call(1), fatal(PROTOCOL), OK, LENIENT_START),
            differs(
                "an acknowledgement first",
                wire().raw(PREFACE).frame(kind::SETTINGS, 1, 0, &[]),
                fatal(PROTOCOL),
                OK,
                LENIENT_START,
            ),
        ],
        our_new_server,
        h2_new_server,
    );
}

fn frames_in_place() -> Vec<Case> {
    let on = |kind: u8, stream, length: usize| wire().frame(kind, 0, stream, &vec![0; length]);
    vec![
        same("DATA on stream 0", on(kind::DATA, 0, 1), fatal(PROTOCOL)),
        same("HEADERS on stream 0", wire().headers(0, POST, true), fatal(PROTOCOL)),
        same("PRIORITY on stream 0", on(kind::PRIORITY, 0, 5), fatal(PROTOCOL)),
        same("RST_STREAM on stream 0", on(kind::RST_STREAM, 0, 4), fatal(PROTOCOL)),
        same("SETTINGS on a stream", on(kind::SETTINGS, 1, 0), fatal(PROTOCOL)),
        same("PING on a stream", on(kind::PING, 1, 8), fatal(PROTOCOL)),
        same("GOAWAY on a stream", on(kind::GOAWAY, 1, 8), fatal(PROTOCOL)),
        same("CONTINUATION on stream 0", on(kind::CONTINUATION, 0, 0), fatal(PROTOCOL)),
        same(
            "PUSH_PROMISE of a client",
            wire().open(1).frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
            fatal(PROTOCOL),
        ),
        same("an unknown type anywhere", on(0xfe, 0, 9).frame(0xfe, 0xff, 7, &[]), OK),
        same("a PING", on(kind::PING, 0, 8), OK),
    ]
}

fn lengths() -> Vec<Case> {
    let on = |kind: u8, flags, stream, length: usize| wire().frame(kind, flags, stream, &vec![0; length]);
    vec![
        differs(
            "RST_STREAM of 3 bytes",
            wire().open(1).raw(&on(kind::RST_STREAM, 0, 1, 3).0),
            fatal(SIZE),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        differs("SETTINGS of 5 bytes", on(kind::SETTINGS, 0, 0, 5), fatal(SIZE), fatal(PROTOCOL), UNPARSED),
        differs(
            "SETTINGS acknowledged with 6 bytes",
            on(kind::SETTINGS, flag::ACK, 0, 6),
            fatal(SIZE),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        differs("PING of 7 bytes", on(kind::PING, 0, 0, 7), fatal(SIZE), fatal(PROTOCOL), UNPARSED),
        differs("GOAWAY of 7 bytes", on(kind::GOAWAY, 0, 0, 7), fatal(SIZE), fatal(PROTOCOL), UNPARSED),
        differs(
            "WINDOW_UPDATE of 3 bytes",
            on(kind::WINDOW_UPDATE, 0, 0, 3),
            fatal(SIZE),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        differs(
            "PRIORITY of 4 bytes",
            wire().open(1).raw(&on(kind::PRIORITY, 0, 1, 4).0),
            reset(SIZE),
            fatal(PROTOCOL),
            "h2 ends the connection; section 6.3 asks for no more than the stream",
        ),
        same("a frame of 16 385 bytes", on(0x20, 0, 0, 16_385), fatal(SIZE)),
        same("a frame of 16 384 bytes", on(0x20, 0, 0, 16_384), OK),
        same(
            "DATA with padding of its length",
            wire().open(1).frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0]),
            fatal(PROTOCOL),
        ),
        same(
            "DATA with no room for a padding length",
            wire().open(1).frame(kind::DATA, flag::PADDED, 1, &[]),
            fatal(PROTOCOL),
        ),
        same("DATA all of padding", wire().open(1).frame(kind::DATA, flag::PADDED, 1, &[2, 0, 0]), OK),
        same(
            "HEADERS with padding of its length",
            wire().frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, &[3, 0, 0]),
            fatal(PROTOCOL),
        ),
    ]
}

fn states() -> Vec<Case> {
    let trailers: List<'_> = &[("a", "b")];
    vec![
        same("DATA on an idle stream", wire().data(1, b"x", false), fatal(PROTOCOL)),
        same("RST_STREAM on an idle stream", wire().reset(1), fatal(PROTOCOL)),
        same("WINDOW_UPDATE on an idle stream", wire().window_update(1, 1), fatal(PROTOCOL)),
        same("PRIORITY on an idle stream", wire().priority(1, 0), OK),
        same("HEADERS on an even stream", wire().call(2), fatal(PROTOCOL)),
        differs("HEADERS on a skipped stream", wire().call(5).call(3), fatal(CLOSED), fatal(PROTOCOL), GONE),
        differs("HEADERS on a closed stream", wire().call(1).call(1), fatal(CLOSED), fatal(PROTOCOL), GONE),
        differs(
            "DATA on a closed stream",
            wire().call(1).data(1, b"x", false),
            fatal(CLOSED),
            fatal(PROTOCOL),
            GONE,
        ),
        differs(
            "DATA on a stream that the client reset",
            wire().open(1).reset(1).data(1, b"x", false),
            fatal(CLOSED),
            reset(CLOSED),
            "h2 remembers the stream for a while; section 5.1 allows either",
        ),
        same("RST_STREAM on a closed stream", wire().call(1).reset(1), OK),
        same("WINDOW_UPDATE on a closed stream", wire().call(1).window_update(1, 1), OK),
        same("PRIORITY on a closed stream", wire().call(1).priority(1, 0), OK),
        same(
            "a second header section without END_STREAM",
            wire().open(1).headers(1, trailers, false),
            reset(PROTOCOL),
        ),
        same("trailers", wire().open(1).data(1, b"x", false).headers(1, trailers, true), OK),
        differs(
            "trailers with a pseudo-field",
            wire().open(1).headers(1, &[(":path", "/")], true),
            reset(PROTOCOL),
            OK,
            LENIENT_TRAILERS,
        ),
        same("HEADERS that depend on themselves", self_dependent(), reset(PROTOCOL)),
        same("PRIORITY that depends on itself", wire().open(1).priority(1, 1), reset(PROTOCOL)),
    ]
}

fn self_dependent() -> Wire {
    let payload = [&[0, 0, 0, 1, 15][..], &block(POST)].concat();
    wire().frame(kind::HEADERS, flag::PRIORITY | flag::END_HEADERS | flag::END_STREAM, 1, &payload)
}

fn header_blocks() -> Vec<Case> {
    let begun = || wire().frame(kind::HEADERS, flag::END_STREAM, 1, &block(POST));
    let raw = |bytes: &[u8]| wire().block(1, &[&block(POST), bytes].concat(), true);
    vec![
        same("CONTINUATION of nothing", wire().open(1).frame(kind::CONTINUATION, 4, 1, &[]), fatal(PROTOCOL)),
        same("CONTINUATION of another stream", begun().frame(kind::CONTINUATION, 4, 3, &[]), fatal(PROTOCOL)),
        same("another frame within a block", begun().window_update(0, 1), fatal(PROTOCOL)),
        same("an unknown frame within a block", begun().frame(0xfe, 0, 1, &[]), fatal(PROTOCOL)),
        same("a block in two", begun().frame(kind::CONTINUATION, 4, 1, &[]), OK),
        same(
            "a block in a hundred",
            begun().raw(&wire().frame(kind::CONTINUATION, 0, 1, &[]).times(100).0),
            fatal(CALM),
        ),
        differs("index 0", raw(&[0x80]), fatal(HPACK), fatal(PROTOCOL), UNPARSED),
        differs("an index beyond the tables", raw(&[0xff, 0x00]), fatal(HPACK), fatal(PROTOCOL), UNPARSED),
        differs("half a field", raw(&[0x00, 0x05, b'a']), fatal(HPACK), fatal(PROTOCOL), UNPARSED),
        differs(
            "bad Huffman padding",
            raw(&[0x00, 0x01, b'a', 0x81, 0x00]),
            fatal(HPACK),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        differs(
            "a table size above the limit",
            wire().block(1, &[&[0x3f, 0xe2, 0x1f][..], &block(POST)].concat(), true),
            fatal(HPACK),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        differs("a table size behind a field", raw(&[0x20]), fatal(HPACK), fatal(PROTOCOL), UNPARSED),
        differs(
            "an integer without end",
            raw(&[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            fatal(HPACK),
            fatal(PROTOCOL),
            UNPARSED,
        ),
    ]
}

/// A request with one more field.
fn more(name: &str, value: &str) -> Wire {
    wire().headers(1, &with(POST, &[(name, value)]), true)
}

fn pseudo_fields() -> Vec<Case> {
    let whole = |list: List<'_>| wire().headers(1, list, true);
    let without = |at: usize| {
        let mut list = POST.to_vec();
        list.remove(at);
        whole(&list)
    };
    let bad = reset(PROTOCOL);
    vec![
        same("no :method", without(0), bad),
        same("no :scheme", without(1), bad),
        same("no :path", without(2), bad),
        same("no :authority", without(3), OK),
        same("two of :path", more(":path", "/b"), bad),
        differs("an unknown pseudo-field", more(":unknown", "b"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        same(":status in a request", more(":status", "200"), bad),
        same("a pseudo-field behind a field", whole(&with(&[("a", "b")], POST)), bad),
        same("an empty :path", whole(&[POST[0], POST[1], (":path", ""), POST[3]]), bad),
        differs(
            "host besides :authority",
            more("host", "b"),
            bad,
            OK,
            "two hosts that differ are how requests are smuggled; h2 leaves it to its user",
        ),
        same("CONNECT with a path", whole(&[(":method", "CONNECT"), POST[1], POST[2], POST[3]]), bad),
        same("CONNECT", whole(&[(":method", "CONNECT"), POST[3]]), OK),
    ]
}

fn fields() -> Vec<Case> {
    let bad = reset(PROTOCOL);
    vec![
        differs("an upper-case name", more("A", "b"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        same("connection", more("connection", "close"), bad),
        same("keep-alive", more("keep-alive", "1"), bad),
        same("proxy-connection", more("proxy-connection", "close"), bad),
        same("transfer-encoding", more("transfer-encoding", "chunked"), bad),
        same("upgrade", more("upgrade", "h2c"), bad),
        same("te: trailers", more("te", "trailers"), OK),
        same("te: gzip", more("te", "gzip"), bad),
        differs("a name with a space", more("a b", "c"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        differs("an empty name", more("", "c"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        differs("a value with a line feed", more("a", "b\nc"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        differs("a value with NUL", more("a", "b\0c"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        differs(
            "a value with a space in front",
            more("a", " b"),
            bad,
            OK,
            "section 8.2.1 forbids it; h2 leaves it to its user",
        ),
        differs(
            "a value with a space behind",
            more("a", "b "),
            bad,
            OK,
            "section 8.2.1 forbids it; h2 leaves it to its user",
        ),
    ]
}

fn content_lengths() -> Vec<Case> {
    let bad = reset(PROTOCOL);
    vec![
        same("content-length that is no number", more("content-length", "1x"), bad),
        same("content-length without DATA", more("content-length", "1"), bad),
        same(
            "two content-lengths that differ",
            wire().headers(1, &with(POST, &[("content-length", "1"), ("content-length", "2")]), false),
            bad,
        ),
        same(
            "DATA beyond content-length",
            wire().headers(1, &with(POST, &[("content-length", "1")]), false).data(1, b"ab", false),
            bad,
        ),
        same(
            "DATA short of content-length",
            wire().headers(1, &with(POST, &[("content-length", "3")]), false).data(1, b"ab", true),
            bad,
        ),
        same(
            "trailers short of content-length",
            wire().headers(1, &with(POST, &[("content-length", "3")]), false).headers(1, &[("a", "b")], true),
            bad,
        ),
    ]
}

fn settings_and_windows() -> Vec<Case> {
    let full = 0x7fff_ffff;
    vec![
        same("ENABLE_PUSH of 2", wire().settings(2, 2), fatal(PROTOCOL)),
        differs(
            "INITIAL_WINDOW_SIZE of 2^31",
            wire().settings(4, 1 << 31),
            fatal(FLOW),
            fatal(PROTOCOL),
            UNPARSED,
        ),
        same("MAX_FRAME_SIZE of 16 383", wire().settings(5, 16_383), fatal(PROTOCOL)),
        same("MAX_FRAME_SIZE of 2^24", wire().settings(5, 1 << 24), fatal(PROTOCOL)),
        same("an unknown setting", wire().settings(0xfefe, 1), OK),
        same("an acknowledgement of nothing", wire().frame(kind::SETTINGS, 1, 0, &[]), fatal(PROTOCOL)),
        same("an increment of 0 for the connection", wire().window_update(0, 0), fatal(PROTOCOL)),
        differs(
            "an increment of 0 for a stream",
            wire().open(1).window_update(1, 0),
            reset(PROTOCOL),
            fatal(PROTOCOL),
            "h2 ends the connection; section 6.9 asks for no more than the stream",
        ),
        same("a connection's window beyond 2^31-1", wire().window_update(0, full), fatal(FLOW)),
        same("a stream's window beyond 2^31-1", wire().open(1).window_update(1, full), reset(FLOW)),
        same(
            "an initial window that makes one of them overflow",
            wire().open(1).window_update(1, 10).settings(4, full),
            fatal(FLOW),
        ),
        same(
            "more DATA than a stream's window",
            wire().open(1).raw(&wire().data(1, &[0; 16_384], false).times(5).0),
            reset(FLOW),
        ),
        differs(
            "a GOAWAY, and a request after it",
            wire().frame(kind::GOAWAY, 0, 0, &[0; 8]).call(1),
            OK,
            Verdict::Closed,
            "h2 closes at a GOAWAY without streams; ours leaves that to its owner",
        ),
    ]
}

#[test]
fn frames() {
    let cases: Vec<Case> =
        [frames_in_place(), lengths(), states(), header_blocks()].into_iter().flatten().collect();
    check(&cases, our_server, h2_server);
}

#[test]
fn messages() {
    let cases: Vec<Case> = [pseudo_fields(), fields(), content_lengths()].into_iter().flatten().collect();
    check(&cases, our_server, h2_server);
}

#[test]
fn connection_state() {
    check(&settings_and_windows(), our_server, h2_server);
}
