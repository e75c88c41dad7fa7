//! The policies that balance a cluster.

use core::fmt::Display;

use evenkeel_balance::{
    Affinity, BoundedLoad, Choice, Factor, LeastRequestConfig, LoadSource, LoadWeightConfig, PeakEwmaConfig,
    Policy, PrequalConfig, ProbeSource, RingSize, SampleSize, SlowStart, TableSize, TableSizeError,
};
use evenkeel_grpc::UtilizationMetric;
use evenkeel_grpc::load_report::utilization::UtilizationMetricError;

use super::route::report_text;
use super::value;
use crate::bounds::{self, Bounds, MAX_UTILIZATION_METRICS};
use crate::errors::{Fault, Reports, closest};
use crate::model::Balancing;
use crate::policy::{PROBE_SOURCE_NAMES, UTILIZATION_METRIC_NAMES, WHEN_UNAVAILABLE_NAMES};
use crate::raw::{
    At, Field, Flag, Integer, List, Number, Off, RawCluster, RawDuration, RawLeastRequest, RawLoadReports,
    RawMaglev, RawPolicy, RawPrequal, RawRingHash, RawWeightedRoundRobin, Text,
};

pub(super) fn resolve_policy(raw: &Field<RawPolicy>, reports: &mut Reports) -> Balancing {
    let Some(raw) = raw.given() else { return Balancing::default() };
    if let RawPolicy::WeightedRoundRobin(raw) = &raw.value {
        return resolve_weights(raw, reports);
    }
    Balancing { policy: resolve_plain(&raw.value, reports), ..Balancing::default() }
}

/// A policy that goes by no load reports.
fn resolve_plain(raw: &RawPolicy, reports: &mut Reports) -> Policy {
    match raw {
        RawPolicy::PickFirst(raw) => {
            Policy::PickFirst { shuffle: raw.shuffle.given().is_some_and(|flag| flag.value.0) }
        }
        RawPolicy::RoundRobin => Policy::RoundRobin,
        RawPolicy::WeightedRoundRobin(_) => Policy::WeightedRoundRobin,
        RawPolicy::Random => Policy::Random,
        RawPolicy::LeastRequest(raw) => Policy::LeastRequest(LeastRequestConfig {
            choice: resolve_choice(raw, reports),
            active_request_bias: factor(&raw.active_request_bias, bounds::ACTIVE_REQUEST_BIAS, reports),
        }),
        RawPolicy::PeakEwma(raw) => {
            let decay = value::duration(&raw.decay, bounds::PEAK_EWMA_DECAY, reports);
            Policy::PeakEwma(PeakEwmaConfig { decay })
        }
        RawPolicy::Prequal(raw) => Policy::Prequal(resolve_prequal(raw, reports)),
        RawPolicy::RingHash(raw) => Policy::RingHash {
            size: resolve_ring_size(raw, reports),
            affinity: resolve_affinity(&raw.when_unavailable, &raw.bounded_load, reports),
        },
        RawPolicy::Maglev(raw) => Policy::Maglev {
            size: resolve_table_size(raw, reports),
            affinity: resolve_affinity(&raw.when_unavailable, &raw.bounded_load, reports),
        },
    }
}

fn resolve_choice(raw: &RawLeastRequest, reports: &mut Reports) -> Choice {
    const SAMPLE: Bounds<u32> =
        Bounds { min: SampleSize::MIN, max: SampleSize::MAX, default: SampleSize::MIN };
    let sample = SampleSize::try_from(value::count(&raw.choice_count, SAMPLE, reports)).unwrap_or_default();
    if !raw.full_scan.given().is_some_and(|flag| flag.value.0) {
        return Choice::Sample(sample);
    }
    if let Some((key, _)) = raw.choice_count.with_key() {
        reports.add(key, Fault::Exclusive { key: "choice_count", other: "full_scan" });
    }
    Choice::FullScan
}

