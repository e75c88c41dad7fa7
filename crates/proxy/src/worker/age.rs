//! Connections of clients that are too old.
//!
//! Why: a gRPC client keeps one connection for as long as it works, so proxies and workers that came later get nothing of it.
//! A connection that reached its age is asked to go in two steps, as in a drain, so that no call is lost (gRFC A9).
//!
//! Rule: the age differs by up to a tenth in either direction, at random, as with gRPC's own servers: connections that came
//! together, after a restart, must not all go together.

use core::time::Duration;

use evenkeel_http2::ErrorCode;
use evenkeel_telemetry::{Event, ResponseFlag};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::Worker;
use super::conn::{ConnId, Side};

/// How old a client's connection may get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxAge {
    /// The age at which its client is asked to go, less or more up to a tenth.
    pub age: Duration,
    /// How long calls may go on after that; `None`: as long as they like.
    pub grace: Option<Duration>,
}

/// How far a connection is on its way to being too old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Age {
    /// Its client is to be asked to go at this time, and has this long for its calls then.
    Young { leave_at: Duration, grace: Option<Duration> },
    /// Its client was asked. What is left is ended at this time.
    Asked { cut_at: Option<Duration> },
}

impl Age {
    /// The age of a connection that was accepted now.
    pub(super) fn new(limit: MaxAge, now: Duration, rng: &mut SmallRng) -> Self {
        let age = limit.age.mul_f64(rng.random_range(0.9..=1.1));
        Self::Young { leave_at: now + age, grace: limit.grace }
    }

    /// When something is to be done about it.
    pub(super) fn due(&self) -> Option<Duration> {
        match *self {
            Self::Young { leave_at, .. } => Some(leave_at),
            Self::Asked { cut_at } => cut_at,
        }
    }
}

impl Worker {
    /// A client's connection is too old, or was asked to go and the grace for its calls is over.
    pub(super) fn on_aged(&mut self, now: Duration, id: ConnId) {
        self.touch(id);
        let Some(conn) = self.conns.get_mut(id.index()) else { return };
        let Side::Downstream(down) = &mut conn.side else { return };
        match down.age {
            None => {}
            Some(Age::Young { grace, .. }) => {
                down.age = Some(Age::Asked { cut_at: grace.map(|grace| now + grace) });
                conn.http2.start_drain(now, b"max_age");
                self.count(Event::ConnectionAged);
            }
            Some(Age::Asked { .. }) => {
                down.age = None;
                self.cut_aged(now, id);
            }
        }
    }

    /// Ends the calls that are left on a connection, and the connection behind them.
    fn cut_aged(&mut self, now: Duration, id: ConnId) {
        // Answers that are complete and may leave do so: nothing follows the GOAWAY.
        self.settle(now, id);
        let calls: Vec<u32> = self.conns[id.index()].http2.tokens().collect();
        for call in calls {
            if self.calls.get(call as usize).is_some_and(|call| call.down.conn == id) {
                let text = "the connection reached its max_connection_age, and its grace is over";
                self.cut_off(now, call, ResponseFlag::MaxDuration, text);
            }
        }
        self.settle(now, id);
        self.shut_conn(id, ErrorCode::NO_ERROR, b"max_age");
    }
}
