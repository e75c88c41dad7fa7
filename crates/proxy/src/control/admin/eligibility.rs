//! Whether an endpoint gets calls, and why not: what all workers say of it, put together.
//!
//! Rule: an endpoint is eligible if one worker or more may send it calls, be it that what withholds it is disregarded: then it is told
//! why. Each reason is told with the number of workers for which it holds; what withholds an endpoint holds for all of them, while
//! connections are each worker's own.

use std::collections::{BTreeMap, HashMap, HashSet};

use evenkeel_balance::{Address, EndpointSpec, Ineligible, Subset as UsedSubset};
use evenkeel_config::{Subset, SubsetKind};
use serde::Serialize;

use crate::worker::{ClusterView, EndpointView};

/// Addresses outside the subset that are listed; their number is told besides.
const OUTSIDE_LISTED_MAX: usize = 100;

/// What all workers say of each listed endpoint of a cluster.
pub(in crate::control) struct WorkersSay<'a> {
    by_address: HashMap<&'a Address, Vec<&'a EndpointView>>,
    workers: usize,
}

impl<'a> WorkersSay<'a> {
    /// Of the views of one cluster by these many workers.
    pub(in crate::control) fn new(views: &[&'a ClusterView], workers: usize) -> Self {
        let mut by_address: HashMap<_, Vec<_>> = HashMap::new();
        for endpoint in views.iter().flat_map(|view| &view.endpoints).filter(|endpoint| endpoint.is_listed) {
            by_address.entry(&endpoint.address).or_default().push(endpoint);
        }
        Self { by_address, workers }
    }

    pub(super) fn of(&self, address: &Address) -> &[&'a EndpointView] {
        self.by_address.get(address).map_or(&[], Vec::as_slice)
    }

    /// Connections that take calls, over all workers.
    pub(super) fn connections(&self, address: &Address) -> usize {
        self.of(address).iter().map(|view| view.connections).sum()
    }

    pub(in crate::control) fn eligibility(&self, address: &Address) -> EligibilityBody {
        let views = self.of(address);
        let mut found: BTreeMap<Ineligible, usize> = BTreeMap::new();
        for reason in views.iter().flat_map(|view| &view.ineligible) {
            *found.entry(*reason).or_default() += 1;
        }
        if views.len() < self.workers {
            found.insert(Ineligible::OutsideShare, self.workers - views.len());
        }
        let despite = views.iter().filter_map(|view| view.despite);
        let warming = views.iter().filter_map(|view| view.warming);
        let least = warming.min_by(|one, other| one.share.total_cmp(&other.share));
        EligibilityBody {
            eligible: views.iter().any(|view| view.ineligible.is_empty() || view.despite.is_some()),
            despite: despite.clone().min().map(|reason| WhyBody {
                reason: reason.name(),
                text: reason.sentence(),
                workers: despite.filter(|other| *other == reason).count(),
            }),
            why: found.into_iter().map(|(reason, workers)| WhyBody::new(reason, workers)).collect(),
            slow_start: least.map(|warming| SlowStartBody {
                share: warming.share,
                remaining_seconds: warming.remaining.as_secs_f64(),
            }),
        }
    }
}

/// Whether an endpoint gets calls.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::control) struct EligibilityBody {
    /// Whether a worker may send it calls.
    pub(super) eligible: bool,
    /// Why it gets calls although something withholds it; absent where nothing does, and where it gets none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) despite: Option<WhyBody>,
    /// What keeps the calls of some workers, or of all, from it.
    pub(super) why: Vec<WhyBody>,
    /// The worker that is least far in it; absent where it is over, or none is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) slow_start: Option<SlowStartBody>,
}

impl EligibilityBody {
    /// What keeps calls from it, in words; empty if nothing does.
    pub(in crate::control) fn reasons(&self) -> String {
        self.why.iter().map(|why| why.text).collect::<Vec<_>>().join("; ")
    }
}

/// One reason.
#[derive(Debug, PartialEq, Serialize)]
pub(in crate::control) struct WhyBody {
    pub(super) reason: &'static str,
    pub(super) text: &'static str,
    /// For how many workers it holds.
    pub(super) workers: usize,
}

impl WhyBody {
    pub(super) fn new(reason: Ineligible, workers: usize) -> Self {
        Self { reason: reason.name(), text: reason.sentence(), workers }
    }
}

#[derive(Debug, PartialEq, Serialize)]
pub(in crate::control) struct SlowStartBody {
    /// The part of its weight that it has.
    share: f64,
    remaining_seconds: f64,
}

/// Which of the endpoints that discovery found this proxy uses.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct SubsetBody {
    kind: &'static str,
    /// How many it is to use.
    size: usize,
    /// How many discovery found.
    discovered: usize,
    /// Those that it does not use, the first 100 of them.
    outside: Vec<String>,
    outside_count: usize,
}

