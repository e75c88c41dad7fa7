//! The setup of one world: everything that is decided before its first event.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::health_check::HealthCheckConfig;
use evenkeel_balance::limit::Resource;
use evenkeel_balance::outlier::OutlierConfig;
use evenkeel_balance::retry::{
    HedgingPolicy, RetryBudget, RetryBudgetConfig, RetryPolicy, RetryThrottle, RetryThrottleConfig,
};
use evenkeel_balance::{
    Address, Affinity, BackoffConfig, Endpoint, EndpointSet, EndpointSpec, Policy, SlowStart, Subset,
};
use evenkeel_http2::Limits;
use evenkeel_proxy::worker::affinity::{HashPlan, KeySource};
use evenkeel_proxy::worker::route::{Route, RouteTable, Split};
use evenkeel_proxy::worker::snapshot::{
    CALLS_PER_CONNECTION_MAX, Cluster, HedgeSettings, Listener, RetryGates, RetrySettings, Snapshot,
};

use crate::backend::BackendSetup;
use crate::bounds::{Bounds, Shared};
use crate::client::{CALL_FIELD, ClientSetup};
use crate::net::LinkShape;
use crate::plan::{CallPlan, Fault, GoAway};
use crate::spread::Places;

/// Whether calls have further attempts besides those that follow when no backend has seen them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// They have none.
    Never,
    /// After an attempt that ended with UNAVAILABLE, or by a reset.
    Retried(RetryPolicy),
    /// While others run.
    Hedged(HedgingPolicy),
}

impl Again {
    /// How many backends may work on one call.
    pub(crate) fn executions_max(self) -> u32 {
        match self {
            Self::Never => 1,
            Self::Retried(policy) => policy.max_attempts.into(),
            Self::Hedged(policy) => policy.max_attempts.into(),
        }
    }

    /// Of every two calls one may have a further attempt: often enough, and the budget is still felt.
    pub(crate) fn gates(self, throttle: Option<RetryThrottleConfig>) -> Arc<RetryGates> {
        let budget = match self {
            Self::Never => RetryBudgetConfig::default(),
            Self::Retried(_) | Self::Hedged(_) => {
                RetryBudgetConfig { percent: 50, ..RetryBudgetConfig::default() }
            }
        };
        Arc::new(RetryGates { budget: RetryBudget::new(budget), throttle: throttle.map(RetryThrottle::new) })
    }
}

/// What one world consists of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed of everything that is drawn while the world runs.
    pub seed: u64,
    /// How the worker chooses backends.
    pub policy: Policy,
    /// What the worker allows its clients.
    pub listener: Limits,
    /// Whether calls have further attempts.
    pub again: Again,
    /// When the worker tries again to connect.
    pub backoff: BackoffConfig,
    /// From the start of a connection attempt to the backend's SETTINGS.
    pub connect_timeout: Duration,
    /// Calls that may wait for a connection.
    pub max_pending: usize,
    /// Connections to one backend.
    pub max_connections_per_endpoint: usize,
    /// Calls that one connection to a backend takes.
    pub max_calls_per_connection: u32,
    /// The worker's connections to backends.
    pub upstream: LinkShape,
    /// The longest time between a cause and the worker's turn that handles it.
    pub wake_delay_max: Duration,
    /// The clients.
    pub clients: Vec<ClientSetup>,
    /// The backends.
    pub backends: Vec<BackendSetup>,
    /// The calls, each with its client.
    pub calls: Vec<CallPlan>,
    /// How the endpoints are checked, if they are.
    pub checks: Option<HealthCheckConfig>,
    /// When endpoints are ejected, if they ever are.
    pub outliers: Option<OutlierConfig>,
    /// The backends' priorities and localities, and how calls are spread over them; `None`: all are alike.
    pub places: Option<Places>,
    /// What bounds the calls, if anything does besides `max_pending`.
    pub bounds: Option<Bounds>,
    /// Whether calls wait for an endpoint where there is none that could take them.
    pub wait_for_ready: bool,
    /// What calls have in common that are to meet one endpoint, under the policies that hash.
    pub keys: HashPlan,
    /// How the share of a new endpoint grows; `None`: it has all of it at once.
    pub slow_start: Option<SlowStart>,
    /// Which of the endpoints that discovery finds are used.
    pub subset: Subset,
    /// What goes wrong, and when.
    pub faults: Vec<(Duration, Fault)>,
    /// The time within which all calls must end, counted from the last start or fault.
    pub patience: Duration,
    /// Whether the clients leave because the worker drains; else they leave by themselves.
    pub drains_at_end: bool,
}

impl Setup {
    /// A calm world: these numbers of clients and backends on fast connections, and no calls yet.
    #[must_use]
    pub fn calm(seed: u64, clients: usize, backends: usize) -> Self {
        let client = ClientSetup { limits: Limits::upstream(), shape: LinkShape::local() };
        let backend = BackendSetup { limits: Limits::mesh(), delay: Duration::ZERO, goaway: None };
        Self {
            seed,
            policy: Policy::RoundRobin,
            listener: Limits::mesh(),
            again: Again::Never,
            backoff: BackoffConfig { max: Duration::from_secs(2), ..BackoffConfig::default() },
            connect_timeout: Duration::from_secs(1),
            max_pending: 1024,
            max_connections_per_endpoint: 4,
            max_calls_per_connection: CALLS_PER_CONNECTION_MAX,
            upstream: LinkShape::local(),
            wake_delay_max: Duration::from_micros(20),
            clients: vec![client; clients],
            backends: vec![backend; backends],
            calls: Vec::new(),
            checks: None,
            outliers: None,
            places: None,
            bounds: None,
            wait_for_ready: false,
            keys: HashPlan::new([KeySource::Metadata(CALL_FIELD.into())]),
            slow_start: None,
            subset: Subset::All,
            faults: Vec::new(),
            patience: Duration::from_secs(60),
            drains_at_end: false,
        }
    }

