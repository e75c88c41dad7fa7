//! pick_first: all calls to the first endpoint of the list that can be reached.
//!
//! Why: one connection per worker is all a small cluster, a virtual address or a leader with a standby needs; and it is
//! gRPC's default, so people expect to find it.
//!
//! Rule (gRFC A62, and happy eyeballs by A61):
//! ```text
//!            +------------------ connection lost, draining, or no longer listed ----------------+
//!            v                                                                                  |
//!   Pass: attempts in the list's order, 250 ms apart  -- ready, not draining -->  Selected: no other connection
//!            |  all failed                                                                      ^
//!            v                                                                                  |
//!   Retrying: each again as its backoff ends, several at once  ------- ready, not draining -----+
//! ```
//! - The first that is ready is kept as long as it stays ready and listed; attempts and connections besides are dropped.
//! - In a pass the next attempt begins when the newest one fails, or is 250 ms old; older ones go on. The families of
//!   addresses take turns in the list, so that a family that leads nowhere costs 250 ms.
//! - Endpoints whose backoff has not ended are skipped in a pass.
//! - When a pass is over without success the cluster is in transient failure until some endpoint is ready (sticky), and
//!   asks for re-resolution; then again after as many failures as the list is long.
//! - A draining endpoint is passed over, but keeps serving until another is ready.
//! - Shuffling draws the list's order by gRFC A113: key `u^(1/weight)`, u uniform in (0, 1), highest first.
//!
//! Difference to gRPC: the cluster does not stay idle until the next call, it connects at once. A proxy has no idle mode.
//!
//! Invariant: at most one endpoint is a candidate.

mod connect;
mod pick;
#[cfg(test)]
mod tests;

pub(crate) use connect::{Sequence, Step, interleaved, shuffled};
pub(crate) use pick::PickFirst;
