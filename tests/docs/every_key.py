"""full.yaml: each of its routes leads where it says, and what its keys say is in force.

What is at its default in the file is the same without it, so where that shows nothing a test has another value in its place.
"""

import collections
import json

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import Shared, figure, test

CARTS, CATALOG = "/ecommerce.carts.v1.Carts/", "/ecommerce.catalog.Catalog/"
ORDERS, SEARCH, POLICIES = "/ecommerce.orders.OrderService/", "/ecommerce.search.Search/", "/shop.Policies/"

# What a call of the catalog needs for its route.
OF_CATALOG = {"x-tester": "yes", "x-tenant": "acme", "x-version": "2.1"}

# The clusters that one method of shop.Policies each leads to.
BY_METHOD = {
    "RoundRobin": "round-robin",
    "Weighted": "weighted",
    "PeakEwma": "peak-ewma",
    "Prequal": "prequal",
    "Ring": "ring",
    "RingOfGrpc": "ring-of-grpc",
    "Maglev": "maglev",
    "Random": "random",
    "PickFirst": "pick-first",
    "Watched": "watched",
    "Zoned": "zoned",
    "Measured": "measured",
}

backends = Shared(lambda stage: calls.start_backends(stage, 2, health=True))


def start(stage, pair=None, changes=None):
    """The example with both of these backends in each cluster, `orders` has the first alone, and a client of it."""
    first, second = pair or backends.get(stage)
    # Only a name may have `dns`.
    targets = collections.defaultdict(lambda: calls.target([first, second]), orders=f"dns:///{first.address}")
    names = {"dns:///orders.eu-a:50051": f"dns:///{first.address}", "dns:///orders.eu-b:50051": f"dns:///{second.address}"}
    running = examples.run(stage, "full", targets, {**names, **(changes or {})})
    for cluster in running.clusters():
        running.wait_until_ready({"orders": 1, "pick-first": 1}.get(cluster, 2), cluster)
    checked = ("all-on", "watched")
    healths = lambda: {one["health"]["status"] for name in checked for one in running.endpoints(name).values()}  # noqa: E731
    eventually(lambda: healths() == {"healthy"}, "all are checked")
    return running, calls.connect(stage, running.address)


def attempts(running):
    """How many attempts have ended in each cluster, for those that have any."""
    of_all = {name: sum(sum(one["outcomes"].values()) for one in shown["endpoints"]) for name, shown in running.clusters().items()}
    return {name: count for name, count in of_all.items() if count}


@examples.example("full")
def each_route_of_the_file_with_every_key_leads_to_its_cluster(stage):
    running, client = start(stage)
    shop = calls.connect(stage, running.address, [("grpc.default_authority", "shop.example")])
    routes = [
        (shop, ORDERS, "CreateOrder", "orders"),
        # Another authority is left to the last route.
        (client, ORDERS, "CreateOrder", "orders"),
        (client, ORDERS, "GetOrder", "all-on"),
        (client, SEARCH, "Search", "all-on"),
        (client, CATALOG, "List", "orders"),
        *((client, POLICIES, method, cluster) for method, cluster in BY_METHOD.items()),
        (client, POLICIES, "Other", "orders"),
    ]
    expected = collections.Counter()
    for caller, service, method, cluster in routes:
        caller.call(service=service, method=method, metadata=list(OF_CATALOG.items()))
        expected[cluster] += 1
        assert attempts(running) == expected, (service, method, cluster)
    figure("clusters of full.yaml that calls of a test reach", 14, len(expected))
    of_routes = {int(route): count for route, count in running.metrics().by("evenkeel_route_calls_total", "route").items()}
    # Each took one, but for that of the carts, which another test calls, and the last, which took what no other did.
    assert of_routes == {**dict.fromkeys(range(18), 1), 4: 0, 17: 2}, of_routes
    assert set(expected) == set(running.clusters())


