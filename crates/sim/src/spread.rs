//! Priorities and localities: whether calls go where the documented rules let them go, worked out anew by the world.
//!
//! The world knows which priority and locality each backend has, whether its endpoint is listed and withheld, and the state of
//! its connections; from these follow each priority's health and load (`evenkeel_balance::spread` has the formulas). Judged is
//! what the rules exclude, at each step of the worker, for each endpoint that got calls in it:
//! - none goes to a priority while those before it bear all;
//! - none goes to a locality of weight 0, or leaves the proxy's own zone while that one can bear all, while an endpoint is ready
//!   where it should have gone.
//!
//! What excuses a call: an endpoint that is in its right may have no room, on its connections or by its circuit breaker; or the call
//! avoids all of them, as it was tried there, or is hedged and runs there. A rule that holds before and after a step, over unchanged connections, holds within it.
//!
//! The worker notices what withholds an endpoint, and that nothing does any more, when it picks. So an endpoint speaks for its
//! group only if the worker knows that it is in service: it is a candidate, or nothing ever withholds one in this world.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{
    Address, Connectivity, Endpoint, EndpointSet, EndpointSpec, Localities, Locality, Policy, SpreadConfig,
    Withheld,
};
use evenkeel_proxy::worker::{RunningAttempt, Worker};

use crate::setup::Setup;
use crate::standings::started;

/// So many calls after the end of a panic each worker has noticed it: one looks at an endpoint with each call, at random
/// under some policies.
const NOTICED_AFTER: u64 = 64;

/// Where backends are, and how calls are spread over them.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The rules.
    pub config: Arc<SpreadConfig>,
    /// The priority and locality of each backend; those beyond the list have priority 0 and no locality.
    pub of: Vec<(u8, Option<Arc<Locality>>)>,
}

impl Places {
    /// A backend as discovery lists it.
    pub(crate) fn spec(&self, backend: usize, address: Address) -> EndpointSpec {
        let (priority, locality) = self.of.get(backend).cloned().unwrap_or_default();
        EndpointSpec { address, weight: 1, priority, locality, draining: false }
    }
}

/// What the rules say of the endpoints at one moment.
#[derive(Debug, Default)]
pub(crate) struct Account {
    endpoints: Vec<Known>,
    /// Priorities that the worker may take to be in panic.
    panics: Vec<u8>,
    config: Arc<SpreadConfig>,
    /// Whether anything may withhold an endpoint.
    withholds: bool,
    /// Whether the worker says that a priority is in panic.
    worker_panics: bool,
}

#[derive(Debug)]
struct Known {
    endpoint: Arc<Endpoint>,
    backend: usize,
    priority: u8,
    locality: Option<Arc<Locality>>,
    /// It is not known to fail.
    may_serve: bool,
    /// The worker has it among those that it may pick.
    is_listed: bool,
    class: Class,
    /// And nothing withholds it.
    is_candidate: bool,
    /// Calls that were ever sent to it.
    started: u64,
}

impl Known {
    fn describe(&self) -> String {
        let Self { backend, class, is_candidate, started, .. } = self;
        format!("backend {backend} ({class:?}, candidate: {is_candidate}, {started} calls)")
    }
}

/// How an endpoint counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Available,
    Unavailable,
    /// It drains, or was not checked yet.
    Excluded,
}

impl Account {
    pub(crate) fn of(setup: &Setup, worker: &Worker, set: &EndpointSet, now: Duration) -> Self {
        let Some(places) = &setup.places else { return Self::default() };
        let views = worker.cluster_views(now);
        let worker_panics = views.iter().flat_map(|view| &view.groups).any(|group| group.is_panic);
        let views = views.iter().flat_map(|view| &view.endpoints).filter(|view| view.is_listed);
        let known = |endpoint: &Arc<Endpoint>| {
            let view = views.clone().find(|view| view.address == *endpoint.address())?;
            let Address::Tcp(address) = endpoint.address() else { return None };
            let backend = Setup::backend_at(*address);
            let (priority, locality) = places.of.get(backend).cloned().unwrap_or_default();
            let is_down =
                matches!(view.connectivity, Connectivity::TransientFailure | Connectivity::Shutdown);
            Some(Known {
                endpoint: Arc::clone(endpoint),
                backend,
                priority,
                locality,
                may_serve: !is_down && !view.is_failing,
                is_listed: view.is_candidate,
                class: Class::Excluded,
                is_candidate: false,
                started: started(endpoint),
            })
        };
        let endpoints = set.endpoints().iter().filter_map(known).collect();
        let (config, withholds) = (Arc::clone(&places.config), setup.withholds());
        Self { endpoints, panics: Vec::new(), config, withholds, worker_panics }.refreshed()
    }