/// The subset of a cluster, `used` being what it was made of.
pub(super) fn subset(
    config: Option<Subset>,
    used: &UsedSubset,
    found: &[EndpointSpec],
) -> Option<SubsetBody> {
    let config = config?;
    let chosen = used.of(found);
    let inside: HashSet<&Address> = chosen.iter().map(|spec| &spec.address).collect();
    let outside = found.iter().map(|spec| &spec.address).filter(|address| !inside.contains(address));
    Some(SubsetBody {
        kind: match config.kind {
            SubsetKind::Random => SubsetKind::NAMES[0],
            SubsetKind::Deterministic { .. } => SubsetKind::NAMES[1],
        },
        size: config.size.get(),
        discovered: found.len(),
        outside_count: outside.clone().count(),
        outside: outside.take(OUTSIDE_LISTED_MAX).map(ToString::to_string).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evenkeel_balance::{Connectivity, Despite, Warming, Withheld};

    use super::*;

    fn address(port: u16) -> Address {
        Address::Tcp(([127, 0, 0, 1], port).into())
    }

    fn endpoint(port: u16, ineligible: &[Ineligible], share: Option<f64>) -> EndpointView {
        EndpointView {
            address: address(port),
            connectivity: Connectivity::Ready,
            is_failing: false,
            is_candidate: ineligible.is_empty(),
            ineligible: ineligible.to_vec(),
            despite: None,
            warming: share.map(|share| Warming { share, remaining: Duration::from_secs(3) }),
            reported_weight: None,
            learned: None,
            is_listed: true,
            connections: 2,
            connections_left: 3,
            in_flight: 0,
        }
    }

    fn view(endpoints: Vec<EndpointView>) -> ClusterView {
        ClusterView { name: "orders".into(), pending: 0, probes: None, groups: Vec::new(), endpoints }
    }

    #[test]
    fn an_endpoint_that_one_worker_can_use_is_eligible_and_the_others_say_why_not() {
        let ejected = Ineligible::Withheld(Withheld::Ejected);
        let first = view(vec![endpoint(1, &[], Some(0.5)), endpoint(2, &[ejected], None)]);
        let second = view(vec![
            endpoint(1, &[Ineligible::Connecting], Some(0.25)),
            endpoint(2, &[Ineligible::Backoff, ejected], None),
        ]);
        let third = view(vec![endpoint(2, &[Ineligible::Backoff, ejected], None)]);
        let say = WorkersSay::new(&[&first, &second, &third], 3);
        let found = say.eligibility(&address(1));
        assert!(found.eligible);
        assert_eq!(
            found.why,
            [WhyBody::new(Ineligible::OutsideShare, 1), WhyBody::new(Ineligible::Connecting, 1)]
        );
        assert_eq!(found.slow_start.unwrap().share, 0.25);
        let found = say.eligibility(&address(2));
        assert!(!found.eligible);
        assert_eq!(found.why, [WhyBody::new(Ineligible::Backoff, 2), WhyBody::new(ejected, 3)]);
        assert_eq!(found.slow_start, None);
        assert_eq!((say.connections(&address(1)), say.connections(&address(9))), (4, 0));
        assert!(!say.eligibility(&address(9)).eligible);
    }

    #[test]
    fn an_endpoint_that_gets_calls_in_panic_is_eligible_and_says_why() {
        let ejected = Ineligible::Withheld(Withheld::Ejected);
        let in_panic = |despite| view(vec![EndpointView { despite, ..endpoint(1, &[ejected], None) }]);
        let [first, second] = [Some(Despite::Panic), None].map(in_panic);
        let say = WorkersSay::new(&[&first, &second], 2);
        let found = say.eligibility(&address(1));
        assert!(found.eligible);
        assert_eq!(found.why, [WhyBody::new(ejected, 2)]);
        let text = "so few are healthy that health is disregarded (`panic_threshold`)";
        assert_eq!(found.despite, Some(WhyBody { reason: "panic", text, workers: 1 }));
        let say = WorkersSay::new(&[&second], 1);
        assert_eq!(
            (say.eligibility(&address(1)).eligible, say.eligibility(&address(1)).despite),
            (false, None)
        );
    }

    #[test]
    fn what_is_outside_the_subset_is_counted_and_listed_up_to_a_bound() {
        let found: Vec<_> = (0..200).map(|port| (address(port), 1).into()).collect();
        for (size, outside) in [(200_u32, 0), (199, 1), (100, 100), (99, 101)] {
            let size = size.try_into().unwrap();
            let config = Subset { size, kind: SubsetKind::Random };
            let body = subset(Some(config), &UsedSubset::Random { size, seed: 7 }, &found).unwrap();
            assert_eq!((body.outside_count, body.outside.len()), (outside, outside.min(100)));
            assert_eq!((body.kind, body.discovered), ("random", 200));
        }
        assert_eq!(subset(None, &UsedSubset::All, &found), None);
    }
}
