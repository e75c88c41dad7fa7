//! Drain: going away without losing a call (reference on reliability, C.2).
//!
//! ```text
//! 0            pre_drain               + spread                     + grace at most
//! |-- /ready 503 --|-- GOAWAY to each client --|-- calls finish --|-- cut off
//!                  listeners closed
//! ```
//!
//! Whoever chooses this proxy (an endpoint controller, a balancer before it) needs `pre_drain` to hear of it; clients that
//! are told to go away all at once would reconnect all at once, hence `spread`. The listeners close before the first of
//! them is told: where two proxies share a port, a client that comes back must reach the other one.

use std::time::Duration;

use evenkeel_config::Drain;

use super::state::State;

/// How a drain ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainReport {
    /// Calls that were cut off because they outlasted the grace.
    pub aborted_calls: usize,
    /// How long it took.
    pub took: Duration,
}

/// Drains the workers; returns when all have ended. Dropping the future does not undo what it did.
pub(super) async fn run(state: &State, settings: Drain, hurry: &tokio::sync::Notify) {
    tracing::info!(pre_drain = ?settings.pre_drain, spread = ?settings.spread, grace = ?settings.grace, "draining");
    let patient = async {
        tokio::time::sleep(settings.pre_drain).await;
        state.threads.drain(settings.spread);
        tokio::time::sleep(settings.spread).await;
        settings.grace
    };
    let grace = tokio::select! {
        grace = patient => grace,
        () = hurry.notified() => {
            tracing::warn!("asked again to stop: calls in progress are cut off");
            Duration::ZERO
        }
    };
    state.threads.stop(grace);
}
