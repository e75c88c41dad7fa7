//! Overload: an account of what all peers make the process hold in memory, and what is given up when it nears a limit.
//!
//! Limits bound each connection to a few MiB, so ten thousand connections that use theirs hold gigabytes. Left to the
//! kernel, its out-of-memory killer ends all calls at once; so some of them are ended here, those that hold the most first.
//!
//! # Rule
//! Counted are the connections of both sides (records, streams, tables, output that waits), the calls (records, header
//! lists and request bytes kept for another attempt) and the buffers kept for reuse. Not counted: the program itself, what
//! the allocator wastes, and the kernel's socket buffers; the default limit leaves half of the memory for them.
//!
//! | from | [`Level`] | what happens |
//! |---|---|---|
//! | 85 % | `Shrink` | buffers kept for reuse are freed; new connections get a quarter of the streams and smaller windows |
//! | 92 % | `Drain` | and the client's connection that holds the most is asked to go (GOAWAY), ten a second for each worker |
//! | 95 % | `Refuse` | and no connection is accepted; a connection that holds more than [`FAIR_BYTES`] may not open streams |
//! | 98 %, or 95 % for 5 s | `Shed` | and requests that are kept for another attempt are forgotten; where that is not enough, calls, and connections whose client does not read, are ended, largest first, until 92 % is reached; if that is out of reach, no stream is opened at all |
//!
//! The four shares are those of the reference on reliability, A.4 (Envoy's example stops at 92 and 95, or 95 and 98).
//! `Refuse` spares connections that hold little, so that who behaves is not refused because of who does not; and it does
//! not last, or a total held just below 98 % would keep all newcomers out.
//!
//! # Cost
//! Each worker keeps the exact sum of its own, changed when a connection comes to rest and when a call begins and ends,
//! and adds what has changed to the process's sum once a turn ([`PUBLISH_BYTES`]). Nothing else happens below 85 %.
//!
//! # Invariants
//! - What is charged for a connection or call is given back with it: without either, a worker's sum is 0.
//! - Workers shed in proportion to what they hold, so that together they shed what is too much and not each all of it.

mod relieve;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel_http2::Limits;
use evenkeel_http2::limits::OUTPUT_HIGH_BYTES;

/// A worker adds to the process's sum when its own has changed by as much, so that workers at rest do not touch the shared
/// word; the sum is exact to as much for each worker.
pub const PUBLISH_BYTES: u64 = 16 * 1024;

/// What a connection may hold and still open streams at [`Level::Refuse`]: the output of a peer that reads
/// ([`OUTPUT_HIGH_BYTES`]).
pub const FAIR_BYTES: usize = OUTPUT_HIGH_BYTES;

/// The least that a connection must hold to be asked to go: one stream's window.
const DRAIN_BYTES_MIN: usize = 64 * 1024;

/// The time between two connections of a worker that are asked to go.
const DRAIN_PERIOD: Duration = Duration::from_millis(100);

/// How long [`Level::Refuse`] may last before it counts as [`Level::Shed`].
const REFUSE_MAX: Duration = Duration::from_secs(5);

/// How often a worker looks at the process's sum although nothing happens, if it holds something worth giving up: another
/// worker's peers may have raised it. Envoy's overload manager looks as often.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// What a worker must hold for that.
const LOOK_BYTES_MIN: u64 = 1024 * 1024;

/// The share of the limit down to which calls are ended, in percent.
const SHED_TO_PERCENT: u64 = 92;

/// The window of a stream on a connection that is accepted at [`Level::Shrink`].
const SHRUNK_WINDOW: u32 = 16 * 1024;

/// How short of memory the process is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Below 85 % of the limit.
    #[default]
    Calm,
    /// From 85 %.
    Shrink,
    /// From 92 %.
    Drain,
    /// From 95 %.
    Refuse,
    /// From 98 %, or from 95 % for too long.
    Shed,
}

impl Level {
    /// From which share of the limit a level holds, in percent.
    const BEGINS: [(Self, u64); 4] =
        [(Self::Shed, 98), (Self::Refuse, 95), (Self::Drain, 92), (Self::Shrink, 85)];

    /// The level at a sum of `total` bytes.
    #[must_use]
    pub fn of(total: u64, limit: u64) -> Self {
        let begun = Self::BEGINS.iter().find(|(_, percent)| total >= share(limit, *percent));
        begun.map_or(Self::Calm, |(level, _)| *level)
    }

    /// The limits of a connection that is accepted now.
    pub(super) fn limits(self, limits: Limits) -> Limits {
        if self == Self::Calm {
            return limits;
        }
        Limits {
            max_concurrent_streams: (limits.max_concurrent_streams / 4).max(1),
            stream_window_bytes: limits.stream_window_bytes.min(SHRUNK_WINDOW),
            connection_window_bytes: limits.connection_window_bytes.min(4 * SHRUNK_WINDOW),
            ..limits
        }
    }
}

/// This many percent of a limit.
fn share(limit: u64, percent: u64) -> u64 {
    limit / 100 * percent + limit % 100 * percent / 100
}

