//! Explaining a call: which route, cluster, group and endpoint it would get, which limits it would meet, and why.
//!
//! What is told is found by the data path's own code: [`decide`] takes a call's steps up to its cluster, and the balancers of
//! the workers pick on copies of themselves ([`Preview`]). Nothing is sent, counted or changed.
//!
//! A running proxy answers for the state that it is in. A configuration file is explained as if every endpoint that it names
//! could be reached, and nothing had been limited yet; those that only name servers know are not known then.
//!
//! [`decide`]: crate::worker::decide
//! [`Preview`]: evenkeel_balance::Preview

mod answer;
mod groups;
mod inquiry;
mod limits;
mod offline;
mod pick;
#[cfg(test)]
mod tests;

use core::time::Duration;

use crate::worker::snapshot::{Cluster, Listener, Snapshot};
use crate::worker::{ClusterPreview, Decision, decide};

use super::state::State;

pub use answer::Explanation;
pub use inquiry::{InquiryError, InquiryFields, METADATA_MAX};
pub use offline::explain_file;

/// How a cluster is looked at.
trait Look {
    /// What each worker's balancer of the cluster says.
    fn previews(&self, cluster: &Cluster) -> Vec<ClusterPreview>;

    /// What is to be known about the cluster's endpoints besides.
    fn note(&self, cluster: &Cluster) -> Option<String>;
}

/// The workers of a running proxy.
struct Running<'a>(&'a State);

impl Look for Running<'_> {
    fn previews(&self, cluster: &Cluster) -> Vec<ClusterPreview> {
        self.0.threads.preview(&cluster.name)
    }

    fn note(&self, cluster: &Cluster) -> Option<String> {
        let error = cluster.resolve_error.as_deref()?;
        Some(format!("discovery fails: {error}"))
    }
}

/// Explains what a running proxy would do with a call now. Blocks for as long as its workers take to answer, two seconds at
/// most for each cluster.
///
/// # Errors
/// [`InquiryError`]: what is wrong with the question.
pub(super) fn explain(state: &State, asked: &InquiryFields) -> Result<Explanation, InquiryError> {
    let snapshot = state.snapshot.load_full();
    explain_with(&snapshot, asked, &Running(state), ("the running proxy", state.now()))
}

fn explain_with(
    snapshot: &Snapshot,
    asked: &InquiryFields,
    look: &dyn Look,
    (source, now): (&'static str, Duration),
) -> Result<Explanation, InquiryError> {
    let inquiry = asked.checked()?;
    let names =
        || -> Vec<String> { snapshot.listeners.iter().map(|listener| listener.name.to_string()).collect() };
    let listener = match &asked.listener {
        None => snapshot.listeners.first(),
        Some(name) => snapshot.listeners.iter().find(|listener| *listener.name == **name),
    };
    let listener = listener.ok_or_else(|| InquiryError::NoListener {
        name: asked.listener.clone().unwrap_or_default(),
        known: names(),
    })?;
    let decision = decide(listener, &inquiry);
    let mut explanation = Explanation::new(source, &inquiry, listener, &decision, |cluster| {
        snapshot.clusters[cluster].name.to_string()
    });
    explanation.other_listeners = names().into_iter().filter(|name| **name != *listener.name).collect();
    let rate_limit =
        decision.route.and_then(|at| listener.routes.get(at)?.actions.as_ref()?.rate_limit.as_ref());
    if let Some(of) = lacking_peer(snapshot, listener, &decision) {
        return Err(InquiryError::NoPeer { of });
    }
    if let Some(limit) = rate_limit {
        explanation.meets(limits::of_route(&decision, limit, now));
    }
    if let Some(code) = decision.fault.answer() {
        // No endpoint is chosen for a call that is answered on purpose.
        explanation.is_answered_with(code);
        return Ok(explanation);
    }
    let shares = chosen(listener, &decision);
    explanation.clusters = shares
        .into_iter()
        .map(|(cluster, percent)| {
            let settings = &snapshot.clusters[cluster];
            let (previews, note) = (look.previews(settings), look.note(settings));
            pick::explain_cluster(settings, percent, &decision, previews, note, now)
        })
        .collect();
    Ok(explanation)
}

/// What is made of the client's address, if nobody told it: clients on a Unix socket have none.
fn lacking_peer(snapshot: &Snapshot, listener: &Listener, decision: &Decision<'_>) -> Option<String> {
    if listener.name.starts_with("unix:") {
        return None;
    }
    let route = decision.route.and_then(|at| listener.routes.get(at))?;
    let rate_limit = route.actions.as_ref().and_then(|actions| actions.rate_limit.as_ref());
    let clients = rate_limit.and_then(|limit| limit.clients.as_ref());
    if clients.is_some_and(|clients| decision.lacks_peer(clients.by.iter())) {
        return Some("what tells clients apart under the route's rate limit".to_owned());
    }
    if decision.fault.answer().is_some() {
        return None;
    }
    let mut clusters = chosen(listener, decision).into_iter().map(|(cluster, _)| &snapshot.clusters[cluster]);
    let lacking = clusters.find(|cluster| decision.lacks_peer(cluster.hash_plan.sources()))?;
    Some(format!("the call's key at cluster {}", lacking.name))
}

/// The clusters that may get the call, each with its part of such calls in percent.
fn chosen(listener: &Listener, decision: &Decision<'_>) -> Vec<(usize, f64)> {
    let Some(route) = decision.route.and_then(|at| listener.routes.get(at)) else { return Vec::new() };
    let split = &route.destination;
    if let Some(only) = split.only() {
        return vec![(only, 100.0)];
    }
    if let Some(point) = decision.point {
        return vec![(split.choose(point), 100.0)];
    }
    let sum: u64 = split.weights().map(|(_, weight)| weight).sum();
    if sum == 0 {
        return vec![(split.choose(0), 100.0)];
    }
    let percent = |(cluster, weight)| (cluster, 100.0 * weight as f64 / sum as f64);
    split.weights().filter(|(_, weight)| *weight > 0).map(percent).collect()
}
