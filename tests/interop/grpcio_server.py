"""gRPC's interoperability test service on grpcio."""

import concurrent.futures
import os
import sys
import time

import grpc
import messages

# Calls that are served at once.
THREADS = 16

CODES = {code.value[0]: code for code in grpc.StatusCode}

ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"


def echo_metadata(context):
    found = dict(context.invocation_metadata())
    if ECHO_INITIAL in found:
        context.send_initial_metadata([(ECHO_INITIAL, found[ECHO_INITIAL])])
    if ECHO_TRAILING in found:
        context.set_trailing_metadata([(ECHO_TRAILING, found[ECHO_TRAILING])])


def end_with(status, context):
    if status.code:
        context.abort(CODES[status.code], status.message)


def empty_call(_request, context):
    echo_metadata(context)
    return messages.Empty()


def unary_call(request, context):
    echo_metadata(context)
    end_with(request.response_status, context)
    if request.response_compressed.value:
        context.set_compression(grpc.Compression.Gzip)
    return messages.SimpleResponse(payload=messages.payload(request.response_size))


def streaming_output(request, context):
    for parameters in request.response_parameters:
        # An interval is what a request asks for, here to have a response that is still to come.
        time.sleep(parameters.interval_us / 1e6)
        if not parameters.compressed.value:
            context.disable_next_message_compression()
        yield messages.StreamingOutputCallResponse(payload=messages.payload(parameters.size))


def streaming_output_call(request, context):
    echo_metadata(context)
    end_with(request.response_status, context)
    if any(parameters.compressed.value for parameters in request.response_parameters):
        context.set_compression(grpc.Compression.Gzip)
    yield from streaming_output(request, context)


def streaming_input_call(requests, _context):
    total = sum(len(request.payload.body) for request in requests)
    return messages.StreamingInputCallResponse(aggregated_payload_size=total)


def full_duplex_call(requests, context):
    echo_metadata(context)
    for request in requests:
        end_with(request.response_status, context)
        yield from streaming_output(request, context)


def handlers():
    kinds = [
        ("EmptyCall", grpc.unary_unary_rpc_method_handler, empty_call, messages.Empty),
        ("UnaryCall", grpc.unary_unary_rpc_method_handler, unary_call, messages.SimpleRequest),
        (
            "StreamingOutputCall",
            grpc.unary_stream_rpc_method_handler,
            streaming_output_call,
            messages.StreamingOutputCallRequest,
        ),
        (
            "StreamingInputCall",
            grpc.stream_unary_rpc_method_handler,
            streaming_input_call,
            messages.StreamingInputCallRequest,
        ),
        (
            "FullDuplexCall",
            grpc.stream_stream_rpc_method_handler,
            full_duplex_call,
            messages.StreamingOutputCallRequest,
        ),
    ]
    serialize = lambda message: message.SerializeToString()
    return {name: make(serve, request.FromString, serialize) for name, make, serve, request in kinds}


def main():
    pool = concurrent.futures.ThreadPoolExecutor(THREADS)
    service = grpc.method_handlers_generic_handler(f"{messages.PACKAGE}.TestService", handlers())
    server = grpc.server(pool, handlers=[service], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    try:
        server.wait_for_termination()
    finally:
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
