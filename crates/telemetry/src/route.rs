//! Counts of routes: the calls of each, and what those did that inject faults or limit the rate of their calls.
//!
//! A route is known by its listener's address and its place in that listener's list, from 0, as `explain` numbers it.
//!
//! Each call is counted, so that each worker has a row of its own for each route ([`crate::WorkerStats::route_took`]), as it has for
//! methods. What else is counted is rare beside a call that passes, and has one row for all workers ([`RouteEvents`]); a call holds
//! it with its route's actions, and looks nothing up.
//!
//! **Bounds.** At most [`MAX_ROUTE_SERIES`] routes have series of their own; those beyond share `listener="other"`,
//! `route="other"`, whose counts stay.
//!
//! **Ends.** The series of a route end when nobody holds its `Arc` any more: no configuration in force. Its workers' rows are then
//! free for another route, which begins with what they hold as its 0. Likewise those of what it does besides, when no
//! configuration and no call does it any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use crate::cluster::OTHER;
use crate::counter::SharedCounter;
use crate::event::RouteEvent;
use crate::event::route::SLOTS;
use crate::shards::lock;

/// Routes with series of their own, over all listeners; six lines of metrics each, and 8 bytes for each worker.
pub const MAX_ROUTE_SERIES: usize = 1024;

/// Rows that a worker has for routes: the last is that of the routes beyond the bound.
pub(crate) const ROUTE_ROWS: usize = MAX_ROUTE_SERIES + 1;

/// The row of the routes beyond the bound.
const OTHER_ROW: usize = MAX_ROUTE_SERIES;

/// The calls of one route; held by whoever counts them.
#[derive(Debug)]
pub struct RouteTelemetry {
    /// Its row in the table of each worker.
    pub(crate) row: usize,
    /// What the workers' rows held together when it got them.
    before: u64,
    /// While anybody holds them.
    events: Mutex<Weak<RouteEvents>>,
}

impl RouteTelemetry {
    fn new(row: usize, before: u64, events: Weak<RouteEvents>) -> Self {
        Self { row, before, events: Mutex::new(events) }
    }

    /// The counts of what the route does besides, for as long as it does it: new if nobody holds them.
    #[must_use]
    pub fn events(&self) -> Arc<RouteEvents> {
        let mut events = lock(&self.events);
        events.upgrade().unwrap_or_else(|| {
            let fresh = Arc::default();
            *events = Arc::downgrade(&fresh);
            fresh
        })
    }
}

/// The counts of a route that injects faults or limits the rate of its calls; held by whoever counts for it.
#[derive(Debug)]
pub struct RouteEvents([SharedCounter; SLOTS]);

impl Default for RouteEvents {
    fn default() -> Self {
        Self(std::array::from_fn(|_| SharedCounter::default()))
    }
}

/// Equal is only the very same, as each has its own counts.
impl PartialEq for RouteEvents {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl RouteEvents {
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
    /// Calls that it took.
    pub calls: u64,
    /// `None`: it does nothing that is counted besides.
    events: Option<[u64; SLOTS]>,
}

impl RouteSample {
    /// The route at a scrape where its workers' rows hold `calls` together.
    fn new(listener: &str, route: &str, telemetry: &RouteTelemetry, calls: u64) -> Self {
        Self {
            listener: listener.to_owned(),
            route: route.to_owned(),
            // Fewer, if the scrape read the rows before the route got its own.
            calls: calls.saturating_sub(telemetry.before),
            events: lock(&telemetry.events)
                .upgrade()
                .map(|events| events.0.each_ref().map(SharedCounter::get)),
        }
    }

    /// How often `event` was counted.
    #[must_use]
    pub fn get(&self, event: RouteEvent) -> u64 {
        self.events.map_or(0, |counts| counts[event.slot()])
    }

