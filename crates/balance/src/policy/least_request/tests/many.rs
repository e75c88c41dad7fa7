use core::time::Duration;
use std::collections::BTreeMap;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{DONE, FULL_SCAN, mean_time_in_system, share_from};
use crate::balancer::tests::fixture::{ASK, Fixture, addresses};
use crate::{Ask, BalancerConfig, Choice, Factor, LeastRequestConfig, Pick, Policy, SlowStart};

/// More than a full scan looks at.
const MANY: usize = 200;

impl Fixture {
    /// Picks, and begins the call.
    fn call(&mut self) -> u32 {
        let Pick::Endpoint(slot) = self.balancer.pick(&ASK) else { panic!("all are ready") };
        self.balancer.call_started(slot, ASK.now);
        self.number(slot)
    }

    fn calls(&mut self, count: usize) {
        for _ in 0..count {
            self.call();
        }
    }

    fn finish(&mut self, number: u32) {
        let slot = self.slot(number);
        self.balancer.call_finished(slot, &DONE);
    }

    fn least_in_flight(&self) -> u32 {
        self.set.endpoints().iter().map(|endpoint| endpoint.in_flight()).min().unwrap()
    }
}

#[test]
fn a_worker_that_is_alone_always_finds_a_least_loaded_one() {
    for seed in 0..10 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut fixture = Fixture::ready(FULL_SCAN, &[1; MANY], seed);
        let mut open = Vec::new();
        for step in 0..15_000 {
            // From none to about twenty for each, and back.
            let likely = if step < 10_000 { 0.7 } else { 0.1 };
            if rng.random::<f64>() < likely {
                let least = fixture.least_in_flight();
                let number = fixture.call();
                let more = fixture.endpoint(number).in_flight() - 1 - least;
                assert!(more <= least / 16, "seed {seed}, step {step}: {more} more than {least}");
                open.push(number);
            } else if !open.is_empty() {
                let ended = open.swap_remove(rng.random_range(0..open.len()));
                fixture.finish(ended);
            }
        }
    }
}

#[test]
fn many_idle_endpoints_take_turns_that_differ_between_workers() {
    let turns = |seed| {
        let mut fixture = Fixture::ready(FULL_SCAN, &[1; MANY], seed);
        assert_eq!(fixture.counts(MANY, 3 * MANY), [3; MANY]);
        (0..10).map(|_| fixture.pick()).collect::<Vec<u32>>()
    };
    // Of ten random ones of 200, half a one is in ten others too.
    let seeds = 1..20;
    let others: Vec<Vec<u32>> = seeds.map(turns).collect();
    let alike = |pair: &[Vec<u32>]| pair[0].iter().filter(|number| pair[1].contains(number)).count();
    assert!(others.windows(2).map(alike).sum::<usize>() < 25, "{others:?}");
    let firsts = |pair: &&[Vec<u32>]| pair[0][0] == pair[1][0];
    assert!(others.windows(2).filter(firsts).count() < 3, "{others:?}");
}

#[test]
fn calls_of_other_workers_are_seen_where_it_would_go_and_elsewhere_in_turn() {
    (0..20).for_each(other_workers_calls);
}

fn other_workers_calls(seed: u64) {
    let mut fixture = Fixture::ready(FULL_SCAN, &[1; MANY], seed);
    // Up to eight are passed over at a pick; so all that are busy are known after a few.
    (1..MANY as u32).for_each(|number| fixture.endpoint(number).call_started());
    let settled = MANY / 8;
    fixture.counts(MANY, settled);
    assert_eq!(fixture.counts(MANY, 100)[0], 100);
    // Nobody of this worker knows that another became idle until it is looked at.
    fixture.endpoint(0).call_started();
    fixture.endpoint(77).call_finished();
    let before = (0..).find(|_| fixture.pick() == 77).unwrap();
    assert!(before <= MANY / 2, "{before} picks, of which each looks at two");
    assert_eq!(fixture.counts(MANY, 100)[77], 100);
}

#[test]
fn endpoints_that_leave_and_come_back_are_chosen_among_again() {
    let mut fixture = Fixture::ready(FULL_SCAN, &[1; MANY], 4);
    for count in [MANY - 1, 100, 128, 129, 0, MANY, MANY + 50] {
        let _ = fixture.update(&addresses(&vec![1; count]));
        fixture.connect();
        if count > 0 {
            let counts = fixture.counts(count, 2 * count);
            assert!(count <= 128 || counts == vec![2; count], "{count}: {counts:?}");
        }
    }
}

