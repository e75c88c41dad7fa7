"""What the proxy tells about itself: admin interface, metrics, access log."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import subprocess
import tempfile
import time

import grpc
import shared
from harness import calls, frames, metrics, proxy, wire
from harness.poll import eventually
from harness.process import run
from harness.suite import peer, test

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def start(stage, **more):
    return proxy.start(stage, calls.target(shared.three.get(stage)), policy="round_robin", **more)


@test
def the_admin_interface_answers_on_every_path(stage):
    running = start(stage)
    status, text = running.get("/")
    assert status == 200
    for path in ("/ready", "/live", "/metrics", "/clusters", "/config"):
        assert path in text, text
        assert running.get(path)[0] == 200, path
    assert running.get("/nowhere")[0] == 404


@test
def only_post_changes_anything(stage):
    running = start(stage)
    assert running.get("/drain")[0] == 405
    assert running.get("/ready")[0] == 200


@test
def the_admin_interface_can_be_off(stage):
    flags = ["--listen", "127.0.0.1:0", "--to", f"ipv4:{shared.one(stage).address}", "--admin", "off"]
    done = proxy.Program([proxy.binary(), "proxy", *flags], title="evenkeel proxy")
    stage.add_program(done)
    address = done.wait_for_line(r"listening on (\S+)").group(1)
    calls.connect(stage, address).call()
    assert not any("admin" in line for line in done.output())


@test
def promtool_accepts_the_metrics(stage):
    promtool = peer("promtool")
    running = start(stage)
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    calls.shares(client, 6)
    client.fails({"code": "NOT_FOUND", "message": "no"})
    _, text = running.get("/metrics", headers={"Accept": "text/plain; version=0.0.4"})
    checked = run([promtool, "check", "metrics"], stdin=text.encode())
    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()
    assert checked.stderr == b"", checked.stderr.decode()


@test
def open_metrics_are_to_be_had(stage):
    running = start(stage)
    _, text = running.get("/metrics", headers={"Accept": OPEN_METRICS})
    assert text.endswith("# EOF\n"), text[-100:]


@test
def counts_are_those_of_the_calls_made(stage):
    running = start(stage)
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    for _ in range(30):
        client.call()
    for _ in range(5):
        client.fails({"code": "NOT_FOUND"})
    download = client.channel.unary_stream(calls.SERVICE + "Download")
    assert len(list(download(b'{"messages": 7, "bytes": 10}', timeout=10))) == 7
    name = {"grpc_service": "evenkeel.test.Probe", "grpc_method": "Unary"}
    # The last call is counted when its last bytes have left, which may be after the client saw them.
    eventually(lambda: running.metrics().sum("grpc_server_handled_total") == 36, "all calls are counted")
    found = running.metrics()
    assert found.sum("grpc_server_started_total", **name) == 35
    assert found.sum("grpc_server_handled_total", grpc_code="OK", **name) == 30
    assert found.sum("grpc_server_handled_total", grpc_code="NotFound", **name) == 5
    assert found.sum("grpc_server_msg_received_total", **name) == 35
    assert found.sum("grpc_server_msg_sent_total", **name) == 30
    assert found.sum("grpc_server_msg_sent_total", grpc_method="Download") == 7
    assert found.sum("grpc_server_handling_seconds_count", **name) == 35
    assert found.sum("grpc_client_started_total") == 36
    for backend in shared.three.get(stage):
        assert found.sum("grpc_client_started_total", endpoint=backend.address) == 12, backend.address
    assert found.sum("grpc_client_handled_total") == 36
    assert found.sum("evenkeel_downstream_connections_active") == 1
    assert found.sum("evenkeel_downstream_streams_active") == 0


@test
def messages_of_a_stream_are_counted_while_it_goes_on(stage):
    running = start(stage)
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    requests = queue.Queue()
    answers = client.channel.stream_stream(calls.SERVICE + "Chat")(iter(requests.get, None), timeout=calls.CALL_SECONDS)
    for _ in range(6):
        requests.put(b"ping")
        assert next(answers) == b"ping"
    names = ("grpc_server_msg_received_total", "grpc_server_msg_sent_total", "grpc_client_msg_received_total")
    for name in names:
        eventually(lambda name=name: running.metrics().sum(name) == 6, f"{name} counts an open stream")
    assert running.metrics().sum("grpc_server_handled_total") == 0
    requests.put(None)
    assert list(answers) == []
    eventually(lambda: running.metrics().sum("grpc_server_handled_total") == 1, "the stream is counted")
    for name in names:
        assert running.metrics().sum(name) == 6, name


@test
def label_values_that_clients_make_up_are_bounded(stage):
    backend = shared.one(stage)
    routes = [{"match": {"service_prefix": "evenkeel."}, "cluster": "default"}]
    config = proxy.config({"default": f"ipv4:{backend.address}"}, routes=routes)
    running, _ = proxy.start_with_file(stage, config)
    with wire.RawClient(running.address) as client:
        for number in range(3000):
            stream = client.request(wire.request_headers(f"/evenkeel.Made{number}/Up"))
            assert client.status(stream)[1] == "0"
    _, text = running.get("/metrics")
    rows = re.findall(r"^grpc_server_started_total\{", text, re.MULTILINE)
    assert len(rows) <= 2000, len(rows)
    assert running.metrics().sum("grpc_server_started_total") == 3000
    assert len(text) < 16 << 20, len(text)


@test
def clusters_tell_of_endpoints_and_their_outcomes(stage):
    running = start(stage)
    running.wait_until_ready(3)
    client = calls.connect(stage, running.address)
    calls.shares(client, 9)
    eventually(lambda: sum(each["in_flight"] for each in running.endpoints().values()) == 0, "no call in flight")
    cluster = running.clusters()["default"]
    assert cluster["target"] == calls.target(shared.three.get(stage)), cluster["target"]
    assert cluster["policy"] == "round_robin", cluster["policy"]
    for endpoint in cluster["endpoints"]:
        assert endpoint["state"] == "READY", endpoint
        assert endpoint["outcomes"] == {"OK": 3}, endpoint
        assert 0 < endpoint["latency_mean_ms"] < 10_000, endpoint


def with_log(stage, log):
    target = calls.target(shared.three.get(stage)[:1])
    running, _ = proxy.start_with_file(stage, proxy.config({"default": target}, access_log=log))
    return running, calls.connect(stage, running.address)


def entries(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@test
def each_call_is_a_line_of_json_in_the_access_log(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, client = with_log(stage, path)
    client.call()
    client.fails({"code": "NOT_FOUND", "message": "no such order"})
    assert client.fails(seconds=0.2, service="/x.y/", ask={"hold": "logged"})[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: len(entries(path)) == 3, "three lines are written")
    first, second, third = entries(path)
    backend = shared.one(stage)
    assert first["grpc_service"] == "evenkeel.test.Probe" and first["grpc_method"] == "Unary", first
    assert first["grpc_status"] == 0 and first["response_flags"] == "-", first
    assert first["upstream_cluster"] == "default" and first["upstream_host"] == backend.address, first
    assert (first["route"], first["attempts"]) == (0, 1), first
    assert (first["request_messages"], first["response_messages"]) == (1, 1), first
    assert first["request_bytes"] == 7, first
    assert first["duration_ms"] >= first["time_to_first_byte_ms"] > 0, first
    assert 14_000 < first["timeout_ms"] <= 15_100, first
    assert first["user_agent"].startswith("grpc-python/"), first
    assert first["downstream_remote_address"].startswith("127.0.0.1:"), first
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["start_time"]), first
    assert second["grpc_status"] == 5 and second["response_flags"] == "-", second
    # Client, proxy and backend keep the same deadline, and any of them may be first.
    assert (third["grpc_status"], third["response_flags"]) in ((4, "UT"), (4, "-"), (1, "DC"), (1, "DR")), third
    assert {frozenset(entry) for entry in (first, second, third)} == {frozenset(first)}, "the fields are always the same"
    assert running.metrics().sum("evenkeel_access_log_lines_written_total") == 3


@test
def a_call_that_the_proxy_answered_says_why_in_the_access_log(stage):
    with wire.RawServer() as server:
        target = f"ipv4:{server.address}"
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, _ = proxy.start_with_file(stage, proxy.config({"default": target}, access_log=path))
    _, details = calls.connect(stage, running.address).fails()
    (entry,) = eventually(lambda: entries(path), "a line is written")
    assert entry["grpc_status"] == 14 and entry["response_flags"] == "UF", entry
    assert entry["details"] == details, (entry, details)
    assert entry["attempts"] == 0 and entry["upstream_host"] is None, entry


@test
def a_request_that_is_no_call_is_a_line_too(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, client = with_log(stage, path)
    client.call()
    requests = [
        wire.request_headers("/metrics", method="GET", content_type=None, extra=[("user-agent", "probe/1")]),
        wire.request_headers(method="PUT"),
        wire.request_headers(extra=[("grpc-timeout", "soon")]),
    ]
    with wire.RawClient(running.address) as raw:
        for headers in requests:
            raw.answer(raw.request(headers))
    eventually(lambda: len(entries(path)) == 4, "four lines are written")
    call, plain, put, malformed = entries(path)
    assert set(plain) == set(call), "the fields are always the same"
    assert (call["response_code"], call["grpc_status"]) == (200, 0), call
    assert (plain["response_code"], plain["grpc_status"], plain["response_flags"]) == (415, None, "DPE"), plain
    assert (plain["grpc_service"], plain["grpc_method"], plain["authority"]) == ("", "metrics", "probe.test"), plain
    assert (plain["user_agent"], plain["upstream_cluster"], plain["attempts"]) == ("probe/1", None, 0), plain
    assert plain["route"] is None, plain
    assert "content-type" in plain["details"], plain
    assert (put["response_code"], put["grpc_status"]) == (405, None) and "POST" in put["details"], put
    assert (malformed["response_code"], malformed["grpc_status"]) == (400, 13), malformed
    assert "grpc-timeout" in malformed["details"], malformed
    # Only calls are counted as calls.
    assert running.metrics().sum("grpc_server_handled_total") == 2


@test
def a_request_in_http1_is_a_line_of_the_access_log_that_says_so(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, _ = with_log(stage, path)
    host, port = running.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"POST /shop.Orders/Get?x=1 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert frames.receive_all(sock).startswith(b"HTTP/1.1 505 ")
        own = "{}:{}".format(*sock.getsockname())
    [entry] = eventually(lambda: entries(path), "a line is written")
    assert (entry["response_code"], entry["grpc_status"]) == (505, None), entry
    assert entry["grpc_service"] == "shop.Orders", entry
    assert entry["details"] == "the client speaks HTTP/1, and this port HTTP/2", entry
    assert entry["downstream_remote_address"] == own, entry
    assert entry["upstream_host"] is None and entry["attempts"] == 0, entry
    assert running.metrics().sum("evenkeel_http1_requests_total") == 1


@test
def names_that_lead_to_the_admin_interface_but_are_not_its_own_are_refused(stage):
    """DNS rebinding: a page's own name that leads to 127.0.0.1 makes the browser send it as `Host`."""
    target = calls.target(shared.three.get(stage)[:1])
    admin = {"address": "127.0.0.1:0", "hosts": ["proxy.example"]}
    running, _ = proxy.start_with_file(stage, proxy.config({"default": target}, admin=admin))
    port = running.admin.rsplit(":", 1)[1]

    def status(host, path="/ready", method="GET"):
        return running.get(path, headers={"Host": host}, method=method)[0]

    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "proxy.example", f"PROXY.example:{port}", f"[::1]:{port}"):
        assert status(host) == 200, host
    for host in ("attacker.example", f"attacker.example:{port}", "proxy.example.attacker.example", "127.0.0.1.nip.io"):
        for path in ("/ready", "/metrics", "/config", "/clusters", "/no-such-path"):
            assert status(host, path) == 403, (host, path)
        for path in ("/drain", "/reload"):
            assert status(host, path, "POST") == 403, (host, path)
    # Nothing was drained or loaded.
    assert running.get("/ready")[0] == 200
    assert running.configuration()["generation"] == 1
    code, text = running.get("/ready", headers={"Host": "attacker.example"})
    assert code == 403 and "admin.hosts" in text, text
    assert calls.connect(stage, running.address).call()["backend"] == "b1"


