//! The interop client's cases.
//!
//! Where tonic differs from what the published description assumes:
//! - a cancelled call is a dropped future, which has no status. The cancel cases check instead that the connection goes on
//!   serving calls;
//! - tonic's own timers, in client and server, report a passed deadline as CANCELLED "Timeout expired". The deadline
//!   case accepts that beside DEADLINE_EXCEEDED, which everybody else says.

mod compressed;
mod plain;

use super::wire::WireChannel;
use crate::pb::testing::test_service_client::TestServiceClient;
use crate::pb::testing::{Payload, StreamingOutputCallRequest, StreamingOutputCallResponse};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// How long a case may take.
pub const CASE_MAX: Duration = Duration::from_secs(30);

/// A case of gRPC's interoperability tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// An empty message each way.
    EmptyUnary,
    /// 271,828 bytes there, 314,159 back.
    LargeUnary,
    /// Four messages there, their sum back.
    ClientStreaming,
    /// Four messages back, in order.
    ServerStreaming,
    /// Four messages each way, one after the other.
    PingPong,
    /// No message at all on a bidirectional stream.
    EmptyStream,
    /// Initial metadata in text, trailing metadata in bytes, unary and bidirectional.
    CustomMetadata,
    /// A status with its message, unary and bidirectional.
    StatusCodeAndMessage,
    /// White space and Unicode in a status message.
    SpecialStatusMessage,
    /// A method that the server does not implement.
    UnimplementedMethod,
    /// A service that the server does not have.
    UnimplementedService,
    /// A deadline of one millisecond on a call that is not answered.
    TimeoutOnSleepingServer,
    /// Cancelled before any message was sent.
    CancelAfterBegin,
    /// Cancelled after the first response.
    CancelAfterFirstResponse,
    /// A compressed and an uncompressed request.
    ClientCompressedUnary,
    /// A compressed and an uncompressed response.
    ServerCompressedUnary,
    /// A compressed and an uncompressed message in one stream of requests.
    ClientCompressedStreaming,
    /// A compressed and an uncompressed message in one stream of responses.
    ServerCompressedStreaming,
}

impl Case {
    /// All cases.
    pub const ALL: [Self; 18] = [
        Self::EmptyUnary,
        Self::LargeUnary,
        Self::ClientStreaming,
        Self::ServerStreaming,
        Self::PingPong,
        Self::EmptyStream,
        Self::CustomMetadata,
        Self::StatusCodeAndMessage,
        Self::SpecialStatusMessage,
        Self::UnimplementedMethod,
        Self::UnimplementedService,
        Self::TimeoutOnSleepingServer,
        Self::CancelAfterBegin,
        Self::CancelAfterFirstResponse,
        Self::ClientCompressedUnary,
        Self::ServerCompressedUnary,
        Self::ClientCompressedStreaming,
        Self::ServerCompressedStreaming,
    ];

    /// Its published name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EmptyUnary => "empty_unary",
            Self::LargeUnary => "large_unary",
            Self::ClientStreaming => "client_streaming",
            Self::ServerStreaming => "server_streaming",
            Self::PingPong => "ping_pong",
            Self::EmptyStream => "empty_stream",
            Self::CustomMetadata => "custom_metadata",
            Self::StatusCodeAndMessage => "status_code_and_message",
            Self::SpecialStatusMessage => "special_status_message",
            Self::UnimplementedMethod => "unimplemented_method",
            Self::UnimplementedService => "unimplemented_service",
            Self::TimeoutOnSleepingServer => "timeout_on_sleeping_server",
            Self::CancelAfterBegin => "cancel_after_begin",
            Self::CancelAfterFirstResponse => "cancel_after_first_response",
            Self::ClientCompressedUnary => "client_compressed_unary",
            Self::ServerCompressedUnary => "server_compressed_unary",
            Self::ClientCompressedStreaming => "client_compressed_streaming",
            Self::ServerCompressedStreaming => "server_compressed_streaming",
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// No connection to the address.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// tonic's error.
        source: tonic::transport::Error,
    },
    /// A call ended with another status than the case expects.
    #[error("{step}: expected {expected:?}, got {status}")]
    Status {
        /// The call.
        step: &'static str,
        /// The expected code.
        expected: Code,
        /// The status it got.
        status: Box<Status>,
    },
    /// A call ended well that should not have, or something in a response is not as it should be.
    #[error("{step}: expected {expected}, got {got}")]
    Unexpected {
        /// The call.
        step: &'static str,
        /// What the case expects.
        expected: String,
        /// What it got.
        got: String,
    },
    /// The case did not end in time.
    #[error("not over after {} s", CASE_MAX.as_secs())]
    TimedOut,
}

