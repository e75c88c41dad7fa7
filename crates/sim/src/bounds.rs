//! Limits on the worker's calls: what a world may have of them, and whether they hold.
//!
//! Judged after each step of the worker, by counts that the limits themselves do not keep:
//! - attempts in flight at the cluster's endpoints, and at each, are never more than `max_requests`, and further attempts under way
//!   never more than `max_retries`; calls that wait are never more than `max_pending`, and as many that found no place; adaptive
//!   concurrency gives no more places than there are attempts, nor more than its highest limit;
//! - a bound refuses something only where so many could have been under way within the step.
//!
//! Judged of each call that a limit turns away: status, message and pushback are the documented ones, there is such a limit, and no
//! backend was given the call (`docs/limits.md`). Judged at the end ([`Shared::judge_end`]): nothing is taken any more, what clients were told was counted, and rate
//! limits let through what they allow, and turned away only what came behind a full burst.

use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use evenkeel_balance::limit::{
    AdaptiveConfig, AdaptiveLimiter, BreakerLimits, CircuitBreaker, KeyedRateLimiter, RateLimit, RateLimiter,
    Resource, Scope,
};
use evenkeel_balance::outlier::OutlierDetector;
use evenkeel_balance::retry::{MAX_ATTEMPTS, RetryThrottleConfig};
use evenkeel_balance::{Endpoint, EndpointSet};
use evenkeel_grpc::{Code, Pushback};
use evenkeel_proxy::worker::Worker;
use evenkeel_proxy::worker::affinity::KeySource;
use evenkeel_proxy::worker::limit::ClusterLimits;
use evenkeel_proxy::worker::limit::rate::{ClientRateLimit, RouteRateLimit};
use evenkeel_proxy::worker::route::RouteActions;
use evenkeel_proxy::worker::snapshot::RetryGates;
use evenkeel_telemetry::{ClusterEvent, Limited, RetryDenied, Telemetry};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::client::SESSION_FIELD;
use crate::ledger::{CallEnd, CallRecord};
use crate::setup::Setup;
use crate::standings::started;
use crate::stats::Happening;

/// Clients that a rate limit tells apart: more than a world has.
const RATE_KEYS: u32 = 64;

const MILLISECOND: Duration = Duration::from_millis(1);

/// When who meets something full is told to come again (`docs/operations.md`).
const OVERFLOW_PUSHBACK: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_millis(1500);

/// What bounds the calls of a world. Default: nothing.
#[derive(Clone, Debug, Default)]
pub struct Bounds {
    /// The cluster's circuit breaker.
    pub cluster: BreakerLimits,
    /// That of each endpoint.
    pub endpoint: BreakerLimits,
    /// Adaptive concurrency, if it is on.
    pub adaptive: Option<AdaptiveConfig>,
    /// Whether a call that adaptive concurrency has no place for is refused instead of waiting for one.
    pub refuses_at_once: bool,
    /// How often the route's calls are let through.
    pub route_rate: Option<RateLimit>,
    /// How often those of each session are.
    pub session_rate: Option<RateLimit>,
    /// When retries stop because too many attempts fail.
    pub throttle: Option<RetryThrottleConfig>,
}

/// What all workers of a process share beside the endpoints.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outliers: Option<Arc<OutlierDetector>>,
    pub(crate) gates: Arc<RetryGates>,
    pub(crate) limits: Option<Arc<ClusterLimits>>,
    pub(crate) actions: Option<Arc<RouteActions>>,
    bounds: Option<Bounds>,
}

impl Shared {
    pub(crate) fn new(setup: &Setup, endpoints: u32) -> Self {
        let outliers = setup.outliers.map(|config| OutlierDetector::new(config, endpoints, Duration::ZERO));
        let bounds = setup.bounds.as_ref();
        Self {
            outliers: outliers.map(Arc::new),
            gates: setup.again.gates(bounds.and_then(|bounds| bounds.throttle)),
            limits: bounds.map(Bounds::limits),
            actions: bounds.and_then(|bounds| bounds.actions(setup.seed)),
            bounds: setup.bounds.clone(),
        }
    }

    /// Gives each endpoint its bounds, as the control plane does.
    pub(crate) fn bound(&self, set: &EndpointSet) {
        if let Some(bounds) = &self.bounds {
            set.endpoints().iter().for_each(|endpoint| endpoint.breaker().set_limits(&bounds.endpoint));
        }
    }

    fn breaker(&self) -> Option<&CircuitBreaker> {
        self.limits.as_ref()?.breaker.as_deref()
    }

    fn adaptive(&self) -> Option<&AdaptiveLimiter> {
        self.limits.as_ref()?.adaptive.as_deref()
    }

