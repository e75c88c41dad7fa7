use std::collections::BTreeMap;

use core::time::Duration;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Affinity, BoundedLoad, BoundedLoadError};
use crate::balancer::tests::fixture::{Fixture, addresses, hashing};
use crate::hash::hash_bytes;
use crate::{Ask, Balancer, CallReport, Connectivity, Outcome, Pick, Policy, RingSize, Slot, TableSize};

fn bounded(percent: u32) -> Affinity {
    Affinity::Bounded(percent.try_into().unwrap())
}

fn ask(key: u64) -> Ask {
    Ask { hash: Some(hash_bytes(&key.to_be_bytes())), now: Duration::from_secs(1) }
}

fn pick(fixture: &mut Fixture, key: u64) -> u32 {
    match fixture.balancer.pick(&ask(key)) {
        Pick::Endpoint(slot) => fixture.number(slot),
        other => panic!("an endpoint can take the call, but the pick is {other:?}"),
    }
}

fn picks(fixture: &mut Fixture, keys: u64) -> Vec<u32> {
    (0..keys).map(|key| pick(fixture, key)).collect()
}

/// A key of endpoint `number`'s own.
fn key_of(fixture: &mut Fixture, number: u32) -> u64 {
    (0..10_000).find(|key| pick(fixture, *key) == number).expect("the endpoint has a share of the keys")
}

fn finish(balancer: &mut Balancer, slot: Slot) {
    let (now, latency) = (Duration::from_secs(2), Duration::from_secs(1));
    balancer.call_finished(slot, &CallReport { now, outcome: Outcome::Success, latency, load: None });
}

#[test]
fn the_same_key_meets_the_same_endpoint_in_every_worker() {
    for policy in hashing(Affinity::Rehash) {
        let expected = picks(&mut Fixture::ready(policy, &[1; 20], 1), 1_000);
        let mut other = Fixture::ready(policy, &[1; 20], 2);
        assert_eq!(picks(&mut other, 1_000), expected, "{policy:?}");
        // Whatever the order in which discovery lists them.
        let mut list = addresses(&[1; 20]);
        list.reverse();
        let _ = other.update(&list);
        assert_eq!(picks(&mut other, 1_000), expected, "{policy:?}");
    }
}

#[test]
fn a_call_without_a_key_may_go_anywhere_and_waits_for_nobody() {
    for affinity in [Affinity::Rehash, Affinity::Fail, bounded(125)] {
        for policy in hashing(affinity) {
            let mut fixture = Fixture::ready(policy, &[1; 5], 1);
            assert!(fixture.counts(5, 1_000).iter().all(|count| *count > 50), "{policy:?}");
            fixture.set(0, Connectivity::Idle);
            fixture.set(1, Connectivity::TransientFailure);
            let counts = fixture.counts(5, 1_000);
            assert_eq!(counts[..2], [0, 0], "{policy:?}");
        }
    }
}

/// The shares of the keys that move when one of n endpoints leaves: all of them, and those that were not at that endpoint.
fn moved(policy: Policy, n: usize) -> (f64, f64) {
    const KEYS: u64 = 40_000;
    let mut fixture = Fixture::ready(policy, &vec![1; n], 1);
    let before = picks(&mut fixture, KEYS);
    let changes = fixture.update(&addresses(&vec![1; n])[1..]);
    assert_eq!(changes.removed.len(), 1);
    let after = picks(&mut fixture, KEYS);
    let pairs = || before.iter().zip(&after).filter(|(before, after)| before != after);
    let share = |count: usize| count as f64 / KEYS as f64;
    (share(pairs().count()), share(pairs().filter(|(before, _)| **before != 0).count()))
}

