"""A new configuration takes effect as a whole, or the old one stays and the reason is told."""

import copy
import os
import time

import shared
from harness import calls, proxy
from harness.poll import eventually
from harness.suite import test


def start(stage):
    """A proxy before b1, with its configuration, and one that would send calls to b2."""
    first, second = shared.three.get(stage)[:2]
    old = proxy.config({"default": f"ipv4:{first.address}"})
    new = copy.deepcopy(old)
    new["clusters"][0]["target"] = f"ipv4:{second.address}"
    running, file = proxy.start_with_file(stage, old)
    running.wait_until_ready(1)
    return running, file, new


def reloads(running, outcome):
    return running.metrics().sum("evenkeel_config_reloads_total", outcome=outcome)


@test
def sighup_takes_a_new_configuration_over_and_calls_in_flight_go_on(stage):
    running, file, new = start(stage)
    client = calls.connect(stage, running.address)
    held = client.begin({"hold": "reload"})
    eventually(lambda: sum(each["in_flight"] for each in running.endpoints().values()) == 1, "a call is in flight")
    file.write(new)
    running.reload()
    eventually(lambda: running.configuration()["generation"] >= 2, "the second configuration is in force")
    running.wait_until_ready(1)
    assert calls.shares(client, 5) == {"b2": 5}
    assert not held.done()
    shared.three.get(stage)[0].release("reload")
    assert b'"b1"' in held.result()
    # The change of the file alone may have been taken over before, or be taken over after the signal.
    metrics = running.metrics()
    generation = metrics.sum("evenkeel_config_generation")
    assert generation in (2, 3), generation
    assert metrics.sum("evenkeel_config_reloads_total", outcome="accepted") == generation - 1


@test
def what_a_reload_took_away_is_shown_until_its_calls_have_ended(stage):
    running, file, new = start(stage)
    backend = shared.three.get(stage)[0]
    client = calls.connect(stage, running.address)
    held = client.begin({"hold": "taken away"})
    eventually(lambda: running.endpoints()[backend.address]["in_flight"] == 1, "a call is in flight")
    # Another policy makes another record of the cluster; the target stays.
    policy = copy.deepcopy(new)
    policy["clusters"][0].update(target=f"ipv4:{backend.address}", policy="random")
    file.write(policy)
    running.reload()
    eventually(lambda: running.configuration()["generation"] >= 2, "the new policy is in force")
    cluster = running.clusters()["default"]
    (removed,) = cluster["removed"]
    assert (removed["address"], removed["state"], removed["in_flight"]) == (backend.address, "REMOVED", 1), removed
    assert [endpoint["address"] for endpoint in cluster["endpoints"]] == [backend.address], cluster
    backend.release("taken away")
    assert b'"b1"' in held.result()
    eventually(lambda: running.clusters()["default"]["removed"] == [], "nothing is left of it")


@test
def a_changed_file_is_taken_over_without_a_signal(stage):
    running, file, new = start(stage)
    file.write(new)
    eventually(lambda: running.configuration()["generation"] >= 2, "the second configuration is in force")
    running.wait_until_ready(1)
    assert calls.shares(calls.connect(stage, running.address), 5) == {"b2": 5}


@test
def an_invalid_configuration_changes_nothing_and_the_reason_is_told(stage):
    running, file, new = start(stage)
    new["clusters"][0]["polizy"] = "random"
    file.write(new)
    running.reload()
    running.wait_for_line("the old configuration stays in force")
    error = eventually(lambda: running.configuration()["last_reload_error"], "the reason is in /config")
    assert "polizy" in error, error
    assert any("polizy" in line for line in running.output("stderr"))
    assert running.configuration()["generation"] == 1
    assert reloads(running, "rejected") >= 1
    assert calls.shares(calls.connect(stage, running.address), 5) == {"b1": 5}
    # Once it is right again, it is taken over.
    del new["clusters"][0]["polizy"]
    file.write(new)
    running.reload()
    eventually(lambda: running.configuration()["generation"] >= 2, "the second configuration is in force")
    eventually(lambda: running.configuration()["last_reload_error"] is None, "the reason is told no more")


