//! Clusters at run time: what discovery finds, turned into sets of endpoints that keep their counters.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_balance::health_check::HealthStatus;
use evenkeel_balance::outlier::OutlierDetector;
use evenkeel_balance::retry::{RetryBudget, RetryThrottle};
use evenkeel_balance::{EndpointSet, EndpointSpec, LoadSource, MAX_GROUPS, Policy, SpreadConfig, Subset};
use evenkeel_config::{Cluster, SubsetKind};
use evenkeel_discovery::{ResolveNow, ResolveOptions, ResolverState, Watch, watch_all};
use evenkeel_telemetry::{ClusterTelemetry, LogLimiter};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch::Receiver;

use super::health::{CHECKS_IN_FLIGHT_MAX, HealthChecks, Setup};
use super::limits::cluster_limits;
use super::load::{self, LoadStreams};
use super::supervisor::Request;
use crate::worker::limit::ClusterLimits;
use crate::worker::snapshot::RetryGates;

/// A cluster at run time.
pub(super) struct ClusterRuntime {
    pub(super) config: Cluster,
    pub(super) watch: Watch,
    pub(super) telemetry: Arc<ClusterTelemetry>,
    /// The newest set; kept over reloads so that endpoints which stay keep their counters.
    set: Mutex<Known>,
    /// Outlier detection, shared by all workers.
    pub(super) outliers: Option<Arc<OutlierDetector>>,
    /// Active checks, whose verdict all workers share.
    pub(super) health: Option<HealthChecks>,
    /// Streams of load reports, whose weights all workers share.
    pub(super) loads: Option<LoadStreams>,
    /// What bounds retries, shared by all workers.
    pub(super) gates: Arc<RetryGates>,
    /// What bounds the calls of all workers.
    pub(super) limits: Option<Arc<ClusterLimits>>,
    counted: (AtomicU64, AtomicU64),
    forwarder: tokio::task::AbortHandle,
}

