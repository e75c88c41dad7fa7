//! Prints what one pick costs, per policy, with few and with many endpoints, and what a new set costs.
//!
//! `cargo run --release -p evenkeel-balance --example pick_cost [-- PART_OF_A_NAME]`
//!
//! A pick is followed by what a proxy does next: the endpoint's calls in flight go up, and those of the call picked 100
//! picks before go down; the costs of all that are printed beside those of the pick alone. Each figure is the least of 500
//! runs, with the median behind it: other programs on the machine make a run slower, never faster.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use evenkeel_balance::{
    Address, Affinity, Ask, Balancer, BoundedLoad, CallReport, Choice, Connectivity, EndpointSet, LoadReport,
    LoadWeightConfig, Outcome, PeakEwmaConfig, Pick, Policy, PrequalConfig, ProbeAnswer, ProbeSource,
    RingSize, SampleSize, Slot, TableSize,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What passes from one call to the next: 100,000 calls a second on one thread.
const GAP: Duration = Duration::from_micros(10);
const LOAD: LoadReport = LoadReport { utilization: 0.5, requests_per_second: 100.0, errors_per_second: 0.0 };
/// Runs, each shorter than the scheduler lets a thread run, so that some are not disturbed on a busy machine either.
const RUNS: usize = 500;
/// Picks per run; fewer for a full scan of many, as each looks at all.
const PICKS: u32 = 10_000;
const IN_FLIGHT: usize = 100;
/// The project's bounds at 10,000 endpoints: of a pick, and of a set with one endpoint more or less on a worker's thread.
const PICK_NS_MAX: f64 = 100.0;
const UPDATE_US_MAX: f64 = 1_000.0;
/// Picks between two looks at the clock. With three probes for each, what they want is under way at once.
const BATCH: usize = 4;

fn addresses(endpoints: u32, weight: fn(&mut SmallRng) -> u32) -> Vec<(Address, u32)> {
    let mut rng = SmallRng::seed_from_u64(1);
    let address = |number: u32| Address::Tcp(SocketAddr::from(((0x0a00_0000 + number).to_be_bytes(), 50051)));
    (0..endpoints).map(|number| (address(number), weight(&mut rng))).collect()
}

fn connected(policy: Policy, set: &Arc<EndpointSet>) -> Balancer {
    let mut balancer = Balancer::new(policy, SmallRng::seed_from_u64(1));
    drop(balancer.update(set));
    while let Some(slot) = balancer.wants_connection(Duration::ZERO) {
        balancer.set_connectivity(slot, Connectivity::Ready, Duration::ZERO);
    }
    balancer
}

/// What calls cost, in nanoseconds each.
#[derive(Clone, Copy)]
struct Cost {
    /// With the notes of the call's start and end, and where probes are answered with these answers.
    whole: f64,
    /// The pick alone; with a share of what it costs to look at the clock.
    pick: f64,
}

/// Calls under way.
fn opened(balancer: &mut Balancer, now: Duration) -> [Slot; IN_FLIGHT] {
    core::array::from_fn(|_| {
        let ask = Ask { now, hash: Some(1) };
        let Pick::Endpoint(slot) = balancer.pick(&ask) else { panic!("all endpoints are ready") };
        balancer.call_started(slot, now);
        slot
    })
}

