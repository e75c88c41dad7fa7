use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use evenkeel_balance::{Address, EndpointSet, PanicChange, Policy};
use evenkeel_http2::field::{FieldBlock, Name};
use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};

use super::*;
use crate::driver::files::ClientSeats;
use crate::driver::listen::ListenSocket;
use crate::worker::route::RouteTable;
use crate::worker::snapshot::{Cluster, Listener, Snapshot};
use crate::worker::{ClusterPanic, WorkerConfig};

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
        ..Snapshot::default()
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

/// What the log is told meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
}

/// Forty moments within three seconds: of one cause three lines.
fn moments() -> impl Iterator<Item = Duration> {
    (0..40).map(|number| Duration::from_millis(75) * number)
}

#[test]
fn panics_that_come_and_go_have_one_line_a_second_of_each_kind() {
    let change =
        |began| PanicChange { priority: 0, began, available: 1, total: 4, threshold: 50, fails: false };
    let mut limiter = LogLimiter::default();
    let lines = logged(|| {
        for now in moments() {
            for began in [true, false] {
                let panic = ClusterPanic { cluster: "orders".into(), change: change(began) };
                log::log_panic(&mut limiter, now, &panic);
            }
        }
    });
    let count = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("panic: too few"), count("panic is over"), lines.len()), (3, 3, 6), "{lines:#?}");
    assert!(lines[5].contains("suppressed=13"), "{}", lines[5]);
}

#[test]
fn sockets_that_cannot_be_watched_have_one_line_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let (front, back) = (folder.path().join("front.sock"), folder.path().join("back.sock"));
    let mut looped = start(UnixListener::bind(&front).unwrap(), &back);
    let lines = logged(|| {
        for now in moments() {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut stream = Stream::Unix(mio::net::UnixStream::from_std(ours));
            // A second time is one too many.
            stream.register(looped.poll.registry(), Token(FIRST_LISTENER - 1)).unwrap();
            let id = looped.worker.accepted(now, 0, PeerName::Unix).unwrap();
            looped.insert(now, id, stream, false, None);
        }
    });
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let told = "a socket cannot be watched, and its connection ends; raise fs.epoll.max_user_watches";
    assert!(lines.iter().all(|line| line.contains(told)), "{lines:#?}");
    assert!(lines[2].contains("suppressed=13"), "{}", lines[2]);
    looped.act(Duration::from_secs(3));
    assert_eq!(looped.worker.client_count(), 0);
}
