//! Clusters: their names, their targets, and how they are balanced.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use evenkeel_balance::BackoffConfig;
use evenkeel_balance::retry::RetryBudgetConfig;

use super::leads::Leads;
use super::{affinity, limits, policy, value};
use crate::bounds::{self, MAX_CLUSTERS, MAX_NAME_CHARS};
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::{CircuitBreakers, Cluster, ClusterRef, DnsRefresh, Targets};
use crate::raw::{At, Field, List, Off, RawBackoff, RawCluster, RawDns, RawDuration, RawLocality, Text};

/// The clusters that routes can name.
pub(super) struct ClusterNames {
    known: HashMap<String, (usize, Span)>,
    /// The names in the order of the file, for lists.
    in_order: Vec<String>,
    /// Whether some cluster's name could not be read: an unknown name may then be that one's.
    is_incomplete: bool,
}

impl ClusterNames {
    /// The cluster of that name; reports a name that no cluster has.
    pub(super) fn find(&self, name: &At<Text>, reports: &mut Reports) -> Option<ClusterRef> {
        if let Some((position, _)) = self.known.get(&name.value.0) {
            return Some(ClusterRef { name: name.value.0.clone(), position: *position });
        }
        if !self.is_incomplete {
            let names = || self.in_order.iter().map(String::as_str);
            let suggestion = crate::errors::closest(&name.value.0, names()).map(str::to_owned);
            let known = self.in_order.iter().take(MAX_SUGGESTED).cloned().collect();
            let fault = Fault::UnknownCluster { name: name.value.0.clone(), suggestion, known };
            reports.add(name.span, fault);
        }
        None
    }
}

/// Clusters that are listed where an unknown one is named, and one more to show that there are more.
const MAX_SUGGESTED: usize = 21;

/// What else is known when clusters are resolved.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// Where the proxy runs.
    pub(super) node: &'a Field<Off<RawLocality>>,
    /// Which calls come to each cluster.
    pub(super) leads: &'a Leads<'a>,
    /// The endpoint lists that were read.
    pub(super) lists: &'a Lists,
}

pub(super) fn resolve_clusters(
    raw: &Field<List<RawCluster>>,
    around: Around<'_>,
    reports: &mut Reports,
) -> (Vec<Cluster>, ClusterNames) {
    let mut names =
        ClusterNames { known: HashMap::new(), in_order: Vec::new(), is_incomplete: raw.is_refused() };
    let mut clusters = Vec::new();
    let Some(list) = raw.given() else { return (clusters, names) };
    let help = "add a cluster: `- {name: orders, target: \"dns:///orders:50051\"}`";
    super::listener::check_length(list.as_ref(), "clusters", MAX_CLUSTERS, help, reports);
    names.is_incomplete = list.value.entries.len() < list.value.written;
    for cluster in list.value.entries.iter().take(MAX_CLUSTERS).map(|entry| &entry.value) {
        let Some(name) = cluster.name.given() else {
            names.is_incomplete = true;
            resolve_cluster(cluster, String::new(), around, reports);
            continue;
        };
        check_name(name, reports);
        if let Some((_, first)) = names.known.get(&name.value.0) {
            let fault = Fault::DuplicateCluster { name: name.value.0.clone() };
            reports.add_related(name.span, fault, *first);
        } else {
            names.known.insert(name.value.0.clone(), (clusters.len(), name.span));
            names.in_order.push(name.value.0.clone());
        }
        clusters.extend(resolve_cluster(cluster, name.value.0.clone(), around, reports));
    }
    (clusters, names)
}

pub(super) fn check_name(name: &At<Text>, reports: &mut Reports) {
    let text = &name.value.0;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > MAX_NAME_CHARS || !text.bytes().all(is_letter) {
        reports.add(name.span, Fault::InvalidName { name: text.clone() });
    }
}

