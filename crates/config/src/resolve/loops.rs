//! Clusters whose calls come back to them: an endpoint is a listener of the same process, whose routes lead to the cluster again.
//!
//! A listener that leads elsewhere is no loop: one may hand some of its calls to another. Nor is one that leads back only calls that do
//! not come to it: a call takes the first route that fits, and is the same on all its way, as far as no route changes its metadata. Only what
//! is sure to go round is refused.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::target::written_targets;
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::{CanarySettings, Destination, Listener, Route, RouteMatch, Share};
use crate::raw::{Field, List, RawCluster};
use crate::target::Target;

/// Reports fixed targets and those with lists that lead calls round.
pub(super) fn check(
    raw: &Field<List<RawCluster>>,
    listeners: &[(Span, Listener)],
    lists: &Lists,
    reports: &mut Reports,
) {
    let targets = listening_targets(raw, listeners, lists);
    // Once for each listener, however many targets it is.
    let mut reached: HashMap<usize, HashSet<&str>> = HashMap::new();
    let mut steps = MAX_STEPS;
    for (cluster, found) in &targets {
        for ListeningTarget { at, target, listener } in found {
            let from_there =
                reached.entry(*listener).or_insert_with(|| reach(*listener, listeners, &targets));
            if from_there.contains(cluster) && comes_back(*listener, cluster, listeners, &targets, &mut steps)
            {
                let fault = Fault::Loop { target: target.clone(), cluster: (*cluster).to_owned() };
                reports.add_related(*at, fault, listeners[*listener].0);
            }
        }
    }
}

/// A target that is a listener.
struct ListeningTarget {
    at: Span,
    /// As it is told: the target, or the endpoint in its list.
    target: String,
    listener: usize,
}

/// The targets that are listeners, by their clusters' names. Those of weight 0 get no calls.
fn listening_targets<'a>(
    raw: &'a Field<List<RawCluster>>,
    listeners: &[(Span, Listener)],
    lists: &Lists,
) -> BTreeMap<&'a str, Vec<ListeningTarget>> {
    let mut found: BTreeMap<&str, Vec<ListeningTarget>> = BTreeMap::new();
    for cluster in raw.given().into_iter().flat_map(|list| &list.value.entries) {
        let Some(name) = cluster.value.name.given() else { continue };
        let found = found.entry(&name.value.0).or_default();
        for (at, target, _) in written_targets(&cluster.value).filter(|(.., has_weight)| *has_weight) {
            for (listener, (_, Listener { address, .. })) in listeners.iter().enumerate() {
                let target = match target {
                    Target::File(path) => {
                        let mut endpoints = lists.endpoints(path).iter().map(|endpoint| &endpoint.address);
                        endpoints.find(|endpoint| address.takes(endpoint)).map(ToString::to_string)
                    }
                    _ => address.answers(target).then(|| target.to_string()),
                };
                found.extend(target.map(|target| ListeningTarget { at, target, listener }));
            }
        }
    }
    found
}

/// The clusters to which calls that this listener takes may come, by other listeners as well, whatever the calls are.
fn reach<'a>(
    listener: usize,
    listeners: &'a [(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
) -> HashSet<&'a str> {
    let mut reached = HashSet::new();
    let (mut to_look_at, mut seen) = (vec![listener], HashSet::from([listener]));
    while let Some(listener) = to_look_at.pop() {
        for cluster in listeners[listener].1.routes.iter().flat_map(clusters) {
            if reached.insert(cluster) {
                let further = targets.get(cluster).into_iter().flatten();
                to_look_at.extend(further.map(|target| target.listener).filter(|next| seen.insert(*next)));
            }
        }
    }
    reached
}

/// Routes that are looked at to find ways round: more than a configuration that people write needs. Of one that needs more, what
/// is found by then is told.
const MAX_STEPS: usize = 50_000;

/// Calls on their way: what they are like, and conditions that they do not meet, as they went past the routes that have them.
#[derive(Clone)]
struct Calls<'a> {
    like: RouteMatch,
    unlike: Vec<&'a RouteMatch>,
    /// Whether they are copies, which have an authority of their own.
    are_copies: bool,
}

