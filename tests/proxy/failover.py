"""Priorities before real grpcio backends: calls go to the second when the first is gone, and back when it is back."""

import os
import tempfile

from harness import calls, proxy
from harness.dns import NameServer
from harness.load import Load
from harness.poll import eventually
from harness.process import run
from harness.suite import binary, test

CALLS = 300

# Connections of the load, each with one call in flight.
CLIENTS = 4


def start(stage, groups, **settings):
    """A proxy before a list of endpoints: each of these groups of backends has the next priority."""
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "endpoints.yaml")
    with open(path, "w", encoding="ascii") as file:
        for priority, backends in enumerate(groups):
            for backend in backends:
                file.write(f'- {{ address: "{backend.address}", priority: {priority} }}\n')
    settings = {
        "target": f"file:{path}",
        "policy": "round_robin",
        "backoff": {"base_interval": "100ms", "max_interval": "500ms"},
        **settings,
    }
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}))
    running.wait_until_ready(sum(len(backends) for backends in groups))
    return running


def start_backends(stage):
    """Two of priority 0, called near1 and near2, and two of priority 1, called far1 and far2."""
    return calls.start_backends(stage, 2, "near"), calls.start_backends(stage, 2, "far")


def loads(running):
    """What each priority gets, in percent."""
    return {group["priority"]: group["load_percent"] for group in running.clusters()["default"]["groups"]}


