"""Examples of docs/examples about what a route does to its calls: faults, metadata, hedges, and bounds for streams."""

import collections
import json
import queue
import time

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

SEARCH = {"service": "/ecommerce.orders.OrderService/", "method": "Search"}

# Connections, and calls on each, of which some are slow by a fault and few fail.
CLIENTS, CALLS = 5, 80

WATCHES = "/shop.Watches/"


def start_faults(stage):
    backend = examples.three.get(stage)[0]
    running = examples.run(stage, "faults", {"orders": f"ipv4:{backend.address}"})
    running.wait_until_ready(1, "orders")
    return running


def injected(running):
    return {kind: running.metrics().sum("evenkeel_faults_injected_total", fault=kind) for kind in ("delay", "abort")}


@examples.example("faults")
def faults_are_for_those_who_ask(stage):
    running = start_faults(stage)
    client = calls.connect(stage, running.address)
    asked = [("x-chaos", "1"), ("x-evenkeel-fault-abort", "14")]
    assert client.fails(metadata=asked) == (grpc.StatusCode.UNAVAILABLE, "fault filter abort")
    assert client.begin(metadata=asked[1:]).code() == grpc.StatusCode.OK
    assert injected(running)["abort"] == 1
    for _ in range(CALLS):
        client.call()
    assert injected(running)["abort"] == 1, "nobody else meets any"


@test
def one_call_in_ten_of_those_who_ask_is_slow_and_few_fail(stage):
    running = start_faults(stage)
    clients = [calls.connect(stage, running.address) for _ in range(CLIENTS)]
    took, begun = {}, []
    for number in range(CLIENTS * CALLS):
        began, call = time.monotonic(), clients[number % CLIENTS].begin(metadata=[("x-chaos", "1")])
        call.add_done_callback(lambda _, number=number, began=began: took.update({number: time.monotonic() - began}))
        begun.append(call)
    codes = collections.Counter(call.code() for call in begun)
    eventually(lambda: len(took) == len(begun), "all have ended")
    faults, slow = injected(running), sum(seconds >= 2 for seconds in took.values())
    figure(f"calls of {len(begun)} that wait two seconds, at ten percent", "10 to 80", slow)
    # By chance it is less than 10 or more than 80 in one of millions of runs.
    assert slow == faults["delay"] and 10 <= slow <= 80, (slow, faults)
    assert codes == collections.Counter({grpc.StatusCode.OK: len(begun) - faults["abort"], grpc.StatusCode.UNAVAILABLE: faults["abort"]})
    # At one in two hundred two of these.
    assert faults["abort"] <= 16, faults
    backend_met = sum(sum(one["outcomes"].values()) for one in running.endpoints("orders").values())
    assert backend_met == len(begun) - faults["abort"], (backend_met, faults)


@examples.example("rewriting")
def metadata_is_rewritten_both_ways(stage):
    backend = examples.three.get(stage)[0]
    running = examples.run(stage, "rewriting", {"orders": f"ipv4:{backend.address}"})
    client = calls.connect(stage, running.address)
    trailers = {"x-internal-cost": "7", "x-cost": "8"}
    call = client.begin({"trailers": trailers}, service="/ecommerce.Orders/", metadata=[("x-debug", "1")])
    seen = json.loads(call.result())["metadata"]
    assert (seen["x-served-by"], seen["x-tag"], seen["x-tag-bin"]) == ("edge-1", "blue", "010203"), seen
    assert "x-debug" not in seen, seen
    assert dict(call.initial_metadata())["x-version"] == "v2"
    ended = dict(call.trailing_metadata())
    assert ended["x-cost"] == "8" and "x-internal-cost" not in ended, ended
    assert client.begin(service="/other.Service/").code() == grpc.StatusCode.UNIMPLEMENTED, "no route takes it"
    assert running.metrics().sum("evenkeel_route_calls_total", route="0") == 1


@test
def a_search_on_a_slow_or_busy_backend_is_answered_by_another(stage):
    backends = calls.start_backends(stage, 3)
    running = examples.run(stage, "resilient", {"orders": calls.target(backends)})
    running.wait_until_ready(3, "orders")
    client = calls.connect(stage, running.address)
    others = examples.names(backends[1:])
    hedges = lambda: running.clusters()["orders"]["hedges"]  # noqa: E731
    # Longer than the route's timeout; and a budget of three further attempts in ten seconds is met by neither case.
    backends[0].become(delay_ms=4000)

    def after_a_call(kind):
        assert client.call(**SEARCH)["backend"] in others
        return hedges()[kind]

    eventually(lambda: after_a_call("sent"), "one meets the slow backend first")
    told = hedges()
    assert (told["sent"], told["won"], told["after_failure"]) == (1, 1, 0), told
    backends[0].become("RESOURCE_EXHAUSTED")
    eventually(lambda: after_a_call("after_failure"), "one meets the busy backend first")
    told = hedges()
    assert (told["sent"], told["won"], told["after_failure"]) == (1, 2, 1), told
    assert not any(one["withheld"] for one in running.endpoints("orders").values()), "too much to do is no failure"


class Talk:
    """A stream on which each message of the backend is answered with the next one; never idle."""

    def __init__(self, client, service):
        self._next = queue.SimpleQueue()
        self._next.put(b"first")
        self._call = client.channel.stream_stream(service + "Chat")(iter(self._next.get, None))

    def ends(self):
        """Talks until the stream ends; gives back its status, what is said of it, and how many messages came."""
        came = 0
        try:
            for message in self._call:
                came += 1
                self._next.put(message)
        except grpc.RpcError:
            pass
        self._next.put(None)
        return self._call.code(), self._call.details(), came


@test
def streams_end_when_they_are_idle_or_have_gone_on_for_their_time(stage):
    backends = calls.start_backends(stage, 1)
    quick = {"max_stream_duration: 10m": "max_stream_duration: 3s", "stream_idle_timeout: 5m": "stream_idle_timeout: 1s"}
    running = examples.run(stage, "streams", {"watches": calls.target(backends)}, quick)
    running.wait_until_ready(1, "watches")
    client = calls.connect(stage, running.address)
    # Of the other route, which bounds nothing.
    free = client.begin({"hold": "free"}, service="/shop.Other/")
    began = time.monotonic()
    code, details = client.fails({"hold": "idle"}, service=WATCHES)
    idle = time.monotonic() - began
    assert code == grpc.StatusCode.UNAVAILABLE and "stream idle timeout" in details, (code, details)
    code, details, came = Talk(client, WATCHES).ends()
    took = time.monotonic() - began - idle
    assert code == grpc.StatusCode.UNAVAILABLE and "max_stream_duration" in details, (code, details)
    figure("seconds after which an idle stream ends, and one that is not", "1, and 2.7 to 3", f"{idle:.2f}, {took:.2f}")
    # A tenth earlier at most; another second has a message to end.
    assert 1 <= idle and 2.7 <= took < 3 + 1 + 2 and came > 1, (idle, took, came)
    assert not free.done()
    backends[0].release("free")
    assert free.code() == grpc.StatusCode.OK
