"""Large messages pass without being held as a whole, and whoever does not read stops whoever sends."""

import time

import h2.errors
import h2.events
import h2.settings
import shared
from harness import calls, proxy, wire
from harness.poll import eventually
from harness.suite import test

MIB = 1 << 20

LARGE_BYTES = 20 * MIB

# What the proxy may occupy at most while large messages pass: at rest it takes less than 12 MiB, and one connection's
# flow-control windows hold 1 MiB each way, on both sides.
PEAK_BYTES = 32 * MIB


def pattern(length):
    """Bytes that show when a part is missing, doubled or moved."""
    return b"".join(number.to_bytes(8, "big") for number in range(length // 8))


@test
def messages_of_20_mib_pass_both_ways_in_little_memory(stage):
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    client = calls.connect(stage, running.address)
    sent = pattern(LARGE_BYTES)
    assert client.begin(sent, method="Echo", seconds=25).result() == sent
    assert running.peak_rss_bytes() < PEAK_BYTES, f"{running.peak_rss_bytes() / MIB:.1f} MiB"


@test
def streams_of_20_mib_pass_each_way_in_little_memory(stage):
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    client = calls.connect(stage, running.address)
    chunk = pattern(64 << 10)
    count = LARGE_BYTES // len(chunk)
    upload = client.channel.stream_unary(calls.SERVICE + "Upload")(iter([chunk] * count), timeout=25)
    assert f'"messages": {count}, "bytes": {LARGE_BYTES}'.encode() in upload
    download = client.channel.unary_stream(calls.SERVICE + "Download")
    ask = f'{{"messages": {count}, "bytes": {len(chunk)}}}'.encode()
    assert [len(message) for message in download(ask, timeout=25)] == [len(chunk)] * count
    chat = client.channel.stream_stream(calls.SERVICE + "Chat")
    assert list(chat(iter([chunk] * 50), timeout=25)) == [chunk] * 50
    assert running.peak_rss_bytes() < PEAK_BYTES, f"{running.peak_rss_bytes() / MIB:.1f} MiB"


@test
def a_client_that_does_not_read_stops_the_backend(stage):
    """50 streams that are each given 16 MiB of window but never read: the proxy holds a window of each at most."""
    backend = shared.one(stage)
    running = proxy.start(stage, f"ipv4:{backend.address}")
    codes = h2.settings.SettingCodes
    ask = wire.message(f'{{"messages": 1000, "bytes": {64 << 10}}}'.encode())
    with wire.RawClient(running.address, {codes.INITIAL_WINDOW_SIZE: 16 * MIB}) as client:
        client.http2.increment_flow_control_window(1 << 30)
        client.flush()
        for _ in range(50):
            client.request(wire.request_headers(calls.SERVICE + "Download"), ask)
        # Nothing is read here. The proxy reads until its own buffers are full, then no more.
        steady(lambda: running.metrics().sum("evenkeel_read_bytes_total", side="upstream"))
        assert running.peak_rss_bytes() < PEAK_BYTES, f"{running.peak_rss_bytes() / MIB:.1f} MiB"
        # Others are served meanwhile.
        assert calls.connect(stage, running.address).call()["backend"] == backend.name
    eventually(lambda: running.endpoints()[backend.address]["in_flight"] == 0, "the streams are cancelled")


def steady(measure, looks=10):
    """Waits until a figure is the same for so many looks in a row."""
    seen = []

    def unchanged():
        seen.append(measure())
        return len(seen) > looks and len(set(seen[-looks:])) == 1

    eventually(unchanged, "a steady figure")


@test
def a_backend_that_does_not_read_stops_the_client(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = stage.enter(wire.RawClient(running.address))
    stream = client.begin(wire.request_headers(calls.SERVICE + "Upload"))
    number, _ = backend.expect_request()
    sent = 0
    while sent < LARGE_BYTES:
        room = client.http2.local_flow_control_window(stream)
        if room == 0:
            if not client.read(1.0):
                break
            continue
        part = min(room, 16_384)
        client.http2.send_data(stream, bytes(part))
        client.flush()
        sent += part
    # The proxy's window of a stream, and what the backend's own window let it pass on.
    assert sent <= 4 * 65_535, sent
    # Credit moves the stream on, and the data are all there.
    received = 0
    client.http2.end_stream(stream)
    client.flush()
    while True:
        event = backend.expect(h2.events.DataReceived, number)
        received += len(event.data)
        backend.http2.acknowledge_received_data(event.flow_controlled_length, number)
        backend.flush()
        if event.stream_ended:
            break
    assert received == sent, (received, sent)
    backend.answer(number)
    assert client.status(stream)[1] == "0"


@test
def a_client_that_never_reads_loses_its_call_after_the_stall_timeout(stage):
    backend = shared.one(stage)
    config = proxy.config({"default": f"ipv4:{backend.address}"}, listener={"limits": {"stall_timeout": "1s"}})
    running, _ = proxy.start_with_file(stage, config)
    codes = h2.settings.SettingCodes
    ask = wire.message(b'{"messages": 1, "bytes": 100}')
    with wire.RawClient(running.address, {codes.INITIAL_WINDOW_SIZE: 0}) as client:
        begun = time.monotonic()
        stream = client.request(wire.request_headers(calls.SERVICE + "Download"), ask)
        reset = client.expect(h2.events.StreamReset, stream)
        assert reset.error_code == h2.errors.ErrorCodes.INTERNAL_ERROR, reset
        assert 1 <= time.monotonic() - begun < 5
        # Its connection goes on.
        client.round_trip()
    eventually(lambda: running.metrics().sum("evenkeel_local_replies_total", response_flag="SI") == 1, "it is counted")


@test
def a_call_whose_backend_never_reads_ends_after_the_stall_timeout(stage):
    server = stage.enter(wire.RawServer())
    config = proxy.config({"default": {"target": f"ipv4:{server.address}", "stall_timeout": "1s"}})
    running, _ = proxy.start_with_file(stage, config)
    backend = stage.enter(server.accept({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}))
    running.wait_until_ready(1)
    with wire.RawClient(running.address) as client:
        begun = time.monotonic()
        stream = client.request(wire.request_headers())
        number, _ = backend.expect_request()
        _, code, text = client.status(stream)
        assert (code, text) == ("14", "stream idle timeout: the backend did not read the request for 1s"), (code, text)
        assert 1 <= time.monotonic() - begun < 5
    assert backend.expect(h2.events.StreamReset, number).error_code == h2.errors.ErrorCodes.CANCEL
