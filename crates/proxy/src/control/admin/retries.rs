//! What `/clusters` says of attempts beyond a call's first: retries and their budget, hedges, and copies of other clusters' calls.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_balance::retry::{BudgetBound, RetryBudget, RetryThrottle};
use evenkeel_config::Config;
use evenkeel_telemetry::{
    ClusterCounts, ClusterEvent, Hedged, Mirrored, RetryDenied, RetryReason, TransparentRetry,
};
use serde::Serialize;

use crate::control::clusters::ClusterRuntime;

/// What the routes of a configuration do with a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Uses {
    /// A route to it retries.
    retries: bool,
    /// A route to it hedges.
    hedges: bool,
    /// It gets copies.
    mirrors: bool,
}

impl Uses {
    /// Whether calls to it may have further attempts.
    pub(super) fn has_further(self) -> bool {
        self.retries || self.hedges
    }

    /// What the routes do with the cluster of this name.
    pub(super) fn of(config: &Config, name: &str) -> Self {
        let routes = config.listeners.iter().flat_map(|listener| &listener.routes);
        routes.fold(Self::default(), |uses, route| {
            let leads_there = route.destination.shares.iter().any(|share| share.cluster.name == name);
            Self {
                retries: uses.retries || (leads_there && route.retry.is_some()),
                hedges: uses.hedges || (leads_there && route.hedge.is_some()),
                mirrors: uses.mirrors
                    || route.mirror.as_ref().is_some_and(|mirror| mirror.cluster.name == name),
            }
        })
    }
}

/// Attempts beyond the first of calls whose routes retry or hedge; absent where none does.
#[derive(Serialize)]
pub(super) struct RetriesBody {
    /// Attempts that followed another by a route's policy.
    retried: u64,
    /// Attempts that were repeated because no endpoint had seen them; outside the budget.
    transparent: u64,
    /// Attempts that were wanted and not made, by what forbade them.
    denied: BTreeMap<&'static str, u64>,
    budget: BudgetBody,
    /// gRPC's retry throttling; absent without.
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<ThrottleBody>,
}

/// The budget of retries and hedges, over all workers.
#[derive(Serialize)]
struct BudgetBody {
    under_way: BoundBody,
    /// Of the calls that began in the newest seconds; absent where the budget has no window.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowBody>,
    /// Attempts that it refused so far.
    refused: u64,
}

/// One bound of a budget: what it is a share of, and how far it is used.
#[derive(Serialize)]
struct BoundBody {
    calls: u64,
    used: u64,
    max: u64,
}

#[derive(Serialize)]
struct WindowBody {
    seconds: f64,
    #[serde(flatten)]
    bound: BoundBody,
}

/// The bucket of gRPC's retry throttling, over all workers.
#[derive(Serialize)]
struct ThrottleBody {
    tokens: f64,
    max_tokens: f64,
    /// Whether it lets further attempts through now: more than half of the tokens are left.
    allows: bool,
}

/// What became of further attempts of hedged calls; absent where no route hedges.
#[derive(Serialize)]
pub(super) struct HedgesBody {
    sent: u64,
    after_failure: u64,
    no_endpoint: u64,
    won: u64,
}

/// What became of the copies of other clusters' calls; absent where no route mirrors to the cluster.
#[derive(Serialize)]
pub(super) struct MirrorsBody {
    sent: u64,
    no_endpoint: u64,
    too_many: u64,
    buffer_full: u64,
    cut_off: u64,
}

/// What a cluster has of the three.
#[derive(Serialize)]
pub(super) struct FurtherBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<RetriesBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hedges: Option<HedgesBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirrors: Option<MirrorsBody>,
}

/// Attempts beyond a call's first, and copies.
pub(super) fn further(runtime: &ClusterRuntime, uses: Uses, now: Duration) -> FurtherBody {
    let counts = runtime.telemetry.counts();
    FurtherBody {
        retries: uses.has_further().then(|| {
            let gates = &runtime.gates;
            retries(&counts, &gates.budget, gates.throttle.as_ref(), now)
        }),
        hedges: uses.hedges.then(|| hedges(&counts)),
        mirrors: uses.mirrors.then(|| mirrors(&counts)),
    }
}