@test
def all_of_priority_0_killed_under_load_costs_its_calls_in_flight_and_it_gets_all_again_when_it_is_back(stage):
    near, far = start_backends(stage)
    running = start(stage, (near, far))
    clients = [calls.connect(stage, running.address) for _ in range(CLIENTS)]
    with Load(clients) as load:
        eventually(lambda: load.total() > CALLS, "calls are answered")
        assert load.count("far1") + load.count("far2") == 0, load.answered
        for backend in near:
            backend.kill()
        met = load.total()
        eventually(lambda: load.total() > met + CALLS, "the others answer")
        eventually(lambda: loads(running) == {0: 0.0, 1: 100.0}, "priority 1 has all calls")
        out = load.count("near1") + load.count("near2")
        failed = len(load.failed)
        away = load.count("far1") + load.count("far2")
        eventually(lambda: load.count("far1") + load.count("far2") > away + CALLS, "the others answer all")
        assert load.count("near1") + load.count("near2") == out
        assert len(load.failed) == failed, load.failed[failed:]
        again = [stage.add_program(calls.Backend(one.name, one.address)) for one in near]
        eventually(lambda: loads(running) == {0: 100.0, 1: 0.0}, "priority 0 has all calls again")
        away = load.count("far1") + load.count("far2")
        back = load.count("near1") + load.count("near2")
        eventually(lambda: load.count("near1") + load.count("near2") > back + CALLS, "those that are back answer")
        # A call that was on its way when the share changed.
        assert load.count("far1") + load.count("far2") <= away + CLIENTS
    # Each kill may cut the calls in flight, and no more: a call that was not sent is tried elsewhere.
    assert len(load.failed) <= 2 * CLIENTS, load.failed
    assert all(line.startswith("UNAVAILABLE: ") for line in load.failed), load.failed
    print(f"{load.answered} answered, {len(load.failed)} failed, at most {2 * CLIENTS} were in flight at a kill")
    client = clients[0]
    assert calls.shares(client, CALLS) == {one.name: CALLS // 2 for one in again}


@test
def half_of_priority_0_keeps_seventy_percent_of_the_calls(stage):
    near, far = start_backends(stage)
    running = start(stage, (near, far))
    client = calls.connect(stage, running.address)
    assert calls.shares(client, CALLS) == {"near1": CALLS // 2, "near2": CALLS // 2}
    near[0].kill()
    # By the factor of 1.4: see the table in docs/localities.md.
    eventually(lambda: loads(running) == {0: 70.0, 1: 30.0}, "priority 1 has what priority 0 cannot bear")
    shares = calls.shares(client, CALLS)
    print(f"one of two available: {shares} of {CALLS} calls, 210, 45 and 45 expected")
    # The shares are walked through in steps that lie evenly: off by less than two calls in any row of calls.
    for name, expected in (("near2", 210), ("far1", 45), ("far2", 45)):
        assert abs(shares.get(name, 0) - expected) <= 2, shares
    assert sum(shares.values()) == CALLS


@test
def all_of_both_priorities_killed_fails_at_once_and_says_so(stage):
    near, far = start_backends(stage)
    running = start(stage, (near, far))
    client = calls.connect(stage, running.address)
    for backend in (*near, *far):
        backend.kill()
    running.wait_until_ready(0)
    code, details = client.fails()
    assert code.name == "UNAVAILABLE" and "cluster default" in details, (code, details)


def named(server, name, backend, **place):
    """A target that is this name, which leads to this backend."""
    host, port = backend.address.rsplit(":", 1)
    server.records[name] = [host]
    return {"target": f"dns://{server.address}/{name}:{port}", **place}


def start_named(stage, targets, *, arguments=(), **settings):
    settings = {
        "target": targets,
        "policy": "round_robin",
        "backoff": {"base_interval": "100ms", "max_interval": "500ms"},
        "dns": {"max_refresh": "1s"},
        **settings,
    }
    return proxy.start_with_file(stage, proxy.config({"default": settings}), arguments=arguments)


@test
def failing_over_from_one_name_to_another_needs_no_file(stage):
    near, far = calls.start_backends(stage, 1, "near")[0], calls.start_backends(stage, 1, "far")[0]
    server = stage.enter(NameServer())
    targets = [
        named(server, "near.test", near),
        named(server, "far.test", far, priority=1, weight=3, locality={"region": "us", "zone": "x"}),
    ]
    running, _ = start_named(stage, targets)
    running.wait_until_ready(2)
    endpoints = running.endpoints()
    of_far = endpoints[far.address]
    assert (of_far["priority"], of_far["weight"], of_far["locality"]) == (1, 3, "us/x"), of_far
    assert endpoints[near.address]["priority"] == 0, endpoints
    info = running.metrics()
    assert info.sum("evenkeel_endpoint_info", endpoint=far.address, priority="1", locality="us/x") == 1
    assert info.sum("evenkeel_endpoint_info", endpoint=near.address, priority="0", locality="") == 1
    assert info.sum("evenkeel_endpoint_info", weight="3") == info.sum("evenkeel_endpoint_info", weight="1") == 1
    assert info.sum("evenkeel_cluster_info", policy="round_robin") == info.sum("evenkeel_cluster_info") == 1
    shown = running.configuration()["config"]["clusters"][0]["target"]
    assert shown[0] == targets[0]["target"] and shown[1]["priority"] == 1, shown
    clients = [calls.connect(stage, running.address) for _ in range(CLIENTS)]
    with Load(clients) as load:
        eventually(lambda: load.total() > CALLS, "calls are answered")
        assert load.count("far1") == 0, load.answered
        near.kill()
        eventually(lambda: load.count("far1") > CALLS, "the other name's endpoint answers")
        out = load.count("near1")
        stage.add_program(calls.Backend("near1", near.address))
        eventually(lambda: load.count("near1") > out + CALLS, "the first name's endpoint answers again")
    assert len(load.failed) <= CLIENTS, load.failed
    print(f"near killed and back: {load.answered} answered, {len(load.failed)} failed, {CLIENTS} in flight at the kill")
    assert calls.shares(clients[0], 30) == {"near1": 30}


@test
def a_name_that_does_not_resolve_leaves_its_calls_to_the_next_and_gets_them_when_it_does(stage):
    near, far = calls.start_backends(stage, 1, "near")[0], calls.start_backends(stage, 1, "far")[0]
    server = stage.enter(NameServer())
    targets = [named(server, "near.test", near), named(server, "far.test", far, priority=1)]
    addresses = server.records.pop("near.test")
    running, _ = start_named(stage, targets)
    running.wait_until_ready(1)
    client = calls.connect(stage, running.address)
    assert calls.shares(client, 30) == {"far1": 30}
    resolver = running.clusters()["default"]["resolver"]
    assert "near.test" in resolver["error"], resolver
    server.records["near.test"] = addresses
    running.wait_until_ready(2)
    assert running.clusters()["default"]["resolver"]["error"] is None
    assert calls.shares(client, 30) == {"near1": 30}


@test
def calls_stay_in_the_zone_that_the_command_line_names(stage):
    backends = calls.start_backends(stage, 2)
    targets = [
        {"target": f"ipv4:{backend.address}", "locality": {"region": "eu", "zone": zone}}
        for backend, zone in zip(backends, ("a", "b"))
    ]
    # The file says another zone, and the region.
    settings = {"target": targets, "policy": "round_robin", "zone_aware": {"min_cluster_size": 2}}
    configuration = proxy.config({"default": settings}, node={"region": "eu", "zone": "a"})
    for arguments, name in (([], "b1"), (["--zone", "b"], "b2"), (["--zone", "eu/a"], "b1"), (["--zone", "eu/b"], "b2")):
        running, file = proxy.start_with_file(stage, configuration, arguments=arguments)
        running.wait_until_ready(2)
        client = calls.connect(stage, running.address)
        assert calls.shares(client, 30) == {name: 30}, arguments
    # It holds over a reload too.
    file.write({**configuration, "drain": {"grace": "2s"}})
    running.reload()
    eventually(lambda: running.configuration()["generation"] >= 2, "the file is read again")
    assert calls.shares(client, 30) == {"b2": 30}
    assert running.configuration()["config"]["node"] == {"region": "eu", "zone": "b"}


@test
def a_zone_that_is_none_is_refused_before_anything_starts(_stage):
    done = run([binary(), "proxy", "--listen", "127.0.0.1:0", "--to", "a:1", "--zone", "eu west"], seconds=10)
    line = done.stderr.decode()
    assert done.returncode == 2 and "names no zone" in line and "REGION/ZONE" in line, (done.returncode, line)
