//! Where the endpoints of a canary's two versions come from: what tells whether a cluster still has the version that it had.
//!
//! A cluster's name is no version. Whoever lets a canary's cluster lead to a third version must not have it promoted for what the
//! second one did. Rule: a cluster has another version once its targets have nothing in common with those before: no address,
//! no name, no file. One that grows or shrinks has the same.

use std::collections::HashSet;

use evenkeel_config::{CanarySettings, Config, Target};
use serde::{Deserialize, Serialize};

/// The targets of both versions, each address of a list apart. Empty: it is not known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Origins {
    stable: Vec<String>,
    canary: Vec<String>,
}

impl Origins {
    pub(super) fn of(config: &Config, settings: &CanarySettings) -> Self {
        let of = |position: usize| {
            let targets = config.clusters.get(position).map(|cluster| &cluster.targets);
            targets
                .into_iter()
                .flat_map(|targets| targets.iter())
                .flat_map(|one| parts(&one.target))
                .collect()
        };
        Self { stable: of(settings.stable.position), canary: of(settings.canary.position) }
    }

    /// What makes the state of a canary one of other versions than these. Who is judged is compared with the stable version.
    pub(super) fn changed(&self, next: &Self, is_judged: bool) -> Option<&'static str> {
        if is_another(&self.canary, &next.canary) {
            Some("its canary's cluster has another target, so another version")
        } else if is_judged && is_another(&self.stable, &next.stable) {
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
