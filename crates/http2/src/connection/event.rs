//! What a connection tells its owner.

use crate::error::{ErrorCode, StreamFailure};
use crate::field::{FieldBlock, FieldStore};
use crate::message::FieldIndex;
use crate::stream::StreamKey;

/// The fields that connections of one owner share, and the header list of the newest event.
///
/// One for all connections of a thread: a field that a thousand clients send is stored and understood once.
#[derive(Debug)]
pub struct Fields {
    /// Every field that a dynamic table or a kept block refers to.
    pub store: FieldStore,
    /// The header list of the newest event that has one. The owner may take it by swapping in an empty block.
    pub block: FieldBlock,
    /// Where the known fields stand in [`Fields::block`].
    pub index: FieldIndex,
}

impl Fields {
    /// An empty store. `seed` keys its hash table against chosen collisions; it must be random in production.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { store: FieldStore::new(seed), block: FieldBlock::new(), index: FieldIndex::default() }
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.block.clear(&mut self.store);
    }
}

/// Whether a header list is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListSize {
    /// All fields are there.
    Whole,
    /// The list was over the limit; the block holds its beginning only. The owner answers and ends the stream.
    OverLimit,
}

/// One event; `'a` is the life of the input bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A peer opened a stream; its header list is in [`Fields::block`]. The owner gives the stream a token with
    /// [`crate::Connection::set_token`] and must release it some time.
    Request {
        /// The new stream.
        stream: StreamKey,
        /// Whether the request ends with its headers.
        end: bool,
        /// Whether the header list is whole.
        size: ListSize,
    },
    /// The final header section of a response; its header list is in [`Fields::block`].
    Response {
        /// The stream.
        stream: StreamKey,
        /// The owner's token.
        token: u32,
        /// The HTTP status.
        status: u16,
        /// Whether the response ends with its headers ("trailers-only" in gRPC).
        end: bool,
        /// Whether the header list is whole.
        size: ListSize,
    },
    /// An informational response (1xx); a final one follows.
    Informational {
        /// The stream.
        stream: StreamKey,
        /// The owner's token.
        token: u32,
    },
    /// Trailers, which end the peer's half; the header list is in [`Fields::block`].
    Trailers {
        /// The stream.
        stream: StreamKey,
        /// The owner's token.
        token: u32,
        /// Whether the header list is whole.
        size: ListSize,
    },
    /// DATA. The owner returns `bytes.len()` with [`crate::Connection::consume`] once it is done with them.
    Data {
        /// The stream.
        stream: StreamKey,
        /// The owner's token.
        token: u32,
        /// The payload without padding.
        bytes: &'a [u8],
        /// Whether the peer's half ends.
        end: bool,
    },
    /// A stream ended early; nothing more comes for it. The owner must release it.
    Failed {
        /// The stream.
        stream: StreamKey,
        /// The owner's token.
        token: u32,
        /// Why.
        failure: StreamFailure,
    },
    /// The peer goes away: no further stream can be opened. Streams it will not process follow as
    /// [`Event::Failed`].
    GoAway {
        /// The highest stream of ours that the peer may have processed.
        last_stream: u32,
        /// Why.
        code: ErrorCode,
        /// The peer's explanation, unescaped bytes from the network.
        debug: &'a [u8],
    },
    /// The peer's first SETTINGS arrived: the connection can be used within its limits.
    Ready,
    /// A PING of [`crate::Connection::ping`] was answered.
    PingAcknowledged {
        /// Its payload.
        payload: [u8; 8],
    },
}
