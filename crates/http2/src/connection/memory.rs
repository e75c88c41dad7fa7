//! What a connection holds in memory, so that its owner can keep an account over all of them.
//!
//! [`Limits`](crate::Limits) bound each connection, and ten thousand that use their bounds hold gigabytes (reference on
//! reliability, A.4). The owner asks each connection after it has been at work; the answer takes a few additions, since the
//! bytes of all queues are summed as they come and go.

use super::{Connection, Fields};
use crate::limits::HEADER_BLOCK_BYTES_MAX;
use crate::stream::{Queue, QueueTail, Stream, StreamKey};

impl Connection {
    /// Bytes of memory that this connection holds: its record, streams, queued output, the output that waits for the
    /// transport, an unfinished header section as if it were full, and the tables of HPACK as RFC 7541 section 4.1 counts them.
    #[inline]
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        debug_assert_eq!(self.queued_memory, self.sum_of_queues(), "queues are summed as they come and go");
        let assembly = if self.assembly.is_some() { HEADER_BLOCK_BYTES_MAX } else { 0 };
        size_of::<Self>()
            + self.output.capacity()
            + self.queued_memory
            + self.streams.len() * size_of::<Stream>()
            + self.decoder.table_bytes()
            + self.encoder.table_bytes()
            + assembly
    }

    /// Bytes of memory that the output of a stream holds which waits for a window or the transport.
    #[must_use]
    pub fn queued_memory(&self, stream: StreamKey) -> usize {
        let queue = self.streams.get(stream).and_then(|record| record.queue.as_ref());
        queue.map_or(0, |queue| queue.memory_bytes())
    }

    fn sum_of_queues(&self) -> usize {
        self.streams.keys().map(|stream| self.queued_memory(stream)).sum()
    }
}

/// Drops queued output, of which `sum` counts the bytes; trailers give their field references back.
pub(super) fn discard(fields: &mut Fields, sum: &mut usize, queue: Queue) {
    *sum -= queue.memory_bytes();
    if let QueueTail::Trailers(mut block) = queue.tail {
        block.clear(&mut fields.store);
    }
}
