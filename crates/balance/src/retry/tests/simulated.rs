//! Many calls against the real states, in simulated time: what retries cost and hedging gains.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

fn exponential(mean: Duration, rng: &mut impl Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.random::<f64>()).ln())
}

/// Arrivals at `rate` calls a second for `length_s`, at random times.
fn arrivals(rate: u32, length_s: u32, rng: &mut SmallRng) -> Vec<Duration> {
    let mut at = START;
    let mut times = Vec::new();
    for _ in 0..rate * length_s {
        at += exponential(Duration::from_secs(1) / rate, rng);
        times.push(at);
    }
    times
}

/// Attempts per call, where every backend fails half its attempts with UNAVAILABLE after this time and answers the others
/// after that.
fn attempts_per_call(
    rate: u32,
    (failure, success): (Duration, Duration),
    budget: &RetryBudget,
    throttle: Option<&RetryThrottle>,
    seed: u64,
) -> f64 {
    let policy = RetryPolicy {
        max_attempts: MAX_ATTEMPTS,
        retry_on: RetryOn::statuses(CodeSet::of(&[Code::Unavailable])),
        ..RetryPolicy::default()
    };
    let gates = Gates { budget, throttle };
    let mut rng = SmallRng::seed_from_u64(seed);
    let calls = arrivals(rate, 120, &mut rng);
    let mut states = vec![None; calls.len()];
    // (time, call, whether the attempt that ends failed; none where one starts)
    let mut events: BinaryHeap<_> =
        calls.iter().enumerate().map(|(call, at)| Reverse((*at, call, None))).collect();
    let mut attempts = 0_u64;
    while let Some(Reverse((now, call, ended))) = events.pop() {
        let state = states[call].get_or_insert_with(|| {
            budget.call_started(now);
            RetryState::new()
        });
        let Some(has_failed) = ended else {
            attempts += 1;
            let fails = rng.random_bool(0.5);
            let mean = if fails { failure } else { success };
            events.push(Reverse((now + exponential(mean, &mut rng), call, Some(fails))));
            continue;
        };
        let end = if has_failed { UNAVAILABLE } else { OK };
        match state.attempt_ended(&policy, gates, &end, &moment(now), &mut rng) {
            Decision::Retry { at, .. } => events.push(Reverse((at, call, None))),
            Decision::Stop(_) => budget.call_finished(),
        }
    }
    assert_eq!((budget.calls(), budget.extra()), (0, 0), "everything is given back, seed {seed}");
    attempts as f64 / calls.len() as f64
}

#[test]
fn where_all_backends_fail_half_their_calls_attempts_per_call_stay_within_the_budget() {
    let shapes = [(MS * 20, MS * 20), (MS, MS * 100), (MS * 500, MS)];
    for rate in [10, 100, 1_000] {
        let mut most: f64 = 0.0;
        for shape in shapes {
            for seed in 1..=3 {
                let budget = RetryBudget::new(RetryBudgetConfig::default());
                let attempts = attempts_per_call(rate, shape, &budget, None, seed);
                println!("{rate} calls/s, failures and successes {shape:?}, seed {seed}: {attempts:.4}");
                most = most.max(attempts);
                assert!(attempts <= 1.2, "{attempts} at {rate} calls/s, {shape:?}, seed {seed}");
            }
        }
        println!(
            "figure: attempts per call where all backends fail half of them, {rate} calls/s | at most 1.2 | {most:.4} at most in 9 runs"
        );
    }
    let free = attempts_per_call(1_000, shapes[0], &ample_budget(), None, 1);
    println!("without a budget: {free:.4}");
    assert!((free - 1.9375).abs() < 0.02, "five tries at one half: {free}");
}

#[test]
fn grpcs_throttle_stops_retries_where_half_the_calls_fail() {
    let throttle = throttle(10, 100);
    let attempts = attempts_per_call(1_000, (MS * 20, MS * 20), &ample_budget(), Some(&throttle), 1);
    println!("with gRPC's throttle of 10 and 0.1: {attempts:.4}");
    assert!(attempts < 1.001, "{attempts}");
}

/// A hundred servers that answer in 4 ms on average and stop for 200 ms every 20 s, each at its own times.
struct Servers {
    offsets: Vec<Duration>,
}

impl Servers {
    const PERIOD: Duration = Duration::from_secs(20);
    const PAUSE: Duration = Duration::from_millis(200);
    const SERVICE: Duration = Duration::from_millis(4);

    fn new(rng: &mut SmallRng) -> Self {
        let offsets = (0..100).map(|_| Self::PERIOD.mul_f64(rng.random())).collect();
        Self { offsets }
    }

