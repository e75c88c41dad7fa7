"""A name server for A records, whose answers the test changes while it runs."""

import socket
import struct
import threading

TYPE_A = 1
NXDOMAIN = 3

# Response, authoritative, recursion available.
FLAGS = 0x8480

# A pointer to the question's name, which begins behind the header.
NAME_POINTER = 0xC00C


class NameServer:
    """Answers on UDP at `address`: what `records` says, NXDOMAIN for other names."""

    def __init__(self, records=None, ttl=1):
        self.records = dict(records or {})
        self.ttl = ttl
        self.questions = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open = False
        # A close alone does not wake the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while self._open:
            query, sender = self._socket.recvfrom(4096)
            if query:
                self._socket.sendto(self._answer(query), sender)

    def _answer(self, query):
        number = query[:2]
        name, end = _read_name(query, 12)
        kind = struct.unpack("!H", query[end : end + 2])[0]
        question = query[12 : end + 4]
        self.questions.append((name, kind))
        addresses = self.records.get(name)
        found = addresses if addresses is not None and kind == TYPE_A else []
        flags = FLAGS | (NXDOMAIN if addresses is None else 0)
        answers = b"".join(
            struct.pack("!HHHIH", NAME_POINTER, TYPE_A, 1, self.ttl, 4) + socket.inet_aton(address) for address in found
        )
        return number + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + question + answers


def _read_name(packet, at):
    labels = []
    while packet[at]:
        length = packet[at]
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    return ".".join(labels), at + 1
