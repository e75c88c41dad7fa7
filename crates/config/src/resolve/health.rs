//! Active health checks.

use core::time::Duration;

use evenkeel_balance::Factor;
use evenkeel_balance::health_check::{HealthCheckConfig, Probe};

use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, closest};
use crate::health::PROBE_NAMES;
use crate::raw::{Field, Off, RawDuration, RawHealthCheck, Text};

/// The settings if checks are on; without the key they are off.
pub(super) fn resolve_health_check(
    raw: &Field<Off<RawHealthCheck>>,
    reports: &mut Reports,
) -> Option<HealthCheckConfig> {
    let Off::On(raw) = &raw.given()?.value else { return None };
    let probe = resolve_probe(raw, reports);
    let is_watch = matches!(probe, Probe::Watch { .. });
    if let (true, Some((key, _))) = (is_watch, raw.healthy_threshold.with_key()) {
        let reason = "because `grpc_watch` takes an endpoint at its word";
        reports.add(key, Fault::NoEffect { key: "healthy_threshold", reason });
    }
    let interval = value::duration(&raw.interval, bounds::HEALTH_INTERVAL, reports);
    let jitter = value::number(&raw.jitter, bounds::HEALTH_JITTER, reports);
    let default = HealthCheckConfig::default();
    Some(HealthCheckConfig {
        probe,
        interval,
        jitter: Factor::try_from(jitter).unwrap_or(default.jitter),
        timeout: resolve_timeout(&raw.timeout, interval, reports),
        unhealthy_threshold: value::count(
            &raw.unhealthy_threshold,
            bounds::HEALTH_UNHEALTHY_THRESHOLD,
            reports,
        ),
        healthy_threshold: value::count(&raw.healthy_threshold, bounds::HEALTH_HEALTHY_THRESHOLD, reports),
    })
}

fn resolve_probe(raw: &RawHealthCheck, reports: &mut Reports) -> Probe {
    let service = resolve_service(&raw.service, reports);
    let name = raw.kind.given().map_or("grpc", |given| given.value.0.as_str());
    match (name, raw.kind.given()) {
        ("grpc_watch", _) => Probe::Watch { service },
        ("tcp", _) => {
            if let Some((key, _)) = raw.service.with_key() {
                let reason = "because a `tcp` check only opens a connection";
                reports.add(key, Fault::NoEffect { key: "service", reason });
            }
            Probe::Tcp
        }
        ("grpc", _) | (_, None) => Probe::Check { service },
        (name, Some(given)) => {
            let (kind, known) = ("kind of health check", &PROBE_NAMES);
            let suggestion = closest(name, PROBE_NAMES);
            reports.add(given.span, Fault::UnknownName { kind, name: name.to_owned(), suggestion, known });
            Probe::Check { service }
        }
    }
}

fn resolve_service(raw: &Field<Text>, reports: &mut Reports) -> String {
    let Some(given) = raw.given() else { return String::new() };
    let service = &given.value.0;
    if service.len() > bounds::MAX_HEALTH_SERVICE_BYTES {
        let fault = Fault::Unmatchable {
            text: service.clone(),
            kind: "service",
            reason: "it is longer than 256 bytes",
            help: "write the name that the backend's health service knows".to_owned(),
        };
        reports.add(given.span, fault);
    }
    service.clone()
}

/// A timeout that was not written fits into a short interval by itself.
fn resolve_timeout(raw: &Field<RawDuration>, interval: Duration, reports: &mut Reports) -> Duration {
    let timeout = value::duration(raw, bounds::HEALTH_TIMEOUT, reports);
    value::not_above((raw, timeout), ("interval", interval), reports);
    timeout.min(interval)
}
