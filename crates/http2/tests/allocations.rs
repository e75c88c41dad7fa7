//! Counts the heap allocations of calls on connections that have warmed up: there are none.

use core::time::Duration;

use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::frame::{flag, frame_header, kind};
use evenkeel_http2::{Connection, Event, Fields, Limits, Role, StreamKey};

/// Calls until every table has its final size: hash tables grow once more when erased entries have filled them.
const WARM_UP: u32 = 2_000;
const CALLS: u32 = 1_000;

/// Time between two calls.
const STEP: Duration = Duration::from_micros(100);

/// One end with everything that it uses again call by call.
struct End {
    http2: Connection,
    fields: Fields,
    input: Vec<u8>,
}

impl End {
    fn new(role: Role) -> Self {
        let http2 = Connection::new(role, Limits::upstream(), Duration::ZERO);
        Self { http2, fields: Fields::new(1), input: Vec::with_capacity(1 << 16) }
    }

    /// A header list whose fields are interned and worth an entry in the peer's table.
    fn interned(&mut self, list: &[(&str, &str)]) -> FieldBlock {
        let mut block = FieldBlock::new();
        for (name, value) in list {
            let id = self.fields.store.intern(name.as_bytes(), value.as_bytes());
            block.push_id(&mut self.fields.store, id, true);
            self.fields.store.release(id);
        }
        block
    }

    fn write_to(&mut self, other: &mut Self, now: Duration) {
        self.http2.flush_queues(&mut self.fields, now);
        while self.http2.poll_progress().is_some() {}
        let count = self.http2.output().len();
        other.input.extend_from_slice(self.http2.output());
        self.http2.output_sent(count);
    }

    /// Hands each event on; all input is used.
    fn read(&mut self, now: Duration, mut on_event: impl FnMut(&mut Connection, &mut Fields, &Event<'_>)) {
        self.http2.begin_wake(now);
        let mut at = 0;
        while let Some(event) =
            self.http2.next_event(&mut self.fields, now, &self.input, &mut at).expect("an honest peer")
        {
            on_event(&mut self.http2, &mut self.fields, &event);
        }
        assert_eq!(at, self.input.len());
        self.input.clear();
    }
}

/// The header lists of a response.
struct Response {
    headers: FieldBlock,
    trailers: FieldBlock,
}

impl Response {
    fn send(&self, http2: &mut Connection, fields: &mut Fields, stream: StreamKey, now: Duration) {
        http2.send_headers(&mut fields.store, stream, &self.headers, &[], false).expect("first");
        http2.send_data(now, stream, &[2; 300], false).expect("second");
        http2.send_trailers(&mut fields.store, stream, &self.trailers).expect("third");
        http2.release(fields, stream);
    }
}

struct Pair {
    client: End,
    server: End,
    request: FieldBlock,
    response: Response,
    now: Duration,
    completed: u32,
}

impl Pair {
    /// Two ends that have exchanged prefaces.
    fn new() -> Self {
        let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
        let request = client.interned(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/shop.Orders/Get"),
            (":authority", "orders:50051"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-rust/1"),
        ]);
        let headers = server.interned(&[(":status", "200"), ("content-type", "application/grpc")]);
        let trailers = server.interned(&[("grpc-status", "0")]);
        let now = Duration::ZERO;
        for _ in 0..2 {
            client.write_to(&mut server, now);
            server.read(now, |_, _, _| {});
            server.write_to(&mut client, now);
            client.read(now, |_, _, _| {});
        }
        Self { client, server, request, response: Response { headers, trailers }, now, completed: 0 }
    }

