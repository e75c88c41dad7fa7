//! One endpoint's weight by the load that it reports.
//!
//! Rule (gRFC A58): `weight = qps / (utilization + eps / qps * penalty)`: the calls per second that the endpoint would serve
//! if it were used to its full capacity, less where calls fail. A report without a positive qps or utilization is ignored.
//! The weight counts once reports have come in for the blackout period, until none has come for the expiration period.
//!
//! What A58 leaves open: numbers that are none, or absurd. A report with a number that is negative or not finite is
//! ignored as a whole, and counted; a weight is kept within [`MIN`] and [`MAX`].
//!
//! A report that came apart from calls is weighed once, by whoever took it, and is the same for all workers: see
//! [`Endpoint::note_load`](crate::Endpoint::note_load). Each worker takes the newest when it looks at the endpoint, and has its
//! own blackout, as each has its own connections.

use core::time::Duration;

use super::LoadWeightConfig;
use crate::call::LoadReport;

/// Weights in millionths, so that a sum of them is exact: 10^-6 to 10^9 calls per second. A bound on what a report can do to
/// sums and means, wider than what any endpoint serves.
const MIN: f64 = 1e-6;
const MAX: f64 = 1e9;
const MILLIONTHS: f64 = 1e6;

/// The weight that follows from one report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReportedWeight(u64);

impl ReportedWeight {
    /// The weight of an endpoint that reports this; `None` if the report makes no sense.
    #[must_use]
    pub fn of(load: &LoadReport, config: &LoadWeightConfig) -> Option<Self> {
        weight_of(load, config).map(Self)
    }

    /// Calls per second that the endpoint would serve if it were used to its full capacity.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0 as f64 / MILLIONTHS
    }

    pub(crate) fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// At least 1.
    pub(crate) fn millionths(self) -> u64 {
        self.0
    }
}

/// What is known of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoadWeight {
    /// In millionths; 0 before the first report.
    weight: u64,
    reported_at: Duration,
    /// Since when reports have come in without a gap.
    reported_since: Option<Duration>,
}

impl LoadWeight {
    /// Takes a report. Returns whether it made sense.
    pub(super) fn report(&mut self, load: &LoadReport, config: &LoadWeightConfig, now: Duration) -> bool {
        let Some(weight) = weight_of(load, config) else { return false };
        self.weight = weight;
        self.reported_at = self.reported_at.max(now);
        self.reported_since.get_or_insert(now);
        true
    }

    /// Takes the newest report that came apart from calls, which may be one that it knows. Reports count as coming in from the
    /// first such look on.
    pub(super) fn take(
        &mut self,
        weight: ReportedWeight,
        at: Duration,
        config: &LoadWeightConfig,
        now: Duration,
    ) {
        if now.saturating_sub(at) < config.weight_expiration_period {
            self.weight = weight.millionths();
            self.reported_at = at;
            self.reported_since.get_or_insert(now);
        }
    }

    /// The weight that is used now, without ending what has expired.
    pub(super) fn in_use(mut self, config: &LoadWeightConfig, now: Duration) -> Option<ReportedWeight> {
        self.usable(config, now).map(ReportedWeight)
    }

    /// The weight in millionths, if it is to be used.
    pub(super) fn usable(&mut self, config: &LoadWeightConfig, now: Duration) -> Option<u64> {
        let since = self.reported_since?;
        if now.saturating_sub(self.reported_at) >= config.weight_expiration_period {
            self.reported_since = None;
            return None;
        }
        (now.saturating_sub(since) >= config.blackout_period).then_some(self.weight)
    }
}

