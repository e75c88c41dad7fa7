//! The comparison of both versions over one window.
//!
//! **Errors**: the share of calls that failed, with a margin of [`CanaryConfig::max_error_increase`].
//!
//! **Latency**: let `T` be the stable version's quantile. The share of its calls above `T` is about `1 - quantile`. Let
//! `L = T (1 + max_latency_increase)`, at least `T` and a millisecond, rounded up to the bound of its bucket. If the
//! canary's quantile is at most `L`, then the share of the canary's calls above `L` is no larger than the stable version's
//! above `T`; so these shares are compared, without a margin (a quantile test: Conover, "Practical Nonparametric
//! Statistics", section 3.5). Unlike a comparison of two quantiles it needs no assumption about how latencies are spread.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::CanaryConfig;
use super::counts::Window;
use super::evidence::{Share, evidence, needed};
use super::latency::{bucket, upper_bound};

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The share of calls that failed.
    Errors,
    /// The share of slow calls.
    Latency {
        /// The stable version's quantile.
        stable: Duration,
        /// Above this the canary's calls are slow.
        limit: Duration,
        /// The canary's quantile; `None` beyond what is measured.
        canary: Option<Duration>,
    },
}

/// What a comparison says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The canary looks no worse than it may be.
    Fine,
    /// It looks worse, and chance may have done that.
    Suspicious,
    /// It is worse.
    Worse,
}

/// One comparison, with its numbers.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared.
    pub metric: Metric,
    /// Calls of the stable version that were hit.
    pub stable: Share,
    /// Calls of the canary that were hit.
    pub canary: Share,
    /// The evidence that the canary is worse, in nats.
    pub evidence: f64,
    /// The evidence that proves it.
    pub needed: f64,
    /// What follows.
    pub finding: Finding,
}

impl Comparison {
    fn new(metric: Metric, stable: Share, canary: Share, margin: f64, alpha: f64) -> Self {
        let (evidence, needed) = (evidence(stable, canary, margin), needed(stable, canary, alpha));
        let finding = if evidence >= needed {
            Finding::Worse
        } else if canary.rate() > stable.rate() + margin {
            Finding::Suspicious
        } else {
            Finding::Fine
        };
        Self { metric, stable, canary, evidence, needed, finding }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { metric, stable, canary, evidence, needed, .. } = self;
        let (of_canary, of_stable) = (canary.rate() * 100.0, stable.rate() * 100.0);
        match metric {
            Metric::Errors => {
                let Share { hits, of } = canary;
                write!(f, "errors: canary {of_canary:.2} % ({hits} of {of} calls), ")?;
                write!(f, "stable {of_stable:.2} % ({} of {})", stable.hits, stable.of)?;
            }
            Metric::Latency { stable: quantile, limit, canary: of_calls } => {
                let Share { hits, of } = canary;
                write!(f, "latency: canary {of_canary:.2} % above {limit:?} ({hits} of {of} calls")?;
                if let Some(quantile) = of_calls {
                    write!(f, ", quantile {quantile:?}")?;
                }
                write!(
                    f,
                    "), stable {of_stable:.2} % above {quantile:?} ({} of {})",
                    stable.hits, stable.of
                )?;
            }
        }
        write!(f, "; evidence {evidence:.1} of {needed:.1}")
    }
}

/// What a window says.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judgement {
    /// The comparisons that can be made: of errors, and of latency where there are any.
    pub comparisons: Vec<Comparison>,
    /// Whether each version had as many calls as it must have.
    pub has_enough_calls: bool,
}

impl Judgement {
    /// The comparison that shows that the canary is worse.
    #[must_use]
    pub fn worse(&self) -> Option<&Comparison> {
        self.comparisons.iter().find(|comparison| comparison.finding == Finding::Worse)
    }

    /// Whether the next step may begin.
    #[must_use]
    pub fn lets_pass(&self) -> bool {
        self.has_enough_calls && self.comparisons.iter().all(|comparison| comparison.finding == Finding::Fine)
    }
}

/// Compares both versions over a window.
#[must_use]
pub fn judge(config: &CanaryConfig, window: &Window) -> Judgement {
    let Window { stable, canary } = window;
    let alpha = config.significance();
    let min_calls = u64::from(config.min_calls);
    let mut comparisons = Vec::new();
    if stable.calls > 0 && canary.calls > 0 {
        let share = |hits: u64, of: u64| Share { hits: hits.min(of), of };
        let (of_stable, of_canary) = (share(stable.errors, stable.calls), share(canary.errors, canary.calls));
        let margin = config.max_error_increase.get().min(0.999);
        comparisons.push(Comparison::new(Metric::Errors, of_stable, of_canary, margin, alpha));
    }
    comparisons.extend(compare_latencies(config, window, alpha));
    Judgement { comparisons, has_enough_calls: stable.calls >= min_calls && canary.calls >= min_calls }
}

fn compare_latencies(config: &CanaryConfig, window: &Window, alpha: f64) -> Option<Comparison> {
    let (stable, canary) = (&window.stable.latencies, &window.canary.latencies);
    let quantile = config.latency_quantile.get();
    let at = stable.quantile_bucket(quantile)?;
    let of_stable = upper_bound(at)?;
    let increase =
        of_stable.mul_f64(config.max_latency_increase.get()).max(CanaryConfig::MIN_LATENCY_INCREASE);
    let limit_at = bucket(of_stable + increase);
    let limit = upper_bound(limit_at)?;
    if canary.count() == 0 {
        return None;
    }
    let metric = Metric::Latency { stable: of_stable, limit, canary: canary.quantile(quantile) };
    let of_stable = Share { hits: stable.above(at), of: stable.count() };
    let of_canary = Share { hits: canary.above(limit_at), of: canary.count() };
    Some(Comparison::new(metric, of_stable, of_canary, 0.0, alpha))
}
