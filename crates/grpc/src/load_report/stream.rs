//! The service that reports load apart from calls: `xds.service.orca.v3.OpenRcaService` (gRFC A51).
//!
//! Rule: a client opens [`STREAM_CORE_METRICS`] with one `OrcaLoadReportRequest`, and the server sends an `OrcaLoadReport` at once
//! and then every `report_interval`, or more rarely: servers have a least interval, 30 s by default.
//!
//! Source: [orca.proto](https://github.com/cncf/xds/blob/main/xds/service/orca/v3/orca.proto).

use core::time::Duration;

use prost::Message;

/// The path of the method.
pub const STREAM_CORE_METRICS: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

/// `xds.service.orca.v3.OrcaLoadReportRequest`. Its second field, which names request costs to report, is for reports with calls.
#[derive(Clone, PartialEq, Message)]
struct OrcaLoadReportRequest {
    #[prost(message, optional, tag = "1")]
    report_interval: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The request for a report every `interval`. What protobuf's duration cannot hold counts as the longest that it can.
#[must_use]
pub fn encode_report_request(interval: Duration) -> Vec<u8> {
    /// `google/protobuf/duration.proto`: ten thousand years.
    const SECONDS_MAX: u64 = 315_576_000_000;
    let interval = interval.min(Duration::from_secs(SECONDS_MAX));
    let report_interval =
        ProtoDuration { seconds: interval.as_secs() as i64, nanos: interval.subsec_nanos() as i32 };
    OrcaLoadReportRequest { report_interval: Some(report_interval) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_a_report_every_so_often() {
        assert_eq!(encode_report_request(Duration::from_secs(10)), b"\x0a\x02\x08\x0a");
        assert_eq!(encode_report_request(Duration::from_millis(100)), b"\x0a\x05\x10\x80\xc2\xd7\x2f");
        let longest = encode_report_request(Duration::MAX);
        let read = OrcaLoadReportRequest::decode(&longest[..]).unwrap().report_interval.unwrap();
        assert_eq!((read.seconds, read.nanos), (315_576_000_000, 0));
    }
}
