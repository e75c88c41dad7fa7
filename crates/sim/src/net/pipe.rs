//! One direction of a connection: bytes on their way, bytes that wait to be read, and the bound on both together.

use core::time::Duration;
use std::collections::VecDeque;

/// How a connection behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkShape {
    /// The least time a byte is on its way.
    pub latency: Duration,
    /// How much longer it may be; bytes never overtake each other.
    pub jitter: Duration,
    /// Bytes that one direction carries in a millisecond.
    pub bytes_per_ms: u32,
    /// Bytes that may be written and not yet read, in one direction: both sockets' buffers.
    pub capacity: usize,
    /// The most bytes that one read returns; each read draws its own number up to this.
    pub read_bytes_max: usize,
}

impl LinkShape {
    /// A fast, wide connection.
    #[must_use]
    pub const fn local() -> Self {
        Self {
            latency: Duration::from_micros(100),
            jitter: Duration::ZERO,
            bytes_per_ms: 1_000_000,
            capacity: 4 * 1024 * 1024,
            read_bytes_max: 256 * 1024,
        }
    }

    /// From a write to the answer's arrival, if nothing holds either up.
    #[must_use]
    pub fn round_trip_max(&self) -> Duration {
        (self.latency + self.jitter) * 2
    }
}

/// How far the end of a direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fin {
    None,
    Sent(Duration),
    Arrived,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pipe {
    flight: VecDeque<(Duration, Vec<u8>)>,
    flight_bytes: usize,
    arrived: Vec<u8>,
    read: usize,
    fin: Fin,
    last_arrival: Duration,
    /// When the bytes written so far have left.
    idle_at: Duration,
    pub(super) stalled_until: Duration,
    /// Whether a write was cut short and its writer waits to be told.
    pub(super) is_blocked: bool,
    /// When a write was last cut short.
    pub(super) blocked_at: Option<Duration>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self {
            flight: VecDeque::new(),
            flight_bytes: 0,
            arrived: Vec::new(),
            read: 0,
            fin: Fin::None,
            last_arrival: Duration::ZERO,
            idle_at: Duration::ZERO,
            stalled_until: Duration::ZERO,
            is_blocked: false,
            blocked_at: None,
        }
    }

    /// Bytes that were written and not yet read.
    pub(super) fn unread(&self) -> usize {
        self.flight_bytes + self.waiting()
    }

    /// Bytes that arrived and were not yet read.
    pub(super) fn waiting(&self) -> usize {
        self.arrived.len() - self.read
    }

    /// Whether this direction was ended by its writer.
    pub(super) fn is_ended(&self) -> bool {
        self.fin != Fin::None
    }

    /// Whether the end has arrived, behind bytes that may be unread.
    pub(super) fn has_fin(&self) -> bool {
        self.fin == Fin::Arrived
    }

    /// Takes bytes on their way; returns when they arrive. `delay` is this segment's latency.
    pub(super) fn send(
        &mut self,
        now: Duration,
        bytes: &[u8],
        bytes_per_ms: u32,
        delay: Duration,
    ) -> Duration {
        let nanos = bytes.len() as u64 * 1_000_000 / u64::from(bytes_per_ms.max(1));
        self.idle_at = self.idle_at.max(now) + Duration::from_nanos(nanos);
        let arrival = (self.idle_at + delay).max(self.last_arrival);
        self.last_arrival = arrival;
        self.flight_bytes += bytes.len();
        self.flight.push_back((arrival, bytes.to_vec()));
        arrival
    }

    /// Ends this direction behind all bytes; returns when the end arrives.
    pub(super) fn finish(&mut self, now: Duration, delay: Duration) -> Duration {
        let arrival = (self.idle_at.max(now) + delay).max(self.last_arrival);
        self.last_arrival = arrival;
        self.fin = Fin::Sent(arrival);
        arrival
    }

    /// Lets everything arrive that is due; whether anything did.
    pub(super) fn arrive(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some((at, _)) = self.flight.front()
            && *at <= now
            && let Some((_, bytes)) = self.flight.pop_front()
        {
            self.flight_bytes -= bytes.len();
            self.arrived.extend_from_slice(&bytes);
            any = true;
        }
        if matches!(self.fin, Fin::Sent(at) if at <= now) {
            self.fin = Fin::Arrived;
            any = true;
        }
        any
    }

    /// Moves up to `most` arrived bytes to `out`; returns how many.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, most: usize) -> usize {
        let count = self.waiting().min(most);
        out.extend_from_slice(&self.arrived[self.read..self.read + count]);
        self.read += count;
        if self.read == self.arrived.len() {
            self.arrived.clear();
            self.read = 0;
        }
        count
    }

    /// Whether everything was read and the end has arrived.
    pub(super) fn is_at_end(&self) -> bool {
        self.fin == Fin::Arrived && self.unread() == 0
    }

    /// Loses all bytes.
    pub(super) fn discard(&mut self) {
        self.flight.clear();
        self.flight_bytes = 0;
        self.arrived.clear();
        self.read = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bytes_arrive_in_order_even_if_a_later_one_was_faster() {
        let mut pipe = Pipe::new();
        assert_eq!(pipe.send(Duration::ZERO, b"ab", u32::MAX, 5 * MS), 5 * MS);
        assert_eq!(pipe.send(MS, b"c", u32::MAX, MS), 5 * MS);
        assert!(!pipe.arrive(4 * MS));
        assert!(pipe.arrive(5 * MS));
        let mut out = Vec::new();
        assert_eq!(pipe.take(&mut out, 2), 2);
        assert_eq!((pipe.take(&mut out, 9), &out[..]), (1, &b"abc"[..]));
        assert!(!pipe.is_at_end());
        pipe.finish(6 * MS, MS);
        assert!(pipe.arrive(7 * MS) && pipe.is_at_end());
    }

    #[test]
    fn a_narrow_connection_takes_its_time() {
        let mut pipe = Pipe::new();
        assert_eq!(pipe.send(Duration::ZERO, &[0; 1000], 100, MS), 11 * MS);
        assert_eq!(pipe.send(Duration::ZERO, &[0; 100], 100, MS), 12 * MS);
        assert_eq!(pipe.unread(), 1100);
    }
}
