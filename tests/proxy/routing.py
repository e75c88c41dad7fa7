"""Routes by service, method and authority, in order."""

import json

import grpc
import shared
from harness import calls, proxy, wire
from harness.suite import Shared, figure, test


def _start(stage):
    backends = shared.three.get(stage)
    clusters = {backend.name: f"ipv4:{backend.address}" for backend in backends}
    routes = [
        {"match": {"authority": "tenant.test"}, "cluster": "b3"},
        {"match": {"service": "shop.Orders", "method": "Unary"}, "cluster": "b1"},
        {"match": {"service_prefix": "shop."}, "cluster": "b2"},
    ]
    running, _ = proxy.start_with_file(stage, proxy.config(clusters, routes=routes))
    return running


routed = Shared(_start)


def answered_by(stage, service, method="Unary", authority=None):
    options = [("grpc.default_authority", authority)] if authority else []
    with calls.Client(routed.get(stage).address, options) as client:
        return client.call(service=f"/{service}/", method=method)["backend"]


@test
def a_route_matches_a_service_and_method_exactly(stage):
    assert answered_by(stage, "shop.Orders") == "b1"
    # A longer or shorter name is another name.
    assert answered_by(stage, "shop.OrdersArchive") == "b2"
    assert answered_by(stage, "shop.Order") == "b2"


@test
def a_route_matches_the_beginning_of_a_service(stage):
    assert answered_by(stage, "shop.Catalog") == "b2"


@test
def a_route_matches_the_authority_with_and_without_a_port_whatever_its_case(stage):
    for authority in ("tenant.test", "tenant.test:50051", "Tenant.TEST"):
        assert answered_by(stage, "shop.Orders", authority=authority) == "b3", authority
    assert answered_by(stage, "shop.Orders", authority="other.tenant.test") == "b1"


@test
def a_call_that_no_route_takes_is_unimplemented(stage):
    with calls.Client(routed.get(stage).address) as client:
        code, details = client.fails(service="/bank.Accounts/")
    assert code == grpc.StatusCode.UNIMPLEMENTED, code
    assert "no route" in details, details


@test
def names_are_case_sensitive(stage):
    with calls.Client(routed.get(stage).address) as client:
        code, _ = client.fails(service="/Shop.Orders/")
    assert code == grpc.StatusCode.UNIMPLEMENTED, code


def _start_with_metadata(stage):
    clusters = {backend.name: f"ipv4:{backend.address}" for backend in shared.three.get(stage)}
    routes = [
        {"match": {"metadata": [{"name": "x-tester", "present": True}]}, "cluster": "b3"},
        {"match": {"metadata": [{"name": "x-tag", "regex": "a,b|c"}]}, "cluster": "b2"},
        {"match": {"path_regex": "/shop\\.(Orders|Catalog)/.*"}, "cluster": "b1"},
        {
            "split": [{"cluster": "b1", "weight": 90}, {"cluster": "b2", "weight": 10}],
            "sticky_by": "x-user",
        },
    ]
    running, _ = proxy.start_with_file(stage, proxy.config(clusters, routes=routes))
    return running


by_metadata = Shared(_start_with_metadata)


@test
def a_route_matches_metadata_and_regular_expressions(stage):
    with calls.Client(by_metadata.get(stage).address) as client:

        def backend(service, *metadata):
            return client.call(service=service, metadata=metadata)["backend"]

        assert backend("/shop.Orders/", ("x-tester", "")) == "b3"
        assert backend("/shop.Orders/", ("x-tag", "a"), ("x-tag", "b")) == "b2"
        assert backend("/shop.Orders/", ("x-tag", "c")) == "b2"
        assert backend("/shop.Orders/", ("x-tag", "ac")) == "b1"
        assert backend("/shop.Catalog/") == "b1"


@test
def a_split_keeps_its_weights_and_a_key_its_cluster(stage):
    with calls.Client(by_metadata.get(stage).address) as client:

        def meet(count, metadata):
            begun = [client.begin(service="/other.Service/", metadata=metadata(number)) for number in range(count)]
            return [json.loads(call.result())["backend"] for call in begun]

        def is_a_tenth(count, cases, what):
            # Five standard deviations: chance is further off once in two million runs.
            most_off = 5 * (count * 0.1 * 0.9) ** 0.5
            least, most = round(count / 10 - most_off), round(count / 10 + most_off)
            figure(f"{what} at the second cluster of a split 90/10", f"{least} to {most}", f"{cases} of {count}")
            assert least <= cases <= most, cases

        is_a_tenth(10_000, meet(10_000, lambda _: ()).count("b2"), "calls")
        first, again = (meet(2000, lambda number: (("x-user", f"user-{number}"),)) for _ in range(2))
        is_a_tenth(2000, first.count("b2"), "sticky keys")
        moved = sum(one != other for one, other in zip(first, again, strict=True))
        figure("sticky keys that meet the other cluster the second time", 0, f"{moved} of 2000")
        assert moved == 0


@test
def two_listeners_have_routes_of_their_own(stage):
    backends = shared.three.get(stage)[:2]
    config = proxy.config({backend.name: f"ipv4:{backend.address}" for backend in backends})
    config["listeners"].append({"address": "127.0.0.1:0", "routes": [{"cluster": "b2"}]})
    running, _ = proxy.start_with_file(stage, config)
    for address, expected in zip(running.addresses, ("b1", "b2")):
        assert calls.connect(stage, address).call()["backend"] == expected


@test
def header_fields_arrive_as_they_were_sent(stage):
    """Order, repetition, empty values and -bin values; the proxy adds and takes away nothing of the caller's."""
    server = stage.enter(wire.RawServer())
    running = proxy.start(stage, f"ipv4:{server.address}")
    backend = stage.enter(server.accept())
    client = stage.enter(wire.RawClient(running.address))
    sent = [
        ("x-repeated", "1"),
        ("x-empty", ""),
        ("x-repeated", "2"),
        ("x-some-bin", "q6ur"),
        ("x-long", "v" * 4000),
        ("user-agent", "probe/1"),
    ]
    client.request(wire.request_headers(extra=sent))
    event = backend.expect(wire.h2.events.RequestReceived)
    assert [tuple(field) for field in event.headers] == wire.request_headers(extra=sent)
