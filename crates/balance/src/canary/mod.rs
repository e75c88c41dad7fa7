//! Canaries: a new version of a service gets a growing share of the calls, for as long as it is no worse than the old one.
//!
//! ```text
//!          start          a step's time has passed, enough calls, nothing suspicious          the last step has passed
//!  idle ----------> running (10 %) --> running (20 %) --> running (50 %) ----------------------------> promoted (100 %)
//!                     |    ^ resume                 |
//!                     v    | pause                  | shown to be worse
//!                    paused                         +---------------------------------------> rolled back (0 %)
//! ```
//!
//! **Judgement** ([`Judgement`]). Both versions are compared over the same window, the time since the step began: what
//! troubles both, such as a database that fails, speaks against neither. Two things are compared, see [`evidence`]: the
//! share of calls that failed, and the share of calls that were slow, which is what a quantile of latency says.
//!
//! - A version that is *shown* to be worse than the limits allow goes back at once, however few calls that took.
//! - One that only *looks* worse than the limits, or that had fewer calls than [`CanaryConfig::min_calls`], waits: its step
//!   goes on until there is enough evidence for either. No traffic never promotes anything.
//! - Otherwise the next step begins when the step's time is over.
//!
//! **Weights.** [`Canary::weight`] is the canary's share in percent of what both versions get. Each change is one value
//! that changes once; whoever uses it makes all workers see it at once.
//!
//! **Time** is an argument: the time since the caller's epoch. What is kept of a canary over a restart is [`Progress`],
//! which has durations but no points in time, so that the time a process was down does not count.
//!
//! Sources: Argo Rollouts (steps, pause, promote, abort; inconclusive results wait) and Flagger (rollback by error rate and
//! latency) for the commands; for the judgement see [`evidence`].

mod config;
mod counts;
mod evidence;
mod judgement;
mod latency;
mod progress;
mod rollout;

pub use config::{CanaryConfig, Step};
pub use counts::{Counts, Observed, Version, Window, is_server_error};
pub use evidence::{Share, evidence, needed};
pub use judgement::{Comparison, Finding, Judgement, Metric, judge};
pub use latency::{LATENCY_BUCKETS, Latencies};
pub use progress::{Phase, Progress};
pub use rollout::{Canary, Cause, Change, CommandError};

#[cfg(test)]
mod tests;
