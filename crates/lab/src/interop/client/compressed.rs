//! The cases with compression: each message is checked by its flag on the wire.

use super::{CaseError, Client, are_zeros, expect_sizes, failed, same, succeeded, zeros};
use crate::interop::wire::Wire;
use crate::pb::testing::{
    BoolValue, ResponseParameters, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
};
use tonic::{Code, Request};

const PROBE: &str = "probe: an uncompressed message that claims to be compressed";

/// A request on a wire that compresses its messages as given, and that shows those received.
fn on_wire<T>(message: T, compress: &[bool]) -> (Request<T>, Wire) {
    let wire = Wire::default();
    for decision in compress {
        wire.compress_next(*decision);
    }
    let mut request = Request::new(message);
    request.extensions_mut().insert(wire.clone());
    (request, wire)
}

fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

fn unary_request() -> SimpleRequest {
    SimpleRequest { response_size: 314_159, payload: zeros(271_828), ..SimpleRequest::default() }
}

pub(super) async fn client_unary(mut client: Client) -> Result<(), CaseError> {
    let message = |expected| SimpleRequest { expect_compressed: flag(expected), ..unary_request() };
    let (probe, _) = on_wire(message(true), &[false]);
    failed(PROBE, Code::InvalidArgument, client.unary_call(probe).await)?;
    for (step, compressed) in [("compressed UnaryCall", true), ("uncompressed UnaryCall", false)] {
        let (request, _) = on_wire(message(compressed), &[compressed]);
        let response = succeeded(step, client.unary_call(request).await)?.into_inner();
        are_zeros(step, response.payload.as_ref(), 314_159)?;
    }
    Ok(())
}

pub(super) async fn server_unary(mut client: Client) -> Result<(), CaseError> {
    for (step, compressed) in
        [("UnaryCall answered compressed", true), ("UnaryCall answered uncompressed", false)]
    {
        let message = SimpleRequest { response_compressed: flag(compressed), ..unary_request() };
        let (request, wire) = on_wire(message, &[]);
        let response = succeeded(step, client.unary_call(request).await)?.into_inner();
        are_zeros(step, response.payload.as_ref(), 314_159)?;
        same(step, &wire.was_compressed(0), &Some(compressed))?;
    }
    Ok(())
}

pub(super) async fn client_streaming(mut client: Client) -> Result<(), CaseError> {
    let message = |bytes, expected| StreamingInputCallRequest {
        payload: zeros(bytes),
        expect_compressed: flag(expected),
    };
    let (probe, _) = on_wire(tokio_stream::iter([message(27_182, true)]), &[false]);
    failed(PROBE, Code::InvalidArgument, client.streaming_input_call(probe).await)?;
    let messages = tokio_stream::iter([message(27_182, true), message(45_904, false)]);
    let (request, _) = on_wire(messages, &[true, false]);
    let response = succeeded("StreamingInputCall", client.streaming_input_call(request).await)?;
    same("StreamingInputCall", &response.get_ref().aggregated_payload_size, &73_086)
}

pub(super) async fn server_streaming(mut client: Client) -> Result<(), CaseError> {
    const STEP: &str = "StreamingOutputCall";
    let parameters = |size, compressed| ResponseParameters {
        size,
        compressed: flag(compressed),
        ..ResponseParameters::default()
    };
    let message = StreamingOutputCallRequest {
        response_parameters: vec![parameters(31_415, true), parameters(92_653, false)],
        ..StreamingOutputCallRequest::default()
    };
    let (request, wire) = on_wire(message, &[]);
    let responses = succeeded(STEP, client.streaming_output_call(request).await)?.into_inner();
    expect_sizes(STEP, responses, &[31_415, 92_653]).await?;
    same(STEP, &[wire.was_compressed(0), wire.was_compressed(1)], &[Some(true), Some(false)])
}
