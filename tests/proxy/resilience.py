"""Backends that fail, freeze and die under load, and calls that are tried again."""

import signal

import grpc
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import figure, test

CALLS = 300


def start(stage, backends, *, cluster=None, **again):
    """A proxy in front of these backends, whose only route retries or hedges so."""
    settings = {"target": calls.target(backends), "policy": "round_robin", **(cluster or {})}
    routes = [{"cluster": "default", **again}]
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, routes=routes))
    running.wait_until_ready(len(backends))
    return running, calls.connect(stage, running.address)


def codes(client, count):
    """How many of so many calls ended with each status."""
    counts = {}
    for call in [client.begin() for _ in range(count)]:
        name = call.code().name
        counts[name] = counts.get(name, 0) + 1
    return counts


def withheld(running):
    return {address: endpoint["withheld"] for address, endpoint in running.endpoints().items() if endpoint["withheld"]}


@test
def a_backend_that_fails_every_call_costs_no_call_and_is_ejected(stage):
    backends = calls.start_backends(stage, 3)
    budget = {"min_concurrency": 1000}
    cluster = {"outlier_detection": {}, "retry_budget": budget}
    running, client = start(stage, backends, retry={"max_attempts": 3, "retry_on": ["unavailable"]}, cluster=cluster)
    backends[0].become("UNAVAILABLE")
    ended = codes(client, CALLS)
    figure("calls that fail while one of three fails each, with retries", 0, f"{CALLS - ended.get('OK', 0)} of {CALLS}")
    assert ended == {"OK": CALLS}
    eventually(lambda: withheld(running) == {backends[0].address: ["ejected"]}, "it is ejected")
    running.wait_for_line("endpoint ejected")
    endpoint = running.endpoints()[backends[0].address]
    assert endpoint["outlier"]["state"] == "ejected", endpoint
    assert endpoint["outlier"]["reason"] == "consecutive_failures", endpoint
    before = endpoint["outcomes"]["Unavailable"]
    assert codes(client, CALLS) == {"OK": CALLS}
    after = running.endpoints()[backends[0].address]["outcomes"]["Unavailable"]
    metrics = running.metrics()
    retries = metrics.sum("evenkeel_retries_total", reason="status")
    figure("retries for the tries that it failed", "one each", f"{retries:.0f} for {before}")
    figure("calls that meet it once it is ejected", 0, f"{after - before} of {CALLS}")
    assert after == before, f"{after - before} calls met it while it was ejected"
    assert metrics.sum("evenkeel_outlier_ejections_total") == 1
    assert retries == before


@test
def a_backend_that_only_the_cap_of_ejections_keeps_in_rotation_shows(stage):
    backends = calls.start_backends(stage, 4)
    running, client = start(stage, backends, cluster={"outlier_detection": {}})
    assert running.clusters()["default"]["outlier_detection"] == {"out": 0, "allowed": 1, "held_back": 0}
    assert running.metrics().sum("evenkeel_ejections_held_back_total", cluster="default") == 0
    failing = {backend.address for backend in backends[:2]}
    for backend in backends[:2]:
        backend.become("UNAVAILABLE")
    codes(client, CALLS)
    running.wait_for_line("endpoint not ejected: max_ejection_percent of the endpoints are out")

    def is_held_back():
        codes(client, 20)
        states = {one: shown["outlier"]["state"] for one, shown in running.endpoints().items() if "outlier" in shown}
        return set(states) == failing and sorted(states.values()) == ["ejected", "held_back"]

    eventually(is_held_back, "one of the two that fail is ejected, and the other held back")
    shown = running.clusters()["default"]["outlier_detection"]
    assert (shown["out"], shown["allowed"]) == (1, 1) and shown["held_back"] >= 1, shown
    assert running.metrics().sum("evenkeel_ejections_held_back_total", cluster="default") >= shown["held_back"]
    assert running.metrics().sum("evenkeel_outlier_ejections_total") == 1


@test
def an_ejected_backend_that_works_again_takes_its_share_again(stage):
    backends = calls.start_backends(stage, 3)
    cluster = {"outlier_detection": {"base_ejection_time": "1s"}, "retry_budget": {"min_concurrency": 1000}}
    running, client = start(stage, backends, retry={"retry_on": ["unavailable"]}, cluster=cluster)
    backends[0].become("UNAVAILABLE")
    codes(client, CALLS)
    eventually(lambda: withheld(running), "it is ejected")
    backends[0].become()

    def is_back():
        assert client.call()
        return not withheld(running)

    eventually(is_back, "calls that tried it have succeeded")
    assert calls.shares(client, 30) == {backend.name: 10 for backend in backends}


