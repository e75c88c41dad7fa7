//! `endpoint-load-metrics-bin`: the load that a backend reports with its answer (ORCA, gRFC A51).
//!
//! Rule: the trailer's value is base64 of an `xds.data.orca.v3.OrcaLoadReport`. Four of its numbers say what weights
//! need (gRFC A58), and two of the metrics that applications name themselves what prequal needs ([`REQUESTS_IN_FLIGHT`],
//! [`LATENCY_MS`]). Those are read and everything else is passed over, without a copy of the maps: a report comes with every
//! answer. Of a field that occurs twice the last one counts, as in protobuf.
//!
//! Nothing here judges the numbers: they may be negative or not a number, as the backend wrote them.
//!
//! Bound: [`LOAD_REPORT_SYMBOLS_MAX`]. Nothing here allocates.
//!
//! Sources: [gRFC A51](https://github.com/grpc/proposal/blob/master/A51-custom-backend-metrics.md),
//! [orca_load_report.proto](https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto),
//! [protobuf's encoding](https://protobuf.dev/programming-guides/encoding/).

use crate::metadata::{BinaryValueError, decode_into};

/// The name of the trailer.
pub const ENDPOINT_LOAD_METRICS_BIN: &str = "endpoint-load-metrics-bin";

/// Symbols of base64 that are read at most: 3 KiB of a report, which is some hundred named metrics.
pub const LOAD_REPORT_SYMBOLS_MAX: usize = 4_096;

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
    /// The share of its capacity that is used, by gRFC A58: what the application says, else the processor's.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        if self.application_utilization > 0.0 { self.application_utilization } else { self.cpu_utilization }
    }
}

/// Reads the value of the trailer.
///
/// # Errors
///
/// [`LoadReportError`] when the value is too long, no base64, or no protobuf message.
pub fn parse_load_report(value: &[u8]) -> Result<LoadMetrics, LoadReportError> {
    if value.len() > LOAD_REPORT_SYMBOLS_MAX {
        return Err(LoadReportError::TooLong { symbols: value.len() });
    }
    let mut buffer = [0; LOAD_REPORT_SYMBOLS_MAX / 4 * 3];
    let bytes = decode_into(value, &mut buffer)?;
    read(bytes)
}

