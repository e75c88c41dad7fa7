//! The limits of clusters and routes at run time: what is counted stays over a reload, as far as the limit stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::limit::{AdaptiveLimiter, CircuitBreaker, KeyedRateLimiter, RateLimiter, Scope};
use evenkeel_config::{Cluster, Route, RouteRateLimit as RateLimitConfig};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::snapshot::build_key_source;
use crate::worker::limit::ClusterLimits;
use crate::worker::limit::rate::{ClientRateLimit, RouteRateLimit};

/// The limits of a cluster. Those that it had before are taken over: what is under way is counted there.
pub(super) fn cluster_limits(
    config: &Cluster,
    before: Option<(&Cluster, &Arc<ClusterLimits>)>,
    now: Duration,
) -> Option<Arc<ClusterLimits>> {
    let (breakers, adaptive) = (&config.circuit_breakers, &config.adaptive_concurrency);
    if breakers.is_none() && adaptive.is_none() {
        return None;
    }
    let breaker = breakers.map(|breakers| match before.and_then(|(_, limits)| limits.breaker.clone()) {
        Some(breaker) => {
            breaker.set_limits(&breakers.cluster);
            breaker
        }
        None => Arc::new(CircuitBreaker::new(Scope::Cluster, &breakers.cluster)),
    });
    let limiter = adaptive.map(|adaptive| {
        let same = before.filter(|(before, _)| {
            before.adaptive_concurrency.is_some_and(|before| before.config == adaptive.config)
        });
        same.and_then(|(_, limits)| limits.adaptive.clone())
            .unwrap_or_else(|| Arc::new(AdaptiveLimiter::new(adaptive.config, now)))
    });
    Some(Arc::new(ClusterLimits {
        breaker,
        counts_endpoints: breakers.is_some(),
        adaptive: limiter,
        refuses_at_once: adaptive.is_some_and(|adaptive| !adaptive.queue),
    }))
}

/// The rate limits of all routes. A route that a reload leaves as it was keeps its buckets: a change of anything else, endpoints
/// most of all, must not fill them.
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    known: HashMap<String, Arc<RouteRateLimit>>,
    next: HashMap<String, Arc<RouteRateLimit>>,
    seed: u64,
}

impl RateLimits {
    /// No limits; `seed` is for the hashes of clients' keys.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The limit of a route of this listener, if it has one: the one that it had, or a new one.
    pub(super) fn of_route(&mut self, listener: &str, route: &Route) -> Option<Arc<RouteRateLimit>> {
        let config = route.rate_limit.as_ref()?;
        let key = format!("{listener} {:?} {config:?}", route.conditions);
        let limit = match self.known.get(&key) {
            Some(limit) => Arc::clone(limit),
            None => Arc::new(build(config, self.seed.wrapping_add(self.next.len() as u64))),
        };
        self.next.insert(key, Arc::clone(&limit));
        Some(limit)
    }

    /// All routes were asked for: what none of them has is forgotten.
    pub(super) fn settle(&mut self) {
        self.known = core::mem::take(&mut self.next);
    }
}

fn build(config: &RateLimitConfig, seed: u64) -> RouteRateLimit {
    RouteRateLimit {
        route: config.route.map(|rate| RateLimiter::new(rate.limit)),
        clients: config.clients.as_ref().map(|clients| ClientRateLimit {
            by: clients.by.iter().map(build_key_source).collect(),
            limiter: KeyedRateLimiter::new(
                clients.rate.limit,
                clients.max_keys,
                &mut SmallRng::seed_from_u64(seed),
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::limit::Resource;
    use evenkeel_config::{Config, parse};

    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    fn config(of_route: &str, of_cluster: &str) -> Config {
        let text = format!(
            "listeners:\n  - address: 127.0.0.1:0\n    routes:\n      - cluster: orders\n{of_route}\
             clusters:\n  - name: orders\n    target: ipv4:127.0.0.1:1\n{of_cluster}"
        );
        parse("test", &text).unwrap()
    }

    fn limit(limits: &mut RateLimits, config: &Config) -> Option<Arc<RouteRateLimit>> {
        let limit = limits.of_route("127.0.0.1:0", &config.listeners[0].routes[0]);
        limits.settle();
        limit
    }

    #[test]
    fn buckets_stay_as_they_are_until_their_limit_changes() {
        let mut limits = RateLimits::new(1);
        let slow = config("        rate_limit: {requests: 1}\n", "");
        let first = limit(&mut limits, &slow).unwrap();
        assert!(first.route.as_ref().unwrap().check(NOW).is_ok());
        assert!(Arc::ptr_eq(&first, &limit(&mut limits, &slow).unwrap()));
        let other = config("        rate_limit: {requests: 2}\n", "");
        assert!(!Arc::ptr_eq(&first, &limit(&mut limits, &other).unwrap()));
        assert!(limit(&mut limits, &config("", "")).is_none());
        assert!(limits.known.is_empty());
    }

    #[test]
    fn what_is_under_way_stays_counted_when_a_bound_changes() {
        let of = |text: &str| config("", text).clusters.remove(0);
        let wide = of("    circuit_breakers: {max_requests: 5}\n    adaptive_concurrency: {}\n");
        let before = cluster_limits(&wide, None, NOW).unwrap();
        before.breaker.as_ref().unwrap().acquire(Resource::Requests).unwrap();
        let narrow =
            of("    circuit_breakers: {max_requests: 1}\n    adaptive_concurrency: {queue: false}\n");
        let after = cluster_limits(&narrow, Some((&wide, &before)), NOW).unwrap();
        assert!(after.breaker.as_ref().unwrap().is_open(Resource::Requests));
        assert!(Arc::ptr_eq(before.adaptive.as_ref().unwrap(), after.adaptive.as_ref().unwrap()));
        assert!(after.refuses_at_once && !before.refuses_at_once);
        assert!(cluster_limits(&of(""), Some((&wide, &before)), NOW).is_none());
    }
}
