"""Canaries: weights changed live, judged automatically, and kept over a reload and a restart."""

import json
import os
import tempfile

from harness import calls, proxy, suite
from harness.poll import eventually
from harness.process import run

# Calls of which a tenth is to go to the canary.
CALLS = 1000


def configuration(backends, **canary):
    """A split over a stable backend and a new one, with a canary."""
    stable, new = backends
    route = {
        "split": [{"cluster": "stable", "weight": 100}, {"cluster": "next", "weight": 0}],
        "canary": {"stable": "stable", "canary": "next", **canary},
    }
    return proxy.config({"stable": calls.target([stable]), "next": calls.target([new])}, routes=[route])


def start(stage, **canary):
    backends = calls.start_backends(stage, 2)
    running, file = proxy.start_with_file(stage, configuration(backends, **canary))
    return backends, running, file


def command(running, *arguments, fails=False):
    """Runs `evenkeel canary`; gives back what it printed."""
    admin = running.admin.removeprefix("http://")
    done = run([suite.binary(), "canary", *arguments, "--admin", admin])
    assert (done.returncode != 0) == fails, (done.stdout + done.stderr).decode()
    return (done.stderr if fails else done.stdout).decode()


def canary(running):
    """The only canary of GET /canary."""
    status, text = running.get("/canary")
    assert status == 200, text
    return json.loads(text)["canaries"][0]


