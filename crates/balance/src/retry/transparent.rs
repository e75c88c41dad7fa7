//! Repeating what no backend processed, which gRPC does whatever the policy says (gRFC A6, "transparent retries").

use core::time::Duration;

use crate::attempt::AttemptEnd;

/// How often a call whose request never left is sent again. A6 sets no bound but the deadline; one is needed, because not
/// every call has a deadline, and each repetition costs work.
pub const MAX_UNSENT: u8 = 10;

/// How often a call is sent again that found no place where there seemed to be one. A6 has one transparent retry of what a server
/// refused, as it may be overloaded. Here there is a place once it has counted; one that refuses for longer is taken to mean it.
pub const MAX_NO_PLACE: u8 = 10;

/// How long after the first [`AttemptEnd::NoPlace`] of a call another one is worth a transparent retry.
pub const MAX_NO_PLACE_TIME: Duration = Duration::from_millis(500);

/// Which transparent retries a call has had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Transparent {
    unsent: u8,
    refused: bool,
    no_place: u8,
    /// When it first found none, in milliseconds; modulo 2^16, as each call has one of these: after a minute it may seem new.
    no_place_since_ms: u16,
}

impl Transparent {
    /// Whether this end is worth a transparent retry; if so, it is taken.
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^16, as the field says")]
    pub(super) fn take(&mut self, end: &AttemptEnd, now: Duration) -> bool {
        match end {
            AttemptEnd::NotSent | AttemptEnd::ConnectFailed if self.unsent < MAX_UNSENT => {
                self.unsent += 1;
                true
            }
            AttemptEnd::NoPlace if self.no_place < MAX_NO_PLACE => {
                let now_ms = now.as_millis() as u16;
                if self.no_place == 0 {
                    self.no_place_since_ms = now_ms;
                }
                self.no_place += 1;
                let since_ms = now_ms.wrapping_sub(self.no_place_since_ms);
                Duration::from_millis(u64::from(since_ms)) <= MAX_NO_PLACE_TIME
            }
            // Once: a backend that refuses twice is overloaded, and the policy's backoff is due.
            AttemptEnd::RefusedStream | AttemptEnd::GoAway { .. } if !self.refused => {
                self.refused = true;
                true
            }
            _ => false,
        }
    }
}