    /// The same connections, with what withholds endpoints now.
    pub(crate) fn refreshed(mut self) -> Self {
        for known in &mut self.endpoints {
            let withheld = |why| known.endpoint.is_withheld_as(why);
            known.class = if [Withheld::Draining, Withheld::Unchecked].into_iter().any(withheld) {
                Class::Excluded
            } else if known.may_serve && !known.endpoint.is_withheld() {
                Class::Available
            } else {
                Class::Unavailable
            };
            known.is_candidate = known.is_listed && !known.endpoint.is_withheld();
            known.started = started(&known.endpoint);
        }
        self.panics = self.find_panics();
        self
    }

    fn of_priority(&self, priority: u8) -> impl Iterator<Item = &Known> {
        self.endpoints.iter().filter(move |known| known.priority == priority)
    }

    fn priorities(&self) -> Vec<u8> {
        let mut priorities: Vec<u8> = self.endpoints.iter().map(|known| known.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        priorities
    }

    /// Endpoints of a priority that count, and those of them of which this holds.
    fn counts(&self, priority: u8, holds: impl Fn(&Known) -> bool) -> (u64, u64) {
        let counted = self.of_priority(priority).filter(|known| known.class != Class::Excluded);
        counted.fold((0, 0), |(all, some), known| (all + 1, some + u64::from(holds(known))))
    }

    /// Of an endpoint that is no candidate the worker learns what the checks found when its connection changes: until then it
    /// may count as out.
    fn find_panics(&self) -> Vec<u8> {
        let config = &self.config;
        let is_known =
            |known: &Known| known.class == Class::Available && (known.is_candidate || !self.withholds);
        let threshold = u64::from(config.panic.threshold);
        let health = |priority: u8| {
            let (all, available) = self.counts(priority, is_known);
            let percent = u64::from(config.overprovisioning.percent());
            if all == 0 { 0.0 } else { (available as f64 * percent as f64 / all as f64).min(100.0) }
        };
        let priorities = self.priorities();
        // A little more than 100 is left to rounding.
        if priorities.iter().map(|priority| health(*priority)).sum::<f64>() > 100.0 + 1e-6 {
            return Vec::new();
        }
        let panics = |priority: &u8| {
            let (all, available) = self.counts(*priority, is_known);
            available * 100 < all * threshold
        };
        priorities.into_iter().filter(panics).collect()
    }

    /// Whether an endpoint's priority disregards health.
    pub(crate) fn is_panic_for(&self, endpoint: &Arc<Endpoint>) -> bool {
        let found = self.endpoints.iter().find(|known| Arc::ptr_eq(&known.endpoint, endpoint));
        found.is_some_and(|known| self.panics.contains(&known.priority))
    }

    pub(crate) fn has_panic(&self) -> bool {
        !self.panics.is_empty()
    }

    /// Calls that were ever sent to the endpoints.
    fn started(&self) -> u64 {
        self.endpoints.iter().map(|known| known.started).sum()
    }

    /// The endpoints that have the right to the calls that this one got, if it has none.
    fn barred_by(&self, known: &Known, setup: &Setup) -> Option<Vec<&Known>> {
        let config = &self.config;
        let speaks =
            |other: &Known| other.is_candidate || (!setup.withholds() && other.class == Class::Available);
        let percent = u64::from(config.overprovisioning.percent());
        let bears_all = |priority: &u8| {
            let (all, available) = self.counts(*priority, speaks);
            all > 0 && available * percent >= all * 100
        };
        let before = self.priorities().into_iter().filter(|priority| *priority < known.priority);
        if let Some(priority) = before.filter(bears_all).min() {
            return Some(self.of_priority(priority).filter(|other| speaks(other)).collect());
        }
        if self.panics.contains(&known.priority) {
            return None;
        }
        self.barred_from_locality(known, config)
    }

    fn barred_from_locality(&self, known: &Known, config: &SpreadConfig) -> Option<Vec<&Known>> {
        let ready: Vec<&Known> =
            self.of_priority(known.priority).filter(|other| other.is_candidate).collect();
        match &config.localities {
            Localities::Alike => None,
            Localities::Weighted(weights) => {
                let weight = |other: &Known| {
                    let listed = weights.iter().find(|(place, _)| other.locality.as_deref() == Some(place));
                    listed.map_or(1, |(_, weight)| *weight)
                };
                let heavier: Vec<&Known> = ready.into_iter().filter(|other| weight(other) > 0).collect();
                (weight(known) == 0 && !heavier.is_empty()).then_some(heavier)
            }
            Localities::ZoneAware(zones) => {
                let is_own = |other: &&Known| other.locality.as_deref() == Some(&zones.own);
                let is_small = ready.len() < zones.min_cluster_size as usize;
                if is_own(&known) || zones.routing_enabled < 100 || !zones.proxies.is_empty() || is_small {
                    return None;
                }
                // Each locality of the priority has as many proxies as any other.
                let mut localities: Vec<_> =
                    self.of_priority(known.priority).map(|one| &one.locality).collect();
                localities.sort_unstable();
                localities.dedup();
                let own: Vec<&Known> = ready.iter().copied().filter(|other| is_own(other)).collect();
                // Those too that the worker does not know to be withheld: by what it knows, its zone bears less.
                let known = self.of_priority(known.priority).filter(|other| other.is_listed).count();
                (!own.is_empty() && own.len() * localities.len() >= known).then_some(own)
            }
        }
    }
}

/// What the world remembers of its panics.
#[derive(Debug, Default)]
pub(crate) struct Panics {
    /// Calls that had been sent when there was panic last, if ever.
    calls: Option<u64>,
}

impl Panics {
    /// What was seen at this moment.
    pub(crate) fn note(&mut self, account: &Account) {
        if account.has_panic() {
            self.calls = Some(account.started());
        }
    }

