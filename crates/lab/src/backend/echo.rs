//! `evenkeel.echo.v1.EchoService`: all four kinds of call, with the behaviour that the request asks for.

use crate::pb::echo::echo_service_server::EchoService;
use crate::pb::echo::{Behaviour, EchoRequest, EchoResponse};
use futures_util::{Stream, StreamExt as _, stream};
use std::pin::Pin;
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};

/// Largest message taken and given, in bytes: what a behaviour may ask for, and its framing.
pub(super) const MESSAGE_BYTES_MAX: usize = RESPONSE_BYTES_MAX as usize + 1024;
/// Largest response payload that may be asked for: 16 MiB, as `echo.proto` says.
const RESPONSE_BYTES_MAX: u32 = 16 << 20;
/// Longest delay per message that may be asked for, in microseconds: one minute, as `echo.proto` says.
const DELAY_US_MAX: u32 = 60_000_000;
/// Most responses per request message that may be asked for, as `echo.proto` says.
const MESSAGE_COUNT_MAX: u32 = 1_000_000;

#[derive(Debug, Clone)]
pub(super) struct Echo {
    backend: String,
}

/// What has been received in a call so far.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    messages: u64,
    bytes: u64,
}

impl Received {
    fn count(&mut self, request: &EchoRequest) {
        self.messages += 1;
        self.bytes += request.payload.len() as u64;
    }
}

fn checked(request: &EchoRequest) -> Result<Behaviour, Status> {
    let behaviour = request.behaviour.clone().unwrap_or_default();
    let fault = if behaviour.response_bytes() > RESPONSE_BYTES_MAX {
        format!("response_bytes {} is above {RESPONSE_BYTES_MAX}", behaviour.response_bytes())
    } else if behaviour.delay_us > DELAY_US_MAX {
        format!("delay_us {} is above {DELAY_US_MAX}", behaviour.delay_us)
    } else if behaviour.message_count > MESSAGE_COUNT_MAX {
        format!("message_count {} is above {MESSAGE_COUNT_MAX}", behaviour.message_count)
    } else if behaviour.status_code > 16 {
        format!("status_code {} is no gRPC status; they end at 16", behaviour.status_code)
    } else {
        return Ok(behaviour);
    };
    Err(Status::invalid_argument(fault))
}

fn status_of(behaviour: &Behaviour) -> Result<(), Status> {
    match Code::from(i32::try_from(behaviour.status_code).unwrap_or(i32::MAX)) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, behaviour.status_message.clone())),
    }
}

impl Echo {
    pub(super) fn new(backend: &str) -> Self {
        Self { backend: backend.to_owned() }
    }

    /// Makes response number `sequence`, after the delay asked for.
    async fn respond(
        &self,
        request: &EchoRequest,
        behaviour: &Behaviour,
        sequence: u32,
        got: Received,
    ) -> EchoResponse {
        if behaviour.delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(behaviour.delay_us.into())).await;
        }
        let payload = match behaviour.response_bytes {
            Some(bytes) => vec![0; bytes as usize],
            None => request.payload.clone(),
        };
        EchoResponse {
            payload,
            sequence,
            backend: self.backend.clone(),
            received_messages: got.messages,
            received_bytes: got.bytes,
        }
    }
}

/// The request message being answered, and how many of its answers are still to come.
struct Answering {
    request: EchoRequest,
    behaviour: Behaviour,
    left: u32,
}

impl Answering {
    fn begin(request: EchoRequest) -> Result<Self, Status> {
        let behaviour = checked(&request)?;
        let left = behaviour.message_count.max(1);
        Ok(Self { request, behaviour, left })
    }
}

/// The responses of a streaming call, made one at a time as the client reads them.
struct Responses<R> {
    echo: Echo,
    requests: R,
    answering: Option<Answering>,
    sequence: u32,
    received: Received,
}

impl<R: Stream<Item = Result<EchoRequest, Status>> + Unpin> Responses<R> {
    /// The next response, or `None` at the end of the requests.
    async fn next(&mut self) -> Result<Option<EchoResponse>, Status> {
        loop {
            if let Some(answering) = &mut self.answering {
                if answering.left > 0 {
                    answering.left -= 1;
                    let Answering { request, behaviour, .. } = answering;
                    let response = self.echo.respond(request, behaviour, self.sequence, self.received).await;
                    self.sequence = self.sequence.wrapping_add(1);
                    return Ok(Some(response));
                }
                status_of(&answering.behaviour)?;
                self.answering = None;
            }
            let Some(request) = self.requests.next().await.transpose()? else { return Ok(None) };
            self.received.count(&request);
            self.answering = Some(Answering::begin(request)?);
        }
    }
}

type ResponseStream = Pin<Box<dyn Stream<Item = Result<EchoResponse, Status>> + Send>>;

fn responses<R>(echo: Echo, requests: R) -> ResponseStream
where
    R: Stream<Item = Result<EchoRequest, Status>> + Send + Unpin + 'static,
{
    let all = Responses { echo, requests, answering: None, sequence: 0, received: Received::default() };
    stream::try_unfold(all, |mut all| async move { Ok(all.next().await?.map(|response| (response, all))) })
        .boxed()
}

#[tonic::async_trait]
impl EchoService for Echo {
    type ServerStreamStream = ResponseStream;
    type BidiStreamStream = ResponseStream;

    async fn unary(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let request = request.into_inner();
        let behaviour = checked(&request)?;
        let mut received = Received::default();
        received.count(&request);
        let response = self.respond(&request, &behaviour, 0, received).await;
        status_of(&behaviour)?;
        Ok(Response::new(response))
    }

    async fn server_stream(&self, request: Request<EchoRequest>) -> Result<Response<ResponseStream>, Status> {
        let request = request.into_inner();
        checked(&request)?;
        let requests = stream::iter([Ok(request)]);
        Ok(Response::new(responses(self.clone(), requests)))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<EchoResponse>, Status> {
        let mut requests = request.into_inner();
        let mut received = Received::default();
        let mut last = EchoRequest::default();
        while let Some(request) = requests.message().await? {
            received.count(&request);
            last = request;
        }
        let behaviour = checked(&last)?;
        let response = self.respond(&last, &behaviour, 0, received).await;
        status_of(&behaviour)?;
        Ok(Response::new(response))
    }

    async fn bidi_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<ResponseStream>, Status> {
        Ok(Response::new(responses(self.clone(), request.into_inner())))
    }
}