/// The newest set, and the list of discovery that it was made of.
#[derive(Default)]
struct Known {
    set: Option<Arc<EndpointSet>>,
    generation: Option<u64>,
    /// Draws a random subset; kept over reloads, as another seed would be another subset.
    subset_seed: u64,
    /// A list may change many times a second, and what is wrong with each is a line.
    log: LogLimiter,
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
        now: Duration,
        changes: Sender<Request>,
    ) -> Self {
        let mut options = ResolveOptions::default();
        if let Some(dns) = config.dns {
            options.min_refresh = dns.min_refresh;
            options.max_refresh = dns.max_refresh;
        }
        let watch = watch_all(&config.targets, &options, SmallRng::seed_from_u64(seed));
        if watch.is_fixed() {
            // Before a reload the cluster of this name may have had one that is resolved.
            telemetry.resolver_ended();
        }
        let forwarder = tokio::spawn(forward(watch.subscribe(), changes)).abort_handle();
        let outliers = config.outlier_detection.map(|config| Arc::new(OutlierDetector::new(config, 0, now)));
        let health = config.health_check.as_ref().map(|checks| {
            HealthChecks::start(&Setup {
                config: checks,
                cluster: &config.name,
                target: config.targets.only(),
                telemetry: Arc::clone(&telemetry),
                in_flight_max: CHECKS_IN_FLIGHT_MAX,
                now,
                seed,
            })
        });
        let loads = load_streams(&config, &telemetry, seed, now);
        let gates = Arc::new(RetryGates {
            budget: RetryBudget::new(config.retry_budget),
            throttle: config.retry_throttling.map(RetryThrottle::new),
        });
        let set = Mutex::new(Known { subset_seed: seed, ..Known::default() });
        let limits = cluster_limits(&config, None, now);
        Self {
            config,
            watch,
            telemetry,
            set,
            outliers,
            health,
            loads,
            gates,
            limits,
            counted: Default::default(),
            forwarder,
        }
    }

    /// Continues another runtime's endpoints, so that their counters survive a reload that changed the target.
    pub(super) fn inherit(&mut self, before: &Self, now: Duration) {
        if let Some(limits) = &before.limits {
            self.limits = cluster_limits(&self.config, Some((&before.config, limits)), now);
        }
        let bounds = |config: &Cluster| (config.retry_budget, config.retry_throttling);
        if bounds(&self.config) == bounds(&before.config) {
            // Retries are under way, and many calls failed just now: an edit must not refill what a storm has used up.
            self.gates = Arc::clone(&before.gates);
        }
        // From here on only this runtime's checks and streams have a say; those before may still have an answer under way.
        if let Some(health) = &before.health {
            health.stop();
        }
        if let Some(loads) = &before.loads {
            loads.stop();
        }
        let set = before.set();
        if let Some(set) = &set {
            self.judge(set);
            bound(&self.config, set);
        }
        let subset_seed = before.set.lock().unwrap_or_else(PoisonError::into_inner).subset_seed;
        let mut known = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        (known.set, known.subset_seed) = (set, subset_seed);
    }

    /// Which of the endpoints that discovery finds are used now.
    pub(super) fn subset_in_force(&self) -> Subset {
        self.subset(self.set.lock().unwrap_or_else(PoisonError::into_inner).subset_seed)
    }

    /// Which of the endpoints that discovery finds are used.
    fn subset(&self, seed: u64) -> Subset {
        subset_of(self.config.subset, seed)
    }

    /// Lets this cluster's outlier detection and checks judge endpoints that another runtime's did.
    fn judge(&self, set: &EndpointSet) {
        let endpoints = set.endpoints();
        match &self.outliers {
            Some(outliers) => {
                outliers.adopt(endpoints.iter().map(|endpoint| endpoint.outlier()));
                outliers.set_endpoints(endpoints.len() as u32);
            }
            None => endpoints.iter().for_each(|endpoint| endpoint.end_outlier_detection()),
        }
        if self.health.is_none() {
            endpoints.iter().for_each(|endpoint| endpoint.end_health_checks());
        }
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

    /// Tells the log what of a new set cannot be used as it is.
    fn warn_of(&self, next: &EndpointSet, log: &mut LogLimiter, now: Duration) {
        let cluster = self.config.name.as_str();
        if next.without_share() > 0
            && let Some(suppressed) = log.allow("without share", now)
        {
            let endpoints = next.without_share();
            tracing::warn!(
                cluster,
                endpoints,
                suppressed,
                "no key leads to some endpoints: the ring or table is too small for all"
            );
        }
        if next.has_too_many_localities()
            && let Some(suppressed) = log.allow("localities", now)
        {
            tracing::warn!(
                cluster,
                max = MAX_GROUPS,
                suppressed,
                "more localities than a cluster may have; none is looked at"
            );
        }
        if next.left_out() > 0
            && let Some(suppressed) = log.allow("left out", now)
        {
            tracing::warn!(
                cluster,
                left_out = next.left_out(),
                suppressed,
                "more endpoints than a cluster may have"
            );
        }
    }

    /// Takes discovery's newest answer over and returns the set in force.
    pub(super) fn refresh(&self, now: Duration) -> Option<Arc<EndpointSet>> {
        let state = self.watch.state();
        self.count(&state, now);
        let mut known = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = &state.endpoints
            && known.generation != Some(state.generation)
        {
            let used = self.subset(known.subset_seed).of(found);
            let next =
                prepare(known.set.as_deref(), &used, &self.config.spread, self.config.balancing.policy);
            self.warn_of(&next, &mut known.log, now);
            if let Some(outliers) = &self.outliers {
                retire(outliers, known.set.as_deref(), &next);
            }
            if self.health.is_some() {
                withhold_new(known.set.as_deref(), &next, now);
            }
            bound(&self.config, &next);
            known.set = Some(Arc::new(next));
            known.generation = Some(state.generation);
        }
        if let (Some(health), Some(set)) = (&self.health, &known.set) {
            health.follow(set);
        }
        if let (Some(loads), Some(set)) = (&self.loads, &known.set) {
            loads.follow(set);
        }
        known.set.clone()
    }

    /// Counts what discovery did since the last time.
    pub(super) fn count_resolutions(&self, now: Duration) {
        self.count(&self.watch.state(), now);
    }

    /// Counts resolutions since the last time, of which there may have been several: a state takes the place of the one
    /// before it. Discovery itself warns of the first failure of a row.
    fn count(&self, state: &ResolverState, now: Duration) {
        if self.watch.is_fixed() {
            return;
        }
        let (successes, failures) = &self.counted;
        let counted = successes.swap(state.successes, Ordering::Relaxed);
        self.telemetry.resolver_updated(state.successes.saturating_sub(counted), now);
        let counted = failures.swap(state.failures, Ordering::Relaxed);
        self.telemetry.resolver_failed(state.failures.saturating_sub(counted));
    }
}

