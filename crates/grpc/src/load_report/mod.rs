//! The load that a backend reports (ORCA, gRFC A51): with its answer, as the trailer `endpoint-load-metrics-bin`, or on a stream
//! apart from calls ([`stream`]).
//!
//! Rule: a report is an `xds.data.orca.v3.OrcaLoadReport`; the trailer's value is base64 of one. Four of its numbers say what
//! weights need (gRFC A58), others may stand in for utilization ([`utilization`], gRFC A114), and two of the metrics that
//! applications name themselves say what prequal needs ([`REQUESTS_IN_FLIGHT`], [`LATENCY_MS`]). Those are read and everything
//! else is passed over, without a copy of the maps: a report comes with every answer. Of a field that occurs twice the last one
//! counts, as in protobuf.
//!
//! Nothing here judges the numbers: they may be negative or not a number, as the backend wrote them.
//!
//! Bounds: [`LOAD_REPORT_SYMBOLS_MAX`] and [`LOAD_REPORT_BYTES_MAX`]. Reading a report allocates nothing.
//!
//! Sources: [gRFC A51](https://github.com/grpc/proposal/blob/master/A51-custom-backend-metrics.md),
//! [orca_load_report.proto](https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto),
//! [protobuf's encoding](https://protobuf.dev/programming-guides/encoding/).

pub mod stream;
#[cfg(test)]
mod tests;
pub mod utilization;

use crate::metadata::{BinaryValueError, decode_into};
pub use utilization::UtilizationMetric;
use utilization::{Chosen, MetricMap};

/// The name of the trailer.
pub const ENDPOINT_LOAD_METRICS_BIN: &str = "endpoint-load-metrics-bin";

/// Symbols of base64 that are read at most: 3 KiB of a report, which is some hundred named metrics.
pub const LOAD_REPORT_SYMBOLS_MAX: usize = 4_096;

/// Bytes of a report that are read at most.
pub const LOAD_REPORT_BYTES_MAX: usize = LOAD_REPORT_SYMBOLS_MAX / 4 * 3;

/// The metric in `named_metrics` by which a backend tells how many requests it has in flight, of all its clients. ORCA has no
/// field for it.
pub const REQUESTS_IN_FLIGHT: &str = "requests_in_flight";

/// The metric in `named_metrics` by which a backend tells how long calls took of late, in milliseconds, best the median of
/// those that met about as many requests in flight as there are now.
pub const LATENCY_MS: &str = "latency_ms";

/// What weights and prequal need of a report. A number that was not reported is 0, or `None` where 0 says something.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LoadMetrics {
    /// Share of its capacity that the application says is used, 1.0 being all.
    pub application_utilization: f64,
    /// Share of the processor time that is used, 1.0 being all.
    pub cpu_utilization: f64,
    /// The largest of the metrics that were asked for, if it is positive and finite; see [`utilization`].
    pub chosen_utilization: f64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Errors per second.
    pub errors_per_second: f64,
    /// [`REQUESTS_IN_FLIGHT`].
    pub requests_in_flight: Option<f64>,
    /// [`LATENCY_MS`].
    pub latency_ms: f64,
}

/// Why a report is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadReportError {
    /// Longer than [`LOAD_REPORT_SYMBOLS_MAX`].
    #[error("the load report has {symbols} base64 symbols; at most 4096 are read, report fewer metrics")]
    TooLong {
        /// Its length.
        symbols: usize,
    },
    /// A message longer than [`LOAD_REPORT_BYTES_MAX`].
    #[error("the load report has {bytes} bytes; at most 3072 are read, report fewer metrics")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// It is no base64.
    #[error("the load report is no base64: {0}")]
    Base64(#[from] BinaryValueError),
    /// The bytes are no protobuf message.
    #[error(
        "the load report is no OrcaLoadReport: byte {position} begins no field; send the message's bytes"
    )]
    Protobuf {
        /// Where the first field begins that cannot be read.
        position: usize,
    },
}

