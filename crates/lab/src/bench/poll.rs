//! A thin cover over epoll: level-triggered, tokens, and time-outs finer than a millisecond.
//!
//! Why not mio: its time-outs are whole milliseconds, too coarse for an open loop of thousands of calls a second.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use std::io;
use std::time::Duration;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// What an event loop waits for on a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    Write,
    ReadWrite,
    /// Nothing but errors and hang-ups, which cannot be masked.
    None,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::ReadWrite => EventFlags::IN | EventFlags::OUT,
            Self::None => EventFlags::empty(),
        }
    }
}

/// What the kernel reported for a token. An error or a hang-up is reported as both, so that the next call names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// What a wait found. Apart from [`Poll`], because the kernel's events may hold pointers and cannot change threads.
pub(super) struct Events {
    raw: Vec<Event>,
    ready: Vec<Ready>,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { raw: Vec::with_capacity(EVENTS_MAX), ready: Vec::with_capacity(EVENTS_MAX) }
    }

    pub(super) fn ready(&self) -> &[Ready] {
        &self.ready
    }
}

pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub(super) fn add(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), interest.flags())?)
    }

    pub(super) fn modify(&self, source: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token), interest.flags())?)
    }

    pub(super) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until something is ready or `timeout` has passed, and puts into `events` what is.
    pub(super) fn wait(&self, timeout: Duration, events: &mut Events) -> io::Result<()> {
        let Events { raw, ready } = events;
        raw.clear();
        ready.clear();
        let timeout = timeout.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(raw), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.extend(raw.iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            Ready {
                token: event.data.u64(),
                readable: broken || flags.contains(EventFlags::IN),
                writable: broken || flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}