    /// One unary call with these fields besides the usual ones.
    fn call(&mut self, extra: &[(&[u8], &[u8])]) {
        self.now += STEP;
        let (now, client, response) = (self.now, &mut self.client, &self.response);
        let stream = client.http2.open(now, 0).expect("streams end");
        client
            .http2
            .send_headers(&mut client.fields.store, stream, &self.request, extra, false)
            .expect("first");
        client.http2.send_data(now, stream, &[1; 200], true).expect("second");
        client.write_to(&mut self.server, now);
        self.server.read(now, |http2, fields, event| {
            if let Event::Data { stream, bytes, end, .. } = *event {
                http2.consume(stream, bytes.len() as u32);
                if end {
                    response.send(http2, fields, stream, now);
                }
            }
        });
        self.server.write_to(&mut self.client, now);
        let completed = &mut self.completed;
        self.client.read(now, |http2, fields, event| match *event {
            Event::Data { stream, bytes, .. } => http2.consume(stream, bytes.len() as u32),
            Event::Trailers { stream, .. } => {
                http2.release(fields, stream);
                *completed += 1;
            }
            _ => {}
        });
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.request.clear(&mut self.client.fields.store);
        self.response.headers.clear(&mut self.server.fields.store);
        self.response.trailers.clear(&mut self.server.fields.store);
        for end in [&mut self.client, &mut self.server] {
            end.http2.close(&mut end.fields);
            end.fields.block.clear(&mut end.fields.store);
            assert_eq!(end.fields.store.references(), 0);
        }
    }
}

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

/// A trace identifier and a timeout that no other call has.
fn fresh(number: u32) -> ([u8; 55], [u8; 9]) {
    let hex: [u8; 8] =
        core::array::from_fn(|at| b"0123456789abcdef"[(number.rotate_left(4 * at as u32 + 4) & 15) as usize]);
    let mut trace = *b"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    trace[3..11].copy_from_slice(&hex);
    let mut timeout = [b'm'; 9];
    let digits = 10_000_000 + number;
    for (at, digit) in timeout[..8].iter_mut().enumerate() {
        *digit = b'0' + (digits / 10_u32.pow(7 - at as u32) % 10) as u8;
    }
    (trace, timeout)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn calls_with_the_same_fields_allocate_nothing() {
    let mut pair = Pair::new();
    (0..WARM_UP).for_each(|_| pair.call(&[]));
    let count = allocations(|| (0..CALLS).for_each(|_| pair.call(&[])));
    assert_eq!((count, pair.completed), (0, WARM_UP + CALLS));
}

#[test]
fn calls_with_fresh_fields_allocate_nothing() {
    let mut pair = Pair::new();
    let mut call = |number| {
        let (trace, timeout) = fresh(number);
        pair.call(&[(b"grpc-timeout", &timeout), (b"traceparent", &trace)]);
    };
    (0..WARM_UP).for_each(&mut call);
    assert_eq!(allocations(|| (WARM_UP..WARM_UP + CALLS).for_each(&mut call)), 0);
    assert_eq!(pair.completed, WARM_UP + CALLS);
}

#[test]
fn a_client_that_churns_the_table_causes_no_allocation() {
    // grpc-go and grpcio put a fresh timeout and trace identifier into the table with each call: each pushes another out.
    let mut pair = Pair::new();
    let mut block = Vec::with_capacity(1024);
    let mut answered = 0;
    let mut call = |number: u32| {
        let (trace, timeout) = fresh(number);
        block.clear();
        for (name, value) in [(":method", "POST"), (":scheme", "http"), (":path", "/shop.Orders/Get")] {
            literal(&mut block, 0x00, name.as_bytes(), value.as_bytes());
        }
        literal(&mut block, 0x40, b"traceparent", &trace);
        literal(&mut block, 0x40, b"grpc-timeout", &timeout);
        pair.now += STEP;
        let (now, server, response) = (pair.now, &mut pair.server, &pair.response);
        let flags = flag::END_HEADERS | flag::END_STREAM;
        server.input.extend_from_slice(&frame_header(block.len(), kind::HEADERS, flags, 2 * number + 1));
        server.input.extend_from_slice(&block);
        server.read(now, |http2, fields, event| {
            let Event::Request { stream, .. } = *event else { panic!("not a request: {event:?}") };
            response.send(http2, fields, stream, now);
            answered += 1;
        });
        server.http2.output_sent(server.http2.output().len());
        // The client's window, which no call gives back here, is enough for all of them at once.
        if number.is_multiple_of(100) {
            server.input.extend_from_slice(&frame_header(4, kind::WINDOW_UPDATE, 0, 0));
            server.input.extend_from_slice(&100_000_u32.to_be_bytes());
            server.read(now, |_, _, _| {});
        }
    };
    (0..WARM_UP).for_each(&mut call);
    assert_eq!(allocations(|| (WARM_UP..WARM_UP + CALLS).for_each(&mut call)), 0);
    assert_eq!(answered, WARM_UP + CALLS);
}

/// A literal field with a plain name and value: `first` is 0x40 for one that goes into the table, else 0.
fn literal(block: &mut Vec<u8>, first: u8, name: &[u8], value: &[u8]) {
    block.push(first);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).expect("short"));
        block.extend_from_slice(text);
    }
}
