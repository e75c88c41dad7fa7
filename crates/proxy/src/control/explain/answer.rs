//! The answer, as it is written in JSON.

use core::time::Duration;

use evenkeel_balance::canary::Version;
use evenkeel_balance::limit::Rejection;
use evenkeel_grpc::Code;
use serde::Serialize;

use super::groups::ExplainedGroup;
use super::limits::LimitBody;
use crate::control::admin::{BreakerBody, EligibilityBody};
use crate::worker::snapshot::Listener;
use crate::worker::{ABORT_TEXT, Decision, FaultSeen, Inquiry};

/// What a call would meet, and why. Serializes to the answer of `GET /explain`.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What was asked: the running proxy, or a file.
    source: &'static str,
    method: String,
    authority: String,
    headers: Vec<(String, String)>,
    peer_ip: Option<String>,
    listener: String,
    /// Listeners that were not asked about.
    pub(super) other_listeners: Vec<String>,
    /// Why no backend sees the call; absent if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedBody>,
    /// Every route that was looked at, in order.
    routes: Vec<RouteBody>,
    /// The faults that the route injects into such calls; absent without any.
    #[serde(skip_serializing_if = "FaultsBody::is_empty")]
    faults: FaultsBody,
    /// The rate limits of the route, in the order in which the call meets them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitBody>,
    /// How the cluster is chosen; absent where the route has but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    split: Option<SplitBody>,
    /// Where copies go.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<MirrorBody>,
    /// The clusters that may get the call.
    pub(super) clusters: Vec<ClusterBody>,
}

/// Why no backend sees the call.
#[derive(Debug, Serialize)]
pub(super) struct RefusedBody {
    status: &'static str,
    message: String,
}

/// Faults that are injected on purpose.
#[derive(Debug, Default, Serialize)]
pub(super) struct FaultsBody {
    /// Calls that wait before they go to a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<DelayBody>,
    /// Calls that are answered without a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    abort: Option<AbortBody>,
}

#[derive(Debug, Serialize)]
struct DelayBody {
    millis: u64,
    percent: f64,
}

#[derive(Debug, Serialize)]
struct AbortBody {
    status: &'static str,
    percent: f64,
}

impl FaultsBody {
    fn of(seen: &FaultSeen) -> Self {
        let percent = |part: u32| f64::from(part) / 10_000.0;
        Self {
            // An hour at most.
            delay: seen
                .delay
                .map(|(delay, part)| DelayBody { millis: delay.as_millis() as u64, percent: percent(part) }),
            abort: seen
                .abort
                .map(|(code, part)| AbortBody { status: code.metric_name(), percent: percent(part) }),
        }
    }

    fn is_empty(&self) -> bool {
        self.delay.is_none() && self.abort.is_none()
    }
}

/// A route that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct RouteBody {
    /// Its place in the listener's list, from 0.
    number: usize,
    /// Its clusters.
    to: Vec<String>,
    matched: bool,
    /// The first condition that does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// How the cluster is chosen.
#[derive(Debug, Serialize)]
pub(super) struct SplitBody {
    /// The metadata that decides, if the split is sticky.
    sticky_by: Option<String>,
    /// The call's value of it.
    key: Option<String>,
    /// What the key decides; absent where chance does.
    chosen: Option<String>,
    shares: Vec<SplitShare>,
}

/// A cluster of a split.
#[derive(Debug, Serialize)]
pub(super) struct SplitShare {
    cluster: String,
    /// As configured; absent of a split with a canary, whose weights change while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u64>,
    percent: f64,
    /// `stable` or `canary`, if the split has a canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
}

/// Where copies go.
#[derive(Debug, Serialize)]
pub(super) struct MirrorBody {
    cluster: String,
    percent: f64,
}

/// A cluster that may get the call.
#[derive(Debug, Serialize)]
pub(super) struct ClusterBody {
    pub(super) name: String,
    /// The part of such calls that it gets.
    pub(super) percent: f64,
    pub(super) policy: String,
    /// What the call's key is made of, under a policy that hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_hash: Option<String>,
    /// The endpoint that the key belongs to, whether or not it can take the call; absent where workers differ, as their calls
    /// land in different priorities or localities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_endpoint: Option<String>,
    /// What becomes of the call if that endpoint cannot take it, under a policy that hashes: `rehash` or `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) when_unavailable: Option<&'static str>,
    /// The endpoint that gets the call, where nothing is left to chance.
    pub(super) endpoint: Option<String>,
    /// The outcome in a sentence.
    pub(super) outcome: String,
    /// Something about its endpoints that is to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    /// The limits that its attempts meet, in their order.
    pub(super) limits: Vec<LimitBody>,
    /// Its priorities and localities; absent where there is but one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<ExplainedGroup>,
    pub(super) endpoints: Vec<EndpointBody>,
}

