//! Explaining a configuration that no proxy runs: as if every endpoint that it names could be reached.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::EndpointSet;
use evenkeel_config::{Config, SubsetKind};
use evenkeel_discovery::read_all_local;

use super::{Explanation, InquiryError, InquiryFields, Look, explain_with};
use crate::control::canary::Canaries;
use crate::control::clusters::{bound, subset_of};
use crate::control::limits::{RateLimits, cluster_limits};
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
        if let Some(error) = &cluster.resolve_error {
            return Some(format!("its endpoints are not known: {error}"));
        }
        if cluster.endpoints.is_none() {
            return Some("only a name server knows its endpoints: ask a running proxy (--admin)".to_owned());
        }
        Some("as if every endpoint could be reached, and none had a call yet".to_owned())
    }
}

/// Explains what a configuration would do with a call: all of its routes, and of its endpoints those that targets name, or files
/// list that targets name. Reading those blocks.
///
/// # Errors
/// [`InquiryError`]: what is wrong with the question.
pub fn explain_file(config: &Config, asked: &InquiryFields) -> Result<Explanation, InquiryError> {
    let clusters = config.clusters.iter().map(|cluster| Arc::new(as_written(cluster))).collect();
    let snapshot = build(config, clusters, &Canaries::default(), &mut RateLimits::default(), None, 1);
    explain_with(&snapshot, asked, &AllReachable, ("the configuration file", NOW))
}

/// A cluster with the endpoints that can be had without asking anybody, and with its limits, of which nothing is used.
fn as_written(config: &evenkeel_config::Cluster) -> Cluster {
    let limits = cluster_limits(config, None, NOW);
    let cluster = Cluster { limits, ..configured(config) };
    let found = match read_all_local(&config.targets) {
        Some(Ok(found)) => found,
        Some(Err(error)) => return Cluster { resolve_error: Some(error.to_string().into()), ..cluster },
        None => return cluster,
    };
    let used = match config.subset {
        // Which ones a proxy draws at random is not known before it has.
        Some(subset) if subset.kind == SubsetKind::Random => found.to_vec(),
        subset => subset_of(subset, 0).of(&found),
    };
    let set = EndpointSet::of(&used, &config.spread).prepared_for(config.balancing.policy);
    bound(config, &set);
    Cluster { endpoints: Some(Arc::new(set)), ..cluster }
}
