//! The client's cases against the server, and against servers that do not keep to them.

use super::client::{Case, CaseError, run_case};
use super::server::InteropServer;
use crate::backend::{Backend, BackendConfig};
use crate::pb::testing::test_service_client::TestServiceClient;
use crate::pb::testing::{ResponseParameters, StreamingOutputCallRequest};
use std::net::SocketAddr;

fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn client_and_server_agree_on_every_case() {
    let server = InteropServer::start(any()).await.unwrap();
    for case in Case::ALL {
        run_case(server.local_addr(), case).await.unwrap_or_else(|error| panic!("{case}: {error}"));
    }
}

#[tokio::test]
async fn a_server_without_the_service_fails_all_cases_but_the_unimplemented_ones() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    for case in Case::ALL {
        let outcome = run_case(backend.local_addr(), case).await;
        let passes = matches!(case, Case::UnimplementedMethod | Case::UnimplementedService);
        // An expired timer of tonic's own is no answer of the server.
        if case != Case::TimeoutOnSleepingServer {
            assert_eq!(outcome.is_ok(), passes, "{case}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_an_error() {
    let address = {
        let listener = std::net::TcpListener::bind(any()).unwrap();
        listener.local_addr().unwrap()
    };
    let error = run_case(address, Case::EmptyUnary).await.unwrap_err();
    assert!(matches!(error, CaseError::Connect { address: named, .. } if named == address), "{error}");
}

#[tokio::test]
async fn half_duplex_answers_after_the_half_close() {
    let server = InteropServer::start(any()).await.unwrap();
    let mut client = TestServiceClient::connect(format!("http://{}", server.local_addr())).await.unwrap();
    let request = |size| StreamingOutputCallRequest {
        response_parameters: vec![ResponseParameters { size, ..Default::default() }],
        ..Default::default()
    };
    let requests = tokio_stream::iter([request(3), request(5)]);
    let mut responses = client.half_duplex_call(requests).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while let Some(response) = responses.message().await.unwrap() {
        sizes.push(response.payload.unwrap().body.len());
    }
    assert_eq!(sizes, [3, 5]);
}

#[tokio::test]
async fn an_impossible_size_is_refused() {
    let server = InteropServer::start(any()).await.unwrap();
    let mut client = TestServiceClient::connect(format!("http://{}", server.local_addr())).await.unwrap();
    for response_size in [-1, i32::MAX] {
        let request = crate::pb::testing::SimpleRequest { response_size, ..Default::default() };
        let status = client.unary_call(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