    /// What an attempt takes by the worker's measure.
    pub(crate) fn attempt_time(&self) -> Duration {
        self.adaptive().and_then(AdaptiveLimiter::recent_rtt).unwrap_or_default()
    }

    /// Once all calls have ended, nothing that they took is left.
    pub(crate) fn judge_end(&self, endpoints: &[Arc<Endpoint>]) -> Result<(), String> {
        let budget = &self.gates.budget;
        if budget.calls() > 0 || budget.extra() > 0 {
            let (calls, extra) = (budget.calls(), budget.extra());
            return Err(format!("{calls} calls and {extra} retries are on the budget, but none exists"));
        }
        let most =
            self.bounds.as_ref().and_then(|bounds| bounds.throttle).map(|throttle| throttle.max_tokens());
        if let (Some(throttle), Some(most)) = (&self.gates.throttle, most)
            && throttle.tokens_thousandths() > u32::from(most) * 1_000
        {
            return Err(format!("the throttle has more than {most} tokens: {throttle:?}"));
        }
        let of_endpoints = endpoints.iter().map(|endpoint| endpoint.breaker());
        for breaker in of_endpoints.chain(self.breaker()) {
            for resource in [Resource::Pending, Resource::Requests, Resource::Retries] {
                if breaker.used(resource) > 0 {
                    return Err(format!("{resource:?} are taken, but no call exists: {breaker:?}"));
                }
            }
        }
        match self.adaptive().map(AdaptiveLimiter::in_flight) {
            Some(count) if count > 0 => {
                Err(format!("{count} places of adaptive concurrency are taken by no call"))
            }
            _ => Ok(()),
        }
    }

    /// Once all connections are gone as well.
    pub(crate) fn judge_connections(&self, endpoints: &[Arc<Endpoint>]) -> Result<(), String> {
        let mut breakers = endpoints.iter().map(|endpoint| endpoint.breaker()).chain(self.breaker());
        match breakers.find(|breaker| breaker.used(Resource::Connections) > 0) {
            Some(breaker) => Err(format!("connections are counted, but none exists: {breaker:?}")),
            None => Ok(()),
        }
    }
}

impl Bounds {
    fn limits(&self) -> Arc<ClusterLimits> {
        let adaptive = self.adaptive.map(|config| Arc::new(AdaptiveLimiter::new(config, Duration::ZERO)));
        Arc::new(ClusterLimits {
            breaker: Some(Arc::new(CircuitBreaker::new(Scope::Cluster, &self.cluster))),
            counts_endpoints: true,
            adaptive,
            refuses_at_once: self.refuses_at_once,
        })
    }

    fn actions(&self, seed: u64) -> Option<Arc<RouteActions>> {
        let clients = self.session_rate.map(|limit| ClientRateLimit {
            by: [KeySource::Metadata(SESSION_FIELD.into())].into(),
            limiter: KeyedRateLimiter::new(limit, RATE_KEYS, &mut SmallRng::seed_from_u64(seed)),
        });
        let limit = RouteRateLimit { route: self.route_rate.map(RateLimiter::new), clients };
        let is_limited = limit.route.is_some() || limit.clients.is_some();
        is_limited
            .then(|| Arc::new(RouteActions { rate_limit: Some(Arc::new(limit)), ..RouteActions::default() }))
    }

