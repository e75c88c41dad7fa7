//! The thread that writes the access log: the edge of this crate.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use super::batch::{AccessLog, Batch};
use super::sink::Sink;
use crate::telemetry::AccessLogStats;

/// Batches that may wait for the writer, of all workers: enough for 64 workers with all of theirs.
pub const QUEUE_BATCHES: usize = 1024;

/// What the writer's queue carries.
#[derive(Debug)]
pub(super) enum Message {
    Batch(Batch),
    /// Look at [`Requests`].
    Wake,
}

/// What was asked of the writer. Flags beside the queue, because a full queue must not hold them up.
#[derive(Debug, Default)]
struct Requests {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// Closing the access log took too long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log was not written within {0:?}: its disk is slow or stuck, and lines may be missing")]
pub struct CloseError(Duration);

/// The access log's writer. Ends, too, when it and all [`AccessLog`]s are dropped.
#[derive(Debug)]
pub struct Writer {
    queue: SyncSender<Message>,
    requests: Arc<Requests>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    stats: Arc<AccessLogStats>,
}

impl Writer {
    /// Starts the thread. `on_error` is called on it with each error of the sink.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread to give.
    pub fn spawn(
        sink: impl Sink,
        stats: Arc<AccessLogStats>,
        on_error: impl FnMut(&io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE_BATCHES);
        let (end, ended) = channel();
        let requests = Arc::new(Requests::default());
        let output = Output {
            sink,
            on_error,
            torn: false,
            stats: Arc::clone(&stats),
            requests: Arc::clone(&requests),
        };
        thread::Builder::new().name("access-log".into()).spawn(move || output.run(messages, end))?;
        Ok(Self { queue, requests, ended, stats })
    }

    /// A worker's end of the log.
    #[must_use]
    pub fn log(&self) -> AccessLog {
        AccessLog::new(self.queue.clone(), Arc::clone(&self.stats))
    }

    /// Asks the sink to open its file anew, before the next batch is written. Does not wait.
    pub fn reopen(&self) {
        self.requests.reopen.store(true, SeqCst);
        self.wake();
    }

    /// Writes what waits and ends the thread. Workers should have dropped or flushed their [`AccessLog`]s before: what
    /// they hand over later is counted as dropped.
    ///
    /// # Errors
    ///
    /// If that takes longer than `timeout`; the thread then goes on by itself.
    pub fn close(self, timeout: Duration) -> Result<(), CloseError> {
        self.requests.stop.store(true, SeqCst);
        self.wake();
        match self.ended.recv_timeout(timeout) {
            Err(RecvTimeoutError::Timeout) => Err(CloseError(timeout)),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn wake(&self) {
        // If the queue is full, the writer is awake and looks at the requests with its next message.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// The thread's state.
struct Output<S, F> {
    sink: S,
    on_error: F,
    /// A failed write left a line without its end.
    torn: bool,
    stats: Arc<AccessLogStats>,
    requests: Arc<Requests>,
}

impl<S: Sink, F: FnMut(&io::Error)> Output<S, F> {
    fn run(mut self, messages: Receiver<Message>, end: Sender<()>) {
        let mut stopping = false;
        loop {
            let next = if stopping { messages.try_recv().ok() } else { messages.recv().ok() };
            let Some(message) = next else { break };
            stopping |= self.requests.stop.load(SeqCst);
            if self.requests.reopen.swap(false, SeqCst)
                && let Err(error) = self.sink.reopen()
            {
                self.fail(&error);
            }
            if let Message::Batch(mut batch) = message {
                self.write(&mut batch);
                let mut buffer = std::mem::take(&mut batch.bytes);
                buffer.clear();
                // Never full: it holds all buffers of the worker. Disconnected when the worker has ended.
                let _ = batch.home.try_send(buffer);
            }
        }
        // In this order: whoever sees the end sees the last lines counted.
        drop(messages);
        drop(end);
    }

    /// Writes a batch's lines; what is left of them in `batch.lines` was not written.
    fn write(&mut self, batch: &mut Batch) {
        if self.torn {
            match write_all(&mut self.sink, b"\n") {
                Ok(()) => self.torn = false,
                Err((_, error)) => return self.fail(&error),
            }
        }
        let Err((written, error)) = write_all(&mut self.sink, &batch.bytes) else {
            self.stats.written.add(std::mem::take(&mut batch.lines));
            return;
        };
        let written = &batch.bytes[..written];
        let lines = written.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.torn = written.last().is_some_and(|byte| *byte != b'\n');
        self.stats.written.add(lines);
        batch.lines = batch.lines.saturating_sub(lines);
        self.fail(&error);
    }

    fn fail(&mut self, error: &io::Error) {
        self.stats.errors.add(1);
        (self.on_error)(error);
    }
}

/// Writes all of `bytes` and flushes; or says how many were written before the error.
fn write_all(sink: &mut impl Sink, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match sink.write(&bytes[written..]) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    sink.flush().map_err(|error| (written, error))
}
