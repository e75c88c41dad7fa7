//! Routes with `retry` or `hedge` whose calls could never be tried again.
//!
//! Why here: what forbids it stands elsewhere, with the clusters or at the top of the file, and one cluster of several is enough for
//! the key to have an effect. Where something is not known, as a name is misspelt, nothing is concluded.

use std::collections::HashMap;

use super::leads::answering;
use super::retry::resolve_budget;
use crate::errors::{Fault, Reports, Span};
use crate::model::Replay;
use crate::raw::{RawCluster, RawConfig, RawRoute};

/// Why nothing is sent again: each message of gRPC has bytes, also an empty one.
const NOTHING_KEPT: &str =
    "as `per_call` of `replay` is 0: a call whose message was sent cannot be sent again";

/// Why no extra attempt is made.
const NO_BUDGET: &str =
    "as `percent` and `min_concurrency` of the cluster's `retry_budget` are 0: it allows no extra attempt";

/// Reports `retry` and `hedge` of routes where nothing is kept of requests, or no cluster allows an extra attempt.
pub(super) fn check(raw: &RawConfig, replay: &Replay, reports: &mut Reports) {
    let written = raw.replay.given().and_then(|replay| replay.value.per_call.given());
    let keeps_nothing = written.filter(|_| replay.per_call == 0).map(|per_call| per_call.span);
    let forbidding = forbidding(raw);
    let listeners = raw.listeners.given().into_iter().flat_map(|list| &list.value.entries);
    let routes = listeners.filter_map(|listener| listener.value.routes.given());
    for route in routes.flat_map(|routes| &routes.value.entries).map(|entry| &entry.value) {
        let found = match keeps_nothing {
            Some(per_call) => Some((NOTHING_KEPT, per_call)),
            None => forbidden_by(route, &forbidding).map(|budget| (NO_BUDGET, budget)),
        };
        let Some((reason, cause)) = found else { continue };
        let retry = route.retry.with_key().map(|(at, _)| (at, "retry"));
        let hedge = route.hedge.with_key().map(|(at, _)| (at, "hedge"));
        for (at, key) in retry.into_iter().chain(hedge) {
            reports.add_related(at, Fault::NoEffect { key, reason }, cause);
        }
    }
}

/// The clusters whose budgets allow no extra attempt, with the place of what says so.
fn forbidding(raw: &RawConfig) -> HashMap<&str, Span> {
    let clusters = raw.clusters.given().into_iter().flat_map(|list| &list.value.entries);
    let one = |cluster: &'_ RawCluster| {
        // The budget's own faults are reported with its cluster.
        let budget = resolve_budget(&cluster.retry_budget, &mut Reports::default());
        let (key, _) = cluster.retry_budget.with_key()?;
        (budget.percent == 0 && budget.min_concurrency == 0).then_some(key)
    };
    clusters
        .filter_map(|cluster| Some((cluster.value.name.given()?.value.0.as_str(), one(&cluster.value)?)))
        .collect()
}

/// What forbids a route's extra attempts: the first of its clusters, if none of them allows any.
fn forbidden_by(route: &RawRoute, forbidding: &HashMap<&str, Span>) -> Option<Span> {
    let is_whole = route.split.given().is_none_or(|split| split.is_whole);
    let all: Option<Vec<Span>> =
        answering(route).map(|name| forbidding.get(name.0.as_str()).copied()).collect();
    all.filter(|_| is_whole)?.first().copied()
}
