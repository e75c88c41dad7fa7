//! Circuit breakers: fixed bounds of what is under way to a cluster or to one endpoint, as Envoy has them.
//!
//! Rule: a place is taken before and given back after; when there is none, the call overflows at once. An open breaker lets
//! nothing more in until something ends; there is no time in it, and so no half-open state. That belongs to
//! [`outlier`](crate::outlier) detection, which judges by outcome.
//!
//! Why not Envoy's defaults? 1,024 requests and 3 retries for a whole cluster cut off healthy clusters that are merely busy
//! (envoyproxy/envoy#29762, aws/aws-app-mesh-roadmap#229). The default bound of requests is one per endpoint, so that it
//! grows with the capacity; retries are bounded by their budget, connections by each worker's share of the endpoints.
//!
//! An endpoint has no [`Resource::Pending`]: calls wait for a cluster, not for one of its endpoints.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// What a breaker counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Resource {
    /// Connections, those being opened included.
    Connections = 0,
    /// Calls that wait for a connection or a place.
    Pending = 1,
    /// Attempts under way.
    Requests = 2,
    /// Retries and hedges under way.
    Retries = 3,
}

impl Resource {
    /// Every resource, at the index of its number: for counters.
    pub const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    /// The name of its setting, as logs, metrics and `grpc-message` have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::Pending => "max_pending",
            Self::Requests => "max_requests",
            Self::Retries => "max_retries",
        }
    }
}

/// What a breaker stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// The cluster as a whole.
    Cluster,
    /// One endpoint.
    Endpoint,
}

/// The bounds of one breaker; `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BreakerLimits {
    /// Bound of the connections.
    pub max_connections: Option<u32>,
    /// Bound of the calls that wait.
    pub max_pending: Option<u32>,
    /// Bound of the attempts under way. 0 lets nothing through: a cluster in maintenance.
    pub max_requests: Option<u32>,
    /// Bound of the retries and hedges under way, beside their budget.
    pub max_retries: Option<u32>,
}

impl BreakerLimits {
    /// The defaults of a cluster: 1,024 calls that wait (Envoy), else no bound.
    #[must_use]
    pub fn of_cluster() -> Self {
        Self { max_pending: Some(1_024), ..Self::default() }
    }

    /// The defaults of an endpoint: 1,024 attempts under way, which is what Envoy and gRPC (gRFC A32) allow a cluster.
    #[must_use]
    pub fn of_endpoint() -> Self {
        Self { max_requests: Some(1_024), ..Self::default() }
    }

    fn of(&self, resource: Resource) -> u32 {
        let limit = match resource {
            Resource::Connections => self.max_connections,
            Resource::Pending => self.max_pending,
            Resource::Requests => self.max_requests,
            Resource::Retries => self.max_retries,
        };
        limit.unwrap_or(NO_LIMIT)
    }
}

/// More than memory holds: as a bound, none.
const NO_LIMIT: u32 = u32::MAX;

/// The place that was missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Overflow {
    /// Of what.
    pub resource: Resource,
    /// Of whom.
    pub scope: Scope,
}

/// The breaker of one cluster or endpoint, shared by all workers.
#[derive(Debug)]
#[repr(align(64))]
pub struct CircuitBreaker {
    scope: Scope,
    used: [AtomicU32; Resource::ALL.len()],
    limits: [AtomicU32; Resource::ALL.len()],
    overflows: [AtomicU64; Resource::ALL.len()],
}

impl CircuitBreaker {
    /// A breaker of which nothing is used.
    #[must_use]
    pub fn new(scope: Scope, limits: &BreakerLimits) -> Self {
        Self {
            scope,
            used: [const { AtomicU32::new(0) }; Resource::ALL.len()],
            limits: Resource::ALL.map(|resource| AtomicU32::new(limits.of(resource))),
            overflows: [const { AtomicU64::new(0) }; Resource::ALL.len()],
        }
    }

    /// Changes the bounds. What is above a lower one stays until it ends.
    pub fn set_limits(&self, limits: &BreakerLimits) {
        for resource in Resource::ALL {
            self.limits[resource as usize].store(limits.of(resource), Relaxed);
        }
    }

