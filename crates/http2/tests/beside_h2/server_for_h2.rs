//! Our server, h2's client.

use std::collections::BTreeMap;

use bytes::Bytes;
use evenkeel_http2::{ErrorCode, Event, Half, Limits, Role, StreamFailure, StreamKey};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use tokio::io::duplex;
use tokio::task::JoinHandle;

use super::ours::{End, Engine, Owner, TRANSPORT_BYTES, pattern};

/// Sends back what it gets, as it gets it, and the request's checksum trailer; never holds more than a window.
#[derive(Default)]
struct Echo {
    checksums: BTreeMap<u32, String>,
    /// Streams that the client reset, with its code.
    reset: Vec<(u32, ErrorCode)>,
    requests: u32,
    most_held: u32,
    /// After as many requests the connection drains.
    drain_after: Option<u32>,
}

impl Echo {
    fn finish(&mut self, engine: &mut Engine, stream: StreamKey) {
        let checksum = self.checksums.remove(&stream.id()).unwrap_or_default();
        engine.send_trailers(stream, &[("grpc-status", "0"), ("checksum", &checksum)]);
        self.let_go_if_sent(engine, stream);
    }

    fn let_go_if_sent(&self, engine: &mut Engine, stream: StreamKey) {
        if engine.http2.send_half(stream) == Half::Closed && engine.http2.receive_half(stream) == Half::Closed
        {
            engine.release(stream);
        }
    }

    fn begin(&mut self, engine: &mut Engine, stream: StreamKey, end: bool) {
        self.requests += 1;
        match engine.value(":path").as_deref() {
            Some("/refused") => {
                engine.http2.reset(&mut engine.fields, stream, ErrorCode::REFUSED_STREAM);
                engine.release(stream);
                return;
            }
            Some("/early") => {
                // The whole answer, and a polite wish that the rest of the request stay away (RFC 9113 section 8.1).
                engine.send_headers(stream, &[(":status", "200"), ("grpc-status", "16")], true);
                engine.http2.reset(&mut engine.fields, stream, ErrorCode::NO_ERROR);
                engine.release(stream);
                return;
            }
            _ => engine.send_headers(
                stream,
                &[(":status", "200"), ("content-type", "application/grpc")],
                false,
            ),
        }
        if end {
            self.finish(engine, stream);
        }
    }
}

impl Owner for Echo {
    fn turn(&mut self, engine: &mut Engine) -> bool {
        if self.drain_after.is_some_and(|requests| self.requests >= requests) {
            engine.http2.start_drain(engine.now, b"max_age");
        }
        !engine.http2.is_drained()
    }

    fn on_event(&mut self, engine: &mut Engine, event: &Event<'_>) {
        match *event {
            Event::Request { stream, end, .. } => self.begin(engine, stream, end),
            Event::Data { stream, bytes, end, .. } => {
                self.most_held = self.most_held.max(engine.http2.held_bytes());
                let sent =
                    engine.http2.send_data(engine.now, stream, bytes, false).expect("an open response");
                engine.http2.consume(stream, u32::try_from(sent).expect("a frame"));
                if end {
                    self.finish(engine, stream);
                }
            }
            Event::Trailers { stream, .. } => {
                self.checksums.insert(stream.id(), engine.value("checksum").unwrap_or_default());
                self.finish(engine, stream);
            }
            Event::Failed { stream, failure, .. } => {
                if let StreamFailure::PeerReset(code) = failure {
                    self.reset.push((stream.id(), code));
                }
                engine.release(stream);
            }
            _ => {}
        }
    }

    fn on_progress(&mut self, engine: &mut Engine, stream: StreamKey, bytes: u32) {
        engine.http2.consume(stream, bytes);
        self.let_go_if_sent(engine, stream);
    }
}

struct Session {
    client: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    server: JoinHandle<(End, Echo, Engine)>,
}

impl Session {
    async fn start(limits: Limits, builder: &h2::client::Builder, echo: Echo) -> Self {
        let (ours, theirs) = duplex(TRANSPORT_BYTES);
        let server = tokio::spawn(async move {
            let (mut engine, mut echo) = (Engine::new(Role::Server, limits), echo);
            let end = engine.run(ours, &mut echo).await;
            (end, echo, engine)
        });
        let (client, connection) = builder.handshake(theirs).await.unwrap();
        Self { client, connection: tokio::spawn(connection), server }
    }

    /// The client goes; what the server made of it all.
    async fn finish(self) -> (End, Echo, Engine) {
        drop(self.client);
        self.connection.await.unwrap().unwrap();
        self.server.await.unwrap()
    }
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://orders{path}")).header("te", "trailers").body(()).unwrap()
}

async fn body_of(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        all.extend_from_slice(&chunk);
    }
    (all, body.trailers().await.unwrap())
}

/// One call; its body and its trailers come back.
async fn echo(client: SendRequest<Bytes>, body: Vec<u8>, checksum: Option<&str>) {
    let (response, mut send) = client.ready().await.unwrap().send_request(request("/echo"), false).unwrap();
    send.send_data(body.clone().into(), checksum.is_none()).unwrap();
    if let Some(checksum) = checksum {
        let trailers = HeaderMap::from_iter([("checksum".parse().unwrap(), checksum.parse().unwrap())]);
        send.send_trailers(trailers).unwrap();
    }
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (echoed, trailers) = body_of(response.into_body()).await;
    assert!(echoed == body, "{} bytes came back for {}", echoed.len(), body.len());
    let trailers = trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["checksum"], checksum.unwrap_or_default());
}

