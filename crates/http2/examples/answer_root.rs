//! An HTTP/2 server on the bare engine, for conformance tests: GET and POST on `/` get 200 and a body.
//!
//! `cargo run -p evenkeel-http2 --example answer_root -- [SECONDS]`
//!
//! It listens on a free port of 127.0.0.1, says `ready ADDRESS` once it does, and ends after SECONDS (default 300).
//! A request is answered when it has ended, so that its DATA and trailers meet a stream that is still open.

use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{Connection, Event, Fields, Limits, ListSize, Role, StreamKey};

/// How long the server runs if the command line does not say.
const RUN_SECONDS: u64 = 300;

/// The longest wait for input before the connection's deadline is looked at again.
const READ_WAIT_MAX: Duration = Duration::from_secs(1);

/// The shortest: the system takes no timeout of zero.
const READ_WAIT_MIN: Duration = Duration::from_millis(1);

/// How long a connection that has ended is still read from.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Longer than the windows of one byte or three with which a peer may test flow control.
const BODY: &[u8] = b"an even keel\n";

fn main() -> io::Result<()> {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(RUN_SECONDS);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "ready {}", listener.local_addr()?)?;
    stdout.flush()?;
    let (failed, failure) = mpsc::channel();
    spawn(move || drop(failed.send(accept(&listener))));
    // The end of the process ends the threads.
    failure.recv_timeout(Duration::from_secs(seconds)).unwrap_or(Ok(()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "an example is at the edge: it has a thread for each connection"
)]
fn spawn(run: impl FnOnce() + Send + 'static) {
    thread::spawn(run);
}

#[expect(clippy::disallowed_methods, reason = "an example is at the edge: it reads the clock for the engine")]
fn clock() -> Instant {
    Instant::now()
}

fn accept(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (socket, _peer) = listener.accept()?;
        // A connection that breaks is its peer's loss only.
        spawn(move || drop(Session::new(socket).run()));
    }
}

/// One connection with its socket.
struct Session {
    socket: TcpStream,
    started: Instant,
    fields: Fields,
    http2: Connection,
    response: FieldBlock,
    /// Bytes that arrived and make no whole frame yet.
    input: Vec<u8>,
}

impl Session {
    fn new(socket: TcpStream) -> Self {
        let mut response = FieldBlock::new();
        response.push_literal(b":status", b"200", false);
        response.push_literal(b"content-type", b"text/plain", false);
        Self {
            socket,
            started: clock(),
            fields: Fields::new(1),
            http2: Connection::new(Role::Server, Limits::edge(), Duration::ZERO),
            response,
            input: Vec::new(),
        }
    }

    fn run(mut self) -> io::Result<()> {
        let result = self.serve().and_then(|()| self.linger());
        self.http2.close(&mut self.fields);
        self.fields.block.clear(&mut self.fields.store);
        result
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16 * 1024];
        self.write()?;
        while !self.http2.has_ended() && !self.http2.is_drained() {
            let now = self.started.elapsed();
            let wait = self.http2.deadline().map_or(READ_WAIT_MAX, |deadline| deadline.saturating_sub(now));
            self.socket.set_read_timeout(Some(wait.clamp(READ_WAIT_MIN, READ_WAIT_MAX)))?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            self.handle_input();
            let now = self.started.elapsed();
            if self.http2.deadline().is_some_and(|deadline| deadline <= now) {
                // What the peer missed is told to it by the GOAWAY in the output.
                let _told = self.http2.handle_timeout(&mut self.fields, now);
            }
            self.write()?;
        }
        Ok(())
    }

    /// Shuts our side and reads what the peer still sends, for a short time: bytes left unread at the close would make the
    /// system answer with a reset, which can destroy our last words on their way.
    fn linger(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        let until = self.started.elapsed() + LINGER_MAX;
        let mut chunk = [0; 16 * 1024];
        loop {
            let left = until.saturating_sub(self.started.elapsed());
            self.socket.set_read_timeout(Some(left.max(READ_WAIT_MIN)))?;
            if left.is_zero() || self.socket.read(&mut chunk)? == 0 {
                return Ok(());
            }
        }
    }

    fn handle_input(&mut self) {
        let now = self.started.elapsed();
        let input = core::mem::take(&mut self.input);
        let mut at = 0;
        loop {
            self.http2.begin_wake(now);
            while let Ok(Some(event)) = self.http2.next_event(&mut self.fields, now, &input, &mut at) {
                self.handle(now, event);
            }
            if !self.http2.has_had_its_share() {
                break;
            }
        }
        self.input = input;
        self.input.drain(..at);
    }

    fn handle(&mut self, now: Duration, event: Event<'_>) {
        match event {
            Event::Request { stream, size: ListSize::OverLimit, .. } => {
                self.http2.reset(&mut self.fields, stream, evenkeel_http2::ErrorCode::ENHANCE_YOUR_CALM);
                self.http2.release(&mut self.fields, stream);
            }
            Event::Request { stream, end: true, .. } => self.answer(now, stream),
            Event::Data { stream, bytes, end, .. } => {
                self.http2.consume(stream, u32::try_from(bytes.len()).expect("a frame has 16 KiB at most"));
                if end {
                    self.answer(now, stream);
                }
            }
            Event::Trailers { stream, .. } => self.answer(now, stream),
            Event::Failed { stream, .. } => self.http2.release(&mut self.fields, stream),
            _ => {}
        }
    }

    fn answer(&mut self, now: Duration, stream: StreamKey) {
        let store = &mut self.fields.store;
        let sent = self.http2.send_headers(store, stream, &self.response, &[], false);
        debug_assert_eq!(sent, Ok(()), "a request is answered once");
        let queued = self.http2.send_data(now, stream, BODY, true);
        debug_assert!(queued.is_ok(), "the header section went first");
        self.release_if_sent(stream);
    }

    /// A stream whose body waits for its peer's window is released when that has left.
    fn release_if_sent(&mut self, stream: StreamKey) {
        if !self.http2.has_queued(stream) {
            self.http2.release(&mut self.fields, stream);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        loop {
            self.http2.flush_queues(&mut self.fields, self.started.elapsed());
            while let Some((stream, _token, _bytes)) = self.http2.poll_progress() {
                self.release_if_sent(stream);
            }
            let output = self.http2.output();
            if output.is_empty() {
                return Ok(());
            }
            let count = self.socket.write(output)?;
            self.http2.output_sent(count);
        }
    }
}
