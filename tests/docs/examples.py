"""Each example of docs/examples runs, and does what its comments say.

An example is taken as it is, but for its addresses: listeners get free ports, and targets lead to the test's backends. What
takes minutes in an example (a watch's ten, a connection's thirty) is only seen to be in force.
"""

import json
import pathlib
import re
import tempfile

import grpc
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import Shared, test

FOLDER = pathlib.Path(__file__).parent.parent.parent / "docs" / "examples"

# The clusters of outliers.yaml.
OUTLIERS = ("orders", "catalog", "search", "reviews")

# The examples that have a test here.
_shown = set()


def example(*shown):
    """Registers the test of these examples."""
    _shown.update(shown)
    return test


# Backends that no test ends: b1, b2 and b3.
three = Shared(lambda stage: calls.start_backends(stage, 3))


def run(stage, name, targets, changes=None):
    """As `run_with_file`; gives back the proxy only."""
    return run_with_file(stage, name, targets, changes)[0]


def run_with_file(stage, name, targets, changes=None):
    """Starts the example with these targets by cluster, and with other texts in place of some; gives back the proxy and the path."""
    text, cluster = [], None
    example = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    for there, here in (changes or {}).items():
        assert there in example, f"{name}.yaml has no {there!r}"
        example = example.replace(there, here)
    for line in example.splitlines():
        found = re.match(r"  - name: (\S+)", line)
        cluster = found.group(1) if found else cluster
        line = re.sub(r"^(  - address:) .*", r"\1 127.0.0.1:0", line)
        line = re.sub(r"^(admin:|workers:|drain:|access_log:).*", r"# \1", line)
        if re.match(r"    target: ", line):
            line = f"    target: {targets[cluster]}"
        # One of several targets is replaced by its text.
        for there, here in targets.items():
            line = line.replace(f'target: "{there}"', f'target: "{here}"')
        # What belongs to the keys that were taken out.
        text.append(line if not re.match(r"  (address|hosts|pre_drain|spread|grace): ", line) else "")
    text += ["admin: { address: 127.0.0.1:0 }", "workers: 1", f"drain: {json.dumps(proxy.QUICK_DRAIN)}"]
    running, file = proxy.start_with_file(stage, "\n".join(text) + "\n")
    return running, pathlib.Path(file.path)


def everywhere(running, clusters, count):
    for cluster in clusters:
        running.wait_until_ready(count, cluster)


def names(backends):
    return {backend.name for backend in backends}


def met(client, count, **more):
    """The backends that so many calls met, with how many each."""
    counts = {}
    for _ in range(count):
        name = client.call(**more)["backend"]
        counts[name] = counts.get(name, 0) + 1
    return counts


def by_metadata(client, key, value, **more):
    return client.call(metadata=[(key, value)], **more)["backend"]


@example("affinity")
def affinity_keeps_clients_at_their_backends(stage):
    backends = three.get(stage)
    target = calls.target(backends)
    running = run(stage, "affinity", dict.fromkeys(["carts", "search", "games", "reports"], target))
    everywhere(running, ["carts", "search", "games", "reports"], 3)
    one, other = (calls.connect(stage, running.address) for _ in range(2))
    for service, key in (("/shop.cart.Carts/", "x-client-id"), ("/shop.search.Search/", "x-query-hash")):
        homes = [by_metadata(one, key, f"v{number}", service=service) for number in range(40)]
        assert homes == [by_metadata(other, key, f"v{number}", service=service) for number in range(40)]
        assert set(homes) == names(backends), homes
    call = one.begin(service="/shop.cart.Carts/")
    cookies = [value for name, value in call.initial_metadata() if name == "set-cookie"]
    assert len(cookies) == 1 and re.match(r'cart="[0-9a-f]+"; Max-Age=3600; Path=/', cookies[0]), cookies
    assert set(met(one, 60, service="/shop.Reports/")) == names(backends)
    reports = running.clusters()["reports"]
    assert (reports["policy"], reports["subset"]["size"]) == ("weighted_round_robin", 20), reports
    assert any("slow_start" in one for one in reports["endpoints"]), reports
    metrics = running.metrics()
    assert metrics.sum("evenkeel_endpoints_in_slow_start", cluster="reports") == 3
    assert metrics.sum("evenkeel_endpoints_outside_subset", cluster="reports") == 0
    assert metrics.sum("evenkeel_affinity_calls_total", cluster="carts", outcome="home") == 81
    assert metrics.sum("evenkeel_affinity_calls_total", cluster="reports") == 0