/// The streams of load reports of a cluster whose policy asks for them.
fn load_streams(
    config: &Cluster,
    telemetry: &Arc<ClusterTelemetry>,
    seed: u64,
    now: Duration,
) -> Option<LoadStreams> {
    let (purpose, period) = match config.balancing.policy {
        Policy::LoadWeightedRoundRobin(weights) => match weights.source {
            LoadSource::OutOfBand { period } => (load::Purpose::Weight(weights), period),
            LoadSource::Calls => return None,
        },
        Policy::Prequal(prequal) => (load::Purpose::Answer, prequal.report_period?),
        _ => return None,
    };
    Some(LoadStreams::start(load::Setup {
        purpose,
        period,
        metrics: Arc::clone(&config.balancing.utilization_metrics),
        cluster: &config.name,
        target: config.targets.only(),
        connect_timeout: config.connect_timeout,
        backoff: config.backoff,
        telemetry: Arc::clone(telemetry),
        now,
        seed,
    }))
}

/// Gives each endpoint the bounds that the cluster has for it.
pub(super) fn bound(config: &Cluster, set: &EndpointSet) {
    let limits = config.circuit_breakers.map(|breakers| breakers.endpoint).unwrap_or_default();
    set.endpoints().iter().for_each(|endpoint| endpoint.breaker().set_limits(&limits));
}

/// A subset as it is configured; `seed` draws a random one.
pub(super) fn subset_of(config: Option<evenkeel_config::Subset>, seed: u64) -> Subset {
    let Some(evenkeel_config::Subset { size, kind }) = config else { return Subset::All };
    match kind {
        SubsetKind::Random => Subset::Random { size, seed },
        SubsetKind::Deterministic { client_index } => Subset::Deterministic { size, client: client_index },
    }
}

/// The set of these endpoints, with the table that the policy needs. A large one takes seconds, in which others of the
/// runtime's tasks go on.
fn prepare(
    before: Option<&EndpointSet>,
    used: &[EndpointSpec],
    spread: &Arc<SpreadConfig>,
    policy: Policy,
) -> EndpointSet {
    let make = || {
        let set = match before {
            Some(before) => before.followed_by(used, spread),
            None => EndpointSet::of(used, spread),
        };
        set.prepared_for(policy)
    };
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    let hashes = matches!(policy, Policy::RingHash { .. } | Policy::Maglev { .. });
    match flavor {
        Ok(RuntimeFlavor::MultiThread) if hashes => tokio::task::block_in_place(make),
        _ => make(),
    }
}

/// Frees the places of endpoints that are gone under the cap of ejections.
fn retire(outliers: &OutlierDetector, before: Option<&EndpointSet>, next: &EndpointSet) {
    let stays: HashSet<_> = next.endpoints().iter().map(Arc::as_ptr).collect();
    for gone in before.into_iter().flat_map(EndpointSet::endpoints) {
        if !stays.contains(&Arc::as_ptr(gone)) {
            outliers.remove(gone.outlier());
        }
    }
    outliers.set_endpoints(next.endpoints().len() as u32);
}