@test
def a_frozen_backend_costs_no_idempotent_call(stage):
    backends = calls.start_backends(stage, 3)
    # Longer than a busy machine lets a live backend stand still.
    retry = {"max_attempts": 3, "retry_on": ["deadline_exceeded"], "per_try_timeout": "1s"}
    cluster = {"outlier_detection": {}, "retry_budget": {"min_concurrency": 1000}}
    running, client = start(stage, backends, idempotent=True, retry=retry, cluster=cluster)
    backends[0].process.send_signal(signal.SIGSTOP)
    try:
        assert codes(client, CALLS) == {"OK": CALLS}
        eventually(lambda: withheld(running) == {backends[0].address: ["ejected"]}, "it is ejected")
    finally:
        backends[0].process.send_signal(signal.SIGCONT)


@test
def a_frozen_backend_costs_a_hedged_call_nothing_but_the_delay(stage):
    backends = calls.start_backends(stage, 3)
    hedge = {"max_attempts": 3, "delay": "50ms"}
    cluster = {"retry_budget": {"min_concurrency": 1000}}
    running, client = start(stage, backends, idempotent=True, hedge=hedge, cluster=cluster)
    assert codes(client, CALLS) == {"OK": CALLS}
    before = sum(running.endpoints()[backends[0].address]["outcomes"].values())
    backends[0].process.send_signal(signal.SIGSTOP)
    try:
        ended = codes(client, CALLS)
        figure("calls that fail with one of three frozen, hedged", 0, f"{CALLS - ended.get('OK', 0)} of {CALLS}")
        assert ended == {"OK": CALLS}
        hedges = {name: running.metrics().sum("evenkeel_hedges_total", outcome=name) for name in ("sent", "won")}
        figure("hedges that won", f"at least {CALLS // 4}", f"{hedges['won']:.0f} of {hedges['sent']:.0f} sent")
        # Round robin asked the frozen one first for about a third of them, as hedges take turns too and pass the frozen one's over.
        assert hedges["won"] >= CALLS // 4 and hedges["sent"] >= hedges["won"], hedges
        eventually(lambda: sum(one["in_flight"] for one in running.endpoints().values()) == 0, "losers are cancelled")
        # Each call that asked it first was won by another; what a hedge asked it is among those that did not win.
        met = sum(running.endpoints()[backends[0].address]["outcomes"].values()) - before
        assert met - (hedges["sent"] - hedges["won"]) <= hedges["won"], f"{met} attempts met it, {hedges}"
        shown = running.clusters()["default"]["hedges"]
        assert {name: shown[name] for name in hedges} == hedges, shown
    finally:
        backends[0].process.send_signal(signal.SIGCONT)


@test
def a_killed_backend_costs_no_call_that_may_be_repeated(stage):
    backends = calls.start_backends(stage, 3)
    retry = {"max_attempts": 3, "retry_on": ["unavailable"]}
    running, client = start(stage, backends, retry=retry, cluster={"retry_budget": {"min_concurrency": 1000}})
    held = [client.begin({"hold": "killed"}) for _ in range(30)]
    eventually(lambda: sum(one["in_flight"] for one in running.endpoints().values()) == 30, "all are in flight")
    backends[0].kill()
    running.wait_until_ready(2)
    for backend in backends[1:]:
        backend.release("killed")
    assert [call.code() for call in held] == [grpc.StatusCode.OK] * 30


@test
def the_budget_bounds_retries_when_everything_fails(stage):
    backends = calls.start_backends(stage, 3)
    running, client = start(stage, backends, retry={"max_attempts": 5, "retry_on": ["unavailable"]})
    for backend in backends:
        backend.become("UNAVAILABLE")
    assert codes(client, CALLS) == {"UNAVAILABLE": CALLS}
    attempts = sum(one["outcomes"]["Unavailable"] for one in running.endpoints().values())
    figure("tries where all three fail each call", f"at most {CALLS * 1.2 + 3:.0f}", f"{attempts} for {CALLS} calls")
    assert CALLS < attempts <= CALLS * 1.2 + 3, f"{attempts} attempts for {CALLS} calls"
    denied = running.metrics().sum("evenkeel_retries_denied_total", cluster="default", reason="over_budget")
    assert denied > 0
    retries = running.clusters()["default"]["retries"]
    assert retries["retried"] == attempts - CALLS, retries
    assert retries["denied"]["over_budget"] == denied == retries["budget"]["refused"], retries
    assert retries["budget"]["under_way"] == {"calls": 0, "used": 0, "max": 3}, retries
    assert "throttle" not in retries and "hedges" not in running.clusters()["default"], retries
