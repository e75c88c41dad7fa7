"""Which metadata of clients the backends get to see."""

import shared
from harness import calls, proxy, wire
from harness.process import run
from harness.suite import binary, test

# What proxies say, what has a `_`, and what is neither.
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "x-envoy-attempt-count", "x-evenkeel-x", "x_forwarded_for")
UNDERSCORE = ("user_id",)
PLAIN = ("x-forwarded", "user-id", "x-request-id", "token-bin")


def extra(names):
    return [(name, "QUJD") for name in names]


def seen(stage, listener, names=FORWARDED + UNDERSCORE + PLAIN):
    """Those of these names that a backend behind such a listener sees, and the call's answer."""
    server = stage.enter(wire.RawServer())
    config = proxy.config({"default": f"ipv4:{server.address}"}, listener=listener)
    running, _ = proxy.start_with_file(stage, config)
    backend = stage.enter(server.accept())
    running.wait_until_ready(1)
    with wire.RawClient(running.address) as client:
        # Twice: the second time the names are known.
        for _ in range(2):
            stream = client.request(wire.request_headers(extra=extra(names)))
            number, headers = backend.expect_request()
            backend.answer(number)
            assert client.status(stream)[1] == "0"
    return [name for name in names if name in headers]


@test
def what_only_proxies_may_say_is_left_out_at_the_edge(stage):
    assert seen(stage, {}) == [*UNDERSCORE, *PLAIN]


@test
def a_listener_behind_a_proxy_keeps_what_it_says(stage):
    everything = [*FORWARDED, *UNDERSCORE, *PLAIN]
    assert seen(stage, {"limits": "mesh"}) == everything
    assert seen(stage, {"metadata": {"forwarded": "keep"}}) == everything


@test
def names_with_underscores_can_be_dropped(stage):
    kept = seen(stage, {"metadata": {"forwarded": "keep", "names_with_underscore": "drop"}})
    assert kept == [*(name for name in FORWARDED if "_" not in name), *PLAIN]


@test
def names_with_underscores_can_be_refused(stage):
    target = f"ipv4:{shared.one(stage).address}"
    config = proxy.config({"default": target}, listener={"metadata": {"names_with_underscore": "reject"}})
    running, _ = proxy.start_with_file(stage, config)
    with wire.RawClient(running.address) as client:
        for _ in range(2):
            status, code, text = client.status(client.request(wire.request_headers(extra=extra(["user_id"]))))
            assert (status, code) == ("400", "13"), (status, code)
            assert "names_with_underscore" in text, text
        assert client.status(client.request(wire.request_headers(extra=extra(["user-id"]))))[1] == "0"


@test
def a_binary_value_that_is_no_base64_ends_its_call_only(stage):
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    with wire.RawClient(running.address) as client:
        for name in ("token-bin", "grpc-trace-bin", "grpc-tags-bin"):
            for value in ("!", "A", "QUJD,A", "QQ=", "Q=Q="):
                status, code, text = client.status(client.request(wire.request_headers(extra=[(name, value)])))
                assert (status, code) == ("400", "13"), (name, value, status, code, text)
                assert "base64" in text, text
            for value in ("", "QQ", "QQ==", "QUJD,QQ", "QUJD, QQ=="):
                stream = client.request(wire.request_headers(extra=[(name, value)]))
                number, headers = backend.expect_request()
                assert headers[name] == value, headers
                backend.answer(number)
                assert client.status(stream)[1] == "0", (name, value)
    metrics = running.metrics()
    assert metrics.sum("grpc_server_handled_total", grpc_code="Internal") == 15
    assert metrics.sum("grpc_client_started_total") == 15


@test
def binary_values_can_pass_unseen(stage):
    server = stage.enter(wire.RawServer())
    config = proxy.config({"default": f"ipv4:{server.address}"}, listener={"metadata": {"binary_values": "pass"}})
    running, _ = proxy.start_with_file(stage, config)
    backend = stage.enter(server.accept())
    with wire.RawClient(running.address) as client:
        stream = client.request(wire.request_headers(extra=[("token-bin", "!")]))
        number, headers = backend.expect_request()
        assert headers["token-bin"] == "!", headers
        backend.answer(number)
        assert client.status(stream)[1] == "0"


@test
def routes_see_what_is_kept_and_may_not_ask_for_what_is_left_out(stage):
    one, other = shared.three.get(stage)[:2]
    clusters = {"one": f"ipv4:{one.address}", "other": f"ipv4:{other.address}"}
    condition = {"metadata": [{"name": "x-forwarded-proto", "present": True}]}
    routes = [{"match": condition, "cluster": "other"}, {"cluster": "one"}]
    config = proxy.config(clusters, routes=routes, listener={"limits": "mesh"})
    running, file = proxy.start_with_file(stage, config)
    client = calls.connect(stage, running.address)
    assert client.call(metadata=[("x-forwarded-proto", "https")])["backend"] == other.name
    assert client.call()["backend"] == one.name
    file.write(proxy.config(clusters, routes=routes))
    errors = run([binary(), "check", file.path], seconds=10).stderr.decode()
    assert "`x-forwarded-proto` can be no condition: `metadata.forwarded: strip`" in errors, errors
