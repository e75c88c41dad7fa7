//! Load reports (ORCA, gRFC A51) that backends send with the end of their answers, for the policies that go by them. Those that
//! come on streams apart from calls are the control plane's (`control/load`).
//!
//! weighted_round_robin takes a report with the end of its call. prequal takes it as the endpoint's answer to probes, of all
//! workers: it goes to the endpoint that they share, and every probe that a call triggers is answered from there at once.
//! Why not with a call to the backend? gRPC has no probe, and a stream of reports that is reset after the first would count
//! as abuse with many servers (CVE-2023-44487). What comes with answers costs nothing, and is as young as the traffic is dense.

use core::time::Duration;

use evenkeel_balance::{LoadReport, LoadSource, Policy, ProbeAnswer, ProbeCounts, ProbeSource};
use evenkeel_grpc::load_report::{ENDPOINT_LOAD_METRICS_BIN, LoadMetrics};
use evenkeel_grpc::parse_load_report;
use evenkeel_telemetry::{ClusterEvent, LoadReported, Probed};

use super::Worker;

/// What a backend tells that probes it, or `None` if it tells nothing of the kind, or a number that cannot be: one that is
/// negative, infinite or none. The whole report is then ignored, or else the proxy's own latency, which may be far better,
/// would stand in for what an endpoint could not say.
///
/// What is too large counts as the most there is: bad news stays bad news. Both are bounded again where they are kept.
pub(crate) fn probe_answer(metrics: &LoadMetrics) -> Option<ProbeAnswer> {
    let can_be = |number: &f64| number.is_finite() && *number >= 0.0;
    let in_flight = metrics.requests_in_flight.filter(can_be)?;
    let latency_ms = Some(metrics.latency_ms).filter(can_be)?;
    // Fails for what is too large only.
    let latency = Duration::try_from_secs_f64(latency_ms / 1e3).unwrap_or(Duration::MAX);
    Some(ProbeAnswer {
        // Saturates.
        requests_in_flight: in_flight.round() as u32,
        latency: Some(latency).filter(|latency| !latency.is_zero()),
    })
}

impl Worker {
    /// Keeps the load that a backend reports with the end of its answer, where the policy asks for it.
    #[inline]
    pub(super) fn take_load_report(&mut self, now: Duration, id: u32) {
        let cluster = self.calls[id as usize].cluster;
        match self.clusters[cluster as usize].settings.policy {
            Policy::LoadWeightedRoundRobin(config) if config.source == LoadSource::Calls => {
                self.read_load_report(now, id, true);
            }
            Policy::Prequal(config) if config.source == ProbeSource::Endpoints => {
                self.read_load_report(now, id, false);
            }
            _ => {}
        }
    }

    fn read_load_report(&mut self, now: Duration, id: u32, weighs: bool) {
        let (block, store) = (&self.fields.block, &self.fields.store);
        let Some(field) = block.find_bytes(store, ENDPOINT_LOAD_METRICS_BIN.as_bytes()) else { return };
        let cluster = &self.clusters[self.calls[id as usize].cluster as usize];
        let outcome = match parse_load_report(field.value, &cluster.settings.utilization_metrics) {
            // What becomes of it shows at the end of the call.
            Ok(metrics) if weighs => {
                self.extras(id).load = Some(LoadReport {
                    utilization: metrics.utilization(),
                    requests_per_second: metrics.requests_per_second,
                    errors_per_second: metrics.errors_per_second,
                });
                return;
            }
            Ok(metrics) => {
                let call = &self.calls[id as usize];
                let balancer = &self.clusters[call.cluster as usize].balancer;
                match (probe_answer(&metrics), call.slot) {
                    (Some(answer), Some(slot)) => {
                        balancer.endpoint(slot).report(&answer, now);
                        LoadReported::Taken
                    }
                    _ => LoadReported::Ignored,
                }
            }
            Err(_) => LoadReported::Malformed,
        };
        self.count_of_call(id, ClusterEvent::LoadReport(outcome));
    }

    /// Counts the probes that a call to a cluster brought about, under the policy that has some.
    #[inline]
    pub(super) fn count_probes(&self, cluster: u32, probes: Option<ProbeCounts>) {
        let Some(probes) = probes else { return };
        self.count_many_in(cluster, ClusterEvent::Probe(Probed::Answered), probes.answered);
        self.count_many_in(cluster, ClusterEvent::Probe(Probed::Unanswered), probes.unanswered);
    }

    /// Counts what became of a report: `before` is how many the balancer had ignored until then.
    pub(super) fn count_load_report(&self, cluster: u32, before: u64) {
        let counts = self.clusters[cluster as usize].balancer.load_reports();
        let outcome = if counts.ignored > before { LoadReported::Ignored } else { LoadReported::Taken };
        self.count_in(cluster, ClusterEvent::LoadReport(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(requests_in_flight: Option<f64>, latency_ms: f64) -> LoadMetrics {
        LoadMetrics { requests_in_flight, latency_ms, ..LoadMetrics::default() }
    }

    #[test]
    fn a_report_with_requests_in_flight_answers_probes() {
        let answer = |requests_in_flight, latency_ms: Option<u64>| {
            Some(ProbeAnswer { requests_in_flight, latency: latency_ms.map(Duration::from_millis) })
        };
        assert_eq!(probe_answer(&metrics(Some(7.0), 12.0)), answer(7, Some(12)));
        assert_eq!(probe_answer(&metrics(Some(0.0), 0.0)), answer(0, None));
        assert_eq!(probe_answer(&metrics(Some(0.0), -0.0)), answer(0, None));
    }

    #[test]
    fn what_is_too_large_counts_as_the_most_there_is() {
        let most = ProbeAnswer { requests_in_flight: u32::MAX, latency: Some(Duration::MAX) };
        assert_eq!(probe_answer(&metrics(Some(1e300), 1e308)), Some(most));
        assert_eq!(probe_answer(&metrics(Some(f64::MAX), f64::MAX)), Some(most));
        // 2^64 seconds are too many, and the number before is not.
        let limit_ms = 2.0_f64.powi(64) * 1e3;
        let latency = |ms| probe_answer(&metrics(Some(1.0), ms)).unwrap().latency.unwrap();
        assert_eq!(latency(limit_ms), Duration::MAX);
        let below = latency(limit_ms.next_down());
        assert!(below < Duration::MAX && below > Duration::MAX / 2, "{below:?}");
    }

    #[test]
    fn what_cannot_be_is_no_answer() {
        for number in [None, Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(probe_answer(&metrics(number, 5.0)), None, "{number:?}");
        }
        for number in [-1.0, -5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(probe_answer(&metrics(Some(1.0), number)), None, "{number:?}");
        }
    }
}
