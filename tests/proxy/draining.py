"""Going away without losing a call."""

import signal
import time

import grpc
import h2.connection
import h2.settings
import shared
from harness import calls, frames, proxy, wire
from harness.poll import eventually
from harness.suite import test

NO_ERROR = 0

# How long a proxy may take to end after what its drain settings say.
LATE_SECONDS = 5


def start(stage, **drain):
    target = f"ipv4:{shared.one(stage).address}"
    running, _ = proxy.start_with_file(stage, proxy.config({"default": target}, drain=drain))
    running.wait_until_ready(1)
    return running


def hold(stage, running, key):
    """A call that lasts until it is released."""
    call = calls.connect(stage, running.address).begin({"hold": key})
    eventually(lambda: sum(each["in_flight"] for each in running.endpoints().values()) == 1, "a call is in flight")
    return call


@test
def before_it_goes_it_says_so_and_serves_on(stage):
    running = start(stage, pre_drain="5s", spread="0s", grace="5s")
    client = calls.connect(stage, running.address)
    client.call()
    running.signal(signal.SIGTERM)
    eventually(lambda: running.get("/ready")[0] == 503, "/ready is 503")
    assert running.get("/live")[0] == 200
    # Calls of old and new connections are served until the end of pre_drain.
    for _ in range(20):
        client.call()
        with calls.Client(running.address) as other:
            other.call()
    assert running.wait(5 + LATE_SECONDS) == 0


@test
def a_call_in_flight_ends_well_within_the_grace(stage):
    running = start(stage, pre_drain="0s", spread="0s", grace="20s")
    held = hold(stage, running, "drained")
    running.signal(signal.SIGTERM)
    running.wait_for_line("draining")
    eventually(lambda: running.get("/ready")[0] == 503, "it drains")
    assert not held.done()
    shared.one(stage).release("drained")
    assert b'"b1"' in held.result()
    assert running.wait(LATE_SECONDS) == 0
    running.wait_for_line(r"drained.*aborted_calls=0")


@test
def a_call_that_outlasts_the_grace_gets_unavailable(stage):
    running = start(stage, pre_drain="0s", spread="0s", grace="1s")
    held = hold(stage, running, "outlasting")
    running.signal(signal.SIGTERM)
    code, details = calls.failure(held)
    assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
    assert "shutting down" in details, details
    assert running.wait(1 + LATE_SECONDS) == 0
    running.wait_for_line(r"drained.*aborted_calls=1")


@test
def a_client_that_reads_nothing_does_not_outlast_the_grace(stage):
    running = start(stage, pre_drain="0s", spread="0s", grace="1s")
    # Windows as large as they can be: what holds the bytes up is the socket that nobody reads.
    with wire.RawClient(running.address, settings={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1}) as client:
        client.http2.increment_flow_control_window(2**30)
        client.request(
            wire.request_headers(calls.SERVICE + "Download"), wire.message(b'{"messages": 64, "bytes": 1000000}')
        )
        eventually(
            lambda: running.metrics().sum("evenkeel_buffered_bytes") > 100_000, "the proxy holds what nobody reads"
        )
        running.signal(signal.SIGTERM)
        assert running.wait(1 + 2 + LATE_SECONDS) == 0


@test
def a_second_signal_cuts_calls_off(stage):
    running = start(stage, pre_drain="60s", spread="0s", grace="60s")
    held = hold(stage, running, "cut off")
    running.signal(signal.SIGTERM)
    eventually(lambda: running.get("/ready")[0] == 503, "it drains")
    running.signal(signal.SIGTERM)
    assert calls.failure(held)[0] == grpc.StatusCode.UNAVAILABLE
    assert running.wait(LATE_SECONDS) == 0


@test
def an_idle_connection_is_asked_to_go_in_two_steps(stage):
    """RFC 9113, section 6.8: a GOAWAY with the highest stream first, so that no call on its way is lost."""
    running = start(stage, pre_drain="0s", spread="0s", grace="10s")
    with frames.FrameClient(running.address) as client:
        client.expect(frames.SETTINGS)
        running.signal(signal.SIGTERM)
        _, payload = client.expect(frames.GOAWAY)
        assert frames.goaway(payload) == (2**31 - 1, NO_ERROR), payload
        _, payload = client.expect(frames.GOAWAY)
        assert frames.goaway(payload) == (0, NO_ERROR), payload
        client.expect_end()
    assert running.wait(LATE_SECONDS) == 0


@test
def no_connection_is_taken_once_clients_are_told_to_go(stage):
    """Where two proxies share the port, a client that comes back must reach the other one."""
    running = start(stage, pre_drain="0s", spread="0s", grace="10s")
    with frames.FrameClient(running.address) as client:
        client.expect(frames.SETTINGS)
        running.signal(signal.SIGTERM)
        client.expect(frames.GOAWAY)
        try:
            frames.connect(running.address).close()
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("a new connection was taken")


@test
def a_young_connection_is_not_told_to_go_with_its_first_frames(stage):
    """gRPC's core library misses a GOAWAY that comes with the SETTINGS, and hangs."""
    running = start(stage, pre_drain="0s", spread="0s", grace="10s")
    before = time.monotonic()
    with frames.FrameClient(running.address) as client:
        running.signal(signal.SIGTERM)
        client.expect(frames.SETTINGS)
        client.expect(frames.GOAWAY)
        assert time.monotonic() - before >= 0.25


@test
def a_call_begun_between_the_two_steps_is_served(stage):
    running = start(stage, pre_drain="0s", spread="0s", grace="10s")
    block = h2.connection.H2Connection().encoder.encode(wire.request_headers())
    with frames.FrameClient(running.address) as client:
        client.expect(frames.SETTINGS)
        running.signal(signal.SIGTERM)
        client.expect(frames.GOAWAY)
        # The next frame is a PING, and its answer follows this call.
        client.send(frames.frame(frames.HEADERS, frames.END_HEADERS, 1, block))
        client.send(frames.frame(frames.DATA, frames.END_STREAM, 1, wire.message(b"{}")))
        _, payload = client.expect(frames.GOAWAY)
        assert frames.goaway(payload) == (1, NO_ERROR), payload
        stream, answer = client.expect(frames.DATA)
        assert (stream, b'"b1"' in answer) == (1, True), answer
        client.expect_end()
    assert running.wait(LATE_SECONDS) == 0


@test
def sigint_and_the_admin_interface_drain_too(stage):
    running = start(stage, pre_drain="0s", spread="0s", grace="1s")
    running.signal(signal.SIGINT)
    assert running.wait(1 + LATE_SECONDS) == 0
    running = start(stage, pre_drain="3s", spread="0s", grace="1s")
    assert running.get("/drain", method="POST")[0] == 202
    assert running.get("/ready")[0] == 503
    assert running.wait(4 + LATE_SECONDS) == 0
