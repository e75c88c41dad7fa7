//! Message framing: finds message boundaries in a stream of DATA without holding any of it.
//!
//! ```text
//!   0            1                             5                5 + length
//!   +------------+-----------------------------+----- ... ------+
//!   | compressed | length, 32 bits, big endian | message        | next prefix ...
//!   +------------+-----------------------------+----- ... ------+
//! ```
//!
//! DATA frames have no relation to messages: a frame may hold a thousand of them, or a single byte of a
//! prefix. A proxy has to know where messages end all the same: to count them, to limit their size, and to
//! know whether a failed stream can still be ended by honest trailers (only at a boundary; a truncated
//! message followed by trailers must never be sent).
//!
//! Cost: a message costs one read of its prefix, its payload one subtraction. A length prefix is never
//! allocated for.
//!
//! Invariant: any split of the same bytes gives the same counts, the same state and the same fault.
//!
//! Source: [PROTOCOL-HTTP2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md),
//! Length-Prefixed-Message.

use crate::status::Code;

/// Length of the prefix of a message: the compressed flag and four bytes of length.
pub const PREFIX_LEN: usize = 5;

/// The prefix of a message of `len` bytes.
#[must_use]
pub const fn encode_prefix(len: u32, compressed: bool) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    [compressed as u8, a, b, c, d]
}

/// How the bytes break the framing rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingFault {
    /// The compressed flag is neither 0 nor 1.
    #[error("received a message with the compressed flag {flag}, which has to be 0 or 1")]
    CompressedFlag {
        /// The byte in its place.
        flag: u8,
    },
    /// The length in the prefix is above the limit. The wording is that of gRPC's own libraries.
    #[error("received message larger than max ({length} vs. {max})")]
    TooLarge {
        /// The announced length, in bytes.
        length: u32,
        /// The limit, in bytes.
        max: u32,
    },
    /// The stream ended inside a message.
    #[error("the stream ended inside a message, at least {missing} bytes before its end")]
    Truncated {
        /// Bytes that are known to be missing: what is left of the prefix, or of the payload.
        missing: u32,
    },
}

impl FramingFault {
    /// The status that names this fault to the other side, as grpc-go and gRPC core choose it.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::CompressedFlag { .. } | Self::Truncated { .. } => Code::Internal,
        }
    }
}

/// A fault, and what came before it in the bytes just scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} (after {completed} complete messages in the same bytes)")]
pub struct FramingError {
    /// Messages that these bytes completed before the fault.
    pub completed: usize,
    /// What is wrong.
    pub fault: FramingFault,
}

/// Where in a message the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InProgress {
    /// Part of a prefix has arrived.
    Prefix {
        /// Bytes of the prefix still to come, 1 to 4.
        missing: u32,
    },
    /// The prefix has arrived, the payload not all of it.
    Payload {
        /// Bytes of the payload still to come, at least 1.
        missing: u32,
        /// Whether the payload is compressed.
        compressed: bool,
    },
}

/// Follows the message framing of one direction of one stream. Twelve bytes of state.
///
/// A fault is final: every later [`scan`](Self::scan) reports it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageScanner {
    /// In `Prefix`: the bytes of the length read so far, as a number. In `Payload`: bytes still to come, at
    /// least 1. In `TooLarge`: the announced length.
    pending: u32,
    /// Longest message allowed, in bytes; `u32::MAX` cannot be exceeded and stands for "no limit".
    max: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// `read` of the five bytes of a prefix have arrived (0 to 4); `compressed` is meaningful from the first
    /// on.
    Prefix {
        read: u8,
        compressed: bool,
    },
    Payload {
        compressed: bool,
    },
    BadFlag {
        flag: u8,
    },
    TooLarge,
}

const BOUNDARY: Phase = Phase::Prefix { read: 0, compressed: false };

const _: () = assert!(size_of::<MessageScanner>() <= 12, "every live stream holds two of these");

impl MessageScanner {
    /// Starts at the beginning of a stream.
    ///
    /// `max_message_bytes` limits the length of a single message as it stands on the wire, compressed or not;
    /// `None` leaves it to the endpoints, which is what a proxy does by default (it streams, it never holds a
    /// message).
    #[must_use]
    pub const fn new(max_message_bytes: Option<u32>) -> Self {
        let max = match max_message_bytes {
            Some(max) => max,
            None => u32::MAX,
        };
        Self { pending: 0, max, phase: BOUNDARY }
    }

