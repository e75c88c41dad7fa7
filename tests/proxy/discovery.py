"""Targets: names, files, sockets; endpoints that come and go while the proxy runs."""

import json
import os
import tempfile
import time

import grpc
import shared
from harness import calls, proxy
from harness.dns import NameServer
from harness.poll import eventually
from harness.suite import test

ROUNDS = 5


class EndpointFile:
    """The list of a `file:` target, replaced as a whole."""

    def __init__(self, stage, text):
        self.path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "endpoints.yaml")
        self.write(text)

    def write(self, text):
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(self.path + ".new", self.path)


def listed(*backends):
    return "".join(f"- {backend.address}\n" for backend in backends)


@test
def a_name_that_does_not_resolve_lets_the_proxy_start_and_names_itself_in_the_answer(stage):
    server = stage.enter(NameServer())
    running = proxy.start(stage, f"dns://{server.address}/orders.test:1")
    client = calls.connect(stage, running.address)
    code, details = client.fails(seconds=10)
    assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
    assert "orders.test" in details and "NXDOMAIN" in details, details
    running.wait_for_line("WARN.*not resolved; it has no endpoints.*orders.test")
    assert running.get("/ready")[0] == 200


@test
def the_systems_resolver_gets_the_same_answer_across(stage):
    running = proxy.start(stage, "dns:///does-not-exist.invalid:1")
    code, details = calls.connect(stage, running.address).fails(seconds=20)
    assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
    assert "does-not-exist.invalid" in details, details


@test
def a_name_that_resolves_later_takes_calls_within_a_refresh(stage):
    backend = shared.one(stage)
    host, port = backend.address.rsplit(":", 1)
    server = stage.enter(NameServer())
    dns = {"target": f"dns://{server.address}/orders.test:{port}", "dns": {"max_refresh": "1s"}}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": dns}))
    client = calls.connect(stage, running.address)
    assert client.fails()[0] == grpc.StatusCode.UNAVAILABLE
    server.records["orders.test"] = [host]
    eventually(lambda: client.begin().code() == grpc.StatusCode.OK, "a call succeeds")


@test
def new_addresses_of_a_name_take_calls_and_removed_ones_none(stage):
    first = stage.add_program(calls.Backend("first", "127.0.0.2:0"))
    port = first.address.rsplit(":", 1)[1]
    second = stage.add_program(calls.Backend("second", f"127.0.0.3:{port}"))
    server = stage.enter(NameServer({"orders.test": ["127.0.0.2"]}))
    dns = {
        "target": f"dns://{server.address}/orders.test:{port}",
        "policy": "round_robin",
        "dns": {"max_refresh": "1s"},
    }
    running, _ = proxy.start_with_file(stage, proxy.config({"default": dns}))
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    assert calls.shares(client, ROUNDS) == {"first": ROUNDS}
    assert second.address
    server.records["orders.test"] = ["127.0.0.2", "127.0.0.3"]
    running.wait_until_ready(2)
    assert calls.shares(client, 2 * ROUNDS) == {"first": ROUNDS, "second": ROUNDS}
    server.records["orders.test"] = ["127.0.0.3"]
    eventually(lambda: len(running.endpoints()) == 1, "one endpoint is left")
    assert calls.shares(client, ROUNDS) == {"second": ROUNDS}


@test
def a_name_that_stops_resolving_keeps_its_last_addresses(stage):
    backend = shared.one(stage)
    host, port = backend.address.rsplit(":", 1)
    server = stage.enter(NameServer({"orders.test": [host]}))
    dns = {"target": f"dns://{server.address}/orders.test:{port}", "dns": {"max_refresh": "1s"}}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": dns}))
    running.wait_until_ready(1)
    del server.records["orders.test"]

    def failing():
        return running.clusters()["default"]["resolver"]["error"]

    assert "orders.test" in eventually(failing, "the failure is visible")
    assert running.metrics().sum("evenkeel_resolver_failures_total", cluster="default") >= 1
    assert calls.shares(calls.connect(stage, running.address), ROUNDS) == {backend.name: ROUNDS}


@test
def endpoints_added_to_a_file_take_calls_and_removed_ones_finish_theirs(stage):
    backends = shared.three.get(stage)[:2]
    file = EndpointFile(stage, listed(backends[0]))
    running = proxy.start(stage, f"file:{file.path}", policy="round_robin")
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    held = client.begin({"hold": "removed"})
    eventually(lambda: running.endpoints()[backends[0].address]["in_flight"] == 1, "a call is in flight")
    file.write(listed(*backends))
    running.wait_until_ready(2)
    assert calls.shares(client, 2 * ROUNDS) == {"b1": ROUNDS, "b2": ROUNDS}
    file.write(listed(backends[1]))
    eventually(lambda: list(running.endpoints()) == [backends[1].address], "one endpoint is left")
    assert calls.shares(client, ROUNDS) == {"b2": ROUNDS}
    assert not held.done()
    (removed,) = running.clusters()["default"]["removed"]
    assert removed == {"address": backends[0].address, "state": "REMOVED", "connections": 1, "in_flight": 1}, removed
    backends[0].release("removed")
    assert b'"b1"' in held.result()
    eventually(lambda: running.clusters()["default"]["removed"] == [], "nothing is left of it")


