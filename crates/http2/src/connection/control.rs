//! Frames that steer the connection: SETTINGS, PING, GOAWAY, WINDOW_UPDATE.

use core::time::Duration;

use super::drain::DRAIN_PING;
use super::receive::{Handled, be32};
use super::{Connection, Event, Fields, Phase, Role};
use crate::error::{ErrorCode, StreamFailure, Violation};
use crate::flow::WINDOW_MAX;
use crate::frame::{Fault, FrameHeader, flag, write_ping, write_settings_ack};
use crate::ledger::cost;
use crate::limits::{ACKS_QUEUED_MAX, SETTINGS_FRAMES_MAX, SETTINGS_PERIOD};
use crate::settings::INITIAL_WINDOW;
use crate::stream::{Cut, StreamKey};

/// WINDOW_UPDATE frames and the DATA that explains them, by the second. Never more than two seconds' worth: a budget that
/// grew with all streams ever opened could be inflated (envoyproxy/envoy#45077).
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowUpdateMeter {
    since: Duration,
    updates: u32,
    data_frames: u32,
    /// DATA frames of the second before: the updates that answer them come a round trip later.
    data_frames_before: u32,
}

impl WindowUpdateMeter {
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, updates: 0, data_frames: 0, data_frames_before: 0 }
    }

    /// Counts one DATA frame that was sent.
    #[inline]
    pub(super) fn data_sent(&mut self, now: Duration) {
        self.roll(now);
        self.data_frames = self.data_frames.saturating_add(1);
    }

    /// Counts one update; whether it is beyond 5 + 2 x (active streams + 10 x DATA frames sent), Envoy's allowance.
    fn exceeds(&mut self, now: Duration, active: usize) -> bool {
        self.roll(now);
        self.updates += 1;
        let explained =
            (u64::from(self.data_frames) + u64::from(self.data_frames_before)) * 10 + active as u64;
        u64::from(self.updates) > u64::from(cost::WINDOW_UPDATES_FREE) + 2 * explained
    }

    #[inline]
    fn roll(&mut self, now: Duration) {
        const SECOND: Duration = Duration::from_secs(1);
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= SECOND {
            let before = if elapsed < 2 * SECOND { self.data_frames } else { 0 };
            *self = Self { data_frames_before: before, ..Self::new(now) };
        }
    }
}

/// Acknowledgements that wait in the output, and at most those of as much output again: a connection that always has something
/// to send must not count those that have long left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueuedAcks {
    /// Those that may still wait.
    pub(super) count: u32,
    /// Those among them that were queued since `mark` was set.
    behind_mark: u32,
    /// When the output up to here has left, all but those behind it have.
    pub(super) mark: usize,
}

impl QueuedAcks {
    /// The transport has taken `sent` of `length` bytes of output.
    #[inline]
    pub(super) fn sent(&mut self, sent: usize, length: usize) {
        if sent >= self.mark {
            *self = Self { count: self.behind_mark, behind_mark: 0, mark: length };
        }
    }
}

