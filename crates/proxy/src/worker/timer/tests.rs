//! The wheel against a sorted list, and its edges.

use core::time::Duration;

use proptest::prelude::*;

use super::Wheel;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn fired(wheel: &mut Wheel<u32>, now: Duration) -> Vec<u32> {
    let mut keys: Vec<u32> = core::iter::from_fn(|| wheel.expire(now)).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn fires_at_its_deadline_and_not_a_tick_before() {
    let mut wheel = Wheel::new(ms(1000));
    wheel.arm(ms(1010), 1);
    assert_eq!(fired(&mut wheel, ms(1009)), Vec::<u32>::new());
    assert_eq!(wheel.deadline(), Some(ms(1010)));
    assert_eq!(fired(&mut wheel, ms(1010)), [1]);
    assert!(wheel.is_empty());
}

#[test]
fn rounds_a_deadline_up_to_the_next_millisecond() {
    let mut wheel = Wheel::new(ms(0));
    wheel.arm(Duration::from_micros(5_001), 1);
    assert_eq!(fired(&mut wheel, Duration::from_micros(5_999)), Vec::<u32>::new());
    assert_eq!(fired(&mut wheel, ms(6)), [1]);
}

#[test]
fn a_deadline_in_the_past_fires_with_the_next_tick() {
    let mut wheel = Wheel::new(ms(500));
    wheel.arm(ms(3), 1);
    assert_eq!(fired(&mut wheel, ms(500)), Vec::<u32>::new());
    assert_eq!(fired(&mut wheel, ms(501)), [1]);
}

#[test]
fn a_disarmed_timer_never_fires() {
    let mut wheel = Wheel::new(ms(0));
    let timers: Vec<_> = (0..3).map(|key| wheel.arm(ms(7), key)).collect();
    wheel.disarm(timers[1]);
    assert_eq!(fired(&mut wheel, ms(100)), [0, 2]);
}

#[test]
fn a_deadline_beyond_the_wheel_waits_its_whole_time() {
    let mut wheel = Wheel::new(ms(0));
    let far = Duration::from_secs(86_400 * 365 * 3);
    wheel.arm(far, 1);
    let mut wakes = 0;
    while let Some(deadline) = wheel.deadline() {
        wakes += 1;
        let keys = fired(&mut wheel, deadline);
        assert!(keys.is_empty() || deadline >= far, "fired at {deadline:?}");
    }
    assert!(wakes < 20, "{wakes} wake-ups for one timer");
}

proptest! {
    #[test]
    fn fires_what_a_sorted_list_fires(
        start in 0_u64..100_000,
        steps in proptest::collection::vec((0_u64..300_000, 0_u64..5_000, any::<bool>()), 1..200),
    ) {
        let mut wheel = Wheel::new(ms(start));
        let mut model: Vec<(u64, u32, super::TimerId)> = Vec::new();
        let mut now = start;
        for (key, (delay, advance, cancel)) in steps.into_iter().enumerate() {
            let key = key as u32;
            let due = now + delay;
            model.push((due.max(now + 1), key, wheel.arm(ms(due), key)));
            if cancel && model.len() > 1 {
                let (_, _, timer) = model.swap_remove(key as usize % model.len());
                wheel.disarm(timer);
            }
            now += advance;
            if let Some(deadline) = wheel.deadline() {
                let earliest = model.iter().map(|entry| entry.0).min().unwrap_or(u64::MAX);
                prop_assert!(deadline <= ms(earliest), "sleeps past {earliest}");
            }
            let mut expected: Vec<u32> =
                model.iter().filter(|entry| entry.0 <= now).map(|entry| entry.1).collect();
            model.retain(|entry| entry.0 > now);
            expected.sort_unstable();
            prop_assert_eq!(fired(&mut wheel, ms(now)), expected);
            prop_assert_eq!(wheel.len(), model.len());
        }
    }
}
