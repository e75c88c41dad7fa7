//! Repeating what no backend processed, which gRPC does whatever the policy says (gRFC A6, "transparent retries").

use crate::attempt::AttemptEnd;

/// How often a call whose request never left is sent again. A6 sets no bound but the deadline; one is needed, because not
/// every call has a deadline, and each repetition costs work.
pub const MAX_UNSENT: u8 = 10;

/// How often a call is sent again that found no place where there seemed to be one. Each time after a rest of the connection, so that
/// they come to half a second and a call without a deadline has an end.
pub const MAX_NO_PLACE: u8 = 10;

/// Which transparent retries a call has had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Transparent {
    unsent: u8,
    refused: bool,
    no_place: u8,
}

impl Transparent {
    /// Whether this end is worth a transparent retry; if so, it is taken.
    pub(super) fn take(&mut self, end: &AttemptEnd) -> bool {
        match end {
            AttemptEnd::NotSent | AttemptEnd::ConnectFailed if self.unsent < MAX_UNSENT => {
                self.unsent += 1;
                true
            }
            AttemptEnd::NoPlace if self.no_place < MAX_NO_PLACE => {
                self.no_place += 1;
                true
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