impl Connection {
    pub(super) fn on_window_update(
        &mut self,
        now: Duration,
        header: FrameHeader,
        payload: &[u8],
    ) -> Handled<'static> {
        if self.window_updates.exceeds(now, self.streams.len()) {
            self.charge(now, cost::WINDOW_UPDATE, Violation::Abuse).map_err(Fault::Connection)?;
        }
        let increment = be32(payload) & 0x7fff_ffff;
        if header.stream == 0 {
            if increment == 0 {
                return Err(Fault::Connection(Violation::WindowIncrement));
            }
            // The connection's window starts there whatever SETTINGS say (RFC 9113 section 6.9.2).
            self.credit.grow(increment, INITIAL_WINDOW).map_err(Fault::Connection)?;
            return Ok(None);
        }
        let Some(key) = self.streams.key(header.stream) else {
            // Updates may come for streams that have just ended (section 6.9): only idle ones are an error.
            return if self.is_idle(header.stream) {
                Err(Fault::Connection(Violation::IdleStream))
            } else {
                Ok(None)
            };
        };
        if increment == 0 {
            return Err(Fault::Stream(Violation::WindowIncrement));
        }
        let initial = self.peer.initial_window;
        let stream = self.streams.get_mut(key).expect("the key was looked up just now");
        stream.credit.grow(increment, initial).map_err(Fault::Stream)?;
        if stream.queue.is_some() {
            self.list(key);
        }
        Ok(None)
    }

    pub(super) fn on_ping(&mut self, now: Duration, header: FrameHeader, payload: &[u8]) -> Handled<'static> {
        let payload: [u8; 8] = payload.try_into().expect("the frame table admits 8 bytes only");
        if header.has(flag::ACK) {
            return self.on_ping_ack(now, payload);
        }
        if !core::mem::take(&mut self.ping_explained) {
            self.charge(now, cost::PING, Violation::PingFlood).map_err(Fault::Connection)?;
        }
        self.strike(now).map_err(Fault::Connection)?;
        self.queue_ack().map_err(Fault::Connection)?;
        write_ping(&mut self.output, payload, true);
        Ok(None)
    }

    fn on_ping_ack(&mut self, now: Duration, payload: [u8; 8]) -> Handled<'static> {
        let Some(open) = self.pings_open.checked_sub(1) else {
            self.charge(now, cost::PING, Violation::PingFlood).map_err(Fault::Connection)?;
            return Ok(None);
        };
        self.pings_open = open;
        if payload == DRAIN_PING {
            self.finish_drain();
            return Ok(None);
        }
        Ok(Some(Event::PingAcknowledged { payload }))
    }

    /// gRFC A8: keepalive PINGs that come too often, with nothing in between that would make them useful.
    fn strike(&mut self, now: Duration) -> Result<(), Violation> {
        let early =
            self.last_ping_at.is_some_and(|at| now.saturating_sub(at) < self.limits.ping_interval_min);
        self.last_ping_at = Some(now);
        if self.role == Role::Client || !early {
            return Ok(());
        }
        self.ping_strikes += 1;
        if self.ping_strikes > self.limits.ping_strikes { Err(Violation::TooManyPings) } else { Ok(()) }
    }

    fn queue_ack(&mut self) -> Result<(), Violation> {
        self.acks.count += 1;
        self.acks.behind_mark += 1;
        if self.acks.count > ACKS_QUEUED_MAX { Err(Violation::PingFlood) } else { Ok(()) }
    }

    pub(super) fn on_settings(
        &mut self,
        now: Duration,
        header: FrameHeader,
        payload: &[u8],
    ) -> Handled<'static> {
        if header.has(flag::ACK) {
            return match (header.length, self.settings_sent_at.take()) {
                (0, Some(_)) => Ok(None),
                (0, None) => Err(Fault::Connection(Violation::SettingsAck)),
                _ => Err(Fault::Connection(Violation::FrameLength)),
            };
        }
        let first = self.phase == Phase::FirstSettings;
        if !first {
            self.meter_settings(now).map_err(Fault::Connection)?;
        }
        let before = self.peer;
        let smallest_table =
            self.peer.apply(payload, self.role == Role::Client).map_err(Fault::Connection)?;
        if let Some(smallest) = smallest_table {
            // A table that was to shrink in between has lost its entries (RFC 7541 section 4.2).
            self.encoder.set_peer_limit(smallest);
            self.encoder.set_peer_limit(self.peer.header_table_bytes);
        }
        self.on_initial_window(now, before.initial_window).map_err(Fault::Connection)?;
        self.queue_ack().map_err(Fault::Connection)?;
        write_settings_ack(&mut self.output);
        self.phase = Phase::Open;
        Ok(first.then_some(Event::Ready))
    }

    fn meter_settings(&mut self, now: Duration) -> Result<(), Violation> {
        self.charge(now, cost::SETTINGS, Violation::SettingsFlood)?;
        let (since, count) = &mut self.settings_period;
        if now.saturating_sub(*since) >= SETTINGS_PERIOD {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > SETTINGS_FRAMES_MAX { Err(Violation::SettingsFlood) } else { Ok(()) }
    }

    /// All streams' windows follow the initial window by definition ([`crate::flow::SendCredit`]); what remains is
    /// to see that none overflows and to wake those that wait. That looks at each stream once, which a raise is charged for
    /// as any SETTINGS frame is ([`cost::SETTINGS`], and ten frames in ten seconds at most).
    fn on_initial_window(&mut self, now: Duration, before: u32) -> Result<(), Violation> {
        let initial = self.peer.initial_window;
        if initial < before {
            return self.charge(now, cost::WINDOW_REDUCTION, Violation::SettingsFlood);
        }
        if initial > before && !self.streams.is_empty() {
            if self.streams.iter_mut().any(|stream| stream.credit.window(initial) > WINDOW_MAX) {
                return Err(Violation::WindowOverflow);
            }
            let waiting: Vec<StreamKey> = self.streams.keys().collect();
            for key in waiting {
                if self.streams.get(key).is_some_and(|stream| stream.queue.is_some()) {
                    self.list(key);
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_goaway<'a>(&mut self, now: Duration, payload: &'a [u8]) -> Handled<'a> {
        self.charge(now, cost::GOAWAY, Violation::Abuse).map_err(Fault::Connection)?;
        let last_stream = be32(payload) & 0x7fff_ffff;
        let code = ErrorCode(be32(&payload[4..]));
        if self.peer_goaway.is_some_and(|(before, _)| last_stream > before) {
            return Err(Fault::Connection(Violation::GoAwayRaised));
        }
        self.peer_goaway = Some((last_stream, code));
        if self.role == Role::Client {
            debug_assert!(self.refused.is_empty(), "they are reported before the next frame is read");
            self.refused.extend(self.streams.keys().filter(|key| key.id() > last_stream));
        }
        Ok(Some(Event::GoAway { last_stream, code, debug: &payload[8..] }))
    }

    /// The next stream that a GOAWAY of the peer cut off.
    pub(super) fn next_refused(&mut self, fields: &mut Fields) -> Option<Event<'static>> {
        let (_, code) = self.peer_goaway?;
        loop {
            let key = self.refused.pop()?;
            if let Some(event) = self.cut_off(fields, key, Cut::ByPeer, StreamFailure::GoAway(code)) {
                return Some(event);
            }
        }
    }
}
