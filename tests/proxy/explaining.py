"""What `evenkeel explain` says is what calls then meet."""

import json
import pathlib
import tempfile
import urllib.parse

import shared
from affinity import wait_for_all
from harness import calls, proxy
from harness.poll import eventually
from harness.process import run
from harness.suite import binary, test

KEYS = 100
METHOD = calls.SERVICE + "Unary"


def explain(running, *more):
    done = run([binary(), "explain", "--admin", running.admin, "--method", METHOD, "--json", *more])
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@test
def the_endpoint_told_for_a_key_is_the_one_that_its_calls_meet(stage):
    backends = shared.three.get(stage)
    names = {backend.address: backend.name for backend in backends}
    for policy in ("maglev", "ring_hash"):
        settings = {"target": calls.target(backends), "policy": policy, "hash_by": [{"metadata": "x-client-id"}]}
        running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, workers=2))
        wait_for_all(running)
        client = calls.connect(stage, running.address)
        told, met = {}, {}
        for number in range(KEYS):
            header = urllib.parse.quote(f"x-client-id=client-{number}")
            status, text = running.get(f"/explain?method={urllib.parse.quote(METHOD)}&header={header}")
            assert status == 200, text
            [cluster] = json.loads(text)["clusters"]
            told[number] = names[cluster["endpoint"]]
            met[number] = client.call(metadata=[("x-client-id", f"client-{number}")])["backend"]
        assert told == met, policy
        assert set(told.values()) == set(names.values()), told


@test
def an_endpoint_that_is_out_is_told_with_its_reason_and_its_keys_go_elsewhere(stage):
    backends = calls.start_backends(stage, 3)
    settings = {"target": calls.target(backends), "policy": "maglev", "hash_by": [{"metadata": "x-client-id"}]}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, workers=2))
    wait_for_all(running)
    client = calls.connect(stage, running.address)
    backends[0].kill()
    out = backends[0].address
    eventually(lambda: not running.endpoints()[out]["eligible"], "the killed backend is not eligible")
    eventually(
        lambda: {why["reason"] for why in running.endpoints()[out]["why"]} == {"backoff"}, "it says why"
    )
    names = {backend.address: backend.name for backend in backends}
    for number in range(5):
        [cluster] = explain(running, "--header", f"x-client-id=client-{number}")["clusters"]
        [gone] = [endpoint for endpoint in cluster["endpoints"] if endpoint["address"] == out]
        assert (gone["eligible"], gone["percent"]) == (False, 0), gone
        met = client.call(metadata=[("x-client-id", f"client-{number}")])["backend"]
        assert names[cluster["endpoint"]] == met, cluster


@test
def shares_are_told_where_chance_decides(stage):
    backends = shared.three.get(stage)
    running = proxy.start(stage, calls.target(backends), policy="random")
    running.wait_until_ready(3)
    [cluster] = explain(running)["clusters"]
    assert cluster["endpoint"] is None, cluster
    assert all(30 < endpoint["percent"] < 37 for endpoint in cluster["endpoints"]), cluster
    assert all(endpoint["eligible"] for endpoint in cluster["endpoints"]), cluster


@test
def what_is_wrong_with_a_question_is_told_with_what_to_do(stage):
    running = proxy.start(stage, calls.target([shared.one(stage)]))
    for more, expected in (
        (("--method", "a.B/C"), "write it as /package.Service/Method"),
        (("--method", "/a.B/C", "--header", "x-user"), "write it as name=value"),
        (("--method", "/a.B/C", "--peer-ip", "x"), "is no IP address"),
        (("--method", "/a.B/C", "--listener", "x"), 'there is no listener "x"'),
    ):
        done = run([binary(), "explain", "--admin", running.admin, *more])
        assert done.returncode == 1 and expected in done.stderr.decode(), (more, done.stderr.decode())
    done = run([binary(), "explain", "--admin", "127.0.0.1:1", "--method", "/a.B/C"])
    assert done.returncode == 1 and "Give another address with --admin" in done.stderr.decode(), done.stderr
    status, text = running.get("/explain")
    assert status == 400 and "method" in text, text


