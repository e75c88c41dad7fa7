//! Limits: what may be under way to a cluster, and how often a route's calls are let through.

use core::time::Duration;

use evenkeel_balance::limit::{AdaptiveConfig, BreakerLimits, MinRtt, RateLimit};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::HashBy;
use crate::units::format_duration;

/// The circuit breakers of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CircuitBreakers {
    /// Of the cluster as a whole. Default: 1024 calls that wait, else no bound.
    pub cluster: BreakerLimits,
    /// Of each endpoint; its `max_pending` is `None`, as calls wait for a cluster. Default: 1024 attempts under way.
    pub endpoint: BreakerLimits,
}

impl CircuitBreakers {
    /// The same for a cluster whose calls are never tried again; `None` if no bound is left.
    pub(crate) fn without_retries(mut self) -> Option<Self> {
        (self.cluster.max_retries, self.endpoint.max_retries) = (None, None);
        let is_left = [self.cluster, self.endpoint].iter().any(|limits| *limits != BreakerLimits::default());
        is_left.then_some(self)
    }
}

/// Adaptive concurrency of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdaptiveConcurrency {
    /// How the limit is found.
    pub config: AdaptiveConfig,
    /// Whether calls above it wait for a place. Default true.
    pub queue: bool,
}

/// How often a route's calls are let through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRateLimit {
    /// Of all clients together; `None`: as often as they come. One of the two is there.
    pub route: Option<Rate>,
    /// Of each client; `None`: as often as they come.
    pub clients: Option<ClientRate>,
}

/// A rate, as it was written and as it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Calls in `per`.
    pub requests: u32,
    /// The time in which they are let through. Default 1 s.
    pub per: Duration,
    /// Calls at once after a rest. Default `requests`.
    pub burst: u32,
    /// The three as a limiter takes them.
    pub limit: RateLimit,
}

/// How often the calls of one client are let through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientRate {
    /// What tells clients apart: the first that a call has. At least one, at most
    /// [`MAX_HASH_BY`](crate::bounds::MAX_HASH_BY), and no cookie with `ttl`.
    pub by: Vec<HashBy>,
    /// The rate.
    pub rate: Rate,
    /// Clients that are told apart at once. Default 16384.
    pub max_keys: u32,
}

fn off_or(count: Option<u32>) -> Value {
    count.map_or_else(|| json!("off"), |count| json!(count))
}

pub(super) fn serialize_breakers<S: Serializer>(
    breakers: &Option<CircuitBreakers>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let written = |breakers: &CircuitBreakers| {
        let CircuitBreakers { cluster, endpoint } = breakers;
        json!({
            "max_connections": off_or(cluster.max_connections),
            "max_pending": off_or(cluster.max_pending),
            "max_requests": off_or(cluster.max_requests),
            "max_retries": off_or(cluster.max_retries),
            "per_endpoint": {
                "max_connections": off_or(endpoint.max_connections),
                "max_requests": off_or(endpoint.max_requests),
                "max_retries": off_or(endpoint.max_retries),
            },
        })
    };
    breakers.as_ref().map_or_else(|| json!("off"), written).serialize(serializer)
}

pub(super) fn serialize_adaptive<S: Serializer>(
    adaptive: &Option<AdaptiveConcurrency>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    adaptive.as_ref().map_or_else(|| json!("off"), written_adaptive).serialize(serializer)
}

fn written_adaptive(adaptive: &AdaptiveConcurrency) -> Value {
    let config = &adaptive.config;
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("sample_interval", json!(format_duration(config.sample_interval)));
    put("min_limit", json!(config.min_limit));
    put("max_limit", json!(config.max_limit));
    put("initial_limit", json!(config.initial_limit));
    put("buffer_percent", json!(config.buffer_percent));
    match config.min_rtt {
        MinRtt::Fixed(min_rtt) => {
            put("min_rtt", json!(format_duration(min_rtt)));
        }
        MinRtt::Measured { interval, jitter_percent, requests } => {
            put("measure_interval", json!(format_duration(interval)));
            put("measure_jitter_percent", json!(jitter_percent));
            put("measure_requests", json!(requests));
        }
    }
    put("queue", json!(adaptive.queue));
    Value::Object(map)
}

impl Rate {
    fn put(&self, map: &mut Map<String, Value>) {
        map.insert("requests".to_owned(), json!(self.requests));
        map.insert("per".to_owned(), json!(format_duration(self.per)));
        map.insert("burst".to_owned(), json!(self.burst));
    }
}

impl Serialize for RouteRateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = Map::new();
        if let Some(rate) = &self.route {
            rate.put(&mut map);
        }
        if let Some(clients) = &self.clients {
            let mut of_client = Map::new();
            of_client.insert("by".to_owned(), json!(clients.by));
            clients.rate.put(&mut of_client);
            of_client.insert("max_keys".to_owned(), json!(clients.max_keys));
            map.insert("per_client".to_owned(), Value::Object(of_client));
        }
        Value::Object(map).serialize(serializer)
    }
}
