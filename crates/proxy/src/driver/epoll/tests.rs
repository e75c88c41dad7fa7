use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use evenkeel_balance::{Address, EndpointSet, Policy};
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};

use super::*;
use crate::driver::files::ClientSeats;
use crate::driver::listen::ListenSocket;
use crate::worker::WorkerConfig;
use crate::worker::route::RouteTable;
use crate::worker::snapshot::{Cluster, Listener, Snapshot};

const REQUEST: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/pkg.Service/Method"),
    (":authority", "service"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
];
const ANSWER: [(&str, &str); 3] =
    [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")];

/// Turns of the loop that a step may take; each waits for something to happen.
const TURNS_MAX: usize = 100;

/// The other end of one of the loop's connections, on the project's own engine.
struct Peer {
    socket: UnixStream,
    fields: Fields,
    http2: Connection,
    /// Streams on which a whole header section came, with the gRPC status if it had one.
    heads: Vec<(StreamKey, Option<Vec<u8>>)>,
}

impl Peer {
    fn new(socket: UnixStream, role: Role) -> Self {
        socket.set_nonblocking(true).unwrap();
        let http2 = Connection::new(role, Limits::mesh(), Duration::ZERO);
        Self { socket, fields: Fields::new(1), http2, heads: Vec::new() }
    }

    /// Puts a header section into the output that ends its side of the stream.
    fn head(&mut self, stream: StreamKey, list: &[(&str, &str)]) {
        let mut block = FieldBlock::new();
        for (name, value) in list {
            block.push_literal(name.as_bytes(), value.as_bytes(), false);
        }
        self.http2.send_headers(&mut self.fields.store, stream, &block, &[], true).unwrap();
        block.clear(&mut self.fields.store);
    }

    fn call(&mut self) {
        let stream = self.http2.open(Duration::ZERO, 0).unwrap();
        self.head(stream, &REQUEST);
    }

    fn send(&mut self) {
        self.socket.write_all(self.http2.output()).unwrap();
        let sent = self.http2.output().len();
        self.http2.output_sent(sent);
    }

    /// Takes what is there.
    fn receive(&mut self) {
        let mut input = vec![0; 65_536];
        let Ok(count) = self.socket.read(&mut input) else { return };
        let mut at = 0;
        self.http2.begin_wake(Duration::ZERO);
        while let Some(event) =
            self.http2.next_event(&mut self.fields, Duration::ZERO, &input[..count], &mut at).unwrap()
        {
            if let Event::Request { stream, .. } | Event::Response { stream, .. } = event {
                let Fields { block, store, index, .. } = &self.fields;
                let status = index.position(Name::GrpcStatus);
                let status = status.map(|at| block.get(store, at).value.to_vec());
                self.heads.push((stream, status));
            }
        }
        assert_eq!(at, count, "the worker writes whole frames");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.http2.close(&mut self.fields);
    }
}

fn endpoint(path: &Path) -> Arc<EndpointSet> {
    Arc::new(EndpointSet::new(&[(Address::Unix(path.to_owned()), 1)]))
}

/// A loop that listens on one socket and has one endpoint.
fn start(listener: UnixListener, backend: &Path) -> EventLoop {
    listener.set_nonblocking(true).unwrap();
    let snapshot = Arc::new(Snapshot {
        generation: 1,
        listeners: vec![Arc::new(Listener::new("a", Limits::mesh(), RouteTable::to_cluster(0)))],
        clusters: vec![Arc::new(Cluster::new("orders", Policy::RoundRobin, endpoint(backend)))],
    });
    let worker = Worker::new(WorkerConfig { index: 0, count: 1, seed: 1 }, &snapshot, Duration::ZERO);
    let listen = |registry: &Registry, token: fn(usize) -> Token| {
        let (seats, limiter) = (ClientSeats::new(1), LogLimiter::default());
        Acceptor::new(vec![ListenSocket::Unix(listener)], seats, limiter, registry, token)
    };
    let inbox = sync_channel(1).1;
    EventLoop::new(worker, listen, inbox, Instant::now(), Arc::new(|_| {}), LogLimiter::default()).unwrap()
}

impl EventLoop {
    /// Waits for something to happen, and takes note of it without doing anything about it yet.
    fn listen(&mut self) {
        let mut events = Events::with_capacity(EVENTS);
        self.poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
        assert!(!events.is_empty(), "nothing happens any more");
        self.on_events(self.now(), &events);
    }

    fn turn_until(&mut self, mut is_done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if is_done(self) {
                return;
            }
            self.listen();
            self.act(self.now());
        }
        panic!("the step takes more than {TURNS_MAX} turns");
    }
}

#[test]
fn an_answer_that_came_before_a_write_failed_reaches_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front.sock"), folder.path().join("back.sock"));
    let backend = UnixListener::bind(&back).unwrap();
    let mut looped = start(UnixListener::bind(&front).unwrap(), &back);
    looped.act(looped.now());
    let mut backend = Peer::new(backend.accept().unwrap().0, Role::Server);
    backend.send();
    let mut client = Peer::new(UnixStream::connect(&front).unwrap(), Role::Client);
    client.send();
    looped.turn_until(|_| {
        client.receive();
        client.http2.can_open().is_ok()
    });
    client.call();
    client.send();
    looped.turn_until(|_| {
        backend.receive();
        !backend.heads.is_empty()
    });
    // The next request has been read and not been written, when the backend answers the first one and ends.
    client.call();
    client.send();
    while looped.worker.call_count() < 2 {
        looped.listen();
    }
    let (stream, _) = backend.heads[0];
    backend.head(stream, &ANSWER);
    backend.send();
    drop(backend);
    looped.act(looped.now());
    client.receive();
    assert_eq!(client.heads.len(), 1, "the second call waits for a connection");
    assert_eq!(client.heads[0].1.as_deref(), Some(&b"0"[..]));
}
