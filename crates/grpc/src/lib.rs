//! gRPC's wire rules: timeouts, status, message framing, metadata, detection and HTTP mapping.
//!
//! What it is: the part of gRPC that a load balancer, a server and a client have in common, as functions of
//! bytes. It knows neither HTTP/2 frames nor sockets nor clocks; the header values and the DATA that it
//! judges come from the engine, the answers go back there. Unless a function says so, nothing here allocates,
//! and nothing panics whatever the bytes.
//!
//! | Module | Duty |
//! |---|---|
//! | [`path`] | `:path`: `/service/method`, canonical or refused |
//! | [`content_type`] | whether a message is gRPC at all |
//! | [`timeout`] | `grpc-timeout`: read, and print what is left |
//! | [`framing`] | message boundaries within DATA |
//! | [`metadata`] | keys, ASCII values, `-bin` values |
//! | [`status`] | `grpc-status` and the names of the codes |
//! | [`message`] | `grpc-message`: percent-encoding |
//! | [`details`] | `grpc-status-details-bin`: the reason of a local answer |
//! | [`pushback`] | `grpc-retry-pushback-ms` |
//! | [`load_report`] | `endpoint-load-metrics-bin`: the load that a backend reports |
//! | [`http_mapping`] | HTTP status and HTTP/2 error codes |
//!
//! # Examples
//!
//! A call passes through a proxy that has used up 20 ms of its deadline:
//!
//! ```
//! use std::time::Duration;
//!
//! use evenkeel_grpc::{Code, ContentType, MessageScanner, Path, parse_timeout, print_timeout};
//!
//! // The request.
//! let path = Path::parse(b"/shop.Orders/Get")?;
//! assert_eq!(path.service(), "shop.Orders");
//! assert_eq!(ContentType::detect(b"application/grpc+proto"), ContentType::Grpc);
//! let budget = parse_timeout(b"1S")?;
//! let left = budget - Duration::from_millis(20);
//! assert_eq!(print_timeout(left).as_bytes(), b"980000u");
//!
//! // A message in two DATA frames.
//! let mut scanner = MessageScanner::new(Some(4 * 1024 * 1024));
//! assert_eq!(scanner.scan(b"\0\0\0\0\x03a")?, 0);
//! assert!(!scanner.at_boundary());
//! assert_eq!(scanner.scan(b"bc")?, 1);
//! assert!(scanner.at_boundary());
//!
//! // The trailers.
//! assert_eq!(Code::from_wire(b"4"), Code::DeadlineExceeded);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod content_type;
pub mod details;
pub mod framing;
pub mod http_mapping;
mod inline;
pub mod load_report;
pub mod message;
pub mod metadata;
pub mod path;
pub mod pushback;
pub mod status;
pub mod timeout;

#[cfg(test)]
mod tests;

pub use content_type::{APPLICATION_GRPC, ContentType};
pub use details::{ErrorInfo, encode_status_details};
pub use framing::{FramingError, FramingFault, InProgress, MessageScanner, PREFIX_LEN, encode_prefix};
pub use http_mapping::{code_from_http_status, code_from_reset, http_status};
pub use inline::InlineText;
pub use load_report::{LoadMetrics, LoadReportError, UtilizationMetric, parse_load_report, read_load_report};
pub use message::{decode_message, encode_message};
pub use metadata::{
    KeyKind, check_ascii_value, check_binary_values, classify_key, decode_binary_values, encode_binary_value,
    is_forwarding_key, is_reserved_key,
};
pub use path::{Path, PathError};
pub use pushback::{Pushback, PushbackText};
pub use status::Code;
pub use timeout::{TIMEOUT_MAX, TimeoutError, TimeoutText, parse_timeout, print_timeout};
