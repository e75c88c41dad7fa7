mod rules;
mod sharing;
mod simulated;

use core::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::factor::Factor;

const START: Duration = Duration::from_secs(1_000);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn without_jitter() -> OutlierConfig {
    OutlierConfig { jitter: Factor::ZERO, ..OutlierConfig::default() }
}

struct World {
    detector: OutlierDetector,
    records: Vec<OutlierRecord>,
    rng: SmallRng,
}

impl World {
    fn new(config: OutlierConfig, endpoints: u32) -> Self {
        Self {
            detector: OutlierDetector::new(config, endpoints, START),
            records: (0..endpoints).map(|_| OutlierRecord::default()).collect(),
            rng: SmallRng::seed_from_u64(1),
        }
    }

    fn ends(&mut self, place: usize, observation: Observation, now: Duration) -> Option<OutlierChange> {
        self.detector.record(&self.records[place], observation, false, now, &mut self.rng)
    }

    fn fails(&mut self, place: usize, times: u32, now: Duration) -> Option<OutlierChange> {
        (0..times).fold(None, |_, _| self.ends(place, Observation::Failure, now))
    }

    fn trial(&mut self, place: usize, observation: Observation, now: Duration) -> Option<OutlierChange> {
        assert!(self.detector.claim_trial(&self.records[place], now));
        self.detector.record(&self.records[place], observation, true, now, &mut self.rng)
    }

    fn sweep(&mut self, now: Duration) -> Vec<(usize, OutlierChange)> {
        let mut changes = Vec::new();
        self.detector.sweep(self.records.iter(), now, &mut self.rng, |place, change| {
            changes.push((place, change));
        });
        changes
    }

    fn status(&self, place: usize, now: Duration) -> OutlierStatus {
        self.records[place].status(now)
    }
}

fn ejected(reason: EjectionReason, until: Duration) -> OutlierChange {
    OutlierChange::Ejected { reason, until }
}
