//! prequal against other policies, in the simulated testbed of its paper.
//!
//! `cargo run --release -p evenkeel-balance --example prequal_figures` prints, in Markdown and for one seed:
//! 1. the latencies by policy at 70 % and 90 % load (the paper's figure 7);
//! 2. the 99th percentile and the errors by load, of all policies (figure 6 and what is below it);
//! 3. how both depend on what the paper does not say of its testbed. Each row has one thing changed.

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use core::time::Duration;

use testbed::{Compared, Figures, LEAST_REQUEST, PEAK_EWMA, PREQUAL, RAMP, Testbed, WEIGHTED_ROUND_ROBIN};

const SEED: u64 = 1;

const POLICIES: [Compared; 4] = [PREQUAL, PEAK_EWMA, LEAST_REQUEST, WEIGHTED_ROUND_ROBIN];

/// Loads below those of the ramp.
const MODERATE: [f64; 4] = [0.4, 0.5, 0.6, 0.7];

fn millis(figures: &Figures, quantile: f64) -> f64 {
    figures.quantile(quantile).as_secs_f64() * 1e3
}

fn percent(figures: &Figures) -> f64 {
    figures.error_share() * 100.0
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn by_policy(testbed: &Testbed) {
    println!("\n## Latencies at 70 % and 90 % load\n");
    println!(
        "| load | policy | p50, ms | p90 | p99 | p99.9 | calls that fail |\n|---|---|---|---|---|---|---|"
    );
    for load in [0.7, 0.9] {
        for compared in POLICIES {
            let figures = testbed.run(compared.policy(), load, SEED);
            let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| millis(&figures, quantile));
            let errors = percent(&figures);
            println!(
                "| {load} | {} | {p50:.0} | {p90:.0} | {p99:.0} | {p999:.0} | {errors:.3} % |",
                compared.0
            );
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn by_load(testbed: &Testbed) {
    let capacity = testbed.run(PREQUAL.policy(), RAMP[0], SEED).least_capacity;
    println!("\n## p99 by load, ms, and calls that fail\n");
    println!("At the worst moment the servers could serve a load of {capacity:.2}.\n");
    println!("| load | {} |\n|---|---|---|---|---|", POLICIES.map(|compared| compared.0).join(" | "));
    for load in MODERATE.into_iter().chain(RAMP) {
        let cells = POLICIES.map(|compared| {
            let figures = testbed.run(compared.policy(), load, SEED);
            format!("{:.0}; {:.3} %", millis(&figures, 0.99), percent(&figures))
        });
        println!("| {load} | {} |", cells.join(" | "));
    }
}

fn variations() -> Vec<(&'static str, Testbed)> {
    let base = Testbed::small();
    let seconds = Duration::from_secs;
    vec![
        ("50 servers, 50 clients", base),
        ("10 clients", Testbed { clients: 10, ..base }),
        ("1 client", Testbed { clients: 1, ..base }),
        ("10 servers, 1 client", Testbed { servers: 10, clients: 1, ..base }),
        ("an allocation of 1 core", Testbed { cores: 1.0, ..base }),
        ("an allocation of 2 cores", Testbed { cores: 2.0, ..base }),
        ("an allocation of 10 cores", Testbed { cores: 10.0, ..base }),
        ("hardware of one kind", Testbed { slowdown: 1.0, ..base }),
        ("no interference", Testbed { interference: 1.0, ..base }),
        ("antagonists for 1 s", Testbed { contended_for: seconds(1), ..base }),
        ("antagonists for 5 s", Testbed { contended_for: seconds(5), ..base }),
        ("antagonists for 60 s", Testbed { contended_for: seconds(60), ..base }),
        ("antagonists 30 % of the time", Testbed { contended: 0.3, ..base }),
        ("little to spare, 2 to 6", Testbed { spare: (2.0, 6.0), ..base }),
        ("reports of the last second", Testbed { report_window: seconds(1), ..base }),
        ("reports of the last 20 s", Testbed { report_window: seconds(20), ..base }),
    ]
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn by_testbed() {
    println!("\n## Other testbeds\n");
    println!(
        "prequal's p99 at load 0.9, and what share it is of that of others; the share of its calls that fail at 1.74; and the \
         load that the servers could serve at the worst moment.\n"
    );
    let [robin, least, peak] = [WEIGHTED_ROUND_ROBIN, LEAST_REQUEST, PEAK_EWMA].map(|compared| compared.0);
    println!(
        "| testbed | p99, ms | of {robin}'s | of {least}'s | of {peak}'s | fail at 1.74 | capacity |\n|---|---|---|---|---|---|---|"
    );
    for (name, testbed) in variations() {
        let p99 = |compared: Compared| millis(&testbed.run(compared.policy(), 0.9, SEED), 0.99);
        let prequal = p99(PREQUAL);
        let [robin, least, peak] =
            [WEIGHTED_ROUND_ROBIN, LEAST_REQUEST, PEAK_EWMA].map(|other| prequal / p99(other));
        let heavy = testbed.run(PREQUAL.policy(), 1.74, SEED);
        let (errors, capacity) = (percent(&heavy), heavy.least_capacity);
        println!(
            "| {name} | {prequal:.0} | {robin:.2} | {least:.2} | {peak:.2} | {errors:.3} % | {capacity:.2} |"
        );
    }
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn main() {
    println!(
        "# prequal and other policies by load\n\n\
         Made by `cargo run --release -p evenkeel-balance --example prequal_figures > docs/benchmarks/prequal.md`. The testbed is \
         that of the paper (Wydrowski et al., NSDI 2024, section 5), in simulated time around the real balancers: 100 clients, \
         100 servers of two kinds, antagonists, and a deadline of 5 s, with which a call that fails counts. Load 1.0 is what the \
         servers' allocations serve. Model and parameters: `crates/balance/tests/testbed/mod.rs`; seed {SEED}. The bounds of \
         [brain.md](brain.md) are asserted with half as many servers and clients."
    );
    by_policy(&Testbed::default());
    by_load(&Testbed::default());
    by_testbed();
}
