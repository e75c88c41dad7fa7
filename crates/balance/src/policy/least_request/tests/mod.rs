mod buckets;
mod many;

use core::cell::Cell;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Choice, LeastRequestConfig, SampleSize, SampleSizeError};
use crate::balancer::tests::fixture::{ASK, Fixture, address, addresses, sample};
use crate::{
    Ask, BalancerConfig, CallReport, EndpointSet, Factor, Outcome, PeakEwmaConfig, Pick, Policy, Slot,
    SlowStart,
};

thread_local! {
    /// How many a full scan looks at in this test.
    pub(super) static SCANNED_MAX: Cell<usize> = const { Cell::new(super::pick::SCANNED_MAX) };
}

/// A full scan that in this test takes more than two for many.
pub(crate) fn full_scan_of_many() -> Policy {
    SCANNED_MAX.set(2);
    FULL_SCAN
}

const FULL_SCAN: Policy = Policy::LeastRequest(LeastRequestConfig::of(Choice::FullScan));

#[test]
fn a_sample_holds_two_to_ten() {
    assert_eq!(SampleSize::try_from(1), Err(SampleSizeError { count: 1 }));
    assert_eq!(SampleSize::try_from(0), Err(SampleSizeError { count: 0 }));
    let taken = |count| SampleSize::try_from(count).map(SampleSize::get);
    assert_eq!([taken(2), taken(10), taken(11), taken(u32::MAX)], [Ok(2), Ok(10), Ok(10), Ok(10)]);
    assert_eq!(Policy::default(), sample(2));
    assert_eq!(
        SampleSizeError { count: 1 }.to_string(),
        "a sample of 1 leaves no choice: give at least 2, or use the policy `random`"
    );
}

#[test]
fn idle_endpoints_are_equally_likely() {
    for policy in [sample(2), sample(3), sample(4), sample(10), FULL_SCAN] {
        let mut fixture = Fixture::ready(policy, &[1; 5], 1);
        // 50,000 draws at 1/5: the standard deviation is 89, six of them 537.
        for count in fixture.counts(5, 50_000) {
            assert!(count.abs_diff(10_000) < 540, "{policy:?}: {count} of 50,000");
        }
    }
}

#[test]
fn a_sample_holds_distinct_endpoints() {
    // The one idle endpoint of n is picked whenever it is in the sample of d: with probability d / n if all differ.
    for (endpoints, size) in [(3, 2), (5, 2), (5, 3), (7, 4), (11, 10), (12, 10)] {
        let mut fixture = Fixture::ready(sample(size), &vec![1; endpoints as usize], 2);
        for number in 1..endpoints {
            fixture.endpoint(number).call_started();
        }
        let hits = fixture.counts(endpoints as usize, 50_000)[0] as f64 / 50_000.0;
        let expected = f64::from(size) / f64::from(endpoints);
        assert!((hits - expected).abs() < 0.014, "{size} of {endpoints}: {hits}, expected {expected}");
    }
}

#[test]
fn a_sample_of_all_and_a_full_scan_find_the_least_loaded() {
    for policy in [sample(10), FULL_SCAN] {
        let mut fixture = Fixture::ready(policy, &[1; 10], 3);
        for number in 0..10 {
            (0..=number).for_each(|_| fixture.endpoint(number).call_started());
        }
        assert_eq!(fixture.counts(10, 100)[0], 100);
    }
}

#[test]
fn calls_of_other_workers_count() {
    let mut fixture = Fixture::ready(sample(2), &[1, 1], 4);
    fixture.endpoint(0).call_started();
    assert_eq!(fixture.counts(2, 100), [0, 100]);
    fixture.endpoint(0).call_finished();
    fixture.endpoint(1).call_started();
    assert_eq!(fixture.counts(2, 100), [100, 0]);
}

#[test]
fn calls_in_flight_follow_the_weights() {
    for policy in [sample(2), sample(10), FULL_SCAN] {
        let mut fixture = Fixture::ready(policy, &[1, 3], 5);
        for _ in 0..400 {
            let number = fixture.pick();
            fixture.endpoint(number).call_started();
        }
        let in_flight = [0, 1].map(|number| fixture.endpoint(number).in_flight());
        assert_eq!(in_flight, [100, 300], "{policy:?}");
    }
}

