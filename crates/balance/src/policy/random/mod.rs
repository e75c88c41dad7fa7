//! random: any candidate, each with the same probability.
//!
//! Why: it needs no memory at all, so many independent clients do not fall into step. It is also the yardstick for
//! least_request: queues under random choice grow as 1 / (1 - load), and two choices bend that curve.
//!
//! Rule: uniform. gRPC has no such policy to follow; weights are ignored, as weighted_round_robin honours them exactly
//! and with less variance than a weighted draw could.

mod pick;
#[cfg(test)]
mod tests;

pub(crate) use pick::Random;
