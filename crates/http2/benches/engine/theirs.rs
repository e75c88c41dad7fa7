//! The h2 crate, polled by hand: it finds all its input there, and nobody is to be woken.

use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::{self, INTERLEAVED, Kind, LARGE_BYTES, MESSAGE, WINDOW_BYTES};
use super::{Hop, UNITS, WARM_UP, Warm};

/// What a socket would hold.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    at: usize,
    written: Vec<u8>,
}

/// A transport in memory, shared with the one who fills it.
#[derive(Clone, Default)]
struct Transport(Rc<RefCell<Pipe>>);

impl Transport {
    /// What arrived takes the place of what has been read.
    fn fill(&self, input: &[u8]) {
        let pipe = &mut *self.0.borrow_mut();
        assert_eq!(pipe.at, pipe.input.len(), "all input is read");
        pipe.input.clear();
        pipe.input.extend_from_slice(input);
        pipe.at = 0;
        pipe.written.clear();
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pipe = &mut *self.0.borrow_mut();
        let count = to.remaining().min(pipe.input.len() - pipe.at);
        if count == 0 {
            return Poll::Pending;
        }
        to.put_slice(&pipe.input[pipe.at..][..count]);
        pipe.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = &mut self.0.borrow_mut().written;
        slices.iter().for_each(|slice| written.extend_from_slice(slice));
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The outcome of something for which everything is there.
fn ready<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("everything is there, and h2 waits"),
    }
}

fn fields(list: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_bytes(name.as_bytes()).expect("a name"), value)
    };
    list.iter().filter(|(name, _)| !name.starts_with(':')).map(field).collect()
}

/// Reads what a stream has; how many bytes, and whether it has ended.
fn read(context: &mut Context<'_>, body: &mut RecvStream) -> (usize, bool) {
    let mut bytes = 0;
    loop {
        match body.poll_data(context) {
            Poll::Ready(Some(chunk)) => {
                let chunk = chunk.expect("an honest peer");
                bytes += chunk.len();
                body.flow_control().release_capacity(chunk.len()).expect("it was received");
            }
            Poll::Ready(None) => return (bytes, true),
            Poll::Pending => return (bytes, false),
        }
    }
}

/// What a server does with its calls.
enum Work {
    /// Answers each when it has ended.
    Answer,
    /// Counts what it is sent on one stream. h2 resets a stream of which either half is dropped.
    Count { body: RecvStream, _answer: SendStream<Bytes> },
    /// Sends a large message at each wake-up.
    Send { answer: SendStream<Bytes>, _body: RecvStream },
}

/// The server's end.
pub(crate) struct Server {
    transport: Transport,
    connection: h2::server::Connection<Transport, Bytes>,
    /// Calls that came at this wake-up.
    calls: Vec<(RecvStream, SendResponse<Bytes>)>,
    response: Response<()>,
    trailers: HeaderMap,
    large: Bytes,
    work: Work,
    done: usize,
    received: usize,
}

impl Server {
    fn new() -> Self {
        let transport = Transport::default();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        builder.max_concurrent_streams(1024);
        transport.fill(&peer::client_preface());
        let context = &mut Context::from_waker(Waker::noop());
        let handshake = pin!(builder.handshake(transport.clone()));
        let connection = ready(handshake.poll(context)).expect("an honest peer");
        let mut response = Response::new(());
        *response.headers_mut() = fields(&peer::RESPONSE);
        let mut server = Self {
            transport,
            connection,
            calls: Vec::new(),
            response,
            trailers: fields(&peer::TRAILERS),
            large: Bytes::from(vec![7; LARGE_BYTES]),
            work: Work::Answer,
            done: 0,
            received: 0,
        };
        server.accept(context);
        server
    }

    /// Reads all that arrived; also writes what there is to write.
    fn accept(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(call) = self.connection.poll_accept(context) {
            let (request, respond) = call.expect("the peer stays").expect("an honest peer");
            self.calls.push((request.into_body(), respond));
        }
    }

    /// The streams of a call that [`peer::open_request`] opens, answered by a header section.
    fn open(&mut self) -> (RecvStream, SendStream<Bytes>) {
        self.transport.fill(&peer::open_request());
        self.accept(&mut Context::from_waker(Waker::noop()));
        let (body, mut respond) = self.calls.pop().expect("a request came");
        (body, respond.send_response(self.response.clone(), false).expect("an open stream"))
    }
}

