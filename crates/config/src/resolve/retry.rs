//! Trying again.

use core::time::Duration;

use evenkeel_balance::Factor;
use evenkeel_balance::retry::{
    CodeSet, HedgingPolicy, RetryBudgetConfig, RetryOn, RetryPolicy, RetryThrottleConfig,
};
use evenkeel_grpc::Code;

use super::cluster::report_range;
use super::leads::Lead;
use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, Span, closest};
use crate::model::Retry;
use crate::raw::{
    At, Field, List, Off, RawCluster, RawDuration, RawRetryBudget, RawRetryThrottling, RawRoute, StatusName,
};
use crate::retry::{RESET, RETRY_ON};
use crate::units::format_duration;

/// What makes `idempotent` useful; a `retry` alone does not.
const IDEMPOTENT_FOR: &str = "hedge` or `retry_on: [deadline_exceeded]";

/// Why an entry of a list has no effect.
const REPEATED: &str = "because the same stands before it";

/// How the calls of a route, which may take so long, are tried again, if it says so.
pub(super) fn resolve_retry(
    route: &RawRoute,
    timeout: Option<Duration>,
    reports: &mut Reports,
) -> Option<Retry> {
    let is_idempotent = route.idempotent.given().is_some_and(|flag| flag.value.0);
    let Some((key, At { value: raw, .. })) = route.retry.with_key() else {
        let is_alone = route.retry.is_absent() && route.hedge.is_absent();
        if let (Some((key, _)), true) = (route.idempotent.with_key(), is_alone && is_idempotent) {
            reports.add(key, Fault::Needs { key: "idempotent", needed: IDEMPOTENT_FOR });
        }
        return None;
    };
    let initial_backoff = value::duration(&raw.initial_backoff, bounds::RETRY_INITIAL_BACKOFF, reports);
    let max_backoff = value::duration(&raw.max_backoff, bounds::RETRY_MAX_BACKOFF, reports);
    report_range(
        (&raw.initial_backoff, initial_backoff),
        (&raw.max_backoff, max_backoff),
        ["initial_backoff", "max_backoff"],
        reports,
    );
    if let Some(timeout) = timeout {
        let limit = ("timeout", timeout);
        value::not_above((&raw.initial_backoff, initial_backoff), limit, reports);
        // A fifth less at random. A `max_backoff` below it is reported as such.
        let is_over = initial_backoff * 4 / 5 >= timeout && max_backoff >= initial_backoff;
        if raw.initial_backoff.is_absent() && is_over {
            let told = format!("`initial_backoff`, by default {},", format_duration(initial_backoff));
            reports.add(key, value::not_below_limit(told, true, limit));
        }
    }
    let multiplier = value::number(&raw.backoff_multiplier, bounds::RETRY_BACKOFF_MULTIPLIER, reports);
    let per_try_timeout = raw.per_try_timeout.given().map(|given| {
        value::bounded_duration(&given.value, given.span, bounds::RETRY_PER_TRY_TIMEOUT, reports)
    });
    if let (Some(longest), Some(timeout)) = (per_try_timeout, timeout) {
        // No other attempt could follow one that took as long as the call may.
        value::is_below((&raw.per_try_timeout, longest), ("timeout", timeout), reports);
    }
    let before = reports.count();
    let retry_on = retry_on(&raw.retry_on, is_idempotent, reports);
    let is_known = !raw.retry_on.is_refused() && reports.count() == before;
    if let (Some((key, _)), false) =
        (raw.per_try_timeout.with_key(), retry_on.codes.contains(Code::DeadlineExceeded))
    {
        // It would only shorten calls: no other attempt follows one that took too long.
        reports.add(key, Fault::Needs { key: "per_try_timeout", needed: "retry_on: [deadline_exceeded]" });
    }
    let needs_it = retry_on.codes.contains(Code::DeadlineExceeded);
    // Beside a `hedge`, one of the two is at fault, and nothing is known.
    let is_useless = is_idempotent && !needs_it && route.hedge.is_absent();
    if let (Some((key, _)), true, true) = (route.idempotent.with_key(), is_useless, is_known) {
        let reason = "beside a `retry` without `deadline_exceeded` in `retry_on`";
        reports.add(key, Fault::NoEffect { key: "idempotent", reason });
    }
    Some(Retry {
        is_idempotent,
        policy: RetryPolicy {
            max_attempts: value::count(&raw.max_attempts, bounds::RETRY_MAX_ATTEMPTS, reports) as u8,
            initial_backoff,
            max_backoff,
            backoff_multiplier: Factor::try_from(multiplier).unwrap_or(Factor::ONE),
            retry_on,
            per_try_timeout,
        },
    })
}

