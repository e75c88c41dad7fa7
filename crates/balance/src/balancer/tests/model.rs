//! Random histories against a naive model, for every policy.
//!
//! The model is a list of slots, looked through from end to end for every question. It knows what a pick may return, not
//! which of those it is: that is the policy's own tests' business.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::fixture::{ASK, address, hashing, sample};
use crate::policy::least_request::tests::full_scan_of_many;
use crate::{
    Address, Affinity, Balancer, BoundedLoad, Choice, Connectivity, Endpoint, EndpointSet,
    LeastRequestConfig, LoadWeightConfig, PeakEwmaConfig, Pick, Policy, PrequalConfig, ProbeSource, Slot,
};

const STATES: [Connectivity; 4] =
    [Connectivity::Idle, Connectivity::Connecting, Connectivity::Ready, Connectivity::TransientFailure];

/// Endpoints that may ever be listed; few, so that histories meet the same one often.
const ENDPOINTS: u32 = 8;

#[derive(Clone, Debug)]
enum Step {
    /// Discovery lists the endpoints whose bit is set, with weights derived from the second number.
    Update(u8, u32),
    /// A slot, counted round, changes its state.
    Set(usize, Connectivity),
    Drain(usize, bool),
    /// Everything that is wanted now is being connected to.
    Connect,
    Advance(Duration),
    Pick,
    /// A retry after the first so many slots were tried.
    Retry(usize),
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let state = (0..STATES.len()).prop_map(|index| STATES[index]);
    prop_oneof![
        1 => (any::<u8>(), any::<u32>()).prop_map(|(listed, weights)| Step::Update(listed, weights)),
        6 => (any::<usize>(), state).prop_map(|(slot, state)| Step::Set(slot, state)),
        4 => any::<usize>().prop_map(|slot| Step::Set(slot, Connectivity::Ready)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(slot, draining)| Step::Drain(slot, draining)),
        2 => Just(Step::Connect),
        2 => (0_u64..3_000).prop_map(|ms| Step::Advance(Duration::from_millis(ms))),
        8 => Just(Step::Pick),
        3 => (0_usize..5).prop_map(Step::Retry),
        1 => Just(Step::Forget),
    ]
}

#[derive(Debug)]
struct Known {
    endpoint: Arc<Endpoint>,
    state: Connectivity,
    failed: bool,
    listed: bool,
}

impl Known {
    fn is_pending(&self) -> bool {
        self.listed && !self.failed && matches!(self.state, Connectivity::Idle | Connectivity::Connecting)
    }

    fn is_ready(&self) -> bool {
        self.listed && self.state == Connectivity::Ready
    }
}

struct World {
    balancer: Balancer,
    set: EndpointSet,
    policy: Policy,
    known: BTreeMap<Slot, Known>,
    now: Duration,
}

impl World {
    fn new(policy: Policy) -> Self {
        let balancer = Balancer::new(policy, SmallRng::seed_from_u64(1));
        let set = EndpointSet::new(&[]);
        let mut world = Self { balancer, set, policy, known: BTreeMap::new(), now: Duration::ZERO };
        world.update(&[]);
        world
    }

