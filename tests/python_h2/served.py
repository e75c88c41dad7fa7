"""The Python package `h2` as a server of the engine: random conversations with the proxy, whose client side it is.

What h2 sends is legal, however odd: windows smaller than a frame, tables of any size, padding, interim responses, answers in
crumbs, refused streams, GOAWAY while calls are in flight. So every call that a grpcio client makes through the proxy must end
with what it sent, and h2 must find nothing wrong with what the proxy sends. A connection's conversation is made from a
seed; a failure names it.
"""

import random
import select
import socket
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

# Conversations that must have ended, over all endpoints.
CONVERSATIONS = 24

# Endpoints: a proxy leaves a second between two connections to one.
ENDPOINTS = 6

# A conversation's calls before the server goes away.
CALLS = (10, 60)

# Longest wait for input before the next step.
STEP_SECONDS = 0.002

# A conversation that takes longer hangs.
CONVERSATION_SECONDS = 60

SETTINGS = h2.settings.SettingCodes


class Served:
    """One connection: answers each request with its own bytes."""

    def __init__(self, sock, seed, refusals):
        self.refusals = refusals
        self.rng = random.Random(seed)
        self.socket = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        first = {
            SETTINGS.INITIAL_WINDOW_SIZE: self.rng.choice([1000, 16_384, 65_535, 1 << 20]),
            SETTINGS.HEADER_TABLE_SIZE: self.rng.choice([0, 64, 4096, 65_536]),
            SETTINGS.MAX_FRAME_SIZE: self.rng.choice([16_384, 30_000, 1 << 20]),
            SETTINGS.MAX_CONCURRENT_STREAMS: self.rng.choice([3, 100, 1000]),
        }
        own = h2.settings.Settings(client=False, initial_values={**self.h2.local_settings, **first})
        self.h2.local_settings = own
        self.h2.initiate_connection()
        self.calls_left = self.rng.randint(*CALLS)
        # More in a row would be a flood.
        self.changes_left = 3
        # Bytes that came for a stream and are not given credit for.
        self.unread = {}
        # Bodies that are still arriving, and answers that are still leaving.
        self.arriving = {}
        self.leaving = {}
        self.begun = set()
        self.acknowledged = False
        self.answered = 0
        self.last = 0
        self.leaves = False

    def run(self):
        """Talks until the server has gone away."""
        self.flush()
        while not self.is_done() and self.receive():
            for _ in range(self.rng.randint(0, 8)):
                self.rng.choice(self.steps())()
            try:
                self.flush()
            except ConnectionError:
                if not self.is_done():
                    raise
        # The other side closes: whoever closes with bytes unread answers them with a reset, which may overtake the answers. It
        # may have closed already, when it had all answers, before a PING behind them was read.
        try:
            self.socket.shutdown(socket.SHUT_WR)
            while data := self.socket.recv(65_536):
                for event in self.h2.receive_data(data):
                    self.on_event(event)
        except ConnectionError:
            pass
        self.socket.close()

    def is_done(self):
        """Whether it went away, and owes nobody anything."""
        return self.leaves and not self.arriving and not self.leaving

    def flush(self):
        data = self.h2.data_to_send()
        while data:
            size = self.rng.choice([1, 9, 100, 5000, len(data), len(data)])
            self.socket.sendall(data[:size])
            data = data[size:]

    def receive(self):
        """Takes what is there; whether the connection goes on."""
        if not select.select([self.socket], [], [], STEP_SECONDS)[0]:
            return True
        data = self.socket.recv(self.rng.choice([1, 50, 65_536, 65_536]))
        for event in self.h2.receive_data(data) if data else ():
            self.on_event(event)
        return bool(data)

    def on_event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.on_request(event.stream_id, dict(event.headers)["x-call"])
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id
            self.unread[stream] = self.unread.get(stream, 0) + event.flow_controlled_length
            if stream in self.arriving:
                self.arriving[stream] += event.data
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self.arriving:
            self.leaving[event.stream_id] = bytes(self.arriving.pop(event.stream_id))
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acknowledged = True
        elif isinstance(event, h2.events.StreamReset) and event.stream_id in self.begun:
            raise AssertionError(f"stream {event.stream_id} was reset with code {event.error_code}")

    def on_request(self, stream, call):
        if self.leaves:
            # Behind the last stream that GOAWAY names: the proxy asks somebody else.
            self.refusals.add(call)
            return
        self.last = stream
        if self.rng.random() < 0.05 and not self.refusals.count(call):
            self.refusals.add(call)
            self.h2.reset_stream(stream, error_code=7)
            return
        self.arriving[stream] = bytearray()
        self.calls_left -= 1

    def steps(self):
        """What may be done next; what moves calls forward more often."""
        steps = [self.give_credit, self.give_credit, self.answer, self.answer, self.answer, self.ping, self.change]
        return steps + [self.leave] * (self.calls_left <= 0)

    def give_credit(self):
        if not self.unread:
            return
        stream = self.rng.choice(sorted(self.unread))
        self.h2.acknowledge_received_data(self.unread.pop(stream), stream)

    def answer(self):
        """A step of one answer: an interim response, the headers, some DATA, or the trailers."""
        if not self.leaving:
            return
        stream = self.rng.choice(sorted(self.leaving))
        if stream not in self.begun:
            if self.rng.random() < 0.2:
                self.h2.send_headers(stream, [(":status", "103"), ("link", "</a>")])
                return
            more = [(f"x-{self.rng.randrange(30)}", "v" * self.rng.randrange(200)) for _ in range(self.rng.randrange(5))]
            self.h2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc"), *more])
            self.begun.add(stream)
            return
        body = self.leaving[stream]
        if not body:
            self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            del self.leaving[stream]
            self.begun.discard(stream)
            self.answered += 1
            return
        padding = self.rng.choice([None, None, 0, 7, 255])
        room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
        size = min(len(body), self.rng.choice([1, 500, 20_000]), room - (0 if padding is None else padding + 1))
        if size > 0:
            self.h2.send_data(stream, body[:size], pad_length=padding)
            self.leaving[stream] = body[size:]

    def ping(self):
        if self.rng.random() < 0.05:
            self.h2.ping(self.rng.randbytes(8))

    def change(self):
        # One at a time: h2 takes an acknowledgement for that of the newest.
        if self.acknowledged and self.changes_left > 0 and self.rng.random() < 0.02:
            self.acknowledged = False
            self.changes_left -= 1
            size = self.rng.choice([500, 1000, 65_535])
            self.h2.update_settings({SETTINGS.INITIAL_WINDOW_SIZE: size})

    def leave(self):
        if not self.leaves and self.rng.random() < 0.1:
            self.leaves = True
            # h2 refuses to send anything behind its own GOAWAY; so this is written by hand.
            payload = self.last.to_bytes(4, "big") + bytes(4)
            self.flush()
            self.socket.sendall(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)


