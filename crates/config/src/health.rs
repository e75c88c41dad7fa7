//! Active health checks as the configuration writes them.

use evenkeel_balance::health_check::{HealthCheckConfig, Probe};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::units::format_duration;

/// The names of what can be asked.
pub(crate) const PROBE_NAMES: [&str; 3] = ["grpc", "grpc_watch", "tcp"];

/// Writes the settings in the form that is read; `off` for none.
pub(crate) fn serialize<S: Serializer>(
    config: &Option<HealthCheckConfig>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let Some(config) = config else { return "off".serialize(serializer) };
    let mut map = serializer.serialize_map(None)?;
    let (kind, service) = match &config.probe {
        Probe::Check { service } => ("grpc", Some(service)),
        Probe::Watch { service } => ("grpc_watch", Some(service)),
        Probe::Tcp => ("tcp", None),
    };
    map.serialize_entry("kind", kind)?;
    if let Some(service) = service {
        map.serialize_entry("service", service)?;
    }
    map.serialize_entry("interval", &format_duration(config.interval))?;
    map.serialize_entry("timeout", &format_duration(config.timeout))?;
    map.serialize_entry("jitter", &config.jitter.get())?;
    map.serialize_entry("unhealthy_threshold", &config.unhealthy_threshold)?;
    if kind != "grpc_watch" {
        map.serialize_entry("healthy_threshold", &config.healthy_threshold)?;
    }
    map.end()
}
