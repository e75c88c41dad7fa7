//! Clusters whose calls come back to them: an endpoint is a listener of the same process, whose routes lead to the cluster again.
//!
//! A listener that leads elsewhere is no loop: one may hand some of its calls to another. Nor is one that leads back only calls that do
//! not come to it: a call has one path on all its way, and takes the first route that fits. Metadata may change on the way.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::target::written_targets;
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::{Destination, Listener, Route, RouteMatch};
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
    for (cluster, found) in &targets {
        for ListeningTarget { at, target, listener } in found {
            let from_there =
                reached.entry(*listener).or_insert_with(|| reach(*listener, listeners, &targets));
            if from_there.contains(cluster) && comes_back(*listener, cluster, listeners, &targets) {
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
    follow((listener, None), listeners, targets, |_, cluster| {
        reached.insert(cluster);
    });
    reached
}

/// Whether calls that come to this cluster, whose target is this listener, come to it again.
fn comes_back(
    listener: usize,
    cluster: &str,
    listeners: &[(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
) -> bool {
    let routes = listeners.iter().flat_map(|(_, listener)| &listener.routes);
    routes.filter(|route| clusters(route).any(|name| name == cluster)).any(|route| {
        let mut is_back = false;
        let calls = Some(route.conditions.clone());
        follow((listener, calls), listeners, targets, |other, _| is_back |= core::ptr::eq(other, route));
        is_back
    })
}

/// Follows calls such as these, or any, from a listener on: tells each route that some of them take, with each cluster that it leads
/// them to.
fn follow<'a>(
    start: (usize, Option<RouteMatch>),
    listeners: &'a [(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
    mut tell: impl FnMut(&'a Route, &'a str),
) {
    let path = |calls: &Option<RouteMatch>| calls.as_ref().map(|calls| calls.path.clone());
    let mut seen = HashSet::from([(start.0, path(&start.1))]);
    let mut to_look_at = vec![start];
    while let Some((listener, calls)) = to_look_at.pop() {
        for route in &listeners[listener].1.routes {
            let Some((taken, is_all)) = take(route, calls.as_ref()) else { continue };
            for cluster in clusters(route) {
                tell(route, cluster);
                for ListeningTarget { listener, .. } in targets.get(cluster).into_iter().flatten() {
                    if seen.insert((*listener, path(&taken))) {
                        to_look_at.push((*listener, taken.clone()));
                    }
                }
            }
            if is_all {
                break;
            }
        }
    }
}

/// Which of these calls a route takes, and whether none is left for the routes behind it; `None` if it takes none.
fn take(route: &Route, calls: Option<&RouteMatch>) -> Option<(Option<RouteMatch>, bool)> {
    let Some(calls) = calls else { return Some((None, false)) };
    let path = &route.conditions.path;
    if path.is_apart_from(&calls.path) {
        return None;
    }
    let mut taken = calls.clone();
    if calls.path.covers(path) {
        taken.path = path.clone();
    }
    Some((Some(taken), route.conditions.covers(calls)))
}

/// The clusters that get a route's calls, or copies of them.
fn clusters(route: &Route) -> impl Iterator<Item = &str> {
    let Destination { shares, canary, .. } = &route.destination;
    // A canary's weights change.
    let shares =
        shares.iter().filter(|share| share.weight > 0 || canary.is_some()).map(|share| &share.cluster);
    let mirror =
        route.mirror.iter().filter(|mirror| mirror.percent.millionths() > 0).map(|mirror| &mirror.cluster);
    shares.chain(mirror).map(|cluster| cluster.name.as_str())
}
