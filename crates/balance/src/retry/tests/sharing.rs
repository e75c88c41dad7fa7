//! Many threads on the same budget.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use super::*;

#[test]
fn no_more_extra_attempts_are_under_way_than_the_budget_has_whatever_threads_do() {
    let budget = RetryBudget::new(RetryBudgetConfig { window: None, ..RetryBudgetConfig::default() });
    let under_way = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    budget.call_started(START);
                    if budget.acquire(START) {
                        // Four calls are under way at most: three places.
                        assert!(under_way.fetch_add(1, Relaxed) < 3);
                        under_way.fetch_sub(1, Relaxed);
                        budget.release();
                    }
                    budget.call_finished();
                }
            });
        }
    });
    assert_eq!((budget.calls(), budget.extra()), (0, 0));
}

#[test]
fn the_window_counts_every_call_and_exceeds_its_share_by_one_per_thread_at_most() {
    const THREADS: usize = 4;
    let budget = RetryBudget::new(RetryBudgetConfig::default());
    (0..10_000).for_each(|_| budget.call_started(START));
    let taken = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if budget.acquire(START) {
                        taken.fetch_add(1, Relaxed);
                        budget.release();
                    }
                }
            });
        }
    });
    let taken = taken.into_inner() as usize;
    assert!((2_000..2_000 + THREADS).contains(&taken), "{taken}");
}