#[tokio::test(start_paused = true)]
async fn answers_unary_calls_one_after_another() {
    let session = Session::start(Limits::edge(), &h2::client::Builder::new(), Echo::default()).await;
    for size in [0, 1, 100, 16_384, 16_385, 65_535, 65_536] {
        echo(session.client.clone(), pattern(size), Some("sha256:00")).await;
        echo(session.client.clone(), pattern(size), None).await;
    }
    let (end, echo, mut engine) = session.finish().await;
    assert_eq!((end, echo.requests), (End::Closed, 14));
    assert_eq!((engine.http2.stream_count(), engine.http2.held_bytes()), (0, 0));
    engine.http2.close(&mut engine.fields);
}

#[tokio::test(start_paused = true)]
async fn streams_both_ways_through_small_windows() {
    let limits = Limits { stream_window_bytes: 16_384, connection_window_bytes: 65_535, ..Limits::edge() };
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(5_000).initial_connection_window_size(70_000);
    let session = Session::start(limits, &builder, Echo::default()).await;
    let calls: Vec<_> =
        (0..4).map(|_| tokio::spawn(echo(session.client.clone(), pattern(1 << 20), None))).collect();
    for call in calls {
        call.await.unwrap();
    }
    let (_, echo, engine) = session.finish().await;
    assert_eq!(engine.http2.held_bytes(), 0);
    assert!(echo.most_held <= 65_535, "{} bytes were held", echo.most_held);
}

#[tokio::test(start_paused = true)]
async fn serves_many_streams_within_its_limit() {
    let session = Session::start(Limits::edge(), &h2::client::Builder::new(), Echo::default()).await;
    let calls: Vec<_> =
        (0..500).map(|at| tokio::spawn(echo(session.client.clone(), pattern(37 * at), None))).collect();
    for call in calls {
        call.await.unwrap();
    }
    let (end, echo, _) = session.finish().await;
    assert_eq!((end, echo.requests), (End::Closed, 500));
}

#[tokio::test(start_paused = true)]
async fn hears_of_a_clients_resets_and_goes_on() {
    let session = Session::start(Limits::mesh(), &h2::client::Builder::new(), Echo::default()).await;
    let mut client = session.client.clone();
    for code in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(request("/echo"), false).unwrap();
        send.send_data(pattern(100).into(), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), pattern(100));
        send.send_reset(code);
    }
    echo(session.client.clone(), pattern(10), None).await;
    drop(client);
    let (_, echo, engine) = session.finish().await;
    let codes = [ErrorCode::CANCEL, ErrorCode::NO_ERROR, ErrorCode::INTERNAL_ERROR];
    assert_eq!(echo.reset, [(1, codes[0]), (3, codes[1]), (5, codes[2])]);
    assert_eq!((engine.http2.stream_count(), engine.http2.held_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn its_resets_reach_the_client_with_their_code() {
    let session = Session::start(Limits::edge(), &h2::client::Builder::new(), Echo::default()).await;
    let client = session.client.clone().ready().await.unwrap();
    let (response, _send) = client.clone().send_request(request("/refused"), false).unwrap();
    assert_eq!(response.await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    drop(client);
    echo(session.client.clone(), pattern(10), None).await;
    session.finish().await;
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_whole_for_a_client_that_still_sends() {
    let session = Session::start(Limits::edge(), &h2::client::Builder::new(), Echo::default()).await;
    let client = session.client.clone().ready().await.unwrap();
    let (response, mut send) = client.clone().send_request(request("/early"), false).unwrap();
    send.send_data(pattern(200_000).into(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "16");
    assert!(response.into_body().is_end_stream());
    drop((client, send));
    echo(session.client.clone(), pattern(10), None).await;
    let (_, _, engine) = session.finish().await;
    assert_eq!(engine.http2.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_loses_no_call_and_ends_the_connection() {
    let echo_owner = Echo { drain_after: Some(50), ..Echo::default() };
    let session = Session::start(Limits::edge(), &h2::client::Builder::new(), echo_owner).await;
    let mut completed = 0;
    let mut client = session.client.clone();
    while let Ok(ready) = client.clone().ready().await {
        client = ready;
        let Ok((response, mut send)) = client.send_request(request("/echo"), false) else { break };
        send.send_data(pattern(3_000).into(), true).unwrap();
        let (body, _) = body_of(response.await.expect("a call that was sent is served").into_body()).await;
        assert_eq!(body.len(), 3_000);
        completed += 1;
        assert!(completed < 1_000, "the client is asked to go");
    }
    drop(client);
    let (_, echo, engine) = session.finish().await;
    assert_eq!(echo.requests, completed);
    assert!(engine.http2.is_drained() && completed >= 50);
}

#[tokio::test(start_paused = true)]
async fn answers_pings() {
    let (ours, theirs) = duplex(TRANSPORT_BYTES);
    let server = tokio::spawn(async move {
        Engine::new(Role::Server, Limits::edge()).run(ours, &mut Echo::default()).await
    });
    let (client, mut connection) = h2::client::handshake(theirs).await.unwrap();
    let mut ping_pong = connection.ping_pong().unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        ping_pong.ping(h2::Ping::opaque()).await.unwrap();
    }
    drop(client);
    connection.await.unwrap().unwrap();
    assert_eq!(server.await.unwrap(), End::Closed);
}