@test
def the_access_log_can_go_to_standard_output(stage):
    running, client = with_log(stage, "stdout")
    client.call()
    eventually(lambda: running.output("stdout"), "a line is written")
    assert json.loads(running.output("stdout")[0])["grpc_status"] == 0


@test
def an_access_log_that_cannot_be_written_has_one_log_line_a_second_and_costs_no_call(stage):
    config = proxy.config({"default": f"ipv4:{shared.one(stage).address}"}, access_log="/dev/full")
    running, _ = proxy.start_with_file(stage, config)
    client = calls.connect(stage, running.address)
    began = time.monotonic()
    errors = "evenkeel_access_log_errors_total"

    def fails_often():
        client.call()
        return running.metrics().sum(errors) >= 5

    eventually(fails_often, "five writes fail")
    seconds = time.monotonic() - began
    running.wait_for_line("the access log cannot be written")
    lines = [line for line in running.output() if "the access log cannot be written" in line]
    assert 1 <= len(lines) <= seconds + 1, (len(lines), seconds, running.metrics().sum(errors))


@test
def sigusr1_opens_a_rotated_access_log_again(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, client = with_log(stage, path)
    client.call()
    eventually(lambda: len(entries(path)) == 1, "a line is written")
    os.rename(path, path + ".1")
    running.signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(path), "the file is made anew")
    client.call()
    eventually(lambda: len(entries(path)) == 1, "a line is written to the new file")
    assert len(entries(path + ".1")) == 1