#[test]
fn the_largest_counts_and_weights_do_not_overflow() {
    let mut fixture = Fixture::ready(FULL_SCAN, &[u32::MAX, 1], 6);
    for _ in 0..1_000 {
        fixture.endpoint(0).call_started();
    }
    fixture.endpoint(1).call_started();
    assert_eq!(fixture.pick(), 0);
}

#[test]
fn idle_endpoints_get_calls_exactly_by_their_weights() {
    for policy in [sample(2), sample(3), sample(10), FULL_SCAN] {
        for weights in [&[1, 3][..], &[40, 60], &[10, 10, 10, 30], &[1, 1, 1, 1, 96]] {
            let mut fixture = Fixture::ready(policy, weights, 7);
            let rounds = 20;
            let expected: Vec<usize> = weights.iter().map(|weight| *weight as usize * rounds).collect();
            let calls = expected.iter().sum();
            assert_eq!(fixture.counts(weights.len(), calls), expected, "{policy:?}, {weights:?}");
        }
    }
}

const DONE: CallReport =
    CallReport { now: ASK.now, outcome: Outcome::Success, latency: Duration::from_millis(1), load: None };

/// The share of the calls that endpoints from this on get, while always so many are in flight, of which each time a random one ends.
fn share_from(first: usize, policy: Policy, weights: &[u32], in_flight: usize) -> f64 {
    let mut rng = SmallRng::seed_from_u64(8);
    let mut fixture = Fixture::ready(policy, weights, 8);
    let mut open: Vec<Slot> = Vec::new();
    let (calls, mut hits) = (40_000, 0);
    for _ in 0..calls {
        if open.len() == in_flight {
            let ended = open.swap_remove(rng.random_range(0..open.len()));
            fixture.balancer.call_finished(ended, &DONE);
        }
        let Pick::Endpoint(slot) = fixture.balancer.pick(&ASK) else { panic!("all are ready") };
        fixture.balancer.call_started(slot, ASK.now);
        hits += u32::from(fixture.number(slot) as usize >= first);
        open.push(slot);
    }
    f64::from(hits) / f64::from(calls)
}

#[test]
fn few_and_many_calls_in_flight_follow_the_weights() {
    for policy in [sample(2), FULL_SCAN] {
        for in_flight in [1, 2, 4, 8, 32, 128] {
            let three_quarters = share_from(1, policy, &[1, 3], in_flight);
            assert!((three_quarters - 0.75).abs() < 0.1, "{policy:?}, {in_flight}: {three_quarters}");
            let half = share_from(3, policy, &[10, 10, 10, 30], in_flight);
            // With about one for each, those without a call come first.
            assert!((half - 0.5).abs() < 0.1, "{policy:?}, {in_flight}: {half}");
        }
    }
}

#[test]
fn the_bias_says_what_a_call_in_flight_counts() {
    let share = |thousandths: u32| {
        let active_request_bias = Factor::from_thousandths(thousandths);
        let policy =
            Policy::LeastRequest(LeastRequestConfig { active_request_bias, ..LeastRequestConfig::default() });
        let mut fixture = Fixture::ready(policy, &[1, 3], 9);
        (0..4).for_each(|_| fixture.endpoint(1).call_started());
        fixture.counts(2, 4_000)[1]
    };
    assert_eq!(share(0), 3_000, "it does not count, and all goes by weight");
    // (0.1 * 4 + u) / 3 is below another draw's u with probability 0.7; the standard deviation is 29.
    assert!(share(100).abs_diff(2_800) < 180, "{}", share(100));
    assert_eq!(share(1_000), 0, "four thirds are more than none and a fraction");
}

#[test]
fn an_endpoint_that_warms_up_gets_its_share_from_the_first_call_on() {
    let slow_start = SlowStart { window: Duration::from_secs(100), ..SlowStart::default() };
    for policy in [sample(2), sample(3), FULL_SCAN, Policy::PeakEwma(PeakEwmaConfig::default())] {
        let config = BalancerConfig { policy, slow_start: Some(slow_start), ..BalancerConfig::default() };
        let mut fixture = Fixture::with_config(config, &[1; 4], 10);
        fixture.connect();
        let all_new = fixture.counts(4, 8_000);
        assert!(all_new.iter().all(|count| count.abs_diff(2_000) < 300), "{policy:?}: {all_new:?}");
        // The others are warm, and the fifth is new.
        fixture.now += Duration::from_secs(200);
        let changes = fixture.update(&addresses(&[1; 5]));
        assert_eq!(changes.added.len(), 1);
        fixture.connect();
        for (seconds, warmth) in [(1, 0.1), (50, 0.5)] {
            let ask = Ask { now: fixture.now + Duration::from_secs(seconds), hash: None };
            let mut hits = 0.0;
            for _ in 0..20_000 {
                let Pick::Endpoint(slot) = fixture.balancer.pick(&ask) else { panic!("all are ready") };
                hits += f64::from(u8::from(*fixture.balancer.endpoint(slot).address() == address(4)));
            }
            let fair = 20_000.0 / (4.0 + warmth);
            let share = hits / fair;
            assert!((share - warmth).abs() < 0.25 * warmth, "{policy:?} after {seconds} s: {share}");
        }
    }
}

