"""A grpcio client that makes unary calls until SIGTERM: caller.py ADDRESS IN_FLIGHT

Prints `calls N` each second, and in the end a JSON object: calls, failed, and how many failed in which way.
"""

import json
import pathlib
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import grpc  # noqa: E402
from harness.calls import CALL_SECONDS, Client  # noqa: E402

METHOD = "/grpc.testing.TestService/EmptyCall"


class Caller:
    """Calls one after the other in each of its threads, all on one connection."""

    def __init__(self, client):
        self._call = client.channel.unary_unary(METHOD)
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.calls = 0
        self.failures = {}

    def run(self):
        while not self.stopping.is_set():
            failure = None
            try:
                self._call(b"", timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                failure = f"{error.code().name}: {error.details()}"
            with self._lock:
                self.calls += 1
                if failure:
                    self.failures[failure] = self.failures.get(failure, 0) + 1


def main():
    address, in_flight = sys.argv[1], int(sys.argv[2])
    with Client(address) as client:
        caller = Caller(client)
        signal.signal(signal.SIGTERM, lambda *_: caller.stopping.set())
        threads = [threading.Thread(target=caller.run) for _ in range(in_flight)]
        for thread in threads:
            thread.start()
        while not caller.stopping.is_set():
            print(f"calls {caller.calls}", flush=True)
            # The wait ends early when it is told to stop.
            caller.stopping.wait(1)
        for thread in threads:
            thread.join()
    report = {"calls": caller.calls, "failed": sum(caller.failures.values()), "failures": caller.failures}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
