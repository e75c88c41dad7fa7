//! A route's canary.

use std::path::PathBuf;

use evenkeel_balance::canary::CanaryConfig;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::ClusterRef;
use crate::units::format_duration;

/// A new version that gets a growing share of what two clusters of a split get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CanarySettings {
    /// What commands, metrics and the log call it: no other canary has this name. Default: the name of its cluster.
    pub name: String,
    /// The cluster of the split that answers without a canary.
    pub stable: ClusterRef,
    /// The cluster of the split with the new version; another one.
    pub canary: ClusterRef,
    /// Whether it starts by itself. Default no.
    pub auto: bool,
    /// Its steps, and what sends it back.
    pub config: CanaryConfig,
}

impl Serialize for CanarySettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("stable", &self.stable)?;
        map.serialize_entry("canary", &self.canary)?;
        map.serialize_entry("auto", &self.auto)?;
        let steps: Vec<_> = self
            .config
            .steps
            .iter()
            .map(|step| match step.weight {
                100 => serde_json::json!({ "weight": 100 }),
                weight => serde_json::json!({ "weight": weight, "duration": format_duration(step.duration) }),
            })
            .collect();
        map.serialize_entry("steps", &steps)?;
        map.serialize_entry("max_error_increase", &self.config.max_error_increase.get())?;
        map.serialize_entry("latency_quantile", &self.config.latency_quantile.get())?;
        map.serialize_entry("max_latency_increase", &self.config.max_latency_increase.get())?;
        map.serialize_entry("min_calls", &self.config.min_calls)?;
        map.end()
    }
}

/// Where the state of canaries is kept over a restart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StateFile {
    /// Beside the configuration file, with `.state.json` behind its name.
    #[default]
    Beside,
    /// In this file.
    At(PathBuf),
    /// Nowhere: after a restart every canary begins anew.
    Off,
}

impl Serialize for StateFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Beside => serializer.serialize_str("beside"),
            Self::At(path) => serializer.collect_str(&path.display()),
            Self::Off => serializer.serialize_str("off"),
        }
    }
}
