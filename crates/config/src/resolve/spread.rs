//! Priorities and localities: where things run, and how calls are spread over places.

use std::sync::Arc;

use evenkeel_balance::{
    EndpointSpec, Localities, Locality, Overprovisioning, PanicMode, Policy, SpreadConfig, ZoneAware,
};

use super::cluster::{Around, check_name};
use super::value;
use crate::bounds;
use crate::errors::{Fault, Reports, Span};
use crate::lists::Lists;
use crate::model::{PlacedTarget, Targets};
use crate::raw::{At, Field, List, Off, RawCluster, RawLocality, RawLocalityWeight, RawZoneAware, Text};
use crate::target::Target;

pub(super) fn resolve_locality(raw: &RawLocality, reports: &mut Reports) -> Option<Locality> {
    locality([&raw.region, &raw.zone, &raw.sub_zone], reports)
}

/// Where the proxy runs, if somebody said.
pub(super) fn resolve_node(raw: &Field<Off<RawLocality>>, reports: &mut Reports) -> Option<Locality> {
    let Off::On(node) = &raw.given()?.value else { return None };
    resolve_locality(node, reports)
}

fn locality(parts: [&Field<Text>; 3], reports: &mut Reports) -> Option<Locality> {
    for part in parts.into_iter().filter_map(Field::given).filter(|part| !part.value.0.is_empty()) {
        check_name(part, reports);
    }
    let text = |part: &Field<Text>| part.given().map(|part| part.value.0.clone()).unwrap_or_default();
    let zone = parts[1].given()?;
    if zone.value.0.is_empty() {
        check_name(zone, reports);
    }
    Some(Locality { region: text(parts[0]), zone: text(parts[1]), sub_zone: text(parts[2]) })
}

pub(super) fn resolve_spread(
    raw: &RawCluster,
    around: Around<'_>,
    policy: Policy,
    targets: Option<&Targets>,
    reports: &mut Reports,
) -> SpreadConfig {
    let factor = value::number(&raw.overprovisioning_factor, bounds::OVERPROVISIONING, reports);
    let threshold = value::count(&raw.panic_threshold, bounds::PANIC_THRESHOLD, reports);
    let fails = raw.fail_traffic_on_panic.given().is_some_and(|flag| flag.value.0);
    if matches!(policy, Policy::PickFirst { .. }) {
        check_pick_first(raw, reports);
    } else {
        check_places(raw, targets, reports);
    }
    if let (Some((key, _)), true, 0) = (raw.fail_traffic_on_panic.with_key(), fails, threshold) {
        let reason = "because `panic_threshold` is 0: there is no panic";
        reports.add(key, Fault::NoEffect { key: "fail_traffic_on_panic", reason });
    }
    let weights = resolve_weights(&raw.locality_weights, "localities with a weight", reports);
    check_weights(raw, &weights, targets, around.lists, reports);
    let zone_aware = resolve_zone_aware(&raw.zone_aware, around.node, reports);
    let localities = match (zone_aware, weights.is_empty()) {
        (Some(zone_aware), is_alone) => {
            if let (Some((key, _)), false) = (raw.locality_weights.with_key(), is_alone) {
                let reason = "because the cluster is `zone_aware`: choose one of the two";
                reports.add(key, Fault::NoEffect { key: "locality_weights", reason });
            }
            Localities::ZoneAware(zone_aware)
        }
        (None, false) => Localities::Weighted(weights),
        (None, true) => Localities::Alike,
    };
    SpreadConfig {
        // Within the bounds the percentage fits: at most 1000.
        overprovisioning: Overprovisioning::try_from((factor * 100.0).round() as u16).unwrap_or_default(),
        panic: PanicMode { threshold: threshold as u8, fails },
        localities,
    }
}

/// `pick_first` tries its endpoints in order, the higher priorities first: no shares are worked out for it, and no panic. What is
/// as it would be without the key does no harm.
fn check_pick_first(raw: &RawCluster, reports: &mut Reports) {
    let mut check = |key: &'static str, at: Option<Span>, is_default: bool, reason: &'static str| {
        if let Some(at) = at.filter(|_| !is_default) {
            reports.add(at, Fault::NoEffect { key, reason });
        }
    };
    let one = "because `pick_first` has one endpoint: use priorities";
    let (zone_aware, weights) = (raw.zone_aware.with_key(), raw.locality_weights.with_key());
    let is_off = zone_aware.is_some_and(|(_, given)| matches!(given.value, Off::Off));
    check("zone_aware", zone_aware.map(|(at, _)| at), is_off, one);
    check("locality_weights", weights.map(|(at, _)| at), false, one);
    let in_order = "because `pick_first` tries its endpoints in order, however many are available";
    let (factor, default) = (raw.overprovisioning_factor.with_key(), bounds::OVERPROVISIONING.default);
    let is_default = factor.is_some_and(|(_, given)| given.value.0 == default);
    check("overprovisioning_factor", factor.map(|(at, _)| at), is_default, in_order);
    let (threshold, default) = (raw.panic_threshold.with_key(), bounds::PANIC_THRESHOLD.default);
    let is_default = threshold.is_some_and(|(_, given)| given.value.0 == default.into());
    check("panic_threshold", threshold.map(|(at, _)| at), is_default, in_order);
    let fails = raw.fail_traffic_on_panic.with_key();
    let is_default = fails.is_some_and(|(_, given)| !given.value.0);
    check("fail_traffic_on_panic", fails.map(|(at, _)| at), is_default, in_order);
}

