"""Examples of docs/examples while backends fail or are gone, and over a reload or a restart of the proxy."""

import collections
import re

import examples
import grpc
from harness import calls
from harness.suite import figure, test

# Were a subset drawn anew at each, it would be the same after all of them in one of 6561 runs.
RELOADS = 8


@test
def the_games_of_an_endpoint_that_is_out_are_refused_and_no_other(stage):
    backends = calls.start_backends(stage, 3)
    target = calls.target(backends)
    running = examples.run(stage, "affinity", dict.fromkeys(["carts", "search", "games", "reports"], target))
    examples.everywhere(running, ["games", "carts"], 3)
    client = calls.connect(stage, running.address)
    game = lambda number: {"service": "/shop.game.Games/", "metadata": [("x-game-id", f"g{number}")]}  # noqa: E731
    homes = {number: client.call(**game(number))["backend"] for number in range(40)}
    assert set(homes.values()) == examples.names(backends), homes
    lost = [number for number, home in homes.items() if home == backends[0].name]
    backends[0].kill()
    examples.everywhere(running, ["games", "carts"], 2)
    for number, home in homes.items():
        if number in lost:
            code, details = client.fails(**game(number))
            assert code == grpc.StatusCode.UNAVAILABLE, (code, details)
            assert details.startswith("no healthy upstream: the endpoint of the call's key in cluster games"), details
        else:
            assert client.call(**game(number))["backend"] == home
        # By the default, rehash, a cart's calls go to another endpoint meanwhile.
        examples.by_metadata(client, "x-client-id", f"v{number}", service="/shop.cart.Carts/")
    metrics = running.metrics()
    counts = {name: metrics.sum("evenkeel_affinity_calls_total", cluster="games", outcome=name) for name in ("home", "refused")}
    figure("calls refused whose endpoint is out, with when_unavailable: fail", f"its own {len(lost)}", f"{counts['refused']:.0f}")
    assert counts == {"home": 80 - len(lost), "refused": len(lost)}, counts
    assert metrics.sum("evenkeel_affinity_calls_total", cluster="carts", outcome="refused") == 0
    stage.add_program(calls.Backend(backends[0].name, backends[0].address))
    examples.everywhere(running, ["games"], 3)
    assert {number: client.call(**game(number))["backend"] for number in homes} == homes


@test
def a_proxy_keeps_the_subset_that_it_drew_over_reloads(stage):
    backends = examples.three.get(stage)
    # Of all clusters.
    target = collections.defaultdict(lambda: calls.target(backends))
    running, path = examples.run_with_file(stage, "policies", target)
    running.wait_until_ready(2, "drawn")
    drawn = lambda: running.clusters()["drawn"]["subset"]["outside"]  # noqa: E731
    outside = drawn()
    assert len(outside) == 1, outside
    left_out = {backend.name for backend in backends if backend.address in outside}
    client, kept = calls.connect(stage, running.address), 0
    for number in range(1, RELOADS + 1):
        # Of the subset's own cluster, so that it is made anew.
        text = re.sub(r"size: 2, kind: random }(\n    max_pending: .*)?", f"size: 2, kind: random }}\n    max_pending: {number}", path.read_text())
        path.write_text(text, encoding="utf-8")
        status, text = running.get("/reload", method="POST")
        assert status == 200, text
        running.wait_until_ready(2, "drawn")
        kept += drawn() == outside
    used = examples.met(client, 60, service="/shop.Policies/", method="Drawn")
    figure("reloads that keep a random subset of two of three", RELOADS, kept)
    assert kept == RELOADS and used == dict.fromkeys(examples.names(backends) - left_out, 30), (outside, used)
    assert running.metrics().sum("evenkeel_endpoints_outside_subset", cluster="drawn") == 1
    assert running.metrics().sum("evenkeel_config_generation") == RELOADS + 1
