//! The pool and the policy against what the rules say, with random steps.

use core::time::Duration;
use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::balancer::tests::fixture::Fixture;
use crate::policy::prequal::pool::{Answer, Pool};
use crate::policy::prequal::threshold::Threshold;
use crate::{Ask, CallReport, Connectivity, Factor, Outcome, Pick, Policy, PrequalConfig, ProbeAnswer, Slot};

const MS: Duration = Duration::from_millis(1);
const ENDPOINTS: u32 = 8;

/// What may happen to a pool.
#[derive(Clone, Debug)]
enum PoolStep {
    /// An answer: by which endpoint, how many requests, what latency in ms, and how often it may be used.
    Insert(u32, u32, u32, u32),
    Use,
    ForgetOne,
    /// What was answered longer ago than so many steps expires.
    Expire(u32),
    Remove(u32),
}

fn pool_step() -> impl Strategy<Value = PoolStep> {
    prop_oneof![
        5 => (0..ENDPOINTS, 0_u32..10, 1_u32..50, 1_u32..4)
            .prop_map(|(slot, in_flight, latency, uses)| PoolStep::Insert(slot, in_flight, latency, uses)),
        4 => Just(PoolStep::Use),
        2 => Just(PoolStep::ForgetOne),
        1 => (0_u32..10).prop_map(PoolStep::Expire),
        1 => (0..ENDPOINTS).prop_map(PoolStep::Remove),
    ]
}

/// A probe as the paper describes it.
#[derive(Clone, Copy, Debug)]
struct Known {
    slot: Slot,
    at: u32,
    in_flight: u32,
    latency: u32,
    uses: u32,
}

/// A pool without tricks, in the order of the answers.
#[derive(Debug, Default)]
struct Model {
    probes: Vec<Known>,
    removes_worst: bool,
}

/// Hot begins above this many requests in flight.
const COLD_AT_MOST: u32 = 5;

impl Model {
    const CAPACITY: usize = 4;

    fn is_hot(known: &Known) -> bool {
        known.in_flight > COLD_AT_MOST
    }

    /// The best by the hot-cold lexicographic rule; of equally good ones any.
    fn best(&self) -> Vec<Slot> {
        let cold: Vec<&Known> = self.probes.iter().filter(|known| !Self::is_hot(known)).collect();
        let least = |all: Vec<&Known>, key: fn(&Known) -> u32| -> Vec<Slot> {
            let best = all.iter().map(|known| key(known)).min();
            all.iter().filter(|known| Some(key(known)) == best).map(|known| known.slot).collect()
        };
        if cold.is_empty() {
            least(self.probes.iter().collect(), |known| known.in_flight)
        } else {
            least(cold, |known| known.latency)
        }
    }

    /// The worst by the same rule reversed.
    fn worst(&self) -> Vec<Slot> {
        let key = |known: &Known| {
            (Self::is_hot(known), if Self::is_hot(known) { known.in_flight } else { known.latency })
        };
        let worst = self.probes.iter().map(key).max();
        self.probes.iter().filter(|known| Some(key(known)) == worst).map(|known| known.slot).collect()
    }

    fn remove(&mut self, slot: Slot) {
        self.probes.retain(|known| known.slot != slot);
    }

    fn insert(&mut self, probe: Known) {
        self.remove(probe.slot);
        if self.probes.len() == Self::CAPACITY {
            self.probes.remove(0);
        }
        self.probes.push(probe);
    }

    fn used(&mut self, slot: Slot) {
        let known = self.probes.iter_mut().find(|known| known.slot == slot).expect("it is in the pool");
        known.in_flight += 1;
        known.uses -= 1;
        self.probes.retain(|known| known.uses > 0);
    }

    fn slots(&self) -> BTreeSet<Slot> {
        self.probes.iter().map(|known| known.slot).collect()
    }
}

fn slots_of(pool: &Pool) -> BTreeSet<Slot> {
    pool.probes().iter().map(|probe| probe.slot).collect()
}

