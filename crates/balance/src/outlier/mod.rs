//! Outlier detection: takes endpoints out of rotation while they fail, judged by the calls they get.
//!
//! Why beside active checks? A check asks one question of its own; the calls ask the real ones. A backend whose database
//! is gone still answers `SERVING`.
//!
//! # Rules
//! - **Consecutive failures**: `n` in a row eject at once, from the call that completes the row. At 100 calls/s a backend
//!   that fails every call is out after 50 ms; a rule that waits for an interval's end needs 10 s.
//! - **Success rate**, at each interval's end: eject below `mean - factor * stdev` of the endpoints' rates (gRFC A50), and
//!   only if chance cannot explain it. The second half is ours: among 20 equal endpoints one is always 1.9 standard
//!   deviations below the mean, so the first half alone ejects healthy ones every few intervals. Bound of chance:
//!   a share of failures `q` over `n` calls has at most probability `exp(-n * KL(q || p))` where `p` is the share of all
//!   others (Chernoff); eject where that is at most `10^-n`, n being [`SuccessRate::chance_exponent`].
//! - **Failure percentage**, at each interval's end: eject at or above a fixed share (gRFC A50).
//!
//! # Phases of an endpoint
//! ```text
//!              rule, and the cap allows            time is up
//!  in service ------------------------> ejected ----------------> half-open: one real call at a time
//!      ^                                   ^                        |   |
//!      |        `trial_successes` in a row|        one fails       |   |
//!      '-----------------------------------|------------------------'   |
//!                                          '----------------------------'  (times ejected + 1)
//! ```
//! Envoy and gRPC return an endpoint to full traffic when its time is up, so one that is still broken fails a whole row of
//! calls each time; here it fails one. Ejection lasts `base * times ejected`, at most `max`, plus jitter; each interval in
//! service takes one off the times ejected.
//!
//! An endpoint that no worker is connected to when its time is up (its process died, or `pick_first` went on to another) cannot be
//! tried: it is put back without a trial, as with gRFC A50, by the next sweep, or within a second of a failing call, which may need
//! its place under the cap.
//!
//! A stream need not end to be judged: one that a bound on time ended after it had delivered messages succeeded
//! ([`AttemptEnd::Served`](crate::AttemptEnd::Served)), and so has a trial that goes on for [`TRIAL_SETTLES_AFTER`] after
//! its first message. The later end of such a trial counts as that of any other call.
//!
//! # Sharing
//! All workers of a process feed one [`OutlierDetector`] per cluster and one [`OutlierRecord`] per endpoint, by atomics:
//! a row of failures counts as one whichever workers saw it, and the cap holds for the process. `Relaxed` is enough, as no
//! other memory is read on the strength of these values; each phase changes by compare-and-swap, so that one thread wins.
//!
//! Invariants: no ejection takes the endpoints that are out above [`OutlierConfig::allowed`], or takes the last one in
//! service. A set that shrinks may break both: who picks must treat an ejected endpoint as the last resort, not as gone.

mod config;
mod detector;
mod record;
#[cfg(test)]
mod tests;

pub use config::{FailurePercentage, Observation, OutlierConfig, SuccessRate, TRIAL_SETTLES_AFTER};
pub use detector::{OutlierChange, OutlierDetector};
pub use record::{EjectionReason, OutlierRecord, OutlierStatus};
