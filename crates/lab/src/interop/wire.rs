//! What tonic does not offer, done in the bodies below it: compression message by message, a view of each message's
//! compressed flag, and trailing metadata on success.
//!
//! A [`Wire`] belongs to one call and travels in its extensions. On a server, [`WireLayer`] makes one for each call; on a
//! client, the caller puts one into the request.

use super::{ECHO_INITIAL, ECHO_TRAILING};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tonic::body::Body;
use tower::{Layer, Service};

/// Bytes of a message's prefix: compressed flag and length.
const PREFIX_BYTES: usize = 5;
/// Largest message that is held to be compressed. The interop cases' largest has 314,159 bytes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Messages of a call whose flags are kept.
const FLAGS_MAX: usize = 1000;

/// One call's messages as they are on the wire. A clone is the same call's.
#[derive(Debug, Clone, Default)]
pub struct Wire {
    state: Arc<Mutex<WireState>>,
}

#[derive(Debug, Default)]
struct WireState {
    /// Whether each message received was compressed, at most [`FLAGS_MAX`].
    received: Vec<bool>,
    /// Whether to compress the next messages sent; none left means no.
    compress: VecDeque<bool>,
}

impl Wire {
    fn state(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides for the next message sent that has no decision yet.
    pub fn compress_next(&self, compress: bool) {
        let mut state = self.state();
        if state.compress.len() < FLAGS_MAX {
            state.compress.push_back(compress);
        }
    }

    /// Whether message number `index` of those received, from 0, was compressed; `None` if it has not arrived.
    #[must_use]
    pub fn was_compressed(&self, index: usize) -> Option<bool> {
        self.state().received.get(index).copied()
    }

    fn note_received(&self, compressed: bool) {
        let mut state = self.state();
        if state.received.len() < FLAGS_MAX {
            state.received.push(compressed);
        }
    }

    fn take_decision(&self) -> bool {
        self.state().compress.pop_front().unwrap_or(false)
    }
}

/// Wraps the services of a server: makes each call's [`Wire`], and returns the echo metadata.
#[derive(Debug, Clone, Copy, Default)]
pub struct WireLayer;

impl<S> Layer<S> for WireLayer {
    type Service = WireServer<S>;

    fn layer(&self, inner: S) -> WireServer<S> {
        WireServer { inner }
    }
}

/// A server's services with [`WireLayer`].
#[derive(Debug, Clone)]
pub struct WireServer<S> {
    inner: S,
}

/// The future of a wrapped service.
pub type WireFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for WireServer<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = WireFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let wire = Wire::default();
        let headers = request.headers();
        let initial = headers.get(ECHO_INITIAL).cloned();
        let trailing = headers.get(ECHO_TRAILING).cloned();
        let takes_gzip = headers.get_all("grpc-accept-encoding").iter().any(|value| {
            value.to_str().is_ok_and(|value| value.split(',').any(|encoding| encoding.trim() == "gzip"))
        });
        request.extensions_mut().insert(wire.clone());
        let answering = self.inner.call(request.map(|body| incoming(body, wire.clone())));
        Box::pin(async move {
            let mut response = answering.await?;
            let headers = response.headers_mut();
            if let Some(value) = initial {
                headers.insert(ECHO_INITIAL, value);
            }
            // Without a body there is no message to compress, and the headers are the trailers.
            if headers.contains_key("grpc-status") {
                if let Some(value) = trailing {
                    headers.insert(ECHO_TRAILING, value);
                }
                return Ok(response);
            }
            if takes_gzip {
                headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
            }
            let trailing = trailing.map(|value| (HeaderName::from_static(ECHO_TRAILING), value));
            let compressing = takes_gzip.then_some(wire);
            Ok(response.map(|body| Body::new(Outgoing::new(body, compressing, trailing))))
        })
    }
}

/// A client's channel that obeys a [`Wire`] in a request's extensions; without one it changes nothing.
#[derive(Debug, Clone)]
pub struct WireChannel<S> {
    inner: S,
}

impl<S> WireChannel<S> {
    /// Wraps a channel.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S> Service<Request<Body>> for WireChannel<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = WireFuture<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(wire) = request.extensions().get::<Wire>().cloned() else {
            return Box::pin(self.inner.call(request));
        };
        request.headers_mut().insert("grpc-encoding", HeaderValue::from_static("gzip"));
        let sending = wire.clone();
        let request = request.map(|body| Body::new(Outgoing::new(body, Some(sending), None)));
        let answering = self.inner.call(request);
        Box::pin(async move { Ok(answering.await?.map(|body| incoming(body, wire))) })
    }
}

fn incoming(body: Body, wire: Wire) -> Body {
    Body::new(Incoming { body, wire, scan: PrefixScan::default() })
}

/// Finds the messages' prefixes in a stream of bytes, however it is cut.
#[derive(Debug, Default)]
struct PrefixScan {
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    left: usize,
}

