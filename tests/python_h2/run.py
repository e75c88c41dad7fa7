"""The Python package `h2` against the engine in both roles: random conversations.

As a client it talks to the bare engine, the example `answer_root`; as a server to the proxy (served.py).

What h2 sends is legal, however odd: padding, priorities, windows of a few bytes, requests in crumbs, resets, PINGs. So every
request that was not reset must be answered, whole, and the connection must live until the client says goodbye. Conversations are
made from seeds; a failure names its seed.
"""

import itertools
import os
import pathlib
import random
import socket
import subprocess
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import served  # noqa: E402
from harness import calls, proxy, suite  # noqa: E402
from harness.poll import Deadline  # noqa: E402

CONVERSATIONS = 150
STEPS = 60
BODY = b"an even keel\n"

# An answer comes within milliseconds; five seconds without a byte are a failure and no slow machine.
SILENCE_SECONDS = 5

# Sizes of the messages that go through the proxy, and how many at once.
MESSAGE_BYTES = [0, 10, 1000, 20_000]
BATCH = 20

# How long the server may run.
RUN_SECONDS = 600


class Conversation:
    """One connection."""

    def __init__(self, address, rng):
        self.rng = rng
        self.socket = socket.create_connection(address, timeout=SILENCE_SECONDS)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        # Streams whose request is not whole yet.
        self.open = []
        # Answers by stream, for requests that were not reset.
        self.answers = {}
        self.reset = set()
        self.whole = set()
        self.pings = 0
        # h2 counts acknowledgements by setting: one of its first SETTINGS would pass for that of a later change, and what the
        # server sent before it saw the change for too much.
        self.acknowledged = False
        self.flush()
        while not self.acknowledged:
            self.receive()

    def flush(self):
        data = self.h2.data_to_send()
        # Crumbs of any size, so that frames arrive in pieces.
        while data:
            size = self.rng.choice([1, 5, 17, 100, 5000, len(data)])
            self.socket.sendall(data[:size])
            data = data[size:]

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise AssertionError("the server closed the connection")
        for event in self.h2.receive_data(data):
            self.on_event(event)
        self.flush()

    def on_event(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            status = dict(event.headers)[":status"]
            if status != "200":
                raise AssertionError(f"stream {event.stream_id}: status {status}")
            self.answers[event.stream_id] = b""
        elif isinstance(event, h2.events.DataReceived):
            self.answers[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.whole.add(event.stream_id)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings -= 1
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acknowledged = True
        elif isinstance(event, h2.events.StreamReset):
            raise AssertionError(f"stream {event.stream_id} was reset with code {event.error_code}")
        elif isinstance(event, h2.events.ConnectionTerminated):
            raise AssertionError(f"GOAWAY with code {event.error_code}: {event.additional_data}")

    def begin(self):
        if self.h2.open_outbound_streams >= 90:
            return
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
        headers += [(f"x-{self.rng.randrange(50)}", "v" * self.rng.randrange(200)) for _ in range(self.rng.randrange(8))]
        end = self.rng.random() < 0.3
        priority = {}
        if self.rng.random() < 0.1:
            priority = {"priority_weight": 7, "priority_depends_on": 0, "priority_exclusive": True}
        self.h2.send_headers(stream, headers, end_stream=end, **priority)
        if not end:
            self.open.append(stream)

    def send_some(self):
        if not self.open:
            return
        stream = self.rng.choice(self.open)
        window = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
        size = self.rng.choice([1, 20, 1000, 16384])
        padding = self.rng.choice([None, None, 0, 1, 255])
        overhead = 0 if padding is None else padding + 1
        if size + overhead > window:
            return
        self.h2.send_data(stream, self.rng.randbytes(size), pad_length=padding)

    def end_one(self):
        if not self.open:
            return
        stream = self.open.pop(self.rng.randrange(len(self.open)))
        if self.rng.random() < 0.2:
            self.h2.send_headers(stream, [("checksum", "1")], end_stream=True)
        else:
            self.h2.end_stream(stream)

    def reset_one(self):
        if self.open:
            stream = self.open.pop(self.rng.randrange(len(self.open)))
            self.reset.add(stream)
            self.h2.reset_stream(stream, error_code=8)

    def ping(self):
        # Only when something was asked since: more often would be too many.
        if self.pings == 0 and self.rng.random() < 0.2:
            self.pings += 1
            self.h2.ping(self.rng.randbytes(8))

    def change_settings(self):
        if self.rng.random() < 0.1:
            size = self.rng.choice([1, 5, 13, 100, 65535])
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})

    def run(self):
        steps = [self.begin, self.begin, self.send_some, self.send_some, self.send_some, self.end_one, self.end_one,
                 self.reset_one, self.ping, self.change_settings]
        for _ in range(STEPS):
            self.rng.choice(steps)()
            self.flush()
            if self.rng.random() < 0.5:
                self.receive_what_is_there()
        while self.open:
            self.end_one()
        self.flush()
        asked = set(range(1, self.h2.highest_outbound_stream_id + 1, 2)) - self.reset
        while not asked <= self.whole or self.pings > 0:
            self.receive()
        for stream in asked:
            if self.answers[stream] != BODY:
                raise AssertionError(f"stream {stream}: the answer is {self.answers[stream]}")
        self.h2.close_connection()
        self.flush()
        self.socket.close()
        return len(asked)

    def receive_what_is_there(self):
        self.socket.settimeout(0.001)
        try:
            self.receive()
        except TimeoutError:
            pass
        finally:
            self.socket.settimeout(SILENCE_SECONDS)


