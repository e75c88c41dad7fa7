//! A list of endpoints: merged, without duplicates, bounded, compared as a set.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use evenkeel_balance::EndpointSpec;

/// The endpoints of a target with their weights, priorities and localities, each address once, in the order they should be tried.
///
/// Dereferences to a slice. Cloning is cheap; all clones share the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    list: Arc<[EndpointSpec]>,
    left_out: usize,
}

impl Endpoints {
    /// Takes the first `max` distinct addresses. Of an address given twice the first weight counts; a weight of 0
    /// counts as 1.
    #[must_use]
    pub fn new(listed: impl IntoIterator<Item: Into<EndpointSpec>>, max: usize) -> Self {
        let mut seen = HashSet::new();
        let mut distinct: Vec<EndpointSpec> = listed
            .into_iter()
            .map(Into::into)
            .filter(|spec| seen.insert(spec.address.clone()))
            .map(|spec| EndpointSpec { weight: spec.weight.max(1), ..spec })
            .collect();
        let left_out = distinct.len().saturating_sub(max);
        distinct.truncate(max);
        Self { list: distinct.into(), left_out }
    }

    /// An empty list.
    pub(crate) fn none() -> Self {
        Self { list: Arc::from([]), left_out: 0 }
    }

    /// How many distinct addresses were left out because of the bound.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether both hold the same endpoints, with the same weights and places, in whatever order.
    ///
    /// Name servers rotate their answers (CoreDNS's `loadbalance` plugin does), so order means no change.
    #[must_use]
    pub fn is_same_set(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.list, &other.list) {
            return true;
        }
        self.len() == other.len() && {
            let ours: HashSet<_> = self.iter().collect();
            other.iter().all(|endpoint| ours.contains(endpoint))
        }
    }
}

impl Deref for Endpoints {
    type Target = [EndpointSpec];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

/// Takes one of `first`, one of `second` and so on until one is used up, then the rest of the other.
///
/// For the addresses of two families: should one family be unreachable, no long run of its addresses comes before the
/// first of the other. Source: RFC 8305 section 4 with a First Address Family Count of 1.
pub(crate) fn interleave<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    let mut merged = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return merged,
            (one, other) => merged.extend(one.into_iter().chain(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use evenkeel_balance::Address;

    use super::*;

    fn endpoints(list: &[(&str, u32)], max: usize) -> Endpoints {
        let parsed = list
            .iter()
            .map(|(address, weight)| (Address::from(address.parse::<SocketAddr>().unwrap()), *weight));
        Endpoints::new(parsed, max)
    }

    #[test]
    fn families_alternate_and_the_longer_one_fills_the_end() {
        assert_eq!(interleave(vec![1, 2, 3], vec![10]), [1, 10, 2, 3]);
        assert_eq!(interleave(vec![1], vec![10, 20, 30]), [1, 10, 20, 30]);
        assert_eq!(interleave(vec![], vec![10, 20]), [10, 20]);
        assert_eq!(interleave(vec![1, 2], vec![]), [1, 2]);
        assert_eq!(interleave(Vec::<u8>::new(), vec![]), [0_u8; 0]);
    }

    #[test]
    fn an_address_counts_once_with_its_first_weight() {
        let merged = endpoints(&[("10.0.0.1:1", 3), ("10.0.0.1:2", 1), ("10.0.0.1:1", 9)], 8);
        assert_eq!(merged, endpoints(&[("10.0.0.1:1", 3), ("10.0.0.1:2", 1)], 8));
    }

    #[test]
    fn weight_zero_counts_as_one() {
        assert_eq!(endpoints(&[("10.0.0.1:1", 0)], 8), endpoints(&[("10.0.0.1:1", 1)], 8));
    }

    #[test]
    fn the_bound_cuts_the_end_and_counts_distinct_addresses() {
        let list = [("10.0.0.1:1", 1), ("10.0.0.2:1", 1), ("10.0.0.2:1", 1), ("10.0.0.3:1", 1)];
        assert_eq!((endpoints(&list, 4).len(), endpoints(&list, 4).left_out()), (3, 0));
        assert_eq!((endpoints(&list, 3).len(), endpoints(&list, 3).left_out()), (3, 0));
        let cut = endpoints(&list, 2);
        assert_eq!((cut.len(), cut.left_out()), (2, 1));
        assert_eq!(cut[1].address.to_string(), "10.0.0.2:1");
    }

    #[test]
    fn order_is_no_difference_but_members_ports_and_weights_are() {
        let one = endpoints(&[("10.0.0.1:1", 1), ("10.0.0.2:1", 1)], 8);
        assert!(one.is_same_set(&endpoints(&[("10.0.0.2:1", 1), ("10.0.0.1:1", 1)], 8)));
        for other in [
            vec![("10.0.0.1:1", 1)],
            vec![("10.0.0.1:1", 1), ("10.0.0.3:1", 1)],
            vec![("10.0.0.1:1", 1), ("10.0.0.2:2", 1)],
            vec![("10.0.0.1:1", 1), ("10.0.0.2:1", 2)],
            vec![("10.0.0.1:1", 1), ("10.0.0.2:1", 1), ("10.0.0.3:1", 1)],
            vec![],
        ] {
            assert!(!one.is_same_set(&endpoints(&other, 8)), "{other:?}");
        }
    }
}
