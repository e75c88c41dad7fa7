//! The configuration as used: every value is legal and every default filled in, so that no code checks again.
//!
//! A [`Config`] comes from [`parse`](crate::parse) or [`Config::from_flags`](crate::Config::from_flags) only; those who
//! build one by hand, in a test, answer for its values. It serializes to the form that is read: what the admin interface
//! shows can be saved and used, and means the same.

mod affinity;
mod canary;
mod destination;
mod fault;
mod limits;
mod listener;
mod metadata;
mod overload;
mod rewrite;
mod route;
mod rules;
mod spread;
mod targets;

use core::num::NonZeroUsize;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use evenkeel_balance::health_check::HealthCheckConfig;
use evenkeel_balance::outlier::OutlierConfig;
use evenkeel_balance::retry::{RetryBudgetConfig, RetryThrottleConfig};
use evenkeel_balance::{BackoffConfig, Locality, Policy, SlowStart, SpreadConfig};
use evenkeel_grpc::UtilizationMetric;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::listen::ListenAddress;
use crate::units::format_duration;

pub use affinity::{Cookie, HashBy, Subset, SubsetKind};
pub use canary::{CanarySettings, StateFile};
pub use destination::{Destination, Share};
pub use fault::{FaultInjection, Mirror, Percent};
pub use limits::{AdaptiveConcurrency, CircuitBreakers, ClientRate, Rate, RouteRateLimit};
pub use listener::{Limits, Listener, Profile};
pub use metadata::{MAX_REGEX_BYTES, MetadataMatch, ValueMatch, whole_regex};
pub(crate) use metadata::{may_begin_with, may_have_two_slashes};
pub use overload::{MemoryLimit, Overload, Replay};
pub use rewrite::{MetadataChange, MetadataField};
pub use route::{ClusterRef, PathMatch, Retry, Route, RouteMatch};
pub use rules::{BinaryValues, Forwarded, MetadataRules, NamesWithUnderscore};
pub use targets::{PlacedTarget, Targets};

/// The admin interface's default port, Envoy's.
pub const DEFAULT_ADMIN_PORT: u16 = 9901;

/// What a proxy does.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Config {
    /// Where calls come in: at least one, at most [`MAX_LISTENERS`](crate::bounds::MAX_LISTENERS).
    pub listeners: Vec<Listener>,
    /// Groups of endpoints, with distinct names: at least one, at most [`MAX_CLUSTERS`](crate::bounds::MAX_CLUSTERS).
    pub clusters: Vec<Cluster>,
    /// Where the admin interface listens; `None`: nowhere. Default 127.0.0.1:9901.
    #[serde(serialize_with = "serialize_admin")]
    pub admin: Option<Admin>,
    /// Where this proxy runs. `None`, the default: nobody said.
    #[serde(serialize_with = "spread::serialize_node", skip_serializing_if = "Option::is_none")]
    pub node: Option<Locality>,
    /// Worker threads. `None`, the default: as many as the process has cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<NonZeroUsize>,
    /// Where the access log goes; `None`, the default: nowhere.
    #[serde(serialize_with = "serialize_access_log")]
    pub access_log: Option<AccessLog>,
    /// Where the state of canaries is kept over a restart. Default: beside the configuration file.
    pub state_file: StateFile,
    /// What happens between SIGTERM and the end.
    pub drain: Drain,
    /// When the proxy begins to give up what it holds for peers.
    pub overload: Overload,
    /// How much of requests is kept, so that their calls can be sent again.
    pub replay: Replay,
}

/// The admin interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Admin {
    /// Where it listens.
    pub address: ListenAddress,
    /// Names under which it may be asked, besides IP addresses and `localhost`: lower case, without a port; at most
    /// [`MAX_ADMIN_HOSTS`](crate::bounds::MAX_ADMIN_HOSTS). Default: none.
    pub hosts: Vec<String>,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessLog {
    /// To the standard output.
    Stdout,
    /// To this file, at its end.
    File(PathBuf),
}

/// What happens between SIGTERM (or POST /drain) and the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Drain {
    /// How long the proxy goes on as before, while it says that it is not ready. Default 5 s.
    #[serde(serialize_with = "serialize_duration")]
    pub pre_drain: Duration,
    /// Time over which the connections are asked to go, at most `grace`. Default 5 s, or a quarter of `grace` if less.
    #[serde(serialize_with = "serialize_duration")]
    pub spread: Duration,
    /// How long calls in flight may go on. Default 30 s.
    #[serde(serialize_with = "serialize_duration")]
    pub grace: Duration,
}

