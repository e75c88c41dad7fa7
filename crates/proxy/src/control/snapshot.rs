//! From the resolved configuration and discovery's answers to the workers' snapshot.

use std::sync::Arc;
use std::time::Duration;

use evenkeel_config::{
    BinaryValues, Cluster as ClusterConfig, Config, Forwarded, HashBy, Limits as ConfigLimits,
    Listener as ListenerConfig, MetadataChange as MetadataChangeConfig, MetadataMatch as MetadataCondition,
    MetadataRules as ConfigMetadataRules, NamesWithUnderscore, PathMatch as PathCondition, Profile, Retry,
    Route as RouteConfig, ValueMatch as ValueCondition, whole_regex,
};
use evenkeel_http2::Limits;
use evenkeel_http2::hpack::HeaderListLimits;
use evenkeel_telemetry::{RouteTelemetry, Telemetry};
use regex::bytes::Regex;

use super::canary::Canaries;
use super::clusters::ClusterRuntime;
use super::limits::RateLimits;
use crate::worker::affinity::{CookieSource, HashPlan, KeySource};
use crate::worker::fault::Fault;
use crate::worker::limit::rate::RouteRateLimit;
use crate::worker::metadata::{MetadataRules, Traits};
use crate::worker::mirror::Mirror;
use crate::worker::rewrite::{MetadataChange, Rewrite};
use crate::worker::route::{
    MetadataMatch, PathMatch, Route, RouteActions, RouteMatch, RouteTable, ValueMatch,
};
use crate::worker::snapshot::{
    CALLS_PER_CONNECTION_MAX, Cluster, HedgeSettings, Listener, MaxAge, ReplayBounds, RetrySettings, Snapshot,
};

/// Builds the snapshot of a configuration. `clusters` are in the configuration's order; without `telemetry` nothing that happens to
/// its routes is counted.
pub(super) fn build(
    config: &Config,
    clusters: Vec<Arc<Cluster>>,
    canaries: &Canaries,
    rates: &mut RateLimits,
    telemetry: Option<&Telemetry>,
    generation: u64,
) -> Arc<Snapshot> {
    let listeners = config
        .listeners
        .iter()
        .map(|listener| Arc::new(build_listener(listener, canaries, rates, telemetry)));
    let listeners = listeners.collect();
    rates.settle();
    let replay = ReplayBounds {
        call_bytes: config.replay.per_call as usize,
        process_bytes: u64::from(config.replay.per_process),
    };
    Arc::new(Snapshot { generation: generation as u32, listeners, clusters, replay })
}

/// Builds the clusters, which may take seconds: large tables of ring_hash and maglev are made here.
pub(super) fn build_clusters(clusters: &[Arc<ClusterRuntime>], now: Duration) -> Vec<Arc<Cluster>> {
    clusters.iter().map(|cluster| Arc::new(build_cluster(cluster, now))).collect()
}

fn build_cluster(runtime: &ClusterRuntime, now: Duration) -> Cluster {
    let endpoints = runtime.refresh(now);
    let resolver = runtime.resolver();
    Cluster {
        outliers: runtime.outliers.clone(),
        gates: Arc::clone(&runtime.gates),
        limits: runtime.limits.clone(),
        endpoints,
        resolve_error: resolver.error.map(|error| error.to_string().into()),
        ..configured(&runtime.config)
    }
}

/// A cluster as its configuration has it, with endpoints that are not known yet.
pub(super) fn configured(config: &ClusterConfig) -> Cluster {
    Cluster {
        name: config.name.as_str().into(),
        policy: config.balancing.policy,
        utilization_metrics: Arc::clone(&config.balancing.utilization_metrics),
        hash_plan: HashPlan::new(config.hash_by.iter().map(build_key_source)),
        slow_start: config.slow_start,
        backoff: config.backoff,
        connect_timeout: config.connect_timeout,
        stall_timeout: config.stall_timeout,
        max_pending: config.max_pending as usize,
        max_connections_per_endpoint: config.max_connections_per_endpoint as usize,
        max_calls_per_connection: CALLS_PER_CONNECTION_MAX,
        max_endpoints_per_worker: config.max_endpoints_per_worker as usize,
        outliers: None,
        gates: Arc::default(),
        limits: None,
        wait_for_ready: config.wait_for_ready,
        endpoints: None,
        resolve_error: None,
    }
}