fn resolve_cluster(
    raw: &RawCluster,
    name: String,
    around: Around<'_>,
    reports: &mut Reports,
) -> Option<Cluster> {
    let lead = around.leads.to(&name);
    let connect_timeout = value::duration(&raw.connect_timeout, bounds::CONNECT_TIMEOUT, reports);
    let balancing = policy::resolve_policy(&raw.policy, reports);
    let policy = balancing.policy;
    let hash_by = affinity::resolve_hash_by(raw, policy, lead.clients, reports);
    let slow_start = policy::resolve_slow_start(raw, policy, reports);
    let subset = affinity::resolve_subset(&raw.subset, reports);
    let backoff = resolve_backoff(&raw.backoff, connect_timeout, reports);
    let max_pending = value::count(&raw.max_pending, bounds::MAX_PENDING, reports);
    let per_endpoint = bounds::MAX_CONNECTIONS_PER_ENDPOINT;
    let max_connections_per_endpoint = value::count(&raw.max_connections_per_endpoint, per_endpoint, reports);
    let per_worker = bounds::MAX_ENDPOINTS_PER_WORKER;
    let max_endpoints_per_worker = value::count(&raw.max_endpoints_per_worker, per_worker, reports);
    let targets = super::target::resolve_targets(&raw.target, reports);
    let dns = resolve_dns(&raw.dns, targets.as_ref(), reports);
    if let Some(targets) = &targets {
        let most = subset.map_or(usize::MAX, |subset| subset.size.get());
        let listed = super::target::listed_endpoints(targets, around.lists);
        policy::check_entries(&raw.policy, listed.min(most), reports);
    }
    let mut circuit_breakers = limits::resolve_breakers(&raw.circuit_breakers, reports);
    let wait_for_ready = raw.wait_for_ready.given().is_some_and(|flag| flag.value.0);
    let may_wait = circuit_breakers.as_ref().is_none_or(|breakers| breakers.cluster.max_pending != Some(0));
    if let (Some((key, _)), true, false) = (raw.wait_for_ready.with_key(), wait_for_ready, may_wait) {
        let reason = "as `max_pending` of `circuit_breakers` is 0: no call may wait";
        reports.add(key, Fault::NoEffect { key: "wait_for_ready", reason });
    }
    let spread = super::spread::resolve_spread(raw, around, policy, targets.as_ref(), reports);
    let mut retry_budget = super::retry::resolve_budget(&raw.retry_budget, reports);
    let mut retry_throttling = super::retry::resolve_throttling(&raw.retry_throttling, reports);
    super::retry::check_needed(raw, &retry_budget, lead, reports);
    if !lead.tries_again {
        // What an alias repeats here and is of use elsewhere.
        (retry_budget, retry_throttling) = (RetryBudgetConfig::default(), None);
        circuit_breakers = circuit_breakers.and_then(CircuitBreakers::without_retries);
    }
    Some(Cluster {
        name,
        targets: targets?,
        balancing,
        hash_by,
        slow_start,
        subset,
        spread: Arc::new(spread),
        connect_timeout,
        stall_timeout: value::duration(&raw.stall_timeout, bounds::STALL_TIMEOUT, reports),
        backoff,
        health_check: super::health::resolve_health_check(&raw.health_check, reports),
        outlier_detection: super::outlier::resolve_outliers(&raw.outlier_detection, reports),
        retry_budget,
        retry_throttling,
        circuit_breakers,
        adaptive_concurrency: limits::resolve_adaptive(&raw.adaptive_concurrency, reports),
        wait_for_ready,
        dns,
        max_pending,
        max_connections_per_endpoint,
        max_endpoints_per_worker,
    })
}

fn resolve_backoff(
    raw: &Field<RawBackoff>,
    connect_timeout: Duration,
    reports: &mut Reports,
) -> BackoffConfig {
    let unset = RawBackoff::default();
    let raw = raw.given().map_or(&unset, |backoff| &backoff.value);
    let base = value::duration(&raw.base_interval, bounds::BACKOFF_BASE_INTERVAL, reports);
    let max = value::duration(&raw.max_interval, bounds::BACKOFF_MAX_INTERVAL, reports);
    report_range(
        (&raw.base_interval, base),
        (&raw.max_interval, max),
        ["base_interval", "max_interval"],
        reports,
    );
    BackoffConfig {
        base,
        multiplier: value::number(&raw.multiplier, bounds::BACKOFF_MULTIPLIER, reports),
        jitter: value::number(&raw.jitter, bounds::BACKOFF_JITTER, reports),
        max,
        // The attempt's deadline is the longer of this and the delay (gRPC), so the connection timeout bounds it.
        min_connect_timeout: connect_timeout,
    }
}

fn resolve_dns(raw: &Field<RawDns>, targets: Option<&Targets>, reports: &mut Reports) -> Option<DnsRefresh> {
    if let (Some((key, _)), Some(false)) = (raw.with_key(), targets.map(Targets::has_dns)) {
        let reason = "because the target is no `dns` or `dns+srv` target";
        reports.add(key, Fault::NoEffect { key: "dns", reason });
    }
    let unset = RawDns::default();
    let raw = raw.given().map_or(&unset, |dns| &dns.value);
    let min_refresh = value::duration(&raw.min_refresh, bounds::DNS_MIN_REFRESH, reports);
    let max_refresh = value::duration(&raw.max_refresh, bounds::DNS_MAX_REFRESH, reports);
    report_range(
        (&raw.min_refresh, min_refresh),
        (&raw.max_refresh, max_refresh),
        ["min_refresh", "max_refresh"],
        reports,
    );
    targets.is_some_and(Targets::has_dns).then_some(DnsRefresh { min_refresh, max_refresh })
}

/// Reports a lower end above the upper end, at one of them that was written.
pub(super) fn report_range(
    (low_field, low): (&Field<RawDuration>, Duration),
    (high_field, high): (&Field<RawDuration>, Duration),
    [low_name, high_name]: [&'static str; 2],
    reports: &mut Reports,
) {
    if low_field.is_refused() || high_field.is_refused() {
        return;
    }
    if low_field.is_absent() {
        value::not_below((high_field, high), (low_name, low), reports);
    } else {
        value::not_above((low_field, low), (high_name, high), reports);
    }
}
