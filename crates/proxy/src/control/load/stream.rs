//! The stream to one endpoint: opened, read, and opened again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut};
use evenkeel_balance::{Backoff, Endpoint, LoadReport};
use evenkeel_grpc::load_report::stream::{STREAM_CORE_METRICS, encode_report_request};
use evenkeel_grpc::{LoadMetrics, LoadReportError, UtilizationMetric, read_load_report};
use evenkeel_telemetry::{LoadReported, LoadStreamEnded};
use http::Uri;
use http::uri::PathAndQuery;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status, Streaming};

use super::{LastReport, LoadStatus, Meaning, Purpose, REPORT_SPACING, Shared, StreamState, lock, silence};
use crate::control::health::channel::{ProbeChannel, causes};
use crate::control::health::legible;
use crate::worker::probe_answer;

/// Bytes of a message that are read off the wire; one that is longer than a report may be is malformed, and ends no stream.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Buffers of a stream, which sends one message and receives one now and then.
const BUFFER_BYTES: usize = 1 << 10;

/// What a report is read as.
type Read = Result<LoadMetrics, LoadReportError>;

/// Follows the stream of one endpoint, again and again.
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: Arc<Endpoint>,
    /// The scheme and authority of the request.
    pub(super) origin: Uri,
    pub(super) status: Arc<watch::Sender<LoadStatus>>,
    pub(super) rng: SmallRng,
}

/// Why a stream ended, and in whose words.
struct End {
    reason: LoadStreamEnded,
    detail: Box<str>,
}

impl End {
    fn failed(detail: &str) -> Self {
        Self { reason: LoadStreamEnded::Failed, detail: legible(detail) }
    }
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        let reason = match status.code() {
            Code::Unimplemented => LoadStreamEnded::Unimplemented,
            _ => LoadStreamEnded::Failed,
        };
        // The text that tonic makes of a transport's error has no cause; the error itself has.
        let detail = match std::error::Error::source(&status) {
            Some(error) => format!("{:?}: {}", status.code(), causes(error)),
            None => format!("{:?}: {}", status.code(), status.message()),
        };
        Self { reason, detail: legible(&detail) }
    }
}