@suite.test
def weights_change_live_and_the_split_follows(stage):
    _, running, _ = start(stage)
    client = calls.connect(stage, running.address)
    assert calls.shares(client, 50) == {"b1": 50}
    assert "manual, 10 %" in command(running, "set", "10")
    shares = calls.shares(client, CALLS)
    print(f"{CALLS} calls at 10 %: {shares}")
    # Five standard deviations.
    assert abs(shares["b2"] - CALLS // 10) < 48, shares
    command(running, "promote")
    assert calls.shares(client, 50) == {"b2": 50}
    command(running, "abort", "next")
    assert calls.shares(client, 50) == {"b1": 50}
    labels = {"canary": "next"}
    assert running.metrics().sum("evenkeel_canary_weight_percent", **labels) == 0
    assert running.metrics().sum("evenkeel_canary_state", state="aborted", **labels) == 1


@suite.test
def a_failing_version_is_rolled_back_and_the_log_has_the_numbers(stage):
    (_, new), running, _ = start(stage)
    client = calls.connect(stage, running.address)
    new.kill()
    assert "running, 10 %" in command(running, "start")

    def rolled_back():
        for _ in range(50):
            client.begin().exception()
        return canary(running)["state"] == "rolled_back"

    eventually(rolled_back, "the canary is rolled back", 30)
    line = running.wait_for_line(r"worse than stable, rolled back: errors: canary 100\.00 % \((\d+) of (\d+) calls\)")
    print(line.string.strip())
    assert calls.shares(client, 50) == {"b1": 50}
    assert "rolled_back, 0 %" in command(running, "status")


@suite.test
def an_equal_version_is_promoted(stage):
    steps = [{"weight": 20, "duration": "1s"}, {"weight": 50, "duration": "1s"}]
    _, running, _ = start(stage, steps=steps, min_calls=20, auto=True, max_latency_increase=100)
    client = calls.connect(stage, running.address)

    def promoted():
        calls.shares(client, 50)
        return canary(running)["state"] == "promoted"

    eventually(promoted, "the canary is promoted", 30)
    assert calls.shares(client, 50) == {"b2": 50}


@suite.test
def without_traffic_a_step_waits(stage):
    _, running, _ = start(stage, steps=[{"weight": 20, "duration": "1s"}], auto=True)
    eventually(lambda: canary(running)["step"]["elapsed_seconds"] >= 3, "three seconds have passed")
    assert canary(running)["state"] == "running"
    assert canary(running)["waits_for"] == "calls"


@suite.test
def the_state_survives_a_reload_and_a_crash(stage):
    backends, running, file = start(stage)
    command(running, "set", "100")
    file.write(configuration(backends, min_calls=7))
    status, text = running.get("/reload", method="POST")
    assert status == 200, text
    client = calls.connect(stage, running.address)
    assert calls.shares(client, 20) == {"b2": 20}
    running.kill()
    again = stage.add_program(proxy.Proxy(["--config", file.path]))
    assert canary(again)["state"] == "manual"
    client = calls.connect(stage, again.address)
    assert calls.shares(client, 20) == {"b2": 20}
    again.kill()

    with open(file.path + ".state.json", "w", encoding="ascii") as state:
        state.write("{")
    damaged = stage.add_program(proxy.Proxy(["--config", file.path]))
    damaged.wait_for_line(r"state\.json is damaged")
    client = calls.connect(stage, damaged.address)
    assert calls.shares(client, 20) == {"b1": 20}


@suite.test
def another_version_behind_the_canarys_name_is_not_promoted_for_the_last_one(stage):
    backends, running, file = start(stage)
    stable, new = backends
    client = calls.connect(stage, running.address)
    command(running, "promote")
    assert calls.shares(client, 20) == {"b2": 20}
    third = calls.start_backends(stage, 1, "third")[0]
    file.write(configuration([stable, third]))
    status, text = running.get("/reload", method="POST")
    assert status == 200, text
    running.wait_for_line("another target, so another version")
    assert canary(running)["state"] == "idle"
    assert calls.shares(client, 20) == {"b1": 20}
    # The order of edits that docs/canary.md gives: the stable cluster takes over what was promoted.
    file.write(configuration(backends))
    assert running.get("/reload", method="POST")[0] == 200
    command(running, "promote")
    file.write(configuration([new, new]))
    assert running.get("/reload", method="POST")[0] == 200
    assert canary(running)["state"] == "promoted"
    assert calls.shares(client, 20) == {"b2": 20}
    file.write(configuration([new, third]))
    assert running.get("/reload", method="POST")[0] == 200
    assert calls.shares(client, 20) == {"b2": 20}, "the weights of the split send them to the stable cluster"
    command(running, "promote")
    assert calls.shares(client, 20) == {"third1": 20}


@suite.test
def a_canary_that_a_reload_adds_takes_up_its_state_and_overwrites_nothing_else(stage):
    backends, running, file = start(stage)
    command(running, "set", "100")
    running.kill()
    plain = proxy.config({"default": calls.target(backends[:1])})
    file.write(plain)
    again = stage.add_program(proxy.Proxy(["--config", file.path]))
    again.wait_until_ready(1)
    file.write(configuration(backends))
    assert again.get("/reload", method="POST")[0] == 200
    assert (canary(again)["state"], calls.shares(calls.connect(stage, again.address), 20)) == ("manual", {"b2": 20})
    again.kill()

    with open(file.path + ".state.json", "w", encoding="ascii") as state:
        state.write('{"of": "another program"}')
    file.write(plain)
    careful = stage.add_program(proxy.Proxy(["--config", file.path]))
    careful.wait_until_ready(1)
    file.write(configuration(backends))
    assert careful.get("/reload", method="POST")[0] == 200
    careful.wait_for_line(r"state\.json is damaged")
    command(careful, "set", "30")
    with open(file.path + ".state.json", encoding="ascii") as state:
        assert state.read() == '{"of": "another program"}'


@suite.test
def errors_say_what_to_do(stage):
    _, running, _ = start(stage)
    assert "only one that is running can be paused" in command(running, "pause", fails=True)
    assert 'no canary "other"; there are: next' in command(running, "start", "other", fails=True)
    nowhere = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "no.sock")
    done = run([suite.binary(), "canary", "status", "--admin", f"unix:{nowhere}"])
    assert done.returncode == 1 and b"is the proxy running" in done.stderr, done.stderr
    assert json.loads(command(running, "status", "--json"))["canaries"][0]["name"] == "next"
