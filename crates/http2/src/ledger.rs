//! The abuse ledger: what a peer's cheap frames cost us, in points that only time gives back.
//!
//! Attacks on HTTP/2 servers share one shape: a frame that costs its sender nothing makes the receiver work (resets,
//! PING, SETTINGS, empty frames, tiny window updates). A limit for each such frame has to be guessed and
//! has gaps; one balance for all has neither. Rule: each event costs points, the balance refills with time up to a
//! burst, and a stream that a backend completed gives one point back ([`crate::Connection::credit_completed`]), because a
//! hedging gRPC client may rightly cancel thousands of calls a second; one that was reset, by whomever, or that this side
//! answered by itself gives none. At 75 % the connection is asked to go (GOAWAY NO_ERROR, so that slightly broken
//! peers survive: HAProxy's idea); at 100 % it ends.
//!
//! The balance never depends on counters that a peer can raise for free: Envoy's budgets grew with the streams
//! ever opened, which an attacker churned to inflate them (envoyproxy/envoy#45077).

use core::time::Duration;

/// What events cost, in points.
pub mod cost {
    /// A reset by the peer of a stream younger than a second, before our response (CVE-2023-44487).
    pub const PREMATURE_RESET: u32 = 1;
    /// A reset by a client of a stream that is closed already, beyond one for each stream that this side ended
    /// ([`LATE_RESETS_FREE_MAX`](crate::limits::LATE_RESETS_FREE_MAX)): those crossed our answer.
    pub const LATE_RESET: u32 = 1;
    /// A stream error that the peer made us answer (CVE-2025-8671, "MadeYouReset").
    pub const STREAM_ERROR: u32 = 2;
    /// A SETTINGS frame (CVE-2019-9515).
    pub const SETTINGS: u32 = 5;
    /// A reduction of SETTINGS_INITIAL_WINDOW_SIZE, on top of its SETTINGS frame (CVE-2026-78669).
    pub const WINDOW_REDUCTION: u32 = 5;
    /// A PING, unless DATA or HEADERS left for the peer since its last one (CVE-2019-9512): grpc-go measures the
    /// bandwidth with one PING for each round trip in which it receives. Also an acknowledgement of no PING.
    pub const PING: u32 = 1;
    /// A PRIORITY frame (CVE-2019-9513).
    pub const PRIORITY: u32 = 1;
    /// A WINDOW_UPDATE beyond [`WINDOW_UPDATES_FREE`], two for each active stream and twenty for each DATA frame sent.
    pub const WINDOW_UPDATE: u32 = 1;
    /// An empty frame without END_STREAM beyond one in a row (CVE-2019-9518).
    pub const EMPTY_FRAME: u32 = 2;
    /// A frame of an unknown type.
    pub const UNKNOWN_FRAME: u32 = 1;
    /// A stream above SETTINGS_MAX_CONCURRENT_STREAMS, or above the last stream of the final GOAWAY.
    pub const REFUSED_STREAM: u32 = 1;
    /// A client's header block for a stream that we reset: decoded for the table's sake only.
    pub const LATE_HEADERS: u32 = 1;
    /// A GOAWAY: a peer needs two.
    pub const GOAWAY: u32 = 1;
    /// WINDOW_UPDATE frames that cost nothing in any second (Envoy's 5).
    pub const WINDOW_UPDATES_FREE: u32 = 5;
}

/// The verdict on a charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Within the budget.
    Fine,
    /// Three quarters of the budget are gone: end the connection gracefully.
    Strained,
    /// The budget is gone: end the connection now.
    Exhausted,
}

/// Thousandths of a point, so that refill by milliseconds loses nothing.
const SCALE: u64 = 1000;

/// The balance of one connection.
#[derive(Clone, Debug)]
pub struct Ledger {
    spent: u64,
    refilled_at: Duration,
    burst: u64,
    per_second: u64,
}

impl Ledger {
    /// A full balance of `burst` points that gets `per_second` points back each second.
    #[must_use]
    pub fn new(now: Duration, burst: u32, per_second: u32) -> Self {
        Self {
            spent: 0,
            refilled_at: now,
            burst: u64::from(burst) * SCALE,
            per_second: u64::from(per_second),
        }
    }

    /// Takes `points` and says how the connection stands.
    pub fn charge(&mut self, now: Duration, points: u32) -> Verdict {
        self.refill(now);
        self.spent = (self.spent + u64::from(points) * SCALE).min(self.burst);
        if self.spent >= self.burst {
            Verdict::Exhausted
        } else if self.spent * 4 >= self.burst * 3 {
            Verdict::Strained
        } else {
            Verdict::Fine
        }
    }

    /// Gives one point back for a stream that completed.
    #[inline]
    pub fn credit(&mut self) {
        self.spent = self.spent.saturating_sub(SCALE);
    }

    /// Points spent and not yet given back.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.spent / SCALE
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.refilled_at);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            self.refilled_at = now;
            self.spent = self.spent.saturating_sub(millis.saturating_mul(self.per_second));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Duration = Duration::from_secs(100);

    #[test]
    fn warns_at_three_quarters_and_ends_at_the_burst() {
        let mut ledger = Ledger::new(T0, 200, 20);
        assert_eq!(ledger.charge(T0, 149), Verdict::Fine);
        assert_eq!(ledger.charge(T0, 1), Verdict::Strained);
        assert_eq!(ledger.charge(T0, 49), Verdict::Strained);
        assert_eq!(ledger.charge(T0, 1), Verdict::Exhausted);
    }

    #[test]
    fn time_gives_points_back_at_the_rate_and_never_more_than_were_spent() {
        let mut ledger = Ledger::new(T0, 200, 20);
        ledger.charge(T0, 100);
        ledger.charge(T0 + Duration::from_secs(2), 0);
        assert_eq!(ledger.spent(), 60);
        ledger.charge(T0 + Duration::from_secs(3600), 0);
        assert_eq!(ledger.spent(), 0);
    }

    #[test]
    fn a_steady_rate_below_the_refill_never_warns() {
        let mut ledger = Ledger::new(T0, 200, 20);
        for i in 0..10_000_u64 {
            assert_eq!(ledger.charge(T0 + Duration::from_millis(i * 50), 1), Verdict::Fine);
        }
    }

    #[test]
    fn completed_streams_pay_for_cancelled_ones() {
        let mut ledger = Ledger::new(T0, 200, 20);
        for _ in 0..10_000 {
            assert_eq!(ledger.charge(T0, 1), Verdict::Fine);
            ledger.credit();
        }
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let mut ledger = Ledger::new(T0, 200, 20);
        ledger.charge(T0, 100);
        ledger.charge(T0 - Duration::from_secs(50), 0);
        assert_eq!(ledger.spent(), 100);
    }
}
