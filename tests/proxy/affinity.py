"""Calls with the same key meet the same backend, as long as it is there."""

import http.cookies
import json

import grpc
from harness import calls, proxy
from harness.poll import eventually
from harness.process import run
from harness.suite import binary, figure, test

CLIENTS = 60


def start(stage, backends, hash_by, policy="maglev", workers=2):
    settings = {"target": calls.target(backends), "policy": policy, "hash_by": hash_by}
    config = proxy.config({"default": settings}, workers=workers)
    running, file = proxy.start_with_file(stage, config)
    wait_for_all(running, workers)
    return running, file


def wait_for_all(running, workers=2):
    """Waits until every worker is connected to every endpoint: until then it sends a key's calls elsewhere."""

    def connections():
        return [endpoint["connections"] for endpoint in running.endpoints().values()]

    eventually(lambda: set(connections()) == {workers}, "all workers are connected to all endpoints")


def homes(client, name="x-client-id"):
    """Which backend each of many clients meets, who all call at once."""
    begun = [client.begin(metadata=[(name, f"client-{number}")]) for number in range(CLIENTS)]
    return {number: client.read(call)["backend"] for number, call in enumerate(begun)}


def met(running):
    """Calls by where their first attempt went."""
    outcomes = ("home", "elsewhere", "no_key", "refused")
    counted = {outcome: running.metrics().sum("evenkeel_affinity_calls_total", outcome=outcome) for outcome in outcomes}
    return {outcome: count for outcome, count in counted.items() if count}


@test
def the_same_client_id_meets_the_same_backend_through_every_connection(stage):
    backends = calls.start_backends(stage, 3)
    for policy in ("ring_hash", "maglev", {"maglev": {"bounded_load": 400}}):
        running, _ = start(stage, backends, [{"metadata": "x-client-id"}], policy)
        first = homes(calls.connect(stage, running.address))
        assert set(first.values()) == {"b1", "b2", "b3"}, first
        others = [homes(calls.connect(stage, running.address)) for _ in range(4)]
        away = sum(met[number] != first[number] for met in others for number in first)
        how = policy if isinstance(policy, str) else "maglev, bounded_load 400"
        figure(f"calls that meet another backend than their key's others, {how}", 0, f"{away} of {5 * CLIENTS}")
        assert others == [first] * 4, (policy, first, others)
        body = running.clusters()["default"]
        assert body["settings"]["hash_by"] == [{"metadata": "x-client-id"}], body
        assert met(running) == {"home": 5 * CLIENTS}
        calls.connect(stage, running.address).call()
        assert met(running) == {"home": 5 * CLIENTS, "no_key": 1}


@test
def only_the_clients_of_a_killed_backend_move_and_none_fails(stage):
    backends = calls.start_backends(stage, 3)
    running, _ = start(stage, backends, [{"metadata": "x-client-id"}], "ring_hash")
    client = calls.connect(stage, running.address)
    before = homes(client)
    backends[0].kill()
    running.wait_until_ready(2)
    after = homes(client)
    moved = [number for number in before if before[number] != after[number]]
    orphans = [number for number in before if before[number] == "b1"]
    figure("keys that move where one of three is killed", f"its own {len(orphans)}", f"{len(moved)} of {CLIENTS}")
    assert moved == orphans, (before, after)
    assert homes(client) == after
    assert met(running) == {"home": CLIENTS + 2 * (CLIENTS - len(orphans)), "elsewhere": 2 * len(orphans)}
    stage.add_program(calls.Backend("b1", backends[0].address))
    wait_for_all(running)
    assert homes(client) == before


@test
def where_sessions_must_not_move_calls_of_a_killed_backend_fail(stage):
    backends = calls.start_backends(stage, 3)
    policy = {"ring_hash": {"when_unavailable": "fail"}}
    running, _ = start(stage, backends, [{"metadata": "x-client-id"}], policy, workers=1)
    client = calls.connect(stage, running.address)
    before = homes(client)
    backends[0].kill()
    running.wait_until_ready(2)
    for number, home in before.items():
        metadata = [("x-client-id", f"client-{number}")]
        if home == "b1":
            code, details = client.fails(metadata=metadata)
            assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
        else:
            assert client.call(metadata=metadata)["backend"] == home
    refused = list(before.values()).count("b1")
    assert met(running) == {"home": 2 * CLIENTS - refused, "refused": refused}


@test
def the_first_of_several_sources_decides_and_the_address_is_one_of_them(stage):
    backends = calls.start_backends(stage, 3)
    running, _ = start(stage, backends, [{"metadata": "x-client-id"}, {"metadata": "x-user"}, "source_ip"])
    client = calls.connect(stage, running.address)
    by_user = homes(client, "x-user")
    assert by_user == homes(client), "the same text is the same key"
    both = [("x-user", "client-1"), ("x-client-id", "client-0")]
    assert client.call(metadata=both)["backend"] == by_user[0]
    # All of one address.
    assert len(calls.shares(client, 10)) == 1
    assert calls.shares(calls.connect(stage, running.address), 10).keys() == calls.shares(client, 1).keys()


@test
def a_cookie_that_is_given_leads_back_to_the_same_backend(stage):
    backends = calls.start_backends(stage, 3)
    running, _ = start(stage, backends, [{"cookie": {"name": "sid", "ttl": "1h", "path": "/"}}])
    client = calls.connect(stage, running.address)
    met = set()
    for _ in range(20):
        call = client.begin()
        home = json.loads(call.result())["backend"]
        given = dict(call.initial_metadata())["set-cookie"]
        cookie = http.cookies.SimpleCookie(given)["sid"]
        assert (cookie["max-age"], cookie["path"], cookie["httponly"]) == ("3600", "/", True), given
        for _ in range(3):
            again = client.begin(metadata=[("cookie", f"sid={cookie.value}")])
            assert json.loads(again.result())["backend"] == home
            assert "set-cookie" not in dict(again.initial_metadata())
        met.add(home)
    assert len(met) > 1, "new clients are spread"


@test
def a_policy_that_hashes_needs_a_key_also_on_the_command_line(_stage):
    arguments = ["--listen", "127.0.0.1:0", "--to", "ipv4:127.0.0.1:1", "--policy", "maglev"]
    done = run([binary(), "proxy", *arguments], seconds=10)
    assert done.returncode == 1, done
    line = done.stderr.decode()
    assert "`maglev` needs `hash_by`" in line and "hash_by: [{metadata: x-client-id}" in line, line
