//! The cases without compression.

use super::{CaseError, Client, are_zeros, expect_sizes, failed, output_request, same, succeeded, zeros};
use crate::interop::{ECHO_INITIAL, ECHO_TRAILING};
use crate::pb::testing::unimplemented_service_client::UnimplementedServiceClient;
use crate::pb::testing::{
    EchoStatus, Empty, ResponseParameters, SimpleRequest, StreamingInputCallRequest,
    StreamingOutputCallRequest,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Sizes of requests and responses in the streaming cases.
const REQUEST_SIZES: [usize; 4] = [27_182, 8, 1_828, 45_904];
const RESPONSE_SIZES: [i32; 4] = [31_415, 9, 2_653, 58_979];

const INITIAL_VALUE: &str = "test_initial_metadata_value";
const TRAILING_VALUE: &[u8] = &[0xab, 0xab, 0xab];

fn large_request() -> SimpleRequest {
    SimpleRequest { response_size: 314_159, payload: zeros(271_828), ..SimpleRequest::default() }
}

pub(super) async fn empty_unary(mut client: Client) -> Result<(), CaseError> {
    succeeded("EmptyCall", client.empty_call(Empty {}).await).map(|_| ())
}

pub(super) async fn large_unary(mut client: Client) -> Result<(), CaseError> {
    let response = succeeded("UnaryCall", client.unary_call(large_request()).await)?.into_inner();
    are_zeros("UnaryCall", response.payload.as_ref(), 314_159)
}

pub(super) async fn client_streaming(mut client: Client) -> Result<(), CaseError> {
    let request = |bytes| StreamingInputCallRequest { payload: zeros(bytes), ..Default::default() };
    let requests = tokio_stream::iter(REQUEST_SIZES.map(request));
    let response = succeeded("StreamingInputCall", client.streaming_input_call(requests).await)?;
    same("StreamingInputCall", &response.get_ref().aggregated_payload_size, &74_922)
}

pub(super) async fn server_streaming(mut client: Client) -> Result<(), CaseError> {
    let parameters = RESPONSE_SIZES.map(|size| ResponseParameters { size, ..Default::default() });
    let request = StreamingOutputCallRequest { response_parameters: parameters.into(), ..Default::default() };
    let responses =
        succeeded("StreamingOutputCall", client.streaming_output_call(request).await)?.into_inner();
    expect_sizes("StreamingOutputCall", responses, &RESPONSE_SIZES.map(|size| size as usize)).await
}

pub(super) async fn ping_pong(mut client: Client) -> Result<(), CaseError> {
    const STEP: &str = "FullDuplexCall";
    let (send, requests) = mpsc::channel(1);
    let mut exchange = RESPONSE_SIZES.into_iter().zip(REQUEST_SIZES);
    let (size, bytes) = exchange.next().expect("there are four");
    // The call begins with the first request: a server may wait for it before it answers at all.
    let first = tokio_stream::once(output_request(size, bytes));
    let calling = client.full_duplex_call(first.chain(ReceiverStream::new(requests)));
    let mut responses = succeeded(STEP, calling.await)?.into_inner();
    let mut expected = size as usize;
    for (size, bytes) in exchange {
        let response = succeeded(STEP, responses.message().await)?;
        are_zeros(STEP, response.and_then(|response| response.payload).as_ref(), expected)?;
        let sent = send.send(output_request(size, bytes)).await;
        sent.map_err(|_| CaseError::Unexpected {
            step: STEP,
            expected: "a call that takes four requests".to_owned(),
            got: "its end before".to_owned(),
        })?;
        expected = size as usize;
    }
    drop(send);
    expect_sizes(STEP, responses, &[expected]).await
}

pub(super) async fn empty_stream(mut client: Client) -> Result<(), CaseError> {
    let calling = client.full_duplex_call(tokio_stream::empty::<StreamingOutputCallRequest>());
    expect_sizes("FullDuplexCall", succeeded("FullDuplexCall", calling.await)?.into_inner(), &[]).await
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(ECHO_INITIAL, MetadataValue::from_static(INITIAL_VALUE));
    request.metadata_mut().insert_bin(ECHO_TRAILING, MetadataValue::from_bytes(TRAILING_VALUE));
    request
}

fn check_initial(step: &'static str, metadata: &MetadataMap) -> Result<(), CaseError> {
    let value = metadata.get(ECHO_INITIAL).and_then(|value| value.to_str().ok());
    same(step, &value, &Some(INITIAL_VALUE))
}

fn check_trailing(step: &'static str, metadata: &MetadataMap) -> Result<(), CaseError> {
    let value = metadata.get_bin(ECHO_TRAILING).and_then(|value| value.to_bytes().ok());
    same(step, &value.as_deref(), &Some(TRAILING_VALUE))
}

pub(super) async fn custom_metadata(mut client: Client) -> Result<(), CaseError> {
    // A unary response's metadata holds both in tonic, the initial and the trailing.
    let response = succeeded("UnaryCall", client.unary_call(with_metadata(large_request())).await)?;
    check_initial("UnaryCall", response.metadata())?;
    check_trailing("UnaryCall", response.metadata())?;

    const STEP: &str = "FullDuplexCall";
    let requests = tokio_stream::once(output_request(314_159, 271_828));
    let response = succeeded(STEP, client.full_duplex_call(with_metadata(requests)).await)?;
    check_initial(STEP, response.metadata())?;
    let mut responses = response.into_inner();
    let message = succeeded(STEP, responses.message().await)?;
    are_zeros(STEP, message.and_then(|message| message.payload).as_ref(), 314_159)?;
    same(STEP, &succeeded(STEP, responses.message().await)?, &None)?;
    let trailers = succeeded(STEP, responses.trailers().await)?.unwrap_or_default();
    check_trailing(STEP, &trailers)
}

/// The outcome of a bidirectional call to its end.
async fn outcome(mut client: Client, request: StreamingOutputCallRequest) -> Result<(), Status> {
    let mut responses = client.full_duplex_call(tokio_stream::once(request)).await?.into_inner();
    while responses.message().await?.is_some() {}
    Ok(())
}

pub(super) async fn status_code_and_message(mut client: Client) -> Result<(), CaseError> {
    let message = "test status message".to_owned();
    let status = Some(EchoStatus { code: Code::Unknown as i32, message: message.clone() });
    let unary = SimpleRequest { response_status: status.clone(), ..SimpleRequest::default() };
    let got = failed("UnaryCall", Code::Unknown, client.unary_call(unary).await)?;
    same("UnaryCall", &got.message(), &message.as_str())?;
    let duplex = StreamingOutputCallRequest { response_status: status, ..Default::default() };
    let got = failed("FullDuplexCall", Code::Unknown, outcome(client, duplex).await)?;
    same("FullDuplexCall", &got.message(), &message.as_str())
}

pub(super) async fn special_status_message(mut client: Client) -> Result<(), CaseError> {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP \u{263a} and non-BMP \u{1f608}\t\n";
    let status = EchoStatus { code: Code::Unknown as i32, message: message.to_owned() };
    let request = SimpleRequest { response_status: Some(status), ..SimpleRequest::default() };
    let got = failed("UnaryCall", Code::Unknown, client.unary_call(request).await)?;
    same("UnaryCall", &got.message(), &message)
}

pub(super) async fn unimplemented_method(mut client: Client) -> Result<(), CaseError> {
    let outcome = client.unimplemented_call(Empty {}).await;
    failed("TestService/UnimplementedCall", Code::Unimplemented, outcome).map(|_| ())
}

pub(super) async fn unimplemented_service(channel: Channel) -> Result<(), CaseError> {
    let outcome = UnimplementedServiceClient::new(channel).unimplemented_call(Empty {}).await;
    failed("UnimplementedService/UnimplementedCall", Code::Unimplemented, outcome).map(|_| ())
}

pub(super) async fn timeout_on_sleeping_server(mut client: Client) -> Result<(), CaseError> {
    const STEP: &str = "FullDuplexCall with a deadline of 1 ms";
    let message = StreamingOutputCallRequest { payload: zeros(27_182), ..Default::default() };
    // The call stays open: nothing but the deadline can end it.
    let mut request = Request::new(tokio_stream::once(message).chain(tokio_stream::pending()));
    request.set_timeout(Duration::from_millis(1));
    let outcome = match client.full_duplex_call(request).await {
        Ok(response) => response.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    match outcome {
        // tonic's own timers word it so.
        Err(status) if status.code() == Code::Cancelled && status.message() == "Timeout expired" => Ok(()),
        outcome => failed(STEP, Code::DeadlineExceeded, outcome).map(|_| ()),
    }
}

pub(super) async fn cancel_after_begin(client: Client) -> Result<(), CaseError> {
    let mut cancelled = client.clone();
    let requests = tokio_stream::pending::<StreamingInputCallRequest>();
    let call = tokio::spawn(async move { cancelled.streaming_input_call(requests).await });
    // Another call's answer comes after the first one's headers were sent on the same connection.
    empty_unary(client.clone()).await?;
    call.abort();
    match call.await {
        Err(error) if error.is_cancelled() => {}
        outcome => {
            let (expected, got) = ("a call that was under way".to_owned(), format!("{outcome:?}"));
            return Err(CaseError::Unexpected { step: "StreamingInputCall", expected, got });
        }
    }
    empty_unary(client).await
}

pub(super) async fn cancel_after_first_response(mut client: Client) -> Result<(), CaseError> {
    const STEP: &str = "FullDuplexCall";
    let requests = tokio_stream::once(output_request(31_415, 27_182)).chain(tokio_stream::pending());
    let mut responses = succeeded(STEP, client.full_duplex_call(requests).await)?.into_inner();
    let response = succeeded(STEP, responses.message().await)?;
    are_zeros(STEP, response.and_then(|response| response.payload).as_ref(), 31_415)?;
    drop(responses);
    empty_unary(client).await
}