@test
def the_first_route_is_for_one_authority_and_tries_again_once(stage):
    running, client = start(stage)
    shop = calls.connect(stage, running.address, [("grpc.default_authority", "shop.example:50051")])
    fails = {"code": "UNAVAILABLE", "message": "no"}
    for caller, made in ((shop, 2), (client, 1)):
        before = attempts(running).get("orders", 0)
        assert caller.fails(fails, service=ORDERS, method="CreateOrder") == (grpc.StatusCode.UNAVAILABLE, "no")
        assert attempts(running)["orders"] - before == made, made
    metrics = running.metrics()
    assert metrics.sum("evenkeel_retries_total", cluster="orders", reason="status") == 1
    assert metrics.sum("evenkeel_retries_denied_total", cluster="orders", reason="attempts_used") == 1
    # Two of the second route, which is for reads: on two backends, and a deadline for each.
    first, second = backends.get(stage)
    call = client.begin(fails, service=ORDERS, method="GetOrder")
    assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert attempts(running)["all-on"] == 2
    call = client.begin({"hold": "late"}, service=ORDERS, method="GetOrder")
    retried = lambda: running.metrics().sum("evenkeel_retries_total", cluster="all-on", reason="attempt_timeout")  # noqa: E731
    eventually(lambda: retried() == 1, "the second is asked after 250 ms")
    assert call.code() == grpc.StatusCode.DEADLINE_EXCEEDED, call
    for backend in (first, second):
        backend.release("late")


@test
def a_route_takes_what_all_its_conditions_hold_for(stage):
    running, client = start(stage)
    status, text = running.get("/canary/all-on/start", method="POST")
    assert status == 200, text

    def cluster_of(user, **changed):
        """Which cluster this user's call reaches with these fields instead; None: without it."""
        fields = {name.replace("_", "-"): value for name, value in changed.items()}
        metadata = {**OF_CATALOG, **fields, "x-user-id": user}
        before = attempts(running)
        client.call(service=CATALOG, method="List", metadata=[(name, value) for name, value in metadata.items() if value is not None])
        [(cluster, _)] = (collections.Counter(attempts(running)) - collections.Counter(before)).items()
        return cluster

    users = (f"u{number}" for number in range(300))
    user = next(user for user in users if cluster_of(user) == "all-on")
    cases = (
        ("all-on", {}),
        ("all-on", {"x_version": "2.0.7"}),
        ("all-on", {"x_region": "us-a"}),
        # All of a value, and what is inverted holds without the field.
        ("all-on", {"x_region": "eu-a2"}),
        ("orders", {"x_region": "eu-a"}),
        ("orders", {"x_tester": None}),
        ("orders", {"x_tenant": "acme2"}),
        ("orders", {"x_tenant": "Acme"}),
        ("orders", {"x_tenant": None}),
        ("orders", {"x_version": "20"}),
    )
    for cluster, changed in cases:
        assert cluster_of(user, **changed) == cluster, changed
    [canary] = json.loads(running.get("/canary")[1])["canaries"]
    assert (canary["state"], canary["weight_percent"], canary["step"]["of"]) == ("running", 10, 4), canary
    # By its regular expression the next route takes these, which it delays; and not those.
    carts = [(CARTS, "Add", True), ("/ecommerce.carts.v22.Lists/", "Get", True), ("/ecommerce.carts.v1.Carts/", "Add2", False)]
    for service, method, _ in carts:
        client.call(service=service, method=method)
    delayed = running.metrics().sum("evenkeel_faults_injected_total", fault="delay")
    assert delayed == sum(taken for _, _, taken in carts), delayed


