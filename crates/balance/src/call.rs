//! What the driver tells a balancer about one call: before the choice of an endpoint, and after the attempt's end.

use core::time::Duration;

use crate::endpoint::Outcome;

/// What is known about a call that an endpoint is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// The time of the choice.
    pub now: Duration,
    /// The hash of the call's session-affinity key. `None` where the call has no key, or the policy needs none: a policy
    /// that hashes then draws a random one, as gRPC's ring_hash does (gRFC A76).
    pub hash: Option<u64>,
}

/// How one attempt ended, for [`Balancer::call_finished`](crate::Balancer::call_finished).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CallReport {
    /// The time of the attempt's end.
    pub now: Duration,
    /// What the end says about the endpoint.
    pub outcome: Outcome,
    /// How long the endpoint took to answer: from the attempt's start to its first response message, or to its end where there
    /// was none. Not how long a stream goes on: that is its client's choice, and one of 20 s that ends well would keep its
    /// endpoint from calls for a minute. linkerd2-proxy and tower measure until the response's head.
    pub latency: Duration,
    /// The load that the endpoint reported with the call (ORCA, gRFC A51), if it did.
    pub load: Option<LoadReport>,
}

/// An endpoint's own account of its load (ORCA). Values as they were received: a policy ignores what makes no sense, such
/// as a negative or not finite number.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LoadReport {
    /// Share of the endpoint's capacity that is used, 1.0 being all of it; may exceed 1.0. Which of ORCA's metrics this
    /// is (application, CPU, a named one: gRFC A114) is for the driver to say. 0 where none was reported.
    pub utilization: f64,
    /// Requests per second that the endpoint serves (`rps_fractional`). 0 where it was not reported.
    pub requests_per_second: f64,
    /// Errors per second that the endpoint answers with (`eps`). 0 where it was not reported.
    pub errors_per_second: f64,
}
