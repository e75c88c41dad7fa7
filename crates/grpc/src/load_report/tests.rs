//! Reports as servers send them, and what is no report.

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
    parse_load_report(encode_binary_value(&report.encode_to_vec()).as_bytes(), &[])
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
    assert_eq!(parse_load_report(b"", &[]), Ok(LoadMetrics::default()));
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

/// The utilization of a report where these metrics were asked for.
fn chosen(report: &OrcaLoadReport, asked: &[&str]) -> f64 {
    let asked: Vec<UtilizationMetric> = asked.iter().map(|name| name.parse().unwrap()).collect();
    read_load_report(&report.encode_to_vec(), &asked).unwrap().utilization()
}

#[test]
fn metrics_that_were_asked_for_stand_in_for_what_the_application_does_not_say() {
    let of =
        |values: &[(&str, f64)]| values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let report = OrcaLoadReport {
        application_utilization: 0.0,
        utilization: of(&[("queue", 0.6), ("gpu", 0.8)]),
        named_metrics: of(&[("queue", 0.7), ("depth", 12.0)]),
        ..full()
    };
    for (asked, expected) in [
        (&[][..], 0.25),
        (&["mem_utilization"], 0.5),
        (&["utilization.queue"], 0.6),
        (&["named_metrics.queue"], 0.7),
        (&["named_metrics.queue", "mem_utilization", "utilization.gpu"], 0.8),
        (&["named_metrics.gpu"], 0.25),
        (&["application_utilization"], 0.25),
        (&["cpu_utilization", "utilization.other"], 0.25),
        (&["cpu_utilization", "mem_utilization"], 0.5),
        // Nothing is made smaller: the application is responsible for what it reports.
        (&["named_metrics.depth"], 12.0),
    ] {
        assert_eq!(chosen(&report, asked), expected, "{asked:?}");
    }
    let says = OrcaLoadReport { application_utilization: 0.1, ..report };
    assert_eq!(chosen(&says, &["named_metrics.queue"]), 0.1, "what the application says counts first");
}

#[test]
fn a_metric_that_is_no_positive_number_does_not_stand_in() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let report = OrcaLoadReport {
            cpu_utilization: 0.25,
            named_metrics: HashMap::from([("bad".to_owned(), bad), ("good".to_owned(), 0.3)]),
            ..OrcaLoadReport::default()
        };
        assert_eq!(chosen(&report, &["named_metrics.bad"]), 0.25, "{bad}");
        assert_eq!(chosen(&report, &["named_metrics.bad", "named_metrics.good"]), 0.3, "{bad}");
    }
}

#[test]
fn of_an_entry_that_occurs_twice_the_last_counts_and_of_many_metrics_the_first_eight() {
    let with = |value: f64| OrcaLoadReport {
        named_metrics: HashMap::from([("queue".to_owned(), value)]),
        ..OrcaLoadReport::default()
    };
    let asked = ["named_metrics.queue".parse().unwrap()];
    let bytes = [with(0.9).encode_to_vec(), with(0.2).encode_to_vec()].concat();
    assert_eq!(read_load_report(&bytes, &asked).unwrap().utilization(), 0.2);
    for (before, expected) in [(7, 0.4), (8, 0.0)] {
        let mut asked = vec!["utilization.none"; before];
        asked.push("named_metrics.queue");
        assert_eq!(chosen(&with(0.4), &asked), expected);
    }
}

#[test]
fn reads_the_largest_message_and_refuses_one_byte_more() {
    // A field of bytes that nothing is known of: two bytes of its number and two of its length.
    let with = |length: usize| {
        let mut bytes = vec![0xfa, 0x01, (length & 0x7f | 0x80) as u8, (length >> 7) as u8];
        bytes.resize(bytes.len() + length, 0);
        bytes
    };
    let largest = with(LOAD_REPORT_BYTES_MAX - 4);
    assert_eq!(largest.len(), LOAD_REPORT_BYTES_MAX);
    assert_eq!(read_load_report(&largest, &[]), Ok(LoadMetrics::default()));
    let bytes = LOAD_REPORT_BYTES_MAX + 1;
    assert_eq!(read_load_report(&with(bytes - 4), &[]), Err(LoadReportError::TooLarge { bytes }));
}

#[test]
fn the_last_of_two_fields_counts() {
    let mut bytes = full().encode_to_vec();
    bytes.extend(OrcaLoadReport { eps: 7.0, ..OrcaLoadReport::default() }.encode_to_vec());
    let value = encode_binary_value(&bytes);
    assert_eq!(parse_load_report(value.as_bytes(), &[]).unwrap().errors_per_second, 7.0);
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
    assert_eq!(parse_load_report(value.as_bytes(), &[]).unwrap().requests_in_flight, Some(0.0));
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
        assert_eq!(parse_load_report(value.as_bytes(), &[]), refused, "{bytes:x?}");
    }
    assert!(matches!(parse_load_report(b"@@", &[]), Err(LoadReportError::Base64(_))));
    assert!(
        matches!(parse_load_report(b"AAAA,AAAA", &[]), Err(LoadReportError::Base64(_))),
        "one report only"
    );
}

#[test]
fn a_known_field_of_another_type_is_passed_over() {
    let value = encode_binary_value(b"\x08\x05\x4d\0\0\x80\x3f");
    assert_eq!(parse_load_report(value.as_bytes(), &[]), Ok(LoadMetrics::default()));
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
    assert_eq!(parse_load_report(&vec![b'A'; symbols], &[]), Err(LoadReportError::TooLong { symbols }));
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
        let read = parse_load_report(encode_binary_value(&bytes).as_bytes(), &[]);
        if OrcaLoadReport::decode(&bytes[..]).is_ok() {
            prop_assert!(read.is_ok() || bytes.iter().any(|byte| matches!(byte & 7, 3 | 4)));
        }
        let _ = parse_load_report(&bytes, &[]);
    }
}
