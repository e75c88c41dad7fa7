//! When calls start: as places become free, or at planned times.

use super::report::Tally;
use super::{GeneratorConfig, Workload};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Exp1};
use std::collections::VecDeque;
use std::time::Duration;

pub(super) enum Pace {
    Closed,
    Open(Plan),
}

/// Planned times with exponential gaps, and those that are due but wait for a free place.
pub(super) struct Plan {
    rate: f64,
    rng: SmallRng,
    next: Duration,
    backlog: VecDeque<Duration>,
    stopped: bool,
}

impl Pace {
    pub(super) fn new(config: &GeneratorConfig) -> Self {
        match config.workload {
            Workload::Open { rate } => Self::Open(Plan {
                rate,
                rng: SmallRng::seed_from_u64(config.seed),
                next: Duration::MAX,
                backlog: VecDeque::new(),
                stopped: false,
            }),
            Workload::Closed | Workload::Download | Workload::Upload | Workload::Idle => Self::Closed,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    pub(super) fn begin(&mut self, now: Duration) {
        if let Self::Open(plan) = self {
            plan.next = now;
            plan.step();
        }
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        match self {
            Self::Open(plan) if !plan.stopped => Some(plan.next),
            _ => None,
        }
    }

    /// Moves the times up to `now` into the backlog; what it cannot hold is counted as not sent.
    pub(super) fn advance(&mut self, now: Duration, backlog_max: usize, tally: &mut Tally) {
        if let Self::Open(plan) = self {
            while !plan.stopped && plan.next <= now {
                if plan.backlog.len() < backlog_max {
                    plan.backlog.push_back(plan.next);
                } else {
                    tally.not_sent(1);
                }
                plan.step();
            }
        }
    }

    /// The planned time of the call that has waited longest.
    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::Open(plan) => plan.backlog.front().copied(),
            Self::Closed => None,
        }
    }

    /// Takes that call off.
    pub(super) fn started(&mut self) {
        if let Self::Open(plan) = self {
            plan.backlog.pop_front();
        }
    }

    pub(super) fn stop(&mut self) {
        if let Self::Open(plan) = self {
            plan.stopped = true;
        }
    }

    pub(super) fn backlog(&self) -> u64 {
        match self {
            Self::Open(plan) => plan.backlog.len() as u64,
            Self::Closed => 0,
        }
    }
}

impl Plan {
    fn step(&mut self) {
        let gap: f64 = Exp1.sample(&mut self.rng);
        self.next += Duration::from_secs_f64(gap / self.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn open(rate: f64) -> Pace {
        let config = GeneratorConfig::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut pace = Pace::new(&GeneratorConfig { workload: Workload::Open { rate }, ..config });
        pace.begin(Duration::from_secs(5));
        pace
    }

    #[test]
    fn calls_are_due_in_order_at_the_rate_asked_for() {
        let (mut pace, mut tally) = (open(1000.0), Tally::new());
        pace.advance(Duration::from_secs(15), 100_000, &mut tally);
        let planned = pace.backlog();
        assert!((9_700..10_300).contains(&planned), "seed 1: {planned} calls in 10 s at 1000/s");
        let mut last = Duration::from_secs(5);
        while let Some(due) = pace.due() {
            assert!(due >= last);
            last = due;
            pace.started();
        }
        assert!(pace.next_due().unwrap() > Duration::from_secs(15));
    }

    #[test]
    fn what_the_backlog_cannot_hold_is_counted() {
        let (mut pace, mut tally) = (open(1000.0), Tally::new());
        pace.advance(Duration::from_secs(6), 10, &mut tally);
        assert_eq!(pace.backlog(), 10);
        let report = tally.report(Duration::from_secs(1));
        assert!(report.errors["not sent"] > 900);
    }

    #[test]
    fn a_stopped_plan_plans_no_more() {
        let (mut pace, mut tally) = (open(1000.0), Tally::new());
        pace.stop();
        pace.advance(Duration::from_secs(6), 10, &mut tally);
        assert_eq!((pace.next_due(), pace.due()), (None, None));
    }
}
