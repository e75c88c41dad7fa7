//! Prints what one pick costs, per policy, with few and with many endpoints, and what a change of one endpoint costs.
//!
//! `cargo run --release -p evenkeel-balance --example pick_cost [-- PART_OF_A_NAME]`
//!
//! A pick is followed by what a proxy does next: the endpoint's calls in flight go up, and those of the call picked 100
//! picks before go down; the costs of all that are printed beside those of the pick alone, from which what the clock costs is taken off. Each figure is the least of 500
//! runs, with the median behind it: other programs on the machine make a run slower, never faster. Changes are rare, and are
//! given as medians. Besides, the heap allocations of calls are counted, and must be none.

mod cases;
mod change;

use core::time::Duration;
use std::time::Instant;

use evenkeel_balance::{Ask, Balancer, CallReport, LoadReport, Outcome, Pick, ProbeAnswer, Slot};

use cases::{Case, cases};
use change::{ChangeCost, change_cost};

/// What passes from one call to the next: 100,000 calls a second on one thread.
const GAP: Duration = Duration::from_micros(10);
const LOAD: LoadReport = LoadReport { utilization: 0.5, requests_per_second: 100.0, errors_per_second: 0.0 };
/// Runs, each shorter than the scheduler lets a thread run, so that some are not disturbed on a busy machine either.
const RUNS: usize = 500;
/// Picks per run.
const PICKS: u32 = 10_000;
const IN_FLIGHT: usize = 100;
/// How many endpoints are few, and how many are many.
const FEW: u32 = 3;
const MANY: u32 = 10_000;
/// The project's bounds with many: of a pick, and of a change of one endpoint on a worker's thread.
const PICK_NS_MAX: f64 = 100.0;
const CHANGE_US_MAX: f64 = 1_000.0;
/// Picks between two looks at the clock. With three probes for each, what they want is under way at once.
const BATCH: usize = 4;

/// What calls cost, in nanoseconds each.
#[derive(Clone, Copy)]
struct Cost {
    /// With the notes of the call's start and end, and where probes are answered with these answers.
    whole: f64,
    /// The pick alone, without what it costs to look at the clock.
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
) -> Cost {
    let mut hash: u64 = 1; // The next by Knuth's linear congruential generator: another key for each call.
    let mut picking = Duration::ZERO;
    let start = Instant::now();
    for place in (0..IN_FLIGHT).step_by(BATCH).cycle().take(PICKS as usize / BATCH) {
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
    let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(PICKS);
    Cost { whole: each(start.elapsed()), pick: each(picking) }
}

/// Of what is measured for one pick, what it costs to look at the clock before and after [`BATCH`] of them: the least of many
/// runs too.
#[expect(clippy::disallowed_methods, reason = "measuring time is what this example is for")]
fn clock_ns() -> f64 {
    let run = |_| {
        let looks = (0..PICKS).map(|_| Instant::now().elapsed());
        looks.sum::<Duration>().as_secs_f64() * 1e9 / f64::from(PICKS) / BATCH as f64
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

/// What calls cost, and how many heap allocations a run of them makes.
struct CallCosts {
    costs: Vec<Cost>,
    allocations: u64,
}

impl CallCosts {
    /// The costs of calls in as many runs as are made.
    fn of(case: &Case, endpoints: u32, clock_ns: f64) -> Self {
        let set = case.set(&case.listed(endpoints));
        let mut balancer = case.connected(&set);
        let mut now = Duration::from_secs(1);
        let mut open = opened(&mut balancer, now);
        let mut run = || run(case.answers_probes(), &mut balancer, &mut now, &mut open);
        run(); // Warms caches up.
        let allocations = allocation_counter::measure(|| {
            run();
        })
        .count_total;
        let without_clock = |cost: Cost| Cost { pick: cost.pick - clock_ns, ..cost };
        Self { costs: (0..RUNS).map(|_| without_clock(run())).collect(), allocations }
    }

    /// The least of the runs, and the median.
    fn figures(&self, of: fn(&Cost) -> f64) -> (f64, f64) {
        let mut figures: Vec<f64> = self.costs.iter().map(of).collect();
        let median = median(&mut figures);
        (figures[0], median)
    }
}

/// A figure as `cargo xtask bench brain` reads it.
fn line(claim: &str, measured: f64, most: f64, unit: &str) -> String {
    let verdict = if measured <= most { "" } else { " | missed" };
    format!("figure: {claim} | at most {most:.0} {unit} | {measured:.0} {unit}{verdict}")
}

fn pick_line(case: &Case, pick_ns: f64) -> String {
    let claim = format!("a pick, 10,000 endpoints, {}", case.title());
    line(&claim, pick_ns, PICK_NS_MAX, "ns")
}

/// The dearest of a kind of change, and whose it is.
fn change_lines(costs: &[(String, ChangeCost)]) -> Vec<String> {
    let Some((_, first)) = costs.first() else { return Vec::new() };
    let kinds = first.of_worker().map(|(kind, _)| kind);
    let dearest = |(index, kind): (usize, &str)| {
        let all = costs.iter().map(|(title, cost)| (cost.of_worker()[index].1, title));
        let (micros, title) = all.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there is a first");
        line(
            &format!("{kind}, by a worker; the dearest of {} rows: {title}", costs.len()),
            micros,
            CHANGE_US_MAX,
            "us",
        )
    };
    kinds.into_iter().enumerate().map(dearest).collect()
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    let chosen: Vec<Case> = cases().into_iter().filter(|case| case.title().contains(&part)).collect();
    println!(
        "{:<66}{:>36}{:>36}\n{:<66}{:>18}{:>18}{:>18}{:>18}",
        "ns, the least (and the median)",
        "3 endpoints",
        "10,000 endpoints",
        "",
        "pick",
        "whole call",
        "pick",
        "whole call"
    );
    let clock_ns = clock_ns();
    let (mut lines, mut allocations) = (Vec::new(), 0);
    for case in &chosen {
        print!("{:<66}", case.title());
        for endpoints in [FEW, MANY] {
            let calls = CallCosts::of(case, endpoints, clock_ns);
            allocations += calls.allocations;
            for of in [|cost: &Cost| cost.pick, |cost: &Cost| cost.whole] {
                let (least, median) = calls.figures(of);
                print!("{least:>9.1} ({median:>6.1})");
            }
            if endpoints == MANY {
                lines.push(pick_line(case, calls.figures(|cost| cost.pick).0));
            }
        }
        println!();
    }
    let claim =
        format!("heap allocations of {PICKS} calls, all {} rows, 3 and 10,000 endpoints", chosen.len());
    lines.push(line(&claim, allocations as f64, 0.0, "in all"));
    println!(
        "\n{:<66}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>22}",
        "us at 10,000 by a worker",
        "more",
        "less",
        "lost",
        "back",
        "unhealthy",
        "healthy",
        "copied",
        "the set, beforehand"
    );
    let mut changes = Vec::new();
    for case in &chosen {
        let cost = change_cost(case);
        print!("{:<66}", case.title());
        cost.of_worker().iter().for_each(|(_, micros)| print!("{micros:>10.1}"));
        println!("{:>10.1}{:>22.1}", cost.copied, cost.made);
        changes.push((case.title(), cost));
    }
    lines.extend(change_lines(&changes));
    lines.into_iter().for_each(|line| println!("{line}"));
    assert_eq!(allocations, 0, "a call allocates nothing");
}
