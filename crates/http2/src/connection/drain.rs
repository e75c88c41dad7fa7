//! Going away without losing a stream: GOAWAY twice, with a round trip in between (RFC 9113 section 6.8).
//!
//! The first GOAWAY names 2^31-1: the peer stops opening streams, while those already on their way are still
//! accepted. A PING measures the round trip; when it is answered, or after [`crate::Limits::goaway_gap_max`], the
//! second GOAWAY names the last stream that was accepted. Sending only the second loses calls in flight
//! (envoyproxy/envoy#2305, cloudflare/pingora#388).

use core::time::Duration;

use super::{Connection, Phase};
use crate::error::ErrorCode;
use crate::frame::write_goaway;

/// The payload of the PING between the two GOAWAYs.
pub(super) const DRAIN_PING: [u8; 8] = *b"evn-go!\0";

/// How far a drain has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Drain {
    None,
    /// The first GOAWAY was written at this time.
    Announced(Duration),
    /// The second GOAWAY named this stream.
    Final(u32),
}

impl Connection {
    /// Begins to drain: the peer is asked to open no more streams, and none is lost. Calling it again changes
    /// nothing. `debug` tells the peer's operator why ("drain", "max_age", "idle").
    pub fn start_drain(&mut self, now: Duration, debug: &[u8]) {
        if self.drain != Drain::None || self.phase == Phase::Ended {
            return;
        }
        write_goaway(&mut self.output, 0x7fff_ffff, ErrorCode::NO_ERROR, debug);
        self.ping(DRAIN_PING);
        self.drain = Drain::Announced(now);
    }

    pub(super) fn finish_drain(&mut self) {
        if let Drain::Announced(_) = self.drain {
            write_goaway(&mut self.output, self.highest_peer, ErrorCode::NO_ERROR, b"");
            self.drain = Drain::Final(self.highest_peer);
        }
    }

    /// Whether the peer was asked to go away.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain != Drain::None
    }

    /// Whether a drain is over: the second GOAWAY is written and no stream is left. The owner flushes and closes.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self.drain, Drain::Final(_)) && self.streams.is_empty()
    }

    /// When the second GOAWAY is due without an answer to the PING.
    pub(super) fn drain_deadline(&self) -> Option<Duration> {
        match self.drain {
            Drain::Announced(at) => Some(at + self.limits.goaway_gap_max),
            _ => None,
        }
    }

    /// The last stream that the final GOAWAY accepted.
    pub(super) fn last_accepted(&self) -> u32 {
        match self.drain {
            Drain::Final(last) => last,
            _ => u32::MAX,
        }
    }
}
