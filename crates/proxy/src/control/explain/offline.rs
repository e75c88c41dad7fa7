//! Explaining a configuration that no proxy runs: as if every endpoint that it names could be reached.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{Address, EndpointSet, EndpointSpec};
use evenkeel_config::{Config, SubsetKind, Target};

use super::{Explanation, InquiryError, InquiryFields, Look, explain_with};
use crate::control::canary::Canaries;
use crate::control::clusters::subset_of;
use crate::control::limits::RateLimits;
use crate::control::snapshot::{build, configured};
use crate::worker::snapshot::Cluster;
use crate::worker::{ClusterPreview, preview_of_reachable};

/// Balancers that are made for the question, each of which has connected to all.
struct AllReachable;

/// When the question is asked: any time does, as nothing has happened yet.
const NOW: Duration = Duration::ZERO;

impl Look for AllReachable {
    fn previews(&self, cluster: &Cluster) -> Vec<ClusterPreview> {
        vec![preview_of_reachable(cluster, NOW)]
    }

    fn note(&self, cluster: &Cluster) -> Option<String> {
        if cluster.endpoints.is_none() {
            return Some("only discovery knows its endpoints: ask a running proxy (--admin)".to_owned());
        }
        Some("as if every endpoint could be reached, and none had a call yet".to_owned())
    }
}

/// Explains what a configuration would do with a call: all of its routes, and of its endpoints those that targets name.
///
/// # Errors
/// [`InquiryError`]: what is wrong with the question.
pub fn explain_file(config: &Config, asked: &InquiryFields) -> Result<Explanation, InquiryError> {
    let cluster = |config: &evenkeel_config::Cluster| {
        let endpoints = listed(&config.target).map(|found| {
            let used = match config.subset {
                // Which ones a proxy draws at random is not known before it has.
                Some(subset) if subset.kind == SubsetKind::Random => found,
                subset => subset_of(subset, 0).of(&found),
            };
            Arc::new(EndpointSet::of(&used, &config.spread).prepared_for(config.balancing.policy))
        });
        Arc::new(Cluster { endpoints, ..configured(config) })
    };
    let clusters = config.clusters.iter().map(cluster).collect();
    let snapshot = build(config, clusters, &Canaries::default(), &mut RateLimits::default(), 1);
    explain_with(&snapshot, asked, &AllReachable, ("the configuration file", NOW))
}

/// The addresses that a target names by itself.
fn listed(target: &Target) -> Option<Vec<EndpointSpec>> {
    match target {
        Target::Ip(addresses) => Some(addresses.iter().map(|one| (Address::Tcp(*one), 1).into()).collect()),
        Target::Unix(path) => Some(vec![(Address::Unix(path.clone()), 1).into()]),
        Target::Dns { .. } | Target::Srv { .. } | Target::File(_) => None,
    }
}