@test
def text_of_clients_cannot_break_a_line_of_the_access_log(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "access.log")
    running, _ = with_log(stage, path)
    agent = 'a"b\\c' + "x" * 1000
    with wire.RawClient(running.address) as client:
        client.status(client.request(wire.request_headers(extra=[("user-agent", agent)])))
    (entry,) = eventually(lambda: entries(path), "a line is written")
    assert entry["user_agent"].startswith('a"b\\cxxx') and entry["user_agent"].endswith("…"), entry


@test
def a_metrics_page_is_read_back_whole(stage):
    """The parser that these tests use refuses what is no sample."""
    _, text = start(stage).get("/metrics")
    assert metrics.parse(text).sum("evenkeel_build_info") == 1


@test
def a_log_that_nobody_reads_holds_up_neither_calls_nor_the_end(stage):
    path = os.path.join(stage.enter(tempfile.TemporaryDirectory()), "proxy.sock")
    flags = ["--listen", f"unix:{path}", "--to", f"ipv4:{shared.one(stage).address}", "--admin", "off"]
    reader, writer = os.pipe()
    stage.at_end(os.close, reader)
    # Whoever writes one byte more to this pipe waits for ever.
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    running = subprocess.Popen([proxy.binary(), "proxy", *flags], stdin=subprocess.DEVNULL, stderr=writer)
    stage.at_end(running.wait)
    stage.at_end(running.kill)
    os.close(writer)

    def refused_bytes():
        """What a connection gets that breaks the protocol: a line is logged about it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(frames.STEP_SECONDS)
            sock.connect(path)
            sock.sendall(frames.PREFACE + frames.frame(frames.DATA, 0, 0, b"x"))
            return frames.receive_all(sock)

    assert eventually(refused_bytes, "the proxy closes a connection that breaks the protocol")
    with calls.Client(f"unix:{path}") as client:
        client.call()
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 0
