//! Which of a report's numbers stands for utilization (gRFC A114).
//!
//! Rule: what the application says ([`LoadMetrics::application_utilization`]) counts first. Where it says nothing, the largest of
//! the metrics that were asked for, of those that are positive and finite. Where there is none, the processor's utilization.
//!
//! Source: [gRFC A114](https://github.com/grpc/proposal/blob/master/A114-wrr-metric-names-for-computing-utilization.md), which
//! lists the names, and gRPC's implementations, which besides those take `utilization.*`, the map of utilizations that servers
//! have their own names for.

use core::fmt::{self, Display, Formatter};
use core::str::FromStr;

use super::LoadMetrics;

/// Metrics that one reading asks for at most: each costs a comparison for every entry of a report's maps.
pub const UTILIZATION_METRICS_MAX: usize = 8;

/// Length of a metric's name at most, in bytes, the name of its map included: more than any has.
pub const METRIC_NAME_BYTES_MAX: usize = 128;

/// A number of a load report that may stand for utilization.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UtilizationMetric {
    /// `application_utilization`: it counts anyway, before all others.
    Application,
    /// `cpu_utilization`: it counts anyway where nothing else does; asked for, it counts beside the others.
    Cpu,
    /// `mem_utilization`.
    Memory,
    /// `named_metrics.NAME`: an entry of the map in which servers put what they like.
    Named(Box<str>),
    /// `utilization.NAME`: an entry of the map of utilizations.
    Utilization(Box<str>),
}

/// A name that is none of a metric that may stand for utilization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UtilizationMetricError {
    /// It is empty, or longer than [`METRIC_NAME_BYTES_MAX`].
    #[error("the name of a metric has 1 to 128 bytes; shorten it")]
    Length,
    /// No such field or map.
    #[error(
        "a load report has no such number; write application_utilization, cpu_utilization, mem_utilization, \
         named_metrics.NAME or utilization.NAME"
    )]
    Unknown,
}

impl FromStr for UtilizationMetric {
    type Err = UtilizationMetricError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        if name.is_empty() || name.len() > METRIC_NAME_BYTES_MAX {
            return Err(UtilizationMetricError::Length);
        }
        match (name, name.split_once('.')) {
            ("application_utilization", _) => Ok(Self::Application),
            ("cpu_utilization", _) => Ok(Self::Cpu),
            ("mem_utilization", _) => Ok(Self::Memory),
            (_, Some(("named_metrics", key))) if !key.is_empty() => Ok(Self::Named(key.into())),
            (_, Some(("utilization", key))) if !key.is_empty() => Ok(Self::Utilization(key.into())),
            _ => Err(UtilizationMetricError::Unknown),
        }
    }
}

/// The name that it is read from.
impl Display for UtilizationMetric {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => formatter.write_str("application_utilization"),
            Self::Cpu => formatter.write_str("cpu_utilization"),
            Self::Memory => formatter.write_str("mem_utilization"),
            Self::Named(key) => write!(formatter, "named_metrics.{key}"),
            Self::Utilization(key) => write!(formatter, "utilization.{key}"),
        }
    }
}

/// A map of a report, by the number of its field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricMap {
    Utilization,
    Named,
}

/// What a report has of the metrics that were asked for.
pub(super) struct Chosen<'a> {
    asked: &'a [UtilizationMetric],
    /// The entries of maps, in the order of `asked`: of one that occurs twice the last counts.
    entries: [f64; UTILIZATION_METRICS_MAX],
}

impl<'a> Chosen<'a> {
    /// Metrics beyond [`UTILIZATION_METRICS_MAX`] are not looked for.
    pub(super) fn new(asked: &'a [UtilizationMetric]) -> Self {
        let asked = &asked[..asked.len().min(UTILIZATION_METRICS_MAX)];
        Self { asked, entries: [0.0; UTILIZATION_METRICS_MAX] }
    }

    /// Takes note of an entry of a map.
    pub(super) fn note(&mut self, map: MetricMap, name: &[u8], value: f64) {
        for (asked, entry) in self.asked.iter().zip(&mut self.entries) {
            let key = match (asked, map) {
                (UtilizationMetric::Named(key), MetricMap::Named)
                | (UtilizationMetric::Utilization(key), MetricMap::Utilization) => key,
                _ => continue,
            };
            if key.as_bytes() == name {
                *entry = value;
            }
        }
    }

    /// The largest that is positive and finite; 0 without one.
    pub(super) fn largest(&self, metrics: &LoadMetrics, mem_utilization: f64) -> f64 {
        let values = self.asked.iter().zip(self.entries).map(|(asked, entry)| match asked {
            UtilizationMetric::Application => metrics.application_utilization,
            UtilizationMetric::Cpu => metrics.cpu_utilization,
            UtilizationMetric::Memory => mem_utilization,
            UtilizationMetric::Named(_) | UtilizationMetric::Utilization(_) => entry,
        });
        values.filter(|value| value.is_finite()).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_written_as_it_is_read() {
        for name in [
            "application_utilization",
            "cpu_utilization",
            "mem_utilization",
            "named_metrics.queue",
            "named_metrics.queue.depth",
            "utilization.gpu",
        ] {
            assert_eq!(name.parse::<UtilizationMetric>().unwrap().to_string(), name);
        }
        // The key is all behind the first dot.
        let dotted = UtilizationMetric::Named("queue.depth".into());
        assert_eq!("named_metrics.queue.depth".parse(), Ok(dotted));
    }

    #[test]
    fn what_a_report_does_not_have_cannot_be_asked_for() {
        for name in [
            "eps",
            "rps_fractional",
            "request_cost.db",
            "named_metrics",
            "named_metrics.",
            "utilization.",
            ".",
        ] {
            assert_eq!(name.parse::<UtilizationMetric>(), Err(UtilizationMetricError::Unknown), "{name}");
        }
        let longest = format!("utilization.{}", "n".repeat(METRIC_NAME_BYTES_MAX - 12));
        assert_eq!(longest.parse::<UtilizationMetric>().unwrap().to_string(), longest);
        for name in [String::new(), longest + "n"] {
            assert_eq!(name.parse::<UtilizationMetric>(), Err(UtilizationMetricError::Length));
        }
    }
}
