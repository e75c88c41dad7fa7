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
use evenkeel_telemetry::{Event, LoadReported, Probed};

use super::Worker;

/// What a backend tells that probes it, or `None` if it tells nothing of the kind, or nothing that can be.
///
/// A latency that makes no sense counts as none; what is too large is bounded where it is kept.
pub(crate) fn probe_answer(metrics: &LoadMetrics) -> Option<ProbeAnswer> {
    let in_flight = metrics.requests_in_flight.filter(|number| number.is_finite() && *number >= 0.0)?;
    let latency = Duration::try_from_secs_f64(metrics.latency_ms / 1e3).ok();
    Some(ProbeAnswer {
        // Saturates.
        requests_in_flight: in_flight.round() as u32,
        latency: latency.filter(|latency| !latency.is_zero()),
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
        self.count(Event::LoadReport(outcome));
    }

    /// Counts the probes that a call brought about, under the policy that has some.
    #[inline]
    pub(super) fn count_probes(&self, probes: Option<ProbeCounts>) {
        let Some(probes) = probes else { return };
        self.count_many(Event::Probe(Probed::Answered), probes.answered);
        self.count_many(Event::Probe(Probed::Unanswered), probes.unanswered);
    }

    /// Counts what became of a report: `before` is how many the balancer had ignored until then.
    pub(super) fn count_load_report(&self, cluster: u32, before: u64) {
        let counts = self.clusters[cluster as usize].balancer.load_reports();
        let outcome = if counts.ignored > before { LoadReported::Ignored } else { LoadReported::Taken };
        self.count(Event::LoadReport(outcome));
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
        assert_eq!(probe_answer(&metrics(Some(1e300), f64::INFINITY)), answer(u32::MAX, None));
        assert_eq!(probe_answer(&metrics(Some(1.0), -1.0)), answer(1, None));
        assert_eq!(probe_answer(&metrics(Some(1.0), f64::NAN)), answer(1, None));
    }

    #[test]
    fn what_cannot_be_is_no_answer() {
        for number in [None, Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(probe_answer(&metrics(number, 5.0)), None, "{number:?}");
        }
    }
}
