//! The network: connections with latency, narrow and stalled ones, refusals, resets, and half-closed ends.
//!
//! It behaves as TCP does where it matters to a proxy: bytes arrive in order but cut at any place; a write takes what the
//! buffers have room for; the end of a direction comes behind its bytes; a reset destroys what was not yet read; closing a
//! socket with unread input resets the connection; and writing to a closed one is answered with a reset.

mod pipe;
mod wire;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::SmallRng;

pub use self::pipe::LinkShape;
use self::pipe::Pipe;
use self::wire::Conversation;
use crate::event::{Event, EventQueue};
use crate::stats::{Happening, Stats, Trace};

/// Names a connection.
pub(crate) type LinkId = usize;

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The end that connected.
    Initiator,
    /// The end that accepted.
    Acceptor,
}

impl Side {
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Acceptor,
            Self::Acceptor => Self::Initiator,
        }
    }
}

/// Whose end it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Worker,
    Client(usize),
    Backend(usize),
}

/// What becomes of connection attempts to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accept {
    /// They succeed.
    Open,
    /// They are refused after a round trip.
    Refusing,
    /// They are never answered.
    Silent,
    /// They fail before anything is sent.
    Unreachable,
}

/// What a read came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Read {
    Bytes(usize),
    Nothing,
    Eof,
    Reset,
}

/// The transport is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

#[derive(Debug)]
struct Link {
    owners: [Owner; 2],
    shape: LinkShape,
    is_established: bool,
    /// Whether the attempt succeeds.
    is_answered: bool,
    /// By side: what that side sends.
    pipes: [Pipe; 2],
    is_open: [bool; 2],
    was_reset: [bool; 2],
    wire: Conversation,
}

/// All connections, and all that the parts of a world share: time, chance, and the record of what happens.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) now: Duration,
    pub(crate) queue: EventQueue,
    pub(crate) rng: SmallRng,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    /// The first rule that was broken.
    pub(crate) violation: Option<String>,
    links: Vec<Link>,
    listening: BTreeMap<SocketAddr, (Owner, Accept)>,
}

impl Net {
    pub(crate) fn new(seed: u64, rng: SmallRng) -> Self {
        Self {
            now: Duration::ZERO,
            queue: EventQueue::default(),
            rng,
            trace: Trace::new(seed),
            stats: Stats::default(),
            violation: None,
            links: Vec::new(),
            listening: BTreeMap::new(),
        }
    }

