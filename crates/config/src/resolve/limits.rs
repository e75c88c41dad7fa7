//! Limits.

use core::time::Duration;

use evenkeel_balance::limit::{AdaptiveConfig, BreakerLimits, MinRtt, RateLimit};

use super::affinity::resolve_sources;
use super::leads::Clients;
use super::value;
use crate::bounds::{self, Bounds};
use crate::errors::{Fault, Reports, Span};
use crate::model::{AdaptiveConcurrency, CircuitBreakers, ClientRate, Rate, RouteRateLimit};
use crate::raw::{
    At, Field, Integer, Off, RawAdaptiveConcurrency, RawCircuitBreakers, RawClientRateLimit, RawDuration,
    RawEndpointBreakers, RawHashBy, RawRateLimit,
};
use crate::units::format_duration;

/// A bound that may be `off`; `default` if nothing is written.
fn bound(
    field: &Field<Off<Integer>>,
    bounds: Bounds<u32>,
    default: Option<u32>,
    reports: &mut Reports,
) -> Option<u32> {
    match field.given() {
        None => default,
        Some(At { value: Off::Off, .. }) => None,
        Some(At { value: Off::On(count), span, .. }) => {
            Some(value::bounded_count(*count, *span, bounds, reports))
        }
    }
}

/// The circuit breakers if they are on; without the key they are off.
pub(super) fn resolve_breakers(
    raw: &Field<Off<RawCircuitBreakers>>,
    reports: &mut Reports,
) -> Option<CircuitBreakers> {
    let (key, At { value: Off::On(raw), .. }) = raw.with_key()? else { return None };
    let default = BreakerLimits::of_cluster();
    let connections = bounds::BREAKER_MAX_CONNECTIONS;
    let cluster = BreakerLimits {
        max_connections: bound(&raw.max_connections, connections, default.max_connections, reports),
        max_pending: bound(&raw.max_pending, bounds::BREAKER_MAX_PENDING, default.max_pending, reports),
        max_requests: bound(&raw.max_requests, bounds::BREAKER_PLACES, default.max_requests, reports),
        max_retries: bound(&raw.max_retries, bounds::BREAKER_PLACES, default.max_retries, reports),
    };
    let unset = RawEndpointBreakers::default();
    let of_endpoint = raw.per_endpoint.given().map_or(&unset, |given| &given.value);
    let default = BreakerLimits::of_endpoint();
    let requests = bounds::BREAKER_ENDPOINT_MAX_REQUESTS;
    let endpoint = BreakerLimits {
        max_connections: bound(&of_endpoint.max_connections, connections, default.max_connections, reports),
        max_pending: None,
        max_requests: bound(&of_endpoint.max_requests, requests, default.max_requests, reports),
        max_retries: bound(&of_endpoint.max_retries, bounds::BREAKER_PLACES, default.max_retries, reports),
    };
    for (field, given, of_cluster, name) in [
        (&of_endpoint.max_connections, endpoint.max_connections, cluster.max_connections, "max_connections"),
        (&of_endpoint.max_requests, endpoint.max_requests, cluster.max_requests, "max_requests"),
        (&of_endpoint.max_retries, endpoint.max_retries, cluster.max_retries, "max_retries"),
    ] {
        // It would never be reached. A default that is never reached does no harm, written out or not.
        if let (Some(at), Some(given), Some(limit)) = (field.given(), given, of_cluster)
            && given > limit
            && (name, Some(given)) != ("max_requests", default.max_requests)
        {
            reports.add(at.span, value::disordered(given, "above", name, limit));
        }
    }
    if [cluster, endpoint].iter().all(|limits| *limits == BreakerLimits::default()) {
        let reason = "as each of its bounds is `off`: write `circuit_breakers: off`";
        reports.add(key, Fault::NoEffect { key: "circuit_breakers", reason });
    }
    Some(CircuitBreakers { cluster, endpoint })
}

/// Adaptive concurrency if it is on; without the key it is off.
pub(super) fn resolve_adaptive(
    raw: &Field<Off<RawAdaptiveConcurrency>>,
    reports: &mut Reports,
) -> Option<AdaptiveConcurrency> {
    let Some(At { value: Off::On(raw), .. }) = raw.given() else { return None };
    let min_limit = value::count(&raw.min_limit, bounds::ADAPTIVE_MIN_LIMIT, reports);
    let max_limit = value::count(&raw.max_limit, bounds::ADAPTIVE_MAX_LIMIT, reports);
    let initial_limit = value::count(&raw.initial_limit, bounds::ADAPTIVE_INITIAL_LIMIT, reports);
    report_order((&raw.max_limit, max_limit), "below", ("min_limit", min_limit), reports);
    if raw.max_limit.is_absent() {
        report_order((&raw.min_limit, min_limit), "above", ("max_limit", max_limit), reports);
    }
    report_order((&raw.initial_limit, initial_limit), "below", ("min_limit", min_limit), reports);
    report_order((&raw.initial_limit, initial_limit), "above", ("max_limit", max_limit), reports);
    Some(AdaptiveConcurrency {
        config: AdaptiveConfig {
            sample_interval: value::duration(&raw.sample_interval, bounds::ADAPTIVE_SAMPLE_INTERVAL, reports),
            min_limit,
            max_limit,
            // A default that the bounds leave out is moved to the nearest of them.
            initial_limit: initial_limit.clamp(min_limit, max_limit.max(min_limit)),
            buffer_percent: value::count(&raw.buffer_percent, bounds::ADAPTIVE_BUFFER_PERCENT, reports),
            min_rtt: min_rtt(raw, reports),
        },
        queue: raw.queue.given().is_none_or(|flag| flag.value.0),
    })
}

