"""The body of GET /clusters that docs/operations.md shows is one of the configuration before it, key by key."""

import json
import pathlib

from harness import calls, proxy
from harness.poll import eventually
from harness.suite import test
from markdown import Page

PAGE = Page(pathlib.Path(__file__).parent.parent.parent / "docs" / "operations.md")

# What these hold has keys of its own making.
MAPPINGS = ("outcomes", "denied", "settings")


def shown():
    """The configuration and the body of the page."""
    bodies = [place for place, block in enumerate(PAGE.blocks) if '"clusters": [' in block.text]
    [place] = bodies
    return PAGE.blocks[place - 1].text, json.loads(PAGE.blocks[place].text)


def keys(value, path=""):
    """The paths of all keys, those of a list's elements taken together."""
    if isinstance(value, list):
        return {key for one in value for key in keys(one, path + "[]")}
    if not isinstance(value, dict):
        return set()
    paths = set()
    for key, below in value.items():
        here = f"{path}.{key}" if path else key
        paths |= {here} if key in MAPPINGS else {here} | keys(below, here)
    return paths


def by_cluster(body):
    return {cluster["name"]: keys(cluster) for cluster in body["clusters"]}


@test
def the_body_of_clusters_has_the_keys_that_operations_md_shows(stage):
    configuration, expected = shown()
    hosts = [f"127.0.0.{number}" for number in range(2, 6)]
    backends = [stage.add_program(calls.Backend(host, f"{host}:0", health=True)) for host in hosts]
    for host, backend in zip(hosts, backends, strict=True):
        configuration = configuration.replace(f"{host}:50051", backend.address)
    configuration = configuration.replace("127.0.0.1:50050", "127.0.0.1:0")
    configuration += f"admin: {{ address: 127.0.0.1:0 }}\nworkers: 1\ndrain: {json.dumps(proxy.QUICK_DRAIN)}\n"
    running, file = proxy.start_with_file(stage, configuration)
    running.wait_until_ready(4, "orders")
    endpoints = lambda: running.endpoints("orders")  # noqa: E731
    statuses = lambda: {one["health"]["status"] for one in endpoints().values()}  # noqa: E731
    eventually(lambda: statuses() == {"healthy"}, "all are checked")
    client = calls.connect(stage, running.address)
    held = []

    def has_a_call():
        held.append(client.begin({"hold": "removed"}))
        return endpoints()[backends[2].address]["in_flight"] > 0

    eventually(has_a_call, "the third has a call under way")
    file.write(configuration.replace(f",{backends[2].address}", ""))
    eventually(lambda: running.clusters()["orders"]["removed"], "it is dropped, and has calls left")

    def is_ejected():
        # Which of the two the calls meet is prequal's matter: the one that answers fails the next call, if it gets that one as well.
        answered = client.call()["backend"]
        [answering] = [backend for backend in backends if backend.name == answered]
        answering.become("UNAVAILABLE")
        client.begin().exception()
        answering.become()
        return any(one.get("outlier", {}).get("state") == "ejected" for one in endpoints().values())

    eventually(is_ejected, "one is ejected")

    def is_as_shown():
        answered = by_cluster({"clusters": list(running.clusters().values())})
        for name, of_cluster in by_cluster(expected).items():
            more, less = answered[name] - of_cluster, of_cluster - answered[name]
            assert not more and not less, f"{name}: the page lacks {sorted(more)}, and shows besides {sorted(less)}"
        return True

    eventually(is_as_shown, "the page shows the keys that there are")
    for backend in backends:
        backend.release("removed")
    eventually(lambda: not running.clusters()["orders"]["removed"], "it is gone with its last call")
