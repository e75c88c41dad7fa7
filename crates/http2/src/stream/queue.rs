//! Output of one stream that a window or the transport holds back.

use crate::field::FieldBlock;

/// What ends the queued output.
#[derive(Debug, Default)]
pub enum QueueTail {
    /// More DATA may be queued.
    #[default]
    Open,
    /// END_STREAM follows the last byte.
    End,
    /// Trailers follow the last byte. They are encoded when they leave, since HPACK state follows the output's order.
    Trailers(FieldBlock),
}

/// DATA bytes that wait, and what follows them.
///
/// Bound: the owner returns receive credit only for bytes that have left, so a queue holds at most the receive
/// window of the stream that feeds it ([`crate::Limits::stream_window_bytes`]).
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    sent: usize,
    /// What follows the bytes.
    pub tail: QueueTail,
}

impl Queue {
    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes of memory that the queue holds, trailers as RFC 7541 section 4.1 counts them.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let trailers = match &self.tail {
            QueueTail::Trailers(block) => block.size(),
            QueueTail::Open | QueueTail::End => 0,
        };
        self.bytes.capacity() + trailers
    }

    /// Adds bytes to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.sent > 0 && self.sent * 2 >= self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `count` bytes have left.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.bytes.len(), "no more bytes leave than waited");
    }

    /// Whether nothing waits, neither bytes nor an end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.sent == self.bytes.len() && matches!(self.tail, QueueTail::Open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_bytes_in_order_and_moves_them_only_when_half_have_left() {
        let mut queue = Queue::default();
        queue.push(b"abcdef");
        queue.advance(2);
        queue.push(b"gh");
        assert_eq!(queue.waiting(), b"cdefgh");
        queue.advance(4);
        queue.push(b"i");
        assert_eq!(queue.waiting(), b"ghi");
        assert!(!queue.is_done());
        queue.advance(3);
        assert!(queue.is_done());
    }
}