    fn is_pick_first(&self) -> bool {
        matches!(self.policy, Policy::PickFirst { .. })
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Update(listed, weights) => {
                let is_listed = |number: &u32| listed & (1 << number) != 0;
                let weight = |number| (weights >> (4 * number)) & 15;
                let addresses: Vec<(Address, u32)> = (0..ENDPOINTS)
                    .filter(is_listed)
                    .map(|number| (address(number), weight(number)))
                    .collect();
                self.update(&addresses);
            }
            Step::Set(choice, state) => {
                if let Some(slot) = self.choose(choice) {
                    self.set(slot, state);
                }
            }
            Step::Drain(choice, draining) => {
                if let Some(slot) = self.choose(choice) {
                    self.known[&slot].endpoint.set_draining(draining);
                }
            }
            Step::Connect => self.connect(),
            Step::Advance(time) => self.now += time,
            Step::Pick => self.pick(&[]),
            Step::Retry(tried) => {
                let tried: Vec<Slot> = self.known.keys().copied().take(tried).collect();
                self.pick(&tried);
            }
            Step::Forget => {
                let removed = self.known.iter().find(|(_, known)| !known.listed).map(|(slot, _)| *slot);
                if let Some(slot) = removed {
                    self.balancer.forget(slot);
                    self.known.remove(&slot);
                }
            }
        }
        self.follow_surplus();
        self.check();
    }

    fn choose(&self, choice: usize) -> Option<Slot> {
        let count = self.known.len().max(1);
        self.known.keys().nth(choice % count).copied()
    }

    fn update(&mut self, addresses: &[(Address, u32)]) {
        self.set = self.set.updated(addresses);
        let set = Arc::new(self.set.updated(addresses));
        let changes = self.balancer.update(&set);
        for slot in changes.removed {
            assert!(self.known[&slot].listed, "{slot:?} was removed before");
            self.known.get_mut(&slot).unwrap().listed = false;
        }
        for slot in changes.added {
            let endpoint = Arc::clone(self.balancer.endpoint(slot));
            let known = Known { endpoint, state: Connectivity::Idle, failed: false, listed: true };
            assert!(self.known.insert(slot, known).is_none(), "{slot:?} was in use");
        }
        let mut listed: Vec<&Address> =
            self.known.values().filter(|known| known.listed).map(|known| known.endpoint.address()).collect();
        listed.sort_unstable();
        assert!(listed.iter().copied().eq(addresses.iter().map(|(address, _)| address)));
    }

    fn set(&mut self, slot: Slot, state: Connectivity) {
        self.balancer.set_connectivity(slot, state, self.now);
        self.note(slot, state);
    }

    fn note(&mut self, slot: Slot, state: Connectivity) {
        let known = self.known.get_mut(&slot).unwrap();
        match state {
            Connectivity::Ready => known.failed = false,
            Connectivity::TransientFailure if known.state != state => known.failed = true,
            _ => {}
        }
        known.state = state;
    }

    fn connect(&mut self) {
        while let Some(slot) = self.balancer.wants_connection(self.now) {
            let known = &self.known[&slot];
            assert!(known.listed, "an endpoint is wanted that is not listed");
            assert!(matches!(known.state, Connectivity::Idle | Connectivity::TransientFailure), "{known:?}");
            assert!(self.balancer.connect_deadline(slot).unwrap() >= self.now + Duration::from_secs(20));
            self.note(slot, Connectivity::Connecting);
        }
        assert!(self.balancer.next_deadline().is_none_or(|at| at > self.now), "all that was due is done");
    }

    /// pick_first drops what it does not need; nobody else does.
    fn follow_surplus(&mut self) {
        while let Some(slot) = self.balancer.surplus_connection() {
            assert!(self.is_pick_first());
            self.note(slot, Connectivity::Idle);
        }
    }

    fn pick(&mut self, tried: &[Slot]) {
        let pick = match tried {
            [] => self.balancer.pick(&ASK),
            _ => self.balancer.pick_excluding(&ASK, tried),
        };
        self.follow_surplus();
        let ready = |draining: bool| {
            let fits = move |known: &Known| known.is_ready() && known.endpoint.is_draining() == draining;
            let slots = self.known.iter().filter(move |(_, known)| fits(known)).map(|(slot, _)| *slot);
            slots.filter(|slot| !tried.contains(slot)).collect::<Vec<Slot>>()
        };
        let (fresh, last_resort) = (ready(false), ready(true));
        let eligible = if fresh.is_empty() { &last_resort } else { &fresh };
        if let Pick::Endpoint(slot) = pick {
            assert!(eligible.contains(&slot), "picked {slot:?}, eligible {eligible:?} (tried {tried:?})");
            return;
        }
        assert!(eligible.is_empty(), "{pick:?} though {eligible:?} are ready");
        let pending =
            self.known.iter().filter(|(slot, known)| known.is_pending() && !tried.contains(slot)).count();
        // pick_first may be failing although a new endpoint is pending, or have no use for a pending one.
        if !self.is_pick_first() || pending == 0 {
            assert_eq!(pick, if pending > 0 { Pick::Queue } else { Pick::Fail });
        }
    }

    /// The counts and states agree after every step.
    fn check(&self) {
        let count = |fits: fn(&Known) -> bool| self.known.values().filter(|known| fits(known)).count();
        assert_eq!(self.balancer.ready_count(), count(Known::is_ready));
        let expected = match (count(Known::is_ready), count(Known::is_pending)) {
            (1.., _) => Connectivity::Ready,
            (0, 1..) => Connectivity::Connecting,
            (0, 0) => Connectivity::TransientFailure,
        };
        let is_sticky = self.is_pick_first() && self.balancer.state() == Connectivity::TransientFailure;
        assert!(self.balancer.state() == expected || is_sticky, "{:?}", self.balancer.state());
        assert_eq!(self.balancer.slots().count(), self.known.len());
        let mut candidates = 0;
        for status in self.balancer.slots() {
            let known = &self.known[&status.slot];
            assert_eq!(status.connectivity, known.state, "{status:?}");
            assert_eq!((status.is_listed, status.is_failing), (known.listed, known.failed), "{status:?}");
            assert_eq!(known.endpoint.workers_in(known.state), 1, "{status:?}");
            assert!(known.is_ready() || !status.is_candidate, "{status:?}");
            candidates += usize::from(status.is_candidate);
        }
        if self.is_pick_first() {
            assert!(candidates <= 1);
            assert!(candidates == 0 || count(Known::is_ready) == 1, "one is connected to: the selected one");
        }
    }
}

