"""HTTP/2 by hand, with Python's h2: clients and servers that misbehave, and see what grpcio hides.

Both ends are driven by the test, one step after the other; nothing answers by itself but what h2 answers.
"""

import socket

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from .poll import Deadline

# How long the other side may take for one step.
STEP_SECONDS = 10

READ_BYTES = 65536


def message(payload, compressed=False):
    """A gRPC message: flag, length, payload."""
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def request_headers(path="/evenkeel.test.Probe/Unary", extra=(), **changed):
    """A gRPC request's header list; keywords replace a pseudo header or the content type, None leaves it out."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "probe.test",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for key, value in changed.items():
        name = f":{key}" if f":{key}" in fields else key.replace("_", "-")
        fields[name] = value
    return [(key, value) for key, value in fields.items() if value is not None] + list(extra)


class Peer:
    """One HTTP/2 connection, of either side."""

    def __init__(self, sock, client_side, settings=None):
        self.socket = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What this side sends is not validated: much of it is wrong on purpose.
        config = h2.config.H2Configuration(
            client_side=client_side,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=True,
        )
        self.http2 = h2.connection.H2Connection(config)
        if settings:
            # Values to begin with: h2 would announce those of an update only after the first SETTINGS.
            own = h2.settings.Settings(client=client_side, initial_values={**self.http2.local_settings, **settings})
            self.http2.local_settings = own
        self.events = []
        self.closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def flush(self):
        """Sends what h2 has to say."""
        out = self.http2.data_to_send()
        if out:
            self.socket.sendall(out)

    def send_raw(self, data):
        """Sends bytes past h2."""
        self.socket.sendall(data)

    def read(self, seconds):
        """Reads once; notes the events. Whether there was anything to read."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(READ_BYTES)
        except TimeoutError:
            return False
        except ConnectionError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.events += self.http2.receive_data(data)
        self.flush()
        return True

    def expect(self, kind, stream=None, seconds=STEP_SECONDS):
        """Waits for the first event of this kind, of this stream; takes it out of what was seen and gives it back."""
        deadline = Deadline(seconds)
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None)):
                    self.events.remove(event)
                    return event
            seen = [type(event).__name__ for event in self.events]
            assert not self.closed, f"the connection ended before a {kind.__name__}; events were {seen}"
            assert not deadline.passed(), f"no {kind.__name__} within {seconds} s; events were {seen}"
            self.read(deadline.left())

    def round_trip(self):
        """Waits until the other side has read all that was sent: it has answered a PING behind it."""
        self.http2.ping(b"12345678")
        self.flush()
        self.expect(h2.events.PingAckReceived)

    def expect_end(self, seconds=STEP_SECONDS):
        """Waits for the end of the connection."""
        deadline = Deadline(seconds)
        while not self.closed:
            assert not deadline.passed(), f"the connection was still open after {seconds} s"
            self.read(deadline.left())


class RawClient(Peer):
    """A client's connection to the proxy."""

    def __init__(self, address, settings=None):
        host, port = address.rsplit(":", 1)
        super().__init__(socket.create_connection((host, int(port)), STEP_SECONDS), client_side=True, settings=settings)
        self.http2.initiate_connection()
        self.flush()

    def begin(self, headers, end=False):
        """Opens a stream; gives back its number."""
        stream = self.http2.get_next_available_stream_id()
        self.http2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def request(self, headers, body=message(b"{}")):
        """Sends a whole request; gives back the stream's number."""
        stream = self.begin(headers)
        self.http2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def answer(self, stream, seconds=STEP_SECONDS):
        """Waits for a whole response; gives back its headers, its body, and its trailers."""
        deadline = Deadline(seconds)
        headers = dict(self.expect(h2.events.ResponseReceived, stream, seconds).headers)
        body = b""
        trailers = {}
        while True:
            for event in [event for event in self.events if getattr(event, "stream_id", None) == stream]:
                self.events.remove(event)
                if isinstance(event, h2.events.DataReceived):
                    body += event.data
                    self.http2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers = dict(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    raise AssertionError(f"reset with {event.error_code} after {headers} and {len(body)} bytes")
                elif isinstance(event, h2.events.StreamEnded):
                    self.flush()
                    return headers, body, trailers
            self.flush()
            assert not self.closed, f"the connection ended within the response {headers}"
            assert not deadline.passed(), f"the response did not end within {seconds} s"
            self.read(deadline.left())

    def status(self, stream, seconds=STEP_SECONDS):
        """The HTTP status, gRPC status and message of a response, trailers-only or not."""
        headers, _, trailers = self.answer(stream, seconds)
        found = {**headers, **trailers}
        return headers[":status"], found.get("grpc-status"), found.get("grpc-message", "")


class RawServer:
    """A backend that accepts connections when the test asks it to."""

    def __init__(self, address="127.0.0.1:0"):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_server((host, int(port)))
        self.socket.settimeout(STEP_SECONDS)
        self.address = f"{host}:{self.socket.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def accept(self, settings=None, greet=True):
        """Takes the next connection; it is greeted with SETTINGS at once, or when the test calls `greet`."""
        sock, _ = self.socket.accept()
        peer = BackendConnection(sock, client_side=False, settings=settings)
        if greet:
            peer.greet()
        return peer


class BackendConnection(Peer):
    """One connection of the proxy to a `RawServer`."""

    def greet(self):
        self.http2.initiate_connection()
        self.flush()

    def expect_request(self, seconds=STEP_SECONDS):
        """Waits for a request's header list; gives back the stream's number and the list."""
        event = self.expect(h2.events.RequestReceived, seconds=seconds)
        return event.stream_id, dict(event.headers)

    def answer(self, stream, payload=b"{}", status="0", extra=()):
        """Sends a whole response."""
        headers = [(":status", "200"), ("content-type", "application/grpc"), *extra]
        self.http2.send_headers(stream, headers)
        self.http2.send_data(stream, message(payload))
        self.http2.send_headers(stream, [("grpc-status", status)], end_stream=True)
        self.flush()
