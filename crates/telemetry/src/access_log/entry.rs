//! One call as a line of JSON, or a request that is none.
//!
//! Field names are those of Envoy's JSON logs where Envoy has them, so that existing queries work. Every field is always
//! present, `null` where it does not apply: a line's shape never varies.
//!
//! Text of peers cannot break a line or a terminal: JSON escapes quotes and C0 controls, what is not UTF-8 and DEL and C1
//! controls (which some terminals obey) become U+FFFD, and what is longer than [`MAX_FIELD_BYTES`] ends in `…`.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use evenkeel_grpc::Code;
use serde::{Serialize, Serializer};

use crate::event::ResponseFlags;

/// Longest text that is logged in full, in bytes; of a longer one this much is.
pub const MAX_FIELD_BYTES: usize = 256;

/// Longest line, in bytes: seven texts of which each byte is escaped as `\u0000`, and the rest.
pub const MAX_LINE_BYTES: usize = 12 * 1024;

/// Fields of [`Entry`] that hold text of peers or of the configuration.
const TEXT_FIELDS: usize = 7;

/// Room for names, numbers and punctuation; the worst case is tested.
const REST_BYTES: usize = 1024;

const _: () = assert!(TEXT_FIELDS * (6 * MAX_FIELD_BYTES + "…".len()) + REST_BYTES <= MAX_LINE_BYTES);

/// The last second that RFC 3339 can write: 9999-12-31T23:59:59Z.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// What is logged of one call.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Entry<'a> {
    /// When the request's header section came, since the Unix epoch; printed as RFC 3339 with milliseconds.
    #[serde(serialize_with = "rfc3339")]
    pub start_time: Duration,
    /// The client's `:authority`.
    #[serde(serialize_with = "text")]
    pub authority: &'a [u8],
    /// The part of the path before the method.
    #[serde(serialize_with = "text")]
    pub grpc_service: &'a [u8],
    /// The last part of the path.
    #[serde(serialize_with = "text")]
    pub grpc_method: &'a [u8],
    /// The HTTP status that the client got; `None` if it got none.
    pub response_code: Option<u16>,
    /// The status that the client got; printed as its number. `None` for a request that is no call.
    #[serde(serialize_with = "optional_number")]
    pub grpc_status: Option<Code>,
    /// What the proxy did to the call; `-` for nothing.
    #[serde(serialize_with = "display")]
    pub response_flags: ResponseFlags,
    /// Why, if the proxy answered by itself: the cause in words.
    #[serde(serialize_with = "optional_text")]
    pub details: Option<&'a [u8]>,
    /// The client's address.
    #[serde(serialize_with = "optional_display")]
    pub downstream_remote_address: Option<SocketAddr>,
    /// The route: its place in the listener's list, from 0, as `explain` numbers it; `None` if none matched.
    pub route: Option<u16>,
    /// The cluster; `None` if no route matched.
    #[serde(serialize_with = "optional_text")]
    pub upstream_cluster: Option<&'a [u8]>,
    /// The endpoint of the last attempt; `None` if there was none.
    #[serde(serialize_with = "optional_text")]
    pub upstream_host: Option<&'a [u8]>,
    /// Attempts made; 0 if the call reached no endpoint.
    pub attempts: u32,
    /// From the request's header section to the end of the response; like all durations, printed in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// From the request's header section to the first byte of the response; `None` if there was none.
    #[serde(rename = "time_to_first_byte_ms", serialize_with = "optional_millis")]
    pub time_to_first_byte: Option<Duration>,
    /// The client's `grpc-timeout`; `None` if it set none.
    #[serde(rename = "timeout_ms", serialize_with = "optional_millis")]
    pub timeout: Option<Duration>,
    /// Messages from the client.
    pub request_messages: u64,
    /// Messages to the client.
    pub response_messages: u64,
    /// Bytes of DATA from the client.
    pub request_bytes: u64,
    /// Bytes of DATA to the client.
    pub response_bytes: u64,
    /// The client's `user-agent`.
    #[serde(serialize_with = "optional_text")]
    pub user_agent: Option<&'a [u8]>,
}

/// Text of a peer as it is logged.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = MAX_FIELD_BYTES;
        for chunk in self.0.utf8_chunks() {
            let replacement = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            for char in chunk.valid().chars().chain(replacement) {
                let char = if matches!(char, '\x7f'..='\u{9f}') { char::REPLACEMENT_CHARACTER } else { char };
                let Some(rest) = left.checked_sub(char.len_utf8()) else { return f.write_str("…") };
                left = rest;
                fmt::Write::write_char(f, char)?;
            }
        }
        Ok(())
    }
}

fn text<S: Serializer>(bytes: &&[u8], serializer: S) -> Result<S::Ok, S::Error> {
    // Nearly every text is short and printable ASCII, and needs no second look.
    match std::str::from_utf8(bytes) {
        Ok(plain)
            if bytes.len() <= MAX_FIELD_BYTES && bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) =>
        {
            serializer.serialize_str(plain)
        }
        _ => serializer.collect_str(&Text(bytes)),
    }
}

fn optional_text<S: Serializer>(bytes: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => text(bytes, serializer),
        None => serializer.serialize_none(),
    }
}

fn rfc3339<S: Serializer>(since_epoch: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    // Later than the year 9999 does not print; a clock that wrong is not worth a panic.
    let time = SystemTime::UNIX_EPOCH + (*since_epoch).min(LAST_SECOND);
    serializer.collect_str(&humantime::format_rfc3339_millis(time))
}

fn optional_number<S: Serializer>(code: &Option<Code>, serializer: S) -> Result<S::Ok, S::Error> {
    match code {
        Some(code) => serializer.serialize_u8(u8::from(*code)),
        None => serializer.serialize_none(),
    }
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn optional_display<S: Serializer>(
    value: &Option<impl fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

/// Milliseconds with three decimals: 1.234 for 1234 microseconds.
fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e3)
}

fn optional_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => millis(duration, serializer),
        None => serializer.serialize_none(),
    }
}