impl LoadMetrics {
    /// The share of its capacity that is used, by gRFC A58 and A114: what the application says, else the metrics that were asked
    /// for, else the processor's.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let said = [self.application_utilization, self.chosen_utilization];
        said.into_iter().find(|utilization| *utilization > 0.0).unwrap_or(self.cpu_utilization)
    }
}

/// Reads the value of the trailer. `asked` are the metrics that may stand for utilization; those beyond
/// [`UTILIZATION_METRICS_MAX`](utilization::UTILIZATION_METRICS_MAX) are not looked for.
///
/// # Errors
///
/// [`LoadReportError`] when the value is too long, no base64, or no protobuf message.
pub fn parse_load_report(value: &[u8], asked: &[UtilizationMetric]) -> Result<LoadMetrics, LoadReportError> {
    if value.len() > LOAD_REPORT_SYMBOLS_MAX {
        return Err(LoadReportError::TooLong { symbols: value.len() });
    }
    let mut buffer = [0; LOAD_REPORT_BYTES_MAX];
    let bytes = decode_into(value, &mut buffer)?;
    read_load_report(bytes, asked)
}

/// Reads the message itself, as [`stream`]s carry it.
///
/// # Errors
///
/// [`LoadReportError`] when it is too long, or no protobuf message.
pub fn read_load_report(bytes: &[u8], asked: &[UtilizationMetric]) -> Result<LoadMetrics, LoadReportError> {
    if bytes.len() > LOAD_REPORT_BYTES_MAX {
        return Err(LoadReportError::TooLarge { bytes: bytes.len() });
    }
    let (mut metrics, mut mem_utilization) = (LoadMetrics::default(), 0.0);
    let mut chosen = Chosen::new(asked);
    let mut rest = bytes;
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        let malformed = LoadReportError::Protobuf { position };
        match take_field(&mut rest).ok_or(malformed)? {
            (1, Value::Double(value)) => metrics.cpu_utilization = value,
            (2, Value::Double(value)) => mem_utilization = value,
            (5, Value::Bytes(entry)) => {
                let (name, value) = read_entry(entry).ok_or(malformed)?;
                chosen.note(MetricMap::Utilization, name, value);
            }
            (6, Value::Double(value)) => metrics.requests_per_second = value,
            (7, Value::Double(value)) => metrics.errors_per_second = value,
            (8, Value::Bytes(entry)) => {
                let (name, value) = read_entry(entry).ok_or(malformed)?;
                if name == REQUESTS_IN_FLIGHT.as_bytes() {
                    metrics.requests_in_flight = Some(value);
                } else if name == LATENCY_MS.as_bytes() {
                    metrics.latency_ms = value;
                }
                chosen.note(MetricMap::Named, name, value);
            }
            (9, Value::Double(value)) => metrics.application_utilization = value,
            _ => {}
        }
    }
    metrics.chosen_utilization = chosen.largest(&metrics, mem_utilization);
    Ok(metrics)
}

/// Reads an entry of a map from names to numbers: a message with the name as field 1 and the number as field 2, either of
/// which may be missing.
fn read_entry(mut entry: &[u8]) -> Option<(&[u8], f64)> {
    let (mut name, mut value) = (&b""[..], 0.0);
    while !entry.is_empty() {
        match take_field(&mut entry)? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Double(double)) => value = double,
            _ => {}
        }
    }
    Some((name, value))
}

/// A field's value, as far as a report needs it.
enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    Other,
}

/// Takes a field off the front: its number and its value. `None` if there is none, also for groups, which proto3 has not.
fn take_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let key = take_varint(rest)?;
    let value = match key & 7 {
        0 => take_varint(rest).map(|_| Value::Other)?,
        1 => Value::Double(f64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?)),
        2 => {
            let length = usize::try_from(take_varint(rest)?).ok()?;
            Value::Bytes(rest.split_off(..length)?)
        }
        5 => rest.split_off(..4).map(|_| Value::Other)?,
        _ => return None,
    };
    let number = key >> 3;
    // Numbers go from 1 to 2^29 - 1.
    (1..1 << 29).contains(&number).then_some((number, value))
}

/// Takes a number of up to ten bytes off the front; bits beyond 64 are lost, as everywhere in protobuf.
fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
