//! At most one log line per cause and second.
//!
//! A peer that can make the proxy log can fill its disk. The rule: the first line of a cause is written, further ones
//! within [`PERIOD`] are only counted, and the next line written says how many were left out. Causes are words from the
//! source code, never text of a peer; should there be more than [`MAX_CAUSES`], the rest share one budget.
//!
//! It reads no clock: the caller passes the time. Each thread has a limiter of its own, which needs no lock; what it lets through asks for
//! the budgets of the process ([`SharedLogLimiter`]), once for each cause and second, so threads never queue there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time between two lines of one cause.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Causes with a budget of their own.
pub const MAX_CAUSES: usize = 64;

#[derive(Debug)]
struct Cause {
    name: &'static str,
    logged_at: Duration,
    suppressed: u64,
}

/// Decides which log lines are written.
#[derive(Debug, Default)]
pub struct LogLimiter {
    budgets: Budgets,
    shared: Option<SharedLogLimiter>,
}

/// The budgets that the limiters of several threads share: one line per cause and second for all of them. A clone shares
/// them too. The threads must count their time from the same moment.
#[derive(Clone, Debug, Default)]
pub struct SharedLogLimiter(Arc<Mutex<Budgets>>);

#[derive(Debug, Default)]
struct Budgets {
    /// At most [`MAX_CAUSES`], and one more that the rest share.
    causes: Vec<Cause>,
}

impl LogLimiter {
    /// A limiter for one of several threads.
    #[must_use]
    pub fn sharing(shared: &SharedLogLimiter) -> Self {
        Self { budgets: Budgets::default(), shared: Some(shared.clone()) }
    }

    /// Whether a line for `cause` may be written at `now`: `Some` with the number of lines left out since the last one,
    /// or `None`. A `now` before the last line's counts as the same moment.
    pub fn allow(&mut self, cause: &'static str, now: Duration) -> Option<u64> {
        let left_out = self.budgets.allow(cause, now, 0)?;
        match &self.shared {
            None => Some(left_out),
            Some(SharedLogLimiter(shared)) => {
                shared.lock().unwrap_or_else(PoisonError::into_inner).allow(cause, now, left_out)
            }
        }
    }
}

impl Budgets {
    /// As [`LogLimiter::allow`], for a line before which `left_out` others were left out elsewhere.
    fn allow(&mut self, cause: &'static str, now: Duration, left_out: u64) -> Option<u64> {
        let known = self.causes.iter().position(|known| known.name == cause);
        let index = known.unwrap_or_else(|| self.causes.len().min(MAX_CAUSES));
        let Some(known) = self.causes.get_mut(index) else {
            let name = if index < MAX_CAUSES { cause } else { "other" };
            self.causes.push(Cause { name, logged_at: now, suppressed: 0 });
            return Some(left_out);
        };
        if now.saturating_sub(known.logged_at) < PERIOD {
            known.suppressed = known.suppressed.saturating_add(left_out).saturating_add(1);
            return None;
        }
        known.logged_at = now;
        Some(std::mem::take(&mut known.suppressed).saturating_add(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);
    const NANO: Duration = Duration::from_nanos(1);

    #[test]
    fn the_first_line_is_written_and_the_next_after_exactly_a_second() {
        let mut limiter = LogLimiter::default();
        assert_eq!(limiter.allow("reset", T0), Some(0));
        assert_eq!(limiter.allow("reset", T0), None);
        assert_eq!(limiter.allow("reset", T0 + PERIOD - NANO), None);
        assert_eq!(limiter.allow("reset", T0 + PERIOD), Some(2));
        assert_eq!(limiter.allow("reset", T0 + PERIOD + NANO), None);
        assert_eq!(limiter.allow("reset", T0 + 3 * PERIOD), Some(1));
    }

    #[test]
    fn causes_have_budgets_of_their_own() {
        let mut limiter = LogLimiter::default();
        assert_eq!(limiter.allow("reset", T0), Some(0));
        assert_eq!(limiter.allow("goaway", T0), Some(0));
        assert_eq!(limiter.allow("reset", T0), None);
    }

    #[test]
    fn a_clock_that_goes_back_allows_nothing() {
        let mut limiter = LogLimiter::default();
        assert_eq!(limiter.allow("reset", T0), Some(0));
        assert_eq!(limiter.allow("reset", T0 - PERIOD), None);
    }

    #[test]
    fn causes_beyond_the_bound_share_one_budget() {
        let mut limiter = LogLimiter::default();
        let name = |n: usize| -> &'static str { Box::leak(n.to_string().into_boxed_str()) };
        for n in 0..MAX_CAUSES {
            assert_eq!(limiter.allow(name(n), T0), Some(0));
        }
        assert_eq!(limiter.allow("one more", T0), Some(0));
        assert_eq!(limiter.allow("and another", T0), None);
        assert_eq!(limiter.allow("one more", T0 + PERIOD), Some(1));
        assert_eq!(limiter.budgets.causes.len(), MAX_CAUSES + 1);
    }

    #[test]
    fn threads_that_share_write_one_line_and_count_those_of_all() {
        let shared = SharedLogLimiter::default();
        let (mut one, mut other) = (LogLimiter::sharing(&shared), LogLimiter::sharing(&shared));
        assert_eq!(one.allow("reset", T0), Some(0));
        assert_eq!(one.allow("reset", T0), None);
        assert_eq!(other.allow("reset", T0 + NANO), None);
        assert_eq!(other.allow("goaway", T0 + NANO), Some(0), "another cause");
        assert_eq!(other.allow("reset", T0 + NANO), None);
        // A line of this thread's own and the two of the other's, of which one has not been told yet.
        assert_eq!(one.allow("reset", T0 + PERIOD), Some(2));
        assert_eq!(other.allow("reset", T0 + PERIOD + NANO), None, "the process wrote one just now");
        assert_eq!(other.allow("reset", T0 + 2 * PERIOD), None, "nor is the thread's own second over");
        assert_eq!(one.allow("reset", T0 + 2 * PERIOD), Some(2));
        assert_eq!(other.allow("reset", T0 + 3 * PERIOD), Some(1));
    }

    #[test]
    fn a_thread_whose_clock_lags_behind_writes_nothing() {
        let shared = SharedLogLimiter::default();
        assert_eq!(LogLimiter::sharing(&shared).allow("reset", T0), Some(0));
        assert_eq!(LogLimiter::sharing(&shared).allow("reset", T0 - PERIOD), None);
    }
}