#[test]
fn many_idle_endpoints_get_calls_exactly_by_their_weights() {
    let weights: Vec<u32> = (0..MANY as u32).map(|number| 1 + number % 4).collect();
    let mut fixture = Fixture::ready(FULL_SCAN, &weights, 5);
    let total: u32 = weights.iter().sum();
    let expected: Vec<usize> = weights.iter().map(|weight| 20 * *weight as usize).collect();
    assert_eq!(fixture.counts(MANY, 20 * total as usize), expected);
    // As they are given others: 10 for the last, 1 for the rest.
    let weights: Vec<u32> = (0..MANY).map(|number| if number + 1 == MANY { 10 } else { 1 }).collect();
    assert_eq!(fixture.update(&addresses(&weights)).added, []);
    let counts = fixture.counts(MANY, 2_090);
    assert_eq!((counts[0], counts[MANY - 1]), (10, 100));
}

#[test]
fn few_and_many_calls_to_many_endpoints_follow_the_weights() {
    let halves = |heavy: u32| [[1; MANY / 2], [heavy; MANY / 2]].concat();
    let mut one = vec![1; MANY];
    one[MANY - 1] = 20;
    // What a scan of all gives, behind. One heavy endpoint among light ones, while most of these are idle, gets none if it has one
    // already: that is what a full scan is for.
    for (heavy, weights, in_flight, range) in [
        (MANY / 2, halves(3), 20, 0.95..1.01),    // 0.98
        (MANY / 2, halves(3), 100, 0.8..0.9),     // 0.85
        (MANY / 2, halves(3), 400, 0.95..1.02),   // 1.01
        (MANY / 2, halves(100), 20, 0.95..1.01),  // 1.00
        (MANY / 2, halves(100), 100, 0.9..1.01),  // 0.92
        (MANY / 2, halves(100), 400, 0.75..1.01), // 0.79
        (MANY - 1, one.clone(), 1, 0.95..1.05),   // 1.00
        (MANY - 1, one.clone(), 20, 0.3..0.5),    // 0.40
        (MANY - 1, one.clone(), 400, 0.5..0.7),   // 0.62
        (MANY - 1, one, 1_600, 0.9..1.0),         // 0.93
    ] {
        let weight = |weights: &[u32]| f64::from(weights.iter().sum::<u32>());
        let fair = weight(&weights[heavy..]) / weight(&weights);
        let share = share_from(heavy, FULL_SCAN, &weights, in_flight) / fair;
        assert!(range.contains(&share), "{heavy}, {in_flight} in flight: {share}, not in {range:?}");
    }
}

#[test]
fn a_small_bias_leaves_equal_weights_as_they_are() {
    let active_request_bias = Factor::from_thousandths(1);
    let policy = Policy::LeastRequest(LeastRequestConfig { choice: Choice::FullScan, active_request_bias });
    let mut fixture = Fixture::ready(policy, &[1; MANY], 13);
    for calls in 0..16 {
        fixture.calls(MANY);
        assert_eq!(fixture.least_in_flight(), calls + 1);
    }
}

#[test]
fn calls_of_other_workers_are_seen_where_weights_differ() {
    let weights: Vec<u32> = (0..MANY as u32).map(|number| 1 + number % 2).collect();
    let mut fixture = Fixture::ready(FULL_SCAN, &weights, 9);
    // Others' calls: ten for each unit of weight, but none at one.
    for (number, weight) in (0..).zip(&weights).filter(|(number, _)| *number != 77) {
        (0..10 * weight).for_each(|_| fixture.endpoint(number).call_started());
    }
    fixture.counts(MANY, MANY);
    assert_eq!(fixture.counts(MANY, 100)[77], 100);
    fixture.endpoint(78).call_started();
    (0..20).for_each(|_| fixture.endpoint(77).call_started());
    (0..10).for_each(|_| fixture.endpoint(78).call_finished());
    fixture.counts(MANY, MANY);
    assert_eq!(fixture.counts(MANY, 100)[78], 100);
}

#[test]
fn a_retry_goes_to_the_next_least_loaded() {
    let mut fixture = Fixture::ready(FULL_SCAN, &[1; MANY], 10);
    // All are busy, but for three that have fewer and fewer.
    (0..MANY as u32).for_each(|number| (0..9).for_each(|_| fixture.endpoint(number).call_started()));
    for (number, calls) in [(5, 9), (6, 8), (7, 7)] {
        (0..calls).for_each(|_| fixture.endpoint(number).call_finished());
    }
    fixture.counts(MANY, MANY);
    let [first, second, third] = [5, 6, 7].map(|number| fixture.slot(number));
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[]), Pick::Endpoint(first));
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[first]), Pick::Endpoint(second));
    assert_eq!(fixture.balancer.pick_excluding(&ASK, &[second, first]), Pick::Endpoint(third));
}

