"""Routes by service, method and authority, in order."""

import grpc
import shared
from harness import calls, proxy, wire
from harness.suite import Shared, test


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
