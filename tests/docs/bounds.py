"""The example of docs/examples about limits: what each of them lets through, and what it says to the rest."""

import collections

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

ORDERS, REPORTS, WATCHES = "/ecommerce.orders.OrderService/", "/ecommerce.reports.ReportService/", "/shop.Watches/"

CLUSTERS = ("orders", "reports", "watches")


def start(stage, backend, changes=None):
    """The example, each of whose clusters has this backend alone, and a client."""
    running = examples.run(stage, "limits", dict.fromkeys(CLUSTERS, f"ipv4:{backend.address}"), changes)
    examples.everywhere(running, CLUSTERS, 1)
    return running, calls.connect(stage, running.address)


def in_flight(running, cluster):
    return sum(one["in_flight"] for one in running.endpoints(cluster).values())


def codes(ended):
    return dict(collections.Counter(call.code().name for call in ended))


def hold(client, count, service, key="x"):
    """Begins so many calls, each as another client of the rate limit."""
    return [client.begin({"hold": key}, service=service, metadata=[("x-client-id", f"c{number}")]) for number in range(count)]


def done(begun):
    return [call for call in begun if call.done()]


@examples.example("limits")
def a_client_gets_its_burst_and_then_its_rate(stage):
    backend = examples.three.get(stage)[0]
    running, client = start(stage, backend)
    asked = [client.begin(service=ORDERS, metadata=[("x-client-id", "anna")]) for _ in range(100)]
    passed = sum(call.code() == grpc.StatusCode.OK for call in asked)
    # Twenty come in each second that the calls take.
    assert 50 <= passed < 90, passed
    assert client.begin(service=ORDERS, metadata=[("x-client-id", "ben")]).code() == grpc.StatusCode.OK
    gauges = running.metrics()
    assert gauges.sum("evenkeel_cluster_limit_max", cluster="orders", limit="max_pending") == 500
    assert gauges.sum("evenkeel_cluster_limit_max", cluster="orders", limit="concurrency") > 0
    assert running.endpoints("watches")[backend.address]["circuit_breakers"][0]["max"] == 5000


@test
def reports_get_their_rate_and_as_many_at_once_as_it_says(stage):
    [backend] = calls.start_backends(stage, 1)
    running, client = start(stage, backend)
    shown = running.clusters()["reports"]["adaptive_concurrency"]
    assert (shown["limit"], shown["in_flight"]) == (2, 0), shown
    held = hold(client, 6, REPORTS)
    eventually(lambda: len(done(held)) == 4, "two are under way")
    assert in_flight(running, "reports") == 2
    # All are of the rate limit's first burst but the sixth, and of those two have a place.
    details = collections.Counter(call.details() for call in done(held))
    assert details["rate limited"] == 1 and sum(text.startswith("reached concurrency limit") for text in details.elements()) == 3
    assert codes(done(held)) == {"RESOURCE_EXHAUSTED": 4}
    [late] = [call for call in done(held) if call.details() == "rate limited"]
    pushback = int(dict(late.trailing_metadata())["grpc-retry-pushback-ms"])
    figure("milliseconds after which a thirtieth of a minute's calls may come again", "1000 to 4000", pushback)
    assert 1000 <= pushback <= 4000, pushback
    metrics = running.metrics()
    assert metrics.sum("evenkeel_rate_limited_calls_total", route="1", limit="route_rate") == 1
    assert metrics.sum("evenkeel_limited_calls_total", cluster="reports", limit="concurrency") == 3
    backend.release("x")
    eventually(lambda: len(done(held)) == 6, "both are answered")
    assert codes(held) == {"OK": 2, "RESOURCE_EXHAUSTED": 4}


@test
def the_latency_without_a_queue_is_that_of_as_many_calls_as_it_says(stage):
    [backend] = calls.start_backends(stage, 1)
    running, client = start(stage, backend, {"requests: 30, per: 1m, burst: 5": "requests: 10000"})
    adaptive = lambda: running.clusters()["reports"]["adaptive_concurrency"]  # noqa: E731
    backend.become(delay_ms=20)
    measured = 0
    while "min_rtt_ms" not in adaptive():
        client.call(service=REPORTS)
        measured += 1
    figure("calls that measure the latency without a queue, with measure_requests 10", 10, measured)
    assert measured == 10 and adaptive()["limit"] == 2, (measured, adaptive())
    limits = []

    def has_grown():
        # A limit of which less than half is used does not grow.
        for call in [client.begin(service=REPORTS) for _ in range(10)]:
            call.exception()
        limits.append(adaptive()["limit"])
        return limits[-1] == 8

    eventually(has_grown, "as latency stays what it is, the limit grows up to its bound", 20)
    grown = list(dict.fromkeys(limits))
    figure("limits from window to window, of which the first is 2 and the bound 8", "2 to 8", grown)
    assert grown[0] == 2 and max(grown) == 8, grown


