use rand::RngExt;

use super::*;

struct Run {
    calls: u64,
    /// Ejections of healthy endpoints.
    false_ejections: u64,
    /// When the broken endpoint was first out.
    out_after: Option<Duration>,
    /// Calls from then on, of all endpoints and of the broken one.
    calls_after: u64,
    hits_after: u64,
}

/// A cluster in which each call goes to the next endpoint in service, `rate` a second at even times. A healthy endpoint
/// fails one call of a hundred, the broken one every call.
fn simulate(endpoints: u32, rate: u32, length_s: u32, broken: Option<usize>, seed: u64) -> Run {
    let mut world = World::new(OutlierConfig::default(), endpoints);
    let mut calls_rng = SmallRng::seed_from_u64(seed);
    let mut run = Run { calls: 0, false_ejections: 0, out_after: None, calls_after: 0, hits_after: 0 };
    let mut next = calls_rng.random_range(0..world.records.len());
    for call in 0..length_s * rate {
        let now = START + seconds(1) * call / rate;
        let healthy = |place: usize| Some(place) != broken;
        let tried =
            (0..world.records.len()).find(|place| world.detector.claim_trial(&world.records[*place], now));
        let place = tried.unwrap_or_else(|| {
            loop {
                next = (next + 1) % world.records.len();
                if world.records[next].is_in_service() {
                    return next;
                }
            }
        });
        let fails = !healthy(place) || calls_rng.random_bool(0.01);
        let observation = if fails { Observation::Failure } else { Observation::Success };
        run.calls += 1;
        if run.out_after.is_some() {
            run.calls_after += 1;
            run.hits_after += u64::from(!healthy(place));
        }
        let is_trial = tried.is_some();
        let change = world.detector.record(&world.records[place], observation, is_trial, now, &mut world.rng);
        let swept = world.sweep(now);
        for (place, change) in swept.into_iter().chain(change.map(|change| (place, change))) {
            match change {
                OutlierChange::Ejected { .. } if healthy(place) => run.false_ejections += 1,
                OutlierChange::Ejected { .. } => {
                    run.out_after = run.out_after.or(Some(now - START));
                }
                OutlierChange::Returned | OutlierChange::Expired | OutlierChange::HeldBack { .. } => {}
            }
        }
    }
    run
}

#[test]
fn an_hour_at_one_percent_errors_ejects_nobody() {
    for endpoints in [3, 20] {
        for rate in [100, 100 * endpoints] {
            for seed in 1..=5 {
                let run = simulate(endpoints, rate, 3_600, None, seed);
                println!(
                    "figure: ejections in an hour at 1 % errors, {endpoints} endpoints, {rate} calls/s, seed {seed} | 0 | {} \
                     in {} calls",
                    run.false_ejections, run.calls
                );
                assert_eq!(run.calls, u64::from(rate) * 3_600);
                assert_eq!(run.false_ejections, 0, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_backend_that_fails_every_call_is_out_within_a_second_and_hardly_hit_again() {
    for endpoints in [3, 20] {
        for rate in [100, 100 * endpoints] {
            for seed in 1..=5 {
                let run = simulate(endpoints, rate, 600, Some(0), seed);
                println!(
                    "figure: a backend that fails every call, one of {endpoints}, {rate} calls/s, seed {seed} | out within 1 s, \
                     then below 0.5 % of the calls | out after {:?}, then {:.3} %",
                    run.out_after.unwrap_or(Duration::MAX),
                    100.0 * run.hits_after as f64 / run.calls_after as f64
                );
                assert_eq!(run.false_ejections, 0, "seed {seed}");
                // Five failures in a row at one backend's share of the calls, whatever that is; 100 calls/s each: 0.05 s.
                let row = seconds(5) * endpoints / rate;
                assert!(run.out_after.unwrap() <= row && row <= seconds(1), "seed {seed}");
                assert!(run.hits_after * 200 < run.calls_after, "seed {seed}");
            }
        }
    }
}
