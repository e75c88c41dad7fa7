//! Session affinity: whether the calls of a key meet one endpoint, as far as it can take them.
//!
//! The world does not know where a key belongs, and need not: the order in which a key goes through the endpoints of one set is
//! fixed. So if it met A while B could have had it, it does not meet B while A can have it. Judged are attempts that avoid
//! nothing, over endpoints that certainly could take a call: connected and in service before and behind the step, and with room.
//!
//! Where a key's calls are to fail when its endpoint cannot take them ([`Affinity::Fail`](evenkeel_balance::Affinity::Fail)), it
//! meets one endpoint of a set and no other, whatever happens.
//!
//! Not judged: bounded loads, which move calls of a key by design, and worlds with priorities or localities, whose shares do.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_balance::{Address, Affinity, Endpoint, EndpointSet, Policy};
use evenkeel_proxy::worker::{RunningAttempt, Worker};

use crate::setup::Setup;
use crate::standings::started;

/// Where the keys of one set of endpoints have been.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    /// The set that they are homes in.
    set: Option<Arc<EndpointSet>>,
    /// By the key's hash: an endpoint, and those that could have had the call instead.
    seen: BTreeMap<u64, Vec<(Address, Vec<Address>)>>,
    /// Endpoints that could take calls behind the last step.
    able: Vec<Address>,
}

/// Whether the keys of this world have homes that can be judged.
pub(crate) fn is_judged(setup: &Setup) -> bool {
    let keeps = |affinity| !matches!(affinity, Affinity::Bounded(_));
    let is_kept = match setup.policy {
        Policy::RingHash { affinity, .. } | Policy::Maglev { affinity, .. } => keeps(affinity),
        _ => false,
    };
    is_kept && setup.places.is_none()
}

impl Homes {
    /// Judges the attempts that a step of the worker sent.
    pub(crate) fn judge(
        &mut self,
        setup: &Setup,
        worker: &Worker,
        set: &Arc<EndpointSet>,
        sent: impl Fn(&RunningAttempt) -> bool,
    ) -> Result<bool, String> {
        if self.set.as_ref().is_none_or(|known| !Arc::ptr_eq(known, set)) {
            *self = Self { set: Some(Arc::clone(set)), ..Self::default() };
        }
        let able = able(setup, worker, set);
        let both: Vec<Address> = able.iter().filter(|address| self.able.contains(address)).cloned().collect();
        self.able = able;
        let mut has_moved = false;
        for run in worker.running_attempts().into_iter().filter(sent) {
            let is_listed = set.endpoints().iter().any(|endpoint| *endpoint.address() == run.address);
            let Some(key) = run.key.filter(|_| is_listed) else { continue };
            let seen = self.seen.entry(key).or_default();
            let elsewhere = seen.iter().filter(|(home, _)| *home != run.address);
            for (home, instead) in elsewhere {
                has_moved = true;
                let may_have = run.avoided.is_empty() && both.contains(home) && both.contains(&run.address);
                if setup.insists() || (may_have && instead.contains(&run.address)) {
                    return Err(format!("a key that met {home} while both could take it now meets {run:?}"));
                }
            }
            if setup.insists() || (run.avoided.is_empty() && both.contains(&run.address)) {
                seen.push((run.address, both.clone()));
            }
        }
        Ok(has_moved)
    }
}

/// Endpoints that are connected and in service, with room for all calls that they ever had and one more.
fn able(setup: &Setup, worker: &Worker, set: &EndpointSet) -> Vec<Address> {
    let views = worker.cluster_views(core::time::Duration::ZERO);
    let mut able = Vec::new();
    for view in views.iter().flat_map(|view| &view.endpoints) {
        let is_it = |endpoint: &&Arc<Endpoint>| *endpoint.address() == view.address;
        let Some(endpoint) = set.endpoints().iter().find(is_it) else { continue };
        let is_whole = view.is_listed && view.is_candidate && view.connections == view.connections_left;
        if is_whole && !endpoint.is_withheld() && setup.has_room_for(endpoint, started(endpoint)) {
            able.push(view.address.clone());
        }
    }
    able
}
