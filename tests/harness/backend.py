"""A grpcio server whose calls do what their requests ask for; a program of its own, so that it can be killed.

It answers any service; the method's name says the kind of call, and a request is a JSON object:

- `Unary`: answers with a JSON object that tells what arrived. `hold: KEY` waits first until a `Release` with that key
  comes; `code: NAME` and `message: TEXT` end with that status.
- `Become`: from now on each `Unary` call ends with the status `code`, or answers again if there is none.
- `Release`: lets the calls held under `hold` go, those that come later too.
- `Download`: `messages` messages of `bytes` bytes.
- `Upload`: any messages; answers with how many they were and how many bytes.
- `Echo`, `Chat`: the same bytes back, unary and bidirectional.
- `Report`: with `--health`, from now on the health service says `status` of `service`.

Of each call that is held, standard output tells `began KEY`, and `cancelled KEY` if it was cancelled.
"""

import argparse
import concurrent.futures
import json
import os
import sys
import threading

import grpc
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

    def __init__(self, name, servicer=None):
        self._name = name
        self._health = servicer
        self._gates = {}
        self._code = None
        self._lock = threading.Lock()

    def service(self, details):
        method = details.method.rpartition("/")[2]
        kinds = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self._unary),
            "Become": (grpc.unary_unary_rpc_method_handler, self._become),
            "Release": (grpc.unary_unary_rpc_method_handler, self._release),
            "Report": (grpc.unary_unary_rpc_method_handler, self._report),
            "Echo": (grpc.unary_unary_rpc_method_handler, lambda request, _context: request),
            "Download": (grpc.unary_stream_rpc_method_handler, self._download),
            "Upload": (grpc.stream_unary_rpc_method_handler, self._upload),
            "Chat": (grpc.stream_stream_rpc_method_handler, lambda requests, _context: requests),
        }
        if method not in kinds:
            return None
        make, serve = kinds[method]
        return make(serve)

    def _gate(self, key):
        with self._lock:
            return self._gates.setdefault(key, threading.Event())

    def _unary(self, request, context):
        remaining = context.time_remaining()
        ask = _ask(request)
        if "hold" in ask:
            self._hold(ask["hold"], context)
        if self._code:
            context.abort(grpc.StatusCode[self._code], f"{self._name} fails")
        if "code" in ask:
            context.abort(grpc.StatusCode[ask["code"]], ask.get("message", ""))
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
        self._code = _ask(request).get("code")
        return b"{}"

    def _release(self, request, _context):
        self._gate(_ask(request)["hold"]).set()
        return b"{}"

    def _report(self, request, _context):
        ask = _ask(request)
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(ask["status"])
        self._health.set(ask.get("service", ""), status)
        return b"{}"

    def _download(self, request, _context):
        ask = _ask(request)
        message = b"x" * ask["bytes"]
        for _ in range(ask["messages"]):
            yield message

    def _upload(self, requests, _context):
        sizes = [len(request) for request in requests]
        return _bytes({"backend": self._name, "messages": len(sizes), "bytes": sum(sizes)})


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
    parser.add_argument("--health", action="store_true", help="have the standard health service, which says SERVING")
    arguments = parser.parse_args()
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    servicer = None
    if arguments.health:
        # Streams of watchers must not keep threads.
        watchers = concurrent.futures.ThreadPoolExecutor(THREADS)
        servicer = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=watchers)
    server = grpc.server(pool, options=SERVER_OPTIONS)
    if servicer:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_generic_rpc_handlers((Behaviour(arguments.name, servicer),))
    port = server.add_insecure_port(arguments.listen)
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
