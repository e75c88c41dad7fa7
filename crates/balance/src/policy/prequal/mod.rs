//! prequal: the candidate with the lowest latency of those that are not hot, by the answers to probes sent ahead.
//!
//! Why: what matters is how busy an endpoint is now, by all its callers and by neighbours on its machine. The endpoint
//! knows, the proxy does not. Asking before each call would add a round trip; Prequal (Wydrowski, Kleinberg, Rumble and
//! Archer, "Load is not what you should balance", NSDI 2024) asks a few random endpoints with each call, and uses the
//! answers for later calls.
//!
//! # Rule
//! An endpoint answers a probe with its requests in flight (RIF), and with the latency that calls met of late at about this
//! RIF; [`LoadTracker`] is the endpoint's side. Per call:
//!
//! 1. *Choose* by the hot-cold lexicographic rule: a probe is *hot* if its RIF exceeds the `rif_quantile` of the RIFs
//!    answered of late. Of the cold, the one with the lowest latency; if all are hot, the one with the lowest RIF. The call
//!    counts as one more request in the probe's RIF. With fewer than two probes in the pool: by what the proxy knows itself,
//!    see [`own`]. (The paper picks one at random.)
//! 2. *Probe* `probes_per_call` random endpoints, without replacement. The call that triggers them does not use them.
//! 3. *Forget*: a probe leaves the pool when it is older than `max_age`, or was used as often as it may be
//!    `max(1, (1 + reuse_delta) / ((1 - m / n) * probes - removals))`, `m` being the pool's size and `n` the number of
//!    candidates (rounded up or down at random, so that the mean is exact); when the pool is full, the oldest; and, so that
//!    the pool does not degrade to what nobody chose, `removals_per_call` more, the oldest and the worst in turn.
//!
//! # What the paper leaves open, and what differs
//! - *Many calls.* A proxy may send more calls in a probe's round trip than a pool holds. At most a pool's size of probes
//!   is under way; forgetting goes by the probes that were answered, not those wished for, and the reuse formula takes
//!   their number per call as measured. Where every probe is answered, that is the paper's rule.
//! - *Few endpoints.* An answer replaces the endpoint's older one. The paper has 100 replicas and more, where that is rare;
//!   of three, the pool would hold what each was like five calls ago. With `n <= m` the formula has no limit to reuse:
//!   [`MAX_REUSE`](reuse) is one.
//! - *Sinkholing.* The paper says that an endpoint which fails quickly must not look attractive, and not how. Here RIF and
//!   latency count multiplied by the penalty for failing calls, described in [`estimate`](super::estimate); and no RIF is
//!   taken for lower than the proxy's own calls in flight there.
//! - *No answers.* An endpoint that leaves probes unanswered ([`probing`]) is represented by what the proxy itself knows:
//!   its calls in flight there, of all workers, and the latency to be expected with so many, which is their number times
//!   the mean latency per call in flight. While none has answered for `max_age`, the choice goes by that alone ([`own`]).
//!   A silent endpoint is still asked now and then.
//! - *Old latencies.* An endpoint that had no call for a second answers without a latency, and the proxy's own measurement,
//!   which decays, stands in. Were it the last one known, an endpoint that was slow once would be avoided for ever.
//! - *Weights.* The RIF counts divided by the endpoint's weight. One that warms up takes part in a choice, or gets into the pool,
//!   with the probability of its share.
//!
//! Invariants: the pool holds at most one probe per endpoint and candidates only; O(m) per call, independent of `n`.

mod config;
mod own;
mod pick;
mod pool;
mod probing;
mod reuse;
mod server;
#[cfg(test)]
mod tests;
mod threshold;

pub use config::{PrequalConfig, ProbeSource};
pub(crate) use pick::Prequal;
pub use probing::{ProbeAnswer, ProbeCounts};
pub use server::LoadTracker;
