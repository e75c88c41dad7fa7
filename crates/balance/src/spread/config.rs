//! What decides how calls are spread over priorities and localities.

use std::sync::Arc;

use crate::locality::Locality;

/// How a cluster's calls are spread over groups of its endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpreadConfig {
    /// How many times its calls a group can bear.
    pub overprovisioning: Overprovisioning,
    /// What happens when few endpoints are available.
    pub panic: PanicMode,
    /// How calls are spread over the localities of a priority.
    pub localities: Localities,
}

/// What happens when so few of a priority's endpoints are available that this is hard to believe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PanicMode {
    /// Panic begins below this percentage of available endpoints. 0, the default here: never. Envoy's default is 50, and the
    /// proxy's. More than 100 counts as 100.
    pub threshold: u8,
    /// Whether calls fail then, rather than go to all endpoints. Default false.
    pub fails: bool,
}

/// How calls are spread over the localities of a priority. Default: they are not looked at, and the endpoints of a priority
/// are all alike.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Localities {
    /// By no rule: the policy chooses among all endpoints of a priority.
    #[default]
    Alike,
    /// By these weights; a locality that is not listed has weight 1, and one of weight 0 gets no calls.
    Weighted(Arc<[(Locality, u32)]>),
    /// As many as possible in this proxy's own locality.
    ZoneAware(ZoneAware),
}

/// Where this proxy and its like run, and when that matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneAware {
    /// Where this proxy runs.
    pub own: Locality,
    /// A priority with fewer ready endpoints is not zone-aware: a few endpoints are not spread over zones evenly enough.
    /// Envoy's default, and the proxy's: 6.
    pub min_cluster_size: u32,
    /// Percentage of the calls to which the rule applies; the others go to all zones in proportion. Default 100; more counts
    /// as 100.
    pub routing_enabled: u8,
    /// How many proxies there are in each locality, or numbers in that proportion. Default empty: as many in each locality
    /// that has endpoints. A locality that is not listed in a list that is not empty has none, but for `own`: this proxy.
    pub proxies: Arc<[(Locality, u32)]>,
}

/// How many times its calls a group can bear, in percent: 100 to 1,000. Default 140, Envoy's: with 72 % of the endpoints there
/// is still enough for all calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overprovisioning(u16);

impl Overprovisioning {
    /// The factor in percent.
    #[must_use]
    pub fn percent(self) -> u16 {
        self.0
    }
}

impl Default for Overprovisioning {
    fn default() -> Self {
        Self(140)
    }
}

impl TryFrom<u16> for Overprovisioning {
    type Error = OverprovisioningError;

    fn try_from(percent: u16) -> Result<Self, OverprovisioningError> {
        if (100..=1_000).contains(&percent) {
            Ok(Self(percent))
        } else {
            Err(OverprovisioningError { percent })
        }
    }
}

/// A number that is no [`Overprovisioning`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an overprovisioning factor of {percent} % is out of range: give one from 100 % to 1000 %")]
pub struct OverprovisioningError {
    /// The percentage given.
    pub percent: u16,
}
