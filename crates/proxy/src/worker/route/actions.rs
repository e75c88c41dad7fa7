//! What a route does to its calls besides choosing where they go.

use core::time::Duration;
use std::sync::Arc;

use evenkeel_telemetry::RouteEvents;

use crate::worker::fault::Fault;
use crate::worker::limit::rate::RouteRateLimit;
use crate::worker::mirror::Mirror;
use crate::worker::rewrite::Rewrite;

/// What a route does to its calls. A call keeps it to its end, also when a reload has changed the route.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteActions {
    /// What it changes in metadata.
    pub rewrite: Rewrite,
    /// Where copies of its calls go.
    pub mirror: Option<Mirror>,
    /// Faults that it injects.
    pub fault: Option<Fault>,
    /// How often its calls are let through. `None`: as often as they come.
    pub rate_limit: Option<Arc<RouteRateLimit>>,
    /// Where its faults and rate limits are counted; `None`: nowhere.
    pub counts: Option<Arc<RouteEvents>>,
    /// How long a call may go on before it ends with UNAVAILABLE, less up to a tenth. `None`: as long as it likes.
    pub max_stream_duration: Option<Duration>,
    /// How long it may go on without data in either direction. `None`: as long as it likes.
    pub stream_idle_timeout: Option<Duration>,
}

impl RouteActions {
    /// Whether it does nothing, so that a call need not keep it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
