"""What a client does to make others pay: each attack ends its own connection, on the program as it is run.

The engine's tests have each attack in all its variants (crates/http2/src/connection/tests/floods.rs); here is one each, over a
socket, with a client beside it that must not notice. And the other side: clients that only look like it.
"""

import resource
import time

import grpc
import h2.errors
import h2.events
import shared
from harness import calls, frames, proxy, wire
from harness.frames import ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PRIORITY, RST_STREAM
from harness.frames import PING, SETTINGS, WINDOW_UPDATE, frame
from harness.poll import eventually
from harness.suite import Shared, test

# Frames of a flood: far beyond what any of them is forgiven.
FLOOD = 4000

# What one connection may make the proxy hold, and what the allocator adds.
HELD_BYTES_MAX = 4 << 20

attacked = Shared(lambda stage: proxy.start(stage, f"ipv4:{shared.one(stage).address}"))


def block(headers):
    """A header block of literals without indexing."""
    return b"".join(b"\x00" + b"".join(bytes([len(text)]) + text.encode() for text in field) for field in headers)


REQUEST = block(wire.request_headers())
STREAMS = range(1, 2 * FLOOD, 2)


def opening(stream=1):
    """A request that goes on."""
    return frame(HEADERS, END_HEADERS, stream, REQUEST)


def window(bytes_):
    """SETTINGS with an initial window."""
    return frame(SETTINGS, 0, 0, b"\x00\x04" + bytes_.to_bytes(4, "big"))


# By the name of what was found with them, or of what they are.
FLOODS = {
    "PING, CVE-2019-9512": frame(PING, 0, 0, bytes(8)) * FLOOD,
    "PRIORITY, CVE-2019-9513": frame(PRIORITY, 0, 1, b"\x00\x00\x00\x00\x0f") * FLOOD,
    "requests that solicit a reset, CVE-2019-9514": b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x83") for stream in STREAMS
    ),
    "SETTINGS, CVE-2019-9515": frame(SETTINGS, 0, 0) * FLOOD,
    "empty DATA, CVE-2019-9518": opening() + frame(DATA, 0, 1) * FLOOD,
    "empty CONTINUATION, CVE-2019-9518": frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, 0, 1) * FLOOD,
    "resets, CVE-2023-44487": b"".join(opening(at) + frame(RST_STREAM, 0, at, bytes([0, 0, 0, 8])) for at in STREAMS),
    "streams that it must reset, CVE-2025-8671": b"".join(
        opening(stream) + frame(WINDOW_UPDATE, 0, stream, bytes(4)) for stream in STREAMS
    ),
    "references to one large field, CVE-2026-49975": frame(
        HEADERS, 0, 1, REQUEST + b"\x40\x01a\x7f\x81\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    )
    + frame(CONTINUATION, END_HEADERS, 1, b"\xbe" * 16_000),
    "windows that change, CVE-2026-78669": opening() + (window(1) + window(65_535)) * FLOOD,
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 0, bytes([0, 0, 0, 1])) * FLOOD,
    "frames of an unknown type": frame(0x42, 0, 0, b"?") * FLOOD,
    "streams above the limit": b"".join(map(opening, STREAMS)),
}


# Most are told to calm down; some by the rule that they broke in the end.
CODES = {
    "streams that it must reset, CVE-2025-8671": "PROTOCOL_ERROR",
    "streams above the limit": "REFUSED_STREAM",
}


def flood(stage, sent, code):
    running = attacked.get(stage)
    client = calls.connect(stage, running.address)
    client.call()
    before = running.metrics().sum("evenkeel_protocol_errors_total")
    running.reset_peak_rss()
    rss = running.rss_bytes()
    greeting = frames.PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)
    found, _ = frames.parse(frames.talk(running.address, greeting + sent))
    codes = [frames.goaway(payload)[1] for kind, _, _, payload in found if kind == frames.GOAWAY]
    assert codes and codes[-1] == h2.errors.ErrorCodes[code], codes
    assert running.metrics().sum("evenkeel_protocol_errors_total") == before + 1
    assert running.peak_rss_bytes() - rss < HELD_BYTES_MAX, (running.peak_rss_bytes(), rss)
    # Neither the other client nor the backend has anything left of it.
    client.call()
    eventually(lambda: running.metrics().sum("evenkeel_downstream_streams_active") == 0, "no call is left")


for title, sent in FLOODS.items():
    expected = CODES.get(title, "ENHANCE_YOUR_CALM")
    test(
        lambda stage, sent=sent, expected=expected: flood(stage, sent, expected),
        name=f"a flood is cut off: {title}",
    )


@test
def answers_that_nobody_takes_are_bounded_by_their_windows(stage):
    """CVE-2019-9517: fifty large answers, and a window of nothing. Together they are three times the window of the connection
    to the backend, which others share."""
    running = attacked.get(stage)
    client = calls.connect(stage, running.address)
    ask = wire.message(b'{"messages": 64, "bytes": 65536}')
    headers = block(wire.request_headers("/evenkeel.test.Probe/Download"))
    sent = frames.PREFACE + window(0) + frame(SETTINGS, ACK, 0)
    for stream in STREAMS[:50]:
        sent += frame(HEADERS, END_HEADERS, stream, headers) + frame(DATA, END_STREAM, stream, ask)
    before = running.rss_bytes()
    with frames.connect(running.address) as sock:
        sock.sendall(sent)
        gauge = "evenkeel_downstream_streams_active"
        eventually(lambda: running.metrics().sum(gauge) == 50, "all calls have begun")
        for _ in range(5):
            client.call()
        # 50 windows of 64 KiB towards the backend are 3.1 MiB.
        assert running.rss_bytes() - before < 2 * HELD_BYTES_MAX, (running.rss_bytes(), before)
    eventually(lambda: running.metrics().sum(gauge) == 0, "no call is left")


