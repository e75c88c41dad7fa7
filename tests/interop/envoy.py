"""Envoy as a neighbour: in front of the proxy, or between it and the server."""

import json
import os
import tempfile
import urllib.request

from harness.poll import eventually
from harness.process import Program
from harness.suite import peer

HTTP2 = {"explicit_http_config": {"http2_protocol_options": {}}}
HTTP2_TYPE = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
MANAGER_TYPE = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
ROUTER_TYPE = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def _socket(address):
    host, port = address.rsplit(":", 1)
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _config(to):
    manager = {
        "@type": MANAGER_TYPE,
        "stat_prefix": "in",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "to", "timeout": "0s"}}],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER_TYPE}}],
    }
    return {
        "admin": {"address": _socket("127.0.0.1:0")},
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": _socket("127.0.0.1:0"),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "to",
                    "connect_timeout": "5s",
                    "load_assignment": {
                        "cluster_name": "to",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _socket(to)}}]}],
                    },
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": HTTP2_TYPE, **HTTP2}
                    },
                }
            ],
        },
    }


def start(stage, to):
    """Starts an Envoy that sends all calls to this address; gives back where it listens."""
    program = peer("envoy")
    folder = stage.enter(tempfile.TemporaryDirectory())
    config = os.path.join(folder, "envoy.json")
    admin = os.path.join(folder, "admin")
    with open(config, "w", encoding="ascii") as file:
        json.dump(_config(to), file)
    command = [program, "-c", config, "--admin-address-path", admin]
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    envoy = stage.add_program(Program([*command, *options], title="envoy"))

    def listening():
        assert envoy.is_running(), "envoy has ended"
        with open(admin, encoding="ascii") as file:
            url = f"http://{file.read().strip()}/listeners?format=json"
        with urllib.request.urlopen(url, timeout=5) as response:
            listeners = json.load(response).get("listener_statuses")
        if not listeners:
            return None
        address = listeners[0]["local_address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"

    return eventually(listening, "envoy listens", 20)
