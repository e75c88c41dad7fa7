//! Active health checks: asks each endpoint whether it wants calls, before a call has to find out.
//!
//! Why beside outlier detection? A backend that has just started, or is about to leave, says so here and loses no call over
//! it; and an endpoint that nobody calls cannot be judged by its calls.
//!
//! # Rules
//! - **Check** ([`HealthCheck`]): an answer to `grpc.health.v1.Health/Check`, or a TCP connection, every `interval`, from
//!   start to start, randomly shorter or longer. One at a time; without an answer within `timeout` it failed.
//! - **Watch** ([`HealthWatch`]): one `Health/Watch` stream per connection (gRFC A17). It tells each change at once and costs
//!   nothing in between. When it ends it is opened again, with gRPC's connection backoff, which any message starts over; but
//!   after `interval` at the latest, so that an endpoint that was gone for long is back as soon as with Check.
//! - UNIMPLEMENTED is healthy: the server answers, and has no health service.
//! - The first result decides. Later, `unhealthy_threshold` failures in a row make an endpoint unhealthy, and
//!   `healthy_threshold` successes healthy again. What the server says of itself, NOT_SERVING or SERVICE_UNKNOWN, needs no
//!   second opinion: it is drained on purpose.
//! - No bursts: the first checks of a new list of endpoints are spread by [`FIRST_CHECKS_PER_SECOND`], and random intervals
//!   keep them apart, also after an outage in which all of them failed together.
//!
//! Both are functions of (state, now, random numbers); the driver makes the calls. It asks for [`HealthCheck::next_due`],
//! calls [`HealthCheck::handle_timeout`] then, does what it says, and tells the result with the [`CheckId`] it was given:
//! a result that comes too late names a check that is over, and is ignored.
//!
//! Invariants: at most one check or stream per endpoint is under way; a [`Transition`] is told exactly when the status
//! changes between healthy, unhealthy and unknown.

mod check;
mod config;
mod judge;
#[cfg(test)]
mod tests;
mod watch;

pub use check::HealthCheck;
pub use config::{FIRST_CHECKS_PER_SECOND, HealthCheckConfig, Probe};
pub use judge::{CheckResult, HealthStatus, Transition, UnhealthyReason};
pub use watch::HealthWatch;

/// Names one check or stream of one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CheckId(u64);

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Begin this check, or open this stream.
    Start(CheckId),
    /// This one had no answer in time: cancel it.
    Cancel {
        /// Which.
        check: CheckId,
        /// What that changed.
        transition: Option<Transition>,
    },
}