    /// Whether a call may be turned away so: `pushback` is what its client was told.
    pub(crate) fn judge(
        &self,
        turned: Turned,
        code: Code,
        pushback: Option<Pushback>,
        setup_pending: usize,
    ) -> Result<(), &'static str> {
        let is_bounded = match turned {
            Turned::Rate => self.route_rate.is_some() || self.session_rate.is_some(),
            Turned::Requests => self.cluster.max_requests.is_some(),
            Turned::AtEndpoint => self.endpoint.max_requests.is_some() || self.endpoint.max_retries.is_some(),
            Turned::Pending => self.cluster.max_pending.is_some() || setup_pending < usize::MAX,
            Turned::Concurrency => self.adaptive.is_some() && self.refuses_at_once,
        };
        if !is_bounded {
            return Err("there is no such limit");
        }
        let expected = match turned {
            Turned::Rate | Turned::Concurrency => Code::ResourceExhausted,
            Turned::Requests | Turned::AtEndpoint | Turned::Pending => Code::Unavailable,
        };
        if code != expected {
            return Err("not the status of this limit");
        }
        let Some(Pushback::RetryAfter(wait)) = pushback else {
            return Err("it is not told when to come again");
        };
        let span = match turned {
            // The time until there is a token at the soonest, and twice that at the latest, in whole milliseconds.
            Turned::Rate => {
                let rates = [self.route_rate, self.session_rate].into_iter().flatten();
                MILLISECOND..=rates.map(|rate| rate.interval()).max().unwrap_or_default() * 2 + MILLISECOND
            }
            Turned::Concurrency => MILLISECOND..=Duration::MAX,
            _ => OVERFLOW_PUSHBACK,
        };
        if span.contains(&wait) { Ok(()) } else { Err("it is told to come again too soon, or too late") }
    }

    /// Whether the rate limits let through as much as they allow, and turned away only what came behind a full burst.
    pub(crate) fn judge_rates(&self, calls: &[CallRecord]) -> Result<(), String> {
        if let Some(rate) = self.route_rate {
            judge_rate(rate, &calls.iter().collect::<Vec<_>>())?;
        }
        let sessions: BTreeSet<u32> = calls.iter().map(|record| record.plan.session).collect();
        let of = |session: u32| calls.iter().filter(move |record| record.plan.session == session);
        if let Some(rate) = self.session_rate {
            for session in sessions {
                judge_rate(rate, &of(session).collect::<Vec<_>>())?;
            }
        }
        for (number, record) in
            calls.iter().enumerate().filter(|(_, record)| Turned::of(record) == Some(Turned::Rate))
        {
            let behind_burst = |rate: Option<RateLimit>, others: usize| {
                rate.is_some_and(|rate| others as u64 > rate.burst())
            };
            let came = |other: &&CallRecord| other.sent_at.is_some() && other.sent_at <= record.ended_at;
            let all = calls.iter().filter(came).count();
            let of_session = of(record.plan.session).filter(came).count();
            if record.attempts > 0 {
                return Err(format!(
                    "call {number} was turned away by a rate limit and reached a backend: {record:?}"
                ));
            }
            if !behind_burst(self.route_rate, all) && !behind_burst(self.session_rate, of_session) {
                return Err(format!(
                    "call {number} was turned away, although the bucket held more: {record:?}"
                ));
            }
        }
        Ok(())
    }
}

/// In any span of time from one call's start to another's arrival at a backend, no more than the burst and what flowed in since
/// were let through.
fn judge_rate(rate: RateLimit, calls: &[&CallRecord]) -> Result<(), String> {
    let spans: Vec<(Duration, Duration)> =
        calls.iter().filter_map(|record| Some((record.sent_at?, record.reached_at?))).collect();
    for (start, _) in &spans {
        for (_, end) in spans.iter().filter(|(_, end)| end >= start) {
            let within = spans.iter().filter(|(sent, reached)| sent >= start && reached <= end).count();
            let flowed = (*end - *start).as_nanos() / rate.interval().as_nanos();
            if within as u128 > u128::from(rate.burst()) + flowed + 1 {
                return Err(format!("{within} calls were let through from {start:?} to {end:?}: {rate:?}"));
            }
        }
    }
    Ok(())
}

/// The limit that turned a call away, by what its client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turned {
    /// A rate limit.
    Rate,
    /// The cluster's bound of attempts.
    Requests,
    /// An endpoint's bound of attempts, or of retries.
    AtEndpoint,
    /// A bound of calls that wait.
    Pending,
    /// Adaptive concurrency.
    Concurrency,
}

impl Turned {
    pub(crate) fn of(record: &CallRecord) -> Option<Self> {
        let Some(CallEnd::Status(Code::Unavailable | Code::ResourceExhausted, _)) = record.end else {
            return None;
        };
        let message = record.message.as_str();
        if message.starts_with("rate limited") {
            Some(Self::Rate)
        } else if message.starts_with("reached concurrency limit") {
            Some(Self::Concurrency)
        } else {
            let resource = message.strip_prefix("upstream overflow: ")?;
            Some(match resource {
                _ if resource.contains(" of the endpoint") => Self::AtEndpoint,
                _ if resource.starts_with("max_pending") => Self::Pending,
                _ => Self::Requests,
            })
        }
    }

    pub(crate) fn happening(self) -> Happening {
        match self {
            Self::Rate => Happening::RateLimited,
            Self::Requests => Happening::RequestsOverflowed,
            Self::AtEndpoint => Happening::EndpointOverflowed,
            Self::Pending => Happening::PendingOverflowed,
            Self::Concurrency => Happening::ConcurrencyLimited,
        }
    }

    /// What counts it.
    fn counted(self) -> &'static [Limited] {
        match self {
            Self::Rate => &[Limited::RouteRate, Limited::ClientRate],
            Self::Requests => &[Limited::MaxRequests],
            Self::AtEndpoint => &[Limited::Endpoint],
            Self::Pending => &[Limited::MaxPending],
            Self::Concurrency => &[Limited::Concurrency],
        }
    }
}