@test
def a_file_that_becomes_invalid_leaves_the_last_good_list_in_force(stage):
    backend = shared.one(stage)
    file = EndpointFile(stage, listed(backend))
    running = proxy.start(stage, f"file:{file.path}")
    running.wait_until_ready(1)
    file.write("- not an address\n")
    error = eventually(lambda: running.clusters()["default"]["resolver"]["error"], "the failure is visible")
    assert "not an address" in error, error
    assert calls.connect(stage, running.address).call()["backend"] == backend.name
    file.write(listed(backend))
    eventually(lambda: running.clusters()["default"]["resolver"]["error"] is None, "the failure is over")


@test
def an_empty_list_is_answered_with_unavailable(stage):
    backend = shared.one(stage)
    file = EndpointFile(stage, "[]\n")
    running = proxy.start(stage, f"file:{file.path}")
    client = calls.connect(stage, running.address)
    code, details = client.fails()
    assert code == grpc.StatusCode.UNAVAILABLE, code
    assert "cluster default has no endpoints" in details, details
    file.write(listed(backend))
    running.wait_until_ready(1)
    assert client.call()["backend"] == backend.name


@test
def the_weights_of_a_file_decide_the_shares(stage):
    backends = shared.three.get(stage)
    weights = [1, 2, 3]
    lines = [f"- {{ address: {backend.address}, weight: {weight} }}\n" for backend, weight in zip(backends, weights)]
    file = EndpointFile(stage, "".join(lines))
    running = proxy.start(stage, f"file:{file.path}", policy="weighted_round_robin")
    running.wait_until_ready(3)
    found = calls.shares(calls.connect(stage, running.address), 60)
    assert found == {"b1": 10, "b2": 20, "b3": 30}, found


@test
def a_list_that_changes_all_the_time_has_one_log_line_a_second_of_each_kind(stage):
    """Four endpoints in a table of three entries: each list leaves one without a key."""
    backends = shared.three.get(stage)
    lists = [listed(*backends) + f"- 127.0.0.1:{port}\n" for port in (1, 2)]
    file = EndpointFile(stage, lists[0])
    policy = {"maglev": {"table_size": 3}}
    cluster = {"target": f"file:{file.path}", "policy": policy, "hash_by": [{"metadata": "x-key"}]}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": cluster}))
    running.wait_for_line("no key leads to some endpoints")
    began = time.monotonic()
    for number in range(1, 16):
        file.write(lists[number % 2])
        port = 1 + number % 2
        eventually(lambda: f"127.0.0.1:{port}" in running.endpoints(), "the list is taken over")
    seconds = time.monotonic() - began
    for words in ("no key leads to some endpoints", "resolved uri="):
        lines = [line for line in running.output() if words in line]
        # One more for the start.
        assert 1 <= len(lines) <= seconds + 2, (words, len(lines), seconds, lines)


@test
def a_unix_socket_is_reached(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "orders.sock")
    backend = stage.add_program(calls.Backend("local", f"unix:{path}"))
    assert backend.address == f"unix:{path}"
    running = proxy.start(stage, backend.address)
    assert calls.connect(stage, running.address).call()["backend"] == "local"


@test
def the_proxy_can_listen_on_a_unix_socket(stage):
    backend = shared.one(stage)
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "evenkeel.sock")
    config = proxy.config({"default": f"ipv4:{backend.address}"}, listener={"address": f"unix:{path}"})
    running, _ = proxy.start_with_file(stage, config)
    assert running.address == f"unix:{path}"
    assert calls.connect(stage, running.address).call()["backend"] == backend.name


@test
def an_endpoint_that_its_list_says_drains_gets_no_new_calls_and_keeps_those_it_has(stage):
    backends = shared.three.get(stage)
    going, others = backends[0], {backend.name for backend in backends[1:]}
    file = EndpointFile(stage, listed(*backends))
    cluster = {"target": f"file:{file.path}", "policy": "round_robin"}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": cluster}))
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    held = [client.begin({"hold": "until it has drained"}) for _ in range(3)]
    going.wait_for_line("^began until it has drained$")
    file.write(f"- {{ address: '{going.address}', draining: true }}\n" + listed(*backends[1:]))
    eventually(lambda: running.endpoints()[going.address]["withheld"] == ["draining"], "it drains")
    assert set(calls.shares(client, 30)) == others
    assert not any(call.done() for call in held)
    file.write(listed(*backends))
    eventually(lambda: not running.endpoints()[going.address]["withheld"], "it is back")
    assert set(calls.shares(client, 30)) == others | {going.name}
    for backend in backends:
        backend.release("until it has drained")
    assert {json.loads(call.result())["backend"] for call in held} == others | {going.name}
