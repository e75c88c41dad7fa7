//! prequal against other policies, in the simulated testbed of its paper.
//!
//! `cargo run --release -p evenkeel-balance --example prequal_figures` prints, for one seed:
//! 1. the latencies by policy at 70 % and 90 % load (the paper's figure 7);
//! 2. the latency and the errors of a ramp of load (figure 6);
//! 3. how both depend on what the paper does not say of its testbed. Each row has one thing changed.

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use core::time::Duration;

use testbed::{Compared, Figures, LEAST_REQUEST, PEAK_EWMA, PREQUAL, RAMP, Testbed, WEIGHTED_ROUND_ROBIN};

const SEED: u64 = 1;

fn millis(figures: &Figures, quantile: f64) -> f64 {
    figures.quantile(quantile).as_secs_f64() * 1e3
}

fn percent(figures: &Figures) -> f64 {
    figures.error_share() * 100.0
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn by_policy(testbed: &Testbed) {
    println!("{:<6}{:<22}{:>9}{:>9}{:>9}{:>9}{:>10}", "load", "ms", "p50", "p90", "p99", "p99.9", "errors");
    for load in [0.7, 0.9] {
        for compared in [PREQUAL, PEAK_EWMA, LEAST_REQUEST, WEIGHTED_ROUND_ROBIN] {
            let figures = testbed.run(compared.policy(), load, SEED);
            let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| millis(&figures, quantile));
            let errors = percent(&figures);
            println!("{load:<6}{:<22}{p50:>9.0}{p90:>9.0}{p99:>9.0}{p999:>9.0}{errors:>8.3} %", compared.0);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are the example's output")]
fn ramp(testbed: &Testbed) {
    let capacity = testbed.run(PREQUAL.policy(), RAMP[0], SEED).least_capacity;
    println!("\nat the worst moment the servers could serve a load of {capacity:.2}");
    println!("{:<6}{:>29}{:>32}", "", PREQUAL.0, WEIGHTED_ROUND_ROBIN.0);
    println!(
        "{:<6}{:>9}{:>10}{:>10}{:>12}{:>10}{:>10}",
        "load", "p99", "p99.9", "errors", "p99", "p99.9", "errors"
    );
    for load in RAMP {
        print!("{load:<6}");
        for compared in [PREQUAL, WEIGHTED_ROUND_ROBIN] {
            let figures = testbed.run(compared.policy(), load, SEED);
            let [p99, p999] = [0.99, 0.999].map(|quantile| millis(&figures, quantile));
            print!("{p99:>9.0}{p999:>10.0}{:>8.3} %  ", percent(&figures));
        }
        println!();
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
fn sweep() {
    println!(
        "\n{:<32}{:>9}{:>48}{:>10}{:>10}",
        "", "prequal", "its p99 at load 0.9, in shares of that of", "errors", "least"
    );
    println!(
        "{:<32}{:>9}{:>22}{:>15}{:>11}{:>10}{:>10}",
        "", "p99 ms", WEIGHTED_ROUND_ROBIN.0, LEAST_REQUEST.0, PEAK_EWMA.0, "at 1.74", "capacity"
    );
    for (name, testbed) in variations() {
        let p99 = |compared: Compared| millis(&testbed.run(compared.policy(), 0.9, SEED), 0.99);
        let prequal = p99(PREQUAL);
        let [robin, least, peak] =
            [WEIGHTED_ROUND_ROBIN, LEAST_REQUEST, PEAK_EWMA].map(|other| prequal / p99(other));
        let heavy = testbed.run(PREQUAL.policy(), 1.74, SEED);
        let (errors, capacity) = (percent(&heavy), heavy.least_capacity);
        println!(
            "{name:<32}{prequal:>9.0}{robin:>22.2}{least:>15.2}{peak:>11.2}{errors:>8.3} %{capacity:>10.2}"
        );
    }
}

fn main() {
    by_policy(&Testbed::default());
    ramp(&Testbed::default());
    sweep();
}