@test
def what_a_route_does_to_its_calls_is_done_to_them(stage):
    # What comes in an hour is nothing here; and no call is to fail by chance.
    changes = {"per: 1s": "per: 1h", "percent: 0.5": "percent: 0", "fixed: 2s": "fixed: 200ms"}
    running, client = start(stage, changes=changes)
    ask = {"trailers": {"x-internal-cost": "7", "x-cost": "8"}}
    sent = [("x-debug", "1"), ("x-served-by", "me")]
    clients = {"anna": [("x-client-id", "anna")], "ben": [("cookie", "session=ben")], "the rest of this machine": []}
    for name, who in clients.items():
        begun = [client.begin(ask, service=CARTS, method="Add", metadata=[*who, *sent]) for _ in range(25)]
        codes = collections.Counter(call.code().name for call in begun)
        figure("calls of a client at once with a burst of 20", "20 of 25", f"{codes['OK']} of 25")
        assert codes == {"OK": 20, "RESOURCE_EXHAUSTED": 5}, (name, codes)
        refused = next(call for call in begun if call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED)
        # Twenty an hour: the next one in three minutes.
        pushback = int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"])
        assert refused.details() == "rate limited" and 170_000 <= pushback <= 360_000, (refused.details(), pushback)
    answered = next(call for call in begun if call.code() == grpc.StatusCode.OK)
    seen = json.loads(answered.result())["metadata"]
    assert (seen["x-tag"], seen["x-served-by"]) == ("blue", "edge-1") and "x-debug" not in seen, seen
    assert dict(answered.initial_metadata())["x-version"] == "v2"
    trailers = dict(answered.trailing_metadata())
    assert trailers["x-cost"] == "8" and "x-internal-cost" not in trailers, trailers
    metrics = running.metrics()
    of_route = lambda name, **labels: metrics.sum(f"evenkeel_{name}", route="4", **labels)  # noqa: E731
    assert of_route("faults_injected_total", fault="abort") == 0
    assert of_route("rate_limited_calls_total", limit="client_rate") == 15
    assert of_route("rate_limited_calls_total", limit="route_rate") == 0
    assert running.clusters()["all-on"]["mirrors"]["sent"] == 60
    eventually(lambda: attempts(running) == {"orders": 60, "all-on": 60}, "all copies are answered")


@test
def a_call_that_the_rate_limit_refuses_waits_for_no_fault(stage):
    running, client = start(stage, changes={"per: 1s": "per: 1h", "fixed: 2s": "fixed: 1h", "percent: 0.5": "percent: 100"})
    begun = [client.begin(service=CARTS, method="Add") for _ in range(25)]
    eventually(lambda: sum(call.done() for call in begun) == 5, "those above the burst are refused, and the others are delayed")
    refused = [call for call in begun if call.done()]
    assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}, refused
    for call in begun:
        call.cancel()
    # An error has counted in the limit as an answer does: nothing is left.
    assert client.fails(service=CARTS, method="Add") == (grpc.StatusCode.RESOURCE_EXHAUSTED, "rate limited")
    assert "orders" not in attempts(running), attempts(running)


@test
def a_table_of_few_clients_has_the_others_share(stage):
    running, client = start(stage, changes={"per: 1s": "per: 1h", "max_keys: 16384": "max_keys: 8", "fixed: 2s": "fixed: 1ms"})
    for number in range(40):
        client.begin(service=CARTS, method="Add", metadata=[("x-client-id", f"c{number}")]).exception()
    shared = running.metrics().sum("evenkeel_rate_limit_shared_total", route="4")
    figure("clients of 40 that share a bucket, with max_keys 8", "at least 1", f"{shared:.0f}")
    assert shared >= 1, shared


@test
def a_search_asks_the_other_backend_when_one_is_slow_or_fails(stage):
    pair = calls.start_backends(stage, 2, health=True)
    running, client = start(stage, pair)
    hedges = lambda: running.clusters()["all-on"]["hedges"]  # noqa: E731
    assert client.call(service=SEARCH)["backend"] in examples.names(pair) and not any(hedges().values())
    held = client.begin({"hold": "slow"}, service=SEARCH)
    eventually(lambda: hedges()["sent"] == 1, "a second attempt is sent")
    for backend in pair:
        backend.wait_for_line("began slow")
    assert not held.done()
    pair[0].release("slow")
    assert calls.Client.read(held)["backend"] == pair[0].name
    pair[1].wait_for_line("cancelled slow")
    # What is in `non_fatal` has the next one sent at once, and any other status decides.
    assert client.begin({"code": "UNAVAILABLE"}, service=SEARCH).code() == grpc.StatusCode.UNAVAILABLE
    assert hedges()["after_failure"] == 1, hedges()
    assert client.begin({"code": "INTERNAL"}, service=SEARCH).code() == grpc.StatusCode.INTERNAL
    told = hedges()
    assert (told["sent"], told["after_failure"], told["no_endpoint"]) == (1, 1, 0), told


