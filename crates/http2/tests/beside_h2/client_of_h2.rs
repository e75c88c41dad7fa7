//! Our client, h2's server.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use evenkeel_http2::{ErrorCode, Event, Limits, OpenError, Role, StreamFailure, StreamKey};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::ours::{End, Engine, Owner, TRANSPORT_BYTES, pattern};

/// What became of a call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Outcome {
    status: u16,
    body: Vec<u8>,
    grpc_status: Option<String>,
    checksum: Option<String>,
    failure: Option<StreamFailure>,
}

struct Call {
    path: &'static str,
    body: Vec<u8>,
    trailers: bool,
}

/// Makes calls, as many at once as the server allows.
#[derive(Default)]
struct Caller {
    waiting: VecDeque<Call>,
    /// Calls by stream.
    open: BTreeMap<u32, Outcome>,
    outcomes: Vec<Outcome>,
    refused_to_open: Option<OpenError>,
    /// The call with this place is cancelled when its first DATA comes.
    cancels: bool,
    most_open: usize,
}

impl Caller {
    fn new(calls: impl IntoIterator<Item = Call>) -> Self {
        Self { waiting: calls.into_iter().collect(), ..Self::default() }
    }

    fn call(&mut self, engine: &mut Engine, call: &Call) {
        let stream = engine.http2.open(engine.now, 0).expect("it was asked before");
        let list = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", call.path),
            (":authority", "orders"),
            ("te", "trailers"),
        ];
        engine.send_headers(stream, &list, false);
        self.open.insert(stream.id(), Outcome::default());
        let end = !call.trailers;
        engine.http2.send_data(engine.now, stream, &call.body, end).expect("the header section went first");
        if call.trailers {
            engine.send_trailers(stream, &[("checksum", "sha256:00")]);
        }
    }

    fn finish(&mut self, engine: &mut Engine, stream: StreamKey, failure: Option<StreamFailure>) {
        if let Some(mut outcome) = self.open.remove(&stream.id()) {
            outcome.failure = failure;
            self.outcomes.push(outcome);
        }
        engine.release(stream);
    }

    fn outcome(&mut self, stream: StreamKey) -> &mut Outcome {
        self.open.get_mut(&stream.id()).expect("events come for calls that are open")
    }
}

impl Owner for Caller {
    fn turn(&mut self, engine: &mut Engine) -> bool {
        if !engine.http2.is_open() {
            return true;
        }
        while !self.waiting.is_empty() && self.refused_to_open.is_none() {
            match engine.http2.can_open() {
                Ok(()) => {
                    let call = self.waiting.pop_front().expect("it is not empty");
                    self.call(engine, &call);
                }
                Err(OpenError::Full) => break,
                Err(error) => self.refused_to_open = Some(error),
            }
        }
        self.most_open = self.most_open.max(self.open.len());
        !self.open.is_empty() || (self.refused_to_open.is_none() && !self.waiting.is_empty())
    }

    fn on_event(&mut self, engine: &mut Engine, event: &Event<'_>) {
        match *event {
            Event::Response { stream, status, end, .. } => {
                let grpc_status = engine.value("grpc-status");
                let outcome = self.outcome(stream);
                (outcome.status, outcome.grpc_status) = (status, grpc_status);
                if end {
                    self.finish(engine, stream, None);
                }
            }
            Event::Data { stream, bytes, end, .. } => {
                engine.http2.consume(stream, u32::try_from(bytes.len()).expect("a frame"));
                self.outcome(stream).body.extend_from_slice(bytes);
                if end || self.cancels {
                    self.finish(engine, stream, None);
                }
            }
            Event::Trailers { stream, .. } => {
                let (grpc_status, checksum) = (engine.value("grpc-status"), engine.value("checksum"));
                let outcome = self.outcome(stream);
                (outcome.grpc_status, outcome.checksum) = (grpc_status, checksum);
                self.finish(engine, stream, None);
            }
            Event::Failed { stream, failure, .. } => self.finish(engine, stream, Some(failure)),
            _ => {}
        }
    }

    fn on_progress(&mut self, _engine: &mut Engine, _stream: StreamKey, _bytes: u32) {}
}

async fn send_all(send: &mut SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let Some(capacity) = core::future::poll_fn(|context| send.poll_capacity(context)).await else {
            return Ok(());
        };
        let part = bytes.split_to(capacity?.min(bytes.len()));
        send.send_data(part, false)?;
    }
    Ok(())
}

/// Sends back what it gets, as it gets it.
async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    if request.uri().path() == "/refused" {
        respond.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    if request.uri().path() == "/trailers_only" {
        let response = Response::builder().header("grpc-status", "5").body(()).expect("a response");
        respond.send_response(response, true)?;
        return Ok(());
    }
    let mut body = request.into_body();
    let mut send = respond.send_response(Response::new(()), false)?;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        send_all(&mut send, chunk).await?;
        if body.is_end_stream() {
            break;
        }
    }
    let mut trailers = body.trailers().await?.unwrap_or_default();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    send.send_trailers(trailers)
}

/// An h2 server; after `requests` of them it shuts down gracefully.
fn serve(
    io: DuplexStream,
    builder: h2::server::Builder,
    shut_after: Option<u32>,
) -> JoinHandle<Result<(), h2::Error>> {
    tokio::spawn(async move {
        let mut connection = builder.handshake::<_, Bytes>(io).await?;
        let mut requests = 0;
        while let Some(accepted) = connection.accept().await {
            let (request, respond) = accepted?;
            // A client that resets its stream makes the echo fail; that is its business.
            tokio::spawn(async move { drop(echo(request, respond).await) });
            requests += 1;
            if shut_after == Some(requests) {
                connection.graceful_shutdown();
            }
        }
        Ok(())
    })
}

