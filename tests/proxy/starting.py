"""Starting: what is wrong is said in one sentence, with exit code 1; `evenkeel check` says all of it."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile

import shared
from harness import calls, proxy, wire
from harness.process import run
from harness.suite import Skip, binary, test

EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "docs" / "examples"

BROKEN = """\
listeners:
  - address: 127.0.0.1:0
    routes:
      - cluster: orderz
clusters:
  - name: orders
    target: ipv4:127.0.0.1:1
    polizy: round_robin
    connect_timeout: 5
drain: { grace: 0s }
"""


def fails_to_start(*arguments):
    """Starts a proxy that must end at once; gives back its only line."""
    done = run([binary(), "proxy", *arguments], seconds=10)
    assert done.returncode == 1, (done.returncode, done.stderr)
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert done.stdout == b"", done.stdout
    # A cause that is told twice makes a sentence that nobody reads.
    clauses = lines[0].split(": ")
    assert len(set(clauses)) == len(clauses), lines[0]
    return lines[0]


def names(sentence, *parts):
    for part in parts:
        assert part in sentence, f"{part!r} is not in {sentence!r}"


@test
def a_port_in_use_is_named_with_a_way_out(stage):
    with wire.RawServer() as server:
        arguments = ["--listen", server.address, "--to", "ipv4:127.0.0.1:1", "--admin", "off"]
        names(fails_to_start(*arguments), server.address, "in use")


@test
def an_admin_port_in_use_is_named_with_a_way_out(stage):
    with wire.RawServer() as server:
        arguments = ["--listen", "127.0.0.1:0", "--to", "ipv4:127.0.0.1:1", "--admin", server.address]
        names(fails_to_start(*arguments), server.address, "in use", "choose another port: --admin ADDR, or --admin off")
        # What a file says is no matter of flags.
        config = proxy.config({"default": "ipv4:127.0.0.1:1"}, admin={"address": server.address})
        file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), config)
        sentence = fails_to_start("--config", file.path)
        names(sentence, server.address, "in use", "choose another port: `admin.address`, or `admin: off`")


@test
def a_unix_socket_that_cannot_be_listened_on_is_named_with_a_way_out(stage):
    folder = stage.enter(tempfile.TemporaryDirectory())
    missing, taken = os.path.join(folder, "missing", "a.sock"), os.path.join(folder, "taken.sock")
    live = stage.enter(socket.socket(socket.AF_UNIX))
    live.bind(taken)
    live.listen()
    for path, part in (
        (missing, "its folder does not exist; create it, or choose another path"),
        (taken, "the socket is in use; stop the other process or choose another path"),
    ):
        arguments = ["--listen", f"unix:{path}", "--to", "ipv4:127.0.0.1:1", "--admin", "off"]
        names(fails_to_start(*arguments), path, part)
        arguments = ["--listen", "127.0.0.1:0", "--to", "ipv4:127.0.0.1:1", "--admin", f"unix:{path}"]
        names(fails_to_start(*arguments), path, part + ": --admin ADDR, or --admin off")


@test
def a_port_that_another_proxy_shares_can_be_shared(stage):
    backend = shared.one(stage)
    first = proxy.start(stage, f"ipv4:{backend.address}", arguments=["--reuse-port"])
    arguments = ["--to", f"ipv4:{backend.address}", "--workers", "1", "--admin", "127.0.0.1:0"]
    second = stage.add_program(proxy.Proxy(["--listen", first.address, "--reuse-port", *arguments]))
    assert second.address == first.address
    # Without the flag it is a port in use.
    names(fails_to_start("--listen", first.address, *arguments), first.address, "in use")


@test
def a_malformed_target_is_named_with_what_is_wrong(stage):
    for target, part in (
        ("ipv4:127.0.0.1", "port"),
        ("ipv4:300.0.0.1:1", "300.0.0.1"),
        ("http://orders:1", "http"),
        ("dns:///", "dns:///"),
        ("", "target"),
    ):
        sentence = fails_to_start("--listen", "127.0.0.1:0", "--to", target, "--admin", "off")
        names(sentence, part)


@test
def a_malformed_listen_address_is_named_with_what_to_write(stage):
    for address, part in (("localhost:1", "localhost"), (":50051", "0.0.0.0:50051"), ("127.0.0.1", "127.0.0.1:")):
        sentence = fails_to_start("--listen", address, "--to", "ipv4:127.0.0.1:1", "--admin", "off")
        names(sentence, part)


@test
def an_unknown_policy_is_named_with_the_nearest(stage):
    arguments = ["--listen", "127.0.0.1:0", "--to", "ipv4:127.0.0.1:1", "--policy", "round_robbin"]
    names(fails_to_start(*arguments, "--admin", "off"), "round_robbin", "round_robin")


@test
def a_file_that_cannot_be_read_is_named(stage):
    folder = stage.enter(tempfile.TemporaryDirectory())
    missing = os.path.join(folder, "missing.yaml")
    names(fails_to_start("--config", missing), missing, "No such file")
    names(fails_to_start("--config", folder), folder, "directory")


@test
def what_cannot_be_a_configuration_file_is_refused_at_once(stage):
    folder = stage.enter(tempfile.TemporaryDirectory())
    pipe, large = os.path.join(folder, "pipe.yaml"), os.path.join(folder, "large.yaml")
    os.mkfifo(pipe)
    with open(large, "wb") as file:
        file.truncate((1 << 20) + 1)
    cases = [
        (folder, "it is a directory; name a regular file"),
        (pipe, "it is a pipe; name a regular file"),
        ("/dev/zero", "it is a device; name a regular file"),
        (large, "it has more than 1048576 bytes, the most that is read; make it smaller"),
    ]
    for path, part in cases:
        names(fails_to_start("--config", path), path, part)
        code, _, errors = check(path)
        assert code == 1 and len(errors.splitlines()) == 1, errors
        names(errors, path, part)


@test
def check_reads_no_more_of_standard_input_than_a_configuration_may_have(stage):
    valid = json.dumps(proxy.config({"default": "ipv4:127.0.0.1:1"})).encode()
    padding = b" " * ((1 << 20) - len(valid))
    assert check("-", stdin=valid + padding)[0] == 0
    code, _, errors = check("-", stdin=valid + padding + b" ")
    assert code == 1 and len(errors.splitlines()) == 1, errors
    names(errors, "<stdin>", "more than 1048576 bytes")
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run([binary(), "check", "-"], stdin=endless, capture_output=True, timeout=10, check=False)
    assert done.returncode == 1 and b"more than 1048576 bytes" in done.stderr, done


@test
def a_demo_of_no_possible_duration_is_refused_in_a_sentence(stage):
    for seconds in ("1e20", "1e18", "-1", "0", "nan"):
        done = run([binary(), "demo", f"--duration={seconds}"], seconds=10)
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 1 and len(lines) == 1 and "--duration" in lines[0], (seconds, done)


@test
def a_file_without_permission_is_named(stage):
    if os.geteuid() == 0:
        raise Skip("root may read every file")
    file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), BROKEN)
    os.chmod(file.path, 0)
    names(fails_to_start("--config", file.path), file.path, "ermission denied")


@test
def an_invalid_file_does_not_start_and_says_where_it_is_wrong(stage):
    file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), BROKEN)
    done = run([binary(), "proxy", "--config", file.path], seconds=10)
    assert done.returncode == 1, done.returncode
    names(done.stderr.decode(), f"{file.path}:4", "orderz", "polizy")


def check(*arguments, stdin=b""):
    done = run([binary(), "check", *arguments], seconds=10, stdin=stdin)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@test
def check_reports_every_error_at_once_with_its_place(stage):
    file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), BROKEN)
    code, _, errors = check(file.path)
    assert code == 1, code
    for line, part in ((4, "orderz"), (8, "polizy"), (9, "connect_timeout"), (10, "grace")):
        names(errors, f"{file.path}:{line}:", part)
    # Did you mean.
    names(errors, "`policy`", "`orders`")
    assert "\x1b" not in errors, "colours on a pipe"


@test
def check_reports_as_json_too(stage):
    file = proxy.ConfigFile(stage.enter(tempfile.TemporaryDirectory()), BROKEN)
    code, output, _ = check("--format", "json", file.path)
    assert code == 1, code
    assert len(json.loads(output)["errors"]) == 4, output


@test
def check_reads_standard_input(stage):
    valid = json.dumps(proxy.config({"default": "ipv4:127.0.0.1:1"})).encode()
    assert check("-", stdin=valid)[0] == 0
    assert check("-", stdin=BROKEN.encode())[0] == 1


@test
def check_names_a_file_that_is_not_there(stage):
    code, _, errors = check("missing.yaml")
    assert code == 1, code
    assert len(errors.splitlines()) == 1, errors
    names(errors, "missing.yaml", "No such file")


@test
def check_reads_the_lists_of_endpoints_too(stage):
    folder = stage.enter(tempfile.TemporaryDirectory())
    lists = {name: pathlib.Path(folder, f"{name}.yaml") for name in ("broken", "zeros", "gone")}
    lists["broken"].write_text('- 127.0.0.1:1\n- {address: "127.0.0.1:2", wieght: 3}\n')
    lists["zeros"].write_text('- {address: "127.0.0.1:1", weight: 0}\n')
    clusters = {name: f"file:{path}" for name, path in lists.items()}
    file = proxy.ConfigFile(folder, proxy.config(clusters, routes=[{"cluster": "broken"}]))
    code, _, errors = check(file.path)
    assert code == 1, code
    names(errors, f"{lists['broken']}:2:", "`weight`", f"{lists['zeros']}:1:", "all weights are 0")
    names(errors, str(lists["gone"]), "No such file", "--no-lists")
    code, output, _ = check("--format", "json", file.path)
    assert code == 1, code
    found = json.loads(output)
    assert [error["code"] for error in found["errors"]] == ["unreadable_list"], output
    assert [each["source"] for each in found["lists"]] == [str(lists["broken"]), str(lists["zeros"])], output
    assert check("--no-lists", file.path)[0] == 0
    for path in lists.values():
        path.write_text("[]")
    code, output, _ = check(file.path)
    assert (code, output) == (0, f"{file.path}: valid\n"), output


@test
def all_examples_are_valid(stage):
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert files, "no examples"
    for file in files:
        # The lists that they name are on no machine.
        code, _, errors = check("--no-lists", file)
        assert code == 0, errors


@test
def the_schema_is_a_json_schema_of_the_examples_keys(stage):
    done = run([binary(), "schema"])
    assert done.returncode == 0
    schema = json.loads(done.stdout)
    assert schema["$schema"].startswith("https://json-schema.org/"), schema["$schema"]
    assert {"listeners", "clusters", "admin", "drain"} <= schema["properties"].keys()


@test
def log_lines_on_a_pipe_have_no_colours(stage):
    running = proxy.start(stage, "ipv4:127.0.0.1:1")
    assert not [line for line in running.raw_output() if "\x1b" in line], running.raw_output()[:1]


@test
def log_lines_can_be_json(stage):
    running = proxy.start(stage, f"ipv4:{shared.one(stage).address}", arguments=["--log-format", "json"])
    calls.connect(stage, running.address).call()
    for line in running.raw_output("stderr"):
        assert json.loads(line)["level"] in ("INFO", "WARN"), line
