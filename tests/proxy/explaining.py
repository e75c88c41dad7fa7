"""What `evenkeel explain` says is what calls then meet."""

import json
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