fn build_listener(
    listener: &ListenerConfig,
    canaries: &Canaries,
    rates: &mut RateLimits,
    telemetry: Option<&Telemetry>,
) -> Listener {
    let address = listener.address.to_string();
    let routes = listener.routes.iter().enumerate().map(|(place, route)| {
        let counts = telemetry.map(|telemetry| telemetry.route(&address, place));
        build_route(route, canaries, rates.of_route(&address, route), counts)
    });
    let limits = &listener.limits;
    Listener {
        name: address.as_str().into(),
        limits: build_limits(limits),
        max_connections: limits.max_connections_per_worker,
        stall_timeout: limits.stall_timeout,
        max_age: limits.max_connection_age.map(|age| MaxAge { age, grace: limits.max_connection_age_grace }),
        metadata: build_metadata_rules(listener.metadata),
        routes: RouteTable::new(routes.collect()),
    }
}

fn build_route(
    route: &RouteConfig,
    canaries: &Canaries,
    rate_limit: Option<Arc<RouteRateLimit>>,
    counts: Option<Arc<RouteTelemetry>>,
) -> Route {
    Route {
        name: route.destination.shares[0].cluster.name.as_str().into(),
        conditions: RouteMatch {
            authorities: route.conditions.authorities.iter().map(|name| name.as_str().into()).collect(),
            path: build_path(&route.conditions.path),
            metadata: route.conditions.metadata.iter().map(build_metadata).collect(),
        },
        destination: canaries.split(&route.destination),
        timeout: route.timeout,
        retry: route.retry.as_ref().map(build_retry),
        hedge: route.hedge.map(|policy| Arc::new(HedgeSettings { policy })),
        actions: build_actions(route, rate_limit, counts.as_ref()),
        counts,
    }
}

fn build_actions(
    route: &RouteConfig,
    rate_limit: Option<Arc<RouteRateLimit>>,
    counts: Option<&Arc<RouteTelemetry>>,
) -> Option<Arc<RouteActions>> {
    let counts = counts.filter(|_| route.fault.is_some() || rate_limit.is_some());
    let rewrite = Rewrite {
        request: build_change(&route.request_metadata),
        response: build_change(&route.response_metadata),
        trailers: build_change(&route.response_trailers),
    };
    let actions = RouteActions {
        rewrite,
        mirror: route
            .mirror
            .as_ref()
            .map(|mirror| Mirror { cluster: mirror.cluster.position, part: mirror.percent.millionths() }),
        fault: route.fault.map(|fault| Fault {
            delay: fault.delay.map(|(delay, part)| (delay, part.millionths())),
            abort: fault.abort.map(|(code, part)| (code, part.millionths())),
            by_header: fault.by_header,
        }),
        counts: counts.map(|counts| counts.events()),
        rate_limit,
        max_stream_duration: route.max_stream_duration,
        stream_idle_timeout: route.stream_idle_timeout,
    };
    (!actions.is_empty()).then(|| Arc::new(actions))
}

fn build_change(change: &MetadataChangeConfig) -> MetadataChange {
    let removed = change.remove.iter().fold(MetadataChange::default(), |built, name| built.remove(name));
    let set = change.set.iter().fold(removed, |built, field| built.set(&field.name, &field.value));
    change.add.iter().fold(set, |built, field| built.add(&field.name, &field.value))
}

fn build_retry(retry: &Retry) -> Arc<RetrySettings> {
    Arc::new(RetrySettings { policy: retry.policy, is_idempotent: retry.is_idempotent })
}

fn build_limits(limits: &ConfigLimits) -> Limits {
    Limits {
        max_concurrent_streams: limits.max_concurrent_streams,
        stream_window_bytes: limits.initial_stream_window_size,
        connection_window_bytes: limits.initial_connection_window_size,
        header_list: HeaderListLimits {
            list_bytes: limits.max_header_list_size as usize,
            fields: limits.max_headers_count as usize,
            string_bytes: limits.max_header_field_size as usize,
        },
        idle_timeout: limits.idle_timeout,
        ..match limits.profile {
            Profile::Edge => Limits::edge(),
            Profile::Mesh => Limits::mesh(),
        }
    }
}