/// Reports a number that is above or below that of another key, if it was written so.
fn report_order(
    (field, number): (&Field<Integer>, u32),
    relation: &'static str,
    (other, limit): (&'static str, u32),
    reports: &mut Reports,
) {
    let is_wrong = if relation == "above" { number > limit } else { number < limit };
    if let Some(given) = field.given().filter(|given| is_wrong && given.value.0 == number.into()) {
        reports.add(given.span, value::disordered(number, relation, other, limit));
    }
}

fn min_rtt(raw: &RawAdaptiveConcurrency, reports: &mut Reports) -> MinRtt {
    let interval = value::duration(&raw.measure_interval, bounds::ADAPTIVE_MEASURE_INTERVAL, reports);
    let jitter = bounds::ADAPTIVE_MEASURE_JITTER_PERCENT;
    let jitter_percent = value::count(&raw.measure_jitter_percent, jitter, reports);
    let requests = value::count(&raw.measure_requests, bounds::ADAPTIVE_MEASURE_REQUESTS, reports);
    if raw.min_rtt.is_absent() {
        return MinRtt::Measured { interval, jitter_percent, requests };
    }
    let keys = [
        ("measure_interval", raw.measure_interval.with_key().map(|(key, _)| key)),
        ("measure_jitter_percent", raw.measure_jitter_percent.with_key().map(|(key, _)| key)),
        ("measure_requests", raw.measure_requests.with_key().map(|(key, _)| key)),
    ];
    for (key, at) in keys {
        if let Some(at) = at {
            reports.add(at, Fault::Exclusive { key, other: "min_rtt" });
        }
    }
    MinRtt::Fixed(value::duration(&raw.min_rtt, bounds::ADAPTIVE_MIN_RTT, reports))
}

/// How often a route's calls are let through, if it says so.
pub(super) fn resolve_rate_limit(
    raw: &Field<RawRateLimit>,
    (owner, clients): (Span, Clients),
    reports: &mut Reports,
) -> Option<RouteRateLimit> {
    let (key, At { value: raw, is_whole, .. }) = raw.with_key()?;
    if *is_whole && raw.requests.is_absent() && raw.per_client.is_absent() {
        let reason = "without `requests` or `per_client`";
        reports.add(key, Fault::NoEffect { key: "rate_limit", reason });
        return None;
    }
    if raw.requests.is_absent() {
        let per = raw.per.with_key().map(|(key, _)| ("per", key));
        let burst = raw.burst.with_key().map(|(key, _)| ("burst", key));
        for (key, at) in per.into_iter().chain(burst) {
            reports.add(at, Fault::Needs { key, needed: "requests" });
        }
    }
    let route = resolve_rate(&raw.requests, &raw.per, &raw.burst, reports);
    let clients =
        raw.per_client.given().and_then(|given| resolve_clients(&given.value, (owner, clients), reports));
    (route.is_some() || clients.is_some()).then_some(RouteRateLimit { route, clients })
}

fn resolve_clients(
    raw: &RawClientRateLimit,
    of: (Span, Clients),
    reports: &mut Reports,
) -> Option<ClientRate> {
    let list = raw.by.given()?;
    if list.value.written == 0 {
        let help = "add what tells clients apart, such as `{metadata: x-client-id}`, or remove `per_client`";
        reports.add(list.span, Fault::EmptyList { help });
    }
    let by = resolve_sources("by", list, of, reports);
    for entry in &list.value.entries {
        if let RawHashBy::Cookie(cookie) = &entry.value
            && let Some((key, _)) = cookie.ttl.with_key()
        {
            let reason =
                "in `by`: a rate limit gives no cookies, since whoever throws them away would have no limit";
            reports.add(key, Fault::NoEffect { key: "ttl", reason });
        }
    }
    let rate = resolve_rate(&raw.requests, &raw.per, &raw.burst, reports)?;
    let max_keys = value::count(&raw.max_keys, bounds::RATE_MAX_KEYS, reports);
    (!by.is_empty()).then_some(ClientRate { by, rate, max_keys })
}

fn resolve_rate(
    requests: &Field<Integer>,
    per: &Field<RawDuration>,
    burst: &Field<Integer>,
    reports: &mut Reports,
) -> Option<Rate> {
    let at = requests.given()?.span;
    let requests = value::count(requests, bounds::RATE_REQUESTS, reports);
    let per: Duration = value::duration(per, bounds::RATE_PER, reports);
    let burst =
        if burst.is_absent() { requests } else { value::count(burst, bounds::RATE_REQUESTS, reports) };
    match RateLimit::new(requests, per, burst) {
        Ok(limit) => Some(Rate { requests, per, burst, limit }),
        Err(_) => {
            let value = format!("{requests} per {}", format_duration(per));
            let (min, max) = ("1 per 1d".to_owned(), "1000000000 per 1s".to_owned());
            reports.add(at, Fault::OutOfBounds { value, min, max });
            None
        }
    }
}
