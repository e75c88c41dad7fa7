//! Trying again: whether, when and how often a call gets another attempt.
//!
//! Why so many rules? Each retry is load that nobody asked for, sent to a service that is already in trouble. Three tries
//! per call turn a short overload into one that feeds itself and stays when its cause is gone (metastable failure). So
//! every extra attempt passes the same gates, in this order:
//!
//! 1. **Transparent retry** (gRFC A6): no backend saw the call. An attempt that never left is repeated at once, at most
//!    [`MAX_UNSENT`] times; one that a backend refused unprocessed once, and one that found no place there [`MAX_NO_PLACE`] times
//!    within [`MAX_NO_PLACE_TIME`]. None of these costs budget or counts as an attempt.
//! 2. **Is the end retryable?** By [`RetryOn`]: status (headers, trailers-only and trailers alike), connect failure, refused
//!    stream, reset. DEADLINE_EXCEEDED only for a call that is declared idempotent, since the first attempt may still run.
//! 3. **Pushback**: the server's word is obeyed, be it a delay or "never".
//! 4. **Can it be replayed?** Not when the client has seen a part of the response, the request outgrew its buffer, or
//!    the buffers of all calls together left no room for it.
//! 5. **Attempts**, at most [`MAX_ATTEMPTS`].
//! 6. **Throttle** ([`RetryThrottle`], gRFC A6 `retryThrottling`): none while more than a few attempts fail.
//! 7. **Deadline**: a retry that could not start before it is not waited for.
//! 8. **Budget** ([`RetryBudget`]): extra attempts are at most a share of the calls, under way and over time.
//!
//! Hedging ([`HedgeState`]) sends further attempts before the first one ended. It passes the same gates, and is never done
//! for a call that is not declared idempotent.
//!
//! Everything here is a function of (state, now, random numbers). What one call knows is a [`RetryState`] or a
//! [`HedgeState`], a few bytes each; what all calls of a cluster share is made of atomics, as in
//! [`outlier`](crate::outlier), and `Relaxed` for the same reason.

mod budget;
mod codes;
mod config;
mod decision;
mod hedge;
#[cfg(test)]
mod tests;
mod throttle;
mod transparent;

pub use budget::{BudgetBound, RetryBudget, RetryBudgetConfig};
pub use codes::CodeSet;
pub use config::{HedgingPolicy, MAX_ATTEMPTS, MAX_PUSHBACK, RetryOn, RetryPolicy};
pub use decision::{Decision, Gates, Moment, Replay, RetryState, StopReason};
pub use hedge::{HedgeDecision, HedgeState, LOOK_AGAIN};
pub use throttle::{RetryThrottle, RetryThrottleConfig, RetryThrottleConfigError};
pub use transparent::{MAX_NO_PLACE, MAX_NO_PLACE_TIME, MAX_UNSENT};