pub(super) fn build_key_source(source: &HashBy) -> KeySource {
    match source {
        HashBy::Metadata(name) => KeySource::Metadata(name.as_bytes().into()),
        HashBy::SourceIp => KeySource::SourceIp,
        HashBy::Cookie(cookie) => KeySource::Cookie(match cookie.ttl {
            Some(ttl) => CookieSource::given(&cookie.name, ttl, cookie.path.as_deref()),
            None => CookieSource::of_client(&cookie.name),
        }),
    }
}

fn build_metadata_rules(rules: ConfigMetadataRules) -> MetadataRules {
    let (mut dropped, mut refused) = (Traits::NONE, Traits::NONE);
    if rules.forwarded == Forwarded::Strip {
        dropped = dropped | Traits::FORWARDED;
    }
    match rules.names_with_underscore {
        NamesWithUnderscore::Allow => {}
        NamesWithUnderscore::Reject => refused = refused | Traits::UNDERSCORE,
        NamesWithUnderscore::Drop => dropped = dropped | Traits::UNDERSCORE,
    }
    if rules.binary_values == BinaryValues::Check {
        refused = refused | Traits::NOT_BASE64;
    }
    MetadataRules { dropped, refused }
}

fn build_path(condition: &PathCondition) -> PathMatch {
    match condition {
        PathCondition::Any => PathMatch::Any,
        PathCondition::Service(service) => PathMatch::Service(service.as_str().into()),
        PathCondition::ServicePrefix(prefix) => PathMatch::ServicePrefix(prefix.as_str().into()),
        PathCondition::Method { service, method } => {
            PathMatch::Method { service: service.as_str().into(), method: method.as_str().into() }
        }
        PathCondition::MethodPrefix { service, prefix } => {
            PathMatch::MethodPrefix { service: service.as_str().into(), prefix: prefix.as_str().into() }
        }
        PathCondition::Regex(pattern) => PathMatch::Regex(build_regex(pattern)),
    }
}

fn build_metadata(condition: &MetadataCondition) -> MetadataMatch {
    let bytes = |text: &str| text.as_bytes().into();
    MetadataMatch {
        name: bytes(&condition.name),
        value: match &condition.value {
            ValueCondition::Present => ValueMatch::Present,
            ValueCondition::Exact(text) => ValueMatch::Exact(bytes(text)),
            ValueCondition::Prefix(text) => ValueMatch::Prefix(bytes(text)),
            ValueCondition::Regex(pattern) => ValueMatch::Regex(build_regex(pattern)),
        },
        invert: condition.invert,
    }
}

fn build_regex(pattern: &str) -> Regex {
    whole_regex(pattern).expect("the configuration refuses what cannot be compiled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_and_refused_is_as_configured() {
        let edge = build_metadata_rules(ConfigMetadataRules::of(Profile::Edge));
        assert_eq!(edge, MetadataRules::edge());
        assert_eq!(build_metadata_rules(ConfigMetadataRules::of(Profile::Mesh)), MetadataRules::default());
        let with = |names_with_underscore| {
            let rules =
                ConfigMetadataRules { names_with_underscore, ..ConfigMetadataRules::of(Profile::Mesh) };
            build_metadata_rules(rules)
        };
        assert_eq!(with(NamesWithUnderscore::Reject).refused, Traits::UNDERSCORE);
        assert_eq!(with(NamesWithUnderscore::Drop).dropped, Traits::UNDERSCORE);
    }

    /// The engine documents the limits of both profiles, and the configuration their defaults: they must not drift apart.
    #[test]
    fn the_defaults_of_a_profile_are_those_of_the_engine() {
        for (profile, engine) in [(Profile::Edge, Limits::edge()), (Profile::Mesh, Limits::mesh())] {
            let built = build_limits(&ConfigLimits::of(profile));
            assert_eq!(format!("{built:?}"), format!("{engine:?}"), "{profile:?}");
        }
    }
}
