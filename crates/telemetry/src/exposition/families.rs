//! Families of metrics, printed through `prometheus-client`.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::histogram::{LATENCY_BOUNDS, LatencyTotals};

/// Prints families of metrics; those without series are left out.
pub(super) struct Families<'a, 'e> {
    pub(super) encoder: &'a mut DescriptorEncoder<'e>,
}

impl Families<'_, '_> {
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut series = series.peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut series = series.peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Latencies; `_seconds` is added to the name.
    pub(super) fn histograms<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (L, &'t LatencyTotals)>,
    ) -> fmt::Result {
        let mut series = series.peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
        let seconds = Some(&Unit::Seconds);
        let mut metric = self.encoder.encode_descriptor(name, help, seconds, MetricType::Histogram)?;
        for (labels, totals) in series {
            let buckets: Vec<_> = bounds.clone().zip(totals.buckets).collect();
            // Exact below 2^53 microseconds, 285 years of latency; rounded beyond.
            let sum = totals.sum_micros as f64 / 1e6;
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sum,
                totals.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}
