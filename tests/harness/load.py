"""Calls without a pause, while something else happens."""

import threading


class Load:
    """So many clients, each with a connection of its own that makes one call after the other, until the block is left."""

    def __init__(self, clients):
        self.answered, self.failed = {}, []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=[client]) for client in clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def total(self):
        """Calls that were answered so far."""
        with self._lock:
            return sum(self.answered.values())

    def count(self, name):
        """Calls that this backend answered so far."""
        return self.counts().get(name, 0)

    def counts(self):
        """Calls that each backend answered so far."""
        with self._lock:
            return dict(self.answered)

    def _run(self, client):
        while not self._over.is_set():
            call = client.begin()
            trouble = call.exception()
            with self._lock:
                if trouble is None:
                    name = client.read(call)["backend"]
                    self.answered[name] = self.answered.get(name, 0) + 1
                else:
                    self.failed.append(f"{trouble.code().name}: {trouble.details()}")
