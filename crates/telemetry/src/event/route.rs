//! What is counted for each route: with the labels `listener` and `route`, for at most
//! [`MAX_ROUTE_SERIES`](crate::MAX_ROUTE_SERIES) of them, and as long as the route lives (see [`crate::route`]).

use super::{Family, Injected, Label, RateLimited, slots_before};

events! {
    /// What a route that injects faults or limits the rate of its calls did to one.
    pub enum RouteEvent;

    /// A fault was injected on purpose.
    FaultInjected(fault: Injected) = "evenkeel_faults_injected", "Faults injected on purpose, by kind.";
    /// A rate limit turned a call away.
    RateLimited(limit: RateLimited) = "evenkeel_rate_limited_calls",
        "Calls that a route's rate limit turned away, by limit.";
    /// A limit of each client had no bucket to tell the call's client by.
    RateLimitShared = "evenkeel_rate_limit_shared",
        "Calls whose client had no bucket of its own under a route's rate limit, as its table was full.";
}
