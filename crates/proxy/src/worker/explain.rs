//! What the data path decides about a call before an endpoint is chosen: told, not done.
//!
//! Each step is the one that a call takes: what the listener refuses or leaves out, the first route whose conditions hold,
//! the point of a sticky split, the faults that the route injects, what its rate limits hold for the client, and the hash of its
//! key: all by what the client sent, so what the route changes in the request plays no part. No worker is asked: all of it follows from the snapshot and the request. The choice of an endpoint is [`Worker::preview`]'s business,
//! whose balancer does it on a copy of itself.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::limit::Resource;
use evenkeel_balance::{Ask, Connectivity, EndpointSet, Preview, Shares};
use evenkeel_grpc::{Code, Path};
use evenkeel_http2::Fields;
use evenkeel_http2::field::FieldBlock;

use super::Worker;
use super::affinity::KeySource;
use super::attempt::UNWANTED_MAX;
use super::cluster::WorkerCluster;
use super::control::ClusterView;
use super::downstream::{HeaderFields, leave_out, sticky_point};
use super::fault::FaultSeen;
use super::limit::rate::{RateSeen, RouteRateLimit};
use super::metadata::judge;
use super::reply::Refusal;
use super::route::{Asked, Mismatch, Split, joined};
use super::snapshot::{Cluster, Listener};

/// A call that somebody asks about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// `/service/method`.
    pub path: String,
    /// The authority.
    pub authority: String,
    /// The metadata: names in lower case, and values.
    pub metadata: Vec<(String, String)>,
    /// The client's address, where a key may be made of it.
    pub peer: Option<IpAddr>,
}

/// What a listener does with a call.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Why no backend sees it, if none does: the status and its message.
    pub refused: Option<(Code, String)>,
    /// Each route that was looked at, in order, and what kept it from taking the call; the last took it if nothing did.
    pub considered: Vec<Option<Mismatch<'a>>>,
    /// The position of the route that takes the call.
    pub route: Option<usize>,
    /// The point that decides a sticky split; `None` where chance decides.
    pub point: Option<u64>,
    /// The metadata that the point is made of.
    pub point_of: Option<String>,
    /// The faults that the route injects into such calls.
    pub fault: FaultSeen,
    /// What the client sent and the listener lets pass.
    request: FieldBlock,
    fields: Fields,
    peer: Option<IpAddr>,
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        self.request.clear(&mut self.fields.store);
    }
}

/// What the key of a call is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyFound<'a> {
    /// Its source.
    pub source: &'a KeySource,
    /// Its hash; `None` where the client is given a new cookie, whose value chance decides.
    pub hash: Option<u64>,
}

/// Decides about a call as a listener's workers do.
#[must_use]
pub fn decide<'a>(listener: &'a Listener, inquiry: &Inquiry) -> Decision<'a> {
    let mut fields = Fields::new(0);
    let pseudo = [(":path", &inquiry.path), (":authority", &inquiry.authority)];
    let metadata = inquiry.metadata.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in pseudo.into_iter().chain(metadata) {
        fields.block.push_literal(name.as_bytes(), value.as_bytes(), false);
    }
    let mut decision = Decision {
        refused: None,
        considered: Vec::new(),
        route: None,
        point: None,
        point_of: None,
        fault: FaultSeen::default(),
        request: FieldBlock::new(),
        fields,
        peer: inquiry.peer,
    };
    let dropped = match judge(listener.metadata, &mut decision.fields) {
        Ok(dropped) => dropped,
        Err(refusal) => {
            decision.refused = Some(told(refusal));
            return decision;
        }
    };
    let path = match Path::parse(inquiry.path.as_bytes()) {
        Ok(path) => path,
        Err(error) => {
            decision.refused = Some((Code::Unimplemented, format!("malformed method name: {error}")));
            return decision;
        }
    };
    let source = HeaderFields { fields: &decision.fields, dropped };
    let asked = Asked {
        authority: inquiry.authority.as_bytes(),
        whole_path: inquiry.path.as_bytes(),
        path: &path,
        fields: &source,
    };
    decision.route = listener.routes.find(&asked);
    let looked_at = decision.route.map_or(listener.routes.iter().count(), |at| at + 1);
    let routes = listener.routes.iter().take(looked_at);
    decision.considered = routes.map(|route| route.conditions.mismatch(&asked)).collect();
    let Some(route) = decision.route.and_then(|at| listener.routes.get(at)) else {
        decision.refused = Some((Code::Unimplemented, "no route matched".to_owned()));
        return decision;
    };
    decision.point = sticky_point(&route.destination, &source);
    decision.point_of = sticky_value(&route.destination, &source);
    let mut request = core::mem::take(&mut decision.fields.block);
    let fault = route.actions.as_ref().and_then(|actions| actions.fault);
    decision.fault = fault.map(|fault| fault.look(&request, &decision.fields.store)).unwrap_or_default();
    leave_out(&mut request, &mut decision.fields.store, true, dropped);
    decision.request = request;
    decision
}