#[test]
fn when_one_of_n_leaves_its_keys_move_and_few_others() {
    let [ring, maglev] = hashing(Affinity::Rehash);
    let grpc = Policy::RingHash { size: RingSize::GRPC, affinity: Affinity::Rehash };
    for n in [3, 10, 50, 200] {
        let figures = [ring, grpc, maglev].map(|policy| moved(policy, n));
        for ((all, needless), name) in figures.iter().zip(["ring", "ring sized as gRPC's", "maglev"]) {
            println!(
                "figure: keys that move when one of {n} endpoints leaves, {name} | about {:.2} % | {:.2} %, {:.2} % \
                 needlessly",
                100.0 / n as f64,
                all * 100.0,
                needless * 100.0
            );
        }
        let [ring, grpc, maglev] = figures;
        let fair = 1.0 / n as f64;
        // A share of the ring varies by 1/sqrt(128) of itself: 1.3 is more than three times that.
        assert!(ring.0 < 1.3 * fair && ring.1 == 0.0, "{n}: {ring:?}");
        assert!(grpc.0 < 2.2 * fair, "{n}: {grpc:?}");
        // All have 65,537 / n entries up to one; how many others change their owner grows with n.
        assert!(maglev.0 - maglev.1 < 1.02 * fair + 0.001 && maglev.1 < 0.01, "{n}: {maglev:?}");
    }
}

/// 128 entries each fill the largest ring there is by default with 256 endpoints.
#[test]
fn above_256_endpoints_a_ring_needs_more_room_for_only_the_keys_of_one_that_leaves_to_move() {
    const N: u32 = 300;
    let fair = 1.0 / f64::from(N);
    let ring = |size| moved(Policy::RingHash { size, affinity: Affinity::Rehash }, N as usize);
    let (default, roomy) = (ring(RingSize::default()), ring(RingSize::each(128, 128 * N).unwrap()));
    for (name, (all, needless)) in [("by default", default), ("with room for 128 entries each", roomy)] {
        println!(
            "keys that move when one of {N} endpoints leaves a ring, {name}: of {:.2} % that must {:.2} %, {:.2} % needlessly",
            fair * 100.0,
            all * 100.0,
            needless * 100.0
        );
    }
    assert!(roomy.0 < 1.3 * fair && roomy.1 == 0.0, "{roomy:?}");
    assert!(default.1 > fair && default.0 < 3.5 * fair, "the entries of all are scaled anew: {default:?}");
}

#[test]
fn a_lost_endpoints_keys_are_shared_out_and_return_and_no_other_moves() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1; 10], 1);
        let before = picks(&mut fixture, 10_000);
        fixture.set(3, Connectivity::TransientFailure);
        let during = picks(&mut fixture, 10_000);
        let mut heirs = BTreeMap::<u32, u32>::new();
        for (before, during) in before.iter().zip(&during) {
            if *before == 3 {
                *heirs.entry(*during).or_default() += 1;
            } else {
                assert_eq!(before, during, "{policy:?}");
            }
        }
        assert!(heirs.len() == 9 && !heirs.contains_key(&3), "{policy:?}: {heirs:?}");
        fixture.set(3, Connectivity::Ready);
        assert_eq!(picks(&mut fixture, 10_000), before, "{policy:?}");
    }
}

#[test]
fn waits_for_an_endpoint_that_connects_and_steps_over_one_that_failed() {
    for affinity in [Affinity::Rehash, Affinity::Fail, bounded(125)] {
        for policy in hashing(affinity) {
            let mut fixture = Fixture::ready(policy, &[1; 3], 1);
            let key = key_of(&mut fixture, 1);
            for state in [Connectivity::Idle, Connectivity::Connecting] {
                fixture.set(1, state);
                assert_eq!(fixture.balancer.pick(&ask(key)), Pick::Queue, "{policy:?}");
            }
            fixture.set(1, Connectivity::TransientFailure);
            if affinity == Affinity::Fail {
                assert_eq!(fixture.balancer.pick(&ask(key)), Pick::Fail, "{policy:?}");
            } else {
                assert_ne!(pick(&mut fixture, key), 1);
            }
            // Sticky: the next attempts hold nothing back.
            fixture.set(1, Connectivity::Connecting);
            assert_ne!(fixture.balancer.pick(&ask(key)), Pick::Queue, "{policy:?}");
            fixture.set(1, Connectivity::Ready);
            assert_eq!(pick(&mut fixture, key), 1);
        }
    }
}