/// How the calls of a route, which may take so long, are hedged, if it says so.
pub(super) fn resolve_hedge(
    route: &RawRoute,
    timeout: Option<Duration>,
    reports: &mut Reports,
) -> Option<HedgingPolicy> {
    let (key, At { value: raw, .. }) = route.hedge.with_key()?;
    if route.retry.given().is_some() {
        reports.add(key, Fault::Exclusive { key: "hedge", other: "retry" });
    }
    if !route.idempotent.given().is_some_and(|flag| flag.value.0) {
        // Attempts run side by side: that must do no harm.
        reports.add(key, Fault::Needs { key: "hedge", needed: "idempotent: true" });
    }
    let hedging_delay = value::duration(&raw.delay, bounds::HEDGE_DELAY, reports);
    if let Some(timeout) = timeout {
        let limit = ("timeout", timeout);
        value::is_below((&raw.delay, hedging_delay), limit, reports);
        if raw.delay.is_absent() && hedging_delay >= timeout {
            let told = format!("`delay`, by default {},", format_duration(hedging_delay));
            reports.add(key, value::not_below_limit(told, hedging_delay > timeout, limit));
        }
    }
    let non_fatal = match raw.non_fatal.given() {
        None => HedgingPolicy::default().non_fatal,
        Some(list) => CodeSet::of(&non_fatal(&list.value, reports)),
    };
    Some(HedgingPolicy {
        max_attempts: value::count(&raw.max_attempts, bounds::HEDGE_MAX_ATTEMPTS, reports) as u8,
        hedging_delay,
        non_fatal,
    })
}

fn non_fatal(list: &List<StatusName>, reports: &mut Reports) -> Vec<Code> {
    let known = &RETRY_ON[..RETRY_ON.len() - 1];
    let mut codes = Vec::new();
    for entry in &list.entries {
        let name = entry.value.0.to_ascii_lowercase();
        match status_of(&name) {
            Some(code) if codes.contains(&code) => {
                reports.add(entry.span, Fault::NoEffect { key: "non_fatal", reason: REPEATED });
            }
            Some(code) => codes.push(code),
            None => {
                let suggestion = closest(&name, known.iter().copied());
                let fault =
                    Fault::UnknownName { kind: "status", name: entry.value.0.clone(), suggestion, known };
                reports.add(entry.span, fault);
            }
        }
    }
    codes
}

fn status_of(name: &str) -> Option<Code> {
    Code::ALL.into_iter().find(|code| *code != Code::Ok && code.name().to_ascii_lowercase() == name)
}

/// The ends that are retried, by their names.
fn retry_on(raw: &Field<List<StatusName>>, is_idempotent: bool, reports: &mut Reports) -> RetryOn {
    let (mut codes, mut reset) = (Vec::new(), false);
    for entry in raw.given().into_iter().flat_map(|list| &list.value.entries) {
        let name = entry.value.0.to_ascii_lowercase();
        match status_of(&name) {
            Some(Code::DeadlineExceeded) if !is_idempotent => {
                // The first attempt may still run: that must do no harm.
                reports
                    .add(entry.span, Fault::Needs { key: "deadline_exceeded", needed: "idempotent: true" });
                // It is there all the same, for `per_try_timeout`.
                codes.push(Code::DeadlineExceeded);
            }
            Some(code) if codes.contains(&code) => {
                reports.add(entry.span, Fault::NoEffect { key: "retry_on", reason: REPEATED });
            }
            Some(code) => codes.push(code),
            None if name == RESET => reset = true,
            None => {
                let suggestion = closest(&name, RETRY_ON);
                let known = &RETRY_ON;
                let fault =
                    Fault::UnknownName { kind: "condition", name: entry.value.0.clone(), suggestion, known };
                reports.add(entry.span, fault);
            }
        }
    }
    let by_status = RetryOn::statuses(CodeSet::of(&codes));
    RetryOn { reset: reset || by_status.reset, ..by_status }
}

