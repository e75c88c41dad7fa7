"""One of three backends is killed, frozen or slow while clients call without a pause."""

import functools
import signal

from harness import calls, proxy
from harness.load import Load
from harness.poll import eventually
from harness.suite import figure, test

# Clients, each with one call under way at a time: so many calls can be at a backend when something happens to it.
CLIENTS = 8

# Calls before something happens, and after it.
BEFORE, AFTER = 300, 900

# What a backend waits before it answers, so that there are always calls at it; and what the slow one does.
QUICK_MS, SLOW_MS = 10, 100

FAIR = 1 / 3


def start(stage, policy, *, cluster=None, **route):
    """Three backends, a proxy in front of them, and clients that call without a pause once they are entered."""
    backends = calls.start_backends(stage, 3)
    for backend in backends:
        backend.become(delay_ms=QUICK_MS)
    settings = {"target": calls.target(backends), "policy": policy, **(cluster or {})}
    routes = [{"cluster": "default", **route}]
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, routes=routes))
    running.wait_until_ready(3)
    return backends, running, Load([calls.connect(stage, running.address) for _ in range(CLIENTS)])


def more(load, count, what):
    """Waits until so many more calls are answered; gives back how many each backend answered of them."""
    before = load.counts()
    eventually(lambda: load.total() >= sum(before.values()) + count, what, 20)
    return {name: answered - before.get(name, 0) for name, answered in load.counts().items()}


def is_withheld(running, backend):
    return bool(running.endpoints()[backend.address]["withheld"])


@test
def kill_9_of_one_of_three_under_load_costs_what_it_has_and_nothing_later(stage):
    backends, running, load = start(stage, "round_robin")
    with load:
        more(load, BEFORE, "calls are answered")
        backends[0].kill()
        running.wait_until_ready(2)
        more(load, BEFORE, "clients have gone on")
        lost = len(load.failed)
        shares = more(load, AFTER, "the others answer")
        later = len(load.failed) - lost
        again = stage.add_program(calls.Backend("b1", backends[0].address))
        assert again.address
        running.wait_until_ready(3)
        back = more(load, AFTER, "all three answer")
    figure(f"calls that fail at kill -9 of one of three, {CLIENTS} under way", f"at most {CLIENTS}", lost)
    figure("calls that fail after it", 0, f"{later} of {sum(shares.values())}")
    figure(
        "calls of the killed one once it is back, round_robin",
        f"a third, give or take {CLIENTS}",
        f"{back['b1']} of {sum(back.values())}",
    )
    assert lost <= CLIENTS and later == 0, load.failed
    assert len(load.failed) == lost, load.failed
    assert abs(back["b1"] - sum(back.values()) / 3) <= CLIENTS, back


@test
def kill_9_of_one_of_three_under_load_costs_no_call_that_may_be_repeated(stage):
    backends, running, load = start(
        stage,
        "round_robin",
        cluster={"retry_budget": {"min_concurrency": CLIENTS}},
        retry={"retry_on": ["unavailable"]},
    )
    with load:
        more(load, BEFORE, "calls are answered")
        backends[0].kill()
        shares = more(load, AFTER, "the others answer")
    total, retries = load.total() + len(load.failed), running.metrics().sum("evenkeel_retries_total")
    figure("calls that fail at kill -9 of one of three, with retries", 0, f"{len(load.failed)} of {total}")
    figure("their retries", f"at most {CLIENTS}, the calls under way", f"{retries:.0f}")
    assert not load.failed and retries <= CLIENTS, (load.failed, retries)
    assert shares["b1"] <= CLIENTS, shares


@test
def sigstop_of_one_of_three_under_load_costs_no_call_that_may_be_repeated(stage):
    backends, running, load = start(
        stage,
        "round_robin",
        cluster={"outlier_detection": {}, "retry_budget": {"min_concurrency": CLIENTS}},
        idempotent=True,
        retry={"retry_on": ["deadline_exceeded"], "per_try_timeout": "1s"},
    )
    with load:
        more(load, BEFORE, "calls are answered")
        backends[0].signal(signal.SIGSTOP)
        stage.at_end(backends[0].signal, signal.SIGCONT)
        eventually(lambda: is_withheld(running, backends[0]), "it is ejected")
        shares = more(load, AFTER, "the others answer")
    total, tries = load.total() + len(load.failed), running.metrics().sum("evenkeel_retries_total")
    # Five failures in a row eject it, and all but the last client may have another call there by then.
    most = 5 + CLIENTS - 1
    figure("calls that fail at SIGSTOP of one of three, with retries", 0, f"{len(load.failed)} of {total}")
    figure("tries that met the frozen one, which is ejected", f"5 to {most}", f"{tries:.0f}")
    figure("calls that it answers from then on", 0, f"{shares['b1']} of {sum(shares.values())}")
    assert not load.failed and 5 <= tries <= most, (load.failed, tries)
    assert shares["b1"] == 0, shares


def one_is_slow(stage, policy, bound):
    """One of three becomes slow under load; its share must then be between these bounds."""
    backends, _, load = start(stage, policy)
    least, most = bound
    with load:
        # It has its share before; among equals prequal takes the quickest, which need not be even.
        even = more(load, BEFORE, "calls are answered")
        backends[0].become(delay_ms=SLOW_MS)
        # What it answers quickly was on its way.
        more(load, BEFORE, "it is known to be slow")
        shares = more(load, AFTER, "there are enough to see shares")
    total = sum(shares.values())
    share = shares["b1"] / total
    figure(
        f"calls of one of three that answers after {SLOW_MS} ms, not {QUICK_MS}, {policy}",
        f"{least * 100:.1f} to {most * 100:.1f} %" if least else f"at most {most * 100:.1f} %",
        f"{shares['b1']} of {total}, {share * 100:.1f} %",
    )
    assert not load.failed, load.failed
    assert least <= share <= most, shares
    assert even["b1"] > BEFORE / 15, even


# A third is fair. Round robin, for contrast, gives just that. Who goes by calls in flight gives less, and who goes by
# latency must give less than a fifth of it to a server ten times slower.
SLOW = {
    "round_robin": (FAIR - CLIENTS / AFTER, FAIR + CLIENTS / AFTER),
    "least_request": (0, FAIR / 2),
    "peak_ewma": (0, FAIR / 5),
    "prequal": (0, FAIR / 5),
}

for _policy, _bound in SLOW.items():
    test(functools.partial(one_is_slow, policy=_policy, bound=_bound), name=f"{_policy} and the slow one of three under load")