def as_client():
    """Conversations with the engine as the server; gives back how many passed and failed."""
    server = pathlib.Path(os.environ["EVENKEEL_BIN"]).parent / "examples" / "answer_root"
    passed = failed = requests = 0
    with subprocess.Popen([server, str(RUN_SECONDS)], stdout=subprocess.PIPE, text=True) as process:
        try:
            _, address = process.stdout.readline().split()
            host, port = address.rsplit(":", 1)
            for seed in range(CONVERSATIONS):
                try:
                    requests += Conversation((host, int(port)), random.Random(seed)).run()
                    passed += 1
                except (AssertionError, OSError, h2.exceptions.ProtocolError) as error:
                    failed += 1
                    print(f"failed: seed {seed}: {error!r}", flush=True)
        finally:
            process.kill()
    print(f"h2 as a client: {requests} requests were answered in {CONVERSATIONS} conversations")
    return passed, failed


def as_server():
    """Conversations with the engine as the client; gives back how many passed and failed."""
    server = served.Server()
    stage = suite.Stage()
    rng = random.Random(0)
    deadline = Deadline(RUN_SECONDS)
    lost = []
    number = itertools.count()
    try:
        running = proxy.start(stage, server.target, policy="round_robin")
        client = calls.connect(stage, running.address)
        while server.ended < served.CONVERSATIONS and not lost and not deadline.passed():
            messages = [rng.randbytes(rng.choice(MESSAGE_BYTES)) for _ in range(BATCH)]
            names = [str(next(number)) for _ in messages]
            pending = [
                client.begin(message, method="Echo", metadata=[("x-call", name)])
                for name, message in zip(names, messages)
            ]
            for name, message, call in zip(names, messages, pending):
                failed = call.exception() is not None
                # Refused, repeated, and then behind a GOAWAY.
                if failed and call.details() == "upstream refused stream" and server.refusals.count(name) > 1:
                    continue
                if failed or call.result() != message:
                    lost.append(f"a message of {len(message)} bytes: {call.code()} {call.details()}")
        # Before the proxy is stopped: that cuts the conversations which still run.
        ended, answered, failures = server.results()
    finally:
        stage.close()
        server.close()
    for trouble in [*failures, *lost]:
        print(f"failed: h2 as a server: {trouble}", flush=True)
    print(f"h2 as a server: {answered} calls were answered in {ended} conversations")
    if ended < served.CONVERSATIONS:
        return 0, max(1, len(failures) + len(lost))
    return ended - len(failures), len(failures) + len(lost)


def main():
    passed, failed = map(sum, zip(as_client(), as_server()))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