/// The mean time in system, in mean service times, of Poisson arrivals at `load` to `servers` queues, by Little's law; each call is
/// picked for by a random one of these workers.
///
/// Exponential service makes the system a Markov chain: each event is an arrival, or a departure from a random busy
/// server, with the odds of their rates. So no event queue is needed, and time enters as the mean time between events.
fn mean_time_in_system(
    policy: Policy,
    workers: u64,
    servers: usize,
    load: f64,
    arrivals: usize,
    seed: u64,
) -> f64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let set = Arc::new(EndpointSet::new(&addresses(&vec![1; servers])));
    let worker =
        |worker| Fixture::of_set(BalancerConfig { policy, ..BalancerConfig::default() }, &set, seed + worker);
    let mut workers: Vec<Fixture> = (0..workers).map(worker).collect();
    workers.iter_mut().for_each(Fixture::connect);
    let arrival_rate = load * servers as f64;
    // The servers that have calls, which stand at each by worker and slot, first come first served.
    let mut busy: Vec<u32> = Vec::with_capacity(servers);
    let mut queues: Vec<VecDeque<(usize, Slot)>> = vec![VecDeque::new(); servers];
    let (mut calls, mut elapsed, mut call_time) = (0_u32, 0.0, 0.0);
    let (warm_up, mut arrived) = (arrivals / 10, 0);
    while arrived < arrivals {
        let rate = arrival_rate + busy.len() as f64;
        if arrived >= warm_up {
            elapsed += 1.0 / rate;
            call_time += f64::from(calls) / rate;
        }
        if rng.random::<f64>() * rate < arrival_rate {
            let number = rng.random_range(0..workers.len());
            let balancer = &mut workers[number].balancer;
            let Pick::Endpoint(slot) = balancer.pick(&ASK) else { panic!("all servers are ready") };
            balancer.call_started(slot, ASK.now);
            let server = workers[number].number(slot);
            if queues[server as usize].is_empty() {
                busy.push(server);
            }
            queues[server as usize].push_back((number, slot));
            calls += 1;
            arrived += 1;
        } else {
            let index = rng.random_range(0..busy.len());
            let queue = &mut queues[busy[index] as usize];
            let (number, slot) = queue.pop_front().unwrap();
            if queue.is_empty() {
                busy.swap_remove(index);
            }
            workers[number].balancer.call_finished(slot, &DONE);
            calls -= 1;
        }
    }
    call_time / elapsed / arrival_rate
}

/// Mitzenmacher's and Vvedenskaya's limit for many servers: sum over i >= 1 of load^((d^i - d) / (d - 1)).
fn fluid_limit(load: f64, choices: f64) -> f64 {
    (1..100)
        .map(|i| load.powf((choices.powi(i) - choices) / (choices - 1.0)))
        .take_while(|term| *term > 1e-12)
        .sum()
}

#[test]
fn queues_are_as_short_as_theory_says() {
    assert!((fluid_limit(0.9, 2.0) - 2.614).abs() < 0.001, "the published figure");
    for (choices, load) in [(2, 0.9), (3, 0.9), (2, 0.7)] {
        let measured = mean_time_in_system(sample(choices), 1, 1_000, load, 2_000_000, 7);
        let expected = fluid_limit(load, f64::from(choices));
        let error = measured / expected - 1.0;
        println!(
            "figure: mean time in the system, {choices} choices, load {load}, 1,000 servers | {expected:.3} within 2 % | \
             {measured:.3} ({:+.2} %)",
            error * 100.0
        );
        assert!(error.abs() < 0.02, "{choices} choices at load {load}: {measured}, expected {expected}");
    }
}
