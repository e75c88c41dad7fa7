//! The queue of calls that wait for a connection or a place, which knows who cannot make it any more.
//!
//! Why drop by deadline? Under overload a queue of patience serves each call just before its caller gives up, or just after:
//! all work is late, and more of it comes as retries. Rule: first come, first served, but no call is kept, or sent, that
//! cannot end before its deadline:
//!
//! - at the door: the calls ahead of it, times the mean time between two departures, plus what an attempt takes, is longer
//!   than the time it has. It learns so at once, with the time after which to come again, and not when it is too late;
//! - at its turn: what an attempt takes is longer than the time it has left;
//! - at its deadline, wherever it stands.
//!
//! When the queue is full, calls within it that have become hopeless, because departures slowed down, make room for a new
//! one; if there are none, the new one is turned away: calls that have waited are worth more.
//!
//! The mean time between departures is an EWMA over the departures while calls wait, and not believed before
//! [`TRUSTED_DEPARTURES`] of them: with nothing known, every call may wait. Time in which nobody could be served, since no
//! endpoint was there, is left out ([`PendingQueue::unblock`]): it says nothing about the pace at which calls leave.
//!
//! One worker owns a queue. All operations cost O(log n), but the search for hopeless calls, which is O(n), and made once
//! per arrival at a full queue at most.

use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

/// Calls that wait at most, unless set otherwise (Envoy's `max_pending_requests`).
pub const DEFAULT_PENDING: usize = 1_024;

/// Departures after which the mean time between them is believed.
const TRUSTED_DEPARTURES: u32 = 8;

/// The key of the first call that waits: below it is room for as many as above.
const FIRST_KEY: u64 = 1 << 63;

/// Weight of the latest time between two departures.
const GAIN: f64 = 0.1;

/// The name of a call in a queue, and its place: keys rise in the order of arrival. None is used again but by its own call
/// ([`PendingQueue::come_back`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PendingKey(u64);

/// Why a call left the queue without its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Its deadline passed: DEADLINE_EXCEEDED.
    Expired,
    /// It can no longer make it: RESOURCE_EXHAUSTED.
    Hopeless {
        /// How long a call that came now would wait.
        retry_after: Duration,
    },
}

/// Why a call was turned away at the door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The queue is full, and nobody in it is worse off.
    Full,
    /// It would not get its turn in time.
    DeadlineUnreachable {
        /// How long it would wait.
        retry_after: Duration,
    },
}

/// A call whose turn may have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn<'a, T> {
    /// Its name in the queue, where it still is.
    pub key: PendingKey,
    /// What its owner keeps of it.
    pub call: &'a T,
    /// Why it is to be taken out instead, if it is too late for it.
    pub too_late: Option<Dropped>,
}

/// Calls of one worker and cluster that wait, with what their owner keeps of each.
#[derive(Debug)]
pub struct PendingQueue<T> {
    capacity: usize,
    next_key: u64,
    /// The lowest key so far: of calls that came back without having waited.
    first_key: u64,
    calls: BTreeMap<PendingKey, Waiting<T>>,
    /// Those of them that came back: they have left the queue once, and take nobody's place in it.
    back: usize,
    deadlines: BTreeSet<(Duration, PendingKey)>,
    departures: Departures,
}

#[derive(Debug)]
struct Waiting<T> {
    deadline: Option<Duration>,
    is_back: bool,
    call: T,
}

