//! The time since a run began: the only place in this crate that reads a clock.
//!
//! Everything that computes with time takes a [`Duration`] since the run's epoch, so that views and plans can be tested
//! with invented times.

use std::time::{Duration, Instant};

/// A monotonic clock that starts at zero. Copies share the epoch.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Starts a clock: its epoch is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the edge where time enters")]
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Time since the epoch.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The instant at which this clock shows `at`, for the runtime's timers.
    #[must_use]
    pub fn instant(&self, at: Duration) -> Instant {
        self.epoch + at
    }
}

/// Lets the calling thread rest for `time` between two looks at a condition.
pub fn pause(time: Duration) {
    let clock = Clock::start();
    while let Some(left) = time.checked_sub(clock.now()).filter(|left| !left.is_zero()) {
        // May return early, hence the loop.
        std::thread::park_timeout(left);
    }
}
