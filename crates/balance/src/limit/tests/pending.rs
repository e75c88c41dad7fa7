use core::time::Duration;

use proptest::prelude::*;

use super::pop;
use crate::limit::{Dropped, PendingKey, PendingQueue, Refused};

const START: Duration = Duration::from_secs(1_000);
const MS: Duration = Duration::from_millis(1);

/// A queue with a note of what it dropped.
struct World {
    queue: PendingQueue<u32>,
    dropped: Vec<(u32, Dropped)>,
}

impl World {
    fn new(capacity: usize) -> Self {
        Self { queue: PendingQueue::new(capacity), dropped: Vec::new() }
    }

    /// A queue that has learnt that a call leaves it every `gap`; empty, at the time that is returned.
    fn with_departures(capacity: usize, gap: Duration) -> (Self, Duration) {
        let mut world = Self::new(capacity);
        let mut now = START;
        for call in 0..20 {
            world.push(now, None, call).unwrap();
            now += gap;
            assert_eq!(world.pop(now), Some(call));
        }
        (world, now)
    }

    fn push(
        &mut self,
        now: Duration,
        deadline: Option<Duration>,
        call: u32,
    ) -> Result<PendingKey, (u32, Refused)> {
        self.push_with_attempt(now, deadline, Duration::ZERO, call)
    }

    fn push_with_attempt(
        &mut self,
        now: Duration,
        deadline: Option<Duration>,
        attempt: Duration,
        call: u32,
    ) -> Result<PendingKey, (u32, Refused)> {
        let dropped = &mut self.dropped;
        self.queue.push(now, deadline, attempt, call, |call, why| dropped.push((call, why)))
    }

    fn pop(&mut self, now: Duration) -> Option<u32> {
        let dropped = &mut self.dropped;
        pop(&mut self.queue, now, Duration::ZERO, |call, why| dropped.push((call, why)))
    }

    fn expire(&mut self, now: Duration) {
        let dropped = &mut self.dropped;
        self.queue.expire(now, |call, why| dropped.push((call, why)));
    }
}

#[test]
fn serves_in_the_order_of_arrival_and_turns_away_what_is_too_much() {
    let mut world = World::new(3);
    for call in 0..3 {
        world.push(START, Some(START + MS * (100 - call)), call).unwrap();
    }
    assert_eq!(world.push(START, None, 3), Err((3, Refused::Full)));
    assert_eq!([(); 4].map(|()| world.pop(START + MS)), [Some(0), Some(1), Some(2), None]);
    assert!(world.dropped.is_empty());
    assert_eq!(World::new(0).push(START, None, 0), Err((0, Refused::Full)));
}

#[test]
fn a_call_that_comes_back_has_the_place_that_it_had_whatever_the_queue_holds() {
    let mut world = World::new(4);
    let keys = [1, 2, 3].map(|call| world.push(START, None, call).unwrap());
    assert_eq!([world.pop(START), world.pop(START)], [Some(1), Some(2)]);
    let [fourth, fifth, _] = [4, 5, 10].map(|call| world.push(START, None, call).unwrap());
    let late = Some(START);
    assert_eq!(world.queue.come_back(START, None, Some(keys[1]), 2), Ok(keys[1]));
    assert_eq!(world.queue.come_back(START, late, Some(keys[0]), 1), Ok(keys[0]));
    // These had not waited.
    let first = world.queue.come_back(START, None, None, 6).unwrap();
    let before = world.queue.come_back(START, None, None, 7).unwrap();
    assert!(before < first && first < keys[0] && keys[2] < fourth && fourth < fifth);
    assert_eq!((world.queue.next_deadline(), world.queue.len()), (late, 8));
    assert_eq!(world.queue.come_back(START, None, None, 11), Err(11), "as many again, and no more");
    assert_eq!(world.push(START, None, 8), Err((8, Refused::Full)), "four wait besides");
    assert_eq!(world.dropped, [(1, Dropped::Expired)]);
    assert_eq!(world.queue.remove(keys[2]), Some(3));
    world.push(START, None, 9).unwrap();
    let order: Vec<_> = core::iter::from_fn(|| world.pop(START)).collect();
    assert_eq!(order, [7, 6, 2, 4, 5, 10, 9]);
}

