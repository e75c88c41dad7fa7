//! Priorities and localities: whether calls go where the documented rules let them go, worked out anew by the world.
//!
//! The world knows which priority and locality each backend has, whether its endpoint is listed and withheld, and the state of
//! its connections; from these follow each priority's health and load (`evenkeel_balance::spread` has the formulas). Judged is
//! what the rules exclude, at each step of the worker, for each endpoint that got calls in it:
//! - none goes to a priority while those before it bear all;
//! - none goes to a locality of weight 0, or leaves the proxy's own zone while that one can bear all, while an endpoint is ready
//!   where it should have gone.
//!
//! What excuses a call: endpoints that are in their right may have no room on their connections, or a call was tried before, or
//! is hedged. A rule that holds before and after a step, over unchanged connections, holds within it.
//!
//! The worker notices what withholds an endpoint, and that nothing does any more, when it picks. So an endpoint speaks for its
//! group only if the worker knows that it is in service: it is a candidate, or nothing ever withholds one in this world.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::{
    Address, Connectivity, Endpoint, EndpointSet, EndpointSpec, Localities, Locality, Policy, SpreadConfig,
    Withheld,
};
use evenkeel_proxy::worker::Worker;

use crate::setup::{Again, Setup};
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
        EndpointSpec { address, weight: 1, priority, locality }
    }
}

/// What the rules say of the endpoints at one moment.
#[derive(Debug, Default)]
pub(crate) struct Account {
    endpoints: Vec<Known>,
    /// Priorities in panic.
    panics: Vec<u8>,
    config: Arc<SpreadConfig>,
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
        Self { endpoints, panics: Vec::new(), config: Arc::clone(&places.config) }.refreshed()
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

    fn find_panics(&self) -> Vec<u8> {
        let config = &self.config;
        let threshold = u64::from(config.panic.threshold);
        let health = |priority: u8| {
            let (all, available) = self.counts(priority, |known| known.class == Class::Available);
            let percent = u64::from(config.overprovisioning.percent());
            if all == 0 { 0.0 } else { (available as f64 * percent as f64 / all as f64).min(100.0) }
        };
        let priorities = self.priorities();
        // A little more than 100 is left to rounding.
        if priorities.iter().map(|priority| health(*priority)).sum::<f64>() > 100.0 + 1e-6 {
            return Vec::new();
        }
        let panics = |priority: &u8| {
            let (all, available) = self.counts(*priority, |known| known.class == Class::Available);
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
                (!own.is_empty() && own.len() * localities.len() >= ready.len()).then_some(own)
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

    /// Whether the worker may not have noticed yet that it is over.
    pub(crate) fn lingers(&self, account: &Account) -> bool {
        self.calls.is_some_and(|calls| account.started() < calls + NOTICED_AFTER)
    }
}

/// Judges one step of the worker; `was_tried` tells whether a call may have been tried before. Returns whether one was sent to
/// another priority than the first.
pub(crate) fn judge(
    setup: &Setup,
    before: &Account,
    after: &Account,
    was_tried: impl FnOnce() -> bool,
) -> Result<bool, String> {
    // It connects to one endpoint after the other, and keeps to it.
    if matches!(setup.policy, Policy::PickFirst { .. }) {
        return Ok(false);
    }
    let earlier =
        |known: &Known| before.endpoints.iter().find(|other| Arc::ptr_eq(&other.endpoint, &known.endpoint));
    let wrong = after.endpoints.iter().find_map(|known| {
        let then = earlier(known).filter(|then| then.started < known.started)?;
        let (rights_then, rights) = (before.barred_by(then, setup)?, after.barred_by(known, setup)?);
        // A stream of a call that has ended may still be open for a while: there is room for certain where there was room for all
        // calls that there ever were.
        let has_room = |right: &&Known| {
            let streams = setup.backends[right.backend].limits.max_concurrent_streams;
            right.started < u64::from(streams.min(setup.max_calls_per_connection))
        };
        let still =
            |right: &&Known| rights_then.iter().any(|then| Arc::ptr_eq(&then.endpoint, &right.endpoint));
        let right = rights.iter().copied().find(still)?;
        // A call that meets one without room goes on to any other that is ready.
        if !rights.iter().all(has_room) {
            return None;
        }
        Some((known, right))
    });
    match wrong {
        // A hedged call is at several endpoints.
        Some((known, right)) if !matches!(setup.again, Again::Hedged(_)) && !was_tried() => {
            let (got, has) = (known.describe(), right.describe());
            Err(format!(
                "a call was sent to {got}, although this one has the right to it: {has}; {:?}",
                setup.places
            ))
        }
        _ => {
            let got_calls = |known: &&Known| earlier(known).is_some_and(|then| then.started < known.started);
            let first = after.priorities().first().copied().unwrap_or_default();
            Ok(after.endpoints.iter().filter(got_calls).any(|known| known.priority > first))
        }
    }
}
