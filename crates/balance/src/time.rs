//! Times as whole nanoseconds, for what reckons with many of them.

use core::time::Duration;

/// A time in nanoseconds since the driver's epoch, 584 years at most.
pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(time.subsec_nanos()))
}
