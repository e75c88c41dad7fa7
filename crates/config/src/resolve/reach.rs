//! Which routes can be reached: none that an earlier one covers.
//!
//! Asking each earlier route ([`RouteMatch::covers`]) would compare every authority of one with every authority of the
//! other: seconds for a thousand routes of sixty authorities. So earlier routes are found by their authorities, and only
//! those that have all of a route's authorities are asked about path and metadata.

use std::collections::HashMap;

use crate::errors::Span;
use crate::model::RouteMatch;

/// The routes so far.
#[derive(Default)]
pub(super) struct Reach {
    routes: Vec<(Span, RouteMatch)>,
    /// Positions of the routes that list an authority, ascending.
    by_authority: HashMap<String, Vec<usize>>,
    /// Positions of the routes that take any authority, ascending.
    any_authority: Vec<usize>,
}

impl Reach {
    /// The place of the first route that takes all that this one could, and whether this one would take all of that one's; if there
    /// is none, this one is added.
    pub(super) fn add(&mut self, at: Span, matched: &RouteMatch) -> Option<(Span, bool)> {
        let mut matched = matched.clone();
        matched.path = matched.path.simplified();
        if let Some(covering) = self.covering(&matched) {
            let (earlier, covering) = &self.routes[covering];
            return Some((*earlier, matched.covers(covering)));
        }
        let position = self.routes.len();
        if matched.authorities.is_empty() {
            self.any_authority.push(position);
        }
        for authority in &matched.authorities {
            self.by_authority.entry(authority.clone()).or_default().push(position);
        }
        self.routes.push((at, matched));
        None
    }

    fn covering(&self, matched: &RouteMatch) -> Option<usize> {
        let of_all = self.with_authorities(matched);
        let candidates = self.any_authority.iter().copied().chain(of_all);
        let covers =
            |earlier: &RouteMatch| earlier.path.covers(&matched.path) && earlier.covers_metadata(matched);
        candidates.filter(|position| covers(&self.routes[*position].1)).min()
    }

    /// The routes that list all authorities of a route, each with its port or without.
    fn with_authorities(&self, matched: &RouteMatch) -> Vec<usize> {
        // How many of the authorities in a row, from the first, each route was found to list.
        let mut listed = vec![0; self.routes.len()];
        for (index, authority) in matched.authorities.iter().enumerate() {
            let without_port = RouteMatch::without_port(authority);
            for name in [authority.as_str(), without_port] {
                for position in self.by_authority.get(name).into_iter().flatten() {
                    if listed[*position] == index {
                        listed[*position] = index + 1;
                    }
                }
            }
        }
        let wanted = matched.authorities.len();
        (0..listed.len()).filter(|position| wanted > 0 && listed[*position] == wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{MetadataMatch, PathMatch, ValueMatch};

    fn route() -> impl Strategy<Value = RouteMatch> {
        let path = prop_oneof![
            Just(PathMatch::Any),
            "[ab]{1,2}".prop_map(PathMatch::Service),
            "[ab]{1,2}".prop_map(PathMatch::ServicePrefix),
            "[ab]{1,2}".prop_map(PathMatch::Regex),
        ];
        let authorities = proptest::collection::vec("[ab](:[12])?", 0..4);
        let present =
            "[ab]".prop_map(|name| MetadataMatch { name, value: ValueMatch::Present, invert: false });
        let metadata = proptest::collection::vec(present, 0..3);
        (authorities, path, metadata).prop_map(|(authorities, path, metadata)| RouteMatch {
            authorities,
            path,
            metadata,
        })
    }

    proptest! {
        #[test]
        fn finds_the_first_earlier_route_that_covers_a_route(routes in proptest::collection::vec(route(), 1..12)) {
            let mut reach = Reach::default();
            let mut reachable: Vec<(Span, &RouteMatch)> = Vec::new();
            for (offset, route) in routes.iter().enumerate() {
                let at = Span::new(offset, 0);
                let covering = reachable.iter().find(|(_, earlier)| earlier.covers(route));
                let told = covering.map(|(span, earlier)| (*span, route.covers(earlier)));
                prop_assert_eq!(reach.add(at, route), told);
                if covering.is_none() {
                    reachable.push((at, route));
                }
            }
        }
    }
}