    /// Takes a place. [`CircuitBreaker::release`] must follow, once, if there was one.
    ///
    /// # Errors
    /// There is none: the overflow is counted.
    #[inline]
    pub fn acquire(&self, resource: Resource) -> Result<(), Overflow> {
        let limit = self.limits[resource as usize].load(Relaxed);
        let more = |used: u32| (used < limit).then(|| used + 1);
        match self.used[resource as usize].fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => {
                self.overflows[resource as usize].fetch_add(1, Relaxed);
                Err(Overflow { resource, scope: self.scope })
            }
        }
    }

    /// Takes a place whether there is one or not, for what must not be refused. [`CircuitBreaker::release`] must follow, once.
    pub fn force(&self, resource: Resource) {
        self.used[resource as usize].fetch_add(1, Relaxed);
    }

    /// Gives back what [`CircuitBreaker::acquire`] or [`CircuitBreaker::force`] took.
    #[inline]
    pub fn release(&self, resource: Resource) {
        let before = self.used[resource as usize].fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "{resource:?} was released that was never acquired");
    }

    /// Whether there is no place now: the endpoint is better not picked.
    #[must_use]
    pub fn is_open(&self, resource: Resource) -> bool {
        self.remaining(resource) == Some(0)
    }

    /// Places in use.
    #[must_use]
    pub fn used(&self, resource: Resource) -> u32 {
        self.used[resource as usize].load(Relaxed)
    }

    /// The bound, if there is one.
    #[must_use]
    pub fn limit(&self, resource: Resource) -> Option<u32> {
        Some(self.limits[resource as usize].load(Relaxed)).filter(|limit| *limit != NO_LIMIT)
    }

    /// Places left; `None` where there is no bound.
    #[must_use]
    pub fn remaining(&self, resource: Resource) -> Option<u32> {
        self.limit(resource).map(|limit| limit.saturating_sub(self.used(resource)))
    }

    /// Refusals so far.
    #[must_use]
    pub fn overflows(&self, resource: Resource) -> u64 {
        self.overflows[resource as usize].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(number: u32) -> BreakerLimits {
        let bound = Some(number);
        BreakerLimits { max_connections: bound, max_pending: bound, max_requests: bound, max_retries: bound }
    }

    #[test]
    fn lets_in_up_to_the_bound_and_again_when_something_ends() {
        for resource in Resource::ALL {
            let breaker = CircuitBreaker::new(Scope::Cluster, &limits(2));
            assert_eq!(breaker.acquire(resource), Ok(()));
            assert!(!breaker.is_open(resource));
            assert_eq!(breaker.acquire(resource), Ok(()));
            assert!(breaker.is_open(resource));
            let overflow = Overflow { resource, scope: Scope::Cluster };
            assert_eq!(breaker.acquire(resource), Err(overflow));
            assert_eq!((breaker.used(resource), breaker.overflows(resource)), (2, 1));
            breaker.release(resource);
            assert_eq!(breaker.acquire(resource), Ok(()));
            for other in Resource::ALL.into_iter().filter(|other| *other != resource) {
                assert_eq!(
                    (breaker.used(other), breaker.remaining(other)),
                    (0, Some(2)),
                    "one does not count as another"
                );
            }
        }
    }

    #[test]
    fn a_lower_bound_lets_in_nothing_until_enough_has_ended() {
        let breaker = CircuitBreaker::new(Scope::Endpoint, &BreakerLimits::default());
        (0..5).for_each(|_| assert_eq!(breaker.acquire(Resource::Requests), Ok(())));
        assert_eq!(breaker.remaining(Resource::Requests), None);
        breaker.set_limits(&limits(4));
        assert_eq!(breaker.remaining(Resource::Requests), Some(0));
        breaker.release(Resource::Requests);
        let overflow = Overflow { resource: Resource::Requests, scope: Scope::Endpoint };
        assert_eq!(breaker.acquire(Resource::Requests), Err(overflow));
        breaker.release(Resource::Requests);
        assert_eq!(breaker.acquire(Resource::Requests), Ok(()));
    }

    #[test]
    fn what_must_not_be_refused_counts_all_the_same() {
        let breaker = CircuitBreaker::new(Scope::Cluster, &limits(1));
        breaker.force(Resource::Connections);
        breaker.force(Resource::Connections);
        assert_eq!((breaker.used(Resource::Connections), breaker.limit(Resource::Connections)), (2, Some(1)));
        breaker.release(Resource::Connections);
        assert!(breaker.acquire(Resource::Connections).is_err());
    }

    #[test]
    fn a_bound_of_zero_lets_nothing_in() {
        let breaker = CircuitBreaker::new(Scope::Cluster, &limits(0));
        assert!(Resource::ALL.into_iter().all(|resource| breaker.acquire(resource).is_err()));
    }

    #[test]
    fn by_default_calls_that_wait_are_bounded_per_cluster_and_requests_per_endpoint() {
        let cluster = CircuitBreaker::new(Scope::Cluster, &BreakerLimits::of_cluster());
        let endpoint = CircuitBreaker::new(Scope::Endpoint, &BreakerLimits::of_endpoint());
        let remaining = |breaker: &CircuitBreaker| Resource::ALL.map(|resource| breaker.remaining(resource));
        assert_eq!(remaining(&cluster), [None, Some(1_024), None, None]);
        assert_eq!(remaining(&endpoint), [None, None, Some(1_024), None]);
    }
}
