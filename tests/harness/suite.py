"""Registering and running tests.

Each test is a function of one argument, its `Stage`: whatever is started on the stage is ended when the test is over,
however it ends. Tests run one after the other, each in a thread of its own, so that one that hangs past its limit fails
with the place where it hangs, and the others still run.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
import traceback

# A test that takes longer has failed, unless it was registered with a limit of its own.
LIMIT_SECONDS = 30

# How long a hanging test is given to end after what it talks to was ended.
ABANDON_SECONDS = 5

# Lines of each program's output that are shown when a test fails.
TAIL_LINES = 30

_tests = []
_shared = []


class Skip(Exception):
    """Raised by a test that cannot run here; its text says what is missing."""


class Stage:
    """What one test started, to be ended with it."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._programs = []

    def enter(self, context):
        """Enters a context manager that is left when the test ends."""
        return self._stack.enter_context(context)

    def at_end(self, function, *arguments):
        """Calls `function` when the test ends."""
        self._stack.callback(function, *arguments)

    def add_program(self, program):
        """Ends a program with the test, and shows the end of its output if the test fails."""
        self._programs.append(program)
        self._stack.callback(program.end)
        return program

    def watch_program(self, program):
        """Shows the end of a program's output if the test fails, without ending it."""
        self._programs.append(program)

    def programs(self):
        return list(self._programs)

    def tails(self):
        """The end of each program's output."""
        for program in self._programs:
            yield f"--- {program.title} ({program.state()})", program.output()[-TAIL_LINES:]

    def close(self):
        self._stack.close()


class Shared:
    """Programs that several tests use: started for the first of them, ended with the suite."""

    def __init__(self, start):
        self._start = start
        self._stage = None
        self._value = None

    def get(self, stage):
        """What `start` gave back; if the test fails, the programs' output is shown."""
        if self._stage is None:
            shared = Stage()
            try:
                self._value = self._start(shared)
            except BaseException:
                for program in shared.programs():
                    stage.watch_program(program)
                shared.close()
                raise
            self._stage = shared
            _shared.append(shared)
        for program in self._stage.programs():
            stage.watch_program(program)
        return self._value


def test(function=None, *, limit=LIMIT_SECONDS, name=None):
    """Registers a test; its name is the function's, with blanks for underscores."""

    def register(function):
        title = name or function.__name__.replace("_", " ")
        assert all(title != known for known, _, _ in _tests), f"two tests are called {title!r}"
        _tests.append((title, function, limit))
        return function

    return register if function is None else register(function)


def figure(claim, bound, measured):
    """Prints a figure as `cargo xtask bench live` reads it; to be called before it is judged, so that a missed one is seen."""
    print(f"figure: {claim} | {bound} | {measured}", flush=True)


def _environment(name):
    value = os.environ.get(name)
    assert value, f"{name} is not set; run the suite with `cargo xtask test --only peers`"
    return os.path.abspath(value)


def peers():
    """The folder that the foreign peers are installed in."""
    return _environment("EVENKEEL_PEERS")


def peer(name):
    """The path of a foreign peer's program; the test is skipped without it."""
    path = os.path.join(peers(), "bin", name)
    if not os.path.exists(path):
        raise Skip(f"the peer {name} is missing")
    return path


def binary(name="evenkeel"):
    """The path of one of the workspace's binaries."""
    evenkeel = _environment("EVENKEEL_BIN")
    return evenkeel if name == "evenkeel" else os.path.join(os.path.dirname(evenkeel), name)


class _Run(threading.Thread):
    """One test's run."""

    def __init__(self, function, stage):
        super().__init__(daemon=True)
        self.function = function
        self.stage = stage
        self.trouble = None
        self.skipped = None

    def run(self):
        try:
            self.function(self.stage)
        except Skip as skip:
            self.skipped = str(skip)
        except BaseException as error:  # A test may fail in any way, exits of the interpreter included.
            self.trouble = "".join(traceback.format_exception(error)).rstrip()

    def where(self):
        frame = sys._current_frames().get(self.ident)
        return "".join(traceback.format_stack(frame)).rstrip() if frame else "(it has ended since)"


def _run_one(function, limit):
    """Runs one test; gives back (trouble, reason to skip)."""
    stage = Stage()
    run = _Run(function, stage)
    try:
        run.start()
        run.join(limit)
        if run.is_alive():
            run.trouble = f"it did not end within {limit} s; it is at\n{run.where()}"
        if run.trouble:
            for title, lines in stage.tails():
                run.trouble += "\n" + "\n".join([title, *lines])
        return run.trouble, run.skipped
    finally:
        stage.close()
        run.join(ABANDON_SECONDS)


def main():
    """Runs the registered tests whose names contain one of the arguments; all of them without arguments.

    Prints a line for each, `skipped: NAME (REASON)` for what is missing, and the closing line. Gives back the exit code.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("only", nargs="*", help="run only tests whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    arguments = parser.parse_args()
    # The test runner's SIGTERM must end what was started too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    chosen = [entry for entry in _tests if not arguments.only or any(part in entry[0] for part in arguments.only)]
    if arguments.list:
        print(*(title for title, _, _ in chosen), sep="\n")
        return 0
    try:
        counts = _run_all(chosen)
    finally:
        for stage in reversed(_shared):
            stage.close()
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped", flush=True)
    code = 1 if counts["failed"] else 0
    if threading.active_count() > 1 and code:
        # A hanging test's thread must not keep the interpreter from ending.
        sys.stdout.flush()
        os._exit(code)
    return code


def _run_all(chosen):
    """Runs tests one after the other; gives back how many passed, failed and were skipped."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for title, function, limit in chosen:
        began = time.monotonic()
        trouble, skipped = _run_one(function, limit)
        took = f"{time.monotonic() - began:.1f} s"
        if trouble:
            counts["failed"] += 1
            print(f"FAILED: {title} ({took})\n{trouble}", flush=True)
        elif skipped:
            counts["skipped"] += 1
            print(f"skipped: {title} ({skipped})", flush=True)
        else:
            counts["passed"] += 1
            print(f"ok: {title} ({took})", flush=True)
    return counts
