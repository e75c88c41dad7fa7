//! The engine beside the h2 crate: they talk to each other in both roles over a transport in memory, and judge the same
//! malformed bytes.
//!
//! Time is the runtime's own and stands still while anything can be done, so that nothing here waits or depends on luck.

#![expect(clippy::unwrap_used, reason = "what a test's helper unwraps is what the test asserts")]

mod client_of_h2;
mod malformed;
mod ours;
mod server_for_h2;
