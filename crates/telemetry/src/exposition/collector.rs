//! Prints a snapshot through `prometheus-client`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use evenkeel_grpc::Code;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::families::Families;
use super::{ClusterGauge, GaugeSample, Scrape};
use crate::call::CallTotals;
use crate::cluster::{ClusterSample, EndpointTotals, MAX_CLUSTER_SERIES, OTHER};
use crate::event::{
    Family, HealthCheckResult, LoadReported, LoadStreamEnded, Reload, cluster, process, route,
};
use crate::method::MethodId;
use crate::telemetry::Snapshot;

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) snapshot: Snapshot,
    pub(super) scrape: Scrape,
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let families = &mut Families { encoder: &mut encoder };
        self.encode_calls(families)?;
        self.encode_attempts(families)?;
        self.encode_upstream(families)?;
        self.encode_clusters(families)?;
        self.encode_cluster_events(families)?;
        self.encode_routes(families)?;
        self.encode_workers(families)?;
        self.encode_canaries(families)?;
        self.encode_control(families)?;
        self.encode_process(families)
    }
}

impl Metrics {
    /// `grpc_server_*`.
    fn encode_calls(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        // The reserved rows appear with their first call.
        let reserved = MethodId::FIRST_REGISTERED.index();
        let rows = self.snapshot.methods.iter().enumerate();
        let used = rows.filter(|(index, row)| *index >= reserved || row.totals.started > 0);
        let rows: Vec<_> = used
            .map(|(_, row)| {
                let labels = [
                    ("grpc_type", row.totals.kind.as_str()),
                    ("grpc_service", &*row.name.service),
                    ("grpc_method", &*row.name.method),
                ];
                (labels, &row.totals)
            })
            .collect();
        let help = "Calls of clients that began.";
        families.counters("grpc_server_started", help, rows.iter().map(|(l, t)| (*l, t.started)))?;
        let handled = rows.iter().flat_map(|(labels, totals)| by_code(*labels, totals));
        families.counters("grpc_server_handled", "Calls of clients that ended, by status code.", handled)?;
        let help = "Messages received from clients.";
        families.counters(
            "grpc_server_msg_received",
            help,
            rows.iter().map(|(l, t)| (*l, t.messages.request)),
        )?;
        let help = "Messages sent to clients.";
        families.counters(
            "grpc_server_msg_sent",
            help,
            rows.iter().map(|(l, t)| (*l, t.messages.response)),
        )?;
        let help = "Time from a call's request to the end of its response.";
        families.histograms("grpc_server_handling", help, rows.iter().map(|(l, t)| (*l, &t.latency)))
    }