@test
def what_is_above_a_bound_of_calls_under_way_or_waiting_is_refused(stage):
    [backend] = calls.start_backends(stage, 1)
    two = "adaptive_concurrency: { min_limit: 2, max_limit: 2, initial_limit: 2, min_rtt: 1s }"
    changes = {"max_pending: 500": "max_pending: 3", "max_requests: 5000": "max_requests: 5", "adaptive_concurrency: {}": two}
    running, client = start(stage, backend, changes)
    cases = (
        (WATCHES, "watches", "max_requests", {"in_flight": 5, "waiting": 0}),
        (ORDERS, "orders", "max_pending", {"in_flight": 2, "waiting": 3}),
    )
    for service, cluster, limit, expected in cases:
        held = hold(client, 10, service, key=cluster)
        eventually(lambda: len(done(held)) == 5, f"{limit} refuses five")  # noqa: B023
        assert codes(done(held)) == {"UNAVAILABLE": 5}, (limit, codes(done(held)))
        assert all(call.details().startswith(f"upstream overflow: {limit}") for call in done(held)), done(held)[0].details()
        shown = running.clusters()[cluster]
        assert {"in_flight": in_flight(running, cluster), "waiting": shown["pending"]} == expected, shown
        [breaker] = [
            one for one in (*shown["circuit_breakers"], *shown["endpoints"][0]["circuit_breakers"]) if one["limit"] == limit
        ]
        assert breaker["open"] and breaker["used"] == breaker["max"], breaker
        figure(f"calls of ten that {limit} refuses", 5, breaker["overflows"])
        assert breaker["overflows"] == 5, breaker
        for call in held:
            call.cancel()
        eventually(lambda: in_flight(running, cluster) == 0, "the places are free again")  # noqa: B023


@test
def a_retry_without_a_place_is_not_made(stage):
    [backend] = calls.start_backends(stage, 1)
    backend.become("UNAVAILABLE")
    for most, made, denied in (("20", 2, {"attempts_used": 1}), ("0", 1, {"breaker_open": 1})):
        running, client = start(stage, backend, {"max_retries: 20": f"max_retries: {most}"})
        assert client.fails(service=ORDERS) == (grpc.StatusCode.UNAVAILABLE, f"{backend.name} fails")
        assert running.endpoints("orders")[backend.address]["outcomes"] == {"Unavailable": made}
        assert running.clusters()["orders"]["retries"]["denied"] == denied, most


@test
def a_cluster_has_no_more_connections_than_its_bound(stage):
    backend = stage.add_program(calls.Backend("b1", streams=2))
    running, client = start(stage, backend, {"max_connections: 20": "max_connections: 2"})
    held = hold(client, 10, WATCHES)
    waiting = lambda: running.clusters()["watches"]["pending"]  # noqa: E731
    overflows = lambda: running.metrics().sum("evenkeel_upstream_connections_overflow_total", cluster="watches")  # noqa: E731
    eventually(lambda: waiting() == 6 and overflows() > 0, "two connections are full, and there is no third")
    [endpoint] = running.endpoints("watches").values()
    figure("connections of two calls each, with max_connections 2", 2, endpoint["connections"])
    assert (endpoint["connections"], endpoint["in_flight"]) == (2, 4), endpoint
    assert not done(held)
    for call in held:
        call.cancel()
    eventually(lambda: waiting() == 0, "nobody waits any more")


@test
def calls_wait_for_an_endpoint_only_where_the_cluster_says_so(stage):
    [backend] = calls.start_backends(stage, 1)
    running, client = start(stage, backend)
    backend.kill()
    gone = lambda cluster: all(one["state"] != "READY" for one in running.endpoints(cluster).values())  # noqa: E731
    eventually(lambda: all(gone(cluster) for cluster in CLUSTERS), "it is gone")
    eventually(lambda: client.begin(service=WATCHES).code() == grpc.StatusCode.UNAVAILABLE, "watches fail at once")
    assert client.begin(service=ORDERS, seconds=1).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    waits = client.begin(service=ORDERS, seconds=25)
    eventually(lambda: running.clusters()["orders"]["pending"] == 1, "it waits")
    stage.add_program(calls.Backend(backend.name, backend.address))
    assert calls.Client.read(waits)["backend"] == backend.name