    /// When a random server other than this one answers, and which it is.
    fn answer(&self, now: Duration, other_than: Option<usize>, rng: &mut SmallRng) -> (Duration, usize) {
        let mut server = rng.random_range(0..self.offsets.len());
        while Some(server) == other_than {
            server = rng.random_range(0..self.offsets.len());
        }
        let service = exponential(Self::SERVICE, rng);
        let since = (now + self.offsets[server]).as_nanos() % Self::PERIOD.as_nanos();
        let since = Duration::from_nanos(u64::try_from(since).unwrap());
        let until_pause = Self::PERIOD - since;
        let stopped = if since < Self::PAUSE {
            Self::PAUSE - since
        } else if until_pause < service {
            Self::PAUSE
        } else {
            Duration::ZERO
        };
        (now + service + stopped, server)
    }
}

/// The latencies of 200,000 calls at 2,000 a second, sorted, and attempts per call.
fn hedged(policy: &HedgingPolicy, seed: u64) -> (Vec<Duration>, f64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let servers = Servers::new(&mut rng);
    let budget = RetryBudget::new(RetryBudgetConfig::default());
    let gates = Gates { budget: &budget, throttle: None };
    let calls = arrivals(2_000, 100, &mut rng);
    let mut states: Vec<Option<(HedgeState, usize)>> = vec![None; calls.len()];
    // (time, call, the attempt that ends; none for the call's start and its timer)
    let mut events: BinaryHeap<_> =
        calls.iter().enumerate().map(|(call, at)| Reverse((*at, call, None))).collect();
    let (mut latencies, mut attempts) = (Vec::new(), 0_u64);
    while let Some(Reverse((now, call, ended))) = events.pop() {
        let Some((state, first_server)) = &mut states[call] else {
            if ended.is_some() || now != calls[call] {
                continue; // An attempt that was cancelled, or the timer of a call that is decided.
            }
            budget.call_started(now);
            let state = HedgeState::new(policy, true, now);
            let (at, server) = servers.answer(now, None, &mut rng);
            attempts += 1;
            events.push(Reverse((at, call, Some(0))));
            events.extend(state.next_at().map(|at| Reverse((at, call, None))));
            states[call] = Some((state, server));
            continue;
        };
        let decision = match ended {
            Some(attempt) => state.attempt_ended(policy, gates, attempt, &OK, &moment(now)),
            None => state.handle_timeout(policy, gates, &moment(now)),
        };
        match decision {
            HedgeDecision::Send { attempt } => {
                attempts += 1;
                let (at, _) = servers.answer(now, Some(*first_server), &mut rng);
                events.push(Reverse((at, call, Some(attempt))));
                events.extend(state.next_at().map(|at| Reverse((at, call, None))));
            }
            HedgeDecision::Wait => events.extend(state.next_at().map(|at| Reverse((at, call, None)))),
            HedgeDecision::Finish(reason) => {
                assert_eq!(reason, StopReason::Succeeded);
                latencies.push(now - calls[call]);
                states[call] = None;
                budget.call_finished();
            }
        }
    }
    assert_eq!((latencies.len(), budget.calls(), budget.extra()), (calls.len(), 0, 0), "seed {seed}");
    latencies.sort_unstable();
    (latencies, attempts as f64 / calls.len() as f64)
}

#[test]
fn hedging_cuts_the_tail_to_a_fifth_for_a_twentieth_more_calls() {
    let off = HedgingPolicy { max_attempts: 1, ..HedgingPolicy::default() };
    for seed in 1..=3 {
        let (plain, _) = hedged(&off, seed);
        let quantile = |latencies: &[Duration], q: f64| latencies[(latencies.len() as f64 * q) as usize];
        // As the policy's text says: from the 95th percentile on. The 96th leaves room for the 1 % that stops.
        let delay = quantile(&plain, 0.96);
        let on = HedgingPolicy { hedging_delay: delay, ..HedgingPolicy::default() };
        let (with_hedges, attempts) = hedged(&on, seed);
        let (before, after) = (quantile(&plain, 0.999), quantile(&with_hedges, 0.999));
        println!(
            "figure: p99.9 with hedging after {delay:.1?} by that without, seed {seed} | at most 0.2 for at most 5 % more calls | \
             {:.3} ({before:.1?} to {after:.1?}) for {:.2} %",
            after.div_duration_f64(before),
            (attempts - 1.0) * 100.0
        );
        assert!(after * 5 <= before, "{before:?} to {after:?}, seed {seed}");
        assert!(attempts <= 1.05, "{attempts}, seed {seed}");
    }
}