@example("policies")
def each_policy_is_in_force(stage):
    backends = three.get(stage)
    weights = pathlib.Path(stage.enter(tempfile.TemporaryDirectory()), "weights.yaml")
    listed = [f'- {{ address: "{one.address}", weight: {number} }}' for number, one in enumerate(backends, 1)]
    weights.write_text("\n".join(listed), encoding="ascii")
    policies = {
        "Default": ("default", "least_request"),
        "RoundRobin": ("round-robin", "round_robin"),
        "Weighted": ("weighted", "weighted_round_robin"),
        "FullScan": ("full-scan", "least_request"),
        "Sized": ("sized", "least_request"),
        "PeakEwma": ("peak-ewma", "peak_ewma"),
        "Own": ("own-probes", "prequal"),
        "PickFirst": ("pick-first", "pick_first"),
        "Random": ("random", "random"),
        "Share": ("share", "round_robin"),
        "Drawn": ("drawn", "round_robin"),
    }
    targets = {cluster: calls.target(backends) for cluster, _ in policies.values()}
    running = run(stage, "policies", {**targets, **dict.fromkeys(["weighted", "sized"], f"file:{weights}")})
    for cluster, _ in policies.values():
        running.wait_until_ready({"pick-first": 1, "share": 2, "drawn": 2}.get(cluster, 3), cluster)
    client, shown = calls.connect(stage, running.address), running.clusters()
    counts = {method: met(client, 60, service="/shop.Policies/", method=method) for method in policies}
    for method, (cluster, policy) in policies.items():
        assert shown[cluster]["policy"] == policy, shown[cluster]
        assert sum(counts[method].values()) == 60, counts
    assert counts["RoundRobin"] == dict.fromkeys(names(backends), 20), counts
    by_weight = {one.name: 10 * number for number, one in enumerate(backends, 1)}
    assert counts["Weighted"] == by_weight and counts["Sized"] == by_weight, counts
    assert len(counts["PickFirst"]) == 1 and sorted(counts["Share"].values()) == [30, 30], counts
    for one in shown["default"]["endpoints"]:
        # The square root of the part of the window that is over, of which a second counts at once.
        share = max(1, 30 - one["slow_start"]["remaining_seconds"]) / 30
        assert abs(one["slow_start"]["share"] - share**0.5) < 0.001, one
    # One call after the other says little to policies that go by what is under way, and by latency.
    for method in ("Default", "FullScan", "Random"):
        assert set(counts[method]) == names(backends), counts
    for method, cluster in (("Share", "share"), ("Drawn", "drawn")):
        [outside] = shown[cluster]["subset"]["outside"]
        used = {backend.name for backend in backends if backend.address != outside}
        assert outside not in running.endpoints(cluster) and counts[method] == dict.fromkeys(used, 30), shown[cluster]
        assert running.metrics().sum("evenkeel_endpoints_outside_subset", cluster=cluster) == 1
    for cluster in ("peak-ewma", "own-probes"):
        learned = [one["learned"] for one in running.endpoints(cluster).values()]
        assert any(0 < one.get("latency_ms", 0) < 10_000 for one in learned), learned
        assert all(one["failing_percent"] == 0 and "answer" not in one for one in learned), learned
    assert all("learned" not in one for one in shown["round-robin"]["endpoints"]), shown["round-robin"]


@example("streams")
def streams_are_weighed_and_bounded(stage):
    backends = calls.start_backends(stage, 3)
    running = run(stage, "streams", {"watches": calls.target(backends)})
    running.wait_until_ready(3, "watches")
    client = calls.connect(stage, running.address)
    held = [client.begin({"hold": "watch"}, service="/shop.Watches/") for _ in range(30)]
    in_flight = lambda: [one["in_flight"] for one in running.endpoints("watches").values()]  # noqa: E731
    eventually(lambda: in_flight() == [10, 10, 10], "live streams are shared evenly")
    for backend in backends:
        backend.release("watch")
    assert {call.code() for call in held} == {grpc.StatusCode.OK}
    [listener] = running.configuration()["config"]["listeners"]
    assert listener["limits"]["max_connection_age"] == "30m", listener
    ages = [(route["max_connection_age"], route["max_connection_age_grace"]) for route in running.clusters()["watches"]["routes"]]
    assert ages == [("30m", "1m")] * 2, ages
    assert running.metrics().sum("evenkeel_downstream_connections_aged_total") == 0
    assert listener["routes"][0]["max_stream_duration"] == "10m", listener


def start_canary(stage, changes=None):
    """The example with steps of seconds and a few calls in each, or with these changes instead, and versions whose latency is not
    compared; gives back the proxy, its two backends and the path of the file."""
    stable, new = calls.start_backends(stage, 2)
    quick = {"duration: 5m": "duration: 1s", "duration: 10m": "duration: 1s", "min_calls: 500": "min_calls: 80"}
    changes = dict(changes or quick)
    # Of two equal versions on a busy machine one may well be quicker for a second.
    changes["max_latency_increase: 0.2"] = "max_latency_increase: 100"
    changes["/var/lib/evenkeel/"] = stage.enter(tempfile.TemporaryDirectory()) + "/"
    targets = {"orders": f"ipv4:{stable.address}", "orders-next": f"ipv4:{new.address}"}
    running, path = run_with_file(stage, "canary", targets, changes)
    everywhere(running, targets, 1)
    return running, stable, new, path


