//! What can be set about peak_ewma.

use core::time::Duration;

/// How peak_ewma measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeakEwmaConfig {
    /// The time constant of forgetting: after it, 37 % of an observation is left. Default 10 s, as Finagle, linkerd and
    /// Envoy have it; below a millisecond counts as a millisecond.
    pub decay: Duration,
}

impl Default for PeakEwmaConfig {
    fn default() -> Self {
        Self { decay: Duration::from_secs(10) }
    }
}
