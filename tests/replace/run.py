"""Two proxies replace each other again and again under load, and no call fails.

Both listen on one port (--reuse-port). Each time, a new one starts, and the old one is told to go by SIGTERM.

Of tonic's calls, those that its transport gives back unwritten are made again (crates/lab/src/interop/caller.rs says why).
They are counted, and bounded: a connection that leaves gives back what is in flight once, no more.
"""

import json
import pathlib
import re
import signal
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from harness import proxy, suite  # noqa: E402
from harness.poll import Deadline  # noqa: E402
from harness.process import Program  # noqa: E402

# Calls that must be made, of all clients together.
CALLS = 100_000

# Replacements that must happen meanwhile.
REPLACEMENTS = 10

# How long all of it may take; a debug build on a busy machine takes about a minute.
LIMIT_SECONDS = 150

GRPCIO_CLIENTS = 3
TONIC_CLIENTS = 2
IN_FLIGHT = 10

DRAIN = {"pre_drain": "200ms", "spread": "500ms", "grace": "5s"}

# From SIGTERM to the end: the drain's own time, and as much again for a busy machine.
END_SECONDS = 12


def start_servers(stage, count):
    command = [suite.binary("evenkeel-lab"), "interop-server", "--listen", "127.0.0.1:0"]
    servers = [stage.add_program(Program(command, title=f"tonic server {number}")) for number in range(count)]
    return [server.wait_for_line(r"^ready (\S+)").group(1) for server in servers]


def start_clients(stage, address):
    grpcio = [sys.executable, "-u", HERE / "caller.py", address, IN_FLIGHT]
    tonic = [suite.binary("evenkeel-lab"), "caller", "--connect", address, "--in-flight", IN_FLIGHT]
    commands = [("grpcio", grpcio)] * GRPCIO_CLIENTS + [("tonic", tonic)] * TONIC_CLIENTS
    clients = [stage.add_program(Program(command, title=f"{kind} client")) for kind, command in commands]
    for client in clients:
        client.wait_for_line(r"^calls [1-9]")
    return clients


def calls_so_far(clients):
    total = 0
    for client in clients:
        counts = [line for line in client.output("stdout") if re.fullmatch(r"calls \d+", line)]
        total += int(counts[-1].split()[1]) if counts else 0
    return total


def replace(stage, old, file):
    """Starts a new proxy beside the old one, and sends the old one away."""
    new = stage.add_program(proxy.Proxy(["--config", file.path, "--reuse-port"]))
    new.wait_until_ready(2)
    old.signal(signal.SIGTERM)
    assert old.wait(END_SECONDS) == 0, old.state()
    ended = old.wait_for_line(r"drained.*aborted_calls=(\d+)")
    assert ended.group(1) == "0", ended.group(0)
    return new


@suite.test(limit=LIMIT_SECONDS + 30)
def no_call_fails_while_two_proxies_replace_each_other(stage):
    target = "ipv4:" + ",".join(start_servers(stage, 2))
    config = proxy.config({"default": target}, workers=2, drain=DRAIN)
    running, _ = proxy.start_with_file(stage, config, arguments=["--reuse-port"])
    # All further ones listen where the first one does, from a file of their own: the first one watches its own.
    config["listeners"][0]["address"] = running.address
    file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), config)
    clients = start_clients(stage, running.address)
    deadline = Deadline(LIMIT_SECONDS)
    replacements = 0
    while replacements < REPLACEMENTS or calls_so_far(clients) < CALLS:
        running = replace(stage, running, file)
        replacements += 1
        assert not deadline.passed(), f"{replacements} replacements, {calls_so_far(clients)} calls"
    reports = []
    for client in clients:
        client.signal(signal.SIGTERM)
    for client in clients:
        assert client.wait(END_SECONDS + 15) == 0, client.state()
        reports.append(json.loads(client.output("stdout")[-1]))
    made = sum(report["calls"] for report in reports)
    for client, report in zip(clients, reports):
        unsent = f", {report['unsent']} made again unsent" if "unsent" in report else ""
        print(f"{client.title}: {report['calls']} calls, {report['failed']} failed{unsent}")
    unsent = sum(report.get("unsent", 0) for report in reports)
    failed = sum(report["failed"] for report in reports)
    print(f"{replacements} replacements, {made} calls, {failed} failed, {unsent} made again unsent")
    assert unsent <= TONIC_CLIENTS * IN_FLIGHT * replacements, unsent
    failures = {client.title: report["failures"] for client, report in zip(clients, reports) if report["failed"]}
    assert not failures, f"failed calls: {json.dumps(failures, indent=1)}"
    assert made >= CALLS, made


if __name__ == "__main__":
    sys.exit(suite.main())
