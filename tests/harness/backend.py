"""A grpcio server whose calls do what their requests ask for; a program of its own, so that it can be killed.

It answers any service but gRPC's own; the method's name says the kind of call, and a request is a JSON object:

- `Unary`, and any name that is not below: answers with a JSON object that tells what arrived. `hold: KEY` waits first
  until a `Release` with that key comes; `code: NAME` and `message: TEXT` end with that status; `trailers`, a mapping, is
  sent behind the answer.
- `Become`: from now on each `Unary` call waits for `delay_ms`, and ends with the status `code`, or answers if there is none.
- `Release`: lets the calls held under `hold` go, those that come later too.
- `Download`: `messages` messages of `bytes` bytes.
- `Upload`: any messages; answers with how many they were and how many bytes.
- `Echo`, `Chat`: the same bytes back, unary and bidirectional.
- `Report`: with `--health`, from now on the health service says `status` of `service`.
- `Load`: from now on this is its load: `application_utilization`, `cpu_utilization`, `mem_utilization`, `rps_fractional`,
  `eps` and `named_metrics`, a mapping. With `calls: true` each `Unary` call reports it in its trailers; on streams of
  OpenRcaService/StreamCoreMetrics, which is not there before the first `Load`, it is reported as often as they ask for.


Of each call that is held, standard output tells `began KEY`, and `cancelled KEY` if it was cancelled.
"""

import argparse
import concurrent.futures
import json
import os
import struct
import sys
import threading
import time

import grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

# Calls that are served at once; each needs a thread.
THREADS = 64

SERVER_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Otherwise a second server on the same port takes half of the connections unnoticed.
    ("grpc.so_reuseport", 0),
]


class Behaviour(grpc.GenericRpcHandler):
    """The handlers of all methods."""

    def __init__(self, name, servicer=None, load=None):
        self._name = name
        self._health = servicer
        self._gates = {}
        self._code = None
        self._delay_seconds = 0.0
        self._lock = threading.Lock()
        self._load_changed = threading.Condition()
        self._load = None
        self._loads_calls = False
        if load:
            self._set_load(load)

    def service(self, details):
        method = details.method.rpartition("/")[2]
        kinds = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self._unary),
            "Become": (grpc.unary_unary_rpc_method_handler, self._become),
            "Release": (grpc.unary_unary_rpc_method_handler, self._release),
            "Report": (grpc.unary_unary_rpc_method_handler, self._report),
            "Load": (grpc.unary_unary_rpc_method_handler, self._take_load),
            "Echo": (grpc.unary_unary_rpc_method_handler, lambda request, _context: request),
            "Download": (grpc.unary_stream_rpc_method_handler, self._download),
            "Upload": (grpc.stream_unary_rpc_method_handler, self._upload),
            "Chat": (grpc.stream_stream_rpc_method_handler, lambda requests, _context: requests),
        }
        if details.method == "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics" and self._load is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream_load)
        if details.method.startswith(("/grpc.", "/xds.")):
            # A service of gRPC's own, which this server does not have.
            return None
        make, serve = kinds.get(method, kinds["Unary"])
        return make(serve)

    def _gate(self, key):
        with self._lock:
            return self._gates.setdefault(key, threading.Event())

    def _unary(self, request, context):
        remaining = context.time_remaining()
        ask = _ask(request)
        if "hold" in ask:
            self._hold(ask["hold"], context)
        if self._delay_seconds:
            time.sleep(self._delay_seconds)
        if self._code:
            context.abort(grpc.StatusCode[self._code], f"{self._name} fails")
        if "code" in ask:
            context.abort(grpc.StatusCode[ask["code"]], ask.get("message", ""))
        trailers = list(ask.get("trailers", {}).items())
        if self._loads_calls:
            trailers.append(("endpoint-load-metrics-bin", self._load))
        context.set_trailing_metadata(trailers)
        metadata = {key: _text(value) for key, value in context.invocation_metadata()}
        return _bytes({"backend": self._name, "metadata": metadata, "remaining": remaining})

    def _hold(self, key, context):
        """Waits until the key is released, or the call has ended otherwise."""
        gate = self._gate(key)
        let_go = threading.Event()

        def end():
            if not let_go.is_set():
                _say("cancelled", key)
                gate.set()

        context.add_callback(end)
        _say("began", key)
        gate.wait()
        let_go.set()

    def _become(self, request, _context):
        ask = _ask(request)
        self._code, self._delay_seconds = ask.get("code"), ask.get("delay_ms", 0) / 1000
        return b"{}"

    def _release(self, request, _context):
        self._gate(_ask(request)["hold"]).set()
        return b"{}"

    def _report(self, request, _context):
        ask = _ask(request)
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(ask["status"])
        self._health.set(ask.get("service", ""), status)
        return b"{}"

    def _take_load(self, request, _context):
        self._set_load(_ask(request))
        return b"{}"

    def _set_load(self, load):
        with self._load_changed:
            self._loads_calls = load.get("calls", False)
            self._load = _load_report(load)
            self._load_changed.notify_all()

    def _stream_load(self, request, context):
        """Reports at once, then as often as asked for, and when the load changes."""
        interval = _report_interval(request)
        _say("reports every", str(interval))
        with self._load_changed:
            context.add_callback(self._wake_streams)
            while context.is_active():
                yield self._load
                self._load_changed.wait(interval)

    def _wake_streams(self):
        with self._load_changed:
            self._load_changed.notify_all()

    def _download(self, request, _context):
        ask = _ask(request)
        message = b"x" * ask["bytes"]
        for _ in range(ask["messages"]):
            yield message

    def _upload(self, requests, _context):
        sizes = [len(request) for request in requests]
        return _bytes({"backend": self._name, "messages": len(sizes), "bytes": sum(sizes)})