fn weight_of(load: &LoadReport, config: &LoadWeightConfig) -> Option<u64> {
    let LoadReport { utilization, requests_per_second: qps, errors_per_second: eps } = *load;
    let is_number = utilization.is_finite() && qps.is_finite() && eps.is_finite();
    if !is_number || utilization <= 0.0 || qps <= 0.0 || eps < 0.0 {
        return None;
    }
    let weight = qps / (utilization + eps / qps * config.error_utilization_penalty.get());
    // A quotient of extreme numbers may be 0 or infinite, and `clamp` takes care of both; it is no NaN, as the divisor is
    // positive, and infinite only with a finite dividend.
    Some((weight.clamp(MIN, MAX) * MILLIONTHS) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::factor::Factor;

    const SECOND: Duration = Duration::from_secs(1);

    fn load(utilization: f64, requests_per_second: f64, errors_per_second: f64) -> LoadReport {
        LoadReport { utilization, requests_per_second, errors_per_second }
    }

    fn weight(load: LoadReport) -> Option<f64> {
        weight_of(&load, &LoadWeightConfig::default()).map(|millionths| millionths as f64 / MILLIONTHS)
    }

    #[test]
    fn is_calls_per_utilization_less_for_errors() {
        assert_eq!(weight(load(0.5, 100.0, 0.0)), Some(200.0));
        assert_eq!(weight(load(2.0, 100.0, 0.0)), Some(50.0), "a utilization above one is no mistake");
        assert_eq!(weight(load(0.5, 100.0, 50.0)), Some(100.0), "0.5 + 50 / 100");
        let config = LoadWeightConfig {
            error_utilization_penalty: Factor::from_thousandths(3_000),
            ..LoadWeightConfig::default()
        };
        assert_eq!(weight_of(&load(0.5, 100.0, 50.0), &config), Some(50_000_000));
    }

    #[test]
    fn absurd_reports_are_ignored_or_bounded() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(weight(load(bad, 1.0, 0.0)), None, "utilization {bad}");
            assert_eq!(weight(load(1.0, bad, 0.0)), None, "qps {bad}");
            assert_eq!(weight(load(1.0, 1.0, bad)), None, "eps {bad}");
        }
        assert_eq!([weight(load(0.0, 1.0, 0.0)), weight(load(1.0, 0.0, 0.0))], [None, None]);
        assert_eq!(weight(load(f64::MIN_POSITIVE, f64::MAX, 0.0)), Some(1e9));
        assert_eq!(weight(load(f64::MAX, f64::MIN_POSITIVE, 0.0)), Some(1e-6));
        assert_eq!(weight(load(1.0, f64::MIN_POSITIVE, f64::MAX)), Some(1e-6));
    }

    #[test]
    fn counts_after_the_blackout_and_until_it_expires() {
        let config = LoadWeightConfig::default();
        let mut known = LoadWeight::default();
        assert_eq!(known.usable(&config, 100 * SECOND), None);
        assert!(known.report(&load(0.5, 100.0, 0.0), &config, 100 * SECOND));
        let ms = Duration::from_millis(1);
        assert_eq!(known.usable(&config, 110 * SECOND - ms), None);
        assert_eq!(known.usable(&config, 110 * SECOND), Some(200_000_000));
        assert_eq!(known.usable(&config, 280 * SECOND - ms), Some(200_000_000));
        assert_eq!(known.usable(&config, 280 * SECOND), None);
        // The blackout begins anew.
        assert!(known.report(&load(0.5, 50.0, 0.0), &config, 300 * SECOND));
        assert_eq!(known.usable(&config, 310 * SECOND - ms), None);
        assert_eq!(known.usable(&config, 310 * SECOND), Some(100_000_000));
        assert_eq!(known.in_use(&config, 310 * SECOND), Some(ReportedWeight(100_000_000)));
        // A report that makes no sense neither changes nor refreshes the weight.
        assert!(!known.report(&load(f64::NAN, 50.0, 0.0), &config, 400 * SECOND));
        assert_eq!(known.usable(&config, 480 * SECOND), None);
    }

    #[test]
    fn what_came_apart_from_calls_counts_from_the_first_look_on_and_until_it_expires() {
        let config = LoadWeightConfig::default();
        let weight = ReportedWeight::of(&load(0.5, 100.0, 0.0), &config).unwrap();
        assert_eq!(weight.get(), 200.0);
        let ms = Duration::from_millis(1);
        let mut known = LoadWeight::default();
        // It came long before this worker had a connection.
        known.take(weight, SECOND, &config, 100 * SECOND);
        assert_eq!(known.usable(&config, 110 * SECOND - ms), None);
        assert_eq!(known.usable(&config, 110 * SECOND), Some(200_000_000));
        // Looking at it again does not make it newer.
        known.take(weight, SECOND, &config, 181 * SECOND - ms);
        assert_eq!(known.usable(&config, 181 * SECOND - ms), Some(200_000_000));
        known.take(weight, SECOND, &config, 181 * SECOND);
        assert_eq!(known.usable(&config, 181 * SECOND), None);
        known.take(weight, SECOND, &config, 182 * SECOND);
        assert_eq!(known.usable(&config, 300 * SECOND), None);
        // The next one begins a blackout.
        known.take(weight, 300 * SECOND, &config, 301 * SECOND);
        assert_eq!(known.usable(&config, 311 * SECOND - ms), None);
        assert_eq!(known.usable(&config, 311 * SECOND), Some(200_000_000));
    }
}
