"""Programs as child processes, with their output at hand."""

import os
import re
import signal
import subprocess
import threading

from .poll import Deadline, eventually

# How long a program may take to say that it is ready. A debug build on a busy machine takes a second.
READY_SECONDS = 20

# How long a program may take to end after SIGTERM before it is killed.
END_SECONDS = 3

# Lines kept of each program's output.
LINES_MAX = 10_000

# State of a listening socket in /proc/net/tcp.
TCP_LISTEN = "0A"

_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Program:
    """A running program. Its output, standard error included, is read all the time, so it never blocks on it."""

    def __init__(self, command, *, title=None, env=None, cwd=None):
        self.command = [str(part) for part in command]
        self.title = title or os.path.basename(self.command[0])
        self._lines = []
        self._changed = threading.Condition()
        self._open = 2
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        for name in ("stdout", "stderr"):
            threading.Thread(target=self._read, args=(name, getattr(self.process, name)), daemon=True).start()

    def _read(self, name, pipe):
        with pipe:
            for line in pipe:
                with self._changed:
                    self._lines.append((name, line.decode(errors="replace").rstrip("\n")))
                    del self._lines[:-LINES_MAX]
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    @property
    def id(self):
        return self.process.pid

    def raw_output(self, stream=None):
        """The lines of `stdout`, of `stderr`, or of both, as they were printed."""
        with self._changed:
            return [line for name, line in self._lines if stream in (None, name)]

    def output(self, stream=None):
        """The lines without the escape sequences that colour them."""
        return [_ESCAPES.sub("", line) for line in self.raw_output(stream)]

    def wait_for_line(self, pattern, seconds=READY_SECONDS):
        """Waits for a line in which the pattern is found; gives back the match."""
        deadline = Deadline(seconds)
        seen = 0
        with self._changed:
            while True:
                for _, line in self._lines[seen:]:
                    match = re.search(pattern, _ESCAPES.sub("", line))
                    if match:
                        return match
                seen = len(self._lines)
                assert self._open, f"{self.title} ended without a line like {pattern!r}"
                assert not deadline.passed(), f"{self.title} printed no line like {pattern!r} within {seconds} s"
                self._changed.wait(deadline.left())

    def listening_port(self, seconds=READY_SECONDS):
        """The port that it listens on, for programs that do not tell."""
        return eventually(self._port, f"{self.title} listens", seconds)

    def _port(self):
        assert self.is_running(), f"{self.title} has ended"
        own = set()
        for fd in os.listdir(f"/proc/{self.id}/fd"):
            try:
                own.add(os.readlink(f"/proc/{self.id}/fd/{fd}"))
            except FileNotFoundError:
                continue
        for table in ("tcp", "tcp6"):
            with open(f"/proc/net/{table}", encoding="ascii") as lines:
                for line in list(lines)[1:]:
                    words = line.split()
                    if words[3] == TCP_LISTEN and f"socket:[{words[9]}]" in own:
                        return int(words[1].rpartition(":")[2], 16)
        return None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds):
        """Waits for the end, its output included; gives back the exit code, negative for a signal."""
        deadline = Deadline(seconds)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.title} did not end within {seconds} s") from error
        with self._changed:
            while self._open and not deadline.passed():
                self._changed.wait(deadline.left())
        return code

    def kill(self):
        """Ends it at once, as a crash would."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """Ends it, politely at first."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def is_running(self):
        return self.process.poll() is None

    def state(self):
        code = self.process.poll()
        return f"process {self.id}, running" if code is None else f"ended with {code}"

    def rss_bytes(self):
        """Memory that it occupies now."""
        return self._status("VmRSS")

    def peak_rss_bytes(self):
        """The most memory that it ever occupied."""
        return self._status("VmHWM")

    def reset_peak_rss(self):
        """Lets `peak_rss_bytes` count from now on (proc(5), clear_refs)."""
        with open(f"/proc/{self.id}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def next_file(self):
        """The number of the file descriptor that it would open next: the lowest that is free."""
        taken = {int(name) for name in os.listdir(f"/proc/{self.id}/fd")}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _status(self, key):
        with open(f"/proc/{self.id}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"the system tells no {key} of {self.title}")


def run(command, *, seconds=20, env=None, stdin=b""):
    """Runs a program to its end; gives back the finished process, its output as text."""
    return subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        timeout=seconds,
        check=False,
        env={**os.environ, **(env or {})},
    )
