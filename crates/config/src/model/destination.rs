//! Where a route's calls go: one cluster, or several by weight.

use serde::Serialize;

use super::{CanarySettings, ClusterRef};

/// Where a route's calls go.
///
/// A split is *sticky* if a field of the metadata decides: calls with the same value go to the same cluster, and when
/// weights change only as many values move as must.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destination {
    /// The clusters: at least one, at most [`MAX_SHARES`](crate::bounds::MAX_SHARES), no two the same, not all of weight 0.
    pub shares: Vec<Share>,
    /// The field whose value decides; `None`, the default: chance does. A call without the field goes by chance.
    pub sticky_by: Option<String>,
    /// A canary among them. `None`, the default: the weights stay as they are.
    pub canary: Option<Box<CanarySettings>>,
}

/// One cluster of a destination.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Share {
    /// The cluster.
    pub cluster: ClusterRef,
    /// Its part of the sum of all weights. 0 to 1,000,000, see [`SHARE_WEIGHT`](crate::bounds::SHARE_WEIGHT).
    pub weight: u32,
}

impl Destination {
    /// All calls to one cluster.
    #[must_use]
    pub fn of(cluster: ClusterRef) -> Self {
        Self { shares: vec![Share { cluster, weight: 1 }], sticky_by: None, canary: None }
    }

    /// The cluster that takes all calls; `None` if there are several.
    #[must_use]
    pub fn only(&self) -> Option<&ClusterRef> {
        match &self.shares[..] {
            [share] => Some(&share.cluster),
            _ => None,
        }
    }
}
