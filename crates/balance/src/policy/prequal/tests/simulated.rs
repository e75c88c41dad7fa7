//! prequal in a queueing simulation.

use core::time::Duration;

use crate::balancer::tests::queueing::{Queueing, Server};
use crate::{PeakEwmaConfig, Policy, PrequalConfig, ProbeSource};

const SECOND: Duration = Duration::from_secs(1);

/// Who answers probes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Answers {
    Servers,
    NoServer,
    /// The driver does not even send them.
    NotSent,
    Own,
}

const ALL: [Answers; 4] = [Answers::Servers, Answers::NoServer, Answers::NotSent, Answers::Own];

fn queueing(answers: Answers, servers: &[Server], rate: f64, seed: u64) -> Queueing {
    let source = if answers == Answers::Own { ProbeSource::Own } else { ProbeSource::Endpoints };
    let policy = Policy::Prequal(PrequalConfig { source, ..PrequalConfig::default() });
    let mut queueing = Queueing::new(policy, servers, rate, seed);
    queueing.sends_probes = answers != Answers::NotSent;
    queueing.answers_probes = answers == Answers::Servers;
    queueing
}

#[test]
fn a_ten_times_slower_server_loses_its_share_within_five_seconds() {
    for answers in ALL {
        let mut most: f64 = 0.0;
        for servers in [5, 50] {
            let rate = 40.0 * servers as f64;
            for seed in 0..3 {
                let mut queueing = queueing(answers, &vec![Server::of_ms(10); servers], rate, seed);
                // The one that got the most calls.
                let counts = queueing.run_for(20 * SECOND).counts;
                let (slow, _) =
                    counts.iter().enumerate().max_by_key(|(_, count)| **count).expect("there are some");
                queueing.servers[slow] = Server::of_ms(100);
                queueing.run_for(5 * SECOND);
                let after = queueing.run_for(10 * SECOND).fair_shares(slow);
                println!("{answers:?}, {servers} servers, seed {seed}: {after:.3} of its fair share");
                most = most.max(after);
                assert!(after < 0.2, "{answers:?}, {servers} servers, seed {seed}: {after}");
            }
        }
        println!(
            "figure: share of a server ten times slower, 5 s later, prequal, answers: {answers:?} | below 0.2 of the fair one | \
             {most:.3} at most in 6 runs"
        );
    }
}

#[test]
fn a_server_that_fails_at_once_attracts_no_load() {
    for answers in ALL {
        for servers in [5, 50] {
            let rate = 40.0 * servers as f64;
            for seed in 0..3 {
                let mut queueing = queueing(answers, &vec![Server::of_ms(10); servers], rate, seed);
                queueing.run_for(10 * SECOND);
                queueing.servers[0] = queueing.servers[0].failing(1.0);
                let first = queueing.run_for(SECOND).fair_shares(0);
                let later = queueing.run_for(60 * SECOND).fair_shares(0);
                println!(
                    "{answers:?}, {servers} servers, seed {seed}: {first:.3} of its fair share, then {later:.3}"
                );
                assert!(
                    first < 1.0 && later < 0.1,
                    "{answers:?}, {servers} servers, seed {seed}: {first}, {later}"
                );
            }
        }
    }
}

/// The 99th percentile of the latency in a cluster where every fifth server takes three times as long, at 80 % load.
fn p99_with_unequal_servers(policy: Policy, seed: u64) -> Duration {
    let servers: Vec<Server> = (0..50).map(|n| Server::of_ms(if n % 5 == 0 { 30 } else { 10 })).collect();
    // Forty servers do 100 calls a second, ten 33.
    let mut queueing = Queueing::new(policy, &servers, 0.8 * 4_333.0, seed);
    queueing.run_for(10 * SECOND);
    queueing.run_for(30 * SECOND).quantile(0.99)
}

#[test]
fn the_tail_is_shorter_than_with_other_policies_where_servers_differ() {
    for seed in 0..3 {
        let least_request = p99_with_unequal_servers(Policy::default(), seed);
        let peak_ewma = p99_with_unequal_servers(Policy::PeakEwma(PeakEwmaConfig::default()), seed);
        for source in [ProbeSource::Endpoints, ProbeSource::Own] {
            let config = PrequalConfig { source, ..PrequalConfig::default() };
            let prequal = p99_with_unequal_servers(Policy::Prequal(config), seed);
            println!(
                "figure: p99 of prequal, answers of {source:?}, every fifth of 50 servers thrice as slow, load 0.8, seed {seed} | \
                 at most 0.7 of least_request's, 0.85 of peak_ewma's | {:.2} and {:.2}",
                prequal.div_duration_f64(least_request),
                prequal.div_duration_f64(peak_ewma)
            );
            assert!(prequal < least_request.mul_f64(0.7), "seed {seed}: {prequal:?}, {least_request:?}");
            assert!(prequal < peak_ewma.mul_f64(0.85), "seed {seed}: {prequal:?}, {peak_ewma:?}");
        }
    }
}