@test
def a_key_that_insists_on_an_endpoint_that_is_out_is_told_which_and_why(stage):
    backends = calls.start_backends(stage, 3)
    policy = {"maglev": {"when_unavailable": "fail"}}
    settings = {"target": calls.target(backends), "policy": policy, "hash_by": [{"metadata": "x-client-id"}]}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, workers=2))
    wait_for_all(running)
    client = calls.connect(stage, running.address)
    anna = ("--header", "x-client-id=anna")
    [cluster] = explain(running, *anna)["clusters"]
    own = cluster["key_endpoint"]
    assert (own, cluster["when_unavailable"]) == (cluster["endpoint"], "fail"), cluster
    assert cluster["outcome"] == f"maglev sends it to {own}", cluster
    [home] = [backend for backend in backends if backend.address == own]
    home.kill()

    def is_told():
        [cluster] = explain(running, *anna)["clusters"]
        return not running.endpoints()[own]["eligible"] and cluster["outcome"].startswith("it fails")

    eventually(is_told, "the key's endpoint is out in both workers")
    [cluster] = explain(running, *anna)["clusters"]
    code, details = client.fails(metadata=[("x-client-id", "anna")])
    assert code.name == "UNAVAILABLE", (code, details)
    answer = "the endpoint of the call's key in cluster default cannot take it, and with `when_unavailable: fail` no other may"
    assert details.startswith(f"no healthy upstream: {answer}"), details
    assert cluster["outcome"].startswith(f"it fails with UNAVAILABLE: {answer}; it is {own}: "), cluster
    [why] = [one["why"] for one in cluster["endpoints"] if one["address"] == own]
    assert why, cluster
    assert (cluster["key_endpoint"], cluster["endpoint"]) == (own, None), cluster
    done = run([binary(), "explain", "--admin", running.admin, "--method", METHOD, *anna])
    text = done.stdout.decode()
    assert f", whose own endpoint is {own}; when_unavailable: fail" in text and answer in text, text


def groups_of(running):
    """What a call meets in the only cluster: the groups by priority, and the endpoints by address."""
    [cluster] = explain(running)["clusters"]
    return {group["priority"]: group for group in cluster["groups"]}, {one["address"]: one for one in cluster["endpoints"]}


@test
def the_priority_in_which_a_call_lands_is_told_with_its_reason(stage):
    backends = calls.start_backends(stage, 3)
    folder = stage.enter(tempfile.TemporaryDirectory())
    near, far = backends[:2], backends[2]
    listed = [{"address": one.address} for one in near] + [{"address": far.address, "priority": 1}]
    pathlib.Path(folder, "endpoints.yaml").write_text(json.dumps(listed), encoding="ascii")
    settings = {"target": f"file:{folder}/endpoints.yaml", "policy": "round_robin"}
    running, file = proxy.start_with_file(stage, proxy.config({"default": settings}, workers=2))
    wait_for_all(running)
    client = calls.connect(stage, running.address)

    groups, endpoints = groups_of(running)
    assert [groups[0]["load_percent"], groups[1]["load_percent"]] == [100, 0], groups
    assert groups[1]["why"] == "stands by: the priorities before it bear all calls", groups
    assert [endpoints[one.address]["percent"] for one in backends] == [50, 50, 0], endpoints
    [why] = endpoints[far.address]["why"]
    assert (why["reason"], why["workers"], endpoints[far.address]["eligible"]) == ("standby", 2, False), endpoints
    assert running.endpoints()[far.address]["why"] == [why]
    assert calls.shares(client, 30) == {near[0].name: 15, near[1].name: 15}

    # The file says the same without a proxy, but for who runs.
    done = run([binary(), "explain", "--config", file.path, "--method", METHOD, "--json"])
    assert done.returncode == 0, done.stderr.decode()
    [cluster] = json.loads(done.stdout)["clusters"]
    assert [one["percent"] for one in cluster["endpoints"]] == [50, 50, 0], cluster
    assert [group["load_percent"] for group in cluster["groups"]] == [100, 0], cluster

    near[0].kill()

    def is_shared():
        groups, _ = groups_of(running)
        return groups[0]["available"] == 1

    eventually(is_shared, "one of two of the first priority is out")
    groups, endpoints = groups_of(running)
    assert [groups[0]["load_percent"], groups[1]["load_percent"]] == [70, 30], groups
    assert groups[0]["why"].startswith("1 of 2 endpoints are available and bear 1.4 times their part: 70 %"), groups
    assert endpoints[far.address]["eligible"] and 28 < endpoints[far.address]["percent"] < 32, endpoints
    met = calls.shares(client, 100)
    assert 25 <= met[far.name] <= 35, met


