//! Counts of routes: of those that inject faults or limit the rate of their calls, since nothing else happens to a route.
//!
//! A route is known by its listener's address and its place in that listener's list, from 0, as `explain` numbers it. What is
//! counted is rare beside a call that passes, so that a route has one row for all workers; a call holds it with its route's
//! actions, and looks nothing up.
//!
//! **Bounds.** At most [`MAX_ROUTE_SERIES`] routes have series of their own; those beyond share `listener="other"`,
//! `route="other"`, whose counts stay.
//!
//! **Ends.** The series of a route end when nobody holds its `Arc` any more: no configuration in force, and no call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::cluster::OTHER;
use crate::counter::SharedCounter;
use crate::event::RouteEvent;
use crate::event::route::SLOTS;
use crate::shards::lock;

/// Routes with series of their own, over all listeners; five lines of metrics each.
pub const MAX_ROUTE_SERIES: usize = 1024;

/// The counts of one route; held by whoever counts for it.
#[derive(Debug)]
pub struct RouteTelemetry([SharedCounter; SLOTS]);

impl Default for RouteTelemetry {
    fn default() -> Self {
        Self(std::array::from_fn(|_| SharedCounter::default()))
    }
}

/// Equal is only the very same, as each has its own counts.
impl PartialEq for RouteTelemetry {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl RouteTelemetry {
    /// Counts one event.
    pub fn count(&self, event: RouteEvent) {
        self.0[event.slot()].add(1);
    }

    /// How often `event` was counted.
    #[must_use]
    pub fn get(&self, event: RouteEvent) -> u64 {
        self.0[event.slot()].get()
    }
}

/// A route at one scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSample {
    /// The `listener` label: its address as configured.
    pub listener: String,
    /// The `route` label: its place in the listener's list.
    pub route: String,
    counts: [u64; SLOTS],
}

impl RouteSample {
    fn new(listener: &str, route: &str, telemetry: &RouteTelemetry) -> Self {
        let counts = telemetry.0.each_ref().map(SharedCounter::get);
        Self { listener: listener.to_owned(), route: route.to_owned(), counts }
    }

    /// How often `event` was counted.
    #[must_use]
    pub fn get(&self, event: RouteEvent) -> u64 {
        self.counts[event.slot()]
    }

    /// The count in a slot of the table.
    pub(crate) fn slot(&self, slot: usize) -> u64 {
        self.counts[slot]
    }
}

/// Routes by their listeners' addresses and their places.
type ByPlace = BTreeMap<(Box<str>, usize), Arc<RouteTelemetry>>;

/// The routes, by listener and place.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    by_place: Mutex<ByPlace>,
    /// Shared by the routes beyond the bound; never dropped, so that its counts never go back.
    other: Arc<RouteTelemetry>,
    overflow: SharedCounter,
}

impl Routes {
    /// The route at this place of a listener's list, new if there is none.
    pub(crate) fn route(&self, listener: &str, place: usize) -> Arc<RouteTelemetry> {
        let mut routes = lock(&self.by_place);
        let key = (Box::from(listener), place);
        if let Some(route) = routes.get(&key) {
            return Arc::clone(route);
        }
        if routes.len() >= MAX_ROUTE_SERIES {
            prune(&mut routes);
        }
        if routes.len() >= MAX_ROUTE_SERIES {
            self.overflow.add(1);
            return Arc::clone(&self.other);
        }
        let route = Arc::<RouteTelemetry>::default();
        routes.insert(key, Arc::clone(&route));
        route
    }

    pub(crate) fn samples(&self) -> Vec<RouteSample> {
        let mut routes = lock(&self.by_place);
        prune(&mut routes);
        let named = routes
            .iter()
            .map(|((listener, place), route)| RouteSample::new(listener, &place.to_string(), route));
        let other = (self.overflow.get() > 0).then(|| RouteSample::new(OTHER, OTHER, &self.other));
        named.chain(other).collect()
    }
}

/// Drops the routes that nobody else holds.
fn prune(routes: &mut ByPlace) {
    routes.retain(|_, route| Arc::get_mut(route).is_none());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Injected, RateLimited};

    const LISTENER: &str = "127.0.0.1:50050";
    const TURNED_AWAY: RouteEvent = RouteEvent::RateLimited(RateLimited::Route);

    fn counted(routes: &Routes) -> Vec<(String, u64)> {
        let samples = routes.samples();
        samples.into_iter().map(|route| (route.route.clone(), route.get(TURNED_AWAY))).collect()
    }

    #[test]
    fn each_route_has_its_own_counts_and_keeps_them_while_somebody_holds_it() {
        let routes = Routes::default();
        let (first, second) = (routes.route(LISTENER, 0), routes.route(LISTENER, 1));
        first.count(TURNED_AWAY);
        routes.route(LISTENER, 0).count(TURNED_AWAY);
        second.count(RouteEvent::FaultInjected(Injected::Abort));
        routes.route("[::1]:50050", 0).count(TURNED_AWAY);
        assert_eq!(counted(&routes), [("0".to_owned(), 2), ("1".to_owned(), 0)], "nobody holds the third");
        assert_eq!(second.get(RouteEvent::FaultInjected(Injected::Abort)), 1);
        drop(first);
        assert_eq!(counted(&routes), [("1".to_owned(), 0)]);
    }

    #[test]
    fn routes_beyond_the_bound_share_other_for_good() {
        let routes = Routes::default();
        let held: Vec<_> = (0..MAX_ROUTE_SERIES).map(|place| routes.route(LISTENER, place)).collect();
        assert_eq!(counted(&routes).len(), MAX_ROUTE_SERIES);
        let (x, y) = (routes.route("x", 0), routes.route("y", 0));
        x.count(TURNED_AWAY);
        y.count(TURNED_AWAY);
        assert_eq!(counted(&routes).len(), MAX_ROUTE_SERIES + 1);
        drop((held, x, y));
        assert_eq!(counted(&routes), [("other".to_owned(), 2)]);
        assert_ne!(routes.route("x", 0), routes.other, "places are free again");
    }
}
