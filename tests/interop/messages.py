"""The messages of gRPC's interoperability tests, made at run time: no protoc, no generated code."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "grpc.testing"
SERVICE = f"/{PACKAGE}.TestService/"

_FIELD = descriptor_pb2.FieldDescriptorProto

# Message by message: field name, number, type; a type in capitals is another message, `*` stands for repeated.
# Names and numbers are those of grpc/testing/messages.proto, which both sides' programs were compiled from.
_MESSAGES = {
    "Empty": [],
    "BoolValue": [("value", 1, "bool")],
    "Payload": [("type", 1, "int32"), ("body", 2, "bytes")],
    "EchoStatus": [("code", 1, "int32"), ("message", 2, "string")],
    "SimpleRequest": [
        ("response_type", 1, "int32"),
        ("response_size", 2, "int32"),
        ("payload", 3, "Payload"),
        ("response_compressed", 6, "BoolValue"),
        ("response_status", 7, "EchoStatus"),
        ("expect_compressed", 8, "BoolValue"),
    ],
    "SimpleResponse": [("payload", 1, "Payload")],
    "StreamingInputCallRequest": [("payload", 1, "Payload"), ("expect_compressed", 2, "BoolValue")],
    "StreamingInputCallResponse": [("aggregated_payload_size", 1, "int32")],
    "ResponseParameters": [("size", 1, "int32"), ("interval_us", 2, "int32"), ("compressed", 3, "BoolValue")],
    "StreamingOutputCallRequest": [
        ("response_type", 1, "int32"),
        ("response_parameters", 2, "*ResponseParameters"),
        ("payload", 3, "Payload"),
        ("response_status", 7, "EchoStatus"),
    ],
    "StreamingOutputCallResponse": [("payload", 1, "Payload")],
}


def _describe():
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            described = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if kind.startswith("*"):
                described.label = _FIELD.LABEL_REPEATED
                kind = kind[1:]
            if kind in _MESSAGES:
                described.type = _FIELD.TYPE_MESSAGE
                described.type_name = f".{PACKAGE}.{kind}"
            else:
                described.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_describe())


def _class(name):
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


Empty = _class("Empty")
BoolValue = _class("BoolValue")
Payload = _class("Payload")
EchoStatus = _class("EchoStatus")
SimpleRequest = _class("SimpleRequest")
SimpleResponse = _class("SimpleResponse")
StreamingInputCallRequest = _class("StreamingInputCallRequest")
StreamingInputCallResponse = _class("StreamingInputCallResponse")
ResponseParameters = _class("ResponseParameters")
StreamingOutputCallRequest = _class("StreamingOutputCallRequest")
StreamingOutputCallResponse = _class("StreamingOutputCallResponse")


def payload(size):
    """A payload of so many zeros, as the cases describe it."""
    return Payload(body=bytes(size))