/// Runs one case against a server, or against what stands before it, on a new connection.
///
/// # Errors
/// [`CaseError`] with the first thing that was not as published.
pub async fn run_case(address: SocketAddr, case: Case) -> Result<(), CaseError> {
    let connect = |source| CaseError::Connect { address, source };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(connect)?;
    let running = async {
        let channel = endpoint.connect().await.map_err(connect)?;
        run_on(channel, case).await
    };
    tokio::time::timeout(CASE_MAX, running).await.unwrap_or(Err(CaseError::TimedOut))
}

/// A client whose calls can carry a [`Wire`](super::wire::Wire), and that takes compressed responses.
type Client = TestServiceClient<WireChannel<Channel>>;

async fn run_on(channel: Channel, case: Case) -> Result<(), CaseError> {
    let client: Client = TestServiceClient::new(WireChannel::new(channel.clone()))
        .accept_compressed(CompressionEncoding::Gzip);
    match case {
        Case::EmptyUnary => plain::empty_unary(client).await,
        Case::LargeUnary => plain::large_unary(client).await,
        Case::ClientStreaming => plain::client_streaming(client).await,
        Case::ServerStreaming => plain::server_streaming(client).await,
        Case::PingPong => plain::ping_pong(client).await,
        Case::EmptyStream => plain::empty_stream(client).await,
        Case::CustomMetadata => plain::custom_metadata(client).await,
        Case::StatusCodeAndMessage => plain::status_code_and_message(client).await,
        Case::SpecialStatusMessage => plain::special_status_message(client).await,
        Case::UnimplementedMethod => plain::unimplemented_method(client).await,
        Case::UnimplementedService => plain::unimplemented_service(channel).await,
        Case::TimeoutOnSleepingServer => plain::timeout_on_sleeping_server(client).await,
        Case::CancelAfterBegin => plain::cancel_after_begin(client).await,
        Case::CancelAfterFirstResponse => plain::cancel_after_first_response(client).await,
        Case::ClientCompressedUnary => compressed::client_unary(client).await,
        Case::ServerCompressedUnary => compressed::server_unary(client).await,
        Case::ClientCompressedStreaming => compressed::client_streaming(client).await,
        Case::ServerCompressedStreaming => compressed::server_streaming(client).await,
    }
}

/// Takes the value of a call that must succeed.
fn succeeded<T>(step: &'static str, outcome: Result<T, Status>) -> Result<T, CaseError> {
    outcome.map_err(|status| CaseError::Status { step, expected: Code::Ok, status: Box::new(status) })
}

/// Takes the status of a call that must fail with `expected`.
fn failed<T>(step: &'static str, expected: Code, outcome: Result<T, Status>) -> Result<Status, CaseError> {
    match outcome {
        Ok(_) => {
            Err(CaseError::Unexpected { step, expected: format!("{expected:?}"), got: "success".to_owned() })
        }
        Err(status) if status.code() == expected => Ok(status),
        Err(status) => Err(CaseError::Status { step, expected, status: Box::new(status) }),
    }
}

fn same<T: PartialEq + fmt::Debug>(step: &'static str, got: &T, expected: &T) -> Result<(), CaseError> {
    if got == expected {
        return Ok(());
    }
    Err(CaseError::Unexpected { step, expected: format!("{expected:?}"), got: format!("{got:?}") })
}

fn zeros(bytes: usize) -> Option<Payload> {
    Some(Payload { body: vec![0; bytes], ..Payload::default() })
}

/// Checks that a payload is this many zeros.
fn are_zeros(step: &'static str, payload: Option<&Payload>, bytes: usize) -> Result<(), CaseError> {
    let body = payload.map(|payload| payload.body.as_slice()).unwrap_or_default();
    same(step, &body.len(), &bytes)?;
    same(step, &body.iter().any(|byte| *byte != 0), &false)
}

/// Reads a stream to its end, and checks the sizes of its messages.
async fn expect_sizes(
    step: &'static str,
    mut responses: Streaming<StreamingOutputCallResponse>,
    sizes: &[usize],
) -> Result<(), CaseError> {
    for bytes in sizes {
        let response = succeeded(step, responses.message().await)?;
        are_zeros(step, response.and_then(|response| response.payload).as_ref(), *bytes)?;
    }
    same(step, &succeeded(step, responses.message().await)?, &None)
}

/// A request for one response of `response` bytes, with a payload of `request` bytes.
fn output_request(response: i32, request: usize) -> StreamingOutputCallRequest {
    let parameters = crate::pb::testing::ResponseParameters { size: response, ..Default::default() };
    StreamingOutputCallRequest {
        response_parameters: vec![parameters],
        payload: zeros(request),
        ..StreamingOutputCallRequest::default()
    }
}
