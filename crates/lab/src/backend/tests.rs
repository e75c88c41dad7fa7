use super::*;
use crate::pb::echo::echo_service_client::EchoServiceClient;
use crate::pb::echo::{Behaviour, EchoRequest, EchoResponse};
use crate::pb::orders::order_service_client::OrderServiceClient;
use crate::pb::orders::{GetOrderRequest, Order};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

async fn connect(backend: &Backend) -> Channel {
    let target = format!("http://{}", backend.local_addr());
    Endpoint::from_shared(target).unwrap().connect().await.unwrap()
}

fn ask(payload: &[u8], behaviour: Behaviour) -> EchoRequest {
    EchoRequest { payload: payload.to_vec(), behaviour: Some(behaviour) }
}

fn sizes(responses: &[EchoResponse]) -> Vec<(u32, usize)> {
    responses.iter().map(|response| (response.sequence, response.payload.len())).collect()
}

#[tokio::test]
async fn every_response_names_its_backend() {
    let backend = Backend::start(BackendConfig::local("backend-1")).await.unwrap();
    let channel = connect(&backend).await;
    let echoed =
        EchoServiceClient::new(channel.clone()).unary(ask(b"hi", Behaviour::default())).await.unwrap();
    assert_eq!(echoed.metadata().get(BACKEND_HEADER).unwrap(), "backend-1");
    assert_eq!(echoed.get_ref().payload, b"hi");
    // A failure is signed as well.
    let request = GetOrderRequest { order_id: "none".into() };
    let missing = OrderServiceClient::new(channel).get_order(request).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.metadata().get(BACKEND_HEADER).unwrap(), "backend-1");
}

#[tokio::test]
async fn replicas_share_their_book() {
    let orders = OrderBook::new();
    let config = |name| BackendConfig { orders: orders.clone(), ..BackendConfig::local(name) };
    let (one, two) = (Backend::start(config("1")).await.unwrap(), Backend::start(config("2")).await.unwrap());
    let order = Order { order_id: "ORD-1".into(), customer_id: "CUST-1".into(), ..Order::default() };
    OrderServiceClient::new(connect(&one).await).create_order(order).await.unwrap();
    let request = GetOrderRequest { order_id: "ORD-1".into() };
    let found = OrderServiceClient::new(connect(&two).await).get_order(request).await.unwrap();
    assert_eq!(found.get_ref().customer_id, "CUST-1");
}

#[tokio::test]
async fn a_unary_echo_behaves_as_asked() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let large = Behaviour { response_bytes: Some(100_000), ..Behaviour::default() };
    assert_eq!(client.unary(ask(b"", large)).await.unwrap().get_ref().payload.len(), 100_000);
    let failing = Behaviour { status_code: 9, status_message: "not yet".into(), ..Behaviour::default() };
    let status = client.unary(ask(b"", failing)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not yet"));
    let beyond = Behaviour { status_code: 17, ..Behaviour::default() };
    assert_eq!(client.unary(ask(b"", beyond)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_server_stream_sends_its_messages_and_then_its_status() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let behaviour = Behaviour {
        message_count: 3,
        response_bytes: Some(5),
        status_code: Code::Aborted as u32,
        ..Behaviour::default()
    };
    let mut stream = client.server_stream(ask(b"", behaviour)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let status = loop {
        match stream.message().await {
            Ok(message) => seen.push(message.unwrap()),
            Err(status) => break status,
        }
    };
    assert_eq!(sizes(&seen), [(0, 5), (1, 5), (2, 5)]);
    assert_eq!(status.code(), Code::Aborted);
}

#[tokio::test]
async fn streams_from_the_client_are_counted_and_echoed() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let requests =
        || tokio_stream::iter([ask(b"ab", Behaviour::default()), ask(b"cde", Behaviour::default())]);
    let summed = client.client_stream(requests()).await.unwrap().into_inner();
    assert_eq!((summed.received_messages, summed.received_bytes), (2, 5));
    let echoed: Vec<_> =
        client.bidi_stream(requests()).await.unwrap().into_inner().map(Result::unwrap).collect().await;
    assert_eq!(sizes(&echoed), [(0, 2), (1, 3)]);
}

#[tokio::test]
async fn calls_are_counted_and_health_checks_are_not() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let channel = connect(&backend).await;
    let stats = backend.stats();
    let request = HealthCheckRequest { service: "ecommerce.orders.OrderService".into() };
    let health = HealthClient::new(channel.clone()).check(request.clone()).await.unwrap();
    assert_eq!(health.get_ref().status(), ServingStatus::Serving);
    backend.set_serving(false).await;
    let health = HealthClient::new(channel.clone()).check(request).await.unwrap();
    assert_eq!(health.get_ref().status(), ServingStatus::NotServing);
    assert_eq!(stats.started(), 0);

    let mut client = EchoServiceClient::new(channel);
    client.unary(ask(b"", Behaviour::default())).await.unwrap();
    let endless = Behaviour { message_count: 1_000_000, delay_us: 1000, ..Behaviour::default() };
    let mut stream = client.server_stream(ask(b"", endless)).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!((stats.started(), stats.finished(), stats.in_flight()), (2, 1, 1));
    drop(stream);
    // The cancellation is on its way: the next answer on the connection comes after it.
    while stats.in_flight() > 0 {
        client.unary(ask(b"", Behaviour::default())).await.unwrap();
    }
    assert_eq!(stats.abandoned(), 1);
}

#[tokio::test]
async fn a_killed_backend_cuts_its_calls_and_frees_its_port() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let address = backend.local_addr();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let endless = Behaviour { message_count: 1_000_000, delay_us: 1000, ..Behaviour::default() };
    let mut stream = client.server_stream(ask(b"", endless)).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    backend.kill().await;
    let status = loop {
        if let Err(status) = stream.message().await {
            break status;
        }
    };
    assert_ne!(status.code(), Code::Ok);
    let again = Backend::start(BackendConfig { address, ..BackendConfig::local("again") }).await.unwrap();
    assert_eq!(again.local_addr(), address);
    let taken = Backend::start(BackendConfig { address, ..BackendConfig::local("third") }).await.unwrap_err();
    assert!(matches!(taken, BackendError::Listen { .. }), "{taken}");
}

#[tokio::test]
async fn a_stopping_backend_lets_its_calls_end() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let some = Behaviour { message_count: 20, delay_us: 1000, ..Behaviour::default() };
    let mut stream = client.server_stream(ask(b"", some)).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let stopping = tokio::spawn(backend.stop(Duration::from_secs(30)));
    let mut left = 0;
    while stream.message().await.unwrap().is_some() {
        left += 1;
    }
    assert_eq!(left, 19);
    assert!(stopping.await.unwrap());
}

#[tokio::test]
async fn a_slowed_backend_takes_that_much_longer() {
    let backend = Backend::start(BackendConfig::local("b")).await.unwrap();
    let mut client = EchoServiceClient::new(connect(&backend).await);
    let clock = crate::clock::Clock::start();
    backend.slow(Duration::from_millis(20));
    client.unary(ask(b"", Behaviour::default())).await.unwrap();
    assert!(clock.now() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_name_that_is_no_header_value_is_refused() {
    let error = Backend::start(BackendConfig::local("line\nbreak")).await.unwrap_err();
    assert!(matches!(error, BackendError::Name(name) if name == "line\nbreak"));
}