impl Hop for Server {
    fn wake(&mut self, input: &[u8]) {
        let context = &mut Context::from_waker(Waker::noop());
        self.transport.fill(input);
        self.accept(context);
        match &mut self.work {
            Work::Answer => {
                for (mut body, mut respond) in self.calls.drain(..) {
                    let (_, end) = read(context, &mut body);
                    assert!(end, "whole requests arrive");
                    let mut send = respond.send_response(self.response.clone(), false).expect("first");
                    send.send_data(Bytes::from_static(&MESSAGE), false).expect("second");
                    send.send_trailers(self.trailers.clone()).expect("third");
                    self.done += 1;
                }
            }
            Work::Count { body, .. } => {
                self.received += read(context, body).0;
                self.done = self.received / LARGE_BYTES;
            }
            Work::Send { answer, .. } => {
                answer.send_data(self.large.clone(), false).expect("an open stream");
                self.done += 1;
            }
        }
        self.accept(context);
    }

    fn done(&self) -> usize {
        self.done
    }
}

/// The client's end.
pub(crate) struct Client {
    transport: Transport,
    send: SendRequest<Bytes>,
    connection: h2::client::Connection<Transport, Bytes>,
    request: Request<()>,
    /// Deadline and trace id of each call; empty if they do not differ.
    fresh: Vec<[(&'static str, String); 2]>,
    begun: usize,
    done: usize,
}

impl Client {
    fn poll(&mut self, context: &mut Context<'_>) {
        assert!(Pin::new(&mut self.connection).poll(context).is_pending(), "the connection stays");
    }

    fn call(&mut self, context: &mut Context<'_>) -> ResponseFuture {
        let mut request = self.request.clone();
        if let Some(fresh) = self.fresh.get(self.begun) {
            for (name, value) in fresh {
                let value = HeaderValue::from_str(value).expect("a value");
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        self.begun += 1;
        ready(self.send.poll_ready(context)).expect("streams end");
        let (response, mut send) = self.send.send_request(request, false).expect("first");
        send.send_data(Bytes::from_static(&MESSAGE), true).expect("second");
        self.poll(context);
        response
    }
}

impl Hop for Client {
    fn wake(&mut self, input: &[u8]) {
        let context = &mut Context::from_waker(Waker::noop());
        let mut response = self.call(context);
        self.transport.fill(input);
        self.poll(context);
        let mut body = ready(Pin::new(&mut response).poll(context)).expect("an answer").into_body();
        let (_, end) = read(context, &mut body);
        let trailers = ready(body.poll_trailers(context)).expect("an honest peer");
        assert!(end && trailers.is_some(), "whole answers arrive");
        self.done += 1;
        drop((response, body));
        self.poll(context);
    }

    fn done(&self) -> usize {
        self.done
    }
}

/// A server that answers unary calls, one at a wake-up.
pub(crate) fn server(kind: Kind) -> Warm<Server> {
    Warm::new(Server::new(), peer::requests(kind, 1))
}

/// A server that answers unary calls, many at a wake-up.
pub(crate) fn interleaved(kind: Kind) -> Warm<Server> {
    Warm::new(Server::new(), peer::requests(kind, INTERLEAVED))
}

/// A server that takes large messages.
pub(crate) fn upload() -> Warm<Server> {
    let mut server = Server::new();
    let (body, _answer) = server.open();
    server.work = Work::Count { body, _answer };
    Warm::new(server, peer::upload())
}

/// A server that sends large messages.
pub(crate) fn download() -> Warm<Server> {
    let mut server = Server::new();
    let (_body, answer) = server.open();
    server.work = Work::Send { answer, _body };
    Warm::new(server, peer::credit())
}

/// A client that makes unary calls, one at a wake-up.
pub(crate) fn client(kind: Kind) -> Warm<Client> {
    let transport = Transport::default();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES).enable_push(false);
    transport.fill(&peer::server_preface());
    let context = &mut Context::from_waker(Waker::noop());
    let handshake = pin!(builder.handshake(transport.clone()));
    let (send, connection) = ready(handshake.poll(context)).expect("an honest peer");
    let mut request = Request::post("http://orders:50051/shop.Orders/Get").body(()).expect("a request");
    *request.headers_mut() = fields(&peer::REQUEST);
    let fresh =
        if kind == Kind::Fresh { (0..WARM_UP + UNITS).map(peer::fresh).collect() } else { Vec::new() };
    let mut client = Client { transport, send, connection, request, fresh, begun: 0, done: 0 };
    client.poll(context);
    Warm::new(client, peer::responses())
}