def of_canary(running):
    [canary] = json.loads(running.get("/canary")[1])["canaries"]
    return canary


@example("canary")
def a_canary_grows_to_all_users_and_each_stays_at_the_version_once_met(stage):
    running, stable, new, _ = start_canary(stage)
    client = calls.connect(stage, running.address)
    assert by_metadata(client, "x-tester", "yes") == new.name
    users = {user: by_metadata(client, "x-user-id", f"u{user}") for user in range(400)}
    on_canary = [user for user, name in users.items() if name == new.name]
    # Fewer than the first step needs, so that this is still it.
    assert 20 <= len(on_canary) <= 65, f"{len(on_canary)} of 400"
    reads = {"service": "/ecommerce.orders.v2.Orders/", "method": "GetOrder"}
    assert {by_metadata(client, "x-user-id", f"u{user}", **reads) for user in on_canary[:5]} == {stable.name}
    assert of_canary(running)["step"]["number"] == 1, of_canary(running)

    def is_promoted():
        for user in on_canary:
            assert by_metadata(client, "x-user-id", f"u{user}") == new.name
        for user in range(100):
            by_metadata(client, "x-user-id", f"u{user}")
        return of_canary(running)["state"] == "promoted"

    eventually(is_promoted, "it is promoted", 20)
    shares = re.findall(r"canary: .* to=(\d+) %", "\n".join(running.output()))
    assert shares == ["10", "20", "50", "100"], shares
    assert {by_metadata(client, "x-user-id", f"u{user}") for user in users} == {new.name}


@test
def the_canary_of_the_example_goes_back_if_it_is_worse(stage):
    running, stable, new, _ = start_canary(stage)
    client = calls.connect(stage, running.address)
    new.become("INTERNAL")

    def is_rolled_back():
        for user in range(100):
            client.begin(metadata=[("x-user-id", f"u{user}")]).exception()
        return of_canary(running)["state"] == "rolled_back"

    eventually(is_rolled_back, "it is rolled back", 20)
    running.wait_for_line(r"worse than stable, rolled back: errors: canary 100\.00 %")
    assert {by_metadata(client, "x-user-id", f"u{user}") for user in range(100)} == {stable.name}


@example("minimal")
def the_least_that_runs_serves(stage):
    backend = three.get(stage)[0]
    running = run(stage, "minimal", {"orders": f"dns:///{backend.address}"})
    running.wait_until_ready(1, "orders")
    assert met(calls.connect(stage, running.address), 20) == {backend.name: 20}


@example("failover")
def calls_leave_the_own_region_when_nothing_is_left_of_it(stage):
    backends = calls.start_backends(stage, 3)
    *own, other = backends
    hosts = ("orders.eu-a", "orders.eu-b", "orders.us")
    targets = {f"dns:///{host}.example.com:50051": calls.target([one]) for host, one in zip(hosts, backends, strict=True)}
    running = run(stage, "failover", targets)
    everywhere(running, ["orders"], 3)
    client = calls.connect(stage, running.address)
    assert set(met(client, 60)) == names(own)
    for one in own:
        one.kill()
    eventually(lambda: running.metrics().sum("evenkeel_endpoints", state="READY") == 1, "both of the own region are gone")
    assert met(client, 20) == {other.name: 20}


@example("mirroring")
def a_part_of_the_calls_is_copied_and_no_client_meets_the_copy(stage):
    orders, copies = calls.start_backends(stage, 2)
    running = run(stage, "mirroring", {"orders": f"ipv4:{orders.address}", "orders-next": f"ipv4:{copies.address}"})
    everywhere(running, ["orders", "orders-next"], 1)
    client = calls.connect(stage, running.address)
    assert met(client, 600) == {orders.name: 600}
    sent = running.metrics().sum("evenkeel_mirrored_calls_total", outcome="sent")
    assert 10 <= sent <= 60, f"{sent} of 600 were copied"


@example("prequal")
def prequal_serves_endpoints_that_report_nothing_too(stage):
    backends = three.get(stage)
    running = run(stage, "prequal", {"orders": calls.target(backends)})
    running.wait_until_ready(3, "orders")
    client = calls.connect(stage, running.address)
    # Calls one after the other may all go to the quickest; of those that are under way at once each endpoint has its part.
    held = [client.begin({"hold": "prequal"}) for _ in range(60)]
    in_flight = lambda: sum(one["in_flight"] for one in running.endpoints("orders").values())  # noqa: E731
    eventually(lambda: in_flight() == len(held), "all are under way")
    for backend in backends:
        backend.release("prequal")
    assert {json.loads(call.result())["backend"] for call in held} == names(backends)
    assert running.metrics().sum("evenkeel_probes_total", outcome="unanswered") > 0
    ended = lambda: running.metrics().sum("evenkeel_load_streams_ended_total", reason="unimplemented")  # noqa: E731
    eventually(lambda: ended() == 3, "each was asked for a stream")


