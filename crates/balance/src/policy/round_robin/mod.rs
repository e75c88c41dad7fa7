//! round_robin: each candidate in turn.
//!
//! Why: the simplest even share, and the one to compare others with. It counts calls, not work; where calls differ in
//! cost, least_request balances better.
//!
//! Rule: a rotation over the candidates. An endpoint that becomes ready joins the current round at a random place, so
//! every worker rotates in another order and from another start: workers in lockstep would send their calls to the same
//! endpoint at the same time. Weights are ignored, as in gRPC.
//!
//! Invariant: while endpoints come and go, none that stays is picked twice in a round, and none is passed over.

mod pick;
#[cfg(test)]
mod tests;

pub(crate) use pick::RoundRobin;