    /// The labels and counts of all endpoints.
    fn endpoints(&self) -> Vec<([(&'static str, &str); 2], &EndpointTotals)> {
        let mut rows = Vec::new();
        for cluster in &self.snapshot.clusters {
            for endpoint in &cluster.endpoints {
                rows.push((
                    [("cluster", &*cluster.name), ("endpoint", &*endpoint.address)],
                    &endpoint.totals,
                ));
            }
        }
        rows
    }

    /// `grpc_client_*`.
    fn encode_attempts(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let rows = self.endpoints();
        let counts = |count: fn(&CallTotals) -> u64| rows.iter().map(move |(l, t)| (*l, count(&t.calls)));
        families.counters(
            "grpc_client_started",
            "Attempts sent to endpoints.",
            counts(|calls| calls.started),
        )?;
        let handled = rows.iter().flat_map(|(labels, totals)| by_code(*labels, &totals.calls));
        families.counters("grpc_client_handled", "Attempts that ended, by status code.", handled)?;
        let help = "Messages received from endpoints.";
        families.counters("grpc_client_msg_received", help, counts(|calls| calls.messages.response))?;
        let help = "Messages sent to endpoints.";
        families.counters("grpc_client_msg_sent", help, counts(|calls| calls.messages.request))?;
        let help = "Time from an attempt's request to the end of its response.";
        families.histograms("grpc_client_handling", help, rows.iter().map(|(l, t)| (*l, &t.calls.latency)))
    }

    /// Connections and resets of endpoints.
    fn encode_upstream(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let rows = self.endpoints();
        let counts = |count: fn(&EndpointTotals) -> u64| rows.iter().map(move |(l, t)| (*l, count(t)));
        let help = "Connections to endpoints that became ready.";
        families.counters("evenkeel_upstream_connects_succeeded", help, counts(|t| t.connects_succeeded))?;
        let help = "Connections to endpoints that failed before they were ready.";
        families.counters("evenkeel_upstream_connects_failed", help, counts(|t| t.connects_failed))?;
        let help = "Connections to endpoints that had been ready and ended.";
        families.counters("evenkeel_upstream_disconnections", help, counts(|t| t.disconnections))?;
        let help = "Streams that endpoints reset.";
        families.counters("evenkeel_upstream_resets", help, counts(|t| t.resets))?;
        let help = "Connections to endpoints that are open.";
        families.gauges(
            "evenkeel_upstream_connections_active",
            help,
            counts(EndpointTotals::connections_active),
        )?;
        let help = "Attempts in flight at endpoints.";
        families.gauges("evenkeel_upstream_streams_active", help, counts(|t| t.calls.in_flight()))
    }

    fn encode_clusters(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        for gauge in ClusterGauge::ALL {
            let (name, label, help) = gauge.text();
            let sums = sums(&self.scrape.clusters, *gauge);
            let series = sums.iter().map(|((cluster, value), sum)| {
                let own = (!label.is_empty()).then_some((label, *value));
                ([("cluster", *cluster)].into_iter().chain(own).collect::<EventLabels<'_>>(), *sum)
            });
            families.gauges(name, help, series)?;
        }
        self.encode_placements(families)?;
        let waiting =
            self.snapshot.clusters.iter().map(|cluster| ([("cluster", &*cluster.name)], cluster.pending));
        let help = "Calls that wait for an endpoint or for a place under a limit.";
        families.gauges("evenkeel_cluster_pending_calls", help, waiting)?;
        self.encode_health_checks(families)?;

        // A cluster whose endpoints are written in the configuration has nothing to resolve.
        let resolving =
            self.snapshot.clusters.iter().filter(|c| c.resolver.updates > 0 || c.resolver.failures > 0);
        let clusters: Vec<_> = resolving.map(|c| ([("cluster", &*c.name)], c.resolver)).collect();
        let help = "Answers of the resolver that were taken over.";
        families.counters(
            "evenkeel_resolver_updates",
            help,
            clusters.iter().map(|(l, r)| (*l, r.updates)),
        )?;
        let help = "Resolutions that failed; the last good answer stayed in force.";
        families.counters(
            "evenkeel_resolver_failures",
            help,
            clusters.iter().map(|(l, r)| (*l, r.failures)),
        )?;
        let ages = clusters.iter().filter_map(|(labels, resolver)| {
            let age = self.scrape.now.saturating_sub(resolver.last_success_at?);
            Some((*labels, age.as_secs_f64()))
        });
        let help = "Time since the resolver's last answer.";
        families.gauges("evenkeel_resolver_last_success_age_seconds", help, ages)
    }

    /// Where endpoints are. The bound is that of endpoints' other series, which these are joined with.
    fn encode_placements(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let known: BTreeSet<_> = self
            .snapshot
            .clusters
            .iter()
            .flat_map(|cluster| cluster.endpoints.iter().map(|endpoint| (&*cluster.name, &*endpoint.address)))
            .collect();
        let shown = self
            .scrape
            .placements
            .iter()
            .filter(|sample| known.contains(&(sample.cluster.as_str(), sample.endpoint.as_str())));
        let series = shown.map(|sample| {
            let labels = [
                ("cluster", sample.cluster.as_str()),
                ("endpoint", sample.endpoint.as_str()),
                ("priority", sample.priority),
                ("locality", sample.locality.as_str()),
                ("weight", sample.weight.as_str()),
            ];
            (labels, 1_u64)
        });
        let help = "1 for each endpoint of a cluster with priorities, localities or weights: where it is, and its weight.";
        families.gauges("evenkeel_endpoint_info", help, series)
    }

    /// What active checks found; nothing of clusters that have none.
    fn encode_health_checks(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let checked =
            self.snapshot.clusters.iter().filter(|cluster| cluster.health_checks.iter().any(|n| *n > 0));
        let results = checked.flat_map(|cluster| {
            HealthCheckResult::ALL
                .iter()
                .zip(cluster.health_checks)
                .map(|(result, count)| ([("cluster", &*cluster.name), ("result", result.as_str())], count))
        });
        families.counters("evenkeel_health_checks", "Active checks of endpoints, by result.", results)?;
        self.encode_load_streams(families)
    }

    /// What came on streams of load reports; nothing of clusters that have none.
    fn encode_load_streams(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let is_asked = |cluster: &&ClusterSample| {
            cluster.load_reports.iter().chain(&cluster.load_streams).any(|count| *count > 0)
        };
        let asked: Vec<_> = self.snapshot.clusters.iter().filter(is_asked).collect();
        let reports = asked.iter().flat_map(|cluster| {
            LoadReported::ALL
                .iter()
                .zip(cluster.load_reports)
                .map(|(outcome, count)| ([("cluster", &*cluster.name), ("outcome", outcome.as_str())], count))
        });
        let help = "Load reports of endpoints apart from their answers, by what became of them.";
        families.counters("evenkeel_out_of_band_load_reports", help, reports)?;
        let ends = asked.iter().flat_map(|cluster| {
            LoadStreamEnded::ALL
                .iter()
                .zip(cluster.load_streams)
                .map(|(reason, count)| ([("cluster", &*cluster.name), ("reason", reason.as_str())], count))
        });
        let help = "Streams of load reports that ended or could not be opened, by reason.";
        families.counters("evenkeel_load_streams_ended", help, ends)
    }

    /// The series of one family of events in every cluster.
    fn of_clusters<'a>(&'a self, family: &'a Family) -> impl Iterator<Item = (EventLabels<'a>, u64)> {
        self.snapshot.clusters.iter().flat_map(|cluster| {
            let counts = &cluster.events;
            series(family, &[("cluster", &cluster.name)], |slot| counts.slot(slot))
        })
    }

    /// The table of clusters' events, but for families that the process has as well.
    fn encode_cluster_events(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let is_shared = |family: &&Family| process::FAMILIES.iter().any(|other| other.name == family.name);
        for family in cluster::FAMILIES.iter().filter(|family| !is_shared(family)) {
            families.counters(family.name, family.help, self.of_clusters(family))?;
        }
        Ok(())
    }

    /// The calls of routes, and the table of their events.
    fn encode_routes(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let routes = &self.snapshot.routes;
        let calls = routes.iter().map(|route| (route.labels(), route.calls));
        families.counters("evenkeel_route_calls", "Calls that a route took.", calls)?;
        for family in route::FAMILIES {
            let counting = routes.iter().filter_map(|route| Some((route, route.events()?)));
            let of_routes =
                counting.flat_map(|(route, events)| series(family, &route.labels(), |slot| events[slot]));
            families.counters(family.name, family.help, of_routes)?;
        }
        Ok(())
    }

    /// The table of the process's events, protocol errors, and the gauges that follow from them.
    fn encode_workers(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        for family in process::FAMILIES {
            if family.label.is_none() {
                families.counter(family.name, family.help, snapshot.events[family.slot])?;
                continue;
            }
            let own = series(family, &[], |slot| snapshot.events[slot]);
            let in_clusters = cluster::FAMILIES.iter().filter(|other| other.name == family.name);
            let in_clusters = in_clusters.flat_map(|family| self.of_clusters(family));
            families.counters(family.name, family.help, own.into_iter().chain(in_clusters))?;
        }
        let errors = snapshot.protocol_errors.iter().map(|(rule, count)| ([("rule", *rule)], *count));
        families.counters("evenkeel_protocol_errors", "Broken rules of the protocol, by rule.", errors)?;
        let help = "Connections of clients that are open.";
        families.gauge("evenkeel_downstream_connections_active", help, snapshot.connections_active())?;
        let help = "Calls of clients in flight.";
        families.gauge("evenkeel_downstream_streams_active", help, snapshot.calls().in_flight())?;
        let help = "Memory that connections, calls and spare buffers hold.";
        families.gauge("evenkeel_buffered_bytes", help, self.scrape.buffered.bytes)?;
        let help = "Requests that are kept for further attempts, a part of evenkeel_buffered_bytes.";
        families.gauge("evenkeel_replay_bytes", help, self.scrape.buffered.replay)?;
        let Some(limit) = self.scrape.buffered.limit else { return Ok(()) };
        let help = "The limit of evenkeel_buffered_bytes, near which calls and connections are given up.";
        families.gauge("evenkeel_buffered_limit_bytes", help, limit)
    }

    fn encode_canaries(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let canaries = &self.scrape.canaries;
        let weights =
            canaries.iter().map(|canary| ([("canary", canary.name.as_str())], canary.weight_percent));
        let help = "The canary's share of the calls of both versions, in percent.";
        families.gauges("evenkeel_canary_weight_percent", help, weights)?;
        let states = canaries.iter().flat_map(|canary| {
            canary.states.iter().map(|state| {
                let labels = [("canary", canary.name.as_str()), ("state", *state)];
                (labels, u64::from(*state == canary.state))
            })
        });
        families.gauges("evenkeel_canary_state", "1 for what the canary does now, 0 for all else.", states)
    }

    fn encode_control(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        let help = "Registrations of methods that the bounds on labels refused.";
        families.counter("evenkeel_methods_overflow", help, snapshot.methods_overflow)?;
        let reloads =
            Reload::ALL.iter().map(|outcome| ([("outcome", outcome.as_str())], snapshot.reloads(*outcome)));
        families.counters("evenkeel_config_reloads", "Reloads of the configuration, by outcome.", reloads)?;
        let help = "The configuration in force: 1 at start, one more for each accepted reload.";
        families.gauge("evenkeel_config_generation", help, snapshot.config_generation)?;
        let help = "Lines of the access log handed to the operating system.";
        families.counter("evenkeel_access_log_lines_written", help, snapshot.access_log_written)?;
        let help = "Lines of the access log that were lost: its queue was full, or a write failed.";
        families.counter("evenkeel_access_log_lines_dropped", help, snapshot.access_log_dropped)?;
        let help = "Writes and reopenings of the access log that failed.";
        families.counter("evenkeel_access_log_errors", help, snapshot.access_log_errors)?;
        let help = "The version of this build.";
        let mut metric =
            families.encoder.encode_descriptor("evenkeel_build", help, None, MetricType::Info)?;
        metric.encode_info(&[("version", snapshot.version)])
    }

    /// `process_*`, with the help texts of Prometheus' own libraries.
    fn encode_process(&self, families: &mut Families<'_, '_>) -> fmt::Result {
        let Some(process) = &self.scrape.process else { return Ok(()) };
        let help = "Total user and system CPU time spent in seconds.";
        families.counter("process_cpu_seconds", help, process.cpu_seconds)?;
        let help = "Resident memory size in bytes.";
        families.gauge("process_resident_memory_bytes", help, process.resident_bytes)?;
        let help = "Virtual memory size in bytes.";
        families.gauge("process_virtual_memory_bytes", help, process.virtual_bytes)?;
        families.gauge("process_open_fds", "Number of open file descriptors.", process.open_files)?;
        if let Some(most) = process.open_files_max {
            families.gauge("process_max_fds", "Maximum number of open file descriptors.", most)?;
        }
        let help = "Start time of the process since unix epoch in seconds.";
        families.gauge("process_start_time_seconds", help, process.start_time_seconds)?;
        families.gauge("process_threads", "Number of OS threads in the process.", process.threads)
    }
}

/// The numbers of one family by cluster and label, with a bounded number of clusters.
fn sums(samples: &[GaugeSample], family: ClusterGauge) -> BTreeMap<(&str, &'static str), u64> {
    let names: BTreeSet<_> = samples.iter().map(|sample| sample.cluster.as_str()).collect();
    let kept: BTreeSet<_> = names.into_iter().take(MAX_CLUSTER_SERIES).collect();
    let mut sums = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.family == family) {
        let cluster = sample.cluster.as_str();
        let cluster = if kept.contains(cluster) { cluster } else { OTHER };
        *sums.entry((cluster, sample.label)).or_default() += sample.value;
    }
    sums
}

/// Labels of an event's series: those of where it happened, and the family's own, if it has one.
type EventLabels<'a> = Vec<(&'static str, &'a str)>;

/// The series of one family in one table, whose slots `count` reads.
fn series<'a>(
    family: &Family,
    place: &[(&'static str, &'a str)],
    count: impl Fn(usize) -> u64,
) -> Vec<(EventLabels<'a>, u64)> {
    let labels = |own| place.iter().copied().chain(own).collect();
    match family.label {
        None => vec![(labels(None), count(family.slot))],
        Some((label, values)) => (family.slot..)
            .zip(values)
            .map(|(slot, value)| (labels(Some((label, *value))), count(slot)))
            .collect(),
    }
}

/// The codes that were seen, and OK.
fn by_code<'a, const N: usize>(
    labels: [(&'static str, &'a str); N],
    totals: &'a CallTotals,
) -> impl Iterator<Item = (WithCode<'a, N>, u64)> {
    let counts = Code::ALL.iter().zip(totals.handled);
    let seen = counts.filter(|(code, count)| *count > 0 || **code == Code::Ok);
    seen.map(move |(code, count)| ((labels, [("grpc_code", code.metric_name())]), count))
}

/// A row's labels, then `grpc_code`.
type WithCode<'a, const N: usize> = ([(&'static str, &'a str); N], [(&'static str, &'static str); 1]);
