//! Room for one more stream at an endpoint: which of its connections takes it, and whether there is to be another connection.
//!
//! **A place that is none yet.** A server that allows four streams may refuse the one that is opened when the fourth has ended:
//! gRPC's core library counts a stream for a moment after its end has left, and its clients, which wait for no place, rarely meet
//! that. Calls that wait for a place meet it all the time (4 of 150 calls through one connection). Rule: where a connection is or
//! just was full, a refused stream means that there is no place yet ([`AttemptEnd::NoPlace`]). The connection rests: it takes no stream
//! until another one of it has ended, or for a short time that grows. The call waits with the others.

use core::time::Duration;

use evenkeel_balance::{AttemptEnd, Slot};
use evenkeel_http2::OpenError;

use super::Worker;
use super::conn::{Conn, ConnId, Side};

/// How many times the connections in use an endpoint's connections may be, those included that only finish their calls: a
/// backend that goes away by age leaves some behind, one that always goes away must not make us hold more and more.
const LEAVING_FACTOR: usize = 4;

/// How long after a connection was full its backend may still count streams that have ended. A backend that is busy is late with
/// everything; one that refuses for another reason costs its calls half a second at most for this.
const FULL_LATELY: Duration = Duration::from_secs(1);

/// The first rest of a connection. Each that follows is twice as long.
const REST_MIN: Duration = Duration::from_millis(1);

/// How often the rest doubles: to 128 ms.
const REST_DOUBLINGS: u32 = 7;

/// What a worker knows of the room of a connection to a backend, besides the count of its streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// When it last had no room for a call.
    full_at: Option<Duration>,
    /// It takes no stream before.
    rests_until: Duration,
    /// Rests without the end of a stream between them.
    rests: u32,
}

impl Room {
    /// Whether a stream that is refused now found no place; the connection rests then. `is_full` says whether it was the last one
    /// that the connection had room for.
    fn is_refused(&mut self, now: Duration, is_full: bool) -> bool {
        if is_full {
            self.full_at = Some(now);
        }
        let was_full = self.full_at.is_some_and(|at| now <= at + FULL_LATELY);
        // Those that were sent together come back together: one rest.
        if was_full && self.rests_until <= now {
            self.rests_until = now + REST_MIN * (1 << self.rests.min(REST_DOUBLINGS));
            self.rests += 1;
        }
        was_full
    }

    /// A stream has ended: there is a place.
    fn wake(&mut self) {
        (self.rests_until, self.rests) = (Duration::ZERO, 0);
    }
}

impl Worker {
    /// A ready connection of this endpoint that may open one more stream. Without one, another connection is begun if
    /// the endpoint may have more (gRFC A105).
    pub(super) fn conn_with_room(&mut self, now: Duration, cluster: u32, slot: Slot) -> Option<ConnId> {
        let owner = &mut self.clusters[cluster as usize];
        let most_calls = owner.settings.max_calls_per_connection;
        let (mut found, mut used_up, mut rests_until) = (None, None, None::<Duration>);
        for id in owner.conns_of(slot) {
            let Some(Conn { http2, side: Side::Upstream(up), .. }) = self.conns.get_mut(id.index()) else {
                continue;
            };
            match http2.can_open() {
                Ok(()) if http2.last_opened().div_ceil(2) >= most_calls => used_up = Some(*id),
                Ok(()) if up.room.rests_until > now => {
                    let until = up.room.rests_until;
                    rests_until = Some(rests_until.map_or(until, |other| other.min(until)));
                }
                Ok(()) => {
                    found = Some(*id);
                    break;
                }
                // Going away although it is listed: its backend strained the ledger. It would never have room again.
                Err(OpenError::Exhausted | OpenError::GoingAway) => used_up = Some(*id),
                Err(OpenError::Full) => up.room.full_at = Some(now),
                Err(OpenError::NotOpen) => {}
            }
        }
        if found.is_none() {
            if let Some(until) = rests_until {
                owner.look_again(now, until);
            }
            self.make_room(now, cluster, slot, used_up);
        }
        found
    }

    /// No connection of this endpoint has room: one that is used up makes room for another, and another is begun if there may be one.
    fn make_room(&mut self, now: Duration, cluster: u32, slot: Slot, used_up: Option<ConnId>) {
        // It finishes its calls.
        if let Some(conn) = used_up {
            self.retire_upstream(now, conn);
        }
        let owner = &mut self.clusters[cluster as usize];
        let most = owner.settings.max_connections_per_endpoint;
        let conns = owner.endpoint_conns(slot);
        let in_use = conns.ready.len() + conns.connecting.len();
        if conns.connecting.is_empty() && in_use < most && conns.total < most * LEAVING_FACTOR {
            let at = conns.further_not_before;
            if at <= now {
                self.connect_further(now, cluster, slot);
            } else {
                owner.look_again(now, at);
            }
        }
    }

    /// What it means that a backend refused a stream of this connection, which still has it.
    pub(super) fn refused_stream(&mut self, now: Duration, conn: ConnId) -> AttemptEnd {
        let Some(Conn { http2, side: Side::Upstream(up), .. }) = self.conns.get_mut(conn.index()) else {
            return AttemptEnd::RefusedStream;
        };
        let is_full = http2.can_open() == Err(OpenError::Full);
        if up.room.is_refused(now, is_full) { AttemptEnd::NoPlace } else { AttemptEnd::RefusedStream }
    }

    /// A stream of this connection has ended, and calls wait.
    pub(super) fn wake_conn(&mut self, conn: ConnId) {
        if let Some(Conn { side: Side::Upstream(up), .. }) = self.conns.get_mut(conn.index()) {
            up.room.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_a_connection_that_is_or_just_was_full_has_no_place() {
        let mut room = Room::default();
        assert!(!room.is_refused(MS, false));
        assert_eq!(room.rests_until, Duration::ZERO);
        assert!(room.is_refused(MS, true) && room.is_refused(MS + FULL_LATELY, false));
        assert!(!room.is_refused(2 * MS + FULL_LATELY, false));
    }

    #[test]
    fn rests_grow_until_a_stream_ends_and_streams_that_come_back_together_make_one() {
        let mut room = Room::default();
        let mut now = MS;
        let mut rest = |room: &mut Room| {
            assert!(room.is_refused(now, true) && room.is_refused(now, true));
            let length = room.rests_until - now;
            now = room.rests_until;
            length.as_millis()
        };
        let lengths = [(); 10].map(|()| rest(&mut room));
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 64, 128, 128, 128]);
        room.wake();
        assert_eq!((room.rests_until, rest(&mut room)), (Duration::ZERO, 1));
    }
}
