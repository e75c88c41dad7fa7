//! What an engine makes of bytes, by what it writes.

use core::time::Duration;

use bytes::Bytes;
use evenkeel_http2::frame::{FRAME_HEADER_LEN, FrameHeader, PREFACE, kind};
use evenkeel_http2::{ErrorCode, Event, Limits, Role, StreamKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::super::ours::Engine;
use super::wire::{Wire, wire};

/// Judged by what is written: a GOAWAY with an error, else a reset, else nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Accepted,
    /// Streams were reset; the code of the last.
    Reset(ErrorCode),
    /// The connection ended.
    Fatal(ErrorCode),
    /// The connection ended without a word.
    Closed,
}

pub(super) const OK: Verdict = Verdict::Accepted;

pub(super) fn reset(code: ErrorCode) -> Verdict {
    Verdict::Reset(code)
}

pub(super) fn fatal(code: ErrorCode) -> Verdict {
    Verdict::Fatal(code)
}

fn read(mut bytes: &[u8], closed: bool) -> Verdict {
    let mut verdict = if closed { Verdict::Closed } else { Verdict::Accepted };
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    while let Some(header) = FrameHeader::parse(bytes) {
        let (frame, rest) = bytes.split_at(FRAME_HEADER_LEN + header.length as usize);
        let code =
            |at: usize| ErrorCode(u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes")));
        match header.kind {
            kind::GOAWAY if code(FRAME_HEADER_LEN + 4) != ErrorCode::NO_ERROR => {
                return Verdict::Fatal(code(FRAME_HEADER_LEN + 4));
            }
            kind::RST_STREAM if code(FRAME_HEADER_LEN) != ErrorCode::NO_ERROR => {
                verdict = Verdict::Reset(code(FRAME_HEADER_LEN));
            }
            _ => {}
        }
        bytes = rest;
    }
    verdict
}

fn preface(role: Role) -> Wire {
    let magic = if role == Role::Server { &PREFACE[..] } else { &[] };
    wire().raw(magic).frame(kind::SETTINGS, 0, 0, &[]).frame(kind::SETTINGS, 1, 0, &[])
}

/// Our engine with an owner that answers whole requests with 200 and takes what it gets.
struct Ours(Engine);

impl Ours {
    fn new(role: Role) -> Self {
        let mut ours = Self(Engine::new(role, Limits::edge()));
        assert_eq!(ours.feed(&preface(role)), Verdict::Accepted);
        ours
    }

    fn feed(&mut self, bytes: &Wire) -> Verdict {
        let engine = &mut self.0;
        let (mut at, mut taken) = (0, Vec::new());
        loop {
            match engine.http2.next_event(&mut engine.fields, engine.now, &bytes.0, &mut at) {
                Ok(Some(Event::Request { stream, end, .. })) if end => answer(engine, stream),
                Ok(Some(Event::Data { stream, bytes, end, .. })) => {
                    taken.push((stream, u32::try_from(bytes.len()).expect("a frame")));
                    if end && engine.http2.role() == Role::Server {
                        answer(engine, stream);
                    }
                }
                Ok(Some(Event::Trailers { stream, .. })) if engine.http2.role() == Role::Server => {
                    answer(engine, stream);
                }
                Ok(Some(Event::Failed { stream, .. })) => engine.release(stream),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        taken.iter().for_each(|&(stream, bytes)| engine.http2.consume(stream, bytes));
        let verdict = read(engine.http2.output(), engine.http2.has_ended());
        engine.http2.output_sent(engine.http2.output().len());
        verdict
    }
}

fn answer(engine: &mut Engine, stream: StreamKey) {
    engine.send_headers(stream, &[(":status", "200")], true);
    engine.release(stream);
}

/// Our server with its preface exchanged.
pub(super) fn our_server(bytes: &Wire) -> Verdict {
    Ours::new(Role::Server).feed(bytes)
}

/// Our server, from the very first byte.
pub(super) fn our_new_server(bytes: &Wire) -> Verdict {
    Ours(Engine::new(Role::Server, Limits::edge())).feed(bytes)
}

/// Our client with two requests open, on streams 1 and 3; the first is whole.
pub(super) fn our_client(bytes: &Wire) -> Verdict {
    let mut ours = Ours::new(Role::Client);
    for end in [true, false] {
        let stream = ours.0.http2.open(ours.0.now, 0).expect("the server allows it");
        ours.0.send_headers(stream, super::wire::POST, end);
    }
    ours.0.http2.output_sent(ours.0.http2.output().len());
    ours.feed(bytes)
}

/// Writes bytes to h2 and reads what it answers, until it has nothing more to say.
async fn converse(mut io: DuplexStream, pieces: &[&Wire]) -> Verdict {
    let (mut written, mut closed) = (Vec::new(), false);
    for piece in pieces {
        // What breaks the transport shows when it is read.
        let _broken = io.write_all(&piece.0).await;
        let mut chunk = [0; 4096];
        // The runtime's clock moves only when nobody has anything left to do.
        while let Ok(read) = timeout(Duration::from_millis(10), io.read(&mut chunk)).await {
            match read {
                Ok(0) | Err(_) => {
                    closed = true;
                    break;
                }
                Ok(count) => written.extend_from_slice(&chunk[..count]),
            }
        }
    }
    read(&written, closed)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(future)
}

fn spawn_h2_server(io: DuplexStream) {
    let mut builder = h2::server::Builder::new();
    // As our edge profile.
    builder
        .max_concurrent_streams(100)
        .max_header_list_size(16 * 1024)
        .initial_connection_window_size(1 << 20);
    tokio::spawn(async move {
        let mut connection = builder.handshake::<_, Bytes>(io).await?;
        while let Some(accepted) = connection.accept().await {
            let (request, mut respond) = accepted?;
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(chunk) = body.data().await {
                    body.flow_control().release_capacity(chunk?.len())?;
                }
                body.trailers().await?;
                respond.send_response(http::Response::new(()), true)
            });
        }
        Ok::<(), h2::Error>(())
    });
}

pub(super) fn h2_server(bytes: &Wire) -> Verdict {
    block_on(async {
        let (ours, theirs) = duplex(1 << 20);
        spawn_h2_server(theirs);
        converse(ours, &[&preface(Role::Server), bytes]).await
    })
}

pub(super) fn h2_new_server(bytes: &Wire) -> Verdict {
    block_on(async {
        let (ours, theirs) = duplex(1 << 20);
        spawn_h2_server(theirs);
        converse(ours, &[bytes]).await
    })
}

/// h2's client with two requests open, on streams 1 and 3; the first is whole.
pub(super) fn h2_client(bytes: &Wire) -> Verdict {
    block_on(async {
        let (ours, theirs) = duplex(1 << 20);
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).max_header_list_size(16 * 1024).initial_connection_window_size(1 << 20);
        let (client, connection) =
            builder.handshake::<_, Bytes>(theirs).await.expect("the preface is written");
        tokio::spawn(connection);
        let requests = [true, false].map(|end| {
            let request = http::Request::post("http://a/a.B/C").body(()).expect("a request");
            client.clone().send_request(request, end).expect("the server allows it")
        });
        for (response, send) in requests {
            tokio::spawn(async move {
                let mut body = response.await?.into_body();
                while let Some(chunk) = body.data().await {
                    body.flow_control().release_capacity(chunk?.len())?;
                }
                body.trailers().await?;
                drop(send);
                Ok::<(), h2::Error>(())
            });
        }
        let verdict = converse(ours, &[&preface(Role::Client), bytes]).await;
        drop(client);
        verdict
    })
}
