//! A balancer whose endpoints' connections behave as a test says.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::{
    Address, Affinity, Ask, Balancer, BalancerConfig, Choice, Connectivity, Endpoint, EndpointSet,
    LeastRequestConfig,
};
use crate::{Pick, Policy, RingSize, SampleSize, Slot, TableSize};

/// A call of which nothing is known.
pub(crate) const ASK: Ask = Ask { now: Duration::from_secs(1), hash: None };

/// Endpoint `number`'s address.
pub(crate) fn address(number: u32) -> Address {
    Address::Tcp(SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 50051)))
}

pub(crate) fn sample(count: u32) -> Policy {
    Policy::LeastRequest(LeastRequestConfig::of(Choice::Sample(SampleSize::try_from(count).unwrap())))
}

/// ring_hash and maglev, in this order.
pub(crate) fn hashing(affinity: Affinity) -> [Policy; 2] {
    [
        Policy::RingHash { size: RingSize::default(), affinity },
        Policy::Maglev { size: TableSize::default(), affinity },
    ]
}

/// The addresses of endpoints 0, 1, ... with these weights.
pub(crate) fn addresses(weights: &[u32]) -> Vec<(Address, u32)> {
    (0..).zip(weights).map(|(number, weight)| (address(number), *weight)).collect()
}

pub(crate) struct Fixture {
    pub(crate) balancer: Balancer,
    pub(crate) set: Arc<EndpointSet>,
    pub(crate) now: Duration,
    /// Endpoints whose connection attempts fail.
    pub(crate) unreachable: BTreeSet<Address>,
}

impl Fixture {
    /// Endpoints 0, 1, ... with these weights, all idle.
    pub(crate) fn idle(policy: Policy, weights: &[u32], seed: u64) -> Self {
        Self::with_config(BalancerConfig { policy, ..BalancerConfig::default() }, weights, seed)
    }

    /// The same, with everything else that can be set.
    pub(crate) fn with_config(config: BalancerConfig, weights: &[u32], seed: u64) -> Self {
        Self::of_set(config, &Arc::new(EndpointSet::new(&addresses(weights))), seed)
    }

    /// The same, of endpoints that others may share.
    pub(crate) fn of_set(config: BalancerConfig, set: &Arc<EndpointSet>, seed: u64) -> Self {
        let mut balancer = Balancer::with_config(config, SmallRng::seed_from_u64(seed));
        let changes = balancer.update(set);
        assert_eq!((changes.added.len(), changes.removed.len()), (set.endpoints().len(), 0));
        let set = Arc::clone(set);
        Self { balancer, set, now: Duration::from_secs(1), unreachable: BTreeSet::new() }
    }

    /// The same, connected.
    pub(crate) fn ready(policy: Policy, weights: &[u32], seed: u64) -> Self {
        let mut fixture = Self::idle(policy, weights, seed);
        fixture.connect();
        fixture
    }

    /// Lets each wanted attempt succeed or fail, until none is wanted at this time.
    pub(crate) fn connect(&mut self) {
        loop {
            while self.balancer.surplus_connection().is_some() {}
            let Some(slot) = self.balancer.wants_connection(self.now) else { break };
            let is_reachable = !self.unreachable.contains(self.balancer.endpoint(slot).address());
            let state = if is_reachable { Connectivity::Ready } else { Connectivity::TransientFailure };
            self.balancer.set_connectivity(slot, state, self.now);
        }
    }

    pub(crate) fn update(&mut self, addresses: &[(Address, u32)]) -> crate::Changes {
        self.set = Arc::new(self.set.updated(addresses));
        self.balancer.update(&self.set)
    }

    /// Endpoint `number`, as listed in the current set.
    pub(crate) fn endpoint(&self, number: u32) -> &Arc<Endpoint> {
        let address = address(number);
        let mut endpoints = self.set.endpoints().iter();
        endpoints.find(|endpoint| *endpoint.address() == address).expect("the endpoint is listed")
    }

    /// The listed slot of endpoint `number`.
    pub(crate) fn slot(&self, number: u32) -> Slot {
        let endpoint = self.endpoint(number);
        let mut slots = self.balancer.slots();
        slots.find(|status| Arc::ptr_eq(status.endpoint, endpoint)).expect("the endpoint has a slot").slot
    }

    pub(crate) fn set(&mut self, number: u32, state: Connectivity) {
        let slot = self.slot(number);
        self.balancer.set_connectivity(slot, state, self.now);
    }

    /// Picks, and returns the endpoint's number.
    pub(crate) fn pick(&mut self) -> u32 {
        match self.balancer.pick(&ASK) {
            Pick::Endpoint(slot) => self.number(slot),
            other => panic!("an endpoint is ready, but the pick is {other:?}"),
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        self.balancer.config.policy
    }

    pub(crate) fn number(&self, slot: Slot) -> u32 {
        let Address::Tcp(SocketAddr::V4(address)) = self.balancer.endpoint(slot).address() else {
            panic!("all endpoints of the fixture have IPv4 addresses")
        };
        u32::from(*address.ip()) - 0x0a00_0000
    }

    /// How often each of endpoints 0, 1, ..., `endpoints - 1` gets one of `picks` calls.
    pub(crate) fn counts(&mut self, endpoints: usize, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        for _ in 0..picks {
            counts[self.pick() as usize] += 1;
        }
        counts
    }
}
