//! A client and a server under random schedules: no byte of credit is lost or made.

use core::time::Duration;

use proptest::prelude::*;

use super::subject::{Seen, Subject};
use super::wire::{EARLY_HINTS, OK, wire};
use crate::connection::Role;
use crate::error::ErrorCode;
use crate::limits::Limits;
use crate::settings::INITIAL_WINDOW;
use crate::{Half, SendError, StreamKey};

/// One step of a random schedule: what, on which stream, how much.
type Step = (u8, u8, u16);

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u16>()), 0..most)
}

/// Both ends, with bytes on their way between them.
struct Schedule {
    ends: [Subject; 2],
    /// Bytes that the other end wrote and this end has not got.
    pipes: [Vec<u8>; 2],
    /// DATA that arrived at each end and is not consumed, by stream.
    unread: [Vec<(u32, u32)>; 2],
    /// Streams that each end knows of.
    known: [Vec<u32>; 2],
}

/// A schedule also tries what is out of order, or too late.
fn try_it<T>(_result: Result<T, SendError>) {}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Schedule {
    fn new(window: u32) -> Self {
        let limits = |limits: Limits| Limits {
            stream_window_bytes: window,
            connection_window_bytes: INITIAL_WINDOW,
            held_allowance_bytes: 0,
            ledger_burst: 1 << 30,
            idle_timeout: None,
            ..limits
        };
        let mut ends = [
            Subject::new(Role::Client, limits(Limits::upstream())),
            Subject::new(Role::Server, Limits { max_concurrent_streams: 5, ..limits(Limits::edge()) }),
        ];
        for end in &mut ends {
            end.consumes = false;
        }
        Self { ends, pipes: Default::default(), unread: Default::default(), known: Default::default() }
    }

    fn step(&mut self, (what, which, amount): Step) {
        let end = usize::from(what >> 7);
        let stream = self.known[end].get(usize::from(which) % self.known[end].len().max(1)).copied();
        match (what & 0x0f, stream) {
            (0 | 1, _) => self.deliver(end, usize::from(amount)),
            (2, _) => self.collect(end),
            (3, _) => self.open(amount),
            (4 | 5, Some(stream)) => self.send(end, stream, usize::from(amount) % 9_000, false),
            (6, Some(stream)) => self.send(end, stream, usize::from(amount) % 100, true),
            (7, Some(stream)) => try_it(self.ends[end].trailers(stream)),
            (8, Some(stream)) if end == SERVER => {
                try_it(self.ends[end].headers(stream, OK, amount.is_multiple_of(4)));
            }
            (9, Some(stream)) if end == SERVER => try_it(self.ends[end].informational(stream, EARLY_HINTS)),
            (10, Some(stream)) if amount.is_multiple_of(4) => self.ends[end].reset(stream, ErrorCode::CANCEL),
            (11, Some(stream)) if self.is_over(end, stream) => self.release(end, stream),
            (12 | 13, _) => self.read(end, usize::from(which), u32::from(amount)),
            (14, _) => {
                for end in &mut self.ends {
                    end.pass(Duration::from_millis(u64::from(amount) % 80)).expect("no deadline is missed");
                }
            }
            _ => {}
        }
        self.check();
    }

    fn open(&mut self, amount: u16) {
        let client = &mut self.ends[CLIENT];
        if client.http2.can_open().is_ok() {
            let stream = client.request(amount.is_multiple_of(8));
            self.known[CLIENT].push(stream);
        }
    }

    fn send(&mut self, end: usize, stream: u32, bytes: usize, last: bool) {
        let subject = &mut self.ends[end];
        // The bound of a queue is its feeder's window: an owner that respects it asks before it sends.
        if !subject.http2.has_queued(subject.key(stream)) {
            try_it(subject.data(stream, &vec![stream as u8; bytes], last));
        }
    }

    /// Whether a stream has ended both ways.
    fn is_over(&self, end: usize, stream: u32) -> bool {
        let subject = &self.ends[end];
        let key: StreamKey = subject.key(stream);
        subject.http2.send_half(key) == Half::Closed && subject.http2.receive_half(key) == Half::Closed
    }

    fn release(&mut self, end: usize, stream: u32) {
        self.ends[end].release(stream);
        self.known[end].retain(|&known| known != stream);
        self.unread[end].retain(|&(unread, _)| unread != stream);
    }

    /// The transport takes what an end has written.
    fn collect(&mut self, end: usize) {
        let bytes = self.ends[end].take_output();
        self.pipes[1 - end].extend_from_slice(&bytes);
    }

    /// Some bytes arrive at an end.
    fn deliver(&mut self, end: usize, bytes: usize) {
        let bytes = bytes.min(self.pipes[end].len());
        let arrived = self.pipes[end].drain(..bytes).collect::<Vec<u8>>();
        for seen in self.ends[end].feed(wire().raw(&arrived)) {
            match seen {
                Seen::Request { stream, .. } => self.known[end].push(stream),
                Seen::Data { stream, bytes, .. } => self.unread[end].push((stream, bytes.len() as u32)),
                // The subject let go of it.
                Seen::Failed(stream, _) => self.release(end, stream),
                Seen::Error(error) => panic!("an honest peer was refused: {error}"),
                _ => {}
            }
        }
    }

    /// An owner is done with some bytes.
    fn read(&mut self, end: usize, which: usize, most: u32) {
        let unread = &mut self.unread[end];
        if unread.is_empty() {
            return;
        }
        let at = which % unread.len();
        let (stream, bytes) = unread[at];
        let bytes = bytes.min(most);
        unread[at].1 -= bytes;
        if unread[at].1 == 0 {
            unread.remove(at);
        }
        self.ends[end].consume(stream, bytes);
    }

    fn check(&self) {
        for (end, unread) in self.unread.iter().enumerate() {
            let http2 = &self.ends[end].http2;
            let held: u32 = unread.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(http2.held_bytes(), held, "what is held is what was not read");
            let streams = http2.streams.keys();
            let queued: usize = streams.map(|stream| http2.queued_memory(stream)).sum();
            assert_eq!(http2.queued_memory, queued, "queues are summed as they come and go");
            assert!(http2.window.available() + held <= INITIAL_WINDOW);
        }
    }

    /// Everything is read, every stream ends, and all bytes arrive.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            for end in [CLIENT, SERVER] {
                self.collect(end);
                self.deliver(end, usize::MAX);
                while !self.unread[end].is_empty() {
                    self.read(end, 0, u32::MAX);
                }
                for stream in self.known[end].clone() {
                    self.finish_stream(end, stream);
                }
                self.ends[end].pass(Duration::from_millis(50)).expect("no deadline is missed");
                self.check();
            }
            let quiet = self.pipes.iter().all(Vec::is_empty)
                && self.ends.iter().all(|end| end.http2.output().is_empty() && end.input.is_empty())
                && self.known.iter().all(Vec::is_empty);
            if quiet {
                return;
            }
        }
        panic!("the streams {:?} never end", self.known);
    }

    fn finish_stream(&mut self, end: usize, stream: u32) {
        if self.is_over(end, stream) {
            self.release(end, stream);
            return;
        }
        let key = self.ends[end].key(stream);
        if self.ends[end].http2.has_queued(key) {
            return;
        }
        match self.ends[end].http2.send_half(key) {
            Half::Head => try_it(self.ends[end].headers(stream, OK, true)),
            Half::Body => try_it(self.ends[end].data(stream, b"", true)),
            Half::Closed => {}
        }
    }
}

proptest! {
    /// Whatever two honest ends do in whatever order, neither is refused, no byte of credit is lost or made, all streams
    /// end, and (as each is dropped) no field is kept.
    #[test]
    fn honest_ends_agree_about_every_byte_of_credit(window in prop_oneof![Just(2_000_u32), Just(INITIAL_WINDOW), Just(100_000)], steps in steps(400)) {
        let mut schedule = Schedule::new(window);
        for end in [SERVER, CLIENT, SERVER] {
            schedule.collect(1 - end);
            schedule.deliver(end, usize::MAX);
        }
        for step in steps {
            schedule.step(step);
        }
        schedule.finish();
        for end in [CLIENT, SERVER] {
            let (this, other) = (&schedule.ends[end].http2, &schedule.ends[1 - end].http2);
            prop_assert_eq!(this.stream_count(), 0);
            prop_assert_eq!(this.held_bytes(), 0);
            prop_assert_eq!(this.credit.window(INITIAL_WINDOW), i64::from(other.window.available()));
            prop_assert!(other.window.available() > INITIAL_WINDOW / 2, "a window that is released never stalls");
        }
    }
}
