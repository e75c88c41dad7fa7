//! The engine, driven as the proxy drives it.

use core::time::Duration;

use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};

use super::peer::{self, FRAME_BYTES, INTERLEAVED, Kind, LARGE_BYTES, MESSAGE, WINDOW_BYTES};
use super::{Hop, UNITS, WARM_UP, Warm};

/// Time between two wake-ups.
const STEP: Duration = Duration::from_micros(100);

/// A connection with its buffers.
struct End {
    http2: Connection,
    fields: Fields,
    now: Duration,
    input: Vec<u8>,
    /// What a socket took.
    written: Vec<u8>,
}

impl End {
    fn new(role: Role) -> Self {
        let limits = Limits {
            stream_window_bytes: WINDOW_BYTES,
            connection_window_bytes: WINDOW_BYTES,
            ..Limits::mesh()
        };
        let http2 = Connection::new(role, limits, Duration::ZERO);
        Self { http2, fields: Fields::new(1), now: Duration::ZERO, input: Vec::new(), written: Vec::new() }
    }

    /// A header list as the proxy forwards it: interned, and worth an entry in the peer's table.
    fn block(&mut self, list: &[(&str, &str)]) -> FieldBlock {
        let mut block = FieldBlock::new();
        for (name, value) in list {
            let id = self.fields.store.intern(name.as_bytes(), value.as_bytes());
            block.push_id(&mut self.fields.store, id, true);
            self.fields.store.release(id);
        }
        block
    }

    /// Reads what arrived.
    fn read(&mut self, input: &[u8], mut on_event: impl FnMut(&mut Connection, &mut Fields, &Event<'_>)) {
        self.now += STEP;
        self.input.extend_from_slice(input);
        let mut at = 0;
        loop {
            self.http2.begin_wake(self.now);
            while let Some(event) = self
                .http2
                .next_event(&mut self.fields, self.now, &self.input, &mut at)
                .expect("an honest peer")
            {
                on_event(&mut self.http2, &mut self.fields, &event);
            }
            if !self.http2.has_had_its_share() {
                break;
            }
        }
        self.input.clear();
    }

    /// Writes what is to be sent.
    fn write(&mut self) {
        self.http2.flush_queues(&mut self.fields, self.now);
        while self.http2.poll_progress().is_some() {}
        self.written.clear();
        self.written.extend_from_slice(self.http2.output());
        self.http2.output_sent(self.written.len());
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.http2.close(&mut self.fields);
    }
}

/// What a server does with its calls.
#[derive(Clone, Copy)]
enum Work {
    /// Answers each when it has ended.
    Answer,
    /// Counts what it is sent on one stream.
    Count,
    /// Sends a large message on this stream at each wake-up.
    Send(StreamKey),
}

/// The server's end.
pub(crate) struct Server {
    end: End,
    headers: FieldBlock,
    trailers: FieldBlock,
    work: Work,
    done: usize,
    received: usize,
    large: Vec<u8>,
}

impl Server {
    fn new(work: Work) -> Self {
        let mut end = End::new(Role::Server);
        let (headers, trailers) = (end.block(&peer::RESPONSE), end.block(&peer::TRAILERS));
        let mut server =
            Self { end, headers, trailers, work, done: 0, received: 0, large: vec![7; LARGE_BYTES] };
        server.wake(&peer::client_preface());
        server
    }