    /// Its labels, names and values.
    pub(crate) fn labels(&self) -> [(&'static str, &str); 2] {
        [("listener", &self.listener), ("route", &self.route)]
    }

    /// The counts of events by slot of the table, if there are any.
    pub(crate) fn events(&self) -> Option<&[u64; SLOTS]> {
        self.events.as_ref()
    }
}

/// The routes by their listeners' addresses and their places.
#[derive(Debug)]
struct ByPlace {
    routes: BTreeMap<(Box<str>, usize), Arc<RouteTelemetry>>,
    /// Rows that no route has.
    free: Vec<usize>,
}

/// The routes, by listener and place.
#[derive(Debug)]
pub(crate) struct Routes {
    by_place: Mutex<ByPlace>,
    /// Shared by the routes beyond the bound; never dropped, so that its counts never go back.
    other: Arc<RouteTelemetry>,
    _other_events: Arc<RouteEvents>,
    overflow: SharedCounter,
}

impl Default for Routes {
    fn default() -> Self {
        let free = (0..MAX_ROUTE_SERIES).rev().collect();
        let other_events = Arc::default();
        Self {
            by_place: Mutex::new(ByPlace { routes: BTreeMap::new(), free }),
            other: Arc::new(RouteTelemetry::new(OTHER_ROW, 0, Arc::downgrade(&other_events))),
            _other_events: other_events,
            overflow: SharedCounter::default(),
        }
    }
}

impl Routes {
    /// The route at this place of a listener's list, new if there is none. `held` tells what the workers' rows of a number
    /// hold together.
    pub(crate) fn route(
        &self,
        listener: &str,
        place: usize,
        held: impl FnOnce(usize) -> u64,
    ) -> Arc<RouteTelemetry> {
        let mut by_place = lock(&self.by_place);
        let key = (Box::from(listener), place);
        if let Some(route) = by_place.routes.get(&key) {
            return Arc::clone(route);
        }
        if by_place.free.is_empty() {
            by_place.prune();
        }
        let Some(row) = by_place.free.pop() else {
            self.overflow.add(1);
            return Arc::clone(&self.other);
        };
        let route = Arc::new(RouteTelemetry::new(row, held(row), Weak::new()));
        by_place.routes.insert(key, Arc::clone(&route));
        route
    }

    /// The routes at a scrape where the workers' rows hold `calls` together.
    pub(crate) fn samples(&self, calls: &[u64; ROUTE_ROWS]) -> Vec<RouteSample> {
        let mut by_place = lock(&self.by_place);
        by_place.prune();
        let sample = |listener: &str, route: &str, telemetry: &RouteTelemetry| {
            RouteSample::new(listener, route, telemetry, calls[telemetry.row])
        };
        let named = by_place
            .routes
            .iter()
            .map(|((listener, place), route)| sample(listener, &place.to_string(), route));
        let other = (self.overflow.get() > 0).then(|| sample(OTHER, OTHER, &self.other));
        named.chain(other).collect()
    }
}

impl ByPlace {
    /// Drops the routes that nobody else holds. Whoever counted for one let go of it behind its last count.
    fn prune(&mut self) {
        let free = &mut self.free;
        self.routes.retain(|_, route| {
            let Some(unheld) = Arc::get_mut(route) else { return true };
            free.push(unheld.row);
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Injected, RateLimited};

    const LISTENER: &str = "127.0.0.1:50050";
    const TURNED_AWAY: RouteEvent = RouteEvent::RateLimited(RateLimited::Route);

    fn counted(routes: &Routes) -> Vec<(String, u64)> {
        let samples = routes.samples(&[0; ROUTE_ROWS]);
        samples.into_iter().map(|route| (route.route.clone(), route.get(TURNED_AWAY))).collect()
    }

    fn route(routes: &Routes, place: usize) -> Arc<RouteTelemetry> {
        routes.route(LISTENER, place, |_| 0)
    }

    #[test]
    fn each_route_has_its_own_counts_and_keeps_them_while_somebody_holds_it() {
        let routes = Routes::default();
        let (first, second) = (route(&routes, 0), route(&routes, 1));
        let (of_first, of_second) = (first.events(), second.events());
        of_first.count(TURNED_AWAY);
        route(&routes, 0).events().count(TURNED_AWAY);
        of_second.count(RouteEvent::FaultInjected(Injected::Abort));
        routes.route("[::1]:50050", 0, |_| 0).events().count(TURNED_AWAY);
        assert_eq!(counted(&routes), [("0".to_owned(), 2), ("1".to_owned(), 0)], "nobody holds the third");
        assert_eq!(of_second.get(RouteEvent::FaultInjected(Injected::Abort)), 1);
        drop(of_first);
        assert_eq!(counted(&routes)[0], ("0".to_owned(), 0), "it does nothing any more");
        assert_eq!(first.events().get(TURNED_AWAY), 0, "and begins anew");
        drop(first);
        assert_eq!(counted(&routes), [("1".to_owned(), 0)]);
    }

    #[test]
    fn routes_beyond_the_bound_share_other_for_good() {
        let routes = Routes::default();
        let held: Vec<_> = (0..MAX_ROUTE_SERIES).map(|place| route(&routes, place)).collect();
        assert_eq!(counted(&routes).len(), MAX_ROUTE_SERIES);
        let (x, y) = (routes.route("x", 0, |_| 0), routes.route("y", 0, |_| 0));
        x.events().count(TURNED_AWAY);
        y.events().count(TURNED_AWAY);
        assert_eq!(counted(&routes).len(), MAX_ROUTE_SERIES + 1);
        drop((held, x, y));
        assert_eq!(counted(&routes), [("other".to_owned(), 2)]);
        assert!(!Arc::ptr_eq(&routes.route("x", 0, |_| 0), &routes.other), "places are free again");
    }
}