impl<T> PendingQueue<T> {
    /// An empty queue of so many places. With none, every call is turned away.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            next_key: FIRST_KEY,
            first_key: FIRST_KEY,
            calls: BTreeMap::new(),
            back: 0,
            deadlines: BTreeSet::new(),
            departures: Departures::default(),
        }
    }

    /// Calls that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether no call waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// How long a call that came now would wait; 0 as long as that is not known.
    #[must_use]
    pub fn expected_wait(&self) -> Duration {
        self.departures.time_for(self.len())
    }

    /// When to call [`PendingQueue::expire`] next, if ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Lets a call wait. `attempt` is what an attempt takes, as far as known. `dropped` is told the calls that make room.
    ///
    /// # Errors
    /// The call comes back, with the reason.
    pub fn push(
        &mut self,
        now: Duration,
        deadline: Option<Duration>,
        attempt: Duration,
        call: T,
        dropped: impl FnMut(T, Dropped),
    ) -> Result<PendingKey, (T, Refused)> {
        let wait = self.expected_wait();
        if deadline.is_some_and(|deadline| is_late(now, wait, attempt, deadline)) {
            return Err((call, Refused::DeadlineUnreachable { retry_after: wait }));
        }
        if self.is_full() {
            self.drop_hopeless(now, attempt, dropped);
        }
        if self.is_full() {
            return Err((call, Refused::Full));
        }
        let key = PendingKey(self.next_key);
        self.next_key += 1;
        self.insert(now, key, Waiting { deadline, is_back: false, call });
        Ok(key)
    }

    fn is_full(&self) -> bool {
        self.calls.len() - self.back >= self.capacity
    }

    /// Lets a call wait again that was sent and not taken in: in the place that it had, which is `key`, or before all others if
    /// it had not waited. It was admitted once, so that the wait is not held against it, nor it against others: as many as may wait
    /// may come back besides.
    ///
    /// # Errors
    /// The call, if as many came back and wait.
    pub fn come_back(
        &mut self,
        now: Duration,
        deadline: Option<Duration>,
        key: Option<PendingKey>,
        call: T,
    ) -> Result<PendingKey, T> {
        if self.back >= self.capacity {
            return Err(call);
        }
        if key.is_some() {
            self.departures.take_back();
        }
        let key = key.unwrap_or_else(|| {
            self.first_key -= 1;
            PendingKey(self.first_key)
        });
        self.back += 1;
        self.insert(now, key, Waiting { deadline, is_back: true, call });
        Ok(key)
    }

    fn insert(&mut self, now: Duration, key: PendingKey, waiting: Waiting<T>) {
        if self.is_empty() {
            self.departures.begin(now);
        }
        self.deadlines.extend(waiting.deadline.map(|deadline| (deadline, key)));
        let before = self.calls.insert(key, waiting);
        debug_assert!(before.is_none(), "a key is of one call");
    }

    /// Changes how many calls may wait. Those that are too many by then stay.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// From now on calls can be served again: the time until now does not count as one between two departures.
    pub fn unblock(&mut self, now: Duration) {
        self.departures.begin(now);
    }

    /// The first call behind this one, or of all: whoever looks tries to send it, and then says [`PendingQueue::depart`] if
    /// it was sent, or leaves it where it is.
    #[must_use]
    pub fn next_turn(
        &self,
        behind: Option<PendingKey>,
        now: Duration,
        attempt: Duration,
    ) -> Option<Turn<'_, T>> {
        let start = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let (key, waiting) = self.calls.range((start, Bound::Unbounded)).next()?;
        let late = waiting.deadline.filter(|deadline| is_late(now, Duration::ZERO, attempt, *deadline));
        let too_late = late.map(|deadline| self.reason(now, deadline));
        Some(Turn { key: *key, call: &waiting.call, too_late })
    }

    /// Takes a call out that was sent.
    pub fn depart(&mut self, key: PendingKey, now: Duration) -> Option<T> {
        let call = self.remove(key)?;
        self.departures.departed(now);
        Some(call)
    }

    /// Takes a call out whose client left, if it still waits.
    pub fn remove(&mut self, key: PendingKey) -> Option<T> {
        let waiting = self.calls.remove(&key)?;
        self.back -= usize::from(waiting.is_back);
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        Some(waiting.call)
    }

    /// Drops the calls whose deadline has passed.
    pub fn expire(&mut self, now: Duration, mut dropped: impl FnMut(T, Dropped)) {
        while let Some((deadline, key)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(call) = self.remove(key) {
                dropped(call, Dropped::Expired);
            }
        }
    }

    /// Drops every call that will not get its turn in time.
    fn drop_hopeless(&mut self, now: Duration, attempt: Duration, mut dropped: impl FnMut(T, Dropped)) {
        let mut ahead = 0;
        let mut late = Vec::new();
        for (key, waiting) in &self.calls {
            let wait = self.departures.time_for(ahead);
            match waiting.deadline {
                Some(deadline) if is_late(now, wait, attempt, deadline) => late.push((*key, deadline)),
                _ => ahead += 1,
            }
        }
        for (key, deadline) in late {
            if let Some(call) = self.remove(key) {
                dropped(call, self.reason(now, deadline));
            }
        }
    }

    fn reason(&self, now: Duration, deadline: Duration) -> Dropped {
        if deadline <= now {
            Dropped::Expired
        } else {
            Dropped::Hopeless { retry_after: self.expected_wait() }
        }
    }
}

/// Whether a call that waits so long and then takes so long ends at or after its deadline.
fn is_late(now: Duration, wait: Duration, attempt: Duration, deadline: Duration) -> bool {
    now.saturating_add(wait).saturating_add(attempt) >= deadline
}

/// How fast calls leave the queue for their turn.
#[derive(Clone, Copy, Debug, Default)]
struct Departures {
    /// Mean time between two, in seconds.
    mean_s: f64,
    count: u32,
    /// The last departure, or when the queue was last empty: what passed without anybody waiting says nothing.
    last: Duration,
}

impl Departures {
    fn begin(&mut self, now: Duration) {
        self.last = now;
    }

    fn departed(&mut self, now: Duration) {
        let since_s = now.saturating_sub(self.last).as_secs_f64();
        self.last = now;
        self.count = self.count.saturating_add(1);
        // Until the EWMA has enough of a past: the plain mean.
        let gain = GAIN.max(1.0 / f64::from(self.count));
        self.mean_s += (since_s - self.mean_s) * gain;
    }

    /// One of the last departures was none. The EWMA is about the mean of as many as its gain says: one fewer took as long.
    fn take_back(&mut self) {
        self.mean_s *= 1.0 + GAIN;
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of calls is far below 2^53")]
    fn time_for(&self, calls: usize) -> Duration {
        if self.count < TRUSTED_DEPARTURES {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(self.mean_s * calls as f64).unwrap_or(Duration::MAX)
    }
}
