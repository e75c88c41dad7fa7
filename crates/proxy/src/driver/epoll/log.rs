//! What the event loop writes to the log of what its worker noticed.

use std::io;
use std::time::Duration;

use evenkeel_balance::PanicChange;
use evenkeel_balance::outlier::OutlierChange;
use evenkeel_telemetry::{LogLimiter, Refused};

use super::EventLoop;
use crate::worker::{ClusterPanic, EndpointChange};

impl EventLoop {
    /// One line for each broken rule and second at most, whatever peers do.
    pub(super) fn log_violations(&mut self, now: Duration) {
        while let Some((peer, violation)) = self.worker.poll_violation() {
            if let Some(suppressed) = self.log_limiter.allow(violation.rule(), now) {
                tracing::warn!(%peer, rule = violation.rule(), suppressed, "connection closed: {violation}");
            }
        }
    }

    /// One line for each reason and second at most; how many there were is in the metrics.
    pub(super) fn log_endpoints(&mut self, now: Duration) {
        while let Some(EndpointChange { cluster, endpoint, change }) = self.worker.poll_endpoint_change() {
            let cause = match change {
                OutlierChange::Ejected { reason, .. } => reason.name(),
                OutlierChange::Returned => "returned",
                OutlierChange::Expired => "expired",
                OutlierChange::HeldBack { .. } => "held back",
            };
            let Some(suppressed) = self.log_limiter.allow(cause, now) else { continue };
            match change {
                OutlierChange::Ejected { reason, until } => {
                    let seconds = until.saturating_sub(now).as_secs_f64();
                    tracing::warn!(%cluster, %endpoint, reason = reason.name(), seconds, suppressed, "endpoint ejected");
                }
                OutlierChange::Returned => {
                    tracing::info!(%cluster, %endpoint, suppressed, "endpoint back in rotation");
                }
                OutlierChange::Expired => {
                    let why = "its time is up, and no worker is connected to it";
                    tracing::info!(%cluster, %endpoint, suppressed, why, "endpoint back in rotation");
                }
                OutlierChange::HeldBack { reason } => {
                    tracing::warn!(
                        %cluster, %endpoint, reason = reason.name(), suppressed,
                        "endpoint not ejected: max_ejection_percent of the endpoints are out"
                    );
                }
            }
        }
    }

    /// One line for beginnings and one for ends a second at most, of all workers together; how many there were is in the
    /// metrics.
    pub(super) fn log_panics(&mut self, now: Duration) {
        while let Some(panic) = self.worker.poll_panic() {
            log_panic(&mut self.log_limiter, now, &panic);
        }
    }

    /// A socket cannot be registered: one line a second, or a flood of clients would fill the log.
    pub(super) fn log_unwatched(&mut self, now: Duration, error: &io::Error) {
        if let Some(suppressed) = self.log_limiter.allow("watch", now) {
            tracing::error!(
                %error, suppressed,
                "a socket cannot be watched, and its connection ends; raise fs.epoll.max_user_watches"
            );
        }
    }

    /// One line each second at most, however often memory is short and is not.
    pub(super) fn log_level(&mut self, now: Duration) {
        if let Some(level) = self.worker.poll_level()
            && let Some(suppressed) = self.log_limiter.allow("memory", now)
        {
            let held = self.worker.held_by_all();
            tracing::warn!(
                ?level,
                held,
                suppressed,
                "memory: what peers make the process hold nears its limit, or no longer does"
            );
        }
    }

    /// The listener has as many connections as it may have on this worker; the one too many was just dropped.
    pub(super) fn log_refused(&mut self, now: Duration) {
        if let Some(suppressed) = self.log_limiter.allow(Refused::ListenerLimit.as_str(), now) {
            tracing::warn!(
                suppressed,
                "a client's connection was closed at once: the listener's limits.max_connections_per_worker"
            );
        }
    }
}

pub(super) fn log_panic(limiter: &mut LogLimiter, now: Duration, panic: &ClusterPanic) {
    let ClusterPanic { cluster, change } = panic;
    let PanicChange { priority, began, available, total, threshold, fails } = *change;
    let cause = if began { "panic began" } else { "panic ended" };
    let Some(suppressed) = limiter.allow(cause, now) else { return };
    let calls = if fails { "calls fail" } else { "calls go to all that are connected" };
    if began {
        tracing::warn!(
            %cluster, priority, available, total, threshold_percent = threshold, suppressed,
            "panic: too few endpoints are available to believe it; {calls}, whatever their health"
        );
    } else {
        tracing::info!(
            %cluster, priority, available, total, threshold_percent = threshold, suppressed,
            "panic is over: calls go to healthy endpoints again"
        );
    }
}
