//! Where a worker tells its statistics what happened. Nothing else in the worker knows how things are counted.
use super::{ConnId, Worker};
use core::time::Duration;
use evenkeel_balance::Slot;
use evenkeel_http2::ConnectionError;
impl Worker {
    pub(super) fn on_attempt_started(&mut self, _id: u32) {}
    pub(super) fn on_attempt_finished(&mut self, _now: Duration, _id: u32) {}
    pub(super) fn on_call_finished(&mut self, _now: Duration, _id: u32) {}
    pub(super) fn on_connect_result(&mut self, _cluster: u32, _slot: Slot, _ok: bool) {}
    pub(super) fn note_violation(&mut self, _conn: ConnId, _error: ConnectionError) {}
}