fn resolve_weights(raw: &RawWeightedRoundRobin, reports: &mut Reports) -> Balancing {
    let Some(raw) = raw.load_reports.given() else {
        return Balancing { policy: Policy::WeightedRoundRobin, ..Balancing::default() };
    };
    let RawLoadReports {
        blackout_period,
        weight_expiration_period,
        weight_update_period,
        error_utilization_penalty,
        enable_oob_load_report,
        oob_reporting_period,
        metric_names_for_computing_utilization,
    } = &raw.value;
    let config = LoadWeightConfig {
        blackout_period: value::duration(blackout_period, bounds::LOAD_BLACKOUT_PERIOD, reports),
        weight_expiration_period: value::duration(
            weight_expiration_period,
            bounds::LOAD_EXPIRATION_PERIOD,
            reports,
        ),
        weight_update_period: value::duration(weight_update_period, bounds::LOAD_UPDATE_PERIOD, reports),
        error_utilization_penalty: factor(
            error_utilization_penalty,
            bounds::ERROR_UTILIZATION_PENALTY,
            reports,
        ),
        source: resolve_load_source(enable_oob_load_report, oob_reporting_period, reports),
    };
    if let LoadSource::OutOfBand { period } = config.source {
        // With a longer one each report would be forgotten before the next one comes.
        super::cluster::report_range(
            (oob_reporting_period, period),
            (weight_expiration_period, config.weight_expiration_period),
            ["oob_reporting_period", "weight_expiration_period"],
            reports,
        );
    }
    let metrics = metric_names_for_computing_utilization.given();
    Balancing {
        policy: Policy::LoadWeightedRoundRobin(config),
        utilization_metrics: metrics.map_or_else(Vec::new, |list| resolve_metrics(list, reports)).into(),
    }
}

fn resolve_load_source(
    enabled: &Field<Flag>,
    period: &Field<RawDuration>,
    reports: &mut Reports,
) -> LoadSource {
    let is_enabled = enabled.given().is_some_and(|flag| flag.value.0);
    if let (Some((key, _)), false) = (period.with_key(), is_enabled || enabled.is_refused()) {
        let reason = "without `enable_oob_load_report: true`";
        reports.add(key, Fault::NoEffect { key: "oob_reporting_period", reason });
    }
    let period = value::duration(period, bounds::LOAD_REPORTING_PERIOD, reports);
    if is_enabled { LoadSource::OutOfBand { period } } else { LoadSource::Calls }
}

fn resolve_metrics(list: &At<List<Text>>, reports: &mut Reports) -> Vec<UtilizationMetric> {
    let count = list.value.written;
    if count > MAX_UTILIZATION_METRICS {
        let what = "metrics";
        reports.add(list.span, Fault::TooMany { what, count, max: MAX_UTILIZATION_METRICS });
    }
    let mut metrics: Vec<UtilizationMetric> = Vec::new();
    for name in list.value.entries.iter().take(MAX_UTILIZATION_METRICS) {
        let text = name.value.0.as_str();
        match text.parse::<UtilizationMetric>() {
            Ok(metric) if metrics.contains(&metric) => {
                let key = "metric_names_for_computing_utilization";
                let reason = "because the same stands before it";
                reports.add(name.span, Fault::NoEffect { key, reason });
            }
            Ok(metric) => metrics.push(metric),
            Err(UtilizationMetricError::Length) => {
                let reason = "it has 1 to 128 letters";
                report_text(name, "name of a metric", reason, "write it as the endpoints report it", reports);
            }
            Err(UtilizationMetricError::Unknown) => {
                let (kind, known) = ("metric", &UTILIZATION_METRIC_NAMES);
                let suggestion = closest(text, UTILIZATION_METRIC_NAMES);
                reports.add(name.span, Fault::UnknownName { kind, name: text.to_owned(), suggestion, known });
            }
        }
    }
    metrics
}

