//! The limits that a call meets on its way, in the order in which it meets them, and what each would say now.
//!
//! Numbers are those of the moment: a look takes no token and no place. What only some calls meet, such as the bound of those that
//! wait, is told as well, as an open one is what explains an answer that was seen.

use core::time::Duration;

use evenkeel_balance::limit::{CircuitBreaker, Overflow, Rejection, Resource, Scope};
use evenkeel_telemetry::Limited;
use serde::Serialize;

use crate::worker::Decision;
use crate::worker::limit::ClusterLimits;
use crate::worker::limit::rate::{RateSeen, RouteRateLimit};
use crate::worker::snapshot::Cluster;

/// A limit on the way of a call.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct LimitBody {
    /// Its name in logs and metrics.
    limit: &'static str,
    /// Whether it would let the call through now.
    pub(super) passes: bool,
    /// What it lets through, and how much of that is used.
    state: String,
    /// What becomes of a call that it does not let through.
    above: &'static str,
}

/// What the rate limits of the call's route say of it.
pub(super) fn of_route(decision: &Decision<'_>, limit: &RouteRateLimit, now: Duration) -> Vec<LimitBody> {
    decision.rates(limit, now).iter().map(describe_rate).collect()
}

fn describe_rate(seen: &RateSeen) -> LimitBody {
    let of = match (seen.limited, &seen.source) {
        (Limited::RouteRate, _) => "of all clients together".to_owned(),
        (_, Some(source)) => format!("of this client, told by {source}"),
        (_, None) => "of all clients together that have nothing to be told by".to_owned(),
    };
    let (interval, burst) = (seen.limit.interval(), seen.limit.burst());
    let next = match seen.level.next_in {
        Duration::ZERO => String::new(),
        wait => format!(", the next one in {wait:.1?}"),
    };
    LimitBody {
        limit: seen.limited.as_str(),
        passes: seen.level.next_in.is_zero(),
        state: format!(
            "one call each {interval:?} {of}, {burst} at once after a rest; {} left{next}",
            seen.level.tokens
        ),
        above: "RESOURCE_EXHAUSTED, with the time after which to come again",
    }
}

/// What the limits of a cluster say of an attempt, and of what may follow it.
pub(super) fn of_cluster(settings: &Cluster, pending: usize) -> Vec<LimitBody> {
    let mut bodies = Vec::new();
    let breaker = settings.limits.as_ref().and_then(|limits| limits.breaker.as_deref());
    if let Some(limits) = settings.limits.as_deref()
        && let Some(limiter) = &limits.adaptive
    {
        bodies.push(LimitBody {
            limit: Limited::Concurrency.as_str(),
            passes: limiter.has_room(),
            state: format!("{} of {} attempts under way", limiter.in_flight(), limiter.limit()),
            above: if limits.refuses_at_once { "RESOURCE_EXHAUSTED" } else { "it waits for a place" },
        });
    }
    bodies.extend(
        breaker.and_then(|breaker| bound(breaker, Resource::Requests, "attempts under way", "UNAVAILABLE")),
    );
    bodies.push(LimitBody {
        limit: Resource::Pending.name(),
        passes: pending < settings.max_pending,
        state: format!("{pending} calls wait, at most {} in each worker", settings.max_pending),
        above: "UNAVAILABLE, if the call has to wait",
    });
    let of_all = "UNAVAILABLE, if the call has to wait";
    bodies.extend(
        breaker.and_then(|breaker| bound(breaker, Resource::Pending, "calls wait, in all workers", of_all)),
    );
    let no_retry = "the call is not tried again";
    bodies
        .extend(breaker.and_then(|breaker| bound(breaker, Resource::Retries, "retries under way", no_retry)));
    bodies
}

fn bound(breaker: &CircuitBreaker, resource: Resource, what: &str, above: &'static str) -> Option<LimitBody> {
    let most = breaker.limit(resource)?;
    let state = format!("{} of {most} {what}", breaker.used(resource));
    Some(LimitBody { limit: resource.name(), passes: !breaker.is_open(resource), state, above })
}

/// What becomes of a call that has an endpoint, if a limit of the cluster does not let its attempt through; asked in the
/// order in which attempts ask.
pub(super) fn refusal(limits: &ClusterLimits) -> Option<String> {
    if let Some(limiter) = limits.adaptive.as_ref().filter(|limiter| !limiter.has_room()) {
        let (in_flight, limit) = (limiter.in_flight(), limiter.limit());
        let text = if limits.refuses_at_once {
            "it is answered with RESOURCE_EXHAUSTED"
        } else {
            "it waits for a place"
        };
        return Some(format!("{text}: adaptive concurrency has {in_flight} of {limit} attempts under way"));
    }
    let breaker = limits.breaker.as_ref().filter(|breaker| breaker.is_open(Resource::Requests))?;
    let overflow = Overflow { resource: Resource::Requests, scope: Scope::Cluster };
    let used = breaker.used(Resource::Requests);
    Some(format!(
        "it fails with UNAVAILABLE: {}, {used} attempts are under way",
        Rejection::Overflow(overflow)
    ))
}
