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
    set: Mutex<Known>,
    counted: (AtomicU64, AtomicU64),
    forwarder: tokio::task::AbortHandle,
}

/// The newest set, and the list of discovery that it was made of.
#[derive(Default)]
struct Known {
    set: Option<Arc<EndpointSet>>,
    generation: Option<u64>,
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
            // Most answers are the same as before. They are counted, and that is all: a snapshot costs every worker a look at
            // every cluster.
            let mut known = None;
            while receiver.changed().await.is_ok() {
                let news = news(&receiver.borrow_and_update());
                let is_new = known.as_ref() != Some(&news);
                known = Some(news);
                let request = if is_new { Request::EndpointsChanged } else { Request::Resolved };
                if changes.send(request).await.is_err() {
                    return;
                }
            }
        })
        .abort_handle();
        Self { config, watch, telemetry, set: Mutex::default(), counted: Default::default(), forwarder }
    }

    /// Continues another runtime's endpoints, so that their counters survive a reload that changed the target.
    pub(super) fn inherit(&self, before: &Self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).set = before.set();
    }

    /// The newest set of endpoints; `None` before the first answer.
    pub(super) fn set(&self) -> Option<Arc<EndpointSet>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).set.clone()
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
        let mut known = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &state.endpoints
            && known.generation != Some(state.generation)
        {
            let next = match known.set.as_deref() {
                Some(before) => before.updated(found),
                None => EndpointSet::new(found),
            };
            if next.left_out() > 0 {
                tracing::warn!(cluster = %self.config.name, left_out = next.left_out(), "more endpoints than a cluster may have");
            }
            known.set = Some(Arc::new(next));
            known.generation = Some(state.generation);
        }
        known.set.clone()
    }

    /// Counts what discovery did since the last time.
    pub(super) fn count_resolutions(&self, now: Duration) {
        self.count(&self.watch.state(), now);
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

/// What of discovery's state the workers must be told when it changes.
fn news(state: &ResolverState) -> (u64, Option<String>) {
    (state.generation, state.error.as_ref().map(ToString::to_string))
}

/// Whether a target lists its endpoints. There is nothing to resolve then: its one answer would only seem to grow old.
fn is_fixed(target: &Target) -> bool {
    match target {
        Target::Ip(_) | Target::Unix(_) => true,
        Target::Dns { .. } | Target::Srv { .. } | Target::File(_) => false,
    }
}
