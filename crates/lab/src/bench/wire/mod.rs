//! As much of HTTP/2 as the benchmark tools need, over plain TCP (RFC 9113, 7541).
//!
//! - `frame`: frame headers and the frames that need no state.
//! - `link`: one connection's socket, settings and connection-level windows.
//! - `request`, `response`: header blocks, written with indexes as real gRPC peers do, and read through an HPACK library.

pub(super) mod frame;
pub(super) mod link;
pub(super) mod request;
pub(super) mod response;

/// Bytes of a gRPC message's prefix: compressed flag and length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Appends the prefix of an uncompressed gRPC message of `bytes` bytes.
pub(super) fn put_message_prefix(out: &mut Vec<u8>, bytes: u32) {
    out.push(0);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Why a connection can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer closed the connection.
    #[error("connection closed by the peer")]
    Closed,
    /// The system reported an error on the socket.
    #[error("socket error: {0:?}")]
    Socket(std::io::ErrorKind),
    /// The peer sent what HTTP/2 forbids, or what these tools do not expect.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error.kind())
    }
}
