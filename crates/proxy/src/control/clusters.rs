//! Clusters at run time: what discovery finds, turned into sets of endpoints that keep their counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_balance::EndpointSet;
use evenkeel_config::{Cluster, Target};
use evenkeel_discovery::{ResolveNow, ResolveOptions, ResolverState, Watch, watch};
use evenkeel_telemetry::ClusterTelemetry;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc::Sender;

use super::supervisor::Request;

/// A cluster at run time.
pub(super) struct ClusterRuntime {
    pub(super) config: Cluster,
    pub(super) watch: Watch,
    pub(super) telemetry: Arc<ClusterTelemetry>,
    /// The newest set; kept over reloads so that endpoints which stay keep their counters.
    set: Mutex<Option<Arc<EndpointSet>>>,
    counted: (AtomicU64, AtomicU64),
    forwarder: tokio::task::AbortHandle,
}

impl Drop for ClusterRuntime {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}

impl ClusterRuntime {
    /// Begins to resolve a cluster's target; changes become [`Request::EndpointsChanged`].
    pub(super) fn start(
        config: Cluster,
        telemetry: Arc<ClusterTelemetry>,
        seed: u64,
        changes: Sender<Request>,
    ) -> Self {
        let mut options = ResolveOptions::default();
        if let Some(dns) = config.dns {
            options.min_refresh = dns.min_refresh;
            options.max_refresh = dns.max_refresh;
        }
        if is_fixed(&config.target) {
            // Before a reload the cluster of this name may have had one that is resolved.
            telemetry.resolver_ended();
        }
        let watch = watch(&config.target, &options, SmallRng::seed_from_u64(seed));
        let mut receiver = watch.subscribe();
        let forwarder = tokio::spawn(async move {
            while receiver.changed().await.is_ok() {
                receiver.borrow_and_update();
                if changes.send(Request::EndpointsChanged).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        Self { config, watch, telemetry, set: Mutex::new(None), counted: Default::default(), forwarder }
    }

    /// Continues another runtime's endpoints, so that their counters survive a reload that changed the target.
    pub(super) fn inherit(&self, before: &Self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = before.set();
    }

    /// The newest set of endpoints; `None` before the first answer.
    pub(super) fn set(&self) -> Option<Arc<EndpointSet>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What discovery knows.
    pub(super) fn resolver(&self) -> ResolverState {
        self.watch.state()
    }

    pub(super) fn resolve_now(&self) -> ResolveNow {
        self.watch.resolve_now()
    }

    /// Takes discovery's newest answer over and returns the set in force.
    pub(super) fn refresh(&self, now: Duration) -> Option<Arc<EndpointSet>> {
        let state = self.watch.state();
        self.count(&state, now);
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &state.endpoints {
            let next = match set.as_deref() {
                Some(before) => before.updated(found),
                None => EndpointSet::new(found),
            };
            if next.left_out() > 0 {
                tracing::warn!(cluster = %self.config.name, left_out = next.left_out(), "more endpoints than a cluster may have");
            }
            *set = Some(Arc::new(next));
        }
        set.clone()
    }

    /// Counts resolutions since the last time. Discovery itself warns of the first failure of a row.
    fn count(&self, state: &ResolverState, now: Duration) {
        if is_fixed(&self.config.target) {
            return;
        }
        let (successes, failures) = &self.counted;
        if successes.swap(state.successes, Ordering::Relaxed) != state.successes {
            self.telemetry.resolver_updated(now);
        }
        if failures.swap(state.failures, Ordering::Relaxed) != state.failures {
            self.telemetry.resolver_failed();
        }
    }
}

/// Whether a target lists its endpoints. There is nothing to resolve then: its one answer would only seem to grow old.
fn is_fixed(target: &Target) -> bool {
    match target {
        Target::Ip(_) | Target::Unix(_) => true,
        Target::Dns { .. } | Target::Srv { .. } | Target::File(_) => false,
    }
}