@test
def what_policies_and_limits_of_the_file_say_is_in_force(stage):
    running, client = start(stage)
    shown = running.clusters()
    settings = {name: one["settings"]["policy"][one["policy"]] for name, one in shown.items()}
    ring = {"max_ring_size": 32768, "entries_per_endpoint": 128, "when_unavailable": "rehash", "bounded_load": 125}
    assert settings["ring"] == ring, settings["ring"]
    assert settings["ring-of-grpc"] == {"min_ring_size": 1024, "max_ring_size": 32768, "when_unavailable": "fail"}
    assert settings["maglev"] == {"table_size": 65537, "when_unavailable": "rehash", "bounded_load": 125}
    assert settings["peak-ewma"] == {"decay": "10s"} and settings["pick-first"] == {"shuffle": False}
    all_on = shown["all-on"]
    bounds = lambda breakers: {one["limit"]: one["max"] for one in breakers}  # noqa: E731
    # What is off bounds nothing.
    assert bounds(all_on["circuit_breakers"]) == {"max_pending": 1024}, all_on
    assert [bounds(one["circuit_breakers"]) for one in all_on["endpoints"]] == [{"max_requests": 1024}] * 2, all_on
    assert (all_on["adaptive_concurrency"]["limit"], shown["measured"]["adaptive_concurrency"]["min_rtt_ms"]) == (20, 5)
    assert all_on["retries"]["throttle"]["max_tokens"] == 10 and all_on["retries"]["budget"]["window"]["seconds"] == 10
    assert {one.get("locality") for one in all_on["endpoints"]} == {"eu/eu-a/rack-1", None}
    for one in all_on["endpoints"]:
        # A minute, a straight line, and a tenth at least.
        share = max(0.1, 1 - one["slow_start"]["remaining_seconds"] / 60)
        assert abs(one["slow_start"]["share"] - share) < 0.001, one
    # A key has a home under each policy that hashes.
    for method, key in (("Ring", "a"), ("RingOfGrpc", None), ("Maglev", None)):
        metadata = [("x-client-id", key)] if key else []
        homes = {client.call(service=POLICIES, method=method, metadata=metadata)["backend"] for _ in range(20)}
        assert len(homes) == 1, (method, homes)
        counted = running.metrics().sum("evenkeel_affinity_calls_total", cluster=BY_METHOD[method], outcome="home")
        assert counted == 20, (method, counted)
    [cookie] = [value for name, value in client.begin(service=POLICIES, method="Ring").initial_metadata() if name == "set-cookie"]
    assert cookie.startswith('session="') and cookie.endswith("; Max-Age=3600; Path=/; HttpOnly"), cookie
    turns = examples.met(client, 20, service=POLICIES, method="RoundRobin")
    assert turns == dict.fromkeys(examples.names(backends.get(stage)), 10), turns


@test
def a_larger_weight_of_a_rack_brings_its_part_of_the_calls(stage):
    first, second = backends.get(stage)
    listed = "sub_zone: rack-1, weight: 1"
    # Of another rack of the same zone it is nothing to the endpoint.
    for weight, shares in (("sub_zone: rack-1, weight: 3", (60, 20)), ("sub_zone: rack-2, weight: 3", (40, 40))):
        running, client = start(stage, changes={listed: weight})
        met = examples.met(client, 80, service=ORDERS, method="GetOrder")
        figure(f"calls to each of two localities, {weight}", shares, (met[first.name], met[second.name]))
        assert abs(met[first.name] - shares[0]) <= 2, met


@test
def calls_stay_in_the_proxys_own_rack_as_far_as_its_endpoints_bear_them(stage):
    first, second = backends.get(stage)
    # Two of three proxies are in the rack, which has one of two endpoints: three calls of four stay. With too few endpoints for that
    # rule half of them do; and all, where those proxies are in another rack of the zone.
    few = "min_cluster_size: 6"
    two, rack = {few: "min_cluster_size: 2"}, "sub_zone: rack-1, weight: 2"
    for changes, stay in ((two, 60), ({few: "min_cluster_size: 3"}, 40), ({**two, rack: "sub_zone: rack-2, weight: 2"}, 80)):
        running, client = start(stage, changes=changes)
        met = examples.met(client, 80, service=POLICIES, method="Zoned")
        figure(f"calls of 80 that stay in the proxy's rack, {', '.join(changes.values())}", stay, met.get(first.name, 0))
        assert abs(met.get(first.name, 0) - stay) <= 2 and sum(met.values()) == 80, (changes, met)
        assert set(met) <= {first.name, second.name}, met
