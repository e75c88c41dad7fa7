//! peak_ewma: of two random candidates, the one that will probably answer first.
//!
//! Why: calls in flight show that an endpoint is slow only while calls pile up on it. Where calls are few, or endpoints of
//! very different speed share a cluster, the latency itself says more.
//!
//! Rule with equal weights: of two distinct random candidates, the one with the lower `latency * penalty * (in_flight + 1)`,
//! where latency is a peak-sensitive moving average and the penalty keeps an endpoint that fails quickly from looking quick;
//! both are described in [`estimate`](super::estimate).
//!
//! Rule where weights differ: the first of the two is the one whose turn it is in a rotation by weight, the other is drawn with
//! equal probability; the lower `latency * penalty * (in_flight + e) / weight` gets the call, `e` being drawn anew for each from
//! the exponential distribution of mean 1. Why so? Of two such numbers the less is the one's with probability
//! `w1 / (w1 + w2)`, and so drawn (Midzuno 1952, as in [`least_request`](super::least_request)) a pair is as likely as the sum
//! of its weights: idle endpoints of one latency get calls exactly by their weights, and otherwise a pair's by weight over
//! latency. With a 1 in the place of `e` the heavier of two idle ones got every call, and with pairs drawn evenly one of four
//! endpoints got no more than half of all calls, whatever its weight.
//!
//! An endpoint that warms up ([`slow_start`](crate::slow_start)) takes part with the probability of its share.
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
