//! What workers hold to count for endpoints and clusters: handles that are neither `Clone` nor `Sync`.

use std::sync::Arc;

use super::counts::ClusterRow;
use super::{ClusterTelemetry, EndpointRow, EndpointTelemetry};
use crate::call::{CallEnd, Messages};
use crate::event::ClusterEvent;
use crate::shards::Attached;

/// A worker's handle to count what it does with one endpoint: neither `Clone` nor `Sync`.
#[derive(Debug)]
pub struct EndpointStats {
    pub(super) row: Attached<EndpointRow>,
    /// Keeps the series alive until the last call is counted, also after the endpoint left its cluster.
    pub(super) _endpoint: Arc<EndpointTelemetry>,
}

impl EndpointStats {
    /// Counts an attempt that begins.
    #[inline]
    pub fn call_started(&self) {
        self.row.calls.call_started();
    }

    /// Counts messages of an attempt that goes on, since the last report: see
    /// [`crate::WorkerStats::call_progressed`].
    #[inline]
    pub fn call_progressed(&self, messages: Messages) {
        self.row.calls.call_progressed(messages);
    }

    /// Counts an attempt that ends. Exactly one for each [`EndpointStats::call_started`].
    #[inline]
    pub fn call_finished(&self, end: &CallEnd) {
        self.row.calls.call_finished(end);
    }

    /// Counts a connection that became ready.
    pub fn connect_succeeded(&self) {
        self.row.connects_succeeded.add(1);
    }

    /// Counts a connection that failed before it was ready.
    pub fn connect_failed(&self) {
        self.row.connects_failed.add(1);
    }

    /// Counts the end of a connection that had been ready.
    pub fn disconnected(&self) {
        self.row.disconnections.add(1);
    }

    /// Counts a stream that the endpoint reset.
    pub fn reset(&self) {
        self.row.resets.add(1);
    }
}

/// A worker's handle to count what happens in one cluster: neither `Clone` nor `Sync`.
#[derive(Debug)]
pub struct ClusterStats {
    pub(super) row: Attached<ClusterRow>,
    /// Keeps the series alive while the cluster has calls, also after it left the configuration.
    pub(super) _cluster: Arc<ClusterTelemetry>,
}

impl ClusterStats {
    /// Counts one event.
    #[inline]
    pub fn count(&self, event: ClusterEvent) {
        self.add(event, 1);
    }

    /// Counts `n` events.
    #[inline]
    pub fn add(&self, event: ClusterEvent, n: u64) {
        self.row.events[event.slot()].add(n);
    }

    /// Tells how many of the worker's calls wait now.
    pub fn set_pending(&self, calls: usize) {
        self.row.pending.set(calls as u64);
    }
}

impl Drop for ClusterStats {
    /// What this worker told is over; the number's next writer begins without it.
    fn drop(&mut self) {
        self.row.pending.set(0);
    }
}
