"""HTTP/2 frames as bytes, for what no HTTP/2 library would send, or would let one see."""

import socket

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9

# How long the other side may take to say something.
STEP_SECONDS = 10


def frame(kind, flags, stream, payload=b""):
    """A frame as it is on the wire."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def parse(data):
    """The whole frames at the beginning of some bytes, as (kind, flags, stream, payload), and how long they are."""
    found = []
    at = 0
    while at + HEADER_BYTES <= len(data):
        end = at + HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
        if end > len(data):
            break
        stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
        found.append((data[at + 3], data[at + 4], stream, data[at + HEADER_BYTES : end]))
        at = end
    return found, at


def goaway(payload):
    """The last stream and the error code of a GOAWAY."""
    return int.from_bytes(payload[:4], "big") & 0x7FFFFFFF, int.from_bytes(payload[4:8], "big")


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), STEP_SECONDS)


def receive_all(sock):
    """All that comes until the other side closes the connection."""
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        # It was closed while bytes of ours were not read.
        pass
    return received


def talk(address, data):
    """Sends bytes; gives back all that comes until the other side closes the connection."""
    with connect(address) as sock:
        try:
            sock.sendall(data)
        except ConnectionError:
            # It was cut off before all was sent; what it said before is there to be read.
            pass
        return receive_all(sock)


class FrameClient:
    """A connection that is driven frame by frame. It acknowledges SETTINGS and PING, nothing else."""

    def __init__(self, address):
        self._socket = connect(address)
        self._unread = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def next(self):
        """The next frame; None at the end of the connection."""
        while True:
            found, length = parse(self._unread)
            if found:
                kind, flags, stream, payload = found[0]
                self._unread = self._unread[HEADER_BYTES + len(payload) :]
                if kind in (SETTINGS, PING) and not flags & ACK:
                    self.send(frame(kind, ACK, 0, payload if kind == PING else b""))
                return kind, flags, stream, payload
            assert length == 0
            chunk = self._socket.recv(65536)
            if not chunk:
                return None
            self._unread += chunk

    def expect(self, kind):
        """Waits for the next frame of this kind; gives back its stream and payload."""
        while (found := self.next()) is not None:
            if found[0] == kind:
                return found[2], found[3]
        raise AssertionError(f"the connection ended before a frame of kind {kind}")

    def expect_end(self):
        """Waits for the end of the connection."""
        while self.next() is not None:
            pass
