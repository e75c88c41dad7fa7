//! GET /clusters: each endpoint, what state it is in and why, what it has to do and how it does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;
use evenkeel_balance::outlier::OutlierStatus;
use evenkeel_balance::{Connectivity, Endpoint, Withheld};
use evenkeel_config::Cluster;
use evenkeel_grpc::Code;
use serde::Serialize;
use serde_json::Value;

use super::eligibility::{EligibilityBody, SubsetBody, WorkersSay, subset};
use super::groups::{GroupBody, groups};
use super::health::{HealthBody, describe_health};
use super::limits::{AdaptiveBody, BreakerBody, adaptive, breakers};
use super::load::{LearnedBody, LoadBody, describe_learned, describe_load};
use super::removed::{RemovedBody, removed};
use super::retries::{FurtherBody, Uses, further};
use super::routes::{RoutesBody, routes_to};
use super::{Admin, pretty};
use crate::control::clusters::ClusterRuntime;
use crate::control::state::State;
use crate::worker::ClusterView;

#[derive(Serialize)]
struct Clusters {
    clusters: Vec<ClusterBody>,
}

#[derive(Serialize)]
struct ClusterBody {
    name: String,
    target: String,
    policy: String,
    /// All that is configured of it, defaults included, as GET /config has it.
    settings: Value,
    /// The routes that lead to it.
    #[serde(flatten)]
    routes: RoutesBody,
    /// Calls that wait for an endpoint or a place, over all workers.
    pending: usize,
    /// The bounds of its circuit breaker, over all workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    circuit_breakers: Vec<BreakerBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive_concurrency: Option<AdaptiveBody>,
    /// Absent where the cluster has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier_detection: Option<DetectionBody>,
    /// Retries, hedges and copies.
    #[serde(flatten)]
    further: FurtherBody,
    /// Prequal's probes; absent under other policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<ProbesBody>,
    resolver: ResolverBody,
    /// Priorities and localities, and the part of the calls that each gets; one where there are neither.
    groups: Vec<GroupBody>,
    /// Which of the endpoints that discovery found are used; absent where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    subset: Option<SubsetBody>,
    endpoints: Vec<EndpointBody>,
    removed: Vec<RemovedBody>,
}

/// How many endpoints outlier detection took out, and did not.
#[derive(Serialize)]
struct DetectionBody {
    /// Endpoints that are out now, and how many may be.
    out: u32,
    allowed: u32,
    /// Ejections that the cap prevented, since the cluster's settings were last changed.
    held_back: u64,
}

/// What became of prequal's probes, over all workers.
#[derive(Serialize)]
struct ProbesBody {
    /// Answers that are kept now, of which the next calls use some.
    pool: usize,
    /// Probes that were answered by a load report.
    answered: u64,
    /// Those whose endpoint had reported nothing, or too long ago.
    unanswered: u64,
}

fn describe_probes(of_workers: &[&ClusterView]) -> Option<ProbesBody> {
    let probes = of_workers.iter().filter_map(|view| view.probes);
    probes.fold(None, |sum, (counts, pool)| {
        let sum = sum.unwrap_or(ProbesBody { pool: 0, answered: 0, unanswered: 0 });
        Some(ProbesBody {
            pool: sum.pool + pool,
            answered: sum.answered + counts.answered,
            unanswered: sum.unanswered + counts.unanswered,
        })
    })
}

#[derive(Serialize)]
struct ResolverBody {
    /// Seconds since the newest answer; absent before the first.
    last_success_age_seconds: Option<f64>,
    /// Why the newest resolution failed, if it did; the last good answer stays in force.
    error: Option<String>,
    changes: u64,
}

#[derive(Serialize)]
struct EndpointBody {
    address: String,
    weight: u32,
    priority: u8,
    /// `region/zone/sub_zone`, as far as known; absent where nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<String>,
    /// Over all workers: READY if any is.
    state: &'static str,
    /// Connections that take calls, over all workers.
    connections: usize,
    /// Whether it gets calls, and why not.
    #[serde(flatten)]
    eligibility: EligibilityBody,
    /// Why it gets no new calls while others can take them; empty in service.
    withheld: Vec<&'static str>,
    /// What active checks found; absent where the cluster has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthBody>,
    /// What outlier detection found; absent where the cluster has none, or while it finds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    outlier: Option<OutlierBody>,
    /// What it reported of its load; absent where the cluster's policy goes by no reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadBody>,
    /// What workers learned of it from its calls, and prequal from its reports; absent under policies that go by neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    learned: Option<LearnedBody>,
    in_flight: u32,
    /// The bounds of its own circuit breaker, over all workers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    circuit_breakers: Vec<BreakerBody>,
    /// Finished attempts by gRPC status.
    outcomes: BTreeMap<&'static str, u64>,
    /// Mean over all finished attempts.
    latency_mean_ms: Option<f64>,
    connects_failed: u64,
    disconnections: u64,
    resets: u64,
}

#[derive(Serialize)]
struct OutlierBody {
    /// `ejected`; `half_open` once its time is up and single calls try it; or `held_back`, if only the cap keeps it in rotation.
    state: &'static str,
    /// Why it was ejected; absent while it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Seconds until it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_seconds: Option<f64>,
    /// Trials that succeeded so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    successes: Option<u32>,
    /// Ejections, less one for each interval in service since.
    times_ejected: u32,
}

