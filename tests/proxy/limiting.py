"""Limits of clusters and routes, with as many calls as they let through."""

import grpc
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import test


def start(stage, backends, *, cluster=None, route=None, workers=1):
    """A proxy in front of these backends with these limits."""
    settings = {"target": calls.target(backends), "policy": "round_robin", **(cluster or {})}
    routes = [{"cluster": "default", **(route or {})}]
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, routes=routes, workers=workers))
    running.wait_until_ready(len(backends))
    return running, calls.connect(stage, running.address)


def codes(pending):
    """How many of these calls ended with each status."""
    counts = {}
    for call in pending:
        name = call.code().name
        counts[name] = counts.get(name, 0) + 1
    return counts


def in_flight(running):
    return sum(one["in_flight"] for one in running.endpoints().values())


@test
def a_circuit_breaker_lets_as_many_calls_through_as_it_says_over_all_workers(stage):
    backends = calls.start_backends(stage, 2)
    cluster = {"circuit_breakers": {"max_requests": 10}}
    running, client = start(stage, backends, cluster=cluster, workers=2)
    clients = [client, *(calls.connect(stage, running.address) for _ in range(3))]
    held = [one.begin({"hold": "x"}) for one in clients for _ in range(10)]
    refused = lambda: [call for call in held if call.done()]  # noqa: E731
    eventually(lambda: len(refused()) == 30, "all but ten are refused")
    assert codes(refused()) == {"UNAVAILABLE": 30}
    assert refused()[0].details().startswith("upstream overflow: max_requests"), refused()[0].details()
    assert in_flight(running) == 10
    (breaker,) = [one for one in running.clusters()["default"]["circuit_breakers"] if one["limit"] == "max_requests"]
    assert (breaker["used"], breaker["max"], breaker["open"], breaker["overflows"]) == (10, 10, True, 30), breaker
    assert running.metrics().sum("evenkeel_limited_calls_total", limit="max_requests") == 30
    for backend in backends:
        backend.release("x")
    assert codes(held) == {"OK": 10, "UNAVAILABLE": 30}


@test
def an_endpoint_that_has_enough_is_passed_over(stage):
    backends = calls.start_backends(stage, 2)
    cluster = {"circuit_breakers": {"per_endpoint": {"max_requests": 3}}}
    running, client = start(stage, backends, cluster=cluster)
    held = [client.begin({"hold": "x"}) for _ in range(8)]
    eventually(lambda: sum(call.done() for call in held) == 2, "six are taken")
    assert {one["in_flight"] for one in running.endpoints().values()} == {3}
    for backend in backends:
        backend.release("x")
    assert codes(held) == {"OK": 6, "UNAVAILABLE": 2}


@test
def a_bound_of_zero_lets_nothing_through(stage):
    backends = calls.start_backends(stage, 1)
    _, client = start(stage, backends, cluster={"circuit_breakers": {"max_requests": 0}})
    code, details = client.fails()
    assert (code, details.split(":")[:2]) == (grpc.StatusCode.UNAVAILABLE, ["upstream overflow", " max_requests"]), details
    retry = {"retry": {"retry_on": ["unavailable"], "max_attempts": 3}}
    running, client = start(stage, backends, cluster={"circuit_breakers": {"max_retries": 0}}, route=retry)
    assert client.fails({"code": "UNAVAILABLE"})[0] == grpc.StatusCode.UNAVAILABLE
    metrics = running.metrics()
    assert metrics.sum("evenkeel_retries_denied_total", reason="breaker_open") == 1
    assert metrics.sum("evenkeel_retries_total") == 0


@test
def a_rate_limit_lets_a_burst_through_for_each_client(stage):
    backends = calls.start_backends(stage, 1)
    limit = {"per_client": {"by": [{"metadata": "x-client-id"}], "requests": 1, "per": "1h", "burst": 5}}
    running, client = start(stage, backends, route={"rate_limit": limit})
    for name in ["anna", "ben"]:
        ended = [client.begin(metadata=[("x-client-id", name)]) for _ in range(20)]
        assert codes(ended) == {"OK": 5, "RESOURCE_EXHAUSTED": 15}
        refused = next(call for call in ended if call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED)
        trailers = dict(refused.trailing_metadata())
        assert refused.details() == "rate limited"
        # One an hour.
        assert 3_500_000 <= int(trailers["grpc-retry-pushback-ms"]) <= 7_200_000, trailers
        assert b"RATE_LIMITED" in trailers["grpc-status-details-bin"]
    assert running.metrics().sum("evenkeel_limited_calls_total", limit="client_rate") == 30
    assert running.metrics().sum("evenkeel_rate_limited_calls_total", route="0", limit="client_rate") == 30


@test
def calls_above_the_adaptive_limit_wait_and_are_all_answered(stage):
    backends = calls.start_backends(stage, 1)
    adaptive = {"min_limit": 2, "max_limit": 2, "initial_limit": 2, "min_rtt": "1s"}
    running, client = start(stage, backends, cluster={"adaptive_concurrency": adaptive})
    held = [client.begin({"hold": "x"}) for _ in range(10)]
    eventually(lambda: running.clusters()["default"]["pending"] == 8, "eight wait")
    assert running.metrics().sum("evenkeel_cluster_pending_calls", cluster="default") == 8
    assert in_flight(running) == 2
    backends[0].release("x")

    def all_are_answered():
        backends[0].release("x")
        return all(call.done() for call in held)

    eventually(all_are_answered, "they are served one after the other")
    assert codes(held) == {"OK": 10}
    assert running.metrics().sum("evenkeel_cluster_pending_calls", cluster="default") == 0


@test
def calls_to_a_cluster_that_nobody_serves_fail_or_wait_as_it_says(stage):
    backend = calls.start_backends(stage, 1)[0]
    backend.kill()
    for waits, expected in [(False, grpc.StatusCode.UNAVAILABLE), (True, grpc.StatusCode.DEADLINE_EXCEEDED)]:
        settings = {"target": calls.target([backend]), "wait_for_ready": waits}
        running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}))
        client = calls.connect(stage, running.address)
        assert client.begin(seconds=1).code() == expected