/// What a worker that holds `held` of the process's `total` bytes has to give up to bring it down to where shedding ends:
/// its part of what is too much.
fn to_shed(held: u64, total: u64, limit: u64) -> u64 {
    let excess = total.saturating_sub(share(limit, SHED_TO_PERCENT));
    let part = (u128::from(excess) * u128::from(held)).div_ceil(u128::from(total.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX).min(held)
}

/// The sum of what all workers hold, and its limit. Shared by the workers.
#[derive(Debug)]
pub struct Accountant {
    total: AtomicU64,
    /// What is kept of requests for further attempts, which is a part of the total.
    kept: AtomicU64,
    limit: u64,
    /// The sum from which anything is done.
    begins: u64,
}

impl Accountant {
    /// An account of at most `limit` bytes, 1 at least; `u64::MAX` for no limit.
    #[must_use]
    pub fn new(limit: u64) -> Arc<Self> {
        let begins = if limit == u64::MAX { limit } else { share(limit, 85).max(1) };
        Arc::new(Self { total: AtomicU64::new(0), kept: AtomicU64::new(0), limit, begins })
    }

    /// What all workers hold, exact to [`PUBLISH_BYTES`] for each.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// What all workers keep of requests for further attempts, exact to [`PUBLISH_BYTES`] for each.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }

    /// The limit; `None` if there is none.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        (self.limit != u64::MAX).then_some(self.limit)
    }
}

/// How long the process has been refusing.
#[derive(Debug, Default)]
struct Patience {
    refusing_since: Option<Duration>,
}

impl Patience {
    /// The level at this sum, which is [`Level::Shed`] also if it was [`Level::Refuse`] for too long.
    fn level(&mut self, now: Duration, total: u64, limit: u64) -> Level {
        let level = Level::of(total, limit);
        if level < Level::Refuse {
            self.refusing_since = None;
            return level;
        }
        let since = *self.refusing_since.get_or_insert(now);
        if now.saturating_sub(since) >= REFUSE_MAX { Level::Shed } else { level }
    }
}

/// One worker's own sum.
#[derive(Debug)]
pub(super) struct Account {
    shared: Arc<Accountant>,
    /// Bytes of connections and calls.
    held: u64,
    /// Bytes of buffers kept for reuse.
    spare: u64,
    /// Bytes of requests that are kept for further attempts, and what of them is published.
    kept: u64,
    kept_published: u64,
    published: u64,
    level: Level,
    patience: Patience,
    looked_at: Duration,
    drained_at: Option<Duration>,
    /// Nothing was left to give up; no use in looking before this time.
    fruitless_until: Option<Duration>,
    /// The highest level since somebody asked, and what was answered then.
    peak: Level,
    told: Level,
}

impl Account {
    pub(super) fn new(shared: Arc<Accountant>) -> Self {
        Self {
            shared,
            held: 0,
            spare: 0,
            kept: 0,
            kept_published: 0,
            published: 0,
            level: Level::Calm,
            patience: Patience::default(),
            looked_at: Duration::ZERO,
            drained_at: None,
            fruitless_until: None,
            peak: Level::Calm,
            told: Level::Calm,
        }
    }

    /// Something that held `before` bytes holds `after`.
    #[inline]
    pub(super) fn charge(&mut self, before: usize, after: usize) {
        self.held = self.held + after as u64 - before as u64;
    }

    /// A buffer joined those that are kept for reuse.
    #[inline]
    pub(super) fn add_spare(&mut self, bytes: usize) {
        self.spare += bytes as u64;
    }

    /// A buffer left those that are kept for reuse.
    #[inline]
    pub(super) fn remove_spare(&mut self, bytes: usize) {
        self.spare -= bytes as u64;
    }

    /// A call keeps so much more of its request for further attempts.
    #[inline]
    pub(super) fn keep(&mut self, bytes: usize) {
        self.kept += bytes as u64;
        if self.kept.abs_diff(self.kept_published) >= PUBLISH_BYTES {
            self.publish_kept();
        }
    }

    /// A call keeps so much less.
    #[inline]
    pub(super) fn forget_kept(&mut self, bytes: usize) {
        self.kept -= bytes as u64;
        if self.kept.abs_diff(self.kept_published) >= PUBLISH_BYTES {
            self.publish_kept();
        }
    }

    /// What this worker's calls keep of their requests.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// What the calls of all workers keep of their requests: this one's exactly.
    #[inline]
    pub(super) fn kept_by_all(&self) -> u64 {
        self.shared.kept() - self.kept_published + self.kept
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Publishes what has changed and looks at the process's sum. Whether it calls for anything.
    #[inline]
    fn look(&mut self, now: Duration) -> bool {
        self.looked_at = now;
        let own = self.held + self.spare;
        if own.abs_diff(self.published) >= PUBLISH_BYTES {
            self.publish(own);
        }
        let total = self.shared.total();
        if total < self.shared.begins && self.level == Level::Calm {
            return false;
        }
        self.level = self.patience.level(now, total, self.shared.limit);
        self.peak = self.peak.max(self.level);
        self.level > Level::Calm
    }

    fn publish(&mut self, own: u64) {
        self.shared.total.fetch_add(own.wrapping_sub(self.published), Ordering::Relaxed);
        self.published = own;
    }

    fn publish_kept(&mut self) {
        let change = self.kept.wrapping_sub(self.kept_published);
        self.shared.kept.fetch_add(change, Ordering::Relaxed);
        self.kept_published = self.kept;
    }

    /// When to look again although nothing happens.
    fn deadline(&self) -> Option<Duration> {
        let matters =
            self.shared.limit != u64::MAX && (self.held >= LOOK_BYTES_MIN || self.level > Level::Calm);
        matters.then(|| self.looked_at + LOOK_PERIOD)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.publish(0);
        self.kept = 0;
        self.publish_kept();
    }
}