/// Lets new endpoints wait for their first check.
fn withhold_new(before: Option<&EndpointSet>, next: &EndpointSet, now: Duration) {
    let stays: HashSet<_> = before.into_iter().flat_map(EndpointSet::endpoints).map(Arc::as_ptr).collect();
    for endpoint in next.endpoints().iter().filter(|endpoint| !stays.contains(&Arc::as_ptr(endpoint))) {
        endpoint.note_health(HealthStatus::Unknown, now);
    }
}

/// Tells the supervisor of each state of discovery, until either ends. Most answers are the same as before. They are
/// counted, and that is all: a snapshot costs every worker a look at every cluster.
async fn forward(mut states: Receiver<ResolverState>, changes: Sender<Request>) {
    let mut known = None;
    while states.changed().await.is_ok() {
        let news = news(&states.borrow_and_update());
        let is_new = known.as_ref() != Some(&news);
        known = Some(news);
        let request = if is_new { Request::EndpointsChanged } else { Request::Resolved };
        if changes.send(request).await.is_err() {
            return;
        }
    }
}

/// What of discovery's state the workers must be told when it changes.
fn news(state: &ResolverState) -> (u64, Option<String>) {
    (state.generation, state.error.as_ref().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::Factor;
    use evenkeel_balance::retry::RetryThrottleConfig;
    use evenkeel_config::{Config, Flags};
    use evenkeel_discovery::ResolveError;
    use evenkeel_telemetry::{Options, Telemetry};
    use tokio::sync::{mpsc, watch as states};

    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    fn start(target: &str) -> ClusterRuntime {
        start_with(target, 1, |_| {})
    }

    fn start_with(target: &str, seed: u64, adjust: impl FnOnce(&mut Cluster)) -> ClusterRuntime {
        let flags =
            Flags { listen: "127.0.0.1:0", to: target, policy: None, workers: None, admin: None, zone: None };
        let mut config = Config::from_flags(&flags).unwrap().clusters.remove(0);
        adjust(&mut config);
        let telemetry = Telemetry::new(Options { version: "1", protocol_rules: &[] });
        let cluster = telemetry.cluster(&config.name);
        ClusterRuntime::start(config, cluster, seed, NOW, mpsc::channel(1).0)
    }

    fn state(generation: u64, error: Option<&str>) -> ResolverState {
        let error = error.map(|name| Arc::new(ResolveError::NoSuchName { name: name.into() }));
        ResolverState { generation, error, ..ResolverState::default() }
    }

    #[tokio::test]
    async fn only_news_makes_a_snapshot() {
        let (publish, receiver) = states::channel(ResolverState::default());
        let (sender, mut requests) = mpsc::channel(1);
        let forwarder = tokio::spawn(forward(receiver, sender));
        let steps = [
            (state(1, None), true),
            (state(1, None), false),
            (state(1, Some("a")), true),
            (state(1, Some("a")), false),
            (state(1, Some("b")), true),
            (state(1, None), true),
            (state(2, None), true),
            (state(2, None), false),
        ];
        for (number, (state, is_news)) in steps.into_iter().enumerate() {
            publish.send_replace(state);
            let request = requests.recv().await.unwrap();
            assert_eq!(matches!(request, Request::EndpointsChanged), is_news, "step {number}");
            assert_eq!(matches!(request, Request::Resolved), !is_news, "step {number}");
        }
        drop(publish);
        assert!(requests.recv().await.is_none());
        forwarder.await.unwrap();
    }

    #[tokio::test]
    async fn an_edit_keeps_what_bounds_retries_unless_that_is_what_changed() {
        let before = start("ipv4:127.0.0.2:1");
        let inherits = |adjust: fn(&mut Cluster)| {
            let mut next = start_with("ipv4:127.0.0.2:1", 1, adjust);
            next.inherit(&before, NOW);
            Arc::ptr_eq(&next.gates, &before.gates)
        };
        assert!(inherits(|cluster| cluster.connect_timeout += Duration::from_secs(1)));
        assert!(!inherits(|cluster| cluster.retry_budget.percent += 1));
        assert!(!inherits(|cluster| {
            cluster.retry_throttling = Some(RetryThrottleConfig::new(10, Factor::ONE).unwrap());
        }));
    }

    #[tokio::test]
    async fn a_list_that_did_not_change_stays_the_same_set() {
        let cluster = start("ipv4:127.0.0.2:1,127.0.0.3:1");
        let first = cluster.refresh(NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &cluster.refresh(NOW).unwrap()));
    }

    #[tokio::test]
    async fn a_random_subset_stays_over_a_reload_and_another_proxy_has_another() {
        let addresses: Vec<String> = (1..=100).map(|number| format!("127.0.1.{number}:1")).collect();
        let target = format!("ipv4:{}", addresses.join(","));
        let subset = |config: &mut Cluster| {
            config.subset =
                Some(evenkeel_config::Subset { size: 20.try_into().unwrap(), kind: SubsetKind::Random });
        };
        let used = |cluster: &ClusterRuntime| -> Vec<String> {
            let set = cluster.refresh(NOW).unwrap();
            set.endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect()
        };
        let first = start_with(&target, 1, subset);
        assert_eq!(used(&first).len(), 20);
        let other = start_with(&target, 2, subset);
        assert_ne!(used(&other), used(&first));
        let mut reloaded = start_with(&target, 2, subset);
        reloaded.inherit(&first, NOW);
        assert_eq!(used(&reloaded), used(&first));
    }

    #[tokio::test]
    async fn a_numbered_subset_is_this_proxys_part() {
        let target = "ipv4:127.0.1.1:1,127.0.1.2:1,127.0.1.3:1,127.0.1.4:1";
        let mut used = HashSet::new();
        for client_index in 0..2 {
            let cluster = start_with(target, 1, |config| {
                let kind = SubsetKind::Deterministic { client_index };
                config.subset = Some(evenkeel_config::Subset { size: 2.try_into().unwrap(), kind });
            });
            let set = cluster.refresh(NOW).unwrap();
            assert_eq!(set.endpoints().len(), 2);
            used.extend(set.endpoints().iter().map(|endpoint| endpoint.address().to_string()));
        }
        assert_eq!(used.len(), 4, "two proxies share the endpoints out");
    }

    #[tokio::test]
    async fn a_table_that_is_too_small_for_all_endpoints_is_noticed() {
        let target = "ipv4:127.0.1.1:1,127.0.1.2:1,127.0.1.3:1,127.0.1.4:1";
        for (size, without_share) in [(3_u32, 1), (101, 0)] {
            let cluster = start_with(target, 1, |config| {
                let size = size.try_into().unwrap();
                config.balancing.policy =
                    Policy::Maglev { size, affinity: evenkeel_balance::Affinity::Rehash };
            });
            assert_eq!(cluster.refresh(NOW).unwrap().without_share(), without_share);
        }
    }

    #[tokio::test]
    async fn every_resolution_counts_also_those_that_nobody_saw() {
        let cluster = start("file:///nowhere/endpoints.yaml");
        let totals = || {
            let totals = cluster.telemetry.resolver();
            (totals.updates, totals.failures, totals.last_success_at)
        };
        let state = |successes, failures| ResolverState { successes, failures, ..ResolverState::default() };
        cluster.count(&state(0, 2), NOW);
        assert_eq!(totals(), (0, 2, None));
        cluster.count(&state(3, 2), NOW);
        cluster.count(&state(3, 2), NOW * 2);
        assert_eq!(totals(), (3, 2, Some(NOW)));
        cluster.count(&state(4, 7), NOW * 3);
        assert_eq!(totals(), (4, 7, Some(NOW * 3)));
    }

    #[tokio::test]
    async fn a_target_that_names_its_addresses_has_no_answer_that_grows_old() {
        for target in ["ipv4:127.0.0.2:1", "unix:/a/b", "dns:///127.0.0.2:1", "dns:///[::1]:1"] {
            let cluster = start(target);
            assert!(cluster.refresh(NOW).is_some(), "{target}");
            assert_eq!(cluster.telemetry.resolver().last_success_at, None, "{target}");
        }
    }
}