fn retries(
    counts: &ClusterCounts,
    budget: &RetryBudget,
    throttle: Option<&RetryThrottle>,
    now: Duration,
) -> RetriesBody {
    let sum = |events: &mut dyn Iterator<Item = ClusterEvent>| events.map(|event| counts.get(event)).sum();
    let denied = RetryDenied::ALL
        .iter()
        .map(|reason| (reason.as_str(), counts.get(ClusterEvent::RetryDenied(*reason))))
        .filter(|(_, count)| *count > 0);
    RetriesBody {
        retried: sum(&mut RetryReason::ALL.iter().copied().map(ClusterEvent::Retry)),
        transparent: sum(&mut TransparentRetry::ALL.iter().copied().map(ClusterEvent::TransparentRetry)),
        denied: denied.collect(),
        budget: BudgetBody {
            under_way: budget.under_way().into(),
            window: budget
                .window(now)
                .map(|(length, bound)| WindowBody { seconds: length.as_secs_f64(), bound: bound.into() }),
            refused: budget.refused(),
        },
        throttle: throttle.map(|throttle| ThrottleBody {
            tokens: f64::from(throttle.tokens_thousandths()) / 1e3,
            max_tokens: f64::from(throttle.max_thousandths()) / 1e3,
            allows: throttle.allows(),
        }),
    }
}

fn hedges(counts: &ClusterCounts) -> HedgesBody {
    let count = |outcome| counts.get(ClusterEvent::Hedged(outcome));
    HedgesBody {
        sent: count(Hedged::Sent),
        after_failure: count(Hedged::AfterFailure),
        no_endpoint: count(Hedged::NoEndpoint),
        won: count(Hedged::Won),
    }
}

fn mirrors(counts: &ClusterCounts) -> MirrorsBody {
    let count = |outcome| counts.get(ClusterEvent::Mirrored(outcome));
    MirrorsBody {
        sent: count(Mirrored::Sent),
        no_endpoint: count(Mirrored::NoEndpoint),
        too_many: count(Mirrored::TooMany),
        buffer_full: count(Mirrored::BufferFull),
        cut_off: count(Mirrored::CutOff),
    }
}

impl From<BudgetBound> for BoundBody {
    fn from(bound: BudgetBound) -> Self {
        Self { calls: bound.calls, used: bound.used, max: bound.max }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_config::parse;

    use super::*;

    #[test]
    fn a_cluster_has_what_the_routes_to_it_do() {
        let text = "listeners:\n  - address: 127.0.0.1:0\n    routes:\n\
             \x20     - { match: { service: a.Retried }, cluster: retried, retry: {} }\n\
             \x20     - { match: { service: a.Hedged }, split: [{ cluster: hedged, weight: 1 }, { cluster: both, weight: 1 }], \
             idempotent: true, hedge: {} }\n\
             \x20     - { match: { service: a.Both }, cluster: both, retry: {}, mirror: { cluster: copied } }\n\
             \x20     - { cluster: plain }\n\
             clusters:\n"
            .to_owned();
        let names = ["retried", "hedged", "both", "copied", "plain"];
        let clusters: String = names
            .iter()
            .map(|name| format!("  - {{ name: {name}, target: \"ipv4:127.0.0.1:1\" }}\n"))
            .collect();
        let config = parse("test", &(text + &clusters)).unwrap();
        let uses = |retries, hedges, mirrors| Uses { retries, hedges, mirrors };
        let expected = [
            uses(true, false, false),
            uses(false, true, false),
            uses(true, true, false),
            uses(false, false, true),
            Uses::default(),
        ];
        assert_eq!(names.map(|name| Uses::of(&config, name)), expected);
    }
}