impl PrefixScan {
    /// Takes the next bytes, and calls `found` with the compressed flag of each message that begins in them.
    fn take(&mut self, mut bytes: &[u8], mut found: impl FnMut(bool)) {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.left);
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let count = bytes.len().min(PREFIX_BYTES - self.have);
            self.prefix[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == PREFIX_BYTES {
                let [flag, length @ ..] = self.prefix;
                found(flag != 0);
                self.left = u32::from_be_bytes(length) as usize;
                self.have = 0;
            }
        }
    }
}

/// A body whose messages' flags are noted as it is read.
struct Incoming {
    body: Body,
    wire: Wire,
    scan: PrefixScan,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Self { body, wire, scan } = &mut *self;
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            scan.take(bytes, |compressed| wire.note_received(compressed));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A body whose messages are compressed as its [`Wire`] decides, and whose trailers get one more field.
struct Outgoing {
    body: Body,
    compressing: Option<Wire>,
    trailing: Option<(HeaderName, HeaderValue)>,
    /// A message of which a part is still to come.
    partial: BytesMut,
}

impl Outgoing {
    fn new(body: Body, compressing: Option<Wire>, trailing: Option<(HeaderName, HeaderValue)>) -> Self {
        Self { body, compressing, trailing, partial: BytesMut::new() }
    }

    /// The whole messages in what has been sent so far, compressed where decided.
    fn whole_messages(&mut self, bytes: &Bytes) -> io::Result<Bytes> {
        let Some(wire) = &self.compressing else { return Ok(bytes.clone()) };
        self.partial.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        while let Some([flag, length @ ..]) = self.partial.first_chunk::<PREFIX_BYTES>().copied() {
            let length = u32::from_be_bytes(length) as usize;
            if length > MESSAGE_BYTES_MAX {
                return Err(io::Error::other(format!(
                    "a message of {length} bytes is too large to be compressed"
                )));
            }
            if self.partial.len() < PREFIX_BYTES + length {
                break;
            }
            let message = self.partial.split_to(PREFIX_BYTES + length);
            if flag == 0 && wire.take_decision() {
                put_compressed(&mut out, &message[PREFIX_BYTES..])?;
            } else {
                out.extend_from_slice(&message);
            }
        }
        Ok(out.freeze())
    }
}

/// Appends a message, compressed with gzip, with its prefix.
fn put_compressed(out: &mut BytesMut, message: &[u8]) -> io::Result<()> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message)?;
    let compressed = encoder.finish()?;
    out.put_u8(1);
    out.put_u32(u32::try_from(compressed.len()).map_err(io::Error::other)?);
    out.extend_from_slice(&compressed);
    Ok(())
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            let frame = match frame.into_data() {
                Ok(bytes) => match self.whole_messages(&bytes) {
                    // Only a part of a message so far.
                    Ok(whole) if !whole.has_remaining() && !bytes.is_empty() => continue,
                    Ok(whole) => Frame::data(whole),
                    Err(error) => return Poll::Ready(Some(Err(tonic::Status::internal(error.to_string())))),
                },
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => Frame::trailers(self.with_trailing(trailers)),
                    Err(frame) => frame,
                },
            };
            return Poll::Ready(Some(Ok(frame)));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Outgoing {
    fn with_trailing(&mut self, mut trailers: HeaderMap) -> HeaderMap {
        if let Some((name, value)) = self.trailing.take() {
            trailers.insert(name, value);
        }
        trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![flag];
        message.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        message.extend_from_slice(bytes);
        message
    }

    #[test]
    fn flags_are_found_however_the_bytes_are_cut() {
        let bytes = [message(0, b"one"), message(1, b""), message(1, b"three"), message(0, b"")].concat();
        for piece in 1..=bytes.len() {
            let (mut scan, mut flags) = (PrefixScan::default(), Vec::new());
            for chunk in bytes.chunks(piece) {
                scan.take(chunk, |flag| flags.push(flag));
            }
            assert_eq!(flags, [false, true, true, false], "in pieces of {piece}");
        }
    }

    #[test]
    fn messages_are_compressed_as_decided_however_they_are_cut() {
        let bytes = [message(0, &[7; 1000]), message(0, &[8; 1000]), message(0, &[9; 1000])].concat();
        for piece in [1, 7, 1005, 3015] {
            let wire = Wire::default();
            wire.compress_next(true);
            wire.compress_next(false);
            let mut outgoing = Outgoing::new(Body::empty(), Some(wire), None);
            let mut flags = Vec::new();
            let mut scan = PrefixScan::default();
            let mut sent = 0;
            for chunk in bytes.chunks(piece) {
                let whole = outgoing.whole_messages(&Bytes::copy_from_slice(chunk)).unwrap();
                sent += whole.len();
                scan.take(&whole, |flag| flags.push(flag));
            }
            assert_eq!(flags, [true, false, false], "in pieces of {piece}");
            assert!(sent < 2 * 1005 + 100, "the first message is not smaller: {sent}");
        }
    }
}
