use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::buckets::Buckets;
use crate::Policy;
use crate::Slot;
use crate::balancer::tests::fixture::Fixture;

/// As many slots as asked for; only a balancer makes any.
fn slots(count: usize) -> Vec<Slot> {
    let fixture = Fixture::idle(Policy::Random, &vec![1; count], 1);
    fixture.balancer.slots().map(|status| status.slot).collect()
}

/// All members in the order in which they would be chosen.
fn order(buckets: &Buckets) -> Vec<Slot> {
    core::iter::successors(buckets.first(), |slot| buckets.after(*slot)).collect()
}

#[test]
fn equal_weights_are_ordered_by_calls_exactly_up_to_16() {
    let slots = slots(17);
    let mut buckets = Buckets::new(1.0);
    buckets.reserve(17);
    for (calls, slot) in (0..17).zip(&slots).rev() {
        buckets.insert(*slot, calls, 7, *slot);
    }
    assert_eq!(order(&buckets), slots);
}

#[test]
fn among_equals_the_one_that_has_waited_longest_comes_first() {
    let slots = slots(4);
    let mut buckets = Buckets::new(1.0);
    buckets.reserve(4);
    for slot in &slots[..3] {
        buckets.insert(*slot, 0, 1, slots[3]);
    }
    buckets.pass_over(slots[0]);
    assert_eq!(order(&buckets), [slots[1], slots[2], slots[0]]);
    assert!(buckets.note_calls(slots[1], 1));
    assert!(buckets.note_calls(slots[1], 0));
    assert_eq!(order(&buckets), [slots[2], slots[0], slots[1]]);
    buckets.insert(slots[3], 0, 1, slots[2]);
    assert_eq!(order(&buckets), [slots[2], slots[3], slots[0], slots[1]], "behind the one that was named");
    assert!(!buckets.note_calls(slots[1], 0), "as seen before");
    buckets.remove(slots[0]);
    buckets.insert(slots[0], 0, 1, slots[0]);
    assert_eq!(order(&buckets), [slots[0], slots[2], slots[3], slots[1]], "named itself: before all");
    buckets.insert(slots[0], 9, 9, slots[1]);
    assert_eq!(
        (order(&buckets), buckets.len()),
        (vec![slots[0], slots[2], slots[3], slots[1]], 4),
        "it is in"
    );
}

#[test]
fn the_bias_and_the_weight_say_what_a_call_counts() {
    let slots = slots(4);
    let order_with = |bias| {
        let mut buckets = Buckets::new(bias);
        buckets.reserve(4);
        // (bias * calls + 1/2) / weight: 0.5, (10 bias + 0.5) / 100, twice that of both, (bias + 0.5) / 2.
        for (slot, calls, weight) in
            [(slots[0], 0, 1), (slots[1], 10, 100), (slots[2], 20, 200), (slots[3], 1, 2)]
        {
            buckets.insert(slot, calls, weight, slot);
        }
        order(&buckets)
    };
    assert_eq!(order_with(1.0), [slots[2], slots[1], slots[0], slots[3]]);
    assert_eq!(order_with(0.1), [slots[2], slots[1], slots[3], slots[0]]);
    assert_eq!(order_with(100.0), [slots[0], slots[2], slots[1], slots[3]]);
}

#[test]
fn the_largest_and_least_loads_have_buckets() {
    let slots = slots(4);
    let mut buckets = Buckets::new(100.0);
    buckets.reserve(4);
    buckets.insert(slots[0], u32::MAX, 1, slots[0]);
    buckets.insert(slots[1], 0, u32::MAX, slots[1]);
    buckets.insert(slots[2], 0, 0, slots[2]);
    assert_eq!(order(&buckets), [slots[1], slots[2], slots[0]]);
    buckets.remove(slots[2]);
    buckets.remove(slots[3]);
    buckets.note_weight(slots[1], 1);
    assert!(!buckets.note_calls(slots[2], 5), "it is not in");
    assert_eq!(order(&buckets), [slots[1], slots[0]]);
}

#[test]
fn a_random_history_leaves_each_member_once_and_in_the_order_of_loads() {
    for seed in 0..50 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let slots = slots(30);
        let mut buckets = Buckets::new(1.0);
        buckets.reserve(30);
        let mut members: BTreeMap<Slot, (u32, u32)> = BTreeMap::new();
        for step in 0..2_000 {
            let [slot, other] = [0; 2].map(|_| slots[rng.random_range(0..slots.len())]);
            let (calls, weight) = (rng.random_range(0..6), 1 << rng.random_range(0..3));
            match rng.random_range(0..5) {
                0 if !members.contains_key(&slot) => {
                    buckets.insert(slot, calls, weight, other);
                    members.insert(slot, (calls, weight));
                }
                1 => {
                    buckets.remove(slot);
                    members.remove(&slot);
                }
                2 => buckets.pass_over(slot),
                3 => {
                    buckets.note_weight(slot, weight);
                    members.entry(slot).and_modify(|member| member.1 = weight);
                }
                _ => {
                    buckets.note_calls(slot, calls);
                    members.entry(slot).and_modify(|member| member.0 = calls);
                }
            }
            let order = order(&buckets);
            let load_of = |(calls, weight): (u32, u32)| (2 * calls + 1) * 4 / weight;
            let loads: Vec<u32> = order.iter().map(|slot| load_of(members[slot])).collect();
            assert!(loads.is_sorted(), "seed {seed}, step {step}: {loads:?}");
            let alike = |slot: &&Slot| loads.iter().filter(|load| **load == load_of(members[*slot])).count();
            assert!(
                order.iter().all(|slot| alike(&slot) == buckets.alike(*slot) as usize),
                "seed {seed}, step {step}"
            );
            assert_eq!(buckets.len(), members.len(), "seed {seed}, step {step}");
            let of_next =
                |slot: &Slot| order.iter().find(|other| load_of(members[other]) > load_of(members[slot]));
            assert!(
                order.iter().all(|slot| buckets.next_bucket(*slot) == of_next(slot).copied()),
                "seed {seed}, step {step}"
            );
            let mut found = order;
            found.sort();
            assert!(found.iter().eq(members.keys()), "seed {seed}, step {step}: {found:?}");
        }
    }
}
