"""The example of docs/examples about outlier detection: for how long an endpoint is out, what counts, and how it comes back."""

import time

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

SEARCH, REVIEWS = "/ecommerce.search.Search/", "/ecommerce.reviews.Reviews/"

# Endpoints of a cluster whose rules eject one in ten.
MANY = 20


def start(stage, changes=None):
    """The example, its backends, of which tests fail the first, and a client."""
    backends = calls.start_backends(stage, 3)
    running = examples.run(stage, "outliers", dict.fromkeys(examples.OUTLIERS, calls.target(backends)), changes)
    examples.everywhere(running, examples.OUTLIERS, 3)
    return running, calls.connect(stage, running.address), backends


def outlier(running, backend):
    return running.endpoints("search")[backend.address].get("outlier", {})


def failed(running, backend):
    return running.endpoints("search")[backend.address]["outcomes"].get("Unavailable", 0)


def eject(running, client, backend):
    """Makes calls until this backend, which fails all, is out; gives back its state."""
    backend.become("UNAVAILABLE")

    def is_out():
        client.begin(service=SEARCH).exception()
        return outlier(running, backend)

    state = eventually(is_out, "it is ejected")
    assert (state["state"], state["reason"], failed(running, backend)) == ("ejected", "consecutive_failures", 3), state
    return state


@test
def an_endpoint_that_keeps_failing_is_out_for_longer_each_time_up_to_a_bound(stage):
    running, client, backends = start(stage)
    state = eject(running, client, backends[0])
    longest = {}

    def has_been_out_four_times():
        # One trial after each ejection, and it fails.
        client.begin(service=SEARCH).exception()
        state = outlier(running, backends[0])
        if state.get("state") == "ejected":
            times = state["times_ejected"]
            longest[times] = max(longest.get(times, 0), state["remaining_seconds"])
        return longest.get(4)

    assert state["times_ejected"] == 1 and state["remaining_seconds"] <= 1, state
    eventually(has_been_out_four_times, "three trials have failed", 20)
    figure("seconds of the second, third and fourth ejection in a row", "2, 3 and 3", [round(longest[n], 1) for n in (2, 3, 4)])
    for times, seconds in ((2, 2), (3, 3), (4, 3)):
        assert seconds - 1 < longest[times] <= seconds, longest
    # Three calls ejected it, and each time it was out one told that it still fails.
    assert failed(running, backends[0]) == 3 + 3
    assert running.metrics().sum("evenkeel_outlier_ejections_total", cluster="search", reason="trial_failed") == 3


@test
def two_calls_that_succeed_bring_an_endpoint_back_and_one_without_an_end_is_not_waited_for(stage):
    running, client, backends = start(stage)
    eject(running, client, backends[0])
    backends[0].become()
    for backend in backends[1:]:
        backend.release("trial")
    begun, in_flight = [], lambda: running.endpoints("search")[backends[0].address]["in_flight"]

    def is_tried(times):
        call = client.begin({"hold": "trial"}, service=SEARCH)
        begun.append(call)
        # The others answer at once.
        return eventually(lambda: call.done() or in_flight() == times, "it is answered, or held") and in_flight() == times

    eventually(lambda: is_tried(1), "its time is up, and a call tries it")
    first = time.monotonic()
    eventually(lambda: is_tried(2), "the next call tries it")
    waited = time.monotonic() - first
    figure("seconds between a trial without an end and the next", "0.5, not 10", f"{waited:.2f}")
    # From when it was sent, a moment before it was seen.
    assert 0.3 <= waited < 9, waited
    returned = lambda: running.metrics().sum("evenkeel_outlier_returns_total", cluster="search")  # noqa: E731
    assert returned() == 0
    backends[0].release("trial")
    eventually(lambda: returned() == 1, "two have succeeded")
    assert {call.code() for call in begun} == {grpc.StatusCode.OK}
    assert examples.met(client, 30, service=SEARCH) == dict.fromkeys(examples.names(backends), 10)
    assert not outlier(running, backends[0])


@test
def a_deadline_that_passes_is_a_failure_where_the_cluster_counts_it(stage):
    for counts in (False, True):
        running, client, backends = start(stage, {"count_deadline_exceeded: false": f"count_deadline_exceeded: {str(counts).lower()}"})
        # Each under its own key, as one that is cancelled lets the others of its key go.
        held = [client.begin({"hold": f"search {number}"}, service=SEARCH, seconds=0.3) for number in range(30)]
        assert {call.code() for call in held} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        shown = lambda: running.endpoints("search").values()  # noqa: B023, E731
        ended = lambda: sum(one["outcomes"].get("DeadlineExceeded", 0) for one in shown())  # noqa: B023, E731
        eventually(lambda: ended() == 30, "each has failed ten calls")  # noqa: B023
        out = sum(bool(one["withheld"]) for one in shown())
        figure(f"endpoints out after ten deadlines of each, with count_deadline_exceeded {counts}", int(counts), out)
        # One of three at most is out at a time.
        assert out == int(counts), out


@test
def a_rule_that_is_tried_first_ejects_one_in_ten_of_those_that_it_finds(stage):
    hosts = [f"127.0.6.{number}" for number in range(1, MANY + 1)]
    backend = stage.add_program(calls.Backend("all", f"{hosts[0]}:0", hosts=hosts[1:]))
    port = backend.address.rpartition(":")[2]
    target = "ipv4:" + ",".join(f"{host}:{port}" for host in hosts)
    running = examples.run(stage, "outliers", dict.fromkeys(examples.OUTLIERS, target))
    running.wait_until_ready(MANY, "reviews")
    client = calls.connect(stage, running.address)
    backend.become("UNAVAILABLE")

    def ejected_after_a_row_of_each():
        for _ in range(5 * MANY):
            client.begin(service=REVIEWS).exception()
        return running.clusters()["reviews"]["outlier_detection"]["out"]

    once = ejected_after_a_row_of_each()
    figure(f"endpoints of {MANY} out after a row of five failures of each, of which one in ten ejects", "below 10", once)
    # Were each ejected, ten would be, the most that may be out; by chance so many are in one of 140,000 runs.
    assert once < 10, once
    eventually(ejected_after_a_row_of_each, "a row ejects one", 20)
    [settings] = [one for one in running.configuration()["config"]["clusters"] if one["name"] == "reviews"]
    success_rate = settings["outlier_detection"]["success_rate"]
    assert (success_rate["chance_exponent"], success_rate["enforcement_percent"]) == (12, 10), success_rate
    assert settings["outlier_detection"]["failure_percentage"]["enforcement_percent"] == 10, settings
