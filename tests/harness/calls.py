"""grpcio clients of the proxy, and `backend.py` behind it."""

import json
import os
import sys

import grpc

from .process import Program

# How long a call may take that no test lets wait.
CALL_SECONDS = 15

SERVICE = "/evenkeel.test.Probe/"

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A connection of its own for each channel, and none through what the environment names as a proxy.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # Clients that come back at once make the tests quick.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Backend(Program):
    """A running `backend.py`."""

    def __init__(self, name, listen="127.0.0.1:0", *, health=False, load=None, hosts=(), streams=None):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "backend.py")
        command = [sys.executable, "-u", script, "--listen", listen, "--name", name]
        command += ["--health"] if health else []
        command += ["--load", json.dumps(load)] if load else []
        command += ["--streams", str(streams)] if streams else []
        command += ["--hosts", ",".join(hosts)]
        super().__init__(command, title=f"backend {name}")
        self.name = name
        self._address = None

    @property
    def address(self):
        """Where it listens; waits until it does."""
        self._address = self._address or self.wait_for_line(r"^listening on (\S+)").group(1)
        return self._address

    def become(self, code=None, delay_ms=0):
        """Lets its calls end with this status from now on, or answers them again, after so long; without the proxy."""
        with Client(self.address) as client:
            client.call({"code": code, "delay_ms": delay_ms}, method="Become")

    def report(self, status, service=""):
        """Lets its health service say this of a service from now on, without the proxy."""
        with Client(self.address) as client:
            client.call({"status": status, "service": service}, method="Report")

    def load(self, **load):
        """Lets it report this load from now on, without the proxy; see `backend.py`."""
        with Client(self.address) as client:
            client.call(load, method="Load")

    def release(self, key):
        """Lets calls go that are held under this key, without the proxy."""
        with Client(self.address) as client:
            client.call({"hold": key}, method="Release")


def start_backends(stage, count, prefix="b", *, health=False):
    """Starts so many backends, called b1, b2 and so on, with the standard health service or without it."""
    names = [f"{prefix}{number + 1}" for number in range(count)]
    backends = [stage.add_program(Backend(name, health=health)) for name in names]
    for backend in backends:
        # They start side by side, and are ready when this is over.
        assert backend.address
    return backends


def target(backends):
    """The target of these backends."""
    return "ipv4:" + ",".join(backend.address for backend in backends)


class Client:
    """One channel, thus one connection."""

    def __init__(self, address, options=()):
        self.channel = grpc.insecure_channel(address, options=[*CHANNEL_OPTIONS, *options])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def begin(self, ask=None, *, method="Unary", service=SERVICE, seconds=CALL_SECONDS, **more):
        """Begins a unary call; gives back its future."""
        payload = ask if isinstance(ask, bytes) else json.dumps(ask or {}).encode()
        return self.channel.unary_unary(service + method).future(payload, timeout=seconds, **more)

    def call(self, ask=None, **more):
        """Makes a unary call; gives back the answer's JSON object."""
        return self.read(self.begin(ask, **more))

    @staticmethod
    def read(call):
        """The JSON object of a call's answer."""
        return json.loads(call.result())

    def fails(self, ask=None, **more):
        """Makes a unary call that must fail; gives back its code and details."""
        return failure(self.begin(ask, **more))


def failure(call):
    """The code and details of a call that must fail."""
    error = call.exception()
    assert error is not None, f"the call succeeded with {call.result()!r}"
    return error.code(), error.details()


def connect(stage, address, options=()):
    """A client that is closed when the test ends."""
    return stage.enter(Client(address, options))


def shares(client, calls):
    """Makes so many calls, one after the other; gives back how many each backend answered."""
    counts = {}
    for _ in range(calls):
        name = client.call()["backend"]
        counts[name] = counts.get(name, 0) + 1
    return counts