# Fields of xds.data.orca.v3.OrcaLoadReport that are doubles.
LOAD_FIELDS = {
    "cpu_utilization": 1,
    "mem_utilization": 2,
    "rps_fractional": 6,
    "eps": 7,
    "application_utilization": 9,
}

# Its map of metrics that applications name.
NAMED_METRICS = 8


def _double(field, value):
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _sized(field, payload):
    assert len(payload) < 128, "longer ones have more bytes of length"
    return bytes([field << 3 | 2, len(payload)]) + payload


def _load_report(load):
    """The message's bytes."""
    report = b"".join(_double(LOAD_FIELDS[name], value) for name, value in load.items() if name in LOAD_FIELDS)
    for name, value in load.get("named_metrics", {}).items():
        report += _sized(NAMED_METRICS, _sized(1, name.encode()) + _double(2, value))
    return report


def _report_interval(request):
    """Seconds of an OrcaLoadReportRequest, whose first field is a google.protobuf.Duration."""
    duration = duration_pb2.Duration()
    if request[:1] == b"\x0a":
        duration.ParseFromString(request[2 : 2 + request[1]])
    return duration.seconds + duration.nanos / 1e9


def _ask(request):
    return json.loads(request) if request else {}


def _bytes(value):
    return json.dumps(value).encode()


def _text(value):
    return value.hex() if isinstance(value, bytes) else value


def _say(*words):
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--name", default="backend")
    parser.add_argument("--hosts", default="", help="further addresses to listen on, at the same port, with commas")
    parser.add_argument("--streams", type=int, help="calls that one connection may have open")
    parser.add_argument("--health", action="store_true", help="have the standard health service, which says SERVING")
    parser.add_argument("--load", help="what a `Load` at the beginning would say")
    arguments = parser.parse_args()
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    servicer = None
    if arguments.health:
        # Streams of watchers must not keep threads.
        watchers = concurrent.futures.ThreadPoolExecutor(THREADS)
        servicer = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=watchers)
    streams = [("grpc.max_concurrent_streams", arguments.streams)] if arguments.streams else []
    server = grpc.server(pool, options=SERVER_OPTIONS + streams)
    if servicer:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((Behaviour(arguments.name, servicer, json.loads(arguments.load or "null")),))
    port = server.add_insecure_port(arguments.listen)
    for host in filter(None, arguments.hosts.split(",")):
        assert server.add_insecure_port(f"{host}:{port}") == port, f"port {port} of {host} is in use"
    server.start()
    is_path = arguments.listen.startswith("unix:")
    _say("listening on", arguments.listen if is_path else f"{arguments.listen.rpartition(':')[0]}:{port}")
    try:
        server.wait_for_termination()
    finally:
        # Held calls keep threads; there is nothing to save.
        os._exit(0)


if __name__ == "__main__":
    main()