/// An endpoint of a cluster.
#[derive(Debug, Serialize)]
pub(super) struct EndpointBody {
    pub(super) address: String,
    pub(super) priority: u8,
    /// Where it runs; absent where nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locality: Option<String>,
    /// The part of the cluster's calls like this that it would get now.
    pub(super) percent: f64,
    pub(super) in_flight: u32,
    pub(super) weight: u32,
    /// The bounds of its circuit breaker; one that is open is passed over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) circuit_breakers: Vec<BreakerBody>,
    #[serde(flatten)]
    pub(super) eligibility: EligibilityBody,
}

impl Explanation {
    /// What was decided before an endpoint is chosen. `name` gives a cluster's name by its position.
    pub(super) fn new(
        source: &'static str,
        inquiry: &Inquiry,
        listener: &Listener,
        decision: &Decision<'_>,
        name: impl Fn(usize) -> String,
    ) -> Self {
        let looked_at = decision.considered.iter().zip(listener.routes.iter()).enumerate();
        let routes = looked_at.map(|(number, (mismatch, route))| RouteBody {
            number,
            to: route.destination.weights().map(|(cluster, _)| name(cluster)).collect(),
            matched: mismatch.is_none(),
            why: mismatch.as_ref().map(ToString::to_string),
        });
        let refused = decision.refused.clone();
        let route = decision.route.and_then(|at| listener.routes.get(at));
        let mirror = route.and_then(|route| route.actions.as_ref()?.mirror);
        Self {
            source,
            method: inquiry.path.clone(),
            authority: inquiry.authority.clone(),
            headers: inquiry.metadata.clone(),
            peer_ip: inquiry.peer.map(|peer| peer.to_string()),
            listener: listener.name.to_string(),
            other_listeners: Vec::new(),
            refused: refused.map(|(code, message)| RefusedBody { status: code.metric_name(), message }),
            routes: routes.collect(),
            faults: FaultsBody::of(&decision.fault),
            limits: Vec::new(),
            split: route.and_then(|route| split(&route.destination, decision, &name)),
            mirror: mirror.map(|mirror| MirrorBody {
                cluster: name(mirror.cluster),
                percent: f64::from(mirror.part) / 10_000.0,
            }),
            clusters: Vec::new(),
        }
    }

    /// Adds the rate limits that the call meets. One that does not let it through is why no backend sees it.
    pub(super) fn meets(&mut self, limits: Vec<LimitBody>) {
        if self.refused.is_none() && limits.iter().any(|limit| !limit.passes) {
            let rejection = Rejection::RateLimited { retry_after: Duration::ZERO };
            let (status, message) = (rejection.code().metric_name(), rejection.to_string());
            self.refused = Some(RefusedBody { status, message });
        }
        self.limits = limits;
    }

    /// Adds that each such call is answered with this status on purpose. A limit that does not let it through comes first.
    pub(super) fn is_answered_with(&mut self, code: Code) {
        let refused = RefusedBody { status: code.metric_name(), message: ABORT_TEXT.to_owned() };
        self.refused.get_or_insert(refused);
    }
}

fn split(
    split: &crate::worker::route::Split,
    decision: &Decision<'_>,
    name: &impl Fn(usize) -> String,
) -> Option<SplitBody> {
    if split.only().is_some() {
        return None;
    }
    let sum: u64 = split.weights().map(|(_, weight)| weight).sum();
    let has_canary = split.weights().any(|(cluster, _)| split.version_of(cluster).is_some());
    let share = |(cluster, weight)| SplitShare {
        cluster: name(cluster),
        weight: (!has_canary).then_some(weight),
        percent: 100.0 * weight as f64 / sum.max(1) as f64,
        version: split.version_of(cluster).map(|version| match version {
            Version::Stable => "stable",
            Version::Canary => "canary",
        }),
    };
    Some(SplitBody {
        sticky_by: split.sticky_by().map(|name| String::from_utf8_lossy(name).into_owned()),
        key: decision.point_of.clone(),
        chosen: decision.point.map(|point| name(split.choose(point))),
        shares: split.weights().map(share).collect(),
    })
}