@example("resilient")
def a_backend_that_fails_costs_reads_hardly_a_call(stage):
    backends = calls.start_backends(stage, 3)
    running = run(stage, "resilient", {"orders": calls.target(backends)})
    running.wait_until_ready(3, "orders")
    client = calls.connect(stage, running.address)
    service = "/ecommerce.orders.OrderService/"
    backends[0].become("UNAVAILABLE")
    ended = [client.begin(service=service, method="GetOrder").code() for _ in range(300)]
    failed = len(ended) - ended.count(grpc.StatusCode.OK)
    # Five in a row eject it, and of those the budget has three tried again at least.
    assert failed <= 2, f"{failed} of 300 failed"
    assert running.metrics().sum("evenkeel_endpoints_withheld", reason="ejected") == 1


@example("load-reports")
def reports_of_load_come_on_streams_apart_from_calls(stage):
    load = {"named_metrics": {"disk_queue": 0.2, "work_queue": 0.8}, "rps_fractional": 100.0}
    backends = [stage.add_program(calls.Backend(f"b{number}", load=load)) for number in (1, 2)]
    target = calls.target(backends)
    running = run(stage, "load-reports", {"orders": target, "search": target})
    everywhere(running, ["orders", "search"], 2)
    streams = lambda: [one["load"]["stream"] for one in running.endpoints("orders").values()]  # noqa: E731
    eventually(lambda: {stream["state"] for stream in streams()} == {"open"}, "both streams are open")
    eventually(lambda: all(stream.get("last") for stream in streams()), "both have reported")
    # The longer of the two queues.
    assert {stream["last"]["utilization"] for stream in streams()} == {0.8}, streams()
    assert all("stream" not in one["load"] for one in running.endpoints("search").values())
    client = calls.connect(stage, running.address)
    assert set(met(client, 20)) == names(backends)


@example("routes")
def routes_lead_where_they_say(stage):
    backends = calls.start_backends(stage, 4)
    order, read, acme, catalog = backends
    targets = {"orders": order, "orders-read": read, "acme": acme, "catalog": catalog}
    running = run(stage, "routes", {name: f"ipv4:{backend.address}" for name, backend in targets.items()})
    client = calls.connect(stage, running.address)
    tenant = calls.connect(stage, running.address, [("grpc.default_authority", "acme.shop.example")])
    orders = "/ecommerce.orders.OrderService/"
    for caller, service, method, backend in (
        (client, orders, "CreateOrder", order),
        (client, orders, "GetOrder", read),
        (client, orders, "Unary", order),
        (tenant, "/acme.Any/", "Unary", acme),
        (client, "/ecommerce.catalog.Catalog/", "Unary", catalog),
        (client, "/ecommerce.search.Search/", "Unary", catalog),
    ):
        assert caller.call(service=service, method=method)["backend"] == backend.name, (service, method)
    assert client.begin(service="/elsewhere.X/").code() == grpc.StatusCode.UNIMPLEMENTED
    # An inverted condition holds for calls without the field, too.
    purposes = {None: read, "report": read, "not interactive": read, "interactive": order, "interactive; ui": order}
    for purpose, backend in purposes.items():
        metadata = [("x-purpose", purpose)] if purpose else []
        assert client.call(service=orders, method="Export", metadata=metadata)["backend"] == backend.name, purpose


@example("shop", "sidecar")
def the_shop_and_the_sidecar_serve(stage):
    backends = three.get(stage)
    running = run(stage, "shop", {"orders": f"ipv4:{backends[0].address}", "catalog": calls.target(backends[1:])})
    running.wait_until_ready(2, "catalog")
    client = calls.connect(stage, running.address)
    assert client.call(service="/ecommerce.orders.OrderService/", method="CreateOrder")["backend"] == backends[0].name
    assert set(met(client, 10, service="/ecommerce.catalog.Catalog/")) == names(backends[1:])
    running = run(stage, "sidecar", {"orders": f"ipv4:{backends[0].address}"})
    assert calls.connect(stage, running.address).call()["backend"] == backends[0].name


@test
def every_example_has_a_test(_stage):
    there = {path.stem for path in FOLDER.glob("*.yaml")}
    assert _shown == there, f"no test: {sorted(there - _shown)}, no example: {sorted(_shown - there)}"