fn resolve_weights(
    raw: &Field<List<RawLocalityWeight>>,
    what: &'static str,
    reports: &mut Reports,
) -> Arc<[(Locality, u32)]> {
    let Some(list) = raw.given() else { return Arc::default() };
    let count = list.value.written;
    if count > bounds::MAX_LOCALITIES {
        reports.add(list.span, Fault::TooMany { what, count, max: bounds::MAX_LOCALITIES });
    }
    let mut weights: Vec<(Locality, u32)> = Vec::new();
    for At { value: raw, span, .. } in list.value.entries.iter().take(bounds::MAX_LOCALITIES) {
        let weight = value::count(&raw.weight, bounds::WEIGHT, reports);
        let Some(place) = locality([&raw.region, &raw.zone, &raw.sub_zone], reports) else { continue };
        if weights.iter().any(|(known, _)| *known == place) {
            reports.add(*span, Fault::RepeatedLocality { locality: place.to_string() });
        }
        weights.push((place, weight));
    }
    weights.into()
}

/// Reports weights that leave nothing to any endpoint that there can be. Localities that are not listed have weight 1, so this
/// is known only where it is known of each endpoint where it runs.
fn check_weights(
    raw: &RawCluster,
    weights: &[(Locality, u32)],
    targets: Option<&Targets>,
    lists: &Lists,
    reports: &mut Reports,
) {
    let (Some(list), Some(targets)) = (raw.locality_weights.given(), targets) else { return };
    if !raw.target.given().is_some_and(|target| target.is_whole) {
        return;
    }
    let weight_at =
        |place: &Locality| weights.iter().find(|(known, _)| known == place).map_or(1, |(_, weight)| *weight);
    let has_none = |place: Option<&Locality>| place.is_some_and(|place| weight_at(place) == 0);
    let gets_nothing = |placed: &PlacedTarget| {
        let place = placed.locality.as_deref();
        match &placed.target {
            Target::File(path) => {
                let endpoints = lists.endpoints(path);
                let of = |endpoint: &EndpointSpec| has_none(endpoint.locality.as_deref().or(place));
                !endpoints.is_empty() && endpoints.iter().all(of)
            }
            _ => has_none(place),
        }
    };
    let mut with_weight = targets.iter().filter(|placed| placed.weight > 0).peekable();
    if with_weight.peek().is_some() && with_weight.all(gets_nothing) {
        reports.add(list.span, Fault::NoLocalityWeight);
    }
}

/// Reports what goes by localities where no endpoint can have one: lists bring their own, all else has that of its target.
fn check_places(raw: &RawCluster, targets: Option<&Targets>, reports: &mut Reports) {
    let has_place = |placed: &PlacedTarget| {
        placed.weight > 0 && (placed.locality.is_some() || matches!(placed.target, Target::File(_)))
    };
    let is_whole = raw.target.given().is_some_and(|target| target.is_whole);
    if !is_whole || targets.is_none_or(|targets| targets.iter().any(has_place)) {
        return;
    }
    let is_on = |given: &At<Off<RawZoneAware>>| matches!(given.value, Off::On(_));
    let zone_aware = raw.zone_aware.with_key().filter(|(_, given)| is_on(given)).map(|(key, _)| key);
    let weights = raw.locality_weights.with_key().filter(|(_, list)| list.value.written > 0);
    // One of the two is enough to say: they exclude each other.
    let weights = weights.map(|(key, _)| ("locality_weights", key));
    if let Some((key, at)) = zone_aware.map(|key| ("zone_aware", key)).or(weights) {
        reports.add(at, Fault::Needs { key, needed: "locality" });
    }
}

fn resolve_zone_aware(
    raw: &Field<Off<RawZoneAware>>,
    node: &Field<Off<RawLocality>>,
    reports: &mut Reports,
) -> Option<ZoneAware> {
    let (key, given) = raw.with_key()?;
    let Off::On(raw) = &given.value else { return None };
    if !node.is_refused() && !matches!(node.given(), Some(At { value: Off::On(_), .. })) {
        reports.add(key, Fault::NeedsNode);
    }
    // The node's own faults are reported once, and not for each cluster.
    let own = resolve_node(node, &mut Reports::default());
    let proxies = resolve_weights(&raw.proxies, "localities with proxies", reports);
    if let Some(list) = raw.proxies.given()
        && !proxies.is_empty()
        && proxies.iter().all(|(_, number)| *number == 0)
    {
        reports.add(list.span, Fault::NoProxies);
    } else if let Some(own) = &own {
        check_own_proxies(&raw.proxies, node, own, reports);
    }
    Some(ZoneAware {
        own: own.unwrap_or_default(),
        min_cluster_size: value::count(&raw.min_cluster_size, bounds::ZONE_MIN_CLUSTER_SIZE, reports),
        routing_enabled: value::count(&raw.routing_enabled, bounds::ZONE_ROUTING_ENABLED, reports) as u8,
        proxies,
    })
}

/// Reports a weight of 0 for the locality that the file's `node` names: one proxy runs there. Of a proxy that the command line places
/// nothing is concluded: one file serves proxies in many zones, and its numbers may be older than the newest of them.
fn check_own_proxies(
    proxies: &Field<List<RawLocalityWeight>>,
    node: &Field<Off<RawLocality>>,
    own: &Locality,
    reports: &mut Reports,
) {
    let Some(at) = node.given().map(|node| node.span).filter(|span| *span != Span::default()) else { return };
    let entries = proxies.given().into_iter().flat_map(|list| &list.value.entries);
    for entry in entries.take(bounds::MAX_LOCALITIES).map(|entry| &entry.value) {
        let place = locality([&entry.region, &entry.zone, &entry.sub_zone], &mut Reports::default());
        if let (Some(weight), true) = (entry.weight.given(), place.as_ref() == Some(own))
            && weight.value.0 == 0
        {
            reports.add_related(weight.span, Fault::NoProxyHere { locality: own.to_string() }, at);
        }
    }
}