#[test]
fn a_new_endpoint_is_waited_for_from_the_start() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1; 3], 1);
        let _ = fixture.update(&addresses(&[1; 4]));
        let waiting = (0..1_000).filter(|key| fixture.balancer.pick(&ask(*key)) == Pick::Queue).count();
        assert!(waiting > 50, "{policy:?}: its keys wait: {waiting}");
        fixture.connect();
        assert!((0..1_000).all(|key| matches!(fixture.balancer.pick(&ask(key)), Pick::Endpoint(_))));
    }
}

#[test]
fn a_draining_endpoint_keeps_its_keys_only_where_no_other_can_have_them() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1; 3], 1);
        let key = key_of(&mut fixture, 2);
        fixture.endpoint(2).set_draining(true);
        assert_ne!(pick(&mut fixture, key), 2);
    }
    for policy in hashing(Affinity::Fail) {
        let mut fixture = Fixture::ready(policy, &[1; 3], 1);
        let key = key_of(&mut fixture, 2);
        fixture.endpoint(2).set_draining(true);
        assert!((0..5).all(|_| pick(&mut fixture, key) == 2), "{policy:?}");
        fixture.set(2, Connectivity::TransientFailure);
        assert_eq!(fixture.balancer.pick(&ask(key)), Pick::Fail);
    }
}

#[test]
fn a_retry_goes_on_along_the_table_and_nowhere_where_the_key_is_bound() {
    for policy in hashing(Affinity::Rehash) {
        let mut fixture = Fixture::ready(policy, &[1; 5], 1);
        for key in 0..100 {
            let first = pick(&mut fixture, key);
            let slot = fixture.slot(first);
            let retry = fixture.balancer.pick_excluding(&ask(key), &[slot]);
            fixture.set(first, Connectivity::TransientFailure);
            assert_eq!(fixture.balancer.pick(&ask(key)), retry, "the endpoint that inherits the key");
            fixture.set(first, Connectivity::Ready);
        }
    }
    for policy in hashing(Affinity::Fail) {
        let mut fixture = Fixture::ready(policy, &[1; 5], 1);
        let owner = pick(&mut fixture, 7);
        let slot = fixture.slot(owner);
        assert_eq!(fixture.balancer.pick_excluding(&ask(7), &[slot]), Pick::Fail);
    }
}

#[test]
fn workers_agree_also_when_nearly_all_endpoints_are_out() {
    for policy in hashing(Affinity::Rehash) {
        let survivors = [17, 400, 733];
        let picks_of = |seed| {
            let mut fixture = Fixture::ready(policy, &[1; 1_000], seed);
            for number in (0..1_000).filter(|number| !survivors.contains(number)) {
                fixture.set(number, Connectivity::TransientFailure);
            }
            picks(&mut fixture, 1_000)
        };
        let first = picks_of(1);
        assert_eq!(first, picks_of(2), "{policy:?}");
        let count = |number| first.iter().filter(|picked| **picked == number).count();
        assert!(survivors.into_iter().all(|number| count(number) > 200), "{policy:?}");
    }
}