/// Answers all probes that are wanted.
fn answer_probes(balancer: &mut Balancer, now: Duration) {
    while let Some(slot) = balancer.wants_probe(now) {
        let answer = ProbeAnswer { requests_in_flight: slot.index() as u32 % 7, latency: Some(GAP * 100) };
        balancer.probe_answered(slot, &answer, now);
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring time is what this example is for")]
fn run(
    answers_probes: bool,
    balancer: &mut Balancer,
    now: &mut Duration,
    open: &mut [Slot; IN_FLIGHT],
    picks: u32,
) -> Cost {
    let mut hash: u64 = 1; // The next by Knuth's linear congruential generator: another key for each call.
    let mut picking = Duration::ZERO;
    let start = Instant::now();
    for place in (0..IN_FLIGHT).step_by(BATCH).cycle().take(picks as usize / BATCH) {
        let mut picked = [open[place]; BATCH];
        *now += GAP * BATCH as u32;
        let batch_start = Instant::now();
        for slot in &mut picked {
            hash = hash.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let ask = Ask { now: *now, hash: Some(hash) };
            let Pick::Endpoint(pick) = balancer.pick(&ask) else { panic!("all endpoints are ready") };
            *slot = pick;
        }
        picking += batch_start.elapsed();
        if answers_probes {
            answer_probes(balancer, *now);
        }
        for (open, slot) in open[place..].iter_mut().zip(picked) {
            balancer.call_started(slot, *now);
            let done = core::mem::replace(open, slot);
            let report =
                CallReport { now: *now, outcome: Outcome::Success, latency: GAP * 100, load: Some(LOAD) };
            balancer.call_finished(done, &report);
        }
    }
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(picks);
    Cost { whole: each(start.elapsed()), pick: each(picking) }
}

/// The costs of calls in as many runs as are made.
fn call_costs(name: &str, policy: Policy, balancer: &mut Balancer, endpoints: u32) -> Vec<Cost> {
    let mut now = Duration::from_secs(1);
    let mut open = opened(balancer, now);
    let is_scan = policy == Policy::LeastRequest(Choice::FullScan);
    let picks = if is_scan { PICKS / endpoints } else { PICKS };
    let answers_probes = name.contains("answered");
    let mut run = || run(answers_probes, balancer, &mut now, &mut open, picks);
    run(); // Warms caches up.
    (0..RUNS).map(|_| run()).collect()
}

/// Microseconds, medians: until a worker has taken a set with one endpoint more, or less, than 10,000; and, off the
/// workers' threads and once for all of them, until the set is made of the one before.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this example is for")]
fn update_cost(policy: Policy) -> (f64, f64) {
    let [few, many] = [10_000, 10_001].map(|endpoints| addresses(endpoints, |_| 1));
    let mut set = Arc::new(EndpointSet::new(&few).prepared_for(policy));
    let mut balancer = connected(policy, &set);
    let (mut worker, mut control) = (Vec::new(), Vec::new());
    for list in [&many, &few].into_iter().cycle().take(40) {
        let start = Instant::now();
        set = Arc::new(set.updated(list));
        control.push(start.elapsed().as_secs_f64() * 1e6);
        let start = Instant::now();
        let changes = balancer.update(&set);
        worker.push(start.elapsed().as_secs_f64() * 1e6);
        changes.removed.into_iter().for_each(|slot| balancer.forget(slot));
    }
    (median(&mut worker), median(&mut control))
}

/// A figure as `cargo xtask bench brain` reads it. A full scan looks at all, and has no bound.
fn line(claim: &str, measured: f64, most: f64, unit: &str) -> String {
    if claim.contains("full scan") {
        return format!("figure: {claim} | none, as it looks at all | {measured:.0} {unit}");
    }
    let verdict = if measured <= most { "" } else { " | missed" };
    format!("figure: {claim} | at most {most:.0} {unit} | {measured:.0} {unit}{verdict}")
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How an endpoint's weight is drawn.
type Weigh = fn(&mut SmallRng) -> u32;

/// The policies that are measured, with a name and the weights of their endpoints.
fn cases() -> Vec<(&'static str, Policy, Weigh)> {
    let sample = |count| {
        Policy::LeastRequest(Choice::Sample(SampleSize::try_from(count).expect("at least two are drawn")))
    };
    let ring = |size, affinity| Policy::RingHash { size, affinity };
    let maglev = |affinity| Policy::Maglev { size: TableSize::default(), affinity };
    let own = PrequalConfig { source: ProbeSource::Own, ..PrequalConfig::default() };
    let bounded = Affinity::Bounded(BoundedLoad::default());
    let equal: Weigh = |_| 1;
    let mixed: Weigh = |rng| rng.random_range(1..=1_000);
    let skewed: Weigh = |rng| if rng.random_ratio(1, 1_000) { 1_000 } else { 1 };
    vec![
        ("pick_first", Policy::PickFirst { shuffle: false }, equal),
        ("round_robin", Policy::RoundRobin, equal),
        ("weighted_round_robin, equal weights", Policy::WeightedRoundRobin, equal),
        ("weighted_round_robin, weights 1..1000", Policy::WeightedRoundRobin, mixed),
        ("weighted_round_robin, 1 in 1000 weighs 1000", Policy::WeightedRoundRobin, skewed),
        ("random", Policy::Random, equal),
        ("least_request, sample of 2", sample(2), equal),
        ("least_request, sample of 2, weights", sample(2), mixed),
        ("least_request, sample of 10", sample(10), equal),
        ("least_request, full scan", Policy::LeastRequest(Choice::FullScan), equal),
        ("weighted_round_robin, by load", Policy::LoadWeightedRoundRobin(LoadWeightConfig::default()), equal),
        ("peak_ewma", Policy::PeakEwma(PeakEwmaConfig::default()), equal),
        ("prequal, all probes answered", Policy::Prequal(PrequalConfig::default()), equal),
        ("prequal, no probe sent", Policy::Prequal(PrequalConfig::default()), equal),
        ("prequal, own knowledge", Policy::Prequal(own), equal),
        ("ring_hash", ring(RingSize::default(), Affinity::Rehash), equal),
        ("ring_hash, sized as gRPC's", ring(RingSize::GRPC, Affinity::Rehash), equal),
        ("ring_hash, bounded load", ring(RingSize::default(), bounded), equal),
        ("ring_hash, bounded load, weights", ring(RingSize::default(), bounded), mixed),
        ("maglev", maglev(Affinity::Rehash), equal),
        ("maglev, bounded load", maglev(bounded), equal),
        ("maglev, bounded load, weights", maglev(bounded), mixed),
    ]
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    let policies = || cases().into_iter().filter(|(name, ..)| name.contains(&part));
    println!(
        "{:<46}{:>36}{:>36}\n{:<46}{:>18}{:>18}{:>18}{:>18}",
        "ns, the least (and the median)",
        "3 endpoints",
        "10,000 endpoints",
        "",
        "pick",
        "whole call",
        "pick",
        "whole call"
    );
    let mut lines = Vec::new();
    for (name, policy, weight) in policies() {
        print!("{name:<46}");
        for endpoints in [3, 10_000] {
            let set = Arc::new(EndpointSet::new(&addresses(endpoints, weight)).prepared_for(policy));
            let mut balancer = connected(policy, &set);
            let costs = call_costs(name, policy, &mut balancer, endpoints);
            if endpoints == 10_000 {
                let pick = costs.iter().map(|cost| cost.pick).fold(f64::INFINITY, f64::min);
                lines.push(line(&format!("a pick, 10,000 endpoints, {name}"), pick, PICK_NS_MAX, "ns"));
            }
            for figure in [|cost: &Cost| cost.pick, |cost: &Cost| cost.whole] {
                let mut figures: Vec<f64> = costs.iter().map(figure).collect();
                let median = median(&mut figures);
                print!("{:>9.1} ({median:>6.1})", figures[0]);
            }
        }
        println!();
    }
    println!(
        "\nus at 10,000 for one endpoint more or less{:>32}{:>22}",
        "by a worker", "the set, beforehand"
    );
    for (name, policy, _) in policies() {
        let (worker, set) = update_cost(policy);
        println!("{name:<46}{worker:>22.1}{set:>22.1}");
        let claim = format!("one endpoint more or less than 10,000, by a worker, {name}");
        lines.push(line(&claim, worker, UPDATE_US_MAX, "us"));
    }
    lines.into_iter().for_each(|line| println!("{line}"));
}
