//! Room for one more stream at an endpoint: which of its connections takes it, and whether there is to be another connection.
//!
//! **A place that is none yet.** A server that allows four streams may refuse the one that is opened when the fourth has ended:
//! gRPC's core library counts a stream for a moment after its end has left. Calls that wait for a place meet that all the time: of 600
//! through one connection to grpcio's server a hundred did. Rule: a stream that is refused right after one of a full connection
//! ended found no place ([`AttemptEnd::NoPlace`]). Nothing else is taken for that: a backend that refuses whatever comes is overloaded.
//! The connection rests then: it takes no stream until another one of it has ended, or for a short time that grows. The call keeps
//! its turn, and waits.

use core::time::Duration;

use evenkeel_balance::{AttemptEnd, Slot};
use evenkeel_http2::OpenError;

use super::Worker;
use super::call::Leg;
use super::conn::{Conn, ConnId, Side};

/// How many times the connections in use an endpoint's connections may be, those included that only finish their calls: a
/// backend that goes away by age leaves some behind, one that always goes away must not make us hold more and more.
const LEAVING_FACTOR: usize = 4;

/// How long a backend may count a stream that has ended: two periods for which Linux stops a process that has used up its quota of
/// processor time (`cpu.max`), and some more.
const COUNTED_FOR: Duration = Duration::from_millis(250);

/// The first rest of a connection. Each that follows is twice as long.
const REST_MIN: Duration = Duration::from_millis(1);

/// How often the rest doubles: to 64 ms.
const REST_DOUBLINGS: u32 = 6;

/// What a worker knows of the room of a connection to a backend, besides the count of its streams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Room {
    /// When a stream ended last that was one of as many as the backend allows.
    left_full_at: Option<Duration>,
    /// It takes no stream before.
    rests_until: Duration,
    /// Rests without the end of a stream between them.
    rests: u32,
}

impl Room {
    /// Whether it takes no stream now, whatever the count says.
    #[inline]
    pub(super) fn rests(&self, now: Duration) -> bool {
        self.rests_until > now
    }

    /// Whether a stream that is refused now found no place; the connection rests then.
    fn is_refused(&mut self, now: Duration) -> bool {
        if self.left_full_at.is_none_or(|at| now > at + COUNTED_FOR) {
            return false;
        }
        // Those that were sent together come back together: one rest.
        if !self.rests(now) {
            self.rests_until = now + REST_MIN * (1 << self.rests.min(REST_DOUBLINGS));
            self.rests += 1;
        }
        true
    }

    /// A stream has ended that was not refused: there is a place.
    #[inline]
    fn ended(&mut self, now: Duration, was_full: bool) {
        (self.rests_until, self.rests) = (Duration::ZERO, 0);
        if was_full {
            self.left_full_at = Some(now);
        }
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
            let Some(Conn { http2, side: Side::Upstream(up), .. }) = self.conns.get(id.index()) else {
                continue;
            };
            match http2.can_open() {
                Ok(()) if http2.last_opened().div_ceil(2) >= most_calls => used_up = Some(*id),
                Ok(()) if up.room.rests(now) => {
                    let until = up.room.rests_until;
                    rests_until = Some(rests_until.map_or(until, |other| other.min(until)));
                }
                Ok(()) => {
                    found = Some(*id);
                    break;
                }
                // Going away although it is listed: its backend strained the ledger. It would never have room again.
                Err(OpenError::Exhausted | OpenError::GoingAway) => used_up = Some(*id),
                Err(OpenError::NotOpen | OpenError::Full) => {}
            }
        }
        if found.is_none() {
            if let Some(until) = rests_until {
                owner.look_again(until);
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
                owner.look_again(at);
            }
        }
    }

    /// What it means that a backend refused a stream of this connection.
    pub(super) fn refused_stream(&mut self, now: Duration, conn: ConnId) -> AttemptEnd {
        let Some(Conn { side: Side::Upstream(up), .. }) = self.conns.get_mut(conn.index()) else {
            return AttemptEnd::RefusedStream;
        };
        if up.room.is_refused(now) { AttemptEnd::NoPlace } else { AttemptEnd::RefusedStream }
    }

    /// Lets go of a stream of a backend's connection, whose attempt ended in this way; one that is still open is cancelled.
    pub(super) fn release_stream(&mut self, now: Duration, leg: Leg, end: &AttemptEnd) {
        self.touch(leg.conn);
        let Some(Conn { http2, side: Side::Upstream(up), .. }) = self.conns.get_mut(leg.conn.index()) else {
            return;
        };
        if !matches!(end, AttemptEnd::RefusedStream | AttemptEnd::NoPlace) {
            up.room.ended(now, http2.is_full());
        }
        http2.release(&mut self.fields, leg.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_right_after_the_end_of_a_stream_of_a_full_connection_is_there_no_place() {
        let mut room = Room::default();
        assert!(!room.is_refused(MS));
        room.ended(MS, false);
        assert!(!room.is_refused(MS) && !room.rests(MS));
        room.ended(MS, true);
        assert!(
            room.is_refused(MS)
                && room.is_refused(MS + COUNTED_FOR)
                && !room.is_refused(2 * MS + COUNTED_FOR)
        );
    }

    #[test]
    fn rests_grow_until_a_stream_ends_and_streams_that_come_back_together_make_one() {
        let mut room = Room::default();
        room.ended(MS, true);
        let mut now = MS;
        let mut rest = |room: &mut Room| {
            room.left_full_at = Some(now);
            assert!(room.is_refused(now) && room.is_refused(now));
            let length = room.rests_until - now;
            now = room.rests_until;
            length.as_millis()
        };
        let lengths = [(); 10].map(|()| rest(&mut room));
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        room.ended(MS, false);
        assert_eq!((room.rests_until, rest(&mut room)), (Duration::ZERO, 1));
    }
}
