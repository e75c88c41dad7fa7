//! Payloads: bytes that follow from the call, the direction and the place, and the hash by which both ends compare them.
//!
//! No two calls have the same bytes, so a byte that went to the wrong call, was lost, doubled or moved shows in the hash.

use evenkeel_grpc::{MessageScanner, encode_prefix};

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// FNV-1a, 64 bits: it does not depend on how the bytes are cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }
}

/// Appends one framed message.
pub(crate) fn write_message(out: &mut Vec<u8>, call: u32, direction: Direction, index: u32, length: u32) {
    out.extend_from_slice(&encode_prefix(length, false));
    let mut state = (u64::from(call) << 33) ^ (u64::from(index) << 1) ^ (direction as u64);
    for _ in 0..length.div_ceil(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        out.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    out.truncate(out.len() - ((8 - length as usize % 8) % 8));
}

/// One direction of a call as its receiver saw it.
#[derive(Debug)]
pub(crate) struct Received {
    scanner: MessageScanner,
    hash: Hash,
    messages: u32,
    is_broken: bool,
}

impl Received {
    pub(crate) fn new() -> Self {
        Self { scanner: MessageScanner::new(None), hash: Hash::default(), messages: 0, is_broken: false }
    }

    /// Takes bytes in; returns how many messages they complete.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> u32 {
        self.hash.add(bytes);
        match self.scanner.scan(bytes) {
            Ok(completed) => {
                self.messages += completed as u32;
                completed as u32
            }
            Err(_) => {
                self.is_broken = true;
                0
            }
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            messages: self.messages,
            hash: self.hash.value(),
            is_whole: !self.is_broken && self.scanner.at_boundary(),
        }
    }
}

/// What one end knows of one direction of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Whole messages.
    pub messages: u32,
    /// The hash of all bytes.
    pub hash: u64,
    /// Whether the bytes end with a whole message.
    pub is_whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_length_and_its_own_bytes() {
        let written = |call, direction, index, length| {
            let mut out = Vec::new();
            write_message(&mut out, call, direction, index, length);
            out
        };
        for length in [0, 1, 7, 8, 9, 1000] {
            assert_eq!(written(1, Direction::Request, 0, length).len(), 5 + length as usize);
        }
        let one = written(1, Direction::Request, 0, 16);
        assert_ne!(one, written(2, Direction::Request, 0, 16));
        assert_ne!(one, written(1, Direction::Response, 0, 16));
        assert_ne!(one, written(1, Direction::Request, 1, 16));
    }

    #[test]
    fn the_receiver_counts_whole_messages_however_they_are_cut() {
        let mut bytes = Vec::new();
        write_message(&mut bytes, 1, Direction::Request, 0, 10);
        write_message(&mut bytes, 1, Direction::Request, 1, 0);
        let (mut whole, mut cut) = (Received::new(), Received::new());
        assert_eq!(whole.add(&bytes), 2);
        for byte in &bytes {
            cut.add(core::slice::from_ref(byte));
        }
        assert_eq!(cut.summary(), whole.summary());
        assert!(whole.summary().is_whole);
        whole.add(&[0]);
        assert!(!whole.summary().is_whole);
    }
}