/// Every place of every pick, at the moment of the pick: calls there <= ceil(percent * calls * weight / weights / 100).
fn assert_within_bound(fixture: &Fixture, picked: u32, percent: u64, open: usize, ready: &[u32]) {
    let endpoint = fixture.endpoint(picked);
    let weights: u64 = ready.iter().map(|number| u64::from(fixture.endpoint(*number).weight())).sum();
    let cap = (percent * open as u64 * u64::from(endpoint.weight())).div_ceil(100 * weights);
    assert!(u64::from(endpoint.in_flight()) <= cap, "{} in flight, at most {cap}", endpoint.in_flight());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_bounded_load_is_never_exceeded(
        seed in any::<u64>(),
        percent in prop::sample::select(vec![101_u32, 125, 200, 1_000]),
        maglev in any::<bool>(),
        weights in prop::collection::vec(1_u32..20, 1..30),
        hot in 1_u64..40,
    ) {
        let policy = hashing(bounded(percent))[usize::from(maglev)];
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut fixture = Fixture::ready(policy, &weights, seed);
        // A second worker, with its own connections, on the same endpoints.
        let mut second = Balancer::new(policy, SmallRng::seed_from_u64(seed ^ 1));
        let _ = second.update(&fixture.set);
        while let Some(slot) = second.wants_connection(fixture.now) {
            second.set_connectivity(slot, Connectivity::Ready, fixture.now);
        }
        let mut ready: Vec<u32> = (0..).take(weights.len()).collect();
        let mut open: Vec<(bool, Slot)> = Vec::new();
        for _ in 0..600 {
            match rng.random_range(0..10) {
                0..6 => {
                    let key = rng.random_range(0..hot);
                    let of_second = rng.random();
                    let ready_there = if of_second { (0..).take(weights.len()).collect() } else { ready.clone() };
                    let balancer = if of_second { &mut second } else { &mut fixture.balancer };
                    let Pick::Endpoint(slot) = balancer.pick(&ask(key)) else { continue };
                    balancer.call_started(slot, Duration::ZERO);
                    open.push((of_second, slot));
                    // Slots have the same numbers in both: they took the same set.
                    let picked = fixture.number(slot);
                    assert_within_bound(&fixture, picked, u64::from(percent), open.len(), &ready_there);
                }
                6..9 if !open.is_empty() => {
                    let (of_second, slot) = open.swap_remove(rng.random_range(0..open.len()));
                    finish(if of_second { &mut second } else { &mut fixture.balancer }, slot);
                }
                _ if ready.len() > 1 && rng.random() => {
                    let gone = ready.swap_remove(rng.random_range(0..ready.len()));
                    fixture.set(gone, Connectivity::TransientFailure);
                }
                _ => {
                    ready = (0..).take(weights.len()).collect();
                    ready.iter().for_each(|number| fixture.set(*number, Connectivity::Ready));
                }
            }
        }
    }
}

/// 100 endpoints, keys drawn by Zipf's law with exponent 1: the hottest of 1,000 keys has 13 % of the calls.
#[test]
fn hot_keys_stay_within_the_bound_and_the_others_at_home() {
    const CALLS: usize = 10_000;
    let sums: Vec<f64> = (1..=1_000)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    for (percent, at_home_at_least) in [(125, 0.45), (150, 0.5), (200, 0.55)] {
        for policy in hashing(bounded(percent)) {
            let mut fixture = Fixture::ready(policy, &[1; 100], 1);
            let mut plain = Fixture::ready(
                hashing(Affinity::Rehash)[usize::from(matches!(policy, Policy::Maglev { .. }))],
                &[1; 100],
                1,
            );
            let mut rng = SmallRng::seed_from_u64(3);
            let mut at_home = 0;
            for _ in 0..CALLS {
                let drawn = rng.random::<f64>() * sums[999];
                let key = sums.partition_point(|sum| *sum < drawn) as u64;
                let picked = pick(&mut fixture, key);
                at_home += usize::from(picked == pick(&mut plain, key));
                let slot = fixture.slot(picked);
                fixture.balancer.call_started(slot, Duration::ZERO);
            }
            let most = (0..100).map(|number| fixture.endpoint(number).in_flight()).max().unwrap();
            let name = if matches!(policy, Policy::Maglev { .. }) { "maglev" } else { "ring_hash" };
            println!(
                "figure: largest load by the mean, keys by Zipf's law, {name}, bounded_load {percent} | at most {:.2} | \
                 {:.2}, {:.1} % of the calls at their own endpoint",
                f64::from(percent) / 100.0,
                f64::from(most) / 100.0,
                100.0 * f64::from(at_home as u32) / CALLS as f64
            );
            assert!(most <= percent, "{policy:?}: {most} of 100 on average");
            assert!(at_home as f64 / CALLS as f64 > at_home_at_least, "{policy:?}: {at_home}");
        }
    }
}

#[test]
fn a_full_endpoints_key_always_goes_to_the_same_other_one_and_comes_home() {
    for policy in hashing(bounded(200)) {
        let mut fixture = Fixture::ready(policy, &[1; 10], 1);
        let home = pick(&mut fixture, 5);
        // Alone in the cluster, a call is one of one: ceil(2 * 2 / 10) = 1.
        let slot = fixture.slot(home);
        fixture.balancer.call_started(slot, Duration::ZERO);
        let other = pick(&mut fixture, 5);
        assert_ne!(other, home);
        assert!((0..10).all(|_| pick(&mut fixture, 5) == other), "{policy:?}");
        finish(&mut fixture.balancer, slot);
        assert_eq!(pick(&mut fixture, 5), home);
    }
}

