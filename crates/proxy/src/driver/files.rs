//! Open files: how many the process may have, which share of them clients may take, and one kept in reserve.
//!
//! A process without a free file descriptor cannot accept, cannot connect to a backend, and cannot even turn a client away:
//! the connection stays in the kernel's queue, and accept reports it again and again (Envoy's CVE-2020-8663, gRPC's
//! CVE-2023-4785). Three rules keep out of that:
//!
//! - The soft limit is raised to the hard one at the start, as Go's runtime, HAProxy and Caddy do. It is low for the sake of
//!   programs that use select(2), which this one does not.
//! - Clients take [`CLIENT_SHARE_PERCENT`] of the limit at most, over all listeners and workers. A call needs no further
//!   file, but each worker has connections of its own to each endpoint, and they must find room.
//! - Each worker keeps one file open for nothing ([`SpareFile`]). When there is none left, it is closed for as long as it
//!   takes to accept one connection and close it: the client is told at once, and the queue empties.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Share of the open files that connections of clients may take, in percent. Envoy advises less than half ("Configuring Envoy as
/// an edge proxy"), as each of its workers may open a connection of its own for a client; here all clients of a worker share
/// its few connections to each endpoint.
pub const CLIENT_SHARE_PERCENT: u64 = 60;

/// What the spare file is.
const SPARE_PATH: &str = "/dev/null";

/// The limit of open files, before and after it was raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFiles {
    /// The soft limit that the process was started with; `u64::MAX` for none.
    pub before: u64,
    /// The one in force.
    pub now: u64,
}

impl OpenFiles {
    /// Raises the soft limit of open files to the hard one, which every process may do (setrlimit(2)). A system that refuses
    /// it leaves it as it was.
    #[must_use]
    pub fn raise() -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current.unwrap_or(u64::MAX);
        limit.current = limit.maximum;
        let now = match setrlimit(Resource::Nofile, limit) {
            Ok(()) => limit.maximum.unwrap_or(u64::MAX),
            Err(_) => before,
        };
        Self { before, now }
    }

    /// Connections that clients may have at once: [`CLIENT_SHARE_PERCENT`] of the limit, one at least.
    #[must_use]
    pub fn client_connections_max(self) -> usize {
        let share = self.now / 100 * CLIENT_SHARE_PERCENT + self.now % 100 * CLIENT_SHARE_PERCENT / 100;
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }
}

/// How many connections clients have and may have, over all workers. Shared: a connection is rare next to its calls.
#[derive(Debug)]
pub struct ClientSeats {
    taken: AtomicUsize,
    most: usize,
}

impl ClientSeats {
    /// Room for `most` connections of clients.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most })
    }

    /// A seat for one connection, until it is dropped; `None` when all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let next = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(Seat(Arc::clone(self)))
    }

    /// Connections that there is room for.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }
}

/// The seat of one client's connection.
#[derive(Debug)]
pub(super) struct Seat(Arc<ClientSeats>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an error says that the process, or the system, has no file descriptor left.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A file that is open for nothing but to be closed when there is no other left.
#[derive(Debug)]
pub(super) struct SpareFile(Option<File>);

impl SpareFile {
    /// Opens it; without success the worker does without.
    pub(super) fn new() -> Self {
        Self(File::open(SPARE_PATH).ok())
    }

    /// Runs `accept` with one more file descriptor than there was and drops what it accepted. `None` if there is none to
    /// give.
    ///
    /// Its error may be the old one, where another thread took the descriptor; or `WouldBlock`: without a descriptor
    /// accept(2) fails before it looks whether anything waits.
    pub(super) fn turn_away<T>(&mut self, accept: impl FnOnce() -> io::Result<T>) -> Option<io::Result<()>> {
        // The one given away last may not have come back, because all were taken; some may be free again.
        let file = self.0.take().or_else(|| File::open(SPARE_PATH).ok())?;
        drop(file);
        let turned_away = accept().map(drop);
        self.0 = File::open(SPARE_PATH).ok();
        Some(turned_away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(now: u64) -> usize {
        OpenFiles { before: 0, now }.client_connections_max()
    }

    #[test]
    fn clients_get_three_fifths_of_the_open_files() {
        assert_eq!(most(64), 38);
        assert_eq!(most(1024), 614);
        assert_eq!(most(1_048_576), 629_145);
        assert_eq!((most(2), most(0)), (1, 1), "one client can be served in any case");
        assert!(most(u64::MAX) > usize::MAX / 3, "no limit does not overflow");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let raised = OpenFiles::raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raised.now, limit.maximum.unwrap_or(u64::MAX));
        assert!(raised.before <= raised.now);
        assert_eq!(OpenFiles::raise(), OpenFiles { before: raised.now, now: raised.now });
    }

    #[test]
    fn a_seat_is_free_again_when_its_connection_is_gone() {
        let seats = ClientSeats::new(2);
        let (one, two) = (seats.take(), seats.take());
        assert!(one.is_some() && two.is_some());
        assert!(seats.take().is_none());
        drop(one);
        let three = seats.take();
        assert!(three.is_some() && seats.take().is_none());
    }

    #[test]
    fn only_the_two_errors_of_descriptors_count_as_out_of_files() {
        for (errno, expected) in
            [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::NOMEM, false), (Errno::CONNABORTED, false)]
        {
            assert_eq!(is_out_of_files(&errno.into()), expected, "{errno}");
        }
        assert!(!is_out_of_files(&io::Error::other("no number")));
    }

    #[test]
    fn the_spare_file_is_closed_while_a_connection_is_turned_away_and_comes_back() {
        let mut spare = SpareFile::new();
        assert!(spare.0.is_some());
        assert!(matches!(spare.turn_away(|| Ok(())), Some(Ok(()))));
        assert!(spare.0.is_some());
        let error = spare.turn_away(|| Err::<(), _>(Errno::MFILE.into())).unwrap().unwrap_err();
        assert!(is_out_of_files(&error), "another thread took it");
        assert!(spare.0.is_some(), "it comes back after a failure too");
    }
}
