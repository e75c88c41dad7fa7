//! What can be set about prequal.

use core::time::Duration;

use crate::factor::Factor;

/// Where the answers to probes come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ProbeSource {
    /// The endpoints; while they do not answer, the proxy itself.
    #[default]
    Endpoints,
    /// The proxy itself: its own calls in flight and latencies. No probe is sent.
    Own,
}

/// Prequal's parameters. The defaults are the paper's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrequalConfig {
    /// Probes per call; may be a fraction. Default 3. Below 1 the tail of the latency suffers (the paper's figure 8).
    pub probes_per_call: Factor,
    /// Probes that the pool holds. Default 16; from 2 to [`PrequalConfig::MAX_POOL_SIZE`], values outside count as the
    /// nearest.
    pub pool_size: usize,
    /// How old a probe gets. Default 1 s.
    pub max_age: Duration,
    /// How long an answer is waited for. Default 3 ms.
    pub probe_timeout: Duration,
    /// Probes taken out of the pool per call, lest it degrade. Default 1.
    pub removals_per_call: Factor,
    /// How much more often probes may be used than would just keep the pool full; `delta` in the paper. Default 1.
    pub reuse_delta: Factor,
    /// The quantile of the recent RIFs above which an endpoint is hot. 0 means that RIF alone decides, 1 and above latency
    /// alone. Default 0.841, the paper's 2^-0.25; it found 0.6 to 0.9 good.
    pub rif_quantile: Factor,
    /// Where answers come from. Default: the endpoints.
    pub source: ProbeSource,
    /// How often endpoints are asked to report on a stream apart from calls besides (ORCA, gRFC A51), to
    /// [`Endpoint::report`](crate::Endpoint::report); that is the driver's work. Best well below `max_age`. Default: they are not.
    pub report_period: Option<Duration>,
    /// While there are no calls, a probe is sent this often, so that the first call after a pause finds a pool. Default:
    /// none is sent.
    pub idle_interval: Option<Duration>,
}

impl PrequalConfig {
    /// The largest pool: each call looks through all of it.
    pub const MAX_POOL_SIZE: usize = 64;

    pub(super) fn pool_size(&self) -> usize {
        self.pool_size.clamp(2, Self::MAX_POOL_SIZE)
    }
}

impl Default for PrequalConfig {
    fn default() -> Self {
        Self {
            probes_per_call: Factor::from_thousandths(3_000),
            pool_size: 16,
            max_age: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(3),
            removals_per_call: Factor::ONE,
            reuse_delta: Factor::ONE,
            rif_quantile: Factor::from_thousandths(841),
            source: ProbeSource::Endpoints,
            report_period: None,
            idle_interval: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_papers() {
        let config = PrequalConfig::default();
        assert_eq!(config.probes_per_call.get(), 3.0);
        assert_eq!((config.pool_size(), config.max_age), (16, Duration::from_secs(1)));
        assert_eq!(config.probe_timeout, Duration::from_millis(3));
        assert_eq!((config.removals_per_call.get(), config.reuse_delta.get()), (1.0, 1.0));
        let quantile = 2.0_f64.powf(-0.25);
        assert!((config.rif_quantile.get() - quantile).abs() < 0.000_5, "to a thousandth");
        assert_eq!((config.source, config.idle_interval), (ProbeSource::Endpoints, None));
        assert_eq!(config.report_period, None);
    }

    #[test]
    fn a_pool_holds_two_at_least_and_64_at_most() {
        let size = |pool_size| PrequalConfig { pool_size, ..PrequalConfig::default() }.pool_size();
        assert_eq!([0, 1, 2, 64, 65, usize::MAX].map(size), [2, 2, 2, 64, 64, 64]);
    }
}