    /// The stream that [`peer::open_request`] opens, answered by a header section.
    fn open(&mut self) -> StreamKey {
        let mut opened = None;
        self.end.read(&peer::open_request(), |_, _, event| {
            if let Event::Request { stream, .. } = *event {
                opened = Some(stream);
            }
        });
        let stream = opened.expect("a request came");
        let store = &mut self.end.fields.store;
        self.end.http2.send_headers(store, stream, &self.headers, &[], false).expect("the first section");
        stream
    }
}

impl Hop for Server {
    fn wake(&mut self, input: &[u8]) {
        let Self { end, headers, trailers, work, done, received, .. } = self;
        let now = end.now;
        end.read(input, |http2, fields, event| {
            let Event::Data { stream, bytes, end, .. } = *event else { return };
            http2.consume(stream, bytes.len() as u32);
            *received += bytes.len();
            if end {
                http2.send_headers(&mut fields.store, stream, headers, &[], false).expect("first");
                http2.send_data(now, stream, &MESSAGE, false).expect("second");
                http2.send_trailers(&mut fields.store, stream, trailers).expect("third");
                http2.release(fields, stream);
                *done += 1;
            }
        });
        match *work {
            Work::Answer => {}
            Work::Count => *done = *received / LARGE_BYTES,
            Work::Send(stream) => {
                // Frame by frame, as they come to a proxy.
                for frame in self.large.chunks(FRAME_BYTES) {
                    end.http2.send_data(now, stream, frame, false).expect("an open stream");
                }
                *done += 1;
            }
        }
        end.write();
    }

    fn done(&self) -> usize {
        self.done
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.headers.clear(&mut self.end.fields.store);
        self.trailers.clear(&mut self.end.fields.store);
    }
}

/// The client's end.
pub(crate) struct Client {
    end: End,
    request: FieldBlock,
    /// Deadline and trace id of each call; empty if they do not differ.
    fresh: Vec<[(&'static str, String); 2]>,
    begun: usize,
    done: usize,
}

impl Client {
    fn call(&mut self) {
        let fresh = self.fresh.get(self.begun);
        self.begun += 1;
        let End { http2, fields, now, .. } = &mut self.end;
        let stream = http2.open(*now, 0).expect("streams end");
        let mut send = |extra: &[(&[u8], &[u8])]| {
            http2.send_headers(&mut fields.store, stream, &self.request, extra, false)
        };
        let sent = match fresh {
            Some([(a, b), (c, d)]) => send(&[(a.as_bytes(), b.as_bytes()), (c.as_bytes(), d.as_bytes())]),
            None => send(&[]),
        };
        sent.expect("first");
        http2.send_data(*now, stream, &MESSAGE, true).expect("second");
        self.end.write();
    }
}

impl Hop for Client {
    fn wake(&mut self, input: &[u8]) {
        self.call();
        let done = &mut self.done;
        self.end.read(input, |http2, fields, event| match *event {
            Event::Data { stream, bytes, .. } => http2.consume(stream, bytes.len() as u32),
            Event::Trailers { stream, .. } => {
                http2.release(fields, stream);
                *done += 1;
            }
            _ => {}
        });
        self.end.write();
    }

    fn done(&self) -> usize {
        self.done
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.request.clear(&mut self.end.fields.store);
    }
}

/// A server that answers unary calls, one at a wake-up.
pub(crate) fn server(kind: Kind) -> Warm<Server> {
    Warm::new(Server::new(Work::Answer), peer::requests(kind, 1))
}

/// A server that answers unary calls, many at a wake-up.
pub(crate) fn interleaved(kind: Kind) -> Warm<Server> {
    Warm::new(Server::new(Work::Answer), peer::requests(kind, INTERLEAVED))
}

/// A server that takes large messages.
pub(crate) fn upload() -> Warm<Server> {
    let mut server = Server::new(Work::Count);
    server.open();
    Warm::new(server, peer::upload())
}

/// A server that sends large messages.
pub(crate) fn download() -> Warm<Server> {
    let mut server = Server::new(Work::Answer);
    server.work = Work::Send(server.open());
    Warm::new(server, peer::credit())
}

/// A client that makes unary calls, one at a wake-up.
pub(crate) fn client(kind: Kind) -> Warm<Client> {
    let mut end = End::new(Role::Client);
    end.read(&peer::server_preface(), |_, _, _| {});
    let request = end.block(&peer::REQUEST);
    let fresh =
        if kind == Kind::Fresh { (0..WARM_UP + UNITS).map(peer::fresh).collect() } else { Vec::new() };
    Warm::new(Client { end, request, fresh, begun: 0, done: 0 }, peer::responses())
}
