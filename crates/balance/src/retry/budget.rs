//! The retry budget: a bound of all extra attempts of a cluster, retries and hedges together.
//!
//! Why two bounds? A bound of how many are *under way* (Envoy's `retry_budget`) does not bound how many there *are*: where
//! failures are fast and successes slow, or streams live long, a fifth of the calls in flight is many times the calls per
//! second. A bound over time (Finagle, Linkerd) does, but lets a burst through after quiet minutes. Rule: an extra attempt
//! may begin while
//!
//! ```text
//! extra attempts under way < max(min_concurrency, percent of the calls under way), and
//! extra attempts of the window < max(min_concurrency, percent of the calls that began in the window)
//! ```
//!
//! Why that bounds the whole: take the last extra attempt of all, and the window that ends with it; then the last one before
//! that window, and so on. The windows are disjoint and hold all extra attempts. So over any time, attempts per call are at
//! most `1 + percent / 100`, but for windows of so few calls that `min_concurrency` is the larger.
//!
//! The window is ten slots that are used in turn. Each is one atomic: the number of its time slot beside both counts, so
//! that all three change together. Workers that ask at the same moment can exceed the second bound by one each.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;

/// How many extra attempts a cluster allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryBudgetConfig {
    /// Extra attempts in percent of calls; more than 100 counts as 100. Default 20 (Envoy, Linkerd).
    pub percent: u8,
    /// Extra attempts that are always allowed under way, and per window, so that a cluster with little traffic can retry
    /// at all. Default 3 (Envoy).
    pub min_concurrency: u32,
    /// Length of the window; at least 10 microseconds. Default 10 s (Finagle, Linkerd). `None` leaves the first bound only,
    /// as in Envoy up to 1.38.
    pub window: Option<Duration>,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { percent: 20, min_concurrency: 3, window: Some(Duration::from_secs(10)) }
    }
}

/// One of the two bounds of a budget, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetBound {
    /// The calls of which it is a share.
    pub calls: u64,
    /// Extra attempts that count against it.
    pub used: u64,
    /// Extra attempts that it allows: the next one is refused when as many are used.
    pub max: u64,
}

/// The budget of one cluster, shared by all workers.
#[derive(Debug)]
#[repr(align(64))]
pub struct RetryBudget {
    config: RetryBudgetConfig,
    /// A tenth of the window in microseconds, at least 1; `None` without a window. Worked out once, as each call asks.
    slot_us: Option<u64>,
    calls: AtomicU32,
    extra: AtomicU32,
    refused: AtomicU64,
    slots: [AtomicU64; SLOTS as usize],
}

const SLOTS: u64 = 10;

/// The fields of a slot from its lowest bit on. 20 bits hold a million calls in a slot; more count as a million, which errs
/// on the side of fewer retries. 24 bits of the slot's number repeat after half a year of one-second slots.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_MAX: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct SlotCounts {
    number: u64,
    calls: u64,
    extra: u64,
}

impl SlotCounts {
    fn decode(bits: u64) -> Self {
        Self {
            number: bits >> (2 * COUNT_BITS),
            calls: (bits >> COUNT_BITS) & COUNT_MAX,
            extra: bits & COUNT_MAX,
        }
    }

    fn encode(self) -> u64 {
        (self.number << (2 * COUNT_BITS))
            | (self.calls.min(COUNT_MAX) << COUNT_BITS)
            | self.extra.min(COUNT_MAX)
    }
}