def is_closed(sock):
    """Whether the proxy has closed a connection on which nothing was asked."""
    sock.settimeout(frames.STEP_SECONDS)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def greeted(stage, address):
    """A connection that the proxy serves."""
    client = stage.enter(wire.RawClient(address))
    client.expect(h2.events.RemoteSettingsChanged)
    return client


@test
def a_listener_has_as_many_connections_as_it_may(stage):
    limits = {"limits": {"max_connections_per_worker": 3}}
    config = proxy.config({"default": f"ipv4:{shared.one(stage).address}"}, listener=limits)
    running, _ = proxy.start_with_file(stage, config)
    clients = [greeted(stage, running.address) for _ in range(3)]
    refused = "evenkeel_downstream_connections_refused_total"
    for count in (1, 2):
        with frames.connect(running.address) as sock:
            assert is_closed(sock)
        assert running.metrics().sum(refused, reason="listener_limit") == count
    running.wait_for_line("max_connections_per_worker")
    for client in clients:
        assert client.status(client.request(wire.request_headers()))[1] == "0"
    clients[0].close()
    eventually(lambda: running.metrics().sum("evenkeel_downstream_connections_active") == 2, "one is gone")
    greeted(stage, running.address)


@test
def clients_leave_files_for_backends_and_are_told_at_once(stage):
    """Of a hundred open files clients may have sixty."""
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}", open_files=100)
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    client.call()
    others = [greeted(stage, running.address) for _ in range(59)]
    began = time.monotonic()
    for _ in range(100):
        with frames.connect(running.address) as sock:
            assert is_closed(sock)
    seconds = time.monotonic() - began
    found = running.metrics()
    assert found.sum("evenkeel_downstream_connections_active") == 60
    assert found.sum("evenkeel_downstream_connections_refused_total", reason="process_limit") == 100
    running.wait_for_line("closed at once")
    lines = [line for line in running.output() if "closed at once" in line]
    assert 1 <= len(lines) <= seconds + 1, (len(lines), seconds)
    client.call()
    for other in others:
        other.close()
    eventually(lambda: running.metrics().sum("evenkeel_downstream_connections_active") == 1, "they are gone")
    greeted(stage, running.address)


@test
def without_any_file_left_calls_go_on_and_new_clients_are_told_at_once(stage):
    """CVE-2020-8663, CVE-2023-4785: accept fails again and again, and the thread spins."""
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    # No look at the admin interface before the limit is set: the file of such a connection may be closed behind it, and one is left.
    client = calls.connect(stage, running.address)
    client.call()
    _, hard = resource.prlimit(running.id, resource.RLIMIT_NOFILE)
    # The number that the next file would get.
    resource.prlimit(running.id, resource.RLIMIT_NOFILE, (running.next_file(), hard))
    for _ in range(20):
        with frames.connect(running.address) as sock:
            assert is_closed(sock)
        client.call()
    resource.prlimit(running.id, resource.RLIMIT_NOFILE, (hard, hard))
    running.wait_for_line("no file descriptor is left")
    found = running.metrics()
    assert found.sum("evenkeel_downstream_connections_refused_total", reason="open_files") == 20
    # It does not spin: each connection and each call wakes it up a few times.
    assert found.sum("evenkeel_wakeups_total") < 1000
    greeted(stage, running.address)


def connections(running):
    """Connections of clients so far."""
    return running.metrics().sum("evenkeel_downstream_connections_opened_total")


@test
def a_client_that_cancels_half_of_its_calls_keeps_its_connection(stage):
    """A hedging client does that. What it completes pays for what it cancels."""
    running = attacked.get(stage)
    client = calls.connect(stage, running.address)
    client.call()
    before = connections(running)
    for number in range(300):
        held = client.begin({"hold": f"cancelled {number}"})
        client.call()
        held.cancel()
    assert connections(running) == before
    assert client.call()


@test
def a_client_near_its_limit_is_asked_to_go_and_loses_no_call(stage):
    """At three quarters of the ledger: grpcio takes another connection, and its calls in flight end as they should."""
    backend = shared.one(stage)
    running = proxy.start(stage, f"ipv4:{backend.address}")
    client = calls.connect(stage, running.address)
    held = [client.begin({"hold": "to the end"}) for _ in range(5)]
    eventually(lambda: running.metrics().sum("evenkeel_downstream_streams_active") == 5, "five calls are in flight")
    for number in range(400):
        client.begin({"hold": f"given up {number}"}).cancel()
        if number % 20 == 19 and connections(running) > 1:
            break
    assert connections(running) == 2, "it was asked to go, and came back once"
    for _ in range(20):
        client.call()
    assert not any(call.done() for call in held)
    backend.release("to the end")
    assert [call.code() for call in held] == [grpc.StatusCode.OK] * 5
    assert running.metrics().sum("evenkeel_protocol_errors_total") == 0
