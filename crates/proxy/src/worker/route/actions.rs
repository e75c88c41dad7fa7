//! What a route does to its calls besides choosing where they go.

use crate::worker::rewrite::Rewrite;

/// What a route does to its calls. A call keeps it to its end, also when a reload has changed the route.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteActions {
    /// What it changes in metadata.
    pub rewrite: Rewrite,
}

impl RouteActions {
    /// Whether it does nothing, so that a call need not keep it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rewrite.is_empty()
    }
}
