//! The interop server: `grpc.testing.TestService`.
//!
//! FullDuplexCall sends its headers with its first response, so that a deadline on a call without any is the whole
//! call's; and HalfDuplexCall holds at most [`HELD_MAX`] requests.

use super::wire::{Wire, WireLayer};
use crate::pb::testing::test_service_server::{TestService, TestServiceServer};
use crate::pb::testing::{
    BoolValue, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse,
    StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
    StreamingOutputCallResponse,
};
use futures_util::{Stream, StreamExt as _, stream};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Response, Status, Streaming};

/// Largest payload that may be asked for, in bytes.
const PAYLOAD_BYTES_MAX: i32 = 32 << 20;
/// Requests that a HalfDuplexCall may send before its half-close.
pub const HELD_MAX: usize = 1000;

/// A running interop server. Dropping it ends it.
#[derive(Debug)]
pub struct InteropServer {
    local_addr: SocketAddr,
    server: JoinHandle<()>,
}

impl InteropServer {
    /// Starts the server on the current tokio runtime; port 0 takes any free port.
    ///
    /// # Errors
    /// The system's answer if the address cannot be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let service = TestServiceServer::new(Interop)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(PAYLOAD_BYTES_MAX as usize + 1024);
        let serving = tonic::transport::Server::builder()
            .layer(WireLayer)
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move {
            // An error is the listener's: no more connections are accepted, which clients see.
            let _ = serving.await;
        });
        Ok(Self { local_addr, server })
    }

    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until it ends, which it does only if its listener breaks.
    pub async fn ended(mut self) {
        // Whether it ended or was ended makes no difference to the caller.
        let _ = (&mut self.server).await;
    }
}

impl Drop for InteropServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug, Clone, Copy)]
struct Interop;

fn payload(bytes: i32) -> Result<Payload, Status> {
    if !(0..=PAYLOAD_BYTES_MAX).contains(&bytes) {
        return Err(Status::invalid_argument(format!(
            "a size of {bytes} bytes is not within 0 to {PAYLOAD_BYTES_MAX}"
        )));
    }
    Ok(Payload { body: vec![0; bytes as usize], ..Payload::default() })
}

fn check_status(status: Option<&EchoStatus>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(Code::from(status.code), status.message.clone())),
        _ => Ok(()),
    }
}

/// Checks that message number `index` was compressed as the client says.
fn check_compressed(wire: &Wire, index: usize, expected: Option<&BoolValue>) -> Result<(), Status> {
    match expected {
        Some(expected) if wire.was_compressed(index) != Some(expected.value) => {
            let word = if expected.value { "not compressed" } else { "compressed" };
            Err(Status::invalid_argument(format!("request message {index} is {word}")))
        }
        _ => Ok(()),
    }
}

fn wire_of<T>(request: &Request<T>) -> Wire {
    // Always present: the layer is part of every server here.
    request.extensions().get::<Wire>().cloned().unwrap_or_default()
}

fn unary(wire: &Wire, request: &SimpleRequest) -> Result<SimpleResponse, Status> {
    check_compressed(wire, 0, request.expect_compressed.as_ref())?;
    check_status(request.response_status.as_ref())?;
    wire.compress_next(request.response_compressed.as_ref().is_some_and(|compressed| compressed.value));
    Ok(SimpleResponse { payload: Some(payload(request.response_size)?), ..SimpleResponse::default() })
}

/// The responses that requests ask for, made one at a time as the client reads them.
struct Outputs<R> {
    requests: R,
    wire: Wire,
    parameters: std::vec::IntoIter<ResponseParameters>,
    /// Status of the request being answered.
    status: Option<EchoStatus>,
}

type OutputStream = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

impl<R> Outputs<R>
where
    R: Stream<Item = Result<StreamingOutputCallRequest, Status>> + Send + Unpin + 'static,
{
    fn new(requests: R, wire: Wire) -> Self {
        Self { requests, wire, parameters: Vec::new().into_iter(), status: None }
    }

    async fn next(&mut self) -> Result<Option<StreamingOutputCallResponse>, Status> {
        loop {
            if let Some(parameters) = self.parameters.next() {
                if let Ok(micros @ 1..) = u64::try_from(parameters.interval_us) {
                    tokio::time::sleep(Duration::from_micros(micros)).await;
                }
                let payload = payload(parameters.size)?;
                self.wire.compress_next(parameters.compressed.is_some_and(|compressed| compressed.value));
                return Ok(Some(StreamingOutputCallResponse { payload: Some(payload) }));
            }
            check_status(self.status.take().as_ref())?;
            let Some(request) = self.requests.next().await.transpose()? else { return Ok(None) };
            self.status = request.response_status;
            self.parameters = request.response_parameters.into_iter();
        }
    }

    fn into_stream(self) -> OutputStream {
        stream::try_unfold(self, |mut outputs| async move {
            Ok(outputs.next().await?.map(|response| (response, outputs)))
        })
        .boxed()
    }
}

#[tonic::async_trait]
impl TestService for Interop {
    type StreamingOutputCallStream = OutputStream;
    type FullDuplexCallStream = OutputStream;
    type HalfDuplexCallStream = OutputStream;

    async fn empty_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        let wire = wire_of(&request);
        unary(&wire, request.get_ref()).map(Response::new)
    }

    async fn cacheable_unary_call(
        &self,
        request: Request<SimpleRequest>,
    ) -> Result<Response<SimpleResponse>, Status> {
        let wire = wire_of(&request);
        unary(&wire, request.get_ref()).map(Response::new)
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<OutputStream>, Status> {
        let wire = wire_of(&request);
        let requests = stream::iter([Ok(request.into_inner())]);
        Ok(Response::new(Outputs::new(requests, wire).into_stream()))
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let wire = wire_of(&request);
        let mut requests = request.into_inner();
        let mut aggregated_payload_size = 0_i32;
        let mut index = 0;
        while let Some(request) = requests.message().await? {
            check_compressed(&wire, index, request.expect_compressed.as_ref())?;
            let bytes = request.payload.map_or(0, |payload| payload.body.len());
            let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
            aggregated_payload_size = aggregated_payload_size.saturating_add(bytes);
            index += 1;
        }
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<OutputStream>, Status> {
        let wire = wire_of(&request);
        let mut outputs = Outputs::new(request.into_inner(), wire);
        let Some(first) = outputs.next().await? else { return Ok(Response::new(stream::empty().boxed())) };
        Ok(Response::new(stream::iter([Ok(first)]).chain(outputs.into_stream()).boxed()))
    }

    async fn half_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<OutputStream>, Status> {
        let wire = wire_of(&request);
        let mut requests = request.into_inner();
        let mut held = Vec::new();
        while let Some(request) = requests.message().await? {
            if held.len() == HELD_MAX {
                return Err(Status::resource_exhausted(format!(
                    "more than {HELD_MAX} requests before the half-close"
                )));
            }
            held.push(Ok(request));
        }
        Ok(Response::new(Outputs::new(stream::iter(held), wire).into_stream()))
    }

    async fn unimplemented_call(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("UnimplementedCall is implemented by no server"))
    }
}
