//! Active health checks: whoever asks an endpoint whether it wants calls, before a call has to find out.
//!
//! ```text
//! discovery's set --> HealthChecks::follow --> checker task --> probe tasks --> endpoints
//!                                              (one per cluster; the machines of balance::health_check)
//!                                                   |-> Endpoint::note_health: what every worker's picks read
//!                                                   |-> reports (/clusters), counters (/metrics), a log line per change
//! ```
//!
//! The rules (thresholds, jitter, timeouts, what an answer means) are `evenkeel_balance::health_check`'s, which knows neither
//! sockets nor clocks. Here are the clock, the connections ([`channel`]) and the questions ([`probe`]). One verdict holds for
//! all workers: it is a bit in the shared [`Endpoint`](evenkeel_balance::Endpoint), as ejection and draining are.
//!
//! **Before the first result** a new endpoint is withheld as `unchecked`: it takes calls only while no other can (Envoy lets a
//! host wait for its first check in the same way). Endpoints that were in service before, as after a reload that turns checks
//! on or changes them, stay as they were until a result says otherwise.
//!
//! **Bounds.** One connection to each endpoint of a cluster with checks is kept open, in the whole process; at most
//! [`CHECKS_IN_FLIGHT_MAX`] checks of a cluster wait for an answer at once; a check ends with its timeout, its endpoint or its
//! cluster, whichever comes first. Invariant: after [`HealthChecks::stop`] no bit of an endpoint changes.

pub(super) mod channel;
mod checker;
mod probe;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_balance::health_check::{HealthCheckConfig, HealthStatus};
use evenkeel_balance::{Address, Endpoint, EndpointSet};
use evenkeel_config::Target;
use evenkeel_telemetry::{ClusterTelemetry, HealthCheckResult};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::clock::Clock;
use checker::Checker;
pub(super) use probe::legible;

/// Checks of one cluster that may wait for an answer at once; more begin as others end. With the default timeout it is reached
/// when more than five thousand endpoints hang; those that answer take a thousandth of that time.
pub(super) const CHECKS_IN_FLIGHT_MAX: usize = 1024;

/// What the checks of a cluster are made of.
pub(super) struct Setup<'a> {
    pub(super) config: &'a HealthCheckConfig,
    /// The cluster's name.
    pub(super) cluster: &'a str,
    /// What the endpoints come from, if that is one target: it names the authority that is asked for.
    pub(super) target: Option<&'a Target>,
    pub(super) telemetry: Arc<ClusterTelemetry>,
    /// Checks that may wait for an answer at once: [`CHECKS_IN_FLIGHT_MAX`].
    pub(super) in_flight_max: usize,
    /// The proxy's time now.
    pub(super) now: Duration,
    pub(super) seed: u64,
}

/// The checks of one cluster; they end when it is dropped.
pub(super) struct HealthChecks {
    sets: watch::Sender<Option<Arc<EndpointSet>>>,
    ledger: Arc<Ledger>,
    task: AbortHandle,
}

impl Drop for HealthChecks {
    fn drop(&mut self) {
        self.stop();
    }
}

impl HealthChecks {
    /// Begins; there is nobody to ask yet. Must be called within a tokio runtime.
    pub(super) fn start(setup: &Setup<'_>) -> Self {
        let (sets, followed) = watch::channel(None);
        let ledger = Arc::new(Ledger::default());
        let clock = Clock::starting_at(setup.now);
        let rng = SmallRng::seed_from_u64(setup.seed);
        let checker = Checker::new(setup, clock, Arc::clone(&ledger), rng);
        let task = tokio::spawn(checker.run(followed)).abort_handle();
        Self { sets, ledger, task }
    }

    /// Checks the endpoints of this set from now on, and no others.
    pub(super) fn follow(&self, set: &Arc<EndpointSet>) {
        self.sets.send_if_modified(|followed| {
            let is_new = followed.as_ref().is_none_or(|known| !Arc::ptr_eq(known, set));
            if is_new {
                *followed = Some(Arc::clone(set));
            }
            is_new
        });
    }

    /// What is known of an endpoint; `None` if it is not checked.
    pub(super) fn report(&self, address: &Address) -> Option<HealthReport> {
        self.ledger.0.borrow().reports.get(address).cloned()
    }

    /// Ends all checks; from here on they change nothing about any endpoint.
    pub(super) fn stop(&self) {
        self.ledger.0.send_modify(|entries| entries.is_closed = true);
        self.task.abort();
    }
}

/// What active checks know of one endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HealthReport {
    /// What they say.
    pub(super) status: HealthStatus,
    /// Since when.
    pub(super) since: Duration,
    /// The newest result; `None` before the first.
    pub(super) last: Option<LastResult>,
}

/// The newest result of an endpoint's checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LastResult {
    /// Which.
    pub(super) result: HealthCheckResult,
    /// When it came.
    pub(super) at: Duration,
    /// Why, for failures, in the endpoint's or the system's words; at most 200 characters.
    pub(super) detail: Option<Box<str>>,
}

/// What the checker tells and others read, or wait for. Bound: one report for each endpoint of the set.
#[derive(Debug, Default)]
struct Ledger(watch::Sender<Entries>);

#[derive(Debug, Default)]
struct Entries {
    is_closed: bool,
    reports: HashMap<Address, HealthReport>,
}

impl Ledger {
    /// Notes that an endpoint is checked from now on.
    fn enter(&self, address: &Address, now: Duration) {
        let report = HealthReport { status: HealthStatus::Unknown, since: now, last: None };
        self.0.send_modify(|entries| _ = entries.reports.insert(address.clone(), report));
    }

    /// Forgets an endpoint.
    fn strike(&self, address: &Address) {
        self.0.send_modify(|entries| _ = entries.reports.remove(address));
    }

    /// Notes a result and the status that follows from it, and lets the endpoint's picks heed it where that changed. Nothing
    /// once the checks were stopped.
    fn note(&self, endpoint: &Endpoint, status: HealthStatus, is_change: bool, last: LastResult) {
        self.0.send_if_modified(|entries| {
            if entries.is_closed {
                return false;
            }
            let now = last.at;
            if is_change {
                endpoint.note_health(status, now);
            }
            if let Some(report) = entries.reports.get_mut(endpoint.address()) {
                if is_change {
                    report.since = now;
                }
                report.status = status;
                report.last = Some(last);
            }
            true
        });
    }
}
