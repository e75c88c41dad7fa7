"""Each call goes to the endpoint that the policy says, and a lost backend costs as little as can be."""

import json
import time

import grpc
import h2.errors
import h2.events
import shared
from harness import calls, proxy, wire
from harness.poll import eventually
from harness.suite import figure, test

ROUNDS = 10


def hold(client, key, count):
    """Begins so many calls that last until they are released."""
    return [client.begin({"hold": key}) for _ in range(count)]


def in_flight(running):
    return sorted(endpoint["in_flight"] for endpoint in running.endpoints().values())


@test
def round_robin_shares_the_calls_of_one_connection_exactly(stage):
    backends = shared.three.get(stage)
    running = proxy.start(stage, calls.target(backends), policy="round_robin")
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    assert calls.shares(client, 3 * ROUNDS) == {backend.name: ROUNDS for backend in backends}


@test
def two_workers_share_the_calls_of_each_connection_exactly(stage):
    backends = shared.three.get(stage)
    running = proxy.start(stage, calls.target(backends), policy="round_robin", workers=2)
    eventually(
        lambda: all(endpoint["connections"] == 2 for endpoint in running.endpoints().values()),
        "both workers are connected to all endpoints",
    )
    for _ in range(4):
        client = calls.connect(stage, running.address)
        assert calls.shares(client, 3 * ROUNDS) == {backend.name: ROUNDS for backend in backends}


@test
def a_full_scan_for_the_least_requests_keeps_calls_in_flight_equal(stage):
    backends = shared.three.get(stage)
    settings = {"target": calls.target(backends), "policy": {"least_request": {"full_scan": True}}}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}))
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    held = hold(client, "full scan", 3 * ROUNDS)
    eventually(lambda: in_flight(running) == [ROUNDS] * 3, "each endpoint has a third of the calls")
    for backend in backends:
        backend.release("full scan")
    for call in held:
        call.result()
    eventually(lambda: in_flight(running) == [0] * 3, "no call is in flight")


@test
def the_default_policy_keeps_calls_in_flight_nearly_equal(stage):
    backends = shared.three.get(stage)
    running = proxy.start(stage, calls.target(backends))
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    held = hold(client, "two choices", 3 * ROUNDS)
    eventually(lambda: sum(in_flight(running)) == 3 * ROUNDS, "all calls are in flight")
    # The best of two random choices: with three endpoints the difference stays at a few calls (Mitzenmacher 2001).
    least, _, most = in_flight(running)
    assert most - least <= 6, f"in flight are {in_flight(running)}"
    for backend in backends:
        backend.release("two choices")
    for call in held:
        call.result()


@test
def a_killed_backend_costs_its_calls_in_flight_and_none_later(stage):
    backends = calls.start_backends(stage, 3)
    running = proxy.start(stage, calls.target(backends), policy="round_robin")
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    held = hold(client, "killed", 3 * ROUNDS)
    eventually(lambda: in_flight(running) == [ROUNDS] * 3, "each backend has a third of the calls")
    backends[0].kill()
    running.wait_until_ready(2)
    assert calls.shares(client, 2 * ROUNDS) == {"b2": ROUNDS, "b3": ROUNDS}
    for backend in backends[1:]:
        backend.release("killed")
    codes = [call.code() for call in held]
    assert codes.count(grpc.StatusCode.UNAVAILABLE) == ROUNDS, codes
    assert codes.count(grpc.StatusCode.OK) == 2 * ROUNDS, codes


@test
def a_backend_that_comes_back_takes_calls_again(stage):
    backends = calls.start_backends(stage, 2)
    running = proxy.start(stage, calls.target(backends), policy="round_robin")
    running.wait_until_ready(2)
    client = calls.connect(stage, running.address)
    backends[0].kill()
    running.wait_until_ready(1)
    assert calls.shares(client, ROUNDS) == {"b2": ROUNDS}
    stage.add_program(calls.Backend("b1 again", backends[0].address))
    running.wait_until_ready(2)
    assert calls.shares(client, 2 * ROUNDS) == {"b1 again": ROUNDS, "b2": ROUNDS}


@test
def without_a_backend_the_answer_is_quick_and_names_the_cluster_and_the_cause(stage):
    with wire.RawServer() as server:
        address = server.address
    running = proxy.start(stage, f"ipv4:{address}")
    client = calls.connect(stage, running.address)
    began = time.monotonic()
    code, details = client.fails(seconds=10)
    took = time.monotonic() - began
    assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
    for part in ("cluster default", address, "Connection refused"):
        assert part in details, details
    assert took < 3, f"it took {took:.1f} s"


