"""The example of docs/examples about active checks: each kind finds what it looks for, and nothing else."""

import signal

import examples
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

SERVICE = "ecommerce.orders.OrderService"

ORDERS, PAYMENTS, LEGACY = f"/{SERVICE}/", "/ecommerce.payments.PaymentService/", "/ecommerce.legacy.Legacy/"

CLUSTERS = ("orders", "payments", "legacy")


def start(stage, changes=None):
    """The example before two backends, both of which every cluster finds healthy, and a client."""
    backends = calls.start_backends(stage, 2, health=True)
    for backend in backends:
        backend.report("SERVING", SERVICE)
    running = examples.run(stage, "health", dict.fromkeys(CLUSTERS, calls.target(backends)), changes)
    eventually(lambda: all(healths(running, name) == ["healthy"] * 2 for name in CLUSTERS), "all are healthy")
    return running, calls.connect(stage, running.address), backends


def healths(running, cluster):
    """What the checks of a cluster say of its endpoints, in the order of its target."""
    return [one["health"]["status"] for one in running.endpoints(cluster).values()]


def counted(running, cluster, result):
    return running.metrics().sum("evenkeel_health_checks_total", cluster=cluster, result=result)


@examples.example("health")
def a_backend_that_says_not_serving_of_the_service_leaves_until_it_says_otherwise_twice(stage):
    running, client, backends = start(stage)
    backends[0].report("NOT_SERVING", SERVICE)
    eventually(lambda: "unhealthy" in healths(running, "orders"), "the next check hears it")
    assert examples.met(client, 20, service=ORDERS) == {backends[1].name: 20}
    assert healths(running, "payments") == healths(running, "legacy") == ["healthy"] * 2
    assert running.metrics().sum("evenkeel_endpoints_withheld", cluster="orders", reason="unhealthy") == 1
    backends[0].report("SERVING", SERVICE)
    seen = []

    def is_back():
        health = running.endpoints("orders")[backends[0].address]["health"]
        look = (health["status"], health["last"]["result"])
        if look not in seen:
            seen.append(look)
        return look == ("healthy", "serving")

    eventually(is_back, "two checks hear it")
    assert ("unhealthy", "serving") in seen, seen
    assert set(examples.met(client, 20, service=ORDERS)) == examples.names(backends)


@test
def a_watched_backend_leaves_and_comes_back_as_it_says_and_slowly(stage):
    running, client, backends = start(stage)
    assert (counted(running, "payments", "serving"), counted(running, "payments", "not_serving")) == (2, 0)
    backends[0].report("NOT_SERVING")
    eventually(lambda: healths(running, "payments") == ["unhealthy", "healthy"], "the stream says so")
    assert examples.met(client, 20, service=PAYMENTS) == {backends[1].name: 20}
    assert healths(running, "orders") == healths(running, "legacy") == ["healthy"] * 2
    backends[0].report("SERVING")
    eventually(lambda: healths(running, "payments") == ["healthy"] * 2, "and that it is over")
    # No sign of life but what has changed.
    told = (counted(running, "payments", "serving"), counted(running, "payments", "not_serving"))
    figure("messages of two watched backends of which one went and came back", "3 and 1", told)
    assert told == (3, 1), told
    back = lambda: running.endpoints("payments")[backends[0].address]["slow_start"]  # noqa: E731
    other = running.endpoints("payments")[backends[1].address]["slow_start"]["remaining_seconds"]
    eventually(lambda: back()["remaining_seconds"] > other, "its slow start begins anew")
    eventually(lambda: backends[0].name in examples.met(client, 20, service=PAYMENTS), "it gets calls")


@test
def whether_somebody_listens_is_all_that_a_tcp_check_looks_at(stage):
    quick = {"kind: tcp, unhealthy_threshold: 3": "kind: tcp, unhealthy_threshold: 3, interval: 500ms"}
    running, client, backends = start(stage, quick)
    backends[0].report("NOT_SERVING")
    backends[0].report("NOT_SERVING", SERVICE)
    backends[0].signal(signal.SIGSTOP)
    eventually(lambda: healths(running, "orders")[0] == healths(running, "payments")[0] == "unhealthy", "it wants no calls")
    before = counted(running, "legacy", "serving")
    # Of each two.
    eventually(lambda: counted(running, "legacy", "serving") >= before + 5, "its port takes connections all the same")
    assert healths(running, "legacy") == ["healthy"] * 2 and counted(running, "legacy", "failed") == 0
    backends[0].kill()
    eventually(lambda: healths(running, "legacy") == ["unhealthy", "healthy"], "nobody listens")
    failed = counted(running, "legacy", "failed")
    figure("checks that fail until an endpoint is unhealthy, with a threshold of 3", "3", f"{failed:.0f}")
    # One more may have failed before this looked.
    assert 3 <= failed <= 4, failed
    assert examples.met(client, 20, service=LEGACY) == {backends[1].name: 20}