impl<'a> Calls<'a> {
    /// Those that a route takes, if there are any.
    fn taken_by(&self, route: &'a Route) -> Option<Self> {
        let conditions = &route.conditions;
        if self.like.is_apart_from(conditions) || self.unlike.iter().any(|unmet| unmet.covers(conditions)) {
            return None;
        }
        Some(Self { like: self.like.and(conditions), ..self.clone() })
    }

    /// As they go on to a cluster: as they are, or as copies.
    fn sent(mut self, as_copies: bool) -> Self {
        if as_copies {
            self.like.authorities.clear();
            self.unlike.retain(|unmet| unmet.authorities.is_empty());
            self.are_copies = true;
        }
        self
    }
}

/// Whether some calls that come to this cluster, whose target is this listener, surely come to it again, by the same route.
fn comes_back(
    listener: usize,
    cluster: &str,
    listeners: &[(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
    steps: &mut usize,
) -> bool {
    for (_, Listener { routes, .. }) in listeners {
        for (index, route) in routes.iter().enumerate() {
            for (_, as_copies) in ways(route).filter(|(name, _)| *name == cluster) {
                let unlike = routes[..index].iter().map(|earlier| &earlier.conditions).collect();
                let calls = Calls { like: route.conditions.clone(), unlike, are_copies: false };
                let start = (listener, calls.sent(as_copies));
                if route.request_metadata.is_empty() && leads_to(route, start, listeners, targets, steps) {
                    return true;
                }
            }
        }
    }
    false
}

/// Whether some of these calls surely come from this listener to the route.
fn leads_to<'a>(
    wanted: &Route,
    start: (usize, Calls<'a>),
    listeners: &'a [(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
    steps: &mut usize,
) -> bool {
    let key = |listener: usize, calls: &Calls<'_>| (listener, calls.like.clone(), calls.are_copies);
    let mut seen = HashSet::from([key(start.0, &start.1)]);
    let mut to_look_at = vec![start];
    while let Some((listener, mut calls)) = to_look_at.pop() {
        for route in &listeners[listener].1.routes {
            let Some(left) = steps.checked_sub(1) else { return false };
            *steps = left;
            let Some(taken) = calls.taken_by(route) else { continue };
            if calls.are_copies && !route.conditions.authorities.is_empty() {
                // Some of them may go this way, or all, or none.
                break;
            }
            if core::ptr::eq(route, wanted) {
                return true;
            }
            // What changes metadata may lead calls elsewhere.
            for (cluster, as_copies) in ways(route).filter(|_| route.request_metadata.is_empty()) {
                let sent = taken.clone().sent(as_copies);
                for ListeningTarget { listener, .. } in targets.get(cluster).into_iter().flatten() {
                    if seen.insert(key(*listener, &sent)) {
                        to_look_at.push((*listener, sent.clone()));
                    }
                }
            }
            if route.conditions.covers(&calls.like) {
                break;
            }
            calls.unlike.push(&route.conditions);
        }
    }
    false
}

/// The clusters that get a route's calls, or copies of them.
fn clusters(route: &Route) -> impl Iterator<Item = &str> {
    ways(route).map(|(cluster, _)| cluster)
}

/// The clusters that get something of a route, each with whether that is copies.
fn ways(route: &Route) -> impl Iterator<Item = (&str, bool)> {
    let Destination { shares, canary, .. } = &route.destination;
    // A canary's weights change.
    let varies = |share: &Share| {
        let versions = |canary: &CanarySettings| [&canary.stable, &canary.canary].contains(&&share.cluster);
        canary.as_deref().is_some_and(versions)
    };
    let shares = shares.iter().filter(move |share| share.weight > 0 || varies(share));
    let mirror = route.mirror.iter().filter(|mirror| mirror.percent.millionths() > 0);
    let copies = mirror.map(|mirror| (mirror.cluster.name.as_str(), true));
    shares.map(|share| (share.cluster.name.as_str(), false)).chain(copies)
}