@test
def an_endpoint_that_refuses_connections_costs_no_call(stage):
    with wire.RawServer() as server:
        dead = server.address
    live = shared.one(stage)
    running = proxy.start(stage, f"ipv4:{dead},{live.address}", policy="round_robin")
    # From the first call on, before the proxy can know.
    client = calls.connect(stage, running.address)
    assert calls.shares(client, ROUNDS) == {live.name: ROUNDS}


def raw_pair(stage):
    """A proxy before two backends by hand, both connected."""
    servers = [stage.enter(wire.RawServer()) for _ in range(2)]
    running = proxy.start(stage, calls.target(servers), policy="round_robin")
    peers = [stage.enter(server.accept()) for server in servers]
    running.wait_until_ready(2)
    return running, peers


def next_request(peers):
    """Waits for a request at any of the backends; gives back the backend, the stream and the header list."""

    def look():
        for peer in peers:
            peer.read(0.01)
            if any(isinstance(event, h2.events.RequestReceived) for event in peer.events):
                return (peer, *peer.expect_request())
        return None

    return eventually(look, "a request reaches a backend")


def refuse(peer, stream):
    peer.http2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
    peer.flush()


@test
def a_refused_stream_is_tried_on_another_endpoint_unseen(stage):
    running, peers = raw_pair(stage)
    client = calls.connect(stage, running.address)
    call = client.begin({"once": 1})
    first, stream, headers = next_request(peers)
    refuse(first, stream)
    second, stream, again = next_request(peers)
    assert second is not first
    # All but what is left of the deadline is the same.
    assert headers.pop("grpc-timeout") and again.pop("grpc-timeout")
    assert again == headers
    assert second.expect(h2.events.DataReceived, stream).data == wire.message(b'{"once": 1}')
    second.answer(stream, b"answered")
    assert call.result() == b"answered"


@test
def a_stream_that_is_refused_twice_fails_with_unavailable(stage):
    running, peers = raw_pair(stage)
    call = calls.connect(stage, running.address).begin()
    for _ in range(2):
        peer, stream, _ = next_request(peers)
        refuse(peer, stream)
    code, details = calls.failure(call)
    assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "upstream refused stream")


@test
def calls_that_wait_for_a_backend_with_few_streams_are_all_made(stage):
    """grpcio's server counts a stream for a moment after its end has left, and refuses one that is opened then."""
    backend = stage.add_program(calls.Backend("b1", streams=4))
    cluster = {"target": f"ipv4:{backend.address}", "max_connections_per_endpoint": 1}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": cluster}))
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    count = 600
    begun = [client.begin() for _ in range(count)]
    failed = [call.details() for call in begun if call.exception()]
    refused = running.metrics().sum("evenkeel_transparent_retries_total", reason="no_place")
    figure("calls that fail where four at a time are allowed", 0, f"{len(failed)} of {count}, {refused:.0f} streams refused")
    assert not failed, failed


@test
def a_call_above_the_last_stream_of_a_goaway_is_tried_again_unseen(stage):
    running, peers = raw_pair(stage)
    call = calls.connect(stage, running.address).begin()
    first, _, _ = next_request(peers)
    first.http2.close_connection(last_stream_id=0)
    first.flush()
    second, stream, _ = next_request(peers)
    assert second is not first
    second.answer(stream, b"answered")
    assert call.result() == b"answered"


@test
def a_call_that_a_backend_may_have_processed_is_not_made_twice(stage):
    running, peers = raw_pair(stage)
    call = calls.connect(stage, running.address).begin()
    first, _, _ = next_request(peers)
    first.close()
    code, _ = calls.failure(call)
    assert code == grpc.StatusCode.UNAVAILABLE, code
    other = peers[1 - peers.index(first)]
    other.read(0.2)
    assert not [event for event in other.events if isinstance(event, h2.events.RequestReceived)]


@test
def calls_that_a_backend_refuses_and_then_leaves_are_all_made_at_another(stage):
    """Refusals that came with the end of the connection are read to their end: each of them makes its call safe to repeat."""
    count = 200
    live = shared.one(stage)
    server = stage.enter(wire.RawServer())
    settings = {"target": f"ipv4:{server.address},{live.address}", "policy": "round_robin"}
    # All calls are under way at once: one that waits for a stream could begin after the refusals.
    limits = {"limits": {"max_concurrent_streams": 1000}}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, listener=limits))
    client = calls.connect(stage, running.address)
    with server.accept() as leaving:
        running.wait_until_ready(2)
        begun = [client.begin() for _ in range(count)]
        refused = [leaving.expect_request()[0] for _ in range(count // 2)]
        for stream in refused:
            leaving.http2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        leaving.flush()
    assert {json.loads(call.result())["backend"] for call in begun} == {live.name}
