"""What routes do to their calls besides choosing a cluster, and listeners to old connections."""

import json
import signal
import time

import grpc
import shared
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import figure, test

# How much longer than it must something may take on a busy machine.
LATE_SECONDS = 3


def start(stage, *, listener=None, backends=None, **route):
    """A proxy whose only route does this; it goes to the first of these backends, and the others are clusters too."""
    backends = backends or shared.three.get(stage)[:2]
    clusters = {backend.name: f"ipv4:{backend.address}" for backend in backends}
    configuration = proxy.config(clusters, routes=[{"cluster": backends[0].name, **route}], listener=listener)
    running, _ = proxy.start_with_file(stage, configuration)
    for name in clusters:
        running.wait_until_ready(1, name)
    return running


@test
def metadata_is_changed_both_ways(stage):
    running = start(
        stage,
        request_metadata={
            "set": {"x-user": "ours"},
            "add": {"x-tag": "blue", "x-token-bin": "AQID"},
            "remove": ["x-debug"],
        },
        response_metadata={"set": {"x-version": "v2"}},
        response_trailers={"add": {"x-cost": "7"}},
    )
    with calls.Client(running.address) as client:
        # Twice: the second time the fields are in the peers' tables.
        for _ in range(2):
            sent = (("x-user", "theirs"), ("x-debug", "1"), ("x-other", "2"))
            call = client.begin(metadata=sent)
            seen = json.loads(call.result())["metadata"]
            assert seen["x-user"] == "ours" and seen["x-tag"] == "blue" and seen["x-other"] == "2", seen
            assert seen["x-token-bin"] == "010203" and "x-debug" not in seen, seen
            begun, ended = dict(call.initial_metadata()), dict(call.trailing_metadata())
            assert begun.get("x-version") == "v2" and "x-cost" not in begun, begun
            assert ended.get("x-cost") == "7" and "x-version" not in ended, ended


@test
def an_injected_error_never_reaches_the_backend(stage):
    running = start(stage, fault={"abort": {"code": "ABORTED", "percent": 50}})
    with calls.Client(running.address) as client:
        begun = [client.begin() for _ in range(400)]
        codes = [grpc.StatusCode.OK if call.exception() is None else call.code() for call in begun]
    errors = codes.count(grpc.StatusCode.ABORTED)
    assert 140 <= errors <= 260 and errors + codes.count(grpc.StatusCode.OK) == 400, codes
    measured = running.metrics()
    assert measured.sum("evenkeel_faults_injected_total", route="0", fault="abort") == errors
    assert measured.sum("evenkeel_local_replies_total", response_flag="FI") == errors


@test
def a_call_asks_for_a_delay_and_an_error_where_it_may(stage):
    running = start(stage, fault={"by_header": True})
    with calls.Client(running.address) as client:
        client.call()
        began = time.monotonic()
        asked = (("x-evenkeel-fault-delay-ms", "400"), ("x-evenkeel-fault-abort", "9"))
        code, details = client.fails(metadata=asked)
        took = time.monotonic() - began
        assert (code, details) == (grpc.StatusCode.FAILED_PRECONDITION, "fault filter abort"), (code, details)
        assert 0.4 <= took < 0.4 + LATE_SECONDS, took
        # A deadline that comes first ends the call as it always does.
        code, _ = client.fails(metadata=(("x-evenkeel-fault-delay-ms", "60000"),), seconds=0.3)
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code


@test
def streams_end_when_they_are_idle_or_too_long(stage):
    for settings, words in (
        ({"stream_idle_timeout": "1s"}, "stream idle timeout"),
        ({"max_stream_duration": "1s"}, "max_stream_duration"),
    ):
        running = start(stage, **settings)
        with calls.Client(running.address) as client:
            began = time.monotonic()
            code, details = client.fails({"hold": f"for ever: {words}"})
            took = time.monotonic() - began
        assert code == grpc.StatusCode.UNAVAILABLE and words in details, (code, details)
        assert 0.9 <= took < 1 + LATE_SECONDS, took


@test
def old_connections_are_replaced_without_losing_a_call(stage):
    running = start(stage, listener={"limits": {"max_connection_age": "1s", "max_connection_age_grace": "10s"}})
    ends = time.monotonic() + 4
    count = 0
    with calls.Client(running.address) as client:
        while time.monotonic() < ends:
            begun = [client.begin() for _ in range(10)]
            count += len([call.result() for call in begun])
    opened = running.metrics().sum("evenkeel_downstream_connections_opened_total")
    # One second and a tenth more at most for each.
    assert opened >= 3, opened
    assert running.metrics().sum("grpc_server_handled_total", grpc_code="OK") == count


@test
def a_mirror_gets_copies_and_its_death_costs_no_call(stage):
    own = shared.three.get(stage)[0]
    mirror = calls.start_backends(stage, 1, prefix="mirror")[0]
    running = start(stage, backends=[own, mirror], mirror={"cluster": mirror.name})
    count = 200
    with calls.Client(running.address) as client:
        for _ in range(count):
            assert client.call({"x": "y" * 1000})["backend"] == own.name
        copied = running.metrics().sum("evenkeel_mirrored_calls_total", outcome="sent")
        figure("copies that a mirror gets", count, f"{copied:.0f} of {count} calls")
        assert copied == count, copied
        clusters = running.clusters()
        assert clusters[mirror.name]["mirrors"]["sent"] == count, clusters[mirror.name]
        assert "mirrors" not in clusters[own.name], "its calls are copied, it gets no copies"
        assert running.metrics().sum("evenkeel_mirrored_calls_total", cluster=own.name) == 0
        answered = {"cluster": mirror.name, "grpc_code": "OK"}
        eventually(
            lambda: running.metrics().sum("grpc_client_handled_total", **answered) == count, "copies are answered"
        )
        begun = []
        for number in range(count):
            if number == count // 2:
                mirror.kill()
            begun.append(client.begin({"x": "y" * 1000}))
        failed = sum(call.exception() is not None for call in begun)
        figure("calls that fail when their mirror is killed among them", 0, f"{failed} of {count}")
        assert [json.loads(call.result())["backend"] for call in begun] == [own.name] * count


@test
def a_mirror_that_does_not_answer_delays_nothing(stage):
    own = shared.three.get(stage)[0]
    mirror = calls.start_backends(stage, 1, prefix="stopped")[0]
    running = start(stage, backends=[own, mirror], mirror={"cluster": mirror.name})
    mirror.signal(signal.SIGSTOP)
    with calls.Client(running.address) as client:
        began = time.monotonic()
        for _ in range(50):
            assert client.call({"x": "y" * 20_000})["backend"] == own.name
        took = time.monotonic() - began
    figure("time of 50 calls whose mirror is frozen", f"below {LATE_SECONDS} s", f"{took:.2f} s")
    assert took < LATE_SECONDS, took
