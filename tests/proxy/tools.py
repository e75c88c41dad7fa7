"""HTTP/2 programs that know nothing of gRPC."""

import os
import re
import tempfile

import shared
from harness import calls, proxy, wire
from harness.poll import eventually
from harness.process import Program, run
from harness.suite import binary, peer, test


def body(stage):
    """A file with one gRPC message."""
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "message")
    with open(path, "wb") as file:
        file.write(wire.message(b"{}"))
    return path


@test
def nghttp_makes_a_call(stage):
    nghttp = peer("nghttp")
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    url = f"http://{running.address}{calls.SERVICE}Unary"
    fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    done = run([nghttp, "-v", *fields, "-d", body(stage), url])
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    assert ":status: 200" in output and "grpc-status: 0" in output, output


@test
def nghttp_without_grpc_is_told_what_this_port_speaks(stage):
    nghttp = peer("nghttp")
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    done = run([nghttp, "-v", f"http://{running.address}/"])
    output = done.stdout.decode(errors="replace")
    assert ":status: 415" in output and "This port speaks gRPC" in output, output


@test
def h2load_gets_every_call_answered(stage):
    h2load = peer("h2load")
    backends = []
    for number in range(2):
        command = [binary("evenkeel-lab"), "backend", "--listen", "127.0.0.1:0"]
        backends.append(stage.add_program(Program(command, title=f"lab backend {number}")))
    target = "ipv4:" + ",".join(backend.wait_for_line(r"^ready (\S+)").group(1) for backend in backends)
    running = proxy.start(stage, target, policy="round_robin", workers=2)
    # Each worker has both, or one that knew a single backend would send it everything.
    eventually(
        lambda: all(endpoint["connections"] == 2 for endpoint in running.endpoints().values()),
        "both workers are connected to both backends",
    )
    url = f"http://{running.address}/evenkeel.bench.Bench/Unary"
    load = ["-n", "20000", "-c", "10", "-m", "50", "-H", "content-type: application/grpc"]
    done = run([h2load, *load, "-d", body(stage), url], seconds=25)
    output = done.stdout.decode(errors="replace")
    assert re.search(r"20000 succeeded, 0 failed, 0 errored, 0 timeout", output), output
    assert "status codes: 20000 2xx" in output, output
    found = running.metrics()
    assert found.sum("grpc_server_handled_total", grpc_code="OK") == 20000
    for endpoint in running.endpoints().values():
        assert abs(endpoint["outcomes"]["OK"] - 10_000) <= 2, endpoint
