"""Active health checks of real grpcio backends: those that say so, hang or die leave rotation, and come back."""

import signal
import time

from harness import calls, proxy
from harness.load import Load
from harness.poll import eventually
from harness.suite import test

# Short, so that the tests are quick; a check that was late by the machine's load must not fail.
INTERVAL, TIMEOUT, THRESHOLD, JITTER = 0.4, 0.4, 2, 0.2

CHECKS = {"interval": "400ms", "timeout": "400ms", "unhealthy_threshold": THRESHOLD, "jitter": JITTER}

# Within these times an endpoint that dies or hangs is noticed: see docs/health.md. A loaded machine gets the same again.
NOTICED_SECONDS = {
    "grpc": THRESHOLD * INTERVAL * (1 + JITTER) + TIMEOUT,
    "grpc_watch": THRESHOLD * (INTERVAL * (1 + JITTER) + TIMEOUT),
}


def cluster(backends, **health_check):
    return {"target": calls.target(backends), "policy": "round_robin", "health_check": {**CHECKS, **health_check}}


def start(stage, backends, **health_check):
    """A proxy that checks these backends, and finds all of them healthy."""
    configuration = proxy.config({"default": cluster(backends, **health_check)})
    running, file = proxy.start_with_file(stage, configuration)
    running.wait_until_ready(len(backends))
    eventually(lambda: healths(running, backends) == ["healthy"] * len(backends), "all are healthy")
    return running, calls.connect(stage, running.address), file


def healths(running, backends):
    """What the checks say of each; nothing before they have begun."""
    endpoints = running.endpoints()
    return [endpoints[backend.address].get("health", {}).get("status") for backend in backends]


def becomes(running, backend, status, seconds):
    """Waits until the checks say this of a backend, and returns how long that was."""
    began = time.monotonic()
    eventually(lambda: healths(running, [backend]) == [status], f"{backend.name} is {status}", seconds)
    return time.monotonic() - began


def goes_and_comes_back_without_a_lost_call(stage, kind):
    backends = calls.start_backends(stage, 3, health=True)
    # What a watch pushes needs no interval; with a short one, a sign of life that is late would begin another stream.
    patient = {"interval": "5s", "timeout": "5s"} if kind == "grpc_watch" else {}
    running, client, _ = start(stage, backends, kind=kind, **patient)
    with Load([client]) as load:
        backends[0].report("NOT_SERVING")
        out = becomes(running, backends[0], "unhealthy", 10)
        endpoint = running.endpoints()[backends[0].address]
        assert endpoint["withheld"] == ["unhealthy"], endpoint
        assert endpoint["health"]["last"]["result"] == "not_serving", endpoint
        shares = calls.shares(client, 30)
        assert backends[0].name not in shares, shares
        backends[0].report("SERVING")
        back = becomes(running, backends[0], "healthy", 10)
        assert set(calls.shares(client, 30)) == {backend.name for backend in backends}
    assert not load.failed, load.failed
    print(f"{kind}: out after {out * 1000:.0f} ms, back after {back * 1000:.0f} ms, {load.total()} calls, none failed")
    running.wait_for_line("endpoint unhealthy.*not_serving")
    return running


@test
def a_backend_that_says_not_serving_leaves_and_comes_back_without_a_lost_call(stage):
    running = goes_and_comes_back_without_a_lost_call(stage, "grpc")
    metrics = running.metrics()
    assert metrics.sum("evenkeel_health_checks_total", result="not_serving") > 0
    assert metrics.sum("evenkeel_health_checks_total", result="serving") > 3
    assert metrics.sum("evenkeel_endpoints_by_health", health="healthy") == 3


@test
def a_watched_backend_that_says_not_serving_leaves_and_comes_back_without_a_lost_call(stage):
    running = goes_and_comes_back_without_a_lost_call(stage, "grpc_watch")
    # One message of each at the start, and one for each change.
    assert running.metrics().sum("evenkeel_health_checks_total", result="serving") == 4
    assert running.metrics().sum("evenkeel_health_checks_total", result="not_serving") == 1