    /// Takes the next bytes of the stream, in any split, and returns how many messages they completed.
    ///
    /// # Errors
    ///
    /// [`FramingError`] at the first broken rule; the bytes after it are not looked at.
    pub fn scan(&mut self, mut bytes: &[u8]) -> Result<usize, FramingError> {
        let mut completed = 0;
        loop {
            match self.phase {
                Phase::Payload { .. } => match bytes.get(self.pending as usize..) {
                    Some(rest) => {
                        bytes = rest;
                        self.pending = 0;
                        self.phase = BOUNDARY;
                        completed += 1;
                    }
                    None => {
                        // Shorter than `pending`, hence below 2^32.
                        self.pending -= bytes.len() as u32;
                        return Ok(completed);
                    }
                },
                Phase::Prefix { read, compressed } => {
                    let opened = match (read, bytes.split_first_chunk::<PREFIX_LEN>()) {
                        (0, Some((&[flag, a, b, c, d], rest))) => {
                            bytes = rest;
                            Some((flag, u32::from_be_bytes([a, b, c, d])))
                        }
                        _ => {
                            let Some((&byte, rest)) = bytes.split_first() else { return Ok(completed) };
                            bytes = rest;
                            self.read_prefix_byte(read, compressed, byte)
                        }
                    };
                    if let Some((flag, length)) = opened {
                        completed += usize::from(self.open(flag, length));
                    }
                }
                Phase::BadFlag { flag } => {
                    return Err(FramingError { completed, fault: FramingFault::CompressedFlag { flag } });
                }
                Phase::TooLarge => {
                    let fault = FramingFault::TooLarge { length: self.pending, max: self.max };
                    return Err(FramingError { completed, fault });
                }
            }
        }
    }

    /// Takes one byte of a prefix that arrives in pieces; returns flag and length with the last of the five.
    fn read_prefix_byte(&mut self, read: u8, compressed: bool, byte: u8) -> Option<(u8, u32)> {
        if read == 0 {
            self.phase = match byte {
                0 | 1 => Phase::Prefix { read: 1, compressed: byte == 1 },
                flag => Phase::BadFlag { flag },
            };
            return None;
        }
        self.pending = self.pending << 8 | u32::from(byte);
        if usize::from(read) + 1 == PREFIX_LEN {
            return Some((u8::from(compressed), self.pending));
        }
        self.phase = Phase::Prefix { read: read + 1, compressed };
        None
    }

    /// Enters the message whose prefix has arrived; returns whether it is complete already, being empty.
    fn open(&mut self, flag: u8, length: u32) -> bool {
        // The flag comes first on the wire, so it is judged first: in pieces it would be, too.
        if flag > 1 {
            self.phase = Phase::BadFlag { flag };
            return false;
        }
        self.pending = length;
        self.phase = match length {
            0 => BOUNDARY,
            _ if length > self.max => Phase::TooLarge,
            _ => Phase::Payload { compressed: flag == 1 },
        };
        self.phase == BOUNDARY
    }

    /// Whether the stream stands exactly between two messages (or at its beginning). False after a fault.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.phase == BOUNDARY
    }

    /// The message that has begun and is not complete; `None` at a boundary and after a fault.
    #[must_use]
    pub fn in_progress(&self) -> Option<InProgress> {
        match self.phase {
            Phase::Prefix { read: 0, .. } | Phase::BadFlag { .. } | Phase::TooLarge => None,
            Phase::Prefix { read, .. } => {
                Some(InProgress::Prefix { missing: PREFIX_LEN as u32 - u32::from(read) })
            }
            Phase::Payload { compressed } => Some(InProgress::Payload { missing: self.pending, compressed }),
        }
    }

    /// Judges the end of the stream (END_STREAM, or trailers).
    ///
    /// # Errors
    ///
    /// [`FramingFault::Truncated`] when a message is in progress, or the fault that was found before.
    pub fn finish(&self) -> Result<(), FramingFault> {
        match self.phase {
            Phase::BadFlag { flag } => Err(FramingFault::CompressedFlag { flag }),
            Phase::TooLarge => Err(FramingFault::TooLarge { length: self.pending, max: self.max }),
            Phase::Prefix { .. } | Phase::Payload { .. } => match self.in_progress() {
                None => Ok(()),
                Some(InProgress::Prefix { missing } | InProgress::Payload { missing, .. }) => {
                    Err(FramingFault::Truncated { missing })
                }
            },
        }
    }
}

impl Default for MessageScanner {
    /// A scanner without a limit on the size of a message.
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests;