pub(super) fn resolve_budget(raw: &Field<RawRetryBudget>, reports: &mut Reports) -> RetryBudgetConfig {
    let unset = RawRetryBudget::default();
    let raw = raw.given().map_or(&unset, |budget| &budget.value);
    let least = bounds::RETRY_BUDGET_MIN_CONCURRENCY;
    RetryBudgetConfig {
        percent: value::count(&raw.percent, bounds::RETRY_BUDGET_PERCENT, reports) as u8,
        min_concurrency: value::count(&raw.min_concurrency, least, reports),
        window: window(&raw.window, reports),
    }
}

fn window(raw: &Field<Off<RawDuration>>, reports: &mut Reports) -> Option<Duration> {
    match raw.given() {
        None => Some(bounds::RETRY_BUDGET_WINDOW.default),
        Some(At { value: Off::Off, .. }) => None,
        Some(At { value: Off::On(window), span, .. }) => {
            Some(value::bounded_duration(window, *span, bounds::RETRY_BUDGET_WINDOW, reports))
        }
    }
}

/// Reports bounds of retries of which no route that leads to the cluster has any. Calls without a policy are tried again only
/// where no backend has seen them, which no budget bounds.
pub(super) fn check_needed(raw: &RawCluster, budget: &RetryBudgetConfig, lead: Lead, reports: &mut Reports) {
    let budget = raw.retry_budget.with_key().filter(|_| *budget != RetryBudgetConfig::default());
    let throttling = raw.retry_throttling.with_key().filter(|(_, given)| matches!(given.value, Off::On(_)));
    let keys = [
        ("retry_budget", budget.map(|(at, value)| (at, (value.span, value.span)))),
        ("retry_throttling", throttling.map(|(at, value)| (at, (value.span, value.span)))),
    ];
    let bounds = bounds_of_retries(raw).map(|places| ("max_retries", Some(places)));
    for (key, places) in keys.into_iter().chain(bounds) {
        let Some((at, used)) = places else { continue };
        if lead.tries_again {
            reports.note_useful(used);
        } else {
            let reason = "as no route that leads to the cluster has `retry` or `hedge`";
            reports.add_useless(used, at, Fault::NoEffect { key, reason });
        }
    }
}

/// Where `max_retries` is a number, of the cluster and of each endpoint: the key; the whole that aliases may share, and the value.
fn bounds_of_retries(raw: &RawCluster) -> impl Iterator<Item = (Span, (Span, Span))> {
    let breakers = raw.circuit_breakers.given().and_then(|given| match &given.value {
        Off::On(breakers) => Some((given.span, breakers)),
        Off::Off => None,
    });
    breakers.into_iter().flat_map(|(whole, breakers)| {
        let of_endpoint = breakers.per_endpoint.given().map(|given| &given.value.max_retries);
        let fields = [Some(&breakers.max_retries), of_endpoint];
        let numbers = fields.into_iter().flatten().filter_map(Field::with_key);
        let numbers = numbers.filter(|(_, given)| matches!(given.value, Off::On(_)));
        numbers.map(move |(key, given)| (key, (whole, given.span)))
    })
}

pub(super) fn resolve_throttling(
    raw: &Field<Off<RawRetryThrottling>>,
    reports: &mut Reports,
) -> Option<RetryThrottleConfig> {
    let Some(At { value: Off::On(raw), .. }) = raw.given() else { return None };
    let tokens = value::count(&raw.max_tokens, bounds::RETRY_MAX_TOKENS, reports);
    let ratio = value::number(&raw.token_ratio, bounds::RETRY_TOKEN_RATIO, reports);
    RetryThrottleConfig::new(u16::try_from(tokens).ok()?, Factor::try_from(ratio).ok()?).ok()
}
