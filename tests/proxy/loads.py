"""Weights by the load that real grpcio backends report: on streams apart from calls, and by metrics of their own."""

import grpc
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import test

CALLS = 900

# By the weights 1 to 4 to 4 of 900 calls the busy one gets 100. One endpoint of the rotation is looked at a time, and a weight is
# rounded to a multiple of 1/6553 of the mean: over whole rounds a share is exact to a call for each endpoint, and the
# rounds that begin and end within the count cost one more.
TOLERANCE = 4


def start(stage, backends, *, workers=1, **load_reports):
    """A proxy whose weights follow from what these backends report."""
    load_reports = {"blackout_period": "0s", "weight_update_period": "100ms", **load_reports}
    settings = {
        "target": calls.target(backends),
        "policy": {"weighted_round_robin": {"load_reports": load_reports}},
        "backoff": {"base_interval": "100ms", "max_interval": "1s"},
    }
    running, file = proxy.start_with_file(stage, proxy.config({"default": settings}, workers=workers))
    running.wait_until_ready(len(backends))
    return running, calls.connect(stage, running.address), file


def loads(running, backends):
    """What /clusters shows of each backend's load."""
    endpoints = running.endpoints()
    return [endpoints[backend.address]["load"] for backend in backends]


def until_weighed(running, client, backends, expected):
    """Makes calls, which is when weights are looked at, until these weights are in use."""

    def are_used():
        for _ in range(len(backends)):
            client.call()
        found = [load.get("weight") for load in loads(running, backends)]
        assert found == expected, found
        return True

    eventually(are_used, f"the weights are {expected}")
    # Each endpoint's place follows when its turn to be looked at comes, within two update periods.
    settled = running.metrics().sum("grpc_server_handled_total") + 60
    eventually(
        lambda: client.call() and running.metrics().sum("grpc_server_handled_total") >= settled,
        "all were looked at again",
    )


@test
def a_backend_that_reports_a_high_load_apart_from_calls_gets_its_lesser_share(stage):
    backends = calls.start_backends(stage, 3)
    for backend, utilization in zip(backends, (0.8, 0.2, 0.2)):
        backend.load(application_utilization=utilization, rps_fractional=100.0)
    running, client, _ = start(stage, backends, enable_oob_load_report=True, oob_reporting_period="200ms")
    until_weighed(running, client, backends, [125.0, 500.0, 500.0])
    for backend in backends:
        backend.wait_for_line("reports every 0.2")
    shares = calls.shares(client, CALLS)
    print(f"weights 125, 500, 500: {shares} of {CALLS} calls, 100, 400 and 400 expected")
    for name, expected in (("b1", 100), ("b2", 400), ("b3", 400)):
        assert abs(shares[name] - expected) <= TOLERANCE, shares
    [busy, *_] = loads(running, backends)
    assert (busy["source"], busy["weighing_workers"], busy["stream"]["state"]) == ("out_of_band", 1, "open"), busy
    last = busy["stream"]["last"]
    assert (last["utilization"], last["requests_per_second"], last["weight"]) == (0.8, 100.0, 125.0), last
    # The newest report counts, also while there are no calls.
    backends[0].load(application_utilization=0.2, rps_fractional=100.0)
    until_weighed(running, client, backends, [500.0] * 3)
    shares = calls.shares(client, CALLS)
    assert all(abs(shares[backend.name] - 300) <= TOLERANCE for backend in backends), shares
    metrics = running.metrics()
    assert metrics.sum("evenkeel_out_of_band_load_reports_total", outcome="taken") >= 4
    assert metrics.sum("evenkeel_load_reports_total") == 0, "reports with calls are not looked at"


@test
def what_calls_report_does_not_count_beside_reports_apart_from_calls(stage):
    backends = calls.start_backends(stage, 2)
    for backend in backends:
        backend.load(calls=True, application_utilization=0.5, rps_fractional=100.0)
    running, client, _ = start(stage, backends, enable_oob_load_report=True)
    until_weighed(running, client, backends, [200.0, 200.0])
    assert calls.shares(client, 100) == {"b1": 50, "b2": 50}
    assert running.metrics().sum("evenkeel_load_reports_total") == 0


@test
def a_metric_of_the_backends_own_stands_for_utilization(stage):
    backends = calls.start_backends(stage, 3)
    for backend, queue in zip(backends, (0.8, 0.2, 0.2)):
        # All have the same processor load, and one a long queue.
        backend.load(calls=True, cpu_utilization=0.1, rps_fractional=100.0, named_metrics={"queue": queue})
    running, client, _ = start(stage, backends, metric_names_for_computing_utilization=["named_metrics.queue"])
    until_weighed(running, client, backends, [125.0, 500.0, 500.0])
    shares = calls.shares(client, CALLS)
    print(f"named_metrics.queue of 0.8, 0.2, 0.2: {shares} of {CALLS} calls, 100, 400 and 400 expected")
    for name, expected in (("b1", 100), ("b2", 400), ("b3", 400)):
        assert abs(shares[name] - expected) <= TOLERANCE, shares
    assert loads(running, backends)[0]["source"] == "calls"


