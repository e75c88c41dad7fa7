//! Deadlines of a connection itself; those of calls are the owner's.

use core::time::Duration;

use super::{Connection, Fields, Phase};
use crate::error::{ConnectionError, Violation};
use crate::limits::DRIBBLE_WAIT;

impl Connection {
    /// When [`Connection::handle_timeout`] is due, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if self.phase == Phase::Ended {
            return None;
        }
        let dribble = self.dribble_since.map(|at| at + DRIBBLE_WAIT);
        self.violation_deadlines()
            .into_iter()
            .filter_map(|(deadline, _)| deadline)
            .chain(self.drain_deadline())
            .chain(self.idle_deadline())
            .chain(dribble)
            .min()
    }

    /// Deadlines that the peer must not miss, and what it broke if it did.
    fn violation_deadlines(&self) -> [(Option<Duration>, Violation); 4] {
        let limits = &self.limits;
        let preface = (self.phase != Phase::Open).then(|| self.opened_at + limits.preface_timeout);
        let settings =
            self.settings_sent_at.filter(|_| preface.is_none()).map(|at| at + limits.settings_timeout);
        let header = self.assembly.as_ref().map(|assembly| assembly.started_at + limits.header_timeout);
        let frame = self.incomplete_since.map(|at| at + limits.frame_timeout);
        [
            (preface, Violation::PrefaceTimeout),
            (settings, Violation::SettingsTimeout),
            (header, Violation::HeaderTimeout),
            (frame, Violation::FrameTimeout),
        ]
    }

    fn idle_deadline(&self) -> Option<Duration> {
        // Where the last stream went away without a word of when, the next flush says it.
        let idle = self.streams.is_empty() && !self.emptied && !self.is_draining();
        self.limits.idle_timeout.filter(|_| idle).map(|timeout| self.last_active + timeout)
    }

    /// Does what is due at `now`: ends a connection whose peer missed a deadline, sends the second GOAWAY, drains an
    /// idle connection, lets DATA go that waited for a larger window.
    ///
    /// # Errors
    /// The violation of the deadline that the peer missed; a GOAWAY waits in the output.
    pub fn handle_timeout(&mut self, fields: &mut Fields, now: Duration) -> Result<(), ConnectionError> {
        if self.phase == Phase::Ended {
            return Ok(());
        }
        for (deadline, violation) in self.violation_deadlines() {
            if deadline.is_some_and(|at| at <= now) {
                return Err(self.fail(violation));
            }
        }
        if self.drain_deadline().is_some_and(|at| at <= now) {
            self.finish_drain();
        }
        if self.idle_deadline().is_some_and(|at| at <= now) {
            self.streams.compact();
            self.start_drain(now, b"idle");
        }
        if self.dribble_since.is_some_and(|at| at + DRIBBLE_WAIT <= now) {
            self.flush_queues(fields, now);
        }
        Ok(())
    }
}