    /// Whether the worker, by what it says, has not noticed yet that one is over.
    pub(crate) fn linger_in_worker(&self, before: &Account, after: &Account) -> bool {
        self.lingers(after) && (before.worker_panics || after.worker_panics)
    }

    /// Whether the worker may not have noticed yet that it is over.
    pub(crate) fn lingers(&self, account: &Account) -> bool {
        self.calls.is_some_and(|calls| account.started() < calls + NOTICED_AFTER)
    }
}

/// Judges one step of the worker, at this time; `attempts` tells those that run behind it. Returns whether one was sent to another
/// priority than the first.
pub(crate) fn judge(
    setup: &Setup,
    now: Duration,
    before: &Account,
    after: &Account,
    attempts: impl Fn() -> Vec<RunningAttempt>,
) -> Result<bool, String> {
    // It connects to one endpoint after the other, and keeps to it.
    if matches!(setup.policy, Policy::PickFirst { .. }) {
        return Ok(false);
    }
    let earlier =
        |known: &Known| before.endpoints.iter().find(|other| Arc::ptr_eq(&other.endpoint, &known.endpoint));
    for known in &after.endpoints {
        let Some(then) = earlier(known).filter(|then| then.started < known.started) else { continue };
        // Whoever comes first tries an ejected endpoint whose time is up, wherever that is; `standings` counts such calls.
        if !known.endpoint.outlier().is_in_service() {
            continue;
        }
        let Some(rights_then) = before.barred_by(then, setup) else { continue };
        let Some(rights) = after.barred_by(known, setup) else { continue };
        // A call that meets one without room goes on to any other that is ready.
        if !rights.iter().all(|right| setup.has_room_for(&right.endpoint, right.started)) {
            continue;
        }
        let still =
            |right: &&Known| rights_then.iter().any(|then| Arc::ptr_eq(&then.endpoint, &right.endpoint));
        let address = known.endpoint.address();
        let begun = attempts().into_iter().filter(|run| run.address == *address && run.sent_at == now);
        for run in begun {
            // A first attempt waits for an endpoint that is being connected to; one behind it rather goes on.
            let may_have = |right: &&Known| {
                run.avoided.is_empty()
                    || (right.is_candidate && !run.avoided.contains(right.endpoint.address()))
            };
            if let Some(right) = rights.iter().copied().filter(still).find(may_have) {
                let (got, has) = (known.describe(), right.describe());
                return Err(format!(
                    "a call was sent to {got}, although this one has the right to it: {has}; {run:?}; {:?}",
                    setup.places
                ));
            }
        }
    }
    let got_calls = |known: &&Known| earlier(known).is_some_and(|then| then.started < known.started);
    let first = after.priorities().first().copied().unwrap_or_default();
    Ok(after.endpoints.iter().filter(got_calls).any(|known| known.priority > first))
}
