//! A worker's end of the access log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::entry::{Entry, MAX_LINE_BYTES};
use super::writer::Message;
use crate::telemetry::AccessLogStats;

/// Size at which a batch is handed over, in bytes: some 120 lines, so that hand-over and write cost little per line.
pub const BATCH_BYTES: usize = 64 * 1024;

/// Batches of one worker, being filled, waiting or being written. At 100,000 calls a second they hold what comes within
/// 20 ms: longer than the writer has to wait for a core on a machine whose cores are all busy with workers.
pub const BATCHES_PER_WORKER: usize = 16;

/// Longest time that a line waits in a batch, so that `tail -f` shows a quiet proxy's calls.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(200);

/// Lines on their way to the writer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Lines whose fate is open: those that are left when the batch is dropped count as dropped. So no line is lost
    /// without being counted, not even one that a worker hands over while the writer ends.
    pub(super) lines: u64,
    /// Takes the empty buffer back to its worker.
    pub(super) home: SyncSender<Vec<u8>>,
    pub(super) stats: Arc<AccessLogStats>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.stats.dropped.add(self.lines);
    }
}

/// Formats the lines of one worker; from [`super::Writer::log`].
///
/// The owner calls [`AccessLog::poll_flush`] when [`AccessLog::flush_at`] has come. Dropping it hands over the rest.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    returned: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
    /// The batch being filled. Without capacity: all buffers that exist are with the writer.
    batch: Vec<u8>,
    lines: u64,
    /// When the batch's first line came.
    oldest_at: Duration,
    /// Buffers that exist; at most [`BATCHES_PER_WORKER`].
    buffers: usize,
    stats: Arc<AccessLogStats>,
}

impl AccessLog {
    pub(super) fn new(queue: SyncSender<Message>, stats: Arc<AccessLogStats>) -> Self {
        let (home, returned) = sync_channel(BATCHES_PER_WORKER);
        let batch = Vec::new();
        Self { queue, returned, home, batch, lines: 0, oldest_at: Duration::ZERO, buffers: 0, stats }
    }

    /// Logs one call, or counts it as dropped. Never blocks.
    pub fn record(&mut self, now: Duration, entry: &Entry<'_>) {
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
        if self.batch.len() >= BATCH_BYTES || !self.has_buffer() {
            self.stats.dropped.add(1);
            return;
        }
        let start = self.batch.len();
        if serde_json::to_writer(&mut self.batch, entry).is_err() {
            // Writing to memory cannot fail and an entry has no map; should that change, the batch stays whole lines.
            self.batch.truncate(start);
            self.stats.dropped.add(1);
            return;
        }
        self.batch.push(b'\n');
        debug_assert!(self.batch.len() - start <= MAX_LINE_BYTES);
        if self.lines == 0 {
            self.oldest_at = now;
        }
        self.lines += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// When [`AccessLog::poll_flush`] is due; `None` while no line waits.
    #[must_use]
    pub fn flush_at(&self) -> Option<Duration> {
        (self.lines > 0).then(|| self.oldest_at.saturating_add(FLUSH_INTERVAL))
    }

    /// Hands the batch over if it has waited for [`FLUSH_INTERVAL`].
    pub fn poll_flush(&mut self, now: Duration) {
        if self.flush_at().is_some_and(|due| due <= now) && !self.flush() {
            // The queue is full: try again an interval later instead of at every turn.
            self.oldest_at = now;
        }
    }

    /// Hands the batch over now; whether it could. If the queue is full, the lines stay. If the writer has ended, they
    /// are counted as dropped.
    pub fn flush(&mut self) -> bool {
        if self.lines == 0 {
            return true;
        }
        let bytes = std::mem::take(&mut self.batch);
        let (home, stats) = (self.home.clone(), Arc::clone(&self.stats));
        let batch = Batch { bytes, lines: self.lines, home, stats };
        match self.queue.try_send(Message::Batch(batch)) {
            Err(TrySendError::Full(Message::Batch(mut batch))) => {
                self.batch = std::mem::take(&mut batch.bytes);
                batch.lines = 0;
                return false;
            }
            // The writer has ended: the batch is dropped here, and its buffer may be replaced.
            Err(_) => self.buffers -= 1,
            Ok(()) => {}
        }
        self.lines = 0;
        true
    }

    /// Whether there is a buffer to write into, fetching one if need be.
    fn has_buffer(&mut self) -> bool {
        if self.batch.capacity() > 0 {
            return true;
        }
        if let Ok(buffer) = self.returned.try_recv() {
            self.batch = buffer;
        } else if self.buffers < BATCHES_PER_WORKER {
            self.buffers += 1;
            self.batch = Vec::with_capacity(BATCH_BYTES + MAX_LINE_BYTES);
        }
        self.batch.capacity() > 0
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if !self.flush() {
            self.stats.dropped.add(self.lines);
        }
    }
}