/// What [`sticky_point`] makes a point of, in words.
fn sticky_value(split: &Split, fields: &HeaderFields<'_>) -> Option<String> {
    let text = |value: &[u8]| (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned());
    split.sticky_by().and_then(|name| joined(fields, name, text))
}

fn told(refusal: Refusal) -> (Code, String) {
    match refusal {
        Refusal::Grpc { code, text, .. } => (code, text),
        Refusal::Malformed(text) => (Code::Internal, text),
        Refusal::NotGrpc | Refusal::NotPost => {
            (Code::Unimplemented, "the request is no gRPC call".to_owned())
        }
    }
}

impl Decision<'_> {
    /// What the call's key is at a cluster; `None` where none is asked for, or the call has none.
    #[must_use]
    pub fn key<'c>(&self, cluster: &'c Cluster) -> Option<KeyFound<'c>> {
        cluster.hash_plan.sources().find_map(|source| {
            let key = source.key(&self.request, &self.fields.store, self.peer, &mut || 0)?;
            let hash = if key.cookie.is_some() { None } else { key.hash };
            Some(KeyFound { source, hash })
        })
    }

    /// Whether the first of these that the call has would be its client's address, which nobody told.
    #[must_use]
    pub fn lacks_peer<'s>(&self, sources: impl Iterator<Item = &'s KeySource>) -> bool {
        let known = |source: &KeySource| {
            source.key(&self.request, &self.fields.store, self.peer, &mut || 0).is_some()
        };
        let mut until_known = sources.take_while(|source| !known(source));
        until_known.any(|source| *source == KeySource::SourceIp)
    }

    /// What a rate limit says of the call, the client's bucket first.
    #[must_use]
    pub fn rates(&self, limit: &RouteRateLimit, now: Duration) -> Vec<RateSeen> {
        limit.look(now, &self.request, &self.fields.store, self.peer)
    }
}

/// A cluster as one worker has it, and what its balancer would pick.
#[derive(Debug)]
pub struct ClusterPreview {
    /// The endpoints' states.
    pub view: ClusterView,
    /// A copy of the balancer.
    pub preview: Preview,
}

impl ClusterPreview {
    /// Which endpoints get how many of so many calls like this. As attempts do, it passes over those whose circuit breakers are
    /// open; that connections may be full is not looked at.
    pub fn shares(&mut self, ask: &Ask, picks: usize) -> Shares {
        self.preview.shares_of_takers(ask, picks, UNWANTED_MAX, |endpoint| {
            !endpoint.breaker().is_open(Resource::Requests)
        })
    }
}

impl WorkerCluster {
    fn preview(&self, seed: u64, now: Duration) -> ClusterPreview {
        ClusterPreview { view: self.view(now), preview: self.balancer.preview(seed) }
    }
}

/// What the only worker of a proxy would pick in a cluster if it had a connection to every endpoint.
#[must_use]
pub fn preview_of_reachable(cluster: &Cluster, now: Duration) -> ClusterPreview {
    let mut owner = WorkerCluster::new(Arc::new(cluster.clone()), 0, 1, 0);
    // Without any endpoints and with a reason for it, calls are told so instead of waiting: as workers do it.
    let none = || cluster.resolve_error.as_ref().map(|_| Arc::new(EndpointSet::new(&[])));
    if let Some(endpoints) = cluster.endpoints.clone().or_else(none) {
        let changes = owner.balancer.update(&endpoints);
        debug_assert!(changes.removed.is_empty(), "it had none before");
    }
    // Ends: each attempt succeeds at once.
    loop {
        while owner.balancer.surplus_connection().is_some() {}
        let Some(slot) = owner.balancer.wants_connection(now) else { break };
        owner.balancer.set_connectivity(slot, Connectivity::Ready, now);
    }
    owner.preview(0, now)
}

impl Worker {
    /// What this worker's balancer of a cluster would pick; O(n) in its endpoints. `None` if it has no such cluster.
    #[must_use]
    pub fn preview(&self, cluster: &str, now: Duration) -> Option<ClusterPreview> {
        let found = self.clusters.iter().find(|one| one.is_configured && *one.settings.name == *cluster)?;
        Some(found.preview(self.config.seed ^ now.as_nanos() as u64, now))
    }
}
