"""What answers say that the proxy itself gives: to people, and to programs."""

import grpc
import h2.settings
from harness import calls, details, proxy, wire
from harness.poll import eventually
from harness.suite import test


def refused(call):
    """The details of a failed call, which must agree with its status; and its pushback."""
    code, text = calls.failure(call)
    number, message, reason, domain, metadata = details.of(call)
    assert (number, message) == (code.value[0], text), (number, message, code, text)
    assert domain == "evenkeel", domain
    pushback = [int(value) for name, value in call.trailing_metadata() if name == "grpc-retry-pushback-ms"]
    return code.name, reason, metadata, pushback


@test
def an_answer_of_the_proxy_says_why_for_programs(stage):
    with wire.RawServer() as server:
        nowhere = f"ipv4:{server.address}"
    routes = [
        {"match": {"service_prefix": "evenkeel.lost"}, "cluster": "down"},
        {"match": {"service_prefix": "evenkeel."}, "cluster": "up", "timeout": "100ms"},
    ]
    # It takes calls and answers none.
    silent = stage.enter(wire.RawServer())
    clusters = {"down": nowhere, "up": f"ipv4:{silent.address}"}
    running, _ = proxy.start_with_file(stage, proxy.config(clusters, routes=routes))
    stage.enter(silent.accept())
    running.wait_until_ready(1, "up")
    client = calls.connect(stage, running.address)
    unreachable = {"flag": "UF", "cluster": "down", "attempts": "0"}
    expected = ("UNAVAILABLE", "UPSTREAM_CONNECT_FAILURE", unreachable, [])
    assert refused(client.begin(service="/evenkeel.lost.Found/")) == expected
    late = {"flag": "UT", "cluster": "up", "attempts": "1"}
    expected = ("DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT", late, [])
    assert refused(client.begin()) == expected
    unrouted = {"flag": "NR", "attempts": "0"}
    assert refused(client.begin(service="/x.y/")) == ("UNIMPLEMENTED", "NO_ROUTE", unrouted, [])


@test
def trailers_behind_messages_say_why_too(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = calls.connect(stage, running.address)
    answers = client.channel.unary_stream(calls.SERVICE + "Download")(b"{}", timeout=calls.CALL_SECONDS)
    number, _ = backend.expect_request()
    backend.http2.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
    backend.http2.send_data(number, wire.message(b"one"))
    backend.flush()
    assert next(answers) == b"one"
    backend.http2.reset_stream(number)
    backend.flush()
    try:
        next(answers)
        raise AssertionError("the stream goes on")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    number, message, reason, _, metadata = details.of(answers)
    assert (number, message, reason) == (14, answers.details(), "UPSTREAM_RESET"), (number, message, reason)
    assert metadata == {"flag": "UR", "cluster": "default", "attempts": "1"}, metadata


@test
def a_call_too_many_is_told_when_to_come_back(stage):
    server = stage.enter(wire.RawServer())
    cluster = {"target": f"ipv4:{server.address}", "max_pending": 1, "max_connections_per_endpoint": 1}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": cluster}))
    backend = stage.enter(server.accept({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1}))
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    held = [client.begin()]
    backend.expect_request()
    held.append(client.begin())
    eventually(lambda: running.clusters()["default"]["pending"] == 1, "a call waits")
    pushbacks = set()
    for _ in range(10):
        code, reason, metadata, (pushback,) = refused(client.begin())
        assert (code, reason) == ("UNAVAILABLE", "UPSTREAM_OVERFLOW"), (code, reason)
        assert metadata == {"flag": "UO", "cluster": "default", "attempts": "0"}, metadata
        assert 500 <= pushback <= 1500, pushback
        pushbacks.add(pushback)
    assert len(pushbacks) > 1, "all come back at once"
    assert not any(call.done() for call in held)
