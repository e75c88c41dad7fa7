//! Where a cluster's endpoints come from.

use std::sync::Arc;

use super::value;
use crate::bounds::{self, MAX_TARGETS};
use crate::errors::{Fault, Reports, Span};
use crate::model::{PlacedTarget, Targets};
use crate::raw::{Field, OneOrMany, RawCluster, RawPlacedTarget, RawTarget};
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
    for entry in list.entries.iter().take(MAX_TARGETS) {
        let placed = match &entry.value {
            RawTarget::Plain(target) => Some(target.clone().into()),
            RawTarget::Placed(raw) => resolve_placed(raw, reports),
        };
        let Some(placed) = placed else { continue };
        if targets.iter().any(|known| known.target == placed.target) {
            let reason = "because the same target stands before it, whose place counts";
            reports.add(entry.span, Fault::NoEffect { key: "target", reason });
        }
        targets.push(placed);
    }
    if !targets.is_empty() && targets.iter().all(|placed| placed.weight == 0) {
        reports.add(given.span, Fault::AllWeightsZero { of: "target" });
    }
    Targets::new(targets)
}

/// A cluster's targets as they are written, each with its place, and whether it has a weight: without one it gets no calls.
pub(crate) fn written_targets(raw: &RawCluster) -> impl Iterator<Item = (Span, &Target, bool)> {
    let entries = raw.target.given().into_iter().flat_map(|targets| &targets.value.0.entries);
    entries.filter_map(|entry| match &entry.value {
        RawTarget::Plain(target) => Some((entry.span, target, true)),
        RawTarget::Placed(placed) => {
            let has_weight = placed.weight.given().is_none_or(|weight| weight.value.0 != 0);
            Some((entry.span, &placed.target.given()?.value, has_weight))
        }
    })
}

fn resolve_placed(raw: &RawPlacedTarget, reports: &mut Reports) -> Option<PlacedTarget> {
    let weight = value::count(&raw.weight, bounds::WEIGHT, reports);
    let priority = value::count(&raw.priority, bounds::PRIORITY, reports) as u8;
    let place = raw.locality.given();
    let place = place.and_then(|place| super::spread::resolve_locality(&place.value, reports));
    let target = raw.target.given()?.value.clone();
    Some(PlacedTarget { target, weight, priority, locality: place.map(Arc::new) })
}
