"""h2spec against the bare engine: the example `answer_root`, with and without h2spec's strict cases.

A gRPC listener rightly refuses what h2spec sends, so the engine is tested without the proxy around it.
"""

import os
import pathlib
import re
import subprocess
import sys

# How long a whole run may take; one takes seconds.
RUN_SECONDS = 120

# How long h2spec waits for an answer. The engine's own waits on these paths are below 100 ms.
CASE_SECONDS = 2

# The cases of the pinned version (xtask/peers/go/go.mod): all of them, and all of them with the strict one.
CASES = {"": 145, "--strict": 146}

CLOSING = re.compile(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed$", re.MULTILINE)


def run_h2spec(program, server, mode):
    """Starts the server, runs h2spec against it, and gives back (passed, failed, skipped)."""
    arguments = mode.split()
    with subprocess.Popen([server, str(RUN_SECONDS)], stdout=subprocess.PIPE, text=True) as process:
        try:
            ready = process.stdout.readline().split()
            if ready[:1] != ["ready"]:
                print(f"{server} said {ready} instead of `ready ADDRESS`")
                return 0, 1, 0
            host, port = ready[1].rsplit(":", 1)
            command = [program, "-h", host, "-p", port, "--timeout", str(CASE_SECONDS), *arguments]
            print("$", *command, flush=True)
            run = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        finally:
            process.kill()
    closing = CLOSING.search(run.stdout)
    if closing is None:
        print(run.stdout, run.stderr, sep="\n")
        print("h2spec wrote no closing line")
        return 0, 1, 0
    _, passed, skipped, failed = map(int, closing.groups())
    print(closing.group(0))
    if failed:
        print(run.stdout[run.stdout.find("Failures:"):])
    # A case that h2spec leaves out is one that the server did not let it run: that is a failure of the server here.
    wrong = (passed, skipped, failed, run.returncode) != (CASES[mode], 0, 0, 0)
    if wrong:
        print(f"FAILED: {CASES[mode]} cases were to pass and none to be skipped; h2spec ended with {run.returncode}")
    return passed, max(failed + skipped, int(wrong)), 0


def main():
    program = pathlib.Path(os.environ["EVENKEEL_PEERS"], "bin", "h2spec")
    if not program.exists():
        print("skipped: h2spec (the peer h2spec is missing)")
        print("0 passed, 0 failed, 2 skipped")
        return 0
    server = pathlib.Path(os.environ["EVENKEEL_BIN"]).parent / "examples" / "answer_root"
    counts = [run_h2spec(program, server, mode) for mode in CASES]
    passed, failed, skipped = map(sum, zip(*counts))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
