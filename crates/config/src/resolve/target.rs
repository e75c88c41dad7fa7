//! Where a cluster's endpoints come from.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use evenkeel_balance::{Address, MAX_PRIORITY};

use super::value;
use crate::bounds::{self, MAX_TARGETS};
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::{PlacedTarget, Targets};
use crate::raw::{At, Field, List, OneOrMany, RawCluster, RawPlacedTarget, RawTarget};
use crate::target::Target;

/// The targets; `None` if there is none to go on with, which was reported.
pub(super) fn resolve_targets(raw: &Field<OneOrMany<RawTarget>>, reports: &mut Reports) -> Option<Targets> {
    let given = raw.given()?;
    let list = &given.value.0;
    if list.written == 0 {
        reports.add(given.span, Fault::EmptyList { help: "add a target, such as `- dns:///orders:50051`" });
    } else if list.written > MAX_TARGETS {
        let (what, count) = ("targets", list.written);
        reports.add(given.span, Fault::TooMany { what, count, max: MAX_TARGETS });
    }
    let mut targets: Vec<PlacedTarget> = Vec::new();
    let mut addresses = HashMap::new();
    for entry in list.entries.iter().take(MAX_TARGETS) {
        let placed = match &entry.value {
            RawTarget::Plain(target) => Some(target.clone().into()),
            RawTarget::Placed(raw) => resolve_placed(raw, reports),
        };
        let Some(placed) = placed else { continue };
        // Without a weight it is as if it were not there.
        if placed.weight == 0 {
            targets.push(placed);
            continue;
        }
        if targets.iter().any(|known| known.weight > 0 && known.target == placed.target) {
            let reason = "because the same target stands before it, whose place counts";
            reports.add(entry.span, Fault::NoEffect { key: "target", reason });
        } else {
            report_repeated(entry.span, &placed.target, &mut addresses, reports);
        }
        targets.push(placed);
    }
    if !targets.is_empty() && targets.iter().all(|placed| placed.weight == 0) {
        reports.add(given.span, Fault::AllWeightsZero { of: "target" });
    }
    Targets::new(targets)
}

/// Reports the first address that an earlier target lists as well.
fn report_repeated(at: Span, target: &Target, known: &mut HashMap<Address, Span>, reports: &mut Reports) {
    let mut repeated = None;
    for address in target.addresses() {
        match known.entry(address) {
            Entry::Vacant(vacant) => drop(vacant.insert(at)),
            Entry::Occupied(earlier) => {
                repeated.get_or_insert_with(|| (*earlier.get(), earlier.key().to_string()));
            }
        }
    }
    if let Some((earlier, address)) = repeated {
        reports.add_related(at, Fault::RepeatedAddress { address }, earlier);
    }
}

/// How many endpoints the targets and the lists that were read name, those with weight 0 left out: there will be at least so many.
pub(super) fn listed_endpoints(targets: &Targets, lists: &Lists) -> usize {
    let of = |placed: &PlacedTarget| match &placed.target {
        Target::File(path) => lists.endpoints(path).iter().map(|endpoint| endpoint.address.clone()).collect(),
        target => target.addresses(),
    };
    targets.iter().filter(|placed| placed.weight > 0).flat_map(of).collect::<HashSet<Address>>().len()
}

/// Reports targets' priorities that are beyond the last with those of their lists.
pub(super) fn check_priorities(raw: &Field<List<RawCluster>>, lists: &Lists, reports: &mut Reports) {
    let clusters = raw.given().into_iter().flat_map(|list| &list.value.entries);
    let targets = clusters.filter_map(|cluster| cluster.value.target.given());
    for entry in targets.flat_map(|targets| &targets.value.0.entries) {
        let RawTarget::Placed(placed) = &entry.value else { continue };
        if !has_weight(placed) {
            continue;
        }
        let (Some(priority), Some(At { value: Target::File(path), .. })) =
            (placed.priority.given(), placed.target.given())
        else {
            continue;
        };
        let max = MAX_PRIORITY;
        let Ok(own @ 0..=MAX_PRIORITY) = u8::try_from(priority.value.0) else { continue };
        let of_list = lists.endpoints(path).iter().map(|endpoint| endpoint.priority).max();
        if let Some(of_list) = of_list.filter(|of_list| own + of_list > max) {
            reports.add(priority.span, Fault::PriorityTooLow { priority: own, of_list, max });
        }
    }
}

/// A cluster's targets as they are written, each with its place, and whether it has a weight: without one it gets no calls.
pub(crate) fn written_targets(raw: &RawCluster) -> impl Iterator<Item = (Span, &Target, bool)> {
    let entries = raw.target.given().into_iter().flat_map(|targets| &targets.value.0.entries);
    entries.filter_map(|entry| match &entry.value {
        RawTarget::Plain(target) => Some((entry.span, target, true)),
        RawTarget::Placed(placed) => Some((entry.span, &placed.target.given()?.value, has_weight(placed))),
    })
}

fn has_weight(placed: &RawPlacedTarget) -> bool {
    placed.weight.given().is_none_or(|weight| weight.value.0 != 0)
}

fn resolve_placed(raw: &RawPlacedTarget, reports: &mut Reports) -> Option<PlacedTarget> {
    let weight = value::count(&raw.weight, bounds::WEIGHT, reports);
    let priority = value::count(&raw.priority, bounds::PRIORITY, reports) as u8;
    let place = raw.locality.given();
    let place = place.and_then(|place| super::spread::resolve_locality(&place.value, reports));
    let target = raw.target.given()?.value.clone();
    Some(PlacedTarget { target, weight, priority, locality: place.map(Arc::new) })
}
