"""Deadlines are kept and passed on, and a cancelled call ends at the backend too."""

import time

import grpc
import h2.errors
import h2.events
import shared
from harness import calls, proxy, wire
from harness.poll import throughout
from harness.suite import test

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}

# How much later than its deadline a call may end, on a busy machine.
LATE_SECONDS = 2.0


def seconds(timeout):
    """The value of a grpc-timeout."""
    return int(timeout[:-1]) * UNITS[timeout[-1]]


@test
def a_passed_deadline_ends_the_call_here_and_at_the_backend(stage):
    backend = stage.add_program(calls.Backend("late"))
    running = proxy.start(stage, f"ipv4:{backend.address}")
    running.wait_until_ready(1)
    headers = wire.request_headers(extra=[("grpc-timeout", "1S")])
    began = time.monotonic()
    # This client keeps no deadline of its own.
    with wire.RawClient(running.address) as client:
        stream = client.request(headers, wire.message(b'{"hold": "late"}'))
        status, code, text = client.status(stream)
        took = time.monotonic() - began
    # The backend keeps the same deadline, so the status may be its own.
    assert (status, code) == ("200", "4"), (status, code, text)
    assert 1 <= took < 1 + LATE_SECONDS, took
    backend.wait_for_line("^cancelled late$")


@test
def the_proxys_own_answer_at_a_deadline_says_so(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = stage.enter(wire.RawClient(running.address))
    stream = client.request(wire.request_headers(extra=[("grpc-timeout", "100m")]))
    number, _ = backend.expect_request()
    assert client.status(stream) == ("200", "4", "deadline exceeded: upstream request timeout")
    assert backend.expect(h2.events.StreamReset, number).error_code == h2.errors.ErrorCodes.CANCEL


@test
def a_grpcio_client_gets_deadline_exceeded(stage):
    backend = shared.one(stage)
    running = proxy.start(stage, f"ipv4:{backend.address}")
    client = calls.connect(stage, running.address)
    # Connected, so that the deadline is the call's alone.
    client.call()
    code, _ = client.fails({"hold": "never"}, seconds=1)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
    backend.wait_for_line("^cancelled never$")


@test
def a_reset_by_a_backend_whose_deadline_passed_is_told_as_the_deadline(stage):
    """grpc-go resets with CANCEL at the deadline, which may come before the proxy's own timer."""
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    for _ in range(20):
        with wire.RawClient(running.address) as client:
            stream = client.request(wire.request_headers(extra=[("grpc-timeout", "20m")]))
            number, headers = backend.expect_request()
            left = seconds(headers["grpc-timeout"])
            throughout(running.is_running, "the proxy runs until the deadline", left)
            try:
                backend.http2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
                backend.flush()
            except h2.exceptions.StreamClosedError:
                # The proxy's timer was first.
                pass
            assert client.status(stream)[1] == "4"
        backend.events.clear()


@test
def a_cancellation_by_a_backend_whose_deadline_passed_is_told_as_the_deadline(stage):
    """tonic answers CANCELLED at the deadline."""
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    cancelled = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "1")]
    for timeout, expected in (("20m", "4"), ("10S", "1")):
        with wire.RawClient(running.address) as client:
            stream = client.request(wire.request_headers(extra=[("grpc-timeout", timeout)]))
            number, headers = backend.expect_request()
            left = seconds(headers["grpc-timeout"])
            throughout(running.is_running, "the proxy runs until the deadline", left if left < 1 else 0)
            try:
                backend.http2.send_headers(number, cancelled, end_stream=True)
                backend.flush()
            except h2.exceptions.StreamClosedError:
                # The proxy's timer was first.
                pass
            assert client.status(stream)[1] == expected
        backend.events.clear()


@test
def a_routes_timeout_holds_for_clients_without_a_deadline(stage):
    backend = shared.one(stage)
    target = f"ipv4:{backend.address}"
    routes = [{"cluster": "default", "timeout": "1s"}]
    running, _ = proxy.start_with_file(stage, proxy.config({"default": target}, routes=routes))
    client = calls.connect(stage, running.address)
    code, _ = client.fails({"hold": "route timeout"}, seconds=None)
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
    # It is passed on like a client's own.
    remaining = client.call(seconds=None)["remaining"]
    assert 0 < remaining < 1.05, remaining


@test
def a_backend_is_told_what_is_left_of_the_deadline(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    # A connection that is open but says nothing yet: the call has to wait.
    backend = stage.enter(server.accept(greet=False))
    # A worker reads the clock when it wakes: no wake that reads the request is from before this.
    began = time.monotonic()
    client = stage.enter(wire.RawClient(running.address))
    client.request(wire.request_headers(extra=[("grpc-timeout", "10S")]))
    client.round_trip()
    sent = time.monotonic()
    throughout(running.is_running, "the proxy runs", 0.5)
    asked = time.monotonic()
    backend.greet()
    _, headers = backend.expect_request()
    arrived = time.monotonic()
    left = seconds(headers["grpc-timeout"])
    assert 10 - (arrived - began) <= left <= 10 - (asked - sent), headers["grpc-timeout"]


@test
def a_call_without_a_deadline_gets_none(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = stage.enter(wire.RawClient(running.address))
    stream = client.request(wire.request_headers())
    number, headers = backend.expect_request()
    assert "grpc-timeout" not in headers, headers
    backend.answer(number)
    assert client.status(stream)[1] == "0"


def begun(stage):
    """A call from a client by hand to a backend by hand, begun at both."""
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = stage.enter(wire.RawClient(running.address))
    stream = client.request(wire.request_headers())
    number, _ = backend.expect_request()
    return running, client, stream, backend, number


@test
def a_cancelled_call_is_cancelled_at_the_backend(stage):
    running, client, stream, backend, number = begun(stage)
    client.http2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    client.flush()
    reset = backend.expect(h2.events.StreamReset, number)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    # Both connections go on.
    again = client.request(wire.request_headers())
    number, _ = backend.expect_request()
    backend.answer(number)
    assert client.status(again)[1] == "0"
    assert running.metrics().sum("grpc_server_handled_total", grpc_code="Canceled") == 1


@test
def a_lost_client_cancels_its_calls_at_the_backend(stage):
    running, client, _, backend, number = begun(stage)
    client.close()
    reset = backend.expect(h2.events.StreamReset, number)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    assert running.is_running()


@test
def a_call_that_grpcio_cancels_is_cancelled_at_a_grpcio_backend(stage):
    backend = stage.add_program(calls.Backend("cancelled"))
    running = proxy.start(stage, f"ipv4:{backend.address}")
    call = calls.connect(stage, running.address).begin({"hold": "cancel"})
    backend.wait_for_line("^began cancel$")
    call.cancel()
    backend.wait_for_line("^cancelled cancel$")
