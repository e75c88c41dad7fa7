//! What can be set about weights by reported load.

use core::time::Duration;

use crate::factor::Factor;

/// How weights follow from reported load; names and defaults are gRFC A58's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadWeightConfig {
    /// For how long reports must have come in until an endpoint's weight is used; begins anew when the endpoint becomes
    /// ready, and after an expiry. Keeps a weight from following the first seconds of a process. Default 10 s.
    pub blackout_period: Duration,
    /// A weight without a new report for this long is not used any more. Default 3 min.
    pub weight_expiration_period: Duration,
    /// How often each endpoint's place in the rotation is brought up to date. Default 1 s; below
    /// [`LoadWeightConfig::MIN_UPDATE_PERIOD`] counts as that.
    pub weight_update_period: Duration,
    /// How much an error counts: the share of calls that fail, times this, is added to the utilization. Default 1.
    pub error_utilization_penalty: Factor,
    /// Which reports count. Default: those that come with calls.
    pub source: LoadSource,
}

/// Where the reports come from that weights follow. The two kinds tell of different spans of time, so that those of the other kind
/// are not taken (gRFC A58).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LoadSource {
    /// From the ends of calls: [`CallReport::load`](crate::CallReport::load).
    #[default]
    Calls,
    /// From a stream apart from calls (gRFC A51): [`Endpoint::note_load`](crate::Endpoint::note_load).
    OutOfBand {
        /// How often the endpoint is asked to report. gRFC A58's default is 10 s; a server may have a longer least interval.
        period: Duration,
    },
}

impl LoadWeightConfig {
    /// The shortest update period.
    pub const MIN_UPDATE_PERIOD: Duration = Duration::from_millis(100);

    pub(super) fn update_period(&self) -> Duration {
        self.weight_update_period.max(Self::MIN_UPDATE_PERIOD)
    }
}

impl Default for LoadWeightConfig {
    fn default() -> Self {
        Self {
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_secs(180),
            weight_update_period: Duration::from_secs(1),
            error_utilization_penalty: Factor::ONE,
            source: LoadSource::default(),
        }
    }
}