#[test]
fn calls_of_a_balancer_that_is_gone_raise_no_cap() {
    let policy = hashing(bounded(125))[0];
    let mut fixture = Fixture::ready(policy, &[1; 4], 1);
    let calls = || fixture.set.groups()[0].bounded_calls.load(core::sync::atomic::Ordering::Relaxed);
    assert_eq!(calls(), 0);
    let slot = fixture.slot(0);
    fixture.balancer.call_started(slot, Duration::ZERO);
    assert_eq!(calls(), 1);
    let set = std::sync::Arc::clone(&fixture.set);
    // A set that does not follow from the one before counts them from then on.
    let next = std::sync::Arc::new(crate::EndpointSet::new(&addresses(&[1; 4])));
    let _ = fixture.balancer.update(&next);
    let count =
        |set: &crate::EndpointSet| set.groups()[0].bounded_calls.load(core::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&set), count(&next)), (0, 1));
    drop(fixture);
    assert_eq!(count(&next), 0);
}

#[test]
fn bounds_that_bind_nothing_or_everything_are_refused() {
    for percent in [0, 100, 100_001] {
        assert_eq!(BoundedLoad::try_from(percent), Err(BoundedLoadError { percent }));
    }
    assert_eq!(BoundedLoad::try_from(101).map(BoundedLoad::percent), Ok(101));
    assert_eq!(BoundedLoad::try_from(100_000).map(BoundedLoad::percent), Ok(100_000));
    assert_eq!(BoundedLoad::try_from(125), Ok(BoundedLoad::default()));
}

#[test]
fn has_room_up_to_the_cap_and_overflows_nowhere() {
    let bound = BoundedLoad::try_from(125).unwrap();
    // ceil(1.25 * 10 * 1 / 4) = 4.
    assert!(bound.has_room(3, 10, 1, 4));
    assert!(!bound.has_room(4, 10, 1, 4));
    // 1.25 * 16 / 4 = 5, exactly.
    assert!(bound.has_room(4, 16, 1, 4));
    assert!(!bound.has_room(5, 16, 1, 4));
    let most = BoundedLoad::try_from(100_000).unwrap();
    assert!(most.has_room(u32::MAX, u64::MAX, u32::MAX, 65_536 * u64::from(u32::MAX)));
}

#[test]
fn a_prepared_set_hands_its_table_on_while_nothing_changes() {
    let kind = |policy| super::TableKind::of(policy).unwrap();
    for policy in hashing(Affinity::Rehash) {
        let set = crate::EndpointSet::new(&addresses(&[1, 2, 3])).prepared_for(policy);
        let table = set.table(kind(policy));
        let same = set.updated(&addresses(&[1, 2, 3]));
        assert!(std::sync::Arc::ptr_eq(&table, &same.table(kind(policy))));
        for changed in [addresses(&[1, 2, 4]), addresses(&[1, 2])] {
            let next = set.updated(&changed);
            let made = next.table(kind(policy));
            assert!(!std::sync::Arc::ptr_eq(&table, &made));
            assert!(std::sync::Arc::ptr_eq(&made, &next.table(kind(policy))), "made once, for all workers");
        }
        let unprepared = set.prepared_for(Policy::Random);
        assert!(!std::sync::Arc::ptr_eq(&table, &unprepared.table(kind(policy))));
    }
}

#[test]
fn says_how_many_endpoints_the_table_has_no_room_for() {
    let of = |policy| crate::EndpointSet::new(&addresses(&[1; 10])).prepared_for(policy).without_share();
    let ring =
        |max| of(Policy::RingHash { size: RingSize::in_all(1, max).unwrap(), affinity: Affinity::Rehash });
    assert_eq!((ring(5), ring(10)), (5, 0));
    let maglev = |size: u32| {
        of(Policy::Maglev { size: TableSize::try_from(size).unwrap(), affinity: Affinity::Rehash })
    };
    assert_eq!((maglev(7), maglev(11)), (3, 0));
    assert_eq!(of(Policy::Random), 0);
}