#[test]
fn calls_in_flight_of_many_follow_the_weights() {
    let weights: Vec<u32> = (0..MANY as u32).map(|number| 1 + 2 * (number % 2)).collect();
    let mut fixture = Fixture::ready(FULL_SCAN, &weights, 6);
    fixture.calls(4_000);
    let mut found: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for (number, weight) in (0..).zip(&weights) {
        *found.entry((*weight, fixture.endpoint(number).in_flight())).or_default() += 1;
    }
    let in_bounds = |&(weight, calls): &(u32, u32)| calls.abs_diff(10 * weight) <= weight + 1;
    assert!(found.keys().all(in_bounds), "{found:?}");
}

#[test]
fn without_bias_calls_in_flight_do_not_count_where_weights_differ() {
    let weights: Vec<u32> = (0..MANY as u32).map(|number| 1 + 2 * (number % 2)).collect();
    let active_request_bias = Factor::from_thousandths(0);
    let policy = Policy::LeastRequest(LeastRequestConfig { choice: Choice::FullScan, active_request_bias });
    let mut fixture = Fixture::ready(policy, &weights, 7);
    (0..100).for_each(|_| fixture.endpoint(0).call_started());
    assert_eq!(fixture.counts(MANY, 4_000)[..2], [10, 30]);
}

/// So many warm ones, and new ones beside them, of a slow start of 100 s.
fn with_new_ones(count: usize, seed: u64) -> Fixture {
    let slow_start = SlowStart { window: Duration::from_secs(100), ..SlowStart::default() };
    let config =
        BalancerConfig { policy: FULL_SCAN, slow_start: Some(slow_start), ..BalancerConfig::default() };
    let mut fixture = Fixture::with_config(config, &[1; MANY], seed);
    fixture.connect();
    fixture.now += Duration::from_secs(200);
    assert_eq!(fixture.update(&addresses(&vec![1; MANY + count])).added.len(), count);
    fixture.connect();
    fixture
}

#[test]
fn one_of_many_that_warms_up_gets_its_share_from_the_first_call_on() {
    let mut fixture = with_new_ones(1, 8);
    let newest = fixture.slot(MANY as u32);
    let share = |fixture: &mut Fixture, seconds: u64| {
        let ask = Ask { now: fixture.now + Duration::from_secs(seconds), hash: None };
        let picks = (0..200_000).map(|_| fixture.balancer.pick(&ask));
        picks.filter(|pick| *pick == Pick::Endpoint(newest)).count() as f64 / 200_000.0
    };
    for (seconds, warmth) in [(1, 0.1), (50, 0.5)] {
        let share = share(&mut fixture, seconds) * (MANY as f64 + warmth);
        assert!((share - warmth).abs() < 0.25 * warmth, "after {seconds} s: {share}");
    }
    // While all others are busy it is asked first, and takes part in one of ten.
    (0..MANY as u32).for_each(|number| (0..2).for_each(|_| fixture.endpoint(number).call_started()));
    fixture.counts(MANY + 1, MANY);
    let share = share(&mut fixture, 1);
    assert!((share - 0.1).abs() < 0.01, "{share}");
}

#[test]
fn while_many_warm_up_the_least_loaded_of_the_others_still_gets_calls() {
    let mut fixture = with_new_ones(MANY, 12);
    // The new ones have no call or one, and the others five; but one has two.
    for number in 0..2 * MANY as u32 {
        let calls = if number == 77 {
            2
        } else if number < MANY as u32 {
            5
        } else {
            number % 2
        };
        (0..calls).for_each(|_| fixture.endpoint(number).call_started());
    }
    let ask = Ask { now: fixture.now + Duration::from_secs(1), hash: None };
    (0..MANY).for_each(|_| assert!(matches!(fixture.balancer.pick(&ask), Pick::Endpoint(_))));
    let picks = (0..10_000).map(|_| fixture.balancer.pick(&ask)).collect::<Vec<Pick>>();
    let least = Pick::Endpoint(fixture.slot(77));
    let is_new = |pick: &&Pick| matches!(pick, Pick::Endpoint(slot) if fixture.number(*slot) >= MANY as u32);
    let (of_least, of_new) =
        (picks.iter().filter(|pick| **pick == least).count(), picks.iter().filter(is_new).count());
    assert!(of_least > 6_000 && of_new < 4_000, "{of_least}, {of_new}");
}

#[test]
fn a_full_scan_of_many_leaves_hardly_a_queue() {
    for (workers, most) in [(1, 1.02), (16, 1.06)] {
        let measured = mean_time_in_system(FULL_SCAN, workers, 1_000, 0.9, 200_000, 11);
        println!(
            "figure: mean time in the system, full scan, load 0.9, 1,000 servers, {workers} workers | at most {most} | \
             {measured:.3}"
        );
        assert!(measured < most, "{workers} workers: {measured}");
    }
}