fn describe_outlier(endpoint: &Endpoint, now: Duration) -> Option<OutlierBody> {
    let times_ejected = endpoint.outlier().times_ejected();
    match endpoint.outlier().status(now) {
        OutlierStatus::InService if endpoint.outlier().is_held_back() => Some(OutlierBody {
            state: "held_back",
            reason: None,
            remaining_seconds: None,
            successes: None,
            times_ejected,
        }),
        OutlierStatus::InService | OutlierStatus::Removed => None,
        OutlierStatus::Ejected { until, reason } => Some(OutlierBody {
            state: "ejected",
            reason: Some(reason.name()),
            remaining_seconds: Some(until.saturating_sub(now).as_secs_f64()),
            successes: None,
            times_ejected,
        }),
        OutlierStatus::HalfOpen { successes, .. } => Some(OutlierBody {
            state: "half_open",
            reason: None,
            remaining_seconds: None,
            successes: Some(successes),
            times_ejected,
        }),
    }
}

pub(super) async fn clusters(Shared(admin): Shared<Admin>) -> Response {
    let state = Arc::clone(&admin.state);
    // The workers are asked, which blocks.
    let body = tokio::task::spawn_blocking(move || describe(&state)).await;
    match body {
        Ok(body) => pretty(&body),
        Err(_) => pretty(&Clusters { clusters: Vec::new() }),
    }
}

fn describe(state: &State) -> Clusters {
    let views = state.view();
    let (config, clusters) = (state.config.load(), state.clusters.load());
    let snapshot = state.snapshot.load();
    let describe_one = |runtime: &Arc<ClusterRuntime>| {
        let name = runtime.config.name.as_str();
        let of_workers: Vec<_> =
            views.iter().flat_map(|view| &view.clusters).filter(|view| &*view.name == name).collect();
        let say = WorkersSay::new(&of_workers, views.len());
        let resolver = runtime.resolver();
        let found = resolver.endpoints.as_deref().unwrap_or_default();
        let limits = runtime.limits.as_deref();
        let endpoints = runtime.set().map_or_else(Vec::new, |set| {
            set.endpoints()
                .iter()
                .enumerate()
                .map(|(place, endpoint)| EndpointBody {
                    priority: set.priority(place),
                    locality: set.locality(place).map(ToString::to_string),
                    ..describe_endpoint(runtime, endpoint, &say, state.now())
                })
                .collect()
        });
        ClusterBody {
            name: name.to_owned(),
            target: runtime.config.targets.to_string(),
            policy: evenkeel_config::policy_name(runtime.config.balancing.policy).to_owned(),
            settings: settings(&runtime.config),
            routes: routes_to(&config, &snapshot, name),
            pending: of_workers.iter().map(|view| view.pending).sum(),
            subset: subset(runtime.config.subset, &runtime.subset_in_force(), found),
            circuit_breakers: limits
                .and_then(|limits| limits.breaker.as_deref())
                .map_or_else(Vec::new, breakers),
            adaptive_concurrency: limits.and_then(|limits| limits.adaptive.as_deref()).map(adaptive),
            outlier_detection: runtime.outliers.as_ref().map(|detector| DetectionBody {
                out: detector.out(),
                allowed: detector.allowed(),
                held_back: detector.held_back(),
            }),
            further: further(runtime, Uses::of(&config, name), state.now()),
            probes: describe_probes(&of_workers),
            resolver: ResolverBody {
                last_success_age_seconds: resolver.last_success.map(|at| at.elapsed().as_secs_f64()),
                changes: resolver.changes(),
                error: resolver.error.map(|error| error.to_string()),
            },
            groups: groups(&of_workers),
            endpoints,
            removed: removed(&of_workers),
        }
    };
    Clusters { clusters: clusters.iter().map(describe_one).collect() }
}

/// The cluster as GET /config has it, less what is told beside it.
fn settings(config: &Cluster) -> Value {
    let mut written = serde_json::to_value(config).unwrap_or_default();
    if let Some(settings) = written.as_object_mut() {
        settings.retain(|key, _| !["name", "target"].contains(&key.as_str()));
    }
    written
}

fn describe_endpoint(
    runtime: &ClusterRuntime,
    endpoint: &Endpoint,
    say: &WorkersSay<'_>,
    now: Duration,
) -> EndpointBody {
    let address = endpoint.address().to_string();
    let totals = runtime.telemetry.endpoint(&address).totals();
    let outcomes = Code::ALL.iter().zip(totals.calls.handled).filter(|(_, count)| *count > 0);
    EndpointBody {
        weight: endpoint.weight(),
        priority: 0,
        locality: None,
        state: endpoint.connectivity().map_or(Connectivity::Idle.name(), Connectivity::name),
        connections: say.connections(endpoint.address()),
        eligibility: say.eligibility(endpoint.address()),
        withheld: Withheld::ALL
            .into_iter()
            .filter(|reason| endpoint.is_withheld_as(*reason))
            .map(Withheld::name)
            .collect(),
        health: describe_health(runtime, endpoint, now),
        outlier: runtime.outliers.as_ref().and_then(|_| describe_outlier(endpoint, now)),
        load: describe_load(runtime, endpoint, say.of(endpoint.address()), now),
        learned: describe_learned(runtime.config.balancing.policy, endpoint, say.of(endpoint.address()), now),
        in_flight: endpoint.in_flight(),
        circuit_breakers: breakers(endpoint.breaker()),
        outcomes: outcomes.map(|(code, count)| (code.metric_name(), count)).collect(),
        latency_mean_ms: endpoint.mean_latency().map(|mean| mean.as_secs_f64() * 1e3),
        connects_failed: totals.connects_failed,
        disconnections: totals.disconnections,
        resets: totals.resets,
        address,
    }
}
