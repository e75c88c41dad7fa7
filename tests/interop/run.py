"""gRPC's interoperability tests, through the proxy: every client against every server that speaks the cases.

A chain is a client, what lies between, and a server; its programs are started once and serve all of its cases.
"""

import gzip
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import envoy  # noqa: E402
import grpcio_client  # noqa: E402
import messages  # noqa: E402
from harness import calls, proxy, suite, wire  # noqa: E402
from harness.process import Program, run  # noqa: E402

PROTOS = HERE.parent.parent / "crates" / "lab" / "proto"

# How long one run of a foreign client may take.
CLIENT_SECONDS = 25

PLAIN_CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
]
CLIENT_COMPRESSED = ["client_compressed_unary", "client_compressed_streaming"]
SERVER_COMPRESSED = ["server_compressed_unary", "server_compressed_streaming"]


# --- servers: each gives back its address


def grpcio_server(stage):
    server = stage.add_program(Program([sys.executable, "-u", HERE / "grpcio_server.py"], title="grpcio server"))
    return server.wait_for_line(r"^listening on (\S+)").group(1)


def go_server(stage):
    server = stage.add_program(Program([suite.peer("grpc-go-interop-server"), "-port", "0"], title="grpc-go server"))
    return f"127.0.0.1:{server.listening_port()}"


def tonic_server(stage):
    command = [suite.binary("evenkeel-lab"), "interop-server", "--listen", "127.0.0.1:0"]
    server = stage.add_program(Program(command, title="tonic server"))
    return server.wait_for_line(r"^ready (\S+)").group(1)


# --- clients: each runs one case against an address


def grpcio_case(address, case):
    with calls.Client(address) as client:
        grpcio_client.CASES[case](client.channel)


def _run_client(command, env=None):
    done = run(command, seconds=CLIENT_SECONDS, env=env)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"the client ended with {done.returncode}:\n{output}"


def go_case(address, case):
    host, port = address.rsplit(":", 1)
    program = suite.peer("grpc-go-interop-client")
    _run_client([program, "-server_host", host, "-server_port", port, "-test_case", case])


def tonic_case(address, case):
    _run_client([suite.binary("evenkeel-lab"), "interop-client", "--connect", address, "--case", case])


def js_case(address, case):
    packages = os.path.join(suite.peers(), "npm", "node_modules")
    if not os.path.isdir(os.path.join(packages, "@grpc", "grpc-js")):
        raise suite.Skip("the peer grpc-js is missing")
    command = [suite.peer("node"), HERE / "grpc_js_client.cjs", address, PROTOS, case]
    _run_client(command, {"NODE_PATH": packages})


# --- chains


def through_proxy(server):
    """Client, proxy, server."""
    return lambda stage: proxy.start(stage, f"ipv4:{server(stage)}").address


def behind_envoy(server):
    """Client, Envoy, proxy, server."""
    return lambda stage: envoy.start(stage, through_proxy(server)(stage))


def before_envoy(server):
    """Client, proxy, Envoy, server."""
    return lambda stage: proxy.start(stage, f"ipv4:{envoy.start(stage, server(stage))}").address


def chain(title, client, start, cases):
    """Registers a test for each case of a chain."""
    shared = suite.Shared(start)
    for case in cases:
        suite.test(lambda stage, case=case: client(shared.get(stage), case), name=f"{title}: {case}")


UNARY_COMPRESSED = ["client_compressed_unary", "server_compressed_unary"]

