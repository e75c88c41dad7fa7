//! What is to happen, and when: a queue ordered by (time, sequence), so that equal times keep the order of their causes.

use core::cmp::{Ordering, Reverse};
use core::time::Duration;
use std::collections::BinaryHeap;

use evenkeel_balance::health_check::{CheckId, CheckResult};

use crate::net::{LinkId, Side};

/// Something that happens at a point in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Bytes, or the end of them, that `from` sent arrive at the other side.
    Arrive { link: LinkId, from: Side },
    /// A reset reaches this side.
    Reset { link: LinkId, to: Side },
    /// The connection is established, as its acceptor sees it.
    Accepted { link: LinkId },
    /// The connection is established, as its initiator sees it.
    Connected { link: LinkId },
    /// The connection was refused.
    Refused { link: LinkId },
    /// The transport takes bytes again from this side.
    Writable { link: LinkId, side: Side },
    /// The worker's thread runs; void unless its driver still plans a turn for this time.
    WorkerTurn,
    /// A client's timer.
    Client { client: usize, timer: ClientTimer },
    /// A backend's timer.
    Backend { backend: usize, timer: BackendTimer },
    /// Something of a health check.
    Check(CheckEvent),
    /// The fault at this position of the setup.
    Fault(usize),
}

/// What happens to a health check. Endpoints are named by the key that their checks have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CheckEvent {
    /// One may be due, or its answer overdue.
    Due { key: u32 },
    /// One arrives at its backend.
    Arrived { key: u32, check: CheckId },
    /// Its answer arrives.
    Answered { key: u32, check: CheckId, result: CheckResult },
}

/// What a client's timer is for. Calls are named by their identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientTimer {
    /// The call's turn to start has come.
    Start(u32),
    /// The next message of the request is due.
    Send(u32),
    /// Bytes that were held back are consumed.
    Consume(u32),
    /// The caller loses interest.
    Cancel(u32),
    /// The call should have ended by now.
    Overdue(u32),
    /// A new connection may be begun.
    Reconnect,
    /// A deadline of the connection at this position.
    Engine(usize),
}

/// What a backend's timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BackendTimer {
    /// The next step of the answer to a call on the connection at this position.
    Step { conn: usize, call: u32 },
    /// Bytes that were held back are consumed.
    Consume { conn: usize, call: u32 },
    /// A deadline of the connection at this position.
    Engine(usize),
    /// The backend accepts connections again.
    Restarted { life: u32 },
}

/// An event to come; its time and number decide when.
#[derive(Debug)]
struct Entry {
    at: Duration,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    events: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl EventQueue {
    pub(crate) fn push(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Entry { at, number: self.sequence, event }));
    }

    /// The earliest event, if it is due by `until`.
    pub(crate) fn pop(&mut self, until: Duration) -> Option<(Duration, Event)> {
        if self.events.peek()?.0.at > until {
            return None;
        }
        self.events.pop().map(|Reverse(Entry { at, event, .. })| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order_of_arrival() {
        let ms = Duration::from_millis;
        let mut queue = EventQueue::default();
        queue.push(ms(2), Event::Fault(0));
        queue.push(ms(1), Event::Fault(1));
        queue.push(ms(2), Event::Fault(2));
        assert_eq!(queue.pop(ms(2)), Some((ms(1), Event::Fault(1))));
        assert_eq!(queue.pop(ms(1)), None, "nothing more is due by then");
        assert_eq!(queue.pop(ms(2)), Some((ms(2), Event::Fault(0))));
        assert_eq!(queue.pop(ms(9)), Some((ms(2), Event::Fault(2))));
        assert_eq!(queue.pop(ms(9)), None);
    }
}
