//! A thin cover over epoll: level-triggered, tokens, and time-outs finer than a millisecond.
//!
//! Why not mio: its time-outs are whole milliseconds, too coarse for an open loop of thousands of calls a second. So are
//! those of `epoll_wait(2)`, where rustix rounds up; a finer one is waited for by `ppoll(2)` on the epoll instance itself.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
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
        let mut timeout = timeout.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        if !is_whole_millis(&timeout) {
            let mut instance = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut instance, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => timeout = Timespec::default(),
                Err(error) => return Err(error.into()),
            }
        }
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

fn is_whole_millis(timeout: &Timespec) -> bool {
    timeout.tv_nsec % 1_000_000 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    #[test]
    fn waits_can_be_shorter_than_a_millisecond() {
        let (poll, mut events, clock) = (Poll::new().unwrap(), Events::new(), Clock::start());
        let wait = Duration::from_micros(50);
        let shortest = (0..100).map(|_| {
            let before = clock.now();
            poll.wait(wait, &mut events).unwrap();
            clock.now() - before
        });
        // Rounded up, each of them would take a millisecond; a busy machine delays many, but not all.
        let shortest = shortest.min().unwrap();
        assert!((wait..Duration::from_millis(1)).contains(&shortest), "{shortest:?}");
    }

    #[test]
    fn an_event_ends_a_wait_of_either_kind() {
        let (poll, mut events) = (Poll::new().unwrap(), Events::new());
        let (mut near, far) = UnixStream::pair().unwrap();
        poll.add(&far, 7, Interest::Read).unwrap();
        near.write_all(b"x").unwrap();
        for timeout in [Duration::from_secs(60), Duration::from_secs(60) + Duration::from_nanos(1)] {
            poll.wait(timeout, &mut events).unwrap();
            let tokens: Vec<(u64, bool)> =
                events.ready().iter().map(|ready| (ready.token, ready.readable)).collect();
            assert_eq!(tokens, [(7, true)]);
        }
    }
}
