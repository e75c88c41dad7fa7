//! One copy of a table per writer, summed by the reader.
//!
//! [`Shards::attach`] hands out a copy to one writer, which owns it until it drops its [`Attached`] handle. A copy given
//! back keeps its counts and goes to the next writer, so that a sum never goes down and the number of copies is at most
//! the number of writers that were attached at one time.
//!
//! The mutex guards the list only. Writers take it once when they attach, readers once per scrape; no call does.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic elsewhere: every value guarded in this crate is valid between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The copies of one table.
#[derive(Debug)]
pub(crate) struct Shards<T> {
    copies: Mutex<Vec<Arc<T>>>,
}

impl<T> Default for Shards<T> {
    fn default() -> Self {
        Self { copies: Mutex::new(Vec::new()) }
    }
}

impl<T> Shards<T> {
    /// Gives a copy to one writer: one that was given back, or else the result of `new`.
    pub(crate) fn attach(&self, new: impl FnOnce() -> T) -> Attached<T> {
        let mut copies = lock(&self.copies);
        // `get_mut` succeeds only when no handle is left, and synchronises with the drop of the last one, so that the
        // next writer starts from the last writer's counts.
        let free = copies.iter_mut().position(|copy| Arc::get_mut(copy).is_some());
        let copy = match free {
            Some(index) => Arc::clone(&copies[index]),
            None => {
                let copy = Arc::new(new());
                copies.push(Arc::clone(&copy));
                copy
            }
        };
        Attached { copy, one_thread: PhantomData }
    }

    /// Calls `read` with each copy.
    pub(crate) fn for_each(&self, mut read: impl FnMut(&T)) {
        for copy in lock(&self.copies).iter() {
            read(copy);
        }
    }
}

/// A writer's own copy. May move to another thread, but be used by one thread at a time only.
#[derive(Debug)]
pub(crate) struct Attached<T> {
    copy: Arc<T>,
    /// `Cell` is `Send` and not `Sync`.
    one_thread: PhantomData<Cell<()>>,
}

impl<T> Deref for Attached<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Counter;

    fn sum(shards: &Shards<Counter>) -> (usize, u64) {
        let (mut copies, mut total) = (0, 0);
        shards.for_each(|counter| {
            copies += 1;
            total += counter.get();
        });
        (copies, total)
    }

    #[test]
    fn two_writers_have_two_copies() {
        let shards = Shards::default();
        let (a, b) = (shards.attach(Counter::default), shards.attach(Counter::default));
        a.add(1);
        b.add(2);
        assert_eq!(sum(&shards), (2, 3));
    }

    #[test]
    fn a_copy_given_back_keeps_its_counts_and_is_used_again() {
        let shards = Shards::default();
        for _ in 0..100 {
            shards.attach(Counter::default).add(1);
        }
        assert_eq!(sum(&shards), (1, 100));
    }

    #[test]
    fn writers_that_follow_each_other_on_different_threads_lose_nothing() {
        let shards = Shards::default();
        for _ in 0..50 {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let counter = shards.attach(Counter::default);
                    (0..100).for_each(|_| counter.add(1));
                });
            });
        }
        assert_eq!(sum(&shards), (1, 5_000));
    }
}
