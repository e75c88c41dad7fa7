//! Where a route's calls go.

use super::cluster::ClusterNames;
use super::leads::Clients;
use super::listener::check_length;
use super::{canary, metadata, value};
use crate::bounds::{MAX_SHARES, SHARE_WEIGHT};
use crate::errors::{Fault, Reports, Span};
use crate::model::{Destination, Share};
use crate::raw::{At, List, RawRoute, RawShare, Text};

/// The destination; `None` if it is at fault.
pub(super) fn resolve_destination(
    route: &At<RawRoute>,
    clusters: &ClusterNames,
    clients: Clients,
    reports: &mut Reports,
) -> Option<Destination> {
    let RawRoute { cluster, split, sticky_by, canary, .. } = &route.value;
    if let (Some((at, _)), true) = (sticky_by.with_key(), split.is_absent()) {
        reports.add(at, Fault::Needs { key: "sticky_by", needed: "split" });
    }
    if let (Some((at, _)), true) = (canary.with_key(), split.is_absent()) {
        reports.add(at, Fault::Needs { key: "canary", needed: "split" });
    }
    match (cluster.given(), split.with_key()) {
        (Some(_), Some((at, _))) => {
            reports.add(at, Fault::Exclusive { key: "split", other: "cluster" });
            None
        }
        (Some(name), None) => clusters.find(name, reports).map(Destination::of),
        (None, Some((_, split))) => {
            let shares = resolve_shares(split, clusters, reports)?;
            if let (Some((at, _)), [_]) = (sticky_by.with_key(), shares.as_slice()) {
                let reason = "as `split` has one cluster only";
                reports.add(at, Fault::NoEffect { key: "sticky_by", reason });
            }
            let sticky_by =
                sticky_by.given().and_then(|name| resolve_sticky(name, route.span, clients, reports));
            let canary =
                canary.given().and_then(|canary| canary::resolve_canary(canary, &shares, clusters, reports));
            Some(Destination { shares, sticky_by, canary: canary.map(Box::new) })
        }
        (None, None) => {
            if route.is_whole {
                reports.add(route.span, Fault::MissingKey { key: "cluster" });
            }
            None
        }
    }
}

/// The field that a route's calls are sticky by, if calls of such clients have it.
fn resolve_sticky(name: &At<Text>, route: Span, clients: Clients, reports: &mut Reports) -> Option<String> {
    let field = metadata::field_name(name, reports)?;
    let used = (route, name.span);
    match metadata::hidden(&field, metadata::KEY, clients) {
        None => {
            reports.note_useful(used);
            Some(field)
        }
        Some(fault) => {
            reports.add_useless(used, name.span, fault);
            None
        }
    }
}

fn resolve_shares(
    split: &At<List<RawShare>>,
    clusters: &ClusterNames,
    reports: &mut Reports,
) -> Option<Vec<Share>> {
    let help = "add a share: `- {cluster: orders, weight: 1}`";
    check_length(split.as_ref(), "shares", MAX_SHARES, help, reports);
    let mut shares: Vec<Share> = Vec::new();
    for entry in split.value.entries.iter().take(MAX_SHARES) {
        let weight = value::count(&entry.value.weight, SHARE_WEIGHT, reports);
        let Some(name) = entry.value.cluster.given() else { continue };
        let Some(cluster) = clusters.find(name, reports) else { continue };
        if shares.iter().any(|share| share.cluster == cluster) {
            reports.add(name.span, Fault::DuplicateShare { name: cluster.name });
            continue;
        }
        shares.push(Share { cluster, weight });
    }
    let is_whole = split.is_whole && shares.len() == split.value.written;
    if is_whole && !shares.is_empty() && shares.iter().all(|share| share.weight == 0) {
        reports.add(split.span, Fault::AllWeightsZero { of: "cluster" });
    }
    (is_whole && !shares.is_empty()).then_some(shares)
}
