//! What the owner does by itself, step by step: send, reset, consume, drain, and let time pass.

use core::time::Duration;

use evenkeel_http2::{ConnectionError, ErrorCode, Half};

use super::{Owner, literals};

/// Deadlines that may fall into one step. Each is handled once; a connection has few, and a stream one.
const TIMEOUTS_MAX: usize = 1000;

impl Owner {
    /// Does a step's action on the stream that `amount` chooses.
    pub(in crate::connection) fn act(&mut self, action: u8, amount: u8) {
        let chosen =
            self.calls.len().checked_sub(1).and_then(|last| {
                self.calls.values().nth(usize::from(amount) % (last + 1)).map(|call| call.key)
            });
        match (action % 12, chosen) {
            (0, _) => self.pass(Duration::from_millis(u64::from(amount))),
            (1, _) => self.pass(Duration::from_secs(u64::from(amount))),
            (2, _) => self.manner = amount,
            (3, _) => self.open(amount),
            (4, Some(stream)) => self.answer(stream),
            (5, Some(stream)) if !self.over => {
                // Out of order or too late is refused, and changes nothing.
                let half = self.http2.send_half(stream);
                let sent =
                    self.send(stream, &vec![amount; 7 * usize::from(amount)], amount.is_multiple_of(3));
                assert!(sent.is_err() || half == Half::Body, "DATA has its place");
            }
            (6, Some(stream)) => self.reset(stream, ErrorCode::CANCEL),
            (7, Some(stream)) => self.release(stream),
            (8, Some(stream)) => self.consume(stream, u32::from(amount)),
            (9, _) if !self.over => self.http2.ping([amount; 8]),
            (10, _) => self.http2.start_drain(self.now, b"drain"),
            (11, _) if amount == 0 => {
                self.http2.shut(ErrorCode::INTERNAL_ERROR, b"shut");
                self.end(ConnectionError::Ended);
            }
            _ => {}
        }
    }

    fn open(&mut self, amount: u8) {
        let can = self.http2.can_open();
        match self.http2.open(self.now, 0) {
            Ok(stream) => {
                assert_eq!(can, Ok(()));
                self.add(stream, false);
                // Without an answer's DATA and end, now and then: they follow by later steps.
                if amount.is_multiple_of(4) {
                    let block = literals(&[(":method", "GET"), (":scheme", "http"), (":path", "/a")]);
                    let sent = self.http2.send_headers(&mut self.fields.store, stream, &block, &[], false);
                    assert_eq!(sent, Ok(()));
                } else {
                    self.answer(stream);
                }
            }
            Err(error) => assert_eq!(can, Err(error)),
        }
    }

    /// Time passes; each deadline on the way is handled, and is then over.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..TIMEOUTS_MAX {
            let Some(deadline) = self.http2.deadline().filter(|deadline| *deadline <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(deadline);
            if let Err(error) = self.http2.handle_timeout(&mut self.fields, self.now) {
                assert!(!self.over, "an error is told once");
                self.end(error);
            }
            self.settle();
            assert!(
                self.http2.deadline().is_none_or(|next| next > self.now),
                "a deadline that was handled is over"
            );
        }
        panic!("{TIMEOUTS_MAX} deadlines in {time:?}");
    }
}
