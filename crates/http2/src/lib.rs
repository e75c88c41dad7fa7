//! Sans-IO HTTP/2 and HPACK (RFC 9113, RFC 7541) for both roles: frames, streams, flow control, abuse ledger.
//!
//! The engine of a proxy that forwards frames, not messages: a [`Connection`] turns bytes into [`Event`]s that borrow
//! from the input, and calls into bytes in an output buffer. It has no socket, clock, thread or lock; time comes in as
//! an argument. Header fields are interned and understood once for all connections of a thread ([`Fields`]).
//!
//! ```
//! use core::time::Duration;
//! use evenkeel_http2::{Connection, Event, Fields, Limits, Role};
//!
//! let now = Duration::ZERO;
//! let mut fields = Fields::new(1);
//! let mut client = Connection::new(Role::Client, Limits::upstream(), now);
//! let mut server = Connection::new(Role::Server, Limits::edge(), now);
//!
//! let bytes = client.output().to_vec();
//! client.output_sent(bytes.len());
//! let mut at = 0;
//! assert_eq!(server.next_event(&mut fields, now, &bytes, &mut at), Ok(Some(Event::Ready)));
//! assert_eq!(server.next_event(&mut fields, now, &bytes, &mut at), Ok(None));
//! assert_eq!(at, bytes.len());
//! ```

pub mod connection;
pub mod error;
pub mod field;
pub mod flow;
pub mod frame;
pub mod hpack;
pub mod ledger;
pub mod limits;
pub mod message;
pub mod settings;
pub mod stream;

pub use connection::{Connection, Event, Fields, ListSize, OpenError, Role, SendError};
pub use error::{ConnectionError, ErrorCode, StreamFailure, Violation};
pub use limits::{Limits, OUTPUT_HIGH_BYTES};
pub use stream::{Half, StreamKey};