@test
def the_limits_that_a_call_meets_are_told_with_what_they_have_left(stage):
    backends = calls.start_backends(stage, 2)
    breakers = {"max_requests": 5, "per_endpoint": {"max_requests": 3}}
    settings = {"target": calls.target(backends), "policy": "round_robin", "circuit_breakers": breakers}
    rate = {"per_client": {"by": [{"metadata": "x-client-id"}], "requests": 1, "per": "1h", "burst": 2}}
    routes = [
        {"match": {"metadata": [{"name": "x-client-id", "present": True}]}, "cluster": "default", "rate_limit": rate},
        {"cluster": "default"},
    ]
    running, _ = proxy.start_with_file(stage, proxy.config({"default": settings}, routes=routes))
    running.wait_until_ready(2)
    client = calls.connect(stage, running.address)

    anna = ("--header", "x-client-id=anna")
    for left in (2, 1):
        told = explain(running, *anna)
        [limit] = told["limits"]
        assert (limit["limit"], limit["passes"]) == ("client_rate", True), limit
        assert f"told by metadata x-client-id, 2 at once after a rest; {left} left" in limit["state"], limit
        assert "refused" not in told, told
        client.call(metadata=[("x-client-id", "anna")])
    told = explain(running, *anna)
    assert told["refused"] == {"status": "ResourceExhausted", "message": "rate limited"}, told
    assert not told["limits"][0]["passes"], told
    assert client.begin(metadata=[("x-client-id", "anna")]).code().name == "RESOURCE_EXHAUSTED"
    assert "refused" not in explain(running, "--header", "x-client-id=ben")

    def limits():
        [cluster] = explain(running)["clusters"]
        return {limit["limit"]: limit for limit in cluster["limits"]}, cluster

    found, cluster = limits()
    assert found["max_requests"]["state"] == "0 of 5 attempts under way" and found["max_requests"]["passes"], found
    held = [client.begin({"hold": "x"}) for _ in range(5)]
    eventually(lambda: sum(one["in_flight"] for one in running.endpoints().values()) == 5, "five are under way")
    found, cluster = limits()
    assert found["max_requests"]["state"] == "5 of 5 attempts under way" and not found["max_requests"]["passes"], found
    assert cluster["outcome"].startswith("it fails with UNAVAILABLE: upstream overflow: max_requests"), cluster
    assert client.fails()[1].startswith("upstream overflow: max_requests"), "as it was told"
    [full] = [one for one in cluster["endpoints"] if one["in_flight"] == 3]
    [own] = full["circuit_breakers"]
    assert (own["limit"], own["open"], full["percent"]) == ("max_requests", True, 0), full
    for backend in backends:
        backend.release("x")
    assert [call.code().name for call in held] == ["OK"] * 5


@test
def a_file_that_cannot_be_read_is_told_as_what_it_is(stage):
    folder = stage.enter(tempfile.TemporaryDirectory())
    file = proxy.ConfigFile(folder, proxy.config({"default": f"file:{folder}/missing.yaml"}))
    done = run([binary(), "explain", "--config", file.path, "--method", METHOD, "--json"])
    assert done.returncode == 0, done.stderr.decode()
    [cluster] = json.loads(done.stdout)["clusters"]
    assert "missing.yaml" in cluster["note"] and "No such file" in cluster["note"], cluster
    assert cluster["outcome"] == "it fails with UNAVAILABLE: no endpoint can take it", cluster
