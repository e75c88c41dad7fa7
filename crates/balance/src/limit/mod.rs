//! Limits: how much is let through to a cluster, and what happens to the rest.
//!
//! Why several? Each answers another question, and none replaces another:
//!
//! | module | question | what it bounds |
//! |---|---|---|
//! | [`CircuitBreaker`] | how much may be under way, by a number the operator chose? | memory, a backend's worst case |
//! | [`AdaptiveLimiter`] | how much can the backends do now, by the latency they show? | queues inside the backends |
//! | [`RateLimiter`], [`KeyedRateLimiter`] | how often may this route, or this client, call? | one client's share |
//! | [`PendingQueue`] | who waits for a place, and who cannot make it any more? | work for the dead |
//!
//! A queue that is not bounded by these sits in the backend instead, where each call waits until its caller has given up
//! and is then worked on all the same: the metastable state that a restart ends and nothing else.
//!
//! Everything here is a function of (state, now, random numbers). What the workers share is made of atomics, `Relaxed`: each
//! is a number on its own. [`Rejection`] says what the client is told.

mod adaptive;
mod breaker;
mod keyed;
mod pending;
mod rate;
mod rejection;
#[cfg(test)]
mod tests;

pub use adaptive::{AdaptiveConfig, AdaptiveLimiter, LimitChange, MinRtt, Sample};
pub use breaker::{BreakerLimits, CircuitBreaker, Overflow, Resource, Scope};
pub use keyed::{DEFAULT_KEYS, KeyedRateLimiter, MAX_KEYS};
pub use pending::{DEFAULT_PENDING, Dropped, PendingKey, PendingQueue, Refused, Turn};
pub use rate::{BucketLevel, RateLimit, RateLimitError, RateLimiter};
pub use rejection::Rejection;