/// A group of endpoints that answer the same calls.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cluster {
    /// Its name, which no other cluster has.
    pub name: String,
    /// Where its endpoints come from.
    #[serde(rename = "target")]
    pub targets: Targets,
    /// How an endpoint is chosen for each call.
    #[serde(rename = "policy", serialize_with = "crate::policy::serialize")]
    pub balancing: Balancing,
    /// What calls must have in common to meet the same endpoint: the first that a call has decides. At least one under a
    /// policy that hashes, none under others; at most [`MAX_HASH_BY`](crate::bounds::MAX_HASH_BY). Default: none.
    pub hash_by: Vec<HashBy>,
    /// How the share of a new endpoint grows. Default `None`: it has its whole share at once.
    #[serde(serialize_with = "affinity::serialize_slow_start")]
    pub slow_start: Option<SlowStart>,
    /// Which endpoints this proxy uses. Default `None`: all.
    #[serde(serialize_with = "affinity::serialize_subset")]
    pub subset: Option<Subset>,
    /// How calls are spread over priorities and localities. Default: Envoy's overprovisioning factor of 1.4 and panic threshold
    /// of 50 %; localities are not looked at.
    #[serde(flatten, serialize_with = "spread::serialize_spread")]
    pub spread: Arc<SpreadConfig>,
    /// How long a connection attempt may take, the backend's SETTINGS included. Default 5 s.
    #[serde(serialize_with = "serialize_duration")]
    pub connect_timeout: Duration,
    /// How long an endpoint may leave unread what waits for it, before the call or connection is ended. Default 1 min.
    #[serde(serialize_with = "serialize_duration")]
    pub stall_timeout: Duration,
    /// When to try again to connect. Its `min_connect_timeout` is `connect_timeout`.
    #[serde(serialize_with = "serialize_backoff")]
    pub backoff: BackoffConfig,
    /// How each endpoint is asked whether it wants calls. `None`, the default: it is not.
    #[serde(serialize_with = "crate::health::serialize")]
    pub health_check: Option<HealthCheckConfig>,
    /// When an endpoint whose calls fail is taken out of rotation. `None`, the default: never.
    #[serde(serialize_with = "crate::outlier::serialize")]
    pub outlier_detection: Option<OutlierConfig>,
    /// Bounds the retries of all calls. Default 20 % of the calls, at least 3.
    #[serde(serialize_with = "crate::retry::serialize_budget")]
    pub retry_budget: RetryBudgetConfig,
    /// Stops retries while too many attempts fail (gRFC A6). `None`, the default: never.
    #[serde(serialize_with = "crate::retry::serialize_throttling")]
    pub retry_throttling: Option<RetryThrottleConfig>,
    /// Bounds of what may be under way. `None`, the default: none but the ones of each worker below.
    #[serde(serialize_with = "limits::serialize_breakers")]
    pub circuit_breakers: Option<CircuitBreakers>,
    /// A limit of what is under way that follows the latency. `None`, the default: off.
    #[serde(serialize_with = "limits::serialize_adaptive")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Whether calls wait for an endpoint where there is none that could take them. Default false: they fail.
    pub wait_for_ready: bool,
    /// How often a name is resolved. `None` if the target has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsRefresh>,
    /// Calls of one worker that may wait for an endpoint or a place. Default 1024.
    pub max_pending: u32,
    /// Connections of one worker to one endpoint. Default 4.
    pub max_connections_per_endpoint: u32,
    /// Endpoints that one worker connects to. Default 1024.
    pub max_endpoints_per_worker: u32,
}

/// How an endpoint is chosen for each call.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Balancing {
    /// The policy. Default: least_request with a sample of two.
    pub policy: Policy,
    /// Metrics of load reports of which the largest stands for utilization where an endpoint does not say what its application
    /// uses (gRFC A114): at most [`MAX_UTILIZATION_METRICS`](crate::bounds::MAX_UTILIZATION_METRICS). Default: none.
    pub utilization_metrics: Arc<[UtilizationMetric]>,
}

/// How often a name is resolved: when the records' TTL is over, within these bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct DnsRefresh {
    /// Shortest time between two resolutions. Default 1 s.
    #[serde(serialize_with = "serialize_duration")]
    pub min_refresh: Duration,
    /// Longest time between two resolutions, at least `min_refresh`. Default 30 s.
    #[serde(serialize_with = "serialize_duration")]
    pub max_refresh: Duration,
}

fn serialize_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

fn serialize_admin<S: Serializer>(admin: &Option<Admin>, serializer: S) -> Result<S::Ok, S::Error> {
    match admin {
        None => serializer.serialize_str("off"),
        Some(admin) => admin.serialize(serializer),
    }
}

fn serialize_access_log<S: Serializer>(log: &Option<AccessLog>, serializer: S) -> Result<S::Ok, S::Error> {
    match log {
        None => serializer.serialize_str("off"),
        Some(AccessLog::Stdout) => serializer.serialize_str("stdout"),
        Some(AccessLog::File(path)) => serializer.collect_str(&path.display()),
    }
}

fn serialize_backoff<S: Serializer>(backoff: &BackoffConfig, serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_struct("Backoff", 4)?;
    object.serialize_field("base_interval", &format_duration(backoff.base))?;
    object.serialize_field("multiplier", &backoff.multiplier)?;
    object.serialize_field("jitter", &backoff.jitter)?;
    object.serialize_field("max_interval", &format_duration(backoff.max))?;
    object.end()
}