def is_noticed_and_back(stage, kind, stop, resume):
    """Stops one of three backends while no call is under way, and lets it go on when the checks have noticed."""
    backends = calls.start_backends(stage, 3, health=True)
    running, client, _ = start(stage, backends, kind=kind)
    stop(backends[0])
    bound = NOTICED_SECONDS[kind]
    noticed = becomes(running, backends[0], "unhealthy", 2 * bound + 5)
    shares = calls.shares(client, 300)
    assert sum(shares.values()) == 300 and backends[0].name not in shares, shares
    endpoint = running.endpoints()[backends[0].address]
    resumed = resume(backends[0]) or backends[0]
    back = becomes(running, resumed, "healthy", 10)
    eventually(lambda: resumed.name in calls.shares(client, 9), f"{resumed.name} takes calls again")
    last = endpoint["health"]["last"]
    print(
        f"{kind}: noticed after {noticed:.2f} s (bound {bound:.2f} s) as {last['result']}: {last.get('detail')};"
        f" 300 of 300 calls answered by the other two; back after {back:.2f} s"
    )
    return last["result"]


def freeze(backend):
    backend.signal(signal.SIGSTOP)


def thaw(backend):
    backend.signal(signal.SIGCONT)


@test
def a_frozen_backend_is_noticed_by_checks(stage):
    assert is_noticed_and_back(stage, "grpc", freeze, thaw) == "timed_out"


@test
def a_frozen_backend_is_noticed_although_it_is_only_watched(stage):
    assert is_noticed_and_back(stage, "grpc_watch", freeze, thaw) in ("failed", "timed_out")


@test
def a_killed_backend_is_noticed_by_checks_and_its_successor_is_too(stage):
    def succeed(backend):
        successor = stage.add_program(calls.Backend(backend.name, backend.address, health=True))
        assert successor.address == backend.address
        return successor

    assert is_noticed_and_back(stage, "grpc", lambda backend: backend.kill(), succeed) == "failed"


@test
def a_backend_without_a_health_service_is_healthy(stage):
    backends = calls.start_backends(stage, 2)
    for kind in ("grpc", "grpc_watch"):
        running, client, _ = start(stage, backends, kind=kind)

        def are_told(running=running):
            checks = [one["health"]["last"] for one in running.endpoints().values()]
            return all(checks) and {check["result"] for check in checks} == {"unimplemented"}

        eventually(are_told, "both have been asked, and said that there is no such service")
        # A pick notices that one came into service.
        eventually(lambda client=client: calls.shares(client, 10) == {"b1": 5, "b2": 5}, "both take calls")


@test
def the_service_that_is_asked_about_counts_and_no_other(stage):
    backends = calls.start_backends(stage, 2, health=True)
    for backend in backends:
        backend.report("SERVING", "orders.Orders")
    running, client, _ = start(stage, backends, service="orders.Orders")
    backends[0].report("NOT_SERVING")
    backends[1].report("NOT_SERVING", "orders.Orders")
    becomes(running, backends[1], "unhealthy", 10)
    assert calls.shares(client, 10) == {"b1": 10}
    assert healths(running, backends) == ["healthy", "unhealthy"]


@test
def turning_checks_off_puts_all_endpoints_back(stage):
    backends = calls.start_backends(stage, 2, health=True)
    running, client, file = start(stage, backends)
    backends[0].report("NOT_SERVING")
    becomes(running, backends[0], "unhealthy", 10)
    without = {"target": calls.target(backends), "policy": "round_robin"}
    file.write(proxy.config({"default": without}))
    running.reload()
    eventually(lambda: not any(one["withheld"] for one in running.endpoints().values()), "none is withheld")
    assert "health" not in running.endpoints()[backends[0].address]
    # A pick notices that it is back.
    eventually(lambda: "b1" in calls.shares(client, 2), "b1 takes calls")
    assert calls.shares(client, 10) == {"b1": 5, "b2": 5}
    # And on again: what is in service stays until a result says otherwise.
    file.write(proxy.config({"default": cluster(backends)}))
    running.reload()
    becomes(running, backends[0], "unhealthy", 10)
    assert calls.shares(client, 10) == {"b2": 10}
