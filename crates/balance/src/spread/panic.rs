//! How many workers disregard health, by priority: shared, so that the first to begin and the last to end say so, and the
//! others do not repeat it.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::locality::MAX_PRIORITY;

/// Panic began in a priority, or ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PanicChange {
    /// The priority.
    pub priority: u8,
    /// Whether it began.
    pub began: bool,
    /// Endpoints that are available, as the worker sees it that noticed.
    pub available: u32,
    /// Endpoints of the priority, but for those that drain.
    pub total: u32,
    /// The threshold, in percent.
    pub threshold: u8,
    /// Whether calls fail meanwhile, rather than go to all endpoints.
    pub fails: bool,
}

/// Workers in panic, by priority.
#[derive(Debug, Default)]
pub(crate) struct PanicCounts([AtomicU32; MAX_PRIORITY as usize + 1]);

impl PanicCounts {
    /// Whether no other worker was in panic before.
    pub(crate) fn begin(&self, priority: u8) -> bool {
        self.0[usize::from(priority)].fetch_add(1, Relaxed) == 0
    }

    /// Whether no other worker is in panic any more.
    pub(crate) fn end(&self, priority: u8) -> bool {
        self.0[usize::from(priority)].fetch_sub(1, Relaxed) == 1
    }

    /// Counts of its own that begin with the same numbers.
    pub(crate) fn copied(&self) -> Self {
        Self(core::array::from_fn(|priority| AtomicU32::new(self.0[priority].load(Relaxed))))
    }

    pub(crate) fn workers(&self, priority: u8) -> u32 {
        self.0[usize::from(priority)].load(Relaxed)
    }
}
