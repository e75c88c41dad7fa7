//! Clusters whose calls come back to them: an endpoint is a listener of the same process, whose routes lead to the cluster again.
//!
//! A listener that leads elsewhere is no loop: one may hand some of its calls to another.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::target::written_targets;
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::Listener;
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
            if from_there.contains(cluster) {
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

/// The clusters to which calls that this listener takes may come, by other listeners as well.
fn reach<'a>(
    listener: usize,
    listeners: &'a [(Span, Listener)],
    targets: &BTreeMap<&str, Vec<ListeningTarget>>,
) -> HashSet<&'a str> {
    let mut reached = HashSet::new();
    let (mut to_look_at, mut seen) = (vec![listener], HashSet::from([listener]));
    while let Some(listener) = to_look_at.pop() {
        for route in &listeners[listener].1.routes {
            let shares = route.destination.shares.iter().map(|share| &share.cluster);
            for cluster in shares.chain(route.mirror.iter().map(|mirror| &mirror.cluster)) {
                if reached.insert(cluster.name.as_str()) {
                    let further = targets.get(cluster.name.as_str()).into_iter().flatten();
                    to_look_at
                        .extend(further.map(|target| target.listener).filter(|next| seen.insert(*next)));
                }
            }
        }
    }
    reached
}