fn resolve_prequal(raw: &RawPrequal, reports: &mut Reports) -> PrequalConfig {
    let RawPrequal {
        source,
        probes_per_call,
        pool_size,
        max_age,
        removals_per_call,
        reuse_delta,
        rif_quantile,
        oob_reporting_period,
    } = raw;
    let config = PrequalConfig {
        probes_per_call: factor(probes_per_call, bounds::PREQUAL_PROBES, reports),
        pool_size: value::count(pool_size, bounds::PREQUAL_POOL_SIZE, reports) as usize,
        max_age: value::duration(max_age, bounds::PREQUAL_MAX_AGE, reports),
        removals_per_call: factor(removals_per_call, bounds::PREQUAL_REMOVALS, reports),
        reuse_delta: factor(reuse_delta, bounds::PREQUAL_REUSE_DELTA, reports),
        rif_quantile: factor(rif_quantile, bounds::PREQUAL_RIF_QUANTILE, reports),
        source: resolve_source(source, reports),
        ..PrequalConfig::default()
    };
    let Some((at, _)) = oob_reporting_period.with_key() else { return config };
    let key = "oob_reporting_period";
    let period = value::duration(oob_reporting_period, bounds::PREQUAL_REPORTING_PERIOD, reports);
    match config.source {
        // With a longer one there would be times without a report that is young enough.
        ProbeSource::Endpoints => {
            let (low, high) = ((oob_reporting_period, period), (max_age, config.max_age));
            super::cluster::report_range(low, high, [key, "max_age"], reports);
        }
        ProbeSource::Own => reports.add(at, Fault::NoEffect { key, reason: "with `source: own`" }),
    }
    PrequalConfig { report_period: Some(period), ..config }
}

fn resolve_source(source: &Field<Text>, reports: &mut Reports) -> ProbeSource {
    let Some(given) = source.given() else { return ProbeSource::default() };
    match given.value.0.as_str() {
        "endpoints" => ProbeSource::Endpoints,
        "own" => ProbeSource::Own,
        name => {
            let suggestion = closest(name, PROBE_SOURCE_NAMES);
            let (kind, known) = ("source", &PROBE_SOURCE_NAMES);
            reports.add(given.span, Fault::UnknownName { kind, name: name.to_owned(), suggestion, known });
            ProbeSource::default()
        }
    }
}

fn resolve_ring_size(raw: &RawRingHash, reports: &mut Reports) -> RingSize {
    let RawRingHash { entries_per_endpoint, min_ring_size, max_ring_size, .. } = raw;
    let max = value::count(max_ring_size, bounds::RING_SIZE, reports);
    if let (Some((key, _)), false) = (min_ring_size.with_key(), entries_per_endpoint.is_absent()) {
        reports.add(key, Fault::Exclusive { key: "min_ring_size", other: "entries_per_endpoint" });
    }
    if min_ring_size.is_absent() {
        let entries = value::count(entries_per_endpoint, bounds::RING_ENTRIES, reports);
        if entries_per_endpoint.is_absent() {
            // A bound below the default is a wish for a small ring, not a contradiction.
            return RingSize::each(entries.min(max), max).unwrap_or_default();
        }
        not_above((entries_per_endpoint, entries), ("max_ring_size", max), reports);
        return RingSize::each(entries, max).unwrap_or_default();
    }
    let min = value::count(min_ring_size, bounds::RING_SIZE, reports);
    not_above((min_ring_size, min), ("max_ring_size", max), reports);
    RingSize::in_all(min, max).unwrap_or_default()
}