/// Takes a step in the pool, and checks it with the model, which follows where the rules leave a choice.
fn take(pool: &mut Pool, model: &mut Model, slots: &[Slot], step: &PoolStep, now: u32) {
    let mut threshold = Threshold::new(0.5);
    threshold.observe(f64::from(COLD_AT_MOST) + 1.0);
    match *step {
        PoolStep::Insert(number, in_flight, latency, uses) => {
            let slot = slots[number as usize];
            let answer = Answer {
                in_flight: f64::from(in_flight),
                latency_ns: f64::from(latency) * 1e6,
                inverse_weight: 1.0,
                penalty: 1.0,
            };
            pool.insert(answer.probe(slot, uses, now * MS));
            model.insert(Known { slot, at: now, in_flight, latency, uses });
        }
        PoolStep::Use => {
            let best = pool.best(&threshold);
            assert_eq!(best.is_none(), model.probes.is_empty());
            if let Some((index, slot)) = best {
                assert!(model.best().contains(&slot), "{slot:?} of {model:?}");
                pool.used(index);
                model.used(slot);
            }
        }
        PoolStep::ForgetOne => {
            let before = slots_of(pool);
            pool.forget_one(&threshold);
            let gone: Vec<Slot> = before.difference(&slots_of(pool)).copied().collect();
            assert_eq!(gone.len(), usize::from(!model.probes.is_empty()));
            if let [slot] = gone[..] {
                let expected = if model.removes_worst { model.worst() } else { vec![model.probes[0].slot] };
                assert!(expected.contains(&slot), "{slot:?} of {model:?}");
                model.remove(slot);
                model.removes_worst = !model.removes_worst;
            }
        }
        PoolStep::Expire(steps) => {
            let oldest = now.saturating_sub(steps);
            pool.expire(oldest * MS);
            model.probes.retain(|known| known.at >= oldest);
        }
        PoolStep::Remove(number) => {
            pool.remove(slots[number as usize]);
            model.remove(slots[number as usize]);
        }
    }
}