#[test]
fn departures_that_were_none_do_not_make_the_queue_look_quicker() {
    let (mut world, mut now) = World::with_departures(100, 10 * MS);
    let wait = |world: &World| world.queue.expected_wait().as_secs_f64();
    // Of five that leave one comes back.
    for call in 0..200 {
        world.push(now, None, call).unwrap();
        now += 8 * MS;
        let key = world.queue.next_turn(None, now, Duration::ZERO).unwrap().key;
        assert_eq!(world.pop(now), Some(call));
        if call % 5 == 0 {
            world.queue.come_back(now, None, Some(key), call).unwrap();
            now += 8 * MS;
            assert_eq!(world.pop(now), Some(call));
        }
    }
    world.push(now, None, 0).unwrap();
    let expected = wait(&world);
    assert!((0.009..0.0105).contains(&expected), "8 ms for each, and a sixth of them are none: {expected}");
}

#[test]
fn a_call_keeps_its_place_while_it_cannot_go() {
    let mut world = World::new(3);
    let keys: Vec<_> = (0..3).map(|call| world.push(START, None, call).unwrap()).collect();
    let turn = |world: &World, behind| world.queue.next_turn(behind, START, MS).map(|turn| *turn.call);
    assert_eq!(turn(&world, None), Some(0));
    assert_eq!(turn(&world, Some(keys[0])), Some(1), "it is passed over, and stays the first");
    assert_eq!(world.queue.depart(keys[1], START), Some(1));
    assert_eq!(world.queue.depart(keys[1], START), None);
    assert_eq!(
        (turn(&world, None), turn(&world, Some(keys[0])), turn(&world, Some(keys[2]))),
        (Some(0), Some(2), None)
    );
    world.queue.set_capacity(1);
    assert_eq!(world.push(START, None, 4), Err((4, Refused::Full)));
    assert_eq!(world.queue.len(), 2);
}

#[test]
fn time_in_which_nobody_could_be_served_says_nothing_about_the_pace() {
    let (mut world, now) = World::with_departures(100, MS);
    world.push(now, None, 0).unwrap();
    let back = now + MS * 60_000;
    world.queue.unblock(back);
    assert_eq!(world.pop(back + MS), Some(0));
    for call in 0..100 {
        world.push(back + MS, Some(back + MS * 102), call).unwrap();
    }
    assert_eq!(world.queue.expected_wait(), MS * 100);
}

#[test]
fn a_deadline_is_kept_in_the_queue() {
    let mut world = World::new(10);
    world.push(START, Some(START + MS * 30), 0).unwrap();
    world.push(START, Some(START + MS * 10), 1).unwrap();
    world.push(START, Some(START + MS * 20), 2).unwrap();
    world.push(START, None, 3).unwrap();
    assert_eq!(world.queue.next_deadline(), Some(START + MS * 10));
    world.expire(START + MS * 10 - Duration::from_nanos(1));
    assert!(world.dropped.is_empty());
    world.expire(START + MS * 20);
    assert_eq!(world.dropped, [(1, Dropped::Expired), (2, Dropped::Expired)]);
    assert_eq!(world.queue.next_deadline(), Some(START + MS * 30));
    // Without expire in between, its turn comes too late.
    assert_eq!(world.pop(START + MS * 30), Some(3));
    assert_eq!(world.dropped[2..], [(0, Dropped::Expired)]);
    assert_eq!(world.queue.next_deadline(), None);
}

#[test]
fn a_call_that_would_wait_beyond_its_deadline_is_told_so_at_the_door() {
    let (mut world, now) = World::with_departures(100, MS * 10);
    for call in 0..10 {
        world.push(now, None, call).unwrap();
    }
    let wait = world.queue.expected_wait();
    assert!(wait.abs_diff(MS * 100) < Duration::from_micros(1), "ten departures of 10 ms: {wait:?}");
    let refused = Refused::DeadlineUnreachable { retry_after: wait };
    assert_eq!(world.push(now, Some(now + wait), 10), Err((10, refused)));
    let tight = now + wait + MS;
    assert!(world.push(now, Some(tight), 11).is_ok());
    let attempt = Duration::from_millis(20);
    let wait = world.queue.expected_wait();
    let refused = Refused::DeadlineUnreachable { retry_after: wait };
    let late = world.push_with_attempt(now, Some(now + wait + attempt), attempt, 12);
    assert_eq!(late, Err((12, refused)), "the attempt counts too");
}

#[test]
fn with_nothing_known_of_departures_every_call_may_wait() {
    let mut world = World::new(100);
    for call in 0..100 {
        world.push(START, Some(START + Duration::from_nanos(1)), call).unwrap();
    }
    assert_eq!(world.queue.expected_wait(), Duration::ZERO);
    assert_eq!(world.push(START, Some(START), 100).unwrap_err().0, 100, "but not one whose time is up");
}