fn agrees_with_the_model(policy: Policy, steps: &[Step]) {
    let mut world = World::new(policy);
    for step in steps {
        world.take(step);
    }
    // Whatever happened, when everything can be reached again, calls go out.
    world.update(&[(address(0), 1), (address(1), 2)]);
    for _ in 0..10 {
        world.now += Duration::from_secs(200);
        world.connect();
        let connecting = |known: &Known| known.listed && known.state == Connectivity::Connecting;
        while let Some(slot) = world.known.iter().find(|(_, known)| connecting(known)).map(|(slot, _)| *slot)
        {
            world.set(slot, Connectivity::Ready);
            world.follow_surplus();
        }
    }
    assert!(matches!(world.balancer.pick(&ASK), Pick::Endpoint(_)), "{:?}", world.balancer);
}

macro_rules! model_tests {
    ($($name:ident: $policy:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
            $(#[test] fn $name(steps in prop::collection::vec(step(), 0..120)) {
                agrees_with_the_model($policy, &steps);
            })*
        }
    };
}

model_tests! {
    pick_first_agrees_with_the_model: Policy::PickFirst { shuffle: false };
    pick_first_shuffled_agrees_with_the_model: Policy::PickFirst { shuffle: true };
    round_robin_agrees_with_the_model: Policy::RoundRobin;
    weighted_round_robin_agrees_with_the_model: Policy::WeightedRoundRobin;
    random_agrees_with_the_model: Policy::Random;
    least_request_of_two_agrees_with_the_model: sample(2);
    least_request_of_four_agrees_with_the_model: sample(4);
    least_request_full_scan_agrees_with_the_model: Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan));
    least_request_full_scan_of_many_agrees_with_the_model: full_scan_of_many();
    load_weighted_round_robin_agrees_with_the_model: Policy::LoadWeightedRoundRobin(LoadWeightConfig::default());
    peak_ewma_agrees_with_the_model: Policy::PeakEwma(PeakEwmaConfig::default());
    prequal_agrees_with_the_model: Policy::Prequal(PrequalConfig::default());
    prequal_without_probes_agrees_with_the_model: Policy::Prequal(PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() });
    ring_hash_agrees_with_the_model: hashing(Affinity::Rehash)[0];
    ring_hash_bound_agrees_with_the_model: hashing(Affinity::Bounded(BoundedLoad::default()))[0];
    maglev_agrees_with_the_model: hashing(Affinity::Rehash)[1];
}