    /// Notes that a rule was broken; the first one counts.
    pub(crate) fn violate(&mut self, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(text());
        }
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.queue.push(self.now + wait, event);
    }

    pub(crate) fn listen(&mut self, address: SocketAddr, owner: Owner, accept: Accept) {
        self.listening.insert(address, (owner, accept));
    }

    /// What becomes of connection attempts to an address now.
    pub(crate) fn accepting(&self, address: SocketAddr) -> Accept {
        self.listening.get(&address).map_or(Accept::Unreachable, |(_, accept)| *accept)
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// The system's words, if it fails at once.
    pub(crate) fn connect(
        &mut self,
        owner: Owner,
        to: SocketAddr,
        shape: LinkShape,
    ) -> Result<LinkId, &'static str> {
        let Some((acceptor, accept)) = self.listening.get(&to).copied() else {
            return Err("no such address");
        };
        if accept == Accept::Unreachable {
            self.stats.count(Happening::ConnectUnreachable);
            return Err("network is unreachable");
        }
        let link = self.links.len();
        self.links.push(Link {
            owners: [owner, acceptor],
            shape,
            is_established: false,
            is_answered: accept == Accept::Open,
            pipes: [Pipe::new(), Pipe::new()],
            is_open: [true, accept == Accept::Open],
            was_reset: [false; 2],
            wire: Conversation::new(),
        });
        let there = self.delay(link);
        let back = there + self.delay(link);
        match accept {
            Accept::Open => {
                self.after(there, Event::Accepted { link });
                self.after(back, Event::Connected { link });
            }
            Accept::Refusing => {
                self.stats.count(Happening::ConnectRefused);
                self.after(back, Event::Refused { link });
            }
            Accept::Silent | Accept::Unreachable => self.stats.count(Happening::ConnectUnanswered),
        }
        Ok(link)
    }

    /// One segment's latency.
    fn delay(&mut self, link: LinkId) -> Duration {
        let LinkShape { latency, jitter, .. } = self.links[link].shape;
        if jitter.is_zero() {
            return latency;
        }
        latency + Duration::from_nanos(self.rng.random_range(0..=jitter.as_nanos() as u64))
    }

    pub(crate) fn owner(&self, link: LinkId, side: Side) -> Owner {
        self.links[link].owners[side.index()]
    }

    pub(crate) fn shape(&self, link: LinkId) -> LinkShape {
        self.links[link].shape
    }

    /// The attempt has succeeded for its initiator; whether that is still of interest.
    pub(crate) fn establish(&mut self, link: LinkId) -> bool {
        self.links[link].is_established = true;
        self.links[link].is_open[Side::Initiator.index()]
    }

    /// Connections that are in use at both ends.
    pub(crate) fn live(&self) -> Vec<LinkId> {
        let is_live =
            |link: &Link| link.is_established && link.is_open == [true; 2] && link.was_reset == [false; 2];
        (0..self.links.len()).filter(|link| is_live(&self.links[*link])).collect()
    }

    /// Writes what the buffers have room for; fewer bytes than offered mean that [`Event::Writable`] follows.
    ///
    /// # Errors
    /// [`Broken`] if the connection was reset or this side was ended.
    pub(crate) fn write(&mut self, link: LinkId, side: Side, bytes: &[u8]) -> Result<usize, Broken> {
        let record = &mut self.links[link];
        if side == Side::Initiator && !record.is_established {
            self.violate(|| "bytes were written before the connection was established".to_owned());
            return Err(Broken);
        }
        let pipe = &mut record.pipes[side.index()];
        if record.was_reset[side.index()] || pipe.is_ended() {
            return Err(Broken);
        }
        let count = record.shape.capacity.saturating_sub(pipe.unread()).min(bytes.len());
        if count < bytes.len() {
            pipe.is_blocked = true;
            pipe.blocked_at = Some(self.now);
            self.stats.count(Happening::PartialWrite);
        }
        let bytes = &bytes[..count];
        if let Err(rule) = record.wire.observe(side, bytes) {
            let owner = record.owners[side.index()];
            self.violate(|| format!("{owner:?} broke HTTP/2 on the wire: {rule}"));
        }
        self.trace.note(self.now, &[1, link as u64, side as u64, count as u64]);
        // Most writes arrive in one piece, some in two.
        let cut = if count > 1 && self.rng.random_ratio(1, 4) { self.rng.random_range(1..count) } else { 0 };
        for part in [&bytes[..cut], &bytes[cut..]] {
            if !part.is_empty() {
                let delay = self.delay(link);
                let record = &mut self.links[link];
                let rate = record.shape.bytes_per_ms;
                let at = record.pipes[side.index()].send(self.now, part, rate, delay);
                self.queue.push(at, Event::Arrive { link, from: side });
            }
        }
        Ok(count)
    }

    /// Reads up to `most` bytes that have arrived, and tells the writer if it waits for room.
    pub(crate) fn read(&mut self, link: LinkId, side: Side, out: &mut Vec<u8>, most: usize) -> Read {
        let from = side.other();
        let record = &mut self.links[link];
        if record.was_reset[side.index()] {
            return Read::Reset;
        }
        let capacity = record.shape.capacity;
        let pipe = &mut record.pipes[from.index()];
        let count = pipe.take(out, most);
        if count == 0 {
            return if pipe.is_at_end() { Read::Eof } else { Read::Nothing };
        }
        if pipe.is_blocked && pipe.unread() <= capacity / 2 {
            pipe.is_blocked = false;
            let delay = self.delay(link);
            self.after(delay, Event::Writable { link, side: from });
        }
        self.trace.note(self.now, &[2, link as u64, side as u64, count as u64]);
        Read::Bytes(count)
    }

    /// Bytes that `from` sent arrive; whether there is something to read for the other side's owner.
    pub(crate) fn arrive(&mut self, link: LinkId, from: Side) -> bool {
        let now = self.now;
        let to = from.other();
        let record = &mut self.links[link];
        let pipe = &mut record.pipes[from.index()];
        if pipe.stalled_until > now {
            let until = pipe.stalled_until;
            self.queue.push(until, Event::Arrive { link, from });
            return false;
        }
        if record.was_reset[to.index()] {
            return false;
        }
        let any = pipe.arrive(now);
        if !record.is_open[to.index()] {
            if pipe.waiting() > 0 {
                pipe.discard();
                let delay = self.delay(link);
                self.after(delay, Event::Reset { link, to: from });
            }
            return false;
        }
        any
    }

    /// Whether the other side has said that it sends no more, or the connection was reset (epoll's EPOLLRDHUP).
    pub(crate) fn has_hung_up(&self, link: LinkId, side: Side) -> bool {
        let record = &self.links[link];
        record.was_reset[side.index()] || record.pipes[side.other().index()].has_fin()
    }

    /// A reset arrives; whether it is news for the owner.
    pub(crate) fn reset_arrives(&mut self, link: LinkId, to: Side) -> bool {
        let record = &mut self.links[link];
        if record.was_reset[to.index()] || !record.is_open[to.index()] {
            return false;
        }
        record.was_reset[to.index()] = true;
        record.pipes[to.other().index()].discard();
        self.trace.note(self.now, &[3, link as u64, to as u64]);
        true
    }

    /// Ends this side's direction.
    pub(crate) fn shut_write(&mut self, link: LinkId, side: Side) {
        let delay = self.delay(link);
        let record = &mut self.links[link];
        let pipe = &mut record.pipes[side.index()];
        if !pipe.is_ended() {
            let at = pipe.finish(self.now, delay);
            self.queue.push(at, Event::Arrive { link, from: side });
        }
    }

    /// Closes this side's end.
    pub(crate) fn close(&mut self, link: LinkId, side: Side) {
        let record = &mut self.links[link];
        if !core::mem::take(&mut record.is_open[side.index()]) || !record.is_answered {
            return;
        }
        self.trace.note(self.now, &[4, link as u64, side as u64]);
        let unread = record.pipes[side.other().index()].waiting() > 0;
        if unread {
            let delay = self.delay(link);
            self.after(delay, Event::Reset { link, to: side.other() });
        } else {
            self.shut_write(link, side);
        }
    }

    /// The network resets a connection for both its ends.
    pub(crate) fn reset(&mut self, link: LinkId) {
        self.stats.count(Happening::LinkReset);
        for to in [Side::Initiator, Side::Acceptor] {
            let delay = self.delay(link);
            self.after(delay, Event::Reset { link, to });
        }
    }

    /// Nothing arrives on a connection for some time.
    pub(crate) fn stall(&mut self, link: LinkId, time: Duration) {
        self.stats.count(Happening::LinkStalled);
        let until = self.now + time;
        for pipe in &mut self.links[link].pipes {
            pipe.stalled_until = pipe.stalled_until.max(until);
        }
    }

    /// Whether a connection carried bytes without hindrance since `since`: not stalled, not full, not lost.
    pub(crate) fn is_smooth(&self, link: LinkId, since: Duration) -> bool {
        let record = &self.links[link];
        record.was_reset == [false; 2]
            && record.is_open == [true; 2]
            && record
                .pipes
                .iter()
                .all(|pipe| pipe.stalled_until < since && pipe.blocked_at.is_none_or(|at| at < since))
    }

    /// DATA bytes that backends have sent.
    pub(crate) fn sent_by_backends(&self) -> u64 {
        let is_upstream = |link: &&Link| link.owners[0] == Owner::Worker;
        self.links.iter().filter(is_upstream).map(|link| link.wire.sent[Side::Acceptor.index()]).sum()
    }

    /// Whether nothing is on its way, in either direction.
    pub(crate) fn is_idle(&self, link: LinkId) -> bool {
        self.links[link].pipes.iter().all(|pipe| pipe.unread() == 0)
    }

    /// What a side may still send on the connection, and how many bytes of DATA it has sent.
    pub(crate) fn window(&self, link: LinkId, side: Side) -> (i64, u64) {
        let wire = &self.links[link].wire;
        (wire.window(side), wire.sent[side.index()])
    }
}
