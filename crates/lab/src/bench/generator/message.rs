//! gRPC messages in an endless stream: counted as they arrive, and cut into frames as they are sent.

use crate::bench::wire::{PREFIX_BYTES, put_message_prefix};

/// Checks the framing of a stream of messages, however its bytes are cut.
#[derive(Debug, Default)]
pub(super) struct MessageScan {
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    /// Bytes of the current message still to come, once its prefix is complete.
    left: usize,
    pub(super) messages: u64,
}

impl MessageScan {
    /// Takes the next bytes; returns whether they can be messages (uncompressed, of at most `bytes_max` each).
    pub(super) fn take(&mut self, mut bytes: &[u8], bytes_max: u32) -> bool {
        while !bytes.is_empty() {
            if self.have < PREFIX_BYTES {
                let count = bytes.len().min(PREFIX_BYTES - self.have);
                let (prefix, rest) = bytes.split_at(count);
                self.prefix[self.have..self.have + count].copy_from_slice(prefix);
                self.have += count;
                bytes = rest;
                if self.have < PREFIX_BYTES {
                    return true;
                }
                let [compressed, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                if compressed != 0 || length > bytes_max {
                    return false;
                }
                self.left = length as usize;
            }
            let count = bytes.len().min(self.left);
            bytes = &bytes[count..];
            self.left -= count;
            if self.left == 0 {
                self.messages += 1;
                self.have = 0;
            }
        }
        true
    }
}

/// An endless sequence of equal messages.
#[derive(Debug)]
pub(super) struct MessageSource {
    message: Vec<u8>,
    at: usize,
    pub(super) messages: u64,
}

impl MessageSource {
    pub(super) fn new(message_bytes: u32) -> Self {
        let mut message = Vec::with_capacity(PREFIX_BYTES + message_bytes as usize);
        put_message_prefix(&mut message, message_bytes);
        message.resize(PREFIX_BYTES + message_bytes as usize, b'e');
        Self { message, at: 0, messages: 0 }
    }

    /// Bytes to the end of the current message.
    pub(super) fn left(&self) -> usize {
        self.message.len() - self.at
    }

    /// Whether a message has begun but not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.at > 0
    }

    /// Appends the next `count` bytes, at most to the end of the current message.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, count: usize) {
        out.extend_from_slice(&self.message[self.at..self.at + count]);
        self.at += count;
        if self.at == self.message.len() {
            self.at = 0;
            self.messages += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut source = MessageSource::new(10);
        let mut bytes = Vec::new();
        for _ in 0..3 {
            source.put(&mut bytes, source.left());
        }
        assert_eq!((bytes.len(), source.messages, source.is_inside()), (45, 3, false));
        for piece in 1..=bytes.len() {
            let mut scan = MessageScan::default();
            assert!(bytes.chunks(piece).all(|chunk| scan.take(chunk, 10)));
            assert_eq!(scan.messages, 3, "in pieces of {piece}");
        }
    }

    #[test]
    fn empty_messages_count() {
        let mut scan = MessageScan::default();
        assert!(scan.take(&[0; 2 * PREFIX_BYTES], 0));
        assert_eq!(scan.messages, 2);
    }

    #[test]
    fn a_message_that_is_compressed_or_too_large_is_refused() {
        assert!(MessageScan::default().take(&[0, 0, 0, 0, 9], 9));
        assert!(!MessageScan::default().take(&[0, 0, 0, 0, 10], 9));
        assert!(!MessageScan::default().take(&[1, 0, 0, 0, 9], 9));
    }
}