impl RetryBudget {
    /// A budget of a cluster without calls.
    #[must_use]
    pub fn new(config: RetryBudgetConfig) -> Self {
        let slot_us = |window: Duration| (micros(window) / SLOTS).max(1);
        Self {
            slot_us: config.window.map(slot_us),
            config,
            calls: AtomicU32::new(0),
            extra: AtomicU32::new(0),
            refused: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; SLOTS as usize],
        }
    }

    /// Counts a call as under way. [`RetryBudget::call_finished`] must follow, once.
    pub fn call_started(&self, now: Duration) {
        self.calls.fetch_add(1, Relaxed);
        self.count(now, |slot| slot.calls += 1);
    }

    /// Ends what [`RetryBudget::call_started`] began, however the call ended.
    pub fn call_finished(&self) {
        let before = self.calls.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a call was finished that never started");
    }

    /// Calls under way.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    /// Extra attempts under way, those that wait for their backoff included.
    #[must_use]
    pub fn extra(&self) -> u32 {
        self.extra.load(Relaxed)
    }

    /// Extra attempts that the budget refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// The bound of what is under way.
    #[must_use]
    pub fn under_way(&self) -> BudgetBound {
        let calls = u64::from(self.calls());
        BudgetBound { calls, used: u64::from(self.extra()), max: self.share(calls) }
    }

    /// The length of the window and its bound; `None` without a window.
    #[must_use]
    pub fn window(&self, now: Duration) -> Option<(Duration, BudgetBound)> {
        Some((self.config.window?, self.in_window(now)?))
    }

    /// Takes the place of one extra attempt, if there is one. [`RetryBudget::release`] must follow, once.
    pub(super) fn acquire(&self, now: Duration) -> bool {
        let most = self.share(u64::from(self.calls()));
        let is_within = |extra: u32| (u64::from(extra) < most).then(|| extra + 1);
        let has_place =
            self.has_room_in_window(now) && self.extra.fetch_update(Relaxed, Relaxed, is_within).is_ok();
        if has_place {
            self.count(now, |slot| slot.extra += 1);
        } else {
            self.refused.fetch_add(1, Relaxed);
        }
        has_place
    }

    pub(super) fn release(&self) {
        let before = self.extra.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "an extra attempt was released that was never acquired");
    }

    fn share(&self, calls: u64) -> u64 {
        let percent = u64::from(self.config.percent.min(100));
        (calls * percent / 100).max(u64::from(self.config.min_concurrency))
    }

    fn has_room_in_window(&self, now: Duration) -> bool {
        self.in_window(now).is_none_or(|bound| bound.used < bound.max)
    }

    fn in_window(&self, now: Duration) -> Option<BudgetBound> {
        let number = self.slot_number(now)?;
        let counts = |slot: &AtomicU64| {
            let slot = SlotCounts::decode(slot.load(Relaxed));
            let age = number.wrapping_sub(slot.number) & NUMBER_MAX;
            if age < SLOTS { (slot.calls, slot.extra) } else { (0, 0) }
        };
        let (calls, used) =
            self.slots.iter().map(counts).fold((0, 0), |sum, slot| (sum.0 + slot.0, sum.1 + slot.1));
        Some(BudgetBound { calls, used, max: self.share(calls) })
    }

    fn count(&self, now: Duration, add: impl Fn(&mut SlotCounts)) {
        let Some(number) = self.slot_number(now) else { return };
        let added = |bits: u64| {
            let mut slot = SlotCounts::decode(bits);
            if slot.number != number {
                slot = SlotCounts { number, ..SlotCounts::default() };
            }
            add(&mut slot);
            Some(slot.encode())
        };
        let slot = &self.slots[usize::try_from(number % SLOTS).expect("less than ten")];
        let _always_some = slot.fetch_update(Relaxed, Relaxed, added);
    }

    fn slot_number(&self, now: Duration) -> Option<u64> {
        // The low bits are enough.
        Some((micros(now) / self.slot_us?) & NUMBER_MAX)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn budget_with_calls(calls: u32) -> RetryBudget {
        let budget = RetryBudget::new(RetryBudgetConfig::default());
        (0..calls).for_each(|_| budget.call_started(START));
        budget
    }

    fn acquired(budget: &RetryBudget, now: Duration) -> usize {
        (0..1_000).take_while(|_| budget.acquire(now)).count()
    }

    #[test]
    fn allows_a_fifth_of_the_calls_and_at_least_three() {
        for (calls, expected) in [(0, 3), (1, 3), (19, 3), (20, 4), (24, 4), (25, 5), (100, 20)] {
            let budget = budget_with_calls(calls);
            assert_eq!(acquired(&budget, START), expected, "{calls} calls");
            assert_eq!((budget.extra() as usize, budget.refused()), (expected, 1));
        }
    }

    #[test]
    fn both_bounds_can_be_read_at_any_moment() {
        let budget = budget_with_calls(100);
        (0..60).for_each(|_| budget.call_finished());
        assert_eq!(acquired(&budget, START), 8);
        budget.release();
        assert_eq!(budget.under_way(), BudgetBound { calls: 40, used: 7, max: 8 });
        let length = Duration::from_secs(10);
        assert_eq!(budget.window(START), Some((length, BudgetBound { calls: 100, used: 8, max: 20 })));
        let later = START + length;
        assert_eq!(budget.window(later), Some((length, BudgetBound { calls: 0, used: 0, max: 3 })));
        let none = RetryBudget::new(RetryBudgetConfig { window: None, ..RetryBudgetConfig::default() });
        assert_eq!(none.window(START), None);
    }

    #[test]
    fn a_place_that_is_free_again_can_be_taken_while_the_window_has_room() {
        let budget = budget_with_calls(100);
        (0..90).for_each(|_| budget.call_finished());
        // Ten are under way: three places at once; of a hundred that began, twenty.
        assert_eq!(acquired(&budget, START), 3);
        for _ in 3..20 {
            budget.release();
            assert!(budget.acquire(START));
        }
        budget.release();
        assert!(!budget.acquire(START), "the window is used up");
    }

    #[test]
    fn a_window_forgets_after_ten_slots() {
        let budget = budget_with_calls(100);
        assert_eq!(acquired(&budget, START), 20);
        (0..20).for_each(|_| budget.release());
        let last = START + Duration::from_secs(10) - Duration::from_micros(1);
        assert!(!budget.acquire(last));
        // The hundred calls are forgotten with the twenty retries; they are still under way.
        assert_eq!(acquired(&budget, START + Duration::from_secs(10)), 3);
    }

    #[test]
    fn without_a_window_only_those_under_way_count() {
        let budget = RetryBudget::new(RetryBudgetConfig { window: None, ..RetryBudgetConfig::default() });
        for _ in 0..1_000 {
            assert!(budget.acquire(START));
            budget.release();
        }
    }

    #[test]
    fn no_percent_and_no_minimum_allow_nothing_and_absurd_ones_no_more_than_one_each() {
        let config = RetryBudgetConfig::default();
        let none = RetryBudget::new(RetryBudgetConfig { percent: 0, min_concurrency: 0, ..config });
        (0..100).for_each(|_| none.call_started(START));
        assert!(!none.acquire(START));
        let all = RetryBudget::new(RetryBudgetConfig { percent: 255, min_concurrency: 0, ..config });
        (0..100).for_each(|_| all.call_started(START));
        assert_eq!(acquired(&all, START), 100);
    }

    #[test]
    fn counts_saturate_and_do_not_touch_each_other() {
        let full = SlotCounts { number: NUMBER_MAX, calls: COUNT_MAX, extra: 7 };
        assert_eq!(SlotCounts::decode(full.encode()), full);
        let more = SlotCounts { calls: COUNT_MAX + 1, ..full };
        assert_eq!(SlotCounts::decode(more.encode()), full);
        let far = RetryBudget::new(RetryBudgetConfig { window: Some(Duration::ZERO), ..Default::default() });
        far.call_started(Duration::MAX);
        assert_eq!(acquired(&far, Duration::MAX), 3);
    }
}