/// Reports a number above that of another key.
fn not_above<T: PartialOrd + Display>(
    (field, number): (&Field<Integer>, T),
    (other, limit): (&'static str, T),
    reports: &mut Reports,
) {
    if let Some(given) = field.given().filter(|_| number > limit) {
        reports.add(given.span, value::disordered(number, "above", other, limit));
    }
}

fn resolve_table_size(raw: &RawMaglev, reports: &mut Reports) -> TableSize {
    let size = value::count(&raw.table_size, bounds::MAGLEV_TABLE_SIZE, reports);
    match (TableSize::try_from(size), raw.table_size.given()) {
        (Err(TableSizeError::NotPrime { size, next }), Some(given)) => {
            reports.add(given.span, Fault::NotPrime { size, next });
            TableSize::default()
        }
        (size, _) => size.unwrap_or_default(),
    }
}

/// Reports a ring or table that is too small to have an entry for each of these endpoints: those without one would get no calls.
pub(super) fn check_entries(raw: &Field<RawPolicy>, endpoints: usize, reports: &mut Reports) {
    let entries = match raw.given().map(|given| &given.value) {
        Some(RawPolicy::RingHash(raw)) => &raw.max_ring_size,
        Some(RawPolicy::Maglev(raw)) => &raw.table_size,
        _ => return,
    };
    let Some(given) = entries.given() else { return };
    // What is out of bounds was reported as such.
    if let Ok(entries) = usize::try_from(given.value.0)
        && (1..endpoints).contains(&entries)
    {
        reports.add(given.span, Fault::TooFewEntries { entries, endpoints });
    }
}

fn resolve_affinity(
    when_unavailable: &Field<Text>,
    bounded_load: &Field<Integer>,
    reports: &mut Reports,
) -> Affinity {
    const PERCENT: Bounds<u32> =
        Bounds { min: BoundedLoad::MIN_PERCENT, max: BoundedLoad::MAX_PERCENT, default: 125 };
    let bound = bounded_load.with_key().map(|(key, _)| {
        let percent = value::count(bounded_load, PERCENT, reports);
        (key, BoundedLoad::try_from(percent).unwrap_or_default())
    });
    let fails = when_unavailable.given().is_some_and(|given| match given.value.0.as_str() {
        "rehash" => false,
        "fail" => true,
        name => {
            let suggestion = closest(name, WHEN_UNAVAILABLE_NAMES);
            let (kind, known) = ("behaviour", &WHEN_UNAVAILABLE_NAMES);
            reports.add(given.span, Fault::UnknownName { kind, name: name.to_owned(), suggestion, known });
            false
        }
    });
    match bound {
        Some((key, _)) if fails => {
            // One sends a call elsewhere that the other would fail.
            reports.add(key, Fault::Exclusive { key: "bounded_load", other: "when_unavailable: fail" });
            Affinity::Fail
        }
        Some((_, bound)) => Affinity::Bounded(bound),
        None if fails => Affinity::Fail,
        None => Affinity::Rehash,
    }
}

pub(super) fn resolve_slow_start(
    raw: &RawCluster,
    policy: Policy,
    reports: &mut Reports,
) -> Option<SlowStart> {
    let (key, given) = raw.slow_start.with_key()?;
    let Off::On(raw_values) = &given.value else { return None };
    let reason = match policy {
        Policy::RoundRobin | Policy::Random | Policy::PickFirst { .. } => {
            Some("because the policy knows no weights")
        }
        Policy::RingHash { .. } | Policy::Maglev { .. } => {
            Some("because a policy that hashes must not move keys")
        }
        _ => None,
    };
    if let Some(reason) = reason
        && !raw.policy.is_refused()
    {
        reports.add(key, Fault::NoEffect { key: "slow_start", reason });
    }
    let min_weight = factor(&raw_values.min_weight, bounds::SLOW_START_MIN_WEIGHT, reports);
    if min_weight == Factor::ONE {
        let reason = "at a `min_weight` of 1, which is the whole share at once";
        reports.add(key, Fault::NoEffect { key: "slow_start", reason });
    }
    Some(SlowStart {
        window: value::duration(&raw_values.window, bounds::SLOW_START_WINDOW, reports),
        aggression: factor(&raw_values.aggression, bounds::SLOW_START_AGGRESSION, reports),
        min_weight,
    })
}

fn factor(field: &Field<Number>, bounds: Bounds<f64>, reports: &mut Reports) -> Factor {
    Factor::try_from(value::number(field, bounds, reports)).expect("the bounds are within a factor's")
}
