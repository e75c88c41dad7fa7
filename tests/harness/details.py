"""google.rpc.Status with google.rpc.ErrorInfo, as Google's protobuf library reads them.

The generated classes are in a package of their own, which the tests would otherwise not need.
"""

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

NAME = "grpc-status-details-bin"

_FIELD = descriptor_pb2.FieldDescriptorProto


def _file():
    file = descriptor_pb2.FileDescriptorProto(name="probe/details.proto", package="google.rpc", syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=_FIELD.TYPE_INT32, label=_FIELD.LABEL_OPTIONAL)
    status.field.add(name="message", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    details = status.field.add(name="details", number=3, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_REPEATED)
    details.type_name = ".google.protobuf.Any"
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    info.field.add(name="domain", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), start=1):
        entry.field.add(name=name, number=number, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    metadata = info.field.add(name="metadata", number=3, type=_FIELD.TYPE_MESSAGE, label=_FIELD.LABEL_REPEATED)
    metadata.type_name = ".google.rpc.ErrorInfo.MetadataEntry"
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
_pool.Add(_file())
_Status = message_factory.GetMessageClass(_pool.FindMessageTypeByName("google.rpc.Status"))
_ErrorInfo = message_factory.GetMessageClass(_pool.FindMessageTypeByName("google.rpc.ErrorInfo"))


def of(call):
    """The code, message, reason, domain and metadata that the trailers of a failed call carry."""
    (value,) = [value for name, value in call.trailing_metadata() if name == NAME]
    status = _Status.FromString(value)
    (detail,) = status.details
    assert detail.type_url == "type.googleapis.com/google.rpc.ErrorInfo", detail
    info = _ErrorInfo.FromString(detail.value)
    return status.code, status.message, info.reason, info.domain, dict(info.metadata)
