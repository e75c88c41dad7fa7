"""What no client should send: the answer that the RFC or gRPC names, and no effect on anyone else."""

import socket
import time

import grpc
import h2.errors
import h2.events
import shared
from harness import calls, frames, proxy, wire
from harness.frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS
from harness.frames import WINDOW_UPDATE, frame, talk
from harness.poll import eventually
from harness.suite import Shared, test

guarded = Shared(lambda stage: proxy.start(stage, f"ipv4:{shared.one(stage).address}"))


class Bystander:
    """A client that must not notice what others send."""

    def __init__(self, stage):
        self.proxy = guarded.get(stage)
        self.client = calls.connect(stage, self.proxy.address)
        self.client.call()

    def notices_nothing(self):
        self.client.call()
        assert self.proxy.is_running()


@test
def http1_is_answered_with_505_and_a_hint(stage):
    bystander = Bystander(stage)
    for request in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"POST /a/b HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\n\r\n"):
        answer = talk(bystander.proxy.address, request)
        assert answer.startswith(b"HTTP/1.1 505 "), answer
        assert b"gRPC over HTTP/2" in answer, answer
    bystander.notices_nothing()


@test
def a_first_segment_may_end_anywhere(stage):
    """A client may send its first bytes one by one; what it speaks is told by what they become."""
    greeting = frames.PREFACE + frame(SETTINGS, 0, 0)
    for first in (1, 2, 3, 4, 23, 24):
        with frames.connect(guarded.get(stage).address) as sock:
            send_in_two(sock, greeting, first)
            kind, _, stream, _ = receive_frame(sock)
            assert (kind, stream) == (SETTINGS, 0), first
    for first in (1, 2, 3, 4, 5):
        with frames.connect(guarded.get(stage).address) as sock:
            send_in_two(sock, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", first)
            assert frames.receive_all(sock).startswith(b"HTTP/1.1 505 "), first


def send_in_two(sock, data, first):
    """Sends the first bytes in a segment of their own, which the proxy reads before the rest comes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(data[:first])
    eventually(lambda: unread_by_peer(sock) == 0, "the proxy reads the first bytes")
    sock.sendall(data[first:])


def unread_by_peer(sock):
    """Bytes that the other end of a connection on this machine has not read yet."""

    def name(address):
        host, port = address
        return f"{socket.inet_aton(host)[::-1].hex().upper()}:{port:04X}"

    theirs = [name(sock.getpeername()), name(sock.getsockname())]
    with open("/proc/net/tcp", encoding="ascii") as lines:
        queues = [words[4] for words in map(str.split, lines) if words[1:3] == theirs]
    assert len(queues) == 1, queues
    return int(queues[0].partition(":")[2], 16)


def receive_frame(sock):
    data = b""
    while True:
        chunk = sock.recv(65536)
        assert chunk, f"closed after {data!r}"
        data += chunk
        found, _ = frames.parse(data)
        if found:
            return found[0]


@test
def the_answer_to_head_has_no_body(stage):
    answer = talk(guarded.get(stage).address, b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 505 ") and answer.endswith(b"\r\n\r\n"), answer


@test
def what_is_no_http_at_all_is_closed(stage):
    bystander = Bystander(stage)
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 100, b"hello\r\n\r\n"):
        talk(bystander.proxy.address, garbage)
    bystander.notices_nothing()


@test
def a_content_type_that_is_not_grpc_is_answered_with_415(stage):
    bystander = Bystander(stage)
    with wire.RawClient(bystander.proxy.address) as client:
        for kind in ("text/html", "application/json", "application/grpcx", None):
            stream = client.request(wire.request_headers(content_type=kind))
            headers, body, _ = client.answer(stream)
            assert headers[":status"] == "415", (kind, headers)
            assert b"application/grpc" in body, body
        # The connection goes on.
        assert client.status(client.request(wire.request_headers()))[1] == "0"
    bystander.notices_nothing()


@test
def a_method_other_than_post_is_answered_with_405(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        for method in ("GET", "PUT"):
            headers, _, _ = client.answer(client.request(wire.request_headers(method=method)))
            assert headers[":status"] == "405", headers
            assert headers["allow"] == "POST", headers


@test
def a_path_that_is_no_method_is_unimplemented(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        for path in ("/", "/service", "//method", "/service/", "/a/b/c", "/a%2fb/c", "/a/b?c", "/a/b#c"):
            status, code, text = client.status(client.request(wire.request_headers(path=path)))
            assert (status, code) == ("200", "12"), (path, status, code, text)


@test
def a_malformed_timeout_is_answered_with_400_and_internal(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        for value in ("", "1", "S", "-1S", "1x", "123456789S", "1 S", "0x1S"):
            stream = client.request(wire.request_headers(extra=[("grpc-timeout", value)]))
            status, code, text = client.status(stream)
            assert (status, code) == ("400", "13"), (value, status, code, text)
            assert "grpc-timeout" in text, text


@test
def the_longest_timeout_is_taken(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        stream = client.request(wire.request_headers(extra=[("grpc-timeout", "99999999H")]))
        assert client.status(stream)[1] == "0"


@test
def too_much_metadata_is_answered_with_resource_exhausted(stage):
    bystander = Bystander(stage)
    with wire.RawClient(bystander.proxy.address) as client:
        for extra in ([("x-large", "v" * 20_000)], [(f"x-{number}", "v") for number in range(120)]):
            status, code, text = client.status(client.request(wire.request_headers(extra=extra)))
            assert (status, code) == ("200", "8"), (status, code, text)
        # The connection goes on, its header compression in step.
        assert client.status(client.request(wire.request_headers()))[1] == "0"
    code, _ = calls.connect(stage, bystander.proxy.address).fails(metadata=[("x-large", "v" * 20_000)])
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, code
    bystander.notices_nothing()


@test
def too_much_metadata_is_answered_the_same_wherever_the_content_type_stands(stage):
    """grpc-js sends metadata first. What stands behind the field that is too large is not kept."""
    with wire.RawClient(guarded.get(stage).address) as client:
        for large in ([("x-large", "v" * 20_000)], [(f"x-{number}", "v") for number in range(120)]):
            fields = wire.request_headers(content_type=None, extra=[*large, ("content-type", "application/grpc")])
            status, code, text = client.status(client.request(fields))
            assert (status, code) == ("200", "8"), (status, code, text)
            # Who says that it is no gRPC before is told what this port speaks.
            fields = wire.request_headers(content_type="text/html", extra=large)
            headers, _, _ = client.answer(client.request(fields))
            assert headers[":status"] == "415", headers
        assert client.status(client.request(wire.request_headers()))[1] == "0"
    found = guarded.get(stage).metrics()
    assert found.sum("grpc_server_handled_total", grpc_code="ResourceExhausted") >= 2


@test
def the_answer_to_too_much_metadata_names_settings_that_exist(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        stream = client.request(wire.request_headers(extra=[("x-large", "v" * 20_000)]))
        _, _, text = client.status(stream)
    assert "max_header_list_size" in text and "max_headers_count" in text, text


@test
def header_blocks_without_end_are_cut_off(stage):
    bystander = Bystander(stage)
    before = bystander.proxy.rss_bytes()
    # Literal fields without indexing, in CONTINUATION frames that never end the block.
    field = b"\x00\x03x-a\x7f\x80\x7e" + b"v" * 16_255
    flood = frame(HEADERS, 0, 1, field) + b"".join(frame(CONTINUATION, 0, 1, field) for _ in range(500))
    answer = talk_http2(bystander.proxy.address, flood)
    assert goaway_code(answer) in (h2.errors.ErrorCodes.ENHANCE_YOUR_CALM, h2.errors.ErrorCodes.PROTOCOL_ERROR)
    assert bystander.proxy.rss_bytes() - before < 4 << 20
    bystander.notices_nothing()


def talk_http2(address, data):
    """Sends a preface, SETTINGS and then these bytes; gives back all that comes."""
    return talk(address, frames.PREFACE + frame(SETTINGS, 0, 0) + data)


def goaway_code(data):
    """The error code of the last GOAWAY."""
    found, _ = frames.parse(data)
    codes = [frames.goaway(payload)[1] for kind, _, _, payload in found if kind == frames.GOAWAY]
    assert codes, f"no GOAWAY in {[kind for kind, *_ in found]}"
    return codes[-1]


CONNECTION_ERRORS = {
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
    "DATA on a stream that was never opened": (frame(DATA, 0, 1, b"x"), "PROTOCOL_ERROR"),
    "HEADERS on an even stream": (frame(HEADERS, END_HEADERS | END_STREAM, 2, b"\x83"), "PROTOCOL_ERROR"),
    "a frame above the largest size": (frame(DATA, 0, 1, b"x" * 16_385), "FRAME_SIZE_ERROR"),
    "a PING of seven bytes": (frame(PING, 0, 0, b"1234567"), "FRAME_SIZE_ERROR"),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, b"12345"), "FRAME_SIZE_ERROR"),
    "a window of more than 31 bits": (frame(SETTINGS, 0, 0, b"\x00\x04\x80\x00\x00\x00"), "FLOW_CONTROL_ERROR"),
    "an increment of 0": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
    "a window that overflows": (frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), "FLOW_CONTROL_ERROR"),
    "CONTINUATION without HEADERS": (frame(CONTINUATION, END_HEADERS, 1, b""), "PROTOCOL_ERROR"),
    "PING within a header block": (frame(HEADERS, 0, 1, b"\x83") + frame(PING, 0, 0, bytes(8)), "PROTOCOL_ERROR"),
    "an index that is not in the table": (frame(HEADERS, END_HEADERS, 1, b"\xfe"), "COMPRESSION_ERROR"),
    "RST_STREAM of an idle stream": (frame(RST_STREAM, 0, 1, bytes(4)), "PROTOCOL_ERROR"),
}


def connection_error(stage, data, expected):
    bystander = Bystander(stage)
    answer = talk_http2(bystander.proxy.address, data)
    found = goaway_code(answer)
    assert found == h2.errors.ErrorCodes[expected], h2.errors.ErrorCodes(found).name
    bystander.notices_nothing()


for title, (sent, named) in CONNECTION_ERRORS.items():
    test(
        lambda stage, sent=sent, named=named: connection_error(stage, sent, named),
        name=f"{title} ends the connection with {named}",
    )


@test
def a_malformed_request_ends_its_stream_only(stage):
    with wire.RawClient(guarded.get(stage).address) as client:
        malformed = [
            wire.request_headers(extra=[("X-Upper", "v")]),
            wire.request_headers(extra=[("connection", "keep-alive")]),
            wire.request_headers(extra=[("te", "gzip")]),
            wire.request_headers(extra=[(":path", "/a/b")]),
            wire.request_headers(path=None),
            wire.request_headers(extra=[("x", "a\nb")]),
        ]
        for headers in malformed:
            stream = client.request(headers)
            reset = client.expect(h2.events.StreamReset, stream)
            assert reset.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR, (headers, reset.error_code)
        assert client.status(client.request(wire.request_headers()))[1] == "0"


@test
def broken_rules_have_one_log_line_a_second_each(stage):
    """At most one line per cause and second, whatever peers do: each kind of broken connection again and again."""
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    before = len(running.output())
    rounds = 20
    began = time.monotonic()
    for _ in range(rounds):
        talk(running.address, b"GET / HTTP/1.1\r\n\r\n")
        for sent, _ in CONNECTION_ERRORS.values():
            talk_http2(running.address, sent)
    seconds = time.monotonic() - began
    # HTTP/1 is counted, and no line.
    assert running.metrics().sum("evenkeel_http1_requests_total") == rounds
    rules = {rule: count for rule, count in by_rule(running).items() if count}
    assert sum(rules.values()) == rounds * len(CONNECTION_ERRORS), rules
    lines = running.output()[before:]
    assert len(lines) <= len(rules) * (seconds + 1), (len(lines), rules, seconds, lines[:5])
    for rule in rules:
        found = [line for line in lines if f'rule="{rule}"' in line]
        assert 1 <= len(found) <= seconds + 1, (rule, seconds, found)


def by_rule(running):
    """How many connections broke each rule."""
    found = running.metrics().by("evenkeel_protocol_errors_total", "rule")
    return {rule: int(count) for rule, count in found.items()}


@test
def workers_share_the_log_line_of_a_cause(stage):
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}", workers=4)
    began = time.monotonic()
    for _ in range(100):
        talk_http2(running.address, frame(DATA, 0, 0, b"x"))
    seconds = time.monotonic() - began
    running.wait_for_line("connection closed")
    lines = [line for line in running.output() if "connection closed" in line]
    assert 1 <= len(lines) <= seconds + 1, (len(lines), seconds, lines)
    assert running.metrics().sum("evenkeel_protocol_errors_total") == 100


@test
def a_backend_that_breaks_the_protocol_costs_its_calls_only(stage):
    server = stage.enter(wire.RawServer())
    good = shared.one(stage)
    running = proxy.start(stage, f"ipv4:{server.address},{good.address}", policy="round_robin")
    backend = stage.enter(server.accept())
    running.wait_until_ready(2)
    client = calls.connect(stage, running.address)
    held = [client.begin() for _ in range(2)]
    backend.expect_request()
    backend.send_raw(frame(DATA, 0, 0, b"x"))
    codes = sorted(call.code().name for call in held)
    assert codes == ["OK", "UNAVAILABLE"], codes
    assert calls.shares(client, 5) == {good.name: 5}


@test
def what_a_backend_answers_besides_grpc_is_mapped_as_grpc_says(stage):
    """doc/http-grpc-status-mapping.md."""
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = calls.connect(stage, running.address)
    expected = {
        "400": "INTERNAL",
        "401": "UNAUTHENTICATED",
        "403": "PERMISSION_DENIED",
        "404": "UNIMPLEMENTED",
        "429": "UNAVAILABLE",
        "502": "UNAVAILABLE",
        "503": "UNAVAILABLE",
        "504": "UNAVAILABLE",
        "500": "UNKNOWN",
    }
    for status, name in expected.items():
        call = client.begin()
        stream, _ = backend.expect_request()
        backend.http2.send_headers(stream, [(":status", status), ("content-type", "text/html")])
        backend.http2.send_data(stream, b"<html>", end_stream=True)
        backend.flush()
        code, details = calls.failure(call)
        assert code.name == name, (status, code, details)
