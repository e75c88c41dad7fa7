//! What outlier detection changed about endpoints: counted, and kept for the driver's log.

use std::sync::Arc;

use evenkeel_balance::PanicChange;
use evenkeel_balance::outlier::{EjectionReason, OutlierChange};
use evenkeel_telemetry::{ClusterEvent, Ejected};

use super::Worker;

/// Changes that wait for the driver's log; more are counted only.
const CHANGES_MAX: usize = 64;

/// An endpoint that left rotation or came back, or stayed because of the cap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointChange {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The endpoint's address.
    pub endpoint: Arc<str>,
    /// What became of it.
    pub change: OutlierChange,
}

/// A priority of a cluster whose health begins or ends to be disregarded, as too few endpoints are available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterPanic {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// The numbers.
    pub change: PanicChange,
}

impl Worker {
    /// Takes over what a cluster's balancer noticed.
    #[cold]
    pub(super) fn note_outliers(&mut self, cluster: u32) {
        let place = cluster as usize;
        while let Some((endpoint, change)) = self.clusters[place].balancer.poll_outlier_change() {
            let event = match change {
                OutlierChange::Ejected { reason, .. } => ClusterEvent::OutlierEjected(label(reason)),
                OutlierChange::Returned | OutlierChange::Expired => ClusterEvent::OutlierReturned,
                OutlierChange::HeldBack { .. } => ClusterEvent::EjectionHeldBack,
            };
            self.count_in(cluster, event);
            if self.outlier_changes.len() < CHANGES_MAX {
                let cluster = Arc::clone(&self.clusters[place].settings.name);
                self.outlier_changes.push_back(EndpointChange { cluster, endpoint, change });
            }
        }
    }

    /// Takes over which priorities of a cluster are in panic.
    #[cold]
    pub(super) fn note_panics(&mut self, cluster: u32) {
        let place = cluster as usize;
        while let Some(change) = self.clusters[place].balancer.poll_panic_change() {
            let event = if change.began { ClusterEvent::PanicBegan } else { ClusterEvent::PanicEnded };
            self.count_in(cluster, event);
            if self.panics.len() < CHANGES_MAX {
                let cluster = Arc::clone(&self.clusters[place].settings.name);
                self.panics.push_back(ClusterPanic { cluster, change });
            }
        }
    }

    /// The oldest change of a panic that was not asked for yet.
    pub fn poll_panic(&mut self) -> Option<ClusterPanic> {
        self.panics.pop_front()
    }

    /// The oldest change that was not asked for yet.
    pub fn poll_endpoint_change(&mut self) -> Option<EndpointChange> {
        self.outlier_changes.pop_front()
    }
}

fn label(reason: EjectionReason) -> Ejected {
    match reason {
        EjectionReason::ConsecutiveFailures => Ejected::ConsecutiveFailures,
        EjectionReason::SuccessRate => Ejected::SuccessRate,
        EjectionReason::FailurePercentage => Ejected::FailurePercentage,
        EjectionReason::TrialFailed => Ejected::TrialFailed,
    }
}
