//! The access log: one JSON line per call.
//!
//! ```text
//!  worker                                      writer thread (edge)
//!  record(entry) -> batch --- try_send ------> queue -> write -> file
//!        ^                                                |
//!        +------------- empty batch comes back -----------+
//! ```
//!
//! **It never blocks the data path.** A worker formats its line into a batch of its own ([`AccessLog`]), and hands the
//! batch over when it is full or [`FLUSH_INTERVAL`] old. Each worker has [`BATCHES_PER_WORKER`] batches, which go round;
//! while all of them wait for a slow disk, lines are dropped and counted (`evenkeel_access_log_lines_dropped_total`).
//! Lines in a batch are kept in favour of new ones, so that what is written has no holes but the counted one.
//!
//! **No allocation per call.** The batches are allocated when first needed and used again and again; JSON is written
//! into them directly.
//!
//! **Bounds.** [`BATCHES_PER_WORKER`] x ([`BATCH_BYTES`] + [`MAX_LINE_BYTES`]) is 1216 KiB per worker at the most, and two
//! or three such batches while the writer keeps up. A text of a peer is cut after [`MAX_FIELD_BYTES`] and escaped
//! ([`Entry`]).

mod batch;
mod entry;
mod sink;
mod writer;

pub use batch::{AccessLog, BATCH_BYTES, BATCHES_PER_WORKER, FLUSH_INTERVAL};
pub use entry::{Entry, MAX_FIELD_BYTES, MAX_LINE_BYTES};
pub use sink::{FileSink, OpenError, Sink, StdoutSink};
pub use writer::{CloseError, QUEUE_BATCHES, Writer};

#[cfg(test)]
mod tests;
