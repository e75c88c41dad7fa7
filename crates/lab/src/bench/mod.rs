//! Benchmark tools that cost little themselves: a load generator, an echo backend and a byte relay.
//!
//! Why not a real gRPC client and server: they share one core, and each would cost several times what a proxy costs, so
//! that the proxy under test would idle. These tools write pre-encoded frames from single-threaded epoll loops. They
//! share no code with the project's own HTTP/2 engine: what measures must not depend on what is measured.
//!
//! - [`generator`]: calls in a closed loop (so many in flight) or at planned times; one large stream; idle connections.
//! - [`backend`]: answers calls, or sends or swallows endless streams.
//! - [`peers`]: runs proxies against each other with these tools.
//! - [`relay`]: forwards bytes and knows no HTTP: the floor that any proxy stands on.

pub mod backend;
pub mod generator;
pub mod peers;
mod poll;
pub mod relay;
#[cfg(test)]
mod tests;
pub mod wire;
