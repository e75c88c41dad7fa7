//! What servers may send to clients. Streams 1 and 3 are open; the request on stream 1 is whole.

use evenkeel_http2::ErrorCode;
use evenkeel_http2::frame::{flag, kind};

use super::judge::{OK, fatal, h2_client, our_client, reset};
use super::wire::{List, wire, with};
use super::{Case, check, differs, same};

const PROTOCOL: ErrorCode = ErrorCode::PROTOCOL_ERROR;
const CLOSED: ErrorCode = ErrorCode::STREAM_CLOSED;

const RESPONSE: List<'static> = &[(":status", "200"), ("content-type", "application/grpc")];
const TRAILERS: List<'static> = &[("grpc-status", "0")];

const WHOLE_BLOCK: &str =
    "h2 cannot hold such a field and ends the connection; section 8.1.1 asks for no more than the stream";
const INFORMATIONAL: &str = "sections 8.1 and 8.6 leave no such response; h2 leaves it to its user";

fn responses() -> Vec<Case> {
    let bad = reset(PROTOCOL);
    let status = |value: &'static str| wire().headers(1, &[(":status", value)], true);
    let sized =
        |size: &'static str, end| wire().headers(1, &with(RESPONSE, &[("content-length", size)]), end);
    let begun = || wire().headers(1, RESPONSE, false);
    vec![
        same("a response", begun().data(1, b"x", false).headers(1, TRAILERS, true), OK),
        same("trailers only", wire().headers(1, &with(RESPONSE, TRAILERS), true), OK),
        same(
            "an informational response",
            wire().headers(1, &[(":status", "103")], false).headers(1, RESPONSE, true),
            OK,
        ),
        differs(
            "no :status",
            wire().headers(1, TRAILERS, true),
            bad,
            OK,
            "h2 takes it for 200; section 8.3.2 calls it malformed",
        ),
        differs(":status of two digits", status("20"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        differs(":status of letters", status("2xx"), bad, fatal(PROTOCOL), WHOLE_BLOCK),
        same(":path in a response", wire().headers(1, &with(RESPONSE, &[(":path", "/")]), true), bad),
        differs("an informational response that ends the stream", status("103"), bad, OK, INFORMATIONAL),
        differs("101", wire().headers(1, &[(":status", "101")], false), bad, OK, INFORMATIONAL),
        differs(
            "DATA before the header section",
            wire().data(1, b"x", false),
            bad,
            fatal(PROTOCOL),
            "h2 ends the connection; section 8.1.1 asks for no more than the stream",
        ),
        same("a second header section without END_STREAM", begun().headers(1, TRAILERS, false), bad),
        differs(
            "trailers with a pseudo-field",
            begun().headers(1, RESPONSE, true),
            bad,
            OK,
            "section 8.1 forbids it; h2 ignores pseudo-fields in trailers",
        ),
        same("DATA beyond content-length", sized("1", false).data(1, b"ab", false), bad),
        same("DATA short of content-length", sized("3", false).data(1, b"ab", true), bad),
        differs(
            "content-length without DATA",
            sized("3", true),
            bad,
            OK,
            "section 8.1.1 calls it malformed; h2 checks requests only when HEADERS end the stream",
        ),
        differs(
            "an upper-case name",
            wire().headers(1, &with(RESPONSE, &[("A", "b")]), true),
            bad,
            fatal(PROTOCOL),
            WHOLE_BLOCK,
        ),
        same("connection", wire().headers(1, &with(RESPONSE, &[("connection", "close")]), true), bad),
    ]
}

fn states() -> Vec<Case> {
    let begun = || wire().headers(1, RESPONSE, false);
    vec![
        same("HEADERS on an idle stream", wire().headers(5, RESPONSE, true), fatal(PROTOCOL)),
        same("HEADERS on a stream of the server's", wire().headers(2, RESPONSE, true), fatal(PROTOCOL)),
        same("DATA on an idle stream", wire().data(5, b"x", false), fatal(PROTOCOL)),
        same("RST_STREAM on an idle stream", wire().reset(5), fatal(PROTOCOL)),
        same("WINDOW_UPDATE on an idle stream", wire().window_update(5, 1), fatal(PROTOCOL)),
        same("DATA behind the end", begun().data(1, b"x", true).data(1, b"x", false), reset(CLOSED)),
        same(
            "HEADERS behind the end",
            begun().headers(1, TRAILERS, true).headers(1, TRAILERS, true),
            reset(CLOSED),
        ),
        same("RST_STREAM behind the end", begun().headers(1, TRAILERS, true).reset(1), OK),
        same(
            "PUSH_PROMISE",
            wire().frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2]),
            fatal(PROTOCOL),
        ),
        differs(
            "ENABLE_PUSH of 1",
            wire().settings(2, 1),
            fatal(PROTOCOL),
            OK,
            "section 6.5.2 asks a client to end the connection; h2 does not check",
        ),
        same("a GOAWAY that raises its last stream", goaway(1).raw(&goaway(3).0), fatal(PROTOCOL)),
        same("a GOAWAY that lowers its last stream", goaway(3).raw(&goaway(1).0), OK),
    ]
}

fn goaway(last_stream: u8) -> super::wire::Wire {
    wire().frame(kind::GOAWAY, 0, 0, &[0, 0, 0, last_stream, 0, 0, 0, 0])
}

#[test]
fn messages() {
    check(&responses(), our_client, h2_client);
}

#[test]
fn frames() {
    check(&states(), our_client, h2_client);
}
