//! Where the endpoints of a canary's two versions come from: what tells whether a cluster still has the version that it had.
//!
//! A cluster's name is no version. Whoever lets a canary's cluster lead to a third version must not have it promoted for what the
//! second one did. Rule: a cluster has another version once its targets have nothing in common with those before: no address,
//! no name, no file. One that grows or shrinks has the same.

use std::collections::HashSet;

use evenkeel_config::{CanarySettings, Config, Destination, Target};
use serde::{Deserialize, Serialize};

/// What a canary's state is of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    stable: String,
    canary: String,
    /// All clusters of its split, in alphabetical order.
    clusters: Vec<String>,
    /// Absent in files of older versions.
    #[serde(default)]
    origins: Origins,
}

/// The targets of both versions, each address of a list apart. Empty: it is not known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Origins {
    stable: Vec<String>,
    canary: Vec<String>,
}

impl Identity {
    pub(super) fn of(config: &Config, destination: &Destination, settings: &CanarySettings) -> Self {
        let mut clusters: Vec<String> =
            destination.shares.iter().map(|share| share.cluster.name.clone()).collect();
        clusters.sort_unstable();
        let of = |position: usize| {
            let targets = config.clusters.get(position).map(|cluster| &cluster.targets);
            targets
                .into_iter()
                .flat_map(|targets| targets.iter())
                .flat_map(|one| parts(&one.target))
                .collect()
        };
        let origins = Origins { stable: of(settings.stable.position), canary: of(settings.canary.position) };
        Self { stable: settings.stable.name.clone(), canary: settings.canary.name.clone(), clusters, origins }
    }

    /// What makes a state that was of this another's than the next canary's. Who is judged is compared with the stable version.
    pub(super) fn changed(&self, next: &Self, is_judged: bool) -> Option<&'static str> {
        if (&self.stable, &self.canary, &self.clusters) != (&next.stable, &next.canary, &next.clusters) {
            Some("the clusters of its split changed")
        } else if is_another(&self.origins.canary, &next.origins.canary) {
            Some("its canary's cluster has another target, so another version")
        } else if is_judged && is_another(&self.origins.stable, &next.origins.stable) {
            Some("its stable cluster has another target, so another version")
        } else {
            None
        }
    }
}

fn is_another(before: &[String], after: &[String]) -> bool {
    let known: HashSet<&String> = before.iter().collect();
    !before.is_empty() && !after.is_empty() && !after.iter().any(|one| known.contains(one))
}

fn parts(target: &Target) -> Vec<String> {
    match target {
        Target::Ip(addresses) => addresses.iter().map(ToString::to_string).collect(),
        other => vec![other.to_string()],
    }
}