/// Every call that was turned away was counted once: those whose clients were told, and no more besides than those whose clients did not
/// wait to be told, and further attempts that were denied, whose calls end as the attempt before did. Rate limits meet no
/// further attempts.
pub(crate) fn judge_counts(calls: &[CallRecord], telemetry: &Telemetry) -> Result<(), String> {
    let counted = telemetry.snapshot();
    let untold =
        calls.iter().filter(|record| !matches!(record.end, Some(CallEnd::Status(..)))).count() as u64;
    let denied = counted.cluster_event(ClusterEvent::RetryDenied(RetryDenied::BreakerOpen));
    let mut besides = 0;
    for turned in [Turned::Rate, Turned::Requests, Turned::AtEndpoint, Turned::Pending, Turned::Concurrency] {
        let told = calls.iter().filter(|record| Turned::of(record) == Some(turned)).count() as u64;
        let count: u64 = turned
            .counted()
            .iter()
            .map(|limited| counted.cluster_event(ClusterEvent::Limited(*limited)))
            .sum();
        besides += count.saturating_sub(told);
        let most = if turned == Turned::Rate { untold } else { untold + denied };
        if count < told || besides > most {
            return Err(format!(
                "{told} clients were told of {turned:?} and {count} were counted, {besides} besides so far, but {untold} were told \
                 nothing, and {denied} further attempts denied"
            ));
        }
    }
    Ok(())
}

/// What was under way at one moment, by counts that the limits do not keep.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    calls: u64,
    calls_begun: u64,
    in_flight: u64,
    /// Attempts that were ever sent.
    attempts: u64,
    overflows: [u64; Resource::ALL.len()],
}

impl UnderWay {
    pub(crate) fn now(
        shared: &Shared,
        worker: &Worker,
        telemetry: &Telemetry,
        endpoints: &[Arc<Endpoint>],
    ) -> Self {
        let Some(breaker) = shared.breaker() else { return Self::default() };
        Self {
            calls: worker.call_count() as u64,
            calls_begun: telemetry.snapshot().calls().started,
            in_flight: endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight())).sum(),
            attempts: endpoints.iter().map(|endpoint| started(endpoint)).sum(),
            overflows: Resource::ALL.map(|resource| breaker.overflows(resource)),
        }
    }

    /// Judges the step that led here.
    pub(crate) fn judge(
        &self,
        before: &Self,
        shared: &Shared,
        worker: &Worker,
        max_pending: usize,
        endpoints: &[Arc<Endpoint>],
    ) -> Result<(), String> {
        let Some(bounds) = &shared.bounds else { return Ok(()) };
        let usage = worker.usage();
        // As many again may have come back as they found no place.
        let queue = 2 * max_pending;
        let queue = bounds.cluster.max_pending.map_or(queue, |most| queue.min(most as usize));
        let of_cluster = [
            ("attempts", self.in_flight, bounds.cluster.max_requests),
            ("further attempts", usage.further_attempts as u64, bounds.cluster.max_retries),
            ("waiting calls", usage.pending as u64, Some(queue as u32)),
            (
                "places",
                shared.adaptive().map_or(0, |adaptive| adaptive.in_flight().into()),
                bounds.adaptive.map(|adaptive| adaptive.max_limit),
            ),
        ];
        if let Some((what, count, most)) =
            of_cluster.iter().find(|(_, count, most)| most.is_some_and(|most| *count > most.into()))
        {
            return Err(format!("{count} {what} at once, of {most:?}"));
        }
        let too_many = |endpoint: &&Arc<Endpoint>| {
            bounds.endpoint.max_requests.is_some_and(|most| endpoint.in_flight() > most)
        };
        if let Some(endpoint) = endpoints.iter().find(too_many) {
            return Err(format!("too many attempts at one endpoint at once: {endpoint:?}"));
        }
        let calls = before.calls + (self.calls_begun - before.calls_begun);
        let attempts = before.in_flight + (self.attempts - before.attempts);
        let could_be = [
            (Resource::Requests, attempts, bounds.cluster.max_requests),
            (Resource::Pending, calls, bounds.cluster.max_pending),
            (Resource::Retries, calls * u64::from(MAX_ATTEMPTS), bounds.cluster.max_retries),
        ];
        for (resource, most_seen, bound) in could_be {
            let refused = self.overflows[resource as usize] > before.overflows[resource as usize];
            if refused && bound.is_none_or(|bound| most_seen < bound.into()) {
                return Err(format!(
                    "{resource:?} of {bound:?} refused one, but there were {most_seen} at most"
                ));
            }
        }
        Ok(())
    }
}
