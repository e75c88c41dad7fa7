"""What the documents show works: commands run, examples do what they say, links lead somewhere, metrics exist.

A block fenced as `sh` is run at the root of the checkout, unless the line before it is `<!-- not run: REASON -->`.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from harness import calls, proxy, suite  # noqa: E402
from harness.poll import eventually  # noqa: E402
from harness.process import run  # noqa: E402
from markdown import Page  # noqa: E402

# Each registers its tests.
import bodies  # noqa: E402, F401
import actions  # noqa: E402, F401
import again  # noqa: E402, F401
import bounds  # noqa: E402, F401
import checks  # noqa: E402, F401
import ejections  # noqa: E402, F401
import every_key  # noqa: E402, F401
import examples  # noqa: E402, F401
import places  # noqa: E402, F401
import trouble  # noqa: E402, F401

ROOT = HERE.parent.parent

PAGES = [Page(path) for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])]

# How long a block may take.
BLOCK_SECONDS = 120

# Stands before the real cargo: `cargo run` would build what was built for this run already.
CARGO = """\
#!/bin/sh
if [ "$1" = run ]; then
    program=evenkeel
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        if [ "$1" = -p ]; then program="$2"; fi
        shift
    done
    [ $# -gt 0 ] && shift
    exec "$EVENKEEL_BINARIES/$program" "$@"
fi
exec "$REAL_CARGO" "$@"
"""

# `process_limit` is a reason, no metric.
METRIC = re.compile(r"`((?:evenkeel|grpc_server|grpc_client|process(?!_limit`))_[a-z0-9_]+)`")


def name(page):
    return page.path.relative_to(ROOT).as_posix()


def commands(stage):
    """An environment in which `evenkeel` and `cargo run` are the binary under test."""
    folder = pathlib.Path(stage.enter(tempfile.TemporaryDirectory()))
    binaries = os.path.dirname(suite.binary())
    os.symlink(suite.binary(), folder / "evenkeel")
    (folder / "cargo").write_text(CARGO, encoding="ascii")
    (folder / "cargo").chmod(0o755)
    return {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "REAL_CARGO": shutil.which("cargo") or "cargo",
        "EVENKEEL_BINARIES": binaries,
    }


def run_block(stage, block):
    done = run(["sh", "-eu", "-c", f"cd '{ROOT}'\n{block.text}"], seconds=BLOCK_SECONDS, env=commands(stage))
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"exit code {done.returncode} of\n{block.text}\n{output}"


for page in PAGES:
    for block in page.blocks:
        if block.language in ("sh", "console", "shell", "bash") and block.not_run is None:
            suite.test(
                lambda stage, block=block: run_block(stage, block),
                name=f"{name(page)}:{block.line}: the commands run",
                limit=BLOCK_SECONDS + 10,
            )


@suite.test
def some_command_of_the_readme_is_run(stage):
    readme = next(page for page in PAGES if name(page) == "README.md")
    shown = [block for block in readme.blocks if block.language == "sh"]
    assert any(block.not_run is None for block in shown), "every block is marked as not run"


@suite.test
def cargo_run_without_more_is_this_program(stage):
    """What `commands` takes for granted."""
    done = run(["cargo", "metadata", "--no-deps", "--format-version", "1", "--manifest-path", ROOT / "Cargo.toml"])
    assert done.returncode == 0, done.stderr.decode()
    metadata = json.loads(done.stdout)
    default = [package for package in metadata["packages"] if package["id"] in metadata["workspace_default_members"]]
    programs = [target["name"] for package in default for target in package["targets"] if "bin" in target["kind"]]
    assert programs == ["evenkeel"], programs


@suite.test
def every_configuration_shown_is_valid(stage):
    checked = 0
    for page in PAGES:
        for block in page.blocks:
            # Parts of a configuration cannot be checked alone.
            if block.language == "yaml" and re.search(r"^listeners:", block.text, re.MULTILINE):
                text = block.text.replace("address: ADDR", "address: 127.0.0.1:1").replace("target: TARGET", "target: 127.0.0.2:1")
                # The lists of an example are on no machine.
                done = run([suite.binary(), "check", "--no-lists", "-"], stdin=text.encode())
                assert done.returncode == 0, f"{name(page)}:{block.line}:\n{done.stderr.decode()}"
                checked += 1
    assert checked, "no configuration is shown"


@suite.test
def every_link_within_the_repository_leads_somewhere(stage):
    pages = {page.path: page for page in PAGES}
    broken = []
    for page in PAGES:
        for line, target in page.links():
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.path.parent / path).resolve() if path else page.path
            other = pages.get(file)
            if not file.exists() or (anchor and other and anchor not in other.anchors()):
                broken.append(f"{name(page)}:{line}: {target}")
    assert not broken, "\n".join(broken)


@suite.test
def every_metric_named_exists_and_every_one_is_named(stage):
    # A name, since addresses that are given have no resolver to count; checks, limits, streams of load reports, a slow start, a subset,
    # priorities, a canary and a route's rate limit, which have metrics where they are.
    policy = {"weighted_round_robin": {"load_reports": {"enable_oob_load_report": True}}}
    target = ["dns:///localhost:1", {"target": "ipv4:127.0.0.2:1", "priority": 1}]
    cluster = {"target": target, "health_check": {}, "policy": policy, "circuit_breakers": {}}
    cluster |= {"slow_start": {}, "subset": {"size": 20}, "retry_throttling": {"max_tokens": 10, "token_ratio": 0.1}}
    split = [{"cluster": "default", "weight": 90}, {"cluster": "next", "weight": 10}]
    route = {"split": split, "canary": {"stable": "default", "canary": "next"}, "rate_limit": {"requests": 1000}}
    route["retry"] = {}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": cluster, "next": cluster}, routes=[route]))
    eventually(lambda: running.metrics().sum("evenkeel_health_checks_total") > 0, "an endpoint was checked")
    eventually(lambda: running.metrics().sum("evenkeel_load_streams_ended_total") > 0, "an endpoint was asked for its load")
    with calls.Client(running.address) as client:
        client.fails()
    _, text = running.get("/metrics")
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    suffixes = ("_bucket", "_sum", "_count")
    named = {(name(page), metric) for page in PAGES for _, line in page.prose for metric in METRIC.findall(line)}
    assert named, "no metric is named"
    unknown = [
        f"{where}: {metric}"
        for where, metric in sorted(named)
        if metric not in known and not any(metric == each + suffix for each in known for suffix in suffixes)
    ]
    assert not unknown, "\n".join(unknown)
    operations = {metric for where, metric in named if where == "docs/operations.md"}
    missing = sorted(known - operations)
    assert not missing, f"docs/operations.md lacks {missing}"


if __name__ == "__main__":
    sys.exit(suite.main())
