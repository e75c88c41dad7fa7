//! Experiments with real calls: example backends, a demo, load generators, relays and reports.
//!
//! Why a crate of its own: everything here is *around* the balancer, never in it. It speaks gRPC through tonic, or raw
//! HTTP/2 frames, and none of it through this project's own engine, so that what is measured or shown was not also
//! judged by itself.
//!
//! - [`backend`]: a gRPC server with an order service, an echo service and health, which can be made slow or killed.
//! - [`demo`]: three backends, a proxy given by the caller, a load, and a live view of what happens.
//! - [`mod@bench`]: load generator, echo backend and relay for benchmarks.
//! - [`interop`]: gRPC's interoperability tests, client and server.
//! - [`clock`]: the only place that reads the time.
//! - [`pb`]: the messages and services generated from `proto/`.

pub mod backend;
pub mod bench;
pub mod clock;
pub mod demo;
pub mod interop;
pub mod pb;
