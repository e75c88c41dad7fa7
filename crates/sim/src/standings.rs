//! What is withheld, and the calls that go there all the same, judged at each step of the worker.
//!
//! Rules, while another endpoint is in service before and after the step, with the same connections, or is being connected to
//! for the first time since it last worked:
//! - no call is sent to an endpoint that the health checks had found unhealthy before the step;
//! - none is sent to one that is ejected, until its time is up; then one after the other, to try it.
//!
//! And at any time: no step ejects more endpoints than the cluster's share, rounded up, and never the last.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_balance::outlier::{OutlierConfig, OutlierStatus};
use evenkeel_balance::{Address, Connectivity, Endpoint, EndpointSet, Outcome, Withheld};
use evenkeel_proxy::worker::{EndpointView, Worker};

use crate::net::Net;
use crate::stats::Happening;

/// What can be said of the endpoints before a step of the worker.
#[derive(Debug)]
pub(crate) struct Standings {
    shunned: Vec<Shunned>,
    /// Those that could take calls, or soon could, with nothing against it.
    in_service: Vec<InService>,
    /// Endpoints that are ejected or on trial.
    out: usize,
}

/// An endpoint that is to get no calls.
#[derive(Debug)]
struct Shunned {
    endpoint: Arc<Endpoint>,
    /// Calls that it ever got, and those of them that had ended.
    started: u64,
    ended: u64,
    is_unhealthy: bool,
    /// Its ejection's time is up.
    may_be_tried: bool,
}

impl Shunned {
    fn of(endpoint: &Arc<Endpoint>, now: Duration) -> Option<Self> {
        let is_unhealthy = endpoint.is_withheld_as(Withheld::Unhealthy);
        let (is_ejected, may_be_tried) = match endpoint.outlier().status(now) {
            OutlierStatus::Ejected { .. } => (true, false),
            OutlierStatus::HalfOpen { .. } => (true, !is_unhealthy),
            OutlierStatus::InService | OutlierStatus::Removed => (false, false),
        };
        (is_unhealthy || is_ejected).then(|| Self {
            endpoint: Arc::clone(endpoint),
            started: started(endpoint),
            ended: ended(endpoint),
            is_unhealthy,
            may_be_tried,
        })
    }

    /// The calls that it got against the rules; fewer than one if none.
    fn calls_too_many(&self) -> u64 {
        let endpoint = &self.endpoint;
        let came_back = !self.is_unhealthy && endpoint.outlier().is_in_service();
        if came_back {
            return 0;
        }
        let tries = if self.may_be_tried { 1 + ended(endpoint) - self.ended } else { 0 };
        (started(endpoint) - self.started).saturating_sub(tries)
    }
}

impl Standings {
    pub(crate) fn before(worker: &Worker, set: &EndpointSet, now: Duration) -> Self {
        let shunned: Vec<_> =
            set.endpoints().iter().filter_map(|endpoint| Shunned::of(endpoint, now)).collect();
        let in_service = if shunned.is_empty() { Vec::new() } else { in_service(worker, set, now) };
        Self { shunned, in_service, out: out(set) }
    }

    /// The step is over; `is_excused` tells whether an endpoint's health is disregarded.
    pub(crate) fn after(
        self,
        net: &mut Net,
        worker: &Worker,
        set: &EndpointSet,
        is_excused: impl Fn(&Arc<Endpoint>) -> bool,
    ) {
        for shunned in self.shunned.iter().filter(|shunned| shunned.may_be_tried) {
            if started(&shunned.endpoint) > shunned.started {
                net.stats.count(Happening::EjectedTried);
            }
        }
        let got_calls = |shunned: &&Shunned| shunned.calls_too_many() > 0 && !is_excused(&shunned.endpoint);
        let Some(shunned) = self.shunned.iter().find(got_calls) else { return };
        let still = in_service(worker, set, net.now);
        match self.in_service.iter().find(|before| still.contains(before)) {
            Some(other) => net.violate(|| {
                let (address, more) = (shunned.endpoint.address(), shunned.calls_too_many());
                let why = if shunned.is_unhealthy { "unhealthy" } else { "ejected" };
                format!("{more} calls were sent to {address}, which is {why}, although there was {other:?}")
            }),
            None if shunned.is_unhealthy => net.stats.count(Happening::CalledUnhealthy),
            None => net.stats.count(Happening::CalledEjected),
        }
    }

    /// Judges how many endpoints the step ejected.
    pub(crate) fn judge_ejections(&self, net: &mut Net, set: &EndpointSet, config: &OutlierConfig) {
        let out = out(set);
        if out < self.out {
            net.stats.count(Happening::EjectedReturned);
        }
        if out <= self.out {
            return;
        }
        net.stats.count(Happening::Ejected);
        let all = set.endpoints().len();
        let share = (all * usize::from(config.max_ejected_percent)).div_ceil(100).max(1);
        if out > share.min(all - 1) {
            net.violate(|| format!("{out} of {all} endpoints are ejected: {config:?}"));
        }
    }
}

/// Endpoints of the set that outlier detection has taken out.
fn out(set: &EndpointSet) -> usize {
    set.endpoints().iter().filter(|endpoint| !endpoint.outlier().is_in_service()).count()
}

/// Calls to an endpoint that have ended.
fn ended(endpoint: &Endpoint) -> u64 {
    let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Cancelled, Outcome::Overtaken];
    outcomes.map(|outcome| endpoint.finished(outcome)).iter().sum()
}

/// An endpoint with nothing against it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum InService {
    /// It can take calls, on so many connections.
    Connected(Address, usize),
    /// It is being connected to, or about to be, and has not failed since it last worked: calls wait for it.
    Awaited(Address),
}

/// Calls that were ever sent to an endpoint.
pub(crate) fn started(endpoint: &Endpoint) -> u64 {
    ended(endpoint) + u64::from(endpoint.in_flight())
}

/// Endpoints in service. One of which a connection leaves may have been without any within the step.
fn in_service(worker: &Worker, set: &EndpointSet, now: Duration) -> Vec<InService> {
    let is_withheld =
        |address: &Address| set.endpoints().iter().any(|one| one.address() == address && one.is_withheld());
    let views = worker.cluster_views(now);
    let listed = views.iter().flat_map(|view| &view.endpoints).filter(|view| view.is_listed);
    let works = |view: &EndpointView| {
        let is_awaited = matches!(view.connectivity, Connectivity::Idle | Connectivity::Connecting);
        if view.is_candidate && view.connections == view.connections_left {
            Some(InService::Connected(view.address.clone(), view.connections))
        } else if is_awaited && !view.is_failing {
            Some(InService::Awaited(view.address.clone()))
        } else {
            None
        }
    };
    listed.filter(|view| !is_withheld(&view.address)).filter_map(works).collect()
}
