//! What a canary is configured with.

use core::time::Duration;

use crate::Factor;

/// One step of a canary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The canary's share of the calls of both versions, in percent: 1 to 100.
    pub weight: u8,
    /// How long the step lasts at least. That of a step with weight 100 is not used: there is nothing left to compare with.
    pub duration: Duration,
}

/// How a canary grows, and what sends it back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CanaryConfig {
    /// The steps, with rising weights. After the last the canary gets all calls. Default: 10, 20 and 50 % for 5 minutes
    /// each, then 100 %.
    pub steps: Vec<Step>,
    /// How much larger the canary's share of failed calls may be than the stable version's. Default 0.005: half a percent
    /// of all calls, so that 2 % more failures are told from it by a few thousand calls, and nothing smaller than what
    /// operators call the same is held against a canary.
    pub max_error_increase: Factor,
    /// Which quantile of latency is compared. Default 0.99, as Flagger's `request-duration`.
    pub latency_quantile: Factor,
    /// How much larger that quantile may be, as a share of the stable version's. Default 0.2. Differences below
    /// [`CanaryConfig::MIN_LATENCY_INCREASE`] never count.
    pub max_latency_increase: Factor,
    /// Calls of each version in a step before the next one may begin. Default 500: of versions whose error rates differ by
    /// 2 %, around 1 %, the worse one passes a step by chance in about 2 cases of 100, and three steps in 1 of 100,000.
    pub min_calls: u32,
}

impl CanaryConfig {
    /// Differences in latency below this are not held against a canary, however large they are as a share: the proxy's own
    /// scheduling makes as much.
    pub const MIN_LATENCY_INCREASE: Duration = Duration::from_millis(1);

    /// The probability that a canary no worse than the limits is ever rolled back, over all its steps and both metrics, is at
    /// most this.
    pub const FALSE_ROLLBACKS: f64 = 0.001;

    /// How long each of the default steps lasts.
    pub const STEP_DURATION: Duration = Duration::from_secs(300);

    /// The default steps.
    #[must_use]
    pub fn default_steps() -> Vec<Step> {
        [10, 20, 50, 100].map(|weight| Step { weight, duration: Self::STEP_DURATION }).to_vec()
    }

    /// The probability of a false rollback that one comparison of one step may have.
    pub(super) fn significance(&self) -> f64 {
        let judged = self.steps.iter().filter(|step| step.weight < 100).count().max(1);
        Self::FALSE_ROLLBACKS / (2.0 * judged as f64)
    }
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self {
            steps: Self::default_steps(),
            max_error_increase: Factor::from_thousandths(5),
            latency_quantile: Factor::from_thousandths(990),
            max_latency_increase: Factor::from_thousandths(200),
            min_calls: 500,
        }
    }
}
