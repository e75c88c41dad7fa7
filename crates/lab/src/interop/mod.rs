//! gRPC's published interoperability tests, as a server and as a client, on tonic.
//!
//! Why: they are the common measure of gRPC implementations. The client's cases run against any address, so they test what
//! stands between it and a server; the server takes other implementations' interop clients.
//!
//! tonic compresses all messages of a call or none, and does not tell whether a message was compressed; the published
//! cases ask for both per message. [`wire`] does that below tonic, in the bodies. Other differences to the published
//! description are named at their cases, in [`client`].
//!
//! Source: `doc/interop-test-descriptions.md` of the gRPC project.

pub mod caller;
pub mod client;
pub mod server;
#[cfg(test)]
mod tests;
pub mod wire;

/// Metadata that the server returns among its initial metadata.
pub const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// Metadata that the server returns among its trailing metadata.
pub const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";
