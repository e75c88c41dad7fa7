//! Drives the engine over an asynchronous transport.

use core::time::Duration;

use evenkeel_http2::field::FieldBlock;
use evenkeel_http2::{Connection, ConnectionError, ErrorCode, Event, Fields, Limits, Role, StreamKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};
use tokio::time::Instant;

/// Bytes that the transport holds in each direction: less than a frame, so that both ends often wait for each other.
pub(crate) const TRANSPORT_BYTES: usize = 10_000;

/// An owner of a connection.
pub(crate) trait Owner {
    /// Before each wait: may begin something. `false` ends the connection once its output has left.
    fn turn(&mut self, engine: &mut Engine) -> bool;
    fn on_event(&mut self, engine: &mut Engine, event: &Event<'_>);
    /// Queued bytes of a stream have left.
    fn on_progress(&mut self, engine: &mut Engine, stream: StreamKey, bytes: u32);
}

/// A connection and what it needs.
pub(crate) struct Engine {
    pub(crate) http2: Connection,
    pub(crate) fields: Fields,
    pub(crate) now: Duration,
    input: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The owner was done.
    Done,
    /// The peer closed the transport.
    Closed,
    /// The peer broke a rule.
    Failed(ConnectionError),
}

impl Engine {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        let http2 = Connection::new(role, limits, Duration::ZERO);
        Self { http2, fields: Fields::new(1), now: Duration::ZERO, input: Vec::new() }
    }

    /// Runs until the owner is done, the peer has closed, or it has broken a rule.
    pub(crate) async fn run(&mut self, io: DuplexStream, owner: &mut impl Owner) -> End {
        let (mut reader, mut writer) = split(io);
        let (epoch, mut chunk) = (Instant::now(), [0; 4096]);
        loop {
            self.now = epoch.elapsed();
            let goes_on = owner.turn(self);
            self.settle(owner);
            if !goes_on {
                self.http2.shut(ErrorCode::NO_ERROR, b"");
                // What the peer still has on its way is read, so that its transport does not break.
                let mut nowhere = tokio::io::sink();
                let last_words = async {
                    writer.write_all(self.http2.output()).await?;
                    writer.shutdown().await
                };
                let _gone = tokio::join!(last_words, tokio::io::copy(&mut reader, &mut nowhere));
                return End::Done;
            }
            let deadline = epoch + self.http2.deadline().unwrap_or(Duration::MAX / 4);
            tokio::select! {
                read = reader.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => return End::Closed,
                    Ok(count) => {
                        if let Err(error) = self.read(&chunk[..count], owner) {
                            // The peer is told why.
                            let _told = writer.write_all(self.http2.output()).await;
                            return End::Failed(error);
                        }
                    }
                },
                written = writer.write(self.http2.output()), if !self.http2.output().is_empty() => match written {
                    Ok(count) => self.http2.output_sent(count),
                    Err(_) => return End::Closed,
                },
                () = tokio::time::sleep_until(deadline) => {
                    self.now = epoch.elapsed();
                    if let Err(error) = self.http2.handle_timeout(&mut self.fields, self.now) {
                        return End::Failed(error);
                    }
                }
            }
        }
    }

    fn settle(&mut self, owner: &mut impl Owner) {
        self.http2.flush_queues(&mut self.fields, self.now);
        while let Some((stream, _token, bytes)) = self.http2.poll_progress() {
            owner.on_progress(self, stream, bytes);
        }
    }

    fn read(&mut self, bytes: &[u8], owner: &mut impl Owner) -> Result<(), ConnectionError> {
        let mut input = core::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            self.http2.begin_wake(self.now);
            while let Some(event) = self.http2.next_event(&mut self.fields, self.now, &input, &mut at)? {
                owner.on_event(self, &event);
            }
            if !self.http2.has_had_its_share() {
                break;
            }
        }
        input.drain(..at);
        self.input = input;
        Ok(())
    }

    pub(crate) fn send_headers(&mut self, stream: StreamKey, list: &[(&str, &str)], end: bool) {
        let sent = self.http2.send_headers(&mut self.fields.store, stream, &literals(list), &[], end);
        sent.expect("a stream takes one header section");
    }

    pub(crate) fn send_trailers(&mut self, stream: StreamKey, list: &[(&str, &str)]) {
        let sent = self.http2.send_trailers(&mut self.fields.store, stream, &literals(list));
        sent.expect("a stream takes one trailer section");
    }

    pub(crate) fn release(&mut self, stream: StreamKey) {
        self.http2.release(&mut self.fields, stream);
    }

    /// The value of a field in the newest header list.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let field = self.fields.block.find_bytes(&self.fields.store, name.as_bytes())?;
        Some(String::from_utf8_lossy(field.value).into_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.http2.close(&mut self.fields);
        self.fields.block.clear(&mut self.fields.store);
    }
}

pub(crate) fn literals(list: &[(&str, &str)]) -> FieldBlock {
    let mut block = FieldBlock::new();
    for (name, value) in list {
        block.push_literal(name.as_bytes(), value.as_bytes(), false);
    }
    block
}

/// Bytes that differ from place to place.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}