    /// Whether nothing in it can fail a call that is planned to succeed.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let abrupt = |backend: &BackendSetup| matches!(backend.goaway, Some((_, GoAway::Abrupt)));
        !self.faults.iter().any(|(_, fault)| fault.is_harmful()) && !self.backends.iter().any(abrupt)
    }

    /// Whether a backend may leave calls unprocessed that it has been sent.
    pub(crate) fn cuts_streams(&self) -> bool {
        let single = |fault: &Fault| matches!(fault, Fault::GoAway(_, GoAway::SinglePhase));
        self.faults.iter().any(|(_, fault)| single(fault))
            || self.backends.iter().any(|backend| matches!(backend.goaway, Some((_, GoAway::SinglePhase))))
    }

    /// Whether anything may withhold an endpoint.
    pub(crate) fn withholds(&self) -> bool {
        self.checks.is_some() || self.outliers.is_some()
    }

    /// Whether calls fail while too few endpoints are available.
    pub(crate) fn fails_in_panic(&self) -> bool {
        self.places.as_ref().is_some_and(|places| places.config.panic.fails)
    }

    /// Whether a key's calls fail when its endpoint cannot take them.
    pub(crate) fn insists(&self) -> bool {
        matches!(
            self.policy,
            Policy::RingHash { affinity: Affinity::Fail, .. }
                | Policy::Maglev { affinity: Affinity::Fail, .. }
        )
    }

    /// Whether an endpoint that had so many calls certainly has room for another. A stream of a call that has ended may still be
    /// open for a while: there is room where there was room for all calls that there ever were.
    pub(crate) fn has_room_for(&self, endpoint: &Endpoint, started: u64) -> bool {
        let Address::Tcp(address) = endpoint.address() else { return false };
        let streams = self.backends[Self::backend_at(*address)].limits.max_concurrent_streams;
        let places =
            [Resource::Requests, Resource::Retries].map(|resource| endpoint.breaker().limit(resource));
        let most = places.into_iter().flatten().fold(streams.min(self.max_calls_per_connection), u32::min);
        started < u64::from(most)
    }

    /// Where the worker listens.
    pub(crate) fn proxy_address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 50_051))
    }

    /// Where a backend listens.
    #[must_use]
    pub fn backend_address(backend: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 1, 1], 50_000 + backend as u16))
    }

    /// Whose address this is.
    pub(crate) fn backend_at(address: SocketAddr) -> usize {
        usize::from(address.port() - Self::backend_address(0).port())
    }

    /// These backends as discovery lists them, of equal weight.
    fn specs(&self, backends: &[usize]) -> Vec<EndpointSpec> {
        let address = |backend| Address::Tcp(Self::backend_address(backend));
        let spec = |backend: &usize| match &self.places {
            Some(places) => places.spec(*backend, address(*backend)),
            None => (address(*backend), 1).into(),
        };
        self.subset.of(&backends.iter().map(spec).collect::<Vec<_>>())
    }

    /// The set of these backends, which follows another one if there was one.
    pub(crate) fn endpoint_set(&self, backends: &[usize], before: Option<&EndpointSet>) -> Arc<EndpointSet> {
        let spread = self.places.as_ref().map(|places| Arc::clone(&places.config)).unwrap_or_default();
        let specs = self.specs(backends);
        Arc::new(match before {
            Some(before) => before.followed_by(&specs, &spread),
            None => EndpointSet::of(&specs, &spread),
        })
    }

    /// The worker's configuration with these endpoints; without any cluster if there are none.
    pub(crate) fn snapshot(
        &self,
        generation: u32,
        endpoints: Option<&Arc<EndpointSet>>,
        shared: &Shared,
    ) -> Arc<Snapshot> {
        let route = Route {
            retry: match self.again {
                Again::Retried(policy) => Some(Arc::new(RetrySettings { policy, is_idempotent: true })),
                _ => None,
            },
            hedge: match self.again {
                Again::Hedged(policy) => Some(Arc::new(HedgeSettings { policy })),
                _ => None,
            },
            actions: shared.actions.clone(),
            ..Route::new("sim", Split::to(0))
        };
        let routes = if endpoints.is_some() { vec![route] } else { Vec::new() };
        let listener = Listener::new("sim", self.listener, RouteTable::new(routes));
        let cluster = |endpoints: &Arc<EndpointSet>| {
            Arc::new(Cluster {
                backoff: self.backoff,
                outliers: shared.outliers.clone(),
                gates: Arc::clone(&shared.gates),
                limits: shared.limits.clone(),
                wait_for_ready: self.wait_for_ready,
                connect_timeout: self.connect_timeout,
                max_pending: self.max_pending,
                max_connections_per_endpoint: self.max_connections_per_endpoint,
                max_calls_per_connection: self.max_calls_per_connection,
                hash_plan: self.keys.clone(),
                slow_start: self.slow_start,
                ..Cluster::new("sim", self.policy, Arc::clone(endpoints))
            })
        };
        Arc::new(Snapshot {
            generation,
            listeners: vec![Arc::new(listener)],
            clusters: endpoints.map(cluster).into_iter().collect(),
            ..Snapshot::default()
        })
    }
}