class Refusals:
    """How often each call was not processed. A proxy repeats one once (gRFC A6), and then says so."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = {}

    def add(self, call):
        with self.lock:
            self.counts[call] = self.counts.get(call, 0) + 1

    def count(self, call):
        with self.lock:
            return self.counts.get(call, 0)


class Server:
    """Listens on several ports; each connection is a conversation with the next seed."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(ENDPOINTS)]
        self.seeds = 0
        self.ended = 0
        self.answered = 0
        self.failures = []
        self.refusals = Refusals()
        for listener in self.sockets:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    @property
    def target(self):
        return "ipv4:" + ",".join(f"127.0.0.1:{listener.getsockname()[1]}" for listener in self.sockets)

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(CONVERSATION_SECONDS)
            with self.lock:
                seed = self.seeds
                self.seeds += 1
            threading.Thread(target=self._serve, args=(sock, seed), daemon=True).start()

    def _serve(self, sock, seed):
        served = Served(sock, seed, self.refusals)
        try:
            served.run()
        except (AssertionError, OSError, h2.exceptions.ProtocolError) as error:
            with self.lock:
                self.failures.append(f"seed {seed}: {error!r}")
        with self.lock:
            self.ended += 1
            self.answered += served.answered

    def results(self):
        """Conversations that have ended, the calls that they answered, and what went wrong in them."""
        with self.lock:
            return self.ended, self.answered, list(self.failures)

    def close(self):
        for listener in self.sockets:
            listener.close()
