"""gRPC's interoperability cases with a grpcio client.

Each case is a function of a channel. What it does and asserts is what gRPC's own description says
(grpc/grpc, doc/interop-test-descriptions.md).
"""

import queue

import grpc
import messages
from harness import calls

LARGE_REQUEST = 271828
LARGE_RESPONSE = 314159
REQUEST_SIZES = [27182, 8, 1828, 45904]
RESPONSE_SIZES = [31415, 9, 2653, 58979]
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def _method(channel, kind, name, response, service=messages.SERVICE):
    serialize = lambda message: message.SerializeToString()
    return getattr(channel, kind)(service + name, serialize, response.FromString)


def empty_call(channel):
    return _method(channel, "unary_unary", "EmptyCall", messages.Empty)


def unary_call(channel):
    return _method(channel, "unary_unary", "UnaryCall", messages.SimpleResponse)


def full_duplex_call(channel):
    return _method(channel, "stream_stream", "FullDuplexCall", messages.StreamingOutputCallResponse)


def streaming_input_call(channel):
    return _method(channel, "stream_unary", "StreamingInputCall", messages.StreamingInputCallResponse)


def streaming_output_call(channel):
    return _method(channel, "unary_stream", "StreamingOutputCall", messages.StreamingOutputCallResponse)


def large_request(**more):
    return messages.SimpleRequest(
        response_size=LARGE_RESPONSE, payload=messages.payload(LARGE_REQUEST), **more
    )


def output_request(sizes, payload=0, **more):
    return messages.StreamingOutputCallRequest(
        response_parameters=[messages.ResponseParameters(size=size) for size in sizes],
        payload=messages.payload(payload),
        **more,
    )


def check(call, code, details=None):
    """Asserts how a call ended."""
    assert call.code() == code, f"{call.code()} ({call.details()!r}) instead of {code}"
    if details is not None:
        assert call.details() == details, f"{call.details()!r} instead of {details!r}"


class Requests:
    """A stream of requests that the case feeds one by one."""

    def __init__(self):
        self._queue = queue.Queue()

    def send(self, request):
        self._queue.put(request)

    def end(self):
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


@case
def empty_unary(channel):
    assert empty_call(channel)(messages.Empty(), timeout=calls.CALL_SECONDS) == messages.Empty()


@case
def large_unary(channel):
    response = unary_call(channel)(large_request(), timeout=calls.CALL_SECONDS)
    assert response.payload.body == bytes(LARGE_RESPONSE)


@case
def client_streaming(channel):
    requests = (messages.StreamingInputCallRequest(payload=messages.payload(size)) for size in REQUEST_SIZES)
    response = streaming_input_call(channel)(requests, timeout=calls.CALL_SECONDS)
    assert response.aggregated_payload_size == sum(REQUEST_SIZES)


@case
def server_streaming(channel):
    call = streaming_output_call(channel)(output_request(RESPONSE_SIZES), timeout=calls.CALL_SECONDS)
    assert [len(response.payload.body) for response in call] == RESPONSE_SIZES


@case
def ping_pong(channel):
    requests = Requests()
    call = full_duplex_call(channel)(iter(requests), timeout=calls.CALL_SECONDS)
    for asked, size in zip(REQUEST_SIZES, RESPONSE_SIZES):
        requests.send(output_request([size], asked))
        assert len(next(call).payload.body) == size
    requests.end()
    assert list(call) == []
    check(call, grpc.StatusCode.OK)


@case
def empty_stream(channel):
    call = full_duplex_call(channel)(iter(()), timeout=calls.CALL_SECONDS)
    assert list(call) == []
    check(call, grpc.StatusCode.OK)


@case
def custom_metadata(channel):
    sent = [
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab\x00\xff"),
    ]
    unary = unary_call(channel)
    _, call = unary.with_call(large_request(), timeout=calls.CALL_SECONDS, metadata=sent)
    duplex = full_duplex_call(channel)(
        iter([output_request([31415], 27182)]), timeout=calls.CALL_SECONDS, metadata=sent
    )
    assert len(list(duplex)) == 1
    for ended in (call, duplex):
        initial = dict(ended.initial_metadata())
        trailing = dict(ended.trailing_metadata())
        assert initial.get(sent[0][0]) == sent[0][1], initial
        assert trailing.get(sent[1][0]) == sent[1][1], trailing


def _echo_status(channel, text):
    status = messages.EchoStatus(code=grpc.StatusCode.UNKNOWN.value[0], message=text)
    unary = unary_call(channel).future(
        messages.SimpleRequest(response_status=status), timeout=calls.CALL_SECONDS
    )
    check(unary, grpc.StatusCode.UNKNOWN, text)
    duplex = full_duplex_call(channel)(
        iter([messages.StreamingOutputCallRequest(response_status=status)]), timeout=calls.CALL_SECONDS
    )
    check(duplex, grpc.StatusCode.UNKNOWN, text)


@case
def status_code_and_message(channel):
    _echo_status(channel, "test status message")


@case
def special_status_message(channel):
    _echo_status(channel, SPECIAL_MESSAGE)


@case
def unimplemented_method(channel):
    method = _method(channel, "unary_unary", "UnimplementedCall", messages.Empty)
    check(method.future(messages.Empty(), timeout=calls.CALL_SECONDS), grpc.StatusCode.UNIMPLEMENTED)


@case
def unimplemented_service(channel):
    service = f"/{messages.PACKAGE}.UnimplementedService/"
    method = _method(channel, "unary_unary", "UnimplementedCall", messages.Empty, service)
    check(method.future(messages.Empty(), timeout=calls.CALL_SECONDS), grpc.StatusCode.UNIMPLEMENTED)


@case
def timeout_on_sleeping_server(channel):
    requests = Requests()
    call = full_duplex_call(channel)(iter(requests), timeout=0.001)
    requests.send(output_request([31415], 27182))
    check(call, grpc.StatusCode.DEADLINE_EXCEEDED)
    requests.end()


@case
def cancel_after_begin(channel):
    requests = Requests()
    call = streaming_input_call(channel).future(iter(requests), timeout=calls.CALL_SECONDS)
    call.cancel()
    assert call.cancelled()
    check(call, grpc.StatusCode.CANCELLED)
    requests.end()


@case
def cancel_after_first_response(channel):
    requests = Requests()
    call = full_duplex_call(channel)(iter(requests), timeout=calls.CALL_SECONDS)
    requests.send(output_request([31415], 27182))
    assert len(next(call).payload.body) == 31415
    call.cancel()
    check(call, grpc.StatusCode.CANCELLED)
    requests.end()


@case
def server_compressed_unary(channel):
    for compressed in (True, False):
        request = large_request(response_compressed=messages.BoolValue(value=compressed))
        response = unary_call(channel)(request, timeout=calls.CALL_SECONDS)
        assert response.payload.body == bytes(LARGE_RESPONSE)


@case
def client_compressed_unary(channel):
    """Needs a server that looks at each message's compressed flag."""
    call = unary_call(channel).future(
        large_request(expect_compressed=messages.BoolValue(value=True)), timeout=calls.CALL_SECONDS
    )
    check(call, grpc.StatusCode.INVALID_ARGUMENT)
    for compressed, how in ((True, grpc.Compression.Gzip), (False, grpc.Compression.NoCompression)):
        request = large_request(expect_compressed=messages.BoolValue(value=compressed))
        response = unary_call(channel)(request, timeout=calls.CALL_SECONDS, compression=how)
        assert response.payload.body == bytes(LARGE_RESPONSE)
