//! peak_ewma: of two random candidates, the one that will probably answer first.
//!
//! Why: calls in flight show that an endpoint is slow only while calls pile up on it. Where calls are few, or endpoints of
//! very different speed share a cluster, the latency itself says more.
//!
//! Rule: of two distinct random candidates, the one with the lower
//! `latency * penalty * (in_flight + 1) / weight`, where latency is a peak-sensitive moving average and the penalty keeps
//! an endpoint that fails quickly from looking quick; both are described in [`estimate`](super::estimate). The weight is the
//! static one times the slow-start factor.
//!
//! An endpoint without a latency yet counts as a typical one of the cluster. What others do: Finagle holds it for
//! infinitely slow once it has a call, tower for 1 s, linkerd for 30 ms, Envoy for 10 ms; each is wrong for some cluster.
//!
//! Invariants: O(1) per pick; a change of all latencies by one factor changes no pick. Latencies are each worker's own,
//! calls in flight those of all workers. Source: Finagle's `PeakEwma`, after "The Power of Two Choices in Randomized Load
//! Balancing" (Mitzenmacher 2001); linkerd2-proxy and tower have the same rule.

mod config;
mod pick;
#[cfg(test)]
mod tests;

pub use config::PeakEwmaConfig;
pub(crate) use pick::PeakEwma;
