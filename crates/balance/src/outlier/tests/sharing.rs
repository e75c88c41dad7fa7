//! Many threads on the same detector.

use std::thread;

use rand::RngExt;

use super::*;

#[test]
fn the_cap_holds_whatever_threads_do_and_every_place_is_accounted_for() {
    const ENDPOINTS: u32 = 8;
    let config = OutlierConfig {
        max_ejected_percent: 50,
        base_ejection: Duration::ZERO,
        trial_successes: 2,
        ..without_jitter()
    };
    let world = World::new(config, ENDPOINTS);
    let (detector, records) = (&world.detector, &world.records);
    thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || {
                let mut rng = SmallRng::seed_from_u64(seed);
                for _ in 0..100_000 {
                    let record = &records[rng.random_range(0..records.len())];
                    let is_trial = detector.claim_trial(record, START);
                    let fails = rng.random_bool(0.8);
                    let observation = if fails { Observation::Failure } else { Observation::Success };
                    detector.record(record, observation, is_trial, START, &mut rng);
                    assert!(detector.out() <= 4, "seed {seed}");
                }
            });
        }
    });
    let out = records.iter().filter(|record| !record.is_in_service()).count();
    assert_eq!(world.detector.out() as usize, out);
    let ejections: u64 = EjectionReason::ALL.map(|reason| world.detector.ejections(reason)).iter().sum();
    assert!(ejections > 1_000, "{ejections}");
    for record in records {
        detector.remove(record);
    }
    assert_eq!(detector.out(), 0);
}