@test
def reloads_without_end_have_one_log_line_a_second_of_each_outcome(stage):
    running, file, new = start(stage)
    broken = copy.deepcopy(new)
    broken["clusters"][0]["polizy"] = "random"
    for config, status, words in ((broken, 400, "stays in force"), (new, 200, "configuration reloaded")):
        file.write(config)
        began = time.monotonic()
        for _ in range(100):
            assert running.get("/reload", method="POST")[0] == status
        seconds = time.monotonic() - began
        running.wait_for_line(words)
        lines = [line for line in running.output("stderr") if words in line]
        # The file's own change is one more reload.
        assert 1 <= len(lines) <= seconds + 2, (len(lines), seconds, lines[:5])
    assert reloads(running, "rejected") >= 100


@test
def the_newest_reason_is_logged_though_another_was_just_before(stage):
    running, file, new = start(stage)
    for name in ("first", "second", "newest"):
        broken = copy.deepcopy(new)
        broken["listeners"][0]["routes"][0]["cluster"] = name
        file.write(broken)
        assert running.get("/reload", method="POST")[0] == 400
    running.wait_for_line("there is no cluster `newest`")
    lines = [line for line in running.output("stderr") if "stays in force" in line]
    # The file's own change is one more reload, which may fall into another second.
    assert len(lines) <= 3 and "newest" in lines[-1], lines
    assert running.configuration()["generation"] == 1


@test
def a_file_that_becomes_a_pipe_or_has_no_end_is_refused_and_nothing_waits_for_it(stage):
    running, file, new = start(stage)
    before = running.rss_bytes()
    for make, words in (
        (os.mkfifo, "it is a pipe"),
        (lambda path: os.symlink("/dev/zero", path), "it is a device"),
        (lambda path: open(path, "wb").truncate(1 << 32), "more than 1048576 bytes"),
    ):
        make(file.path + ".next")
        os.rename(file.path + ".next", file.path)
        status, text = running.get("/reload", method="POST")
        assert status == 400 and words in text, (status, text)
    # A tenth of what is in the last one.
    assert running.peak_rss_bytes() - before < 400 << 20
    assert calls.shares(calls.connect(stage, running.address), 5) == {"b1": 5}
    file.write(new)
    assert running.get("/reload", method="POST")[0] == 200


@test
def what_only_a_restart_can_change_is_refused_by_name(stage):
    running, file, new = start(stage)
    new["workers"] = 2
    file.write(new)
    status, text = running.get("/reload", method="POST")
    assert status == 400 and "number of workers" in text and "restart" in text, (status, text)
    assert running.configuration()["generation"] == 1


@test
def the_admin_interface_reloads_too(stage):
    running, file, new = start(stage)
    file.write(new)
    eventually(lambda: running.configuration()["generation"] == 2, "the change is taken over without being asked")
    assert running.get("/reload")[0] == 405, "GET changes nothing"
    status, text = running.get("/reload", method="POST")
    assert (status, text) == (200, '{"generation":3}'), (status, text)


@test
def routes_clusters_and_policies_can_all_change_at_once(stage):
    running, file, new = start(stage)
    third = shared.three.get(stage)[2]
    new["clusters"].append({"name": "other", "target": f"ipv4:{third.address}", "policy": "random"})
    new["listeners"][0]["routes"].insert(0, {"match": {"service": "other.Service"}, "cluster": "other"})
    file.write(new)
    assert running.get("/reload", method="POST")[0] == 200
    client = calls.connect(stage, running.address)
    eventually(lambda: client.call(service="/other.Service/")["backend"] == "b3", "the new route is in force")
    assert client.call()["backend"] == "b2"
    assert set(running.clusters()) == {"default", "other"}


@test
def a_proxy_that_was_started_with_flags_says_that_there_is_nothing_to_reload(stage):
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}")
    running.reload()
    running.wait_for_line("no configuration file to reload")
    assert running.is_running()
