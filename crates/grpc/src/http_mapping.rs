//! Translation between gRPC's status codes, HTTP's status codes and HTTP/2's error codes.
//!
//! The three tables are neither symmetric nor complete, so each direction has its own function:
//! - a response without `grpc-status` (from some HTTP intermediary) is read by [`code_from_http_status`];
//! - a stream that was reset before its trailers is read by [`code_from_reset`];
//! - the access log's HTTP status of a finished call is [`http_status`]. It never goes on the wire: gRPC's
//!   own answers have `:status 200`.
//!
//! Sources:
//! [http-grpc-status-mapping](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md),
//! [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) (Errors), and
//! [code.proto](https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto).

use crate::status::Code;

/// The outcome of a call whose response has this HTTP status and no `grpc-status`. 200 is UNKNOWN: a success
/// would have said so. 1xx is no response yet; the caller skips it (RFC 9110 §15.2).
#[must_use]
pub const fn code_from_http_status(status: u16) -> Code {
    match status {
        400 | 431 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// HTTP/2 error codes, [RFC 9113 §7](https://www.rfc-editor.org/rfc/rfc9113#section-7), that map to something
/// other than INTERNAL. Numbers, not the engine's type: this crate does not depend on an HTTP/2
/// implementation.
mod error_code {
    pub(super) const STREAM_CLOSED: u32 = 0x5;
    pub(super) const REFUSED_STREAM: u32 = 0x7;
    pub(super) const CANCEL: u32 = 0x8;
    pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;
    pub(super) const INADEQUATE_SECURITY: u32 = 0xc;
}

/// The outcome of a call whose server sent RST_STREAM with this HTTP/2 error code.
///
/// STREAM_CLOSED has no mapping in the specification ("no open stream to propagate to") and reads as UNKNOWN.
/// HTTP_1_1_REQUIRED and codes yet to be assigned are not in its table; RFC 9113 §7 lets them be treated as
/// INTERNAL_ERROR, and gRPC core does: INTERNAL.
///
/// CANCEL after the caller's deadline is DEADLINE_EXCEEDED to the caller; only the holder of the deadline can
/// tell.
#[must_use]
pub const fn code_from_reset(error_code: u32) -> Code {
    match error_code {
        error_code::STREAM_CLOSED => Code::Unknown,
        error_code::REFUSED_STREAM => Code::Unavailable,
        error_code::CANCEL => Code::Cancelled,
        error_code::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        error_code::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    }
}

/// The HTTP status that means the same, for access logs and their readers. Source: `google/rpc/code.proto`.
#[must_use]
pub const fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_http_statuses_as_the_specification_says() {
        let table = [
            (400, Code::Internal),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::Unimplemented),
            (429, Code::Unavailable),
            (431, Code::Internal),
            (502, Code::Unavailable),
            (503, Code::Unavailable),
            (504, Code::Unavailable),
        ];
        for status in 0..=1000 {
            let listed = table.iter().find(|(listed, _)| *listed == status).map(|&(_, code)| code);
            assert_eq!(code_from_http_status(status), listed.unwrap_or(Code::Unknown), "{status}");
        }
    }

    #[test]
    fn reads_resets_as_the_specification_says() {
        let table = [
            Code::Internal,          // NO_ERROR
            Code::Internal,          // PROTOCOL_ERROR
            Code::Internal,          // INTERNAL_ERROR
            Code::Internal,          // FLOW_CONTROL_ERROR
            Code::Internal,          // SETTINGS_TIMEOUT
            Code::Unknown,           // STREAM_CLOSED
            Code::Internal,          // FRAME_SIZE_ERROR
            Code::Unavailable,       // REFUSED_STREAM
            Code::Cancelled,         // CANCEL
            Code::Internal,          // COMPRESSION_ERROR
            Code::Internal,          // CONNECT_ERROR
            Code::ResourceExhausted, // ENHANCE_YOUR_CALM
            Code::PermissionDenied,  // INADEQUATE_SECURITY
            Code::Internal,          // HTTP_1_1_REQUIRED
            Code::Internal,          // unassigned
        ];
        for (error_code, code) in (0..).zip(table) {
            assert_eq!(code_from_reset(error_code), code, "{error_code}");
        }
        assert_eq!(code_from_reset(u32::MAX), Code::Internal);
    }

    #[test]
    fn logs_the_http_statuses_of_code_proto() {
        let table = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        assert_eq!(Code::ALL.map(http_status), table);
    }
}
