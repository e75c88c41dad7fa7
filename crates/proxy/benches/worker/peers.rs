//! A client and a backend of the worker, made of the same engine, and the record of what they send.

use core::time::Duration;

use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{Connection, Event, Limits, Role, StreamKey};
use evenkeel_proxy::worker::ConnId;

use super::Proxy;

/// What differs from call to call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fields {
    /// Nothing.
    Repeated,
    /// `grpc-timeout` and `traceparent`.
    Fresh,
}

/// A message of 100 bytes with gRPC's five bytes before it.
const MESSAGE: [u8; 105] = {
    let mut message = [7; 105];
    message[0] = 0;
    [message[1], message[2], message[3], message[4]] = 100_u32.to_be_bytes();
    message
};

/// One peer: an engine and the header list it sends.
struct Peer {
    http2: Connection,
    fields: evenkeel_http2::Fields,
    headers: FieldBlock,
    trailers: FieldBlock,
    ended: Vec<StreamKey>,
}

impl Peer {
    fn new(role: Role, headers: &[(&str, &str)]) -> Self {
        let mut fields = evenkeel_http2::Fields::new(3);
        let mut list = |pairs: &[(&str, &str)]| {
            let mut block = FieldBlock::new();
            for (name, value) in pairs {
                let field = fields.store.intern(name.as_bytes(), value.as_bytes());
                block.push_id(&mut fields.store, field, true);
                fields.store.release(field);
            }
            block
        };
        let (headers, trailers) = (list(headers), list(&[("grpc-status", "0")]));
        let http2 = Connection::new(role, Limits::mesh(), Duration::ZERO);
        Self { http2, fields, headers, trailers, ended: Vec::new() }
    }

    /// Takes what the worker wrote; a backend answers every request that has ended, a client lets go of what is
    /// answered.
    fn take(&mut self, now: Duration, bytes: &[u8]) {
        let mut at = 0;
        self.http2.begin_wake(now);
        while let Some(event) =
            self.http2.next_event(&mut self.fields, now, bytes, &mut at).expect("the worker is honest")
        {
            match event {
                Event::Data { stream, bytes, end, .. } => {
                    self.http2.consume(stream, bytes.len() as u32);
                    if end {
                        self.ended.push(stream);
                    }
                }
                Event::Trailers { stream, .. } => self.http2.release(&mut self.fields, stream),
                Event::Failed { failure, .. } => panic!("a stream failed: {failure:?}"),
                _ => {}
            }
        }
        assert_eq!(at, bytes.len(), "the worker writes whole frames");
        for stream in self.ended.drain(..) {
            let store = &mut self.fields.store;
            self.http2.send_headers(store, stream, &self.headers, &[], false).expect("first");
            self.http2.send_data(now, stream, &MESSAGE, false).expect("second");
            self.http2.send_trailers(store, stream, &self.trailers).expect("third");
            self.http2.release(&mut self.fields, stream);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.headers.clear(&mut self.fields.store);
        self.trailers.clear(&mut self.fields.store);
        self.http2.close(&mut self.fields);
    }
}

/// A worker between a client and a backend.
pub(crate) struct Peers {
    proxy: Proxy,
    client: Peer,
    backend: Peer,
    kind: Fields,
    calls: usize,
}

impl Peers {
    pub(crate) fn new(proxy: Proxy, kind: Fields) -> Self {
        let request = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/shop.Orders/Get"),
            (":authority", "orders:50051"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "grpc-go/1.80.0"),
        ];
        let client = Peer::new(Role::Client, &request);
        let backend = Peer::new(Role::Server, &[(":status", "200"), ("content-type", "application/grpc")]);
        Self { proxy, client, backend, kind, calls: 0 }
    }

    /// Makes calls, `at_once` for each turn of the client; what both peers sent for them, in order.
    pub(crate) fn record(&mut self, calls: usize, at_once: usize) -> Vec<(ConnId, Vec<u8>)> {
        let mut inputs = Vec::new();
        self.settle(&mut inputs);
        for _ in 0..calls / at_once {
            (0..at_once).for_each(|_| self.call());
            self.settle(&mut inputs);
        }
        inputs
    }

    fn call(&mut self) {
        self.calls += 1;
        let random = (self.calls as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let timeout = format!("{}u", 10_000_000 + random % 80_000_000);
        let trace =
            format!("00-{random:016x}{:016x}-{:016x}-01", random.rotate_left(17), random.rotate_left(41));
        let fresh: &[(&[u8], &[u8])] =
            &[(b"grpc-timeout", timeout.as_bytes()), (b"traceparent", trace.as_bytes())];
        let extra = if self.kind == Fields::Fresh { fresh } else { &[] };
        let now = self.proxy.now;
        let Peer { http2, fields, headers, .. } = &mut self.client;
        let stream = http2.open(now, 0).expect("the worker's SETTINGS have arrived, and streams end");
        http2.send_headers(&mut fields.store, stream, headers, extra, false).expect("first");
        http2.send_data(now, stream, &MESSAGE, true).expect("second");
    }

    /// Moves bytes until nobody has anything to say.
    fn settle(&mut self, inputs: &mut Vec<(ConnId, Vec<u8>)>) {
        let Self { proxy, client, backend, .. } = self;
        let ids = [proxy.client, proxy.backend];
        loop {
            let before = inputs.len();
            for id in ids {
                let from = if id == proxy.client { &mut *client } else { &mut *backend };
                let bytes = from.http2.output().to_vec();
                if bytes.is_empty() {
                    continue;
                }
                from.http2.output_sent(bytes.len());
                let now = proxy.now;
                let client_id = proxy.client;
                proxy.wake(id, &bytes, |conn, written| {
                    let to = if conn == client_id { &mut *client } else { &mut *backend };
                    to.take(now, written);
                });
                inputs.push((id, bytes));
            }
            if inputs.len() == before {
                return;
            }
        }
    }
}