fn read(bytes: &[u8]) -> Result<LoadMetrics, LoadReportError> {
    let mut metrics = LoadMetrics::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        let Some((number, value)) = take_field(&mut rest) else {
            return Err(LoadReportError::Protobuf { position });
        };
        match (number, value) {
            (1, Value::Double(value)) => metrics.cpu_utilization = value,
            (6, Value::Double(value)) => metrics.requests_per_second = value,
            (7, Value::Double(value)) => metrics.errors_per_second = value,
            (8, Value::Bytes(entry)) => {
                let (name, value) = read_entry(entry).ok_or(LoadReportError::Protobuf { position })?;
                if name == REQUESTS_IN_FLIGHT.as_bytes() {
                    metrics.requests_in_flight = Some(value);
                } else if name == LATENCY_MS.as_bytes() {
                    metrics.latency_ms = value;
                }
            }
            (9, Value::Double(value)) => metrics.application_utilization = value,
            _ => {}
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::metadata::encode_binary_value;

    /// The message as the definition has it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct OrcaLoadReport {
        #[prost(double, tag = "1")]
        cpu_utilization: f64,
        #[prost(double, tag = "2")]
        mem_utilization: f64,
        #[prost(uint64, tag = "3")]
        rps: u64,
        #[prost(map = "string, double", tag = "4")]
        request_cost: HashMap<String, f64>,
        #[prost(map = "string, double", tag = "5")]
        utilization: HashMap<String, f64>,
        #[prost(double, tag = "6")]
        rps_fractional: f64,
        #[prost(double, tag = "7")]
        eps: f64,
        #[prost(map = "string, double", tag = "8")]
        named_metrics: HashMap<String, f64>,
        #[prost(double, tag = "9")]
        application_utilization: f64,
    }

    fn parse(report: &OrcaLoadReport) -> Result<LoadMetrics, LoadReportError> {
        parse_load_report(encode_binary_value(&report.encode_to_vec()).as_bytes())
    }

    fn full() -> OrcaLoadReport {
        let map = |name: &str| HashMap::from([(name.to_owned(), 0.9), ("other".to_owned(), -1.0)]);
        OrcaLoadReport {
            cpu_utilization: 0.25,
            mem_utilization: 0.5,
            rps: u64::MAX,
            request_cost: map("cost"),
            utilization: map("queue"),
            rps_fractional: 100.5,
            eps: 2.0,
            named_metrics: map("named"),
            application_utilization: 0.75,
        }
    }

    #[test]
    fn reads_what_weights_need_and_passes_over_the_rest() {
        let metrics = LoadMetrics {
            application_utilization: 0.75,
            cpu_utilization: 0.25,
            requests_per_second: 100.5,
            errors_per_second: 2.0,
            ..LoadMetrics::default()
        };
        assert_eq!(parse(&full()), Ok(metrics));
        assert_eq!(metrics.utilization(), 0.75);
        assert_eq!(parse(&OrcaLoadReport::default()), Ok(LoadMetrics::default()));
        assert_eq!(parse_load_report(b""), Ok(LoadMetrics::default()));
    }

    #[test]
    fn the_processor_counts_where_the_application_says_nothing() {
        let of = |application_utilization| LoadMetrics {
            application_utilization,
            cpu_utilization: 0.5,
            ..LoadMetrics::default()
        };
        assert_eq!([of(0.25).utilization(), of(0.0).utilization(), of(-1.0).utilization()], [0.25, 0.5, 0.5]);
        assert_eq!(of(f64::NAN).utilization(), 0.5);
    }

    #[test]
    fn the_last_of_two_fields_counts() {
        let mut bytes = full().encode_to_vec();
        bytes.extend(OrcaLoadReport { eps: 7.0, ..OrcaLoadReport::default() }.encode_to_vec());
        let value = encode_binary_value(&bytes);
        assert_eq!(parse_load_report(value.as_bytes()).unwrap().errors_per_second, 7.0);
    }

    #[test]
    fn reads_the_metrics_by_which_a_backend_answers_probes() {
        let named = |in_flight: f64, latency: f64| OrcaLoadReport {
            named_metrics: HashMap::from([
                ("requests_in_flight".to_owned(), in_flight),
                ("latency_ms".to_owned(), latency),
                ("latency_ms_max".to_owned(), 99.0),
            ]),
            // The same names elsewhere mean nothing.
            request_cost: HashMap::from([("latency_ms".to_owned(), 98.0)]),
            ..OrcaLoadReport::default()
        };
        let metrics = parse(&named(7.0, 12.5)).unwrap();
        assert_eq!((metrics.requests_in_flight, metrics.latency_ms), (Some(7.0), 12.5));
        // A number that is 0 may be left out of its entry.
        let value = encode_binary_value(b"\x42\x14\x0a\x12requests_in_flight");
        assert_eq!(parse_load_report(value.as_bytes()).unwrap().requests_in_flight, Some(0.0));
        assert_eq!(parse(&full()).unwrap().requests_in_flight, None);
    }

    #[test]
    fn refuses_what_is_no_message() {
        for (bytes, position) in [
            (&b"\x09\0\0\0\0\0\0\0"[..], 0), // Seven bytes of a double.
            (b"\x18\x01\x18", 2),            // A number without a value.
            (b"\x22\x02a", 0),               // A map's entry cut short.
            (b"\x42\x02\x0a\x05", 0),        // A name cut short within its entry.
            (b"\x0b", 0),                    // A group.
            (b"\x01\0\0\0\0\0\0\0\0", 0),    // Field 0.
            (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0), // Eleven bytes of a number.
            (b"\x0d\0\0\0", 0),              // Three bytes of a float.
            (b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0), // A length beyond all memory.
        ] {
            let value = encode_binary_value(bytes);
            let refused = Err(LoadReportError::Protobuf { position });
            assert_eq!(parse_load_report(value.as_bytes()), refused, "{bytes:x?}");
        }
        assert!(matches!(parse_load_report(b"@@"), Err(LoadReportError::Base64(_))));
        assert!(
            matches!(parse_load_report(b"AAAA,AAAA"), Err(LoadReportError::Base64(_))),
            "one report only"
        );
    }

    #[test]
    fn a_known_field_of_another_type_is_passed_over() {
        let value = encode_binary_value(b"\x08\x05\x4d\0\0\x80\x3f");
        assert_eq!(parse_load_report(value.as_bytes()), Ok(LoadMetrics::default()));
    }

    #[test]
    fn reads_the_longest_report_and_refuses_one_symbol_more() {
        let name = |length: usize| HashMap::from([("n".repeat(length), 1.0)]);
        let length = |report: &OrcaLoadReport| encode_binary_value(&report.encode_to_vec()).len();
        let longest = (2_000..3_100)
            .map(|len| OrcaLoadReport { named_metrics: name(len), ..full() })
            .rfind(|report| length(report) <= LOAD_REPORT_SYMBOLS_MAX)
            .unwrap();
        assert_eq!(length(&longest), LOAD_REPORT_SYMBOLS_MAX);
        assert!(parse(&longest).is_ok());
        let symbols = LOAD_REPORT_SYMBOLS_MAX + 1;
        assert_eq!(parse_load_report(&vec![b'A'; symbols]), Err(LoadReportError::TooLong { symbols }));
    }

    proptest! {
        #[test]
        fn reads_every_message_as_protobuf_does(
            numbers in any::<(f64, f64, f64, f64, f64, u64)>(),
            named in proptest::collection::hash_map("[a-z]{0,9}", any::<f64>(), 0..9),
        ) {
            let (cpu, memory, rps, eps, application, count) = numbers;
            let report = OrcaLoadReport {
                cpu_utilization: cpu,
                mem_utilization: memory,
                rps: count,
                request_cost: named.clone(),
                utilization: named.clone(),
                rps_fractional: rps,
                eps,
                named_metrics: named,
                application_utilization: application,
            };
            let metrics = parse(&report).unwrap();
            let read = [
                metrics.cpu_utilization,
                metrics.requests_per_second,
                metrics.errors_per_second,
                metrics.application_utilization,
            ];
            // A negative zero is not sent.
            let bits = |number: f64| if number == 0.0 { 0 } else { number.to_bits() };
            prop_assert_eq!(read.map(bits), [cpu, rps, eps, application].map(bits));
        }

        /// Whatever is read here, protobuf's own reader takes too: nothing is taken for a report that is none.
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = parse_load_report(encode_binary_value(&bytes).as_bytes());
            if OrcaLoadReport::decode(&bytes[..]).is_ok() {
                prop_assert!(read.is_ok() || bytes.iter().any(|byte| matches!(byte & 7, 3 | 4)));
            }
            let _ = parse_load_report(&bytes);
        }
    }
}
