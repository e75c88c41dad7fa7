//! The proxy's time, for tasks that wait by tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

/// The proxy's time, by tokio's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) began: Instant,
    /// The proxy's time then.
    at: Duration,
}

impl Clock {
    /// A clock that shows this time now.
    pub(super) fn starting_at(now: Duration) -> Self {
        Self { began: Instant::now(), at: now }
    }

    pub(super) fn now(&self) -> Duration {
        self.at.saturating_add(self.began.elapsed())
    }

    /// The moment of that time; far away for one that the system cannot express.
    pub(super) fn instant(&self, time: Duration) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400);
        let ahead = time.saturating_sub(self.at);
        self.began.checked_add(ahead).unwrap_or_else(|| self.began + self.began.elapsed() + FAR)
    }
}