impl Follower {
    /// Goes on until it is aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(self.shared.backoff);
        let mut has_told = false;
        loop {
            let began = Instant::now();
            let mut reports = 0;
            let channel = match self.dial().await {
                Ok(channel) => {
                    let end = self.follow(&channel, &mut reports).await;
                    let is_unimplemented = end.reason == LoadStreamEnded::Unimplemented;
                    self.note_end(&end, reports > 0, &mut has_told);
                    is_unimplemented.then_some(channel)
                }
                Err(end) => {
                    self.note_end(&end, false, &mut has_told);
                    None
                }
            };
            if let Some(channel) = channel {
                // Not asked again on this connection (gRFC A51): its end is the end of the wait.
                channel.closed().await;
            }
            if reports > 0 {
                backoff.reset();
            }
            // From start to start: a stream that went on for long is opened again at once.
            let next = began.checked_add(backoff.next(&mut self.rng));
            sleep_until(next.unwrap_or_else(|| began + self.shared.backoff.max)).await;
        }
    }

    async fn dial(&self) -> Result<ProbeChannel, End> {
        let patience = self.shared.connect_timeout;
        let Ok(_permit) = self.shared.dials.acquire().await else {
            return Err(End::failed("no more connections are begun"));
        };
        match timeout(patience, ProbeChannel::dial(self.endpoint.address())).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(End::failed(&error.to_string())),
            Err(_) => Err(End::failed(&format!("no connection within {patience:?}"))),
        }
    }

    /// Opens a stream and takes its reports, which it counts, until it ends.
    async fn follow(&self, channel: &ProbeChannel, reports: &mut u64) -> End {
        let patience = silence(self.shared.purpose, self.shared.period);
        let silent = || {
            let detail = format!("no report for {patience:?}").into();
            End { reason: LoadStreamEnded::Silent, detail }
        };
        let mut stream = match timeout(patience, self.open(channel)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(status)) => return status.into(),
            Err(_) => return silent(),
        };
        loop {
            match timeout(patience, stream.message()).await {
                Ok(Ok(Some(read))) => {
                    self.take(&read);
                    *reports += 1;
                }
                Ok(Ok(None)) => return End::failed("the endpoint ended the stream"),
                Ok(Err(status)) => return status.into(),
                Err(_) => return silent(),
            }
            sleep(REPORT_SPACING).await;
        }
    }

    async fn open(&self, channel: &ProbeChannel) -> Result<Streaming<Read>, Status> {
        let mut client = tonic::client::Grpc::with_origin(channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let codec = ReportCodec { metrics: Arc::clone(&self.shared.metrics) };
        let path = PathAndQuery::from_static(STREAM_CORE_METRICS);
        let answer = client.server_streaming(Request::new(self.shared.period), path, codec).await?;
        Ok(answer.into_inner())
    }

    /// Takes a report, for all workers.
    fn take(&self, read: &Read) {
        let Ok(metrics) = read else { return self.shared.telemetry.load_reported(LoadReported::Malformed) };
        let load = LoadReport {
            utilization: metrics.utilization(),
            requests_per_second: metrics.requests_per_second,
            errors_per_second: metrics.errors_per_second,
        };
        let at = self.shared.clock.now();
        self.status.send_if_modified(|status| {
            if status.is_over {
                return false;
            }
            let meaning = match &self.shared.purpose {
                Purpose::Weight(weights) => Meaning::Weight(self.endpoint.note_load(&load, weights, at)),
                Purpose::Answer => {
                    let answer = probe_answer(metrics);
                    answer.iter().for_each(|answer| self.endpoint.report(answer, at));
                    Meaning::Answer(answer)
                }
            };
            let outcome = if meaning.is_none() { LoadReported::Ignored } else { LoadReported::Taken };
            self.shared.telemetry.load_reported(outcome);
            (status.state, status.detail) = (StreamState::Open, None);
            status.last = Some(LastReport { load, meaning, at });
            true
        });
    }

    /// Counts an end and tells it: in the log once if the endpoint has no such service, and when a stream ends that had reports.
    fn note_end(&self, end: &End, had_reports: bool, has_told: &mut bool) {
        let is_unimplemented = end.reason == LoadStreamEnded::Unimplemented;
        let is_noted = self.status.send_if_modified(|status| {
            if status.is_over {
                return false;
            }
            self.shared.telemetry.load_stream_ended(end.reason);
            status.state = if is_unimplemented { StreamState::Unimplemented } else { StreamState::Failed };
            status.detail = Some(end.detail.clone());
            true
        });
        if !is_noted {
            return;
        }
        if (is_unimplemented && !*has_told) || (!is_unimplemented && had_reports) {
            self.log(end);
        }
        *has_told |= is_unimplemented;
    }

    /// The line of an end; of each reason at most one a second.
    fn log(&self, end: &End) {
        let mut limiter = lock(&self.shared.log);
        let Some(suppressed) = limiter.allow(end.reason.as_str(), self.shared.clock.now()) else { return };
        let (cluster, endpoint, detail) = (&*self.shared.cluster, self.endpoint.address(), &*end.detail);
        if end.reason == LoadStreamEnded::Unimplemented {
            tracing::warn!(%cluster, %endpoint, detail, suppressed, "endpoint reports no load apart from calls: it has no OpenRcaService");
        } else {
            tracing::warn!(%cluster, %endpoint, detail, suppressed, "stream of load reports ended");
        }
    }
}

/// Writes the request, which says how often to report, and reads reports.
struct ReportCodec {
    metrics: Arc<[UtilizationMetric]>,
}

impl Codec for ReportCodec {
    type Encode = Duration;
    type Decode = Read;
    type Encoder = RequestEncoder;
    type Decoder = ReportDecoder;

    fn encoder(&mut self) -> RequestEncoder {
        RequestEncoder
    }

    fn decoder(&mut self) -> ReportDecoder {
        ReportDecoder { metrics: Arc::clone(&self.metrics) }
    }
}

struct RequestEncoder;

impl Encoder for RequestEncoder {
    type Item = Duration;
    type Error = Status;

    fn encode(&mut self, period: Duration, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&encode_report_request(period));
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

struct ReportDecoder {
    metrics: Arc<[UtilizationMetric]>,
}

impl Decoder for ReportDecoder {
    type Item = Read;
    type Error = Status;

    /// What is no report is the reader's to count, and ends no stream.
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Read>, Status> {
        let message = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(read_load_report(&message, &self.metrics)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}