# grpcio's and grpc-go's servers do not tell whether a request was compressed, so only tonic's is asked for that.
# grpc-go's client has no cases with compression, and its server sends none.
chain("grpcio -> proxy -> grpcio", grpcio_case, through_proxy(grpcio_server), [*PLAIN_CASES, SERVER_COMPRESSED[0]])
chain("grpcio -> proxy -> grpc-go", grpcio_case, through_proxy(go_server), PLAIN_CASES)
chain("grpcio -> proxy -> tonic", grpcio_case, through_proxy(tonic_server), [*PLAIN_CASES, *UNARY_COMPRESSED])
chain("grpc-go -> proxy -> grpc-go", go_case, through_proxy(go_server), PLAIN_CASES)
chain("grpc-go -> proxy -> tonic", go_case, through_proxy(tonic_server), PLAIN_CASES)
chain("grpc-go -> proxy -> grpcio", go_case, through_proxy(grpcio_server), PLAIN_CASES)
chain(
    "tonic -> proxy -> tonic",
    tonic_case,
    through_proxy(tonic_server),
    [*PLAIN_CASES, *CLIENT_COMPRESSED, *SERVER_COMPRESSED],
)
chain("tonic -> proxy -> grpcio", tonic_case, through_proxy(grpcio_server), [*PLAIN_CASES, *SERVER_COMPRESSED])
chain("tonic -> proxy -> grpc-go", tonic_case, through_proxy(go_server), PLAIN_CASES)
chain(
    "grpc-js -> proxy -> grpcio",
    js_case,
    through_proxy(grpcio_server),
    [*PLAIN_CASES, "compressed_unary", "too_much_metadata"],
)
chain("grpc-js -> proxy -> grpc-go", js_case, through_proxy(go_server), PLAIN_CASES)
chain(
    "grpcio -> Envoy -> proxy -> grpcio",
    grpcio_case,
    behind_envoy(grpcio_server),
    [*PLAIN_CASES, SERVER_COMPRESSED[0]],
)
chain(
    "grpcio -> proxy -> Envoy -> tonic",
    grpcio_case,
    before_envoy(tonic_server),
    [*PLAIN_CASES, *UNARY_COMPRESSED],
)


@suite.test
def a_compressed_response_arrives_as_the_server_compressed_it(stage):
    """What grpcio's client hides: the flag of each message, and the encoding beside it."""
    address = through_proxy(grpcio_server)(stage)
    request = messages.SimpleRequest(
        response_size=grpcio_client.LARGE_RESPONSE, response_compressed=messages.BoolValue(value=True)
    )
    headers = wire.request_headers(
        messages.SERVICE + "UnaryCall", extra=[("grpc-accept-encoding", "identity,gzip")]
    )
    with wire.RawClient(address) as client:
        stream = client.request(headers, wire.message(request.SerializeToString()))
        found, body, trailers = client.answer(stream)
    assert found["grpc-encoding"] == "gzip", found
    assert body[0] == 1, "the message's compressed flag"
    assert len(body) == 5 + int.from_bytes(body[1:5], "big") < grpcio_client.LARGE_RESPONSE
    response = messages.SimpleResponse.FromString(gzip.decompress(body[5:]))
    assert response.payload.body == bytes(grpcio_client.LARGE_RESPONSE)
    assert trailers["grpc-status"] == "0", trailers


@suite.test
def a_compressed_request_arrives_as_the_client_compressed_it(stage):
    """tonic's server refuses a message whose flag is not what the request says."""
    address = through_proxy(tonic_server)(stage)
    request = messages.SimpleRequest(
        response_size=10, payload=messages.payload(1000), expect_compressed=messages.BoolValue(value=True)
    )
    packed = gzip.compress(request.SerializeToString())
    headers = wire.request_headers(messages.SERVICE + "UnaryCall", extra=[("grpc-encoding", "gzip")])
    with wire.RawClient(address) as client:
        stream = client.request(headers, wire.message(packed, compressed=True))
        _, body, trailers = client.answer(stream)
        assert trailers["grpc-status"] == "0", trailers
        assert len(messages.SimpleResponse.FromString(body[5:]).payload.body) == 10
        stream = client.request(headers, wire.message(request.SerializeToString()))
        assert client.status(stream)[1] == "3", "INVALID_ARGUMENT for a message without the flag"


if __name__ == "__main__":
    sys.exit(suite.main())