@test
def absurd_reports_apart_from_calls_are_counted_and_starve_nobody(stage):
    backends = calls.start_backends(stage, 3)
    absurd = {"application_utilization": float("inf"), "rps_fractional": 1e308}
    for backend, load in zip(backends, (absurd, {}, {"application_utilization": 0.5, "rps_fractional": -1.0})):
        backend.load(**load)
    running, client, _ = start(stage, backends, enable_oob_load_report=True, oob_reporting_period="100ms")
    eventually(
        lambda: running.metrics().sum("evenkeel_out_of_band_load_reports_total", outcome="ignored") >= 3,
        "all of them were counted",
    )
    assert calls.shares(client, 90) == {backend.name: 30 for backend in backends}
    # Boasting brings ten times the mean of the others, and no more.
    for backend in backends:
        backend.load(application_utilization=0.5, rps_fractional=100.0)
    until_weighed(running, client, backends, [200.0] * 3)
    backends[0].load(application_utilization=1e-300, rps_fractional=1e300)
    until_weighed(running, client, backends, [1e9, 200.0, 200.0])
    shares = calls.shares(client, CALLS)
    print(f"one boasts: {shares} of {CALLS} calls, 750, 75 and 75 expected")
    for name, expected in (("b1", 750), ("b2", 75), ("b3", 75)):
        assert abs(shares[name] - expected) <= 2 * TOLERANCE, shares


@test
def backends_without_the_service_share_evenly_and_are_told_once(stage):
    backends = calls.start_backends(stage, 2)
    running, client, _ = start(stage, backends, enable_oob_load_report=True, oob_reporting_period="100ms")
    eventually(
        lambda: [load["stream"]["state"] for load in loads(running, backends)] == ["unimplemented"] * 2,
        "both said that they have no such service",
    )
    assert calls.shares(client, 20) == {"b1": 10, "b2": 10}
    running.wait_for_line("endpoint reports no load apart from calls: it has no OpenRcaService")
    # A successor on the same address is another process, which may have it.
    backends[0].kill()
    load = {"application_utilization": 0.5, "rps_fractional": 100.0}
    stage.add_program(calls.Backend("b1", backends[0].address, load=load))
    eventually(lambda: loads(running, backends)[0]["stream"]["state"] == "open", "the successor reports")
    assert running.metrics().sum("evenkeel_load_streams_ended_total", reason="unimplemented") == 2
    assert len([line for line in running.output() if "it has no OpenRcaService" in line]) <= 2


@test
def a_killed_backend_is_asked_again_when_it_is_back(stage):
    backends = calls.start_backends(stage, 2)
    for backend in backends:
        backend.load(application_utilization=0.5, rps_fractional=100.0)
    running, client, _ = start(stage, backends, enable_oob_load_report=True, oob_reporting_period="100ms")
    until_weighed(running, client, backends, [200.0, 200.0])
    backends[0].kill()
    eventually(lambda: loads(running, backends)[0]["stream"]["state"] == "failed", "the stream ended")
    assert client.call()["backend"] == "b2"
    code = client.begin().code()
    assert code == grpc.StatusCode.OK, code
    running.wait_for_line("stream of load reports ended")


@test
def reports_apart_from_calls_can_be_turned_on_and_off_by_a_reload(stage):
    backends = calls.start_backends(stage, 2)
    for backend, utilization in zip(backends, (0.25, 0.5)):
        backend.load(application_utilization=utilization, rps_fractional=100.0)
    running, client, file = start(stage, backends)
    assert loads(running, backends) == [{"source": "calls", "weighing_workers": 0}] * 2
    configuration = running.configuration()["config"]
    policy = configuration["clusters"][0]["policy"]["weighted_round_robin"]["load_reports"]
    policy["enable_oob_load_report"] = True
    file.write(configuration)
    running.reload()
    until_weighed(running, client, backends, [400.0, 200.0])
    policy["enable_oob_load_report"] = False
    file.write(configuration)
    running.reload()
    eventually(lambda: "stream" not in loads(running, backends)[0], "the streams ended")
    eventually(lambda: calls.shares(client, 20) == {"b1": 10, "b2": 10}, "the shares are even")


@test
def prequal_knows_what_a_backend_reports_apart_from_calls_before_any_call(stage):
    names = {"b1": 60, "b2": 2, "b3": 1}
    load = lambda number: {"named_metrics": {"requests_in_flight": number, "latency_ms": number}}  # noqa: E731
    backends = [stage.add_program(calls.Backend(name, load=load(number))) for name, number in names.items()]
    policy = {"prequal": {"oob_reporting_period": "100ms"}}
    settings = {"target": calls.target(backends), "policy": policy}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}))
    running.wait_until_ready(3)

    def reported():
        return [shown["stream"]["last"]["requests_in_flight"] for shown in loads(running, backends)]

    eventually(lambda: all("last" in shown["stream"] for shown in loads(running, backends)), "each has reported")
    assert reported() == [60, 2, 1], reported()
    client = calls.connect(stage, running.address)
    shares = calls.shares(client, 300)
    print(f"300 calls to three that report {names} in flight: {shares}")
    # The very first calls find fewer than two answers, and go by what the proxy knows itself.
    assert shares.get("b1", 0) <= 3, shares
    assert running.metrics().sum("evenkeel_probes_total", outcome="unanswered") == 0
    assert running.metrics().sum("evenkeel_out_of_band_load_reports_total", outcome="taken") >= 3