async fn run(
    caller: &mut Caller,
    limits: Limits,
    builder: h2::server::Builder,
    shut_after: Option<u32>,
) -> (End, Engine) {
    let (ours, theirs) = duplex(TRANSPORT_BYTES);
    let server = serve(theirs, builder, shut_after);
    let mut engine = Engine::new(Role::Client, limits);
    let end = engine.run(ours, caller).await;
    server.await.unwrap().expect("an honest client is not refused");
    (end, engine)
}

fn call(bytes: usize) -> Call {
    Call { path: "/echo", body: pattern(bytes), trailers: false }
}

fn echoed(bytes: usize) -> Outcome {
    Outcome { status: 200, body: pattern(bytes), grpc_status: Some("0".to_owned()), ..Outcome::default() }
}

#[tokio::test(start_paused = true)]
async fn makes_unary_calls() {
    let sizes = [0, 1, 100, 16_384, 16_385, 65_535, 65_536];
    for size in sizes {
        let mut caller = Caller::new([call(size)]);
        let (end, engine) = run(&mut caller, Limits::upstream(), h2::server::Builder::new(), None).await;
        assert_eq!(end, End::Done);
        assert_eq!(caller.outcomes, [echoed(size)], "{size} bytes");
        assert_eq!((engine.http2.stream_count(), engine.http2.held_bytes()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn sends_and_gets_trailers() {
    let mut caller = Caller::new([
        Call { trailers: true, ..call(10) },
        Call { path: "/trailers_only", body: Vec::new(), trailers: true },
    ]);
    run(&mut caller, Limits::upstream(), h2::server::Builder::new(), None).await;
    caller.outcomes.sort_by_key(|outcome| outcome.grpc_status.clone());
    assert_eq!(caller.outcomes[0], Outcome { checksum: Some("sha256:00".to_owned()), ..echoed(10) });
    assert_eq!((caller.outcomes[1].status, caller.outcomes[1].grpc_status.as_deref()), (200, Some("5")));
}

#[tokio::test(start_paused = true)]
async fn streams_both_ways_through_small_windows() {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(3_000).initial_connection_window_size(70_000);
    let limits = Limits {
        stream_window_bytes: 16_384,
        connection_window_bytes: 65_535,
        held_allowance_bytes: 0,
        ..Limits::upstream()
    };
    let mut caller = Caller::new((0..4).map(|_| call(1 << 20)));
    let (end, engine) = run(&mut caller, limits, builder, None).await;
    assert_eq!(end, End::Done);
    assert!(caller.outcomes.len() == 4 && caller.outcomes.iter().all(|outcome| *outcome == echoed(1 << 20)));
    assert_eq!(engine.http2.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn makes_as_many_calls_at_once_as_the_server_allows() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(20);
    let mut caller = Caller::new((0..300).map(|at| call(100 * at)));
    run(&mut caller, Limits::upstream(), builder, None).await;
    let mut sizes: Vec<usize> = caller.outcomes.iter().map(|outcome| outcome.body.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, (0..300).map(|at| 100 * at).collect::<Vec<_>>());
    assert!(caller.outcomes.iter().all(|outcome| outcome.failure.is_none()));
    assert_eq!(caller.most_open, 20);
}

#[tokio::test(start_paused = true)]
async fn hears_of_a_servers_resets_and_goes_on() {
    let refused = Call { path: "/refused", body: Vec::new(), trailers: false };
    let mut caller = Caller::new([refused, call(10)]);
    run(&mut caller, Limits::upstream(), h2::server::Builder::new(), None).await;
    caller.outcomes.sort_by_key(|outcome| outcome.status);
    let failure = StreamFailure::PeerReset(ErrorCode::REFUSED_STREAM);
    assert_eq!(caller.outcomes[0], Outcome { failure: Some(failure), ..Outcome::default() });
    assert_eq!(caller.outcomes[1], echoed(10));
}

#[tokio::test(start_paused = true)]
async fn cancels_calls_whose_answers_are_on_their_way() {
    let mut caller = Caller::new((0..200).map(|_| call(40_000)));
    caller.cancels = true;
    let (end, engine) = run(&mut caller, Limits::upstream(), h2::server::Builder::new(), None).await;
    assert_eq!((end, caller.outcomes.len()), (End::Done, 200));
    assert_eq!((engine.http2.stream_count(), engine.http2.held_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_loses_no_call() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(5);
    let mut caller = Caller::new((0..50).map(|_| call(1_000)));
    run(&mut caller, Limits::upstream(), builder, Some(12)).await;
    assert_eq!(caller.refused_to_open, Some(OpenError::GoingAway));
    // Each call was answered, or was not processed and may be made again elsewhere.
    let answered = caller.outcomes.iter().filter(|outcome| **outcome == echoed(1_000)).count();
    let unprocessed = caller
        .outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some_and(StreamFailure::not_processed))
        .count();
    assert!(answered >= 12, "{answered} calls were answered");
    assert_eq!(answered + unprocessed + caller.waiting.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn an_abrupt_shutdown_brings_its_code() {
    let (ours, theirs) = duplex(TRANSPORT_BYTES);
    let server = tokio::spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.unwrap();
        let accepted = connection.accept().await.unwrap().unwrap();
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        while connection.accept().await.is_some() {}
        drop(accepted);
    });
    let mut engine = Engine::new(Role::Client, Limits::upstream());
    let mut caller = Caller::new([call(10)]);
    let end = engine.run(ours, &mut caller).await;
    server.await.unwrap();
    assert_eq!(end, End::Closed);
    assert_eq!(engine.http2.peer_goaway(), Some((1, ErrorCode::ENHANCE_YOUR_CALM)));
    assert!(caller.outcomes.is_empty(), "a stream at the last identifier may have been processed");
}