#[test]
fn a_call_whose_turn_comes_too_late_is_not_sent() {
    let mut world = World::new(10);
    world.push(START, Some(START + MS * 10), 0).unwrap();
    world.push(START, Some(START + MS * 30), 1).unwrap();
    let mut dropped = Vec::new();
    let sent = pop(&mut world.queue, START + MS * 5, MS * 20, |call, why| dropped.push((call, why)));
    assert_eq!(sent, Some(1));
    assert_eq!(dropped, [(0, Dropped::Hopeless { retry_after: Duration::ZERO })]);
}

#[test]
fn calls_that_became_hopeless_make_room_when_the_queue_is_full() {
    let (mut world, mut now) = World::with_departures(6, MS);
    // Six calls with 30 ms each are fine at one per millisecond.
    for call in 0..6 {
        world.push(now, Some(now + MS * 30), call).unwrap();
    }
    // One leaves after 20 ms instead: the last ones will not make it.
    now += MS * 20;
    assert_eq!(world.pop(now), Some(0));
    world.push(now, None, 6).unwrap();
    let wait = world.queue.expected_wait() / 6;
    assert!(wait > MS * 2 && wait < MS * 3, "{wait:?}");
    assert!(world.push(now, None, 7).is_ok());
    let gone: Vec<u32> = world.dropped.iter().map(|(call, _)| *call).collect();
    // 10 ms are left: the sixth turn is at 5 * 2.9 ms, the fifth at 4 * 2.9.
    assert_eq!(gone, [5], "the others move up");
    assert!(matches!(world.dropped[0].1, Dropped::Hopeless { .. }));
}

#[test]
fn time_without_anybody_waiting_says_nothing_about_departures() {
    let (mut world, mut now) = World::with_departures(100, MS);
    now += Duration::from_secs(3_600);
    world.push(now, None, 0).unwrap();
    assert_eq!(world.pop(now + MS), Some(0));
    world.push(now, None, 1).unwrap();
    assert!(world.queue.expected_wait().abs_diff(MS) < Duration::from_micros(1));
}

#[test]
fn a_call_whose_client_left_is_gone() {
    let mut world = World::new(2);
    let first = world.push(START, Some(START + MS), 0).unwrap();
    world.push(START, None, 1).unwrap();
    assert_eq!(world.queue.remove(first), Some(0));
    assert_eq!(world.queue.remove(first), None);
    assert_eq!(world.queue.next_deadline(), None);
    assert!(world.push(START, None, 2).is_ok(), "its place is free");
    assert_eq!(world.pop(START), Some(1));
}

proptest! {
    /// Whatever comes: each call leaves exactly once, never more wait than there is place, no call is sent at or after
    /// its deadline, and those that are sent are so in the order of arrival.
    #[test]
    fn no_call_is_lost_or_doubled(
        capacity in 0_usize..20,
        steps in prop::collection::vec((0_u8..4, 0_u64..50, 0_u32..200), 0..300),
    ) {
        let mut world = World::new(capacity);
        let (mut now, mut pushed, mut sent, mut turned_away, mut left) = (START, 0, Vec::new(), 0, 0);
        let mut deadlines = Vec::new();
        let mut keys = Vec::new();
        for (step, passed, number) in steps {
            now += MS * u32::try_from(passed).unwrap();
            match step {
                0 | 1 => {
                    let deadline = (number > 20).then(|| now + MS * number);
                    deadlines.push(deadline);
                    match world.push(now, deadline, pushed) {
                        Ok(key) => keys.push(key),
                        Err((call, _)) => {
                            prop_assert_eq!(call, pushed);
                            turned_away += 1;
                        }
                    }
                    pushed += 1;
                }
                2 => {
                    if let Some(call) = world.pop(now) {
                        let deadline = deadlines[call as usize];
                        prop_assert!(deadline.is_none_or(|deadline| now < deadline));
                        sent.push(call);
                    }
                }
                _ if number % 2 == 0 => world.expire(now),
                _ => {
                    let key = keys.get(number as usize % keys.len().max(1));
                    left += key.and_then(|key| world.queue.remove(*key)).iter().count();
                }
            }
            prop_assert!(world.queue.len() <= capacity);
        }
        prop_assert!(sent.is_sorted());
        let accounted = sent.len() + turned_away + left + world.dropped.len() + world.queue.len();
        prop_assert_eq!(accounted, pushed as usize);
    }
}