/// What may happen to a balancer with prequal.
#[derive(Clone, Debug)]
enum Step {
    Call,
    /// The oldest of the calls under way ends.
    Finish(Outcome),
    /// At most so many of the probes wanted are sent.
    Send(usize),
    Answer(u32, ProbeAnswer),
    Fail(u32),
    Set(u32, Connectivity),
    /// Microseconds pass.
    Pass(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop::sample::select(vec![Outcome::Success, Outcome::Failure, Outcome::Cancelled]);
    let state = prop::sample::select(vec![Connectivity::Ready, Connectivity::Idle]);
    let answer = (any::<u32>(), prop::option::of(any::<u64>())).prop_map(|(requests_in_flight, nanos)| {
        ProbeAnswer { requests_in_flight, latency: nanos.map(Duration::from_nanos) }
    });
    prop_oneof![
        4 => Just(Step::Call),
        2 => outcome.prop_map(Step::Finish),
        3 => (0_usize..6).prop_map(Step::Send),
        4 => (0..ENDPOINTS, answer).prop_map(|(number, answer)| Step::Answer(number, answer)),
        1 => (0..ENDPOINTS).prop_map(Step::Fail),
        1 => (0..ENDPOINTS, state).prop_map(|(number, state)| Step::Set(number, state)),
        2 => (0_u32..3_000).prop_map(Step::Pass),
        1 => (0_u32..2_000_000).prop_map(Step::Pass),
    ]
}

/// A balancer with prequal, and what must be true of it.
struct World {
    fixture: Fixture,
    ready: BTreeSet<Slot>,
    /// Calls under way.
    open: Vec<Slot>,
    /// Probes under way: until when an answer counts, and of whom.
    probes: Vec<(Duration, Slot)>,
    config: PrequalConfig,
    sent: u64,
    answered: u64,
    ignored: u64,
}

impl World {
    fn new(config: PrequalConfig) -> Self {
        let fixture = Fixture::ready(Policy::Prequal(config), &[1; ENDPOINTS as usize], 1);
        let ready = (0..ENDPOINTS).map(|number| fixture.slot(number)).collect();
        Self {
            fixture,
            ready,
            open: Vec::new(),
            probes: Vec::new(),
            config,
            sent: 0,
            answered: 0,
            ignored: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        let now = self.fixture.now;
        match *step {
            Step::Call => match self.fixture.balancer.pick(&Ask { now, hash: None }) {
                Pick::Endpoint(slot) => {
                    assert!(self.ready.contains(&slot));
                    self.fixture.balancer.call_started(slot, now);
                    self.open.push(slot);
                }
                other => assert!(self.ready.is_empty(), "{other:?}"),
            },
            Step::Finish(outcome) => {
                if !self.open.is_empty() {
                    let report = CallReport { now, outcome, latency: 10 * MS, load: None };
                    self.fixture.balancer.call_finished(self.open.remove(0), &report);
                }
            }
            Step::Send(count) => self.send(count),
            Step::Answer(number, answer) => {
                let slot = self.fixture.slot(number);
                self.fixture.balancer.probe_answered(slot, &answer, now);
                self.probes.retain(|(until, _)| *until > now);
                let counts = self.take_probe(slot);
                self.answered += u64::from(counts);
                self.ignored += u64::from(!counts);
            }
            Step::Fail(number) => {
                let slot = self.fixture.slot(number);
                self.fixture.balancer.probe_failed(slot);
                self.take_probe(slot);
            }
            Step::Set(number, state) => {
                let slot = self.fixture.slot(number);
                self.fixture.balancer.set_connectivity(slot, state, now);
                if state == Connectivity::Ready {
                    self.ready.insert(slot);
                } else {
                    self.ready.remove(&slot);
                    self.take_probe(slot);
                }
            }
            Step::Pass(micros) => self.fixture.now += Duration::from_micros(micros.into()),
        }
    }

    fn send(&mut self, count: usize) {
        let now = self.fixture.now;
        for _ in 0..count {
            let Some(slot) = self.fixture.balancer.wants_probe(now) else { break };
            self.probes.retain(|(until, _)| *until > now);
            assert!(self.ready.contains(&slot), "only what may be picked is probed");
            assert!(!self.probes.iter().any(|(_, probed)| *probed == slot), "one probe at a time");
            self.probes.push((now + self.config.probe_timeout, slot));
            self.sent += 1;
            assert!(self.probes.len() <= self.config.pool_size);
        }
    }

    /// Ends the probe of this endpoint, and tells whether there was one.
    fn take_probe(&mut self, slot: Slot) -> bool {
        let index = self.probes.iter().position(|(_, probed)| *probed == slot);
        index.map(|index| self.probes.remove(index)).is_some()
    }

    fn check(&self) {
        let counts = self.fixture.balancer.probe_counts();
        assert_eq!((counts.sent, counts.answered, counts.ignored), (self.sent, self.answered, self.ignored));
        // Probes of endpoints that were lost are neither answered nor unanswered.
        assert!(counts.answered + counts.unanswered <= counts.sent, "{counts:?}");
        if let Some((until, _)) = self.probes.iter().find(|(until, _)| *until > self.fixture.now) {
            assert!(self.fixture.balancer.next_probe_deadline().is_some_and(|deadline| deadline <= *until));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_agrees_with_the_model(steps in prop::collection::vec(pool_step(), 0..200)) {
        let fixture = Fixture::ready(Policy::Random, &[1; ENDPOINTS as usize], 1);
        let slots: Vec<Slot> = (0..ENDPOINTS).map(|number| fixture.slot(number)).collect();
        let (mut pool, mut model) = (Pool::new(Model::CAPACITY), Model::default());
        for (now, step) in (0..).zip(&steps) {
            take(&mut pool, &mut model, &slots, step, now);
            prop_assert_eq!(slots_of(&pool), model.slots());
            prop_assert_eq!(pool.len(), model.probes.len(), "an endpoint has one probe");
        }
    }

    #[test]
    fn only_ready_endpoints_are_chosen_and_probed_whatever_is_answered(
        probes in 0_u32..20_000,
        pool_size in 2_usize..20,
        quantile in 0_u32..=1_000,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let config = PrequalConfig {
            probes_per_call: Factor::from_thousandths(probes),
            rif_quantile: Factor::from_thousandths(quantile),
            pool_size,
            ..PrequalConfig::default()
        };
        let mut world = World::new(config);
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
