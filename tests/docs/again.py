"""The example of docs/examples about calls that are tried again, and what bounds that."""

import json
import time

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

CATALOG, ORDERS, BATCH = "/ecommerce.catalog.Catalog/", "/ecommerce.orders.Orders/", "/ecommerce.batch.Batch/"

# What retries.yaml keeps of a request.
PER_CALL = 16 * 1024


def start(stage):
    """The example, and its two backends."""
    backends = calls.start_backends(stage, 2)
    clusters = ["orders", "catalog", "batch"]
    running = examples.run(stage, "retries", dict.fromkeys(clusters, calls.target(backends)))
    examples.everywhere(running, clusters, 2)
    return running, calls.connect(stage, running.address), backends


def denied(running, cluster):
    """Retries that were not made, by what forbade it."""
    reasons = running.metrics().by("evenkeel_retries_denied_total", "reason")
    counts = {why: running.metrics().sum("evenkeel_retries_denied_total", cluster=cluster, reason=why) for why in reasons}
    return {why: count for why, count in counts.items() if count}


def attempts(running, cluster, status):
    return sum(one["outcomes"].get(status, 0) for one in running.endpoints(cluster).values())


@examples.example("retries")
def failing_attempts_take_tokens_and_without_tokens_no_call_is_tried_again(stage):
    running, client, backends = start(stage)
    for backend in backends:
        backend.become("UNAVAILABLE")
    for _ in range(10):
        assert client.begin(service=CATALOG).code() == grpc.StatusCode.UNAVAILABLE
    # Ten tokens: three attempts of the first call, and the second's second leaves five, which are not more than half.
    made = attempts(running, "catalog", "Unavailable")
    figure("tries of ten calls that all fail, with ten tokens", 13, made)
    assert made == 13 and denied(running, "catalog") == {"attempts_used": 1, "throttled": 9}, (made, denied(running, "catalog"))
    retries = running.clusters()["catalog"]["retries"]
    assert retries["throttle"] == {"tokens": 0.0, "max_tokens": 10.0, "allows": False}, retries
    assert retries["denied"]["throttled"] == 9, retries
    assert "throttle" not in running.clusters()["orders"]["retries"]
    for backend in backends:
        backend.become()
    # A half for each that is answered: eleven make five and a half, and that is more than half.
    examples.met(client, 11, service=CATALOG)
    throttle = running.clusters()["catalog"]["retries"]["throttle"]
    assert throttle == {"tokens": 5.5, "max_tokens": 10.0, "allows": True}, throttle
    examples.met(client, 9, service=CATALOG)
    backends[0].become("UNAVAILABLE")
    assert examples.met(client, 2, service=CATALOG) == {backends[1].name: 2}
    assert denied(running, "catalog")["throttled"] == 9


@test
def a_retry_tells_the_backend_how_many_attempts_there_were(stage):
    running, client, backends = start(stage)
    told = lambda answer: answer["metadata"].get("grpc-previous-rpc-attempts")  # noqa: E731
    assert told(client.call(service=ORDERS)) is None
    backends[0].become("UNAVAILABLE")
    answers = [client.call(service=ORDERS) for _ in range(3)]
    seen = [told(answer) for answer in answers]
    retried = running.metrics().sum("evenkeel_retries_total", cluster="orders", reason="status")
    print(f"grpc-previous-rpc-attempts of three calls: {seen}")
    assert {answer["backend"] for answer in answers} == {backends[1].name}, answers
    # In turn, and a retry is a turn, too: after the first at the latest each call begins at the one that fails.
    assert retried >= 2 and seen == [None] * (3 - int(retried)) + ["1"] * int(retried), (seen, retried)


@test
def a_request_above_per_call_is_sent_once(stage):
    running, client, backends = start(stage)
    padding = lambda size: json.dumps({"padding": "x" * size}).encode()  # noqa: E731
    for backend in backends:
        backend.become("UNAVAILABLE")
    assert client.begin(padding(PER_CALL // 2), service=ORDERS).code() == grpc.StatusCode.UNAVAILABLE
    assert attempts(running, "orders", "Unavailable") == 2 and denied(running, "orders") == {"attempts_used": 1}
    dropped = lambda: running.metrics().by("evenkeel_replays_dropped_total", "bound")  # noqa: E731
    assert not any(dropped().values()), dropped()
    assert client.begin(padding(PER_CALL), service=ORDERS).code() == grpc.StatusCode.UNAVAILABLE
    made = attempts(running, "orders", "Unavailable")
    figure("tries of a request above replay.per_call", 1, made - 2)
    assert made == 3, made
    metrics = running.metrics()
    assert metrics.sum("evenkeel_replays_dropped_total", cluster="orders", bound="per_call") == 1
    assert sum(dropped().values()) == 1, dropped()
    assert denied(running, "orders") == {"attempts_used": 1, "request_too_large": 1}
    # One that is not to be tried again is not slowed or cut either.
    for backend in backends:
        backend.become()
    assert client.call(padding(10 * PER_CALL), service=ORDERS)
    eventually(lambda: running.metrics().sum("evenkeel_replay_bytes") == 0, "nothing is kept of calls that have ended")


@test
def the_delays_of_a_batch_grow_as_it_says_up_to_its_bound(stage):
    running, client, backends = start(stage)
    for backend in backends:
        backend.become("UNAVAILABLE")
    began = time.monotonic()
    assert client.begin(service=BATCH).code() == grpc.StatusCode.UNAVAILABLE
    took = time.monotonic() - began
    # 50 ms, 250 ms, and twice a second, each a fifth more or less. Without the bound there would be 7.5 s of them, a fifth less at
    # the least, with the defaults' factor 0.75 s, and with their bound 0.8 s, a fifth more at the most.
    figure("seconds of five attempts 50 ms, 250 ms, 1 s and 1 s apart", "1.8 to 6", f"{took:.2f}")
    assert 0.8 * 2.3 <= took < 6, took
    assert attempts(running, "batch", "Unavailable") == 5
    assert denied(running, "batch") == {"attempts_used": 1}
