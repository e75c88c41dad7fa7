//! The pool and the choice from it, probe by probe.

use core::time::Duration;

use crate::Slot;
use crate::balancer::tests::fixture::Fixture;
use crate::policy::Policy;
use crate::policy::prequal::pool::{Answer, Pool, Probe};
use crate::policy::prequal::threshold::Threshold;

const MS: Duration = Duration::from_millis(1);

/// Slots of twenty endpoints.
fn slots() -> Vec<Slot> {
    let fixture = Fixture::ready(Policy::Random, &[1; 20], 1);
    (0..20).map(|number| fixture.slot(number)).collect()
}

fn probe(slot: Slot, at: Duration, in_flight: u32, latency_ms: u32) -> Probe {
    let answer = Answer {
        in_flight: f64::from(in_flight),
        latency_ns: f64::from(latency_ms) * 1e6,
        inverse_weight: 1.0,
        penalty: 1.0,
    };
    answer.probe(slot, 10, at)
}

/// Hot begins above this many requests in flight.
fn hot_above(in_flight: u32) -> Threshold {
    let mut threshold = Threshold::new(0.5);
    threshold.observe(f64::from(in_flight) + 1.0);
    threshold
}

/// A pool of probes given as (requests in flight, latency in ms), of endpoints 0, 1, ..., in the order of their time.
fn pool(probes: &[(u32, u32)]) -> (Pool, Vec<Slot>) {
    let slots = slots();
    let mut pool = Pool::new(16);
    for (index, (in_flight, latency_ms)) in (0..).zip(probes) {
        pool.insert(probe(slots[index as usize], index * MS, *in_flight, *latency_ms));
    }
    (pool, slots)
}

/// The numbers of the endpoints that have a probe.
fn numbers(pool: &Pool, slots: &[Slot]) -> Vec<usize> {
    let number =
        |probe: &Probe| slots.iter().position(|slot| *slot == probe.slot).expect("it is one of them");
    let mut numbers: Vec<usize> = pool.probes().iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn best(pool: &Pool) -> Option<Slot> {
    pool.best(&hot_above(5)).map(|(_, slot)| slot)
}

/// A call goes to the endpoint of the best probe.
fn use_best(pool: &mut Pool) -> Slot {
    let (index, slot) = pool.best(&hot_above(5)).expect("the pool is not empty");
    pool.used(index);
    slot
}

#[test]
fn of_the_cold_the_lowest_latency_wins_and_of_the_hot_the_fewest_requests() {
    let best_of = |probes: &[(u32, u32)]| {
        let (pool, slots) = pool(probes);
        let best = best(&pool).expect("the pool is not empty");
        slots.iter().position(|slot| *slot == best).expect("it is one of them")
    };
    assert_eq!(best_of(&[(5, 30), (0, 40), (3, 20)]), 2);
    assert_eq!(best_of(&[(6, 1), (5, 90), (7, 1)]), 1, "a hot one is not chosen while there is a cold one");
    assert_eq!(best_of(&[(8, 1), (6, 90), (7, 1)]), 1);
}

#[test]
fn a_penalty_makes_an_idle_endpoint_hot_and_slow() {
    let (mut pool, slots) = pool(&[(0, 1), (4, 50)]);
    assert_eq!(best(&pool), Some(slots[0]));
    pool.set_penalty(slots[0], 6.0);
    assert_eq!(best(&pool), Some(slots[0]), "cold still, and 6 ms against 50");
    pool.set_penalty(slots[0], 6.1);
    assert_eq!(best(&pool), Some(slots[1]));
}

#[test]
fn each_use_adds_a_request_and_the_last_takes_the_probe_out() {
    let (mut pool, slots) = pool(&[(4, 10), (4, 20)]);
    assert_eq!([use_best(&mut pool), use_best(&mut pool)], [slots[0]; 2], "five requests are cold");
    assert_eq!([use_best(&mut pool), use_best(&mut pool)], [slots[1]; 2], "six are hot");
    // Both are hot: the one with fewer requests, in turn, until each was used ten times.
    let rest: Vec<Slot> = (0..16).map(|_| use_best(&mut pool)).collect();
    assert_eq!(rest.iter().filter(|slot| **slot == slots[0]).count(), 8);
    assert_eq!(pool.len(), 0);
}

#[test]
fn a_full_pool_gives_up_its_oldest_and_an_endpoint_has_one_probe() {
    let (mut pool, slots) = pool(&[(1, 1); 16]);
    pool.insert(probe(slots[16], 16 * MS, 1, 1));
    assert_eq!(numbers(&pool, &slots), (1..=16).collect::<Vec<_>>());
    pool.insert(probe(slots[5], 17 * MS, 2, 2));
    assert_eq!(numbers(&pool, &slots), (1..=16).collect::<Vec<_>>());
    pool.expire(17 * MS);
    assert_eq!(numbers(&pool, &slots), [5]);
}

#[test]
fn what_is_too_old_expires() {
    let (mut pool, slots) = pool(&[(1, 1); 5]);
    pool.expire(2 * MS);
    assert_eq!(numbers(&pool, &slots), [2, 3, 4], "as old as allowed is not too old");
    pool.expire(Duration::MAX);
    assert_eq!((pool.len(), best(&pool)), (0, None));
}

#[test]
fn the_oldest_and_the_worst_are_forgotten_in_turn() {
    let threshold = hot_above(5);
    let (mut pool, slots) = pool(&[(1, 10), (9, 1), (7, 1), (2, 30), (2, 20)]);
    pool.forget_one(&threshold);
    assert_eq!(numbers(&pool, &slots), [1, 2, 3, 4], "the oldest");
    pool.forget_one(&threshold);
    assert_eq!(numbers(&pool, &slots), [2, 3, 4], "the hot one with the most requests");
    pool.forget_one(&threshold);
    assert_eq!(numbers(&pool, &slots), [3, 4], "the oldest");
    pool.forget_one(&threshold);
    assert_eq!(numbers(&pool, &slots), [4], "the cold one with the highest latency");
    pool.forget_one(&threshold);
    pool.forget_one(&threshold);
    assert_eq!(pool.len(), 0);
}
