//! `grpc-status-details-bin`: the machine-readable reason of an answer that the proxy itself gives.
//!
//! A status code and a sentence leave a client guessing who spoke. One `google.rpc.ErrorInfo` names the
//! reason and the domain that defined it, so that programs tell "the proxy had no endpoint" from "the server
//! said UNAVAILABLE".
//!
//! Rule: the value is base64 without padding of a `google.rpc.Status` whose `code` and `message` agree with
//! `grpc-status` and `grpc-message`. Bounds: the message as in [`fitting`], at most [`METADATA_ENTRIES_MAX`]
//! entries, each value at most [`METADATA_VALUE_LEN_MAX`] bytes; everything else is program text (`'static`).
//! Allocates: this path is for errors, not for calls that succeed.
//!
//! Sources: [status.proto](https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto) and
//! [error_details.proto](https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto).

use std::collections::BTreeMap;

use prost::Message;

use crate::message::fitting;
use crate::metadata::encode_binary_value;
use crate::status::Code;

/// The name of the trailer.
pub const STATUS_DETAILS_BIN: &str = "grpc-status-details-bin";

/// Entries of [`ErrorInfo::metadata`] that are sent at most; later ones are left out.
pub const METADATA_ENTRIES_MAX: usize = 8;

/// Length of a value in [`ErrorInfo::metadata`] at most, in bytes; longer ones are cut at a character.
///
/// Eight of these and the longest message make about 4.5 KiB of base64: within the 8 KiB that PROTOCOL-HTTP2
/// suggests as a client's limit on trailers.
pub const METADATA_VALUE_LEN_MAX: usize = 256;

