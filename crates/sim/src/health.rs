//! Active health checks: what the control plane does beside the worker, with the real machines of
//! [`balance::health_check`](evenkeel_balance::health_check) and the endpoints that it shares with the worker.
//!
//! A check is a message to a backend and its answer, each with a latency of its own, and each may be lost. What a check's
//! connection would meet follows from how the backend's address behaves when the message arrives: nobody listens, or nobody
//! answers. Discovery's sets are followed as the control plane does it: a new endpoint is withheld until its first result.
//!
//! When all is quiet ([`Checks::settled`]), each endpoint is found to be what its backend says. What calls may go to one that the
//! checks withhold is judged by [`standings`](crate::standings).

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_balance::health_check::{
    CheckId, CheckResult, Due, HealthCheck, HealthCheckConfig, HealthStatus, Transition,
};
use evenkeel_balance::{Address, Endpoint, EndpointSet, Withheld};
use rand::RngExt;

use crate::event::{CheckEvent, Event};
use crate::net::{Accept, Net};
use crate::stats::Happening;

/// The longest latency of a check's message, one way.
const LATENCY_MAX: Duration = Duration::from_millis(5);

/// Of so many messages of checks one is lost.
const LOST_ONE_OF: u32 = 20;

/// The checks of all endpoints.
#[derive(Debug)]
pub(crate) struct Checks {
    config: HealthCheckConfig,
    /// By backend: what it says of itself.
    serving: Vec<bool>,
    /// By key, which is never given again: an endpoint that leaves and comes back is another.
    checked: BTreeMap<u32, Checked>,
    next_key: u32,
    /// Whether messages are lost.
    is_lossy: bool,
}

#[derive(Debug)]
struct Checked {
    endpoint: Arc<Endpoint>,
    address: SocketAddr,
    backend: usize,
    machine: HealthCheck,
}

impl Checks {
    /// Checks of nothing yet, of so many backends, all of which serve.
    pub(crate) fn new(config: HealthCheckConfig, backends: usize) -> Self {
        Self { config, serving: vec![true; backends], checked: BTreeMap::new(), next_key: 0, is_lossy: true }
    }

    /// Checks the endpoints of this set from now on; `backend_of` tells whose an address is.
    pub(crate) fn follow(
        &mut self,
        net: &mut Net,
        set: &EndpointSet,
        backend_of: impl Fn(SocketAddr) -> usize,
    ) {
        self.checked
            .retain(|_, one| set.endpoints().iter().any(|endpoint| Arc::ptr_eq(endpoint, &one.endpoint)));
        for endpoint in set.endpoints() {
            let is_known = self.checked.values().any(|one| Arc::ptr_eq(endpoint, &one.endpoint));
            let Address::Tcp(address) = endpoint.address() else { continue };
            if is_known {
                continue;
            }
            endpoint.note_health(HealthStatus::Unknown, net.now);
            let machine = HealthCheck::new(&self.config, set.endpoints().len(), net.now, &mut net.rng);
            let (endpoint, address, key) = (Arc::clone(endpoint), *address, self.next_key);
            self.next_key += 1;
            self.checked.insert(key, Checked { endpoint, address, backend: backend_of(address), machine });
            self.plan(net, key);
        }
    }

    /// A backend says from now on that it serves, or that it does not.
    pub(crate) fn report(&mut self, net: &mut Net, backend: usize, serving: bool) {
        self.serving[backend] = serving;
        net.stats.count(Happening::HealthReported);
    }

    /// Nothing is lost any more: what is left must come right.
    pub(crate) fn calm(&mut self) {
        self.is_lossy = false;
    }

    pub(crate) fn on_event(&mut self, net: &mut Net, event: CheckEvent) {
        match event {
            CheckEvent::Due { key } => self.on_due(net, key),
            CheckEvent::Arrived { key, check } => self.on_arrived(net, key, check),
            CheckEvent::Answered { key, check, result } => {
                let Some(one) = self.checked.get_mut(&key) else { return };
                let transition = one.machine.answered(&self.config, check, result);
                self.note(net, key, transition);
            }
        }
    }

    /// Sees to it that the machine is called when it wants to be.
    fn plan(&mut self, net: &mut Net, key: u32) {
        let at = self.checked[&key].machine.next_due();
        net.queue.push(at.max(net.now), Event::Check(CheckEvent::Due { key }));
    }

    fn on_due(&mut self, net: &mut Net, key: u32) {
        let Some(one) = self.checked.get_mut(&key) else { return };
        match one.machine.handle_timeout(&self.config, net.now, &mut net.rng) {
            // Another event came before this one, and planned its own.
            Due::Nothing => {}
            Due::Start(check) => {
                self.send(net, CheckEvent::Arrived { key, check });
                self.plan(net, key);
            }
            Due::Cancel { transition, .. } => {
                net.stats.count(Happening::CheckTimedOut);
                self.note(net, key, transition);
            }
        }
    }

    /// A check has reached its backend's address.
    fn on_arrived(&mut self, net: &mut Net, key: u32, check: CheckId) {
        let Some(one) = self.checked.get(&key) else { return };
        let result = match net.accepting(one.address) {
            Accept::Silent => return,
            Accept::Refusing | Accept::Unreachable => CheckResult::Failed,
            Accept::Open if self.serving[one.backend] => CheckResult::Serving,
            Accept::Open => CheckResult::NotServing,
        };
        self.send(net, CheckEvent::Answered { key, check, result });
    }

    fn send(&self, net: &mut Net, event: CheckEvent) {
        if self.is_lossy && net.rng.random_ratio(1, LOST_ONE_OF) {
            return;
        }
        let latency = LATENCY_MAX.mul_f64(net.rng.random());
        net.after(latency, Event::Check(event));
    }

    /// Tells the endpoint what changed, as the control plane does, and plans what follows.
    fn note(&mut self, net: &mut Net, key: u32, transition: Option<Transition>) {
        if let Some(transition) = transition {
            let one = &self.checked[&key];
            one.endpoint.note_health(transition.to, net.now);
            net.trace
                .note(net.now, &[9, one.backend as u64, u64::from(transition.to == HealthStatus::Healthy)]);
            net.stats.count(match transition.to {
                HealthStatus::Healthy => Happening::CheckFoundHealthy,
                _ => Happening::CheckFoundUnhealthy,
            });
        }
        self.plan(net, key);
    }

    /// All is quiet: each endpoint is what its backend says, for the checks and for whoever picks.
    pub(crate) fn settled(&self, net: &mut Net) {
        for one in self.checked.values() {
            let (status, says) = (one.machine.status(), self.serving[one.backend]);
            let is_withheld = [Withheld::Unhealthy, Withheld::Unchecked]
                .into_iter()
                .any(|why| one.endpoint.is_withheld_as(why));
            if (status == HealthStatus::Healthy) != says || is_withheld == says {
                let address = one.address;
                net.violate(|| format!("{address} says that it serves: {says}; the checks found {status:?}, withheld: {is_withheld}"));
            }
        }
    }
}
