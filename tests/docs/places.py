"""The example of docs/examples about localities: where calls go while all endpoints are there, and while some are not."""

import pathlib
import re
import tempfile

import examples
import grpc
from harness import calls
from harness.poll import eventually
from harness.suite import figure, test

# Where the endpoints would be; all of this machine.
LOCAL = {"10.0.1": "127.0.1", "10.0.2": "127.0.2", "10.0.3": "127.0.3", "10.9.1": "127.9.1"}

CLUSTERS = ("orders", "catalog", "search")

CATALOG, SEARCH = "/shop.v1.Catalog/", "/shop.v1.Search/"


def listed():
    """The example's list of endpoints, and their hosts in its order."""
    text = (examples.FOLDER / "endpoints" / "localities.yaml").read_text(encoding="utf-8")
    for there, here in LOCAL.items():
        text = text.replace(there, here)
    return text, re.findall(r'"([0-9.]+):50051"', text)


def start(stage, addresses):
    """The example before endpoints at these addresses by host, and a client."""
    text, hosts = listed()
    for host in hosts:
        text = text.replace(f"{host}:50051", addresses[host])
    file = pathlib.Path(stage.enter(tempfile.TemporaryDirectory()), "endpoints.yaml")
    file.write_text(text, encoding="ascii")
    running = examples.run(stage, "localities", dict.fromkeys(CLUSTERS, f"file:{file}"))
    examples.everywhere(running, CLUSTERS, len(hosts))
    return running, calls.connect(stage, running.address)


def calls_by_zone(running, cluster):
    counts = {}
    for one in running.endpoints(cluster).values():
        counts[one["locality"]] = counts.get(one["locality"], 0) + one["outcomes"].get("OK", 0)
    return counts


def shares(running, cluster):
    """What each group of a cluster gets, in percent, and which have any."""
    groups = running.clusters()[cluster]["groups"]
    return {group["locality"]: round(group["load_percent"], 1) for group in groups if group["load_percent"]}


@examples.example("localities")
def calls_stay_in_the_proxys_own_zone(stage):
    _, hosts = listed()
    backend = stage.add_program(calls.Backend("all", hosts=hosts))
    port = backend.address.rpartition(":")[2]
    running, client = start(stage, {host: f"{host}:{port}" for host in hosts})
    for service in (calls.SERVICE, CATALOG):
        assert examples.met(client, 100, service=service) == {"all": 100}
    assert calls_by_zone(running, "orders") == {"eu/eu-a": 100, "eu/eu-b": 0, "eu/eu-c": 0, "us/us-a": 0}
    counts = calls_by_zone(running, "catalog")
    # Zone eu-b has twice the weight of each of the others; within a few calls, as the sequence of shares is even.
    assert counts["us/us-a"] == 0 and abs(counts["eu/eu-b"] - 50) <= 3 and abs(counts["eu/eu-a"] - 25) <= 3, counts
    examples.met(client, 600, service=SEARCH)
    counts = calls_by_zone(running, "search")
    # Half of them by the rule, two thirds of which stay, and half to three zones alike.
    figure("calls of 600 that stay in a zone which has two thirds of half of them", "297 to 303", counts["eu/eu-a"])
    assert abs(counts["eu/eu-a"] - 300) <= 3 and abs(counts["eu/eu-b"] - 150) <= 3 and counts["us/us-a"] == 0, counts


@test
def calls_leave_a_zone_and_the_region_as_their_endpoints_go_and_fail_where_too_few_are_left(stage):
    _, hosts = listed()
    backends = {host: stage.add_program(calls.Backend(host, f"{host}:0")) for host in hosts}
    running, client = start(stage, {host: backend.address for host, backend in backends.items()})
    left = set(hosts)

    def without(*gone, **expected):
        """Kills these, and waits until the groups of the catalog get so much."""
        for host in gone:
            backends[host].kill()
        left.difference_update(gone)
        wanted = {f"{name[:2]}/{name.replace('_', '-')}": percent for name, percent in expected.items()}

        def shared():
            found = shares(running, "catalog")
            assert found == wanted, found
            return True

        eventually(shared, f"its calls are shared as {wanted}")
        met = examples.met(client, 100, service=CATALOG)
        assert set(met) == left, met
        return sum(count for host, count in met.items() if host.startswith(LOCAL["10.9.1"]))

    # A zone of which half is left bears 1.2 halves of its part, and the priority all: five of six are enough.
    left -= set(hosts[6:])
    assert without("127.0.1.7", eu_a=16.7, eu_b=55.6, eu_c=27.8) == 0
    # Of six four bear 80 percent, where the default of 1.4 would have them bear 93.3.
    left |= set(hosts[6:])
    away = without("127.0.2.7", eu_a=17.1, eu_b=34.3, eu_c=28.6, us_a=20.0)
    figure("calls of 100 that leave a region with four of six endpoints, at a factor of 1.2", "18 to 22", away)
    assert 18 <= away <= 22, away
    assert shares(running, "orders")["us/us-a"] == 6.7, shares(running, "orders")
    without("127.0.1.8", "127.0.2.8", "127.0.3.7", eu_c=20.0, us_a=80.0)
    # One of eight: fewer than 30 percent of each priority. The catalog's calls fail, and those of orders go to what is left.
    for host in hosts[6:]:
        backends[host].kill()
    panics = lambda: {name: running.metrics().sum("evenkeel_workers_in_panic", cluster=name, priority="0") for name in CLUSTERS}  # noqa: E731

    def in_panic():
        running.clusters()
        assert panics() == dict.fromkeys(CLUSTERS, 1), panics()
        return True

    eventually(in_panic, "each looks, and finds too few")
    code, details = client.fails(service=CATALOG)
    assert code == grpc.StatusCode.UNAVAILABLE, code
    assert details.startswith("no healthy upstream: only 1 of 6 endpoints of cluster catalog in priority 0 are available"), details
    assert "`fail_traffic_on_panic` is set" in details, details
    assert examples.met(client, 20) == {"127.0.3.8": 20}