const ERROR_INFO_TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Why the proxy answered as it did, in the terms of `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Copy)]
pub struct ErrorInfo<'a> {
    /// The cause, unique within the domain: `UPSTREAM_OVERFLOW`. At most 63 of `A-Z 0-9 _`
    /// (`error_details.proto`).
    pub reason: &'static str,
    /// Who defined the reason: the name of the product.
    pub domain: &'static str,
    /// Circumstances, such as the cluster. Keys are lowerCamelCase, at most 64 bytes (`error_details.proto`).
    pub metadata: &'a [(&'static str, &'a str)],
}

/// The value of `grpc-status-details-bin`: base64, without padding, of a `google.rpc.Status` with one
/// `ErrorInfo`.
///
/// `message` is the same that is given to [`encode_message`](crate::message::encode_message), and cut in the
/// same way.
#[must_use]
pub fn encode_status_details(code: Code, message: &str, info: &ErrorInfo<'_>) -> String {
    let metadata = info.metadata.iter().take(METADATA_ENTRIES_MAX);
    let info = wire::ErrorInfo {
        reason: info.reason.to_owned(),
        domain: info.domain.to_owned(),
        metadata: metadata
            .map(|&(key, value)| (key.to_owned(), cut(value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
    };
    let status = wire::Status {
        code: i32::from(u8::from(code)),
        message: fitting(message).to_owned(),
        details: vec![wire::Any { type_url: ERROR_INFO_TYPE.to_owned(), value: info.encode_to_vec() }],
    };
    encode_binary_value(&status.encode_to_vec())
}

/// The longest prefix of `value` of at most [`METADATA_VALUE_LEN_MAX`] bytes that ends at a character.
fn cut(value: &str) -> &str {
    &value[..value.floor_char_boundary(METADATA_VALUE_LEN_MAX)]
}

/// The three messages, as `status.proto`, `any.proto` and `error_details.proto` define them. Written by hand:
/// three structs are less than a build script with a protobuf compiler.
mod wire {
    use std::collections::BTreeMap;

    /// `google.rpc.Status`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Status {
        #[prost(int32, tag = "1")]
        pub(super) code: i32,
        #[prost(string, tag = "2")]
        pub(super) message: String,
        #[prost(message, repeated, tag = "3")]
        pub(super) details: Vec<Any>,
    }

    /// `google.protobuf.Any`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Any {
        #[prost(string, tag = "1")]
        pub(super) type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
    }

    /// `google.rpc.ErrorInfo`. An ordered map, so that the same answer has the same bytes.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ErrorInfo {
        #[prost(string, tag = "1")]
        pub(super) reason: String,
        #[prost(string, tag = "2")]
        pub(super) domain: String,
        #[prost(btree_map = "string, string", tag = "3")]
        pub(super) metadata: BTreeMap<String, String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::decode_binary_values;

    fn decode(value: &str) -> (wire::Status, wire::ErrorInfo) {
        let bytes = decode_binary_values(value.as_bytes()).next().unwrap().unwrap();
        let status = wire::Status::decode(&bytes[..]).unwrap();
        assert_eq!(status.details.len(), 1);
        assert_eq!(status.details[0].type_url, ERROR_INFO_TYPE);
        let info = wire::ErrorInfo::decode(&status.details[0].value[..]).unwrap();
        (status, info)
    }

    fn info<'a>(metadata: &'a [(&'static str, &'a str)]) -> ErrorInfo<'a> {
        ErrorInfo { reason: "UPSTREAM_OVERFLOW", domain: "evenkeel", metadata }
    }

    #[test]
    fn writes_the_bytes_that_protobuf_defines() {
        let details = ErrorInfo { reason: "R", domain: "d", metadata: &[("k", "v")] };
        let value = encode_status_details(Code::Unavailable, "m", &details);
        // Spelled out by hand from the protobuf encoding: (field << 3 | wire type), length, bytes.
        let error_info = b"\x0a\x01R\x12\x01d\x1a\x06\x0a\x01k\x12\x01v";
        let any = [&b"\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x0e"[..], error_info].concat();
        let status = [&b"\x08\x0e\x12\x01m\x1a\x3a"[..], &any].concat();
        assert_eq!(error_info.len(), 0x0e);
        assert_eq!(any.len(), 0x3a);
        assert_eq!(value, encode_binary_value(&status));
    }

    #[test]
    fn carries_code_message_and_reason() {
        let metadata = [("flag", "UO"), ("cluster", "orders"), ("attempt", "2")];
        let value = encode_status_details(Code::ResourceExhausted, "upstream overflow", &info(&metadata));
        assert!(!value.contains('='));
        let (status, info) = decode(&value);
        assert_eq!((status.code, status.message.as_str()), (8, "upstream overflow"));
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("UPSTREAM_OVERFLOW", "evenkeel"));
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(info.metadata, BTreeMap::from(metadata));
    }

    #[test]
    fn cuts_the_message_as_grpc_message_is_cut() {
        let message = "☺".repeat(400);
        let (status, _) = decode(&encode_status_details(Code::Internal, &message, &info(&[])));
        assert_eq!(status.message, fitting(&message));
    }

    #[test]
    fn cuts_long_metadata_values_at_a_character() {
        let values = ["a".repeat(256), "a".repeat(257), format!("{}☺", "a".repeat(254))];
        let metadata = [("fits", &*values[0]), ("long", &*values[1]), ("wide", &*values[2])];
        let (_, info) = decode(&encode_status_details(Code::Internal, "m", &info(&metadata)));
        assert_eq!(info.metadata["fits"].len(), 256);
        assert_eq!(info.metadata["long"].len(), 256);
        assert_eq!(info.metadata["wide"], "a".repeat(254));
    }

    #[test]
    fn leaves_out_entries_beyond_the_limit() {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let metadata = keys.map(|key| (key, ""));
        let (_, info) = decode(&encode_status_details(Code::Internal, "m", &info(&metadata)));
        assert!(info.metadata.keys().eq(&keys[..METADATA_ENTRIES_MAX]));
    }

    #[test]
    fn the_largest_value_fits_into_a_clients_trailers() {
        let (message, long) = ("m".repeat(5000), "v".repeat(5000));
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let metadata = keys.map(|key| (key, &*long));
        let value = encode_status_details(Code::Internal, &message, &info(&metadata));
        assert!(value.len() < 4608, "{}", value.len());
    }
}
